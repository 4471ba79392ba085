"""A story knows what failed, what was left in the audit, and goes on with its programs stopped."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from tests.processes import marked
from tests.service.small import dataset

from hilum.demo import browsing, postgres, programs
from hilum.demo.clinic import _ending_well
from hilum.demo.clinic_page import clinic_page
from hilum.demo.clinic_proof import _found
from hilum.demo.programs import beside, free_ports, program, stop_left_over, until
from hilum.demo.room import Film
from hilum.demo.sender import anew
from hilum.demo.telling import Step, Telling
from hilum.errors import DataError, MissingExtra, UsageError
from hilum.reports.page import render_page


def test_a_failed_check_fails_the_story_and_is_told_on_its_page() -> None:
    said: list[str] = []
    telling = Telling(said.append)
    with telling.step("Films") as step:
        step.check(True, "two films came")
        step.check(False, "two films were answered")
    with pytest.raises(DataError), telling.step("Answers"):
        raise DataError("There is no film.")
    assert not telling.passed
    assert telling.failures == ("Films: two films were answered", "Answers: There is no film.")
    assert "    FAILED  two films were answered" in said
    page = render_page(clinic_page(telling, []))
    assert "Checks that failed: 2." in page
    assert "Answers: There is no film." in page
    assert "Synthetic phantom films" in page


def test_a_story_whose_checks_pass_says_how_many() -> None:
    telling = Telling(lambda _: None)
    with telling.step("Films") as step:
        step.check(True, "two films came")
        step.type("hilum audit verify")
    page = render_page(clinic_page(telling, []))
    assert telling.passed
    assert "Every check passed: 1 in 1 steps." in page
    assert "hilum audit verify" in page


def test_an_act_is_proved_by_a_row_for_every_subject() -> None:
    telling = Telling(lambda _: None)
    with telling.step("Films") as step:
        step.left("film.answered", "a", "b", "c")
    rows = [
        {"seq": 4 + i, "act": "film.answered", "subject": name, "actor": "service"} for i, name in enumerate("abab")
    ]
    found = _found(step, "film.answered", ("a", "b", "c"), rows)
    assert (found.subjects, found.found, found.rows, found.actors) == (3, 2, "row 4 to 7", "service")


def test_a_program_is_stopped_with_its_block_and_one_left_over_by_its_folder(tmp_path: Path) -> None:
    sleeper = [sys.executable, "-c", "import sys, time; time.sleep(600)", tmp_path]
    with beside("sleeper", sleeper, tmp_path) as process:
        assert (tmp_path / "sleeper.pid").read_text() == f"{process.pid}\n"
    assert process.returncode == -signal.SIGTERM
    assert not list(tmp_path.glob("*.pid"))
    # A story that was killed leaves the note and the program.
    left = subprocess.Popen([str(word) for word in sleeper], start_new_session=True)
    (tmp_path / "sleeper.pid").write_text(f"{left.pid}\n")
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (tmp_path / "other.pid").write_text(f"{other.pid}\n")
    try:
        assert stop_left_over(tmp_path) == ["sleeper"]
        assert left.wait(120) == -signal.SIGKILL
        assert other.poll() is None, "a number that was given to another program is left alone"
    finally:
        other.kill()
        other.wait()
    assert stop_left_over(tmp_path) == []


def test_a_port_is_none_that_the_kernel_gives_to_somebody_else_before_it_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever connects gets a port of its range, also between the choice of one and the start of who listens there."""
    given = tmp_path / "range"
    monkeypatch.setattr(programs, "GIVEN_BY_KERNEL", given)
    for first, last in ((32768, 60999), (22_000, 31_000), (1024, 65535)):
        given.write_text(f"{first}\t{last}\n")
        ports = free_ports(5)
        assert len(set(ports)) == 5
        assert not any(first <= port <= last for port in ports) or first == 1024
    given.unlink()
    assert len(free_ports(2)) == 2


def test_each_film_of_the_sender_is_one_that_was_never_seen(tmp_path: Path) -> None:
    made_of = dataset(
        1, SeriesInstanceUID="1.2.826.0.1.3680043.8.498.1", StudyInstanceUID="1.2.826.0.1.3680043.8.498.2"
    )
    made_of.save_as(path := tmp_path / "film.dcm", enforce_file_format=True)
    film = Film(path=path, label="normal", patient_id="P")
    made = [pydicom.dcmread(io.BytesIO(anew(film, number))) for number in range(3)]
    for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        uids = {one[name].value for one in made} | {pydicom.dcmread(path)[name].value}
        assert len(uids) == 4
        assert all(uid.is_valid for uid in uids)
    assert all(one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID for one in made)


def test_what_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs.shutil, "which", lambda *_, **__: None)
    with pytest.raises(UsageError, match=r"Orthanc is not installed, .*: apt-get install orthanc\."):
        program("Orthanc", package="orthanc")
    assert browsing.browser_at() == (None, "Chromium is not installed (apt-get install chromium)")
    monkeypatch.setattr(browsing, "find_spec", lambda _: None)
    assert browsing.browser_at() == (None, "Playwright is not installed (pip install playwright)")
    monkeypatch.setattr(postgres, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match="postgres"):
        postgres.programs()


def test_a_folder_that_the_database_cannot_enter_is_refused(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(UsageError, match=r"can't enter .+\. Give a folder that everybody may enter"):
        postgres._reachable(closed / "postgres")


def test_what_must_be_refused_is_refused_for_the_right_reason() -> None:
    def fails() -> None:
        raise DataError("Another person must.")

    step = Step(name="Labels", said=lambda _: None)
    assert step.refused(fails, "Another person", "nobody lets own labels in")
    assert not step.refused(fails, "The disk is full", "it is refused for something else")
    assert not step.refused(lambda: None, "Another person", "it is not refused at all")
    assert [one.passed for one in step.checks] == [True, False, False]


def test_an_interrupted_story_ends_the_verb_it_runs_and_all_that_it_started(tmp_path: Path) -> None:
    """Also where the verb doesn't heed the signal: by force, then."""
    ready, mark = tmp_path / "ready", f"VERB_MARK={tmp_path}"
    code = "import signal, subprocess, sys, time; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    code += "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
    code += f"open({str(ready)!r}, 'w').close(); time.sleep(600)"
    caller = (
        "import os, signal, sys; from hilum.demo import programs; "
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "programs.END_S = 0.5\n"
        f"programs.run_to_end([sys.executable, '-c', {code!r}], environment=os.environ)"
    )
    named = os.environ | {"VERB_MARK": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", caller], env=named, stderr=subprocess.DEVNULL) as story:
        try:
            until(ready.exists, "the verb runs", within_s=300)
            assert len(marked(mark)) >= 2
            story.send_signal(signal.SIGINT)
            assert story.wait(120) != 0
            until(lambda: not marked(mark), "all of it has ended", within_s=120)
        finally:
            story.kill()


def test_a_second_signal_does_not_break_off_the_stopping(capfd: pytest.CaptureFixture[str]) -> None:
    stopped = False
    with pytest.raises(KeyboardInterrupt), _ending_well():
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            stopped = True
    assert stopped
    assert capfd.readouterr().err.count("hilum: still stopping") == 2
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
