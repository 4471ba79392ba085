"""Every error is a problem document; requests with a key of their own make nothing twice; lists have pages."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from tests.service.conftest import let_in
from tests.service.small import SmallModel

from hilum.errors import BundleError, DataError, FilmError, HilumError, LabelError, ServiceError, UsageError
from hilum.records.access import Access
from hilum.records.registry import Registered, Registry
from hilum.service import shield
from hilum.service.app import Running
from hilum.service.shield import KnownHosts, Shield

FIRST, SECOND = "a" * 64, "b" * 64


@pytest.fixture
def admin(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=90, headers=let_in(service, "admin")) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "code"),
    [
        ("GET", "/nowhere", {}, b"", 404, "not-found"),
        ("GET", "/static/nothing.js", {}, b"", 404, "not-found"),
        ("PATCH", "/api/v1/studies", {}, b"", 405, "method-not-allowed"),
        ("POST", "/health/live", {}, b"", 405, "method-not-allowed"),
        ("POST", "/static/worklist.js", {}, b"", 405, "method-not-allowed"),
        ("POST", "/api/v1/users", {"Content-Type": "text/xml"}, b"<a/>", 415, "unsupported"),
        ("POST", "/api/v1/users", {"Content-Type": "application/json"}, b"<a/>", 422, "wrong-argument"),
        ("POST", "/api/v1/users", {"Content-Type": "application/json"}, b" " * (1 << 20) + b"{}", 413, "too-large"),
        ("GET", "/api/v1/users", {"Host": "evil.example"}, b"", 400, "unknown-host"),
        ("GET", "/api/v1/keys?cursor=x", {}, b"", 422, "wrong-argument"),
        ("GET", "/api/v1/results?cursor=x", {}, b"", 422, "wrong-argument"),
    ],
)
def test_every_error_is_a_problem_document(
    admin: httpx.Client, method: str, path: str, headers: dict[str, str], body: bytes, status: int, code: str
) -> None:
    reply = admin.request(method, path, headers=headers, content=body)
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    said = reply.json()
    assert (said["type"], said["status"]) == (f"urn:hilum:problem:{code}", status)
    assert said["detail"].endswith(".")
    assert (status == 405) is ("allow" in reply.headers)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (DataError("The film's key k1 is not in the ring. Put it back."), 422, "unusable-data"),
        (LabelError("'flu' is not a finding. Take one that is."), 422, "unusable-data"),
        (FilmError("The film's file was changed. Restore it.", code="damaged"), 422, "damaged"),
        (BundleError("The bundle was exchanged. Put it back."), 422, "refused"),
        (HilumError("It can't be done. Do something else."), 422, "refused"),
        (UsageError("7 is no page. Take another."), 422, "wrong-argument"),
        (ServiceError("The records are away. Look at the database."), 503, "unavailable"),
    ],
)
def test_every_error_of_ours_that_a_route_lets_through_is_a_problem_document(
    service: Running, admin: httpx.Client, monkeypatch: pytest.MonkeyPatch, error: HilumError, status: int, code: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(service.room.store, "films", refuse)
    reply = admin.get("/api/v1/studies")
    assert (reply.status_code, reply.headers["content-type"]) == (status, "application/problem+json"), reply.text
    said = reply.json()
    assert (said["type"], said["status"], said["detail"]) == (f"urn:hilum:problem:{code}", status, str(error))


def asked(app: object, host: str) -> tuple[int, dict[bytes, bytes]]:
    """Status and headers of one request to an ASGI application."""
    sent: list[dict[str, object]] = []

    async def run() -> None:
        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", host.encode())]}
        await app(scope, None, send)  # type: ignore[operator]

    asyncio.run(run())
    return sent[0]["status"], dict(sent[0]["headers"])  # type: ignore[call-overload,return-value]


async def inside(scope: object, receive: object, send: object) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b""})  # type: ignore[operator]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("a.example:80", 200),
        ("A.EXAMPLE", 200),
        ("[::1]:8042", 200),
        ("x.b.example", 200),
        ("b.example", 400),
        ("evil-b.example", 400),
        ("a.example.evil", 400),
        ("", 400),
        ("[::2]", 400),
    ],
)
def test_it_answers_to_its_names_alone(host: str, status: int) -> None:
    assert asked(KnownHosts(inside, ["a.example", "[::1]", "*.b.example"]), host)[0] == status
    assert asked(KnownHosts(inside, ["*"]), host)[0] == 200


def test_more_requests_than_it_can_are_told_when_to_come_again() -> None:
    status, headers = asked(Shield(inside, most=0), "a")
    assert (status, headers[b"retry-after"], headers[b"content-type"]) == (503, b"10", b"application/problem+json")
    assert asked(Shield(inside, most=1), "a")[0] == 200


def test_a_form_that_breaks_off_is_no_fault_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whoever breaks off forms fills the log, and wakes who watches over server errors."""
    counted: list[tuple[str, int]] = []
    monkeypatch.setattr(shield, "logger", lambda: Unheard())

    async def run() -> None:
        async def receive() -> dict[str, object]:
            return {"type": "http.disconnect"}

        async def reads(scope: Any, receive: Any, send: Any) -> None:
            await Request(scope, receive).body()

        scope = {"type": "http", "method": "POST", "path": "/login", "headers": []}
        await Shield(reads, lambda route, status, _: counted.append((route, status)))(scope, receive, None)  # type: ignore[arg-type]

    asyncio.run(run())
    assert counted == [("POST ?", 400)]


