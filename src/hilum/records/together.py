"""Acts of several threads in one transaction: a commit costs more than what most acts write.

Whoever comes while a transaction is under way waits for the next one and shares it with all others who wait. An act
returns when the transaction that holds it is durable, and not before; one that fails takes nobody with it. Alone, an
act is a transaction at once, unless who brings it has time.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from sqlalchemy.orm import Session

from hilum.errors import ServiceError

T = TypeVar("T")
MOST = 32
"""Most acts of one transaction."""

GATHERED = 4
"""So many acts are worth a transaction of their own."""


class _Act:
    """An act that waits, and what came of it."""

    __slots__ = ("done", "ended", "error", "function", "result")

    def __init__(self, function: Callable[[Session], Any], patient: bool) -> None:
        self.function, self.done = function, False
        self.ended = threading.Event() if patient else None
        self.result: Any = None
        self.error: Exception | None = None


class Together:
    """Runs acts, as many in a transaction as there are.

    Args:
        write: opens a writing transaction, committed when its block ends well.
    """

    def __init__(self, write: Callable[[], contextlib.AbstractContextManager[Session]]) -> None:
        self._write, self._turn, self._waiting = write, threading.Lock(), deque[_Act]()

    def run(self, function: Callable[[Session], T], *, patience_s: float = 0.0) -> T:
        """Run an act in a writing transaction.

        Args:
            function: the act; it may be called again when another one of its transaction failed, and does nothing but
                through its session.
            patience_s: how long it may wait for others to share a transaction with, who don't wait for it; it waits no
                longer once :data:`GATHERED` wait.

        Returns:
            what it returned, once that is durable.

        Raises:
            ServiceError: the database is away, full or damaged; nothing was kept.
            Exception: what the act raised; nothing of it was kept.
        """
        own = _Act(function, patience_s > 0)
        self._waiting.append(own)
        if own.ended is not None and len(self._waiting) < GATHERED:
            own.ended.wait(patience_s)
        with self._turn:
            while not own.done:  # else somebody who had the turn before took it along
                self._run_waiting()
        if own.error is not None:
            raise own.error
        return cast(T, own.result)

    def _run_waiting(self) -> None:
        group = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
        try:
            self._run(group)
        except BaseException as error:  # the thread is told to end: nobody may take it for done
            for one in group:
                one.error = ServiceError(f"The records were left while writing ({type(error).__name__}). Try again.")
            raise
        finally:
            for one in group:
                one.done = True
                if one.ended is not None:
                    one.ended.set()

    def _run(self, group: Sequence[_Act]) -> None:
        failing: _Act | None = None
        try:
            with self._write() as session:
                for one in group:
                    failing = one
                    one.result = one.function(session)
                    session.flush()
                failing = None
        except Exception as error:
            if len(group) == 1:
                group[0].error = error
            elif failing is None:
                # At the commit. Whether it took place may be unknown, so none is tried again: their callers are told.
                for one in group:
                    one.error = ServiceError(str(error))
            else:
                for one in group:
                    self._run([one])
