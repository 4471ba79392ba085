"""Films that came a moment ago, where their bytes came together on the way to the disk: their decoder takes them there.

A film is written past the disk's cache (:mod:`hilum.direct_io`), so that nothing else holds it; read from the disk, its
bytes would be the slowest that a decoder meets. Each lies here until it was read once, or its place is wanted.
"""

import contextlib
import threading
from collections.abc import Iterator

from hilum.direct_io import Buffers
from hilum.shared_memory import Lent, SharedMemory

MOST, LARGEST_BYTES = 8, 4 << 20
"""Films that come at once beyond so many go through the disk's cache; a larger one waits for the disk as it comes."""


class RecentFilms:
    """The memory of some films."""

    def __init__(self) -> None:
        self._rooms = Buffers(MOST, lambda: SharedMemory(LARGEST_BYTES))
        self._kept: dict[str, tuple[SharedMemory, int]] = {}
        self._lock = threading.Lock()

    def take(self) -> SharedMemory | None:
        """Room for a film, for which the oldest one may have to go; None when all is in use, or there is none here."""
        room = self._rooms.take()
        if room is None:
            with self._lock:
                oldest = next(iter(self._kept), None)
                return None if oldest is None else self._kept.pop(oldest)[0]
        return room

    def give_back(self, room: SharedMemory) -> None:
        """Let others have it."""
        self._rooms.give_back(room)

    def keep(self, sha256: str, room: SharedMemory, size: int) -> None:
        """Keep a film.

        Args:
            sha256: of its bytes.
            room: where they lie, from the start; it is the film's from now on.
            size: how many.
        """
        with self._lock:
            before = self._kept.pop(sha256, None)
            self._kept[sha256] = room, size
        if before is not None:
            self._rooms.give_back(before[0])

    @contextlib.contextmanager
    def lent(self, sha256: str) -> Iterator[Lent | None]:
        """A film's bytes, once; None when they are not here.

        Who got them must have let go of them at the end.
        """
        room, size = self._taken(sha256)
        try:
            yield None if room is None else Lent(descriptor=room.descriptor, size=size)
        finally:
            if room is not None:
                self._rooms.give_back(room)

    def forget(self, sha256: str) -> None:
        """Let go of a film, as it is erased."""
        room, size = self._taken(sha256)
        if room is not None:
            room.memory[:size] = bytes(size)
            self._rooms.give_back(room)

    def _taken(self, sha256: str) -> tuple[SharedMemory | None, int]:
        with self._lock:
            return self._kept.pop(sha256, (None, 0))
