"""Batches of what is waiting: no timer, no delay; one bad item never touches its neighbours."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from hilum.errors import ServiceError

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741


class Batcher(Generic[I, O]):
    """Runs one function on batches, in one thread.

    While a batch is in work, items gather; the next batch is whatever has gathered, up to the largest size. So an idle
    service answers at once, and a busy one fills its batches. When a batch fails, its items are tried one by one.

    Args:
        work: answers a batch, one result an item, in order.
        largest: most items of a batch.
        waiting: most items that may wait; :meth:`submit` refuses beyond.
    """

    def __init__(self, work: Callable[[Sequence[I]], Sequence[O]], *, largest: int = 8, waiting: int = 64) -> None:
        self._work, self._largest = work, largest
        self._queue: queue.Queue[tuple[I, Future[O]] | None] = queue.Queue(waiting)
        self._closed = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="hilum-batcher", daemon=True)
        self._thread.start()

    def submit(self, item: I) -> "Future[O]":
        """Queue an item; the future may be cancelled while it waits.

        Raises:
            ServiceError: closed, or too many are waiting.
        """
        future: Future[O] = Future()
        lock, closed = self._closed
        with lock:
            if closed.is_set():
                raise ServiceError("The batcher is closed. Start the service again.")
            try:
                self._queue.put_nowait((item, future))
            except queue.Full:
                raise ServiceError(
                    f"{self._queue.maxsize} films wait for the model already. Try again later."
                ) from None
        return future

    def close(self) -> None:
        """Answer what is waiting, then stop."""
        lock, closed = self._closed
        with lock:
            first = not closed.is_set()
            closed.set()
        if first:
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            batch, last = [entry], False
            while len(batch) < self._largest and not last:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    last = True
                else:
                    batch.append(more)
            self._answer([(item, future) for item, future in batch if future.set_running_or_notify_cancel()])
            if last:
                return

    def _answer(self, batch: list[tuple[I, "Future[O]"]]) -> None:
        if not batch:
            return
        try:
            results = self._work([item for item, _ in batch])
            if len(results) != len(batch):
                raise ServiceError(f"The model gave {len(results)} answers for {len(batch)} films. Check the bundle.")
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for single in batch:
                self._answer([single])
            return
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)
