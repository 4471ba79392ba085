"""At the start: films recorded before migration 0016 get the identity that they would have if they came now.

Each one's file is read once, beside everything else and never faster than half of the time. What was done stays done
when the service is stopped; the next start goes on.
"""

import threading
import time

from hilum.errors import DataError, FilmError, ServiceError
from hilum.records.former_films import FormerFilms
from hilum.records.store import Store
from hilum.service.film_files import FilmFiles
from hilum.service.film_identity import identity_of
from hilum.service.logs import logger, where
from hilum.service.refusals import Refused

FILMS_AT_ONCE = 8
"""Films of one transaction."""

NAMED_GONE = 20
"""So many films whose files are gone are named; the rest are counted, since a whole folder may be elsewhere."""

SAID_EVERY_S = 60.0
AGAIN_AFTER_S = 30.0
"""How long after the records were away it goes on."""


class FormerReading:
    """The thread that does it, and ends.

    Args:
        films: those films.
        files: their files.
        store: told what there is left of them.
    """

    def __init__(self, films: FormerFilms, files: FilmFiles, store: Store) -> None:
        self._films, self._files, self._store = films, files, store
        self._stopping = threading.Event()
        self._after, self._said, self._gone = "", float("-inf"), 0
        self._thread = threading.Thread(target=self._run, name="hilum-former-films", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the film in work; the next start goes on."""
        self._stopping.set()
        self.join()

    def join(self, within_s: float | None = None) -> None:
        """Wait until all were read."""
        if self._thread.ident is not None:
            self._thread.join(within_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._read_all()
                return
            except ServiceError as error:
                logger().error("records away", reason=str(error))
            except Exception as error:
                logger().error("films from before an upgrade not read", **where(error))
            self._stopping.wait(AGAIN_AFTER_S)

    def _read_all(self) -> None:
        while films := self._films.next(self._after, FILMS_AT_ONCE):
            self._say()
            began = time.monotonic()
            found: dict[str, str] = {}
            for film_id, name in films:
                if self._stopping.is_set():
                    break
                identity = self._identity(film_id, name)
                if identity is not None:
                    found[film_id] = identity
            for film_id in self._films.identify(found):
                logger().warning("film without identity", film=film_id, code="twice")
            if self._stopping.wait(time.monotonic() - began):
                return
            self._after = films[-1][0]
        if self._gone > NAMED_GONE:
            logger().warning("films without identity", films=self._gone, code="gone")
        if self._after:
            logger().info("films from before an upgrade read", remaining=self._films.unread())
        self._store.former = "some" if self._films.any() else "none"

    def _say(self) -> None:
        if time.monotonic() - self._said >= SAID_EVERY_S:
            self._said = time.monotonic()
            logger().info("films from before an upgrade are read", remaining=self._films.unread())

    def _identity(self, film_id: str, name: str) -> str | None:
        try:
            return identity_of(self._files.film(name).chunks())
        except (FilmError, DataError, Refused) as error:
            code = error.code if isinstance(error, FilmError | Refused) else "key-missing"
            self._gone += code == "gone"
            if code != "gone" or self._gone <= NAMED_GONE:
                logger().warning("film without identity", film=film_id, code=code)
            return None
