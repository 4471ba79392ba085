"""Who films are of lies encrypted, apart, bound to its film, and is brought under each new key whole or not at all."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import CompileError
from tests.records.test_store import answer, film

from hilum.data_keys import Keyring, new_data_key
from hilum.errors import DataError, ServiceError
from hilum.records.audit import check, entries
from hilum.records.database import Database
from hilum.records.identifiers import films_of_accession, films_of_patient, films_of_study, identities
from hilum.records.key_change import bring_under_key, keys_in_use, require_keys, retire_older_keys
from hilum.records.reviews import Reviews
from hilum.records.schema import HEAD, Base, FilmRow
from hilum.records.store import Store, now
from hilum.records.values import Identity

OLD, NEW = new_data_key(), new_data_key()
WHO = Identity(
    sop_instance_uid="1.2.99", study_instance_uid="1.2.88", patient_id="CANARY-1", accession_number="CANARY-A"
)
SECRETS = (b"CANARY", b"1.2.99", b"1.2.88")


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Database]]:
    made: list[Database] = []

    def open_with(*keys: object) -> Database:
        for one in made:
            one.close()
        made.append(Database(f"sqlite:///{tmp_path / 'hilum.db'}", Keyring(keys)))  # type: ignore[arg-type]
        return made[-1]

    yield open_with
    for one in made:
        one.close()


def answered(database: Database, name: str = "a", who: Identity = WHO) -> str:
    store = Store(database)
    film_id = store.receive(film(name, sop_instance_uid=who.sop_instance_uid)).film_id
    assert store.claim("w", lease_s=60, max_attempts=3)
    assert store.record_answer(film_id, "w", who, answer()) == "answered"
    Reviews(database).put(film_id, "ada", decision="agree", finding=None, comment="CANARY says so", over=0)
    return film_id


def on_disk(tmp_path: Path) -> bytes:
    return b"".join(path.read_bytes() for path in tmp_path.glob("hilum.db*"))


def told(database: Database, film_id: str) -> tuple[object, ...]:
    with database.read() as session:
        who = identities(session, [film_id])[film_id]
        found = (
            films_of_patient(session, "CANARY-1"),
            films_of_accession(session, "CANARY-A"),
            films_of_study(session, "1.2.88"),
        )
    review = Reviews(database).by(film_id, "ada")
    return who, found, review and review.comment, Store(database).accession_numbers([film_id])


def all_told(film_id: str) -> tuple[object, ...]:
    return WHO, ([film_id],) * 3, "CANARY says so", {film_id: "CANARY-A"}


def test_with_a_key_nothing_that_names_a_patient_lies_readable(opened: Callable[..., Database], tmp_path: Path) -> None:
    database = opened(OLD)
    assert bring_under_key(database, now) == 0
    film_id = answered(database)
    assert told(database, film_id) == all_told(film_id)
    assert [secret for secret in SECRETS if secret in on_disk(tmp_path)] == []
    same = Store(database).receive(film("b", sop_instance_uid="1.2.99"))
    assert same.state == "quarantined", "equal UIDs are still found"


def test_no_value_stands_unencrypted_in_a_statement(opened: Callable[..., Database]) -> None:
    where = select(FilmRow.id).where(FilmRow.sop_instance_uid == "1.2.3")
    with opened().read() as session, pytest.raises(CompileError, match="literal"):
        where.compile(session.get_bind(), compile_kwargs={"literal_binds": True})


def test_records_from_before_are_encrypted_and_what_lay_there_is_gone(
    opened: Callable[..., Database], tmp_path: Path
) -> None:
    database = opened()
    film_id = answered(database)
    assert told(database, film_id) == all_told(film_id)
    assert all(secret in on_disk(tmp_path) for secret in SECRETS), "without a key it is readable"
    database = opened(OLD)
    assert bring_under_key(database, now) == 3, "identifiers, UIDs of the film, the comment"
    assert bring_under_key(database, now) == 0
    assert told(database, film_id) == all_told(film_id)
    assert [secret for secret in SECRETS if secret in on_disk(tmp_path)] == []


def test_another_key_reads_and_encrypts_anew(opened: Callable[..., Database]) -> None:
    database = opened(OLD)
    bring_under_key(database, now)
    film_id = answered(database)
    database = opened(NEW, OLD)
    assert bring_under_key(database, now) == 3
    assert keys_in_use(database) == (OLD.id, NEW.id), "films may still be under the older one"
    assert retire_older_keys(database, now, films=1) == (OLD.id,)
    database = opened(NEW)
    require_keys(database)
    assert told(database, film_id) == all_told(film_id)
    with database.read() as session:
        assert check(entries(session)).whole
        assert [e.act for e in entries(session) if e.act.startswith("data-key")] == ["data-key.used"] * 2 + [
            "data-key.applied"
        ]


@pytest.mark.parametrize("keys", [(), (NEW,)])
def test_a_wrong_or_missing_key_is_named_and_touches_nothing(
    opened: Callable[..., Database], tmp_path: Path, keys: tuple[object, ...]
) -> None:
    database = opened(OLD)
    bring_under_key(database, now)
    film_id = answered(database)
    database.close()
    before = on_disk(tmp_path)
    database = opened(*keys)
    for act in (require_keys, lambda one: bring_under_key(one, now)):
        with pytest.raises(ServiceError, match=f"encrypted with the data key {OLD.id}, and .* Nothing was touched"):
            act(database)
    with database.read() as session, pytest.raises(DataError, match=f"data key {OLD.id}"):
        identities(session, [film_id])
    database.close()
    assert on_disk(tmp_path) == before


def test_a_row_that_was_moved_is_found(opened: Callable[..., Database], tmp_path: Path) -> None:
    database = opened(OLD)
    films = [answered(database), answered(database, "b", Identity(sop_instance_uid="1.2.3", patient_id="P2"))]
    database.close()
    with sqlite3.connect(tmp_path / "hilum.db") as raw:
        one = raw.execute("SELECT sealed FROM identifiers WHERE film_id = ?", films[:1]).fetchone()
        raw.execute("UPDATE identifiers SET sealed = ? WHERE film_id = ?", (*one, films[1]))
    raw.close()
    with opened(OLD).read() as session, pytest.raises(DataError, match="changed, or moved from another row"):
        identities(session, films)


def test_a_broken_change_of_keys_leaves_all_as_it_was(opened: Callable[..., Database], tmp_path: Path) -> None:
    database = opened(OLD)
    bring_under_key(database, now)
    film_id = answered(database)
    with database.write() as session:
        session.execute(text("UPDATE reviews SET comment = comment || 'x'"))
    with pytest.raises(DataError, match="was changed"):
        bring_under_key(opened(NEW, OLD), now)
    database = opened(OLD)
    assert keys_in_use(database) == (OLD.id,)
    with database.read() as session:
        assert identities(session, [film_id]) == {film_id: WHO}


def test_a_comment_that_looks_encrypted_is_read_as_it_was_written(opened: Callable[..., Database]) -> None:
    database = opened()
    film_id = answered(database)
    reviews = Reviews(database)
    reviews.put(film_id, "ada", decision="agree", finding=None, comment="hds1.abc.def", over=1)
    review = reviews.by(film_id, "ada")
    assert review is not None
    assert review.comment == "hds1.abc.def"


def test_identifiers_from_before_the_migration_are_kept(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'hilum.db'}"
    step_to(url, "0005")
    with sqlite3.connect(tmp_path / "hilum.db") as raw:
        names = "id, received_at, origin, calling_ae, format, content_sha256, file_sha256, size, state, attempts"
        more = "reason_code, reason, sop_instance_uid, study_instance_uid"
        values = "'f1', '2026-01-01 00:00:00', 'rest', '', 'dicom', 'c', 'c', 1, 'answered', 1, '', ''"
        raw.execute(f"INSERT INTO films ({names}, {more}) VALUES ({values}, '1.2.99', '1.2.88')")
        raw.execute("INSERT INTO identifiers VALUES ('f1', 'CANARY-1', 'CANARY-A')")
    raw.close()
    database = Database(url, Keyring([OLD]))
    assert bring_under_key(database, now) == 2
    with database.read() as session:
        assert session.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == HEAD
        assert identities(session, ["f1"]) == {"f1": WHO}
        assert films_of_patient(session, "CANARY-1") == ["f1"]
    database.close()
    assert [secret for secret in SECRETS if secret in on_disk(tmp_path)] == []


def step_to(url: str, revision: str) -> None:
    """An empty database as an earlier version left it."""
    from alembic import command
    from alembic.config import Config

    database = Database(url)
    config = Config()
    with database.write() as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(text(f"DROP TABLE {table.name}"))
        session.execute(text("DROP TABLE alembic_version"))
    import hilum.records.migrations

    config.set_main_option("script_location", str(Path(hilum.records.migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    with database._writer.connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    database.close()
