"""A member's whole training: what freezes, what is kept, what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from hilum.config import to_mapping
from hilum.errors import ConfigError, RunError, TrainingError
from hilum.training.losses import LossConfig
from hilum.training.prediction import predict_from_cache, predict_logits
from hilum.training.prefix_cache import PrefixCache
from hilum.training.stages import Stage
from hilum.training.transfer import TrainingData, train_member


def train(tiny: ModuleType, folder: Path, *, cache: PrefixCache | None = None, seed: int = 0, **changes: object):
    model = changes.pop("model", None) or tiny.classifier()
    data, stages = changes.pop("data", None) or tiny.data(), changes.pop("stages", tiny.BLOCKS)
    history = train_member(
        model, data, stages, tiny.config(**changes), folder=folder / "member", cache=cache, seed=seed
    )
    return model, history


def test_learns(tiny: ModuleType, tmp_path: Path) -> None:
    """Films that can be told apart are, on films that were not fitted."""
    stages = (Stage(name="all", trainable_from="all", lr=1e-2, epochs=12, batch_size=8, views=None),)
    model, history = train(tiny, tmp_path, stages=stages)
    right = predict_logits(model, tiny.data().tiles[:12]).argmax(1) == np.arange(12) % 3
    assert right.mean() >= 0.9
    assert history.rows[-1]["loss"] < history.rows[0]["loss"]
    assert not history.stages[0].cached


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "live"])
@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
def test_frozen_is_bit_identical_after_training(
    tiny: ModuleType, tmp_path: Path, cached: bool, batch_norm: str
) -> None:
    """Parameters and running statistics before the cut; behind it they move as asked."""
    model = tiny.classifier()
    before = tiny.state(model)
    stages = tuple(replace(stage, batch_norm=batch_norm) for stage in tiny.BLOCKS)
    train(tiny, tmp_path, model=model, stages=stages, cache=PrefixCache(tmp_path / "cache") if cached else None)
    after = tiny.state(model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved & {"head.fc2.weight", "encoder.conv3.weight"} == {"head.fc2.weight", "encoder.conv3.weight"}
    assert all(name.startswith(("head.", "encoder.conv3.", "encoder.bn3.")) for name in moved)
    assert ("encoder.bn3.running_mean" in moved) == (batch_norm == "train")


@pytest.mark.parametrize("frozen", ["auto", "fp32", "bf16"])
def test_single_precision_cache_trains_the_same_bits_as_live(tiny: ModuleType, tmp_path: Path, frozen: str) -> None:
    """Two stages, cached and live, whatever frozen layers are computed in."""
    cache = PrefixCache(tmp_path, store="fp32")
    cached, told = train(tiny, tmp_path / "a", cache=cache, frozen_precision=frozen)
    live, _ = train(tiny, tmp_path / "b", frozen_precision=frozen)
    assert [stage.cached for stage in told.stages] == [True, True]
    assert tiny.same(tiny.state(cached), tiny.state(live))


def test_history_and_metrics_tell_the_same(tiny: ModuleType, tmp_path: Path) -> None:
    """One line an epoch; plain JSON."""
    _, history = train(tiny, tmp_path, cache=PrefixCache(tmp_path / "cache"))
    lines = (tmp_path / "member" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [dict(row) for row in history.rows]
    assert [(s.name, s.frozen_layers, s.epochs) for s in history.stages] == [("head", 9, 4), ("block", 6, 3)]
    assert history.training_s == pytest.approx(sum(row["seconds"] for row in history.rows))
    assert history.prefix_s > 0
    json.dumps(to_mapping(history))


def test_afterwards_it_is_an_ordinary_module(tiny: ModuleType, tmp_path: Path) -> None:
    """Evaluation mode, gradients wanted everywhere, and torch's global state as it was."""
    model = tiny.classifier()
    random, mode = torch.get_rng_state(), torch.get_deterministic_debug_mode()
    train(tiny, tmp_path, model=model, cache=PrefixCache(tmp_path / "cache"))
    assert not any(module.training for module in model.modules())
    assert all(value.requires_grad for value in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.get_deterministic_debug_mode() == mode


class Stop(Exception):
    """Stands for the end of the process at a chosen moment."""


@pytest.mark.parametrize(
    ("batches", "name"), [(1, "adam"), (4, "adam"), (5, "sgd"), (13, "adam"), (17, "sgd"), (20, "adam")]
)
def test_stopped_after_any_batch_ends_in_the_same_bits(
    tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: int, name: str
) -> None:
    """In the middle of an epoch, between epochs, between stages; weights and metrics, seconds apart."""
    new = {"layer_decay": 0.5, "warmup_share": 0.3, "clip_norm": 0.5} if name == "sgd" else {}
    stages = tuple(replace(stage, optimiser=name, batch_norm="train", **new) for stage in tiny.BLOCKS)
    whole, told = train(tiny, tmp_path / "whole", stages=stages)
    left = batches

    def step_until_stopped(self: object, lr: float) -> None:
        nonlocal left
        if left == 0:
            raise Stop
        left -= 1
        step(self, lr)

    from hilum.training.optimisers import Optimiser

    step = Optimiser.step
    with monkeypatch.context() as patched, pytest.raises(Stop):
        patched.setattr(Optimiser, "step", step_until_stopped)
        train(tiny, tmp_path / "cut", stages=stages, checkpoint_every_s=0)
    resumed, retold = train(tiny, tmp_path / "cut", stages=stages, checkpoint_every_s=0)
    assert tiny.same(tiny.state(whole), tiny.state(resumed))

    def timeless(rows):
        return [
            {key: value for key, value in row.items() if key != "seconds" and not key.endswith("_s")} for row in rows
        ]

    assert timeless(told.rows) == timeless(retold.rows)
    lines = (tmp_path / "cut" / "member" / "metrics.jsonl").read_text().splitlines()
    assert timeless(map(json.loads, lines)) == timeless(told.rows)


def test_what_a_killed_process_left_is_removed(tiny: ModuleType, tmp_path: Path) -> None:
    """A checkpoint that was half written."""
    (tmp_path / "member").mkdir()
    (tmp_path / "member" / ".checkpoint.0123.part.safetensors").write_bytes(b"half")
    train(tiny, tmp_path)
    assert sorted(p.name for p in (tmp_path / "member").iterdir()) == ["checkpoint.safetensors", "metrics.jsonl"]


def test_finished_training_is_not_repeated(tiny: ModuleType, tmp_path: Path) -> None:
    """The same call gives weights and history back."""
    model, history = train(tiny, tmp_path)
    again, told = train(tiny, tmp_path)
    assert tiny.same(tiny.state(model), tiny.state(again))
    assert told == history


@pytest.mark.parametrize("what", ["seed", "stages", "loss", "weights", "targets", "films", "watch"])
def test_checkpoint_of_another_training_is_refused(tiny: ModuleType, tmp_path: Path, what: str) -> None:
    train(tiny, tmp_path)
    data = tiny.data()
    changes = {
        "seed": {"seed": 1},
        "stages": {"stages": tiny.BLOCKS[:1]},
        "loss": {"loss": LossConfig(kind="focal")},
        "weights": {"model": tiny.classifier(1)},
        "targets": {"data": replace(data, targets=data.targets[:, ::-1])},
        "films": {"data": replace(data, tiles=255 - data.tiles)},
        "watch": {"data": replace(data, watch=data.watch[1:])},
    }
    with pytest.raises(RunError, match="belongs to another config, other data or other starting weights"):
        train(tiny, tmp_path, **changes[what])


def test_films_without_a_label_are_left_out(tiny: ModuleType, tmp_path: Path) -> None:
    """They change nothing, whether to fit or to watch."""
    data = tiny.data()
    targets = data.targets.copy()
    targets[[1, 20, 21]] = np.nan
    fewer = replace(data, targets=targets, fit=np.setdiff1d(data.fit, [20, 21]), watch=np.setdiff1d(data.watch, [1]))
    one, _ = train(tiny, tmp_path / "a", data=replace(data, targets=targets))
    other, _ = train(tiny, tmp_path / "b", data=fewer)
    assert tiny.same(tiny.state(one), tiny.state(other))


def test_wrong_data_are_refused(tiny: ModuleType) -> None:
    data = tiny.data()
    with pytest.raises(TrainingError, match="40 films have 39 rows of targets"):
        replace(data, targets=data.targets[1:])
    with pytest.raises(TrainingError, match="1 films are both fitted and watched"):
        replace(data, fit=np.arange(11, 40))
    with pytest.raises(TrainingError, match="None of the 28 films to fit has a known label"):
        replace(data, targets=data.targets * np.nan)
    with pytest.raises(TrainingError, match=r"must be uint8 \[n, h, w\] or \[n, c, h, w\], but are float64 \[2, 4\]"):
        type(tiny.films())(np.zeros((2, 4)), ("a", "b"))
    with pytest.raises(TrainingError, match="40 films have 1 ids"):
        type(tiny.films())(data.tiles, ("a",))


def test_stages_of_one_name_are_refused(tiny: ModuleType, tmp_path: Path) -> None:
    for stages in ((tiny.BLOCKS[0], tiny.BLOCKS[0]), ()):
        with pytest.raises(ConfigError, match="Stages must have distinct names and there must be one at least"):
            train(tiny, tmp_path, stages=stages)


def test_empty_class_is_refused_by_name(tiny: ModuleType, tmp_path: Path) -> None:
    data = tiny.data()
    with pytest.raises(TrainingError, match="No film to fit has the label right"):
        train(tiny, tmp_path, data=replace(data, fit=np.array([i for i in data.fit if i % 3 != 2])))


def test_prediction_from_the_cache_is_the_network_s(tiny: ModuleType, tmp_path: Path) -> None:
    """To rounding with a single-precision store; any order of rows; colour films as well."""
    model, stack = tiny.classifier(), np.repeat(tiny.tiles()[0][:, None], 3, axis=1)
    films = type(tiny.films())(stack, tiny.films().film_ids)
    whole = predict_logits(model, stack, batch_size=7)
    rows = np.array([30, 2, 17])
    for cut in (6, 9):
        cache = PrefixCache(tmp_path, store="fp32")
        found = predict_from_cache(model, films, rows, cut=cut, cache=cache, precision="fp32")
        np.testing.assert_allclose(found, whole[rows], rtol=1e-5, atol=1e-6)
    assert whole.dtype == np.float64
    assert predict_logits(model, stack[:0]).shape == (0, 3)


def test_training_data_may_be_read_only(tiny: ModuleType, tmp_path: Path) -> None:
    """Tiles mapped from a file."""
    data = tiny.data()
    np.save(tmp_path / "tiles.npy", data.tiles)
    mapped = TrainingData(
        tiles=np.load(tmp_path / "tiles.npy", mmap_mode="r"),
        film_ids=data.film_ids,
        targets=data.targets,
        fit=data.fit,
        watch=data.watch,
    )
    one, _ = train(tiny, tmp_path / "a", data=mapped)
    other, _ = train(tiny, tmp_path / "b", data=data)
    assert tiny.same(tiny.state(one), tiny.state(other))
