"""A film's story: found by what stands in a report, in the order of the audit, also of an erased film; and seen."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.records.test_store import MODEL, Clock, answered, film

from hilum.records.audit import Act, append, entries
from hilum.records.database import Database
from hilum.records.erasure import Eraser
from hilum.records.film_story import in_use_instead, stories
from hilum.records.results_out import Outbox
from hilum.records.schema import AnswerRow, DeliveryRow, ModelRow
from hilum.records.store import Store, now
from hilum.records.values import Identity

UID = "1.2.840.99.7"
WHO = Identity(sop_instance_uid=UID, study_instance_uid="1.2.840.99", patient_id="4711", accession_number="A17")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    yield database
    database.close()


def test_a_film_is_found_by_its_id_its_uid_and_its_accession_number(database: Database) -> None:
    store = Store(database)
    first = answered(store, "a", identity=WHO)
    second = answered(store, "b", identity=Identity(accession_number="A17"))
    assert [one.film_id for one in stories(database, "A17", viewer="console")] == [first, second]
    assert [one.film_id for one in stories(database, UID, viewer="console")] == [first]
    assert [one.film_id for one in stories(database, second, viewer="console")] == [second]
    for nothing in ("", "A1", "4711", "f" * 32, "1.2.840.99"):
        assert stories(database, nothing, viewer="console") == ()


def test_the_story_tells_of_every_look_and_is_one_itself(database: Database) -> None:
    store = Store(database)
    film_id = answered(store, "a", identity=WHO)
    other = answered(store, "b")
    store.film(film_id, viewer="ada")
    store.films(viewer="bob")
    with database.write() as session:
        detail = {"films": [other], "kinds": ["film"]}
        append(session, Act(actor="eve", act="dicom.found", detail=detail), now())
    (told,) = stories(database, film_id, viewer="console")
    assert [(one.who, one.what, one.look) for one in told.happenings] == [
        ("service", "film.received", False),
        ("service", "film.answered", False),
        ("ada", "film.viewed", True),
        ("bob", "films.listed", True),
    ]
    assert [one.row for one in told.happenings] == sorted(one.row for one in told.happenings)
    assert "films" not in told.happenings[-1].detail, "the other films of a list are not told"
    with database.read() as session:
        last = entries(session)[-1]
    assert (last.actor, last.act, last.subject) == ("console", "film.viewed", film_id)
    (again,) = stories(database, film_id, viewer="console")
    assert again.happenings[-1].detail == {"model": MODEL, "shown": "history"}


def test_the_story_tells_model_gate_and_what_became_of_results(database: Database) -> None:
    store = Store(database)
    answered(store, "a", identity=WHO)
    with database.write() as session:
        answer = session.query(AnswerRow).one()
        answer.assessment = '{"gate":{"analyse":true,"checks":[{"code":"view","outcome":"pass","sentence":"PA."}]}}'
        session.add(
            ModelRow(sha256=MODEL, name="chest", version="2.1", location="", registered_at=now(), registered_by="ada")
        )
        same = {"answer_id": answer.id, "state": "waiting", "created_at": now(), "due_at": now()}
        session.add(DeliveryRow(id="1", destination="pacs", **same))
        session.add(DeliveryRow(id="2", destination="web", **same))
    outbox = Outbox(database, now)
    assert outbox.claim("pacs", "w", lease_s=60) is not None
    assert outbox.sent("1", "w")
    assert outbox.claim("web", "w", lease_s=60) is not None
    assert outbox.failed("2", "w", code="away", reason="Nobody listens.", retry_after_s=None)
    (told,) = stories(database, "A17", viewer="console")
    assert told.film is not None
    (one,) = told.film.answers
    assert (one.model, one.model_sha256, one.label, one.gate["analyse"]) == ("chest 2.1", MODEL, "pneumonia", True)
    found = [(sent.destination, sent.state, sent.attempts, sent.reason) for sent in told.film.results]
    assert found == [("pacs", "sent", 1, ""), ("web", "dead", 1, "Nobody listens.")]
    assert [h.what for h in told.happenings][-2:] == ["result.sent", "result.given-up"]


def test_an_erased_film_is_told_of_by_the_audit_alone(database: Database) -> None:
    store = Store(database)
    film_id = answered(store, "a", identity=WHO)
    Eraser(database, now).erase([film_id], actor="console", by="patient")
    assert stories(database, "A17", viewer="console") == ()
    (told,) = stories(database, film_id, viewer="console")
    assert told.film is None
    assert [one.what for one in told.happenings] == ["film.received", "film.answered", "film.erased"]


def test_of_a_film_that_was_set_aside_it_tells_the_reason(database: Database) -> None:
    clock = Clock()
    store = Store(database, clock)
    used = answered(store, "a", identity=WHO)
    clock.pass_(1)
    aside = store.receive(film("b", origin="dicom", calling_ae="CR1", sop_instance_uid=UID)).film_id
    (_, told) = stories(database, UID, viewer="console")
    assert told.film is not None
    assert (told.film_id, told.film.state, told.film.calling_ae) == (aside, "quarantined", "CR1")
    assert "must compare" in told.film.reason
    assert in_use_instead(database, [aside, used]) == {aside: used}
    assert in_use_instead(database, []) == {}
