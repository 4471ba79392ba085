"""Watchers: by name, with the extra that is wanting, and against the real packages where they are installed."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from hilum.errors import MissingExtra, UsageError
from hilum.runs.watching import WATCHERS, numbers, open_watcher, tell, watching

ROW = {
    "stage": "head",
    "epoch": 1,
    "step": 1,
    "loss": 0.5,
    "watch_loss": None,
    "best": True,
    "lr": 1e-3,
    "seconds": 2.0,
}


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
    assert numbers(ROW) == {"loss": 0.5, "lr": 1e-3, "seconds": 2.0}


def test_mlflow_is_told_every_number_with_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with mlflow's functions: the package is too large for the lock."""
    told = mlflow_stand_in(monkeypatch)
    with watching(["mlflow", "mlflow"], tmp_path / "chest") as (watcher,):
        watcher.row(0, ROW)
        watcher.row(0, {**ROW, "stage": "block", "step": 2})
    values = {"member1.loss": 0.5, "member1.lr": 1e-3, "member1.seconds": 2.0}
    assert told == [{"run_name": "chest"}, (values, 1), (values, 2), "end"]


def test_the_same_command_goes_on_in_the_same_mlflow_run_and_doubles_no_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill behind epoch 2, and a checkpoint of epoch 1: epoch 2 comes again."""
    told = mlflow_stand_in(monkeypatch)
    for steps in ((1, 2), (2, 3)):
        with watching(["mlflow"], tmp_path / "chest") as (watcher,):
            for step in steps:
                watcher.row(1, {**ROW, "step": step})
    assert [entry for entry in told if isinstance(entry, dict)] == [{"run_name": "chest"}, {"run_id": "0123"}]
    assert [entry[1] for entry in told if isinstance(entry, tuple)] == [1, 2, 3]


def mlflow_stand_in(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What mlflow's functions are told, in order; its history is what was logged."""
    told: list[object] = []

    class Client:
        def get_metric_history(self, run_id: str, key: str) -> list[SimpleNamespace]:
            return [SimpleNamespace(step=entry[1]) for entry in told if isinstance(entry, tuple) and key in entry[0]]

    def start_run(**given: str) -> SimpleNamespace:
        told.append(given)
        return SimpleNamespace(info=SimpleNamespace(run_id="0123"))

    stand_in = ModuleType("mlflow")
    stand_in.start_run, stand_in.MlflowClient = start_run, Client
    stand_in.log_metrics = lambda values, step: told.append((values, step))
    stand_in.end_run = lambda: told.append("end")
    monkeypatch.setitem(sys.modules, "mlflow", stand_in)
    return told


def test_a_watcher_that_fails_is_left_out_and_the_training_goes_on() -> None:
    """Of two, the other one is still told; and closing one that fails ends nothing."""
    seen, said = [], []

    class Failing:
        def row(self, member: int, row: object) -> None:
            raise ConnectionError("no server\nat all")

    class Good:
        def row(self, member: int, row: object) -> None:
            seen.append(member)

    watchers, progress = [Failing(), Good()], SimpleNamespace(say=said.append)
    for member in (0, 1):
        tell(watchers, member, ROW, progress)
    assert seen == [0, 1]
    assert said == ["Failing is told nothing more (no server). The training goes on; metrics.jsonl has every epoch."]


def test_tensorboard_is_told_where_a_member_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for torch's writer: each member has a folder, and what came from its first step on is replaced."""
    opened: list[tuple[str, int]] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            opened.append((Path(folder).name, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None: ...

        def flush(self) -> None: ...

        def close(self) -> None: ...

    stand_in = ModuleType("torch.utils.tensorboard")
    stand_in.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)
    with watching(["tensorboard"], tmp_path) as (watcher,):
        for member, step in ((1, 4), (1, 5), (2, 1)):
            watcher.row(member, {**ROW, "step": step})
    assert opened == [("member2", 4), ("member3", 1)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_writes_what_tensorboard_reads(tmp_path: Path) -> None:
    """The real writer and the real reader; an epoch that comes again after a kill replaces the first."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    watcher = open_watcher("tensorboard", tmp_path)
    for member in (0, 1):
        watcher.row(member, ROW)
    watcher.row(0, {**ROW, "loss": 0.25, "step": 2})
    watcher.close()
    again = open_watcher("tensorboard", tmp_path)
    again.row(0, {**ROW, "loss": 0.125, "step": 2})
    again.close()
    events = {name: EventAccumulator(str(tmp_path / "tensorboard" / name)) for name in ("member1", "member2")}
    for one in events.values():
        one.Reload()
    assert [(event.step, event.value) for event in events["member1"].Scalars("loss")] == [(1, 0.5), (2, 0.125)]
    assert [event.step for event in events["member2"].Scalars("lr")] == [1]
