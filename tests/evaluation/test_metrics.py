"""Metrics of decisions agree with hand counts and scikit-learn, and say why they can't be computed."""

import numpy as np
import pytest
from sklearn import metrics as oracle

from hilum.errors import DataError
from hilum.evaluation import metrics
from hilum.labels import CHEST, Findings
from hilum.randomness import stream

HAND = np.array([[4, 1, 0], [2, 3, 0], [0, 1, 9]])


def test_rates_of_a_hand_counted_matrix() -> None:
    found = metrics.rates(HAND)
    np.testing.assert_allclose(found["sensitivity"], [4 / 5, 3 / 5, 9 / 10])
    np.testing.assert_allclose(found["specificity"], [13 / 15, 13 / 15, 10 / 10])
    np.testing.assert_allclose(found["precision"], [4 / 6, 3 / 5, 9 / 9])
    np.testing.assert_allclose(found["npv"], [13 / 14, 13 / 15, 10 / 11])
    np.testing.assert_allclose(found["f1"], [8 / 11, 6 / 10, 18 / 19])
    assert metrics.accuracy(HAND) == pytest.approx(16 / 20)


@pytest.mark.parametrize("seed", range(3))
def test_decisions_agree_with_scikit_learn(seed: int) -> None:
    rng = stream(seed, "metrics")
    true, predicted = rng.integers(0, 3, 90), rng.integers(0, 3, 90)
    confusion = metrics.confusion_matrix(true, predicted, 3)
    np.testing.assert_array_equal(confusion, oracle.confusion_matrix(true, predicted))
    precision, recall, f1, _ = oracle.precision_recall_fscore_support(true, predicted)
    found = metrics.rates(confusion)
    np.testing.assert_allclose(found["precision"], precision)
    np.testing.assert_allclose(found["sensitivity"], recall)
    np.testing.assert_allclose(found["f1"], f1)
    assert metrics.balanced_accuracy(confusion) == pytest.approx(oracle.balanced_accuracy_score(true, predicted))
    assert metrics.macro_f1(confusion) == pytest.approx(oracle.f1_score(true, predicted, average="macro"))
    for c in range(3):
        flipped = oracle.recall_score(true != c, predicted != c)
        assert found["specificity"][c] == pytest.approx(flipped)


def test_a_weighted_matrix_counts_films_as_often_as_their_weight() -> None:
    rng = stream(0, "weights")
    true, predicted = rng.integers(0, 3, 30), rng.integers(0, 3, 30)
    weights = rng.integers(0, 3, (4, 30)).astype(float)
    many = metrics.confusion_matrix(true, predicted, 3, weights)
    for r in range(4):
        copies = np.repeat(np.arange(30), weights[r].astype(int))
        np.testing.assert_array_equal(many[r], metrics.confusion_matrix(true[copies], predicted[copies], 3))


def test_unknown_labels_are_left_out_of_the_matrix() -> None:
    matrix = metrics.confusion_matrix(np.array([0, -1, 1]), np.array([0, 1, 1]), 2)
    assert matrix.tolist() == [[1, 0], [0, 1]]


def test_classes_of_targets_are_minus_one_where_unknown() -> None:
    targets = CHEST.targets(["covid-19", None, "normal"])
    targets[2, 2] = np.nan  # half known is unknown
    assert metrics.classes_of(targets, CHEST).tolist() == [2, -1, -1]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ([0, 2, 0], r"Targets of row 1 are \[0.0, 2.0, 0.0\], but a label is 0, 1 or NaN"),
        (
            [0, 1, 1],
            r"row 1 are \[0.0, 1.0, 1.0\], but a film has exactly one of \['normal', 'pneumonia', 'covid-19'\]",
        ),
        ([0, 0, 0], "exactly one of"),
    ],
)
def test_targets_that_are_not_one_hot_are_refused_by_row(row: list[float], text: str) -> None:
    with pytest.raises(DataError, match=text):
        metrics.classes_of(np.array([[1.0, 0, 0], row]), CHEST)


def test_targets_of_another_width_are_refused() -> None:
    with pytest.raises(DataError, match=r"must be \[n, 3\] for 3 findings, but are \(2, 2\)"):
        metrics.classes_of(np.zeros((2, 2)), CHEST)


@pytest.mark.parametrize(
    ("true", "predicted", "word"),
    [([0, 5], [0, 0], "true class of row 1 is 5"), ([0], [-1], "predicted class of row 0 is -1")],
)
def test_a_class_out_of_range_is_refused(true: list[int], predicted: list[int], word: str) -> None:
    with pytest.raises(DataError, match=f"{word}, but 3 findings have classes 0 … 2"):
        metrics.confusion_matrix(np.array(true), np.array(predicted), 3)


def test_what_has_nothing_to_divide_by_is_nan_and_says_why() -> None:
    confusion = np.array([[3, 2, 0], [1, 4, 0], [0, 0, 0]])  # no covid film, and the model never answers it
    found = metrics.rates(confusion)
    one = metrics.one_vs_rest(confusion, 2)
    for metric, text in {
        "sensitivity": "No labelled film shows covid-19.",
        "f1": "No labelled film shows covid-19.",
        "precision": "The model never answers covid-19.",
    }.items():
        assert np.isnan(found[metric][2])
        assert metrics.why_not(metric, "covid-19", one) == text
    assert metrics.why_not("specificity", "covid-19", one) == ""
    assert np.isnan(metrics.balanced_accuracy(confusion))


