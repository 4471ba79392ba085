"""The training rooms on a GPU: no array of the CPU meets one of the GPU, and steps don't wait for each other."""

import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from hilum.errors import TrainingError
from hilum.progress import Silent
from hilum.training.augmentation import Augmentation, make_views
from hilum.training.engine import Loop, run
from hilum.training.films import Films
from hilum.training.fitting import Examples, FitConfig, fit_network, predict_images
from hilum.training.gradient_norms import gradient_norms
from hilum.training.live import LiveInputs
from hilum.training.losses import LossConfig, build_loss
from hilum.training.lr_finder import SweepConfig
from hilum.training.optimisers import Optimiser
from hilum.training.photo_augmentation import PhotoAugmentation
from hilum.training.position import Position
from hilum.training.prediction import predict_logits
from hilum.training.prefix_cache import PrefixCache
from hilum.training.ranks import group
from hilum.training.row_store import RowsOf, RowStore
from hilum.training.stages import Stage
from hilum.training.transfer import sweep_stage, train_member

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

CUDA = torch.device("cuda")
CHANGES = PhotoAugmentation(shift_pixels=1, brightness=0.1)


@pytest.fixture(autouse=True)
def _products_in_fp32() -> Iterator[None]:
    """Without TF32, so that results can be compared closely."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def bars(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright bar in one of three places: images and places (synthetic)."""
    chance = np.random.default_rng(seed)
    places = np.arange(count) % 3
    images = chance.integers(0, 100, (count, 3, 12, 12), dtype=np.uint8)
    for image, place in zip(images, places, strict=True):
        image[:, :, 4 * place : 4 * place + 4] += 120
    return images, places.astype(np.int64)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 1),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(8 * 36, 3),
        )


def examples() -> Examples:
    return Examples.of(bars(120), bars(30, seed=1), classes=3)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_a_whole_network_learns_in_every_precision(precision: str, optimiser: str) -> None:
    """And the images that it is asked for afterwards are answered as they were watched."""
    net = network()
    settings = FitConfig(
        epochs=8, lr=2e-2, batch_size=8, probe=30, precision=precision, optimiser=optimiser, clip_norm=5.0,
        augmentation=CHANGES,
    )  # fmt: skip
    fitted = fit_network(net, examples(), settings, seed=0, device=CUDA)
    assert fitted.rows[-1]["loss"] < fitted.rows[0]["loss"]
    assert fitted.rows[-1]["watch_accuracy"] > 0.9
    images, labels = bars(30, seed=1)
    right = (predict_images(net, images, fitted).argmax(1) == labels).mean()
    assert right == pytest.approx(fitted.rows[-1]["watch_accuracy"], abs=0.05)


def test_it_trains_as_on_the_cpu() -> None:
    """Without dropout, whose masks differ: order and augmentation are the same, losses up to rounding."""
    found = []
    for device in (torch.device("cpu"), CUDA):
        net = network()
        net[7].p = 0.0
        settings = FitConfig(epochs=3, lr=1e-2, batch_size=16, optimiser="sgd", augmentation=CHANGES)
        fitted = fit_network(net, examples(), settings, seed=0, device=device)
        found.append([row[key] for row in fitted.rows for key in ("loss", "watch_loss")])
    assert found[1] == pytest.approx(found[0], rel=1e-2)


def test_a_step_waits_for_the_gpu_once() -> None:
    """To look at its loss before it reaches a weight; a step of fp16 looks at its gradients too."""
    waits: list[int] = []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")

        def batch(net: nn.Module, epoch: int, number: int) -> None:
            if epoch and number:
                waits.append(sum("synchroniz" in str(one.message) for one in told))
            told.clear()

        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            for precision, most in (("bf16", 1), ("fp16", 2)):
                settings = FitConfig(
                    epochs=2, batch_size=16, precision=precision, augmentation=CHANGES, clip_norm=1.0, optimiser="sgd"
                )
                fit_network(network(), examples(), settings, seed=0, device=CUDA, each_batch=batch)
                assert waits
                assert max(waits) == most
                waits.clear()
        finally:
            torch.cuda.set_sync_debug_mode(before)


