"""The database is durable, has one writer, and says clearly when it can't be used."""

import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from hilum.errors import ServiceError
from hilum.records.audit import Act, append, check, entries
from hilum.records.database import Database, has_wal_reset_fault, sqlite_protection
from hilum.records.proving import reading
from hilum.records.schema import HEAD, Base
from hilum.records.unusable import unusable


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'hilum.db'}"


def test_the_writer_is_durable(url: str) -> None:
    database = Database(url)
    with database.write() as session:
        pragmas = {p: session.execute(text(f"PRAGMA {p}")).scalar_one() for p in ("journal_mode", "synchronous")}
        keys = session.execute(text("PRAGMA foreign_keys")).scalar_one()
        mmap = session.execute(text("PRAGMA mmap_size")).scalar_one_or_none()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}
    assert keys == 1
    assert not mmap
    database.close()


def test_a_reader_can_not_write(url: str) -> None:
    database = Database(url)
    with pytest.raises(ServiceError, match="could not be read or written"), database.read() as session:
        session.execute(text("DELETE FROM films"))
    database.close()


def test_a_writer_has_its_lock_from_the_start(url: str) -> None:
    database = Database(url)
    other = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=0, isolation_level=None)
    with database.write() as session:
        session.execute(text("SELECT 1"))
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
    other.execute("BEGIN IMMEDIATE")
    other.close()
    database.close()


def test_a_reader_sees_one_state(url: str) -> None:
    database = Database(url)
    count = text("SELECT count(*) FROM audit")
    with database.read() as reader:
        before = reader.execute(count).scalar_one()
        with database.write() as writer:
            append(writer, Act(actor="ada", act="film.viewed"), datetime.now(UTC))
        assert reader.execute(count).scalar_one() == before
    with database.read() as reader:
        assert reader.execute(count).scalar_one() == before + 1
    database.close()


def test_a_failed_block_leaves_nothing(url: str) -> None:
    database = Database(url)
    with pytest.raises(ZeroDivisionError), database.write() as session:
        session.execute(text("CREATE TABLE t (x)"))
        _ = 1 / 0
    with database.read() as session:
        assert session.execute(text("SELECT count(*) FROM sqlite_master WHERE name = 't'")).scalar_one() == 0
    database.close()


def test_migrations_give_the_schema_that_the_code_knows(url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    database = Database(url)
    with database.write() as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(text(f"DROP TABLE {table.name}"))
        session.execute(text("DELETE FROM alembic_version"))
    database.close()
    database = Database(url)  # step by step now
    with database._writer.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == HEAD
    database.close()


def statements(url: str) -> list[str]:
    database = Database(url)
    with database.read() as session:
        found = session.execute(
            text("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND tbl_name <> 'alembic_version'")
        ).scalars()
        parts = sorted(part for sql in found for part in parts_of(" ".join(sql.split())))
    database.close()
    return parts


def parts_of(sql: str) -> list[str]:
    """A statement's columns and constraints with what stands before them: a column that was added later stands last."""
    before, _, inside = sql.partition("(")
    body, _, behind = inside.rpartition(")")
    parts, depth = [""], 0
    for character in body:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [f"{before.strip()} ({part.strip()}) {behind.strip()}".strip() for part in parts]


def test_a_fresh_database_is_what_the_migrations_lead_to(tmp_path: Path) -> None:
    fresh, stepped = (f"sqlite:///{tmp_path / name}" for name in ("fresh.db", "stepped.db"))
    with sqlite3.connect(tmp_path / "stepped.db") as raw:
        raw.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        raw.execute("DROP TABLE alembic_version")
        raw.execute("CREATE TABLE other (x)")  # not empty, so it is migrated
    raw.close()
    assert set(statements(stepped)) - set(statements(fresh)) == {"CREATE TABLE other (x)"}
    assert set(statements(fresh)) <= set(statements(stepped))


def test_a_second_start_changes_nothing(url: str) -> None:
    Database(url).close()
    database = Database(url)
    with database.read() as session:
        assert session.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [HEAD]
    database.close()


def test_a_newer_schema_is_refused(url: str) -> None:
    database = Database(url)
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(ServiceError, match="written by a newer hilum"):
        Database(url)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hilum.db").write_bytes(b"not a database, not at all" * 100)
    with pytest.raises(ServiceError, match="can't be opened or brought up to date"):
        Database(f"sqlite:///{tmp_path / 'hilum.db'}")


@pytest.mark.parametrize("beside", [False, True])
def test_a_database_that_gives_no_connection_is_named_with_the_reason_and_without_its_password(beside: bool) -> None:
    pytest.importorskip("psycopg")
    words = "no connection to the database site as user ada: .*refused.*Check HILUM_DATABASE_URL"
    url = "postgresql+psycopg://ada:secret@127.0.0.1:1/site"
    with pytest.raises(ServiceError, match=words) as raised:
        Database(url, beside=beside)
    assert "secret" not in str(raised.value)
    with pytest.raises(ServiceError, match=words), reading(url) as session:
        session.execute(text("SELECT 1"))


def test_what_a_statement_of_postgresql_says_is_never_passed_on() -> None:
    """It may quote a row; what a connection that never came about says can't."""
    said = OperationalError("INSERT", {}, Exception("Key (patient_id)=(4711) already exists"))
    assert "4711" not in str(unusable(said, "postgresql+psycopg://ada@db.example/site"))


def test_an_unknown_kind_of_database_is_refused_without_its_url() -> None:
    with pytest.raises(ServiceError, match="can't be used") as raised:
        Database("nonsense://user:secret@host/db")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("version", "fault"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 0), True),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
    ],
)
def test_the_log_says_what_protects_the_wal(version: tuple[int, int, int], fault: bool) -> None:
    assert has_wal_reset_fault(version) is fault
    said = sqlite_protection(version)
    assert ("has the WAL-reset fault" in said, "the mend is SQLite 3.51.3" in said) == (fault, fault)
    assert "single" in said


