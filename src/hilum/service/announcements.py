"""Tells those who wait for a film's answer that it is there."""

import asyncio
import contextlib
import threading
from collections import defaultdict
from collections.abc import AsyncIterator


class Announcements:
    """From the workers' threads to the event loops of the web server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = defaultdict(set)

    def announce(self, film_id: str) -> None:
        """Wake whoever waits for this film."""
        with self._lock:
            waiting = list(self._waiting.get(film_id, ()))
        for loop, event in waiting:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(event.set)

    @contextlib.asynccontextmanager
    async def listen(self, film_id: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set when the film is announced. Look at the film after entering, then wait."""
        entry = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            self._waiting[film_id].add(entry)
        try:
            yield entry[1]
        finally:
            with self._lock:
                self._waiting[film_id].discard(entry)
                if not self._waiting[film_id]:
                    del self._waiting[film_id]
