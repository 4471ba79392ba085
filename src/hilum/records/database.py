"""The connection: one writer, many readers, schema brought up to date at start.

SQLite's write-ahead log was corruptible in 3.7.0–3.51.2 (mended in 3.51.3, and in 3.44.6 and 3.50.7): a connection that
checkpointed while another began the log anew could skip a committed transaction (https://sqlite.org/wal.html, "The
WAL-Reset Bug"). Refusing those versions would leave out every current Debian and Ubuntu, so the race is made impossible
instead: one process owns the file, and one connection of it writes and checkpoints, behind a lock; the readers'
connections are ``query_only`` and never checkpoint; mmap is off. A process that may write beside the owner, such as
``hilum users add``, never migrates and checkpoints only after an erasure, and both take a lock beside the file around
each transaction, so that no two processes ever write or checkpoint at once. Docs: ``docs/decisions/0009``.

PostgreSQL takes many writers; there an advisory lock orders migrations.
"""

import contextlib
import fcntl
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from hilum.data_keys import Keyring
from hilum.errors import ServiceError
from hilum.files import take_lock
from hilum.records import labelling_schema, study_schema  # noqa: F401  # their tables are among Base's
from hilum.records.schema import HEAD, Base
from hilum.records.sealed_columns import hang_keys
from hilum.records.together import Together
from hilum.records.unusable import unusable

T = TypeVar("T")
READERS = 4
WAL_RESET_FAULT = ((3, 7, 0), (3, 51, 3))
"""First version with the fault, and the first without."""

WAL_RESET_MENDED = (((3, 44, 6), (3, 45, 0)), ((3, 50, 7), (3, 51, 0)))
"""Older lines that were mended too: from, and up to but not including."""

WRITING_S = 10.0
"""Longest wait for another process's transaction on an SQLite file, as PostgreSQL's lock_timeout."""

WRITING_POLL_S = 0.002

BUSY_MS = 5000
"""Longest that SQLite itself waits for a lock on its file."""

LOG_ATTEMPTS = 3
"""How often SQLite is asked to empty its log, each time waiting as long as its busy timeout."""

MIGRATION_LOCK = 0x68696C01
"""Key of PostgreSQL's advisory lock around a migration."""

APPLICATION = f"hilum {secrets.token_hex(4)}"
"""As what PostgreSQL knows this process, so that who needs the records alone finds the others; its schema's revision
and active data key follow, each between strokes."""

POSTGRES_OPTIONS = (
    "-c synchronous_commit=on -c statement_timeout=30000 -c lock_timeout=10000 "
    "-c idle_in_transaction_session_timeout=60000"
)


OTHERS = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND application_name LIKE 'hilum %' AND application_name NOT LIKE :own AND application_name NOT LIKE :named"
)


def has_wal_reset_fault(version: tuple[int, int, int]) -> bool:
    """Whether two connections can damage the write-ahead log of this version of SQLite."""
    first, mended = WAL_RESET_FAULT
    return first <= version < mended and not any(low <= version < high for low, high in WAL_RESET_MENDED)


def sqlite_protection(version: tuple[int, int, int]) -> str:
    """Say, for the log, what keeps the write-ahead log whole with this version of SQLite."""
    name = ".".join(map(str, version))
    if has_wal_reset_fault(version):
        return (
            f"SQLite {name} has the WAL-reset fault; a single lock around each transaction and its checkpoint avoids "
            "it. Let no other program write to the file or checkpoint it (Litestream, the sqlite3 shell); the mend is "
            "SQLite 3.51.3, 3.50.7 or 3.44.6, or PostgreSQL."
        )
    return f"SQLite {name} is free of the WAL-reset fault; a single lock orders writers all the same."


