"""Splits: a test part locked away and folds of the rest, that share no patient, no film and no copy of a film.

Three ways. **patient**: at random, stratified by label and source. **time**: the latest films are the test, as in
use, where a model meets films later than those it learned from. **source**: one hospital is the test, whole.

In all three, films stay together that belong to one patient, or that are copies of one another (same SOP instance, same
SHA-256, or perceptual copies), also across patient ids: the same film under two ids is one of the commonest leaks.
Films for which either part would be dishonest are in none, and counted: with ``time``, those of a patient on both
sides of the cut that lie after it, and those dated so coarsely that they may; with ``source``, films from elsewhere of
patients who also have films in the test.
"""

import calendar
import datetime
import hashlib
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import numpy as np

from hilum.arrays import Array, Indices
from hilum.config import to_mapping
from hilum.datasets.duplicates import DuplicateConfig, Duplicates, connected, find_duplicates
from hilum.datasets.manifest import Manifest
from hilum.datasets.split_report import SplitReport, count_parts, overlap_of, prove_disjoint, with_report
from hilum.datasets.stratified_folds import stratified_folds
from hilum.errors import ConfigError, SplitError, nearest
from hilum.progress import Progress
from hilum.randomness import seed_for


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitConfig:
    """How to split.

    Raises:
        ConfigError: a field is out of range; all of them are reported at once.
    """

    by: Literal["patient", "time", "source"] = "patient"
    """What the test part differs in: other patients, later films, or another source."""
    test_share: float = 0.2
    """Share of films to lock away, for "patient" and "time"; met as closely as whole patients allow."""
    folds: int = 5
    """Folds inside the fit part, always by patient."""
    seed: int = 0
    """Of the random streams."""
    external_source: str | None = None
    """The source to lock away; for "source" alone, and needed there."""
    duplicates: DuplicateConfig = field(default_factory=DuplicateConfig)
    """When two films count as copies."""

    def __post_init__(self) -> None:
        problems = []
        if self.by not in ("patient", "time", "source"):
            problems.append(f"by is {self.by!r}. {nearest(self.by, ('patient', 'time', 'source'))}")
        if not 0 < self.test_share < 1:
            problems.append(f"test_share is {self.test_share}, but must lie between 0 and 1, such as 0.2.")
        if self.folds < 2:
            problems.append(f"folds is {self.folds}, but must be 2 or more; training can use one of them.")
        if self.seed < 0:
            problems.append(f"seed is {self.seed}, but must be 0 or more.")
        if self.by == "source" and self.external_source is None:
            problems.append("A split by source needs the source to lock away: give --external-source NAME.")
        if self.by != "source" and self.external_source is not None:
            problems.append(f"external_source is {self.external_source!r}, but by is {self.by!r}. Give --by source.")
        if problems:
            raise ConfigError(problems)


def split(
    manifest: Manifest,
    config: SplitConfig = SplitConfig(),
    *,
    progress: Progress | None = None,
) -> Manifest:
    """Lock a test part away and make folds of the rest.

    Args:
        manifest: films with patient ids.
        config: how to split.
        progress: where progress goes.

    Returns:
        the manifest, in the same order, with ``part`` ("fit", "test", or "" for left out), ``fold`` (from 0 inside fit,
        −1 elsewhere) and the report (see :func:`hilum.datasets.split_report.report_of`).

    Raises:
        SplitError: patient ids are missing; dates are missing for "time"; the source is unknown for "source"; a class
            has fewer patients than folds in the fit part; or a part would be empty.
    """
    _need(manifest, "patient_id", "a split that keeps patients apart is impossible")
    duplicates = find_duplicates(manifest, config.duplicates, progress=progress)
    groups = group_films(manifest, duplicates)
    chosen = {"patient": _by_patient, "time": _by_time, "source": _by_source}[config.by]
    part, notes = chosen(manifest, groups, config)
    fit = np.flatnonzero(part == "fit")
    for name, rows in (("fit", fit), ("test", np.flatnonzero(part == "test"))):
        if not len(rows):
            raise SplitError(f"The {name} part would be empty. Change test_share, or split another way.")
    _need_patients(manifest, groups, fit, config.folds, f"{config.folds} folds")
    fold = np.full(len(manifest), -1, dtype=np.int64)
    fold[fit] = _fold_of(_strata(manifest, groups, fit, config.folds), groups[fit], config.folds, config.seed, "folds")
    result = manifest.with_columns(part=part, fold=fold)
    return with_report(result, split_report(result, config, duplicates, groups, notes))


