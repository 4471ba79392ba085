"""Films of a manifest as one uint8 stack at model resolution: decoded once, in parallel, kept by content.

Blocks of films lie in a folder that runs share, keyed by the preprocessing and the films' SHA-256. A block
is written atomically, so a killed decoding goes on at the first block that is missing.
"""

import multiprocessing
import multiprocessing.pool
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hilum.arrays import Tile, Tiles
from hilum.config import fingerprint
from hilum.datasets.manifest import Manifest
from hilum.errors import DataError, FilmError
from hilum.files import replacing
from hilum.imaging.preprocessing import Preprocessing, preprocess
from hilum.imaging.reading import read_film
from hilum.progress import Progress, Silent
from hilum.provenance import combined_hash

BLOCK = 64
"""Films in a block: the most that a kill can cost."""


def load_tiles(
    manifest: Manifest,
    preprocessing: Preprocessing,
    cache: Path,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Tiles:
    """Decode and preprocess every film of a manifest, or take it from the cache.

    Args:
        manifest: n films.
        preprocessing: how a film becomes a tile.
        cache: folder shared between runs.
        workers: processes; None for one a CPU.
        progress: where progress goes.

    Returns:
        uint8 [n, size, size], in the manifest's order.

    Raises:
        DataError: films that can't be read, all of them named, or films whose content changed since the import.
    """
    folder = cache / "tiles" / fingerprint(preprocessing)[:16]
    film_ids = manifest.strings("film_id")
    blocks = [np.arange(start, min(start + BLOCK, len(film_ids))) for start in range(0, len(film_ids), BLOCK)]
    paths = manifest.film_paths()
    missing = [block for block in blocks if not _block_path(folder, [film_ids[i] for i in block]).exists()]
    if missing:
        films = sum(len(block) for block in missing)
        with (progress or Silent()).bar("Decoding films", films) as bar, _pool(workers or _cpus()) as pool:
            jobs = [(block, [(paths[i], film_ids[i], preprocessing) for i in block]) for block in missing]
            for block, work in jobs:
                answers = []
                for answer in pool.imap(_decode, work, chunksize=4):
                    answers.append(answer)
                    bar.advance()
                _keep_block(folder, [film_ids[i] for i in block], answers)
    return np.concatenate([np.load(_block_path(folder, [film_ids[i] for i in block])) for block in blocks])


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pool(workers: int) -> "multiprocessing.pool.Pool":
    # spawn: forking a process that holds torch's threads can deadlock.
    return multiprocessing.get_context("spawn").Pool(workers)


def _decode(job: tuple[Path, str, Preprocessing]) -> Tile | str:
    path, film_id, preprocessing = job
    try:
        film = read_film(path)
    except FilmError as error:
        return f"{path}: {error} Restore it, or import again without it."
    if film.sha256 != film_id:
        return f"{path} changed since the import (its SHA-256 differs). Import again."
    return preprocess(film.pixels, preprocessing)


def _block_path(folder: Path, film_ids: Sequence[str]) -> Path:
    return folder / f"{combined_hash(film_ids)[:32]}.npy"


def _keep_block(folder: Path, film_ids: Sequence[str], answers: Sequence[Tile | str]) -> None:
    problems = [answer for answer in answers if isinstance(answer, str)]
    if problems:
        raise DataError("\n".join(problems))
    with replacing(_block_path(folder, film_ids)) as temporary:
        np.save(temporary, np.stack([answer for answer in answers if not isinstance(answer, str)]))
