"""What miscalibration consists of: Brier's parts, slope and intercept, class by class, and after a local correction."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hilum.arrays import Array, Indices, Scores, Vector
from hilum.errors import DataError
from hilum.evaluation.calibration import Mass, bin_numbers, ece_of
from hilum.evaluation.calibrators import SMALLEST, Calibrator, Method, cross_fitted, fit, log_probs, logistic
from hilum.evaluation.estimates import NAN, Estimate, not_estimable
from hilum.evaluation.intervals import FEWEST_PATIENTS

ENOUGH_FOR_SLOPE = 100
"""Patients with and without a finding that a calibration slope or a recalibration needs to be of use.

Source: at least 100 events and 100 others, Vergouwe et al. 2005, J Clin Epidemiol 58:475,
doi:10.1016/j.jclinepi.2004.06.017, and Collins et al. 2016, Stat Med 35:214, doi:10.1002/sim.6787.
"""

ENOUGH_FOR_SHAPE = 200
"""Patients on each side that more than a temperature needs, since it fits a curve for each finding.

Source: Van Calster et al. 2016, J Clin Epidemiol 74:167, doi:10.1016/j.jclinepi.2015.12.005.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrierParts:
    """Brier score of one finding against the rest, in parts that add up to it exactly."""

    score: float
    """Mean squared distance of the probability from 0 or 1: reliability − resolution + uncertainty + within."""
    reliability: float
    """How far the bins' frequencies lie from their probabilities, ≥ 0, lower is better."""
    resolution: float
    """How far the bins' frequencies lie from the overall share, ≥ 0, higher is better."""
    uncertainty: float
    """Share × (1 − share): the score of always giving the overall share."""
    within: float
    """What the bins hide: spread of probabilities inside them, less how it goes with the truth."""
    bins: int
    """Bins, of equal mass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoxLine:
    """How probabilities relate to truth on the scale of log-odds."""

    slope: Estimate
    """1 is right; below 1 probabilities are too extreme, above 1 too mild."""
    intercept: Estimate
    """With the slope fixed to 1: above 0 the finding is commoner than the probabilities say, below 0 rarer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalibration:
    """Probabilities after a correction on films of the same place, each by a correction that other patients made."""

    method: Method
    """How."""
    patients: dict[str, int]
    """Patients of each finding that it rests on."""
    folds: int
    """Folds of the cross-fitting; 0 when it could not be done."""
    warnings: tuple[str, ...] = ()
    """Why the sample is too small for what is asked, or why there is no correction."""