def group_films(manifest: Manifest, duplicates: Duplicates) -> Indices:
    """Number the sets of films that must stay together.

    Returns:
        int64 [n]: films of one patient, of one SOP instance, or that are copies, share a number.
    """
    first, second = [duplicates.first], [duplicates.second]
    for name in ("patient_id", "sop_instance_uid", "film_id"):
        codes, levels = manifest.codes(name)
        order = np.argsort(codes, kind="stable")
        same = codes[order][1:] == codes[order][:-1]
        if "" in levels:
            same &= codes[order][1:] != levels.index("")
        first.append(order[:-1][same])
        second.append(order[1:][same])
    return connected(len(manifest), np.concatenate(first), np.concatenate(second))


def _need(manifest: Manifest, name: str, otherwise: str) -> None:
    """Refuse blanks in a column that the split stands on."""
    codes, levels = manifest.codes(name)
    blank = np.flatnonzero(codes == levels.index("")) if "" in levels else np.zeros(0, np.int64)
    if len(manifest) == 0:
        raise SplitError("The manifest has no film, so there is nothing to split. Import films first.")
    if len(blank):
        rows = ", ".join(str(row + 1) for row in blank[:5]) + (", …" if len(blank) > 5 else "")
        raise SplitError(
            f"{name} is empty for {len(blank)} of {len(manifest)} films (rows {rows}), so {otherwise}. Fill it and "
            "import again, or leave those films out."
        )


def _need_patients(manifest: Manifest, groups: Indices, fit: Indices, shares: int, named: str) -> None:
    codes, levels = manifest.codes("label")
    problems = []
    for code, label in enumerate(levels):
        patients = len(np.unique(groups[fit][codes[fit] == code]))
        if label and patients < shares:
            problems.append(
                f"Label {label!r} has {patients} patients, fewer than one each for the {named}. Use fewer "
                "folds, a smaller test_share, or more patients."
            )
    if problems:
        raise SplitError("\n".join(problems))


def _by_patient(manifest: Manifest, groups: Indices, config: SplitConfig) -> tuple[Array, list[str]]:
    everything = np.arange(len(manifest))
    _need_patients(manifest, groups, everything, config.folds + 1, f"{config.folds} folds and the test part")
    share = _as_folds(config.test_share)
    parts = share.denominator
    strata = _strata(manifest, groups, everything, parts)
    slot = _fold_of(strata, groups, parts, config.seed, "test")
    return np.where(slot < share.numerator, "test", "fit").astype(object), []


def _as_folds(test_share: float) -> Fraction:
    """The share as so many of so few equal parts, such as 1 of 5 or 3 of 10."""
    share = Fraction(test_share).limit_denominator(20)
    return min(max(share, Fraction(1, 20)), Fraction(19, 20))


def _by_time(manifest: Manifest, groups: Indices, config: SplitConfig) -> tuple[Array, list[str]]:
    _need(manifest, "acquired", "a split by time is impossible")
    codes, levels = manifest.codes("acquired")
    earliest = np.array([_first_day(level) for level in levels])[codes]
    latest = np.array([_last_day(level) for level in levels])[codes]
    begins = np.full(groups.max() + 1, datetime.date.max.toordinal())
    np.minimum.at(begins, groups, earliest)
    day = _cut(begins[groups], config.test_share)
    part = np.where(begins[groups] >= day, "test", np.where(latest < day, "fit", "")).astype(object)
    cut = datetime.date.fromordinal(day)
    notes = [f"Test films were acquired on {cut} or later, fit films before."]
    if coarse := int(((part == "") & (earliest < day)).sum()):
        notes.append(f"{coarse} films are dated too coarsely to be surely before {cut}, so they are in no part.")
    if straddling := int(((part == "") & (earliest >= day)).sum()):
        notes.append(f"{straddling} films from {cut} on are of patients with earlier films, so they are in no part.")
    return part, notes


def _cut(begins: Indices, test_share: float) -> int:
    """The day from which on the patients who begin then have the share of films nearest to the one wanted."""
    days, films = np.unique(begins, return_counts=True)
    if len(days) < 2:
        only = datetime.date.fromordinal(int(days[0]))
        raise SplitError(f"All patients begin on {only}, so a split by time is impossible. Split by patient.")
    shares = np.cumsum(films[::-1])[::-1] / len(begins)
    return int(days[1 + np.argmin(np.abs(shares[1:] - test_share))])


def _first_day(text: str) -> int:
    """Number of the first day that a date to the day, the month or the year can mean."""
    year, month, day = ([int(part) for part in text.split("-")] + [1, 1])[:3]
    return datetime.date(year, month, day).toordinal()


