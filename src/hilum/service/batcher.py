"""Batches of what is waiting: no timer, no delay, senders in turn; one bad item never touches its neighbours."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from hilum.errors import ServiceError
from hilum.records.turns import AGEING_CAP_S, Head, Turns

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741


@dataclass(slots=True, order=True)
class _Entry(Generic[I, O]):
    due: float
    """When it must have been begun; infinite without a deadline."""
    number: int
    """Its place among all that came."""
    came: float = field(compare=False)
    item: I = field(compare=False)
    future: "Future[O]" = field(compare=False)
    alone: bool = field(compare=False)


class Batcher(Generic[I, O]):
    """Runs one function on batches, in one thread.

    While a batch is in work, items gather; the next batch is whatever has gathered, up to the largest size, in the
    order of :mod:`hilum.records.turns`, and the nearest deadline first among those of one sender and rank. So an idle
    service answers at once, and a busy one fills its batches. A batch that fails is cut in halves until the item that
    fails is by itself.

    Args:
        work: answers a batch, one result an item, in order.
        largest: most items of a batch.
        waiting: most items that may wait; :meth:`submit` refuses beyond.
        again: says of an error whether the same batch deserves a second try before it is cut.
        ageing_cap_s: an item that is not urgent and has waited longer is overdue.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        work: Callable[[Sequence[I]], Sequence[O]],
        *,
        largest: int = 8,
        waiting: int = 64,
        again: Callable[[Exception], bool] = lambda _: False,
        ageing_cap_s: float = AGEING_CAP_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work, self._largest, self._most, self._again, self._clock = work, largest, waiting, again, clock
        self._queues: dict[tuple[str, bool], list[_Entry[I, O]]] = {}
        self._turns, self._numbers, self._count = Turns(ageing_cap_s), itertools.count(), 0
        self._kept: tuple[str, bool] | None = None
        self._bell, self._closed = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, name="hilum-batcher", daemon=True)
        self._thread.start()

    def submit(
        self, item: I, *, sender: str = "", urgent: bool = False, within_s: float | None = None, alone: bool = False
    ) -> "Future[O]":
        """Queue an item; the future may be cancelled while it waits.

        Args:
            item: what is to be answered.
            sender: whose turn it takes.
            urgent: before those that are not.
            within_s: seconds after which it is no longer worth beginning; None for no such limit.
            alone: keep it out of batches: it is suspected of having ended one.

        Raises:
            ServiceError: closed, or too many are waiting.
        """
        future: Future[O] = Future()
        came = self._clock()
        due = float("inf") if within_s is None else came + within_s
        with self._bell:
            if self._closed:
                raise ServiceError("The batcher is closed. Start the service again.")
            if self._count >= self._most:
                raise ServiceError(f"{self._most} films wait for the model already. Try again later.")
            entry = _Entry(due=due, number=next(self._numbers), came=came, item=item, future=future, alone=alone)
            heapq.heappush(self._queues.setdefault((sender, urgent), []), entry)
            self._count += 1
            self._bell.notify()
        return future

    def close(self) -> None:
        """Answer what is waiting, then stop."""
        with self._bell:
            self._closed = True
            self._bell.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._bell:
                self._bell.wait_for(lambda: self._count or self._closed)
                if not self._count:
                    return
                batch = self._next_batch()
            self._answer([entry for entry in batch if self._begins(entry)])

    def _next_batch(self) -> list[_Entry[I, O]]:
        batch: list[_Entry[I, O]] = []
        now = self._clock()
        while self._count and len(batch) < self._largest:
            key, self._kept = self._kept or self._turn(now), None
            if batch and self._queues[key][0].alone:
                self._kept = key  # it begins the next batch
                break
            batch.append(self._pop(key))
            if batch[-1].alone:
                break
        return batch

    def _turn(self, now: float) -> tuple[str, bool]:
        keys = list(self._queues)
        heads = [
            Head(sender=sender, urgent=urgent, waited_s=now - self._queues[sender, urgent][0].came)
            for sender, urgent in keys
        ]
        return keys[self._turns.choose(heads)]

    def _pop(self, key: tuple[str, bool]) -> _Entry[I, O]:
        entry = heapq.heappop(self._queues[key])
        if not self._queues[key]:
            del self._queues[key]
        self._count -= 1
        return entry

    def _begins(self, entry: _Entry[I, O]) -> bool:
        """Whether it is still wanted: neither cancelled nor too late."""
        if not entry.future.set_running_or_notify_cancel():
            return False
        if entry.due < self._clock():
            entry.future.set_exception(ServiceError("The film waited too long for the model. It is tried again."))
            return False
        return True

    def _answer(self, batch: Sequence[_Entry[I, O]], *, tried: bool = False) -> None:
        if not batch:
            return
        try:
            results = self._work([entry.item for entry in batch])
            if len(results) != len(batch):
                raise ServiceError(f"The model gave {len(results)} answers for {len(batch)} films. Check the bundle.")
        except Exception as error:
            if not tried and self._again(error):
                self._answer(batch, tried=True)
            elif len(batch) == 1:
                batch[0].future.set_exception(error)
            else:
                for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                    self._answer(half, tried=True)
            return
        for entry, result in zip(batch, results, strict=True):
            entry.future.set_result(result)
