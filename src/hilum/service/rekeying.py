"""Films under older data keys, or readable, come under the active one, while a service runs or by ``hilum keys apply``.

The records come first, in one transaction (:func:`hilum.records.key_change.bring_under_key`), at the start of the
service. The films follow one by one while it serves: each is read, encrypted beside its place, and renamed. What was
done stays done when the service ends; the next start goes on.
"""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from hilum.errors import DataError, FilmError, ServiceError
from hilum.records.database import Database
from hilum.records.key_change import all_under, film_files, retire_older_keys
from hilum.records.store import now
from hilum.service.film_files import FilmFiles
from hilum.service.logs import logger, where

SHARE = 0.25
"""Of the time it works; the rest is left to films that come and are read."""

SAID_EVERY_S = 60.0
AGAIN_AFTER_S = 30.0
"""How long after the records were away, or while another service of the same films is at it, it looks again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """What was brought under the active key."""

    films: int
    """Film files."""
    missing: tuple[str, ...]
    """What names the films whose files are gone or damaged; older keys are then kept."""
    retired: tuple[str, ...]
    """Ids of the keys that nothing here needs any more."""


def bring_films(
    files: FilmFiles, database: Database, *, actor: str, after_each: Callable[[int, int], bool] | None = None
) -> Brought | None:
    """Bring all films under the active key, and write down which keys nothing needs any more.

    Args:
        files: the films, with the keys.
        database: the records, which are under that key already.
        actor: who does it, for the audit.
        after_each: told how many films were looked at, and of how many; False stops.

    Returns:
        what was done; None when it was stopped, or another process is at the same films.

    Raises:
        ServiceError: the records can't be read or written.
        OSError: the disk can't be written.
    """
    try:
        place = files.encrypting()
    except BlockingIOError:
        return None
    try:
        names, films, missing = film_files(database), 0, []
        for number, name in enumerate(names, 1):
            try:
                films += files.encrypt(name)
            except (FilmError, DataError):  # all keys that we wrote with are given, so another one's id is damage
                missing.append(name)
            if after_each and not after_each(number, len(names)):
                return None
        # What was erased meanwhile is not missing.
        named = set(film_files(database)) if missing else set()
        missing = [name for name in missing if name in named]
        retired = () if missing else retire_older_keys(database, now, films=films, actor=actor)
        return Brought(films=films, missing=tuple(missing), retired=retired)
    finally:
        os.close(place)


class Rekeying:
    """The thread of a service that does it, and ends; where all is under the active key there is none.

    Args:
        files: the films, with the keys.
        database: the records.
        share: of the time it may work, above 0 to 1.
    """

    def __init__(self, files: FilmFiles, database: Database, *, share: float = SHARE) -> None:
        self._files, self._database, self._share = files, database, share
        self._stopping = threading.Event()
        self._began = self._said = 0.0
        self._thread = threading.Thread(target=self._run, name="hilum-rekeying", daemon=True)

    def start(self) -> None:
        """Begin, where there is anything to do."""
        if self._files.keys and not self._done():
            self._thread.start()

    def stop(self) -> None:
        """End after the film in work; the next start goes on."""
        self._stopping.set()
        self.join()

    def join(self, within_s: float | None = None) -> None:
        """Wait until all is done."""
        if self._thread.ident is not None:
            self._thread.join(within_s)

    @property
    def under_way(self) -> bool:
        """Whether it is at work."""
        return self._thread.is_alive()

    def _done(self) -> bool:
        return all_under(self._database, self._files.keys.active_id)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._began = self._said = time.monotonic()
                if self._done() or self._bring():
                    return
            except (ServiceError, OSError) as error:
                logger().error("films not encrypted", reason=str(error))
            except Exception as error:
                logger().error("films not encrypted", **where(error))
            self._stopping.wait(AGAIN_AFTER_S)

    def _bring(self) -> bool:
        done = bring_films(self._files, self._database, actor="service", after_each=self._paced)
        if done is None:
            return False
        key = self._files.keys.active_id
        logger().info("films encrypted", key=key, films=done.films, retired=list(done.retired))
        if done.missing:
            logger().warning("older data keys still asked for", films_gone_or_damaged=len(done.missing))
        return True

    def _paced(self, number: int, of: int) -> bool:
        here = time.monotonic()
        if here - self._said >= SAID_EVERY_S:
            self._said = here
            logger().info("films are encrypted", remaining=of - number)
        stopped = self._stopping.wait((here - self._began) * (1 / self._share - 1))
        self._began = time.monotonic()
        return not stopped
