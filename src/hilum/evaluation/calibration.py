"""Calibration: one temperature for the logits, and what shows whether probabilities mean what they say."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hilum.arrays import Array, Indices, Scores, Vector
from hilum.errors import DataError
from hilum.evaluation.estimates import Estimate
from hilum.evaluation.intervals import wilson_interval
from hilum.evaluation.metrics import classes_of
from hilum.labels import Findings
from hilum.randomness import stream

Mass = Literal["width", "mass"]
"""Bins of equal width of confidence, or of an equal number of films."""

FEW_FOR_CALIBRATION = 50
"""Fewer labelled films than this make a temperature that other films needn't share."""


def log_softmax(logits: Scores) -> Scores:
    """Log-probabilities [n, k] of logits of any size, without overflow."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def softmax(logits: Scores) -> Scores:
    """Probabilities [n, k] of logits of any size; rows sum to 1."""
    probs: Array = np.exp(log_softmax(logits))
    return probs


@dataclass(frozen=True, slots=True, kw_only=True)
class Temperature:
    """The one number that logits are divided by before the softmax."""

    value: float
    """The temperature, > 0; 1 leaves the probabilities as they are, more makes them milder."""
    nll_before: float
    """Mean negative log-likelihood at temperature 1, in nats; NaN without a labelled film."""
    nll_after: float
    """The same at the fitted temperature."""
    n: int
    """Labelled films that it was fitted on."""
    reason: str = ""
    """Why it could not be fitted (it is 1 then), or what to mind; empty when all is well."""

    def probs(self, logits: Scores) -> Scores:
        """Calibrated probabilities [n, k]; the order of the findings never changes."""
        return softmax(logits / self.value)


def nll(logits: Scores, classes: Indices, temperature: float = 1.0) -> float:
    """Mean negative log-likelihood in nats of known classes [n]; logits [n, k]."""
    return float(-log_softmax(logits / temperature)[np.arange(len(classes)), classes].mean())


def fit_temperature(logits: Scores, targets: Scores) -> Temperature:
    """Fit the temperature that makes labelled films most likely.

    The likelihood has one maximum in 1/T, so a bounded search on log T finds it. It is searched in units of the logits'
    spread: logits in the thousands are as good as logits around one.

    Args:
        logits: [n, k], any size; films of unknown label are left out.
        targets: [n, k] one-hot, NaN where unknown. Use films that the network was not trained on.

    Returns:
        the temperature; 1 with a reason where it can't be fitted (no or one class, a perfect separation).

    Raises:
        DataError: logits that are not finite, or targets that are not one-hot.

    Source: Guo et al. 2017, On calibration of modern neural networks (ICML).
    """
    from scipy.optimize import minimize_scalar

    classes = classes_of(targets, Findings(tuple(str(i) for i in range(targets.shape[1]))))
    known = classes >= 0
    used, classes = np.asarray(logits, dtype=np.float64)[known], classes[known]
    if not np.isfinite(used).all():
        raise DataError(
            f"{int((~np.isfinite(used)).any(axis=1).sum())} of {len(used)} films have logits that are not finite, "
            "so no temperature can be fitted. Look for a diverged training or a damaged film."
        )
    if len(np.unique(classes)) < 2:
        before = nll(used, classes) if len(classes) else math.nan
        what = "one class" if len(classes) else "no labelled film"
        reason = f"The calibration set holds {what}, so the temperature can't be fitted and stays 1."
        return Temperature(value=1.0, nll_before=before, nll_after=before, n=len(classes), reason=reason)
    before = nll(used, classes)
    if unfit := _why_unfit(used, classes):
        return Temperature(value=1.0, nll_before=before, nll_after=before, n=len(classes), reason=unfit)
    spread = float((used - used.mean(axis=1, keepdims=True)).std())
    found = minimize_scalar(
        lambda log_t: nll(used, classes, spread * math.exp(log_t)),
        bounds=(-7.0, 7.0),
        method="bounded",
        options={"xatol": 1e-8},
    )
    value = spread * math.exp(float(found.x))
    return Temperature(
        value=value, nll_before=before, nll_after=nll(used, classes, value), n=len(classes), reason=_note(found.x, used)
    )


def _why_unfit(logits: Scores, classes: Indices) -> str:
    """Cases in which the most likely temperature is 0 or no number at all."""
    own = logits[np.arange(len(classes)), classes]
    others = np.where(np.arange(logits.shape[1]) == classes[:, None], -np.inf, logits).max(axis=1)
    if (own > others).all():
        return (
            "The calibration set is separated without one error, so the temperature can't be fitted and stays 1. "
            "Use more films, or out-of-fold predictions."
        )
    if np.ptp(logits, axis=1).max() == 0:
        return "All logits of each film are equal, so the temperature changes nothing and stays 1."
    return ""


def _note(log_t: float, logits: Scores) -> str:
    if log_t > 6.9:
        return "The logits don't tell the classes of the calibration set apart: calibration flattens all probabilities."
    if len(logits) < FEW_FOR_CALIBRATION:
        return (
            f"Only {len(logits)} films calibrate; with fewer than {FEW_FOR_CALIBRATION} the temperature is uncertain."
        )
    return ""


def bin_numbers(confidences: Vector, bins: int, mass: Mass) -> Indices:
    """Bin of each value in 0 … 1, [n] in 0 … bins − 1; equal values share a bin."""
    if mass == "width":
        return np.clip((confidences * bins).astype(np.int64), 0, bins - 1)
    edges = np.quantile(confidences, np.linspace(0, 1, bins + 1)[1:-1])
    return np.searchsorted(edges, confidences, side="right").astype(np.int64)


def ece_of(confidences: Vector, hits: Array, weights: Array, *, bins: int = 15, mass: Mass = "width") -> Array:
    """Expected calibration error of many weightings: mean |hit rate − confidence| over bins, weighted by films.

    Args:
        confidences: [n] in 0 … 1.
        hits: [n] bool: whether what was said with that confidence was so.
        weights: [r, n] counts.
        bins: number of bins.
        mass: bins of equal width or of equal mass.

    Returns:
        [r] in 0 … 1; NaN without a film.
    """
    gaps = calibration_gaps(confidences, hits, bins=bins, mass=mass)
    total = weights.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, np.abs(weights @ gaps).sum(axis=1) / total, np.nan)


def calibration_gaps(confidences: Vector, hits: Array, *, bins: int, mass: Mass) -> Array:
    """What each film adds to its bin's gap between hit rate and confidence, [n, bins]; ECE is the mean of |sums|."""
    gaps = np.zeros((len(confidences), bins))
    gaps[np.arange(len(confidences)), bin_numbers(confidences, bins, mass)] = hits - confidences
    return gaps


