"""Ways to calibrate: temperature, vector scaling, Platt, isotonic; one is chosen by cross-validated likelihood.

All start from logits (or log-probabilities, where a model gives probabilities alone) and give probabilities whose rows
sum to 1. They are fitted on films that the network was not trained on, best on out-of-fold predictions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from hilum.arrays import Array, Indices, Scores, Vector
from hilum.errors import DataError
from hilum.evaluation.calibration import fit_temperature, log_softmax, softmax
from hilum.evaluation.metrics import classes_of
from hilum.labels import Findings
from hilum.randomness import stream

Method = Literal["none", "temperature", "vector", "platt", "isotonic"]

METHODS: tuple[Method, ...] = ("none", "temperature", "vector", "platt", "isotonic")
"""From the simplest to the one with most freedom; a freer one must earn its place."""

SMALLEST = 1e-12
"""Probabilities below this count as this in a logarithm."""


class Calibrator(Protocol):
    """What makes probabilities of logits."""

    def probs(self, logits: Scores) -> Scores:
        """Probabilities [n, k] of logits [n, k]; rows sum to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Logits times a weight plus a bias, a pair for each finding, then the softmax.

    The same weight everywhere and no bias is temperature scaling; for two findings it is Platt's sigmoid.
    """

    weights: tuple[float, ...]
    """Factor of each finding's logit."""
    biases: tuple[float, ...]
    """What is added to each."""
    reason: str = ""
    """Why it could not be fitted (it leaves the logits as they are then), or what to mind; empty when all is well."""

    def probs(self, logits: Scores) -> Scores:
        """Probabilities [n, k]."""
        return softmax(logits * np.asarray(self.weights) + np.asarray(self.biases))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sigmoids:
    """A sigmoid of each finding's log-odds, one against the rest, then rows are divided by their sum (Platt 1999)."""

    slopes: tuple[float, ...]
    """Factor of the log-odds of each finding."""
    intercepts: tuple[float, ...]
    """What is added to them."""
    reason: str = ""
    """As for :class:`Scaling`."""

    def probs(self, logits: Scores) -> Scores:
        """Probabilities [n, k]."""
        odds = log_odds(logits) * np.asarray(self.slopes) + np.asarray(self.intercepts)
        return _normalised(_sigmoid(odds))


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """A rising step function of each finding's probability, one against the rest, then rows are divided by their sum.

    Between knots it is drawn straight. Source: Zadrozny and Elkan 2002 (KDD), doi:10.1145/775047.775151.
    """

    knots: tuple[tuple[float, ...], ...]
    """Probabilities before, rising, for each finding."""
    values: tuple[tuple[float, ...], ...]
    """Probabilities after; none is 0 or 1, which no finite number of films can show."""
    reason: str = ""
    """As for :class:`Scaling`."""

    def probs(self, logits: Scores) -> Scores:
        """Probabilities [n, k]."""
        before = softmax(logits)
        after = [np.interp(before[:, c], self.knots[c], self.values[c]) for c in range(before.shape[1])]
        return _normalised(np.column_stack(after))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which way was chosen, and by how much."""

    method: Method
    """The chosen one: the simplest whose cross-validated NLL is within one standard error of the best."""
    nll: dict[Method, float]
    """Mean negative log-likelihood of each way on patients it was not fitted on, in nats."""
    behind: dict[Method, float]
    """How much worse than the best each is, in nats."""
    error: dict[Method, float]
    """Standard error of ``behind``, over patients; 0 for the best."""
    folds: int
    """Folds of the cross-validation; 0 when nothing could be chosen."""
    reason: str = ""
    """Why nothing could be chosen, or what to mind; empty when all is well."""


def _sigmoid(values: Array) -> Array:
    from scipy.special import expit

    found: Array = expit(values)
    return found


def _normalised(values: Array) -> Scores:
    total = values.sum(axis=1, keepdims=True)
    even = np.full_like(values, 1 / values.shape[1])
    probs: Scores = np.divide(values, total, out=even, where=total > 0)
    return probs


def log_odds(logits: Scores) -> Scores:
    """Log-odds of each finding against all others together, [n, k]."""
    from scipy.special import logsumexp

    k = logits.shape[1]
    rest = [logsumexp(np.delete(logits, c, axis=1), axis=1) for c in range(k)]
    odds: Scores = logits - np.column_stack(rest)
    return odds


def log_probs(probs: Scores) -> Scores:
    """Logarithms of probabilities, which serve as logits; zeros count as :data:`SMALLEST`."""
    logs: Scores = np.log(np.clip(probs, SMALLEST, 1.0))
    return logs


def _known(logits: Scores, targets: Scores) -> tuple[Scores, Indices]:
    classes = classes_of(targets, Findings(tuple(str(i) for i in range(targets.shape[1]))))
    known = classes >= 0
    used = np.asarray(logits, dtype=np.float64)[known]
    if not np.isfinite(used).all():
        raise DataError(
            f"{int((~np.isfinite(used)).any(axis=1).sum())} of {len(used)} films have logits that are not finite, so "
            "nothing can be calibrated on them. Look for a diverged training or a damaged film."
        )
    return used, classes[known]


def _absent(classes: Indices, k: int) -> str:
    missing = [str(c) for c in range(k) if not (classes == c).any()]
    if not missing:
        return ""
    return f"The calibration set has no film of class {', '.join(missing)}, so the logits stay as they are."


def fit(method: Method, logits: Scores, targets: Scores) -> Calibrator:
    """Fit one way.

    Args:
        method: one of :data:`METHODS`.
        logits: [n, k]; films of unknown label are left out.
        targets: [n, k] one-hot, NaN where unknown.

    Returns:
        the calibrator; one that changes nothing, with a reason, where it can't be fitted.

    Raises:
        DataError: an unknown method, logits that are not finite, or targets that are not one-hot.
    """
    if method not in METHODS:
        raise DataError(f"Calibration {method!r} is unknown. Use one of {', '.join(METHODS)}.")
    used, classes = _known(logits, targets)
    k = logits.shape[1]
    unchanged = Scaling(weights=(1.0,) * k, biases=(0.0,) * k, reason=_absent(classes, k))
    if method == "none":
        return Scaling(weights=(1.0,) * k, biases=(0.0,) * k)
    if method == "temperature":
        found = fit_temperature(logits, targets)
        return Scaling(weights=(1 / found.value,) * k, biases=(0.0,) * k, reason=found.reason)
    if unchanged.reason:
        return unchanged
    if method == "vector":
        return _fit_vector(used, classes)
    return _fit_platt(used, classes) if method == "platt" else _fit_isotonic(used, classes)


def _fit_vector(logits: Scores, classes: Indices) -> Scaling:
    """Vector scaling (Guo et al. 2017) by L-BFGS; the ridge of 1e-4 keeps separated films from pulling it away."""
    from scipy.optimize import minimize

    n, k = logits.shape
    spread = float((logits - logits.mean(axis=1, keepdims=True)).std()) or 1.0
    scaled, truth = logits / spread, np.eye(k)[classes]

    def loss(parameters: Vector) -> tuple[float, Vector]:
        weights, biases = parameters[:k], parameters[k:]
        logs = log_softmax(scaled * weights + biases)
        error = (np.exp(logs) - truth) / n
        value = -float(logs[np.arange(n), classes].mean()) + 1e-4 * float(((weights - spread) ** 2).sum()) / spread**2
        slope = (error * scaled).sum(axis=0) + 2e-4 * (weights - spread) / spread**2
        return value, np.concatenate([slope, error.sum(axis=0)])

    found = minimize(loss, np.concatenate([np.full(k, spread), np.zeros(k)]), jac=True, method="L-BFGS-B")
    weights, biases = found.x[:k] / spread, found.x[k:] - found.x[k:].mean()
    return Scaling(weights=tuple(weights.tolist()), biases=tuple(biases.tolist()))


def logistic(x: Vector, y: Vector, *, slope: float | None = None) -> tuple[float, float]:
    """Slope and intercept of a logistic regression of y (0 … 1, may lie between) on x, by Newton's method.

    Args:
        x: [n].
        y: [n] targets in 0 … 1.
        slope: fixed; None to fit it.

    Returns:
        slope and intercept; NaN where films are separated and neither has an end.
    """
    columns = np.ones((len(x), 1)) if slope is not None else np.column_stack([np.ones(len(x)), x])
    offset = slope * x if slope is not None else np.zeros(len(x))
    beta = np.zeros(columns.shape[1])
    for _ in range(60):
        mean = _sigmoid(columns @ beta + offset)
        weight = np.clip(mean * (1 - mean), 1e-12, None)
        curvature = columns.T @ (weight[:, None] * columns)
        step = np.linalg.lstsq(curvature, columns.T @ (y - mean), rcond=None)[0]
        largest = float(np.abs(step).max())
        beta = beta + step * min(1.0, 5.0 / max(largest, 1e-300))
        if largest < 1e-10:
            return (slope if slope is not None else float(beta[1])), float(beta[0])
        if float(np.abs(beta).max()) > 1e4:
            break
    return math.nan, math.nan


def _fit_platt(logits: Scores, classes: Indices) -> Sigmoids:
    """Platt's sigmoid with his targets, which count one film more on each side, so that nothing becomes certain."""
    odds, slopes, intercepts = log_odds(logits), [], []
    for c in range(logits.shape[1]):
        positive = classes == c
        m, n = int(positive.sum()), int((~positive).sum())
        targets = np.where(positive, (m + 1) / (m + 2), 1 / (n + 2))
        slope, intercept = logistic(odds[:, c], targets)
        slopes.append(slope if math.isfinite(slope) else 1.0)
        intercepts.append(intercept if math.isfinite(slope) else 0.0)
    return Sigmoids(slopes=tuple(slopes), intercepts=tuple(intercepts))


