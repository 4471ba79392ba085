"""Run folders of every state, made by hand: what is finished, what stopped where, what is damaged."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from hilum.errors import RunError
from hilum.runs.layout import RunFolder
from hilum.runs.listing import find_runs, is_run, kept_row, read_run

STAGES = [{"name": "head", "epochs": 30}, {"name": "block", "epochs": 15}]


def begun(path: Path, *, folds: int = 2) -> RunFolder:
    """A run that was claimed and has nothing yet."""
    path.mkdir(parents=True)
    config = {"backbone": "hilum_small", "weights": "none", "folds": folds, "recipe": {"stages": STAGES}}
    (path / "config.json").write_text(json.dumps({"config": config, "films": "f" * 64}))
    return RunFolder(path)


def row(epoch: int, *, stage: str = "head", best: bool = True, right: float = 0.5) -> dict[str, object]:
    return {"stage": stage, "epoch": epoch, "best": best, "watch_accuracy": right, "watch_loss": 1.0, "seconds": 2.0}


def member(folder: RunFolder, number: int, rows: list[dict[str, object]], *, trained: bool = False) -> Path:
    home = folder.member(number)
    home.mkdir(parents=True)
    (home / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    if trained:
        folder.weights(number).touch()
    return home


def checkpoint(home: Path, stage: int, epoch: int, batch: int) -> None:
    facts = {"stage": stage, "position": {"epoch": epoch, "batch": batch}, "summaries": [{"name": "head"}]}
    save_file({"x": np.zeros(2)}, home / "checkpoint.safetensors", metadata={"hilum": json.dumps(facts)})


def test_a_finished_run_gives_the_accuracy_of_the_kept_weights(tmp_path: Path) -> None:
    """The last best epoch of the last stage, averaged over members."""
    folder = begun(tmp_path / "run")
    rows = [row(1, right=0.9), row(1, stage="block", right=0.6), row(2, stage="block", best=False, right=0.7)]
    member(folder, 0, rows, trained=True)
    member(folder, 1, [row(1, stage="block", right=0.8)], trained=True)
    folder.result.write_text('{"films": 3}')
    facts = read_run(folder.root)
    assert (facts.state, facts.trained, facts.watched_accuracy) == ("finished", 2, pytest.approx(0.7))
    assert [one["member"] for one in facts.rows] == [0, 0, 0, 1]
    assert facts.result == {"films": 3}


def test_members_are_folds_times_seeds(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    told = json.loads(folder.config.read_text())
    told["config"]["seeds"] = 3
    folder.config.write_text(json.dumps(told))
    assert "member 1 of 6" in read_run(folder.root).sentence


def test_the_kept_row_needs_watched_films() -> None:
    assert kept_row([]) is None
    assert kept_row([{**row(1), "watch_accuracy": None}]) is None


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (lambda f: None, "It is before the first epoch of member 1 of 2: the same hilum train command"),
        (
            lambda f: member(f, 0, [row(1), row(2)]),
            "It is at member 1 of 2, behind epoch 2 of stage head, without a checkpoint yet",
        ),
        (
            lambda f: checkpoint(member(f, 0, [row(1)]), 1, 6, 12),
            "It is at member 1 of 2, stage block, epoch 7 of 15, after 12 batches: the same",
        ),
        (
            lambda f: (member(f, 0, [row(1)], trained=True), checkpoint(member(f, 1, []), 0, 3, 0)),
            "It is at member 2 of 2, stage head, epoch 4 of 30: the same",
        ),
        (
            lambda f: [member(f, i, [row(1)], trained=True) for i in (0, 1)],
            "All 2 members are trained, but not calibrated yet: the same",
        ),
        (lambda f: checkpoint(member(f, 0, [row(1)]), 2, 0, 0), "behind epoch 1 of stage head"),
    ],
    ids=["nothing", "no checkpoint", "checkpoint", "second member", "no result", "stages done"],
)
def test_an_unfinished_run_says_where_it_stopped(tmp_path: Path, prepare: object, sentence: str) -> None:
    folder = begun(tmp_path / "run")
    prepare(folder)
    facts = read_run(folder.root)
    assert facts.state == "unfinished"
    assert sentence in facts.sentence


def test_a_line_that_was_half_written_is_left_out(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    with open(member(folder, 0, [row(1)]) / "metrics.jsonl", "a") as handle:
        handle.write('{"stage": "he')
    assert [one["epoch"] for one in read_run(folder.root).rows] == [1]


def damage_config(folder: RunFolder) -> None:
    member(folder, 0, [])
    folder.config.write_text("{")


def damage_folds(folder: RunFolder) -> None:
    folder.config.write_text(json.dumps({"config": {"folds": None}, "films": ""}))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (damage_config, "config.json is damaged"),
        (damage_folds, r"config.json is damaged \(no number of folds\). Restore it, or train into another folder."),
        (lambda f: f.result.write_text("{"), "result.json is damaged"),
        (
            lambda f: f.result.write_text('{"a": 1}'),
            "says it is finished, but .*fold0.*classifier.safetensors is missing",
        ),
        (
            lambda f: (member(f, 0, []) / "metrics.jsonl").write_text("{\n{}\n"),
            "metrics.jsonl is damaged .* train again",
        ),
        (
            lambda f: (member(f, 0, []) / "checkpoint.safetensors").write_bytes(b"half"),
            r"checkpoint.safetensors can't be read \(its head is longer than the file\). Remove it to train that",
        ),
    ],
    ids=["config", "folds", "result", "weights", "metrics", "checkpoint"],
)
def test_a_damaged_run_is_listed_with_one_sentence(tmp_path: Path, damage: object, sentence: str) -> None:
    damage(begun(tmp_path / "run"))
    (facts,) = find_runs(tmp_path)
    assert facts.state == "damaged"
    assert re.search(sentence, facts.sentence)
    assert "\n" not in facts.sentence


def test_runs_are_found_below_a_folder_and_nothing_else_is(tmp_path: Path) -> None:
    begun(tmp_path / "b" / "run")
    begun(tmp_path / "a")
    begun(tmp_path / ".cache" / "run")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "config.json").write_text('{"budget": "quick"}')
    assert [facts.path for facts in find_runs(tmp_path)] == [tmp_path / "a", tmp_path / "b" / "run"]
    assert [facts.path for facts in find_runs(tmp_path / "a")] == [tmp_path / "a"]
    assert not is_run(tmp_path / "study")


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="none is not a folder. Name one that holds runs"):
        find_runs(tmp_path / "none")
    with pytest.raises(RunError, match=r"holds no run. hilum runs list FOLDER shows those below a folder"):
        read_run(tmp_path)


def test_the_last_sign_of_life_is_that_of_the_newest_file(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    home = member(folder, 0, [row(1)])
    newest = max(file.stat().st_mtime for file in [*home.iterdir(), folder.config])
    assert read_run(folder.root).written >= newest
