"""Metrics of decisions: what follows from a confusion matrix, for one weighting of the films or for many at once.

Every function takes optional weights [r, n]: how often each film counts in each of r resamples. That is what makes the
bootstrap cheap: a resample is a row of counts, never a copy of the data. NaN stands for a metric that can't be
computed; :func:`why_not` says why.
"""

import numpy as np

from hilum.arrays import Array, Indices, Scores
from hilum.errors import DataError
from hilum.labels import Findings

RATES = ("sensitivity", "specificity", "precision", "npv", "f1")
"""Per-class metrics of :func:`rates`, in the order that reports show them."""

PREVALENCES = (0.01, 0.05, 0.10, 0.30)
"""Shares of a finding at which predictive values are stated: screening, a ward, and a clinic for suspected cases."""


def classes_of(targets: Scores, findings: Findings) -> Indices:
    """The class of each film.

    Args:
        targets: [n, k] one-hot; NaN where the label is unknown.
        findings: the k findings, for messages.

    Returns:
        int64 [n]: column of the finding, −1 where the label is unknown (any NaN in the row).

    Raises:
        DataError: a known label is not one-hot (a value other than 0 and 1, none or several ones).
    """
    if targets.ndim != 2 or targets.shape[1] != len(findings):
        raise DataError(f"Targets must be [n, {len(findings)}] for {len(findings)} findings, but are {targets.shape}.")
    known = ~np.isnan(targets).any(axis=1)
    strange = known & ~np.isin(targets, (0.0, 1.0)).all(axis=1)
    if strange.any():
        row = int(np.flatnonzero(strange)[0])
        raise DataError(
            f"Targets of row {row} are {targets[row].tolist()}, but a label is 0, 1 or NaN (unknown). "
            f"Make them with Findings.targets; {int(strange.sum())} rows are wrong."
        )
    several = known & (np.where(known[:, None], targets, 0).sum(axis=1) != 1)
    if several.any():
        row = int(np.flatnonzero(several)[0])
        raise DataError(
            f"Targets of row {row} are {targets[row].tolist()}, but a film has exactly one of {list(findings.names)}. "
            f"Correct the labels; {int(several.sum())} rows are wrong."
        )
    return np.where(known, np.argmax(np.where(known[:, None], targets, 0), axis=1), -1).astype(np.int64)


def confusion_matrix(true: Indices, predicted: Indices, k: int, weights: Array | None = None) -> Array:
    """Count films by their true class (rows) and the answered class (columns).

    Args:
        true: [n] classes in 0 … k − 1; −1 (unknown) is left out.
        predicted: [n] classes in 0 … k − 1.
        k: number of findings.
        weights: [r, n] counts of resamples, or None for one matrix of the films as they are.

    Returns:
        [k, k] integers, or [r, k, k] floats with weights.

    Raises:
        DataError: a class outside its range.
    """
    for name, values, lowest in (("true", true, -1), ("predicted", predicted, 0)):
        outside = (values < lowest) | (values >= k)
        if outside.any():
            row = int(np.flatnonzero(outside)[0])
            raise DataError(
                f"The {name} class of row {row} is {int(values[row])}, but {k} findings have classes 0 … {k - 1}."
            )
    known = true >= 0
    cell = true[known] * k + predicted[known]
    if weights is None:
        return np.bincount(cell, minlength=k * k).reshape(k, k)
    one_hot = np.zeros((len(cell), k * k))
    one_hot[np.arange(len(cell)), cell] = 1.0
    matrices: Array = (weights[:, known] @ one_hot).reshape(-1, k, k)
    return matrices


