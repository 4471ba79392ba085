"""What DICOMweb finds: added once, found by UID and date, gone with its film."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import delete
from tests.records.test_store import Clock, answered, film

from hilum.records.database import Database
from hilum.records.dicom_index import DicomIndex, DicomObject, Narrowing
from hilum.records.results_out import answer_as_sent
from hilum.records.schema import FilmRow
from hilum.records.store import Store
from hilum.records.values import Identity

NAMED = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Synthetic^Żółć"}]}}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'index.db'}")
    yield opened
    opened.close()


@pytest.fixture
def index(database: Database) -> DicomIndex:
    return DicomIndex(database)


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database, Clock())


def one(film_id: str, number: int, study: int, date: str = "20260101") -> DicomObject:
    return DicomObject(
        sop_instance_uid=f"1.2.{number}",
        study_instance_uid=f"1.3.{study}",
        series_instance_uid=f"1.4.{study}",
        sop_class_uid="1.5",
        kind="film",
        film_id=film_id,
        modality="DX",
        study_date=date,
        header=NAMED,
    )


def test_objects_are_added_once_and_results_take_their_film_s_header(index: DicomIndex, store: Store) -> None:
    first, second = (store.receive(film(name)).film_id for name in "ab")
    own = one(first, 1, 1)
    report = replace(own, kind="report", sop_instance_uid="1.2.9", answer_id="x", modality="SR")
    for _ in range(2):
        index.put([own, report], follower="me", place=7)
    index.put([one(second, 1, 2)])
    assert index.objects(["1.3.1", "1.3.2"]) == {"1.3.1": [own, report], "1.3.2": []}, "the first one has the UID"
    assert (index.place("me"), index.place("other")) == (7, 0)
    index.put([], follower="me", place=5)
    assert index.place("me") == 7, "nobody follows backwards"


def test_studies_are_found_newest_first_and_narrowed(index: DicomIndex, store: Store) -> None:
    ids = [store.receive(film(name)).film_id for name in "abcd"]
    dates = ("20260103", "20260101", "", "20260102")
    index.put([one(film_id, i, i, date) for i, (film_id, date) in enumerate(zip(ids, dates, strict=True))])

    def found(offset: int = 0, limit: int = 10, **asked: object) -> list[str]:
        return index.study_uids(Narrowing(**asked), offset=offset, limit=limit)  # type: ignore[arg-type]

    assert found() == ["1.3.0", "1.3.3", "1.3.1", "1.3.2"]
    assert found(offset=1, limit=2) == ["1.3.3", "1.3.1"]
    assert found(dates=("20260102", "")) == ["1.3.0", "1.3.3"]
    assert found(dates=("20260101", "20260102")) == ["1.3.3", "1.3.1"]
    assert found(study_uids=("1.3.1", "1.3.9")) == ["1.3.1"]
    assert found(series_uids=("1.4.3",), sop_uids=("1.2.3",)) == ["1.3.3"]
    assert found(series_uids=("1.4.3",), sop_uids=("1.2.2",)) == []


def test_what_is_known_of_a_film(index: DicomIndex, store: Store) -> None:
    film_id = answered(store, "a", identity=Identity(sop_instance_uid="1.2.1"))
    known = index.known(film_id)
    assert (known.usable, known.file_sha256, known.film) == (True, "a" * 64, None)
    (answer,) = known.answers
    with index._database.read() as session:
        sent = answer_as_sent(session, answer.id)
    assert (sent.film_id, sent.content_sha256, sent.model_sha256) == (
        film_id,
        known.content_sha256,
        answer.model_sha256,
    )
    assert (answer.label, set(answer.maps)) == (sent.label, {one.finding for one in sent.heatmaps})
    assert answer.drawable is {"preprocessing", "heatmap_top"}.issubset(sent.assessment)
    assert answer.reviews == ()
    index.put([one(film_id, 1, 1)])
    assert index.known(film_id).film == one(film_id, 1, 1)
    other = store.receive(film("b", format="png")).film_id
    assert not index.known(other).usable
    assert not index.known("nothing").usable


def test_films_that_could_be_found_and_are_not(index: DicomIndex, store: Store) -> None:
    ids = sorted(answered(store, name, identity=Identity(sop_instance_uid=f"1.2.{name}")) for name in "123")
    waiting = store.receive(film("4")).film_id
    index.put([one(ids[0], 1, 1)])
    assert index.unlisted() == ids[1:]
    assert waiting not in index.unlisted()
    assert index.unlisted(most=1) == ids[1:2]
    assert index.unlisted(ids[1]) == ids[2:]


def test_what_is_gone_is_found_no_more(index: DicomIndex, store: Store, database: Database) -> None:
    first, second = (store.receive(film(name)).film_id for name in "ab")
    index.put([one(first, 1, 1), one(second, 2, 2)])
    index.put([], gone=[first])
    with database.write() as session:
        session.execute(delete(FilmRow).where(FilmRow.id == second))
    assert index.objects(["1.3.1", "1.3.2"]) == {"1.3.1": [], "1.3.2": []}
    index.put([one(second, 2, 2)])
    assert index.objects(["1.3.2"]) == {"1.3.2": []}, "a film that was erased meanwhile is not added"
