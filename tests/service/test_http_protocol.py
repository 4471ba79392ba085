"""Bodies of known length go past the parser, and nothing of what a connection does changes by it."""

import asyncio
import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import h11
import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from hilum.service.http_protocol import HttpProtocol

BODY = hashlib.shake_256(b"film").digest(3 * 1024 * 1024 + 17)
OFF: list[int] = []
"""Bytes of each body that broke off."""

BOTH = pytest.mark.parametrize("protocol", [H11Protocol, HttpProtocol])


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Says the digest of the body; at ``/no`` without reading it, at ``/late`` after a while."""
    digest, count, more = hashlib.sha256(), 0, scope["path"] != "/no"
    if scope["path"] == "/late":
        await asyncio.sleep(0.2)
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            OFF.append(count)
            return
        assert type(message["body"]) is bytes
        digest.update(message["body"])
        count, more = count + len(message["body"]), message["more_body"]
    said = f"{count} {digest.hexdigest()}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(said))]})
    await send({"type": "http.response.body", "body": said})


@contextlib.contextmanager
def served(protocol: type[H11Protocol]) -> Iterator[int]:
    config = uvicorn.Config(app, http=protocol, lifespan="off", log_config=None, h11_max_incomplete_event_size=32768)
    server, listening = uvicorn.Server(config), socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def until(true: Any, within_s: float = 120) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.005)


def head(path: str, *more: str, length: int | None = len(BODY)) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: here", *more, *([] if length is None else [f"Content-Length: {length}"])]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def reply(stream: Any) -> tuple[int, bytes]:
    """Status and body of the next reply."""
    status, length = int(stream.readline().split()[1]), 0
    while (line := stream.readline().strip()) != b"":
        name, _, value = line.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    return status, stream.read(length)


def said(body: bytes) -> tuple[int, bytes]:
    return 200, f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode()


@BOTH
def test_bodies_arrive_whole_one_behind_the_other(protocol: type[H11Protocol]) -> None:
    with served(protocol) as port, socket.create_connection(("127.0.0.1", port)) as line, line.makefile("rb") as stream:
        for path, body in (("/", BODY), ("/late", BODY[:-5]), ("/", b"x"), ("/", b""), ("/late", BODY)):
            line.sendall(head(path, length=len(body)) + body)
            assert reply(stream) == said(body)


@BOTH
def test_two_requests_in_one_piece(protocol: type[H11Protocol]) -> None:
    with served(protocol) as port, socket.create_connection(("127.0.0.1", port)) as line, line.makefile("rb") as stream:
        both = head("/late") + BODY + head("/", length=5) + b"seven" + head("/") + BODY
        sender = threading.Thread(target=line.sendall, args=(both,))
        sender.start()
        assert [reply(stream) for _ in range(3)] == [said(BODY), said(b"seven"), said(BODY)]
        sender.join()


@BOTH
def test_a_body_in_small_pieces(protocol: type[H11Protocol]) -> None:
    with served(protocol) as port, socket.create_connection(("127.0.0.1", port)) as line, line.makefile("rb") as stream:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        whole = head("/", length=40) + BODY[:40]
        for at in range(len(whole)):
            line.sendall(whole[at : at + 1])
        assert reply(stream) == said(BODY[:40])


@BOTH
def test_a_head_of_bare_newlines_before_a_body_that_looks_like_a_head(protocol: type[H11Protocol]) -> None:
    body = BODY[:3000] + b"\r\n\r\n" + BODY[:200_000]
    with served(protocol) as port, socket.create_connection(("127.0.0.1", port)) as line, line.makefile("rb") as stream:
        for one in (body, BODY):
            line.sendall(head("/late", length=len(one)).replace(b"\r\n", b"\n") + one)
            assert reply(stream) == said(one)


@BOTH
def test_a_chunked_body_and_one_that_waits_for_leave(protocol: type[H11Protocol]) -> None:
    with served(protocol) as port, socket.create_connection(("127.0.0.1", port)) as line, line.makefile("rb") as stream:
        pieces = b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in (BODY[:100_000], BODY[100_000:200_001]))
        line.sendall(head("/", "Transfer-Encoding: chunked", length=None) + pieces + b"0\r\n\r\n")
        assert reply(stream) == said(BODY[:200_001])
        line.sendall(head("/", "Expect: 100-continue"))
        assert reply(stream)[0] == 100
        line.sendall(BODY)
        assert reply(stream) == said(BODY)


@BOTH
def test_a_reply_before_the_body_and_a_line_that_breaks(protocol: type[H11Protocol]) -> None:
    OFF.clear()
    with served(protocol) as port:
        with socket.create_connection(("127.0.0.1", port)) as line, line.makefile("rb") as stream:
            line.sendall(head("/no"))
            assert reply(stream) == said(b"")
            line.sendall(BODY + head("/", length=3) + b"abc")
            assert reply(stream) == said(b"abc"), "what nobody read is passed over"
        for some in (BODY[:100], BODY[:-1]):
            with socket.create_connection(("127.0.0.1", port)) as line:
                line.sendall(head("/") + some)
                line.shutdown(socket.SHUT_WR)
                assert line.recv(100) == b"", "a body that ends too soon has no reply"
        until(lambda: len(OFF) == 2)


@BOTH
def test_a_head_without_end_is_refused(protocol: type[H11Protocol]) -> None:
    with served(protocol) as port, socket.create_connection(("127.0.0.1", port)) as line:
        with contextlib.suppress(OSError):
            line.sendall(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000)
        with contextlib.suppress(ConnectionResetError):
            assert line.recv(100).startswith(b"HTTP/1.1 400")


def test_the_parser_is_given_little_of_a_body(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    receive = h11.Connection.receive_data
    monkeypatch.setattr(
        h11.Connection, "receive_data", lambda self, data: (given.append(len(data)), receive(self, data))[1]
    )
    with (
        served(HttpProtocol) as port,
        socket.create_connection(("127.0.0.1", port)) as line,
        line.makefile("rb") as stream,
    ):
        for _ in range(3):
            line.sendall(head("/late") + BODY)
            assert reply(stream) == said(BODY)
    assert sum(given) < len(BODY) / 2, "an h11 whose inside is another: see HttpProtocol._take"
