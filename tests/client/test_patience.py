"""A request that can't be taken now is sent again; what makes something is made once; streams go on where they were."""

import http.server
import itertools
import json
import runpy
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.service.conftest import let_in, settings_in
from tests.service.small import SmallDrawing, SmallModel, png

from hilum.client import following
from hilum.client.api import Client
from hilum.client.transport import Transport
from hilum.errors import ServiceError
from hilum.service.app import Running, running

EXAMPLE = Path(__file__).parents[2] / "examples" / "follow_answers.py"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = settings_in(tmp_path_factory.mktemp("patience"), dicom_port=None)
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as started:
        yield started


def client(service: Running, *roles: str) -> Client:
    return Client(service.url, key=let_in(service, *roles)["Authorization"].split()[1])


class Busy(http.server.ThreadingHTTPServer):
    """Says what it is told to say, one reply after another, and remembers what it was asked."""

    def __init__(self, *replies: tuple[int, dict[str, str], bytes]) -> None:
        self.replies, self.asked = iter(replies), []
        super().__init__(("127.0.0.1", 0), Reply)

    def __enter__(self) -> "Busy":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class Reply(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Busy)
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.asked.append(dict(self.headers) | {"path": self.path})
        status, headers, body = next(self.server.replies)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        return


def problem(status: int, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, b'{"detail": "Not now."}'


def test_it_waits_as_long_as_it_is_told_and_the_request_keeps_its_key() -> None:
    slept: list[float] = []
    replies = [problem(429, Retry_After="7"), problem(503), problem(503, Retry_After="soon"), (200, {}, b"{}")]
    with Busy(*replies) as server:
        transport = Transport(
            f"http://127.0.0.1:{server.server_port}", key=None, timeout_s=60, patience_s=60, sleep=slept.append
        )
        reply = transport.ask("POST", "/x", content=b"film", headers={"Idempotency-Key": "k"})
        transport.http.close()
    assert reply.status_code == 200
    assert slept[0] == 7
    assert 0.25 <= slept[1] <= 1.0
    assert 0.5 <= slept[2] <= 2.0
    assert {one["Idempotency-Key"] for one in server.asked} == {"k"}
    assert len(server.asked) == 4


def test_patience_ends_and_refusals_are_final() -> None:
    slept: list[float] = []
    with Busy(problem(503, Retry_After="20"), problem(503, Retry_After="20"), problem(422)) as server:
        transport = Transport(
            f"http://127.0.0.1:{server.server_port}", key=None, timeout_s=60, patience_s=30, sleep=slept.append
        )
        with pytest.raises(ServiceError, match=r"refused \(503\): Not now"):
            transport.ask("GET", "/x")
        with pytest.raises(ServiceError, match=r"refused \(422\): Not now"):
            transport.ask("GET", "/x")
        transport.http.close()
    assert slept == [20]


def test_events_go_on_behind_the_last_one_after_the_line_broke() -> None:
    def lines(*places: int) -> bytes:
        data = json.dumps({"film": "f", "kind": "answered", "at": "2026-11-01T00:00:00Z"})
        return "".join(f"id: {place}\nevent: film\ndata: {data}\n\n" for place in places).encode()

    replies = [
        (200, {}, b"retry: 2000\nid: 3\n\n" + lines(4, 6)),
        problem(503),
        (200, {}, b"id: 9\n\n"),
        (200, {}, lines(10)),
        problem(401),
    ]
    slept: list[float] = []
    with Busy(*replies) as server:
        transport = Transport(f"http://127.0.0.1:{server.server_port}", key=None, timeout_s=60, patience_s=60)
        events = following.follow(transport, None, patience_s=10, sleep=slept.append)
        assert [event.place for event in itertools.islice(events, 3)] == [4, 6, 10]
        with pytest.raises(ServiceError, match=r"refused \(401\)"):
            next(events)
        transport.http.close()
    asked = [one["path"].partition("?")[2] for one in server.asked]
    assert asked == ["", "after=6", "after=6", "after=9", "after=10"]


def test_a_stream_that_stays_away_ends_with_one_sentence() -> None:
    slept: list[float] = []
    transport = Transport("http://127.0.0.1:9", key=None, timeout_s=60, patience_s=60)
    with pytest.raises(ServiceError, match="can't be reached"):
        next(following.follow(transport, 0, patience_s=5, sleep=slept.append))
    transport.http.close()
    assert slept == [2.0, 2.0]


def test_what_happens_is_followed_and_reviewed(service: Running) -> None:
    with client(service, "reviewer") as reader:
        answer = reader.submit(png(61), wait_s=60, urgent=True)
        told = itertools.islice((e for e in reader.events(after=0) if e.film == answer.id), 2)
        assert [event.kind for event in told] == ["received", "answered"]
        first = reader.review(answer.id, "agree")
        with pytest.raises(ServiceError, match=r"refused \(412\)"):
            reader.review(answer.id, "override", finding="normal")
        second = reader.review(answer.id, "override", finding="normal", comment="Clear.", over=first.version)
        assert reader.reviews(answer.id) == (second,)
        assert (second.version, second.finding, second.comment) == (2, "normal", "Clear.")
        assert (reader.models().name, reader.models().changes) == ("small", ())
        with pytest.raises(ServiceError, match=r"refused \(403\)"):
            reader.requeue(answer.id)


def test_users_and_keys_are_looked_after(service: Running) -> None:
    with client(service, "admin") as admin:
        made = admin.add_user("ct", ["reviewer"])
        assert made in list(admin.users(page_size=1))
        key_id, secret = admin.add_key("ct", ["films:send"], label="CT room", days=2)
        with Client(service.url, key=secret) as sender:
            assert sender.submit(png(62)).state in ("received", "preparing", "answered")
        admin.revoke_key(key_id)
        with Client(service.url, key=secret) as sender, pytest.raises(ServiceError, match=r"refused \(401\)"):
            sender.submit(png(63))
        with pytest.raises(ServiceError, match=r"refused \(422\): There is a user 'ct' already"):
            admin.add_user("ct", ["viewer"])


def test_the_example_prints_each_answer(service: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.png").write_bytes(png(210, 20))
    (tmp_path / "two.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    main = runpy.run_path(str(EXAMPLE))["main"]
    main(service.url, [tmp_path / "one.png", tmp_path / "two.png"], let_in(service)["Authorization"].split()[1])
    said = sorted(capsys.readouterr().out.splitlines())
    assert said[0] == "one.png: answered, pneumonia."
    assert said[1].startswith("two.png: failed, no label. The film can't be read")
