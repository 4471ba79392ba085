"""Light models: what is in the features is read on unseen patients, and shuffles say how often chance reads as much."""

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import roc_auc_score

from hilum.errors import DataError
from hilum.evaluation import light_models
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.light_models import Cases, aurocs, read_labels, smoother, standardised
from hilum.randomness import stream

FEW = Resampling(resamples=60)


def made(n: int = 120, shift: float = 0.0, d: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = stream(seed, "features")
    classes = np.arange(n) % 3
    features = rng.normal(size=(n, d))
    features[np.arange(n), classes] += shift
    return features, classes, [f"p{i}" for i in range(n)]


def test_cases_are_the_first_film_of_each_patient_and_class_with_whole_patients_in_a_fold() -> None:
    classes = np.array([0, 0, 1, -1, 1, 0, 2])
    cases = Cases.of(classes, ["a", "a", "a", "b", "b", "c", "c"])
    assert cases.rows.tolist() == [0, 2, 4, 5, 6]
    assert cases.classes.tolist() == [0, 1, 1, 0, 2]
    assert cases.fold[0] == cases.fold[1]
    assert cases.fold[3] == cases.fold[4]


def test_too_many_cases_are_thinned_by_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(light_models, "MOST_CASES", 30)
    _, classes, owners = made(120)
    assert len(np.unique(Cases.of(classes, owners).patient)) == 30


def test_ridge_agrees_with_scikit_learn() -> None:
    features, classes, _ = made(60, shift=1.0)
    fit, test = np.arange(40), np.arange(40, 60)
    target = (classes == 1).astype(float)
    ours = smoother(features, fit, test) @ target[fit]
    values = standardised(features, fit)
    theirs = KernelRidge(alpha=1.0, kernel="linear", gamma=None).fit(values[fit] / np.sqrt(6), target[fit])
    assert ours == pytest.approx(theirs.predict(values[test] / np.sqrt(6)))


def test_what_is_in_the_features_is_found() -> None:
    features, classes, owners = made(shift=3.0)
    found = read_labels(features, Cases.of(classes, owners), settings=FEW, permutations=99)
    assert found.auroc.value > 0.9
    assert found.p_value == 0.01
    by_hand = [roc_auc_score(classes == c, found.scores[:, c]) for c in range(3)]
    assert list(found.by_class.values()) == pytest.approx(by_hand)
    assert found.auroc.value == pytest.approx(np.mean(by_hand))


def test_under_no_association_p_values_are_even() -> None:
    """Of 40 cohorts of noise about half have p below a half, and few a small one."""
    values = []
    for seed in range(40):
        features, classes, owners = made(45, seed=seed)
        values.append(
            read_labels(
                features,
                Cases.of(classes, owners, seed=seed),
                settings=Resampling(resamples=20, seed=seed),
                permutations=39,
            ).p_value
        )
    assert 8 <= np.sum(np.array(values) <= 0.5) <= 32
    assert np.sum(np.array(values) <= 0.05) <= 7


def test_a_patients_own_look_says_nothing_of_others() -> None:
    patient = np.arange(160) // 4
    features = np.eye(40)[patient] * 10 + stream(2, "noise").normal(size=(160, 40)) * 0.1
    classes = stream(1, "coin").integers(0, 2, 40)[patient]
    found = read_labels(features, Cases.of(classes, [str(p) for p in patient]), settings=FEW, permutations=99)
    assert found.p_value > 0.05


def test_too_few_patients_are_not_estimable_and_say_why() -> None:
    features, classes, owners = made(12)
    found = read_labels(features, Cases.of(np.minimum(classes, 0), owners), what="source", settings=FEW)
    assert found.auroc.reason == "Fewer than two levels of source have 5 patients."
    assert np.isnan(found.p_value)


def test_features_without_spread_read_nothing() -> None:
    _, classes, owners = made(60)
    found = read_labels(np.ones((60, 3)), Cases.of(classes, owners), settings=FEW, permutations=19)
    assert found.auroc.value == 0.5
    assert found.p_value == 1.0


def test_wrong_features_are_refused() -> None:
    features, classes, owners = made(30)
    with pytest.raises(DataError, match=r"Features \(20, 6\) don't cover 30 cases"):
        read_labels(features[:20], Cases.of(classes, owners))
    features[3, 2] = np.nan
    with pytest.raises(DataError, match="Features of 1 films are not finite"):
        read_labels(features, Cases.of(classes, owners))
    with pytest.raises(DataError, match="30 classes and 29 patients don't match"):
        Cases.of(classes, owners[1:])


def test_many_columns_rank_as_scipy_ranks_them_ties_and_all() -> None:
    rng = stream(5, "ties")
    targets = (rng.random((60, 7)) < 0.4).astype(np.float64)
    for scores in (rng.normal(size=(60, 7)), rng.integers(0, 4, (60, 7)).astype(np.float64), np.zeros((60, 7))):
        by_hand = [roc_auc_score(targets[:, i], scores[:, i]) for i in range(7)]
        assert aurocs(scores, targets) == pytest.approx(by_hand)


def test_shuffling_ends_early_where_chance_reads_as_much() -> None:
    """Noise: 20 of the first two hundred shuffles reach the value, so that a hundred times as many give the same."""
    features, classes, owners = made(45, seed=4)
    cases = Cases.of(classes, owners)
    few = read_labels(features, cases, settings=FEW, permutations=200).p_value
    many = read_labels(features, cases, settings=FEW, permutations=20_000).p_value
    assert few == many > 0.1
