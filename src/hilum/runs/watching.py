"""Who else looks at a training: one small protocol, and a literal table of the watchers that are known.

A watcher is told each epoch's row of metrics and never changes a training; what it needs is imported only when it is
asked for.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from hilum.errors import UsageError, nearest


class Watcher(Protocol):
    """Something that shows a training elsewhere."""

    def row(self, member: int, row: Mapping[str, Any]) -> None:
        """Take in an epoch's row of metrics of a member; members and epochs come in order."""

    def close(self) -> None:
        """The run is finished, or has stopped."""


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row that are worth a curve: floats, without the count of epochs."""
    return {name: float(value) for name, value in row.items() if isinstance(value, float)}


class Steps:
    """Counts a member's epochs over all its stages, which a row counts anew in each."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}

    def next(self, member: int) -> int:
        """The step of the member's next row, from 1."""
        self._known[member] = self._known.get(member, 0) + 1
        return self._known[member]


def open_watcher(name: str, run: Path) -> Watcher:
    """A watcher by name.

    Args:
        name: in :data:`WATCHERS`.
        run: the run's folder.

    Raises:
        UsageError: no such watcher.
        MissingExtra: what it needs is not installed.
    """
    if name not in WATCHERS:
        raise UsageError(f"There is no watcher {name!r}. {nearest(name, sorted(WATCHERS))}")
    return WATCHERS[name](run)


def _tensorboard(run: Path) -> Watcher:
    from hilum.runs.watch_tensorboard import TensorBoard

    return TensorBoard(run)


def _mlflow(run: Path) -> Watcher:
    from hilum.runs.watch_mlflow import MLflow

    return MLflow(run)


WATCHERS: Mapping[str, Callable[[Path], Watcher]] = {"mlflow": _mlflow, "tensorboard": _tensorboard}
"""Name → what opens it; the pip extra has the same name."""
