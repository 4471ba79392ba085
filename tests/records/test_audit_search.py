"""Searching the audit: each filter lets through what fits, newest first, page by page."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from hilum.records.audit import Act, append
from hilum.records.audit_search import Sought, search
from hilum.records.database import Database

ROWS = (
    ("ada", "film.viewed", "f1", 1),
    ("bob", "film.viewed", "f2", 2),
    ("ada", "film.reviewed", "f1", 2),
    ("ada", "login_x", "ada", 3),
    ("eve", "filmXviewed", "f1", 4),
)


@pytest.mark.parametrize(
    ("sought", "places"),
    [
        (Sought(), [5, 4, 3, 2, 1]),
        (Sought(subject="f1"), [5, 3, 1]),
        (Sought(actor="ada"), [4, 3, 1]),
        (Sought(act="film."), [3, 2, 1]),
        (Sought(act="film_"), []),
        (Sought(act="%"), []),
        (Sought(first=date(2026, 3, 2), last=date(2026, 3, 2)), [3, 2]),
        (Sought(first=date(2026, 3, 4)), [5]),
        (Sought(last=date.max), [5, 4, 3, 2, 1]),
        (Sought(actor="ada", subject="f1", act="film.viewed"), [1]),
    ],
)
def test_each_filter_lets_through_what_fits(tmp_path: Path, sought: Sought, places: list[int]) -> None:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    with database.write() as session:
        for actor, act, subject, day in ROWS:
            last_of_day = datetime(2026, 3, day, 23, 59, 59, 999999, tzinfo=UTC)
            append(session, Act(actor=actor, act=act, subject=subject), last_of_day)
    with database.read() as session:
        assert [row.seq for row in search(session, sought, limit=9)] == places
        assert [row.seq for row in search(session, sought, before=5, limit=2)] == [n for n in places if n < 5][:2]
    database.close()


def test_what_was_typed_is_named_by_its_filter_only() -> None:
    assert Sought(subject="A^Name", last=date(2026, 1, 1)).used == ["subject", "last"]
