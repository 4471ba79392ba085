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
