"""What two manifests share: files, patients, SOP instances, and films that look like copies of one another."""

from dataclasses import dataclass

import numpy as np

from hilum.arrays import Indices
from hilum.datasets.duplicates import DuplicateConfig, near_pairs
from hilum.datasets.manifest import Manifest
from hilum.progress import Progress, Silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the second manifest has in common with the first.

    Attributes:
        files: rows of the second whose file (SHA-256) is in the first.
        patients: distinct patient ids in both.
        sop_instances: rows of the second whose SOP instance UID is in the first.
        copies: rows of the second that look like a film of the first, without being the same file.
        compared: films of the second that could be compared by their look.
    """

    files: Indices
    patients: int
    sop_instances: Indices
    copies: Indices
    compared: int


def shared_films(
    one: Manifest, other: Manifest, config: DuplicateConfig | None = None, *, progress: Progress | None = None
) -> Shared:
    """Compare two manifests, such as what a model was developed on and what it is to be tested on.

    Args:
        one: the first; read it with its thumbs, or looks can't be compared.
        other: the second.
        config: when two films count as copies; the defaults of :mod:`hilum.datasets.duplicates` when None.
        progress: where progress goes.
    """
    files = _in_both(one, other, "film_id")
    rows, thumbs = one.thumbs()
    others, other_thumbs = other.thumbs()
    known = np.isin(others, files, invert=True)
    others, other_thumbs = others[known], other_thumbs[known]
    copies = np.zeros(0, dtype=np.int64)
    if len(rows) and len(others):
        together = np.concatenate([thumbs, other_thumbs])
        first, second, _, _ = near_pairs(
            together, config or DuplicateConfig(), border=len(rows), progress=progress or Silent()
        )
        copies = np.unique(others[np.maximum(first, second) - len(rows)])
    return Shared(
        files=files,
        patients=len({*one.strings("patient_id")} & {*other.strings("patient_id")} - {""}),
        sop_instances=_in_both(one, other, "sop_instance_uid"),
        copies=copies,
        compared=len(others) if len(rows) else 0,
    )


def _in_both(one: Manifest, other: Manifest, name: str) -> Indices:
    known = {*one.strings(name)} - {""}
    return np.array([row for row, value in enumerate(other.strings(name)) if value in known], dtype=np.int64)
