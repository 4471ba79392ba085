"""Rows on disk that are computed once: one folder a key, safe under ``kill -9`` and several writers.

A store's folder holds::

    store.json   what the rows are, for people
    rows.bin     rows of one shape and type, one after another
    keys.bin     sixteen bytes for each row that is whole: its completion mark
    use.lock     held shared by all who have the store open, so that it is not evicted under them
    write.lock   held by the one who appends

Rows are synced before their keys are appended, so a key never stands for half a row; whatever a killed writer left
beyond the last key is written over by the next one.
"""

import contextlib
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from hilum.arrays import Array, Indices
from hilum.errors import TrainingError
from hilum.files import write_json
from hilum.provenance import sha256_bytes

KEY_BYTES = 16


class PrefixStore:
    """One open store. Rows appended by others are seen after the next :meth:`refresh`.

    Args:
        root: folder of all stores.
        identity: plain JSON values that say what the rows are; the folder's name is their hash.
        shape: of one row.
        dtype: of the rows.
    """

    def __init__(self, root: Path, identity: Mapping[str, Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.identity = {**identity, "shape": list(shape), "dtype": dtype.name}
        text = json.dumps(self.identity, sort_keys=True)
        self.folder = Path(root) / sha256_bytes(text.encode())[:32]
        self.shape, self.dtype = shape, dtype
        self.row_bytes = int(np.prod(shape)) * dtype.itemsize
        self._in_use = _open_for_use(self.folder)
        if not (self.folder / "store.json").exists():
            write_json(self.folder / "store.json", self.identity)
        (self.folder / "rows.bin").touch()
        (self.folder / "keys.bin").touch()
        self._places: dict[bytes, int] = {}
        self._count = 0
        self.refresh()

    def close(self) -> None:
        """Let the store go; it may then be evicted."""
        self._in_use.close()

    def refresh(self) -> None:
        """Read the completion marks that were added since the last time."""
        with open(self.folder / "keys.bin", "rb") as handle:
            handle.seek(self._count * KEY_BYTES)
            added = handle.read()
        whole = len(added) // KEY_BYTES
        for i in range(whole):
            self._places[added[i * KEY_BYTES : (i + 1) * KEY_BYTES]] = self._count + i
        self._count += whole

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def places(self, keys: Sequence[bytes]) -> Indices:
        """Row number of each key.

        Raises:
            KeyError: a key without a row.
        """
        return np.array([self._places[key] for key in keys], dtype=np.int64)

    def values(self) -> Array:
        """All whole rows [rows, *shape], memory-mapped read-only."""
        if not len(self):
            return np.empty((0, *self.shape), dtype=self.dtype)
        return np.memmap(self.folder / "rows.bin", self.dtype, "r", shape=(len(self), *self.shape))

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only one who appends; waits for another process that does. Rows are looked up anew."""
        with open(self.folder / "write.lock", "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.refresh()
            yield

    def append(self, keys: Sequence[bytes], rows: Array) -> None:
        """Add rows, durably; only inside :meth:`writing`.

        Raises:
            TrainingError: the disk is full or fails; what was whole before stays whole.
        """
        try:
            with open(self.folder / "rows.bin", "r+b") as handle:
                handle.seek(len(self) * self.row_bytes)
                handle.write(np.ascontiguousarray(rows, dtype=self.dtype).data)
                handle.flush()
                os.fdatasync(handle.fileno())
            with open(self.folder / "keys.bin", "r+b") as handle:
                handle.seek(len(self) * KEY_BYTES)
                handle.write(b"".join(keys))
                handle.truncate()
        except OSError as error:
            raise TrainingError(
                f"The prefix cache can't be written ({error.strerror}). Free space on its disk, or choose another one."
            ) from None
        self.refresh()


def _open_for_use(folder: Path) -> IO[bytes]:
    """Create the folder if need be and hold its lock shared; try again if it was evicted in between."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = open(folder / "use.lock", "ab")  # noqa: SIM115 - held until close()
        except FileNotFoundError:
            continue
        fcntl.flock(handle, fcntl.LOCK_SH)
        with contextlib.suppress(FileNotFoundError):
            if (folder / "use.lock").stat().st_ino == os.fstat(handle.fileno()).st_ino:
                os.utime(folder / "use.lock")
                return handle
        handle.close()


def store_sizes(root: Path) -> dict[Path, int]:
    """Bytes of each store below a root, least recently used first."""
    sizes = {}
    for lock in sorted(Path(root).glob("*/use.lock"), key=_last_use):
        with contextlib.suppress(FileNotFoundError):
            sizes[lock.parent] = sum(file.stat().st_size for file in lock.parent.iterdir())
    return sizes


def _last_use(lock: Path) -> int:
    try:
        return lock.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def sweep(root: Path) -> None:
    """Finish what a process that was killed while evicting left half removed."""
    for leaving in Path(root).glob(".*.old"):
        shutil.rmtree(leaving, ignore_errors=True)


def evict(folder: Path) -> bool:
    """Remove a store that nobody has open; say whether it is gone."""
    with contextlib.suppress(FileNotFoundError), open(folder / "use.lock", "rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        # The name goes first and at once, so nobody opens a store that is half removed.
        leaving = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.old")
        os.replace(folder, leaving)
        shutil.rmtree(leaving, ignore_errors=True)
    return True