class Database:
    """Transactions on the records.

    Args:
        url: an SQLAlchemy URL, such as ``sqlite:///hilum.db`` or ``postgresql+psycopg://host/hilum``.
        keys: data keys; what is written is encrypted with the active one, where it identifies.
        beside: also take an SQLite file that another process owns: its schema is left as it is, and it is not
            checkpointed but by :meth:`tidy`. For acts whose rows the owner looks for, as it does on PostgreSQL.
        upgrade: bring records of an earlier version up to date; else they are refused, since the way back is a backup
            that somebody has to make before.

    Raises:
        ServiceError: the URL is of no known kind, the database can't be opened or is in use, or its schema is newer.
    """

    def __init__(self, url: str, keys: Keyring | None = None, *, beside: bool = False, upgrade: bool = True) -> None:
        self._held, self._url = contextlib.ExitStack(), url
        self._queue: tuple[int, ...] = ()
        owned = True
        try:
            parsed = make_url(url)
            self.is_sqlite = parsed.get_backend_name() == "sqlite"
            if self.is_sqlite and parsed.database not in (None, "", ":memory:"):
                owned = self._take(Path(str(parsed.database)), beside=beside)
            if self.is_sqlite:
                self._writer, self._reader = _sqlite_engine(url, owned=owned), _sqlite_engine(url, readers=READERS)
            else:
                self._writer = self._reader = _postgres_engine(url, keys or Keyring())
        except ServiceError:
            self._held.close()
            raise
        except (SQLAlchemyError, ImportError) as error:
            self._held.close()
            raise unusable(error, url) from None
        for engine in (self._writer, self._reader):
            hang_keys(engine.dialect, keys or Keyring())
        # One writing thread for SQLite; PostgreSQL's own locks suffice.
        self._lock: contextlib.AbstractContextManager[Any] = (
            threading.Lock() if self.is_sqlite else contextlib.nullcontext()
        )
        self._together = Together(self.write)
        self.alone = self.is_sqlite and owned
        """Whether :attr:`revocations` tells of those of all processes."""
        self._marks = 0
        try:
            with self._turn():
                self._migrate(upgrade=upgrade) if owned else self._check_schema()
        except BaseException:
            self.close()
            raise

    def _take(self, path: Path, *, beside: bool) -> bool:
        """Own an SQLite file, or where another process does and it may be, write beside it; whether it is owned."""
        owner = _owning(path)
        if owner is None and not beside:
            raise ServiceError(
                f"The records {path} are in use by another hilum process, and this needs them alone. Stop that one "
                "first: a service with SIGTERM, which finishes what is in work."
            )
        if owner is not None:
            self._held.callback(os.close, owner)
            with contextlib.suppress(OSError):  # which SQLite finds as well, and names
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # its log and index get the same rights
        # First one waits, then one writes: so who writes all the time lets another process in between.
        for name in (f"{path.name}.waiting", f"{path.name}.writing"):
            self._queue += (os.open(path.with_name(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600),)
            self._held.callback(os.close, self._queue[-1])
        return owner is not None

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Keep other processes from writing to an SQLite file; the kernel gives the lock back however this one ends.

        Raises:
            ServiceError: another process is at it for too long.
        """
        if not self._queue:
            yield
            return
        waiting, writing = self._queue
        end = time.monotonic() + WRITING_S
        _locked_until(waiting, end)
        try:
            _locked_until(writing, end)
        finally:
            fcntl.flock(waiting, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(writing, fcntl.LOCK_UN)

    @property
    def product(self) -> str:
        """Name and version of the database, such as ``PostgreSQL 15.14``."""
        if self.is_sqlite:
            return f"SQLite {sqlite3.sqlite_version}"
        version = self._writer.dialect.server_version_info or ()
        return f"PostgreSQL {'.'.join(map(str, version))}"

    def others(self, *, but: str = "") -> int:
        """Connections that other processes of hilum have to PostgreSQL's database; 0 for SQLite, which has one owner.

        Args:
            but: a schema's revision, or id of a data key; those that have it are not counted.

        Raises:
            ServiceError: the database is away.
        """
        if self.is_sqlite:
            return 0
        with self.read() as session:
            return int(session.execute(OTHERS, {"own": f"{APPLICATION}%", "named": f"%/{but or '-'}/%"}).scalar_one())

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
        with self._lock, self._turn(), self._transaction() as session:
            yield session

    @contextlib.contextmanager
    def revoking(self) -> Iterator[Session]:
        """A writing transaction that lets a key or a user count no more, of which :attr:`revocations` tells everybody.

        Raises:
            ServiceError: as :meth:`write`.
        """
        with self._lock, self._turn(), self._marked(), self._transaction() as session:
            yield session

    @property
    def revocations(self) -> int | None:
        """Another number whenever a process on this file let a key or a user count no more; None while one does."""
        marks = self._counted()
        return None if marks % 2 else marks

    def _counted(self) -> int:
        # The length of the file that writers lock: nothing else is as cheap to ask for, and outlives a process.
        return os.fstat(self._queue[1]).st_size if self._queue else self._marks

    @contextlib.contextmanager
    def _marked(self) -> Iterator[None]:
        """An odd count from before a transaction to behind its end; after a kill between, until the next one."""
        self._count(self._counted() | 1)
        try:
            yield
        finally:
            self._count(self._counted() + 1)

    def _count(self, marks: int) -> None:
        if self._queue:
            os.ftruncate(self._queue[1], marks)
        self._marks = marks

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Session]:
        with _foreign_errors(), Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def share(self, act: Callable[[Session], T], *, patience_s: float = 0.0) -> T:
        """Run an act in a writing transaction that it shares with those of other threads that come meanwhile.

        Args:
            act: as :meth:`hilum.records.together.Together.run` wants it.
            patience_s: as there.

        Returns:
            what it returned, once that is durable.

        Raises:
            ServiceError: the database is away, full or damaged; nothing of the act was kept.
            Exception: what the act raised.
        """
        return self._together.run(act, patience_s=patience_s)

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

    def tidy(self, *, whole: bool = False) -> None:
        """Leave nothing in SQLite's log of what was erased or encrypted just now.

        Args:
            whole: nor in pages that were freed earlier: the file is written anew. PostgreSQL, which keeps dead rows
                until it is vacuumed, is asked to do it either way.
        """
        with _foreign_errors(), self._lock, self._turn(), contextlib.closing(self._writer.raw_connection()) as plain:
            if self.is_sqlite:
                if whole:
                    plain.cursor().execute("VACUUM")
                self._cut_log(plain.cursor())
                return
            driver: Any = plain.driver_connection
            driver.autocommit = True
            try:
                plain.cursor().execute("SET statement_timeout = 0")
                plain.cursor().execute("VACUUM")
                plain.cursor().execute("RESET statement_timeout")
            finally:
                driver.autocommit = False

    def _cut_log(self, cursor: Any) -> None:
        """Readers of an older state hold the log up, each for as long as it reads; SQLite waits 5 s for them."""
        for _ in range(LOG_ATTEMPTS):
            ((busy, *_),) = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            if not busy:
                return
        raise ServiceError(
            "What was erased is out of the records, but the database's log still holds it, because somebody reads it "
            "all the time. End what reads it, and give the same command again."
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the readers, then the writer, which is so the one that checkpoints."""
        self._reader.dispose()
        # Where another process hangs in a transaction, the writer's connection is left to the end of this one.
        with contextlib.suppress(ServiceError), self._turn():
            self._writer.dispose()
        self._queue = ()
        self._held.close()

    def _check_schema(self) -> None:
        """Only the owner of a file brings its schema up to date."""
        with self.read() as session:
            versions = session.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
        if versions != [HEAD]:
            raise ServiceError(
                "The records are of another version than this hilum, and a running service has them open. Stop it, and "
                "start this version."
            )

    def _migrate(self, *, upgrade: bool) -> None:
        """Bring the schema to this version's.

        Loading alembic takes as long as half of the rest of a start, so it is left out where there is nothing to
        migrate: an empty database gets the tables as they are now, which a test proves to be what the steps lead to.
        """
        try:
            with self._writer.connect() as connection, connection.begin():
                self._alone(connection)
                tables = inspect(connection).get_table_names()
                versions: Sequence[str] = ()
                if "alembic_version" in tables:
                    versions = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
                    up_to_date = versions == [HEAD]
                else:
                    up_to_date = not tables and self._make(connection)
        except SQLAlchemyError as error:
            raise unusable(error, self._url) from None
        if up_to_date:
            return
        if not upgrade and versions and versions[0] < HEAD:
            raise ServiceError(
                "The records are of an earlier version of hilum, and this leaves them so. Make a backup, then start "
                "hilum serve, which brings them up to date."
            )
        if versions and versions[0] < HEAD and self.others(but=HEAD):
            raise ServiceError(
                "The records are of an earlier version of hilum, and a process of that version has them open. Stop "
                "every service on them and make a backup, then start this version."
            )
        self._upgrade()

    def _alone(self, connection: Connection) -> None:
        """Two services that start at once must not both migrate; SQLite's transaction is exclusive by itself."""
        if not self.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})

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
                self._alone(connection)
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except CommandError:
            raise ServiceError(
                "The database was written by a newer hilum, whose schema is unknown here. Start that version, "
                "or restore the backup from before the upgrade."
            ) from None
        except SQLAlchemyError as error:
            raise unusable(error, self._url) from None


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


