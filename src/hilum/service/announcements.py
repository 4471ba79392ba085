"""Tells those who wait for a film's answer that it is there, or hands it to them."""

import asyncio
import contextlib
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

from hilum.records.values import FilmRecord

REMEMBERED = 1024
"""Films whose announcement is remembered."""


class Announced(asyncio.Event):
    """Set when a film is announced.

    Args:
        viewer: who is shown the answer as soon as it is there; None for somebody who has to ask for it then.
    """

    def __init__(self, viewer: str | None) -> None:
        super().__init__()
        self.viewer = viewer
        self.film: FilmRecord | None = None
        """The film with its answer, where the audit says already that the viewer is shown it."""


class Announcements:
    """From the workers' threads to the event loops of the web server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, set[tuple[asyncio.AbstractEventLoop, Announced]]] = defaultdict(set)
        self._recent: dict[str, None] = {}

    def viewers(self, film_id: str) -> tuple[Announced, ...]:
        """Who waits to be shown this film's answer, for whoever records it."""
        with self._lock:
            return tuple(event for _, event in self._waiting.get(film_id, ()) if event.viewer is not None)

    def hand_over(self, film: FilmRecord, viewers: Sequence[Announced]) -> None:
        """Give those viewers the film; the audit says that they are shown it. Announce it after this."""
        for one in viewers:
            one.film = film

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
    async def listen(self, film_id: str, *, new: bool = False, viewer: str | None = None) -> AsyncIterator[Announced]:
        """An event that is set when the film is announced.

        Args:
            film_id: the film. Look at it after entering, then wait.
            new: it was not there a moment ago: then an announcement that came in between counts, and nobody needs to
                look first.
            viewer: who is shown the answer as soon as it is there.
        """
        entry = asyncio.get_running_loop(), Announced(viewer)
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
