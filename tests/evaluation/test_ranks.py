"""AUROC, average precision and ROC curves agree with hand counts and scikit-learn, ties and weights included."""

import numpy as np
import pytest
from sklearn import metrics as oracle

from hilum.errors import DataError
from hilum.evaluation.ranks import Descent, Ranking, auprc, auroc, roc_curve, why_no_ranking
from hilum.randomness import stream


def test_auroc_by_hand_counts_a_tie_as_a_half() -> None:
    scores, positive = np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True])
    assert auroc(scores, positive) == (1 + 0.5 + 1 + 1) / 4


@pytest.mark.parametrize("digits", [1, 8], ids=["many ties", "no ties"])
@pytest.mark.parametrize("seed", range(3))
def test_rankings_agree_with_scikit_learn(seed: int, digits: int) -> None:
    rng = stream(seed, "ranks")
    positive = rng.random(80) < 0.3
    scores = np.round(rng.normal(size=80) + positive, digits)
    assert auroc(scores, positive) == pytest.approx(oracle.roc_auc_score(positive, scores), abs=1e-12)
    assert auprc(scores, positive) == pytest.approx(oracle.average_precision_score(positive, scores), abs=1e-12)


def test_weights_mean_copies() -> None:
    rng = stream(0, "weights")
    positive = rng.random(60) < 0.4
    scores = np.round(rng.normal(size=60) + positive, 1)
    weights = rng.integers(0, 4, (5, 60)).astype(float)
    rocs, prs = Ranking.of(scores, positive).auroc(weights), Descent.of(scores, positive).auprc(weights)
    for r in range(5):
        copies = np.repeat(np.arange(60), weights[r].astype(int))
        assert rocs[r] == pytest.approx(auroc(scores[copies], positive[copies]), abs=1e-12)
        assert prs[r] == pytest.approx(auprc(scores[copies], positive[copies]), abs=1e-12)


def test_both_areas_come_from_the_same_sums() -> None:
    """AUROC by Mann–Whitney over sorted negatives and by cumulative sums are the same, ties and weights included."""
    rng = stream(4, "areas")
    positive = rng.random(80) < 0.4
    weights = rng.integers(0, 3, (6, 80)).astype(float)
    weights[5, positive] = 0
    for digits in (1, 9):
        scores = np.round(rng.normal(size=80) + positive, digits)
        area, precision = Descent.of(scores, positive).areas(weights)
        np.testing.assert_allclose(area, Ranking.of(scores, positive).auroc(weights), atol=1e-12)
        assert np.isnan(area[5])
        assert np.isnan(precision[5])
        assert precision[0] == pytest.approx(
            oracle.average_precision_score(positive, scores, sample_weight=weights[0]), abs=1e-12
        )


def test_order_of_films_and_a_rising_map_of_scores_change_nothing() -> None:
    rng = stream(1, "ranks")
    positive, scores = rng.random(50) < 0.5, rng.normal(size=50)
    shuffled = rng.permutation(50)
    assert auroc(scores[shuffled], positive[shuffled]) == pytest.approx(auroc(scores, positive), abs=1e-12)
    assert auroc(np.exp(3 * scores), positive) == pytest.approx(auroc(scores, positive), abs=1e-12)
    assert auroc(-scores, ~positive) == pytest.approx(auroc(scores, positive), abs=1e-12)
    assert auroc(-scores, positive) == pytest.approx(1 - auroc(scores, positive), abs=1e-12)


def test_scores_that_are_all_tied_are_chance() -> None:
    positive = np.array([True, False, False, True])
    assert auroc(np.ones(4), positive) == 0.5
    assert auprc(np.ones(4), positive) == 0.5


@pytest.mark.parametrize(
    ("scores", "positive", "reason"),
    [
        ([1.0, np.nan, 2.0], [True, False, True], "1 of 3 films have no score (NaN), so they can't be ranked."),
        ([1.0, 2.0], [False, False], "No labelled film shows covid-19."),
        ([1.0, 2.0], [True, True], "Every labelled film shows covid-19."),
        ([], [], "There is no labelled film."),
    ],
)
def test_what_cannot_be_ranked_is_nan_and_says_why(scores: list[float], positive: list[bool], reason: str) -> None:
    values, sides = np.array(scores), np.array(positive, dtype=bool)
    assert np.isnan(auroc(values, sides))
    assert why_no_ranking(values, sides, "covid-19") == reason
    assert roc_curve(values, sides).true_positive_rate == ()


def test_average_precision_without_a_positive_or_a_score_is_nan() -> None:
    assert np.isnan(auprc(np.array([1.0, 2.0]), np.array([False, False])))
    assert np.isnan(auprc(np.array([1.0, np.nan]), np.array([False, True])))


def test_a_resample_without_one_side_is_nan() -> None:
    ranking = Ranking.of(np.array([0.0, 1.0]), np.array([False, True]))
    assert np.isnan(ranking.auroc(np.array([[1.0, 0.0], [0.0, 1.0]]))).all()


def test_labels_that_are_not_bool_or_of_another_length_are_refused() -> None:
    with pytest.raises(DataError, match="Labels for a ranking are true or false, but are int64"):
        auroc(np.array([0.1, 0.2]), np.array([0, 1]))
    with pytest.raises(DataError, match=r"Scores \(2,\) and labels \(3,\) must be two vectors of one length"):
        auroc(np.array([0.1, 0.2]), np.array([True, False, True]))
    with pytest.raises(DataError, match="1 scores are NaN and can't be ranked"):
        Ranking.of(np.array([0.1, np.nan]), np.array([True, False]))


def test_roc_curve_agrees_with_scikit_learn_and_runs_from_corner_to_corner() -> None:
    rng = stream(2, "ranks")
    positive = rng.random(60) < 0.5
    scores = np.round(rng.normal(size=60) + positive, 1)
    curve = roc_curve(scores, positive)
    x, y, _ = oracle.roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.false_positive_rate, x)
    np.testing.assert_allclose(curve.true_positive_rate, y)


def test_a_long_roc_curve_is_thinned_and_keeps_its_area() -> None:
    rng = stream(3, "ranks")
    positive = rng.random(5000) < 0.5
    scores = rng.normal(size=5000) + positive
    curve = roc_curve(scores, positive, points=200)
    assert len(curve.true_positive_rate) <= 200
    assert (curve.false_positive_rate[0], curve.true_positive_rate[-1]) == (0.0, 1.0)
    area = np.trapezoid(curve.true_positive_rate, curve.false_positive_rate)
    assert area == pytest.approx(auroc(scores, positive), abs=2e-3)
