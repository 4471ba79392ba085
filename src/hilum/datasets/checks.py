"""What is odd about a manifest, before anything is trained on it: confounding, copies, gaps, as data and as lines.

The first question is whether the label can be read from something else than the disease. A class whose films all come
from one source is the commonest fault of published chest X-ray studies, so it is flagged first and in red.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hilum.arrays import Array, Indices
from hilum.config import to_mapping
from hilum.datasets.columns import THUMB_SIDE
from hilum.datasets.duplicates import DuplicateConfig, Duplicates, find_duplicates
from hilum.datasets.manifest import Manifest
from hilum.predictions import GROUPS, NOT_RECORDED
from hilum.progress import Progress

FRONTAL = ("", "AP", "PA")
"""View positions that an answer is meant for; blank can't be told."""

PROJECTION = ("", "CR", "DX")
"""Modalities of radiographs; blank can't be told."""

SMALL = 224
"""Pixels: films with a shorter side below it hold less than a network's usual input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Films by label and by the levels of one group."""

    group: str
    """One of ``predictions.GROUPS``."""
    levels: tuple[str, ...]
    """Columns; "not recorded" is a level of its own."""
    labels: tuple[str, ...]
    """Rows; "not recorded" stands for unknown."""
    films: tuple[tuple[int, ...], ...]
    """Films for each label (row) and level (column)."""

    def lines(self) -> list[str]:
        """The table as padded text."""
        rows = [(f"label \\ {self.group}", *self.levels)]
        rows += [(label, *map(str, films)) for label, films in zip(self.labels, self.films, strict=True)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One thing that a person should know."""

    severity: Literal["red", "amber", "note"]
    """"red" makes results misleading, "amber" may, "note" is good to know."""
    code: str
    """Stable machine-readable name, such as ``single-source``."""
    sentence: str
    """What was found, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """Films that are copies of one another."""

    compared: int
    """Films compared perceptually; the others have no thumb or equal another by SHA-256."""
    exact: int
    """Pairs with the same SHA-256."""
    near: int
    """Pairs that are perceptual copies."""
    inverted: int
    """Of those, pairs of a film and its negative."""
    between_patients: int
    """Pairs under two patient ids."""
    between_labels: int
    """Pairs under two labels."""
    pairs: tuple[tuple[str, str, float], ...]
    """Path, path and similarity of each pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Smallest, median and largest of a number over the films where it is known."""

    smallest: float
    """Minimum."""
    median: float
    """Median."""
    largest: float
    """Maximum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What was found in a manifest."""

    fingerprint: str
    """Of the manifest."""
    films: int
    """Rows."""
    patients: int
    """Distinct patient ids, blanks aside."""
    flags: tuple[Flag, ...]
    """What a person should know, the worst first."""
    tables: tuple[Table, ...]
    """Label × source, × view, × sex, × age band, × device."""
    copies: Copies
    """Films that are copies of one another."""
    sizes: dict[str, Spread]
    """Of width, height and bytes."""
    bits_stored: dict[str, int]
    """Bits → films."""
    masks: int
    """Films with a lesion mask."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        values: dict[str, Any] = to_mapping(self)
        return values

    def lines(self) -> list[str]:
        """The report for people."""
        lines = [f"{self.films} films of {self.patients} patients, {self.masks} with a lesion mask."]
        for name, spread in self.sizes.items():
            lines.append(f"{name}: {spread.smallest:g} to {spread.largest:g}, median {spread.median:g}")
        lines.append("bits: " + ", ".join(f"{bits} ({films} films)" for bits, films in self.bits_stored.items()))
        copies = self.copies
        lines.append(
            f"copies: {copies.exact} pairs by SHA-256, {copies.near} perceptual ({copies.inverted} inverted) among "
            f"{copies.compared} films; {copies.between_patients} between patients, {copies.between_labels} between "
            "labels"
        )
        for table in self.tables:
            lines += ["", *table.lines()]
        return [*lines, "", *(f"{flag.severity.upper()}: {flag.sentence}" for flag in self.flags)]


def check(
    manifest: Manifest,
    *,
    duplicates: DuplicateConfig | None = None,
    files: bool = True,
    progress: Progress | None = None,
) -> CheckReport:
    """Look a manifest through.

    Args:
        manifest: films.
        duplicates: when two films count as copies; None for the usual thresholds.
        files: whether to see that films and masks are still there.
        progress: where progress goes.
    """
    found = find_duplicates(manifest, duplicates or DuplicateConfig(), progress=progress)
    copies = _copies(manifest, found)
    tables = tuple(_table(manifest, group, values) for group, values in manifest.groups().items())
    flags = [
        *_source_flags(manifest),
        *_patient_flags(manifest),
        *_copy_flags(copies),
        *_uid_flags(manifest),
        *(_file_flags(manifest) if files else ()),
        *_film_flags(manifest),
    ]
    patients = set(manifest.codes("patient_id")[1]) - {""}
    bits, films = np.unique(manifest.column("bits_stored"), return_counts=True)
    return CheckReport(
        fingerprint=manifest.fingerprint,
        films=len(manifest),
        patients=len(patients),
        flags=tuple(sorted(flags, key=lambda flag: ("red", "amber", "note").index(flag.severity))),
        tables=tables,
        copies=copies,
        sizes={name: _spread(manifest.column(name)) for name in ("width", "height", "bytes")},
        bits_stored={str(b) if b else NOT_RECORDED: int(n) for b, n in zip(bits, films, strict=True)},
        masks=int((manifest.column("mask") != "").sum()),
    )


def _table(manifest: Manifest, group: str, values: Sequence[str]) -> Table:
    label, labels = manifest.codes("label")
    levels, level = np.unique(np.array(values, dtype=object).astype(str), return_inverse=True)
    films = np.zeros((len(labels), len(levels)), dtype=np.int64)
    np.add.at(films, (label, level), 1)
    order = [labels.index(name) for name in manifest.labels] + ([labels.index("")] if "" in labels else [])
    return Table(
        group=group,
        levels=tuple(str(name) for name in levels),
        labels=tuple(labels[i] or NOT_RECORDED for i in order),
        films=tuple(tuple(int(n) for n in films[i]) for i in order),
    )


def _spread(values: Array) -> Spread:
    known = values[values > 0]
    if not len(known):
        return Spread(smallest=0, median=0, largest=0)
    return Spread(smallest=float(known.min()), median=float(np.median(known)), largest=float(known.max()))


def _copies(manifest: Manifest, found: Duplicates) -> Copies:
    paths = manifest.column("path")
    patient, label = manifest.codes("patient_id")[0], manifest.codes("label")[0]
    return Copies(
        compared=found.compared,
        exact=int(found.exact.sum()),
        near=int((~found.exact).sum()),
        inverted=int(found.inverted.sum()),
        between_patients=int((patient[found.first] != patient[found.second]).sum()),
        between_labels=int((label[found.first] != label[found.second]).sum()),
        pairs=tuple(
            (str(paths[a]), str(paths[b]), round(float(s), 3))
            for a, b, s in zip(found.first, found.second, found.similarity, strict=True)
        ),
    )


def _source_flags(manifest: Manifest) -> list[Flag]:
    label, labels = manifest.codes("label")
    source, sources = manifest.codes("source")
    if not any(sources):
        text = "No film's source is recorded, so a confounding of label and source can't be looked for. Add a column "
        return [Flag(severity="amber", code="source-unknown", sentence=text + "'source', or import with --source.")]
    if len(sources) == 1:
        text = f"All films come from source {sources[0]!r}: nothing can be said of how a model does elsewhere."
        return [Flag(severity="amber", code="one-source", sentence=text)]
    flags = []
    for name in manifest.labels:
        films = np.bincount(source[label == labels.index(name)], minlength=len(sources))
        if (films > 0).sum() == 1:
            only = sources[int(films.argmax())] or NOT_RECORDED
            text = (
                f"All {films.sum()} films of {name!r} come from one source, {only!r}: class and source are confounded, "
                f"so a model can score well on {name!r} by telling the source."
            )
            flags.append(Flag(severity="red", code="single-source", sentence=text))
        elif films.max() >= 0.9 * films.sum():
            most = sources[int(films.argmax())] or NOT_RECORDED
            text = f"{films.max()} of {films.sum()} films of {name!r} come from source {most!r}."
            flags.append(Flag(severity="amber", code="mostly-one-source", sentence=text))
    return flags


def _patient_flags(manifest: Manifest) -> list[Flag]:
    patient, ids = manifest.codes("patient_id")
    label, labels = manifest.codes("label")
    flags = []
    blank = int((manifest.column("patient_id") == "").sum())
    if blank:
        text = f"{blank} of {len(manifest)} films have no patient_id, so no split can keep patients apart."
        flags.append(Flag(severity="red", code="no-patient", sentence=text))
    known = (manifest.column("patient_id") != "") & (manifest.column("label") != "")
    pairs = np.unique(np.stack([patient[known], label[known]], axis=1), axis=0)
    several = int((np.bincount(pairs[:, 0], minlength=len(ids)) > 1).sum())
    if several:
        text = f"{several} patients have films of more than one label; splits keep them together."
        flags.append(Flag(severity="note", code="several-labels", sentence=text))
    unlabelled = int((manifest.column("label") == "").sum())
    if unlabelled:
        text = f"{unlabelled} of {len(manifest)} films have no label; training and scores leave them out."
        flags.append(Flag(severity="note", code="no-label", sentence=text))
    if len([name for name in labels if name]) < 2:
        text = "Fewer than two labels: nothing can be told apart."
        flags.append(Flag(severity="red", code="one-label", sentence=text))
    return flags


def _copy_flags(copies: Copies) -> list[Flag]:
    flags = []
    if copies.between_patients:
        text = f"{copies.between_patients} pairs of copies are under two patient ids; splits keep them together."
        flags.append(Flag(severity="amber", code="copies-between-patients", sentence=text))
    if copies.between_labels:
        text = f"{copies.between_labels} pairs of copies have two different labels. Look at them: one may be wrong."
        flags.append(Flag(severity="amber", code="copies-between-labels", sentence=text))
    if copies.exact + copies.near and not copies.between_patients:
        text = f"{copies.exact + copies.near} pairs of copies, each within one patient."
        flags.append(Flag(severity="note", code="copies", sentence=text))
    return flags


def _uid_flags(manifest: Manifest) -> list[Flag]:
    uid, uids = manifest.codes("sop_instance_uid")
    known = manifest.column("sop_instance_uid") != ""
    pairs = np.unique(np.stack([uid, manifest.codes("film_id")[0]], axis=1)[known], axis=0)
    several = int((np.bincount(pairs[:, 0], minlength=len(uids)) > 1).sum())
    if not several:
        return []
    text = f"{several} SOP instance UIDs belong to more than one content; a UID must name one film."
    return [Flag(severity="amber", code="uid-reused", sentence=text)]


def _file_flags(manifest: Manifest) -> list[Flag]:
    flags = []
    for name, paths in (("films", manifest.film_paths()), ("masks", manifest.mask_paths())):
        gone = [path for path in paths if path is not None and not path.is_file()]
        if gone:
            text = f"{len(gone)} {name} are not where the manifest says, the first at {gone[0]}. Import again."
            flags.append(Flag(severity="red", code=f"missing-{name}", sentence=text))
    return flags


def _film_flags(manifest: Manifest) -> list[Flag]:
    flags = []
    if others := _count_not(manifest, "modality", PROJECTION):
        found = sorted(set(manifest.strings("modality")) - set(PROJECTION))
        text = f"{others} films are no radiographs (CR or DX) but {', '.join(found)}. Leave them out."
        flags.append(Flag(severity="red", code="modality", sentence=text))
    sideways = _count_not(manifest, "view_position", FRONTAL)
    if sideways:
        text = f"{sideways} films are not frontal (AP or PA); the intended use is frontal films."
        flags.append(Flag(severity="amber", code="not-frontal", sentence=text))
    ages = manifest.column("age_years")
    if children := int((ages < 18).sum()):
        text = f"{children} films are of patients under 18; the intended use is adults."
        flags.append(Flag(severity="amber", code="children", sentence=text))
    shorter = np.minimum(manifest.column("width"), manifest.column("height"))
    if small := int(((shorter > 0) & (shorter < SMALL)).sum()):
        text = f"{small} films have a side shorter than {SMALL} pixels."
        flags.append(Flag(severity="note", code="small", sentence=text))
    if flat := int(_is_flat(manifest).sum()):
        text = f"{flat} films show next to nothing (one grey value). Look at them, or leave them out."
        flags.append(Flag(severity="red", code="flat", sentence=text))
    for name in (group for group in GROUPS if group != "source"):
        flags += _gap_flag(manifest, name)
    return flags


def _count_not(manifest: Manifest, name: str, allowed: Sequence[str]) -> int:
    codes, levels = manifest.codes(name)
    wrong: Indices = np.array([i for i, level in enumerate(levels) if level not in allowed], dtype=np.int64)
    return int(np.isin(codes, wrong).sum())


def _is_flat(manifest: Manifest) -> Array:
    _, thumbs = manifest.thumbs()
    return np.asarray(np.ptp(thumbs.reshape(-1, THUMB_SIDE**2), axis=1) < 2)


def _gap_flag(manifest: Manifest, name: str) -> list[Flag]:
    blank = sum(value == NOT_RECORDED for value in manifest.groups()[name])
    if not blank:
        return []
    text = f"{name} is not recorded for {blank} of {len(manifest)} films; tables keep them as a level of their own."
    return [Flag(severity="note", code=f"gap-{name}", sentence=text)]
