"""From received to answered: lease, read apart, infer in batches, record in one transaction.

The queue is the database. Films are leased in turn; if the process dies, the lease runs out (or is given back at the
next start) and the film is taken up again. An answer is recorded in the same transaction that closes the film, and
only by the holder of the lease, so there is exactly one for a film and a model.

Hands read films and go on to the next while the model answers; what is answered meanwhile is recorded together, since
a transaction costs more than what it holds.
"""

import contextlib
import queue
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from hilum.errors import FilmError, HilumError, ServiceError
from hilum.records.queue import Lease
from hilum.records.store import Store
from hilum.records.turns import AGEING_CAP_S
from hilum.records.values import Answered, Claim, NewAnswer, State
from hilum.service.announcements import Announcements
from hilum.service.answering import LINES, Answering, ModelDied, Ready
from hilum.service.batcher import Batcher
from hilum.service.bell import Bell
from hilum.service.film_files import FilmFiles
from hilum.service.film_writing import pass_by
from hilum.service.intake import Place
from hilum.service.logs import logger, where

PASSING = frozenset(("timeout", "crashed", "out-of-memory"))
"""Codes of film errors that may pass: the film is tried again. All others are the film's own."""

POLL_S = 1.0
LARGEST_BATCH = 4
"""Most films of a batch: few enough that an urgent film doesn't wait long for those of all lines."""
AT_HAND = LINES * LARGEST_BATCH
"""Most films that are leased and not read yet."""
ASKED = "self-test"
"""Whose turn it is when the service asks its own model."""

