"""``hilum pacs`` against a real PACS in this process."""

import json
from pathlib import Path

import pytest
from tests.service.archive import archive, study
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.errors import UsageError
from hilum.records.database import Database
from hilum.service.dicom.unfetched import Unfetched

HELD = (study(1, "20250101"), study(2, "20260101"), study(3, "20240101", PatientID="P10"))


def run(*words: str, fails: type[Exception] | None = None, saying: str = "") -> str:
    done = CliRunner().invoke(app, ["pacs", *words])
    if fails is not None:
        assert isinstance(done.exception, fails), done.output
        assert saying in str(done.exception)
    else:
        assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def test_what_a_pacs_offers_and_has_is_told() -> None:
    with archive(HELD, get=False) as pacs:
        said = run("echo", "--pacs", pacs.setting)
        assert [line.split(": ")[1] for line in said.splitlines()] == ["yes", "yes", "yes", "no", "yes"]
        found = json.loads(run("find", "--pacs", pacs.setting, "--patient-id", "P1", "--json"))
        assert [one["date"] for one in found["studies"]] == ["20260101", "20250101"]
        assert "nothing of this patient" in run("find", "--pacs", pacs.setting, "--patient-id", "P2")
        run(
            "find",
            "--pacs",
            pacs.setting,
            "--patient-id",
            "P*",
            fails=UsageError,
            saying="--patient-id is empty, or has a wild",
        )
        run("find", "--pacs", pacs.setting, "--patient-id", " ", fails=UsageError, saying="--patient-id is empty")
        run("fetch", "1.2.3.1", "--pacs", pacs.setting, fails=Unfetched, saying="does not know HILUM")
    run("echo", "--pacs", pacs.setting, fails=Unfetched, saying="nothing listens there (connection refused)")


def test_a_pacs_that_offers_queries_to_all_and_answers_none_of_ours_is_told() -> None:
    with archive(HELD) as pacs:
        pacs.hangs_up = True
        done = CliRunner().invoke(app, ["pacs", "echo", "--pacs", pacs.setting, "--ae-title", "OTHER", "--json"])
        assert done.exit_code == 1
        assert "C-FIND offered: yes" in done.output
        assert (
            "C-FIND answered: no. ARCHIVE did not answer a query. See its log; and make OTHER known there"
            in done.output
        )
        assert json.loads(done.stdout.splitlines()[-1])["find_answered"] is False
        run("find", "--pacs", pacs.setting, "--patient-id", "P1", fails=Unfetched, saying="make HILUM known there")
        pacs.hangs_up, pacs.refuse_finds = False, 1
        done = CliRunner().invoke(app, ["pacs", "echo", "--pacs", pacs.setting])
        assert "C-FIND answered: no. ARCHIVE could not answer a query (C-FIND status 0xA700)." in done.output


def test_the_films_of_missing_studies_are_sent_to_us_and_no_report_of_ours() -> None:
    report = study(9, "20250101", Modality="SR", StudyInstanceUID="1.2.3.1")
    with archive([report, *HELD]) as pacs, archive([]) as us:
        pacs.destinations["HILUM"] = ("127.0.0.1", us.port)
        said = run("fetch", "1.2.3.1", "1.2.3.2", "--pacs", pacs.setting)
        assert "Sent to HILUM: 2 series of films, 2 studies." in said
        assert us.kept == [HELD[0].SOPInstanceUID, HELD[1].SOPInstanceUID]
        run(
            "fetch",
            "1.2.9",
            "--pacs",
            pacs.setting,
            fails=Unfetched,
            saying="has no CR or DX series in the study 1.2.9",
        )


@pytest.mark.parametrize(
    ("words", "saying"),
    [
        (("echo", "--pacs", "x"), "letters and digits. Write NAME=dicom://AETITLE@HOST:PORT, or NAME=dicoms"),
        (("echo", "--pacs", "x=https://h/p"), "PACS 'x' has the scheme 'https', and a PACS is asked over DICOM"),
        (("echo", "--pacs", "x=http://h"), "--pacs: PACS 'x' has the scheme 'http', and a PACS is asked over DICOM"),
        (("echo", "--pacs", "x=dicoms://A@h:1", "--ca", "none.pem"), "The certificates can't be used (No such file"),
        (("fetch", "1.2*", "--pacs", "x=dicom://A@h:1"), "is no study instance UID"),
    ],
)
def test_what_is_wrong_is_told(words: tuple[str, ...], saying: str) -> None:
    run(*words, fails=UsageError, saying=saying)


@pytest.mark.parametrize(
    ("setting", "saying"),
    [
        ("x", "a PACS has no name of letters and digits. Write NAME=dicom"),
        ("x=dicom://A@h:p", "PACS 'x' has no address that can be read. Write NAME=dicom"),
        ("x=h:104", "PACS 'x' names no host. Write NAME=dicom"),
        ("x=dicom://h:104", "PACS 'x' has no AE title of 1 to 16 ASCII characters. Write NAME=dicom"),
        ("x=dicom://A@h", "PACS 'x' has no port. Write NAME=dicom"),
    ],
)
def test_what_is_wrong_with_a_pacs_names_it_so_and_where_it_was_given(
    setting: str, saying: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HILUM_PACS", "y=dicom://B@h:104")
    run("echo", "--pacs", setting, fails=UsageError, saying=f"--pacs: {saying}")
    monkeypatch.setenv("HILUM_PACS", setting)
    run("echo", fails=UsageError, saying=f"HILUM_PACS: {saying}")


@pytest.mark.parametrize("words", [("echo",), ("find", "--patient-id", "P1"), ("fetch", "1.2.3")])
def test_without_a_pacs_its_forms_are_told(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HILUM_PACS", raising=False)
    said = "No PACS is named, by HILUM_PACS or --pacs. Write NAME=dicom://AETITLE@HOST:PORT, or NAME=dicoms"
    run(*words, fails=UsageError, saying=said)


def test_look_ups_are_listed_and_put_back(tmp_path: Path) -> None:
    Database(f"sqlite:///{tmp_path / 'hilum.db'}").close()
    assert "no look-ups yet: set HILUM_PACS" in run("list", "--data", str(tmp_path))
    assert "In the queue again: 0 look-ups." in run("requeue", "--data", str(tmp_path))
