"""A reader study: what readers find with the model beside them, minus what they find without it.

Every reader reads every film twice, once in each arm. Sensitivity and specificity are one finding against the rest;
agreement is Cohen's kappa over all findings. Arrays only: who read what, and when, is :mod:`reader_study_plan`'s.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hilum.arrays import Array, Indices
from hilum.errors import DataError
from hilum.evaluation.estimates import NAN, Estimate, not_estimable
from hilum.evaluation.intervals import FEWEST_PATIENTS, Cohort, Resampled, Resampling, bootstrap_sums
from hilum.evaluation.metrics import confusion_matrix, kappa
from hilum.evaluation.paired import sign_test
from hilum.randomness import stream

ARMS = ("without", "with")
"""Without the model, and with it: the second axis of :attr:`Readings.calls`."""

ALL_READERS = "all readers"
ONLY_READER = "bootstrap by patient; the one reader is fixed"
BY_BOTH = "bootstrap by patient and reader"
UNMOVED = "No film was read differently in the two arms, so resampling can't say how large a difference may be hidden."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Readings:
    """Every reader's answer to every film in both arms."""

    findings: tuple[str, ...]
    """[k] names of the classes."""
    readers: tuple[str, ...]
    """[r] names."""
    patient_ids: tuple[str, ...]
    """[n] whose film it is; the film's own id where patients aren't known."""
    truth: Indices
    """[n] known classes, 0 … k − 1."""
    calls: Indices
    """[r, 2, n] answered classes: first without, then with the model."""
    ratings: Array | None = None
    """[r, 2, n] confidence in the question, higher means more sure of it; None where it was not asked for."""

    def __post_init__(self) -> None:
        shape = (len(self.readers), len(ARMS), len(self.patient_ids))
        if self.calls.shape != shape or self.truth.shape != shape[2:] or 0 in shape:
            raise DataError(
                f"Calls {list(self.calls.shape)} and truth {list(self.truth.shape)} don't fit {shape[0]} readers × "
                f"{shape[1]} arms × {shape[2]} films. Give each reader's answer to each film in both arms."
            )
        if self.ratings is not None and self.ratings.shape != shape:
            raise DataError(f"Ratings {list(self.ratings.shape)} don't fit calls {list(shape)}. Give one a reading.")
        for name, classes in (("truth", self.truth), ("calls", self.calls)):
            if ((classes < 0) | (classes >= len(self.findings))).any():
                raise DataError(f"A class of {name} is outside 0 … {len(self.findings) - 1}. Number the findings so.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A share without and with the model, on the same films."""

    without: Estimate
    """Without the model."""
    with_model: Estimate
    """With the model."""
    difference: Estimate
    """With minus without, paired."""
    gained: int = 0
    """Films that were wrong without and right with the model, summed over readers."""
    lost: int = 0
    """Films that were right without and wrong with the model, summed over readers."""
    mcnemar: float = NAN
    """Exact McNemar's p of gained against lost, films as trials; NaN for several readers, whose answers to one film are
    not independent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """One reader's, or all readers', rates for a finding."""

    reader: str
    """Whose; :data:`ALL_READERS` for the mean of them."""
    sensitivity: Change
    """Of the films with the finding, the share that was called so."""
    specificity: Change
    """Of the films without it, the share that was not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingScore:
    """What the study says of one finding against the rest."""

    finding: str
    """Its name."""
    films_with: int
    """Films that have it."""
    films_without: int
    """Films that don't."""
    pooled: Rates
    """The mean over readers."""
    readers: tuple[Rates, ...]
    """Each reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Cohen's kappa over all findings; intervals over patients, with these readers."""

    without: Estimate
    """Mean over pairs of readers, without the model (Light 1971, Psychol Bull 76:365)."""
    with_model: Estimate
    """The same with the model."""
    difference: Estimate
    """With minus without."""
    itself: Mapping[str, Estimate] = field(default_factory=dict)
    """By reader, the kappa of the reader's own answers without and with the model."""


def score_finding(readings: Readings, finding: str, settings: Resampling) -> FindingScore:
    """Sensitivity and specificity of every reader and of their mean, in both arms, and the paired differences.

    A resample draws patients within their class, and for the mean also readers, with replacement; both arms of a
    reading stay together. Bounds are quantiles of the resamples.

    Args:
        readings: both arms of all readers.
        finding: one of their findings.
        settings: seed, number and level; the method is percentiles.

    Source: Owen 2007, Ann Appl Stat 1:386, doi:10.1214/07-AOAS122: drawing rows and columns of a crossed table errs on
    the wide side. McNemar as in :func:`hilum.evaluation.paired.sign_test`.
    """
    wanted = readings.findings.index(finding)
    positive = readings.truth == wanted
    right = (readings.calls == wanted) == positive  # [r, 2, n]
    cohort = Cohort.of(readings.patient_ids, readings.truth)
    r = len(readings.readers)
    sides, found = (positive, ~positive), []
    columns = np.concatenate([_columns(right, side) for side in sides], axis=1).astype(np.float64)
    sums = bootstrap_sums(columns, cohort, settings, name="reader-study")
    drawn = stream(settings.seed, "reader-study", "readers").multinomial(r, np.full(r, 1 / r), len(sums)) / r
    for number, side in enumerate(sides):
        part = slice(number * (1 + 2 * r), (number + 1) * (1 + 2 * r))
        shares, samples = _shares(columns[:, part].sum(axis=0)[None], r)[0], _shares(sums[:, part], r)
        people = _People(int(side.sum()), cohort.count(side), _why_not(finding, number))
        each = [
            _change(shares[i], samples[:, i], right[i : i + 1, :, side], people, settings.level, "bootstrap by patient")
            for i in range(r)
        ]
        mean, label = (samples * drawn[:, :, None]).sum(axis=1), BY_BOTH if r > 1 else ONLY_READER
        found.append([_change(shares.mean(axis=0), mean, right[:, :, side], people, settings.level, label), *each])
    rates = [
        Rates(reader=name, sensitivity=sensitivity, specificity=specificity)
        for name, sensitivity, specificity in zip((ALL_READERS, *readings.readers), *found, strict=True)
    ]
    return FindingScore(
        finding=finding,
        films_with=int(positive.sum()),
        films_without=int((~positive).sum()),
        pooled=rates[0],
        readers=tuple(rates[1:]),
    )


@dataclass(frozen=True, slots=True)
class _People:
    """Films and patients of a side, and what to say where there are none."""

    films: int
    patients: int
    reason: str


def _why_not(finding: str, side: int) -> str:
    return f"{'Every' if side else 'No'} film of the study has {finding}."


def _columns(right: Array, side: Array) -> Array:
    """[n, 1 + 2r]: whether a film counts, and whether each reader was right on it without and with the model."""
    return np.vstack([side[None], right.reshape(-1, right.shape[2]) & side]).T


def _shares(sums: Array, r: int) -> Array:
    """[b, r, 2] shares right of sums [b, 1 + 2r]; NaN where no film counts."""
    counted = np.where(sums[:, 0] > 0, sums[:, 0], np.nan)
    shares: Array = (sums[:, 1:] / counted[:, None]).reshape(-1, r, len(ARMS))
    return shares


def _change(shares: Array, samples: Array, right: Array, people: _People, level: float, label: str) -> Change:
    """The two arms [2] and [b, 2] with their difference; ``right`` [r, 2, films of this side]."""
    gained, lost = int((right[:, 1] & ~right[:, 0]).sum()), int((right[:, 0] & ~right[:, 1]).sum())
    values = np.array([*shares, shares[1] - shares[0]])
    resampled = Resampled(values, np.column_stack([samples, samples[:, 1] - samples[:, 0]]), None, level)
    counts = {"n": people.films, "patients": people.patients}
    arms = []
    for arm in range(len(ARMS)):
        many = len(right) > 1 and 0 < values[arm] < 1  # Wilson knows nothing of readers
        way = resampled.signed if many else resampled.proportion
        arms.append(_named(way(arm, reason=people.reason, **counts), label))
    difference = _named(resampled.signed(2, reason=people.reason, **counts), label)
    if difference.bounded and gained == lost == 0:
        difference = replace(difference, low=NAN, high=NAN, method="", reason=UNMOVED)
    alone = len(right) == 1 and people.films > 0
    return Change(
        without=arms[0],
        with_model=arms[1],
        difference=difference,
        gained=gained,
        lost=lost,
        mcnemar=sign_test(gained, lost) if alone else NAN,
    )


def _named(found: Estimate, label: str) -> Estimate:
    """An estimate whose bootstrap says what it drew."""
    return replace(found, method=label) if found.method == "bootstrap by patient" else found


def agreement(readings: Readings, settings: Resampling) -> Agreement:
    """Kappa between readers in each arm, its difference, and of each reader between the arms.

    Intervals are over patients alone: they are about these readers.

    Args:
        readings: both arms of all readers.
        settings: seed, number and level; the method is percentiles.
    """
    r, n = len(readings.readers), len(readings.patient_ids)
    cohort = Cohort.of(readings.patient_ids, readings.truth)
    pairs = list(itertools.combinations(range(r), 2))
    resampled = Resampled.of(
        lambda weights: _kappas(readings, pairs, weights),
        cohort,
        replace(settings, method="percentile"),
        name="reader-study",
    )
    alike = "Chance alone agrees always: everybody answers one finding."
    counts = {"n": n, "patients": cohort.patients}
    itself = {name: resampled.signed(i, reason=alike, **counts) for i, name in enumerate(readings.readers)}
    if not pairs:
        alone = not_estimable("Agreement between readers needs two of them.", n=n, patients=cohort.patients)
        return Agreement(without=alone, with_model=alone, difference=alone, itself=itself)
    between = [resampled.signed(r + i, reason=alike, **counts) for i in range(3)]
    return Agreement(without=between[0], with_model=between[1], difference=between[2], itself=itself)


def _kappas(readings: Readings, pairs: Sequence[tuple[int, int]], weights: Array) -> Array:
    """[b, r + 3]: each reader between the arms; the mean over pairs without, with, and their difference."""
    k, calls = len(readings.findings), readings.calls
    found = [kappa(confusion_matrix(one[0], one[1], k, weights)) for one in calls]
    if pairs:
        arms = [
            np.mean([kappa(confusion_matrix(calls[a, arm], calls[b, arm], k, weights)) for a, b in pairs], axis=0)
            for arm in range(len(ARMS))
        ]
        found += [*arms, arms[1] - arms[0]]
    return np.column_stack(found)


def notes_on(readings: Readings) -> tuple[str, ...]:
    """What whoever reads the score must know of its intervals: one sentence each."""
    r, patients = len(readings.readers), len(set(readings.patient_ids))
    said = []
    if r == 1:
        said.append("One reader: the intervals are about this reader on other films, not about other readers.")
    else:
        said.append(
            f"Readers are averaged with equal weight, and intervals of the mean resample patients and the {r} readers."
        )
    if 1 < r < FEWEST_PATIENTS:
        said.append(f"{r} readers say little about how readers differ; take the mean's intervals as a lower bound.")
    if patients < len(readings.patient_ids):
        said.append("Some patients have several films: McNemar's test takes films as independent.")
    said.append("Kappa's intervals resample patients alone: they are about these readers.")
    return tuple(said)