class Unheard:
    """A log that takes no error."""

    def debug(self, event: str, **said: object) -> None: ...


def test_a_user_is_made_once_however_often_the_request_is_sent(admin: httpx.Client, service: Running) -> None:
    new, key = {"name": "once", "roles": ["viewer"]}, {"Idempotency-Key": "k1"}
    first, again = (admin.post("/api/v1/users", json=new, headers=key) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    other = admin.post("/api/v1/users", json=new | {"name": "twice"}, headers=key)
    assert (other.status_code, "used for another request" in other.json()["detail"]) == (422, True)
    assert admin.post("/api/v1/users", json=new).status_code == 422, "without a key it is another request"
    another = let_in(service, "admin", "viewer")
    made = httpx.post(f"{service.url}/api/v1/users", json=new | {"name": "thrice"}, headers=another | key)
    assert made.status_code == 201, "the same key of another sender is another key"


def test_a_key_is_made_once_and_its_secret_told_once(admin: httpx.Client, service: Running) -> None:
    count = len(service.room.access.list_keys())
    new, key = {"user": "test-admin", "label": "once"}, {"Idempotency-Key": "k2"}
    first, again = (admin.post("/api/v1/keys", json=new, headers=key) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 409)
    assert first.json()["id"] in again.json()["detail"]
    assert "secret is told once" in again.json()["detail"]
    assert len(service.room.access.list_keys()) == count + 1


def walked(http: httpx.Client, path: str, what: str) -> list[dict[str, object]]:
    """All of a list, two at a time."""
    found: list[dict[str, object]] = []
    cursor: dict[str, object] = {}
    while True:
        page = http.get(path, params={"limit": 2, **cursor}).json()
        assert len(page[what]) <= 2
        found += page[what]
        if page["next"] is None:
            return found
        cursor = {"cursor": page["next"]}


def test_users_and_keys_come_in_pages(admin: httpx.Client, service: Running) -> None:
    access: Access = service.room.access
    for letter in "abcde":
        access.add_user(f"page-{letter}", ["viewer"], password=None, actor="test")
        access.add_key(f"page-{letter}", actor="test")
    assert [one["name"] for one in walked(admin, "/api/v1/users", "users")] == [user.name for user in access.users()]
    assert [one["id"] for one in walked(admin, "/api/v1/keys", "keys")] == [key.id for key in access.list_keys()]


def test_which_model_answers_and_which_did(http: httpx.Client, service: Running, model: SmallModel) -> None:
    nothing = http.get("/api/v1/models").json()
    assert nothing["serving"] == {
        "sha256": model.model.sha256, "name": "small", "version": "1", "findings": ["normal", "pneumonia", "covid-19"]
    }  # fmt: skip
    assert (nothing["models"], nothing["changes"], nothing["next"]) == ([], [], None)
    registry = Registry(service.room.database)
    for sha256 in (FIRST, SECOND):
        known = Registered(sha256=sha256, name="chest", version=sha256[0], location=f"{sha256[0]}.hilum")
        registry.register(known, actor="ada")
    registry.begin(FIRST, actor="ada", reason="The first one.")
    registry.shadow(SECOND, actor="ada", reason="To compare.")
    registry.canary(SECOND, 0.1, actor="ada", reason="On a tenth.")
    told = http.get("/api/v1/models").json()
    assert [one["sha256"] for one in told["models"]] == [FIRST, SECOND]
    assert [(one["act"], one["share"]) for one in told["changes"]] == [("canary", 0.1), ("shadow", 0), ("begin", 0)]
    page = http.get("/api/v1/models", params={"limit": 2}).json()
    rest = http.get("/api/v1/models", params={"limit": 2, "before": page["next"]}).json()
    assert page["changes"] + rest["changes"] == told["changes"]
    assert rest["next"] is None


def test_dead_letters_come_in_pages(admin: httpx.Client, service: Running) -> None:
    from tests.service.test_results_rest import given_up

    for number in range(5):
        given_up(service.room.database, 9000 + number)
    everything = admin.get("/api/v1/results").json()
    assert everything["next"] is None
    assert walked(admin, "/api/v1/results", "dead") == everything["dead"]
    assert len(everything["dead"]) >= 5
