"""REST: films in, answers out, every error a problem document."""

import asyncio
import threading
from dataclasses import replace
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from tests.service.small import FINDINGS, SmallModel, dicom, kept, png
from tests.service.test_access import ALLOWED

from hilum.records.schema import FilmRow
from hilum.records.values import Receipt
from hilum.service.announcements import REMEMBERED, Announcements
from hilum.service.app import Running
from hilum.service.intake import Arrival
from hilum.service.reading_first import veiled

DICOM = {"Content-Type": "application/dicom"}
PNG = {"Content-Type": "image/png"}


def send(http: httpx.Client, body: bytes, kind: dict[str, str], **params: object) -> httpx.Response:
    return http.post("/api/v1/studies", content=body, headers=kind, params={"wait": 60, **params})  # type: ignore[arg-type]


def is_problem(reply: httpx.Response, status: int, words: str) -> None:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    body = reply.json()
    assert body["status"] == status
    assert words in body["detail"]
    assert body["type"].startswith("urn:hilum:problem:")


def test_a_film_is_answered_in_one_round_trip(http: httpx.Client, model: SmallModel) -> None:
    reply = send(http, dicom(101, 204), DICOM)
    assert reply.status_code == 201
    study = reply.json()
    assert reply.headers["location"] == f"/api/v1/studies/{study['id']}"
    assert study["state"] == "answered"
    answer = study["answer"]
    assert answer["label"] == "pneumonia"
    assert answer["probabilities"]["normal"] == pytest.approx(0.2)
    assert answer["uncertainty"]["mc_std"]["pneumonia"] == 0.03
    assert answer["gate"]["analyse"] is True
    assert answer["provenance"]["bundle_sha256"] == model.model.sha256
    assert answer["provenance"]["film_sha256"] == study["sha256"]
    assert set(answer["heatmaps"]) == set(FINDINGS)
    assert "not for diagnosis" in study["notice"]


def test_every_address_in_an_answer_leads_somewhere(http: httpx.Client) -> None:
    study = send(http, png(90), PNG).json()
    for address in (study["film"], *study["answer"]["heatmaps"].values()):
        reply = http.get(address)
        assert reply.status_code == 200
        assert reply.headers["content-type"] == "image/png"
        assert reply.content.startswith(b"\x89PNG")
    overlay, layer = (http.get(study["answer"]["heatmaps"]["normal"], params={"layer": v}).content for v in (0, 1))
    assert overlay != layer


def test_the_same_film_again_has_the_same_id_and_no_second_answer(http: httpx.Client, model: SmallModel) -> None:
    first = send(http, png(91), PNG)
    count = sum(model.answered)
    second = send(http, png(91), PNG)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert sum(model.answered) == count


def test_a_preamble_that_makes_a_program_of_a_film_is_not_kept(http: httpx.Client, service: Running) -> None:
    evil = send(http, dicom(102, preamble=b"MZ\x90\0".ljust(128, b"!")), DICOM).json()
    assert service.room.intake.files.path(evil["sha256"]).read_bytes() == kept(dicom(102))
    again = send(http, dicom(102), DICOM)
    assert (again.status_code, again.json()["id"]) == (200, evil["id"])


def test_other_bytes_under_the_same_uid_are_set_aside(http: httpx.Client) -> None:
    first = send(http, dicom(103, 50), DICOM).json()
    second = send(http, dicom(103, 60), DICOM).json()
    assert first["state"] == "answered"
    assert (second["state"], second["reason"]["code"]) == ("quarantined", "same-uid-other-content")
    assert second["answer"] is None
    assert http.get(f"/api/v1/studies/{first['id']}").json() == first


def test_a_film_outside_the_intended_use_is_not_analysed_and_says_why(http: httpx.Client) -> None:
    study = send(http, png(0), PNG).json()
    assert (study["state"], study["reason"]["sentence"]) == ("not-analysed", "All black.")
    assert study["answer"]["label"] is None
    assert study["answer"]["probabilities"] is None


