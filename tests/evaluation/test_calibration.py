"""Temperature, ECE, Brier, NLL and reliability bins: by hand, against references, and on logits of any size."""

import math

import numpy as np
import pytest
from scipy.special import softmax as oracle_softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from hilum.errors import DataError
from hilum.evaluation.calibration import (
    bin_numbers,
    brier,
    ece,
    ece_if_perfect,
    fit_temperature,
    nll,
    reliability,
    softmax,
)
from hilum.evaluation.intervals import wilson_interval
from hilum.randomness import stream


def drawn(n: int = 3000, temperature: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose true temperature is known: labels are drawn from softmax(logits / temperature)."""
    rng = stream(seed, "calibration")
    logits = 3 * rng.normal(size=(n, 3))
    probs = softmax(logits / temperature)
    return logits, (rng.random((n, 1)) > probs.cumsum(axis=1)).sum(axis=1)


def test_softmax_agrees_with_scipy_and_survives_any_size() -> None:
    logits = stream(0, "x").normal(size=(5, 3))
    np.testing.assert_allclose(softmax(logits), oracle_softmax(logits, axis=1))
    np.testing.assert_array_equal(softmax(np.array([[1e6, 0.0, -1e6]])), [[1.0, 0.0, 0.0]])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_made_the_labels_is_found(temperature: float) -> None:
    logits, classes = drawn(temperature=temperature)
    fitted = fit_temperature(logits, np.eye(3)[classes])
    assert fitted.value == pytest.approx(temperature, rel=0.08)
    assert fitted.nll_after <= fitted.nll_before
    assert fitted.reason == ""


def test_no_other_temperature_is_more_likely() -> None:
    logits, classes = drawn(400)
    best = fit_temperature(logits, np.eye(3)[classes])
    for factor in (0.9, 0.99, 1.01, 1.1):
        assert nll(logits, classes, best.value * factor) >= best.nll_after


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_extreme_logits_scale_the_temperature_and_nothing_else(scale: float) -> None:
    logits, classes = drawn(500)
    targets = np.eye(3)[classes]
    plain, scaled = fit_temperature(logits, targets), fit_temperature(logits * scale, targets)
    assert scaled.value / scale == pytest.approx(plain.value, rel=1e-5)
    np.testing.assert_allclose(scaled.probs(logits * scale), plain.probs(logits), atol=1e-6)


def test_calibration_never_changes_the_order() -> None:
    logits, classes = drawn(300)
    probs = fit_temperature(logits, np.eye(3)[classes]).probs(logits)
    np.testing.assert_array_equal(probs.argsort(axis=1), logits.argsort(axis=1))


def test_films_of_unknown_label_are_left_out() -> None:
    logits, classes = drawn(300)
    targets = np.eye(3)[classes]
    with_unknown = np.vstack([targets, np.full((9, 3), np.nan)])
    more = np.vstack([logits, np.full((9, 3), 50.0)])
    assert fit_temperature(more, with_unknown) == fit_temperature(logits, targets)


@pytest.mark.parametrize(
    ("logits", "classes", "reason"),
    [
        ([[1.0, 0.0], [2.0, 0.0]], [0, 0], "The calibration set holds one class"),
        ([[5.0, 0.0], [0.0, 5.0]], [0, 1], "separated without one error"),
        ([[1.0, 1.0], [2.0, 2.0]], [0, 1], "All logits of each film are equal"),
    ],
)
def test_what_cannot_be_fitted_stays_one_and_says_why(
    logits: list[list[float]], classes: list[int], reason: str
) -> None:
    fitted = fit_temperature(np.array(logits), np.eye(2)[classes])
    assert fitted.value == 1.0
    assert reason in fitted.reason


def test_without_a_labelled_film_the_likelihood_is_nan() -> None:
    fitted = fit_temperature(np.zeros((2, 3)), np.full((2, 3), np.nan))
    assert math.isnan(fitted.nll_before)
    assert "no labelled film" in fitted.reason


def test_logits_that_mislead_are_flattened_with_a_word() -> None:
    rng = stream(0, "misleading")
    classes = rng.integers(0, 3, 200)
    logits = -4.0 * np.eye(3)[classes] + 0.1 * rng.normal(size=(200, 3))
    fitted = fit_temperature(logits, np.eye(3)[classes])
    assert "don't tell the classes" in fitted.reason
    np.testing.assert_allclose(fitted.probs(logits), 1 / 3, atol=0.01)


def test_few_films_are_named() -> None:
    logits, classes = drawn(30)
    assert "Only 30 films calibrate" in fit_temperature(logits, np.eye(3)[classes]).reason


def test_logits_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DataError, match="1 of 2 films have logits that are not finite"):
        fit_temperature(np.array([[np.inf, 0.0], [0.0, 1.0]]), np.eye(2))


def test_nll_and_brier_agree_with_scikit_learn() -> None:
    logits, classes = drawn(200)
    probs = softmax(logits)
    assert nll(logits, classes) == pytest.approx(log_loss(classes, probs))
    one_by_one = sum(brier_score_loss(classes == c, probs[:, c]) for c in range(3))
    assert brier(probs, classes) == pytest.approx(one_by_one)


def test_ece_by_hand() -> None:
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])
    classes = np.array([0, 1, 0, 1])  # bin 0.9: two films, one right; 0.6 and 0.7: one film each, right
    assert ece(probs, classes, bins=10) == pytest.approx((2 * abs(0.9 - 0.5) + abs(0.6 - 1) + abs(0.7 - 1)) / 4)


def test_ece_with_one_bin_is_confidence_minus_accuracy_in_both_forms() -> None:
    logits, classes = drawn(300, temperature=3)
    probs = softmax(logits)
    gap = abs(probs.max(axis=1).mean() - (probs.argmax(axis=1) == classes).mean())
    assert ece(probs, classes, bins=1, mass="width") == pytest.approx(gap)
    assert ece(probs, classes, bins=1, mass="mass") == pytest.approx(gap)


def test_bins_of_equal_mass_hold_as_many_films_each_and_ties_stay_together() -> None:
    values = stream(0, "mass").random(100)
    assert np.bincount(bin_numbers(values, 5, "mass")).tolist() == [20] * 5
    tied = bin_numbers(np.array([0.5] * 9 + [0.9]), 5, "mass")
    assert len(set(tied[:9].tolist())) == 1


def test_the_stated_bias_is_what_perfect_calibration_shows() -> None:
    found, limits = [], []
    for seed in range(40):
        logits, classes = drawn(150, seed=seed)
        probs = softmax(logits)
        found.append(ece(probs, classes))
        limits.append(ece_if_perfect(probs, seed=seed, draws=100))
    assert np.mean(found) == pytest.approx(np.mean([mean for mean, _ in limits]), rel=0.1)
    assert np.mean([value > high for value, (_, high) in zip(found, limits, strict=True)]) <= 0.18


def test_a_true_miscalibration_exceeds_what_chance_allows() -> None:
    logits, classes = drawn(500, temperature=3)
    probs = softmax(logits)
    assert ece(probs, classes) > 2 * ece_if_perfect(probs)[1]


def test_without_a_film_there_is_no_number() -> None:
    nothing = np.zeros((0, 3)), np.zeros(0, dtype=int)
    assert math.isnan(ece(*nothing))
    assert math.isnan(brier(*nothing))
    assert all(math.isnan(value) for value in ece_if_perfect(nothing[0]))
    assert reliability(np.zeros(0), np.zeros(0, dtype=bool)) == ()


@pytest.mark.parametrize(("mass", "strategy"), [("width", "uniform"), ("mass", "quantile")])
def test_reliability_bins_agree_with_scikit_learn(mass: str, strategy: str) -> None:
    logits, classes = drawn(300)
    probs, positive = softmax(logits)[:, 0], classes == 0
    bins = reliability(probs, positive, bins=5, mass=mass)  # type: ignore[arg-type]
    frequency, confidence = calibration_curve(positive, probs, n_bins=5, strategy=strategy)
    np.testing.assert_allclose([b.frequency.value for b in bins], frequency)
    np.testing.assert_allclose([b.confidence for b in bins], confidence)


def test_reliability_intervals_count_patients_not_films() -> None:
    probs, positive = np.full(20, 0.5), np.arange(20) < 10
    alone = reliability(probs, positive, bins=1)[0].frequency
    grouped = reliability(probs, positive, patients=[f"p{i // 4}" for i in range(20)], bins=1)[0].frequency
    assert alone.interval == pytest.approx(wilson_interval(0.5, 20))
    assert grouped.interval == pytest.approx(wilson_interval(0.5, 5))
    assert (grouped.n, grouped.patients) == (20, 5)
