"""Losses that are not finite, or explode: the batch, the layer and the mend are named."""

import math
from dataclasses import replace
from types import ModuleType

import pytest
import torch

from hilum.errors import TrainingError
from hilum.progress import Silent
from hilum.training.augmentation import Augmentation
from hilum.training.diagnosing import Divergence, rows_in_words
from hilum.training.engine import Loop, epoch_batches, run
from hilum.training.live import LiveInputs
from hilum.training.losses import LossConfig, build_loss
from hilum.training.optimisers import Optimiser
from hilum.training.position import Position
from hilum.training.stages import Stage
from hilum.training.trained_part import TrainedPart


def loop(tiny: ModuleType, **changes: object) -> Loop:
    stage = Stage(**{"name": "block", "trainable_from": "conv3", "lr": 1e-2, "epochs": 4, "batch_size": 8, **changes})
    model, data = tiny.classifier(), tiny.data()
    part = TrainedPart(model, 6, batch_norm_trains=stage.batch_norm == "train")
    return Loop(
        stage=stage,
        part=part,
        inputs=LiveInputs(classifier=model, cut=6, films=tiny.films(), augmentation=Augmentation(), seed=0),
        targets=torch.tensor(data.targets, dtype=torch.float32),
        fit=data.fit,
        watch=data.watch,
        loss=build_loss(LossConfig(), data.targets),
        optimiser=Optimiser(stage, part.trained_parameters()),
        seed=0,
    )


def train(loop: Loop) -> Position:
    at = Position()
    with Silent().bar("") as bar:
        run(loop, at, between=lambda: None, report=lambda row: None, bar=bar)
    return at


def refused(loop: Loop) -> str:
    with pytest.raises(TrainingError) as caught:
        train(loop)
    return str(caught.value)


@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
def test_a_layer_that_overflows_is_named_with_its_numbers(tiny: ModuleType, batch_norm: str) -> None:
    """Weights of conv3 so large that fp32 can't hold what comes out, in training mode as in evaluation mode."""
    given = loop(tiny, batch_norm=batch_norm)
    with torch.no_grad():
        given.part.classifier.get_submodule("encoder.conv3").weight.fill_(3e38)
    told = refused(given)
    assert "in stage 'block', epoch 1, batch 1 (films in rows " in told
    assert "Layer encoder.conv3 (Conv2d) is the first whose output is not finite, from finite inputs (largest" in told
    assert "and finite weights (largest 3e+38): its numbers left the range of float32. Lower the learning rate" in told


def test_films_that_are_not_finite_are_named_by_row(tiny: ModuleType) -> None:
    given = loop(tiny)
    bad = int(epoch_batches(given, 0)[0][2])

    def inputs(rows: torch.Tensor, view: int) -> torch.Tensor:
        found = given.inputs(rows, view)
        found[rows == bad] = torch.nan
        return found

    told = refused(replace(given, inputs=inputs))
    assert f"is not finite for the film in row {bad}: check those films, their preprocessing" in told


def test_labels_that_break_the_loss_are_named_by_row(tiny: ModuleType) -> None:
    given = loop(tiny)
    bad = int(epoch_batches(given, 0)[0][0])
    given.targets[bad, 1] = torch.inf
    told = refused(given)
    assert f"but the loss of the film in row {bad} is not finite: check the labels of those films." in told
    assert "All layers gave finite numbers (logits up to" in told


def test_weights_that_came_broken_are_named(tiny: ModuleType) -> None:
    given = loop(tiny)
    with torch.no_grad():
        given.part.classifier.get_submodule("encoder.conv3").weight[0, 0, 0, 0] = torch.nan
    told = refused(given)
    assert (
        "Layer encoder.conv3 (Conv2d) has a weight that is not finite before the first step: check the weights" in told
    )


def broken_after(given: Loop, gradient: float, weight: float) -> Loop:
    """The first step leaves this gradient and this weight behind."""

    class Broken(Optimiser):
        def step(self, lr: float) -> None:
            value = self.parameters["encoder.conv3.weight"]
            with torch.no_grad():
                value.grad[0, 0, 0, 0], value[0, 0, 0, 0] = gradient, weight

    return replace(
        given,
        optimiser=Broken(
            given.stage, {n.removeprefix("classifier."): p for n, p in given.part.trained_parameters().items()}
        ),
    )


def test_a_gradient_that_is_not_finite_is_the_cause_of_broken_weights(tiny: ModuleType) -> None:
    told = refused(broken_after(loop(tiny), torch.nan, torch.nan))
    assert "epoch 1, batch 2" in told
    assert (
        "has a weight that is not finite: the gradient of the step before was not finite, first in encoder.conv3"
        in told
    )


def test_a_step_too_long_is_told_from_a_broken_gradient(tiny: ModuleType) -> None:
    told = refused(broken_after(loop(tiny), 7.0, torch.inf))
    assert "though the gradient of the step before was finite (largest 7). Lower the learning rate (now 0.01)" in told


def test_a_fault_that_does_not_repeat_says_so(tiny: ModuleType) -> None:
    given, seen = loop(tiny), []

    class Once:
        def sums(self, logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            seen.append(1)
            total, weight = given.loss.sums(logits, targets)
            return (total * torch.nan if len(seen) == 1 else total), weight

    assert "Run once more, the batch gave a finite loss, so the fault does not repeat" in refused(
        replace(given, loss=Once())
    )


def test_rows_in_words() -> None:
    assert rows_in_words(torch.arange(10)) == "films in rows 0, 1, 2, 3, 4, 5, 6, 7 and 2 more"
    assert rows_in_words(torch.tensor([45, 3]), films=40) == "films in rows 5, 3"
    assert rows_in_words(torch.tensor([4])) == "film in row 4"


def test_divergence_by_hand() -> None:
    """Began at 1 with two classes: a running mean over two batches must pass 3; a jump to 4 does not, a second does."""
    rule, at = Divergence(factor=3.0, batches=2), Position()
    assert [rule.follow(at, loss, 2) for loss in (1.0, 4.0, 4.0, 4.0)] == [False, False, True, True]
    assert at.first_loss == 1
    assert at.recent_loss == pytest.approx(1 + 3 * (1 - 0.5**3))


def test_knowing_nothing_is_not_diverging() -> None:
    """A stage that begins at 0.01 may come to what guessing costs."""
    rule, at = Divergence(factor=1.5, batches=1), Position()
    assert not any(rule.follow(at, loss, 10) for loss in (0.01, math.log(10), 1.4 * math.log(10)))
    assert rule.follow(at, 1.6 * math.log(10), 10)


def test_a_loss_that_explodes_stops_the_training_unless_that_is_switched_off(tiny: ModuleType) -> None:
    """A rate of 30 for SGD on logits: finite, and far above its beginning."""
    given = loop(tiny, lr=3.0, optimiser="adam")
    told = refused(replace(given, divergence=Divergence(factor=2.0, batches=2)))
    assert "The loss diverges in stage 'block', epoch" in told
    assert "switch this stop off (divergence=None)" in told
    assert len(train(loop(tiny, lr=3.0)).rows) > 0


def test_a_training_that_learns_is_left_alone(tiny: ModuleType) -> None:
    assert len(train(replace(loop(tiny), divergence=Divergence())).rows) == 4
