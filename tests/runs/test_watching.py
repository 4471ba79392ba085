"""Watchers: by name, with the extra that is wanting, and against the real packages where they are installed."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from hilum.errors import MissingExtra, UsageError
from hilum.runs.watching import WATCHERS, numbers, open_watcher, watching

ROW = {"stage": "head", "epoch": 1, "step": 1, "loss": 0.5, "watch_loss": None, "best": True, "lr": 1e-3}


def test_an_unknown_watcher_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no watcher 'tensorbord'. Did you mean 'tensorboard'\?"):
        open_watcher("tensorbord", tmp_path)


@pytest.mark.parametrize("name", sorted(WATCHERS))
def test_a_watcher_that_is_not_installed_names_the_extra(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None in sys.modules makes an import fail as if the package were not there."""
    for module in ("mlflow", "tensorboard", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"--watch {name} needs the '{name}' extra: .*'hilum\[{name}\]'"):
        open_watcher(name, tmp_path)


def test_numbers_are_floats_alone() -> None:
    assert numbers(ROW) == {"loss": 0.5, "lr": 1e-3}


def test_mlflow_is_told_every_number_with_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with mlflow's three functions: the package is too large for the lock."""
    told: list[object] = []
    stand_in = ModuleType("mlflow")
    stand_in.start_run = lambda run_name: told.append(run_name)
    stand_in.log_metrics = lambda values, step: told.append((values, step))
    stand_in.end_run = lambda: told.append("end")
    monkeypatch.setitem(sys.modules, "mlflow", stand_in)
    with watching(["mlflow", "mlflow"], tmp_path / "chest") as (watcher,):
        watcher.row(0, ROW)
        watcher.row(0, {**ROW, "stage": "block", "step": 2})
    values = {"member1.loss": 0.5, "member1.lr": 1e-3}
    assert told == ["chest", (values, 1), (values, 2), "end"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_writes_what_tensorboard_reads(tmp_path: Path) -> None:
    """The real writer and the real reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    watcher = open_watcher("tensorboard", tmp_path)
    for member in (0, 1):
        watcher.row(member, ROW)
    watcher.row(0, {**ROW, "loss": 0.25, "step": 2})
    watcher.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("member1/loss")] == [(1, 0.5), (2, 0.25)]
    assert [event.step for event in events.Scalars("member2/lr")] == [1]
