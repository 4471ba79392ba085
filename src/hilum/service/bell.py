"""Wake a worker that waits, without losing a call that comes just before it begins to wait."""

import threading
from collections.abc import Callable


class Bell:
    """Rings are counted, so one that was heard of before waiting is not waited for."""

    def __init__(self) -> None:
        self._changed, self._rings = threading.Condition(), 0

    @property
    def rings(self) -> int:
        """Number of rings so far; to be taken before looking for work."""
        return self._rings

    def ring(self, *, one: bool = False) -> None:
        """Wake whoever waits, or one of them."""
        with self._changed:
            self._rings += 1
            (self._changed.notify if one else self._changed.notify_all)()

    def wait(self, heard: int, timeout_s: float) -> None:
        """Wait for a ring after those that were heard, at most so long."""
        self.until(lambda: self._rings != heard, timeout_s)

    def until(self, true: Callable[[], bool], timeout_s: float) -> None:
        """Wait for something that is looked at after each ring, at most so long."""
        with self._changed:
            self._changed.wait_for(true, timeout_s)
