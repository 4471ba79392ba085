"""What a split did: counts, what was kept together, what was left out, and the proof that nothing is shared."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hilum.arrays import Array, Indices
from hilum.config import from_mapping, to_mapping
from hilum.datasets.columns import PARTS
from hilum.datasets.duplicates import Duplicates
from hilum.datasets.manifest import Manifest
from hilum.errors import SplitError
from hilum.predictions import NOT_RECORDED

NOTE = "split"
"""Name of the manifest's note that holds the report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Films of one label and source in one part."""

    part: str
    """"fit", "test" or "left out"."""
    fold: int
    """Fold of the fit part; -1 for the others."""
    label: str
    """The finding; "not recorded" when unknown."""
    source: str
    """"not recorded" when unknown."""
    films: int
    """Rows of the manifest."""
    patients: int
    """Distinct patient ids among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """What two parts, or two folds, have in common; a split that is written has none."""

    patients: int
    """Patients with films in two of them."""
    sop_instances: int
    """SOP instance UIDs in two of them."""
    files: int
    """Contents (SHA-256) in two of them."""
    copies: int
    """Pairs of films that are perceptual copies, one here and one there."""

    @property
    def total(self) -> int:
        """Zero when nothing is shared."""
        return self.patients + self.sop_instances + self.files + self.copies


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitReport:
    """What a split did; travels in the manifest's notes."""

    config: dict[str, Any]
    """The split's config, as plain values."""
    fingerprint: str
    """SHA-256 over which film is in which part and fold."""
    films: int
    """Rows of the manifest."""
    patients: int
    """Distinct patient ids."""
    groups: int
    """Sets of films that had to stay together: patients, joined where films of several are copies."""
    merged_patients: int
    """Patients who share a group with another one, because films of theirs are copies."""
    copies: int
    """Pairs of films that are copies, by SHA-256 or perceptually."""
    compared: int
    """Films that were compared perceptually."""
    left_out: int
    """Films in no part, since either would not have been honest."""
    overlap: Overlap
    """What fit, test and the folds have in common, counted after the fact: nothing."""
    counts: tuple[Count, ...]
    """One a part, fold, label and source that has films."""
    warnings: tuple[str, ...]
    """What a reader of results from this split should know."""

    def lines(self) -> list[str]:
        """The report for people: totals a part, then warnings."""
        parts = [*PARTS, "left out"]
        lines = [
            f"{self.films} films of {self.patients} patients: "
            + ", ".join(f"{part} {films}" for part in parts if (films := self._films(part)))
        ]
        lines += [f"  {part} · {label}: {n} films" for part in parts for label, n in self._labels(part).items()]
        lines += [
            f"Shared between fit, test and folds: {self.overlap.patients} patients, {self.overlap.sop_instances} SOP "
            f"instances, {self.overlap.files} files, {self.overlap.copies} perceptual copies "
            f"({self.compared} of {self.films} films compared)."
        ]
        return lines + [f"Warning: {warning}" for warning in self.warnings]

    def _films(self, part: str) -> int:
        return sum(count.films for count in self.counts if count.part == part)

    def _labels(self, part: str) -> dict[str, int]:
        totals: dict[str, int] = {}
        for count in self.counts:
            if count.part == part:
                totals[count.label] = totals.get(count.label, 0) + count.films
        return totals


def report_of(manifest: Manifest) -> SplitReport:
    """The report that a split manifest carries.

    Raises:
        SplitError: the manifest was not split.
    """
    note = manifest.notes.get(NOTE)
    if note is None:
        raise SplitError("The manifest was not split. Use hilum data split MANIFEST --by patient --out SPLIT.")
    return from_mapping(SplitReport, note, where="split report")


def with_report(manifest: Manifest, report: SplitReport) -> Manifest:
    """The manifest with its report among its notes."""
    return manifest.with_note(NOTE, to_mapping(report))


def count_parts(manifest: Manifest) -> tuple[Count, ...]:
    """Count films and patients for each part, fold, label and source that has films."""
    fold = manifest.column("fold")
    coded = [manifest.codes(name) for name in ("part", "label", "source", "patient_id")]
    keys = np.stack([coded[0][0], fold, coded[1][0], coded[2][0]], axis=1)
    cells, inverse, films = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    owners = np.unique(np.stack([inverse.ravel(), coded[3][0]], axis=1), axis=0)
    patients = np.bincount(owners[:, 0], minlength=len(cells))
    return tuple(
        Count(
            part=coded[0][1][part] or "left out",
            fold=int(at),
            label=coded[1][1][label] or NOT_RECORDED,
            source=coded[2][1][source] or NOT_RECORDED,
            films=int(films[i]),
            patients=int(patients[i]),
        )
        for i, (part, at, label, source) in enumerate(cells)
    )


def overlap_of(manifest: Manifest, duplicates: Duplicates) -> Overlap:
    """Count what fit, test and the folds have in common; films in no part don't count."""
    cell = _cells(manifest)
    kept = (cell[duplicates.first] >= 0) & (cell[duplicates.second] >= 0)
    apart = cell[duplicates.first] != cell[duplicates.second]
    return Overlap(
        patients=_in_several(manifest, "patient_id", cell),
        sop_instances=_in_several(manifest, "sop_instance_uid", cell),
        files=_in_several(manifest, "film_id", cell),
        copies=int((kept & apart & ~duplicates.exact).sum()),
    )


def _cells(manifest: Manifest) -> Indices:
    """A number for each part and fold; -1 for films in none."""
    codes, levels = manifest.codes("part")
    number = np.array([-1 if level == "" else i for i, level in enumerate(levels)], dtype=np.int64)
    fold = manifest.column("fold")
    return np.where(number[codes] < 0, -1, number[codes] * (fold.max(initial=0) + 2) + fold + 1)


def _in_several(manifest: Manifest, name: str, cell: Array) -> int:
    """How many distinct values, blanks aside, lie in more than one cell."""
    codes, levels = manifest.codes(name)
    counted = (cell >= 0) & (codes != (levels.index("") if "" in levels else -1))
    pairs = np.unique(np.stack([codes[counted], cell[counted]], axis=1), axis=0)
    return int((np.bincount(pairs[:, 0], minlength=1) > 1).sum())


def prove_disjoint(overlap: Overlap) -> None:
    """Refuse parts that share anything.

    Raises:
        SplitError: something is shared; the message says what and how much.
    """
    if overlap.total:
        raise SplitError(
            f"Fit, test and folds share {overlap.patients} patients, {overlap.sop_instances} SOP instances, "
            f"{overlap.files} files and {overlap.copies} perceptual copies, but must share nothing. Split again with "
            "hilum data split."
        )
