"""DeLong's variance of AUROC: exact algebra instead of resampling, for one model and for two on the same films.

A film with the finding is placed by the share of films without it that score less (ties counting a half), and the other
way round; the spread of these placements is the variance of AUROC. Films of one patient are alike, so placements are
summed by patient first (Obuchowski 1997), which is DeLong's own formula where each patient has one film.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hilum.arrays import Array, Indices, Vector
from hilum.errors import DataError
from hilum.evaluation.estimates import NAN, Estimate, not_estimable
from hilum.evaluation.intervals import FEWEST_PATIENTS, wilson_interval
from hilum.evaluation.ranks import why_no_ranking


@dataclass(frozen=True, slots=True, kw_only=True)
class AurocTest:
    """Two models' AUROCs on the same films, and whether they differ."""

    first: float
    """AUROC of the first model."""
    second: float
    """AUROC of the second."""
    difference: Estimate
    """First minus second, with its interval."""
    z: float
    """The difference in standard errors; NaN when there is no difference to test, or nothing to test it with."""
    p: float
    """Two-sided probability of a difference as large as this or larger between equally good models."""


@dataclass(frozen=True, slots=True)
class _Sums:
    """Placements less their mean, summed by patient, of m models."""

    auroc: Array  # [m]
    with_it: Array  # [m, p] of the films with the finding
    without: Array  # [m, p]
    films: tuple[int, int]
    patients: tuple[int, int]
    both: int  # patients


def midranks(values: Vector) -> Vector:
    """Ranks 1 … n, equal values sharing the mean of theirs; [n].

    Source: Sun and Xu 2014, IEEE Signal Process Lett 21:1389, doi:10.1109/LSP.2014.2337313 (O(n log n) DeLong).
    """
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    ranks: Array = (last - (sizes - 1) / 2)[group]
    return ranks


def placements(scores: Vector, positive: Array) -> tuple[Array, Array]:
    """Where films lie among those of the other side.

    Args:
        scores: [n] without NaN, higher means more like the finding.
        positive: [n] bool, some true and some false.

    Returns:
        for each film with the finding the share of the others that score less, for each other film the share of those
        with the finding that score more; ties count a half. Both have AUROC as their mean.
    """
    together = midranks(scores)
    m, n = int(positive.sum()), int((~positive).sum())
    of_positives = (together[positive] - midranks(scores[positive])) / n
    of_negatives = 1 - (together[~positive] - midranks(scores[~positive])) / m
    return of_positives, of_negatives


def auroc_covariance(
    scores: Array, positive: Array, patients: Sequence[str] | Indices | None = None
) -> tuple[Array, Array]:
    """AUROCs of several models on the same films, and their covariance.

    Args:
        scores: [m, n] of m models, without NaN.
        positive: [n] bool, some true and some false.
        patients: n ids; None: each film is its own patient.

    Returns:
        [m] AUROCs, and [m, m] covariances; NaN where a side has a single patient.

    Raises:
        DataError: shapes that disagree, NaN scores, or one side without a film.

    Source: DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837, doi:10.2307/2531595; for several films a
    patient Obuchowski 1997, Biometrics 53:567, doi:10.2307/2533958.
    """
    sums = _sums(np.asarray(scores, dtype=np.float64), np.asarray(positive), patients)
    return sums.auroc, _covariance(sums)


def _sums(scores: Array, positive: Array, patients: Sequence[str] | Indices | None) -> _Sums:
    if scores.ndim != 2 or positive.shape != scores.shape[1:] or positive.dtype != np.bool_:
        raise DataError(
            f"DeLong's variance needs scores [models, n] and true or false labels [n], but got {scores.shape} and "
            f"{positive.dtype} {positive.shape}."
        )
    for row in scores:
        if reason := why_no_ranking(row, positive, "the finding"):
            raise DataError(f"{reason} So AUROC has no variance; ask why_no_ranking first.")
    n = len(positive)
    owner = np.arange(n) if patients is None else np.unique(np.asarray(patients), return_inverse=True)[1]
    if len(owner) != n:
        raise DataError(f"{len(owner)} patient ids for {n} films. Give one a film.")
    count = int(owner.max()) + 1
    found = [placements(row, positive) for row in scores]
    areas = np.array([one[0].mean() for one in found])
    mine, others = owner[positive], owner[~positive]
    return _Sums(
        auroc=areas,
        with_it=np.array([np.bincount(mine, a - area, count) for (a, _), area in zip(found, areas, strict=True)]),
        without=np.array([np.bincount(others, b - area, count) for (_, b), area in zip(found, areas, strict=True)]),
        films=(len(mine), len(others)),
        patients=(len(np.unique(mine)), len(np.unique(others))),
        both=len(np.intersect1d(mine, others)),
    )


