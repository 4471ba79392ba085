"""The calibration that a run takes: what is chosen, what is fitted, how it is kept and told."""

import json

import numpy as np
import pytest

from hilum.arrays import Scores
from hilum.config import from_mapping
from hilum.evaluation.calibration import softmax
from hilum.evaluation.calibrators import Method, Scaling, Sigmoids, choose, fit
from hilum.evaluation.shipped_calibration import CARRIED, ShippedCalibration

FILMS = 900


def films(weights: tuple[float, ...], biases: tuple[float, ...]) -> tuple[Scores, Scores, tuple[str, ...]]:
    """Logits whose right probabilities are softmax(weights · logits + biases), and labels drawn from those."""
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(FILMS, 3)) * 3
    right = softmax(logits * np.asarray(weights) + np.asarray(biases))
    classes = (right.cumsum(axis=1) < rng.random((FILMS, 1))).sum(axis=1)
    return logits, np.eye(3)[classes], tuple(f"p{i}" for i in range(FILMS))


@pytest.mark.parametrize(
    ("weights", "biases", "method"),
    [
        ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), "none"),
        ((0.5, 0.5, 0.5), (0.0, 0.0, 0.0), "temperature"),
        ((1.0, 0.3, 0.6), (1.5, -1.0, -0.5), "vector"),
    ],
)
def test_the_way_that_logits_need_is_chosen_and_fitted(
    weights: tuple[float, ...], biases: tuple[float, ...], method: str
) -> None:
    logits, targets, patients = films(weights, biases)
    shipped = ShippedCalibration.fitted(logits[None], targets, patients, seed=0)
    assert shipped.method == method == choose(logits, targets, patients, methods=CARRIED, seed=0).method
    assert isinstance(shipped.calibrator, Scaling)
    assert np.asarray(shipped.calibrator.weights) == pytest.approx(np.asarray(weights), abs=0.12)
    assert shipped.temperature == (pytest.approx(2.0, rel=0.1) if method == "temperature" else None)


def test_members_are_fitted_together_and_averaged() -> None:
    logits, targets, patients = films((0.5, 0.5, 0.5), (0.0, 0.0, 0.0))
    members = np.stack([logits, logits + np.random.default_rng(1).normal(size=logits.shape)])
    shipped = ShippedCalibration.fitted(members, targets, patients, seed=0)
    alone = fit(shipped.method, np.concatenate(list(members)), np.concatenate([targets, targets]))
    assert shipped.calibrator == alone
    mean = (alone.probs(members[0]) + alone.probs(members[1])) / 2
    np.testing.assert_array_equal(shipped.probs(members), mean)


def test_too_few_patients_to_choose_give_a_temperature() -> None:
    logits, targets, patients = films((0.5, 0.5, 0.5), (0.0, 0.0, 0.0))
    few = np.concatenate([np.flatnonzero(targets[:, c])[:5] for c in range(3)])
    shipped = ShippedCalibration.fitted(logits[None, few], targets[few], tuple(patients[i] for i in few), seed=0)
    assert shipped.method == "temperature"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (Scaling(weights=(0.5, 0.5), biases=(0.0, 0.0)), "Logits are divided by the temperature 2.000 before"),
        (Scaling(weights=(0.5, 0.25), biases=(0.1, -0.1)), "multiplied by 0.500/0.250 and 0.100/-0.100 is added"),
        (Sigmoids(slopes=(1.5, 1.0), intercepts=(0.25, 0.0)), "log-odds are multiplied by 1.500/1.000, 0.250/0.000"),
    ],
)  # fmt: skip
def test_it_comes_back_from_json_and_tells_its_numbers(made: Scaling | Sigmoids, said: str) -> None:
    even = isinstance(made, Scaling) and len(set(made.weights)) == 1
    method: Method = "platt" if isinstance(made, Sigmoids) else "temperature" if even else "vector"
    shipped = ShippedCalibration(method=method, calibrator=made)
    assert ShippedCalibration.of(json.loads(json.dumps({"calibration": shipped.to_json()})), 2) == shipped
    assert said in shipped.sentence


def test_a_run_of_before_has_a_temperature() -> None:
    old = ShippedCalibration.of({"temperature": {"value": 4.0, "reason": ""}}, 3)
    assert (old.method, old.temperature) == ("temperature", 4.0)
    assert old.calibrator == from_mapping(Scaling, {"weights": [0.25] * 3, "biases": [0.0] * 3}, where="here")


@pytest.mark.parametrize("method", ["none", "temperature", "vector", "platt"])
def test_a_local_temperature_undoes_what_made_the_answers_too_sure(method: str) -> None:
    """Targets are drawn from a calibration's own probabilities; the same calibration at half the temperature is too
    sure, and a local temperature of two mends it."""
    chance = np.random.default_rng(3)
    logits = chance.normal(size=(2, 4000, 3)) * 1.5
    right = {
        "platt": Sigmoids(slopes=(1.0, 0.9, 1.1), intercepts=(0.1, -0.2, 0.0)),
        "vector": Scaling(weights=(1.0, 0.8, 1.2), biases=(0.2, 0.0, -0.1)),
    }.get(method, Scaling(weights=(1.0,) * 3, biases=(0.0,) * 3))
    true = ShippedCalibration(method=method, calibrator=right)
    drawn = (true.probs(logits).cumsum(axis=1) > chance.random((4000, 1))).argmax(axis=1)
    sure = true.at_temperature(0.5)
    found = sure.local_temperature(logits, np.eye(3)[drawn])
    assert found == pytest.approx(2.0, rel=0.1)
    np.testing.assert_allclose(sure.at_temperature(2.0).probs(logits), true.probs(logits), rtol=1e-12)
