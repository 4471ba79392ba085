"""``serve --check``: each part is looked at, whatever the others say."""

import io
import platform
import re
import shutil
import socket
import sqlite3
from pathlib import Path

import httpx
import pytest
from tests.bundle.small import small_bundle
from tests.service.conftest import let_in, settings_in
from tests.service.small import SmallDrawing, SmallModel, png
from typer.testing import CliRunner

import hilum
from hilum.bundle.reading import read_bundle
from hilum.cli.verbs import app
from hilum.data_keys import new_data_key
from hilum.records.access import Access
from hilum.records.audit import Act, append
from hilum.records.database import Database
from hilum.records.store import now
from hilum.service.app import running
from hilum.service.checking import check_service
from hilum.service.film_files import FilmFiles
from hilum.service.logs import start_logs
from hilum.service.versions import versions


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("bundle") / "small.hilum")


@pytest.fixture(autouse=True)
def no_data_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where real films for tests lie is no setting of the service."""
    monkeypatch.delenv("HILUM_TEST_DATA", raising=False)


def test_a_machine_that_is_ready_is_said_to_be(bundle: Path, tmp_path: Path) -> None:
    found = check_service(settings_in(tmp_path, bundle=bundle))
    assert {part: said for part, said in found.items() if said != "ok"} == {"keys": found["keys"]}
    assert found["keys"].startswith("ok, but films and identifiers lie unencrypted")
    given = settings_in(tmp_path, bundle=bundle, data_key=new_data_key().text)
    assert set(check_service(given).values()) == {"ok"}
    assert "damaged or is none" in check_service(settings_in(tmp_path, bundle=bundle, data_key="x"))["keys"]
    assert list(tmp_path.iterdir()) == [], "a check makes nothing"
    words = ["serve", str(bundle), "--check", "--port", "0", "--dicom-port", "0", "--data", str(tmp_path / "data")]
    done = CliRunner().invoke(app, words, env={"HILUM_LEAST_FREE_MB": "1"})
    assert (done.exit_code, "model: ok" in done.stdout) == (0, True), done.output
    first = done.stdout.splitlines()[0]
    assert first.startswith(f"hilum {hilum.__version__}, Python {platform.python_version()}, database SQLite 3.")
    assert first.endswith(f"bundle small 1.0 ({read_bundle(bundle).sha256[:12]})")


def test_versions_are_told_of_what_can_be_read_and_no_secret_with_them(tmp_path: Path) -> None:
    url = "postgresql+psycopg://ada:secret@db.example/records"
    told = versions(settings_in(tmp_path, bundle=tmp_path / "none.hilum", database_url=url))
    assert told["bundle"] == "can't be read"
    assert re.fullmatch(r"psycopg 3\.[\w.]+, libpq \d\d\.\d+, SQLAlchemy 2\.[\w.]+", told["database"])


def test_a_misspelt_setting_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HILUM_RESULTS_GIVE_UP_H", "3")
    monkeypatch.setenv("HILUM_DEIDENTIFICATION_KEY", "k")
    assert check_service(settings_in(tmp_path))["settings"] == "ok"
    monkeypatch.setenv("HILUM_RESULTS_TOO", "pacs=dicom://X@127.0.0.1:1")
    found = check_service(settings_in(tmp_path))["settings"]
    assert found == "HILUM_RESULTS_TOO is no setting. Did you mean HILUM_RESULTS_TO?"


def test_all_that_is_wrong_is_told_at_once(bundle: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    database = Database(f"sqlite:///{data / 'hilum.db'}")
    Access(database).add_user("ada", ["viewer"], password=None, actor="test")
    with database.write() as session:
        append(session, Act(actor="a", act="x"), now())
    database.close()
    with sqlite3.connect(data / "hilum.db") as raw:
        raw.execute("UPDATE audit SET actor = 'eve' WHERE seq = 1")
    raw.close()
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("none")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = settings_in(
            tmp_path,
            bundle=tmp_path / "none.hilum",
            port=taken.getsockname()[1],
            least_free_mb=1 << 40,
            tls_certificate=tmp_path / "cert.pem",
            tls_key=tmp_path / "key.pem",
        )
        found = check_service(settings)
    assert found["folder"] == found["records"] == "ok"
    for part, words in {
        "disk": "are needed",
        "model": "none.hilum",
        "audit": "Changed at row 1",
        "ports": "can't be used",
        "tls": "cert.pem holds no certificate",
    }.items():
        assert words in found[part], (part, found[part])
    words = ["serve", str(tmp_path / "none.hilum"), "--check", "--data", str(data), "--port", "0", "--dicom-port", "0"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "audit: Changed at row 1" in done.stdout


def test_records_of_another_version_are_told_and_left_as_they_are(bundle: Path, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, bundle=bundle)
    settings.data.mkdir(exist_ok=True)
    Database(settings.url).close()
    for version, words in (("0001", "ok, but they are of an earlier version"), ("9999", "written by a newer hilum")):
        with sqlite3.connect(settings.data / "hilum.db") as raw:
            raw.execute("UPDATE alembic_version SET version_num = ?", (version,))
        raw.close()
        assert words in check_service(settings)["records"]
        with sqlite3.connect(settings.data / "hilum.db") as raw:
            assert raw.execute("SELECT version_num FROM alembic_version").fetchall() == [(version,)], (
                "a check makes nothing"
            )
        raw.close()


def test_a_network_address_without_an_admin_is_told(bundle: Path, tmp_path: Path) -> None:
    open_to_all = {"host": "0.0.0.0", "allowed_ae_titles": "CR1", "unprotected_network": True}
    settings = settings_in(tmp_path, bundle=bundle, data_key=new_data_key().text, **open_to_all)
    assert "hilum users add" in check_service(settings)["records"]


def test_records_whose_films_lie_elsewhere_are_told_by_the_check_and_the_log(bundle: Path, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, bundle=bundle)
    with (
        running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service,
        httpx.Client(base_url=service.url, timeout=90, headers=let_in(service)) as http,
    ):
        http.post("/api/v1/studies?wait=60", content=png(50), headers={"Content-Type": "image/png"})
    assert check_service(settings)["films"] == "ok"
    (settings.data / "films").rename(tmp_path / "films")
    words = "None of the newest 1 films of the records lies in"
    assert check_service(settings)["films"].startswith(words)
    out = io.StringIO()
    start_logs(out)
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()):
        pass
    (told,) = [line for line in out.getvalue().splitlines() if "films elsewhere" in line]
    assert words in told
    shutil.rmtree(settings.data / "films")
    (settings.data / "films").symlink_to(tmp_path / "films")
    assert check_service(settings)["films"] == "ok"
    with FilmFiles(settings.data).placing():
        assert (tmp_path / ".films.lock").exists(), "services with a link to one folder take one lock"
