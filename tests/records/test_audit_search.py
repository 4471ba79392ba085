"""Searching the audit: each filter lets through what fits, newest first, page by page."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from hilum.records.audit import Act, append
from hilum.records.audit_search import Sought, acts_of, search
from hilum.records.database import Database

ROWS = (
    ("ada", "film.viewed", "f1", 1),
    ("bob", "film.viewed", "f2", 2),
    ("ada", "film.reviewed", "f1", 2),
    ("ada", "login_x", "ada", 3),
    ("eve", "filmXviewed", "f1", 4),
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    yield database
    database.close()


def fill(database: Database) -> None:
    with database.write() as session:
        for actor, act, subject, day in ROWS:
            last_of_day = datetime(2026, 3, day, 23, 59, 59, 999999, tzinfo=UTC)
            append(session, Act(actor=actor, act=act, subject=subject), last_of_day)


@pytest.mark.parametrize(
    ("sought", "places"),
    [
        (Sought(), [5, 4, 3, 2, 1]),
        (Sought(subject="f1"), [5, 3, 1]),
        (Sought(actor="ada"), [4, 3, 1]),
        (Sought(act="film."), [3, 2, 1]),
        (Sought(act="film_"), []),
        (Sought(act="film"), [5, 3, 2, 1]),
        (Sought(act="film.", last=date(2026, 3, 1)), [1]),
        (Sought(act="%"), []),
        (Sought(first=date(2026, 3, 2), last=date(2026, 3, 2)), [3, 2]),
        (Sought(first=date(2026, 3, 4)), [5]),
        (Sought(last=date.max), [5, 4, 3, 2, 1]),
        (Sought(actor="ada", subject="f1", act="film.viewed"), [1]),
    ],
)
def test_each_filter_lets_through_what_fits(database: Database, sought: Sought, places: list[int]) -> None:
    fill(database)
    with database.read() as session:
        assert [row.seq for row in search(session, sought, limit=9)] == places
        assert [row.seq for row in search(session, sought, before=5, limit=2)] == [n for n in places if n < 5][:2]


def test_the_acts_are_known_without_reading_every_row(database: Database) -> None:
    with database.read() as session:
        assert acts_of(session) == []
    fill(database)
    with database.read() as session:
        found = acts_of(session)
    assert len(found) == 4
    assert set(found) == {act for _, act, _, _ in ROWS}


def test_what_was_typed_is_named_by_its_filter_only() -> None:
    assert Sought(subject="A^Name", last=date(2026, 1, 1)).used == ["subject", "last"]


def test_an_act_is_found_by_its_index_and_nothing_is_sorted(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    fill(database)
    said: list[str] = []

    def watch(_: Any, __: Any, statement: str, *___: Any) -> None:
        said.append(statement)

    with database.read() as session:
        event.listen(session.get_bind(), "before_cursor_execute", watch)
        search(session, Sought(act="film."), limit=9)
        event.remove(session.get_bind(), "before_cursor_execute", watch)
        asked = [one for one in said if one.startswith("SELECT")]
        assert len(asked) == 5 + 2  # the acts, one after another, and the rows of two
        for statement in asked:
            explained = text("EXPLAIN QUERY PLAN " + statement.replace("?", "'x'"))
            plans = [str(row[-1]) for row in session.execute(explained)]
            assert all("INDEX audit_by_act" in plan for plan in plans), (statement, plans)
    database.close()
