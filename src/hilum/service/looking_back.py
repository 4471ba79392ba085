"""Priors on their way in: for each answered film, the PACS is asked for earlier ones; nothing waits for it."""

import random
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hilum.errors import FilmError, ServiceError
from hilum.records.look_ups import OTHER_PATIENT, LookUp, LookUps, Wanted
from hilum.service.bell import Bell
from hilum.service.dicom.patients import Ambiguous, contradicts
from hilum.service.dicom.priors import Film, Found
from hilum.service.dicom.unfetched import Unfetched
from hilum.service.film_files import FilmFiles
from hilum.service.logs import logger, where
from hilum.service.results_out import backoff_s

POLL_S = 5.0
LEASE_S = 1800.0
"""How long a look-up may take before another process may take it up; an association's own deadline is below."""

PASSING = frozenset(("timeout", "crashed", "out-of-memory"))
"""Codes of film errors that may pass."""

Read = Callable[[Path | bytes], Film]
Find = Callable[[Film], Sequence[Found]]
Fetch = Callable[[Sequence[Found]], str]


class LookingBack:
    """The one who looks.

    Args:
        look_ups: the queue.
        files: where films lie.
        read: reads a film's header.
        find: asks the PACS which priors a film has; raises Unfetched or Ambiguous.
        fetch: fetches films from it into the intake and names the way; raises Unfetched.
        first_s: longest wait after a first failure.
        cap_s: longest wait between attempts.
        give_up_s: a look-up that still fails so long after it was queued is given up.
    """

    def __init__(
        self,
        look_ups: LookUps,
        files: FilmFiles,
        *,
        read: Read,
        find: Find,
        fetch: Fetch,
        first_s: float = 5,
        cap_s: float = 1800,
        give_up_s: float = 24 * 3600,
        poll_s: float = POLL_S,
    ) -> None:
        self._look_ups, self._files, self._read, self._find, self._fetch = look_ups, files, read, find, fetch
        self._first_s, self._cap_s, self._give_up_s, self._poll_s = first_s, cap_s, give_up_s, poll_s
        self._owner, self._chance = secrets.token_hex(8), random.Random()
        self._bell, self._stopping = Bell(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="hilum-priors", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def wake(self, _: str = "") -> None:
        """Say that a look-up may be waiting."""
        self._bell.ring()

    def stop(self, within_s: float) -> bool:
        """Finish the look-up in work; the rest stays in the queue for the next start.

        Returns:
            True when nothing was under way any more.
        """
        self._stopping.set()
        self._bell.ring()
        if self._thread.ident is not None:
            self._thread.join(max(0.0, within_s))
        finished = not self._thread.is_alive()
        if finished:
            self._look_ups.release(self._owner)
        return finished

    def _run(self) -> None:
        while not self._stopping.is_set():
            heard, wait_s = self._bell.rings, self._poll_s
            try:
                look_up = self._look_ups.claim(self._owner, lease_s=LEASE_S)
                if look_up is not None:
                    self._look(look_up)
                    continue
                due = self._look_ups.next_due_in()
                wait_s = wait_s if due is None else min(wait_s, due)
            except ServiceError as error:
                logger().error("records away", reason=str(error))
            except Exception as error:
                logger().error("look-up stumbled", **where(error))
            self._bell.wait(heard, max(0.01, wait_s))

    def _look(self, look_up: LookUp) -> None:
        started = time.monotonic()
        try:
            film = self._read(self._files.film(look_up.file_sha256).source())
            missing, way = self._bring(look_up.film_id, self._find(film))
            linked = self._judge(look_up.film_id, film)
            if missing:
                raise Unfetched("The PACS said that it had sent priors, but they did not arrive.", code="nothing-came")
        except Ambiguous as error:
            self._look_ups.done(look_up.film_id, self._owner, code=error.code, reason=str(error))
            logger().info("priors not looked for", film=look_up.film_id, code=error.code)
        except Unfetched as error:
            self._failed(look_up, error.code, str(error), passing=not error.permanent)
        except FilmError as error:
            self._failed(look_up, error.code, str(error), passing=error.code in PASSING)
        except Exception as error:
            logger().error("priors not fetched", film=look_up.film_id, **where(error))
            reason = f"An internal error ({type(error).__name__}) while priors were fetched; the log says where."
            self._failed(look_up, "internal", reason, passing=True)
        else:
            self._look_ups.done(look_up.film_id, self._owner)
            seconds = round(time.monotonic() - started, 3)
            logger().info("priors looked up", film=look_up.film_id, priors=linked, way=way, seconds=seconds)

    def _bring(self, film_id: str, found: Sequence[Found]) -> tuple[int, str]:
        """Fetch what is not here; gives how many of it did not come, and the way."""
        by_uid = {one.sop_instance_uid: one for one in found}
        missing = self._look_ups.want(film_id, [_wanted(one) for one in found])
        if not missing:
            return 0, "none"
        way = self._fetch([by_uid[one.sop_instance_uid] for one in missing])
        return len(self._look_ups.want(film_id, [_wanted(one) for one in found])), way

    def _judge(self, film_id: str, film: Film) -> int:
        """Link what came, if it is of the same patient by its own header; gives how many are linked."""
        linked = 0
        for prior_id, file_sha256 in self._look_ups.arrived(film_id):
            try:
                prior = self._read(self._files.film(file_sha256).source())
            except FilmError as error:
                if error.code in PASSING:
                    raise
                self._look_ups.refuse(film_id, prior_id, code=error.code, reason=str(error))
                continue
            if contradicts(film.patient, prior.patient):
                self._look_ups.refuse(film_id, prior_id, code="other-patient", reason=OTHER_PATIENT)
                logger().error("prior of another patient refused", film=film_id, prior=prior_id)
                continue
            self._look_ups.link(
                film_id,
                prior_id,
                study_instance_uid=prior.study_instance_uid,
                patient_id=prior.patient.patient_id,
                accession_number=prior.accession_number,
            )
            linked += 1
        return linked

    def _failed(self, look_up: LookUp, code: str, reason: str, *, passing: bool) -> None:
        wait_s = backoff_s(look_up.attempts, first_s=self._first_s, cap_s=self._cap_s, chance=self._chance.random())
        again = passing and self._look_ups.age_s(look_up) + wait_s < self._give_up_s
        again_s = wait_s if again else None
        self._look_ups.failed(look_up.film_id, self._owner, code=code, reason=reason, retry_after_s=again_s)
        logger().warning(
            "priors not fetched",
            film=look_up.film_id,
            attempt=look_up.attempts,
            code=code,
            reason=reason,
            again_in_s=round(wait_s, 1) if again else None,
        )


def _wanted(one: Found) -> Wanted:
    return Wanted(
        study_instance_uid=one.study_instance_uid,
        series_instance_uid=one.series_instance_uid,
        sop_instance_uid=one.sop_instance_uid,
    )
