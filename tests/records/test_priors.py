"""The prior film is the last one of the same patient before this one, and of nobody else."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.records.test_store import answer, film

from hilum.records.database import Database
from hilum.records.priors import prior_of
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
