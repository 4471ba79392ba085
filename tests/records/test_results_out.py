"""The queue of results: nothing is queued twice, lost or sent by two."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from hilum.errors import UsageError
from hilum.records.database import Database
from hilum.records.results_out import Outbox, queue_answers
from hilum.records.schema import AnswerRow, AuditRow, FilmRow, HeatmapRow

START = datetime(2026, 11, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    yield opened
    opened.close()


@pytest.fixture
def outbox(database: Database, clock: Clock) -> Outbox:
    return Outbox(database, clock)


def answered(database: Database, clock: Callable[[], datetime], number: int = 1, *, format: str = "dicom") -> int:
    """Record a film and its answer, and queue it; the number of deliveries made."""
    film = FilmRow(
        id=f"film{number}",
        received_at=clock(),
        origin="dicom",
        calling_ae="",
        format=format,
        content_sha256=f"{number:064d}",
        file_sha256=f"{number:063d}f",
        size=1,
        state="answered",
        attempts=1,
    )
    answer = AnswerRow(
        id=f"answer{number}",
        film_id=film.id,
        model_sha256="5" * 64,
        created_at=clock(),
        label="pneumonia",
        abstained=False,
        risk=0.5,
        assessment='{"probs":{"pneumonia":0.5}}',
    )
    with database.write() as session:
        session.add(film)
        session.flush()
        session.add(answer)
        session.flush()
        session.add(HeatmapRow(answer_id=answer.id, finding="pneumonia", rows=1, columns=1, values=bytes(4)))
        return queue_answers(session, {answer.id: film}, clock())


def test_an_answer_is_queued_for_every_destination_there_is(database: Database, outbox: Outbox, clock: Clock) -> None:
    assert answered(database, clock, 1) == 0, "nobody wants it"
    outbox.register(["pacs", "archive"])
    outbox.register(["pacs", "archive"])
    assert answered(database, clock, 2) == 2
    assert answered(database, clock, 3, format="png") == 0, "a PNG has no study that a result could join"
    outbox.register(["archive"])
    assert answered(database, clock, 4) == 1
    assert outbox.counts() == {"archive": {"waiting": 2}, "pacs": {"waiting": 1}}
    assert outbox.left_behind() == {"pacs": 1}, "nobody sends there any more"
    outbox.register(["archive", "pacs"])
    assert outbox.left_behind() == {}


def test_a_delivery_carries_all_that_its_objects_are_made_from(
    database: Database, outbox: Outbox, clock: Clock
) -> None:
    outbox.register(["pacs"])
    answered(database, clock, 7)
    delivery = outbox.claim("pacs", "me", lease_s=10)
    assert delivery is not None
    assert (delivery.film_id, delivery.attempts, delivery.label) == ("film7", 1, "pneumonia")
    assert (delivery.content_sha256, delivery.file_sha256) == (f"{7:064d}", f"{7:063d}f")
    assert (delivery.answered_at, delivery.created_at, delivery.model_sha256) == (START, START, "5" * 64)
    assert delivery.assessment == {"probs": {"pneumonia": 0.5}}
    assert [one.finding for one in delivery.heatmaps] == ["pneumonia"]


def test_only_one_sends_a_delivery_and_a_dead_senders_lease_runs_out(
    database: Database, outbox: Outbox, clock: Clock
) -> None:
    outbox.register(["pacs"])
    answered(database, clock)
    first = outbox.claim("pacs", "one", lease_s=10)
    assert first is not None
    assert outbox.claim("pacs", "two", lease_s=10) is None
    assert outbox.claim("elsewhere", "two", lease_s=10) is None
    clock.wait(11)
    second = outbox.claim("pacs", "two", lease_s=10)
    assert second is not None
    assert (second.id, second.attempts) == (first.id, 2)
    assert not outbox.sent(first.id, "one"), "its lease was lost"
    assert not outbox.failed(first.id, "one", code="away", reason="Away.", retry_after_s=1)
    assert outbox.sent(second.id, "two")
    assert outbox.counts() == {"pacs": {"sent": 1}}
    clock.wait(100)
    assert outbox.claim("pacs", "two", lease_s=10) is None, "sent is sent"


def test_release_gives_back_what_one_or_all_were_sending(database: Database, outbox: Outbox, clock: Clock) -> None:
    outbox.register(["pacs"])
    answered(database, clock, 1)
    answered(database, clock, 2)
    outbox.claim("pacs", "one", lease_s=1000)
    outbox.claim("pacs", "two", lease_s=1000)
    assert outbox.release("one") == 1
    assert outbox.counts() == {"pacs": {"sending": 1, "waiting": 1}}
    assert outbox.release() == 1
    assert outbox.claim("pacs", "three", lease_s=10) is not None


def test_a_failure_waits_and_a_dead_letter_stays_until_it_is_requeued(
    database: Database, outbox: Outbox, clock: Clock
) -> None:
    outbox.register(["pacs"])
    answered(database, clock)
    assert outbox.next_due_in("pacs") == 0
    delivery = outbox.claim("pacs", "me", lease_s=10)
    assert delivery is not None
    assert outbox.next_due_in("pacs") is None
    outbox.failed(delivery.id, "me", code="away", reason="Away.", retry_after_s=30)
    assert (outbox.claim("pacs", "me", lease_s=10), outbox.next_due_in("pacs")) == (None, 30)
    assert (outbox.requeue(), outbox.requeue()) == (1, 0), "who has mended the PACS needn't wait"
    hurried = outbox.claim("pacs", "me", lease_s=10)
    assert hurried is not None
    outbox.failed(hurried.id, "me", code="away", reason="Away.", retry_after_s=30)
    clock.wait(30)
    again = outbox.claim("pacs", "me", lease_s=10)
    assert again is not None
    assert outbox.age_s(again) == 30
    outbox.failed(again.id, "me", code="sop-class", reason="Not taken.", retry_after_s=None)
    (letter,) = outbox.dead()
    assert (letter.id, letter.destination, letter.film_id, letter.attempts) == (again.id, "pacs", "film1", 2)
    assert (letter.reason_code, letter.reason, letter.given_up_at) == ("sop-class", "Not taken.", clock())
    clock.wait(1000)
    assert outbox.claim("pacs", "me", lease_s=10) is None
    with pytest.raises(UsageError, match="No dead letter has the id 'other'"):
        outbox.requeue("other")
    assert outbox.requeue(letter.id, actor="admin") == 1
    assert outbox.dead() == ()
    fresh = outbox.claim("pacs", "me", lease_s=10)
    assert fresh is not None
    assert (fresh.attempts, outbox.age_s(fresh)) == (1, 0)
    assert outbox.requeue() == 0
    outbox.sent(fresh.id, "me")
    with database.read() as session:
        acts = [(row.act, row.actor, row.subject) for row in session.scalars(select(AuditRow).order_by(AuditRow.seq))]
    assert acts == [
        ("result.requeued", "service", "film1"),
        ("result.given-up", "service", "film1"),
        ("result.requeued", "admin", "film1"),
        ("result.sent", "service", "film1"),
    ]


def test_an_erased_film_takes_its_deliveries_along(database: Database, outbox: Outbox, clock: Clock) -> None:
    outbox.register(["pacs"])
    answered(database, clock)
    with database.write() as session:
        session.delete(session.scalars(select(FilmRow)).one())
    assert outbox.counts() == {}
