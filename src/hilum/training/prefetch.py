"""Batches read ahead of time in a thread, so that the disk works while the network does."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, runtime_checkable

from torch import Tensor

Fetch = Callable[[Tensor, int], Tensor]
"""What is read for the films of these rows, in this view."""


@runtime_checkable
class Foreseeing(Protocol):
    """Inputs that are quicker when they know what comes next."""

    def expect(self, batches: Sequence[Tensor], view: int) -> None:
        """Say which rows will be asked for, in order: the very same tensors."""


def announce(inputs: object, batches: Sequence[Tensor], view: int) -> None:
    """Tell inputs that are quicker for it which batches come next; others need not know."""
    if isinstance(inputs, Foreseeing):
        inputs.expect(batches, view)


class Ahead:
    """Reads what was announced up to ``depth`` batches ahead; what was not is read on the spot.

    Whatever is read is a function of (rows, view), so nothing but the waiting changes.

    Args:
        fetch: reads a batch; called from one other thread, and from the caller's.
        depth: batches that are held ready.
    """

    def __init__(self, fetch: Fetch, *, depth: int = 2) -> None:
        self._fetch, self._depth = fetch, depth
        self._pool: ThreadPoolExecutor | None = None
        self._coming: deque[tuple[Tensor, int]] = deque()
        self._ready: deque[tuple[Tensor, int, Future[Tensor]]] = deque()

    def expect(self, batches: Sequence[Tensor], view: int) -> None:
        """Begin with these; what was announced before and not asked for is given up."""
        self._drop()
        self._coming.extend((rows, view) for rows in batches)
        self._fill()

    def __call__(self, rows: Tensor, view: int) -> Tensor:
        """The batch, from the thread when it is the next that was announced."""
        if not self._ready or self._ready[0][0] is not rows or self._ready[0][1] != view:
            return self._fetch(rows, view)
        *_, reading = self._ready.popleft()
        self._fill()
        return reading.result()

    def close(self) -> None:
        """Stop the thread."""
        self._drop()
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def _fill(self) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="hilum-ahead")
        while self._coming and len(self._ready) < self._depth:
            rows, view = self._coming.popleft()
            self._ready.append((rows, view, self._pool.submit(self._fetch, rows, view)))

    def _drop(self) -> None:
        self._coming.clear()
        for *_, reading in self._ready:
            reading.cancel()
        self._ready.clear()
