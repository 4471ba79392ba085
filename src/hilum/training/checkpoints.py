"""Checkpoints: one safetensors file with its JSON inside, replaced whole. No pickle anywhere."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hilum.errors import RunError
from hilum.files import replacing

_FACTS = "hilum"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a resume starts from.

    Attributes:
        tensors: weights, best weights and optimiser state, by name.
        facts: plain JSON values: fingerprint, position, rows of metrics.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]

    def group(self, name: str) -> dict[str, Tensor]:
        """Tensors saved as ``name:…``, without that prefix."""
        return {
            key.removeprefix(f"{name}:"): value for key, value in self.tensors.items() if key.startswith(f"{name}:")
        }


def save_checkpoint(path: Path, groups: Mapping[str, Mapping[str, Tensor]], facts: Mapping[str, Any]) -> None:
    """Replace a checkpoint atomically and durably.

    Args:
        path: the file.
        groups: named groups of named tensors.
        facts: plain JSON values; must hold ``fingerprint``.
    """
    tensors = {
        f"{group}:{name}": value.detach().cpu().contiguous()
        for group, members in groups.items()
        for name, value in members.items()
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={_FACTS: json.dumps(facts, allow_nan=False)})


def load_checkpoint(path: Path, fingerprint: str) -> Checkpoint | None:
    """Read a checkpoint; None when there is none yet.

    Args:
        path: the file.
        fingerprint: of the training that wants to go on.

    Raises:
        RunError: the file is damaged, or belongs to another config, other data or other starting weights.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as handle:
            facts = json.loads(handle.metadata()[_FACTS])
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"Checkpoint {path} can't be read ({error}). Remove it to start this training anew.") from None
    if facts["fingerprint"] != fingerprint:
        raise RunError(
            f"Checkpoint {path} belongs to another config, other data or other starting weights "
            f"({facts['fingerprint'][:12]}, not {fingerprint[:12]}). Choose another folder, or remove it to start anew."
        )
    return Checkpoint(tensors=tensors, facts=facts)
