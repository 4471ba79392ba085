"""Acts share a transaction, and none harms another."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session

from hilum.errors import ServiceError
from hilum.records.audit import Act, append, check, entries
from hilum.records.database import Database
from hilum.records.schema import AuditRow
from hilum.records.store import now
from hilum.records.together import GATHERED


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    one = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    yield one
    one.close()


def note(subject: str) -> Callable[[Session], int]:
    return lambda session: append(session, Act(actor="test", act="noted", subject=subject), now()).seq


def fail(session: Session) -> int:
    note("never kept")(session)
    raise ValueError("this act fails")


def commits(database: Database) -> list[object]:
    seen: list[object] = []
    event.listen(database._writer, "commit", seen.append)
    return seen


def crowd(database: Database, acts: list[Callable[[Session], int]]) -> list[int | Exception]:
    """Run acts in a thread each, all of which come while a transaction is under way."""
    begun, go, came = threading.Event(), threading.Event(), [0] * len(acts)
    found: list[int | Exception] = [0] * len(acts)

    def hold(session: Session) -> None:
        begun.set()
        assert go.wait(120)

    def run(number: int, act: Callable[[Session], int]) -> None:
        came[number] = 1
        try:
            found[number] = database.share(act)
        except Exception as error:
            found[number] = error

    first = threading.Thread(target=database.share, args=(hold,))
    first.start()
    assert begun.wait(120)
    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(acts)]
    for thread in threads:
        thread.start()
    while len(database._together._waiting) < len(acts):
        assert not go.wait(0.001)
    go.set()
    for thread in (first, *threads):
        thread.join(120)
    return found


def subjects(database: Database) -> list[str]:
    with database.read() as session:
        rows = entries(session)
        assert check(rows).whole
        return [row.subject for row in rows]


def test_acts_that_come_while_another_writes_share_one_commit(database: Database) -> None:
    seen = commits(database)
    found = crowd(database, [note(str(i)) for i in range(12)])
    assert sorted(found) == list(range(1, 13))  # type: ignore[type-var]
    assert len(seen) == 1, "what was under way wrote nothing"
    assert sorted(subjects(database), key=int) == [str(i) for i in range(12)]


def test_an_act_that_fails_takes_nobody_with_it(database: Database) -> None:
    found = crowd(database, [note("a"), fail, note("b")])
    assert [type(one) for one in found] == [int, ValueError, int]
    assert sorted(subjects(database)) == ["a", "b"]


def test_a_commit_that_fails_is_told_to_all_of_it(database: Database) -> None:
    def refuse(connection: object) -> None:
        raise ServiceError("no commit today")

    event.listen(database._writer, "commit", refuse)
    found = crowd(database, [note("a"), note("b")])
    event.remove(database._writer, "commit", refuse)
    assert [type(one) for one in found] == [ServiceError, ServiceError]
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(AuditRow)) == 0
    assert database.share(note("after")) == 1


def patient(database: Database, act: Callable[[Session], int], found: list[int], patience_s: float) -> threading.Thread:
    """Bring an act that has time in a thread of its own; returns when it waits."""
    before = len(database._together._waiting)
    thread = threading.Thread(target=lambda: found.append(database.share(act, patience_s=patience_s)))
    thread.start()
    while len(database._together._waiting) == before and not found:
        assert not threading.Event().wait(0.001)
    return thread


def test_an_act_that_has_time_goes_with_the_next_one(database: Database) -> None:
    seen, found = commits(database), list[int]()
    waits = [patient(database, note(name), found, 120) for name in "ab"]
    assert database.share(note("c")) == 3
    for thread in waits:
        thread.join(120)
    assert sorted(found) == [1, 2]
    assert len(seen) == 1
    assert subjects(database) == ["a", "b", "c"]


def test_an_act_that_has_time_waits_no_longer_than_that(database: Database) -> None:
    found: list[int] = []
    patient(database, note("alone"), found, 0.001).join(120)
    assert found == [1]


def test_so_many_acts_that_have_time_wait_for_nobody(database: Database) -> None:
    seen, found = commits(database), list[int]()
    waits = [patient(database, note(str(i)), found, 120) for i in range(GATHERED - 1)]
    assert not seen
    found.append(database.share(note("last"), patience_s=120))
    for thread in waits:
        thread.join(120)
    assert sorted(found) == list(range(1, GATHERED + 1))
    assert len(seen) == 1


def test_an_act_that_has_time_is_told_what_became_of_it(database: Database) -> None:
    told: list[Exception] = []

    def bring() -> None:
        try:
            database.share(fail, patience_s=120)
        except ValueError as error:
            told.append(error)

    thread = threading.Thread(target=bring)
    thread.start()
    while not database._together._waiting:
        assert not threading.Event().wait(0.001)
    assert database.share(note("other")) == 1
    thread.join(120)
    assert [str(error) for error in told] == ["this act fails"]
