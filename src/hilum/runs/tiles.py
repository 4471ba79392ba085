"""Films of a manifest at model resolution: decoded once, in parallel, kept by content, in memory or streamed.

Tiles lie in a store of rows (:mod:`hilum.training.row_store`) that runs share, one for each preprocessing, keyed by the
films' SHA-256. So films that are added later are all that is decoded then, and a killed decoding goes on with the films
that are missing.
"""

import contextlib
import csv
import hashlib
import io
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hilum.arrays import Tile, Tiles
from hilum.config import fingerprint
from hilum.datasets.manifest import Manifest
from hilum.errors import DataError
from hilum.files import write_text
from hilum.imaging.preprocessing import Preprocessing
from hilum.imaging.sandbox import Sandbox
from hilum.imaging.tile_reading import read_tile
from hilum.progress import Progress, Silent
from hilum.training.data_path import DataPath, Wanted, choose_data_path
from hilum.training.films import Stack
from hilum.training.row_store import KEY_BYTES, RowsOf, RowStore

BLOCK = 64
"""Films that are kept at once: the most that a kill can cost."""

BLOCK_S = 5.0
"""Seconds after which those that are ready are kept, however few."""

TOLD = 20
"""Bad films that a message names; all of them are in the file that it names too."""

MEMORY_MB = 2048
"""Most memory for decoding one film, on top of what a process has after its imports."""

WALL_S = 60.0
"""Longest time for one film."""