def _ratio(numerator: Array, denominator: Array) -> Array:
    """A ratio that is NaN where there is nothing to divide by."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)


def rates(confusion: Array) -> dict[str, Array]:
    """Per-class metrics, one-vs-rest.

    Args:
        confusion: [..., k, k] as from :func:`confusion_matrix`.

    Returns:
        for each of :data:`RATES` an array [..., k] in 0 … 1; NaN where there is nothing to divide by. F1 of a class
        without a film is NaN, not 0.
    """
    matrix = np.asarray(confusion, dtype=np.float64)
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    positives, answered = matrix.sum(axis=-1), matrix.sum(axis=-2)
    total = matrix.sum(axis=(-2, -1))[..., None]
    rejected = total - positives - answered + hits
    return {
        "sensitivity": _ratio(hits, positives),
        "specificity": _ratio(rejected, total - positives),
        "precision": _ratio(hits, answered),
        "npv": _ratio(rejected, total - answered),
        "f1": np.where(positives > 0, _ratio(2 * hits, positives + answered), np.nan),
    }


def accuracy(confusion: Array) -> Array:
    """Share of films answered right, [...] in 0 … 1; NaN without a film."""
    matrix = np.asarray(confusion, dtype=np.float64)
    return _ratio(np.diagonal(matrix, axis1=-2, axis2=-1).sum(axis=-1), matrix.sum(axis=(-2, -1)))


def balanced_accuracy(confusion: Array) -> Array:
    """Mean sensitivity over all classes, [...] in 0 … 1; NaN when a class has no film."""
    means: Array = rates(confusion)["sensitivity"].mean(axis=-1)
    return means


def macro_f1(confusion: Array) -> Array:
    """Mean F1 over all classes, [...] in 0 … 1; NaN when a class has no film."""
    means: Array = rates(confusion)["f1"].mean(axis=-1)
    return means


def mcc(confusion: Array) -> Array:
    """Matthews' correlation of each class against the rest.

    Args:
        confusion: [..., k, k] as from :func:`confusion_matrix`.

    Returns:
        [..., k] in −1 … 1, 0 is chance; NaN where a class has all films or none, or is answered always or never (its
        correlation has no denominator; some libraries print 0 there).

    Source: Matthews 1975, Biochim Biophys Acta 405:442, doi:10.1016/0005-2795(75)90109-9.
    """
    matrix = np.asarray(confusion, dtype=np.float64)
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    positives, answered = matrix.sum(axis=-1), matrix.sum(axis=-2)
    total = matrix.sum(axis=(-2, -1))[..., None]
    spread = positives * (total - positives) * answered * (total - answered)
    return _ratio(hits * total - positives * answered, np.sqrt(spread))


def multiclass_mcc(confusion: Array) -> Array:
    """Matthews' correlation over all classes (R_K), [...] in about −1 … 1; NaN when only one class is true or answered.

    Source: Gorodkin 2004, Comput Biol Chem 28:367, doi:10.1016/j.compbiolchem.2004.09.006.
    """
    matrix = np.asarray(confusion, dtype=np.float64)
    positives, answered, total = matrix.sum(axis=-1), matrix.sum(axis=-2), matrix.sum(axis=(-2, -1))
    right = np.diagonal(matrix, axis1=-2, axis2=-1).sum(axis=-1)
    spread = (total**2 - (positives**2).sum(axis=-1)) * (total**2 - (answered**2).sum(axis=-1))
    return _ratio(right * total - (positives * answered).sum(axis=-1), np.sqrt(np.maximum(spread, 0)))


def kappa(confusion: Array) -> Array:
    """Cohen's kappa: agreement of answers and truth beyond what their shares give by chance.

    Returns:
        [...], 1 is perfect, 0 is chance; NaN where chance already agrees always (one class is true and answered).

    Source: Cohen 1960, Educ Psychol Meas 20:37, doi:10.1177/001316446002000104.
    """
    matrix = np.asarray(confusion, dtype=np.float64)
    total = matrix.sum(axis=(-2, -1))
    right = np.diagonal(matrix, axis1=-2, axis2=-1).sum(axis=-1)
    by_chance = (matrix.sum(axis=-1) * matrix.sum(axis=-2)).sum(axis=-1)
    return _ratio(right * total - by_chance, total**2 - by_chance)


def macro(metric: str, confusion: Array) -> Array:
    """Mean of one of :data:`RATES` over all classes, [...] in 0 … 1; NaN when a class has no value."""
    means: Array = rates(confusion)[metric].mean(axis=-1)
    return means


def predictive_values_at(sensitivity: Array, specificity: Array, prevalence: float) -> tuple[Array, Array]:
    """Predictive values where a finding has another share than in the films that were tested (Bayes' rule).

    They hold if sensitivity and specificity carry over, which another mix of cases doesn't promise.

    Args:
        sensitivity: any shape, 0 … 1.
        specificity: the same shape.
        prevalence: share of the finding, strictly between 0 and 1.

    Returns:
        positive and negative predictive value; NaN where nothing would be called positive, or negative.

    Raises:
        DataError: a prevalence of 0, 1 or outside.

    Source: Vecchio 1966, N Engl J Med 274:1171, doi:10.1056/NEJM196605262742104.
    """
    if not 0 < prevalence < 1:
        raise DataError(f"The prevalence is {prevalence:g}, but must lie between 0 and 1, such as 0.05.")
    found = np.asarray(sensitivity, dtype=np.float64) * prevalence
    cleared = np.asarray(specificity, dtype=np.float64) * (1 - prevalence)
    return _ratio(found, found + (1 - prevalence - cleared)), _ratio(cleared, cleared + (prevalence - found))


def why_not(metric: str, finding: str, confusion: Array) -> str:
    """Why a metric of :data:`RATES` is NaN for a class; empty when it is not.

    Args:
        metric: one of :data:`RATES`, or ``mcc``.
        finding: the class's name, for the sentence.
        confusion: [2, 2] one-vs-rest counts: rows with and without the finding, columns answered and not.
    """
    with_it, without_it = int(confusion[0].sum()), int(confusion[1].sum())
    answered, not_answered = int(confusion[:, 0].sum()), int(confusion[:, 1].sum())
    if metric in ("sensitivity", "f1", "mcc") and with_it == 0:
        return f"No labelled film shows {finding}."
    if metric in ("specificity", "mcc") and without_it == 0:
        return f"Every labelled film shows {finding}."
    if metric in ("precision", "mcc") and answered == 0:
        return f"The model never answers {finding}."
    if metric in ("npv", "mcc") and not_answered == 0:
        return f"The model always answers {finding}."
    return ""


def one_vs_rest(confusion: Array, column: int) -> Array:
    """The [2, 2] matrix of one class: rows with and without it, columns answered and not."""
    hits = confusion[column, column]
    missed, falsely = confusion[column].sum() - hits, confusion[:, column].sum() - hits
    return np.array([[hits, missed], [falsely, confusion.sum() - hits - missed - falsely]])