def test_only_the_writer_checkpoints(url: str, tmp_path: Path) -> None:
    """What makes the WAL-reset fault impossible: a reader never moves pages, not even as it closes."""
    database, wal = Database(url), tmp_path / "hilum.db-wal"
    with database.read() as session:
        assert session.execute(text("PRAGMA wal_autocheckpoint")).scalar_one() == 0
    with database.write() as session:
        session.execute(text("CREATE TABLE t (x)"))
    size = wal.stat().st_size
    assert size > 0
    main = (tmp_path / "hilum.db").read_bytes()
    with database._reader.connect() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM t")
    database._reader.dispose()
    assert (wal.stat().st_size, (tmp_path / "hilum.db").read_bytes()) == (size, main)
    database.close()
    assert not wal.exists(), "the writer closes last and puts all into the file"


def test_a_second_writer_is_refused_until_the_first_has_gone(url: str) -> None:
    first = Database(url)
    with pytest.raises(
        ServiceError, match="in use by another hilum process.*Stop that one first: a service with SIGTERM"
    ):
        Database(url)
    first.close()
    Database(url).close()


def test_who_may_write_beside_the_owner_neither_checkpoints_nor_migrates(url: str, tmp_path: Path) -> None:
    owner, wal = Database(url), tmp_path / "hilum.db-wal"
    guest = Database(url, beside=True)
    main = (tmp_path / "hilum.db").read_bytes()
    for statement in ("CREATE TABLE t (x)", "INSERT INTO t VALUES (zeroblob(9000000))", "INSERT INTO t VALUES (1)"):
        with guest.write() as session:  # more pages than the owner lets gather
            session.execute(text(statement))
    assert (tmp_path / "hilum.db").read_bytes() == main
    guest.close()
    assert ((tmp_path / "hilum.db").read_bytes(), wal.exists()) == (main, True)
    with owner.write() as session:
        assert session.execute(text("SELECT count(*) FROM t")).scalar_one() == 2
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ServiceError, match="of another version than this hilum, and a running service"):
        Database(url, beside=True)
    owner.close()
    assert not wal.exists()


def test_two_processes_never_write_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hilum.records.database.WRITING_S", 0.05)
    owner, guest = Database(url), Database(url, beside=True)
    with owner.write(), pytest.raises(ServiceError, match="has been writing to the records for more than 0.05 s"):
        guest.write().__enter__()
    with guest.write() as session:
        session.execute(text("CREATE TABLE t (x)"))
    with owner.read() as session:
        assert session.execute(text("SELECT count(*) FROM t")).scalar_one() == 0
    guest.close()
    owner.close()


