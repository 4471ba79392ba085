"""Results on their way: real peers in this process, peers that are away, refuse or break off."""

import contextlib
import gzip
import io
import ipaddress
import json
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pydicom
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as forms
from cryptography.hazmat.primitives.asymmetric import ec
from pynetdicom import AE, build_context, evt
from pynetdicom.dimse_primitives import C_STORE
from sqlalchemy import func, select
from tests.records.test_results_out import answered
from tests.service.answers import film, result
from tests.service.conftest import settings_in
from tests.service.small import SmallDrawing, SmallModel, dataset
from tests.service.test_dicom import associated

from hilum.errors import ConfigError, ServiceError
from hilum.records.database import Database
from hilum.records.results_out import Delivery, Outbox
from hilum.records.reviews import Reviews
from hilum.records.schema import AnswerRow
from hilum.records.store import Store, now
from hilum.records.values import HeatmapRecord, Identity, NewAnswer, NewFilm
from hilum.service.app import running
from hilum.service.destinations import Destination, Undelivered, read_destination
from hilum.service.dicom.calling import asked
from hilum.service.dicom.handing_over import hand_over
from hilum.service.dicom.report import make_report
from hilum.service.dicom.result import Decision, Result, ResultObject
from hilum.service.dicom.source_film import read_source
from hilum.service.film_files import FilmFiles
from hilum.service.results_opening import tls_context
from hilum.service.results_out import ResultsOut, backoff_s, result_of
from hilum.service.stow import stow

REPORT, CAPTURE = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.7"


@contextlib.contextmanager
def archive(
    *,
    status: int = 0x0000,
    classes: Sequence[str] = (REPORT, CAPTURE),
    callers: Sequence[str] = (),
    tls: ssl.SSLContext | None = None,
) -> Iterator[tuple[Destination, dict[str, bytes]]]:
    """A storage SCP on a free port; what it holds, by SOP instance UID."""
    held: dict[str, bytes] = {}

    def store(event: Any) -> int:
        if status == 0x0000 or status & 0xF000 == 0xB000:
            held[str(event.request.AffectedSOPInstanceUID)] = event.request.DataSet.getvalue()
        return status

    entity = AE(ae_title="PACS")
    entity.require_called_aet, entity.require_calling_aet = True, list(callers)
    for one in classes:
        entity.add_supported_context(one)
    handlers = [(evt.EVT_C_STORE, store)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=tls)
    try:
        yield read_destination(f"pacs=dicom{'s' if tls else ''}://PACS@127.0.0.1:{server.server_address[1]}"), held
    finally:
        server.shutdown()


@pytest.fixture(scope="module")
def report() -> ResultObject:
    return make_report(read_source(film()), result())


def test_an_object_arrives_byte_for_byte_and_again_as_the_same(report: ResultObject) -> None:
    with archive() as (destination, held):
        hand_over([report], destination, calling="HILUM")
        hand_over([report], destination, calling="HILUM")
    assert list(held) == [report.sop_instance_uid]
    assert report.content.endswith(held[report.sop_instance_uid])


def test_an_answer_is_left_to_who_waits_for_it(report: ResultObject) -> None:
    """pynetdicom's own thread would take it, and drop it, when it looks at the wrong moment."""
    contexts, limits = (
        [build_context(REPORT)],
        {"fails": Undelivered, "takes_nothing": "", "timeout_s": 120, "deadline_s": 240, "largest_message": 1 << 20},
    )
    with (
        archive() as (destination, _),
        asked(destination, contexts, calling="HILUM", tls=None, **limits) as association,
    ):
        assert association.is_established
        answer = C_STORE()
        association.dimse.msg_queue.put((1, answer))
        time.sleep(0.5)  # the thread looks a hundred times meanwhile
        assert association.dimse.get_msg(block=True) == (1, answer)


