"""Intervals: the bootstrap by patient, and Wilson's interval where a bootstrap has nothing to say.

Films of one patient are alike, so patients are resampled, not films, and within the class of the patient, so that a
rare finding is present in every resample. A resample is a row of counts: nothing is copied.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hilum.arrays import Array, Indices
from hilum.errors import ConfigError, DataError
from hilum.evaluation.estimates import NAN, Estimate, not_estimable
from hilum.randomness import stream

FEWEST_PATIENTS = 5
"""Fewer patients than this on either side say nothing about a ranking: it is not estimable."""

FEW_PATIENTS = 20
"""With fewer patients than this a proportion takes Wilson's interval: the percentile bootstrap is too narrow."""

BATCH_CELLS = 200_000
"""Counts held at once (1.6 MB, so that a batch stays in the processor's cache): resamples go in batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampling:
    """How intervals are made."""

    seed: int = 0
    """Seed of the resampling stream."""
    resamples: int = 1000
    """Number of bootstrap resamples, ≥ 20."""
    level: float = 0.95
    """Nominal coverage, strictly between 0 and 1."""

    def __post_init__(self) -> None:
        problems = []
        if self.resamples < 20:
            problems.append(f"resamples is {self.resamples}, but an interval needs at least 20. Use 1000 or more.")
        if not 0 < self.level < 1:
            problems.append(f"level is {self.level}, but must lie between 0 and 1, such as 0.95.")
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, slots=True)
class Cohort:
    """Who the films belong to, in numbers, ready to be resampled.

    Attributes:
        patient: number of each film's patient, [n] in 0 … p − 1.
        stratum: class that each patient is resampled within, [p].
    """

    patient: Indices
    stratum: Indices

    @classmethod
    def of(cls, patient_ids: Sequence[str], classes: Indices) -> "Cohort":
        """Number the patients and give each its class.

        A patient with films of several classes counts in the one that most of them show; among equals in the class
        that fewer films of the whole cohort show, so that rare findings keep their patients.

        Args:
            patient_ids: n ids.
            classes: [n] known classes, ≥ 0.

        Raises:
            DataError: lengths that disagree, or no film.
        """
        if len(patient_ids) != len(classes) or not len(classes):
            raise DataError(f"{len(patient_ids)} patient ids for {len(classes)} labelled films can't be resampled.")
        _, patient = np.unique(np.asarray(patient_ids, dtype=str), return_inverse=True)
        k = int(classes.max()) + 1
        films = np.bincount(patient * k + classes, minlength=(int(patient.max()) + 1) * k).reshape(-1, k)
        rarity = 1.0 / (2.0 + np.bincount(classes, minlength=k))  # below a half: breaks ties, never a majority
        return cls(patient.astype(np.int64), np.argmax(films + np.where(films > 0, rarity, 0), axis=1))

    @property
    def patients(self) -> int:
        """Number of patients."""
        return len(self.stratum)

    def count(self, films: Array) -> int:
        """Patients who have at least one of the films marked in a bool vector [n]."""
        return len(np.unique(self.patient[films]))

    def draw(self, rng: np.random.Generator, resamples: int) -> Array:
        """Counts of patients, [resamples, p]: each stratum draws, with replacement, as many as it has."""
        counts = np.zeros((resamples, self.patients), dtype=np.float64)
        for stratum in np.unique(self.stratum):
            members = np.flatnonzero(self.stratum == stratum)
            size = len(members)
            drawn = rng.integers(0, size, (resamples, size)) + size * np.arange(resamples)[:, None]
            counts[:, members] = np.bincount(drawn.ravel(), minlength=resamples * size).reshape(resamples, size)
        return counts


def bootstrap(
    statistic: Callable[[Array], Array], cohort: Cohort, settings: Resampling, *, name: str = "bootstrap"
) -> Array:
    """Resample patients and compute a statistic on each resample.

    Args:
        statistic: takes counts [b, n] of the films in b resamples and returns [b, m] (or [b]) values.
        cohort: whose films they are.
        settings: seed and number.
        name: of the random stream; statistics that are compared pair by pair use the same one.

    Returns:
        [resamples, m] values; NaN where a resample has no value.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 8 (clusters are the unit).
    """
    rng = stream(settings.seed, name)
    batch = max(1, min(settings.resamples, BATCH_CELLS // max(1, len(cohort.patient))))
    parts = []
    for start in range(0, settings.resamples, batch):
        counts = cohort.draw(rng, min(batch, settings.resamples - start))
        values = statistic(counts[:, cohort.patient])
        parts.append(values.reshape(len(counts), -1))
    return np.concatenate(parts)


def percentile_interval(samples: Array, level: float) -> tuple[float, float]:
    """Percentile interval of resampled values [r]; NaN bounds when over 5 % of the resamples have no value."""
    known = samples[~np.isnan(samples)]
    if len(known) < 0.95 * len(samples):
        return NAN, NAN
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def basic_interval(value: float, samples: Array, level: float, *, floor: float = 0.0) -> tuple[float, float]:
    """Reflected (basic) interval, for values that resampling biases upwards, such as ECE; cut off at the floor."""
    low, high = percentile_interval(samples, level)
    return max(floor, 2 * value - high), max(floor, 2 * value - low)


def wilson_interval(share: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion; sound for 0 and 1 and for small n.

    Args:
        share: the proportion, 0 … 1.
        n: independent trials: patients rather than films, where patients have several.
        level: nominal coverage.

    Returns:
        bounds in 0 … 1; NaN for n = 0.

    Source: Wilson 1927, J Am Stat Assoc 22:209.
    """
    from scipy.special import ndtri

    if n <= 0 or math.isnan(share):
        return NAN, NAN
    z = float(ndtri((1 + level) / 2))
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def proportion(value: float, samples: Array, *, n: int, patients: int, level: float, reason: str = "") -> Estimate:
    """A proportion with its interval: by bootstrap, or by Wilson with the patients as trials where that is sounder.

    Wilson serves for 0 and 1 (every resample says the same, which is no certainty) and below :data:`FEW_PATIENTS`.

    Args:
        value: the proportion on the data; NaN when there is none.
        samples: resampled values [r].
        n: films in the denominator.
        patients: patients in the denominator.
        level: nominal coverage.
        reason: why the value is NaN.
    """
    if math.isnan(value):
        return not_estimable(reason, n=n, patients=patients)
    low, high = percentile_interval(samples, level)
    if value in (0.0, 1.0) or patients < FEW_PATIENTS or math.isnan(low):
        low, high = wilson_interval(value, patients, level)
        return Estimate(value=value, low=low, high=high, n=n, patients=patients, method="wilson, patients as trials")
    return Estimate(value=value, low=low, high=high, n=n, patients=patients, method="bootstrap by patient")