def clopper_pearson(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a proportion; covers at least what it says, mostly more.

    Args:
        hits: successes.
        n: independent trials.
        level: nominal coverage.

    Returns:
        bounds in 0 … 1; NaN for n = 0.

    Source: Clopper and Pearson 1934, Biometrika 26:404, doi:10.1093/biomet/26.4.404.
    """
    from scipy.special import betaincinv

    if n <= 0:
        return NAN, NAN
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, n - hits + 1, tail))
    high = 1.0 if hits == n else float(betaincinv(hits + 1, n - hits, 1 - tail))
    return low, high


def classwise_ece(probs: Scores, classes: Indices, *, bins: int = 15, mass: Mass = "mass") -> float:
    """Mean over findings of each finding's calibration error (the most probable finding alone hides the others).

    Args:
        probs: [n, k], rows sum to 1.
        classes: [n] known classes.
        bins: for each finding.
        mass: equal mass (the default: most films have little probability of a rare finding) or equal width.

    Returns:
        0 … 1, biased upwards as any ECE is; NaN without a film.

    Source: Kull et al. 2019 (NeurIPS), arXiv:1910.12656.
    """
    if not len(classes):
        return NAN
    ones = np.ones((1, len(classes)))
    errors = [ece_of(probs[:, c], classes == c, ones, bins=bins, mass=mass)[0] for c in range(probs.shape[1])]
    return float(np.mean(errors))


def brier_parts(probs: Vector, positive: Array, *, bins: int = 10, mass: Mass = "mass") -> BrierParts:
    """Murphy's decomposition of the Brier score of one finding, with the two terms that binning leaves over.

    Args:
        probs: [n] probabilities of the finding.
        positive: [n] bool.
        bins: at most so many.
        mass: equal mass or equal width.

    Returns:
        the parts; all NaN without a film.

    Source: Murphy 1973, J Appl Meteorol 12:595; within-bin terms: Stephenson et al. 2008, Weather Forecast 23:752,
    doi:10.1175/2007WAF2006116.1.
    """
    if not len(probs):
        return BrierParts(score=NAN, reliability=NAN, resolution=NAN, uncertainty=NAN, within=NAN, bins=0)
    number, truth = bin_numbers(probs, bins, mass), np.asarray(positive, dtype=np.float64)
    used, number = np.unique(number, return_inverse=True)
    sizes = np.bincount(number)
    mean, share = np.bincount(number, probs) / sizes, np.bincount(number, truth) / sizes
    overall, n = float(truth.mean()), len(probs)
    apart = probs - mean[number]
    return BrierParts(
        score=float(((probs - truth) ** 2).mean()),
        reliability=float(sizes @ (mean - share) ** 2 / n),
        resolution=float(sizes @ (share - overall) ** 2 / n),
        uncertainty=overall * (1 - overall),
        within=float((apart**2).mean() - 2 * (apart * (truth - share[number])).mean()),
        bins=len(used),
    )


def cox_line(
    probs: Vector, positive: Array, patients: Sequence[str] | None = None, *, finding: str, level: float = 0.95
) -> CoxLine:
    """Calibration slope, and intercept at slope 1, with intervals that know of films of one patient.

    Standard errors are the sandwich's, summed by patient (Liang and Zeger 1986).

    Args:
        probs: [n] probabilities of the finding.
        positive: [n] bool.
        patients: n ids; None: each film is its own patient.
        finding: its name, for reasons.
        level: nominal coverage.

    Returns:
        both; NaN with a reason where a side has fewer than five patients, a film has no probability, or films are
        separated.

    Source: Cox 1958, Biometrika 45:562, doi:10.1093/biomet/45.3-4.562; reading: Van Calster et al. 2019, BMC Med
    17:230, doi:10.1186/s12916-019-1466-7.
    """
    n, ids = len(probs), np.asarray(range(len(probs)) if patients is None else patients)
    owner = np.unique(ids, return_inverse=True)[1] if n else np.zeros(0, dtype=np.int64)
    count = len(np.unique(owner))
    if reason := _why_no_line(probs, positive, owner, finding):
        return CoxLine(
            slope=not_estimable(reason, n=n, patients=count), intercept=not_estimable(reason, n=n, patients=count)
        )
    sure, truth = np.clip(probs, SMALLEST, 1 - SMALLEST), np.asarray(positive, dtype=np.float64)
    x = np.log(sure / (1 - sure))
    columns = np.column_stack([np.ones(n), x])
    slope, at_zero = logistic(x, truth)
    if math.isnan(slope):
        slope_found = not_estimable(f"The probabilities separate {finding} without one error.", n=n, patients=count)
    else:
        error = _sandwich(columns, columns @ [at_zero, slope], truth, owner)[1]
        slope_found = _normal(slope, error, n, count, level)
    shift = logistic(x, truth, slope=1.0)[1]
    error = _sandwich(columns[:, :1], x + shift, truth, owner)[0]
    return CoxLine(slope=slope_found, intercept=_normal(shift, error, n, count, level))


def _why_no_line(probs: Vector, positive: Array, owner: Indices, finding: str) -> str:
    missing = int(np.isnan(probs).sum())
    if missing:
        return f"{missing} of {len(probs)} films have no probability (NaN)."
    for side, word in ((positive, "with"), (~positive, "without")):
        count = len(np.unique(owner[side]))
        if count < FEWEST_PATIENTS:
            return f"Only {count} patients {word} {finding}; a calibration line needs at least {FEWEST_PATIENTS}."
    if np.ptp(probs) == 0:
        return "All films have the same probability, so no line can be drawn."
    return ""


def _sandwich(columns: Array, odds: Vector, truth: Vector, owner: Indices) -> Vector:
    """Standard errors of a logistic regression's coefficients, robust to films of one patient being alike."""
    mean = 1 / (1 + np.exp(-np.clip(odds, -700, 700)))
    bread = np.linalg.pinv(columns.T @ ((mean * (1 - mean))[:, None] * columns))
    scores = columns * (truth - mean)[:, None]
    summed = np.column_stack([np.bincount(owner, scores[:, i]) for i in range(columns.shape[1])])
    clusters = len(summed)
    meat = summed.T @ summed * clusters / max(1, clusters - 1)
    errors: Vector = np.sqrt(np.maximum(0, np.diag(bread @ meat @ bread)))
    return errors


def _normal(value: float, error: float, n: int, patients: int, level: float) -> Estimate:
    from scipy.special import ndtri

    half = float(ndtri((1 + level) / 2)) * float(error)
    return Estimate(
        value=float(value),
        low=float(value) - half,
        high=float(value) + half,
        n=n,
        patients=patients,
        method="sandwich by patient",
    )


def sample_words(patients: dict[str, int], total: int, method: Method) -> tuple[str, ...]:
    """Warnings where a local sample is too small to recalibrate on.

    Args:
        patients: patients of each finding.
        total: patients in all.
        method: how it is to be corrected.
    """
    need = ENOUGH_FOR_SLOPE if method in ("none", "temperature") else ENOUGH_FOR_SHAPE
    source = "Vergouwe 2005, Collins 2016" if need == ENOUGH_FOR_SLOPE else "Van Calster 2016"
    few = {name: min(count, total - count) for name, count in patients.items() if min(count, total - count) < need}
    if not few:
        return ()
    fewest = min(few, key=lambda name: few[name])
    return (
        f"The local sample is too small to rely on: {fewest} has {few[fewest]} patients on its smaller side, and "
        f"{'a temperature' if need == ENOUGH_FOR_SLOPE else method} needs about {need} with and {need} without each "
        f"finding ({source}).",
    )


def recalibrate(
    probs: Scores,
    targets: Scores,
    patient_ids: Sequence[str],
    findings: Sequence[str],
    *,
    method: Method = "temperature",
    folds: int = 5,
    seed: int = 0,
) -> tuple[Recalibration, Scores | None]:
    """Correct probabilities on a sample of the place where they are to be used, and say whether it suffices.

    Films are corrected by what other patients' films teach (cross-fitting), so that figures after the correction are
    not measured on the films that made it. :func:`local_calibrator` fits on all of them, for use.

    Args:
        probs: [n, k] as the model gives them.
        targets: [n, k] one-hot, all known.
        patient_ids: n ids.
        findings: k names.
        method: a temperature alone moves one number, so it is the default for small samples.
        folds: of the cross-fitting.
        seed: of the folds.

    Returns:
        what was done, and the corrected probabilities [n, k]; None where it could not be done.

    Raises:
        DataError: an unknown label, or shapes that disagree.
    """
    if targets.shape != probs.shape or len(patient_ids) != len(probs) or len(findings) != probs.shape[1]:
        raise DataError(
            f"Recalibration needs probabilities, targets and ids of the same films, but got {probs.shape}, "
            f"{targets.shape} and {len(patient_ids)} ids for {len(findings)} findings."
        )
    if np.isnan(targets).any():
        raise DataError("Recalibration needs films whose label is known. Leave the others out (Predictions.labelled).")
    ids = np.asarray(patient_ids, dtype=str)
    counts = {name: len(np.unique(ids[targets[:, c] == 1])) for c, name in enumerate(findings)}
    missing = int(np.isnan(probs).any(axis=1).sum())
    fewest = min(counts, key=lambda name: counts[name])
    why = ""
    if missing:
        why = f"{missing} of {len(probs)} films have no probability (NaN), so nothing was corrected."
    elif counts[fewest] < 2 * folds:
        why = (
            f"Only {counts[fewest]} patients show {fewest}; a correction in {folds} folds needs {2 * folds} of each "
            "finding, so nothing was corrected."
        )
    if why:
        return Recalibration(method=method, patients=counts, folds=0, warnings=(why,)), None
    corrected = cross_fitted(method, log_probs(probs), targets, list(patient_ids), folds=folds, seed=seed)
    words = sample_words(counts, len(np.unique(ids)), method)
    return Recalibration(method=method, patients=counts, folds=folds, warnings=words), corrected


def local_calibrator(probs: Scores, targets: Scores, *, method: Method = "temperature") -> Calibrator:
    """The correction fitted on all films of a local sample, for use; it takes :func:`log_probs` of probabilities."""
    return fit(method, log_probs(probs), targets)
