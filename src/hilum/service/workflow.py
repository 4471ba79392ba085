"""From received to answered: lease, read apart, infer in batches, record in one transaction.

The queue is the database. A worker leases a film; if the process dies, the lease runs out (or is given back at the
next start) and the film is taken up again. An answer is recorded in the same transaction that closes the film, and
only by the holder of the lease, so there is exactly one for a film and a model.
"""

import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from hilum.errors import FilmError, HilumError, ServiceError
from hilum.records.store import Store
from hilum.records.values import Claim, NewAnswer, State
from hilum.service.answering import Answering, Ready
from hilum.service.batcher import Batcher
from hilum.service.intake import FilmFiles, pass_by
from hilum.service.logs import logger, where

PASSING = frozenset(("timeout", "crashed", "out-of-memory"))
"""Codes of film errors that may pass: the film is tried again. All others are the film's own."""

POLL_S = 1.0


class Workflow:
    """The workers.

    Args:
        store: the queue and the records.
        files: where the films lie.
        answering: the model.
        finished: told each film's id when it has an answer or a reason.
        hands: films in work at once.
        lease_s: how long a worker may hold a film.
        max_attempts: how often a film is tried.
        backoff_s: wait before the second attempt; doubled before each further one.
        answer_s: longest wait for the model; reading a film has its limit in the sandbox.
        point: told the name of each step just before it: prepare, record, announce.
        worked: told the state of each film that was in hand, and the seconds.
    """

    def __init__(
        self,
        store: Store,
        files: FilmFiles,
        answering: Answering,
        *,
        finished: Callable[[str], None],
        hands: int = 3,
        lease_s: float = 120,
        max_attempts: int = 3,
        backoff_s: float = 1.0,
        answer_s: float = 120,
        point: Callable[[str], None] = pass_by,
        worked: Callable[[str | None, float], None] = lambda state, seconds: None,
    ) -> None:
        self._store, self._files, self._answering, self._finished = store, files, answering, finished
        self._lease_s, self._max_attempts, self._backoff_s = lease_s, max_attempts, backoff_s
        self._answer_s, self._point, self._worked = answer_s, point, worked
        self._owner = secrets.token_hex(8)
        self._in_work: set[str] = set()
        self._pulse = threading.Thread(target=self._renew, name="hilum-pulse", daemon=True)
        self._bell, self._rings, self._stopping = threading.Condition(), 0, threading.Event()
        self._batcher: Batcher[Ready, NewAnswer] = Batcher(answering.answer)
        self._threads = [threading.Thread(target=self._run, name=f"hilum-hand-{i}", daemon=True) for i in range(hands)]

    def start(self) -> None:
        """Begin to work."""
        self._pulse.start()
        for thread in self._threads:
            thread.start()

    def wake(self, _: str = "") -> None:
        """Say that a film may be waiting."""
        with self._bell:
            self._rings += 1
            self._bell.notify_all()

    def stop(self, within_s: float) -> bool:
        """Finish the films in work, give back the others.

        Returns:
            True when all work in hand was finished in time.
        """
        self._stopping.set()
        self.wake()
        deadline = time.monotonic() + within_s
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        finished = not any(thread.is_alive() for thread in self._threads)
        if finished:
            self._batcher.close()
        self._store.release(self._owner)
        return finished

    def _run(self) -> None:
        while not self._stopping.is_set():
            heard = self._rings
            try:
                claim = self._store.claim(self._owner, lease_s=self._lease_s, max_attempts=self._max_attempts)
                if claim is not None:
                    self._work(claim)
                    continue
            except ServiceError as error:
                logger().error("records away", reason=str(error))
            except Exception as error:
                logger().error("worker stumbled", **where(error))
            with self._bell:
                self._bell.wait_for(lambda heard=heard: self._rings != heard, POLL_S)  # type: ignore[misc]

    def _renew(self) -> None:
        """Keep the leases on what is in work, three times in each of their lives; a dead process renews none."""
        while not self._stopping.wait(self._lease_s / 3):
            mine = sorted(self._in_work)
            if not mine:
                continue
            try:
                self._store.renew(self._owner, mine, lease_s=self._lease_s)
            except Exception as error:
                logger().error("leases not renewed", films=len(mine), **where(error))

    def _work(self, claim: Claim) -> None:
        started = time.monotonic()
        self._in_work.add(claim.film_id)
        try:
            state = self._answer(claim)
        finally:
            self._in_work.discard(claim.film_id)
        self._point("announce")
        log = logger().bind(film=claim.film_id, state=state, attempt=claim.attempts)
        seconds = time.monotonic() - started
        self._worked(state, seconds)
        log.info("film worked on", seconds=round(seconds, 3))
        if state is not None and state != "received":
            self._finished(claim.film_id)

    def _answer(self, claim: Claim) -> State | None:
        try:
            self._point("prepare")
            ready = self._answering.prepare(self._files.path(claim.file_sha256))
            future: Future[NewAnswer] = self._batcher.submit(ready)
            answer = future.result(timeout=self._answer_s)
        except FilmError as error:
            return self._failed(claim, error.code, str(error), passing=error.code in PASSING)
        except HilumError as error:
            return self._failed(claim, "refused", str(error), passing=True)
        except Exception as error:
            logger().error("film failed", film=claim.film_id, **where(error))
            reason = f"An internal error ({type(error).__name__}) while the film was answered; the log says where."
            return self._failed(claim, "internal", reason, passing=True)
        self._point("record")
        return self._store.record_answer(claim.film_id, self._owner, ready.identity, answer)

    def _failed(self, claim: Claim, code: str, reason: str, *, passing: bool) -> State | None:
        again = passing and claim.attempts < self._max_attempts
        wait = self._backoff_s * 2 ** (claim.attempts - 1) if again else None
        return self._store.record_failure(claim.film_id, self._owner, code=code, reason=reason, retry_after_s=wait)