def _fit_isotonic(logits: Scores, classes: Indices) -> Steps:
    """Pool adjacent violators; the ends are kept from 0 and 1 as if each side had one film more."""
    from scipy.optimize import isotonic_regression

    before, knots, values = softmax(logits), [], []
    for c in range(logits.shape[1]):
        x, group, sizes = np.unique(before[:, c].round(12), return_inverse=True, return_counts=True)
        share = np.bincount(group, classes == c) / sizes
        fitted = isotonic_regression(share, weights=sizes.astype(float)).x
        first = np.concatenate([[True], np.diff(fitted) > 0])
        keep = first | np.concatenate([first[1:], [True]])  # both ends of each step
        knots.append(tuple(x[keep].tolist()))
        margin = 1 / (len(logits) + 2)
        values.append(tuple(np.clip(fitted[keep], margin, 1 - margin).tolist()))
    return Steps(knots=tuple(knots), values=tuple(values))


def choose(
    logits: Scores,
    targets: Scores,
    patient_ids: Sequence[str],
    *,
    methods: Sequence[Method] = METHODS,
    folds: int = 5,
    seed: int = 0,
) -> Choice:
    """Choose a way by cross-validated negative log-likelihood, patients kept together.

    The simplest way within one standard error of the best is taken (Breiman et al. 1984, the one-standard-error rule):
    isotonic regression fitted on few films overfits, and a difference within noise is no reason to prefer it.

    Args:
        logits: [n, k] out-of-fold logits.
        targets: [n, k] one-hot, NaN where unknown.
        patient_ids: n ids.
        methods: to choose from, in the order of :data:`METHODS`.
        folds: of the cross-validation.
        seed: of the folds.

    Returns:
        the choice; ``none`` with a reason where there are too few patients of a class.
    """
    used, classes = _known(logits, targets)
    k = logits.shape[1]
    known = ~np.isnan(targets).any(axis=1)
    owner = np.unique(np.asarray(patient_ids, dtype=str)[known], return_inverse=True)[1]
    fewest = min((len(np.unique(owner[classes == c])) for c in range(k)), default=0)
    if fewest < 2 * folds:
        reason = (
            f"A class has only {fewest} patients; choosing a calibration in {folds} folds needs {2 * folds} of each."
        )
        return Choice(method="none", nll={}, behind={}, error={}, folds=0, reason=reason)
    fold = _folds(owner, classes, folds, seed)
    losses: dict[Method, Array] = {method: np.empty(len(used)) for method in methods}
    truth = np.eye(k)[classes]
    for number in range(folds):
        held = fold[owner] == number
        for method in methods:
            probs = fit(method, used[~held], truth[~held]).probs(used[held])
            own = np.clip(probs[np.arange(int(held.sum())), classes[held]], SMALLEST, None)
            losses[method][held] = -np.log(own)
    nll = {method: float(values.mean()) for method, values in losses.items()}
    best = min(methods, key=lambda method: nll[method])
    behind: dict[Method, float] = {}
    error: dict[Method, float] = {}
    for method in methods:
        by_patient = np.bincount(owner, losses[method] - losses[best])
        behind[method] = float(by_patient.sum() / len(used))
        error[method] = float(by_patient.std(ddof=1) * math.sqrt(len(by_patient)) / len(used))
    method = next(m for m in methods if behind[m] <= error[m] or m == best)
    return Choice(method=method, nll=nll, behind=behind, error=error, folds=folds)


