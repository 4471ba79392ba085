"""Reading together: own opinion first, undoing within a minute, two readers and a third, and claims on films."""

import base64
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.records.test_store import Clock, answer, film

from hilum.errors import ServiceError, UsageError
from hilum.records.audit import entries
from hilum.records.cursors import write_cursor
from hilum.records.database import Database
from hilum.records.results_out import Outbox
from hilum.records.reviews import Conflict, Noted, Reviews
from hilum.records.store import Store
from hilum.records.values import Identity
from hilum.records.worklist import Wanted, Worklist

START = Clock().now
HOUR = timedelta(hours=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    yield database
    database.close()


def add(database: Database, clock: Clock, name: str, risk: float = 0.9, accession: str = "") -> str:
    store = Store(database, clock)
    film_id = store.receive(film(name)).film_id
    store.claim("w", lease_s=60, max_attempts=3)
    store.record_answer(film_id, "w", Identity(accession_number=accession), answer(risk=risk))
    return film_id


def put(reviews: Reviews, film_id: str, reader: str, decision: str, finding: str | None = None, over: int = 0) -> None:
    given = {"decision": decision, "finding": finding, "comment": "", "over": over}
    reviews.put(film_id, reader, **given)  # type: ignore[arg-type]


def status(database: Database, film_id: str) -> str:
    return Worklist(database, waiting_cap=HOUR).entry(film_id)[0]


def test_who_reads_first_says_something_before_deciding(database: Database, clock: Clock) -> None:
    film_id, reviews = add(database, clock, "a"), Reviews(database, clock)
    with pytest.raises(UsageError, match="Record your own opinion first"):
        reviews.put(film_id, "ada", decision="agree", finding=None, comment="", over=0, read_first=True)
    assert reviews.opined([film_id], "ada") == frozenset()
    put(reviews, film_id, "ada", "opinion", "normal")
    assert reviews.opined([film_id], "ada") == {film_id}
    assert status(database, film_id) == "unread"
    with pytest.raises(UsageError, match="recorded already"):
        put(reviews, film_id, "ada", "opinion", "pneumonia", over=1)
    noted = Noted(reason_code="missed", regions=((1, 2, 3, 4),), seconds=3.5, shown={"heat_map": "pneumonia"})
    given = {"decision": "override", "finding": "normal", "comment": "", "over": 1, "noted": noted}
    reviews.put(film_id, "ada", **given, read_first=True)  # type: ignore[arg-type]
    kept = reviews.by(film_id, "ada")
    assert kept is not None
    assert kept.noted == noted
    assert status(database, film_id) == "read"


def test_a_review_is_undone_within_a_minute_as_an_event_of_its_own(database: Database, clock: Clock) -> None:
    film_id, reviews = add(database, clock, "a"), Reviews(database, clock)
    put(reviews, film_id, "ada", "agree")
    clock.pass_(59)
    put(reviews, film_id, "ada", "withdraw", over=1)
    assert (status(database, film_id), reviews.counting(film_id)) == ("unread", ())
    assert reviews.by(film_id, "ada").version == 2  # type: ignore[union-attr]
    put(reviews, film_id, "ada", "override", "normal", over=2)
    clock.pass_(61)
    with pytest.raises(UsageError, match="Only a review of the last 60 s can be undone"):
        put(reviews, film_id, "ada", "withdraw", over=3)
    with pytest.raises(UsageError, match="can be undone"):
        put(reviews, film_id, "bob", "withdraw")


def test_what_was_undone_is_never_sent(database: Database, clock: Clock) -> None:
    outbox = Outbox(database, clock)
    outbox.register(["pacs"], reviews=True)
    film_id, reviews = add(database, clock, "a"), Reviews(database, clock)
    put(reviews, film_id, "ada", "agree")
    assert outbox.counts() == {"pacs": {"waiting": 2}}
    put(reviews, film_id, "ada", "withdraw", over=1)
    assert outbox.counts() == {"pacs": {"waiting": 1}}


def test_two_readers_who_differ_are_settled_by_a_third(database: Database, clock: Clock) -> None:
    film_id, reviews = add(database, clock, "a"), Reviews(database, clock, readings=2)
    with pytest.raises(UsageError, match="don't disagree"):
        put(reviews, film_id, "cyd", "adjudicate", "normal")
    put(reviews, film_id, "ada", "agree")
    assert status(database, film_id) == "once"
    put(reviews, film_id, "bob", "override", "normal")
    assert status(database, film_id) == "disagreement"
    with pytest.raises(UsageError, match="another one must settle it"):
        put(reviews, film_id, "bob", "adjudicate", "normal", over=1)
    put(reviews, film_id, "cyd", "adjudicate", "normal")
    assert status(database, film_id) == "settled"


def test_readers_who_say_the_same_agree_whatever_the_word(database: Database, clock: Clock) -> None:
    film_id, reviews = add(database, clock, "a"), Reviews(database, clock, readings=2)
    put(reviews, film_id, "ada", "agree")
    put(reviews, film_id, "bob", "override", "pneumonia")  # the model's own label
    assert status(database, film_id) == "read"


def test_a_reason_is_one_of_the_list(database: Database, clock: Clock) -> None:
    film_id = add(database, clock, "a")
    with pytest.raises(UsageError, match="'because' is no reason"):
        Reviews(database).put(
            film_id, "ada", decision="agree", finding=None, comment="", over=0, noted=Noted(reason_code="because")
        )


def test_a_held_film_is_not_reviewed_by_another_until_the_claim_runs_out(database: Database, clock: Clock) -> None:
    film_id, reviews = add(database, clock, "a"), Reviews(database, clock)
    worklist = Worklist(database, waiting_cap=HOUR, clock=clock)
    assert worklist.claim(film_id, "ada") == "ada"
    assert worklist.claim(film_id, "bob") == "ada"
    with pytest.raises(Conflict, match="Another reader holds this film"):
        put(reviews, film_id, "bob", "agree")
    worklist.release(film_id, "bob")
    assert worklist.entry(film_id) == ("unread", "ada")
    clock.pass_(301)
    assert worklist.claim(film_id, "bob") == "bob"
    put(reviews, film_id, "bob", "agree")
    assert worklist.entry(film_id) == ("read", "")
    assert worklist.claim("0" * 32, "bob") == ""


def test_the_worklist_filters_searches_and_leads_on(database: Database, clock: Clock) -> None:
    ids = {risk: add(database, clock, f"r{risk}", risk, f"SYN{risk}") for risk in (0.1, 0.5, 0.9)}
    reviews, worklist = Reviews(database, clock), Worklist(database, waiting_cap=HOUR, clock=clock)

    def found(**wanted: object) -> list[str]:
        lines = worklist.lines(Wanted(**wanted), reader="ada")  # type: ignore[arg-type]
        assert lines.total == len(lines.entries)
        return [entry.film.film_id for entry in lines.entries]

    assert found() == [ids[0.9], ids[0.5], ids[0.1]]
    assert found(doubt="unsure") == [ids[0.5]]
    assert found(accession="SYN0.1") == [ids[0.1]]
    assert found(accession="SYN") == []  # it lies encrypted: only the whole number is found
    assert found(finding="covid-19") == []
    assert len(found(finding="pneumonia")) == 3
    assert found(doubt="abstained") == []
    assert worklist.following(None, reader="ada") == ids[0.9]
    assert worklist.following(ids[0.9], reader="ada") == ids[0.5]
    assert worklist.following(ids[0.1], reader="ada") == ids[0.9]
    worklist.claim(ids[0.5], "bob")
    assert worklist.following(ids[0.9], reader="ada") == ids[0.1]
    put(reviews, ids[0.9], "ada", "agree")
    assert worklist.following(ids[0.9], reader="ada") == ids[0.1]  # passed over films don't come back at once
    assert found() == [ids[0.5], ids[0.1], ids[0.9]]  # what is read goes to the end
    assert found(mine=True) == [ids[0.9]]
    assert found(status="read") == [ids[0.9]]
    assert found(status="open") == [ids[0.5], ids[0.1]]
    assert found(status="answered", mine=True) == [ids[0.9]]
    clock.pass_(3601)
    late = add(database, clock, "late", 0.99)
    assert found()[:3] == [ids[0.5], ids[0.1], late]  # nobody waits behind fresher films beyond the cap
    page = worklist.lines(Wanted(), reader="ada", offset=1, limit=2)
    assert (page.total, [entry.film.film_id for entry in page.entries]) == (4, [ids[0.1], late])


def walked(worklist: Worklist, reader: str = "ada", limit: int = 2, **wanted: object) -> list[str]:
    """All of the worklist, page by page."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = worklist.page(Wanted(**wanted), viewer=reader, cursor=cursor, limit=limit)  # type: ignore[arg-type]
        found += [entry.film.film_id for entry in page.entries]
        if (cursor := page.next_cursor) is None:
            return found


def test_pages_of_the_worklist_are_its_lines_in_its_order(database: Database, clock: Clock) -> None:
    reviews, worklist = Reviews(database, clock), Worklist(database, waiting_cap=HOUR, clock=clock)
    early = [add(database, clock, f"early{risk}", risk) for risk in (0.2, 0.7, 0.7)]
    clock.pass_(3601)
    late = [add(database, clock, f"late{risk}", risk) for risk in (0.9, 0.9, 0.1, 0.5)]
    late.append(Store(database, clock).receive(film("waiting")).film_id)  # no risk yet: in the middle
    put(reviews, late[0], "ada", "agree")
    for wanted in ({}, {"status": "open"}, {"finding": "pneumonia"}, {"mine": True}):
        lines = worklist.lines(Wanted(**wanted), reader="ada")  # type: ignore[arg-type]
        for limit in (1, 2, 3, 8, 9):
            assert walked(worklist, limit=limit, **wanted) == [entry.film.film_id for entry in lines.entries]
    assert {walked(worklist)[0], *early} == set(early), "who waited beyond the cap goes first"
    with pytest.raises(UsageError, match="not one that this service gave"):
        worklist.page(Wanted(), viewer="ada", cursor=write_cursor(START, "2..x"))
    with pytest.raises(UsageError, match="was erased"):
        worklist.page(Wanted(), viewer="ada", cursor=write_cursor(START, f"0..{'0' * 32}"))


def test_a_page_goes_on_where_the_one_before_ended_whatever_became_of_its_last_film(
    database: Database, clock: Clock
) -> None:
    reviews, worklist = Reviews(database, clock), Worklist(database, waiting_cap=HOUR, clock=clock)
    ids = {risk: add(database, clock, f"r{risk}", risk) for risk in (0.9, 0.7, 0.5, 0.3)}
    first = worklist.page(Wanted(), viewer="ada", limit=2)
    assert [entry.film.film_id for entry in first.entries] == [ids[0.9], ids[0.7]]
    put(reviews, ids[0.7], "ada", "agree")  # goes to the end
    late = add(database, clock, "late", 0.6)
    clock.pass_(3601)  # all that is there is beyond the cap by now, as it wasn't on the first page
    rest = worklist.page(Wanted(), viewer="ada", cursor=first.next_cursor, limit=9)
    assert [entry.film.film_id for entry in rest.entries] == [late, ids[0.5], ids[0.3], ids[0.7]]
    assert rest.next_cursor is None


def test_a_cursor_of_the_worklist_tells_no_risk(database: Database, clock: Clock) -> None:
    """Readers who go first have it, too."""
    for risk in (0.125, 0.625):
        add(database, clock, f"r{risk}", risk)
    cursor = Worklist(database, waiting_cap=HOUR, clock=clock).page(Wanted(), viewer="ada", limit=1).next_cursor
    assert cursor is not None
    told = base64.urlsafe_b64decode(cursor + "==").decode()
    assert re.fullmatch(rf"{re.escape(START.isoformat())}\|0\.[0-9a-f]{{32}}\.[0-9a-f]{{32}}", told), told


def test_a_page_of_the_worklist_is_written_down_as_seen_or_not_shown(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    worklist, film_id = Worklist(database, waiting_cap=HOUR, clock=clock), add(database, clock, "a")
    worklist.page(Wanted(), viewer="ada")
    with database.read() as session:
        (row,) = [row for row in entries(session) if row.act == "worklist.viewed"]
    assert (row.actor, film_id in row.body) == ("ada", True)

    def full(*_: object) -> None:
        raise ServiceError("The disk is full. Make room.")

    monkeypatch.setattr("hilum.records.worklist.append", full)
    with pytest.raises(ServiceError, match="full"):
        worklist.page(Wanted(), viewer="ada")
