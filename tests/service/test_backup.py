"""A backup of a running service comes back whole, and one that was touched does not come back at all."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.service.conftest import let_in, settings_in
from tests.service.small import SmallDrawing, SmallModel, png
from tests.service.test_anchors import Beneath, made
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.errors import DataError, ServiceError, UsageError
from hilum.files import take_lock
from hilum.records.database import Database
from hilum.records.proving import prove
from hilum.service import anchors, backup_folder
from hilum.service.app import running
from hilum.service.backup import back_up, restore
from hilum.service.backup_folder import remove_remains, written_whole
from hilum.service.checking import check_service
from hilum.service.film_files import film_path

KIND = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made while films come in; its folder holds three answered films."""
    folder = tmp_path_factory.mktemp("backup")
    settings = settings_in(folder)
    with (
        running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service,
        httpx.Client(base_url=service.url, timeout=90, headers=let_in(service)) as http,
    ):
        for level in (50, 60, 70):
            http.post("/api/v1/studies?wait=60", content=png(level), headers=KIND)
        assert service.room.witness is not None
        service.room.witness.sign()
        done = back_up(settings.data, folder / "kept")
        http.post("/api/v1/studies", content=png(80), headers=KIND)
    assert done.films == 3
    return folder / "kept"


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a service whose model has answered its phantom films."""
    data = tmp_path_factory.mktemp("checked")
    with contextlib.closing(Database(f"sqlite:///{data / 'hilum.db'}")) as database, pytest.MonkeyPatch.context() as at:
        at.setattr(anchors, "ROWS", 64)
        made(data, database, Beneath()).check(actor="mel")
    return data


def test_what_a_model_said_of_its_phantom_films_comes_back(checked: Path, tmp_path: Path) -> None:
    """Without it a restored service would take its own model for a changed one."""
    kept = back_up(checked, tmp_path / "kept")
    assert (kept.anchors, kept.unlike) == (7, ())
    done = restore(tmp_path / "kept", tmp_path / "data")
    assert (done.anchors, done.unlike) == (7, ())
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'data' / 'hilum.db'}")) as database:
        again = made(tmp_path / "data", database, Beneath()).check(actor="mel")
    assert (again.films, again.recorded, again.passed) == (6, 0, True)


def test_answers_that_are_not_those_of_the_audit_are_told_and_a_touched_file_is_refused(
    checked: Path, tmp_path: Path
) -> None:
    lost = copy(checked, tmp_path / "lost")
    (lost / "anchors" / f"{'a' * 64}.json").unlink()
    told = back_up(lost, tmp_path / "kept-lost")
    assert (told.anchors, told.unlike) == (6, ("a" * 64,))
    done = CliRunner().invoke(app, ["restore", str(tmp_path / "kept-lost"), "--data", str(tmp_path / "other")])
    assert "what model aaaaaaaaaaaa said of the phantom films at first is missing" in done.stdout
    back_up(checked, tmp_path / "kept")
    (tmp_path / "kept" / "anchors" / "phantom-1.dcm").write_bytes(b"")
    with pytest.raises(DataError, match=r"anchors/phantom-1.dcm is missing or was changed"):
        restore(tmp_path / "kept", tmp_path / "data")
    listed = json.loads((tmp_path / "kept" / "backup.json").read_text())
    (tmp_path / "kept" / "backup.json").write_text(json.dumps(listed | {"anchors": {"../../x": "0" * 64}}))
    with pytest.raises(UsageError, match="is no backup"):
        restore(tmp_path / "kept", tmp_path / "data")


def test_a_backup_from_before_anchors_were_kept_is_restored(checked: Path, tmp_path: Path) -> None:
    back_up(checked, tmp_path / "kept")
    listed = json.loads((tmp_path / "kept" / "backup.json").read_text())
    del listed["anchors"]
    (tmp_path / "kept" / "backup.json").write_text(json.dumps(listed))
    shutil.rmtree(tmp_path / "kept" / "anchors")
    assert restore(tmp_path / "kept", tmp_path / "data").unlike == ("a" * 64,)


def copy(backup: Path, target: Path) -> Path:
    return Path(shutil.copytree(backup, target))


def test_a_backup_without_heads_is_made_and_comes_back_and_says_so(backup: Path, tmp_path: Path) -> None:
    """Heads may lie elsewhere, or be lost: that keeps nobody from the films."""
    restore(backup, tmp_path / "data")
    (tmp_path / "data" / "audit-heads.jsonl").unlink()
    assert list((tmp_path / "data").glob("audit*.pub"))
    made = CliRunner().invoke(app, ["backup", str(tmp_path / "kept"), "--data", str(tmp_path / "data")])
    back = CliRunner().invoke(app, ["restore", str(tmp_path / "kept"), "--data", str(tmp_path / "again")])
    for done in (made, back):
        assert "without the audit's signed heads" in done.stdout
        assert done.exit_code == 0
    assert (tmp_path / "again" / "hilum.db").exists()


def test_a_restored_service_goes_on_where_the_backup_was(backup: Path, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    done = restore(backup, settings.data)
    assert done.films == 3
    assert done.audit_rows >= 8
    with (
        running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service,
        httpx.Client(base_url=service.url, timeout=90, headers=let_in(service)) as http,
    ):
        states = [study["state"] for study in http.get("/api/v1/studies").json()["studies"]]
        assert states == ["answered"] * 3
        again = http.post("/api/v1/studies?wait=60", content=png(50), headers=KIND)
        assert (again.status_code, again.json()["state"]) == (200, "answered")
        assert http.get(again.json()["film"]).status_code == 200
    keys = tuple(settings.data.glob("audit*.pub"))
    assert len(keys) == 2, "the key before the restore and the one after"
    proof = prove(url=settings.url, export=None, heads=settings.audit_heads_path, heads_given=True, keys=keys)
    assert proof.verdict.whole
    assert proof.verdict.rows == proof.signed_up_to > done.audit_rows


def test_a_backup_is_its_owners_alone(backup: Path) -> None:
    assert (backup.stat().st_mode & 0o777) == 0o700


def test_the_private_key_is_not_in_a_backup(backup: Path) -> None:
    assert not list(backup.rglob("audit.key"))
    assert not [p for p in backup.rglob("*") if p.is_file() and b"PRIVATE KEY" in p.read_bytes()]


def damage(backup: Path, how: str) -> str:
    listed = json.loads((backup / "backup.json").read_text())
    film = film_path(backup / "films", listed["films"][1])
    if how == "film changed":
        film.write_bytes(film.read_bytes()[:-1] + b"!")
        return "is damaged"
    if how == "film missing":
        film.unlink()
        return "is missing"
    if how == "records changed":
        with sqlite3.connect(backup / "hilum.db") as raw:
            raw.execute("UPDATE answers SET risk = 0")
        raw.close()
        return "hilum.db is missing or was changed"
    if how == "heads missing":
        (backup / "audit-heads.jsonl").unlink()
        return "audit-heads.jsonl is missing or was changed"
    listed["films"].pop()
    (backup / "backup.json").write_text(json.dumps(listed))
    return "names other films"


@pytest.mark.parametrize("how", ["film changed", "film missing", "records changed", "heads missing", "list changed"])
def test_a_backup_that_was_touched_is_refused_and_leaves_nothing(backup: Path, tmp_path: Path, how: str) -> None:
    touched = copy(backup, tmp_path / "touched")
    words = damage(touched, how)
    with pytest.raises(DataError, match=words):
        restore(touched, tmp_path / "data")
    assert [p.name for p in tmp_path.iterdir()] == ["touched"]


def test_all_films_that_are_amiss_are_named_with_what_mends_them(backup: Path, tmp_path: Path) -> None:
    """Bits rot where there are many films, and one that is named a try would take as many backups."""
    touched = copy(backup, tmp_path / "touched")
    first, second, _ = (
        film_path(Path("films"), one) for one in json.loads((touched / "backup.json").read_text())["films"]
    )
    (touched / first).unlink()
    (touched / second).write_bytes(b"rotten")
    amiss = f"2 of 3 film files in .*: {first} is missing, {second} is damaged. "
    with pytest.raises(DataError, match=amiss + ".*put it in its place from another one"):
        restore(touched, tmp_path / "data")
    with pytest.raises(DataError, match=amiss + "Send these films again, which puts their files back"):
        back_up(touched, tmp_path / "out")
    for one in (first, second):
        shutil.copy2(backup / one, touched / one)
    assert restore(touched, tmp_path / "data").films == 3


def test_records_that_find_no_room_are_told_as_a_full_disk(
    backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    class Full(sqlite3.Connection):
        def backup(self, target: sqlite3.Connection, **_: Any) -> None:  # type: ignore[override]
            """A page more than there is: SQLite says so as of a full disk."""
            target.execute("PRAGMA max_page_count = 3")
            super().backup(target)
            target.execute("CREATE TABLE more AS SELECT hex(zeroblob(100000)) AS x")

    monkeypatch.setattr(sqlite3, "connect", partial(connect, factory=Full))
    with pytest.raises(OSError, match="No space left on device") as raised:
        back_up(backup, tmp_path / "out")
    assert str(raised.value.filename).endswith("hilum.db")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").touch()
    with pytest.raises(UsageError, match="is not empty"):
        restore(backup, tmp_path / "data")
    with pytest.raises(UsageError, match="is there already"):
        back_up(backup, tmp_path / "data")
    with pytest.raises(UsageError, match="There are no records at"):
        back_up(tmp_path / "none", tmp_path / "out")
    with pytest.raises(UsageError, match="is no backup"):
        restore(tmp_path / "data", tmp_path / "other")


KILLED = """
import os, sys
from pathlib import Path
from typing import Any
from hilum.service import backup
backup.write_json = lambda *_: os.kill(os.getpid(), 9)
backup._restored = lambda *_, **__: os.kill(os.getpid(), 9)
Path.is_mount = lambda path: path.name == "mounted"
{}(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("what", ["backup.back_up", "backup.restore"])
def test_what_a_killed_one_left_is_removed_by_the_next_beside_it(
    backup: Path, checked: Path, tmp_path: Path, what: str
) -> None:
    source = checked if what == "backup.back_up" else backup
    done = subprocess.run(
        [sys.executable, "-c", KILLED.format(what), source, tmp_path / "killed"], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    (left,) = tmp_path.iterdir()
    assert left.match(".killed.*.part")
    assert (left / "films").exists()
    (tmp_path / ".other.part").mkdir()  # of something else
    other = CliRunner().invoke(app, ["backup", str(tmp_path / "kept"), "--data", str(checked)])
    assert "removed: 1 folder that a killed backup or restore had left" in other.stdout, other.output
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.part", "kept"]
    assert not (tmp_path / "kept" / backup_folder.LOCK).exists()
    assert restore(tmp_path / "kept", tmp_path / "data").remains == 0


def test_one_that_is_being_written_is_left_alone(checked: Path, tmp_path: Path) -> None:
    with written_whole(tmp_path / "slow") as folder:
        (folder / "film").touch()
        assert back_up(checked, tmp_path / "kept").remains == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "slow"]
    assert [path.name for path in (tmp_path / "slow").iterdir()] == ["film"]


@pytest.mark.parametrize("when", ["before it is locked", "while it is locked"])
def test_a_folder_that_is_removed_before_it_could_be_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    real, times = backup_folder.take_lock, []

    def removed_meanwhile(path: Path) -> int:
        times.append(path)
        if len(times) > 1:
            return real(path)
        if when == "while it is locked":  # opened, and removed before the lock was had
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
            shutil.rmtree(path.parent)
            return descriptor
        shutil.rmtree(path.parent)
        return real(path)

    monkeypatch.setattr(backup_folder, "take_lock", removed_meanwhile)
    with written_whole(tmp_path / "kept") as folder:
        (folder / "film").touch()
        assert remove_remains(tmp_path / "other") == 0
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["film"]
    assert len(times) == 3


def test_without_locks_nothing_is_taken_for_remains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(path: Path) -> int:
        path.touch()
        raise OSError("no locks")

    monkeypatch.setattr(backup_folder, "take_lock", unknown)
    with written_whole(tmp_path / "kept") as folder:
        monkeypatch.undo()
        assert remove_remains(tmp_path / "other") == 0
        assert folder.exists()


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that nobody can move aside, as a container's volume."""
    data = tmp_path / "mounted"
    data.mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path == data)
    monkeypatch.setattr(os, "rename", moved_unless(data, os.rename))
    monkeypatch.setattr(os, "replace", moved_unless(data, os.replace))
    return data


