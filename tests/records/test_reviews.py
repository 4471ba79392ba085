"""Reviews: one opinion a reader, each change a version, none lost, and each in the audit without its comment."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update
from tests.records.test_store import answer, film

from hilum.errors import UsageError
from hilum.records.audit import entries
from hilum.records.database import Database
from hilum.records.reviews import Conflict, Noted, Reviews
from hilum.records.schema import AnswerRow
from hilum.records.store import Store
from hilum.records.values import Identity


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    yield database
    database.close()


@pytest.fixture
def film_id(database: Database) -> str:
    store = Store(database)
    film_id = store.receive(film("a")).film_id
    store.claim("w", lease_s=60, max_attempts=3)
    store.record_answer(film_id, "w", Identity(), answer())
    return film_id


def test_an_opinion_and_its_change_are_versions(database: Database, film_id: str) -> None:
    reviews = Reviews(database)
    first = reviews.put(film_id, "ada", decision="agree", finding=None, comment="as said", over=0)
    assert (first.version, first.model_sha256) == (1, "m" * 64)
    second = reviews.put(film_id, "ada", decision="override", finding="normal", comment="Mrs Canary", over=1)
    reviews.put(film_id, "bob", decision="agree", finding=None, comment="", over=0)
    assert reviews.by(film_id, "ada") == second
    assert [(r.reader, r.version) for r in reviews.of(film_id, viewer="cyd")] == [("ada", 2), ("bob", 1)]
    with database.read() as session:
        told = [(row.actor, row.act) for row in entries(session, subject=film_id)][-4:]
        assert told == [(n, "film.reviewed") for n in ("ada", "ada", "bob")] + [("cyd", "reviews.viewed")]
        assert "Canary" not in "".join(row.body for row in entries(session))


def test_what_a_page_says_it_showed_may_hold_any_number(database: Database, film_id: str) -> None:
    noted = Noted(shown={"zoom": 1.25, "window": [0, 4095], "prior": None})
    said = Reviews(database).put(film_id, "ada", decision="agree", finding=None, comment="", over=0, noted=noted)
    assert said.noted.shown == noted.shown
    with database.read() as session:
        row = entries(session, subject=film_id)[-1]
    assert '"zoom":"1.25"' in row.body, "the audit's one text of a value has no fractions"


def test_a_change_of_what_is_no_longer_there_is_refused(database: Database, film_id: str) -> None:
    reviews = Reviews(database)
    reviews.put(film_id, "ada", decision="agree", finding=None, comment="", over=0)
    for over in (0, 2):
        with pytest.raises(Conflict, match=f"Version 1 of the review is there, not {over}"):
            reviews.put(film_id, "ada", decision="agree", finding=None, comment="", over=over)
    review = reviews.by(film_id, "ada")
    assert review is not None
    assert review.version == 1


def test_where_the_model_gave_no_finding_there_is_nothing_to_agree_with(database: Database, film_id: str) -> None:
    with database.write() as session:
        session.execute(update(AnswerRow).where(AnswerRow.film_id == film_id).values(label=None, abstained=True))
    reviews = Reviews(database)
    with pytest.raises(UsageError, match=r"no finding to agree with\. Override it with your own finding\."):
        reviews.put(film_id, "ada", decision="agree", finding=None, comment="", over=0)
    assert reviews.put(film_id, "ada", decision="override", finding="normal", comment="", over=0).version == 1


@pytest.mark.parametrize(("decision", "finding"), [("agree", "normal"), ("override", None)])
def test_decision_and_finding_go_together(database: Database, film_id: str, decision: str, finding: str | None) -> None:
    with pytest.raises(UsageError, match="An override says which finding"):
        Reviews(database).put(film_id, "ada", decision=decision, finding=finding, comment="", over=0)  # type: ignore[arg-type]


def test_there_must_be_an_answer_to_judge(database: Database) -> None:
    waiting = Store(database).receive(film("b")).film_id
    with pytest.raises(UsageError, match="no answer to agree with"):
        Reviews(database).put(waiting, "ada", decision="agree", finding=None, comment="", over=0)
