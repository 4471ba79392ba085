"""Canary names in every field leave no trace in logs, addresses, replies and errors."""

import io
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pynetdicom import AE
from tests.service.conftest import let_in, settings_in
from tests.service.small import CR, SmallDrawing, SmallModel, dataset, dicom

from hilum.data_keys import new_data_key
from hilum.service import logs
from hilum.service.app import running
from hilum.service.logs import logger, start_logs, where

CANARY = "CANARY7"
FIELDS = {
    "PatientName": f"{CANARY}^Name",
    "PatientID": f"{CANARY}-id",
    "PatientAddress": f"{CANARY} street",
    "PatientComments": CANARY,
    "ReferringPhysicianName": CANARY,
    "InstitutionName": CANARY,
    "StudyDescription": CANARY,
    "StudyID": CANARY,
    "SeriesInstanceUID": "1.2.3",
}


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    out = io.StringIO()
    foreign = [logging.getLogger(name) for name in logs.FOREIGN]
    before = [(list(one.handlers), one.propagate, one.level) for one in foreign]
    monkeypatch.setattr(logs, "_log", logs._log)
    start_logs(out, logging.DEBUG)
    yield out
    for one, (handlers, propagates, level) in zip(foreign, before, strict=True):
        one.handlers[:], one.propagate = handlers, propagates
        one.setLevel(level)


class Leaky(SmallModel):
    """Quotes the film in a foreign exception, as libraries do."""

    def prepare(self, path: Path) -> object:
        ready = super().prepare(path)
        if b"LEAK" in path.read_bytes():
            raise ValueError(f"can't parse {CANARY}")
        return ready


def test_canaries_are_nowhere(tmp_path: Path, log: io.StringIO) -> None:
    settings = settings_in(tmp_path, dicom_port=0, max_attempts=1)
    replies: list[httpx.Response] = []
    with running(settings, answering=Leaky(), drawing=SmallDrawing()) as service:  # type: ignore[arg-type]
        with httpx.Client(base_url=service.url, timeout=90, headers=let_in(service)) as http:
            for body in (
                dicom(401, **FIELDS),
                dicom(402, **FIELDS, ImageComments="LEAK"),
                dicom(403, **FIELDS)[:-100],
                CANARY.encode() * 100,
            ):
                kind = {"Content-Type": "application/dicom"}
                replies.append(http.post("/api/v1/studies?wait=60", content=body, headers=kind))
            replies += [http.get(path) for path in ("/api/v1/studies", "/", "/health/ready")]
            replies += [http.get(f"/films/{s['id']}") for s in replies[4].json()["studies"]]
            http.get(f"/{CANARY}?{CANARY}={CANARY}")
            service.room.dicomweb.indexer.step()
            found = http.get("/dicom-web/studies", params={"PatientName": f"{CANARY}*", "PatientID": f"{CANARY}-id"})
            assert found.status_code == 200, "here it is told, to those who may know it, and nowhere else"
            for query in (f"{CANARY}=1", f"StudyDate={CANARY}", f"PatientName={CANARY}&fuzzymatching={CANARY}"):
                replies.append(http.get(f"/dicom-web/studies?{query}"))
            replies.append(http.get(f"/dicom-web/studies/{CANARY}"))
            http.get(f"/api/v1/studies/{CANARY}", headers={"User-Agent": CANARY})
        entity = AE(ae_title=CANARY)
        entity.add_requested_context(CR)
        association = entity.associate("127.0.0.1", service.dicom_port or 0)
        assert association.send_c_store(dataset(404, **FIELDS)).Status == 0
        association.release()
    assert [reply.status_code for reply in replies[:4]] == [201, 201, 201, 415]
    assert [reply.json()["state"] for reply in replies[:3]] == ["answered", "failed", "failed"]
    assert CANARY not in "".join(reply.text + str(reply.headers) for reply in replies)
    assert CANARY not in log.getvalue()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert {"film received", "film worked on", "film failed", "request"} <= {line["event"] for line in lines}
    assert any(line.get("error") == "ValueError" and line["at"] for line in lines)
    for reply in replies[:2]:
        told = {line["event"] for line in lines if line.get("request") == reply.headers["x-request-id"]}
        assert told == {"film received", "request"}, "the lines of one request bear its id"
    assert len({reply.headers["x-request-id"] for reply in replies}) == len(replies)