def _last_day(text: str) -> int:
    """Number of the last day that a date to the day, the month or the year can mean."""
    parts = [int(part) for part in text.split("-")]
    month = parts[1] if len(parts) > 1 else 12
    day = parts[2] if len(parts) > 2 else calendar.monthrange(parts[0], month)[1]
    return datetime.date(parts[0], month, day).toordinal()


def _by_source(manifest: Manifest, groups: Indices, config: SplitConfig) -> tuple[Array, list[str]]:
    codes, levels = manifest.codes("source")
    wanted = config.external_source or ""
    if wanted not in levels:
        raise SplitError(
            f"No film comes from source {wanted!r}. {nearest(wanted, [level for level in levels if level])}"
        )
    external = codes == levels.index(wanted)
    tainted = np.isin(groups, groups[external]) & ~external
    part = np.where(external, "test", np.where(tainted, "", "fit")).astype(object)
    notes = [f"The test part is source {wanted!r}, whole."]
    if tainted.any():
        notes.append(
            f"{int(tainted.sum())} films from elsewhere belong with films of {wanted!r} (same patient, or copies), so "
            "they are in no part."
        )
    return part, notes


def _strata(manifest: Manifest, groups: Indices, rows: Indices, parts: int) -> Indices:
    """Label × source of each of the rows; by label alone where too few patients share both."""
    label = manifest.codes("label")[0][rows]
    source, sources = manifest.codes("source")
    both = label * (len(sources) + 1) + source[rows] + 1
    cells = np.unique(np.stack([both, groups[rows]], axis=1), axis=0)
    values, patients = np.unique(cells[:, 0], return_counts=True)
    rare = np.isin(both, values[patients < parts])
    return np.asarray(np.where(rare, label * (len(sources) + 1), both))


def _fold_of(strata: Indices, groups: Indices, parts: int, seed: int, use: str) -> Indices:
    """Give each film one of so many parts, so that groups stay whole and strata are spread evenly."""
    return stratified_folds(strata, groups, parts, seed_for(seed, "split", use) % 2**32)


def split_report(
    result: Manifest, config: SplitConfig, duplicates: Duplicates, groups: Indices, notes: list[str]
) -> SplitReport:
    """Prove that the parts of a manifest share nothing, and say what is in them.

    Args:
        result: a manifest with parts and folds.
        config: how it was split.
        duplicates: copies among its films.
        groups: of :func:`group_films`.
        notes: what a reader should know, before the warnings that are made here.

    Raises:
        SplitError: parts or folds share something.
    """
    patients, ids = result.codes("patient_id")
    overlap = overlap_of(result, duplicates)
    prove_disjoint(overlap)
    members = np.unique(np.stack([groups, patients], axis=1), axis=0)
    sizes = np.bincount(members[:, 0])
    merged = int(sizes[sizes > 1].sum())
    counts = count_parts(result)
    return SplitReport(
        config=to_mapping(config),
        fingerprint=split_fingerprint(result),
        films=len(result),
        patients=len(ids),
        groups=int(groups.max()) + 1,
        merged_patients=merged,
        copies=len(duplicates),
        compared=duplicates.compared,
        left_out=int((result.column("part") == "").sum()),
        overlap=overlap,
        counts=counts,
        warnings=tuple(notes + _warnings(result, duplicates, merged)),
    )


def _warnings(result: Manifest, duplicates: Duplicates, merged: int) -> list[str]:
    warned = []
    if merged:
        warned.append(f"{merged} patients share copies of films with another patient id and were kept together.")
    if duplicates.compared < len(np.unique(result.codes("film_id")[0])):
        warned.append("Not all films have a thumb, so perceptual copies among the others can't be ruled out.")
    label, labels = result.codes("label")
    places = {"test": result.rows(part="test")}
    places |= {f"fold {number}": result.rows(fold=number) for number in range(int(result.column("fold").max()) + 1)}
    for place, rows in places.items():
        for code, name in enumerate(labels):
            if name and not (label[rows] == code).any():
                warned.append(f"The {place} has no film of {name!r}.")
    return warned


def split_fingerprint(manifest: Manifest) -> str:
    """SHA-256, 64 hex digits, over which film (by content) is in which part and fold; row order doesn't matter."""
    film_ids, parts, folds = manifest.strings("film_id"), manifest.strings("part"), manifest.column("fold")
    lines = sorted(f"{film}\x1f{part}\x1f{fold}" for film, part, fold in zip(film_ids, parts, folds, strict=True))
    return hashlib.sha256("\x1e".join(lines).encode()).hexdigest()