def test_films_that_stay_on_the_gpu_give_the_same_views(tiny: ModuleType, tmp_path: Path) -> None:
    """As those streamed from disk, and as on the CPU up to rounding."""
    films, rows = tiny.films(), torch.tensor([7, 3, 39])
    there = films.take(rows.to(CUDA))
    assert films._on_device[there.device] is not None
    assert torch.equal(there.cpu(), films.take(rows))
    store = RowStore(tmp_path, {}, films.tiles.shape[1:], np.dtype(np.uint8))
    keys = [bytes([i]) * 16 for i in range(40)]
    with store.writing():
        store.append(keys, films.tiles)
    streamed = Films(RowsOf(store, store.places(keys)), films.film_ids)
    assert torch.equal(streamed.take(rows.to(CUDA)), there)
    store.close()
    config = Augmentation()
    for view in (0, 1):
        one, other = (make_views(some, films.ids(rows), view, config=config, seed=0) for some in (there, there.cpu()))
        torch.testing.assert_close(one.cpu(), other, rtol=0, atol=2e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("cut", [3, 9])
def test_cached_outputs_are_the_live_ones(tiny: ModuleType, tmp_path: Path, cut: int, precision: str) -> None:
    model, films, rows = tiny.classifier().to(CUDA), tiny.films(), torch.tensor([7, 3, 39], device=CUDA)
    config = Augmentation()
    inputs = LiveInputs(classifier=model.eval(), cut=cut, films=films, augmentation=config, seed=0, precision=precision)
    wanted = {0: np.arange(40), 1: np.arange(40)}
    store = PrefixCache(tmp_path, store="fp32")
    with store.open(model, cut, films, wanted, augmentation=config, precision=precision) as outputs:
        assert outputs.resident
        for view in (0, 1):
            assert outputs(rows, view).device == rows.device
            close = {"rtol": 1e-4, "atol": 1e-5} if precision == "fp32" else {"rtol": 2e-2, "atol": 2e-2}
            torch.testing.assert_close(outputs(rows, view), inputs(rows, view), **close)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_training_that_stopped_goes_on(tiny: ModuleType, tmp_path: Path, precision: str) -> None:
    """Two stages on the cache, stopped inside the second: the rows are those of one that never stopped."""
    stages = tuple(replace(stage, precision=precision) for stage in tiny.BLOCKS)
    config = tiny.config(checkpoint_every_s=0.0)

    def train(folder: str, stop: bool = False) -> list[float]:
        seen = []

        def watch(row: dict) -> None:
            seen.append(row)
            if stop and len(seen) == 6:
                raise Stopped

        model, kept = tiny.classifier().to(CUDA), tmp_path / folder
        cache = PrefixCache(tmp_path / "cache")
        history = train_member(model, tiny.data(), stages, config, folder=kept, cache=cache, seed=0, watch=watch)
        logits = predict_logits(model, tiny.tiles()[0])
        assert logits.shape == (40, 3)
        lines = [json.loads(line) for line in (kept / "metrics.jsonl").read_text().splitlines()]
        assert len(lines) == len(history.rows) == 7
        return [row[key] for row in lines for key in ("loss", "watch_loss")]

    whole = train("whole")
    with pytest.raises(Stopped):
        train("cut", stop=True)
    again = train("cut")
    assert np.isfinite(whole).all()
    assert again == pytest.approx(whole, rel=1e-2)


def test_rates_are_swept_and_gradients_measured_alike_each_time(tiny: ModuleType, tmp_path: Path) -> None:
    model = tiny.classifier().to(CUDA)
    sweep = SweepConfig(low=1e-5, high=1.0, steps=20)
    found = sweep_stage(model, tiny.data(), tiny.BLOCKS[1], tiny.config(), sweep, cache=PrefixCache(tmp_path), seed=0)
    assert np.isfinite(found.losses[0])
    net, (images, labels) = network().to(CUDA), bars(30)
    batch = torch.from_numpy(images).to(CUDA).float() / 255
    twice = []
    for _ in range(2):
        torch.rand(3, device=CUDA)
        twice.append(gradient_norms(net, batch, torch.from_numpy(labels).to(CUDA)).weights)
    assert twice[0] == pytest.approx(twice[1], rel=1e-5)


def test_a_loss_that_is_not_finite_is_explained() -> None:
    given = examples()
    net = network()
    with torch.no_grad():
        net[3].weight[0, 0] = torch.nan
    with pytest.raises(TrainingError, match=r"Layer 3 \(Conv2d\) has a weight that is not finite before the first"):
        fit_network(net, given, FitConfig(epochs=1), seed=0, device=CUDA)
    net = network()
    with torch.no_grad():
        net[0].weight.fill_(3e38)
    with pytest.raises(TrainingError, match=r"is the first whose output is not finite"):
        fit_network(net, given, FitConfig(epochs=1), seed=0, device=CUDA)


class Wide(nn.Module):
    """Needs about 40 MB of maps a film."""

    def __init__(self) -> None:
        super().__init__()
        self.widen, self.own = nn.Linear(4, 10_000_000 // 2), nn.Linear(4, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.own(inputs) + self.widen(inputs).square().mean(1, keepdim=True)


def test_where_memory_really_runs_out_the_batch_size_that_fits_is_named() -> None:
    stage, part = Stage(name="all", batch_size=64, batch_norm="train", optimiser="sgd", lr=1e-3), Wide().to(CUDA)
    targets = torch.eye(3)[torch.arange(64) % 3]
    loop = Loop(
        stage=stage,
        part=part,
        inputs=lambda rows, view: torch.ones(len(rows), 4, device=CUDA),
        targets=targets.to(CUDA),
        fit=np.arange(64),
        watch=np.arange(0),
        loss=build_loss(LossConfig(), targets.numpy()).to(CUDA),
        optimiser=Optimiser(stage, dict(part.named_parameters())),
        seed=0,
    )
    torch.cuda.empty_cache()
    limit = 1.5e9 / torch.cuda.mem_get_info(CUDA)[1]
    torch.cuda.set_per_process_memory_fraction(limit)
    try:
        with (
            Silent().bar("") as bar,
            pytest.raises(TrainingError, match=r"Memory ran out on cuda in stage 'all'.* A batch of (16|8|4|2|1) fits"),
        ):
            run(loop, Position(), between=lambda: None, report=lambda row: None, bar=bar)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.filterwarnings("default")
def test_processes_with_a_gpu_each_talk_over_nccl(tmp_path: Path) -> None:
    """A group of one: what is summed, and what all agree on, lies on the GPU."""
    with group(cuda=True, where=f"file://{tmp_path}/met", rank=0, world=1) as ranks:
        assert ranks._device().type == "cuda"
        assert ranks.summed(torch.ones(3, device=CUDA)).tolist() == [1.0, 1.0, 1.0]
