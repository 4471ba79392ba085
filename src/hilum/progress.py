"""Progress for people: a live bar on a terminal, a line every few seconds in a log, silence when asked."""

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Protocol, TextIO, TypeVar

T = TypeVar("T")


class Bar(Protocol):
    """What a long step reports to."""

    def advance(self, steps: float = 1, note: str = "") -> None:
        """Say that steps are done; the note is shown beside the bar."""


class Progress(Protocol):
    """Where progress goes; given to long functions as an argument."""

    def bar(self, description: str, total: float | None = None) -> contextlib.AbstractContextManager[Bar]:
        """A bar for one step; total is the number of steps, None when unknown."""

    def say(self, sentence: str) -> None:
        """One sentence on a line of its own."""


class _SilentBar:
    def advance(self, steps: float = 1, note: str = "") -> None:
        return


class Silent:
    """Shows nothing: the default in the library."""

    @contextlib.contextmanager
    def bar(self, description: str, total: float | None = None) -> Iterator[Bar]:
        yield _SilentBar()

    def say(self, sentence: str) -> None:
        return


FEWEST_DONE = 0.1
"""Share of a step's work before which its pace says nothing of the rest: beginnings also load and warm up."""


TOLD_LEFT = "left at most"
"""How a note ends that says itself how long the rest takes."""


class _LineBar:
    def __init__(self, description: str, total: float | None, out: TextIO, every_s: float) -> None:
        self.description, self.total, self.out, self.every_s = description, total, out, every_s
        self.done, self.note = 0.0, ""
        self.started = self.spoken = time.monotonic()

    def advance(self, steps: float = 1, note: str = "") -> None:
        self.done, self.note = self.done + steps, note or self.note
        if time.monotonic() - self.spoken >= self.every_s:
            self.speak()

    def speak(self, end: str = "") -> None:
        self.spoken = time.monotonic()
        of = f"/{self.total:g}" if self.total else ""
        spent = self.spoken - self.started
        parts = [f"{self.description}: {self.done:g}{of}", self.note, f"{spent:.1f} s", end or self._left(spent)]
        print(" · ".join(part for part in parts if part), file=self.out, flush=True)

    def _left(self, spent: float) -> str:
        """How long the rest takes at the pace so far; nothing when that can't be told, as of the first few steps.

        Nor where the note tells it: a training counts the batches of the epoch under way, and would be contradicted.
        """
        if self.note.endswith(TOLD_LEFT) or not self.total or not FEWEST_DONE * self.total <= self.done < self.total:
            return ""
        return f"about {spent * (self.total - self.done) / self.done:.0f} s left"


class Lines:
    """One line every few seconds: for logs and pipes."""

    def __init__(self, out: TextIO | None = None, every_s: float = 5.0) -> None:
        self.out, self.every_s = out or sys.stderr, every_s

    @contextlib.contextmanager
    def bar(self, description: str, total: float | None = None) -> Iterator[Bar]:
        bar = _LineBar(description, total, self.out, self.every_s)
        try:
            yield bar
        except BaseException:
            bar.speak("stopped")
            raise
        bar.speak("done")

    def say(self, sentence: str) -> None:
        print(sentence, file=self.out, flush=True)


class _RichBar:
    def __init__(self, progress: object, task: object) -> None:
        self.progress, self.task = progress, task

    def advance(self, steps: float = 1, note: str = "") -> None:
        self.progress.update(self.task, advance=steps, note=note)  # type: ignore[attr-defined]


class Live:
    """A live bar with elapsed and remaining time, on a terminal's standard error."""

    @contextlib.contextmanager
    def bar(self, description: str, total: float | None = None) -> Iterator[Bar]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
        )
        with RichProgress(*columns, console=Console(stderr=True)) as progress:
            yield _RichBar(progress, progress.add_task(description, total=total, note=""))

    def say(self, sentence: str) -> None:
        print(sentence, file=sys.stderr, flush=True)


def for_terminal(*, quiet: bool = False) -> Progress:
    """Live on a terminal, lines elsewhere, silence when quiet."""
    if quiet:
        return Silent()
    return Live() if sys.stderr.isatty() else Lines()


def track(items: Iterable[T], progress: Progress, description: str, total: float | None = None) -> Iterator[T]:
    """Yield items and advance a bar after each."""
    with progress.bar(description, total) as bar:
        for item in items:
            yield item
            bar.advance()
