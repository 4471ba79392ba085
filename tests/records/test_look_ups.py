"""The queue of look-ups: one a film, leased, never lost; and which films are priors of which."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from tests.records.test_results_out import Clock

from hilum.errors import UsageError
from hilum.records.database import Database
from hilum.records.identifiers import films_of_patient
from hilum.records.look_ups import LookUps, PriorsPolicy, Wanted
from hilum.records.priors import prior_of
from hilum.records.schema import AuditRow, FilmRow
from hilum.records.store import Store
from hilum.records.values import Identity, NewAnswer, NewFilm
from hilum.records.worklist import Wanted as Lookout
from hilum.records.worklist import Worklist


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    yield opened
    opened.close()


@pytest.fixture
def look_ups(database: Database, clock: Clock) -> LookUps:
    return LookUps(database, clock)


@pytest.fixture
def store(database: Database, clock: Clock) -> Store:
    return Store(database, clock, priors=PriorsPolicy(wanted=True))


def film(number: int, origin: str = "dicom", format: str = "dicom") -> NewFilm:
    return NewFilm(
        content_sha256=f"{number:064d}",
        file_sha256=f"{number:063d}f",
        size=1,
        format=format,
        origin=origin,
        sop_instance_uid=f"1.2.{number}",
    )


def answer(store: Store, *, analysed: bool = True) -> str:
    claim = store.claim("me", lease_s=60, max_attempts=3)
    assert claim is not None
    said = NewAnswer(
        model_sha256="5" * 64, analysed=analysed, label=None, abstained=True, risk=0.5, assessment={}, reason="x"
    )
    store.record_answer(claim.film_id, "me", Identity(), said)
    return claim.film_id


def wanted(*numbers: int) -> list[Wanted]:
    return [Wanted(study_instance_uid="1", series_instance_uid="2", sop_instance_uid=f"1.2.{n}") for n in numbers]


def test_an_answer_queues_one_look_up_in_its_own_transaction(store: Store, look_ups: LookUps) -> None:
    first = store.receive(film(1)).film_id
    answer(store)
    store.receive(film(2, format="png"))
    store.receive(film(3, origin="pacs"))
    answer(store)
    store.receive(film(4))
    answer(store, analysed=False)
    assert look_ups.counts() == {"waiting": 1}, "not for a PNG, a prior, or what was not analysed"
    claimed = look_ups.claim("me", lease_s=60)
    assert claimed is not None
    assert (claimed.film_id, claimed.attempts) == (first, 1)
    assert look_ups.claim("other", lease_s=60) is None


def test_a_lease_that_is_lost_records_nothing(store: Store, look_ups: LookUps, clock: Clock) -> None:
    store.receive(film(1))
    film_id = answer(store)
    look_ups.claim("dead", lease_s=60)
    clock.wait(61)
    again = look_ups.claim("me", lease_s=60)
    assert again is not None
    assert again.attempts == 2
    assert not look_ups.done(film_id, "dead")
    assert not look_ups.failed(film_id, "dead", code="x", reason="y", retry_after_s=None)
    assert look_ups.done(film_id, "me")
    assert look_ups.counts() == {"done": 1}


def test_a_failure_waits_its_time_and_in_the_end_is_given_up(store: Store, look_ups: LookUps, clock: Clock) -> None:
    store.receive(film(1))
    film_id = answer(store)
    look_up = look_ups.claim("me", lease_s=60)
    assert look_up is not None
    look_ups.failed(film_id, "me", code="away", reason="Away.", retry_after_s=30)
    assert (look_ups.claim("me", lease_s=60), look_ups.next_due_in()) == (None, 30)
    (again,) = look_ups.put_off()
    assert (again.film_id, again.attempts, again.reason) == (film_id, 1, "Away.")
    clock.wait(30)
    assert look_ups.age_s(look_up) == 30
    assert look_ups.claim("me", lease_s=60) is not None
    look_ups.failed(film_id, "me", code="away", reason="Away.", retry_after_s=None)
    (lost,) = look_ups.lost()
    assert (lost.film_id, lost.attempts, lost.reason, look_ups.next_due_in()) == (film_id, 2, "Away.", None)
    assert look_ups.put_off() == ()
    assert look_ups.requeue(actor="ada") == 1
    assert look_ups.claim("me", lease_s=60) is not None
    assert (look_ups.release("other"), look_ups.release(), look_ups.counts()) == (0, 1, {"waiting": 1})
    with pytest.raises(UsageError, match="No finished look-up is of a film 'none'"):
        look_ups.requeue("none")


def test_what_is_wanted_is_expected_until_it_is_linked(store: Store, look_ups: LookUps, database: Database) -> None:
    store.receive(film(1))
    film_id = answer(store)
    assert [one.sop_instance_uid for one in look_ups.want(film_id, wanted(7, 8))] == ["1.2.7", "1.2.8"]
    assert look_ups.expected("1.2.7")
    assert not look_ups.expected("1.2.9")
    prior = store.receive(film(7, origin="pacs"))
    assert prior.state == "not-analysed"
    assert [one.sop_instance_uid for one in look_ups.want(film_id, wanted(7, 8))] == ["1.2.8"]
    assert [film_id for film_id, _ in look_ups.arrived(film_id)] == [prior.film_id]
    look_ups.link(film_id, prior.film_id, study_instance_uid="1.9", patient_id="P\0", accession_number="A")
    assert (look_ups.priors_of(film_id), look_ups.expected("1.2.7")) == ((prior.film_id,), False)
    with database.read() as session:
        assert session.get_one(FilmRow, prior.film_id).study_instance_uid == "1.9"
        assert films_of_patient(session, "P") == [prior.film_id], "so that an erasure finds it"


def test_the_latest_prior_comes_first(store: Store, look_ups: LookUps, database: Database) -> None:
    store.receive(film(1))
    film_id = answer(store)
    look_ups.want(film_id, wanted(9, 7, 8))
    ids = {n: store.receive(film(n, origin="pacs")).film_id for n in (7, 8, 9)}
    for n in (7, 8, 9):
        look_ups.link(film_id, ids[n], study_instance_uid="1", patient_id="P", accession_number="")
    assert look_ups.priors_of(film_id) == (ids[9], ids[7], ids[8])
    assert prior_of(database, film_id) == ids[9], "and that is what a reader is shown beside the film"


def test_what_is_refused_is_quarantined_only_if_it_came_for_this(store: Store, look_ups: LookUps) -> None:
    film_id, other = store.receive(film(1)).film_id, store.receive(film(2)).film_id
    answer(store)
    answer(store)
    fetched = store.receive(film(7, origin="pacs")).film_id
    look_ups.want(film_id, wanted(2, 7))
    for prior in (other, fetched):
        look_ups.refuse(film_id, prior, code="other-patient", reason="Not theirs.")
    states = {one.film_id: one.state for one in store.films().films}
    assert (states[other], states[fetched], look_ups.priors_of(film_id)) == ("answered", "quarantined", ())


def test_a_prior_is_off_the_worklist_until_it_comes_by_itself(store: Store, database: Database) -> None:
    prior = store.receive(film(7, origin="pacs"))
    day = timedelta(days=1)
    assert store.worklist(limit=9, waiting_cap=day) == ()
    assert Worklist(database, waiting_cap=day).lines(Lookout(), reader="ada", limit=9).total == 0
    assert store.receive(film(7, origin="pacs"), model_sha256="6" * 64).state == "not-analysed", "fetched again"
    assert store.receive(film(7), model_sha256="6" * 64).state == "received"
    assert [one.film_id for one in store.worklist(limit=9, waiting_cap=day)] == [prior.film_id]
    with database.read() as session:
        assert "film.requeued" in list(session.scalars(select(AuditRow.act)))


def test_priors_that_are_to_be_answered_wait_like_others(database: Database, clock: Clock) -> None:
    store = Store(database, clock, priors=PriorsPolicy(wanted=True, analysed=True))
    assert store.receive(film(7, origin="pacs")).state == "received"