def ece(probs: Scores, classes: Indices, *, bins: int = 15, mass: Mass = "width") -> float:
    """Expected calibration error of the most probable finding (top label).

    ECE is never negative and so is biased upwards: a perfectly calibrated model doesn't reach 0 on a finite set. Give
    :func:`ece_if_perfect` beside it.

    Args:
        probs: [n, k], rows sum to 1.
        classes: [n] known classes.
        bins: number of bins.
        mass: bins of equal width (the usual form) or of equal mass.

    Returns:
        0 … 1; NaN without a film.

    Source: Naeini et al. 2015 (AAAI); bias: Kumar et al. 2019 (NeurIPS).
    """
    if not len(classes):
        return math.nan
    hits = probs.argmax(axis=1) == classes
    return float(ece_of(probs.max(axis=1), hits, np.ones((1, len(classes))), bins=bins, mass=mass)[0])


def ece_if_perfect(
    probs: Scores, *, seed: int = 0, draws: int = 400, bins: int = 15, mass: Mass = "width"
) -> tuple[float, float]:
    """The ECE that these very confidences would show if they were perfectly calibrated: the bias, by simulation.

    Args:
        probs: [n, k], rows sum to 1.
        seed: seed of the simulated labels.
        draws: simulated label sets.
        bins: as for :func:`ece`.
        mass: as for :func:`ece`.

    Returns:
        mean and 95th percentile; an ECE above the latter is a true miscalibration. NaN without a film.
    """
    if not len(probs):
        return math.nan, math.nan
    confidence = probs.max(axis=1)
    number = bin_numbers(confidence, bins, mass)
    expected = np.bincount(number, weights=confidence, minlength=bins)
    rng, found = stream(seed, "ece-if-perfect"), []
    for _ in range(draws):
        hits = np.bincount(number, weights=rng.random(len(confidence)) < confidence, minlength=bins)
        found.append(np.abs(hits - expected).sum() / len(confidence))
    return float(np.mean(found)), float(np.quantile(found, 0.95))


def brier_of_films(probs: Scores, classes: Indices) -> Vector:
    """Brier score of each film, [n]: squared distance of the probabilities from the truth, 0 … 2 (Brier 1950)."""
    truth = np.zeros_like(probs)
    truth[np.arange(len(classes)), classes] = 1.0
    scores: Array = ((probs - truth) ** 2).sum(axis=1)
    return scores


def brier(probs: Scores, classes: Indices) -> float:
    """Mean Brier score over films, 0 (perfect) … 2; NaN without a film."""
    return float(brier_of_films(probs, classes).mean()) if len(classes) else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """Films that were given a probability in one range, and how many of them showed the finding."""

    low: float
    """Lowest probability in the bin."""
    high: float
    """Highest probability in the bin."""
    confidence: float
    """Mean probability."""
    frequency: Estimate
    """Share of the films that show the finding, with Wilson's interval over patients."""


def reliability(
    probs: Vector,
    positive: Array,
    *,
    patients: Sequence[str] | None = None,
    bins: int = 10,
    mass: Mass = "mass",
    level: float = 0.95,
) -> tuple[ReliabilityBin, ...]:
    """Bins of a reliability diagram for one finding, from the lowest probability up; empty bins are left out.

    Args:
        probs: [n] probabilities of the finding.
        positive: [n] bool: whether it was there.
        patients: n ids; intervals count patients, not films. None: each film is its own patient.
        bins: at most so many bins.
        mass: equal mass (the default: every bin rests on as many films) or equal width.
        level: nominal coverage of the intervals.
    """
    if not len(probs):
        return ()
    ids = np.arange(len(probs)) if patients is None else np.unique(np.asarray(patients), return_inverse=True)[1]
    number, made = bin_numbers(probs, bins, mass), []
    for which in np.unique(number):
        inside = number == which
        share, owners = float(positive[inside].mean()), len(np.unique(ids[inside]))
        low, high = wilson_interval(share, owners, level)
        frequency = Estimate(
            value=share, low=low, high=high, n=int(inside.sum()), patients=owners, method="wilson, patients as trials"
        )
        inside_probs = probs[inside]
        made.append(
            ReliabilityBin(
                low=float(inside_probs.min()),
                high=float(inside_probs.max()),
                confidence=float(inside_probs.mean()),
                frequency=frequency,
            )
        )
    return tuple(made)