def moved_unless(data: Path, real: Callable[..., None]) -> Callable[..., None]:
    def moved(source: Path, target: Path) -> None:
        assert data not in (Path(source), Path(target)), "a mount is not moved"
        real(source, target)

    return moved


def test_a_restore_fills_a_mounted_folder_where_it_is(backup: Path, mounted: Path) -> None:
    touched = copy(backup, mounted.parent / "touched")
    words = damage(touched, "film changed")
    with pytest.raises(DataError, match=words):
        restore(touched, mounted)
    assert list(mounted.iterdir()) == []
    inode = mounted.stat().st_ino
    assert restore(backup, mounted).films == 3
    assert (mounted.stat().st_ino, mounted.stat().st_mode & 0o777) == (inode, 0o700)
    assert not [path.name for path in mounted.iterdir() if path.name.startswith(".")]
    assert back_up(mounted, mounted.parent / "again").films == 3


def test_a_restore_that_was_killed_over_a_mounted_folder_is_not_served_and_is_done_again(
    backup: Path, mounted: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED.format("backup.restore"), backup, mounted], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    settings = settings_in(mounted.parent).model_copy(update={"data": mounted})
    with pytest.raises(ServiceError, match="a part of a restore that did not end"), running(settings):
        pass
    assert "Run hilum restore into it again" in check_service(settings)["folder"]
    lock = take_lock(mounted / backup_folder.UNFINISHED)
    with pytest.raises(UsageError, match="is not empty"):  # another one is at it
        restore(backup, mounted)
    os.close(lock)
    assert restore(backup, mounted).remains == 1
    assert check_service(settings)["folder"] == "ok"
