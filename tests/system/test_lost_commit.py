"""PostgreSQL dies or cuts the line while a transaction commits: what was acknowledged is there, and only once.

The sender can't know whether a commit that failed was kept; it sends again, and finds one film either way.
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import create_engine, event, text
from tests.records.test_store import answer, film
from tests.system.postgres import Server, programs, served

from hilum.errors import ServiceError
from hilum.records.audit import check, entries
from hilum.records.database import Database
from hilum.records.store import Store
from hilum.records.values import Identity


@pytest.fixture
def server(need: Callable[[object, str], None]) -> Iterator[Server]:
    at = programs()
    need(at, "PostgreSQL (initdb, pg_ctl)")
    assert at is not None
    with served(at) as started:
        yield started


def cut(server: Server, database: Database, count: int, seed: int, kill_every: int) -> None:
    """So many films whose commit is cut at a random instant, or whose server is killed."""
    chance, store = random.Random(seed), Store(database)
    other = create_engine(server.url("postgres"), isolation_level="AUTOCOMMIT", pool_pre_ping=True)
    armed: list[str] = []

    def strike(pid: int, after_s: float, ready: threading.Event) -> None:
        with other.connect() as connection:
            ready.set()
            time.sleep(after_s)
            connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})

    def committing(connection: object) -> None:
        if not armed:
            return
        what = armed.pop()
        if what == "kill":
            server.stop()  # immediate: as a pulled plug
            return
        pid = connection.connection.dbapi_connection.info.backend_pid  # type: ignore[attr-defined]
        ready = threading.Event()
        threads.append(threading.Thread(target=strike, args=(pid, chance.uniform(0, 0.002), ready)))
        threads[-1].start()
        ready.wait()
        if what == "cut before":
            threads[-1].join()
        else:
            time.sleep(chance.uniform(0, 0.003))

    threads: list[threading.Thread] = []
    event.listen(database._writer, "commit", committing)
    told: dict[str, str] = {}
    lost = 0
    try:
        for number in range(count):
            content = film("x", content_sha256=f"{number:064x}", file_sha256=f"{number:064x}")
            # Every fifth one is certainly before the commit; how many of the others are, is the machine's affair.
            cut_how = "cut before" if number % 5 == 0 else "cut"
            armed.append("kill" if kill_every and number % kill_every == kill_every - 1 else cut_how)
            try:
                told[store.receive(content).film_id] = content.content_sha256
            except ServiceError:
                lost += 1
            for thread in threads:
                thread.join()
            threads.clear()
            if kill_every and number % kill_every == kill_every - 1:
                server.start()
            armed.clear()
            film_id = again(lambda content=content: store.receive(content).film_id)  # type: ignore[misc]
            assert told.setdefault(film_id, content.content_sha256) == content.content_sha256
        assert len(told) == count
        assert lost > count / 10, "the strikes must strike"
        answered(store, armed, threads, count)
    finally:
        event.remove(database._writer, "commit", committing)
        other.dispose()
    with database.read() as session:
        rows = entries(session)
        assert check(rows).whole
        assert len([row for row in rows if row.act == "film.received"]) == count
        assert session.execute(text("SELECT count(*), count(DISTINCT film_id) FROM answers")).one() == (count, count)


def answered(store: Store, armed: list[str], threads: list[threading.Thread], count: int) -> None:
    """Answer them all, each commit cut once: the lease says whether an answer still counts."""
    for _ in range(3 * count):
        claim = again(lambda: store.claim("w", lease_s=600, max_attempts=3))
        if claim is None:
            break
        armed.append("cut")
        with contextlib.suppress(ServiceError):
            store.record_answer(claim.film_id, "w", Identity(), answer())
        for thread in threads:
            thread.join()
        threads.clear()
        armed.clear()
        again(lambda claim=claim: store.record_answer(claim.film_id, "w", Identity(), answer()))  # type: ignore[misc]
    assert store.counts() == {"answered": count}


def again(act: Callable[[], object], within_s: float = 120) -> object:
    """Until the database is there."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return act()
        except ServiceError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.system
def test_commits_that_are_cut(server: Server) -> None:
    database = Database(server.fresh("cut_quick"))
    cut(server, database, 30, 1, kill_every=15)
    database.close()


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_five_hundred_commits_that_are_cut(server: Server, counted: Callable[[int], int]) -> None:
    database = Database(server.fresh("cut_long"))
    cut(server, database, counted(500), 2, kill_every=25)
    database.close()
