"""Rows on disk that are computed once: one folder a key, safe under ``kill -9`` and several writers.

A store's folder holds::

    store.json   what the rows are, for people
    rows.bin     rows of one shape and type, one after another
    marks.bin    for each row that is whole a completion mark: its key (16 bytes) and its CRC-32 (4 bytes)
    use.lock     held shared by all who have the store open, so that it is not evicted under them
    write.lock   held by the one who appends

Rows are synced before their marks are appended, so a mark never stands for half a row; whatever a killed writer left
beyond the last mark is written over by the next one. Marks without their rows (a folder that was copied badly, a disk
that failed) are not believed, and :meth:`RowStore.check` forgets rows whose content changed: they are computed anew.

Two things are kept so: outputs of frozen layers (:mod:`hilum.training.prefix_cache`) and decoded films
(:mod:`hilum.runs.tiles`).
"""

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import uuid
import weakref
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from hilum.arrays import Array, Indices
from hilum.errors import TrainingError
from hilum.files import write_json
from hilum.provenance import sha256_bytes

KEY_BYTES = 16
MARK_BYTES = KEY_BYTES + 4

_FORMAT = 2
_CHECK_BYTES = 8 * 2**20


class RowStore:
    """One open store. Rows appended by others are seen after the next :meth:`refresh`.

    Args:
        root: folder of all stores.
        identity: plain JSON values that say what the rows are; the folder's name is their hash.
        shape: of one row.
        dtype: of the rows.
        called: what people call the root, at the beginning of a sentence.

    Raises:
        TrainingError: the root can't be written to.
    """

    def __init__(
        self,
        root: Path,
        identity: Mapping[str, Any],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        *,
        called: str = "The prefix cache",
    ) -> None:
        self.identity = {**identity, "shape": list(shape), "dtype": dtype.name, "format": _FORMAT}
        text = json.dumps(self.identity, sort_keys=True)
        self.folder = Path(root) / sha256_bytes(text.encode())[:32]
        self.shape, self.dtype, self.called = shape, dtype, called
        self.row_bytes = int(np.prod(shape)) * dtype.itemsize
        self._places: dict[bytes, int] = {}
        self._sums = array("I")
        self._count = 0
        try:
            self._in_use = _open_for_use(self.folder)
            if not (self.folder / "store.json").exists():
                write_json(self.folder / "store.json", self.identity)
            (self.folder / "rows.bin").touch()
            (self.folder / "marks.bin").touch()
        except OSError as error:
            raise self._unwritable(error) from None
        self.refresh()

    def close(self) -> None:
        """Let the store go; it may then be evicted."""
        self._in_use.close()

    def refresh(self) -> None:
        """Read the completion marks that were added since the last time; those without a whole row don't count."""
        with open(self.folder / "marks.bin", "rb") as handle:
            handle.seek(self._count * MARK_BYTES)
            added = handle.read()
        there = (self.folder / "rows.bin").stat().st_size // max(self.row_bytes, 1)
        whole = max(min(len(added) // MARK_BYTES, there - self._count), 0)
        for i in range(whole):
            mark = added[i * MARK_BYTES : (i + 1) * MARK_BYTES]
            self._places[mark[:KEY_BYTES]] = self._count + i
            self._sums.append(int.from_bytes(mark[KEY_BYTES:], "little"))
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

    def values(self) -> "StoredRows":
        """All whole rows, read when they are asked for."""
        return StoredRows(self.folder / "rows.bin", len(self), self.shape, self.dtype)

    def check(self, keys: Iterable[bytes]) -> int:
        """Forget the rows of these keys whose content is not what was written.

        Costs one reading of the rows, a second or so a gigabyte.

        Returns:
            how many were forgotten; the next writer computes them anew.
        """
        there = {key: self._places[key] for key in keys if key in self._places}
        damaged = []
        with open(self.folder / "rows.bin", "rb", buffering=max(_CHECK_BYTES, self.row_bytes)) as handle:
            at = 0
            for key, place in sorted(there.items(), key=lambda item: item[1]):
                if place != at:
                    handle.seek(place * self.row_bytes)
                if zlib.crc32(handle.read(self.row_bytes)) != self._sums[place]:
                    damaged.append(key)
                at = place + 1
        for key in damaged:
            del self._places[key]
        return len(damaged)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only one who appends; waits for another process that does. Rows are looked up anew.

        Raises:
            TrainingError: the store's folder can't be written to.
        """
        try:
            lock = open(self.folder / "write.lock", "ab")  # noqa: SIM115 - held until the end of the block
        except OSError as error:
            raise self._unwritable(error) from None
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.refresh()
            yield

    def append(self, keys: Sequence[bytes], rows: Array) -> None:
        """Add rows, durably; only inside :meth:`writing`.

        Raises:
            TrainingError: the disk is full or fails; what was whole before stays whole.
        """
        content = np.ascontiguousarray(rows, dtype=self.dtype)
        sums = [zlib.crc32(row.data).to_bytes(4, "little") for row in content]
        try:
            with open(self.folder / "rows.bin", "r+b") as handle:
                handle.seek(len(self) * self.row_bytes)
                handle.write(content.data)
                handle.flush()
                os.fdatasync(handle.fileno())
            with open(self.folder / "marks.bin", "r+b") as handle:
                handle.seek(len(self) * MARK_BYTES)
                handle.write(b"".join(part for pair in zip(keys, sums, strict=True) for part in pair))
                handle.truncate()
        except OSError as error:
            with contextlib.suppress(OSError):  # what is half written is of no use, and its space may be wanted
                os.truncate(self.folder / "rows.bin", len(self) * self.row_bytes)
            raise self._unwritable(error) from None
        self.refresh()

    def _unwritable(self, error: OSError) -> TrainingError:
        return TrainingError(
            f"{self.called} can't be written ({error.strerror}) at {self.folder.parent}. Free space on its disk, give "
            "leave to write there, or choose another folder."
        )


class StoredRows:
    """Rows of a file, read when they are asked for, into memory of the caller's.

    They are read, not mapped: the kernel maps whole large folios of the page cache at a touch, so a process that read
    rows in random order through a map grew by hundreds of megabytes between two releases of its pages (Linux 6.18).

    Args:
        path: the file; it may be longer.
        count: rows.
        shape: of one row.
        dtype: of the rows.
    """

    def __init__(self, path: Path, count: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype, self.ndim = (count, *shape), dtype, 1 + len(shape)
        self._row_bytes = int(np.prod(shape)) * dtype.itemsize
        self._path, self._descriptor = path, os.open(path, os.O_RDONLY)
        self.close = weakref.finalize(self, os.close, self._descriptor)

    def __len__(self) -> int:
        return self.shape[0]

    def take(self, places: Indices, out: Array | None = None) -> Array:
        """Copies of the rows at these places, in this order; written to ``out`` (contiguous) when given.

        Raises:
            IndexError: a place beyond the rows.
            TrainingError: the file is shorter than its rows, or can't be read.
        """
        wanted = np.atleast_1d(places)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"Rows {wanted.min()} to {wanted.max()} were asked for, but there are {len(self)}.")
        taken = np.empty((*np.shape(places), *self.shape[1:]), self.dtype) if out is None else out
        into = taken.reshape(-1).view(np.uint8).data
        for start, end in _runs(wanted):
            self._read(into[start * self._row_bytes : end * self._row_bytes], int(wanted[start]) * self._row_bytes)
        return taken

    def _read(self, into: memoryview, at: int) -> None:
        while len(into):
            try:
                count = os.preadv(self._descriptor, [into], at)
            except OSError as error:
                raise TrainingError(f"{self._path} can't be read ({error.strerror}). Check its disk.") from None
            if not count:
                raise TrainingError(f"{self._path} ends before byte {at + len(into)}. Remove it and run again.")
            into, at = into[count:], at + count


def _runs(places: Indices) -> Iterator[tuple[int, int]]:
    """Where runs of consecutive places begin and end: they are read at once."""
    borders = [0, *(np.flatnonzero(np.diff(places) != 1) + 1).tolist(), len(places)]
    return ((start, end) for start, end in itertools.pairwise(borders) if end > start)


class RowsOf:
    """Rows of a store in an order of one's own, read when they are asked for; indexed as an array is.

    Args:
        store: kept open.
        places: row number in the store of each of n rows.
    """

    def __init__(self, store: RowStore, places: Indices) -> None:
        self.store, self.places = store, places
        self._values = store.values()
        self.shape, self.dtype, self.ndim = (len(places), *store.shape), store.dtype, 1 + len(store.shape)

    def __len__(self) -> int:
        return len(self.places)

    @property
    def nbytes(self) -> int:
        """Bytes that all rows would take in memory."""
        return len(self) * self.store.row_bytes

    def __getitem__(self, index: Any) -> Array:
        """Copies of one row (a number) or of several (a slice, row numbers or a mask)."""
        places = self.places[index]
        return self._values.take(places)


def _open_for_use(folder: Path) -> IO[bytes]:
    """Create the folder if need be and hold its lock shared; try again if it was evicted in between."""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = open(folder / "use.lock", "ab")  # noqa: SIM115 - held until close()
        except FileNotFoundError:
            continue
        except FileExistsError:  # it was there, and evicted before mkdir looked whether it is a folder
            if folder.is_file():
                raise
            continue
        fcntl.flock(handle, fcntl.LOCK_SH)
        if _is_current(handle, folder):
            with contextlib.suppress(FileNotFoundError):
                os.utime(folder / "use.lock")
                return handle
        handle.close()


def _is_current(lock: IO[bytes], folder: Path) -> bool:
    """Whether an open lock is still the one in the folder: another may have been evicted, and begun anew."""
    try:
        return (folder / "use.lock").stat().st_ino == os.fstat(lock.fileno()).st_ino
    except FileNotFoundError:
        return False


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
        if not _is_current(handle, folder):  # evicted by another, and perhaps begun anew by a third
            return not folder.exists()
        # The name goes first and at once, so nobody opens a store that is half removed.
        leaving = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.old")
        os.replace(folder, leaving)
        shutil.rmtree(leaving, ignore_errors=True)
    return True
