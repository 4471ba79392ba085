"""Every answer of a run's network for many films, as arrays: what evaluation and a bundle's references come from."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from hilum.arrays import Array, Indices
from hilum.models.explained import OUTPUTS, Explained
from hilum.progress import Progress, Silent
from hilum.training.allocator import keep_freed_memory
from hilum.training.films import Stack

BATCH = 16
"""Films in one pass."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Outputs of the one-pass network for n films.

    Attributes:
        outputs: for each of ``models.explained.OUTPUTS`` a float32 array whose first axis is the films.
    """

    outputs: Mapping[str, Array]

    def __getitem__(self, name: str) -> Array:
        return self.outputs[name]

    def select(self, rows: Indices) -> "Answers":
        """The given films."""
        return Answers({name: values[rows] for name, values in self.outputs.items()})


def answer_films(network: Explained, tiles: Stack, *, progress: Progress | None = None) -> Answers:
    """Run a network over preprocessed films.

    Args:
        network: in evaluation mode.
        tiles: uint8 [n, h, w], in memory or streamed.
        progress: where progress goes.

    Returns:
        every output, float32.
    """
    keep_freed_memory()
    parts: dict[str, list[Array]] = {name: [] for name in OUTPUTS}
    with (progress or Silent()).bar("Answering films", len(tiles)) as bar, torch.inference_mode():
        for start in range(0, len(tiles), BATCH):
            batch = torch.from_numpy(np.ascontiguousarray(tiles[start : start + BATCH]))[:, None]
            for name, values in zip(OUTPUTS, network(batch), strict=True):
                parts[name].append(values.numpy())
            bar.advance(len(batch))
    return Answers({name: np.concatenate(values) for name, values in parts.items()})
