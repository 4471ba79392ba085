"""DICOM peers in the records: films by sender, refusals by title and reason."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.records.test_store import film

from hilum.records.audit import Act, append
from hilum.records.database import Database
from hilum.records.peers import films_by_peer, refusals
from hilum.records.store import Store, now


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    yield database
    database.close()


def test_films_are_counted_by_who_sent_them_and_how(database: Database) -> None:
    store, start = Store(database), now()
    for name, origin, title in (("a", "dicom", "CR1"), ("b", "dicom", "CR1"), ("c", "pacs", "PACS"), ("d", "rest", "")):
        store.receive(film(name, origin=origin, calling_ae=title))
    found = films_by_peer(database, since=start - timedelta(seconds=1))
    assert [(one.title, one.origin, one.films) for one in found] == [("CR1", "dicom", 2), ("PACS", "pacs", 1)]
    assert all(start - timedelta(seconds=1) <= one.last <= now() for one in found)
    assert films_by_peer(database, since=now() + timedelta(seconds=1)) == ()


def test_refusals_are_added_up_by_title_and_reason(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    start = now()
    for number, (code, title) in enumerate([("title", ""), ("certificate", "CR1"), ("title", ""), ("deadline", "")]):
        detail = {"code": code, "times": number + 1} | ({"calling_ae": title, "certificate": "none"} if title else {})
        with database.write() as session:
            act = Act(actor="dicom", act="association.refused", detail=detail)
            append(session, act, start + timedelta(hours=number))
            append(session, Act(actor="dicom", act="film.received"), start + timedelta(hours=number))
    found = {(one.code, one.title): (one.times, one.last) for one in refusals(database, since=start)}
    assert found["title", ""] == (4, start + timedelta(hours=2))
    assert found["certificate", "CR1"] == (2, start + timedelta(hours=1))
    assert len(refusals(database, since=start + timedelta(hours=1.5))) == 2
    assert refusals(database, since=start + timedelta(hours=9)) == ()
    monkeypatch.setattr("hilum.records.peers.MOST_ROWS", 1)
    assert [one.code for one in refusals(database, since=start)] == ["deadline"]