def _owning(path: Path) -> int | None:
    """A lock that one process has for as long as it lives; None when another one has it."""
    try:
        return take_lock(path.with_name(f"{path.name}.lock"))
    except BlockingIOError:
        return None
    except OSError as error:
        raise ServiceError(
            f"The database can't be opened ({error.strerror}). Check that its folder exists and is writable."
        ) from None


def _locked_until(descriptor: int, end: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise ServiceError(
                    f"Another hilum process has been writing to the records for more than {WRITING_S:g} s. Look what "
                    "it does, and end it."
                ) from None
            time.sleep(WRITING_POLL_S)


def _postgres_engine(url: str, keys: Keyring) -> Engine:
    name = f"{APPLICATION}/{HEAD}/{keys.active_id}/"
    options = {"connect_timeout": 5, "options": POSTGRES_OPTIONS, "application_name": name}
    return create_engine(url, pool_pre_ping=True, pool_size=8, max_overflow=8, pool_timeout=10, connect_args=options)


def _sqlite_engine(url: str, *, readers: int = 0, owned: bool = True) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=readers or 1,
        max_overflow=0,
        connect_args={"check_same_thread": False, "timeout": BUSY_MS / 1000},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver's guess
        # What is deleted is overwritten with zeros: an erased name shall not lie in a free page.
        pragmas = [f"busy_timeout={BUSY_MS}", "foreign_keys=ON", "mmap_size=0", "secure_delete=ON"]
        pragmas += ["query_only=ON"] if readers else ["journal_mode=WAL", "synchronous=FULL"]
        pragmas += [] if owned and not readers else ["wal_autocheckpoint=0"]
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    def begin(dbapi_connection: Any) -> None:
        dbapi_connection.execute("BEGIN" if readers else "BEGIN IMMEDIATE")

    # Not by an event: where one is listened for, each statement looks several times for who else listens.
    engine.dialect.do_begin = begin  # type: ignore[method-assign]
    return engine
