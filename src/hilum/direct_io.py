"""Files past the disk's cache (Linux, open(2), O_DIRECT): for films, each written once and read once soon after.

Through the cache a film is copied into pages that are found for it, while pages of something that is read more often
are given up; on a virtual machine that gives free memory back to its host, each such page is asked for again.
``benchmarks/film_on_disk.py`` measures both ways.

Past the cache, places in memory and in the file are multiples of a block: bytes gather in buffers that lie so and are
used again. Where no buffer is free, or the file system can't, they go through the cache as ever.
"""

import contextlib
import errno
import fcntl
import io
import mmap
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Generic, Protocol, TypeVar

B = TypeVar("B")

BLOCK = 4096
"""Bytes of which places are multiples; a disk that wants larger ones gets its files through the cache."""

PAST_CACHE = getattr(os, "O_DIRECT", 0)


class Sink(Protocol):
    """What takes bytes."""

    def write(self, content: memoryview, /) -> int | None:
        """Take bytes; how many were taken."""

    def flush(self) -> None:
        """Hand on all that were taken."""


class Buffers(Generic[B]):
    """Buffers whose pages are used again and again.

    Args:
        most: how many at a time.
        make: makes one.
    """

    def __init__(self, most: int, make: Callable[[], B]) -> None:
        self._make, self._to_make, self._free = make, deque(range(most)), deque[B]()

    def take(self) -> B | None:
        """The one that was used last; None when all are in use, or none can be made just now."""
        with contextlib.suppress(IndexError):
            return self._free.pop()
        with contextlib.suppress(IndexError):
            number = self._to_make.pop()
            try:
                return self._make()
            except OSError:
                self._to_make.append(number)
        return None

    def give_back(self, buffer: B) -> None:
        """Let others have it."""
        self._free.append(buffer)


FOR_READING = Buffers(4, lambda: mmap.mmap(-1, 32 << 20))
"""Of this process. Of each, only what a file took is in memory."""

AT_ONCE = 1 << 20
"""Bytes that are read at a time, at most, of a file that is not read whole: each time costs a turn of the disk."""


class DirectWriter:
    """Writes a new file past the disk's cache, but for its last bytes, less than a block.

    Args:
        file: empty, unbuffered; it stays open.
        buffer: gives the memory where bytes gather, whole blocks of it, once the first of them come; None sends them
            through the cache.
    """

    def __init__(self, file: io.RawIOBase, buffer: Callable[[], mmap.mmap | None]) -> None:
        self._file, self._buffer = file, buffer
        self._view: memoryview | None = None
        self._begun, self._held = False, 0
        self.whole = False
        """Whether all that was written still lies in the buffer, from its start on."""

    def waits(self, count: int) -> bool:
        """Whether taking so many bytes more would wait for the disk."""
        self._begin()
        return self._view is not None and self._held + count > len(self._view)

    def _begin(self) -> None:
        if self._begun:
            return
        self._begun, buffer = True, self._buffer()
        if buffer is not None:
            self._view, self.whole = memoryview(buffer), True

    def write(self, content: memoryview, /) -> int:
        """Take bytes, all of them or as many as the buffer has room for.

        Raises:
            OSError: of the disk, for these bytes or ones before.
        """
        self._begin()
        if self._view is None:
            self.whole = False
            return self._file.write(content) or 0
        if self._held == len(self._view):
            self.whole = False
            self._hand_on(self._view, self._held)
            return self.write(content)
        count = min(len(content), len(self._view) - self._held)
        self._view[self._held : self._held + count] = content[:count]
        self._held += count
        return count

    def flush(self) -> None:
        """Hand all on to the system.

        Raises:
            OSError: of the disk.
        """
        if self._view is not None:
            self._hand_on(self._view, self._held)
            self._view = None

    def _hand_on(self, view: memoryview, count: int) -> None:
        """Write the first bytes of the buffer: whole blocks past the cache, the rest through it."""
        descriptor, at, self._held = self._file.fileno(), 0, 0
        blocks = count // BLOCK * BLOCK if set_direct(descriptor, True) else 0
        try:
            while at < blocks:
                at += self._file.write(view[at:blocks]) or 0
        except OSError as error:  # it may want other multiples than ours, or have taken a part that is none
            if error.errno != errno.EINVAL:
                raise
        set_direct(descriptor, False)
        while at < count:
            at += self._file.write(view[at:count]) or 0


class DirectReader(io.RawIOBase):
    """Reads a file past the disk's cache, or through it where that can't be.

    Args:
        path: the file.

    Raises:
        OSError: it can't be opened or read.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            self._file, self._at = io.FileIO(path), 0
        except BaseException:
            super().close()  # else the finalizer closes what is not there
            raise
        self._buffer = FOR_READING.take()
        self._view: memoryview | None = None
        self._start = self._there = 0  # where what lies in the buffer begins, and how many bytes of it there are
        if self._buffer is not None and set_direct(self._file.fileno(), True):
            self._view = memoryview(self._buffer)

    def fileno(self) -> int:
        """Its descriptor."""
        return self._file.fileno()

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place counted from the start, from here or from the end."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at}.get(whence)
        self._at = offset + (os.fstat(self.fileno()).st_size if start is None else start)
        return self._at

    def readinto(self, into: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Read at most as much as there is room for; 0 at the end."""
        wanted = memoryview(into).cast("B")
        end = self._at + len(wanted)
        if not self._start <= self._at <= end <= self._start + self._there:
            self._fill(self._at - self._at % BLOCK, end)
        if self._view is None:
            count = os.preadv(self.fileno(), [wanted], self._at)
        else:
            before = self._at - self._start
            count = max(0, min(self._there - before, len(wanted)))
            wanted[:count] = self._view[before : before + count]
        self._at += count
        return count

    def first(self, count: int) -> bytes | memoryview:
        """The file's first bytes, where they lie until this is closed; copied if there isn't room for them.

        Args:
            count: how many; fewer come where the file ends before.
        """
        if self._view is not None and count <= len(self._view):
            self._fill(0, count)
            if self._view is not None and self._there >= min(count, os.fstat(self.fileno()).st_size):
                return self._view[: min(self._there, count)].toreadonly()
        self._at, pieces = 0, []
        while piece := self.read(min(count, AT_ONCE)):
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def _fill(self, start: int, end: int) -> None:
        """Read whole blocks into the buffer, and more than is asked for by who reads on: nobody else reads ahead."""
        if self._view is None:
            return
        count = end - start
        if self._start < start <= self._start + self._there:
            count = max(count, min(2 * self._there, AT_ONCE))
        length = min(len(self._view), -(-count // BLOCK) * BLOCK)
        try:
            self._start, self._there = start, os.preadv(self.fileno(), [self._view[:length]], start)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._view = None  # it wants other multiples than ours
            set_direct(self.fileno(), False)

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._view, buffer, self._buffer = None, self._buffer, None
            if buffer is not None:
                FOR_READING.give_back(buffer)
            self._file.close()
        super().close()


def opened_past_cache(path: Path, ahead: int) -> BinaryIO:
    """A file to be read past the cache.

    Args:
        path: the file.
        ahead: bytes that are read at least.

    Raises:
        OSError: it can't be opened.
    """
    return io.BufferedReader(DirectReader(path), ahead)


def set_direct(descriptor: int, direct: bool) -> bool:
    """Have what follows go past the cache, or through it; False where that can't be had."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | PAST_CACHE if direct else flags & ~PAST_CACHE)
    except OSError:
        return False
    return True
