"""Alarms of the monitor on the page and over REST: who may see them, take them on and close them, once, with a row in
the audit, and how many are open in the metrics."""

import html
import json
import re
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import yaml
from tests.service.conftest import let_in

from hilum.records.alarms import Alarm, detail_of
from hilum.records.audit import entries
from hilum.records.schema import AlarmRow
from hilum.records.store import now
from hilum.service.app import Running
from hilum.service.rest.access import COOKIE

XSS = "<img src=x onerror=alert(1)>"
NOBODY_HAS = "nobody has acknowledged it"


@pytest.fixture(scope="module")
def manager(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=90, headers=let_in(service, "model-manager")) as http:
        yield http


@pytest.fixture(scope="module")
def auditor(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=90, headers=let_in(service, "auditor")) as http:
        yield http


@pytest.fixture
def alarm(service: Running) -> Iterator[str]:
    """An open one, as the monitor opens it; it is gone afterwards."""
    at = now() - timedelta(days=3)
    made = Alarm(
        id=secrets.token_hex(8), state="open", owner="quality manager", opened_at=at, streams=("device", "features"),
        culprit="device", sentence=f"device changed in two looks in a row. {XSS}",
    )  # fmt: skip
    row = AlarmRow(id=made.id, state="open", owner=made.owner, opened_at=at, culprit=made.culprit)
    row.detail = detail_of(made, 7.0)
    with service.room.database.write() as session:
        session.add(row)
    yield made.id
    with service.room.database.write() as session:
        session.delete(session.get_one(AlarmRow, made.id))


def read(http: httpx.Client, path: str) -> str:
    """A page without its tags."""
    text = http.get(path).text
    assert XSS not in text
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", text)))


def test_without_an_alarm_the_page_says_who_opens_one_and_others_say_nothing(
    manager: httpx.Client, auditor: httpx.Client
) -> None:
    assert "No alarm is open. hilum monitor check" in read(auditor, "/monitoring")
    assert manager.get("/api/v1/alarms").json() == {"alarms": [], "next": None}
    for path in ("/models", "/operations"):
        assert NOBODY_HAS not in read(manager, path)
    assert 'hilum_alarms_open{state="open"} 0.0' in manager.get("/metrics").text


def test_an_open_alarm_is_told_with_its_owner_and_on_other_pages_in_one_line(
    manager: httpx.Client, auditor: httpx.Client, http: httpx.Client, alarm: str
) -> None:
    said = read(manager, "/monitoring")
    for words in (
        "device changed in two looks",
        "Owner quality manager",
        "Streams device, features",
        NOBODY_HAS,
        alarm,
    ):
        assert words in said
    for path in ("/models", "/operations"):
        text = manager.get(path).text
        assert NOBODY_HAS in text
        assert 'href="/monitoring">device</a> (owner: quality manager)' in text
    assert f"{NOBODY_HAS}." in read(http, "/models"), "a reader is told, and led nowhere"
    assert 'hilum_alarms_open{state="open"} 1.0' in manager.get("/metrics").text
    assert "data-post" not in auditor.get("/monitoring").text
    assert "data-make" not in auditor.get("/monitoring").text
    (told,) = auditor.get("/api/v1/alarms").json()["alarms"]
    assert (told["id"], told["state"], told["owner"], told["streams"]) == (
        alarm, "open", "quality manager", ["device", "features"],
    )  # fmt: skip


def test_it_is_taken_on_and_closed_with_a_reason_once_each(service: Running, manager: httpx.Client, alarm: str) -> None:
    at = f"/api/v1/alarms/{alarm}"
    assert manager.get("/monitoring").text.count(f'data-post="{at}/acknowledge"') == 1
    taken = manager.post(f"{at}/acknowledge").json()
    assert (taken["state"], taken["acknowledged_by"]) == ("acknowledged", "test-model-manager")
    again = manager.post(f"{at}/acknowledge")
    assert (again.status_code, again.json()["detail"]) == (
        409, "The alarm is acknowledged, so it can't be acknowledged. Only open alarms can.",
    )  # fmt: skip
    assert "acknowledged by test-model-manager" in read(manager, "/monitoring")
    assert f"{at}/acknowledge" not in manager.get("/monitoring").text
    assert NOBODY_HAS not in read(manager, "/models")
    assert 'hilum_alarms_open{state="acknowledged"} 1.0' in manager.get("/metrics").text
    for body in ({}, {"reason": ""}, {"reason": " "}, {"reason": "x" * 501}, {"reason": "a\x00"}):
        assert manager.post(f"{at}/close", json=body).status_code == 422
    day = f"{now():%Y-%m-%d}"
    closed = manager.post(f"{at}/close", json={"reason": f" A new detector {XSS}. "}).json()
    assert (closed["state"], closed["closed_by"]) == ("closed", "test-model-manager")
    late = manager.post(f"{at}/close", json={"reason": "Me too."})
    assert (late.status_code, late.json()["detail"]) == (409, "The alarm is closed already.")
    said = read(manager, "/monitoring")
    assert "No alarm is open." in said
    # It is another day where midnight passed meanwhile.
    assert any(f"test-model-manager, {one}" in said for one in (day, f"{now():%Y-%m-%d}"))
    assert "A new detector" in said
    assert f"{at}/close" not in manager.get("/monitoring").text
    with service.room.database.read() as session:
        rows = [row for row in entries(session) if row.act.startswith("alarm.") and row.subject == alarm]
    assert [(row.act, row.actor) for row in rows] == [
        ("alarm.acknowledged", "test-model-manager"), ("alarm.closed", "test-model-manager"),
    ]  # fmt: skip
    assert json.loads(rows[-1].body)["detail"]["reason"] == f"A new detector {XSS}."


def test_of_many_who_take_it_on_at_once_one_has_it(service: Running, manager: httpx.Client, alarm: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: manager.post(f"/api/v1/alarms/{alarm}/acknowledge").status_code, range(8)))
    assert sorted(replies) == [200, *[409] * 7]


def test_an_alarm_that_is_not_there_is_told(manager: httpx.Client) -> None:
    for step, body in (("acknowledge", None), ("close", {"reason": "Why not."})):
        reply = manager.post(f"/api/v1/alarms/none/{step}", json=body)
        assert (reply.status_code, reply.json()["detail"]) == (
            404, "No alarm has this id. GET /api/v1/alarms lists them.",
        )  # fmt: skip


def test_a_session_needs_the_pages_own_token(service: Running, alarm: str) -> None:
    let_in(service, "model-manager")
    token = service.room.access.begin_session("test-model-manager", how="test")
    with httpx.Client(base_url=service.url, timeout=90, cookies={COOKIE: token}) as http:
        refused = http.post(f"/api/v1/alarms/{alarm}/acknowledge")
        assert (refused.status_code, "page's own token" in refused.json()["detail"]) == (403, True)
        csrf = re.search(
            r'name="csrf" content="([^"]+)"', http.get("/monitoring", headers={"Accept": "text/html"}).text
        )
        assert csrf
        taken = http.post(f"/api/v1/alarms/{alarm}/acknowledge", headers={"X-CSRF-Token": csrf[1]})
        assert taken.status_code == 200


def test_prometheus_is_told_to_call_somebody(manager: httpx.Client) -> None:
    rules = yaml.safe_load((Path(__file__).parents[2] / "deploy" / "alerts.yml").read_text())["groups"][0]["rules"]
    (rule,) = [one for one in rules if one["alert"] == "MonitorAlarmOpen"]
    assert rule["expr"].split(" > ")[0] in manager.get("/metrics").text
