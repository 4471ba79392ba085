"""Backup and restore with records in PostgreSQL, by the commands of docs/operations.md, over two generations."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from tests.service.conftest import let_in, settings_in
from tests.service.small import SmallDrawing, SmallModel, png
from tests.system.postgres import Server, programs, served
from typer.testing import CliRunner, Result

from hilum.cli.verbs import app
from hilum.records.database import Database
from hilum.service.app import running

pytestmark = pytest.mark.system
KIND = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def started() -> Iterator[Server | None]:
    at = programs()
    if at is None:
        yield None
        return
    with served(at) as server:
        yield server


@pytest.fixture
def server(started: Server | None, need: Callable[[object, str], None]) -> Server:
    need(started, "PostgreSQL (initdb, pg_ctl)")
    assert started is not None
    return started


def answer(url: str, data: Path, *levels: int) -> list[str]:
    """Run a service until it has answered films of these grey levels; their ids."""
    settings = settings_in(data.parent).model_copy(update={"data": data, "database_url": url})
    with (
        running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service,
        httpx.Client(base_url=service.url, timeout=90, headers=let_in(service)) as http,
    ):
        sent = [http.post("/api/v1/studies?wait=60", content=png(level), headers=KIND).json() for level in levels]
        assert service.room.witness is not None
        service.room.witness.sign()
        assert service.room.database.product.startswith("PostgreSQL 1")
        assert all(one["state"] == "answered" for one in sent)
        return [one["id"] for one in sent]


def hilum(url: str | None, *words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(app, list(words), env={"HILUM_DATABASE_URL": url})
    assert done.exit_code == code, (words, done.output, done.exception)
    return done


def test_a_backup_comes_back_twice_with_every_key_of_its_audit(server: Server, tmp_path: Path) -> None:
    """The keys of the first generation are needed to check its heads in the third."""
    url, data = server.fresh("first"), tmp_path / "data"
    films = answer(url, data, 50, 60)
    for generation in ("second", "third"):
        kept, again = tmp_path / f"kept-{generation}", server.fresh(generation)
        assert "checked" in hilum(url, "backup", str(kept), "--data", str(data)).stdout
        assert not list(kept.rglob("audit.key"))
        answer(url, data, 70)  # after the backup
        data = tmp_path / generation
        hilum(again, "restore", str(kept), "--data", str(data))
        assert (data.stat().st_mode & 0o777) == 0o700
        url = again
        answer(url, data, 80)
        assert "the audit is whole" in hilum(url, "audit", "verify", "--data", str(data)).stdout
        shown = hilum(url, "audit", "show", films[0], "--data", str(data)).stdout
        assert "is in the records as it was written down" in shown
    assert len(list(data.glob("audit*.pub"))) == 3
    found = hilum(url, "audit", "search", "--act", "records.restored", "--data", str(data)).stdout
    assert len(found.splitlines()) == 2


def test_what_does_not_fit_is_refused_by_name(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, data, kept = server.fresh("refusing"), tmp_path / "data", tmp_path / "kept"
    answer(url, data, 50)
    hilum(url, "backup", str(kept), "--data", str(data))
    other = ("restore", str(kept), "--data", str(tmp_path / "other"))
    assert "name it in HILUM_DATABASE_URL" in str(hilum(None, *other, code=1).exception)
    assert "The database refusing is not empty" in str(hilum(url, *other, code=1).exception)
    film = next(path for path in (kept / "films").rglob("*") if path.is_file())
    content = film.read_bytes()
    film.unlink()
    assert "film is missing" in str(hilum(server.fresh("missing"), *other, code=1).exception)
    film.write_bytes(content)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "pg_restore is not installed" in str(hilum(server.fresh("bare"), *other, code=1).exception)
    assert not (tmp_path / "other").exists()


PROGRAM = """#!/bin/sh
if test "$1" = --version; then echo '{0} (PostgreSQL) 9.6.24 (Debian 9.6.24-1)'; exit; fi
echo '{0}: error: unsupported version (1.14) in file header' >&2
exit 1
"""


def test_programs_that_are_too_old_are_told_with_the_version_that_is_needed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, data, kept = server.fresh("newer"), tmp_path / "data", tmp_path / "kept"
    answer(url, data, 50)
    hilum(url, "backup", str(kept), "--data", str(data))
    for program in ("pg_dump", "pg_restore"):
        (tmp_path / program).write_text(PROGRAM.format(program))
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    told = str(hilum(url, "backup", str(tmp_path / "other"), "--data", str(data), code=1).exception)
    assert re.search(
        r"pg_dump is of PostgreSQL 9 and can't dump a server of version (1\d)\. Install .* \1 or newer", told
    )
    words = ("restore", str(kept), "--data", str(tmp_path / "back"))
    assert "pg_restore is older than the pg_dump" in str(hilum(server.fresh("old"), *words, code=1).exception)
    assert not (tmp_path / "other").exists()


def test_records_in_sqlite_are_not_taken_where_the_service_has_postgresql(server: Server, tmp_path: Path) -> None:
    """A folder that had its records in SQLite once would give a backup of long ago, and call it checked."""
    url, data, kept = server.fresh("moved"), tmp_path / "data", tmp_path / "kept"
    data.mkdir()
    Database(f"sqlite:///{data / 'hilum.db'}").close()
    film = answer(url, data, 50)[0]
    hilum(url, "backup", str(kept), "--data", str(data))
    assert sorted(path.name for path in kept.glob("*.d*")) == ["records.dump"]
    dumped = subprocess.run(
        ["pg_restore", "-f", "-", kept / "records.dump"], capture_output=True, text=True, check=True
    )
    assert film in dumped.stdout
    other = tmp_path / "never-moved"
    other.mkdir()
    Database(f"sqlite:///{other / 'hilum.db'}").close()
    hilum(None, "backup", str(tmp_path / "sqlite"), "--data", str(other))
    words = ("restore", str(tmp_path / "sqlite"), "--data", str(tmp_path / "other"))
    assert "Unset it" in str(hilum(url, *words, code=1).exception)
