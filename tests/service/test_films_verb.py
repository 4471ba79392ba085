"""``hilum films show``: from the number in a report to how its answer came about, beside a running service."""

import json
from pathlib import Path

import httpx
import pytest
from tests.service.conftest import let_in, settings_in
from tests.service.small import SmallDrawing, SmallModel, dataset, dicom
from tests.service.test_dicom import associated, port_of
from tests.service.test_peers import until
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.data_keys import new_data_key
from hilum.errors import UsageError
from hilum.records.audit import entries
from hilum.records.schema import AnswerRow
from hilum.service.app import running

ACCESSION, PATIENT = "A-1701", "CANARY-PATIENT"


def show(data: Path, named: str, *, typed: str | None = None, code: int = 0) -> tuple[str, dict[str, object]]:
    words = ["films", "show", named, "--data", str(data), "--json"]
    done = CliRunner().invoke(app, words, input=typed, catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stderr, json.loads(done.stdout.splitlines()[-1])


def test_from_a_reports_number_to_its_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_data_key().text
    monkeypatch.setenv("HILUM_DATA_KEY", key)
    settings = settings_in(tmp_path, data_key=key, dicom_port=0, results_to=("pacs=dicom://PACS@127.0.0.1:9",))
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
        with associated(port_of(service), title="CR1") as association:
            sent = dataset(1701, AccessionNumber=ACCESSION, PatientID=PATIENT)
            assert association.send_c_store(sent).Status == 0x0000
        with httpx.Client(base_url=service.url, timeout=90, headers=let_in(service)) as http:
            (film,) = http.get("/api/v1/studies").json()["studies"]
            answer = http.get(f"/api/v1/studies/{film['id']}?wait=60").json()["answer"]
            mine = f"/api/v1/studies/{film['id']}/reviews/mine"
            assert http.put(mine, json={"decision": "agree"}, headers={"If-None-Match": "*"}).is_success
            body = dicom(1702, AccessionNumber="B-1702", PatientID=PATIENT)
            http.post("/api/v1/studies?wait=60", content=body, headers={"Content-Type": "application/dicom"})
        until(service.room.outbox.dead)
        lines, summary = show(settings.data, ACCESSION)
        for words in (
            f"film {film['id']}: answered",
            "received over DICOM, AE title CR1, SHA-256 ",
            f"answered: {answer['label']}, by the model ",
            "seen by test-reviewer (film.viewed)",
            "read by test-reviewer, who agreed",
            "the result for pacs was given up, 1 attempt: The film has no SeriesInstanceUID",
            "is in the records as it was written down",
        ):
            assert words in lines, lines
        assert PATIENT not in lines + json.dumps(summary)
        assert len(summary["films"]) == 1  # type: ignore[arg-type]
        for named, typed in ((str(sent.SOPInstanceUID), None), (film["id"], None), ("-", f" {ACCESSION}\n")):
            again, _ = show(settings.data, named, typed=typed)
            assert "seen by console (film.viewed, history)" in again
        with service.room.database.read() as session:
            looks = [one for one in entries(session, subject=film["id"]) if one.actor == "console"]
        assert [one.act for one in looks] == ["film.viewed"] * 4
        with pytest.raises(UsageError, match="No film is known by that") as error:
            CliRunner().invoke(app, ["films", "show", PATIENT, "--data", str(settings.data)], catch_exceptions=False)
        assert PATIENT not in str(error.value)
        with service.room.database.write() as session:
            session.query(AnswerRow).filter_by(film_id=film["id"]).one().label = "other"
        assert "was CHANGED in the records" in show(settings.data, ACCESSION, code=1)[0]