def ranked(
    value: float, samples: Array, *, n: int, sides: tuple[int, int], level: float, finding: str, reason: str = ""
) -> Estimate:
    """A ranking metric with its interval by bootstrap.

    A perfect or a perfectly wrong ranking takes Wilson's interval with the smaller side's patients as trials: every
    resample ranks perfectly too, which is no certainty (Obuchowski and Lieber 2002, Acad Radiol 9:526).

    Args:
        value: the metric on the data; NaN when there is none.
        samples: resampled values [r].
        n: films ranked.
        sides: patients with and without the finding; fewer than :data:`FEWEST_PATIENTS` on a side is not estimable.
        level: nominal coverage.
        finding: name of the finding, for the reason.
        reason: why the value is NaN.
    """
    patients = sum(sides)
    if reason or math.isnan(value):
        return not_estimable(reason or "No value.", n=n, patients=patients)
    if min(sides) < FEWEST_PATIENTS:
        with_it = "with" if sides[0] <= sides[1] else "without"
        return not_estimable(
            f"Only {min(sides)} patient{'s' if min(sides) != 1 else ''} {with_it} {finding}; "
            f"a ranking needs at least {FEWEST_PATIENTS}.",
            n=n,
            patients=patients,
        )
    if value in (0.0, 1.0):
        low, high = wilson_interval(value, min(sides), level)
        return Estimate(
            value=value, low=low, high=high, n=n, patients=patients, method="wilson, smaller side as trials"
        )
    low, high = percentile_interval(samples, level)
    unknown = "Over 5 % of the resamples have no value." if math.isnan(low) else ""
    return Estimate(
        value=value, low=low, high=high, n=n, patients=patients, method="bootstrap by patient", reason=unknown
    )
