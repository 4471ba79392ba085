"""Brier's parts add up, slope and intercept agree with regression, and small local samples are named."""

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression

from hilum.errors import DataError
from hilum.evaluation.calibration import ece, softmax
from hilum.evaluation.calibration_parts import (
    brier_parts,
    classwise_ece,
    clopper_pearson,
    cox_line,
    local_calibrator,
    recalibrate,
    sample_words,
)
from hilum.evaluation.calibrators import log_probs
from hilum.randomness import stream


def binary(n: int, *, slope: float = 1.0, shift: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities whose truth follows another line on the log-odds."""
    rng = stream(seed, "parts")
    odds = rng.normal(size=n) * 1.5
    return 1 / (1 + np.exp(-odds)), rng.random(n) < 1 / (1 + np.exp(-(slope * odds + shift)))


def test_exact_interval_agrees_with_scipy() -> None:
    for hits, n in ((0, 7), (3, 10), (10, 10), (81, 263)):
        expected = stats.binomtest(hits, n).proportion_ci(0.95, method="exact")
        assert clopper_pearson(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert np.isnan(clopper_pearson(0, 0)).all()


def test_parts_by_hand() -> None:
    """Two bins of two films: 0.2 and 0.2 with none ill, 0.6 and 0.8 with one ill."""
    found = brier_parts(np.array([0.2, 0.2, 0.6, 0.8]), np.array([False, False, False, True]), bins=2, mass="width")
    assert found.bins == 2
    assert found.score == pytest.approx((0.04 + 0.04 + 0.36 + 0.04) / 4)
    assert found.reliability == pytest.approx((2 * 0.04 + 2 * 0.04) / 4)
    assert found.resolution == pytest.approx((2 * 0.0625 + 2 * 0.0625) / 4)
    assert found.uncertainty == pytest.approx(3 / 16)
    assert found.within == pytest.approx((0.01 + 0.01) / 4 - 2 * (-0.1 * -0.5 + 0.1 * 0.5) / 4)


@pytest.mark.parametrize("mass", ["width", "mass"])
@pytest.mark.parametrize("bins", [1, 7, 40])
def test_parts_add_up_to_the_score_exactly(bins: int, mass: str) -> None:
    probs, truth = binary(400, slope=0.6)
    found = brier_parts(probs, truth, bins=bins, mass=mass)  # type: ignore[arg-type]
    total = found.reliability - found.resolution + found.uncertainty + found.within
    assert total == pytest.approx(found.score, abs=1e-12)
    assert found.score == pytest.approx(((probs - truth) ** 2).mean())


def test_classwise_error_sees_what_the_top_label_hides() -> None:
    """The most probable finding is given as often as it is right, but the other two are swapped."""
    rng = stream(0, "classwise")
    probs = np.tile([0.6, 0.3, 0.1], (9000, 1))
    classes = rng.choice(3, 9000, p=[0.6, 0.1, 0.3])
    assert ece(probs, classes) < 0.02
    assert classwise_ece(probs, classes) == pytest.approx((0.0 + 0.2 + 0.2) / 3, abs=0.01)
    assert np.isnan(classwise_ece(probs[:0], classes[:0]))


def test_slope_and_intercept_agree_with_regression() -> None:
    probs, truth = binary(600, slope=0.6, shift=0.5)
    found = cox_line(probs, truth, finding="x")
    odds = np.log(probs / (1 - probs))
    oracle = LogisticRegression(C=np.inf, tol=1e-10).fit(odds[:, None], truth)
    assert found.slope.value == pytest.approx(oracle.coef_[0, 0], abs=1e-4)
    shift = found.intercept.value
    assert (1 / (1 + np.exp(-(odds + shift)))).mean() == pytest.approx(truth.mean())  # the score equation


def test_intervals_of_slope_and_intercept_cover_the_truth() -> None:
    covered = np.zeros(2)
    for seed in range(200):
        probs, truth = binary(250, slope=0.7, seed=seed)
        line = cox_line(probs, truth, finding="x", level=0.9)
        covered += [line.slope.low <= 0.7 <= line.slope.high, line.intercept.low <= 0.0 <= line.intercept.high]
    assert (covered / 200 >= 0.83).all()  # 0.90 − 3.3 standard errors
    assert (covered / 200 <= 0.97).all()


def test_copies_of_films_do_not_narrow_the_interval() -> None:
    probs, truth = binary(200)
    once = cox_line(probs, truth, finding="x").slope
    ids = [str(i) for i in range(200)]
    copied = cox_line(np.tile(probs, 4), np.tile(truth, 4), ids * 4, finding="x").slope
    assert copied.interval == pytest.approx(once.interval, rel=1e-6)


@pytest.mark.parametrize(
    ("probs", "positive", "reason"),
    [
        (np.linspace(0.1, 0.9, 20), np.arange(20) < 2, "Only 2 patients with x; a calibration line needs at least 5."),
        (np.linspace(0.1, 0.9, 20), np.arange(20) >= 0, "Only 0 patients without x; a calibration line needs at least"),
        (np.full(20, 0.4), np.arange(20) < 9, "All films have the same probability, so no line can be drawn."),
        (np.append(np.nan, np.full(19, 0.4)), np.arange(20) < 9, "1 of 20 films have no probability (NaN)."),
    ],
)
def test_lines_that_can_not_be_drawn_say_why(probs: np.ndarray, positive: np.ndarray, reason: str) -> None:
    found = cox_line(probs, positive, finding="x")
    assert not found.slope.estimable
    assert found.slope.reason.startswith(reason)
    assert found.intercept.reason.startswith(reason)


def test_a_perfect_separation_has_an_intercept_but_no_slope() -> None:
    found = cox_line(np.linspace(0.1, 0.9, 20), np.arange(20) >= 10, finding="x")
    assert found.slope.reason == "The probabilities separate x without one error."
    assert found.intercept.value == pytest.approx(0.0, abs=1e-6)


def foreign(n: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Three findings whose probabilities are three times too extreme on the scale of logits."""
    rng = stream(5, "foreign")
    logits = 1.5 * rng.normal(size=(n, 3))
    classes = (softmax(logits).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return softmax(3 * logits), np.eye(3)[classes], [f"p{i}" for i in range(n)]


def test_recalibration_mends_probabilities_of_another_place() -> None:
    probs, targets, ids = foreign(900)
    done, corrected = recalibrate(probs, targets, ids, "abc")
    assert corrected is not None
    classes = targets.argmax(axis=1)
    assert ece(corrected, classes) < 0.4 * ece(probs, classes)
    assert (done.folds, done.warnings) == (5, ())
    assert sum(done.patients.values()) == 900
    np.testing.assert_allclose(local_calibrator(probs, targets).probs(log_probs(probs)), corrected, atol=0.06)


def test_a_small_local_sample_is_named_with_its_rule() -> None:
    probs, targets, ids = foreign(90)
    done, corrected = recalibrate(probs, targets, ids, "abc")
    assert corrected is not None
    assert "needs about 100 with and 100 without each finding (Vergouwe 2005, Collins 2016)" in done.warnings[0]
    assert sample_words({"a": 150, "b": 150}, 300, "temperature") == ()
    assert "isotonic needs about 200 with" in sample_words({"a": 150, "b": 150}, 300, "isotonic")[0]


def test_a_local_sample_without_a_finding_or_without_a_score_corrects_nothing() -> None:
    probs, targets, ids = foreign(60)
    targets[targets[:, 2] == 1] = [1, 0, 0]
    done, corrected = recalibrate(probs, targets, ids, "abc")
    assert corrected is None
    assert done.warnings[0].startswith("Only 0 patients show c; a correction in 5 folds needs 10 of each finding")
    probs[3] = np.nan
    assert recalibrate(probs, targets, ids, "abc")[0].warnings[0].startswith("1 of 60 films have no probability")


def test_films_that_do_not_match_or_have_no_label_are_refused() -> None:
    probs, targets, ids = foreign(60)
    with pytest.raises(DataError, match="Recalibration needs probabilities, targets and ids of the same films"):
        recalibrate(probs, targets, ids[:-1], "abc")
    with pytest.raises(DataError, match="Recalibration needs films whose label is known"):
        recalibrate(probs, np.where(np.arange(60)[:, None] == 4, np.nan, targets), ids, "abc")