def load_tiles(
    manifest: Manifest,
    preprocessing: Preprocessing,
    cache: Path,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Tiles:
    """Decode and preprocess every film of a manifest, or take it from the cache; all in memory.

    Args:
        manifest: n films.
        preprocessing: how a film becomes a tile.
        cache: folder shared between runs.
        workers: processes; None for one a CPU, 0 for this process, where a damaged film isn't contained.
        progress: where progress goes.

    Returns:
        uint8 [n, size, size], in the manifest's order.

    Raises:
        DataError: films that can't be read, that vanished, or whose content changed since the import; all of them are
            in a file that the message names, and the others are decoded and kept.
        TrainingError: the cache can't be written to.
    """
    rows = _decoded(manifest, preprocessing, cache, workers, progress or Silent())
    with contextlib.closing(rows.store):
        return _in_memory(rows)


@contextlib.contextmanager
def open_tiles(
    manifest: Manifest,
    preprocessing: Preprocessing,
    cache: Path,
    *,
    wanted: Wanted = "auto",
    free: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[Stack, DataPath]]:
    """As :func:`load_tiles`, but films that are too many for the memory stay on disk, and are read as they are needed.

    Args and Raises are those of :func:`load_tiles`; further:

    Args:
        wanted: ``resident`` or ``streaming``, or ``auto`` to go by size.
        free: bytes of memory that count as free; None to look.

    Yields:
        (the tiles in the manifest's order, how they are kept and why). Inside the block streamed ones can't be evicted;
        behind it they can still be read, from the file that was opened.
    """
    progress = progress or Silent()
    size = len(manifest) * preprocessing.size**2
    path = choose_data_path(len(manifest), size, wanted, free=free)
    rows = _decoded(manifest, preprocessing, cache, workers, progress)
    progress.say(path.sentence)
    with contextlib.closing(rows.store):
        if path.kind == "streaming":
            yield rows, path
            return
        tiles = _in_memory(rows)
    yield tiles, path


def _in_memory(rows: RowsOf) -> Tiles:
    tiles = np.empty(rows.shape, dtype=rows.dtype)
    for start in range(0, len(rows), BLOCK):
        tiles[start : start + BLOCK] = rows[start : start + BLOCK]
    return tiles


def _decoded(
    manifest: Manifest, preprocessing: Preprocessing, cache: Path, workers: int | None, progress: Progress
) -> RowsOf:
    """The manifest's tiles as rows of their store, which is left open."""
    shape = (preprocessing.size, preprocessing.size)
    identity = {"tiles": fingerprint(preprocessing)}
    film_ids = manifest.strings("film_id")
    keys = [_key(film_id) for film_id in film_ids]
    with contextlib.ExitStack() as opened:
        store = RowStore(cache / "tiles", identity, shape, np.dtype(np.uint8), called="The cache of decoded films")
        opened.callback(store.close)
        if any(key not in store for key in keys):
            with store.writing():  # another process may have decoded them while this one waited
                missing = {key: row for row, key in enumerate(keys) if key not in store}
                _decode(store, missing, manifest.film_paths(), film_ids, preprocessing, workers, progress)
        opened.pop_all()
    return RowsOf(store, store.places(keys))


def _key(film_id: str) -> bytes:
    return hashlib.blake2b(film_id.encode(), digest_size=KEY_BYTES).digest()


def _decode(
    store: RowStore,
    missing: dict[bytes, int],
    paths: Sequence[Path],
    film_ids: Sequence[str],
    preprocessing: Preprocessing,
    workers: int | None,
    progress: Progress,
) -> None:
    """Decode what is missing; keep what could be read, then refuse what could not."""
    keys, rows = list(missing), list(missing.values())
    jobs = [(paths[row], film_ids[row], preprocessing) for row in rows]
    workers = min(_cpus() if workers is None else workers, len(jobs))
    bad: list[tuple[Path, str]] = []
    with progress.bar("Decoding films", len(jobs)) as bar, _Keeping(store) as keeping:
        for at, answer in _read(jobs, workers):
            if isinstance(answer, DataError):
                bad.append((paths[rows[at]], str(answer)))
            else:
                keeping.add(keys[at], answer)
            bar.advance(1, f"{len(bad)} can't be read" if bad else "")
    if bad:
        raise _refusal(sorted(bad), store.folder / "bad_films.csv")


def _read(jobs: Sequence[tuple[Path, str, Preprocessing]], workers: int) -> Iterator[tuple[int, Tile | DataError]]:
    """(index of the job, tile or what is wrong), in the order in which they end."""
    if workers == 0:
        for at, job in enumerate(jobs):
            try:
                yield at, read_tile(*job)
            except DataError as error:
                yield at, error
        return
    preload = ("hilum.imaging.tile_reading", "pydicom.pixels", "PIL.Image")
    with Sandbox(workers, memory_mb=MEMORY_MB, wall_s=WALL_S, cpu_s=WALL_S, preload=preload) as sandbox:
        yield from sandbox.map(read_tile, jobs)


@dataclass(slots=True)
class _Keeping:
    """Appends tiles to a store in blocks; what is ready when an error ends the work is kept too."""

    store: RowStore
    keys: list[bytes] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)
    kept_at: float = field(default_factory=time.monotonic)

    def __enter__(self) -> "_Keeping":
        return self

    def __exit__(self, *_: object) -> None:
        self._keep()

    def add(self, key: bytes, tile: Tile) -> None:
        self.keys.append(key)
        self.tiles.append(tile)
        if len(self.keys) >= BLOCK or time.monotonic() - self.kept_at > BLOCK_S:
            self._keep()

    def _keep(self) -> None:
        if self.keys:
            self.store.append(self.keys, np.stack(self.tiles))
        self.keys, self.tiles, self.kept_at = [], [], time.monotonic()


def _refusal(bad: Sequence[tuple[Path, str]], listing: Path) -> DataError:
    """The error that names bad films, after all of them were listed in a file."""
    text = io.StringIO()
    csv.writer(text).writerows([("path", "problem"), *((str(path), problem) for path, problem in bad)])
    write_text(listing, text.getvalue())
    lines = [f"{path}: {problem}" for path, problem in bad[:TOLD]]
    more = f" The first {TOLD} are named here." if len(bad) > TOLD else ""
    return DataError(
        "\n".join(lines) + f"\n{len(bad)} films of the manifest can't be used, all listed in {listing}.{more} Restore "
        "them, or import again without them; the others are decoded and kept."
    )


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
