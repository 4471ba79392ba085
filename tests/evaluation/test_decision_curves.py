"""Net benefit by hand and by definition, and what can't be drawn says why."""

import numpy as np
import pytest

from hilum.errors import DataError
from hilum.evaluation.decision_curves import THRESHOLDS, decision_curve, net_benefit
from hilum.evaluation.intervals import Resampling
from hilum.randomness import stream

FEW = Resampling(resamples=60)


def drawn(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Calibrated probabilities: the truth is drawn from them."""
    rng = stream(seed, "decisions")
    probs = rng.beta(0.6, 1.4, n)
    return probs, rng.random(n) < probs, [f"p{i}" for i in range(n)]


def test_net_benefit_by_hand() -> None:
    """Ten films, at 0.2: three of four ill are found, two of six well are called; a false alarm weighs a quarter."""
    probs = np.array([0.9, 0.8, 0.2, 0.1, 0.5, 0.25, 0.1, 0.1, 0.0, 0.19])
    ill = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], dtype=bool)
    assert net_benefit(probs, ill, [0.2])[0] == pytest.approx((3 - 2 * 0.25) / 10)


def test_net_benefit_by_definition_at_every_threshold() -> None:
    probs, ill, _ = drawn(200)
    probs = np.round(probs, 2)  # many lie on a threshold
    found = net_benefit(probs, ill, THRESHOLDS)
    for t, value in zip(THRESHOLDS, found, strict=True):
        called = probs >= t
        assert value == pytest.approx(((called & ill).sum() - (called & ~ill).sum() * t / (1 - t)) / 200)


def test_acting_on_all_is_what_a_model_that_calls_everything_gives() -> None:
    probs, ill, ids = drawn(200)
    curve = decision_curve(np.ones(200), ill, ids, finding="x", settings=FEW)
    np.testing.assert_allclose(curve.net_benefit, curve.act_on_all, atol=1e-12)
    assert curve.prevalence == pytest.approx(ill.mean())
    assert decision_curve(probs * 0, ill, ids, finding="x", settings=FEW).net_benefit == (0.0,) * len(THRESHOLDS)


def test_calibrated_probabilities_gain_over_both_and_their_interval_holds_the_value() -> None:
    curve = decision_curve(*drawn(1500), finding="x", settings=Resampling(resamples=200))
    gain = np.array(curve.gain)
    np.testing.assert_allclose(gain, np.array(curve.net_benefit) - np.maximum(curve.act_on_all, 0), atol=1e-12)
    assert curve.useful is not None
    assert curve.useful[0] < 0.2 < 0.6 < curve.useful[1]
    inside = (np.array(curve.low) <= curve.net_benefit) & (np.array(curve.high) >= curve.net_benefit)
    assert inside.all()


def test_probabilities_that_say_nothing_are_of_no_use_anywhere() -> None:
    rng = stream(3, "decisions")
    ill = rng.random(600) < 0.3
    ids, some = [f"p{i}" for i in range(600)], THRESHOLDS[4:]  # from 0.05: below, a handful of films decide
    curve = decision_curve(rng.random(600), ill, ids, finding="x", thresholds=some, settings=Resampling(resamples=200))
    assert curve.useful is None


def test_copies_of_films_change_nothing_when_they_belong_to_one_patient() -> None:
    probs, ill, ids = drawn(150)
    once = decision_curve(probs, ill, ids, finding="x", settings=FEW)
    copied = decision_curve(np.tile(probs, 2), np.tile(ill, 2), ids * 2, finding="x", settings=FEW)
    np.testing.assert_allclose(copied.net_benefit, once.net_benefit)
    np.testing.assert_allclose(copied.low, once.low)


def test_what_can_not_be_drawn_says_why() -> None:
    probs, _, ids = drawn(50)
    nothing = decision_curve(probs, np.zeros(50, bool), ids, finding="x", settings=FEW)
    assert (nothing.reason, nothing.net_benefit) == ("No labelled film shows x.", ())
    few = decision_curve(probs, np.arange(50) < 2, ids, finding="x", settings=FEW)
    assert (few.reason, few.low) == ("Only 2 patients on one side of x, too few for an interval.", ())
    assert len(few.net_benefit) == len(THRESHOLDS)
    assert few.useful is None


@pytest.mark.parametrize("wrong", [[], [0.0, 0.5], [0.5, 1.0], [0.5, 0.4]])
def test_thresholds_must_rise_between_0_and_1(wrong: list[float]) -> None:
    with pytest.raises(DataError, match="Thresholds of a decision curve rise strictly between 0 and 1"):
        net_benefit(np.array([0.5]), np.array([True]), wrong)
