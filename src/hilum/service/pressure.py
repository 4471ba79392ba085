"""May one more film come in? A queue that grows without end helps nobody: beyond a mark senders are told to wait.

They keep their films and send again: HTTP 429 with Retry-After, C-STORE 0xA700. What was acknowledged before stays.
"""

import threading
import time
from collections.abc import Callable

from hilum.errors import ServiceError
from hilum.service.refusals import Refused

LOOK_EVERY_S = 0.5


class Pressure:
    """Looks at the queue, at most twice a second however many senders ask.

    Args:
        waiting: how many films wait for an answer; raises ServiceError when the records are away.
        most: with so many waiting, no further one is taken.
        clock: gives seconds; tests give their own.
    """

    def __init__(self, waiting: Callable[[], int], *, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._waiting, self.most, self._clock = waiting, most, clock
        self._lock, self._looked_at, self._seen = threading.Lock(), float("-inf"), 0

    @property
    def knows(self) -> bool:
        """Whether :meth:`check` can tell without a look."""
        return self._clock() - self._looked_at < LOOK_EVERY_S

    def check(self) -> None:
        """Let one more film in.

        Raises:
            Refused: ``busy``, or ``records-away`` where nobody can tell how many wait.
        """
        with self._lock:
            if not self.knows:
                self._look()
            if self._seen >= self.most:
                raise Refused(
                    f"{self.most} films wait for their answer already. Send the film again in a few seconds, or raise "
                    "HILUM_MOST_WAITING.",
                    code="busy",
                )
            self._seen += 1  # until the next look: a rush must not pass the mark in between

    def _look(self) -> None:
        try:
            self._seen = self._waiting()
        except ServiceError as error:
            raise Refused(f"{error} The film was not accepted; send it again.", code="records-away") from None
        self._looked_at = self._clock()
