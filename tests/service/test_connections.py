"""Connections to REST and page: who says nothing, trickles or doesn't read is let go of, and keeps nobody out."""

import asyncio
import contextlib
import errno
import functools
import io
import json
import resource
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest
import uvicorn
from tests.service.conftest import let_in, settings_in
from tests.service.hostile import store
from tests.service.pem import Pair, issue
from tests.service.small import CR, SmallDrawing, SmallModel, dataset
from tests.service.test_dicom import associated, port_of
from tests.service.test_http_protocol import until
from tests.service.test_overload import plain

from hilum.service import app as app_module
from hilum.service import connections as ours
from hilum.service.app import Running, _Server, limits_of, running
from hilum.service.connections import Accepted, Connections, Doing, Entrance, Limits, most_open
from hilum.service.http_protocol import HttpProtocol
from hilum.service.logs import start_logs
from hilum.service.shield import Shield

LARGE = 24 * 1024 * 1024
"""More than the system takes for a peer that doesn't read."""

WAIT_S = 120.0
"""The limits are of a second; the rest is for a busy machine."""

ROOT = Path(__file__).parents[2]
BEFORE = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
HEAD = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@dataclass
class Spoken:
    """A connection's HTTP as a test wants it."""

    is_doing: Doing = "head"
    replies: int = 0
    came: int = 0
    waits: int = 0
    said: bool | None = None
    """Whether it was told why it was cut off; None while it wasn't."""

    def doing(self) -> Doing:
        return self.is_doing

    def unsent(self) -> int:
        return self.waits

    def cut_off(self, *, says_why: bool) -> None:
        self.said = says_why if self.said is None else self.said  # again, where nobody has closed it meanwhile


