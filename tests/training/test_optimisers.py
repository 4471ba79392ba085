"""Optimisers against the papers, and schedules by hand."""

import numpy as np
import pytest
import torch

from hilum.errors import RunError
from hilum.training.optimisers import Optimiser, learning_rate
from hilum.training.stages import Stage

NAMES = ("adam", "adamw", "sgd")


def formula(name: str, weight: np.ndarray, steps: list[np.ndarray], lr: float, decay: float) -> np.ndarray:
    """The papers' update rules in double precision."""
    mean = square = np.zeros_like(weight)
    for t, gradient in enumerate(steps, start=1):
        if name == "adamw":
            weight = weight - lr * decay * weight
        else:
            gradient = gradient + decay * weight
        if name == "sgd":
            mean = 0.9 * mean + gradient
            weight = weight - lr * (gradient + 0.9 * mean)
        else:
            mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
            weight = weight - lr * (mean / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
    return weight


def gradients(step: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(3, 2, generator=generator), torch.randn(5, generator=generator)]


def weights() -> dict[str, torch.Tensor]:
    return {"a": torch.full((3, 2), 0.5, requires_grad=True), "b": torch.ones(5, requires_grad=True)}


def walk(optimiser: Optimiser, steps: range) -> None:
    for step in steps:
        optimiser.clear_gradients()
        for value, gradient in zip(optimiser.parameters.values(), gradients(step), strict=True):
            value.grad = gradient
        optimiser.step(0.1)


@pytest.mark.parametrize("name", NAMES)
def test_steps_follow_the_papers(name: str) -> None:
    """Five steps with weight decay (not torch.optim as the oracle: it would import the compiler)."""
    optimiser = Optimiser(Stage(name="x", optimiser=name, weight_decay=0.01), weights())
    walk(optimiser, range(5))
    for i, (key, start) in enumerate(weights().items()):
        steps = [gradients(step)[i].double().numpy() for step in range(5)]
        expected = formula(name, start.detach().double().numpy(), steps, 0.1, 0.01)
        np.testing.assert_allclose(optimiser.parameters[key].detach().numpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_state_put_back_goes_on_bit_for_bit(name: str) -> None:
    """Also where the parameter's memory is not in the order of its axes."""
    stage = Stage(name="x", optimiser=name)
    whole = Optimiser(stage, weights())
    walk(whole, range(2))
    halfway = {key: value.detach().clone() for key, value in whole.parameters.items()}
    saved = {key: value.clone() for key, value in whole.tensors().items()}
    walk(whole, range(2, 4))
    turned = {key: value.t().contiguous().t() if value.ndim == 2 else value for key, value in halfway.items()}
    second = Optimiser(stage, {key: value.requires_grad_() for key, value in turned.items()})
    second.restore(saved)
    walk(second, range(2, 4))
    assert all(torch.equal(second.parameters[key], value) for key, value in whole.parameters.items())


def test_state_of_other_parameters_is_refused() -> None:
    optimiser = Optimiser(Stage(name="x"), weights())
    with pytest.raises(RunError, match="optimiser state doesn't fit this stage \\('c/step'\\)"):
        optimiser.restore({**optimiser.tensors(), "c/step": torch.zeros(())})


def test_parameter_without_a_gradient_stays() -> None:
    optimiser = Optimiser(Stage(name="x"), weights())
    optimiser.parameters["a"].grad = torch.ones(3, 2)
    optimiser.step(0.1)
    assert (optimiser.parameters["b"] == 1).all()
    assert (optimiser.parameters["a"] != 0.5).all()


def test_schedules_by_hand() -> None:
    """Cosine: from the whole rate through half of it towards none."""
    cosine = Stage(name="x", lr=2.0, schedule="cosine")
    assert [learning_rate(cosine, step, 4) for step in (0, 2, 4)] == pytest.approx([2.0, 1.0, 0.0])
    assert learning_rate(Stage(name="x", lr=2.0), 3, 4) == 2.0


def test_one_cycle_rises_in_a_line_and_falls_by_a_cosine() -> None:
    stage = Stage(name="x", lr=1.0, schedule="one-cycle")
    rates = [learning_rate(stage, step, 100) for step in range(100)]
    assert rates[:25] == pytest.approx([(step + 1) / 25 for step in range(25)])
    assert max(rates) == rates[24] == 1.0
    assert rates[25:] == sorted(rates[25:], reverse=True)
    assert rates[-1] < 1e-3


def test_plateau_lowers_the_rate_by_a_fifth_when_the_watched_loss_stands_still() -> None:
    stage = Stage(name="x", lr=1.0, schedule="plateau", plateau_patience=2)
    watched = [1.0, 0.9, 0.95, 0.91, 0.8, 0.8, 0.8, 0.8, 0.8]
    rates = [learning_rate(stage, 0, 1, watched[:epoch]) for epoch in range(len(watched) + 1)]
    assert rates == pytest.approx([1, 1, 1, 1, 0.2, 0.2, 0.2, 0.04, 0.04, 0.008])


@pytest.mark.parametrize("name", NAMES)
def test_a_share_of_the_rate_is_that_rate(name: str) -> None:
    """Half the rate for one parameter: bit for bit what an optimiser at half the rate does to it."""
    stage = Stage(name="x", optimiser=name)
    shared = Optimiser(stage, weights(), {"b": 0.5})
    half, whole = Optimiser(stage, weights()), Optimiser(stage, weights())
    for step in range(3):
        for optimiser, lr in ((shared, 0.1), (half, 0.05), (whole, 0.1)):
            for value, gradient in zip(optimiser.parameters.values(), gradients(step), strict=True):
                value.grad = gradient.clone()
            optimiser.step(lr)
    assert torch.equal(shared.parameters["a"], whole.parameters["a"])
    assert torch.equal(shared.parameters["b"], half.parameters["b"])


def test_long_gradients_are_shortened_together_and_short_ones_left() -> None:
    """Norm 5 of (3, 4) becomes 1: (0.6, 0.8); norm 0.5 stays."""
    optimiser = Optimiser(Stage(name="x", optimiser="sgd", clip_norm=1.0), weights())
    a, b = optimiser.parameters.values()
    a.grad, b.grad = torch.zeros(3, 2), torch.zeros(5)
    a.grad[0, 0], b.grad[0] = 3.0, 4.0
    optimiser.step(0.1)
    assert [a.grad[0, 0].item(), b.grad[0].item()] == pytest.approx([0.6, 0.8], rel=1e-5)
    a.grad, b.grad = torch.zeros(3, 2), torch.zeros(5)
    a.grad[0, 0], b.grad[0] = 0.3, 0.4
    optimiser.step(0.1)
    assert [a.grad[0, 0].item(), b.grad[0].item()] == pytest.approx([0.3, 0.4])


@pytest.mark.parametrize("schedule", ["constant", "plateau", "cosine"])
def test_warm_up_rises_in_a_line_to_what_the_schedule_says(schedule: str) -> None:
    stage = Stage(name="x", lr=1.0, schedule=schedule, warmup_share=0.2)
    rates = [learning_rate(stage, step, 20) for step in range(20)]
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[4] == 1.0
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert (rates[-1] < 0.02) == (schedule == "cosine")
