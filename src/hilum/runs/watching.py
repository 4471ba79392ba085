"""Who else looks at a training: one small protocol, and a literal table of the watchers that are known.

A watcher is told each epoch's row of metrics and never changes a training; what it needs is imported only when it is
asked for.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from hilum.errors import UsageError, nearest


class Watcher(Protocol):
    """Something that shows a training elsewhere."""

    def row(self, member: int, row: Mapping[str, Any]) -> None:
        """Take in an epoch's row of metrics of a member.

        Its ``step`` counts the member's epochs over all stages, from 1; an epoch that is repeated after a kill comes
        again with the same step.
        """

    def close(self) -> None:
        """The run is finished, or has stopped."""


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row that are worth a curve: floats, without counts."""
    return {name: float(value) for name, value in row.items() if isinstance(value, float)}


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


@contextlib.contextmanager
def watching(names: Sequence[str], run: Path) -> Iterator[tuple[Watcher, ...]]:
    """Watchers by name, closed at the end, whatever happens.

    Raises:
        UsageError: no such watcher.
        MissingExtra: what it needs is not installed.
    """
    with contextlib.ExitStack() as opened:
        watchers = []
        for name in dict.fromkeys(names):
            watchers.append(open_watcher(name, run))
            opened.callback(watchers[-1].close)
        yield tuple(watchers)


def _tensorboard(run: Path) -> Watcher:
    from hilum.runs.watch_tensorboard import TensorBoard

    return TensorBoard(run)


def _mlflow(run: Path) -> Watcher:
    from hilum.runs.watch_mlflow import MLflow

    return MLflow(run)


WATCHERS: Mapping[str, Callable[[Path], Watcher]] = {"mlflow": _mlflow, "tensorboard": _tensorboard}
"""Name → what opens it; the pip extra has the same name."""