def _covariance(sums: _Sums) -> Array:
    """Covariance of the AUROCs; terms across the sides count patients who have films of both."""
    (m, n), (p, q), count = sums.films, sums.patients, sums.with_it.shape[1]
    if min(p, q) < 2:
        return np.full((len(sums.auroc), len(sums.auroc)), np.nan)
    spread = (p / (p - 1)) * sums.with_it @ sums.with_it.T / m**2 + (q / (q - 1)) * sums.without @ sums.without.T / n**2
    if sums.both:
        across = (count / (count - 1)) * sums.with_it @ sums.without.T / (m * n)
        spread = spread + across + across.T
    covariance: Array = spread
    return covariance


def _z(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri((1 + level) / 2))


def delong(
    scores: Vector,
    positive: Array,
    patients: Sequence[str] | Indices | None = None,
    *,
    finding: str = "the finding",
    level: float = 0.95,
    scale: str = "logit",
) -> Estimate:
    """AUROC with DeLong's interval.

    Args:
        scores: [n], higher means more like the finding.
        positive: [n] bool.
        patients: n ids; None: each film is its own patient.
        finding: its name, for reasons.
        level: nominal coverage.
        scale: ``logit`` (the default: bounds stay within 0 … 1 and cover better near 1, Pepe 2003, chapter 5) or
            ``plain`` (the value ± z standard errors, as most programs print it).

    Returns:
        the estimate; NaN with the reason where there is none. Perfect rankings take Wilson's interval with the
        patients of the smaller side as trials, since their placements have no spread.

    Raises:
        DataError: another scale, or shapes that disagree.
    """
    if scale not in ("logit", "plain"):
        raise DataError(f"The scale of DeLong's interval is {scale!r}, but must be logit or plain.")
    n = len(scores)
    if reason := why_no_ranking(scores, positive, finding):
        return not_estimable(reason, n=n)
    sums = _sums(np.asarray(scores, dtype=np.float64)[None], np.asarray(positive), patients)
    count, area = sum(sums.patients) - sums.both, float(sums.auroc[0])
    if min(sums.patients) < FEWEST_PATIENTS:
        few = f"Only {min(sums.patients)} patients on one side of {finding}; a ranking needs {FEWEST_PATIENTS}."
        return not_estimable(few, n=n, patients=count)
    if area in (0.0, 1.0):
        low, high = wilson_interval(area, min(sums.patients), level)
        method = "wilson, smaller side as trials"
        return Estimate(value=area, low=low, high=high, n=n, patients=count, method=method)
    error = math.sqrt(max(0.0, float(_covariance(sums)[0, 0])))
    low, high = _bounds(area, error, _z(level), scale)
    method = "DeLong, logit" if scale == "logit" else "DeLong"
    return Estimate(value=area, low=low, high=high, n=n, patients=count, method=method)


def _bounds(area: float, error: float, z: float, scale: str) -> tuple[float, float]:
    if scale == "plain":
        return max(0.0, area - z * error), min(1.0, area + z * error)
    centre, half = math.log(area / (1 - area)), z * error / (area * (1 - area))
    return 1 / (1 + math.exp(half - centre)), 1 / (1 + math.exp(-half - centre))


def delong_test(
    first: Vector,
    second: Vector,
    positive: Array,
    patients: Sequence[str] | Indices | None = None,
    *,
    finding: str = "the finding",
    level: float = 0.95,
) -> AurocTest:
    """Whether two models' AUROCs on the same films differ.

    Args:
        first: [n] scores of one model.
        second: [n] scores of the other, of the same films in the same order.
        positive: [n] bool.
        patients: n ids; None: each film is its own patient.
        finding: its name, for reasons.
        level: nominal coverage.

    Returns:
        both AUROCs and their difference; NaN with the reason where there is none. Models that rank alike differ by 0
        without an interval.
    """
    n = len(positive)
    for scores in (first, second):
        if reason := why_no_ranking(scores, positive, finding):
            nothing = not_estimable(reason, n=n)
            return AurocTest(first=NAN, second=NAN, difference=nothing, z=NAN, p=NAN)
    sums = _sums(np.asarray([first, second], dtype=np.float64), np.asarray(positive), patients)
    areas, covariance = sums.auroc, _covariance(sums)
    count, value = sum(sums.patients) - sums.both, float(areas[0] - areas[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    reason = ""
    if min(sums.patients) < FEWEST_PATIENTS:
        reason = f"Only {min(sums.patients)} patients on one side of {finding}; a test needs {FEWEST_PATIENTS}."
    elif not variance > 1e-18:
        reason = "Both models place every film alike, so their difference has no spread."
    if reason:
        unsure = Estimate(value=value, n=n, patients=count, method="DeLong", reason=reason)
        return AurocTest(first=float(areas[0]), second=float(areas[1]), difference=unsure, z=NAN, p=NAN)
    from scipy.special import ndtr

    error = math.sqrt(variance)
    half, z = _z(level) * error, value / error
    sure = Estimate(value=value, low=value - half, high=value + half, n=n, patients=count, method="DeLong, paired")
    p = float(2 * ndtr(-abs(z)))
    return AurocTest(first=float(areas[0]), second=float(areas[1]), difference=sure, z=z, p=p)
