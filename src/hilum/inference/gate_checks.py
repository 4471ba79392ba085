"""What a lower precision is held against: fp32 on the same films, in ranking, sensitivity, heat maps and speed.

Everything is paired: a film is answered in both precisions, so what makes films hard cancels out. An interval that
includes too large a drop does not show that there is none, and is refused with the number of films that would do.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hilum.arrays import Array, Vector
from hilum.evaluation.delong import AurocTest
from hilum.evaluation.differences import auroc_tests
from hilum.evaluation.estimates import Estimate
from hilum.evaluation.intervals import (
    FEWEST_PATIENTS,
    Cohort,
    Resampling,
    bootstrap_sums,
    percentile_interval,
    proportion,
)
from hilum.evaluation.metrics import classes_of
from hilum.predictions import Predictions

MOST_DROP = 0.002
"""Most that a finding's AUROC may drop, at the upper end of its 95 % interval."""

LEAST_CORRELATION = 0.98
"""Least correlation of heat maps, at the first percentile of the films."""

LEAST_SPEED = 1.3
"""How many times faster than the fastest fp32 it must be for one film; for less, nobody should have to think of it."""

VISIBLE = 0.05
"""Share of the bundle's full heat below which a map is drawn as nothing; such maps are not compared."""

NONE_OF = 3.0
"""Rule of three: what happened to none of n has a 95 % upper bound of 3 / n (Hanley and Lippman-Hand 1983, JAMA)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was held against its bar."""

    what: str
    """What, such as ``AUROC of pneumonia``."""
    bar: str
    """What it must reach."""
    found: str
    """What was found, in words."""
    refusal: str = ""
    """Why it does not pass, one sentence; empty when it does."""
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    """The same as raw numbers; None where there is none."""
    films_needed: int | None = None
    """About how many such films would show what these don't; None when it passed or no number would."""

    @property
    def passed(self) -> bool:
        """Whether the bar is reached."""
        return not self.refusal


def auroc_checks(usual: Predictions, low: Predictions) -> tuple[Check, ...]:
    """Each finding's drop of AUROC from fp32 to the lower precision, by DeLong's paired test with films by patient.

    Args:
        usual: in fp32.
        low: in the lower precision, of the same films in the same order, all labelled.
    """
    classes, patients = classes_of(usual.targets, usual.findings), np.asarray(usual.patient_ids)
    tests = auroc_tests(usual, low)
    sides = [(len(set(patients[classes == k])), len(set(patients[classes != k]))) for k in range(len(usual.findings))]
    return tuple(_auroc(name, test, *side) for (name, test), side in zip(tests.items(), sides, strict=True))


def _auroc(finding: str, test: AurocTest, having: int, others: int) -> Check:
    what, bar, drop = f"AUROC of {finding}", f"drop ≤ {MOST_DROP:g}", test.difference
    if not drop.estimable or min(having, others) < FEWEST_PATIENTS:
        why = drop.reason or f"Only {min(having, others)} patients on one side of {finding}."
        return Check(what=what, bar=bar, found="not shown", refusal=f"{what} can't be compared: {why}")
    # Rankings that agree in every pair have no spread, which is no certainty: none of so many pairs changed places.
    half = drop.high - drop.value if drop.bounded else NONE_OF / (having * others)
    low, high = drop.value - half, drop.value + half
    numbers = {"fp32": test.first, "low": test.second, "drop": drop.value, "drop_low": low, "drop_high": high}
    interval = f"{drop.value:.4f} (95 % interval {low:.4f} to {high:.4f})"
    found = f"{test.first:.4f} → {test.second:.4f}, drop {interval}"
    if high <= MOST_DROP:
        return Check(what=what, bar=bar, found=found, numbers=numbers)
    if drop.value >= MOST_DROP:
        refusal = f"{what} drops by {interval}; {MOST_DROP:g} is allowed, and more films would not help."
        return Check(what=what, bar=bar, found=found, numbers=numbers, refusal=refusal)
    times = half / (MOST_DROP - drop.value)
    needed = math.ceil(drop.n * (times**2 if drop.bounded else math.sqrt(times)))
    refusal = (
        f"{what} may drop by more than {MOST_DROP:g}: {interval} on {drop.n:,} films; about {needed:,} such films "
        "would show whether it does."
    )
    return Check(what=what, bar=bar, found=found, numbers=numbers, refusal=refusal, films_needed=needed)


