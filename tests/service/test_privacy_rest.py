"""Erasing a patient, and asking a PACS for priors anew, over REST while the service runs on SQLite."""

from pathlib import Path

import httpx
import pytest
from sqlalchemy import text
from tests.service.conftest import let_in, settings_in
from tests.service.small import SmallDrawing, SmallModel, dicom
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.records.audit import check, entries
from hilum.records.erased_list import read_erased
from hilum.records.schema import LookUpRow
from hilum.records.store import now
from hilum.service.app import Running, running

KIND = {"Content-Type": "application/dicom"}
CANARY = "MRCANARY"


def test_a_patient_is_erased_while_the_service_runs(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, dicom_port=None)
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
        headers = let_in(service, "reviewer", "admin")
        with httpx.Client(base_url=service.url, timeout=90, headers=headers) as http:
            sent = [
                http.post("/api/v1/studies?wait=60", content=dicom(n, 100 + n, **who), headers=KIND).json()
                for n, who in ((1, {"PatientID": CANARY}), (2, {"PatientID": CANARY}), (3, {"PatientID": "other"}))
            ]
            assert http.get(sent[0]["film"]).status_code == 200
            done = http.post("/api/v1/privacy/erase", json={"patient_id": f" {CANARY}"})
            assert (done.status_code, done.json()) == (200, {"films": 2, "unreadable": [], "left_over": []})
            assert http.post("/api/v1/privacy/erase", json={"patient_id": CANARY}).json()["films"] == 0
            assert [http.get(one["film"]).status_code for one in sent] == [404, 404, 200]
            assert not [key for key in service.room.pictures._pictures if key[0] == sent[0]["id"]]
            for wrong in ({}, {"patient_id": CANARY, "study_uid": "1.2"}, {"patient_id": " "}):
                refused = http.post("/api/v1/privacy/erase", json=wrong)
                assert (refused.status_code, CANARY in refused.text) == (422, False)
            again = http.post("/api/v1/studies?wait=60", content=dicom(9, 109), headers=KIND).json()
            assert again["state"] == "answered", "the service goes on"
        with service.room.database.read() as session:
            rows = entries(session)
        assert check(rows).whole
        assert [(row.actor, row.act) for row in rows if row.act == "privacy.erased"] == [
            ("test-reviewer-admin", "privacy.erased")
        ] * 2
    assert set(read_erased(settings.data / "erasures.jsonl")) == {one["id"] for one in sent[:2]}
    assert CANARY.encode() not in b"".join(path.read_bytes() for path in settings.data.rglob("*") if path.is_file())


def test_a_patient_is_erased_from_the_console_beside_a_service_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HILUM_DATABASE_URL", "HILUM_DATA_KEY", "HILUM_DATA_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    settings = settings_in(tmp_path, dicom_port=None)
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
        headers = let_in(service, "reviewer", "admin")
        with httpx.Client(base_url=service.url, timeout=90, headers=headers) as http:
            send = "/api/v1/studies?wait=60"
            named = http.post(send, content=dicom(1, 101, PatientID=CANARY), headers=KIND).json()
            other = http.post(send, content=dicom(2, 102, PatientID="other"), headers=KIND).json()
            show = ["audit", "show", named["id"], "--data", str(settings.data)]
            shown = CliRunner().invoke(app, show)
            assert (shown.exit_code, "is in the records as it was written down" in shown.output) == (0, True)
            with service.room.database.write() as session:
                session.execute(
                    text("UPDATE answers SET label = 'covid-19' WHERE film_id = :film"), {"film": named["id"]}
                )
            shown = CliRunner().invoke(app, show)
            assert (shown.exit_code, "was CHANGED in the records" in shown.output) == (1, True)
            done = CliRunner().invoke(app, ["privacy", "erase", "--patient", CANARY, "--data", str(settings.data)])
            assert done.exit_code == 0, (done.output, done.exception)
            assert "erased: 1 film," in done.output
            assert "is not in the records any more" in CliRunner().invoke(app, show).output
            assert [http.get(one["film"]).status_code for one in (named, other)] == [404, 200]
            left = b"".join(path.read_bytes() for path in settings.data.rglob("*") if path.is_file())
            assert CANARY.encode() not in left, "while it runs"
            again = http.post(send, content=dicom(9, 109, PatientID=CANARY), headers=KIND).json()
            assert again["state"] == "answered"
        with service.room.database.read() as session:
            assert check(entries(session)).whole


def test_look_ups_are_listed_and_asked_anew(service: Running) -> None:
    with httpx.Client(base_url=service.url, timeout=90, headers=let_in(service, "reviewer", "admin")) as http:
        film = http.post("/api/v1/studies?wait=60", content=dicom(71, 91), headers=KIND).json()["id"]
        with service.room.database.write() as session:
            at = now()
            session.add(
                LookUpRow(
                    film_id=film, state="dead", attempts=5, created_at=at, due_at=at, finished_at=at,
                    reason_code="away", reason="The PACS could not be reached.",
                )
            )  # fmt: skip
        shown = http.get("/api/v1/look-ups").json()
        assert (shown["dead"], shown["waiting"]) == (1, 0)
        (lost,) = shown["given_up"]
        assert (lost["film"], lost["code"], lost["attempts"]) == (film, "away", 5)
        wrong = http.post("/api/v1/look-ups/requeue", json={"id": "0" * 32})
        assert (wrong.status_code, "No finished look-up" in wrong.json()["detail"]) == (422, True)
        assert http.post("/api/v1/look-ups/requeue", json={"id": film}).json() == {"requeued": 1}
        assert http.post("/api/v1/look-ups/requeue").json() == {"requeued": 0}
        assert http.get("/api/v1/look-ups").json()["given_up"] == []
    with service.room.database.read() as session:
        assert [row.actor for row in entries(session, subject=film) if row.act == "priors.requeued"] == [
            "test-reviewer-admin"
        ]
