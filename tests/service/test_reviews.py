"""Reviews, idempotency keys, requeueing and metrics over REST."""

from collections.abc import Iterator

import httpx
import pytest
from tests.service.conftest import let_in
from tests.service.small import SmallModel, png

from hilum.service.app import Running

KIND = {"Content-Type": "image/png"}


@pytest.fixture
def manager(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=90, headers=let_in(service, "model-manager")) as client:
        yield client


def answered(http: httpx.Client, level: int, size: int) -> str:
    reply = http.post("/api/v1/studies?wait=60", content=png(level, size), headers=KIND)
    assert reply.json()["state"] == "answered"
    return str(reply.json()["id"])


def test_a_review_is_made_read_and_changed_by_its_etag(http: httpx.Client, manager: httpx.Client) -> None:
    mine = f"/api/v1/studies/{answered(http, 100, 30)}/reviews/mine"
    assert http.get(mine).status_code == 404
    agree = {"decision": "agree", "comment": "as said"}
    assert http.put(mine, json=agree).status_code == 428
    first = http.put(mine, json=agree, headers={"If-None-Match": "*"})
    assert (first.status_code, first.headers["etag"]) == (200, '"v1"')
    assert http.get(mine).json() == first.json()
    assert http.put(mine, json=agree, headers={"If-None-Match": "*"}).status_code == 412
    override = {"decision": "override", "finding": "normal"}
    second = http.put(mine, json=override, headers={"If-Match": first.headers["etag"]})
    assert (second.headers["etag"], second.json()["finding"]) == ('"v2"', "normal")
    lost = http.put(mine, json=agree, headers={"If-Match": '"v1"'})
    assert lost.status_code == 412
    assert lost.json()["type"] == "urn:hilum:problem:changed-meanwhile"
    assert http.put(mine, json={"decision": "agree", "x": 1}, headers={"If-Match": '"v2"'}).status_code == 422
    assert http.put(mine, json=override, headers={"If-Match": "W/nonsense"}).status_code == 428
    seen = manager.get(mine.removesuffix("/mine")).json()
    assert [(review["reader"], review["version"]) for review in seen] == [("test-reviewer", 2)]


def test_there_is_nothing_to_review_without_a_film(http: httpx.Client) -> None:
    for path in ("", "/mine"):
        assert http.get(f"/api/v1/studies/{'0' * 32}/reviews{path}").status_code == 404


def test_an_idempotency_key_belongs_to_one_film_of_one_sender(http: httpx.Client, manager: httpx.Client) -> None:
    key = {"Idempotency-Key": "order-1"}
    first = http.post("/api/v1/studies", content=png(100, 31), headers=KIND | key)
    again = http.post("/api/v1/studies", content=png(100, 31), headers=KIND | key)
    assert (first.status_code, again.status_code, again.json()["id"]) == (201, 200, first.json()["id"])
    other = http.post("/api/v1/studies", content=png(100, 32), headers=KIND | key)
    assert (other.status_code, "another film" in other.json()["detail"]) == (422, True)
    films = http.get("/api/v1/studies?limit=200").json()["studies"]
    assert len(films) == len({film["sha256"] for film in films})
    assert manager.post("/api/v1/studies", content=png(100, 32), headers=KIND | key).status_code == 201


def test_a_failed_film_is_tried_again_only_when_asked(
    http: httpx.Client, manager: httpx.Client, model: SmallModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hilum.errors import FilmError

    def broken(path: object) -> object:
        raise FilmError("Broken for this test.", code="unreadable")

    with monkeypatch.context() as patched:
        patched.setattr(model, "prepare", broken)
        failed = http.post("/api/v1/studies?wait=60", content=png(100, 33), headers=KIND).json()
    assert (failed["state"], failed["reason"]["code"]) == ("failed", "unreadable")
    requeue = f"/api/v1/studies/{failed['id']}/requeue"
    assert http.post(requeue).status_code == 403
    assert manager.post(requeue).json()["id"] == failed["id"]
    assert http.get(f"/api/v1/studies/{failed['id']}?wait=60").json()["state"] == "answered"
    assert "not failed" in manager.post(requeue).json()["detail"]
    assert manager.post(f"/api/v1/studies/{'0' * 32}/requeue").status_code == 404


def test_metrics_count_by_pattern_and_hold_nothing_of_a_film(http: httpx.Client, manager: httpx.Client) -> None:
    film_id = answered(http, 100, 34)
    http.get(f"/api/v1/studies/{film_id}")
    http.get("/CANARY-path")
    http.request("CANARY", "/")
    reply = manager.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = reply.text
    assert 'hilum_http_requests_total{route="GET /api/v1/studies/{film_id}",status="200"}' in text
    assert 'hilum_films{state="answered"}' in text
    assert "hilum_records_up 1.0" in text
    assert 'hilum_films_worked_on_total{state="answered"}' in text
    assert "hilum_disk_free_bytes" in text
    assert {f'hilum_ready{{part="{part}"}} 1.0' in text for part in ("model", "records", "storage", "audit")} == {True}
    assert "CANARY" not in text
    assert film_id not in text