def _folds(owner: Indices, classes: Indices, folds: int, seed: int) -> Indices:
    """A fold for each patient, [p], even within each class (that of the patient's first film)."""
    first = np.zeros(int(owner.max()) + 1, dtype=np.int64)
    first[owner[::-1]] = classes[::-1]
    fold, rng = np.empty(len(first), dtype=np.int64), stream(seed, "calibration-folds")
    start = 0
    for c in np.unique(first):
        members = rng.permutation(np.flatnonzero(first == c))
        fold[members] = (start + np.arange(len(members))) % folds
        start += len(members)
    return fold


def cross_fitted(
    method: Method, logits: Scores, targets: Scores, patient_ids: Sequence[str], *, folds: int = 5, seed: int = 0
) -> Scores:
    """Calibrated probabilities of films by calibrators that were fitted on other patients, [n, k].

    Args:
        method: one of :data:`METHODS`.
        logits: [n, k].
        targets: [n, k] one-hot, all known.
        patient_ids: n ids.
        folds: of the cross-fitting.
        seed: of the folds.
    """
    _, classes = _known(logits, targets)
    owner = np.unique(np.asarray(patient_ids, dtype=str), return_inverse=True)[1]
    fold = _folds(owner, classes, folds, seed)
    probs: Scores = np.empty(logits.shape, dtype=np.float64)
    for number in range(folds):
        held = fold[owner] == number
        if held.any():
            probs[held] = fit(method, logits[~held], targets[~held]).probs(logits[held])
    return probs
