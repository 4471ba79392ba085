"""The connection: one writer, many readers, schema brought up to date at start.

SQLite's write-ahead log was corruptible in 3.7.0–3.51.2 when two or more connections wrote or checkpointed at once,
worse with mmap. So there is exactly one connection that may write, behind a lock; the readers' connections are
``query_only``; mmap is off; and a lock on the data folder (taken by the service) keeps other processes out.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from hilum.errors import ServiceError
from hilum.records.schema import HEAD, Base

READERS = 4
WAL_RESET_FAULT = ((3, 7, 0), (3, 51, 2))


def sqlite_protection(version: tuple[int, int, int]) -> str:
    """Say, for the log, what keeps the write-ahead log whole with this version of SQLite."""
    first, last = WAL_RESET_FAULT
    name = ".".join(map(str, version))
    if first <= version <= last:
        return f"SQLite {name} has the WAL-reset fault (fixed in 3.51.3); the single writing connection avoids it."
    return f"SQLite {name} is free of the WAL-reset fault; a single connection writes all the same."


class Database:
    """Transactions on the records.

    Args:
        url: an SQLAlchemy URL, such as ``sqlite:///hilum.db`` or ``postgresql+psycopg://host/hilum``.

    Raises:
        ServiceError: the URL is of no known kind, the database can't be opened, or its schema is newer.
    """

    def __init__(self, url: str) -> None:
        self._lock = threading.Lock()
        try:
            parsed = make_url(url)
            self.is_sqlite = parsed.get_backend_name() == "sqlite"
            self._writer = _sqlite_engine(url, readers=0) if self.is_sqlite else create_engine(url, pool_pre_ping=True)
            self._reader = _sqlite_engine(url, readers=READERS) if self.is_sqlite else self._writer
        except (SQLAlchemyError, ImportError) as error:
            raise ServiceError(
                f"Database URL can't be used ({type(error).__name__}). Give sqlite:///FILE or postgresql+psycopg://…."
            ) from None
        self._migrate()

    @property
    def protection(self) -> str | None:
        """What keeps SQLite's log whole, in one sentence; None for another database."""
        return sqlite_protection(sqlite3.sqlite_version_info) if self.is_sqlite else None

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        """One writing transaction: committed when the block ends well, rolled back when it raises.

        Raises:
            ServiceError: the database is away, full or damaged; nothing of the block was kept.
        """
        with self._lock, _foreign_errors(), Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """One reading transaction.

        Raises:
            ServiceError: the database is away or damaged.
        """
        with _foreign_errors(), Session(self._reader) as session:
            yield session

    def ping(self) -> None:
        """Read one row, to know that the database is there."""
        with self.read() as session:
            session.execute(text("SELECT 1")).scalar_one()

    def close(self) -> None:
        """Close the readers, then the writer, which is so the one that checkpoints."""
        self._reader.dispose()
        self._writer.dispose()

    def _migrate(self) -> None:
        """Bring the schema to this version's.

        Loading alembic takes as long as half of the rest of a start, so it is left out where there is nothing to
        migrate: an empty database gets the tables as they are now, which a test proves to be what the steps lead to.
        """
        try:
            with self._writer.connect() as connection, connection.begin():
                tables = inspect(connection).get_table_names()
                if "alembic_version" in tables:
                    versions = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
                    up_to_date = versions == [HEAD]
                else:
                    up_to_date = not tables and self._make(connection)
        except SQLAlchemyError as error:
            raise _unusable(error) from None
        if not up_to_date:
            self._upgrade()

    def _make(self, connection: Connection) -> bool:
        Base.metadata.create_all(connection)
        connection.execute(
            text(
                "CREATE TABLE alembic_version "
                "(version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
            )
        )
        connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})
        return True

    def _upgrade(self) -> None:
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        try:
            with self._writer.connect() as connection, connection.begin():
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except CommandError:
            raise ServiceError(
                "The database was written by a newer hilum, whose schema is unknown here. Start that version, "
                "or give another data folder."
            ) from None
        except SQLAlchemyError as error:
            raise _unusable(error) from None


def _unusable(error: Exception) -> ServiceError:
    return ServiceError(
        f"The database can't be opened or brought up to date ({type(error).__name__}). Check that the data folder is "
        "writable and that the file is a hilum database."
    )


@contextlib.contextmanager
def _foreign_errors() -> Iterator[None]:
    # The driver's message may quote values, which may be identifiers: only its kind is passed on.
    try:
        yield
    except IntegrityError:
        raise
    except SQLAlchemyError as error:
        raise ServiceError(
            f"The records could not be read or written ({type(error).__name__}). Check the database and its disk."
        ) from None


def _sqlite_engine(url: str, *, readers: int) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=readers or 1,
        max_overflow=0,
        connect_args={"check_same_thread": False, "timeout": 5},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver's guess
        pragmas = ["busy_timeout=5000", "foreign_keys=ON", "mmap_size=0"]
        pragmas += ["query_only=ON"] if readers else ["journal_mode=WAL", "synchronous=FULL"]
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if readers else "BEGIN IMMEDIATE")

    return engine
