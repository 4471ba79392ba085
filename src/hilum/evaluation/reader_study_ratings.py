"""How well readers' confidence ranks films, without and with the model: AUROC by DeLong, by reader and on average.

The confidence is about one finding, the question. Every reader's areas are of the same films, so their covariance is
known, and the mean's interval follows from it: it is about these readers on other films, not about other readers.
"""

from dataclasses import dataclass

import numpy as np

from hilum.arrays import Array
from hilum.evaluation.delong import auroc_covariance, delong, delong_test
from hilum.evaluation.estimates import Estimate, not_estimable
from hilum.evaluation.intervals import FEWEST_PATIENTS
from hilum.evaluation.ranks import why_no_ranking
from hilum.evaluation.reader_study import ALL_READERS, ARMS, Readings

THESE_READERS = "DeLong, mean of these readers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Areas:
    """One reader's, or the readers' mean, AUROC of the confidence."""

    reader: str
    """Whose; ALL_READERS for the mean of them."""
    without: Estimate
    """Without the model."""
    with_model: Estimate
    """With the model."""
    difference: Estimate
    """With minus without, paired."""


def score_ratings(readings: Readings, finding: str, *, level: float = 0.95) -> tuple[Areas, ...]:
    """AUROC of every reader's confidence in both arms and the paired difference; the mean first.

    Args:
        readings: with ``ratings``; without them there is nothing to score.
        finding: the question, which the confidence is about.
        level: nominal coverage of the intervals.

    Returns:
        empty without ratings.

    Source: DeLong et al. 1988, doi:10.2307/2531595; a patient's films together by Obuchowski 1997,
    doi:10.2307/2533958.
    """
    if readings.ratings is None:
        return ()
    positive = readings.truth == readings.findings.index(finding)
    each = tuple(
        _reader(name, ratings, positive, readings, finding, level)
        for name, ratings in zip(readings.readers, readings.ratings, strict=True)
    )
    return _mean(readings, readings.ratings, positive, finding, level), *each


def _reader(name: str, ratings: Array, positive: Array, readings: Readings, finding: str, level: float) -> Areas:
    without, with_model = (delong(one, positive, readings.patient_ids, finding=finding, level=level) for one in ratings)
    test = delong_test(ratings[1], ratings[0], positive, readings.patient_ids, finding=finding, level=level)
    return Areas(reader=name, without=without, with_model=with_model, difference=test.difference)


def _mean(readings: Readings, ratings: Array, positive: Array, finding: str, level: float) -> Areas:
    r, n = len(readings.readers), len(positive)
    flat = ratings.reshape(r * len(ARMS), n)
    if reason := why_no_ranking(flat[0], positive, finding):
        nothing = not_estimable(reason, n=n)
        return Areas(reader=ALL_READERS, without=nothing, with_model=nothing, difference=nothing)
    areas, covariance = auroc_covariance(flat, positive, readings.patient_ids)
    arms = np.tile(np.eye(len(ARMS)), (r, 1)).T / r  # [2, 2r]: the mean over readers of an arm
    contrasts = [arms[0], arms[1], arms[1] - arms[0]]
    few = min(len(set(np.asarray(readings.patient_ids)[side])) for side in (positive, ~positive)) < FEWEST_PATIENTS
    found = [_contrast(areas, covariance, weights, readings, few, level) for weights in contrasts]
    return Areas(reader=ALL_READERS, without=found[0], with_model=found[1], difference=found[2])


def _contrast(areas: Array, covariance: Array, weights: Array, readings: Readings, few: bool, level: float) -> Estimate:
    from scipy.special import ndtri

    value, variance = float(weights @ areas), float(weights @ covariance @ weights)
    n, patients = len(readings.truth), len(set(readings.patient_ids))
    if few or not variance > 1e-18:
        reason = f"An interval needs {FEWEST_PATIENTS} patients on each side." if few else "Nothing varies."
        return Estimate(value=value, method=THESE_READERS, reason=reason, n=n, patients=patients)
    half = float(ndtri((1 + level) / 2)) * variance**0.5
    bounded = weights.sum() > 0.5  # an area lies within 0 … 1, a difference does not
    low, high = (max(0.0, value - half), min(1.0, value + half)) if bounded else (value - half, value + half)
    return Estimate(value=value, low=low, high=high, method=THESE_READERS, n=n, patients=patients)
