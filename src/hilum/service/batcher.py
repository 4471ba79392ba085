"""Batches of what is waiting: no timer, no delay, senders in turn; one bad item never touches its neighbours."""

import contextlib
import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
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
    """Runs one function on batches, in a few threads.

    While batches are in work, items gather; the next batch is whatever has gathered, up to the largest size, in the
    order of :mod:`hilum.records.turns`, and the nearest deadline first among those of one sender and rank. So an idle
    service answers at once, and a busy one fills its batches. A batch that fails is cut in halves until the item that
    fails is by itself; no other batch is in work meanwhile, nor beside a suspect, so neither can do them harm.

    Args:
        work: answers a batch, one result an item, in order; called from as many threads as there are lines.
        lines: most batches in work at once.
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
        lines: int = 1,
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
        lock = threading.Lock()
        self._bell, self._quiet, self._closed = threading.Condition(lock), threading.Condition(lock), False
        self._in_work, self._alone = 0, False
        self._threads = [
            threading.Thread(target=self._run, name=f"hilum-batcher-{i}", daemon=True) for i in range(lines)
        ]
        for thread in self._threads:
            thread.start()

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

    @property
    def waiting(self) -> int:
        """Items that wait for their batch."""
        return self._count

    def close(self) -> None:
        """Answer what is waiting, then stop."""
        with self._bell:
            self._closed = True
            self._bell.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while self._worked():
            pass

    def _worked(self) -> bool:
        """Wait for a batch and answer it; False when no more will come.

        A call of its own, whose variables end with it: kept in an idle line, a batch would hold what answered it.
        """
        batch = self._take()
        if not batch:
            return False
        alone = batch[0].alone
        wanted = [entry for entry in batch if self._begins(entry)]
        error = self._tried(wanted)
        with self._bell:
            self._in_work -= 1
            if alone:
                self._others_may()
            self._quiet.notify_all()
        if error is not None:
            with self._by_itself():
                self._answer(wanted, error, again=self._again(error))
        return True

    def _take(self) -> list[_Entry[I, O]]:
        """The next batch, which then is in work; empty when closed and nothing is left."""
        with self._bell:
            self._bell.wait_for(lambda: not self._alone if self._count else self._closed)
            if not self._count:
                return []
            batch = self._next_batch()
            if batch[0].alone:
                self._alone = True
                self._quiet.wait_for(lambda: not self._in_work)
            self._in_work += 1
            return batch

    @contextlib.contextmanager
    def _by_itself(self) -> Iterator[None]:
        """No other batch is in work."""
        with self._bell:
            self._quiet.wait_for(lambda: not self._alone)
            self._alone = True
            self._quiet.wait_for(lambda: not self._in_work)
        try:
            yield
        finally:
            with self._bell:
                self._others_may()

    def _others_may(self) -> None:
        self._alone = False
        self._bell.notify_all()
        self._quiet.notify_all()

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

    def _tried(self, batch: Sequence[_Entry[I, O]]) -> Exception | None:
        """Answer a batch; what failed, if it did."""
        if not batch:
            return None
        try:
            results = self._work([entry.item for entry in batch])
            if len(results) != len(batch):
                raise ServiceError(f"The model gave {len(results)} answers for {len(batch)} films. Check the bundle.")
        except Exception as error:
            return error
        for entry, result in zip(batch, results, strict=True):
            entry.future.set_result(result)
        return None

    def _answer(self, batch: Sequence[_Entry[I, O]], error: Exception, *, again: bool = False) -> None:
        """Answer a batch that failed: as a whole if that deserves another try, else in halves."""
        if again:
            parts = [batch]
        elif len(batch) == 1:
            batch[0].future.set_exception(error)
            return
        else:
            parts = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
        for part in parts:
            failed = self._tried(part)
            if failed is not None:
                self._answer(part, failed)