def sensitivity_checks(
    usual: Predictions, low: Predictions, thresholds: Mapping[str, float], settings: Resampling | None = None
) -> tuple[Check, ...]:
    """Sensitivity at the bundle's operating points: the lower precision's must lie in the interval of fp32's own, and
    the paired difference must not lie below 0.

    Args:
        usual: in fp32.
        low: in the lower precision, of the same films in the same order, all labelled.
        thresholds: operating points by finding; findings without one are not judged.
        settings: of the intervals, by patient.
    """
    if not thresholds:
        why = "The bundle has no operating points, so sensitivity can't be compared."
        return (Check(what="sensitivity", bar="unchanged", found="not shown", refusal=why),)
    settings = settings or Resampling()
    classes = classes_of(usual.targets, usual.findings)
    cohort = Cohort.of(usual.patient_ids, classes)
    names = usual.findings.names
    checks = []
    for name, threshold in thresholds.items():
        k = names.index(name)
        positive = classes == k
        caught = [positive & (films.probs[:, k] >= threshold) for films in (usual, low)]
        checks.append(_sensitivity(name, threshold, positive, caught[0], caught[1], cohort, settings))
    return tuple(checks)


def _sensitivity(
    finding: str, threshold: float, positive: Array, before: Array, after: Array, cohort: Cohort, settings: Resampling
) -> Check:
    what = f"sensitivity for {finding} at {threshold:.3f}"
    bar = "within the interval of fp32, and not shown to be less"
    n, patients = int(positive.sum()), cohort.count(positive)
    if patients < FEWEST_PATIENTS:
        why = f"{what} can't be compared: only {patients} patients show it, and {FEWEST_PATIENTS} are needed."
        return Check(what=what, bar=bar, found="not shown", refusal=why)
    sums = bootstrap_sums(np.column_stack([before, after, positive]), cohort, settings, name="gate")
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = sums[:, :2] / sums[:, 2:]
    usual, low = (
        proportion(float(caught.sum() / n), shares[:, i], n=n, patients=patients, level=settings.level)
        for i, caught in enumerate((before, after))
    )
    change = low.value - usual.value
    lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
    least, most = percentile_interval(shares[:, 1] - shares[:, 0], settings.level)
    if not lost and not gained:  # no film changed sides: every resample says 0, which is no certainty
        least, most = -min(1.0, NONE_OF / patients), min(1.0, NONE_OF / patients)
    numbers = {
        "fp32": usual.value,
        "fp32_low": usual.low,
        "fp32_high": usual.high,
        "low": low.value,
        "change": change,
        "change_low": least,
        "change_high": most,
        "lost": float(lost),
        "gained": float(gained),
    }
    found = (
        f"{_text(usual)} → {low.value:.3f}, change {change:.3f} (95 % interval {least:.3f} to {most:.3f}); "
        f"of {n:,} films {lost} lost, {gained} gained"
    )
    outside = not usual.low <= low.value <= usual.high
    refusal = f"The {what} changes: {found}." if outside or most < 0 else ""
    return Check(what=what, bar=bar, found=found, numbers=numbers, refusal=refusal)


def _text(share: Estimate) -> str:
    return f"{share.value:.3f} (95 % interval {share.low:.3f} to {share.high:.3f})"


