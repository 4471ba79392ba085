"""``hilum runs``: what a person and a program get to see."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hilum.cli.runs import app
from hilum.errors import RunError

STAGE = {"name": "head", "trainable_from": "head", "optimiser": "adam", "lr": 1e-4, "epochs": 9, "batch_size": 32}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """One unfinished run with two epochs, and a damaged one."""
    home = tmp_path / "chest" / "members" / "fold0"
    home.mkdir(parents=True)
    recipe = {"dropout": 0.5, "stages": [{**STAGE, "views": 4}, {**STAGE, "name": "block", "views": None}]}
    config = {"backbone": "vgg16", "weights": "none", "folds": 1, "findings": ["a", "b"], "recipe": recipe}
    (tmp_path / "chest" / "config.json").write_text(json.dumps({"config": config, "films": "f"}))
    row = {
        "stage": "head", "epoch": 1, "loss": 0.9, "accuracy": 0.5, "watch_loss": 0.8, "watch_accuracy": 0.625,
        "best": True, "lr": 1e-4, "seconds": 4.0, "data_s": 3.0, "compute_s": 0.5, "score_s": 0.5,
        "films_per_s": 1234.4,
    }  # fmt: skip
    (home / "metrics.jsonl").write_text("".join(json.dumps({**row, "epoch": i}) + "\n" for i in (1, 2)))
    (tmp_path / "broken" / "members").mkdir(parents=True)
    (tmp_path / "broken" / "config.json").write_text("{")
    (tmp_path / "chest" / "curves").mkdir()
    (tmp_path / "chest" / "curves" / "fold0.png").touch()
    return tmp_path


def said(*arguments: object) -> list[str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout.splitlines()


def test_the_list_gives_a_row_a_run_and_a_sentence_for_what_is_not_finished(runs: Path) -> None:
    lines = said("list", runs)
    assert lines[2].split()[:3] == ["broken", "damaged", "–"]
    assert lines[3].split()[:7] == ["chest", "unfinished", "vgg16", "none", "0/1", "62.5%", "8"]
    assert "config.json is damaged" in lines[4]
    assert "It is at member 1 of 1, behind epoch 2 of stage head" in lines[5]


def test_the_list_as_json(runs: Path) -> None:
    told = json.loads(said("list", runs, "--json")[-1])
    assert [(run["state"], run["watched_accuracy"]) for run in told["runs"]] == [
        ("damaged", None),
        ("unfinished", 0.625),
    ]


def test_an_empty_folder_says_so(tmp_path: Path) -> None:
    assert said("list", tmp_path) == [f"{tmp_path} holds no run."]


def test_a_run_is_shown_with_config_stages_time_and_what_comes_next(runs: Path) -> None:
    text = "\n".join(said("show", runs / "chest"))
    for part in (
        "chest: unfinished, last written ",
        " ago. It is at member 1 of 1",
        "stages: head (from head, adam, lr 0.0001, 9 epochs, batch 32, 4 views); block",
        "fresh views",
        "findings: a, b",
        "Data-bound: of 8 s in epochs 75% made batches",
        "member 1: watched loss ▁▁ · Not enough epochs to say",
        "  1,234  ",
        "fold0.png",
        "next: It is at member 1",
    ):
        assert part in text


def test_a_finished_run_says_where_it_was_computed(runs: Path) -> None:
    (runs / "chest" / "members" / "fold0" / "classifier.safetensors").touch()
    (runs / "chest" / "result.json").write_text('{"device": "cuda (NVIDIA A100)"}')
    assert "  computed on: cuda (NVIDIA A100)" in said("show", runs / "chest")


def test_a_run_as_json(runs: Path) -> None:
    told = json.loads(said("show", runs / "chest", "--json")[-1])
    assert told["time"]["bound"] == "data-bound"
    assert told["stages"][0]["time"]["data_s"] == 6
    assert told["fits"]["0"]["verdict"] == "not enough epochs to say"
    assert told["config"]["recipe"]["dropout"] == 0.5


def test_a_damaged_run_is_shown_as_one(runs: Path) -> None:
    lines = said("show", runs / "broken")
    assert "damaged, last written" in lines[0]
    assert lines[-1].startswith("next: ")


def test_a_folder_without_a_run_is_refused(runs: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        said("show", runs)
