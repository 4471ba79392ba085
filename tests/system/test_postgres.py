"""The records on PostgreSQL: what tests/records says of SQLite, and what only many writers can show."""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select, text
from tests.records import test_access as access_on_sqlite
from tests.records import test_alarms as alarms_on_sqlite
from tests.records import test_audit_search as search_on_sqlite
from tests.records import test_dicom_index as index_on_sqlite
from tests.records import test_film_story as stories_on_sqlite
from tests.records import test_labelling as labelling_on_sqlite
from tests.records import test_peers as peers_on_sqlite
from tests.records import test_readings as readings_on_sqlite
from tests.records import test_seen as seen_on_sqlite
from tests.records import test_store as store_on_sqlite
from tests.records import test_study_reading as studies_on_sqlite
from tests.records.stepping import downgrade
from tests.records.test_store import Clock, answer, film
from tests.service.conftest import let_in, settings_in
from tests.service.small import SmallDrawing, SmallModel, png
from tests.service.test_killed_often import kill_often
from tests.service.test_seen import nothing_is_shown
from tests.system.postgres import Server, programs, served

from hilum.errors import ServiceError
from hilum.records.access import Access
from hilum.records.audit import check, entries
from hilum.records.database import Database
from hilum.records.dicom_index import DicomIndex
from hilum.records.former_films import FormerFilms
from hilum.records.labelling import Labelling
from hilum.records.labelling_batches import LabelBatches
from hilum.records.labelling_schema import BlindLabelRow, LabelTaskRow
from hilum.records.proving import prove
from hilum.records.reviews import Conflict
from hilum.records.schema import HEAD, Base
from hilum.records.store import Store
from hilum.records.values import Identity
from hilum.service.app import running

pytestmark = pytest.mark.system
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[Server | None]:
    at = programs()
    if at is None:
        yield None
        return
    with served(at) as started:
        yield started


@pytest.fixture
def url(server: Server | None, need: Callable[[object, str], None]) -> str:
    need(server, "PostgreSQL (initdb, pg_ctl)")
    assert server is not None
    return server.fresh(f"hilum{next(NUMBERS)}")


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.close()


def same_tests(module: object, *, without: tuple[str, ...]) -> dict[str, object]:
    """Tests of a module, to be run here with this file's fixtures."""
    return {name: test for name, test in vars(module).items() if name.startswith("test_") and name not in without}


globals().update(same_tests(store_on_sqlite, without=("test_two_films_never_hold_one_uid_even_behind_the_store",)))
globals().update(same_tests(access_on_sqlite, without=()))
globals().update(same_tests(seen_on_sqlite, without=()))
globals().update(same_tests(index_on_sqlite, without=()))
globals().update(same_tests(studies_on_sqlite, without=()))
globals().update(same_tests(labelling_on_sqlite, without=()))
globals().update(same_tests(alarms_on_sqlite, without=()))
globals().update(same_tests(peers_on_sqlite, without=()))
globals().update(same_tests(stories_on_sqlite, without=()))
globals().update(same_tests(readings_on_sqlite, without=()))
globals().update(same_tests(search_on_sqlite, without=("test_an_act_is_found_by_its_index_and_nothing_is_sorted",)))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database: Database, clock: Clock) -> Store:
    return Store(database, clock)


@pytest.fixture
def both(database: Database) -> studies_on_sqlite.Set:
    return studies_on_sqlite.Set(database)


@pytest.fixture
def records(database: Database) -> Database:
    return labelling_on_sqlite.filled(database)


@pytest.fixture
def batches(records: Database, clock: Clock) -> LabelBatches:
    return LabelBatches(records, clock)


@pytest.fixture
def queue(records: Database, clock: Clock) -> Labelling:
    return Labelling(records, clock)


@pytest.fixture
def index(database: Database) -> DicomIndex:
    return DicomIndex(database)


@pytest.fixture
def access(database: Database, clock: Clock) -> Access:
    return Access(database, clock)


