"""Once a day: what is past its time is erased. At the start: what an earlier erasure left."""

import threading

from hilum.errors import HilumError
from hilum.records.database import Database
from hilum.records.retention import Retention
from hilum.service.erasing import finish_erasures, retain
from hilum.service.film_files import FilmFiles
from hilum.service.logs import logger, where

DAY_S = 24 * 3600.0


class Upkeep:
    """The thread that does it.

    Args:
        database: the records.
        files: the films' files.
        retention: how long what is kept.
        every_s: how often it looks.
    """

    def __init__(self, database: Database, files: FilmFiles, retention: Retention, *, every_s: float = DAY_S) -> None:
        self._database, self._files, self._retention, self._every_s = database, files, retention, every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hilum-upkeep", daemon=True)

    def start(self) -> None:
        """End what an earlier process left, then begin."""
        left = finish_erasures(self._database, self._files)
        if left:
            logger().info("erasures ended", files=left)
        self._thread.start()

    def stop(self) -> None:
        """End after what is in work."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                done = retain(self._database, self._files, self._retention, actor="service")
                if done.pixels or done.identifiers:
                    logger().info("retention", pixels=done.pixels, identifiers=done.identifiers)
            except HilumError as error:
                logger().error("retention failed", reason=str(error))
            except Exception as error:
                logger().error("retention failed", **where(error))
            if self._stopping.wait(self._every_s):
                return
