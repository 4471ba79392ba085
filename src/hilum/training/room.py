"""Space on a disk promised to those who fill stores at the same time, so that together they stay under one cap.

A promise is a file ``promised.<chance>`` in a store's folder: the size that the store may grow to. Its writer holds it
locked, so a promise whose writer was killed counts no more. Room is looked for, and promised, by one process at a time.
"""

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from hilum.training.row_store import store_sizes

_PROMISE = "promised.*"


@contextlib.contextmanager
def settling(root: Path) -> Iterator[None]:
    """Be the only one who looks for room below a root; waits for another process that does."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Promise:
    """Says that a store may grow to a size; made inside :func:`settling`.

    Args:
        folder: of the store, which its maker has open.
        size: bytes that all of its files will have.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self._path = folder / _PROMISE.replace("*", uuid.uuid4().hex)
        self._handle = open(self._path, "x")  # noqa: SIM115 - held until close()
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        self._handle.write(str(size))
        self._handle.flush()

    def close(self) -> None:
        """The store has grown, or won't."""
        self._path.unlink(missing_ok=True)
        self._handle.close()


def promised(folder: Path) -> int:
    """Bytes that a store may grow to, by the largest promise of one who still works; inside :func:`settling`."""
    largest = 0
    for path in folder.glob(_PROMISE):
        with contextlib.suppress(FileNotFoundError), open(path) as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                largest = max(largest, int(handle.read()))
            else:  # of a process that was killed
                path.unlink(missing_ok=True)
    return largest


def sizes_to_come(root: Path) -> dict[Path, tuple[int, int]]:
    """Of each store below a root, least recently used first: its size now, and what it may grow to."""
    return {folder: (size, max(size, promised(folder))) for folder, size in store_sizes(root).items()}
