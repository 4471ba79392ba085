"""The PACS is asked by a process of its own: what it answers bloats nothing and ends nothing but that.

The process is there from the first look-up on. After a look-up that failed it is ended, so that nothing of what a PACS
did to it stays, and the next one begins with another.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

from hilum.service.child_process import STARTUP_S, ChildDied, ChildProcess, child_environment
from hilum.service.child_wire import receive
from hilum.service.dicom.asking_child import FETCH, FIND
from hilum.service.dicom.far_intake import SAID
from hilum.service.dicom.hearing import write_down
from hilum.service.dicom.listener_process import MEMORY
from hilum.service.dicom.patients import Ambiguous, asked_with
from hilum.service.dicom.priors import FILMS_A_STUDY, UID, Film, Found
from hilum.service.dicom.reception import Reception
from hilum.service.dicom.unfetched import Unfetched
from hilum.service.logs import logger
from hilum.service.settings import MIB, Settings

NAME = "process that asks the PACS"
MARGIN_S = 60.0
"""On top of the association's own deadline."""


class AskingProcess:
    """Finds and fetches priors. One look-up at a time.

    Args:
        settings: the PACS, and limits.
        reception: receives films.
    """

    def __init__(self, settings: Settings, reception: Reception) -> None:
        self._settings, self._reception = settings, reception
        self._lock = threading.Lock()
        self._child: _Child | None = None

    @property
    def process_id(self) -> int | None:
        """Of the process; None while there is none."""
        child = self._child
        return child.process.process_id if child else None

    def find(self, film: Film) -> list[Found]:
        """Priors of a film, as :func:`hilum.service.dicom.priors.find_priors` has it.

        Raises:
            Ambiguous: the film doesn't say well enough whose it is.
            Unfetched: the PACS does not answer.
        """
        asked_with(film.patient)  # before anybody is asked
        settings = self._settings
        asked = {
            "film": asdict(film),
            "years": settings.priors_years,
            "count": settings.priors_count,
            "today": date.today().isoformat(),
        }
        said = self._ask(FIND, asked, "look for priors")
        return _found(said, settings.priors_count * FILMS_A_STUDY)

    def fetch(self, films: Sequence[Found]) -> str:
        """Fetch films into the intake, and name the way.

        Raises:
            Unfetched: not all of it could be done.
        """
        way: str = self._settings.pacs_retrieve
        if way == "auto" and self._settings.dicom_port is None:
            way = "get"  # nobody would be there for C-MOVE to send to
        said = self._ask(FETCH, {"films": [asdict(one) for one in films], "way": way}, "fetch priors")
        return "move" if said == "move" else "get"

    def close(self) -> None:
        """End the process; what it was asked fails."""
        child = self._child
        if child is not None:
            child.process.kill()

    def _ask(self, kind: int, asked: Any, to: str) -> Any:
        with self._lock:
            try:
                child = self._child = self._child or _Child(self._settings, self._reception)
                said = child.process.ask(kind, asked, self._settings.association_deadline_s + MARGIN_S, to)
                if "done" in said:
                    return said["done"]
                self._end()
            except ChildDied as error:
                self._end()
                raise Unfetched(str(error), code="asking-died") from None
        if "ambiguous" in said:
            raise Ambiguous(str(said["ambiguous"]["text"]), code=str(said["ambiguous"]["code"]))
        why = said["unfetched"]
        raise Unfetched(str(why["text"]), code=str(why["code"]), permanent=bool(why["permanent"]))

    def _end(self) -> None:
        if self._child is not None:
            self._child.process.kill()
            self._child = None


class _Child:
    """The process, and the threads that hear it."""

    def __init__(self, settings: Settings, reception: Reception) -> None:
        (films, their_films), (news, their_news) = socket.socketpair(), socket.socketpair()
        try:
            with their_films, their_news:
                self.process = _launched(settings, their_news.fileno(), their_films.fileno())
        except BaseException:
            films.close()
            news.close()
            raise
        for hear, connection in ((reception.serve, films), (_hear, news)):
            named = {"name": "hilum-pacs", "daemon": True}
            threading.Thread(target=self._heard, args=(hear, connection), **named).start()  # type: ignore[arg-type]
        try:
            self.process.reply(STARTUP_S, "come up")
        except BaseException:
            self.process.kill()
            raise

    def _heard(self, hear: Callable[[socket.socket], None], connection: socket.socket) -> None:
        with connection:
            try:
                hear(connection)
            except ValueError as error:
                logger().error("process that asks the PACS is not trusted any more", reason=str(error))
                self.process.kill()


def _hear(news: socket.socket) -> None:
    with contextlib.suppress(EOFError, OSError):
        while True:
            kind, content, _ = receive(news)
            if kind != SAID or not isinstance(content, dict):
                raise ValueError(f"a message of kind {kind} where news come")
            write_down(content)


def _launched(settings: Settings, news: int, channel: int) -> ChildProcess:
    given = {
        "node": settings.pacs,
        "authorities": str(settings.results_ca.absolute()) if settings.results_ca else None,
        "certificate": str(settings.results_certificate.absolute()) if settings.results_certificate else None,
        "calling": settings.ae_title,
        "timeout_s": settings.pacs_timeout_s,
        "deadline_s": settings.association_deadline_s,
        "largest_film_bytes": settings.largest_film_mb * MIB,
        "memory_mb": settings.listener_memory_mb,
    }
    return ChildProcess(
        NAME,
        "hilum.service.dicom.asking_child",
        {"news": news, "channel": channel, **given},
        environment=child_environment(**MEMORY),
        descriptors=[news, channel],
        memory_setting="HILUM_LISTENER_MEMORY_MB",
    )


def _found(said: Any, most: int) -> list[Found]:
    """What was found, if the answer has its form."""
    try:
        found = [Found(**one) for one in said]
        well = len(found) <= most and all(UID.fullmatch(uid) for one in found for uid in asdict(one).values())
    except TypeError:
        well = False
    if not well:
        raise Unfetched(f"The {NAME} said what it can't have meant.", code="asking-died")
    return found
