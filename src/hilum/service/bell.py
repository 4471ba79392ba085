"""Wake a worker that waits, without losing a call that comes just before it begins to wait."""

import threading


class Bell:
    """Rings are counted, so one that was heard of before waiting is not waited for."""

    def __init__(self) -> None:
        self._changed, self._rings = threading.Condition(), 0

    @property
    def rings(self) -> int:
        """Number of rings so far; to be taken before looking for work."""
        return self._rings

    def ring(self) -> None:
        """Wake whoever waits."""
        with self._changed:
            self._rings += 1
            self._changed.notify_all()

    def wait(self, heard: int, timeout_s: float) -> None:
        """Wait for a ring after those that were heard, at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: self._rings != heard, timeout_s)
