"""Who looks is written down in the look's own transaction: where that can't be, nothing is shown."""

import contextlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.records.test_dicom_index import one
from tests.records.test_store import Clock, answer, answered, film

from hilum.errors import ServiceError
from hilum.records.audit import entries
from hilum.records.database import Database
from hilum.records.dicom_index import DicomIndex
from hilum.records.recording import Answered
from hilum.records.reviews import Reviews
from hilum.records.store import Store
from hilum.records.values import Identity
from hilum.records.worklist import Wanted, Worklist

HOUR = timedelta(hours=1)
REFUSING = {
    "sqlite": ("CREATE TRIGGER refuse BEFORE INSERT ON audit BEGIN INSERT INTO nowhere VALUES (1); END",),
    "postgresql": (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$",
        "CREATE TRIGGER refuse BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION refuse()",
    ),
}
ALLOWING = {
    "sqlite": ("DROP TRIGGER refuse",),
    "postgresql": ("DROP TRIGGER refuse ON audit", "DROP FUNCTION refuse()"),
}


@contextlib.contextmanager
def refusing_audit(database: Database) -> Iterator[None]:
    """The database takes no row into the audit, and anything else."""

    def run(statements: tuple[str, ...]) -> None:
        with database.write() as session:
            for statement in statements:
                session.execute(text(statement))

    run(REFUSING[database._writer.dialect.name])
    try:
        yield
    finally:
        run(ALLOWING[database._writer.dialect.name])


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'seen.db'}")
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database, Clock())


@pytest.fixture
def index(database: Database) -> DicomIndex:
    return DicomIndex(database)


LOOKS: dict[str, Callable[[Database, Store, str], object]] = {
    "film": lambda database, store, film_id: store.film(film_id, viewer="ada"),
    "list": lambda database, store, film_id: store.films(viewer="ada"),
    "order": lambda database, store, film_id: store.worklist(limit=9, waiting_cap=HOUR, viewer="ada"),
    "picture": lambda database, store, film_id: store.picture_viewed(film_id, "film", viewer="ada"),
    "worklist": lambda database, store, film_id: Worklist(database, waiting_cap=HOUR).page(Wanted(), viewer="ada"),
    "lines": lambda database, store, film_id: Worklist(database, waiting_cap=HOUR).seen([film_id], viewer="ada"),
    "reviews": lambda database, store, film_id: Reviews(database).of(film_id, viewer="ada"),
    "dicomweb": lambda database, store, film_id: DicomIndex(database).looked(
        "ada", "dicom.found", [one(film_id, 1, 1)]
    ),
}


@pytest.mark.parametrize("look", LOOKS)
def test_what_can_not_be_written_down_is_not_shown(database: Database, store: Store, look: str) -> None:
    film_id = answered(store, "a")
    rows = _rows(database)
    with refusing_audit(database), pytest.raises(ServiceError, match=r"records could not be read or written"):
        LOOKS[look](database, store, film_id)
    assert _rows(database) == rows
    LOOKS[look](database, store, film_id)
    assert _rows(database) == rows + 1, "and else it is written down, once"


def test_an_answer_that_somebody_waits_for_is_not_recorded_where_it_can_not_be_written_down_as_seen(
    database: Database, store: Store
) -> None:
    film_id = store.receive(film("a")).film_id
    assert store.claim("w", lease_s=60, max_attempts=3) is not None
    said = [Answered(film_id=film_id, identity=Identity(), answer=answer())]
    with refusing_audit(database), pytest.raises(ServiceError):
        store.record_answers("w", said, viewers={film_id: ["ada"]})
    found = store.film(film_id)
    assert found is not None
    assert (found.state, found.answer) == ("preparing", None)
    (recorded,) = store.record_answers("w", said, viewers={film_id: ["ada"]})
    assert recorded.film is not None
    with database.read() as session:
        assert "film.viewed" in [row.act for row in entries(session, subject=film_id)]


def _rows(database: Database) -> int:
    with database.read() as session:
        return len(entries(session))
