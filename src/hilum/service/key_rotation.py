"""Everything under the active data key: records in one transaction, then film after film; broken off, it goes on."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hilum.data_keys import Keyring, new_data_key, put_first, read_keyring
from hilum.errors import FilmError, ServiceError, UsageError
from hilum.files import take_lock
from hilum.progress import Progress, Silent
from hilum.records.database import Database
from hilum.records.key_change import bring_under_key, film_files, keys_in_use, require_keys, retire_older_keys
from hilum.records.store import now
from hilum.service.film_files import FilmFiles

LEFT_OVERS = "*/.*.part.film"
"""Films that were being encrypted when the process ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What was brought under the active key."""

    key_id: str
    """The active key."""
    rows: int
    """Rows of the records."""
    films: int
    """Film files."""
    missing: tuple[str, ...]
    """What names the films whose files are gone or damaged; older keys are then kept."""
    retired: tuple[str, ...]
    """Ids of the keys that nothing here needs any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStatus:
    """What is under which key."""

    given: tuple[str, ...]
    """Ids of the keys given, the active one first."""
    in_use: tuple[str, ...]
    """Ids of the keys that the records name."""
    films: dict[str, int]
    """Number of film files by key id; the empty id for those that lie readable."""
    missing: int
    """Films whose files are gone."""


def apply_keys(data: Path, url: str, keys: Keyring, *, progress: Progress | None = None) -> Applied:
    """Encrypt all that is not under the active key yet. The service must not run.

    Args:
        data: its folder.
        url: of the records.
        keys: the ring.
        progress: where progress goes.

    Raises:
        UsageError: no key is given.
        ServiceError: the service runs, or a key that something is encrypted with is not given; nothing was touched.
        DataError: a value in the records was changed by somebody; nothing was touched.
    """
    if not keys:
        raise UsageError("No data key is given. Make one with hilum keys new-data-key and give HILUM_DATA_KEY_FILE.")
    with _opened(data, url, keys) as (database, files):
        rows = bring_under_key(database, now)
        films, missing = _encrypt(files, film_files(database), progress or Silent())
        retired = () if missing else retire_older_keys(database, now, films=films)
    return Applied(key_id=keys.active_id, rows=rows, films=films, missing=missing, retired=retired)


def rotate(data: Path, url: str, key_file: Path, *, progress: Progress | None = None) -> Applied:
    """Put a new key first in the file and bring all under it; after a kill, the same call goes on with that key.

    Args:
        data: the service's folder.
        url: of the records.
        key_file: the file of keys; older ones stay in it.
        progress: where progress goes.

    Raises:
        UsageError: the file can't be read or written.
        ServiceError: as :func:`apply_keys`.
        DataError: as :func:`apply_keys`.
    """
    keys = read_keyring(None, key_file)
    with _opened(data, url, keys) as (database, _):
        whole = keys_in_use(database) == (keys.active_id,)
    if whole:
        try:
            put_first(key_file, new_data_key())
        except OSError as error:
            raise UsageError(f"{key_file} can't be written ({error.strerror}). Nothing was changed.") from None
        keys = read_keyring(None, key_file)
    return apply_keys(data, url, keys, progress=progress)


def key_status(data: Path, url: str, keys: Keyring) -> KeyStatus:
    """Count what is under which key; nothing is changed.

    Raises:
        UsageError: there is no such folder.
        ServiceError: the records can't be read.
    """
    counted: dict[str, int] = {}
    missing = 0
    _require_folder(data)
    with Database(url, keys, beside=True) as database:
        files = FilmFiles(data, keys, sole=False)
        for name in film_files(database):
            try:
                key_id = files.film(name).key_id()
                counted[key_id] = counted.get(key_id, 0) + 1
            except FilmError:
                missing += 1
        return KeyStatus(given=keys.ids, in_use=keys_in_use(database), films=counted, missing=missing)


def _encrypt(files: FilmFiles, names: list[str], progress: Progress) -> tuple[int, tuple[str, ...]]:
    for left_over in files.films.glob(LEFT_OVERS):
        left_over.unlink()
    done, missing = 0, []
    with progress.bar("Encrypt films", len(names)) as bar:
        for name in names:
            try:
                with files.removing():
                    done += files.encrypt(name)
            except FilmError:
                missing.append(name)
            bar.advance()
    return done, tuple(missing)


@contextlib.contextmanager
def _opened(data: Path, url: str, keys: Keyring) -> Iterator[tuple[Database, FilmFiles]]:
    _require_folder(data)
    try:
        lock = take_lock(data / ".lock")
    except BlockingIOError:
        raise ServiceError(f"A service runs on {data}. Stop it first: it would not know the new key.") from None
    try:
        with Database(url, keys) as database:
            if database.others():
                raise ServiceError(
                    "Other hilum processes have the database open. Stop every service on it first: they would not know "
                    "the new key."
                )
            require_keys(database)
            yield database, FilmFiles(data, keys)
    finally:
        os.close(lock)


def _require_folder(data: Path) -> None:
    if not data.is_dir():
        raise UsageError(f"There is no folder {data}. Give the service's with --data.")
