"""Two models on the same films: by how much their figures differ, with intervals by patient that know of the pairing.

Both are measured on the same resamples of patients, so what makes films hard for both cancels out: the interval of a
difference is narrower than two intervals side by side suggest.
"""

from collections.abc import Callable

import numpy as np

from hilum.arrays import Array, Indices
from hilum.errors import DataError
from hilum.evaluation.delong import AurocTest, delong_test
from hilum.evaluation.estimates import Estimate, not_estimable
from hilum.evaluation.intervals import FEWEST_PATIENTS, Cohort, Resampling, bootstrap, percentile_interval
from hilum.evaluation.metrics import balanced_accuracy, classes_of, confusion_matrix
from hilum.evaluation.ranks import Ranking
from hilum.predictions import Predictions

DIFFERENCES = ("macro_auroc", "balanced_accuracy")
"""Figures that are compared."""


def differences(first: Predictions, second: Predictions, settings: Resampling) -> dict[str, Estimate]:
    """First minus second, for each of :data:`DIFFERENCES`.

    Args:
        first: what one model said.
        second: what the other said of the same films, in the same order.
        settings: of the intervals.

    Returns:
        the difference and its percentile interval; NaN with a reason where a finding has no film or all films.

    Raises:
        DataError: other films, another order, or other findings.
    """
    _check_same(first, second)
    first, second = first.labelled, second.labelled
    classes = classes_of(first.targets, first.findings)
    patients = len(set(first.patient_ids))
    counts = np.bincount(classes, minlength=len(first.findings)) if len(classes) else np.zeros(len(first.findings))
    if not counts.all() or patients < FEWEST_PATIENTS:
        missing = ", ".join(name for name, count in zip(first.findings.names, counts, strict=True) if not count)
        why = f"No labelled film shows {missing}." if missing else f"Only {patients} patients are too few."
        return dict.fromkeys(DIFFERENCES, not_estimable(why, n=len(first), patients=patients))
    statistics = [_statistic(films, classes) for films in (first, second)]
    cohort, whole = Cohort.of(first.patient_ids, classes), np.ones((1, len(first)))
    samples = np.subtract(*[bootstrap(one, cohort, settings, name="differences") for one in statistics])
    values = np.subtract(*[one(whole)[0] for one in statistics])
    found = {}
    for column, name in enumerate(DIFFERENCES):
        low, high = percentile_interval(samples[:, column], settings.level)
        found[name] = Estimate(
            value=float(values[column]),
            low=low,
            high=high,
            n=len(first),
            patients=patients,
            method="paired bootstrap by patient",
            reason="Over 5 % of the resamples have no value." if np.isnan(low) else "",
        )
    return found


def _check_same(first: Predictions, second: Predictions) -> None:
    if first.film_ids != second.film_ids or first.findings != second.findings:
        raise DataError(
            f"Predictions of {len(first)} and {len(second)} films can't be compared film by film: films, their order "
            "and the findings must be the same. Predict the same manifest with both."
        )


def auroc_tests(first: Predictions, second: Predictions, *, level: float = 0.95) -> dict[str, AurocTest]:
    """DeLong's paired test of each finding's AUROC, with films of one patient counted as such.

    Args:
        first: what one model said.
        second: what the other said of the same films, in the same order.
        level: nominal coverage of the differences' intervals.

    Returns:
        one test a finding; several findings are several tests, so correct p for their number.

    Raises:
        DataError: other films, another order, or other findings.
    """
    _check_same(first, second)
    first, second = first.labelled, second.labelled
    classes = classes_of(first.targets, first.findings)
    return {
        name: delong_test(
            first.probs[:, c], second.probs[:, c], classes == c, first.patient_ids, finding=name, level=level
        )
        for c, name in enumerate(first.findings.names)
    }


def _statistic(films: Predictions, classes: Indices) -> Callable[[Array], Array]:
    """Both figures of weighted films, [r, 2]."""
    k, predicted = len(films.findings), films.probs.argmax(axis=1)
    rankings = [Ranking.of(films.probs[:, column], classes == column) for column in range(k)]

    def statistic(weights: Array) -> Array:
        auroc = np.mean([ranking.auroc(weights) for ranking in rankings], axis=0)
        confusion = confusion_matrix(classes, predicted, k, weights).reshape(-1, k, k)
        return np.column_stack([auroc, balanced_accuracy(confusion)])

    return statistic