def test_with_a_data_key_canaries_lie_nowhere_readable(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, data_key=new_data_key().text, max_attempts=1)
    uid = "1.2.826.0.1.3680043.10.1.777"
    with (
        running(settings, answering=Leaky(), drawing=SmallDrawing()) as service,  # type: ignore[arg-type]
        httpx.Client(base_url=service.url, timeout=90, headers=let_in(service)) as http,
    ):
        kind = {"Content-Type": "application/dicom"}
        bodies = (dicom(777, AccessionNumber=CANARY, **FIELDS), dicom(778, **FIELDS)[:-100], dicom(777, 99, **FIELDS))
        sent = [http.post("/api/v1/studies?wait=60", content=body, headers=kind).json() for body in bodies]
        assert [one["state"] for one in sent] == ["answered", "failed", "quarantined"]
        review = {"decision": "agree", "comment": f"{CANARY} is well"}
        mine = f"/api/v1/studies/{sent[0]['id']}/reviews/mine"
        assert http.put(mine, json=review, headers={"If-None-Match": "*"}).status_code in (200, 201)
        assert CANARY in http.get("/").text, "whoever may read sees the accession number"
        lying = b"".join(path.read_bytes() for path in settings.data.rglob("*") if path.is_file())
    lying += b"".join(path.read_bytes() for path in settings.data.rglob("*") if path.is_file())
    assert CANARY.encode() not in lying
    assert uid.encode() not in lying


def test_a_foreign_exception_is_logged_without_its_message(log: io.StringIO) -> None:
    try:
        raise KeyError(CANARY)
    except KeyError as error:
        logger().error("it happened", **where(error))
        logging.getLogger("uvicorn.error").error("Exception", exc_info=error)
    first, second = (json.loads(line) for line in log.getvalue().splitlines())
    assert first["error"] == second["error"] == "KeyError"
    assert first["at"][-1].startswith("test_privacy.py:")
    assert [one["event"] for one in (first, second)] == ["it happened", "an exception that nobody caught"]
    assert [one["level"] for one in (first, second)] == ["error", "error"]
    assert CANARY not in log.getvalue()


def test_a_flood_of_foreign_lines_fills_no_disk(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """As asyncio's are where no file can be opened any more, each with a traceback."""
    now, foreign = [0.0], logging.getLogger("asyncio")
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for _ in range(1000):
        foreign.error("socket.accept() out of system resource\nsocket: %s", CANARY)
    foreign.warning("another severity")
    now[0] += logs.WINDOW_S
    foreign.error("out of system resource", exc_info=OSError(24, CANARY))
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [one["event"] for one in lines] == [
        *["socket.accept() out of system resource"] * logs.MOST_LINES,
        "another severity",
        "lines left out",
        "an exception that nobody caught",
    ]
    assert (lines[-2]["lines"], lines[-2]["seconds"], lines[-1]["error"]) == (1000 - logs.MOST_LINES, 60, "OSError")
    assert CANARY not in log.getvalue()


def test_a_log_that_can_not_be_written_stops_nobody(log: io.StringIO) -> None:
    logger().info("first")
    log.close()
    logger().error("second")
    logging.getLogger("uvicorn.error").error("third")


def test_a_line_that_can_not_be_made_stops_nobody(log: io.StringIO) -> None:
    circle: list[object] = []
    circle.append(circle)
    logger().info("in a circle", circle=circle)
    for level, text in ((logging.WARNING + 5, "between two levels"), (logging.INFO, "%d films")):
        record = logging.makeLogRecord({"levelno": level, "msg": text, "args": (CANARY,) if "%" in text else ()})
        logging.getLogger("uvicorn.error").handlers[0].handle(record)
    said = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(one["event"], one["level"]) for one in said] == [
        ("between two levels", "warning"),
        ("a line that can't be put together", "info"),
    ]


def test_without_logs_started_the_library_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    logger().warning("nobody asked")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
