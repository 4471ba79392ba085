"""A learning rate for a stage of a recipe: what is trained before, what is written, what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hilum.datasets.manifest import Manifest
from hilum.errors import UsageError
from hilum.runs.lr_find import find_rate, in_words, to_use_it
from hilum.runs.run import Run
from hilum.runs.train import TrainConfig
from hilum.training.lr_finder import SweepConfig, read_sweep


def test_a_later_stage_is_swept_from_where_the_stages_before_it_end(
    run: Run, cohort: Path, small: TrainConfig, tmp_path: Path
) -> None:
    """The head is trained once, a second call finds it, and the figure lies beside the numbers."""
    films, cache = Manifest.read(cohort / "split.parquet"), run.path.parent / ".cache"
    given = {"stage": "last-block", "sweep": SweepConfig(steps=24), "cache": cache}
    first = find_rate(films, replace(small, folds=1), tmp_path / "lr", **given)
    told = json.loads(first.json.read_text())
    assert told["stage"]["name"] == "last-block"
    assert told["rule"] in first.told["sentence"] or "No suggestion" in first.told["sentence"]
    assert {path.suffix for path in (tmp_path / "lr").glob("lr_find.*")} == {".json", ".png", ".svg"}
    head = (tmp_path / "lr" / "before" / "checkpoint.safetensors").stat().st_mtime_ns
    again = find_rate(films, replace(small, folds=1), tmp_path / "lr", **given)
    assert (tmp_path / "lr" / "before" / "checkpoint.safetensors").stat().st_mtime_ns == head
    assert again.sweep == first.sweep


def test_an_unknown_stage_lists_the_nearest(cohort: Path, small: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="The recipe has no stage 'hed'. Did you mean 'head'"):
        find_rate(Manifest.read(cohort / "split.parquet"), replace(small, folds=1), tmp_path / "lr", stage="hed")
    assert not (tmp_path / "lr").exists()


def test_a_sweep_in_words() -> None:
    """With a number, without one, and without a step."""
    rates = [10.0 ** (step / 10 - 4) for step in range(41)]
    good = read_sweep(rates, [4.0, *((step / 10 - 2) ** 2 for step in range(41))], "all rates were tried")
    assert in_words(good) == (
        "Suggested learning rate 0.001: a tenth of the rate at which the smoothed loss is lowest (0.01). It falls "
        "fastest at 0.0002. (41 steps from 0.0001 to 1; all rates were tried.)"
    )
    none = read_sweep([], [1.0], "the loss was nan after a step at 1")
    assert in_words(none).startswith("No suggestion. Only 0 steps were taken")
    assert "No step was taken; the loss was nan" in in_words(none)
    assert to_use_it(none, "head", "starter") == []
    told = 'to use it: in a file .toml with based_on = "starter", under [stages.head], lr = 0.001; hilum train --recipe'
    assert to_use_it(good, "head", "starter")[0].startswith(told)
    assert to_use_it(good, "head", "own.toml")[0].startswith("to use it: in own.toml, under [stages.head]")
