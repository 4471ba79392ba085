"""What an import learns from each file, read once: in sandboxed processes, and kept in a cache beside the output."""

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hilum.arrays import Array
from hilum.config import to_mapping
from hilum.datasets.columns import THUMB_SIDE
from hilum.datasets.thumbs import make_thumb
from hilum.errors import DataError, FilmError
from hilum.imaging.preprocessing import VERSION
from hilum.imaging.radiograph import FilmFacts
from hilum.imaging.reading import read_film
from hilum.imaging.sandbox import Sandbox
from hilum.progress import Progress, Silent

SCHEMA = f"1.{VERSION}.{THUMB_SIDE}"
"""Raised with the preprocessing, which makes the thumbs: facts of another schema are read anew."""

COMMIT_EVERY = 64
"""Films whose facts a kill can cost."""

WALL_S = 60.0
"""Longest time for one film; generous, since a whole import shares the machine."""

MEMORY_MB = 2048
"""Most memory for one film."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmRecord:
    """What one file says.

    Attributes:
        sha256: of the file's bytes.
        size: of the file in bytes.
        height: rows of pixels.
        width: columns of pixels.
        facts: what the header says.
        thumb: uint8 [64, 64].
    """

    sha256: str
    size: int
    height: int
    width: int
    facts: FilmFacts
    thumb: Array


def read_record(path: Path) -> FilmRecord:
    """Read one film whole.

    Raises:
        FilmError: the film can't be read.
    """
    film = read_film(path)
    height, width = film.shape
    return FilmRecord(
        sha256=film.sha256,
        size=path.stat().st_size,
        height=height,
        width=width,
        facts=film.facts,
        thumb=make_thumb(film.pixels),
    )


class FactCache:
    """Records of films by path, size and time of change, in one SQLite file; use it as a context manager.

    A damaged cache, or one of another schema, is begun anew: it holds nothing that can't be read again.

    Args:
        path: the cache's file; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._waiting = 0
        self._database: sqlite3.Connection | None = None

    def __enter__(self) -> "FactCache":
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._database = _open(self.path)
            except (sqlite3.DatabaseError, LookupError):
                for leftover in (self.path, self.path.with_name(self.path.name + "-journal")):
                    leftover.unlink(missing_ok=True)
                self._database = _open(self.path)
        return self

    def __exit__(self, *_: object) -> None:
        if self._database is not None:
            self._database.commit()
            self._database.close()

    def find(self, path: Path) -> FilmRecord | None:
        """The record of a file that has not changed since; None when there is none."""
        if self._database is None:
            return None
        with contextlib.suppress(OSError, sqlite3.DatabaseError, TypeError, ValueError):
            row = self._database.execute(
                "SELECT sha256, size, height, width, facts, thumb FROM films WHERE path = ? AND size = ? AND mtime = ?",
                _key(path),
            ).fetchone()
            if row is not None:
                sha256, size, height, width, facts, thumb = row
                return FilmRecord(
                    sha256=sha256,
                    size=size,
                    height=height,
                    width=width,
                    facts=_facts(facts),
                    thumb=np.frombuffer(thumb, np.uint8).reshape(THUMB_SIDE, THUMB_SIDE),
                )
        return None

    def keep(self, path: Path, record: FilmRecord) -> None:
        """Keep a record."""
        if self._database is None:
            return
        try:
            name, size, changed = _key(path)
        except OSError:  # gone since it was read
            return
        facts = json.dumps(to_mapping(record.facts))
        values = (name, size, changed, record.sha256, record.height, record.width, facts, record.thumb.tobytes())
        self._database.execute("INSERT OR REPLACE INTO films VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        self._waiting += 1
        if self._waiting >= COMMIT_EVERY:
            self._database.commit()
            self._waiting = 0


def _facts(text: str) -> FilmFacts:
    found: dict[str, Any] = json.loads(text)
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
    return FilmFacts(**values)


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path)
    try:
        database.execute("CREATE TABLE IF NOT EXISTS schema (version TEXT)")
        found = database.execute("SELECT version FROM schema").fetchall()
        if found not in ([], [(SCHEMA,)]):
            raise LookupError(found)
        if not found:
            database.execute("INSERT INTO schema VALUES (?)", (SCHEMA,))
            database.execute(
                "CREATE TABLE films (path TEXT PRIMARY KEY, size INTEGER, mtime INTEGER, sha256 TEXT, height INTEGER, "
                "width INTEGER, facts TEXT, thumb BLOB)"
            )
            database.commit()
    except BaseException:
        database.close()
        raise
    return database


def _key(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return str(path.absolute()), status.st_size, status.st_mtime_ns


def read_records(
    paths: Sequence[Path], *, cache: Path | None = None, workers: int | None = None, progress: Progress | None = None
) -> list[FilmRecord | DataError]:
    """Read many films, each in a sandboxed process, or take them from the cache.

    Args:
        paths: files.
        cache: the cache's file; None keeps nothing.
        workers: processes; None for one a CPU, 0 to read in this process, where a damaged film isn't contained.
        progress: where progress goes.

    Returns:
        for each path its record, or why it can't be read.
    """
    records: dict[int, FilmRecord | DataError] = {}
    with (progress or Silent()).bar("Reading films", len(paths)) as bar, FactCache(cache) as facts:
        for index, path in enumerate(paths):
            known = facts.find(path)
            if known is not None:
                records[index] = known
                bar.advance()
        missing = [index for index in range(len(paths)) if index not in records]
        for position, record in _read(missing, paths, _workers(workers, len(missing))):
            records[position] = record
            if isinstance(record, FilmRecord):
                facts.keep(paths[position], record)
            bar.advance()
    return [records[index] for index in range(len(paths))]


def _workers(workers: int | None, films: int) -> int:
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cpus if workers is None else workers, films)


def _read(missing: Sequence[int], paths: Sequence[Path], workers: int) -> Iterator[tuple[int, FilmRecord | DataError]]:
    if workers == 0:
        for index in missing:
            yield index, _or_error(paths[index])
        return
    preload = ("hilum.datasets.film_facts",)
    with Sandbox(workers, memory_mb=MEMORY_MB, wall_s=WALL_S, cpu_s=WALL_S, preload=preload) as sandbox:
        for at, record in sandbox.map(read_record, ((paths[index],) for index in missing)):
            yield missing[at], record


def _or_error(path: Path) -> FilmRecord | DataError:
    try:
        return read_record(path)
    except FilmError as error:
        return error


def header_values(record: FilmRecord) -> Mapping[str, str | float | int]:
    """The manifest's columns that a DICOM header can fill; blanks where it says nothing."""
    facts = record.facts
    if facts.format != "dicom":
        return {}
    return {
        "patient_id": facts.patient_id or "",
        "source": facts.institution or "",
        "view_position": facts.view_position or "",
        "age_years": float("nan") if facts.age_years is None else facts.age_years,
        "sex": facts.sex or "",
        "acquired": facts.acquired or "",
        "device": facts.device or "",
        "manufacturer": facts.manufacturer or "",
        "modality": facts.modality or "",
        "photometric": facts.photometric or "",
        "sop_instance_uid": facts.sop_instance_uid or "",
        "study_instance_uid": facts.study_instance_uid or "",
    }