def test_an_unreadable_film_fails_with_its_reason_and_the_next_is_answered(http: httpx.Client) -> None:
    study = send(http, png(92)[:40], PNG).json()
    assert (study["state"], study["reason"]["code"]) == ("failed", "unreadable")
    assert send(http, png(93), PNG).json()["state"] == "answered"
    is_problem(http.get(study["film"]), 422, "can't be read")


def test_the_web_servers_thread_asks_no_records_what_may_be_seen(
    http: httpx.Client, service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def nothing(*_: object) -> tuple[frozenset[str], frozenset[str]]:
        asked.append(threading.current_thread().name)
        return frozenset(), frozenset()

    for part in (service.room.studies, service.room.labelling):
        monkeypatch.setattr(part, "sight", nothing)
    for wait in (10, 0, 10):
        assert send(http, dicom(131), DICOM, wait=wait).json()["answer"]
    assert len(asked) >= 4
    assert "hilum-web" not in asked


def test_a_film_without_an_answer_has_nothing_to_cover(http: httpx.Client, service: Running) -> None:
    film = service.room.store.film(send(http, dicom(132), DICOM).json()["id"])
    assert film is not None
    unanswered = replace(film, answer=None)
    assert veiled(None, None, [unanswered]) == [unanswered]  # type: ignore[arg-type]  # neither is asked


@pytest.mark.parametrize(
    ("wait", "priority", "patient"), [(10, "routine", True), (0, "routine", False), (10, "stat", False)]
)
def test_a_sender_who_waits_for_the_answer_has_time(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch, wait: int, priority: str, patient: bool
) -> None:
    told, finish = [], Arrival.finish

    def watched(arrival: Arrival, **options: Any) -> Receipt:
        told.append(options["patient"])
        return finish(arrival, **options)

    monkeypatch.setattr(Arrival, "finish", watched)
    params: dict[str, Any] = {"wait": wait, "priority": priority}
    assert http.post("/api/v1/studies", content=png(95), headers=PNG, params=params).status_code in (200, 201)
    assert told == [patient]


def test_without_wait_the_answer_is_fetched_later(http: httpx.Client) -> None:
    study = http.post("/api/v1/studies", content=png(94), headers=PNG).json()
    assert http.get(f"/api/v1/studies/{study['id']}", params={"wait": 60}).json()["state"] == "answered"


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (b"", "application/dicom", 422, "empty (0 bytes)"),
        (b"garbage" * 100, "application/dicom", 415, "none of DICOM"),
        (b"%PDF-1.7", "application/octet-stream", 415, "none of DICOM"),
        (png(1), "text/html", 415, "Content-Type must be one of"),
        (png(1), "image/jpeg", 415, "declared as jpeg but is png"),
        (
            bytes(128) + b"DICM" + b"\x02\x00\x01\x00OB\0\0\xff\xff\xff\x7f",
            "application/dicom",
            415,
            "meta information",
        ),
    ],
)
def test_a_body_that_is_no_film_is_refused_by_name(
    http: httpx.Client, body: bytes, kind: str, status: int, words: str
) -> None:
    is_problem(send(http, body, {"Content-Type": kind}), status, words)


@pytest.mark.parametrize("chunked", [False, True])
def test_an_oversize_body_is_refused(http: httpx.Client, service: Running, chunked: bool) -> None:
    body = png(1) + bytes(1024 * 1024)
    content = iter([body[:70_000], body[70_000:]]) if chunked else body
    reply = http.post("/api/v1/studies", content=content, headers=PNG)
    assert reply.status_code == 413
    assert reply.json()["type"] == "urn:hilum:problem:too-large"
    assert list(service.room.intake.files.incoming.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        (f"/api/v1/studies/{'0' * 32}", 404, "No film has this id"),
        ("/api/v1/studies/../../etc/passwd", 404, "Not Found"),
        ("/api/v1/studies/x%00y", 404, "No film has this id"),
        (f"/api/v1/studies/{'0' * 32}/film.png", 404, "No film has this id"),
        ("/api/v1/studies?limit=0", 422, "greater than or equal to 1"),
        ("/api/v1/studies?cursor=x", 422, "not one that this service gave"),
        ("/api/v1/studies?state=lost", 422, "query.state"),
        ("/nowhere", 404, "See /openapi.json"),
    ],
)
def test_a_wrong_address_is_a_problem(http: httpx.Client, path: str, status: int, words: str) -> None:
    is_problem(http.get(path), status, words)


