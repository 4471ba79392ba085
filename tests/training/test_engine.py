"""The loop: order, early stopping, and losses that are not numbers."""

from collections import Counter
from types import ModuleType

import numpy as np
import pytest
import torch

from hilum.errors import TrainingError
from hilum.progress import Silent
from hilum.training.augmentation import Augmentation
from hilum.training.engine import Loop, epoch_batches, run, score
from hilum.training.live import LiveInputs
from hilum.training.losses import LossConfig, build_loss
from hilum.training.optimisers import Optimiser
from hilum.training.position import Position, Tally
from hilum.training.stages import Stage
from hilum.training.trained_part import TrainedPart


def loop(tiny: ModuleType, *, watch: int = 12, **changes: object) -> Loop:
    stage = Stage(**{"name": "block", "trainable_from": "conv3", "lr": 1e-2, "epochs": 4, "batch_size": 8, **changes})
    model, data = tiny.classifier(), tiny.data(watch=watch)
    part = TrainedPart(model, 6, batch_norm_trains=False)
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


def test_every_film_once_an_epoch_in_batches_of_equal_size(tiny: ModuleType) -> None:
    """28 films in batches of at most 9: four of 7; another order each epoch, the same for the same seed."""
    given = loop(tiny, batch_size=9)
    first, second = epoch_batches(given, 0), epoch_batches(given, 1)
    assert [len(rows) for rows in first] == [7, 7, 7, 7]
    assert Counter(torch.cat(first).tolist()) == Counter(given.fit.tolist())
    assert not torch.equal(torch.cat(first), torch.cat(second))
    assert torch.equal(torch.cat(first), torch.cat(epoch_batches(given, 0)))


def test_rows_tell_the_epoch(tiny: ModuleType) -> None:
    """Loss falls on films that can be told apart, and is what a second look finds."""
    given = loop(tiny)
    at = train(given)
    assert [row["epoch"] for row in at.rows] == [1, 2, 3, 4]
    assert at.rows[-1]["loss"] < at.rows[0]["loss"]
    assert all(row["films_per_s"] == pytest.approx(28 / row["seconds"]) for row in at.rows)
    best = min(at.rows, key=lambda row: row["watch_loss"])
    assert score(given) == (best["watch_loss"], best["watch_accuracy"])
    assert [row["epoch"] for row in at.rows if row["best"]][-1] == best["epoch"] == at.best_epoch + 1


def test_stops_early_and_restores_the_best(tiny: ModuleType) -> None:
    """A rate that is far too high: the first epoch is never beaten, and its weights come back."""
    given = loop(tiny, lr=3.0, epochs=30, patience=2)
    at = train(given)
    assert at.epoch == at.best_epoch + 3 < 30
    assert all(torch.equal(value, at.best[name]) for name, value in given.part.copy().items())


def test_without_watched_films_the_last_weights_stay(tiny: ModuleType) -> None:
    given = loop(tiny, watch=0, patience=1)
    at = train(given)
    assert len(at.rows) == 4
    assert at.rows[-1]["watch_loss"] is None
    assert not at.best


def test_loss_that_is_not_a_number_stops_with_the_batch(tiny: ModuleType) -> None:
    """Before any weight is touched by it."""
    given = loop(tiny)
    before = given.part.copy()
    given.targets[epoch_batches(given, 0)[0][0], 1] = torch.inf
    with pytest.raises(TrainingError, match=r"The loss is (inf|nan) in stage 'block', epoch 1, batch 1 .films in rows"):
        train(given)
    assert all(torch.equal(value, before[name]) for name, value in given.part.copy().items())


def test_watched_loss_that_is_not_a_number_stops(tiny: ModuleType) -> None:
    given = loop(tiny)
    given.targets[int(given.watch[0]), 1] = torch.inf
    with pytest.raises(TrainingError, match="The loss on the watched films is (inf|nan) in stage 'block', epoch 1"):
        train(given)


def test_tally_by_hand() -> None:
    """Two of three known films are right; the unknown one is not counted."""
    tally = Tally()
    logits = torch.tensor([[2.0, 1], [0, 1], [1, 0], [1, 0]])
    targets = torch.tensor([[1.0, 0], [0, 1], [0, 1], [torch.nan, torch.nan]])
    tally.add(torch.tensor(6.0), torch.tensor(4.0), logits, targets)
    assert tally.means() == (1.5, pytest.approx(2 / 3))
    assert Tally().means() == (None, None)


def test_a_seed_gives_the_same_weights(tiny: ModuleType) -> None:
    """And dropout is on: another seed gives others, whatever the global generator holds."""
    one, two = loop(tiny), loop(tiny)
    train(one)
    torch.rand(5)
    train(two)
    assert all(torch.equal(value, two.part.copy()[name]) for name, value in one.part.copy().items())
    assert np.isfinite(score(one)[0])
