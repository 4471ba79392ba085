"""What is read off a run's rows: where time went, whether it fits, and what comes next."""

import math
from pathlib import Path

import pytest

from hilum.runs.listing import MemberFacts, RunFacts
from hilum.runs.looking import fit_in_words, look_at, spark, time_split


def row(epoch: int, *, stage: str = "head", **changes: object) -> dict[str, object]:
    """One epoch of a training that learns."""
    values = {
        "stage": stage,
        "epoch": epoch,
        "loss": 0.2 + math.exp(-epoch),
        "accuracy": 0.95,
        "watch_loss": 0.3 + math.exp(-epoch),
        "watch_accuracy": 0.94,
        "best": True,
        "seconds": 10.0,
        "data_s": 1.0,
        "compute_s": 7.0,
        "score_s": 2.0,
        "films_per_s": 8.0,
    }
    return {**values, **changes}


def summary(name: str = "head", *, cached: bool = True, frozen: int = 9) -> dict[str, object]:
    return {"name": name, "prefix_s": 5.0, "cached": cached, "frozen_layers": frozen}


def facts(rows: list[dict[str, object]], *stages: dict[str, object], **changes: object) -> RunFacts:
    member = MemberFacts(number=0, trained=True, rows=tuple(rows), stages=stages or (summary(),), place=None)
    values = {
        "path": Path("runs/chest"),
        "state": "finished",
        "sentence": "All is well.",
        "config": {},
        "result": {"films": 1},
        "members": (member,),
        "written": 0.0,
    }
    return RunFacts(**{**values, **changes})


def test_time_is_split_by_hand() -> None:
    """Two epochs of 1 + 7 + 2 s, and 5 s of frozen layers."""
    split = time_split([row(1), row(2)], [summary()])
    assert (split.prefix_s, split.data_s, split.compute_s, split.score_s) == (5, 2, 14, 4)
    assert split.bound == "compute-bound"
    assert split.text() == (
        "Compute-bound: of 20 s in epochs 10% made batches, 70% computed and 20% scored watched films; "
        "frozen layers took 5 s before."
    )


def test_waiting_longer_than_computing_is_data_bound() -> None:
    split = time_split([row(1, data_s=12.0)])
    assert split.bound == "data-bound"
    assert split.text().endswith("Without that waiting epochs would take 9 s.")


def test_rows_that_do_not_tell_are_not_interpreted() -> None:
    old = {key: value for key, value in row(1).items() if key != "data_s"}
    for split in (time_split([old]), time_split([])):
        assert split.bound == "unknown"
        assert split.text() == "Where the time went was not measured."


def test_stages_are_summed_over_members() -> None:
    """Epochs from 2 to 3, the best ones' means."""
    short = [row(1, watch_loss=0.8, loss=0.5), row(2, watch_loss=0.6, loss=0.4)]
    long = [*short, row(3, watch_loss=0.7, loss=0.2)]
    members = tuple(
        MemberFacts(number=i, trained=True, rows=tuple(rows), stages=(summary(),), place=None)
        for i, rows in enumerate((short, long))
    )
    (stage,) = look_at(facts([], members=members)).stages
    assert (stage.members, stage.epochs, stage.best_epochs) == (2, "2–3", "2")
    assert stage.loss == pytest.approx(0.3)
    assert stage.watch_loss == pytest.approx(0.6)
    assert stage.time.prefix_s == 10


def test_over_fitting_is_read_from_running_curves_and_says_so() -> None:
    """Watched loss falls until epoch 6 (5 by its running median), then rises."""
    rows = [row(i, watch_loss=0.5 + abs(i - 6) * 0.05, loss=1 / i, accuracy=0.99) for i in range(1, 17)]
    look = look_at(facts(rows))
    assert look.fits[0].verdict == "overfits"
    told = fit_in_words(look, look.facts.members[0])
    assert told.startswith("Overfits from epoch 6 of 16")
    assert told.endswith("(Training values are running ones, of augmented films with dropout: the real gap is larger.)")


def test_probe_columns_are_taken_where_there_are_some() -> None:
    rows = [row(i, probe_loss=0.1 / i, probe_accuracy=1.0) for i in range(1, 9)]
    look = look_at(facts(rows))
    assert look.fits[0].facts.train_accuracy == 1
    assert "running" not in fit_in_words(look, look.facts.members[0])


def test_nothing_watched_says_so() -> None:
    look = look_at(facts([row(1, watch_loss=None, watch_accuracy=None, best=False)]))
    assert look.fits == {}
    assert fit_in_words(look, look.facts.members[0]).startswith("No films were watched")
    assert (look.stages[0].watch_loss, look.stages[0].best_epochs) == (None, "–")


def test_next_steps_follow_from_what_was_measured(tmp_path: Path) -> None:
    """Evaluation, what is wanting, waiting, calibration, bundle; none of it where it is not so."""
    falling = [row(i, loss=3 - 0.2 * i, watch_loss=3 - 0.2 * i, accuracy=0.5, watch_accuracy=0.5) for i in range(1, 10)]
    slow = [{**one, "data_s": 9.0} for one in falling]
    steps = look_at(facts(slow, summary("all", cached=False), result={"calibration_optimistic": True})).next_steps
    assert [step.split()[0] for step in steps] == ["Measure", "Give", "Give", "Train", "Make"]
    assert "Give the last stage more epochs" in steps[1]
    assert "Give stage all fixed views" in steps[2]
    assert "hilum bundle create runs/chest --out chest.hilum" in steps[4]
    (tmp_path / "evaluation").mkdir()
    steps = look_at(facts([row(i) for i in range(1, 9)], path=tmp_path)).next_steps
    assert [step.split()[0] for step in steps] == ["Make"]
    steps = look_at(facts([row(1, data_s=9.0)], path=tmp_path)).next_steps
    assert steps[0].startswith("Batches are made slower than they are computed with")


def test_an_unfinished_run_s_next_step_is_its_sentence() -> None:
    assert look_at(facts([row(1)], state="unfinished", sentence="Go on.")).next_steps == ("Go on.",)


def test_a_curve_in_text() -> None:
    assert spark([0, 7, None, 3.5]) == "▁█ ▅"
    assert spark([2.0, 2.0]) == "▁▁"
    assert spark([None]) == ""