def test_a_wrong_argument_is_not_repeated(http: httpx.Client) -> None:
    assert "Canary" not in http.get("/api/v1/studies?state=Canary&limit=Canary").text


def test_an_unknown_finding_lists_the_known(http: httpx.Client) -> None:
    study = send(http, png(95), PNG).json()
    is_problem(http.get(f"/api/v1/studies/{study['id']}/heatmap/gout.png"), 404, "It has: covid-19, normal, pneumonia.")


def test_the_list_goes_page_by_page(http: httpx.Client) -> None:
    for level in range(40, 45):
        send(http, png(level), PNG)
    seen, cursor = [], None
    while True:
        page = http.get("/api/v1/studies", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [study["id"] for study in page["studies"]]
        cursor = page["next"]
        if not cursor:
            break
    assert len(seen) == len(set(seen)) >= 5
    failed = http.get("/api/v1/studies", params={"state": "failed"}).json()["studies"]
    assert all(study["state"] == "failed" for study in failed)


def test_health(http: httpx.Client) -> None:
    assert http.get("/health/live").json() == {"status": "alive"}
    ready = http.get("/health/ready")
    assert ready.status_code == 200
    assert ready.json()["checks"] == dict.fromkeys(("model", "records", "storage", "audit", "disk"), "ok")


def test_every_reply_is_shielded(http: httpx.Client) -> None:
    for path in ("/", "/static/film.js", "/api/v1/studies", "/nowhere", "/openapi.json"):
        headers = http.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] in ("no-store", "no-cache")
        assert "server" not in headers


def test_a_foreign_host_name_is_refused(http: httpx.Client) -> None:
    """DNS rebinding: a web page elsewhere that resolves to us."""
    assert http.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert http.get("/", headers={"Host": "localhost"}).status_code == 200


def test_openapi_describes_every_route(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    interface = {path for _, path in ALLOWED if path.startswith(("/api/v1/", "/health/", "/metrics"))}
    assert {path for path in document["paths"] if not path.startswith("/dicom-web/")} == interface
    assert "not for diagnosis" in document["info"]["description"]
    for path in document["paths"].values():
        for operation in path.values():
            assert operation["summary"]
            assert operation["description"]


def test_a_film_may_be_urgent(http: httpx.Client, service: Running) -> None:
    """The same field of the records as a C-STORE's priority; who sent it is whose turn it takes."""
    ids = [send(http, png(level), PNG, priority=what).json()["id"] for level, what in ((33, "stat"), (34, "routine"))]
    with service.room.database.read() as session:
        rows = {row.id: (row.urgent, row.sender) for row in session.scalars(select(FilmRow).where(FilmRow.id.in_(ids)))}
    assert [rows[film_id] for film_id in ids] == [(True, "test-reviewer"), (False, "test-reviewer")]
    is_problem(send(http, png(35), PNG, priority="soon"), 422, "priority")


def test_an_announcement_that_came_before_anybody_listened_counts_for_a_new_film() -> None:
    announcements = Announcements()

    async def heard(film_id: str, *, new: bool) -> bool:
        async with announcements.listen(film_id, new=new) as announced:
            return announced.is_set()

    for number in range(REMEMBERED + 1):
        announcements.announce(str(number))
    assert asyncio.run(heard("7", new=True))
    assert not asyncio.run(heard("7", new=False)), "it may be an older one"
    assert not asyncio.run(heard("0", new=True)), "forgotten; who waits looks when the time is over"