def test_without_an_owner_who_may_write_beside_one_owns_the_file(url: str) -> None:
    alone = Database(url, beside=True)
    with pytest.raises(ServiceError, match="in use by another hilum process"):
        Database(url)
    alone.close()


def test_what_another_process_revokes_is_heard_of_also_when_it_is_killed_over_it(url: str) -> None:
    owner, guest = Database(url), Database(url, beside=True)
    before = owner.revocations
    with guest.write() as session:
        session.execute(text("CREATE TABLE t (x)"))
    assert owner.revocations == before, "another act revokes nothing"
    with guest.revoking():
        assert owner.revocations is None, "it may be revoked at any instant now"
    assert owner.revocations not in (None, before)
    before = owner.revocations
    with subprocess.Popen([sys.executable, "-c", REVOKING, url], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "revoking\n"
        other.kill()
    assert owner.revocations is None, "nobody can tell whether it was revoked"
    with owner.revoking():
        pass
    assert owner.revocations not in (None, before)
    guest.close()
    owner.close()


def test_the_log_is_cut_when_its_readers_have_gone(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hilum.records.database.BUSY_MS", 200)  # the reader below stays however long the other waits
    monkeypatch.setattr("hilum.records.database.LOG_ATTEMPTS", 1)
    owner, guest, wal = Database(url), Database(url, beside=True), tmp_path / "hilum.db-wal"
    with owner.write() as session:
        session.execute(text("CREATE TABLE t (x)"))
    with owner.read() as reader:
        reader.execute(text("SELECT count(*) FROM t")).scalar_one()
        with guest.write() as session:
            session.execute(text("INSERT INTO t VALUES (1)"))
        with pytest.raises(ServiceError, match="the database's log still holds it.*give the same command again"):
            guest.tidy(whole=True)
    guest.tidy(whole=True)
    assert wal.stat().st_size == 0
    with owner.write() as session:
        assert session.execute(text("SELECT count(*) FROM t")).scalar_one() == 1
    guest.close()
    owner.close()


def others(database: Database) -> int:
    with database.read() as session:
        return int(session.execute(text("SELECT count(*) FROM audit WHERE actor = 'other'")).scalar_one())


@pytest.mark.system
def test_no_act_is_lost_while_two_processes_write(url: str) -> None:
    """The owner checkpoints all the time; another process writes until it is killed; the chain stays whole."""
    owner = Database(url)
    with subprocess.Popen([sys.executable, "-c", OTHER, url], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        told, mine = [other.stdout.readline().strip()], 0
        while mine < 400 or (others(owner) < 150 and mine < 20_000):  # who has no processor meanwhile writes nothing
            with owner.write() as session:
                append(session, Act(actor="owner", act="x", subject=str(mine)), datetime.now(UTC))
            owner.tidy()
            mine += 1
        other.kill()
        told += other.stdout.read().split()
    with owner.read() as session:
        rows = entries(session)
    assert check(rows).whole
    assert sum(row.actor == "owner" for row in rows) == mine
    theirs = [row.subject for row in rows if row.actor == "other"]
    assert len(told) > 100, "who writes all the time lets the other in"
    assert theirs[: len(told)] == told, "what was said to be written is there"
    owner.close()


REVOKING = """
import sys, time
from hilum.records.database import Database
with Database(sys.argv[1], beside=True).revoking():
    print("revoking", flush=True)
    time.sleep(1000)
"""

OTHER = """
import sys
from datetime import UTC, datetime
from hilum.records.audit import Act, append
from hilum.records.database import Database
database = Database(sys.argv[1], beside=True)
for number in range(1_000_000):
    with database.write() as session:
        append(session, Act(actor="other", act="x", subject=str(number)), datetime.now(UTC))
    print(number, flush=True)
"""


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="folder exists and is writable"):
        Database(f"sqlite:///{tmp_path / 'none' / 'hilum.db'}")


def test_records_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    database.ping()
    modes = {one.name: one.stat().st_mode & 0o077 for one in tmp_path.iterdir()}
    database.close()
    assert {"hilum.db", "hilum.db-wal"} <= modes.keys()
    assert set(modes.values()) == {0}
