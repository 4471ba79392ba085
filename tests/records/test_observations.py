"""What answers looked like: kept with the answer, read back as columns, and only once."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hilum.change.overrides import overrides
from hilum.data_keys import Keyring, new_data_key
from hilum.errors import DataError
from hilum.monitoring.labels import labelled_films
from hilum.records.database import Database
from hilum.records.observations import Observations, observed_findings, read_observations
from hilum.records.proving import reading
from hilum.records.reviews import Reviews
from hilum.records.store import Store
from hilum.records.values import Identity, NewAnswer, NewFilm, NewObservation

START = datetime(2026, 11, 1, tzinfo=UTC)
FINDINGS = ("normal", "pneumonia")


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    yield opened
    opened.close()


def read(database: Database, findings: tuple[str, ...], **span: datetime) -> Observations:
    with database.read() as session:
        return read_observations(session, findings, **span)


def seen(number: int, *, features: bool = True, analysed: bool = True) -> NewObservation:
    return NewObservation(
        outcome="answered" if analysed else "not-analysed",
        device=f"Detector {number % 2}",
        view_position="PA",
        sex="F",
        age_band="40-49",
        size_class="2x3",
        statistics=np.full(8, number, dtype="<f4").tobytes(),
        scores=np.array([0.2, 0.8], dtype="<f4").tobytes() if analysed else None,
        features=np.full(5, number, dtype="<f2").tobytes() if features else None,
    )


def answered(
    store: Store, number: int, observation: NewObservation | None, *, patient: str = "", **answer_fields: Any
) -> str:
    digest = f"{number:064x}"
    film = NewFilm(content_sha256=digest, file_sha256=digest, size=1, format="dicom", origin="rest")
    store.receive(film)
    claim = store.claim("me", lease_s=60, max_attempts=3)
    assert claim is not None
    values: dict[str, Any] = {
        "model_sha256": "a" * 64,
        "analysed": observation is None or observation.outcome != "not-analysed",
        "label": None,
        "abstained": False,
        "risk": None,
        "assessment": {},
        "observation": observation,
    }
    answer = NewAnswer(**values | answer_fields)
    identity = Identity(study_instance_uid=f"1.2.{number}", patient_id=patient)
    store.record_answer(claim.film_id, "me", identity, answer)
    return claim.film_id


def test_what_is_kept_with_an_answer_comes_back_as_columns(database: Database, clock: Clock) -> None:
    store = Store(database, clock)
    films = [answered(store, i, seen(i, features=i != 1, analysed=i != 2), label="normal") for i in range(4)]
    answered(store, 9, None)  # an answer of which nothing is kept
    reviews = Reviews(database, clock)
    reviews.put(films[0], "ann", decision="override", finding="normal", comment="", over=0)
    reviews.put(films[1], "ann", decision="agree", finding=None, comment="", over=0)
    found = read(database, FINDINGS)
    assert len(found) == 4
    assert found.groups["device"].levels == ("Detector 0", "Detector 1")
    assert found.groups["device"].codes.tolist() == [0, 1, 0, 1]
    assert found.statistics[:, 0].tolist() == [0, 1, 2, 3]
    assert np.isnan(found.scores[:, 0]).tolist() == [False, False, True, False]
    assert np.isnan(found.features[:, 0]).tolist() == [False, True, False, False]
    assert found.overridden.tolist() == [1, 0, -1, -1]
    assert found.seconds.min() > 0
    assert np.all(np.diff(found.at) > 0)


@pytest.mark.parametrize("keys", [Keyring(), Keyring((new_data_key(),))], ids=["plain", "encrypted"])
def test_films_of_a_patient_have_one_number_also_where_records_are_encrypted(tmp_path: Path, keys: Keyring) -> None:
    url, clock = f"sqlite:///{tmp_path / 'hilum.db'}", Clock()
    opened = Database(url, keys)
    store = Store(opened, clock)
    told = {"assessment": {"findings": list(FINDINGS)}, "risk": 0.3}
    films = [answered(store, i, seen(i), patient=patient, **told) for i, patient in enumerate(("A", "B", "", "A", ""))]
    Reviews(opened, clock).put(films[0], "ann", decision="override", finding="normal", comment="seen", over=0)
    opened.close()
    with reading(url, keys) as session:
        patients = read_observations(session, FINDINGS).patient.tolist()
        assert labelled_films(session, "normal").patient.tolist() == [0, 1, 2, 0, 3]
    assert patients[0] == patients[3]
    assert len(set(patients)) == 4
    with reading(url) as session:  # the key is needed for nothing but to know what stands for no Patient ID
        assert len(read_observations(session, FINDINGS)) == 5
        assert [one.film_id for one in overrides(session)] == [films[0]]
        assert (labelled_films(session, "normal").label == 1).sum() == 1


def test_a_span_of_time_is_read_and_an_empty_one_is_empty(database: Database, clock: Clock) -> None:
    store = Store(database, clock)
    for i in range(3):
        answered(store, i, seen(i))
    middle = datetime.fromtimestamp(read(database, FINDINGS).at[1], UTC)
    assert len(read(database, FINDINGS, since=middle)) == 2
    assert len(read(database, FINDINGS, until=middle)) == 1
    assert len(read(database, FINDINGS, since=START + timedelta(days=400))) == 0
    assert len(read(database, (*FINDINGS, "other"))) == 0  # another model's scores


def test_films_that_failed_are_counted(database: Database, clock: Clock) -> None:
    store = Store(database, clock)
    answered(store, 0, seen(0))
    store.receive(NewFilm(content_sha256="f" * 64, file_sha256="f" * 64, size=1, format="dicom", origin="rest"))
    claim = store.claim("me", lease_s=60, max_attempts=3)
    assert claim is not None
    store.record_failure(claim.film_id, "me", code="truncated", reason="cut")
    assert len(read(database, FINDINGS).failed_at) == 1


def test_a_clock_that_jumped_is_told(database: Database, clock: Clock) -> None:
    store = Store(database, clock)
    store.receive(NewFilm(content_sha256="0" * 64, file_sha256="0" * 64, size=1, format="dicom", origin="rest"))
    claim = store.claim("me", lease_s=60, max_attempts=3)
    assert claim is not None
    clock.now -= timedelta(hours=2)
    answer = NewAnswer(
        model_sha256="a" * 64,
        analysed=True,
        label=None,
        abstained=True,
        risk=0.5,
        assessment={},
        observation=seen(0),
    )
    store.record_answer(claim.film_id, "me", Identity(), answer)
    with pytest.raises(DataError, match="A clock jumped: an answer stands 71.. s before its film was received"):
        read(database, FINDINGS)


def test_what_the_model_tells_apart_is_read_from_the_newest_answer(database: Database, clock: Clock) -> None:
    with database.read() as session, pytest.raises(DataError, match="No film was analysed yet"):
        observed_findings(session)
    store = Store(database, clock)
    answered(store, 0, seen(0), assessment={"findings": list(FINDINGS)}, risk=0.3)
    with database.read() as session:
        assert observed_findings(session) == FINDINGS


def test_columns_of_other_lengths_are_refused(database: Database, clock: Clock) -> None:
    answered(Store(database, clock), 0, seen(0))
    one = read(database, FINDINGS)
    values = {name: getattr(one, name) for name in Observations.__dataclass_fields__} | {"seconds": np.zeros(3)}
    with pytest.raises(DataError, match="Observations of 1 answers: seconds has 3 rows"):
        Observations(**values)
