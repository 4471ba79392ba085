"""Memory that runs out above some batch size: the size that fits is found and named."""

import pytest
import torch
from torch import nn

from hilum.errors import TrainingError
from hilum.progress import Silent
from hilum.training.batch_size import is_out_of_memory, largest_that_fits
from hilum.training.engine import Loop, run
from hilum.training.losses import LossConfig, build_loss
from hilum.training.optimisers import Optimiser
from hilum.training.position import Position
from hilum.training.stages import Stage

CPU = "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."


class Hungry(nn.Module):
    """Needs more memory than there is above a number of films."""

    def __init__(self, most: int, error: BaseException) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(4, 3), nn.BatchNorm1d(3)
        self.most, self.error = most, error

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if len(inputs) > self.most:
            raise self.error
        return self.norm(self.layer(inputs))


def train(most: int, error: BaseException) -> Hungry:
    part, stage = Hungry(most, error), Stage(name="all", batch_size=20, batch_norm="train")
    targets = torch.eye(3)[torch.arange(20) % 3]
    loop = Loop(
        stage=stage,
        part=part,
        inputs=lambda rows, view: torch.ones(len(rows), 4),
        targets=targets,
        fit=torch.arange(20).numpy(),
        watch=torch.arange(0).numpy(),
        loss=build_loss(LossConfig(), targets.numpy()),
        optimiser=Optimiser(stage, dict(part.named_parameters())),
        seed=0,
    )
    with Silent().bar("") as bar:
        run(loop, Position(), between=lambda: None, report=lambda row: None, bar=bar)
    return part


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError(CPU), MemoryError()])
def test_the_batch_size_that_fits_is_named(error: BaseException) -> None:
    """20 films don't fit, 10 don't, 5 do."""
    with pytest.raises(
        TrainingError, match=r"Memory ran out on cpu in stage 'all', epoch 1, batch 1, with 20 films"
    ) as told:
        train(6, error)
    assert "A batch of 5 fits (forward and backward passes were tried): set batch_size=5 in that stage" in str(
        told.value
    )


def test_not_even_one_film_fits() -> None:
    with pytest.raises(TrainingError, match="Not even one film fits: train from a later layer"):
        train(0, torch.OutOfMemoryError("CUDA out of memory."))


def test_another_error_is_left_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        train(6, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))

    def attempt(count: int) -> None:
        raise RuntimeError("another fault")

    with pytest.raises(RuntimeError, match="another fault"):
        largest_that_fits(attempt, 8)


def test_what_counts_as_running_out() -> None:
    assert is_out_of_memory(RuntimeError(CPU))
    assert not is_out_of_memory(ValueError("can't allocate memory"))


@pytest.mark.parametrize(("most", "found"), [(9, 8), (3, 2), (1, 1), (0, 0)])
def test_halving(most: int, found: int) -> None:
    tried = []

    def attempt(count: int) -> None:
        tried.append(count)
        if count > most:
            raise MemoryError

    assert largest_that_fits(attempt, 16) == found
    assert tried == [8, 4, 2, 1][: len(tried)]
