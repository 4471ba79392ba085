"""Intervals: the bootstrap by patient, and Wilson's interval where a bootstrap has nothing to say.

Films of one patient are alike, so patients are resampled, not films, and within the class of the patient, so that a
rare finding is present in every resample. A resample is a row of counts: nothing is copied.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hilum.arrays import Array, Indices
from hilum.errors import ConfigError, DataError
from hilum.evaluation.estimates import NAN, Estimate, not_estimable
from hilum.randomness import stream

FEWEST_PATIENTS = 5
"""Fewer patients than this on either side say nothing about a ranking: it is not estimable."""

FEW_PATIENTS = 20
"""With fewer patients than this a proportion takes Wilson's interval: the percentile bootstrap is too narrow."""

JACKKNIFE_GROUPS = 200
"""Most groups of patients that the jackknife leaves out one by one: more would change no bound that is printed."""

Method = Literal["percentile", "bca"]
"""Bounds as quantiles of the resamples, or with these quantiles corrected for bias and skewness (BCa)."""

BATCH_CELLS = 200_000
"""Counts held at once (1.6 MB, so that a batch stays in the processor's cache): resamples go in batches."""

SUM_CELLS = 4_000_000
"""Counts of patients held at once (32 MB) where a statistic needs sums alone: one matrix product a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampling:
    """How intervals are made."""

    seed: int = 0
    """Seed of the resampling stream."""
    resamples: int = 1000
    """Number of bootstrap resamples, ≥ 20."""
    level: float = 0.95
    """Nominal coverage, strictly between 0 and 1."""
    method: Method = "percentile"
    """How bounds are read from the resamples."""

    def __post_init__(self) -> None:
        problems = []
        if self.resamples < 20:
            problems.append(f"resamples is {self.resamples}, but an interval needs at least 20. Use 1000 or more.")
        if not 0 < self.level < 1:
            problems.append(f"level is {self.level}, but must lie between 0 and 1, such as 0.95.")
        if self.method not in ("percentile", "bca"):
            problems.append(f"method is {self.method!r}, but must be percentile or bca.")
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

    def sums(self, columns: Array) -> Array:
        """Columns [n, m] of films summed by patient, [p, m]."""
        order = np.argsort(self.patient, kind="stable")
        starts = np.searchsorted(self.patient[order], np.arange(self.patients))
        found: Array = np.add.reduceat(np.asarray(columns, dtype=np.float64)[order], starts, axis=0)
        return found

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


def bootstrap_sums(columns: Array, cohort: Cohort, settings: Resampling, *, name: str = "bootstrap") -> Array:
    """Resample patients and sum columns over their films; for every statistic that is made of sums.

    Films are summed by patient first, so a resample costs one product with the patients' sums.

    Args:
        columns: [n, m] what each film adds.
        cohort: whose films they are.
        settings: seed and number.
        name: of the random stream.

    Returns:
        [resamples, m] sums.
    """
    sums, rng = cohort.sums(columns), stream(settings.seed, name)
    batch = max(1, min(settings.resamples, SUM_CELLS // max(1, cohort.patients)))
    parts = [
        cohort.draw(rng, min(batch, settings.resamples - start)) @ sums for start in range(0, settings.resamples, batch)
    ]
    return np.concatenate(parts)


def percentile_interval(samples: Array, level: float) -> tuple[float, float]:
    """Percentile interval of resampled values [r]; NaN bounds when over 5 % of the resamples have no value."""
    known = samples[~np.isnan(samples)]
    if len(known) < 0.95 * len(samples):
        return NAN, NAN
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def jackknife(statistic: Callable[[Array], Array], cohort: Cohort) -> tuple[Array, Indices]:
    """The statistic without one group of patients at a time.

    Groups lie within a stratum. Up to :data:`JACKKNIFE_GROUPS` patients each group is one patient, the usual jackknife;
    beyond, patients share groups at random, which estimates the same acceleration: a group's skewness falls with the
    root of its size as the number of groups does.

    Args:
        statistic: as for :func:`bootstrap`.
        cohort: whose films they are.

    Returns:
        [g, m] values, and [g] the stratum of each group.
    """
    groups, strata = _groups(cohort)
    batch, parts = max(1, BATCH_CELLS // len(cohort.patient)), []
    for start in range(0, len(groups), batch):
        left = groups[start : start + batch]
        counts = np.ones((len(left), cohort.patients))
        for row, group in enumerate(left):
            counts[row, group] = 0.0
        parts.append(statistic(counts[:, cohort.patient]).reshape(len(left), -1))
    return np.concatenate(parts), strata


def _groups(cohort: Cohort) -> tuple[list[Indices], Indices]:
    """Groups of patients that the jackknife leaves out, and the stratum of each."""
    groups: list[Indices] = []
    strata: list[int] = []
    largest, rng = max(1, JACKKNIFE_GROUPS // len(np.unique(cohort.stratum))), stream(0, "jackknife")
    for stratum in np.unique(cohort.stratum):
        members = rng.permutation(np.flatnonzero(cohort.stratum == stratum))
        some = len(members) if cohort.patients <= JACKKNIFE_GROUPS else min(len(members), largest)
        groups += np.array_split(members, some)
        strata += [int(stratum)] * some
    return groups, np.asarray(strata)


def acceleration(left_out: Array, strata: Indices) -> float:
    """How fast the standard error changes with the value, from jackknife values [g] of groups in strata [g].

    Returns:
        the acceleration; 0 where values don't vary, NaN where a group's absence leaves no value.

    Source: Davison and Hinkley 1997, Bootstrap Methods and their Application, equation 5.21 with 3.2 (several samples).
    """
    if np.isnan(left_out).any():
        return NAN
    cubes = squares = 0.0
    for stratum in np.unique(strata):
        values = left_out[strata == stratum]
        influence = (len(values) - 1) * (values.mean() - values) / len(values)
        cubes, squares = cubes + float((influence**3).sum()), squares + float((influence**2).sum())
    return cubes / (6 * squares**1.5) if squares > 1e-24 else 0.0


def bca_interval(value: float, samples: Array, accelerated: float, level: float) -> tuple[float, float]:
    """Bias-corrected and accelerated interval.

    Args:
        value: on the data as they are.
        samples: resampled values [r].
        accelerated: from :func:`acceleration`.
        level: nominal coverage.

    Returns:
        bounds; NaN when over 5 % of the resamples have no value, or all lie on one side of the value, or there is no
        acceleration.

    Source: Efron 1987, J Am Stat Assoc 82:171, doi:10.1080/01621459.1987.10478410.
    """
    from scipy.special import ndtr, ndtri

    known = samples[~np.isnan(samples)]
    if len(known) < 0.95 * len(samples) or math.isnan(accelerated):
        return NAN, NAN
    below = float((known < value).mean() + (known == value).mean() / 2)  # ties split, as values are counts in part
    if not 0 < below < 1:
        return NAN, NAN
    bias, wanted = ndtri(below), ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    levels = ndtr(bias + (bias + wanted) / (1 - accelerated * (bias + wanted)))
    low, high = np.quantile(known, levels)
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Resampled:
    """A statistic of m values under the bootstrap, ready to give an interval for each.

    Attributes:
        values: [m] on the data as they are.
        samples: [r, m] on the resamples.
        accelerations: [m]; None for percentile intervals.
        level: nominal coverage.
    """

    values: Array
    samples: Array
    accelerations: Array | None
    level: float

    @classmethod
    def of(
        cls, statistic: Callable[[Array], Array], cohort: Cohort, settings: Resampling, *, name: str = "bootstrap"
    ) -> "Resampled":
        """Resample as the settings say; the arguments are those of :func:`bootstrap`."""
        values = statistic(np.ones((1, len(cohort.patient)))).reshape(-1)
        samples = bootstrap(statistic, cohort, settings, name=name)
        accelerations = None
        if settings.method == "bca":
            left_out, strata = jackknife(statistic, cohort)
            accelerations = np.array([acceleration(column, strata) for column in left_out.T])
        return cls(values, samples, accelerations, settings.level)

    @classmethod
    def of_sums(
        cls,
        columns: Array,
        finish: Callable[[Array], Array],
        cohort: Cohort,
        settings: Resampling,
        *,
        name: str = "bootstrap",
    ) -> "Resampled":
        """Resample a statistic of sums.

        Args:
            columns: [n, m] what each film adds.
            finish: takes sums [r, m] and returns values [r, v].
            cohort: whose films they are.
            settings: as for :func:`bootstrap`.
            name: of the random stream.
        """
        whole = np.asarray(columns, dtype=np.float64).sum(axis=0, keepdims=True)
        samples, accelerations = finish(bootstrap_sums(columns, cohort, settings, name=name)), None
        if settings.method == "bca":
            groups, strata = _groups(cohort)
            sums = cohort.sums(columns)
            left_out = finish(whole - np.stack([sums[group].sum(axis=0) for group in groups]))
            accelerations = np.array([acceleration(column, strata) for column in left_out.T])
        return cls(finish(whole).reshape(-1), samples, accelerations, settings.level)

    @property
    def label(self) -> str:
        """How intervals are named."""
        return "bootstrap by patient" if self.accelerations is None else "BCa bootstrap by patient"

    def interval(self, column: int) -> tuple[float, float, str]:
        """Bounds of a value and how they were made; BCa falls back to percentiles where it can't be had."""
        if self.accelerations is not None:
            low, high = bca_interval(
                float(self.values[column]), self.samples[:, column], float(self.accelerations[column]), self.level
            )
            if not math.isnan(low):
                return low, high, self.label
        low, high = percentile_interval(self.samples[:, column], self.level)
        return low, high, "bootstrap by patient"

    def signed(self, column: int, *, n: int, patients: int, reason: str = "") -> Estimate:
        """An estimate of a value that may be negative, such as a correlation or a difference."""
        value = float(self.values[column])
        if math.isnan(value):
            return not_estimable(reason or "No value.", n=n, patients=patients)
        if patients < FEWEST_PATIENTS:
            few = f"Only {patients} patients are too few for an interval."
            return Estimate(value=value, n=n, patients=patients, reason=few)
        low, high, method = self.interval(column)
        unknown = "Over 5 % of the resamples have no value." if math.isnan(low) else ""
        return Estimate(value=value, low=low, high=high, n=n, patients=patients, method=method, reason=unknown)

    def proportion(self, column: int, *, n: int, patients: int, reason: str = "") -> Estimate:
        """An estimate of a proportion; see :func:`proportion`."""
        found = proportion(
            float(self.values[column]),
            self.samples[:, column],
            n=n,
            patients=patients,
            level=self.level,
            reason=reason,
        )
        return self._again(found, column)

    def ranked(self, column: int, *, n: int, sides: tuple[int, int], finding: str, reason: str = "") -> Estimate:
        """An estimate of a ranking metric; see :func:`ranked`."""
        found = ranked(
            float(self.values[column]),
            self.samples[:, column],
            n=n,
            sides=sides,
            level=self.level,
            finding=finding,
            reason=reason,
        )
        return self._again(found, column)

    def _again(self, found: Estimate, column: int) -> Estimate:
        """The bounds that the settings ask for, where the bootstrap made them."""
        if self.accelerations is None or found.method != "bootstrap by patient" or not found.bounded:
            return found
        low, high, method = self.interval(column)
        return replace(found, low=low, high=high, method=method)


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
