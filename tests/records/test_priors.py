"""The prior film is the last one of the same patient before this one, and of nobody else."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from tests.records.test_store import answer, film

from hilum.records.database import Database
from hilum.records.priors import prior_beside, prior_of
from hilum.records.schema import DicomObjectRow
from hilum.records.store import Store
from hilum.records.values import Identity

START = datetime(2026, 1, 5, tzinfo=UTC)


def test_the_prior_is_the_last_film_of_the_patient_before(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    try:
        received = {}
        for minute, (name, patient) in enumerate(
            (("a", "SYN1"), ("b", "SYN2"), ("c", "SYN1"), ("d", "SYN1"), ("e", ""), ("f", ""))
        ):
            store = Store(database, lambda at=START + timedelta(minutes=minute): at)
            received[name] = store.receive(film(name)).film_id
            store.claim("w", lease_s=60, max_attempts=3)
            if name != "d":
                store.record_answer(received[name], "w", Identity(patient_id=patient), answer())
            else:
                store.record_failure(received[name], "w", code="unreadable", reason="Broken.")
        priors = {name: prior_of(database, film_id) for name, film_id in received.items()}
        assert priors == {**dict.fromkeys("abdef"), "c": received["a"]}
        assert prior_of(database, "0" * 32) is None
    finally:
        database.close()


def test_a_prior_is_told_with_the_days_on_which_both_were_taken(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    try:
        ids = []
        for minute in range(2):
            store = Store(database, lambda at=START + timedelta(minutes=minute): at)
            ids.append(store.receive(film(str(minute))).film_id)
            store.claim("w", lease_s=60, max_attempts=3)
            store.record_answer(ids[minute], "w", Identity(patient_id="SYN1"), answer())
        earlier, later = ids
        assert prior_beside(database, earlier) is None
        unread = prior_beside(database, later)
        assert unread is not None
        assert (unread.film_id, unread.study_date, unread.received_at) == (earlier, None, START)
        with database.write() as session:
            for film_id, day in ((earlier, "20240229"), (later, "2026")):
                session.add(
                    DicomObjectRow(sop_instance_uid=f"1.{film_id}", study_instance_uid="1.2", series_instance_uid="1.3",
                                   sop_class_uid="1.4", kind="film", film_id=film_id, study_date=day)
                )  # fmt: skip
        found = prior_beside(database, later)
        assert found is not None
        assert (found.study_date, found.later_date) == (date(2024, 2, 29), None), "half a date is none"
    finally:
        database.close()
