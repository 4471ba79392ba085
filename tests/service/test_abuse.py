"""JSON, forms and addresses that nobody sends by mistake: refused, never a 5xx, and never read whole without an end."""

import contextlib
import hashlib
import json
import socket
from collections.abc import Iterator

import httpx
import pytest
from tests.service.conftest import let_in

from hilum.service.app import Running
from hilum.service.shield import MOST_AT_ONCE

JSON = {"Content-Type": "application/json"}
DEEP = b"[" * 20_000 + b"]" * 20_000
BODIES = {
    "nothing": b"",
    "no JSON": b"{",
    "deep": DEEP,
    "deep inside": b'{"name": ' + DEEP + b', "roles": ["viewer"]}',
    "a surrogate": rb'{"name": "q", "roles": ["viewer"], "password": "\ud800\ud800\ud800\ud800\ud800\ud800"}',
    "a surrogate in a user": rb'{"user": "\ud800", "name": "\ud800", "roles": ["\ud800"]}',
    "a surrogate in a key's user": rb'{"user": "\ud800"}',
    "a surrogate in a name": rb'{"name": "\ud800", "roles": ["viewer"]}',
    "a surrogate in a role": rb'{"name": "q", "roles": ["\ud800"]}',
    "a surrogate in a scope": rb'{"user": "test-admin", "scopes": ["\ud800"]}',
    "a surrogate in a label": rb'{"user": "test-admin", "label": "\ud800"}',
    "a zero byte": rb'{"user": "test-admin", "label": "a\u0000b"}',
    "a great number": b'{"user": "test-admin", "days": 1' + b"0" * 5000 + b"}",
    "no number": b'{"user": "test-admin", "days": NaN}',
    "no text": b"\xff\xfe\x00",
    "a list": b'[{"name": "x"}]',
    "twice": b'{"name": "Q", "name": "Q", "roles": []}',
    "many roles": json.dumps({"name": "q", "roles": ["viewer"] * 10_000}).encode(),
}
ROUTES = (("POST", "/api/v1/users"), ("POST", "/api/v1/keys"), ("POST", "/login"), ("POST", "/enter"))


@pytest.fixture
def admin(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=90, headers=let_in(service, "admin")) as client:
        yield client


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_that_is_none_is_refused(admin: httpx.Client, body: bytes) -> None:
    for method, path in ROUTES:
        for kind in ("application/json", "application/x-www-form-urlencoded"):
            for own in ({}, {"Idempotency-Key": hashlib.sha256(body).hexdigest()}):
                reply = admin.request(method, path, content=body, headers={"Content-Type": kind} | own)
                assert 400 <= reply.status_code < 500, (path, kind, reply.status_code)


@pytest.mark.parametrize(
    "body", [rb'{"decision": "agree", "comment": "\ud800"}', rb'{"decision": "agree", "comment": "\u0000"}']
)
def test_a_comment_that_can_not_be_kept_is_refused(http: httpx.Client, service: Running, body: bytes) -> None:
    from tests.service.small import png

    study = http.post("/api/v1/studies?wait=60", content=png(100, 40), headers={"Content-Type": "image/png"}).json()
    path = f"/api/v1/studies/{study['id']}/reviews/mine"
    reply = http.put(path, content=body, headers=JSON | {"If-None-Match": "*"})
    assert reply.status_code == 422, reply.text


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_without_end_is_cut_off_before_anybody_is_known(service: Running, chunked: bool) -> None:
    block = b" " * 65_536
    with httpx.Client(base_url=service.url, timeout=90) as nobody:
        for _, path in ROUTES:
            content = (block for _ in range(64)) if chunked else block * 64
            try:
                reply = nobody.post(path, content=content, headers=JSON)
            except httpx.TransportError:
                continue  # cut off while it was still sending
            read_whole = path.startswith("/api/")  # the forms' bodies of unknown length are not read at all
            assert reply.status_code == 413 if read_whole or not chunked else 400 <= reply.status_code < 500, path


@pytest.mark.parametrize(
    "path",
    [
        "/films/%ED%A0%80",
        "/api/v1/studies/%ED%A0%80",
        "/api/v1/studies?cursor=%ED%A0%80%00",
        "/api/v1/audit?subject=%ED%A0%80",
        "/api/v1/audit?subject=%00",
        "/api/v1/audit?after=99999999999999999999",
        "/login?next=%0d%0aSet-Cookie:x=y",
        "/enter?token=%00%ED%A0%80",
        "/static/..%2f..%2fpages.py",
        "/?part=%00",
    ],
)
def test_an_address_that_is_none_is_no_failure(service: Running, path: str) -> None:
    headers = let_in(service, "auditor", "viewer")
    with httpx.Client(base_url=service.url, timeout=90, headers=headers) as http:
        reply = http.get(path)
    assert reply.status_code < 500
    assert "x=y" not in str(reply.headers)


def test_headers_that_are_none_are_no_failure(service: Running) -> None:
    with httpx.Client(base_url=service.url, timeout=90) as http:
        for headers in (
            {"Cookie": "hilum_session=\xff"},
            {"Authorization": "Bearer hilum_\xe9_x"},
            {"Cookie": "=;=;;"},
        ):
            assert (
                http.get("/api/v1/studies", headers={k: v.encode("latin-1") for k, v in headers.items()}).status_code
                == 401
            )


def test_bodies_that_never_come_keep_nobody_out(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    at = ("127.0.0.1", int(service.url.rpartition(":")[2]))
    head = "POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {}\r\nContent-Length: 100\r\n\r\n{{"
    with contextlib.ExitStack() as stack, httpx.Client(base_url=service.url, timeout=90) as good:
        for number in range(MOST_AT_ONCE + 10):
            path, kind = (("/login", "application/x-www-form-urlencoded"), ("/api/v1/users", "application/json"))[
                number % 2
            ]
            peer = stack.enter_context(socket.create_connection(at))
            peer.sendall(head.format(path, kind).encode())
            assert number % 25 or good.get("/health/live").status_code == 200, number
        assert good.get("/health/live").status_code == 200
        monkeypatch.setattr("hilum.service.shield.BODY_S", 0.1)
        peer = stack.enter_context(socket.create_connection(at, timeout=90))
        peer.sendall(head.format("/login", "application/x-www-form-urlencoded").encode())
        assert peer.recv(100).startswith(b"HTTP/1.1 408 ")
