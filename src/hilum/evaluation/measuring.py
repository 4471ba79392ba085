"""All metrics of one set of films with their intervals, from one resampling that they share."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hilum.arrays import Array, Indices
from hilum.evaluation import calibration as cal
from hilum.evaluation import metrics
from hilum.evaluation.estimates import Estimate, not_estimable
from hilum.evaluation.intervals import (
    FEWEST_PATIENTS,
    Cohort,
    Resampled,
    Resampling,
    basic_interval,
    percentile_interval,
)
from hilum.evaluation.ranks import Descent, why_no_ranking
from hilum.predictions import Predictions

PER_FINDING = ("auroc", "auprc", *metrics.RATES, "mcc")
OVERALL = (
    *("macro_auroc", "accuracy", "balanced_accuracy", "macro_f1"),
    *("macro_auprc", "macro_specificity", "macro_precision", "macro_npv", "kappa", "mcc_over_findings"),
)
MEANS = {
    "macro_auroc": "auroc",
    "balanced_accuracy": "sensitivity",
    "macro_f1": "f1",
    "macro_auprc": "auprc",
    "macro_specificity": "specificity",
    "macro_precision": "precision",
    "macro_npv": "npv",
}
"""Figures that are means over findings, and of what: no value where one finding has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Figures by metric, and how much they rest on."""

    figures: dict[str, Any]
    """For each of :data:`PER_FINDING` a dict of estimates by finding; for each of :data:`OVERALL` one estimate."""
    class_films: dict[str, int]
    """Films by finding."""
    class_patients: dict[str, int]
    """Patients by finding."""

    def fields(self) -> dict[str, Any]:
        """All of it as fields of a scorecard."""
        return {"class_films": self.class_films, "class_patients": self.class_patients, **self.figures}


def measure(films: Predictions, classes: Indices, settings: Resampling) -> Measured:
    """Measure decisions and rankings.

    Args:
        films: labelled films.
        classes: [n] their classes.
        settings: of the intervals.

    Returns:
        every figure; NaN with a reason where it can't be computed.
    """
    names, ids = films.findings.names, np.asarray(films.patient_ids, dtype=str)
    class_films = {name: int((classes == c).sum()) for c, name in enumerate(names)}
    class_patients = {name: len(np.unique(ids[classes == c])) for c, name in enumerate(names)}
    missing = int(np.isnan(films.probs).any(axis=1).sum())
    if not len(films) or missing:
        reason = f"{missing} of {len(films)} films have no score (NaN)." if missing else "There is no labelled film."
        nothing = not_estimable(reason, n=len(films), patients=len(set(films.patient_ids)))
        per_finding = {metric: dict.fromkeys(names, nothing) for metric in PER_FINDING}
        overall = dict.fromkeys(OVERALL, nothing)
    else:
        per_finding, overall = _measured(films, classes, settings)
    return Measured(figures={**per_finding, **overall}, class_films=class_films, class_patients=class_patients)


def _measured(
    films: Predictions, classes: Indices, settings: Resampling
) -> tuple[dict[str, dict[str, Estimate]], dict[str, Estimate]]:
    cohort, names, k = Cohort.of(films.patient_ids, classes), films.findings.names, len(films.findings)
    predicted = films.probs.argmax(axis=1)
    made = Resampled.of(_statistic(films, classes, predicted), cohort, settings, name="scorecard")
    per_finding: dict[str, dict[str, Estimate]] = {metric: {} for metric in PER_FINDING}
    whole = metrics.confusion_matrix(classes, predicted, k)
    for c, name in enumerate(names):
        positive = classes == c
        sides = (cohort.count(positive), cohort.count(~positive))
        reason = why_no_ranking(films.probs[:, c], positive, name)
        for i, metric in enumerate(("auroc", "auprc")):
            per_finding[metric][name] = made.ranked(i * k + c, n=len(films), sides=sides, finding=name, reason=reason)
        matrix = metrics.one_vs_rest(whole, c)
        among = {
            "sensitivity": positive,
            "specificity": ~positive,
            "precision": predicted == c,
            "npv": predicted != c,
            "f1": positive | (predicted == c),
        }
        for i, metric in enumerate(metrics.RATES, start=2):
            n, patients = int(among[metric].sum()), cohort.count(among[metric])
            why = metrics.why_not(metric, name, matrix)
            per_finding[metric][name] = made.proportion(i * k + c, n=n, patients=patients, reason=why)
        why = metrics.why_not("mcc", name, matrix)
        last = PER_FINDING.index("mcc") * k + c
        per_finding["mcc"][name] = made.signed(last, n=len(films), patients=cohort.patients, reason=why)
    overall = {
        metric: _over_findings(metric, made, len(PER_FINDING) * k + i, cohort, per_finding)
        for i, metric in enumerate(OVERALL)
    }
    return per_finding, overall


def _statistic(films: Predictions, classes: Indices, predicted: Indices) -> Callable[[Array], Array]:
    """All metrics of weighted films as one row: each of PER_FINDING for each finding, then OVERALL."""
    k, n = len(films.findings), len(films)
    sides = [classes == c for c in range(k)]
    rankable = [bool(side.any() and not side.all()) for side in sides]
    descents = [Descent.of(films.probs[:, c], sides[c]) if rankable[c] else None for c in range(k)]
    cells = np.zeros((n, k * k))
    cells[np.arange(n), classes * k + predicted] = 1.0

    def statistic(weights: Array) -> Array:
        nothing = np.full(len(weights), np.nan)
        areas = [descent.areas(weights) if descent else (nothing, nothing) for descent in descents]
        confusion = (weights @ cells).reshape(-1, k, k)
        columns = {
            "auroc": np.column_stack([area for area, _ in areas]),
            "auprc": np.column_stack([area for _, area in areas]),
            **metrics.rates(confusion),
            "mcc": metrics.mcc(confusion),
        }
        overall = {metric: columns[part].mean(axis=1) for metric, part in MEANS.items()}
        overall |= {"accuracy": metrics.accuracy(confusion), "kappa": metrics.kappa(confusion)}
        overall["mcc_over_findings"] = metrics.multiclass_mcc(confusion)
        return np.column_stack([*(columns[m] for m in PER_FINDING), *(overall[m] for m in OVERALL)])

    return statistic if n else lambda weights: np.empty((len(weights), 0))


def _over_findings(
    metric: str, made: Resampled, column: int, cohort: Cohort, per_finding: dict[str, dict[str, Estimate]]
) -> Estimate:
    n = len(cohort.patient)
    if metric in MEANS:
        missing = [name for name, part in per_finding[MEANS[metric]].items() if not part.estimable]
        if missing:
            reason = f"It is a mean over all findings, and {', '.join(missing)} can't be measured."
            return not_estimable(reason, n=n, patients=cohort.patients)
    if metric in ("macro_auroc", "macro_auprc"):
        smallest = min(cohort.count(cohort.stratum[cohort.patient] == s) for s in np.unique(cohort.stratum))
        sides = (max(smallest, FEWEST_PATIENTS), cohort.patients)
        return made.ranked(column, n=n, sides=sides, finding="each finding")
    if metric in ("kappa", "mcc_over_findings"):
        reason = "Only one finding is true or answered, so agreement beyond chance has no meaning."
        return made.signed(column, n=n, patients=cohort.patients, reason=reason)
    return made.proportion(column, n=n, patients=cohort.patients, reason="No labelled film.")


def measure_calibration(
    films: Predictions, probs: Array, classes: Indices, settings: Resampling, bins: int
) -> dict[str, Estimate]:
    """NLL, Brier and ECE (equal width, equal mass, mean over findings) of given probabilities.

    The interval of ECE is the reflected one: resampling adds to its upward bias, and the percentile interval may
    leave out the value itself.

    Args:
        films: labelled films, for their patients.
        probs: [n, k] before or after calibration.
        classes: [n] classes of the films.
        settings: of the intervals.
        bins: of the ECE.
    """
    names = ("nll", "brier", "ece", "ece_mass", "classwise_ece")
    n, patients, k = len(films), len(set(films.patient_ids)), len(films.findings)
    missing = int(np.isnan(probs).any(axis=1).sum())
    if not n or missing:
        reason = f"{missing} of {n} films have no score (NaN)." if missing else "There is no labelled film."
        return dict.fromkeys(names, not_estimable(reason, n=n, patients=patients))
    confidence, hits = probs.max(axis=1), probs.argmax(axis=1) == classes
    own = np.clip(probs[np.arange(n), classes], 1e-300, None)
    gaps = [cal.calibration_gaps(confidence, hits, bins=bins, mass=mass) for mass in ("width", "mass")]
    gaps += [cal.calibration_gaps(probs[:, c], classes == c, bins=bins, mass="mass") for c in range(k)]
    columns = np.column_stack([np.ones(n), -np.log(own), cal.brier_of_films(probs, classes), *gaps])

    def finish(sums: Array) -> Array:
        means = sums / sums[:, :1]
        eces = np.abs(means[:, 3:]).reshape(len(sums), 2 + k, bins).sum(axis=2)
        return np.column_stack([means[:, 1:3], eces[:, :2], eces[:, 2:].mean(axis=1)])

    made = {}
    found = Resampled.of_sums(
        columns,
        finish,
        Cohort.of(films.patient_ids, classes),
        replace(settings, method="percentile"),
        name="calibration",
    )
    for column, name in enumerate(names):
        value, samples = float(found.values[column]), found.samples[:, column]
        reflected = "ece" in name
        if reflected:
            low, high = basic_interval(value, samples, settings.level)
        else:
            low, high = percentile_interval(samples, settings.level)
        few = patients < FEWEST_PATIENTS
        made[name] = Estimate(
            value=value,
            low=math.nan if few else low,
            high=math.nan if few else high,
            n=n,
            patients=patients,
            method="reflected bootstrap by patient" if reflected else "bootstrap by patient",
            reason=f"Only {patients} patients are too few for an interval." if few else "",
        )
    return made
