"""Who else looks at a training: one small protocol, and a literal table of the watchers that are known.

A watcher is told each epoch's row of metrics and never changes a training, nor ends one: a watcher that fails is told
nothing more. What it needs is imported only when it is asked for.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from hilum.errors import UsageError, nearest
from hilum.progress import Progress


class Watcher(Protocol):
    """Something that shows a training elsewhere."""

    def row(self, member: int, row: Mapping[str, Any]) -> None:
        """Take in an epoch's row of metrics of a member.

        Its ``step`` counts the member's epochs over all stages, from 1. An epoch that is repeated after a kill comes
        again with the same step, and must not be shown twice.
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
def watching(names: Sequence[str], run: Path) -> Iterator[list[Watcher]]:
    """Watchers by name, closed at the end, whatever happens.

    Raises:
        UsageError: no such watcher.
        MissingExtra: what it needs is not installed.
    """
    with contextlib.ExitStack() as opened:
        watchers: list[Watcher] = []
        for name in dict.fromkeys(names):
            watchers.append(open_watcher(name, run))
            opened.callback(_close, watchers[-1])
        yield watchers


def tell(watchers: list[Watcher], member: int, row: Mapping[str, Any], progress: Progress) -> None:
    """Tell watchers a row; one that fails, such as for want of its server, is left out from then on, which is said."""
    for watcher in list(watchers):
        try:
            watcher.row(member, row)
        except Exception as error:
            watchers.remove(watcher)
            reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
            progress.say(
                f"{type(watcher).__name__} is told nothing more ({reason}). The training goes on; metrics.jsonl has "
                "every epoch."
            )


def _close(watcher: Watcher) -> None:
    with contextlib.suppress(Exception):  # every row was handed over as it came
        watcher.close()


def _tensorboard(run: Path) -> Watcher:
    from hilum.runs.watch_tensorboard import TensorBoard

    return TensorBoard(run)


def _mlflow(run: Path) -> Watcher:
    from hilum.runs.watch_mlflow import MLflow

    return MLflow(run)


WATCHERS: Mapping[str, Callable[[Path], Watcher]] = {"mlflow": _mlflow, "tensorboard": _tensorboard}
"""Name → what opens it; the pip extra has the same name."""
