"""The stream of what happens to films: in order, resumable, without identifiers, for those who may, and capped."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from tests.service.conftest import let_in, settings_in
from tests.service.small import SmallDrawing, SmallModel, dicom, png

from hilum.errors import ServiceError
from hilum.records.events import Events, Stretch
from hilum.service import following
from hilum.service.app import Running, running

KIND = {"Content-Type": "image/png"}


@contextlib.contextmanager
def stream(service: Running, headers: dict[str, str], **params: int) -> Iterator[Iterator[dict[str, str]]]:
    """Messages of a stream as mappings of their fields."""
    with (
        httpx.Client(base_url=service.url, timeout=90, headers=headers) as http,
        http.stream("GET", "/api/v1/events", params=params) as reply,
    ):
        assert reply.status_code == 200, reply.read()
        assert reply.headers["content-type"].startswith("text/event-stream")
        yield messages(reply.iter_lines())


def messages(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield fields
            fields = {}


def take(found: Iterator[dict[str, str]], until: Callable[[dict[str, str]], bool]) -> list[dict[str, str]]:
    taken = []
    for one in found:
        if "data" in one:
            taken.append(one)
            if until(json.loads(one["data"])):
                return taken
    raise AssertionError("the stream ended")


def test_changes_come_in_order_and_a_follower_goes_on_where_it_was(service: Running, http: httpx.Client) -> None:
    headers = let_in(service, "viewer")
    with stream(service, headers) as found:
        first = next(found)
        assert set(first) == {"retry", "id"}, "a first id, so that a follower that breaks off at once misses nothing"
        body, kind = dicom(901, 60, PatientName="CANARY7"), {"Content-Type": "application/dicom"}
        film = http.post("/api/v1/studies?wait=60", content=body, headers=kind)
        told = take(found, lambda said: said["kind"] == "answered")
    film_id = film.json()["id"]
    said = [json.loads(one["data"]) for one in told]
    assert [(one["film"], one["kind"]) for one in said] == [(film_id, "received"), (film_id, "answered")]
    assert all(set(one) == {"film", "kind", "at"} for one in said)
    assert "CANARY7" not in str(told)
    assert {one["event"] for one in told} == {"film"}
    places = [int(one["id"]) for one in told]
    assert places == sorted(places)
    http.put(f"/api/v1/studies/{film_id}/reviews/mine", json={"decision": "agree"}, headers={"If-None-Match": "*"})
    with stream(service, headers | {"Last-Event-ID": str(places[0])}, after=0) as found:
        again = take(found, lambda said: said["kind"] == "reviewed")
    assert again[0] == told[1], "behind the last one that it saw, although the address asks for all"
    assert json.loads(again[-1]["data"])["film"] == film_id


def test_a_stream_goes_on_after_a_restart(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, dicom_port=None)
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
        headers = let_in(service)
        with stream(service, headers, after=0) as found, httpx.Client(base_url=service.url, headers=headers) as http:
            http.post("/api/v1/studies", content=png(33), headers=KIND)
            (seen,) = take(found, lambda said: said["kind"] == "received")
            service.room.stop_accepting()
            assert all('"answered"' in one.get("data", '"answered"') for one in found), "the stop ends the stream"
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
        with stream(service, headers | {"Last-Event-ID": seen["id"]}) as found:
            (next_one,) = take(found, lambda said: True)
        assert json.loads(next_one["data"])["kind"] == "answered"


def test_only_so_many_follow_at_once_and_a_place_is_given_back(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = let_in(service)
    monkeypatch.setattr(service.room, "streams", following.Streams(1))
    with stream(service, headers):
        refused = httpx.get(f"{service.url}/api/v1/events", headers=headers)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
        assert "1 follow the events already" in refused.json()["detail"]
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(AssertionError), stream(service, headers) as found:
            assert "id" in next(found)
            return
        time.sleep(0.02)
    raise AssertionError("the place was not given back")


def test_a_place_that_is_none_is_refused(service: Running) -> None:
    for place in ("-1", "x", "9" * 30):
        reply = httpx.get(f"{service.url}/api/v1/events", headers=let_in(service) | {"Last-Event-ID": place})
        assert (reply.status_code, reply.headers["content-type"]) == (422, "application/problem+json")


def followed(events: object, *, allowed: bool = True, ended: bool = False) -> list[str]:
    async def run() -> list[str]:
        async def may() -> bool:
            return allowed

        text = following.follow(events, 7, ended=lambda: ended, allowed=may, poll_s=0.001, heartbeat_s=0.002)  # type: ignore[arg-type]
        pieces = []
        async for piece in text:
            pieces.append(piece)
            if len(pieces) == 4:
                await text.aclose()
        return pieces

    return asyncio.run(run())


class Quiet:
    def behind(self, place: int) -> Stretch:
        return Stretch(events=(), place=place + 1, more=False)


class Away:
    def behind(self, place: int) -> Stretch:
        raise ServiceError("The records are away.")


def test_a_heartbeat_tells_how_far_it_is_and_a_revoked_key_ends_it() -> None:
    assert followed(Quiet()) == ["retry: 2000\nid: 7\n\n", "id: 9\n\n", "id: 11\n\n", "id: 13\n\n"]
    assert followed(Quiet(), allowed=False) == ["retry: 2000\nid: 7\n\n"]
    assert followed(Quiet(), ended=True) == ["retry: 2000\nid: 7\n\n"]
    assert followed(Away()) == ["retry: 2000\nid: 7\n\n"]


def test_a_long_history_is_read_in_stretches(
    service: Running, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for level in (181, 182, 183):
        http.post("/api/v1/studies?wait=60", content=png(level), headers=KIND)
    monkeypatch.setattr("hilum.records.events.ROWS", 2)
    events, place, seen, reads = Events(service.room.database), 0, [], 0
    while True:
        stretch = events.behind(place)
        assert stretch.more is (stretch.place == place + 2)
        seen += stretch.events
        place, reads = stretch.place, reads + 1
        if not stretch.more:
            break
    assert place == events.now()
    assert reads > 2
    assert [one.place for one in seen] == sorted({one.place for one in seen})
