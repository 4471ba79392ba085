"""Memory that runs out above some batch size: the size that fits is named; what needs no batch is done in halves."""

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from hilum.errors import TrainingError
from hilum.progress import Silent
from hilum.training import prediction
from hilum.training.batch_size import in_halves, is_out_of_memory, largest_that_fits
from hilum.training.engine import Loop, run, score
from hilum.training.frozen import frozen_outputs
from hilum.training.losses import LossConfig, build_loss
from hilum.training.optimisers import Optimiser
from hilum.training.position import Position
from hilum.training.stages import Stage

CPU = "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."


class Hungry(nn.Module):
    """Needs more memory than there is above a number of films."""

    def __init__(self, most: int, error: BaseException) -> None:
        super().__init__()
        self.seen: list[int] = []
        self.layer, self.norm = nn.Linear(4, 3), nn.BatchNorm1d(3)
        self.most, self.error = most, error

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(inputs))
        if len(inputs) > self.most:
            raise self.error
        return self.norm(self.layer(inputs))


def hungry(most: int, error: BaseException) -> Loop:
    part, stage = Hungry(most, error), Stage(name="all", batch_size=20, batch_norm="train")
    targets = torch.eye(3)[torch.arange(20) % 3]
    return Loop(
        stage=stage,
        part=part,
        inputs=lambda rows, view: torch.ones(len(rows), 4),
        targets=targets,
        fit=torch.arange(20).numpy(),
        watch=torch.arange(0).numpy(),
        watch_batch=16,
        loss=build_loss(LossConfig(), targets.numpy()),
        optimiser=Optimiser(stage, dict(part.named_parameters())),
        seed=0,
    )


def train(most: int, error: BaseException) -> None:
    with Silent().bar("") as bar:
        run(hungry(most, error), Position(), between=lambda: None, report=lambda row: None, bar=bar)


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
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
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


def test_films_are_scored_in_halves_where_memory_runs_out() -> None:
    """16 and 4 films: 16 and 8 don't fit, so fours are scored; loss and accuracy are those of enough memory."""
    rich, poor = (hungry(most, MemoryError()) for most in (20, 4))
    poor.part.load_state_dict(rich.part.state_dict())
    found = [score(replace(loop, watch=loop.fit)) for loop in (rich, poor)]
    assert found[1] == pytest.approx(found[0])
    assert (rich.part.seen, poor.part.seen) == ([16, 4], [16, 8, 4, 4, 8, 4, 4, 4])
    with pytest.raises(TrainingError, match="ran out on cpu while the watched films were scored, with a single film"):
        score(replace(hungry(0, MemoryError()), watch=rich.fit))


def test_halves_come_in_the_order_of_the_films_and_other_errors_as_they_are() -> None:
    def work(rows: torch.Tensor) -> list[int]:
        if len(rows) > 2:
            raise MemoryError
        return rows.tolist()

    assert in_halves(work, torch.arange(7), "here") == [[0], [1, 2], [3, 4], [5, 6]]
    with pytest.raises(RuntimeError, match="another fault"):
        in_halves(lambda rows: (_ for _ in ()).throw(RuntimeError("another fault")), torch.arange(7), "here")


def test_logits_are_predicted_in_halves_where_memory_runs_out(
    tiny: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tiles = tiny.classifier(), tiny.tiles(10)[0]
    whole, forward = prediction.predict_logits(model, tiles), type(model).forward

    def greedy(self: object, films: torch.Tensor) -> torch.Tensor:
        if len(films) > 3:
            raise RuntimeError(CPU)
        return forward(self, films)

    monkeypatch.setattr(type(model), "forward", greedy)
    np.testing.assert_allclose(prediction.predict_logits(model, tiles), whole, rtol=1e-5, atol=1e-6)


def test_frozen_layers_that_do_not_fit_are_said_with_their_mend(
    tiny: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their number of films is fixed, so nothing is tried in halves."""
    model, views = tiny.classifier().eval(), torch.zeros(5, 1, tiny.SIZE, tiny.SIZE)

    def fails(*_: object) -> None:
        raise RuntimeError(CPU)

    monkeypatch.setattr(type(model.normalise), "forward", fails)
    told = r"Memory ran out on cpu in the frozen layers, with 32 films at once. That number is fixed, .* smaller images"
    with pytest.raises(TrainingError, match=told):
        frozen_outputs(model, views, [6])