@pytest.mark.parametrize(
    ("status", "permanent"), [(0xA700, False), (0xA900, True), (0xC123, True), (0x0122, True), (0x0124, True)]
)
def test_a_refusal_says_whether_to_try_again(report: ResultObject, status: int, permanent: bool) -> None:
    with (
        archive(status=status) as (destination, _),
        pytest.raises(Undelivered, match=f"0x{status:04X}") as refused,
    ):
        hand_over([report], destination, calling="HILUM")
    assert (refused.value.code, refused.value.permanent) == (f"status-{status:04x}", permanent)


def test_a_destination_that_answers_without_an_end_is_cut_off(report: ResultObject) -> None:
    """What it announces is 4 GiB long; without the limit the sender would wait for it, and keep it."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as peers:

        def answer() -> bytes:
            peer, _ = listening.accept()
            with peer:
                peer.settimeout(300)
                peer.recv(65536)
                peer.sendall(struct.pack(">BBL", 2, 0, 0xFFFFFFFF) + bytes(1000))
                with contextlib.suppress(ConnectionResetError):
                    while peer.recv(65536):
                        pass
                return b""

        peer, started = peers.submit(answer), time.monotonic()
        destination = read_destination(f"pacs=dicom://PACS@127.0.0.1:{listening.getsockname()[1]}")
        with pytest.raises(Undelivered, match="gives no association") as away:
            hand_over([report], destination, calling="HILUM", timeout_s=200)
        assert time.monotonic() - started < 150, "cut off, and not waited for"
        assert peer.result(120) == b""
    assert not away.value.permanent


@pytest.mark.parametrize("status", [0xB000, 0x0111])
def test_a_warning_or_a_duplicate_is_stored(report: ResultObject, status: int) -> None:
    with archive(status=status) as (destination, _):
        hand_over([report], destination, calling="HILUM")


def test_a_peer_that_takes_no_such_class_or_does_not_know_us(report: ResultObject) -> None:
    with (
        archive(classes=["1.2.840.10008.1.1"]) as (destination, _),
        pytest.raises(Undelivered, match="takes neither reports nor heat maps") as refused,
    ):
        hand_over([report], destination, calling="HILUM")
    assert refused.value.permanent
    capture = ResultObject(sop_class_uid=CAPTURE, sop_instance_uid="1.2", content=report.content)
    with (
        archive(classes=[CAPTURE]) as (destination, _),
        pytest.raises(Undelivered, match=f"does not take the SOP class {REPORT}") as refused,
    ):
        hand_over([report, capture], destination, calling="HILUM")
    assert refused.value.permanent
    with (
        archive(callers=["OTHER"]) as (destination, _),
        pytest.raises(Undelivered, match="rejects associations of HILUM") as refused,
    ):
        hand_over([report], destination, calling="HILUM")
    assert (refused.value.code, refused.value.permanent) == ("rejected", False)
    with pytest.raises(Undelivered, match="gives no association") as refused:
        hand_over([report], destination, calling="HILUM", timeout_s=5)
    assert (refused.value.code, refused.value.permanent) == ("away", False)


def certificate(path: Path) -> Path:
    """A certificate of its own for 127.0.0.1, with its key, as one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "archive")])
    today = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    path.write_bytes(made.public_bytes(forms.Encoding.PEM) + plain)
    return path


def test_tls_checks_who_answers(report: ResultObject, tmp_path: Path) -> None:
    own, other = certificate(tmp_path / "own.pem"), certificate(tmp_path / "other.pem")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(own)
    with archive(tls=server) as (destination, held):
        assert destination.tls
        trusting, doubting = (
            tls_context(settings_in(tmp_path, results_to="x=dicoms://A@127.0.0.1:1", results_ca=ca))
            for ca in (own, other)
        )
        hand_over([report], destination, calling="HILUM", tls=trusting.current())
        assert list(held) == [report.sop_instance_uid]
        with pytest.raises(
            Undelivered, match="gives no association.* HILUM_RESULTS_CA names its certificate's authority"
        ):
            hand_over([report], destination, calling="HILUM", tls=doubting.current(), timeout_s=5)