def map_correlations(usual: Array, low: Array, top: float) -> Vector:
    """Each film's least Pearson correlation of a finding's heat map in two precisions.

    Args:
        usual: [n, k, h, w] ≥ 0 in fp32.
        low: the same in the lower precision.
        top: the bundle's full heat; maps that stay below :data:`VISIBLE` of it in both are drawn as nothing.

    Returns:
        float64 [n]; NaN for a film without any visible map. A flat map correlates with no other one: 0.
    """
    first, second = (np.asarray(maps, np.float64).reshape(*maps.shape[:2], -1) for maps in (usual, low))
    seen = np.maximum(first.max(axis=2), second.max(axis=2)) >= VISIBLE * top
    a, b = (maps - maps.mean(axis=2, keepdims=True) for maps in (first, second))
    size = np.sqrt((a * a).sum(axis=2) * (b * b).sum(axis=2))
    correlations = np.divide((a * b).sum(axis=2), size, out=np.zeros_like(size), where=size > 0)
    least = np.where(seen, correlations, np.inf).min(axis=1)
    return np.where(np.isinf(least), np.nan, least)


def map_check(correlations: Vector) -> Check:
    """The first percentile over the films (below 100 films the least) against its bar; the least is reported too.

    Args:
        correlations: [n], NaN where a film has no visible map.
    """
    what, bar = "heat maps", f"correlation ≥ {LEAST_CORRELATION:g} at the first percentile of the films"
    known = correlations[~np.isnan(correlations)]
    if not len(known):
        why = "No film has a visible heat map, so heat maps can't be compared."
        return Check(what=what, bar=bar, found="not shown", refusal=why)
    first = float(np.quantile(known, 0.01, method="lower"))
    least, middle = float(known.min()), float(np.median(known))
    numbers = {"films": float(len(known)), "least": least, "first_percentile": first, "median": middle}
    found = f"first percentile {first:.4f}, least {least:.4f}, median {middle:.4f} of {len(known):,} films"
    refusal = "" if first >= LEAST_CORRELATION else f"Heat maps differ: correlation {found}; {bar} is needed."
    return Check(what=what, bar=bar, found=found, numbers=numbers, refusal=refusal)


def speed_check(usual: Mapping[str, Sequence[float]], low: Sequence[float]) -> Check:
    """How many times faster one film is answered than by the fastest fp32, as the median of ratios within a repeat.

    Args:
        usual: milliseconds of each runtime in fp32, by name, repeat by repeat.
        low: milliseconds of the lower precision in the same repeats.
    """
    what, bar = "speed for one film", f"≥ {LEAST_SPEED:g} × the fastest fp32"
    ratios = {name: statistics.median(a / b for a, b in zip(times, low, strict=True)) for name, times in usual.items()}
    fastest = min(ratios, key=lambda name: ratios[name])
    mine = statistics.median(low)
    spans = ", ".join(
        f"{name} {statistics.median(times):.2f} ms ({ratios[name]:.2f} ×)" for name, times in usual.items()
    )
    found = f"{mine:.2f} ms beside fp32: {spans}; median of {len(low)} turns"
    numbers = {"low_ms": mine, "ratio": ratios[fastest]}
    numbers |= {f"{name}_ms": statistics.median(times) for name, times in usual.items()}
    refusal = (
        ""
        if ratios[fastest] >= LEAST_SPEED
        else f"It is {ratios[fastest]:.2f} × as fast as {fastest} in fp32 for one film; {LEAST_SPEED:g} × is needed."
    )
    return Check(what=what, bar=bar, found=found, numbers=numbers, refusal=refusal)


def probability_shift(usual: Predictions, low: Predictions) -> dict[str, float]:
    """How far probabilities move, and how many films get another likeliest finding: reported, not judged."""
    apart = np.abs(usual.probs - low.probs)
    return {
        "largest": float(apart.max()),
        "mean": float(apart.mean()),
        "other_label": float((usual.probs.argmax(axis=1) != low.probs.argmax(axis=1)).sum()),
    }
