"""What is erased is gone from every byte, the audit still proves it, and a kill in between leaves nothing half done."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.records.test_store import answer
from tests.service.small import dicom, kept, png, read
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.data_keys import Keyring, new_data_key
from hilum.errors import ConfigError, DataError, FilmError, ServiceError, UsageError
from hilum.records.audit import check, entries
from hilum.records.database import Database
from hilum.records.erased_list import note_erased, read_erased
from hilum.records.erasure import Eraser
from hilum.records.key_change import bring_under_key
from hilum.records.retention import Retention, retention_of
from hilum.records.reviews import Reviews
from hilum.records.store import Store, now
from hilum.service.backup import back_up, restore
from hilum.service.erasing import erase, erase_again, finish_erasures, retain
from hilum.service.film_files import FilmFiles
from hilum.service.intake import Intake
from hilum.service.settings import read_settings
from hilum.service.upkeep import Upkeep

KEY = new_data_key()


class Desk:
    """Records and films of one service."""

    def __init__(self, data: Path, *keys: object) -> None:
        data.mkdir(exist_ok=True)
        self.data, self.keys = data, Keyring(keys)  # type: ignore[arg-type]
        self.database = Database(f"sqlite:///{data / 'hilum.db'}", self.keys)
        self.store, self.files = Store(self.database), FilmFiles(data, self.keys)

    def send(self, content: bytes) -> str:
        intake = Intake(
            self.files, self.store, model_sha256="m" * 64, largest_bytes=1 << 20, least_free_bytes=0, received=str
        )
        with intake.begin() as arrival:
            arrival.write(content)
            return arrival.finish(origin="rest").film_id

    def answered(self, content: bytes, comment: str = "MRCANARY is well") -> str:
        film_id = self.send(content)
        claim = self.store.claim("w", lease_s=60, max_attempts=3)
        assert claim
        assert claim.film_id == film_id
        self.store.record_answer(film_id, "w", read(content)[1], answer())
        Reviews(self.database).put(film_id, "ada", decision="agree", finding=None, comment=comment, over=0)
        return film_id

    def bytes_on_disk(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.data.rglob("*") if path.is_file())

    def acts(self) -> list[str]:
        with self.database.read() as session:
            found = entries(session)
        assert check(found).whole
        return [entry.act for entry in found]


@pytest.fixture(params=["plain", "encrypted"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "data", *([KEY] if request.param == "encrypted" else []))
    yield made
    made.database.close()


def mine(number: int, level: int = 1) -> bytes:
    return dicom(number, level, PatientID="MRCANARY", PatientName="MRCANARY^X", StudyInstanceUID="1.2.77.7")


def test_a_film_that_was_set_aside_is_listed_and_dropped(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    if desk.keys:
        monkeypatch.setenv("HILUM_DATA_KEY", KEY.text)
        bring_under_key(desk.database, now)
    used, aside = desk.answered(mine(1)), desk.send(mine(1, 9))
    assert desk.store.claim("w", lease_s=60, max_attempts=3)
    assert desk.store.record_answer(aside, "w", read(mine(1, 9))[1], answer()) == "quarantined"

    def films(*words: str) -> dict[str, Any]:
        done = CliRunner().invoke(app, ["films", *words, "--data", str(desk.data), "--json"], catch_exceptions=False)
        assert done.exit_code == 0
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    (told,) = films("set-aside")["films"]
    assert (told["film"], told["in_use"], told["code"]) == (aside, used, "same-uid-other-content")
    found = films("compare", aside)
    assert (found["aside"], found["in_use"], found["pixels"]) == (aside, used, "they differ")
    assert found["elements"] == {"differing": ["PixelData"], "first_only": [], "second_only": []}
    for verb in ("drop", "compare"):
        for other in (used, "f" * 32):
            with pytest.raises(UsageError, match="No film that was set aside has this id"):
                films(verb, other)
    assert films("drop", aside) == {"dropped": aside}
    assert films("set-aside") == {"films": [], "more": False}
    assert desk.store.film(aside) is None
    assert desk.store.film(used) is not None
    assert len(desk.files.names()) == 1
    assert read_erased(desk.files.erased_list) == (aside,)
    with desk.database.read() as session:
        rows = [(one.actor, one.act) for one in entries(session, subject=aside)]
    assert rows[-1] == ("console", "film.erased")


def test_a_patient_is_gone_from_every_byte_and_the_audit_says_so(desk: Desk) -> None:
    kept = desk.answered(dicom(50, 50), "well")
    films = [desk.answered(mine(1)), desk.answered(mine(2, 2)), desk.send(mine(3, 3))]  # the last one is not read yet
    orphan = desk.send(mine(4, 4))
    with desk.database.write() as session:  # a file that no record knows, as a kill before the commit leaves it
        session.connection().exec_driver_sql(f"DELETE FROM films WHERE id = '{orphan}'")
    done = erase(desk.database, desk.files, patient_id=" MRCANARY", actor="console")
    assert (done.films, done.unreadable, done.left_over) == (3, (), ())
    assert [desk.store.film(film_id) for film_id in films] == [None] * 3
    assert desk.store.film(kept) is not None
    assert b"MRCANARY" not in desk.bytes_on_disk()
    assert b"1.2.77.7" not in desk.bytes_on_disk()
    assert len(desk.files.names()) == 1
    assert desk.acts()[-4:] == ["film.erased"] * 3 + ["privacy.erased"]
    with desk.database.read() as session:
        last = entries(session)[-1]
    assert ('"digest":null' in last.body) is not bool(desk.keys), "a digest that anybody can guess is none"
    assert desk.send(mine(1)) not in films, "sent again it is a new film"


def test_a_study_is_erased_and_what_can_not_be_read_is_told(desk: Desk) -> None:
    film_id, broken = desk.answered(mine(1)), desk.send(dicom(9)[:200] + bytes(50))
    done = erase(desk.database, desk.files, study_uid="1.2.77.7", actor="console")
    assert (done.films, done.unreadable) == (1, (broken,))
    assert desk.store.film(film_id) is None
    for wrong in ({}, {"patient_id": " "}, {"patient_id": "a", "study_uid": "1"}):
        with pytest.raises(UsageError, match="Say whose films"):
            erase(desk.database, desk.files, actor="console", **wrong)


def older(desk: Desk, days: int) -> None:
    with desk.database.write() as session:
        session.connection().exec_driver_sql(f"UPDATE films SET received_at = datetime('now', '-{days} days')")


def test_pixels_go_first_then_who_they_are_of_and_answers_stay(desk: Desk) -> None:
    film_id, waiting = desk.answered(mine(1)), desk.send(png(7))
    retention = Retention(pixels_days=10, identifiers_days=30)
    assert retain(desk.database, desk.files, retention, actor="service") == retain(
        desk.database, desk.files, retention, actor="service", dry=True
    )
    older(desk, 11)
    assert retain(desk.database, desk.files, retention, actor="service", dry=True).pixels == 1
    assert len(desk.files.names()) == 2, "a dry run erases nothing"
    done = retain(desk.database, desk.files, retention, actor="service")
    assert (done.pixels, done.identifiers, len(desk.files.names())) == (1, 0, 1)
    film = desk.store.film(film_id)
    assert film is not None
    assert (film.file_sha256, film.answer is not None) == ("", True)
    with pytest.raises(FilmError, match="pixels were erased"):
        desk.files.film(film.file_sha256)
    assert Eraser(desk.database, now).films_of(patient_id="MRCANARY") == [film_id]
    older(desk, 31)
    assert retain(desk.database, desk.files, retention, actor="service").identifiers == 1
    assert Eraser(desk.database, now).films_of(patient_id="MRCANARY") == []
    assert b"MRCANARY" not in desk.bytes_on_disk()
    assert b"1.2.77.7" not in desk.bytes_on_disk()
    assert desk.store.film(waiting) is not None, "what waits for an answer is left alone"
    assert {"pixels.erased", "identifiers.erased"} <= set(desk.acts())
    assert retain(desk.database, desk.files, retention, actor="service").identifiers == 0, "once is enough"


def test_a_film_that_comes_again_has_its_pixels_again(desk: Desk) -> None:
    film_id = desk.answered(mine(1))
    older(desk, 11)
    retain(desk.database, desk.files, Retention(pixels_days=10), actor="service")
    assert desk.send(mine(1)) == film_id
    film = desk.store.film(film_id)
    assert film is not None
    assert desk.files.film(film.file_sha256).read_bytes() == kept(mine(1))


def test_a_file_that_came_again_before_it_was_removed_is_kept(desk: Desk) -> None:
    film_id = desk.answered(mine(1))
    Eraser(desk.database, now).erase([film_id], actor="console", by="patient", value="MRCANARY")
    again = desk.send(mine(1))
    assert finish_erasures(desk.database, desk.files) == 1
    film = desk.store.film(again)
    assert film is not None
    assert desk.files.film(film.file_sha256).read_bytes()
    assert finish_erasures(desk.database, desk.files) == 0


def test_the_service_ends_what_was_broken_off_and_looks_every_day(desk: Desk) -> None:
    gone, old = desk.answered(mine(1)), desk.answered(mine(2, 2))
    Eraser(desk.database, now).erase([gone], actor="console", by="patient", value="MRCANARY")
    older(desk, 11)
    assert len(desk.files.names()) == 2
    upkeep = Upkeep(desk.database, desk.files, Retention(pixels_days=10), every_s=0.01)
    upkeep.start()
    deadline = time.monotonic() + 120
    while desk.files.names() and time.monotonic() < deadline:
        time.sleep(0.01)
    upkeep.stop()
    assert desk.files.names() == []
    assert desk.store.film(old) is not None


def test_a_retention_that_undoes_itself_is_refused() -> None:
    for pixels, identifiers in ((0, 30), (31, 30)):
        with pytest.raises(UsageError, match="which say it as well"):
            retention_of(pixels, identifiers)
    with pytest.raises(ConfigError, match="HILUM_RETAIN_PIXELS_DAYS to 1"):
        read_settings(bundle=Path("x"), retain_identifiers_days=30)


KILLED = """
import os, sys
from pathlib import Path
from hilum.data_keys import Keyring
from hilum.records.database import Database
from hilum.service import erasing
from hilum.service.film_files import FilmFiles
data, at = Path(sys.argv[1]), int(sys.argv[2])
steps = iter(range(1000))
def step(what):
    def counted(*given):
        if next(steps) == at:
            os.kill(os.getpid(), 9)
        return what(*given)
    return counted
