"""Decision curves: what acting on the model is worth, beside acting on every film and on none."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hilum.arrays import Array, Vector
from hilum.errors import DataError
from hilum.evaluation.intervals import FEWEST_PATIENTS, Cohort, Resampling, bootstrap_sums
from hilum.evaluation.ranks import why_no_ranking

THRESHOLDS = tuple(round(i / 100, 2) for i in (*range(1, 10), *range(10, 92, 2)))
"""Probabilities above which one would act: finer where a miss weighs most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionCurve:
    """Net benefit of one finding's probabilities over thresholds.

    At threshold t one miss weighs (1 − t)/t false alarms, since whoever acts above t holds both for equal there.
    """

    finding: str
    """The finding."""
    prevalence: float
    """Its share of the films; NaN when nothing could be measured."""
    thresholds: tuple[float, ...] = ()
    """Probabilities above which one would act, rising."""
    net_benefit: tuple[float, ...] = ()
    """Found cases a film, less false alarms a film times t/(1 − t)."""
    low: tuple[float, ...] = ()
    """Lower bounds, pointwise; empty without an interval."""
    high: tuple[float, ...] = ()
    """Upper bounds, pointwise."""
    act_on_all: tuple[float, ...] = ()
    """Net benefit of acting on every film; acting on none is 0."""
    gain: tuple[float, ...] = ()
    """Net benefit above the better of acting on all and on none."""
    gain_low: tuple[float, ...] = ()
    """Lower bounds of the gain, pointwise."""
    reason: str = ""
    """Why there is no curve or no interval; empty when all is well."""

    @property
    def useful(self) -> tuple[float, float] | None:
        """Lowest and highest threshold at which the gain's lower bound is above 0; None when there is none."""
        good = [t for t, low in zip(self.thresholds, self.gain_low, strict=False) if low > 0]
        return (good[0], good[-1]) if good else None


def net_benefit(probs: Vector, positive: Array, thresholds: Sequence[float]) -> Vector:
    """Net benefit of acting on films whose probability is at least each threshold, [t].

    Args:
        probs: [n] probabilities of the finding.
        positive: [n] bool.
        thresholds: strictly between 0 and 1.

    Raises:
        DataError: a threshold of 0, 1 or outside.

    Source: Vickers and Elkin 2006, Med Decis Making 26:565, doi:10.1177/0272989X06295361.
    """
    levels = _checked(thresholds)
    sums = _columns(_steps(probs, levels), positive, len(levels)).sum(axis=0, keepdims=True)
    values: Vector = _benefits(sums, levels)[0, 0]
    return values


def _checked(thresholds: Sequence[float]) -> Vector:
    levels = np.asarray(thresholds, dtype=np.float64)
    if not len(levels) or ((levels <= 0) | (levels >= 1)).any() or (np.diff(levels) <= 0).any():
        raise DataError(
            f"Thresholds of a decision curve rise strictly between 0 and 1, but are {list(thresholds)[:5]} …. "
            "A threshold is the probability above which one would act."
        )
    return levels


def _steps(probs: Vector, levels: Vector) -> Array:
    """How many thresholds each film reaches, [n] in 0 … t."""
    return np.searchsorted(levels, probs, side="right")


def _columns(steps: Array, positive: Array, t: int) -> Array:
    """What each film adds to the films of either side that reach each number of thresholds, [n, 2(t + 1)]."""
    columns = np.zeros((len(steps), 2 * (t + 1)))
    columns[np.arange(len(steps)), steps + np.where(positive, 0, t + 1)] = 1.0
    return columns


def _benefits(sums: Array, levels: Vector) -> Array:
    """Net benefit, and that of acting on all, from sums of :func:`_columns`: [r, 2, t]."""
    sides = sums.reshape(len(sums), 2, -1)
    reached = sides[:, :, ::-1].cumsum(axis=2)[:, :, ::-1]  # films that reach at least each number
    total = reached[:, :, :1].sum(axis=1, keepdims=True)[:, :, 0]
    called = np.stack([reached[:, :, 1:], np.broadcast_to(reached[:, :, :1], reached[:, :, 1:].shape)], axis=1)
    benefits: Array = (called[:, :, 0] - called[:, :, 1] * levels / (1 - levels)) / total[:, :, None]
    return benefits


def decision_curve(
    probs: Vector,
    positive: Array,
    patient_ids: Sequence[str],
    *,
    finding: str,
    thresholds: Sequence[float] = THRESHOLDS,
    settings: Resampling | None = None,
) -> DecisionCurve:
    """The curve with pointwise intervals by patient.

    Args:
        probs: [n] calibrated probabilities: on others the curve says little.
        positive: [n] bool.
        patient_ids: n ids.
        finding: its name.
        thresholds: strictly between 0 and 1, rising.
        settings: of the intervals.

    Returns:
        the curve; empty with a reason where a side has no film or a film no probability.

    Raises:
        DataError: thresholds that don't rise between 0 and 1.
    """
    levels, settings = _checked(thresholds), settings or Resampling()
    if reason := why_no_ranking(probs, positive, finding):
        return DecisionCurve(finding=finding, prevalence=np.nan, reason=reason)
    columns = _columns(_steps(probs, levels), positive, len(levels))

    def finish(sums: Array) -> Array:
        model, every = np.moveaxis(_benefits(sums, levels), 1, 0)
        return np.column_stack([model, model - np.maximum(every, 0)])

    whole = columns.sum(axis=0, keepdims=True)
    t, share, values = len(levels), float(positive.mean()), finish(whole)[0]
    cohort = Cohort.of(patient_ids, positive.astype(np.int64))
    few = min(cohort.count(positive), cohort.count(~positive))
    bounds, why = np.empty((2, 0)), f"Only {few} patients on one side of {finding}, too few for an interval."
    if few >= FEWEST_PATIENTS:
        tails, why = [(1 - settings.level) / 2, (1 + settings.level) / 2], ""
        bounds = np.quantile(finish(bootstrap_sums(columns, cohort, settings, name="decision-curve")), tails, axis=0)
    return DecisionCurve(
        finding=finding,
        prevalence=share,
        thresholds=tuple(levels.tolist()),
        net_benefit=tuple(values[:t].tolist()),
        low=tuple(bounds[0, :t].tolist()),
        high=tuple(bounds[1, :t].tolist()),
        act_on_all=tuple(_benefits(whole, levels)[0, 1].tolist()),
        gain=tuple(values[t:].tolist()),
        gain_low=tuple(bounds[0, t:].tolist()),
        reason=why,
    )
