"""Folds keep patients together, nested ones never see the outer test films, and the corrected interval covers."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from hilum.errors import DataError
from hilum.evaluation.cross_validation import (
    across_folds,
    cross_validation,
    fold_aurocs,
    fold_interval,
    nested,
    patient_folds,
)
from hilum.evaluation.ranks import auroc
from hilum.predictions import Predictions
from hilum.randomness import stream

IDS = [f"p{i // 3}" for i in range(180)]
CLASSES = np.repeat(np.arange(60) % 3, 3)


def test_folds_keep_patients_together_and_classes_even() -> None:
    fold = patient_folds(IDS, CLASSES, folds=5)
    for patient in set(IDS):
        assert len(set(fold[np.array(IDS) == patient])) == 1
    for c in range(3):
        assert np.bincount(fold[c == CLASSES], minlength=5).tolist() == [12] * 5


def test_a_patient_of_two_classes_goes_with_the_rarer_one() -> None:
    ids = [f"p{i}" for i in range(40)] + ["p0", "p1", "p2", "p3"]
    classes = np.array([0] * 40 + [1] * 4)
    fold = patient_folds(ids, classes, folds=4)
    assert sorted(fold[40:]) == [0, 1, 2, 3]
    assert fold[:4].tolist() == fold[40:].tolist()


def test_every_film_is_tested_once_a_repetition_and_repetitions_differ() -> None:
    made = list(cross_validation(IDS, CLASSES, folds=4, repeats=2, seed=3))
    for repeat in range(2):
        tested = np.concatenate([one.test for one in made if one.repeat == repeat])
        assert sorted(tested) == list(range(180))
    assert not np.array_equal(made[0].test, made[4].test)
    for one in made:
        assert not {IDS[i] for i in one.fit} & {IDS[i] for i in one.test}
        assert len(one.fit) + len(one.test) == 180


def test_inner_folds_never_see_the_outer_test_films() -> None:
    made = list(nested(IDS, CLASSES, outer=3, inner=4, repeats=2))
    assert len(made) == 6
    for outer, inside in made:
        held = {IDS[i] for i in outer.test}
        assert sorted(np.concatenate([one.test for one in inside])) == outer.fit.tolist()
        for one in inside:
            fit, test = {IDS[i] for i in one.fit}, {IDS[i] for i in one.test}
            assert not (fit | test) & held
            assert not fit & test


def test_the_corrected_interval_by_hand() -> None:
    values = [0.80, 0.84, 0.82, 0.86, 0.78]
    found = fold_interval(values, fit=80, test=20)
    half = stats.t.ppf(0.975, 4) * math.sqrt((1 / 5 + 20 / 80) * np.var(values, ddof=1))
    assert (found.mean, found.low, found.high) == pytest.approx((0.82, 0.82 - half, 0.82 + half))
    naive = fold_interval(values, fit=80, test=20, corrected=False)
    assert (found.high - found.low) / (naive.high - naive.low) == pytest.approx(1.5)
    assert math.isnan(fold_interval([0.8], fit=80, test=20).low)


def test_the_corrected_interval_covers_what_the_naive_one_misses() -> None:
    """Repeated random subsampling of one data set, estimating its classifier's error on the population.

    The classifier is a threshold at the mean of the two class means; its true error is known for every data set.
    """
    rng, covered = stream(0, "nadeau-bengio"), {True: 0, False: 0}
    truth = _expected_error(rng, 40)
    for _ in range(200):
        x, y = _cohort(rng, 50)
        errors = []
        for _ in range(15):
            order = rng.permutation(50)
            errors.append(_error(x[order[:40]], y[order[:40]], x[order[40:]], y[order[40:]]))
        for corrected in covered:
            found = fold_interval(errors, fit=40, test=10, level=0.9, corrected=corrected)
            covered[corrected] += found.low <= truth <= found.high
    assert covered[True] / 200 > 0.83
    assert covered[False] / 200 < 0.75


def _cohort(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(n) % 2
    return rng.normal(size=n) + 1.5 * y, y


def _error(x: np.ndarray, y: np.ndarray, new: np.ndarray, truth: np.ndarray) -> float:
    cut = (x[y == 0].mean() + x[y == 1].mean()) / 2
    return float(((new > cut) != truth).mean())


def _expected_error(rng: np.random.Generator, n: int) -> float:
    x, y = _cohort(rng, 20_000)
    return float(np.mean([_error(*_cohort(rng, n), x, y) for _ in range(100)]))


def test_the_mean_over_folds_is_that_of_the_folds(make: Callable[..., Predictions]) -> None:
    films = make(240)
    fold = patient_folds(films.patient_ids, films.targets.argmax(axis=1))
    positive = films.targets[:, 2] == 1
    expected = [auroc(films.probs[fold == i, 2], positive[fold == i]) for i in range(5)]
    found = across_folds(films, fold, "covid-19")
    assert found.value == pytest.approx(np.mean(expected))
    assert 0.5 < found.low < found.value < found.high <= 1
    assert (found.n, found.patients, found.method) == (240, 120, "Nadeau–Bengio over folds")
    np.testing.assert_allclose(fold_aurocs(films, fold, "covid-19")[0], expected)


def test_scores_on_other_scales_hurt_the_pooled_figure_alone(make: Callable[..., Predictions]) -> None:
    """Each fold's network has its own offset: within a fold the order is as before."""
    films = make(300, per_patient=1)
    fold = patient_folds(films.patient_ids, films.targets.argmax(axis=1))
    positive, scores = films.targets[:, 2] == 1, films.probs[:, 2] + 3.0 * fold
    pooled = auroc(scores, positive)
    within = np.mean([auroc(scores[fold == i], positive[fold == i]) for i in range(5)])
    assert pooled < 0.7 < across_folds(films, fold, "covid-19").value
    assert within == pytest.approx(across_folds(films, fold, "covid-19").value)


def test_a_fold_without_a_side_says_so(make: Callable[..., Predictions]) -> None:
    films = make(60)
    fold = films.targets.argmax(axis=1)
    assert across_folds(films, fold, "covid-19").reason == "Fold 0: No labelled film shows covid-19."


def test_what_can_not_be_divided_is_refused() -> None:
    with pytest.raises(DataError, match="2 patients can't be divided into 3 folds"):
        patient_folds(["a", "b"], np.array([0, 1]), folds=3)
    with pytest.raises(DataError, match="1 of 2 folds have no figure"):
        fold_interval([0.5, math.nan], fit=80, test=20)
    with pytest.raises(DataError, match="A fold of 0 fitted and 20 tested films"):
        fold_interval([0.5, 0.6], fit=0, test=20)
