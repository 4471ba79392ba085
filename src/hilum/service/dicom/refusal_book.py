"""Refused associations on their way into the audit: the first of a kind at once, then a row a while with their number.

A row for each would let whoever knocks fill the disk.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable

from hilum.errors import HilumError
from hilum.records.audit import Act, append
from hilum.records.database import Database
from hilum.records.peers import REFUSED
from hilum.records.store import now
from hilum.service.bell import Bell
from hilum.service.logs import logger

EVERY_S = 60.0
MOST_KINDS = 100
"""Kinds of which the last writing is remembered; beyond that they are counted as one."""

Kind = tuple[str, str, str]
"""Code, calling AE title where the settings know it, fingerprint of the peer's certificate where it matters."""


class RefusalBook:
    """Writes in a thread of its own until it is stopped.

    Args:
        database: whose audit.
        every_s: shortest time between two rows of a kind.
        clock: gives seconds; tests give their own.
    """

    def __init__(
        self, database: Database, *, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database, self._every_s, self._clock = database, every_s, clock
        self._lock, self._bell, self._stopping = threading.Lock(), Bell(), threading.Event()
        self._waiting: Counter[Kind] = Counter()
        self._written: dict[Kind, float] = {}
        self._thread = threading.Thread(target=self._run, name="hilum-refusals", daemon=True)
        self._thread.start()

    def note(self, code: str, calling_ae: str = "", certificate: str = "") -> None:
        """Somebody was refused.

        Args:
            code: why.
            calling_ae: as whom, where the settings know the title: others may be anything, a name among them.
            certificate: SHA-256 of the certificate that was shown, where it is what was wrong.
        """
        kind = code, calling_ae, certificate
        with self._lock:
            known = kind in self._waiting or kind in self._written
            crowded = len(self._waiting.keys() | self._written.keys()) >= MOST_KINDS
            self._waiting[kind if known or not crowded else (code, "", "")] += 1
        self._bell.ring()

    def stop(self) -> None:
        """Write what is left, then end."""
        self._stopping.set()
        self._bell.ring()
        self._thread.join()
        self._write(all_of_it=True)

    def _run(self) -> None:
        while not self._stopping.is_set():
            heard = self._bell.rings
            self._write()
            self._bell.wait(heard, self._every_s / 4)

    def _write(self, all_of_it: bool = False) -> None:
        at = self._clock()
        with self._lock:
            for kind in [one for one, when in self._written.items() if at - when >= self._every_s]:
                del self._written[kind]
            due = {kind: times for kind, times in self._waiting.items() if all_of_it or kind not in self._written}
        for kind, times in due.items():
            if not self._append(kind, times):
                return  # the records are away: it is tried again
            with self._lock:
                self._waiting -= Counter({kind: times})
                self._written[kind] = at

    def _append(self, kind: Kind, times: int) -> bool:
        code, calling_ae, certificate = kind
        more = {"calling_ae": calling_ae, "certificate": certificate}
        detail = {"code": code, "times": times, **{name: value for name, value in more.items() if value}}
        try:
            with self._database.write() as session:
                append(session, Act(actor="dicom", act=REFUSED, detail=detail), now())
        except HilumError as error:
            logger().error("refusal not in the audit", reason=str(error))
            return False
        return True
