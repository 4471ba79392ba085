"""Calibrators recover what was done to logits, agree with scikit-learn, and a freer one must earn its place."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from hilum.errors import DataError
from hilum.evaluation import calibrators
from hilum.evaluation.calibration import fit_temperature, nll, softmax
from hilum.evaluation.calibrators import (
    METHODS,
    Method,
    Scaling,
    Sigmoids,
    Steps,
    choose,
    cross_fitted,
    fit,
    log_odds,
    log_probs,
    logistic,
)
from hilum.randomness import stream


def drawn(n: int, *, k: int = 3, seed: int = 0, spread: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are calibrated as they are: classes are drawn from their softmax."""
    rng = stream(seed, "calibrators")
    logits = spread * rng.normal(size=(n, k))
    classes = (softmax(logits).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return logits, np.eye(k)[classes]


def test_vector_scaling_undoes_weights_and_biases() -> None:
    logits, targets = drawn(6000)
    bent = (logits - np.array([0.5, -1.0, 0.5])) / np.array([0.5, 1.0, 2.0])
    found = fit("vector", bent, targets)
    assert isinstance(found, Scaling)
    np.testing.assert_allclose(found.weights, [0.5, 1.0, 2.0], rtol=0.12)
    np.testing.assert_allclose(found.biases, [0.5, -1.0, 0.5], atol=0.15)
    np.testing.assert_allclose(found.probs(bent), softmax(logits), atol=0.07)


def test_temperature_is_that_of_the_calibration_module() -> None:
    logits, targets = drawn(500)
    expected = fit_temperature(3 * logits, targets)
    np.testing.assert_allclose(fit("temperature", 3 * logits, targets).probs(logits), expected.probs(logits))


def test_none_changes_nothing() -> None:
    logits, targets = drawn(50)
    np.testing.assert_allclose(fit("none", logits, targets).probs(logits), softmax(logits))


def test_logistic_regression_agrees_with_scikit_learn() -> None:
    rng = stream(1, "logistic")
    x = rng.normal(size=300)
    y = rng.random(300) < 1 / (1 + np.exp(-(1.5 * x - 0.7)))
    oracle = LogisticRegression(C=np.inf, tol=1e-10).fit(x[:, None], y)
    assert logistic(x, y.astype(float)) == pytest.approx((oracle.coef_[0, 0], oracle.intercept_[0]), abs=1e-5)


def test_logistic_regression_of_separated_films_has_no_end() -> None:
    x = np.arange(10.0) - 4.5
    assert np.isnan(logistic(x, (x > 0).astype(float))).all()


def test_platt_minimises_the_loss_on_his_targets() -> None:
    """With Platt's targets the maximum of the likelihood is that of scikit-learn's weighted regression."""
    logits, targets = drawn(200, k=2)
    found = fit("platt", 2 * logits, targets)
    assert isinstance(found, Sigmoids)
    odds, positive = log_odds(2 * logits)[:, 0], targets[:, 0] == 1
    m, n = positive.sum(), (~positive).sum()
    share = np.where(positive, (m + 1) / (m + 2), 1 / (n + 2))
    oracle = LogisticRegression(C=np.inf, tol=1e-10).fit(
        np.concatenate([odds, odds])[:, None], np.repeat([1, 0], len(odds)), sample_weight=np.r_[share, 1 - share]
    )
    assert (found.slopes[0], found.intercepts[0]) == pytest.approx((oracle.coef_[0, 0], oracle.intercept_[0]), abs=1e-4)


def test_isotonic_agrees_with_scikit_learn_before_rows_are_normalised() -> None:
    logits, targets = drawn(300)
    logits = np.round(logits)  # ties
    found = fit("isotonic", logits, targets)
    assert isinstance(found, Steps)
    before, margin = softmax(logits).round(12), 1 / 302
    for c in range(3):
        oracle = IsotonicRegression(out_of_bounds="clip").fit(before[:, c], targets[:, c])
        grid = np.linspace(0, 1, 101)
        expected = np.clip(oracle.predict(grid), margin, 1 - margin)
        inside = (grid > before[:, c].min()) & (grid < before[:, c].max())
        knots = np.interp(grid, found.knots[c], found.values[c])
        np.testing.assert_allclose(knots[inside], expected[inside], atol=margin)


@pytest.mark.parametrize("method", METHODS)
def test_probabilities_sum_to_one_and_are_neither_nan_nor_certain(method: Method) -> None:
    logits, targets = drawn(120)
    probs = fit(method, logits, targets).probs(np.vstack([logits, 1e3 * logits[:5], -50 * logits[:5]]))
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    assert np.isfinite(probs).all()
    if method in ("isotonic", "platt"):
        assert probs[:120].max() < 1


@pytest.mark.parametrize("method", ["temperature", "vector", "platt", "isotonic"])
def test_overconfident_logits_are_mended_by_every_method(method: Method) -> None:
    logits, targets = drawn(1500)
    held, truth = drawn(1500, seed=1)
    probs = fit(method, 4 * logits, targets).probs(4 * held)
    after = -np.log(probs[np.arange(1500), truth.argmax(axis=1)]).mean()
    best, worst = nll(held, truth.argmax(axis=1)), nll(4 * held, truth.argmax(axis=1))
    assert after < best + 0.1 * (worst - best)


def test_a_temperature_is_chosen_where_a_temperature_is_what_is_needed() -> None:
    logits, targets = drawn(600)
    found = choose(3 * logits, targets, [f"p{i // 2}" for i in range(600)])
    assert found.method == "temperature"
    assert found.behind["none"] > found.error["none"]
    assert found.nll["none"] - min(found.nll.values()) == pytest.approx(found.behind["none"])


def test_nothing_is_chosen_where_nothing_is_wrong() -> None:
    logits, targets = drawn(600, seed=4)
    assert choose(logits, targets, [str(i) for i in range(600)]).method == "none"


def test_more_freedom_is_chosen_where_classes_are_bent_apart() -> None:
    logits, targets = drawn(1500)
    bent = logits * np.array([0.3, 1.0, 3.0]) + np.array([2.0, 0.0, -2.0])
    assert choose(bent, targets, [str(i) for i in range(1500)]).method == "vector"


def test_no_patient_is_on_both_sides_of_a_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, targets = drawn(300)
    ids = [f"p{i % 100}" for i in range(300)]
    marked = logits + np.array([i % 100 for i in range(300)])[:, None]  # the patient can be read from the logits
    seen: list[set[int]] = []
    real = calibrators.fit

    def watched(method: Method, given: np.ndarray, truth: np.ndarray) -> calibrators.Calibrator:
        rows = {int(np.flatnonzero((marked == row).all(axis=1))[0]) % 100 for row in given}
        seen.append(rows)
        return real(method, given, truth)

    monkeypatch.setattr(calibrators, "fit", watched)
    cross_fitted("none", marked, targets, ids)
    assert len(seen) == 5
    for number in range(100):
        assert sum(number not in rows for rows in seen) == 1  # held out once, with all three films


def test_a_class_with_too_few_patients_leaves_nothing_to_choose() -> None:
    logits, targets = drawn(40)
    targets[:] = np.eye(3)[0]
    targets[:3] = np.eye(3)[1]
    found = choose(logits, targets, [str(i) for i in range(40)])
    assert (found.method, found.folds) == ("none", 0)
    assert found.reason == "A class has only 0 patients; choosing a calibration in 5 folds needs 10 of each."


@pytest.mark.parametrize("method", ["vector", "platt", "isotonic"])
def test_a_calibration_set_without_a_class_changes_nothing_and_says_so(method: Method) -> None:
    logits, targets = drawn(40)
    targets[:] = np.eye(3)[0]
    found = fit(method, logits, targets)
    assert isinstance(found, Scaling)
    assert found.reason == "The calibration set has no film of class 1, 2, so the logits stay as they are."
    np.testing.assert_allclose(found.probs(logits), softmax(logits))
    assert "one class" in fit("temperature", logits, targets).reason  # type: ignore[attr-defined]


def test_unknown_labels_are_left_out() -> None:
    logits, targets = drawn(200)
    more = np.vstack([logits, np.zeros((5, 3))]), np.vstack([targets, np.full((5, 3), np.nan)])
    assert fit("platt", *more) == fit("platt", logits, targets)


def test_zero_probabilities_have_a_logarithm() -> None:
    np.testing.assert_allclose(softmax(log_probs(np.array([[0.0, 0.25, 0.75]]))), [[0, 0.25, 0.75]], atol=1e-9)


def test_unknown_methods_and_broken_logits_are_refused() -> None:
    logits, targets = drawn(20)
    with pytest.raises(DataError, match="Calibration 'beta' is unknown. Use one of none, temperature"):
        fit("beta", logits, targets)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="1 of 20 films have logits that are not finite"):
        fit("platt", np.where(np.arange(20)[:, None] == 3, np.inf, logits), targets)