@contextlib.contextmanager
def web(
    status: int, answer: bytes, tls: ssl.SSLContext | None = None, *, packed: str = "", endless: bool = False
) -> Iterator[tuple[Destination, list[tuple[dict[str, str], bytes]]]]:
    """A DICOMweb server that gives one answer; what it was asked."""
    asked: list[tuple[dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(({**{k.lower(): v for k, v in self.headers.items()}, "path": self.path}, body))
            self.send_response(status)
            self.send_header("Content-Length", str(10**9 if endless else len(answer)))
            if packed:
                self.send_header("Content-Encoding", packed)
            self.end_headers()
            self.wfile.write(answer)
            with contextlib.suppress(OSError):
                while endless:
                    self.wfile.write(b" ")
                    time.sleep(0.01)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield (
            read_destination(
                f"web=http{'s' if tls else ''}://user:se%2Fcret@127.0.0.1:{server.server_address[1]}/dicom-web/"
            ),
            asked,
        )
        server.shutdown()
        thread.join()


def failed(*reasons: int) -> bytes:
    items = [{"00081197": {"vr": "US", "Value": [one]}} for one in reasons]
    return json.dumps({"00081198": {"vr": "SQ", "Value": items}}).encode()


def test_stow_sends_every_object_as_a_part(report: ResultObject) -> None:
    with web(200, b'{"00081199": {"vr": "SQ", "Value": []}}') as (destination, asked):
        stow([report, report], destination)
    ((headers, body),) = asked
    assert headers["path"] == "/dicom-web/studies"
    assert headers["authorization"] == "Basic dXNlcjpzZS9jcmV0"
    boundary = re.fullmatch(r'multipart/related; type="application/dicom"; boundary=(\w+)', headers["content-type"])
    assert boundary is not None
    parts = body.split(b"--" + boundary[1].encode())
    assert (parts[0], parts[3]) == (b"", b"--\r\n")
    assert all(part == b"\r\nContent-Type: application/dicom\r\n\r\n" + report.content + b"\r\n" for part in parts[1:3])
    assert "se/cret" not in repr(destination)
    assert "se/cret" not in destination.url


def test_stow_over_tls_checks_who_answers(report: ResultObject, tmp_path: Path) -> None:
    own, other = certificate(tmp_path / "own.pem"), certificate(tmp_path / "other.pem")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(own)
    with web(200, b"{}", server) as (destination, asked):
        trusting, doubting = (
            tls_context(settings_in(tmp_path, results_to="x=https://127.0.0.1/x", results_ca=ca)) for ca in (own, other)
        )
        stow([report], destination, tls=trusting.current())  # type: ignore[union-attr]
        assert len(asked) == 1
        for context in (doubting.current(), None):  # type: ignore[union-attr]
            with pytest.raises(Undelivered, match="certificate that isn't trusted .*HILUM_RESULTS_CA") as refused:
                stow([report], destination, tls=context)
            assert (refused.value.code, refused.value.permanent) == ("certificate", False)
        assert len(asked) == 1, "nothing of a film goes to who isn't trusted"


@pytest.mark.parametrize(
    ("status", "answer", "code", "permanent"),
    [
        (202, failed(0x0111, 0xA700), "status-a700", False),
        (200, failed(0xC000), "status-c000", True),
        (200, b"<html>", "no-answer", False),
        (409, b"{}", "http-409", True),
        (401, b"", "http-401", True),
        (503, b"", "http-503", False),
        (404, b"", "http-404", True),
        (200, b"[" * 500_000, "no-answer", False),
        (200, b'{"00081198": {"Value": [{"00081197": {"Value": [1e999]}}]}}', "no-answer", False),
    ],
)
def test_stow_reads_the_answer(report: ResultObject, status: int, answer: bytes, code: str, permanent: bool) -> None:
    with web(status, answer) as (destination, _), pytest.raises(Undelivered) as refused:
        stow([report], destination)
    assert (refused.value.code, refused.value.permanent) == (code, permanent)


@pytest.mark.parametrize(("status", "answer"), [(200, b"{}"), (202, failed(0x0111)), (409, failed(0x0111, 0x0111))])
def test_stow_takes_what_is_there_already_as_stored(report: ResultObject, status: int, answer: bytes) -> None:
    with web(status, answer) as (destination, _):
        stow([report], destination)


def test_stow_unpacks_no_answer(report: ResultObject) -> None:
    bomb = gzip.compress(gzip.compress(bytes(64 << 20)))
    with web(200, bomb, packed="gzip, gzip") as (destination, asked), pytest.raises(Undelivered) as refused:
        tracemalloc.start()
        try:
            stow([report], destination)
        finally:
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    assert refused.value.code == "no-answer"
    assert most < 16 << 20, f"{len(bomb)} bytes"
    assert asked[0][0]["accept-encoding"] == "identity"


def test_stow_waits_for_no_answer_without_an_end(report: ResultObject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hilum.service.stow.ANSWER_S", 0.1)
    with web(200, b"", endless=True) as (destination, _), pytest.raises(Undelivered) as refused:
        stow([report], destination)
    assert refused.value.code == "no-answer"


def test_stow_to_nobody(report: ResultObject) -> None:
    with web(200, b"{}") as (destination, _):
        pass
    with pytest.raises(Undelivered, match="can't be reached") as refused:
        stow([report], destination)
    assert (refused.value.code, refused.value.permanent) == ("away", False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dicom://A@h:104", "has no name"),
        ("=dicom://A@h:104", "has no name"),
        ("x=dicom://h:104", "no AE title"),
        ("x=dicom://SEVENTEEN-LETTERS@h:104", "no AE title"),
        ("x=dicom://A@h", "no port"),
        ("x=dicom://A@h:99999", "no address that can be read"),
        ("x=https:///path", "names no host"),
        ("x=ftp://h", "has the scheme 'ftp'"),
        ("x=http://user:hidden@archive.example/", "identifiers over plain http"),
    ],
)
def test_a_wrong_destination_is_explained(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as wrong:
        read_destination(text)
    assert "hidden" not in str(wrong.value)


def test_destinations_are_read() -> None:
    node = read_destination("pacs=dicoms://MAIN%20PACS@pacs.example:2762")
    assert (node.name, node.kind, node.host, node.port, node.tls) == ("pacs", "dicom", "pacs.example", 2762, True)
    assert node.ae_title == "MAIN PACS"
    server = read_destination("web=https://a:b@archive.example/dicom-web/")
    assert (server.url, server.login, server.port) == ("https://archive.example/dicom-web", ("a", "b"), 443)
    assert read_destination("web=http://[::1]:8042/x").url == "http://[::1]:8042/x"


def test_waits_double_up_to_a_cap_and_chance_shortens_them() -> None:
    waits = [backoff_s(n, first_s=5, cap_s=100, chance=0) for n in range(1, 8)]
    assert waits == [5, 10, 20, 40, 80, 100, 100]
    assert backoff_s(10**6, first_s=5, cap_s=100, chance=1) == 50
    assert backoff_s(1, first_s=5, cap_s=100, chance=0.5) == 3.75


class Peer:
    """Hands over, or fails as it is told."""

    def __init__(self) -> None:
        self.trouble: list[Exception] = []
        self.got: list[str] = []

    def __call__(self, objects: Sequence[ResultObject], destination: Destination) -> None:
        if self.trouble:
            raise self.trouble.pop(0)
        self.got += [f"{destination.name}:{one.sop_instance_uid}" for one in objects]


def small_object(_: Path, said: Result, decision: Decision | None) -> list[ResultObject]:
    uid = said.content_sha256 + (f" {decision.reader} {decision.organization} {decision.finding}" if decision else "")
    return [ResultObject(sop_class_uid="1", sop_instance_uid=uid, content=b"")]


@contextlib.contextmanager
def sending(
    tmp_path: Path, peer: Callable[..., None], *names: str, **changes: Any
) -> Iterator[tuple[Database, Outbox, ResultsOut]]:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    outbox = Outbox(database, lambda: datetime.now(UTC))
    destinations = [read_destination(f"{name}=dicom://A@127.0.0.1:1") for name in names or ("pacs",)]
    outbox.register([one.name for one in destinations])
    options = {"first_s": 0.02, "cap_s": 0.05, "poll_s": 0.05, "give_up_s": 1e9, **changes}
    senders = ResultsOut(outbox, FilmFiles(tmp_path), destinations, make=small_object, hand_over=peer, **options)
    try:
        yield database, outbox, senders
    finally:
        senders.stop(5)
        database.close()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_result_is_sent_when_it_is_there_and_after_failures(tmp_path: Path) -> None:
    peer = Peer()
    with sending(tmp_path, peer) as (database, outbox, senders):
        peer.trouble = [Undelivered("Away.", code="away"), RuntimeError("a fault"), Undelivered("Away.", code="away")]
        senders.start()
        answered(database, now, 1)
        senders.wake()
        until(lambda: outbox.counts() == {"pacs": {"sent": 1}})
    assert peer.got == [f"pacs:{1:064d}"]


def test_a_permanent_refusal_makes_a_dead_letter_at_once_and_a_passing_one_when_time_is_over(tmp_path: Path) -> None:
    peer, long_ago = Peer(), datetime.now(UTC) - timedelta(hours=2)
    with sending(tmp_path, peer, give_up_s=3600) as (database, outbox, senders):
        away, refused = Undelivered("Away.", code="away"), Undelivered("No.", code="sop-class", permanent=True)
        peer.trouble = [away, away, refused]
        answered(database, lambda: long_ago, 1)  # due first
        answered(database, now, 2)
        senders.start()
        until(lambda: outbox.counts() == {"pacs": {"dead": 2}})
        assert [
            (one.film_id, one.reason_code, one.attempts) for one in sorted(outbox.dead(), key=lambda x: x.film_id)
        ] == [
            ("film1", "away", 1),
            ("film2", "sop-class", 2),
        ]
        assert outbox.requeue() == 2
        senders.wake()
        until(lambda: outbox.counts() == {"pacs": {"sent": 2}})


def test_a_destination_that_is_away_holds_up_no_other(tmp_path: Path) -> None:
    held, got = threading.Event(), []

    def peer(objects: Sequence[ResultObject], destination: Destination) -> None:
        if destination.name == "slow":
            assert held.wait(120)
        got.append(destination.name)

    with sending(tmp_path, peer, "slow", "quick") as (database, outbox, senders):
        senders.start()
        answered(database, now, 1)
        answered(database, now, 2)
        senders.wake()
        until(lambda: outbox.counts().get("quick") == {"sent": 2})
        assert got == ["quick", "quick"]
        held.set()
        until(lambda: outbox.counts().get("slow") == {"sent": 2})


def test_what_was_being_sent_when_the_process_died_is_sent_by_the_next(tmp_path: Path) -> None:
    peer = Peer()
    with sending(tmp_path, peer) as (database, outbox, senders):
        answered(database, now, 1)
        assert outbox.claim("pacs", "a process that is gone", lease_s=3600) is not None
        assert outbox.release() == 1  # what a start does
        senders.start()
        until(lambda: outbox.counts() == {"pacs": {"sent": 1}})
    assert len(peer.got) == 1


def delivery(**changes: Any) -> Delivery:
    values: dict[str, Any] = {
        "id": "d",
        "destination": "pacs",
        "film_id": "f",
        "attempts": 1,
        "created_at": datetime(2026, 11, 1, tzinfo=UTC),
        "file_sha256": "1" * 64,
        "content_sha256": "2" * 64,
        "model_sha256": "3" * 64,
        "answered_at": datetime(2026, 11, 1, 12, tzinfo=UTC),
        "label": "pneumonia",
        "assessment": {
            "probs": {"normal": 0.2, "pneumonia": 0.5, "covid-19": 0.3},
            "positive": ["pneumonia"],
            "uncertainty": {"mc_std": {"pneumonia": 0.1}},
            "heatmap_top": 2.5,
            "preprocessing": {"size": 224},
            "provenance": {"bundle_name": "chest", "bundle_version": "3", "precision": "fp32", "hilum": "0.1"},
        },
        "heatmaps": tuple(
            HeatmapRecord(finding=name, rows=1, columns=2, values=bytes(4) + b"\0\0\x80?")
            for name in ("covid-19", "normal", "pneumonia")
        ),
    }
    return Delivery(**{**values, **changes})


def test_a_result_says_what_was_recorded() -> None:
    said = result_of(delivery())
    assert (said.model_name, said.model_version, said.software) == ("chest", "3", "0.1")
    assert (said.parameters, said.spread, said.positive) == (("precision=fp32",), {"pneumonia": 0.1}, ("pneumonia",))
    assert datetime.fromisoformat(said.made_at) == datetime(2026, 11, 1, 12, tzinfo=UTC)
    assert said.heat is not None
    assert (said.heat.finding, said.heat.top, said.heat.values.tolist()) == ("pneumonia", 2.5, [[0.0, 1.0]])


@pytest.mark.parametrize("label", [None, "normal"])
def test_without_a_disease_the_likeliest_one_is_shown(label: str | None) -> None:
    heat = result_of(delivery(label=label)).heat
    assert heat is not None
    assert heat.finding == "pneumonia"


def test_an_answer_without_maps_gives_a_report_alone() -> None:
    assert result_of(delivery(heatmaps=())).heat is None


RECORDS = """
import sys, itertools
from hilum.records.database import Database
from hilum.records.results_out import Outbox
from hilum.records.store import Store, now
from hilum.records.values import Identity, NewAnswer, NewFilm
database = Database(sys.argv[1])
store, outbox = Store(database), Outbox(database, now)
outbox.register(["pacs"])
for number in itertools.count():
    digest = f"{number:064d}"
    store.receive(NewFilm(content_sha256=digest, file_sha256=digest, size=1, format="dicom", origin="dicom"))
    claim = store.claim("me", lease_s=60, max_attempts=3)
    answer = NewAnswer(model_sha256="5" * 64, analysed=True, label=None, abstained=True, risk=0.5, assessment={})
    store.record_answer(claim.film_id, "me", Identity(sop_instance_uid=f"1.2.{number}"), answer)
    if number % 2:
        outbox.claim("pacs", "me", lease_s=3600)
    print(number, flush=True)
"""


@pytest.mark.parametrize("lines", [5, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 2, 3, 8, 13, 21))])
def test_a_process_killed_at_any_moment_leaves_every_answer_queued_and_none_twice(tmp_path: Path, lines: int) -> None:
    url = f"sqlite:///{tmp_path / 'hilum.db'}"
    with subprocess.Popen([sys.executable, "-c", RECORDS, url], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(lines):
            assert process.stdout.readline()
        process.kill()
    peer = Peer()
    with sending(tmp_path, peer) as (database, outbox, senders):
        outbox.release()
        with database.read() as session:
            answers = session.scalar(select(func.count()).select_from(AnswerRow))
        assert answers is not None
        assert answers >= lines
        senders.start()
        until(lambda: outbox.counts() == {"pacs": {"sent": answers}})
    assert sorted(peer.got) == [f"pacs:{number:064d}" for number in range(answers)]


@pytest.mark.long
def test_a_film_sent_to_the_service_comes_back_as_a_report(tmp_path: Path) -> None:
    """The whole way, with the sandboxed child that reads the film; tests/system/test_orthanc.py goes it too."""
    with archive() as (destination, held):
        to = f"pacs=dicom://PACS@127.0.0.1:{destination.port}"
        settings = settings_in(tmp_path, dicom_port=0, results_to=to)
        with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
            sent = dataset(301, 230, SeriesInstanceUID="1.2.3", PatientName="Doe^Jane")
            with associated(service.dicom_port or 0) as association:
                assert association.send_c_store(sent).Status == 0x0000
            until(lambda: service.room.outbox.counts() == {"pacs": {"sent": 1}})
        (uid,) = held
        report = pydicom.dcmread(io.BytesIO(held[uid]), force=True)
    assert (report.SOPClassUID, report.SOPInstanceUID, str(report.PatientName)) == (REPORT, uid, "Doe^Jane")
    assert report.CurrentRequestedProcedureEvidenceSequence[0].StudyInstanceUID == sent.StudyInstanceUID


@pytest.mark.parametrize("organization", ["", "St. Synthetic"])
def test_a_readers_review_is_sent_where_readers_have_an_organization(tmp_path: Path, organization: str) -> None:
    peer = Peer()
    with sending(tmp_path, peer, organization=organization) as (database, outbox, senders):
        outbox.register(["pacs"], reviews=bool(organization))
        senders.start()
        answered(database, now, 1)
        Reviews(database, undo=timedelta(0)).put(
            "film1", "ada", decision="override", finding="normal", comment="", over=0
        )
        reviews = Reviews(database, undo=timedelta(0))
        reviews.put("film1", "ada", decision="agree", finding=None, comment="", over=1)
        senders.wake()
        until(lambda: outbox.counts() == {"pacs": {"sent": 3 if organization else 1}})
    sent = [f"pacs:{1:064d} ada St. Synthetic {finding}" for finding in ("normal", "pneumonia")]
    assert sorted(peer.got) == sorted([f"pacs:{1:064d}", *(sent if organization else [])])


def test_what_was_not_analysed_is_not_sent(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    store, outbox = Store(database), Outbox(database, now)
    outbox.register(["pacs"])
    for number, analysed in enumerate((True, False)):
        digest = f"{number:064d}"
        store.receive(NewFilm(content_sha256=digest, file_sha256=digest, size=1, format="dicom", origin="dicom"))
        claim = store.claim("me", lease_s=60, max_attempts=3)
        assert claim is not None
        said = NewAnswer(
            model_sha256="5" * 64, analysed=analysed, label=None, abstained=False, risk=None, assessment={}
        )
        store.record_answer(claim.film_id, "me", Identity(), said)
    assert outbox.counts() == {"pacs": {"waiting": 1}}
    database.close()


def test_a_certificate_that_can_not_be_used_stops_the_start(tmp_path: Path) -> None:
    for name in ("results_ca", "results_certificate"):
        settings = settings_in(tmp_path, results_to="web=https://archive.example/x", **{name: tmp_path / "none.pem"})
        with pytest.raises(ServiceError, match="certificates for sending results can't be used"):
            tls_context(settings)
    context = tls_context(settings_in(tmp_path, results_to="web=https://archive.example/x"))
    assert context is not None
    assert context.current().check_hostname
    assert tls_context(settings_in(tmp_path, results_to="pacs=dicom://A@127.0.0.1:104")) is None


def test_settings_explain_wrong_destinations(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'results_to': destination 'x' has no port"):
        settings_in(tmp_path, results_to="x=dicom://A@h")
    with pytest.raises(ConfigError, match="need names of their own"):
        settings_in(tmp_path, results_to="x=dicom://A@h:1,x=dicom://B@h:2")
    several = settings_in(tmp_path, results_to="x=dicom://A@h:1, y=https://u:hidden@h/z")
    assert [one.name for one in several.destinations] == ["x", "y"]
    assert "hidden" not in repr(several)
