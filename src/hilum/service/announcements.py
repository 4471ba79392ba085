"""Tells those who wait for a film's answer that it is there."""

import asyncio
import contextlib
import threading
from collections import defaultdict
from collections.abc import AsyncIterator

REMEMBERED = 1024
"""Films whose announcement is remembered."""


class Announcements:
    """From the workers' threads to the event loops of the web server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = defaultdict(set)
        self._recent: dict[str, None] = {}

    def announce(self, film_id: str) -> None:
        """Wake whoever waits for this film."""
        with self._lock:
            self._recent.pop(film_id, None)
            self._recent[film_id] = None
            if len(self._recent) > REMEMBERED:
                del self._recent[next(iter(self._recent))]
            waiting = list(self._waiting.get(film_id, ()))
        for loop, event in waiting:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(event.set)

    @contextlib.asynccontextmanager
    async def listen(self, film_id: str, *, new: bool = False) -> AsyncIterator[asyncio.Event]:
        """An event that is set when the film is announced.

        Args:
            film_id: the film. Look at it after entering, then wait.
            new: it was not there a moment ago: then an announcement that came in between counts, and nobody needs to
                look first.
        """
        entry = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            if new and film_id in self._recent:
                entry[1].set()
            self._waiting[film_id].add(entry)
        try:
            yield entry[1]
        finally:
            with self._lock:
                self._waiting[film_id].discard(entry)
                if not self._waiting[film_id]:
                    del self._waiting[film_id]