FilmFiles.remove, erasing.Eraser.removed = step(FilmFiles.remove), step(erasing.Eraser.removed)
erasing.Eraser.needed, erasing.Eraser.tidy = step(erasing.Eraser.needed), step(erasing.Eraser.tidy)
database = Database(f"sqlite:///{data / 'hilum.db'}")
erasing.erase(database, FilmFiles(data), patient_id="MRCANARY", actor="console")
database.close()
"""


@pytest.mark.parametrize("at", [1, 2])
def test_killed_between_row_and_file_the_next_start_ends_it(tmp_path: Path, at: int) -> None:
    desk = Desk(tmp_path / "data")
    desk.answered(mine(1)), desk.answered(mine(2, 2)), desk.answered(dicom(50, 50))
    desk.database.close()
    done = subprocess.run([sys.executable, "-c", KILLED, str(desk.data), str(at)], capture_output=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    desk = Desk(tmp_path / "data")
    finish_erasures(desk.database, desk.files)
    with desk.database.read() as session:
        named = {row[0] for row in session.connection().exec_driver_sql("SELECT file_sha256 FROM films")}
    assert set(desk.files.names()) == named
    assert len(named) == 1
    assert desk.acts().count("film.erased") == 2
    desk.database.close()


def test_the_commands_erase_and_ask_for_plain_words(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "data")
    desk.answered(mine(1)), desk.answered(dicom(50, 50))
    older(desk, 11)
    desk.database.close()
    given, runner = {"HILUM_DATA": str(desk.data)}, CliRunner()
    seen = runner.invoke(app, ["privacy", "retain", "--dry-run", "--pixels-days", "10"], env=given)
    assert "films whose pixels are past their time: 2" in seen.output
    assert "films whose identifiers are past their time: 0" in seen.output
    seen = runner.invoke(app, ["privacy", "erase", "--patient", "-"], env=given, input="MRCANARY\n")
    assert "erased: 1 film," in seen.output
    assert "MRCANARY" not in seen.output
    assert "echo" not in seen.output, "what is piped in is read without a terminal's warnings"
    seen = runner.invoke(app, ["privacy", "erase", "--patient", "-"], env=given, input="MRCANRY\n")
    assert "as it stands in the films" in seen.output
    assert runner.invoke(app, ["privacy", "retain", "--apply", "--pixels-days", "10"], env=given).exit_code == 0
    assert not list(desk.data.rglob("*.film"))
    for what in ("--dry-run", "--apply"):  # 0 erased would be taken for nothing past its time
        unset = runner.invoke(app, ["privacy", "retain", what], env=given)
        assert "No time is set, so everything is kept for ever. Give --pixels-days" in str(unset.exception)
    refused = runner.invoke(app, ["privacy", "retain"], env=given)
    assert "Say --dry-run" in str(refused.exception or refused.output)
    nowhere = runner.invoke(app, ["privacy", "erase", "--patient", "x", "--data", str(tmp_path / "none")])
    assert "There is no folder" in str(nowhere.exception or nowhere.output)


def test_what_came_back_with_an_older_backup_is_erased_again_by_the_list(desk: Desk, tmp_path: Path) -> None:
    """The list holds ids of films alone, and outlives the records; a later backup brings it along."""
    kept, gone = desk.answered(dicom(50, 50), "well"), desk.answered(mine(1))
    back_up(desk.data, tmp_path / "older", keys=desk.keys)
    erase(desk.database, desk.files, patient_id="MRCANARY", actor="console")
    back_up(desk.data, tmp_path / "later", keys=desk.keys)
    erasures = tmp_path / "later" / "erasures.jsonl"
    assert read_erased(erasures) == (gone,)
    assert set(json.loads(erasures.read_text())) == {"at", "film"}
    done = restore(tmp_path / "older", tmp_path / "new", erasures=erasures, keys=desk.keys)
    assert (done.films, done.erased) == (2, 1)
    back = Desk(tmp_path / "new", *([KEY] if desk.keys else []))
    try:
        assert [back.store.film(one) is None for one in (kept, gone)] == [False, True]
        assert b"MRCANARY" not in back.bytes_on_disk()
        assert back.acts()[-2:] == ["film.erased", "privacy.erased"]
        assert read_erased(back.data / "erasures.jsonl") == (gone,)
        assert erase_again(back.database, back.files, [gone], actor="console") == 0
        assert read_erased(back.data / "erasures.jsonl") == (gone,), "no line twice"
    finally:
        back.database.close()


def test_a_list_of_erasures_with_a_broken_end_is_read_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "erasures.jsonl"
    note_erased(path, ["a" * 32], now())
    with path.open("ab") as raw:
        raw.write(b'{"film": "bro')
    assert read_erased(path) == ("a" * 32,)
    note_erased(path, ["b" * 32], now())
    assert read_erased(path) == ("a" * 32, "b" * 32)
    for wrong in ('{"film": "../x"}', "[]", "x"):
        path.write_text(wrong + "\n")
        with pytest.raises(DataError, match=r"erasures\.jsonl, line 1 names no erased film"):
            read_erased(path)
    with pytest.raises(UsageError, match="where nothing was ever erased there is none"):
        read_erased(tmp_path / "none.jsonl")
    with pytest.raises(UsageError, match="can't be read"):
        read_erased(tmp_path)


def test_nothing_is_erased_where_the_list_can_not_be_written(desk: Desk) -> None:
    film_id = desk.answered(mine(1))
    (desk.data / "erasures.jsonl").mkdir()
    with pytest.raises(ServiceError, match="so nothing was erased"):
        erase(desk.database, desk.files, patient_id="MRCANARY", actor="console")
    assert desk.store.film(film_id) is not None