def test_a_class_that_is_all_there_is_says_why() -> None:
    one = metrics.one_vs_rest(np.array([[3, 0], [0, 0]]), 0)
    assert metrics.why_not("specificity", "normal", one) == "Every labelled film shows normal."
    assert metrics.why_not("npv", "normal", one) == "The model always answers normal."
    assert np.isnan(metrics.rates(np.array([[3, 0], [0, 0]]))["specificity"][0])


def test_f1_of_a_class_that_is_there_but_never_answered_is_zero() -> None:
    assert metrics.rates(np.array([[3, 0], [2, 0]]))["f1"][1] == 0


def test_no_film_at_all_gives_nan() -> None:
    empty = metrics.confusion_matrix(np.array([], dtype=int), np.array([], dtype=int), 2)
    assert np.isnan(metrics.accuracy(empty))


def test_findings_with_two_names_work_as_well() -> None:
    two = Findings(("a", "b"))
    assert metrics.classes_of(two.targets(["b", "a"]), two).tolist() == [1, 0]


@pytest.mark.parametrize("seed", range(3))
def test_correlation_and_agreement_agree_with_scikit_learn(seed: int) -> None:
    rng = stream(seed, "agreement")
    true = rng.integers(0, 3, 90)
    predicted = np.where(rng.random(90) < 0.5, true, rng.integers(0, 3, 90))
    confusion = metrics.confusion_matrix(true, predicted, 3)
    assert metrics.kappa(confusion) == pytest.approx(oracle.cohen_kappa_score(true, predicted))
    assert metrics.multiclass_mcc(confusion) == pytest.approx(oracle.matthews_corrcoef(true, predicted))
    expected = [oracle.matthews_corrcoef(true == c, predicted == c) for c in range(3)]
    np.testing.assert_allclose(metrics.mcc(confusion), expected)
    precision, recall, f1, _ = oracle.precision_recall_fscore_support(true, predicted, average="macro")
    found = [metrics.macro(name, confusion) for name in ("precision", "sensitivity", "f1")]
    np.testing.assert_allclose(found, [precision, recall, f1])


def test_correlation_and_agreement_by_hand() -> None:
    confusion = np.array([[20, 5], [10, 15]])
    assert metrics.kappa(confusion) == pytest.approx(0.4)  # agreement 0.7, by chance 0.5
    assert metrics.mcc(confusion)[0] == pytest.approx((20 * 15 - 5 * 10) / np.sqrt(25 * 25 * 30 * 20))


def test_many_matrices_at_once_are_each_measured_alone() -> None:
    many = np.stack([HAND, HAND.T, np.array([[0, 0, 0], [2, 3, 0], [0, 1, 9]])])
    for measure in (metrics.mcc, metrics.multiclass_mcc, metrics.kappa):
        np.testing.assert_allclose(measure(many), np.stack([measure(one) for one in many]))


def test_a_class_that_is_absent_or_never_answered_has_no_correlation_and_says_why() -> None:
    absent = np.array([[0, 0], [1, 4]])
    assert np.isnan(metrics.mcc(absent)).all()
    assert metrics.why_not("mcc", "covid-19", absent) == "No labelled film shows covid-19."
    never = np.array([[0, 3], [0, 4]])
    assert np.isnan(metrics.mcc(never)).all()
    assert metrics.why_not("mcc", "covid-19", never) == "The model never answers covid-19."
    assert metrics.why_not("mcc", "x", np.array([[3, 1], [0, 0]])) == "Every labelled film shows x."
    assert metrics.why_not("mcc", "x", np.array([[3, 0], [2, 0]])) == "The model always answers x."
    assert np.isnan(metrics.multiclass_mcc(never))
    assert np.isnan(metrics.kappa(np.array([[5, 0], [0, 0]])))
    assert np.isnan(metrics.macro("precision", never))


def test_predictive_values_at_a_prevalence_follow_bayes() -> None:
    """Of 1,000 people with 1 % ill: 9 of 10 ill are found, 99 of 990 well are called ill."""
    ppv, npv = metrics.predictive_values_at(np.array(0.9), np.array(0.9), 0.01)
    assert ppv == pytest.approx(9 / (9 + 99))
    assert npv == pytest.approx(891 / (891 + 1))


def test_predictive_values_at_the_films_own_prevalence_are_those_of_the_films() -> None:
    found = metrics.rates(HAND)
    for c in range(3):
        prevalence = HAND[c].sum() / HAND.sum()
        ppv, npv = metrics.predictive_values_at(found["sensitivity"][c], found["specificity"][c], prevalence)
        assert (ppv, npv) == pytest.approx((found["precision"][c], found["npv"][c]))


def test_predictive_values_need_a_prevalence_and_something_called() -> None:
    with pytest.raises(DataError, match="The prevalence is 1, but must lie between 0 and 1"):
        metrics.predictive_values_at(np.array(0.9), np.array(0.9), 1.0)
    assert np.isnan(metrics.predictive_values_at(np.array(0.0), np.array(1.0), 0.1)[0])