class Bench:
    """Connections on a clock of the test's own."""

    def __init__(self, **limits: float) -> None:
        self.now, self.codes, self.number = 0.0, list[str](), 0
        self.connections = Connections(Limits(**limits), self.codes.append, lambda: self.now)  # type: ignore[arg-type]
        self.sockets: list[Accepted] = []

    def enter(self, spoken: Spoken | None, address: str = "10.0.0.1") -> bool:
        one, other = socket.socketpair()
        other.close()
        taken = Accepted(one.family, one.type, one.proto, one.detach())
        self.sockets.append(taken)
        let_in = self.connections.enter(taken, address)
        if let_in and spoken is not None:
            self.connections.speaks(taken.number, spoken)
        return let_in

    def after(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            self.connections.sweep()


@pytest.fixture
def bench() -> Iterator[Any]:
    made: list[Bench] = []

    def make(**limits: float) -> Bench:
        made.append(Bench(**limits))
        return made[-1]

    yield make
    for one in made:
        for taken in one.sockets:
            taken.close()
        assert len(one.connections) == 0, "whoever is closed counts no more"


def test_a_head_has_an_end_and_so_has_a_handshake(bench: Any) -> None:
    made = bench(head_s=15)
    trickling, silent = Spoken(came=1), Spoken()
    for one in (trickling, silent, None):
        made.enter(one)
    made.after(15)
    assert not made.codes
    made.after(1)
    assert sorted(made.codes) == ["silent", "slow-head", "slow-head"]
    assert (trickling.said, silent.said) == (True, False)
    assert len(made.connections) == 0


def test_every_further_head_has_its_own_time(bench: Any) -> None:
    made, one = bench(head_s=15, keep_alive_s=15), Spoken("idle", replies=1, came=1)
    made.enter(one)
    made.after(14)
    one.is_doing = "head"
    made.after(15)
    one.is_doing, one.replies = "idle", 2
    made.after(10)
    assert not made.codes, "uvicorn closes who is idle, and needs no help with it"
    made.after(20)
    assert made.codes == ["slow-head"]


def test_a_body_of_100_kb_a_second_arrives_and_one_that_stops_is_cut_off(bench: Any) -> None:
    made, vpn, stops, trickles = bench(least_rate=1000, window_s=20), Spoken("body"), Spoken("body"), Spoken("body")
    for one in (vpn, stops, trickles):
        made.enter(one)
    stops.came = 3_000_000
    for _ in range(1342):  # 128 MiB
        vpn.came += 100_000
        trickles.came += 1
        made.after(1)
    assert vpn.said is None
    assert (stops.said, trickles.said) == (True, True)
    assert made.codes == ["slow-body"] * 2


def test_who_does_not_close_too_is_no_slow_head_and_gives_way_first(bench: Any) -> None:
    made, ends, idle = bench(most=16, most_of_one=16), Spoken("end", replies=1), Spoken("idle", replies=1)
    for one in (idle, ends, *[Spoken("work") for _ in range(14)]):
        made.enter(one)
    made.after(20)
    made.now += 5
    assert made.enter(Spoken("work"))
    assert (ends.said, idle.said) == (False, None)
    left = bench(stalled_s=60)
    left.enter(Spoken("end", replies=1))
    left.after(61)  # seen after the first second
    assert not left.codes, "asyncio ends it after 30 s"
    left.after(1)
    assert left.codes == ["no-reader"]


def test_what_waits_for_us_is_never_cut_off(bench: Any) -> None:
    made, stream, upload = bench(), Spoken("work"), Spoken("body")
    for one in (stream, upload):
        made.enter(one)
    for _ in range(10):
        upload.is_doing = "work"  # read no further, because the disk is slow
        made.after(600)
        upload.is_doing, upload.came = "body", upload.came + 100_000
        made.after(1)
    assert not made.codes


def test_nobody_is_to_blame_where_the_machine_stood_still(bench: Any) -> None:
    made, head, body = bench(), Spoken(came=1), Spoken("body")
    for one in (head, body):
        made.enter(one)
    made.after(1)
    made.now += 120
    made.after(10)
    assert not made.codes
    made.after(20)
    assert sorted(made.codes) == ["slow-body", "slow-head"]


def test_slow_bodies_give_way_last_and_honest_ones_not_at_all(bench: Any) -> None:
    made = bench(most=16, most_of_one=16)
    vpn, trickles, fresh = Spoken("body"), [Spoken("body") for _ in range(3)], Spoken()
    for one in (vpn, *trickles):
        made.enter(one)
    for _ in range(3):
        vpn.came += 100_000
        for one in trickles:
            one.came += 1000
        made.after(1)
    for one in (fresh, *[Spoken("work") for _ in range(11)]):
        made.enter(one)
    trickles[1].came -= 1
    for gives_way in (fresh, trickles[1], trickles[0], trickles[2]):
        assert gives_way.said is None
        assert made.enter(Spoken("work"))
        assert gives_way.said is False
    assert not made.enter(Spoken("work"))
    assert vpn.said is None


def test_who_does_not_read_is_cut_off_and_who_reads_slowly_is_not(bench: Any) -> None:
    made, deaf, slow, fed = bench(stalled_s=60), Spoken("reply"), Spoken("reply"), Spoken("reply")
    for one in (deaf, slow, fed):
        one.waits = 20_000_000
        made.enter(one)
    for second in range(200):
        slow.waits -= 1_300_000 if second % 13 == 0 else 0
        slow.waits = max(slow.waits, 1)
        fed.waits += 10  # an event stream nobody reads
        made.after(1)
        if second == 195:
            assert slow.said is None
    assert (deaf.said, fed.said) == (False, False)
    assert made.codes[:2] == ["no-reader"] * 2


def test_where_all_places_are_taken_the_longest_idle_one_goes_and_those_in_work_stay(bench: Any) -> None:
    made = bench(most=40, most_of_one=40)
    kept = [Spoken("work") for _ in range(10)] + [Spoken("body") for _ in range(9)]
    browser = Spoken("idle", replies=3)
    flood = [Spoken() for _ in range(20)]
    for one in (*kept, browser, *flood):
        assert made.enter(one)
        made.now += 0.01
    assert made.enter(Spoken())
    assert (flood[0].said, flood[1].said) == (False, False)
    assert flood[2].said is browser.said is None, "who had a reply goes after those who never had one"
    for _ in range(18):
        assert made.enter(Spoken("work"))
        made.sockets[19].close()
    assert len(made.connections) <= 40
    assert all(one.said is None for one in kept)


def test_nobody_goes_where_all_are_in_work(bench: Any) -> None:
    made = bench(most=20, most_of_one=10)
    assert all(made.enter(Spoken("work"), "10.0.0.1") for _ in range(10))
    assert not made.enter(Spoken("work"), "10.0.0.1")
    assert all(made.enter(Spoken("work"), "10.0.0.2") for _ in range(10)), "one address keeps no other out"
    assert not made.enter(Spoken("work"), "10.0.0.3")
    assert made.codes == ["too-many-of-one", "too-many"]


def test_one_address_makes_room_for_itself_alone(bench: Any) -> None:
    made, other = bench(most=20, most_of_one=10), Spoken()
    made.enter(other, "10.0.0.2")
    assert all(made.enter(Spoken(), "10.0.0.1") for _ in range(30))
    assert other.said is None
    assert len(made.connections) <= 11


def test_none_comes_in_while_too_many_are_on_their_way_out(bench: Any) -> None:
    made = bench(most=16, most_of_one=16)
    for _ in range(16 + ours.LEAVING):
        made.enter(Spoken())
    assert made.connections.full
    made.after(11)
    assert not made.connections.full, "and that has an end, whatever asyncio does"


def test_the_log_says_it_once_a_minute(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[dict[str, Any]] = []

    class Log:
        def warning(self, event: str, **said: Any) -> None:
            lines.append({"event": event, **said})

    monkeypatch.setattr(ours, "logger", Log)
    made = bench(head_s=1)
    for _ in range(90):
        made.enter(Spoken(came=1))
        made.enter(Spoken())
        made.after(1)
    assert len(lines) == 2
    assert lines[0] == {"event": "connections closed", "open": 2, "slow_head": 1}
    assert lines[1]["slow_head"] == 60
    assert made.codes.count("silent") == made.codes.count("slow-head")


def test_the_limit_of_open_files_is_raised_as_far_as_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: given.append(limits))

    def by(soft: int, hard: int) -> int:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
        return most_open(512)

    assert by(20_000, 20_000) == by(1024, 4096) == by(resource.RLIM_INFINITY, resource.RLIM_INFINITY) == 512
    assert given == []
    assert by(256, 4096) == by(256, resource.RLIM_INFINITY) == 512
    assert given == [(1024, 4096), (1024, resource.RLIM_INFINITY)]
    assert (by(700, 700), by(256, 256)) == (188, 64)


def test_limits_by_the_settings(tmp_path: Path) -> None:
    limits = limits_of(settings_in(tmp_path, connections=100, head_deadline_s=3, least_upload_rate=7))
    assert (limits.most, limits.most_of_one, limits.head_s, limits.least_rate) == (100, 80, 3, 7)
    assert limits_of(settings_in(tmp_path, connections=100, connections_per_address=100)).most_of_one == 100


def test_a_fault_in_looking_at_connections_does_not_end_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    start_logs(out)
    server = object.__new__(_Server)
    server._connections = mock.Mock(sweep=mock.Mock(side_effect=RuntimeError("CANARY")))
    monkeypatch.setattr(uvicorn.Server, "on_tick", mock.AsyncMock(return_value=False))
    assert not asyncio.run(server.on_tick(10))
    assert "connections not looked at" in out.getvalue()
    assert "CANARY" not in out.getvalue()


def test_health_is_told_where_all_else_is_refused() -> None:
    said: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        said.extend([message["status"]] if "status" in message else [])

    def ask(path: str) -> None:
        with contextlib.suppress(StopIteration):
            Shield(app, most=0)({"type": "http", "path": path, "method": "GET", "headers": []}, None, send).send(None)  # type: ignore[arg-type]

    for path in ("/health/live", "/health/ready", "/login"):
        ask(path)
    assert said == [200, 200, 503]


def test_no_connection_becomes_a_web_socket(tmp_path: Path) -> None:
    """Whichever libraries are installed: of one in such hands nobody could say what it waits for."""
    server = app_module._Server(app, settings_in(tmp_path), Connections(Limits()))  # type: ignore[arg-type]
    assert server.config.ws == "none"


# Real connections.


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Much, at ``/large``; else how long the body was, at ``/later`` not at once, at ``/half`` behind a head."""
    count, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        count, more = count + len(message["body"]), message["more_body"]
    if scope["path"] == "/half":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await asyncio.sleep(1)
        await send({"type": "http.response.body", "body": b"whole"})
        return
    await asyncio.sleep(1 if scope["path"] == "/later" else 0)
    body = bytes(LARGE) if scope["path"] == "/large" else b"%d" % count
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


class Swept(uvicorn.Server):
    """As the service's own."""

    connections: Connections

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        super().run(sockets)
        self.connections.end()

    async def on_tick(self, counter: int) -> bool:
        self.connections.sweep()
        return await super().on_tick(counter)


@contextlib.contextmanager
def served(pair: Pair | None = None, **limits: float) -> Iterator[tuple[int, list[str], Connections]]:
    codes: list[str] = []
    connections = Connections(Limits(**limits), codes.append)  # type: ignore[arg-type]
    protocol: Any = functools.partial(HttpProtocol, connections=connections)
    files = {"ssl_certfile": str(pair.certificate), "ssl_keyfile": str(pair.key)} if pair else {}
    server = Swept(uvicorn.Config(app, http=protocol, loop="asyncio", lifespan="off", log_config=None, **files))  # type: ignore[arg-type]
    server.connections = connections
    door = Entrance(socket.create_server(("127.0.0.1", 0)), connections, says_why=pair is None)
    thread = threading.Thread(target=server.run, args=([door],), daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield door.getsockname()[1], codes, connections
    finally:
        server.should_exit = True
        thread.join()
        door.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return issue(tmp_path_factory.mktemp("pair"), "here")


def trusting(pair: Pair) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(pair.certificate))


def connected(port: int, pair: Pair | None = None) -> socket.socket:
    line = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
    return trusting(pair).wrap_socket(line, server_hostname="127.0.0.1") if pair else line


def rest_of(line: socket.socket) -> bytes:
    """What comes until the other side closes."""
    content = bytearray()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while more := line.recv(65536):
            content += more
    return bytes(content)


def test_who_never_shakes_hands_is_let_go_of(pair: Pair) -> None:
    with served(pair, head_s=1) as (port, codes, connections):
        with connected(port) as silent, connected(port) as begun:
            begun.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
            assert rest_of(silent) == rest_of(begun) == b""
            with connected(port, pair) as good:
                good.sendall(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
                assert rest_of(good).endswith(b"\r\n\r\n0")
        until(lambda: not len(connections))
    assert codes == ["slow-head"] * 2


@pytest.mark.parametrize(
    "before", [pytest.param(b"", id="first"), pytest.param(BEFORE, id="second", marks=pytest.mark.system)]
)
def test_a_head_that_never_ends_has_an_end(before: bytes) -> None:
    with served(head_s=1) as (port, codes, _):
        for some, told in ((b"", b""), (b"GET / HTTP/1.1\r\n", b"HTTP/1.1 408")):
            with connected(port) as line:
                line.sendall(before)
                assert not before or line.recv(1000).startswith(b"HTTP/1.1 200")
                line.sendall(some)
                assert told in rest_of(line)
    assert codes.count("slow-head") == 1, "uvicorn closes what is idle between two requests"


@pytest.mark.parametrize("tls", [False, True])
def test_a_body_that_trickles_is_told_so(tls: bool, pair: Pair) -> None:
    with (
        served(pair if tls else None, window_s=1) as (port, codes, _),
        connected(port, pair if tls else None) as line,
    ):
        line.sendall(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 100000\r\n\r\nx")
        said = rest_of(line)
        assert said.startswith(b"HTTP/1.1 408")
        assert json.loads(said.partition(b"\r\n\r\n")[2])["type"] == "urn:hilum:problem:too-slow"
        assert codes == ["slow-body"]


@pytest.mark.parametrize("tls", [False, True])
def test_what_nobody_reads_is_not_kept(tls: bool, pair: Pair) -> None:
    with (
        served(pair if tls else None, stalled_s=1) as (port, codes, connections),
        connected(port, pair if tls else None) as line,
    ):
        line.sendall(b"GET /large HTTP/1.1\r\nHost: here\r\n\r\n")
        until(lambda: codes == ["no-reader"])
        until(lambda: not len(connections))
        assert len(rest_of(line)) < LARGE


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what it holds for a peer")
def test_few_bytes_that_are_read_are_seen() -> None:
    """The system takes more of a reply only once a third of what it holds is gone: megabytes, to a proxy nearby."""
    with served() as (port, _, connections), connected(port) as line:
        line.sendall(b"GET /large HTTP/1.1\r\nHost: here\r\n\r\n")
        until(lambda: doing_of(connections) == ["reply"])
        (one,) = connections._open.values()
        assert one.speaking is not None
        unsent, before = one.speaking.unsent, -1
        while before != (before := unsent()):
            time.sleep(1)
        taken, buffered = 0, one.speaking.transport.get_write_buffer_size()  # type: ignore[attr-defined]
        while unsent() == before:
            taken += len(line.recv(16384))
            time.sleep(0.01)
        assert taken < 1_000_000
        assert one.speaking.transport.get_write_buffer_size() == buffered  # type: ignore[attr-defined]


@pytest.mark.system
def test_what_is_read_slowly_arrives_whole() -> None:
    with served(stalled_s=WAIT_S, head_s=1, keep_alive_s=0) as (port, codes, _), connected(port) as line:
        line.sendall(b"GET /large HTTP/1.1\r\nHost: here\r\n\r\n")
        time.sleep(2)
        assert len(rest_of(line)) > LARGE, "longer than any head may take"
        assert codes == []


def test_who_does_not_close_too_over_tls_is_no_slow_head(pair: Pair) -> None:
    with (
        served(pair, head_s=0.5) as (port, codes, connections),
        connected(port, pair) as line,
    ):
        line.sendall(BEFORE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert rest_of(line).startswith(b"HTTP/1.1 200")
        until(lambda: doing_of(connections) == ["end"])
        time.sleep(2)
        assert codes == []
        line.close()
        until(lambda: not len(connections))


def test_what_is_closed_twice_over_tls_stops_nothing(pair: Pair) -> None:
    """Rubbish behind a last request is answered and ends the connection, and then so does what the request came to."""
    with served(pair) as (port, codes, connections), connected(port, pair) as line:
        line.sendall(b"GET /later HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        until(lambda: doing_of(connections) == ["work"])
        line.sendall(b"rubbish\r\n")
        assert line.recv(1000).startswith(b"HTTP/1.1 400")
        time.sleep(2)
        with connected(port, pair) as good:
            good.sendall(BEFORE)
            assert good.recv(1000).startswith(b"HTTP/1.1 200")
        line.close()
        until(lambda: not len(connections))
        assert codes == []


@pytest.mark.parametrize("begun", [False, True], ids=["before", "within"])
def test_rubbish_behind_a_request_is_no_fault_of_the_service(
    begun: bool, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    """Else each such peer writes lines of errors, as many as it likes."""
    path = b"/half" if begun else b"/later"
    with caplog.at_level("ERROR"), served(pair) as (port, _, connections), connected(port, pair) as line:
        line.sendall(b"GET %s HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n" % path)
        if begun:
            assert line.recv(1000).startswith(b"HTTP/1.1 200")
        else:
            until(lambda: doing_of(connections) == ["work"])
        line.sendall(b"rubbish\r\n")
        assert begun or line.recv(1000).startswith(b"HTTP/1.1 400")
        time.sleep(1.5)  # the reply comes to nothing meanwhile
        line.close()
        until(lambda: not len(connections))
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def doing_of(connections: Connections) -> list[Doing]:
    return [one.look(time.monotonic()) for one in list(connections._open.values())]


def test_who_finds_no_room_is_told_so() -> None:
    with served(most=1, most_of_one=1, least_rate=0) as (port, codes, connections), connected(port) as line:
        line.sendall(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\nx")
        until(lambda: connections._open and next(iter(connections._open.values())).look(time.monotonic()) == "body")
        with connected(port) as other:
            said = rest_of(other)
        assert said.startswith(b"HTTP/1.1 503")
        assert json.loads(said.partition(b"\r\n\r\n")[2])["status"] == 503
        line.sendall(b"four")
        assert line.recv(1000).startswith(b"HTTP/1.1 200")
        assert codes == ["too-many-of-one"]


def test_without_files_left_those_that_are_idle_go(bench: Any) -> None:
    class Short(Entrance):
        __slots__ = ()

        def _accept(self) -> Any:
            raise OSError(errno.EMFILE, "no files")

    made, one = bench(), Spoken()
    made.enter(one)
    with Short(socket.create_server(("127.0.0.1", 0)), made.connections, says_why=True) as door:
        with pytest.raises(BlockingIOError):
            door.accept()
        assert one.said is False
        with pytest.raises(OSError, match="no files"):
            door.accept()


def test_where_all_places_are_taken_by_silent_peers_a_film_comes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "YOUNG_S", 0)
    with served(most=10, most_of_one=10) as (port, _, _), contextlib.ExitStack() as stack:
        for number in range(60):
            peer = stack.enter_context(connected(port))
            begun = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\nx"
            peer.sendall((b"", b"GET / HTTP/1.1\r\n", begun)[number % 3])
        line = stack.enter_context(connected(port))
        body = bytes(3_000_000)
        line.sendall(b"POST / HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: 3000000\r\n\r\n" + body)
        assert rest_of(line).endswith(b"\r\n\r\n3000000")


def trickle(port: int, count: int, stop: threading.Event) -> list[socket.socket]:
    """So many heads that never end; a byte of each comes as often as the machine can."""
    lines: list[socket.socket] = []
    for number in range(count):
        line = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        line.sendall((b"", HEAD[:7], HEAD)[number % 3])
        lines.append(line)

    def go_on() -> None:
        while not stop.wait(0.1):
            for line in lines[2::3]:
                with contextlib.suppress(OSError):
                    line.sendall(b"x")

    threading.Thread(target=go_on, daemon=True).start()
    return lines


def gone(line: socket.socket) -> bool:
    with contextlib.suppress(TimeoutError, BlockingIOError):
        with contextlib.suppress(ConnectionError):
            line.settimeout(0.01)
            while line.recv(4096):
                pass
        return True
    return False


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Running]:
    settings = settings_in(tmp_path, dicom_port=0, connections=32, head_deadline_s=1)
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as started:
        yield started


def test_heads_that_never_end_keep_nobody_out(narrow: Running) -> None:
    """Three times as many as there are places, and beside them a program with a key, a follower and a modality."""
    port, stop = int(narrow.url.rpartition(":")[2]), threading.Event()
    headers = let_in(narrow)
    with httpx.Client(base_url=narrow.url, timeout=WAIT_S, headers=headers) as http, contextlib.ExitStack() as stack:
        events = stack.enter_context(http.stream("GET", "/api/v1/events"))
        assert events.status_code == 200
        lines = [stack.enter_context(line) for line in trickle(port, 96, stop)]
        try:
            for number in range(3):
                # A new connection, as a health check makes one.
                assert httpx.get(f"{narrow.url}/health/live", timeout=WAIT_S).status_code == 200
                with associated(port_of(narrow)) as association:
                    assert association.send_c_store(dataset(600 + number)).Status == 0x0000
            until(lambda: all(gone(line) for line in lines))
        finally:
            stop.set()
        told = "".join(one for one, _ in zip(events.iter_text(), range(3), strict=False))
        assert "event: film" in told, "who follows is in work, and stays"
    registry, name = narrow.room.metrics.registry, "hilum_http_connections_closed_total"
    assert registry.get_sample_value(name, {"code": "slow-head"})


@pytest.mark.system
def test_a_flood_leaves_files_and_the_log_alone(tmp_path: Path) -> None:
    """1,300 heads that never end into a process with 1,024 files at most."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files[1] < 2048:
        pytest.skip("this machine lets a test have too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, files[1]))
    command = [sys.executable, "-m", "tests.service.serve_small", str(tmp_path / "data"), "0", "dicom"]
    limited = ["/bin/sh", "-c", 'ulimit -n 1024; exec "$@"', "sh", *command]
    log = tmp_path / "log"
    try:
        with (
            log.open("w") as errors,
            subprocess.Popen(limited, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
            contextlib.ExitStack() as stack,
        ):
            stack.callback(process.kill)
            assert process.stdout is not None
            url, _, port = process.stdout.readline().split()
            stop = threading.Event()
            stack.callback(stop.set)
            for line in trickle(int(url.rpartition(":")[2]), 1300, stop):
                stack.enter_context(line)
            for number in range(5):
                assert httpx.get(f"{url}/health/live", timeout=30).status_code == 200
                # pynetdicom can't with so many open files, in this process.
                uid = f"1.2.826.0.1.3680043.10.77.{number}".encode()
                how = {"kind": CR, "uid": uid, "syntax": "1.2.840.10008.1.2.1", "within_s": WAIT_S}
                assert store(int(port), plain(dataset(700 + number, SOPInstanceUID=uid.decode())), **how) == 0x0000
            assert len(list(Path(f"/proc/{process.pid}/fd").iterdir())) < 1000
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, files)
    assert log.stat().st_size < 100_000
    assert all(json.loads(line) for line in log.read_text().splitlines())
