"""Films are recorded once, leased, answered once, and set aside when two claim one identity."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hilum.errors import ServiceError, UsageError
from hilum.records.audit import entries
from hilum.records.database import Database
from hilum.records.queue import Lease
from hilum.records.store import Store
from hilum.records.values import Answered, HeatmapRecord, Identity, NewAnswer, NewFilm, Recorded

MODEL = "m" * 64
HOUR = timedelta(hours=1)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    yield Store(database, clock)
    database.close()


def film(name: str, **changes: object) -> NewFilm:
    sha256 = (name * 64)[:64]
    values = {"content_sha256": sha256, "file_sha256": sha256, "size": 10, "format": "dicom", "origin": "rest"}
    return NewFilm(**{**values, **changes})  # type: ignore[arg-type]


def answer(risk: float = 0.9, model: str = MODEL) -> NewAnswer:
    heatmap = HeatmapRecord(finding="pneumonia", rows=1, columns=2, values=b"\0" * 8)
    return NewAnswer(
        model_sha256=model,
        analysed=True,
        label="pneumonia",
        abstained=False,
        risk=risk,
        assessment={"label": "pneumonia"},
        heatmaps=(heatmap,),
    )


def answered(store: Store, name: str, risk: float = 0.9, identity: Identity | None = None) -> str:
    film_id = store.receive(film(name)).film_id
    claim = store.claim("w", lease_s=60, max_attempts=3)
    assert claim is not None
    assert claim.film_id == film_id
    assert store.record_answer(film_id, "w", identity or Identity(), answer(risk)) == "answered"
    return film_id


def test_the_same_content_again_gives_the_same_id(store: Store) -> None:
    first, second = store.receive(film("a")), store.receive(film("a", origin="dicom"))
    assert (first.new, second.new) == (True, False)
    assert first.film_id == second.film_id
    assert store.counts() == {"received": 1}


def test_ids_are_opaque(store: Store) -> None:
    ids = [store.receive(film(name)).film_id for name in "abc"]
    assert all(len(film_id) == 32 and int(film_id, 16) for film_id in ids)
    assert sorted(ids) != ids or len({i[:4] for i in ids}) == 3


def test_an_answer_is_kept_whole(store: Store) -> None:
    film_id = answered(store, "a", identity=Identity(sop_instance_uid="1.2", accession_number="A7"))
    record = store.film(film_id)
    assert record is not None
    assert record.answer is not None
    assert (record.state, record.answer.label, record.answer.findings) == ("answered", "pneumonia", ("pneumonia",))
    heatmap = store.heatmap(film_id, "pneumonia")
    assert heatmap is not None
    assert (heatmap.rows, heatmap.columns, heatmap.values) == (1, 2, b"\0" * 8)
    assert store.heatmap(film_id, "normal") is None
    assert store.accession_numbers([film_id]) == {film_id: "A7"}


def test_a_leased_film_is_not_claimed_twice_until_the_lease_runs_out(store: Store, clock: Clock) -> None:
    film_id = store.receive(film("a")).film_id
    assert store.claim("one", lease_s=60, max_attempts=3) is not None
    assert store.claim("two", lease_s=60, max_attempts=3) is None
    clock.pass_(61)
    again = store.claim("two", lease_s=60, max_attempts=3)
    assert again is not None
    assert again.attempts == 2
    assert store.record_answer(film_id, "one", Identity(), answer()) is None, "the lease was lost"
    assert store.record_answer(film_id, "two", Identity(), answer()) == "answered"


def test_a_new_film_may_be_leased_as_it_is_recorded_and_is_then_as_one_that_was_claimed(
    store: Store, clock: Clock
) -> None:
    mine = Lease(owner="w", seconds=60)
    receipt = store.receive(film("a"), lease=mine)
    assert (receipt.new, receipt.state, receipt.leased) == (True, "received", True)
    record = store.film(receipt.film_id)
    assert record is not None
    assert (record.state, record.attempts) == ("preparing", 1)
    assert store.claim("v", lease_s=60, max_attempts=3) is None
    clock.now += timedelta(seconds=61)
    claim = store.claim("v", lease_s=60, max_attempts=3)
    assert claim is not None
    assert (claim.film_id, claim.attempts) == (receipt.film_id, 2)
    assert not store.receive(film("a"), lease=mine).leased, "the same film again is somebody's already"
    store.receive(film("b", sop_instance_uid="1.2"), lease=mine)
    clash = store.receive(film("c", sop_instance_uid="1.2"), lease=mine)
    assert (clash.state, clash.leased) == ("quarantined", False)


def test_a_model_answers_a_film_once_and_a_new_model_once_more(store: Store, clock: Clock) -> None:
    film_id = answered(store, "a")
    assert store.receive(film("a"), model_sha256=MODEL).state == "answered"
    assert store.receive(film("a"), model_sha256="n" * 64).state == "received"
    clock.pass_(1)
    assert store.claim("w", lease_s=60, max_attempts=3) is not None
    assert store.record_answer(film_id, "w", Identity(), answer(0.1, "n" * 64)) == "answered"
    record = store.film(film_id)
    assert record is not None
    assert record.answer is not None
    assert record.answer.model_sha256 == "n" * 64


def test_other_content_under_an_announced_uid_is_quarantined(store: Store) -> None:
    assert store.receive(film("a", sop_instance_uid="1.2")).state == "received"
    second = store.receive(film("b", sop_instance_uid="1.2"))
    assert second.state == "quarantined"
    record = store.film(second.film_id)
    assert record is not None
    assert "same SOP instance UID" in record.reason


def test_other_content_under_a_uid_found_on_reading_is_quarantined_without_an_answer(store: Store) -> None:
    answered(store, "a", identity=Identity(sop_instance_uid="1.2"))
    film_id = store.receive(film("b")).film_id
    store.claim("w", lease_s=60, max_attempts=3)
    assert store.record_answer(film_id, "w", Identity(sop_instance_uid="1.2"), answer()) == "quarantined"
    record = store.film(film_id)
    assert record is not None
    assert record.answer is None


def test_a_sender_that_announced_another_uid_is_found_out(store: Store) -> None:
    film_id = store.receive(film("a", sop_instance_uid="1.2")).film_id
    store.claim("w", lease_s=60, max_attempts=3)
    assert store.record_answer(film_id, "w", Identity(sop_instance_uid="9.9"), answer()) == "quarantined"
    record = store.film(film_id)
    assert record is not None
    assert "not the one that its sender announced" in record.reason


def test_a_failure_is_tried_again_later_and_then_given_up(store: Store, clock: Clock) -> None:
    film_id = store.receive(film("a")).film_id
    store.claim("w", lease_s=60, max_attempts=3)
    assert store.record_failure(film_id, "w", code="timeout", reason="Slow.", retry_after_s=5) == "received"
    assert store.claim("w", lease_s=60, max_attempts=3) is None
    clock.pass_(6)
    assert store.claim("w", lease_s=60, max_attempts=3) is not None
    assert store.record_failure(film_id, "w", code="timeout", reason="Slow.") == "failed"
    record = store.film(film_id)
    assert record is not None
    assert (record.state, record.reason_code, record.reason, record.attempts) == ("failed", "timeout", "Slow.", 2)


def test_a_film_that_takes_its_workers_down_fails_in_the_end(store: Store, clock: Clock) -> None:
    film_id = store.receive(film("a")).film_id
    for _ in range(10):
        assert store.claim("w", lease_s=1, max_attempts=1) is not None
        clock.pass_(2)
    assert store.claim("w", lease_s=1, max_attempts=1) is None
    record = store.film(film_id)
    assert record is not None
    assert "broken off 10 times" in record.reason


def test_released_films_are_claimed_at_once(store: Store) -> None:
    store.receive(film("a"))
    store.claim("one", lease_s=600, max_attempts=3)
    assert store.release("two") == 0
    assert store.release("one") == 1
    claim = store.claim("two", lease_s=600, max_attempts=3)
    assert claim is not None
    assert claim.attempts == 1, "a drain is no attempt"
    assert store.release() == 1
    claim = store.claim("two", lease_s=600, max_attempts=3)
    assert claim is not None
    assert claim.attempts == 2, "a crash is one"


def test_pages_follow_each_other_without_gap_or_repeat(store: Store, clock: Clock) -> None:
    ids = []
    for i, name in enumerate("abcdefg"):
        clock.pass_(i % 2)  # some share an instant
        ids.append(store.receive(film(name)).film_id)
    seen: list[str] = []
    cursor = None
    while True:
        page = store.films(limit=2, cursor=cursor)
        seen += [f.film_id for f in page.films]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(seen) == sorted(ids)
    assert seen[0] in ids[-2:]
    assert len(store.films(states=("answered",)).films) == 0


@pytest.mark.parametrize("cursor", ["x", "é", "MjAyNg", "!!!!"])
def test_a_foreign_cursor_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(UsageError, match="not one that this service gave"):
        store.films(cursor=cursor)


def test_the_worklist_is_by_risk_and_nobody_waits_beyond_the_cap(store: Store, clock: Clock) -> None:
    old_low = answered(store, "a", 0.1)
    clock.pass_(3601)
    high, low = answered(store, "b", 0.9), answered(store, "c", 0.2)
    waiting = store.receive(film("d")).film_id
    order = [f.film_id for f in store.worklist(limit=10, waiting_cap=HOUR)]
    assert order == [old_low, high, waiting, low]


def test_two_films_never_hold_one_uid_even_behind_the_store(tmp_path: Path) -> None:
    """The database itself refuses, whatever the code above it does."""
    from sqlalchemy import text
    from sqlalchemy.exc import IntegrityError

    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    store = Store(database)
    for name in "ab":
        store.receive(film(name))
    with pytest.raises(IntegrityError), database.write() as session:
        session.execute(text("UPDATE films SET sop_instance_uid = '1.2'"))
    database.close()


def test_an_unknown_film_has_no_record_and_can_not_be_answered(store: Store) -> None:
    assert store.film("0" * 32) is None
    with pytest.raises(ServiceError, match="not in the records"):
        store.record_answer("0" * 32, "w", Identity(), answer())


def test_senders_take_turns_in_the_queue_and_urgent_films_go_first(store: Store, clock: Clock) -> None:
    ids = {}
    for name, sender, urgent in (("a", "flood", False), ("b", "flood", False), ("c", "flood", False)):
        ids[store.receive(film(name, sender=sender, urgent=urgent)).film_id] = name
        clock.pass_(1)
    ids[store.receive(film("d", sender="other")).film_id] = "d"
    ids[store.receive(film("e", sender="er", urgent=True)).film_id] = "e"
    claims = store.claims("w", lease_s=60, max_attempts=3, most=4)
    assert [ids[claim.film_id] for claim in claims] == ["e", "a", "d", "b"]
    assert [(claim.sender, claim.urgent) for claim in claims[:2]] == [("er", True), ("flood", False)]
    assert [ids[claim.film_id] for claim in store.claims("w", lease_s=60, max_attempts=3, most=4)] == ["c"]


@pytest.mark.parametrize(("waited_s", "second"), [(119, "er"), (121, "ward")])
def test_a_routine_film_past_the_ageing_cap_takes_turns_with_urgent_ones(
    store: Store, clock: Clock, waited_s: float, second: str
) -> None:
    store = Store(store._database, clock, ageing_cap_s=120)
    store.receive(film("a", sender="ward"))
    clock.pass_(waited_s)
    for name in ("b", "c"):
        store.receive(film(name, sender="er", urgent=True))
    claims = [store.claim("w", lease_s=60, max_attempts=3) for _ in range(3)]
    assert [claim.sender for claim in claims if claim][:2] == ["er", second]


def test_the_same_film_again_as_urgent_becomes_urgent(store: Store) -> None:
    store.receive(film("a"))
    store.receive(film("a", urgent=True))
    (claim,) = store.claims("w", lease_s=60, max_attempts=3, most=2)
    assert claim.urgent


def test_answers_are_recorded_together_or_not_at_all(store: Store) -> None:
    ids = [store.receive(film(name)).film_id for name in "ab"]
    store.claims("w", lease_s=60, max_attempts=3, most=2)
    both = [Answered(film_id=film_id, identity=Identity(), answer=answer()) for film_id in ids]
    with pytest.raises(ServiceError, match="is not in the records"):
        store.record_answers("w", [both[0], Answered(film_id="0" * 32, identity=Identity(), answer=answer())])
    assert store.counts() == {"preparing": 2}
    assert [one.state for one in store.record_answers("w", both)] == ["answered", "answered"]
    assert [one.state for one in store.record_answers("w", both)] == [None, None]


def test_who_waits_for_an_answer_is_in_the_audit_with_it_and_gets_it_from_memory(
    store: Store,
) -> None:
    film_id = store.receive(film("a")).film_id
    store.claims("w", lease_s=60, max_attempts=3, most=1)
    one = Answered(film_id=film_id, identity=Identity(sop_instance_uid="1.2.3"), answer=answer())
    (recorded,) = store.record_answers("w", [one], {film_id: ["ada", "grace"]})
    assert recorded.film == store.film(film_id)
    with store._database.read() as session:
        acts = [(row.act, row.actor) for row in entries(session, subject=film_id)]
    assert acts[-3:] == [("film.answered", "service"), ("film.viewed", "ada"), ("film.viewed", "grace")]
    assert store.record_answers("w", [one], {film_id: ["ada"]}) == [Recorded(state=None)]


def test_of_films_that_claim_one_uid_in_one_transaction_only_the_first_is_answered(store: Store) -> None:
    ids = [store.receive(film(name)).film_id for name in "ab"]
    store.claims("w", lease_s=60, max_attempts=3, most=2)
    same = Identity(sop_instance_uid="1.2.3")
    both = [Answered(film_id=film_id, identity=same, answer=answer()) for film_id in ids]
    recorded = store.record_answers("w", both, {film_id: ["ada"] for film_id in ids})
    assert [one.state for one in recorded] == ["answered", "quarantined"]
    assert recorded[1].film is None
