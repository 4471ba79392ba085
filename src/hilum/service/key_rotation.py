"""``hilum keys``: all under the active data key, records in one transaction, then films; broken off, it goes on."""

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
from hilum.records.key_change import all_under, bring_under_key, film_files, keys_in_use, require_keys
from hilum.records.store import now
from hilum.service.film_files import FilmFiles
from hilum.service.rekeying import bring_films

RUNS = (
    "A service runs on {data}. It takes a new key over when it is started anew, and encrypts the films while it "
    "serves; hilum keys status says how many are left."
)


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
class HandedOver:
    """A new key that a running service is to take over when it is started anew."""

    key_id: str
    """The key that comes first in the file."""


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
        with (progress or Silent()).bar("Encrypt films", len(film_files(database))) as bar:

            def looked_at(_: int, __: int) -> bool:
                bar.advance()
                return True

            done = bring_films(files, database, actor="console", after_each=looked_at)
        if done is None:
            raise ServiceError(f"Another process encrypts the films of {data}. Let it finish, or stop it.")
    return Applied(key_id=keys.active_id, rows=rows, films=done.films, missing=done.missing, retired=done.retired)


def rotate(data: Path, url: str, key_file: Path, *, progress: Progress | None = None) -> Applied | HandedOver:
    """Put a new key first in the file and bring all under it; after a kill, the same call goes on with that key.

    Where a service runs, only the file is changed: the service takes the key over when it is started anew.

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
    _require_folder(data)
    if _in_use(data):
        return _hand_over(url, keys, key_file)
    with _opened(data, url, keys) as (database, _):
        whole = all_under(database, keys.active_id)
    if whole:
        keys = _put_new(key_file)
    return apply_keys(data, url, keys, progress=progress)


def _hand_over(url: str, keys: Keyring, key_file: Path) -> HandedOver:
    with Database(url, keys, beside=True) as database:
        require_keys(database)
        used, whole = keys_in_use(database), all_under(database, keys.active_id)
    waiting = used[-1:] != (keys.active_id,)  # put there before, and not taken over yet
    if not waiting and not whole:
        raise ServiceError(
            f"The service is still bringing films under the data key {keys.active_id}; hilum keys status says how many "
            "are left. Rotate again when it is done. Nothing was changed."
        )
    return HandedOver(key_id=keys.active_id if waiting else _put_new(key_file).active_id)


def _put_new(key_file: Path) -> Keyring:
    try:
        put_first(key_file, new_data_key())
    except OSError as error:
        raise UsageError(f"{key_file} can't be written ({error.strerror}). Nothing was changed.") from None
    return read_keyring(None, key_file)


def _in_use(data: Path) -> bool:
    try:
        os.close(take_lock(data / ".lock"))
    except BlockingIOError:
        return True
    return False


def key_status(data: Path, url: str, keys: Keyring) -> KeyStatus:
    """Count what is under which key; nothing is changed.

    Raises:
        UsageError: there is no such folder.
        ServiceError: the records can't be read.
    """
    counted: dict[str, int] = {}
    missing = 0
    _require_folder(data)
    with Database(url, beside=True, upgrade=False) as database:  # names of keys and files lie there readable
        files = FilmFiles(data, keys, sole=False)
        for name in film_files(database):
            try:
                key_id = files.film(name).key_id()
                counted[key_id] = counted.get(key_id, 0) + 1
            except FilmError:
                missing += 1
        return KeyStatus(given=keys.ids, in_use=keys_in_use(database), films=counted, missing=missing)


@contextlib.contextmanager
def _opened(data: Path, url: str, keys: Keyring) -> Iterator[tuple[Database, FilmFiles]]:
    _require_folder(data)
    try:
        lock = take_lock(data / ".lock")
    except BlockingIOError:
        raise ServiceError(RUNS.format(data=data)) from None
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