AT_ONCE = 32
"""Most answers of one transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worked:
    """A film that the model is done with."""

    claim: Claim
    started: float
    ready: Ready | None
    answer: NewAnswer | None
    error: BaseException | None


class Workflow:
    """The workers.

    Args:
        store: the queue and the records.
        files: where the films lie.
        answering: the model.
        finished: told each film's id when it has an answer or a reason.
        audience: who waits for answers, and is shown them as they are recorded.
        hands: films read at once; besides these, a batch a line may be in the model and as many may wait for it.
        lease_s: how long a worker may hold a film.
        max_attempts: how often a film is tried.
        backoff_s: wait before the second attempt; doubled before each further one.
        answer_s: longest wait for the model; reading a film has its limit in the sandbox.
        ageing_cap_s: a routine film that has waited longer is overdue.
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
        audience: Announcements | None = None,
        hands: int = 3,
        lease_s: float = 120,
        max_attempts: int = 3,
        backoff_s: float = 1.0,
        answer_s: float = 120,
        ageing_cap_s: float = AGEING_CAP_S,
        point: Callable[[str], None] = pass_by,
        worked: Callable[[str | None, float], None] = lambda state, seconds: None,
    ) -> None:
        self._store, self._files, self._answering, self._finished = store, files, answering, finished
        self._audience = audience or Announcements()
        self._lease_s, self._max_attempts, self._backoff_s = lease_s, max_attempts, backoff_s
        self._answer_s, self._point, self._worked = answer_s, point, worked
        self._owner = secrets.token_hex(8)
        self._at_most = hands + 2 * LINES * LARGEST_BATCH
        self._bell, self._stopping = Bell(), threading.Event()
        self._arrivals, self._dry = 0, (-1, 0.0)
        self._claiming, self._claimed = threading.Lock(), deque[Claim]()
        self._in_work: dict[str, Future[NewAnswer] | None] = {}
        self._offered = 0
        self._done: queue.SimpleQueue[_Worked | None] = queue.SimpleQueue()
        self._batcher: Batcher[Ready, NewAnswer] = Batcher(
            answering.answer,
            lines=LINES,
            largest=LARGEST_BATCH,
            waiting=self._at_most,
            again=lambda error: isinstance(error, ModelDied),
            ageing_cap_s=ageing_cap_s,
        )
        self._pulse = threading.Thread(target=self._renew, name="hilum-pulse", daemon=True)
        self._clerk = threading.Thread(target=self._record_all, name="hilum-clerk", daemon=True)
        self._threads = [threading.Thread(target=self._run, name=f"hilum-hand-{i}", daemon=True) for i in range(hands)]

    def start(self) -> None:
        """Begin to work."""
        for thread in (self._pulse, self._clerk, *self._threads):
            thread.start()

    def wake(self, _: str = "") -> None:
        """Say that a film may be waiting."""
        self._arrivals += 1
        self._ring()

    @contextlib.contextmanager
    def offered(self) -> Iterator[Place]:
        """A place for a film that is about to be recorded, whose lease is then written with it: a transaction less.

        There is one where a film has room and, as far as is known, none waits for its turn. So that the records are
        asked for those whose time to be tried again has come, there is none when they were not for :data:`POLL_S`.
        """
        place = Place(lease=Lease(owner=self._owner, seconds=self._lease_s) if self._reserve() else None)
        try:
            yield place
        finally:
            if place.lease is not None:
                with self._claiming:
                    self._offered -= 1
                    if place.claim is not None and not self._stopping.is_set():  # else :meth:`stop` gives it back
                        self._in_work[place.claim.film_id] = None
                        (self._claimed.appendleft if place.claim.urgent else self._claimed.append)(place.claim)
                self._ring()

    def _reserve(self) -> bool:
        """Keep room for one film that is on its way; False also where a hand asks the records just now."""
        if not self._claiming.acquire(blocking=False):
            return False
        try:
            ahead = len(self._claimed) + self._offered
            room = min(self._at_most - len(self._in_work) - self._offered, AT_HAND - ahead)
            free = room > 0 and not self._stopping.is_set() and self._answering.trouble is None and self._found_dry()
            self._offered += free
            return free
        finally:
            self._claiming.release()

    def _ring(self) -> None:
        """Let one hand look for work; when it takes more than one film, it rings for the next."""
        self._bell.ring(one=not self._stopping.is_set())

    @property
    def in_work(self) -> int:
        """Films in hand: being read, before the model, or being recorded."""
        return len(self._in_work)

    @property
    def busy(self) -> bool:
        """Whether a whole batch waits for the model besides those that it has."""
        return self._batcher.waiting >= LARGEST_BATCH

    def stop(self, within_s: float) -> bool:
        """Finish the films in work, give back the others.

        Returns:
            True when all work in hand was finished in time.
        """
        self._stopping.set()
        self._ring()
        deadline = time.monotonic() + within_s
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        with self._claiming:
            for claim in self._claimed:
                self._in_work.pop(claim.film_id, None)
            self._claimed.clear()
        for future in list(self._in_work.values()):
            if future is not None:
                future.cancel()  # those that wait; the batch in the model is finished
        self._bell.until(lambda: not self._in_work and not self._offered, max(0.0, deadline - time.monotonic()))
        at_rest = not self._in_work and not self._offered
        finished = at_rest and not any(thread.is_alive() for thread in self._threads)
        if finished:
            self._batcher.close()
            self._done.put(None)
        self._store.release(self._owner)
        return finished

    def _run(self) -> None:
        while not self._stopping.is_set():
            heard = self._bell.rings
            try:
                claim = self._next()
                if claim is not None:
                    self._prepare(claim)
                    continue
            except ServiceError as error:
                logger().error("records away", reason=str(error))
            except Exception as error:
                logger().error("worker stumbled", **where(error))
            self._bell.wait(heard, POLL_S)

    def _next(self) -> Claim | None:
        """A film to read: one that was leased before, else of those that are leased now."""
        with self._claiming:
            room = min(self._at_most - len(self._in_work) - self._offered, AT_HAND)
            if not self._claimed and room > 0 and self._may_claim():
                arrivals, now = self._arrivals, time.monotonic()
                claims = self._store.claims(
                    self._owner, lease_s=self._lease_s, max_attempts=self._max_attempts, most=room
                )
                self._dry = (arrivals, now) if len(claims) < room else (-1, 0.0)
                self._in_work.update((claim.film_id, None) for claim in claims)
                self._claimed.extend(claims)
            claim = self._claimed.popleft() if self._claimed else None
        if self._claimed or (claim is not None and self._dry[0] != self._arrivals):
            self._ring()
        return claim

    def _may_claim(self) -> bool:
        """Whether asking the records may bring a film: not while nothing came since there was none, for a while."""
        return not self._stopping.is_set() and self._answering.trouble is None and not self._found_dry()

    def _found_dry(self) -> bool:
        """Whether the records had no more films a moment ago, and none came since."""
        arrivals, at = self._dry
        return arrivals == self._arrivals and time.monotonic() - at < POLL_S

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

    def _prepare(self, claim: Claim) -> None:
        """Read a film and put it before the model."""
        started = time.monotonic()

        def done(future: "Future[NewAnswer] | None", ready: Ready | None, error: BaseException | None = None) -> None:
            answer = None
            if future is not None:
                if future.cancelled():
                    self._leave(claim)
                    return
                error = future.exception()
                answer = future.result() if error is None else None
            self._done.put(_Worked(claim=claim, started=started, ready=ready, answer=answer, error=error))

        try:
            self._point("prepare")
            ready = self._answering.prepare(self._files.film(claim.file_sha256))
            future = self._batcher.submit(
                ready, sender=claim.sender, urgent=claim.urgent, within_s=self._answer_s, alone=claim.suspect
            )
        except Exception as error:
            done(None, None, error)
            return
        if claim.film_id in self._in_work:
            self._in_work[claim.film_id] = future
        future.add_done_callback(lambda future: done(future, ready))

    def ask(self, ready: Ready, *, within_s: float = 60.0) -> NewAnswer:
        """Have the model answer a film that is no patient's, by itself and in its turn; nothing is recorded.

        Raises:
            ServiceError: too many films wait for the model, or it did not answer in time.
        """
        future = self._batcher.submit(ready, sender=ASKED, within_s=within_s, alone=True)
        try:
            return future.result(within_s)
        except TimeoutError:
            future.cancel()
            raise ServiceError(
                f"The model didn't answer within {within_s:.0f} s. Try again when fewer films wait."
            ) from None

    def _leave(self, claim: Claim) -> None:
        self._in_work.pop(claim.film_id, None)
        self._ring()

    def _record_all(self) -> None:
        while self._record(self._done_by_now()):
            pass

    def _done_by_now(self) -> list[_Worked | None]:
        """What the model is done with, at least one; None stands for the end.

        A call of its own, whose variables end with it: kept while nothing comes, the last film would hold the model
        that answered it, and one that was exchanged would stay in memory.
        """
        group = [self._done.get()]
        with contextlib.suppress(queue.Empty):
            while len(group) < AT_ONCE and group[-1] is not None:
                group.append(self._done.get_nowait())
        return group

    def _record(self, done: Sequence[_Worked | None]) -> bool:
        """Record what the model is done with; False when no more will come."""
        group = [work for work in done if work is not None]
        answered = [work for work in group if work.ready is not None and work.answer is not None]
        others = [work for work in group if work.ready is None or work.answer is None]
        if answered and not self._record_together(answered):
            for work in answered:
                self._record_together([work])
        for work in others:
            try:
                self._tell(work, self._failed(work.claim, work.error or RuntimeError("no answer")))
            except Exception as error:
                self._not_recorded(work, error)
        return len(group) == len(done)

    def _record_together(self, group: Sequence[_Worked]) -> bool:
        """Record answers in one transaction; False when it failed and each should be tried by itself."""
        answers = [
            Answered(film_id=work.claim.film_id, identity=work.ready.identity, answer=work.answer)
            for work in group
            if work.ready is not None and work.answer is not None
        ]
        viewers = {one.film_id: self._audience.viewers(one.film_id) for one in answers}
        names = {film_id: [who.viewer or "" for who in waiting] for film_id, waiting in viewers.items() if waiting}
        try:
            for _ in group:
                self._point("record")
            recorded = self._store.record_answers(self._owner, answers, names)
        except Exception as error:
            if len(group) > 1:
                return False
            self._not_recorded(group[0], error)
            return True
        for work, one in zip(group, recorded, strict=True):
            if one.film is not None:
                self._audience.hand_over(one.film, viewers[work.claim.film_id])
            self._tell(work, one.state)
        return True

    def _not_recorded(self, work: _Worked, error: Exception) -> None:
        """The lease runs out, and the film is taken up again."""
        reason = {"reason": str(error)} if isinstance(error, ServiceError) else where(error)
        logger().error("outcome not recorded", film=work.claim.film_id, **reason)
        self._leave(work.claim)

    def _tell(self, work: _Worked, state: State | None) -> None:
        self._point("announce")
        seconds = time.monotonic() - work.started
        self._worked(state, seconds)
        log = logger().bind(film=work.claim.film_id, state=state, attempt=work.claim.attempts)
        log.info("film worked on", seconds=round(seconds, 3))
        if state is not None and state != "received":
            self._finished(work.claim.film_id)
        self._leave(work.claim)

    def _failed(self, claim: Claim, error: BaseException) -> State | None:
        if isinstance(error, FilmError):
            return self._record_failure(claim, error.code, str(error), passing=error.code in PASSING)
        if isinstance(error, ModelDied):
            return self._record_failure(claim, "model-died", str(error), passing=True)
        if isinstance(error, HilumError):
            return self._record_failure(claim, "refused", str(error), passing=True)
        logger().error("film failed", film=claim.film_id, **where(error))
        reason = f"An internal error ({type(error).__name__}) while the film was answered; the log says where."
        return self._record_failure(claim, "internal", reason, passing=True)

    def _record_failure(self, claim: Claim, code: str, reason: str, *, passing: bool) -> State | None:
        again = passing and claim.attempts < self._max_attempts
        wait = self._backoff_s * 2 ** (claim.attempts - 1) if again else None
        return self._store.record_failure(claim.film_id, self._owner, code=code, reason=reason, retry_after_s=wait)
