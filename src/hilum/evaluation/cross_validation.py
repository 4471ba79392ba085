"""Cross-validation by patient: folds, nested folds, and the interval that fits what is asked.

Two questions, two intervals. *What do these out-of-fold predictions show?* Pool them and resample patients
(:func:`~hilum.evaluation.scorecard.score`): the interval speaks of new patients and of these fitted networks. *What
would the recipe give when trained anew?* Take the mean over folds; its error must know that training sets overlap, for
which the naive standard error over folds is too small (:func:`fold_interval`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hilum.arrays import Array, Indices
from hilum.errors import DataError
from hilum.evaluation.estimates import Estimate, not_estimable
from hilum.evaluation.metrics import classes_of
from hilum.evaluation.paired import Difference
from hilum.evaluation.ranks import auroc, why_no_ranking
from hilum.predictions import Predictions
from hilum.randomness import stream


@dataclass(frozen=True, slots=True)
class Fold:
    """One division of rows into films to fit and films to test.

    Attributes:
        repeat: number of the repetition, from 0.
        number: number of the fold in it, from 0.
        fit: rows to fit on.
        test: rows to test on; their patients have no film in ``fit``.
    """

    repeat: int
    number: int
    fit: Indices
    test: Indices


def patient_folds(patient_ids: Sequence[str], classes: Indices, *, folds: int = 5, seed: int = 0) -> Indices:
    """A fold for each film, [n] in 0 … folds − 1: whole patients, each class spread evenly.

    Args:
        patient_ids: n ids.
        classes: [n] known classes; a patient's rarest one decides where it goes.
        folds: how many.
        seed: of the draw.

    Raises:
        DataError: fewer than two folds, or fewer patients than folds.
    """
    ids, owner = np.unique(np.asarray(patient_ids, dtype=str), return_inverse=True)
    if folds < 2 or len(ids) < folds:
        raise DataError(f"{len(ids)} patients can't be divided into {folds} folds. Use 2 folds or more, and no more.")
    sizes = np.bincount(classes)
    kind = np.zeros(len(ids), dtype=np.int64)
    for c in np.argsort(-sizes, kind="stable"):  # the rarest last, so that it decides
        kind[owner[classes == c]] = c
    rng, fold, start = stream(seed, "patient-folds"), np.empty(len(ids), dtype=np.int64), 0
    for c in np.unique(kind):
        members = rng.permutation(np.flatnonzero(kind == c))
        fold[members] = (start + np.arange(len(members))) % folds
        start += len(members)
    return fold[owner]


def cross_validation(
    patient_ids: Sequence[str], classes: Indices, *, folds: int = 5, repeats: int = 1, seed: int = 0
) -> Iterator[Fold]:
    """Folds of each repetition; arguments as for :func:`patient_folds`, another draw each time."""
    for repeat in range(repeats):
        number = patient_folds(patient_ids, classes, folds=folds, seed=seed + repeat)
        for i in range(folds):
            yield Fold(repeat, i, np.flatnonzero(number != i), np.flatnonzero(number == i))


def nested(
    patient_ids: Sequence[str],
    classes: Indices,
    *,
    outer: int = 5,
    inner: int = 4,
    repeats: int = 1,
    seed: int = 0,
) -> Iterator[tuple[Fold, tuple[Fold, ...]]]:
    """Each outer fold with the inner folds of its fit part, for choosing anything without seeing the outer test films.

    Inner rows are rows of the whole table. Source: Varma and Simon 2006, BMC Bioinformatics 7:91,
    doi:10.1186/1471-2105-7-91: what chooses and tests on the same folds flatters itself.
    """
    ids = np.asarray(patient_ids, dtype=str)
    for fold in cross_validation(patient_ids, classes, folds=outer, repeats=repeats, seed=seed):
        inside = cross_validation(
            ids[fold.fit].tolist(),
            classes[fold.fit],
            folds=inner,
            seed=seed + 7919 * (fold.repeat * outer + fold.number + 1),
        )
        yield fold, tuple(Fold(fold.repeat, one.number, fold.fit[one.fit], fold.fit[one.test]) for one in inside)


def fold_interval(
    values: Sequence[float], *, fit: float, test: float, level: float = 0.95, corrected: bool = True
) -> Difference:
    """Mean over folds (and repetitions) with the interval of what the recipe would give when trained anew.

    The variance of the mean is the variance over folds times (1/J + test/fit): the second term stands for training sets
    that overlap, which no number of repetitions takes away. Give differences of two recipes fold by fold to compare
    them.

    Args:
        values: J figures, one a fold and repetition.
        fit: films (or patients) that a fold is fitted on, on average.
        test: those it is tested on.
        level: nominal coverage.
        corrected: False for the naive interval, which is too narrow and only serves to show by how much.

    Returns:
        mean and interval; NaN bounds for a single value.

    Raises:
        DataError: no value, a value that is NaN, or sizes that are not positive.

    Source: Nadeau and Bengio 2003, Mach Learn 52:239, doi:10.1023/A:1024068626366; for repeated folds Bouckaert and
    Frank 2004 (PAKDD), doi:10.1007/978-3-540-24775-3_3. No estimator of this variance is unbiased (Bengio and
    Grandvalet 2004, JMLR 5:1089).
    """
    from scipy.stats import t

    found = np.asarray(values, dtype=np.float64)
    if not len(found) or np.isnan(found).any():
        raise DataError(f"{int(np.isnan(found).sum())} of {len(found)} folds have no figure. Use fewer folds.")
    if not (fit > 0 and test > 0):
        raise DataError(f"A fold of {fit:g} fitted and {test:g} tested films makes no interval.")
    count, mean = len(found), float(found.mean())
    if count == 1:
        return Difference(mean=mean, low=math.nan, high=math.nan, pairs=1)
    share = 1 / count + (test / fit if corrected else 0.0)
    half = float(t.ppf((1 + level) / 2, count - 1)) * math.sqrt(share * float(found.var(ddof=1)))
    return Difference(mean=mean, low=mean - half, high=mean + half, pairs=count)


def fold_aurocs(films: Predictions, fold: Indices, finding: str) -> tuple[Array, str]:
    """AUROC of a finding in each fold of out-of-fold predictions.

    Args:
        films: labelled films.
        fold: [n] number of the fold whose network answered each film.
        finding: name.

    Returns:
        [folds] values, NaN where a fold lacks a side, and why the first of those is NaN; empty when none is.
    """
    column = films.findings.index(finding)
    positive = classes_of(films.targets, films.findings) == column
    numbers, values, why = np.unique(fold), [], ""
    for number in numbers:
        rows = fold == number
        reason = why_no_ranking(films.probs[rows, column], positive[rows], finding)
        why = why or (f"Fold {number}: {reason}" if reason else "")
        values.append(auroc(films.probs[rows, column], positive[rows]))
    return np.asarray(values), why


def across_folds(films: Predictions, fold: Indices, finding: str, *, level: float = 0.95) -> Estimate:
    """Mean AUROC over folds with the corrected interval; see :func:`fold_interval`.

    A pooled AUROC ranks films that different networks answered, so it falls where their scores are not on one scale;
    the mean over folds does not, and speaks of the recipe.

    Returns:
        the estimate; NaN with a reason where a fold lacks a side.
    """
    values, why = fold_aurocs(films, fold, finding)
    n, patients = len(films), len(set(films.patient_ids))
    if why:
        return not_estimable(why, n=n, patients=patients)
    test = n / len(values)
    found = fold_interval(values.tolist(), fit=n - test, test=test, level=level)
    return Estimate(
        value=found.mean,
        low=max(0.0, found.low),
        high=min(1.0, found.high),
        n=n,
        patients=patients,
        method="Nadeau–Bengio over folds",
    )