def test_fresh_and_migrated_are_what_the_code_knows(server: Server, url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    stepped = server.fresh(url.rpartition("/")[2].partition("?")[0] + "_stepped")
    database = Database(stepped)
    with database.write() as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(text(f"DROP TABLE {table.name}"))
        session.execute(text("DELETE FROM alembic_version"))
    database.close()
    for one in (url, stepped):
        database = Database(one)
        with database._writer.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
            assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == HEAD
        database.close()


def test_nothing_is_shown_that_can_not_be_written_down(url: str, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, database_url=url)
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
        nothing_is_shown(service)


def test_films_of_before_migration_0016_stay_what_they_are(url: str) -> None:
    database = Database(url)
    ids = {name: Store(database).receive(film(name)).film_id for name in "abc"}
    database.close()
    downgrade(url, "0015")
    with contextlib.closing(Database(url)) as database:
        store, former = Store(database), FormerFilms(database)
        assert (former.any(), former.unread()) == (True, 3)
        asked: list[str] = []

        def former_of_b() -> str:
            asked.append("b")
            return "b" * 64

        again = film("9", file_sha256="9" * 64)
        assert store.receive(again, former=former_of_b).film_id == ids["b"]
        assert store.receive(again).film_id == ids["b"], "and is known by it from now on"
        assert former.next("", 9) == sorted((ids[name], name * 64) for name in "ac")
        assert list(former.identify({ids["a"]: "9" * 64, ids["c"]: "8" * 64})) == [ids["a"]]
        store.former = "some"
        assert store.receive(film("8"), former=former_of_b).film_id == ids["c"]
        assert (asked, former.unread()) == (["b"], 1)


def test_services_that_start_at_once_make_one_schema(url: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        for database in pool.map(Database, [url] * 6):
            database.close()


def test_a_commit_is_durable_and_a_lock_is_not_waited_for_for_ever(database: Database) -> None:
    with database.write() as session:
        shown = [session.execute(text(f"SHOW {name}")).scalar_one() for name in ("synchronous_commit", "lock_timeout")]
    assert shown == ["on", "10s"]


def test_many_workers_of_two_services_share_the_films_and_answer_each_once(url: str) -> None:
    services = [Database(url), Database(url)]
    stores = [Store(database) for database in services]
    ids = {stores[i % 2].receive(film("a", content_sha256=f"{i:064x}")).film_id for i in range(32)}
    claimed: list[str] = []
    lock = threading.Lock()

    def work(number: int) -> None:
        store, owner = stores[number % 2], f"worker{number}"
        while (claim := store.claim(owner, lease_s=60, max_attempts=3)) is not None:
            with lock:
                claimed.append(claim.film_id)
            assert store.record_answer(claim.film_id, owner, Identity(), answer()) == "answered"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert sorted(claimed) == sorted(ids)
    with services[0].read() as session:
        assert session.execute(text("SELECT count(*) FROM answers")).scalar_one() == len(ids)
        rows = entries(session)
    assert check(rows).whole, "rows of many writers are one chain"
    assert len(rows) == 2 * len(ids)
    for database in services:
        database.close()


def test_one_film_sent_at_once_through_many_doors_is_one_film(url: str) -> None:
    services = [Database(url), Database(url)]
    gate = threading.Barrier(8)

    def send(number: int) -> tuple[str, bool]:
        gate.wait()
        receipt = Store(services[number % 2]).receive(film("a", sop_instance_uid="1.2"))
        return receipt.film_id, receipt.new

    with ThreadPoolExecutor(8) as pool:
        receipts = list(pool.map(send, range(8)))
    assert len({film_id for film_id, _ in receipts}) == 1
    assert sum(new for _, new in receipts) == 1
    for database in services:
        database.close()


def test_two_films_that_turn_out_to_be_one_uid_are_not_both_answered(url: str) -> None:
    database = Database(url)
    store = Store(database)
    ids = [store.receive(film(name)).film_id for name in "ab"]
    for _ in ids:
        store.claim("w", lease_s=60, max_attempts=3)
    gate = threading.Barrier(2)

    def record(film_id: str) -> str | None:
        gate.wait()
        return store.record_answer(film_id, "w", Identity(sop_instance_uid="1.2"), answer())

    with ThreadPoolExecutor(2) as pool:
        assert sorted(str(state) for state in pool.map(record, ids)) == ["answered", "quarantined"]
    database.close()


def test_killed_often(url: str, tmp_path: Path) -> None:
    kill_often(url, tmp_path / "data", 30, 4)


def test_a_database_that_goes_away_refuses_and_comes_back(server: Server, database: Database) -> None:
    store = Store(database)
    kept = store.receive(film("a")).film_id
    server.stop()
    with pytest.raises(ServiceError, match="could not be read or written"):
        store.receive(film("b"))
    server.start()
    assert store.receive(film("b")).new
    assert store.film(kept) is not None


def test_the_service_runs_on_it_and_its_audit_is_proved(url: str, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, database_url=url)
    with (
        running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service,
        httpx.Client(base_url=service.url, timeout=90, headers=let_in(service)) as http,
    ):
        kind = {"Content-Type": "image/png"}
        study = http.post("/api/v1/studies?wait=60", content=png(), headers=kind).json()
        assert study["state"] == "answered"
        assert http.get(study["film"]).status_code == 200
    keys = (settings.audit_key_path.with_name("audit.key.pub"),)
    proof = prove(url=url, export=None, heads=settings.audit_heads_path, heads_given=True, keys=keys)
    assert proof.verdict.whole
    assert proof.signed_up_to == proof.verdict.tip.seq
    database = Database(url)
    with database.write() as session:
        session.execute(text("DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)"))
    database.close()
    again = prove(url=url, export=None, heads=settings.audit_heads_path, heads_given=True, keys=keys)
    assert again.verdict.first_bad == proof.verdict.tip.seq


def test_readers_at_once_never_hold_one_film_and_leave_none_out(records: Database) -> None:
    """Eight readers, each with a process's own view of the queue: every film is labelled as often as it needs."""
    batch = LabelBatches(records).draw(24, second=0.25, actor="mel", seed=1)
    labels: list[tuple[str, str]] = []

    def read(reader: str) -> None:
        mine = Labelling(records)
        while (film := mine.following(reader)) is not None:
            try:
                mine.put(film, reader, finding="normal")
            except Conflict:  # another one was quicker: the next film then
                mine.release(film, reader, passed=True)
                continue
            labels.append((film, reader))

    names = [f"reader {number}" for number in range(8)]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(read, names))
    assert len(set(labels)) == len(labels) == batch.films + batch.twice
    with records.read() as session:
        tasks = {task.film_id: task for task in session.scalars(select(LabelTaskRow))}
        audit = entries(session)
    assert {film: sum(one == film for one, _ in labels) for film in tasks} == {k: t.readings for k, t in tasks.items()}
    assert {task.state for task in tasks.values()} == {"agreed"}
    assert check(audit).whole
    assert sum(row.act == "film.labelled" for row in audit) == len(labels)


def test_a_label_that_comes_twice_at_once_is_one(records: Database) -> None:
    LabelBatches(records).draw(1, second=0, actor="mel", seed=1)
    film = Labelling(records).following("ann")
    assert film is not None

    def say(finding: str) -> str:
        try:
            return f"{Labelling(records).put(film, 'ann', finding=finding).version} {finding}"
        except Conflict:
            return "conflict"

    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(say, ["normal", "pneumonia"] * 3))
    kept = {one for one in said if one != "conflict"}
    assert len(kept) == 1, said
    with records.read() as session:
        assert session.scalar(select(func.count()).select_from(BlindLabelRow)) == 1


def test_records_are_not_brought_up_to_date_beneath_a_service_of_an_earlier_version(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = Database(url)
    earlier.ping()
    downgrade(url, "0015")
    monkeypatch.setattr("hilum.records.database.APPLICATION", "hilum another")
    with contextlib.closing(Database(url)) as alike:  # of this version, and started at the same time
        alike.ping()
        assert alike.others() >= 1
        assert alike.others(but=HEAD) == 0
    downgrade(url, "0015")
    earlier.close()
    monkeypatch.setattr("hilum.records.database.APPLICATION", "hilum earlier")
    monkeypatch.setattr("hilum.records.database.HEAD", "0015")
    old = Database(url)
    old.ping()
    monkeypatch.undo()
    with pytest.raises(ServiceError, match="a process of that version has them open"):
        Database(url)
    old.close()
    Database(url).close()
