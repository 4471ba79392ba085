"""Keys, retention and erasure on PostgreSQL, by the commands of docs/operations.md."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.records.test_store import answer
from tests.service.small import dicom, read
from tests.system.postgres import Server, programs, served
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.data_keys import Keyring, read_keyring
from hilum.errors import ServiceError
from hilum.records.audit import check, entries
from hilum.records.database import Database
from hilum.records.identifiers import films_of_patient
from hilum.records.key_change import bring_under_key
from hilum.records.store import Store, now
from hilum.service.film_files import FilmFiles
from hilum.service.intake import Intake

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def server() -> Iterator[Server | None]:
    at = programs()
    if at is None:
        yield None
        return
    with served(at) as started:
        yield started


def fill(url: str, data: Path) -> None:
    """Two films of one patient and one of another, answered."""
    database = Database(url)
    store, files = Store(database), FilmFiles(data)
    intake = Intake(files, store, model_sha256="m" * 64, largest_bytes=1 << 20, least_free_bytes=0, received=str)
    for number, patient in ((1, "MRCANARY"), (2, "MRCANARY"), (3, "OTHER")):
        content = dicom(number, number, PatientID=patient)
        with intake.begin() as arrival:
            arrival.write(content)
            film_id = arrival.finish(origin="rest").film_id
        assert store.claim("w", lease_s=60, max_attempts=3)
        store.record_answer(film_id, "w", read(content)[1], answer())
    database.close()


def test_keys_are_not_changed_beneath_a_service_with_another_folder(
    server: Server | None, tmp_path: Path, need: Callable[[object, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would go on with the old key, which is then said to be needed by nothing."""
    need(server, "PostgreSQL (initdb, pg_ctl)")
    assert server is not None
    url, data, path = server.fresh("beneath"), tmp_path / "data", tmp_path / "data.key"
    fill(url, data)
    given = {"HILUM_DATABASE_URL": url, "HILUM_DATA": str(data), "HILUM_DATA_KEY_FILE": str(path)}
    assert CliRunner().invoke(app, ["keys", "new-data-key", str(path)]).exit_code == 0
    before = path.read_bytes()
    service = Database(url)
    service.ping()
    monkeypatch.setattr("hilum.records.database.APPLICATION", "hilum another process")
    for verb in ("apply", "rotate"):
        refused = CliRunner().invoke(app, ["keys", verb, "--quiet"], env=given)
        assert "Stop every service on it first" in str(refused.exception)
    assert path.read_bytes() == before
    keys = read_keyring(None, path)
    with pytest.raises(ServiceError, match="give all of them the same keys"), Database(url, keys) as beneath:
        bring_under_key(beneath, now)  # as a service does at its start
    service.close()
    alike = Database(url, keys)  # a service that was started with the same keys a moment before
    alike.ping()
    monkeypatch.setattr("hilum.records.database.APPLICATION", "hilum a third")
    with Database(url, keys) as third:
        assert bring_under_key(third, now) > 0
    assert bring_under_key(alike, now) == 0
    alike.close()
    done = CliRunner().invoke(app, ["keys", "apply", "--quiet"], env=given)
    assert done.exit_code == 0, done.exception


def test_keys_retention_and_erasure_as_the_page_says(
    server: Server | None, tmp_path: Path, need: Callable[[object, str], None]
) -> None:
    need(server, "PostgreSQL (initdb, pg_ctl)")
    assert server is not None
    url, data, path = server.fresh("privacy"), tmp_path / "data", tmp_path / "data.key"
    fill(url, data)
    given = {"HILUM_DATABASE_URL": url, "HILUM_DATA": str(data)}

    def hilum(*words: str) -> str:
        done = CliRunner().invoke(app, list(words), env=given)
        assert done.exit_code == 0, (words, done.output, done.exception)
        return done.output

    hilum("keys", "new-data-key", str(path))
    given["HILUM_DATA_KEY_FILE"] = str(path)
    assert "3 films more" in hilum("keys", "apply", "--quiet")
    assert "backups from before still do" in hilum("keys", "rotate", "--quiet")
    active = Keyring(read_keyring(None, path).keys[:1])
    assert f"films under {active.active_id}: 3" in hilum("keys", "status")
    assert "erased: 2 films" in hilum("privacy", "erase", "--patient", "MRCANARY")
    assert "films whose pixels are past their time: 0" in hilum("privacy", "retain", "--dry-run", "--pixels-days", "1")
    database = Database(url, active)
    with database.write() as session:
        assert films_of_patient(session, "MRCANARY") == []
        assert len(films_of_patient(session, "OTHER")) == 1
        assert check(entries(session)).whole
        session.execute(text("UPDATE films SET received_at = received_at - interval '2 days'"))
    database.close()
    gone = hilum("privacy", "retain", "--apply", "--pixels-days", "1", "--identifiers-days", "1")
    assert "films whose pixels were erased: 1" in gone
    assert not list(data.rglob("*.film"))
