"""The records in a backup: one moment's snapshot of SQLite or PostgreSQL, and how each comes back.

SQLite is copied by its own backup. PostgreSQL is dumped by ``pg_dump`` and comes back by ``pg_restore``, its client
programs; the films that the dump names are read in the very snapshot that is dumped.
"""

import contextlib
import errno
import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, inspect, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from hilum.errors import DataError, ServiceError, UsageError
from hilum.files import write_secret
from hilum.records.audit import Act, append
from hilum.records.proving import RESTORED, reading
from hilum.records.store import now

SQLITE, DUMP = "hilum.db", "records.dump"
"""Names of the records in a backup; the first one also in the service's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a snapshot names outside the database."""

    films: frozenset[str]
    """Digests of film files."""
    data_keys: tuple[str, ...]
    """Ids of the data keys that it needs, oldest first."""
    audit_rows: int
    """Rows of its audit."""


def is_sqlite(url: str) -> bool:
    """Whether a URL is of SQLite.

    Raises:
        UsageError: it is none.
    """
    try:
        return make_url(url).get_backend_name() == "sqlite"
    except SQLAlchemyError:
        raise UsageError(
            "HILUM_DATABASE_URL is no database URL. Give postgresql+psycopg://USER@HOST/NAME, or sqlite:///FILE."
        ) from None


def url_of_file(path: Path) -> str:
    """URL of records in an SQLite file."""
    return f"sqlite:///{path.resolve()}"


def snapshot(url: str, folder: Path) -> tuple[str, Named]:
    """Write one moment's records into a folder, beside a running service.

    Args:
        url: of the records.
        folder: of the backup; a snapshot that lies there is written anew.

    Returns:
        name of the file, :data:`SQLITE` or :data:`DUMP`, and what that moment's records name.

    Raises:
        UsageError: ``pg_dump`` is not installed, or older than the server.
        DataError: SQLite's file is damaged.
        ServiceError: PostgreSQL can't be read or dumped.
    """
    if is_sqlite(url):
        _copy(Path(str(make_url(url).database)), folder / SQLITE)
        return SQLITE, named(url_of_file(folder / SQLITE))
    with reading(url) as session:
        _require_version(session)
        moment = session.scalar(text("SELECT pg_export_snapshot()"))
        target = folder / DUMP
        _run("pg_dump", url, "--format=custom", "--no-owner", "--no-acl", f"--snapshot={moment}", f"--file={target}")
        target.chmod(0o600)
        return DUMP, _named(session)


def named(url: str) -> Named:
    """What records name outside the database.

    Raises:
        ServiceError: they can't be read.
    """
    with reading(url) as session:
        return _named(session)


def require_empty(url: str) -> None:
    """Refuse a database of PostgreSQL that holds anything.

    Raises:
        UsageError: it does.
        ServiceError: it can't be read.
    """
    with reading(url) as session:
        if inspect(session.connection()).get_table_names():
            raise UsageError(
                f"The database {make_url(url).database} is not empty, and nothing is restored over it. Make an empty "
                "one with createdb, and name it in HILUM_DATABASE_URL."
            )


def load(url: str, source: Path) -> None:
    """Bring PostgreSQL's records back into an empty database, all or nothing.

    Raises:
        UsageError: ``pg_restore`` is not installed, or older than the dump.
        ServiceError: it fails.
    """
    _run("pg_restore", url, "--no-owner", "--no-acl", "--exit-on-error", "--single-transaction", str(source))


def say_restored(url: str, *, rows: int, sha256: str) -> None:
    """Write into the audit that the records go on from a backup.

    Args:
        url: of the restored records; their schema is left as it is.
        rows: of the audit in the backup.
        sha256: of the backup's records, by which it is known.

    Raises:
        ServiceError: they can't be written.
    """
    engine = create_engine(url, poolclass=NullPool)
    try:
        with Session(engine) as session, session.begin():
            append(session, Act(actor="console", act=RESTORED, detail={"rows": rows, "records": sha256}), now())
    except SQLAlchemyError as error:
        raise ServiceError(
            f"The restored records can't be written ({type(error).__name__}). Check the database and its disk."
        ) from None
    finally:
        engine.dispose()


def _named(session: Session) -> Named:
    films = session.scalars(text("SELECT file_sha256 FROM films WHERE file_sha256 <> ''")).all()
    known = "data_keys" in inspect(session.connection()).get_table_names()  # not in records of an early version
    keys = session.scalars(text("SELECT id FROM data_keys WHERE id <> '' ORDER BY since")).all() if known else ()
    rows = session.scalar(text("SELECT count(*) FROM audit")) or 0
    return Named(films=frozenset(films), data_keys=tuple(str(one) for one in keys), audit_rows=rows)


def _copy(source: Path, target: Path) -> None:
    """SQLite's own backup of one moment; the source is only read and never checkpointed."""
    with (
        contextlib.closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as running,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        try:
            running.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from None
            raise
        found = copy.execute("PRAGMA integrity_check").fetchone()[0]
        if found != "ok":
            raise DataError(f"The records in {source} are damaged ({str(found)[:80]}). Restore an earlier backup.")


def _require_version(session: Session) -> None:
    """pg_dump reads servers of its own version and of older ones."""
    said = subprocess.run([_found("pg_dump"), "--version"], capture_output=True, text=True, check=False).stdout
    own = re.match(r"pg_dump \(PostgreSQL\) (\d+)", said)
    server = int((session.connection().dialect.server_version_info or (0,))[0])
    if own and int(own[1]) < server:
        raise UsageError(
            f"pg_dump is of PostgreSQL {own[1]} and can't dump a server of version {server}. Install PostgreSQL's "
            f"client programs of version {server} or newer, first on the PATH."
        )


def _found(program: str) -> str:
    at = shutil.which(program)
    if at is None:
        raise UsageError(f"{program} is not installed. Install PostgreSQL's client programs, of the server's version.")
    return at


def _run(program: str, url: str, *words: str) -> None:
    """Run a program of PostgreSQL; the password goes by a file of its own, since arguments are visible to others."""
    at = _found(program)
    with _libpq(make_url(url)) as to:
        command = [at, "--no-password", f"--dbname={to}", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        # Its first line names the fault; those behind it may quote rows.
        said = next((line for line in done.stderr.splitlines() if line.startswith(f"{program}: ")), "")
        if "unsupported version" in said:  # in another language its own sentence is given
            raise UsageError(
                f"{program} is older than the pg_dump that made the backup. Install PostgreSQL's client programs of "
                "its version or newer, first on the PATH."
            )
        raise ServiceError(f"{program} failed ({said.removeprefix(f'{program}: ')[:240]}). Nothing was kept.")


@contextlib.contextmanager
def _libpq(url: URL) -> Iterator[str]:
    """A connection string, which names a file with the password where the URL has one."""
    from psycopg.conninfo import make_conninfo

    given = url.translate_connect_args(username="user", database="dbname") | dict(url.query)
    password = given.pop("password", None)
    if not password:
        yield make_conninfo(**given)
        return
    with tempfile.TemporaryDirectory(prefix="hilum-") as folder:  # readable by this user alone
        escaped = str(password).replace("\\", "\\\\").replace(":", "\\:")
        write_secret(Path(folder) / "pass", f"*:*:*:*:{escaped}\n".encode())
        yield make_conninfo(**given, passfile=str(Path(folder) / "pass"))
