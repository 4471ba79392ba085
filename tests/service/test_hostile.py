"""Peers that mean harm: the listener ends their connections, keeps its memory, and serves the next good one."""

import contextlib
import logging
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from tests.bundle.small import small_bundle
from tests.imaging.test_mutations import KNOWN, mutate, originals
from tests.service.conftest import settings_in
from tests.service.hostile import (
    DATA,
    RELEASE,
    WAYS,
    associate,
    attack,
    attack_again,
    attack_often,
    command,
    listener_of,
    noted,
    pdu,
    pdv,
    received,
    recorded_at_last,
    resident_mb,
    store,
    threads_of,
)
from tests.service.small import CR, SmallDrawing, SmallModel, dataset
from tests.service.test_dicom import associated, port_of, still_serves

from hilum.service.app import Running, running

# As in service (hilum.service.logs): as errors they would end what goes on there.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
    pytest.mark.filterwarnings("ignore::UserWarning:pynetdicom"),
]

WAIT_S = 120.0
"""A test has to end; what takes longer than the service allows is tried again alone, and then not excused."""

LIMIT_S, MORE_S = 1, 5.0
"""How long the service here waits for a silent peer, and how much later a connection may end."""


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("hostile")
    settings = settings_in(folder, dicom_port=0, network_timeout_s=LIMIT_S, largest_film_mb=1, maximum_associations=10)
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as started:
        yield started


@pytest.fixture(scope="module")
def good(impatient: Running) -> list[bytes]:
    return recorded_at_last(port_of(impatient))


def all_end(service: Running, attacks: dict[str, list[bytes]], good: bytes = b"") -> None:
    """Each of them, all at once, has its connection closed in time, and the listener goes on.

    Those that begin with the good request for an association wait for it before they lie.
    """
    process = listener_of(service)
    before = resident_mb(process)
    with ThreadPoolExecutor(8) as peers:
        ended = {
            name: peers.submit(attack, port_of(service), parts, stays=True, within_s=WAIT_S, good=good)
            for name, parts in attacks.items()
        }
    longest_s = LIMIT_S + MORE_S
    for name, one in ended.items():
        assert one.exception() is None, name
        if one.result() >= longest_s:
            took = attack_again(
                port_of(service), attacks[name], stays=True, within_s=WAIT_S, longest_s=longest_s, good=good
            )
            assert took < longest_s, name
    assert resident_mb(process) - before < 256
    assert still_serves(service)
    assert listener_of(service) == process, "and it is still the same one"


def test_lengths_of_every_pdu(impatient: Running, good: list[bytes]) -> None:
    attacks = {}
    for kind in range(9):
        for length in (0, 1, 4, 0xFFFFFFFF):
            attacks[f"{kind} first, {length}"] = [pdu(kind, b"\0" * min(length, 64), length)]
            attacks[f"{kind} second, {length}"] = [good[0], pdu(kind, b"\0" * min(length, 64), length)]
    all_end(impatient, attacks)
    all_end(impatient, {name: parts for name, parts in attacks.items() if len(parts) > 1}, good[0])


def test_presentation_contexts_that_are_none(impatient: Running) -> None:
    attacks = {
        "none": [(1, 0)] * 0,
        "even": [(2, 1)],
        "zero": [(0, 1)],
        "twice the same": [(1, 1), (1, 1)],
        "no syntax": [(1, 0)],
        "all of them and more": [(number % 256, 1) for number in range(255)],
        "many syntaxes": [(1, 1500)],
    }
    all_end(impatient, {name: [associate(contexts)] for name, contexts in attacks.items()})


def test_presentation_data_that_is_none(impatient: Running, good: list[bytes]) -> None:
    order, data = good[1][6:], good[2][6:]
    endless = pdu(DATA, pdv(1, 0, b"x" * 60_000))
    attacks = {
        "empty": [pdu(DATA, b"")],
        "length 0": [pdu(DATA, pdv(1, 3, b"", 0))],
        "length 1": [pdu(DATA, pdv(1, 3, b"", 1))],
        "longer than the PDU": [pdu(DATA, pdv(1, 3, b"xx", 0xFFFFFFFF))],
        "shorter than the PDU": [pdu(DATA, pdv(1, 3, b"xx") + b"\0\0\0")],
        "data without a command": [pdu(DATA, data)],
        "a command twice": [pdu(DATA, order), pdu(DATA, order)],
        "another context in between": [pdu(DATA, order), pdu(DATA, pdv(3, 2, b"xx"))],
        "a context that was not agreed": [pdu(DATA, pdv(99, 3, order[6:]))],
        "a command that is none": [pdu(DATA, pdv(1, 3, b"\xff" * 100))],
        "a command that never ends": [pdu(DATA, pdv(1, 1, b"x" * 60_000))] * 80,
        "a data set that never ends": [pdu(DATA, order), *[endless] * 80],
        "many small ones": [pdu(DATA, order), pdu(DATA, pdv(1, 0, b"x") * 20_000)],
        "released in the middle": [pdu(DATA, order), pdu(RELEASE, bytes(4))],
        "a second association inside": [pdu(DATA, order), good[0]],
    }
    sent = {name: [good[0], *parts] for name, parts in attacks.items()}
    all_end(impatient, sent)
    all_end(impatient, sent, good[0])


def test_a_command_that_is_longer_than_any_ends_its_association(impatient: Running, good: list[bytes]) -> None:
    """pynetdicom would decode it element by element: 100 MB in half a minute."""
    piece = pdu(DATA, pdv(1, 1, bytes(40_000)))
    attack(port_of(impatient), [good[0], piece, piece], stays=True, within_s=WAIT_S, good=good[0])
    assert still_serves(impatient)
    assert {row["code"] for row in noted(impatient.room.database)} >= {"command-size"}


def test_a_flood_of_connections_is_bounded_and_passes(impatient: Running, good: list[bytes]) -> None:
    """Half of them say nothing, half associate and then say nothing."""
    process = listener_of(impatient)
    threads = threads_of(process)
    with contextlib.ExitStack() as stack:
        for number in range(60):
            with contextlib.suppress(OSError):
                peer = stack.enter_context(socket.create_connection(("127.0.0.1", port_of(impatient)), timeout=WAIT_S))
                if number % 2:
                    peer.sendall(good[0])
        most = 2 * impatient.room.settings.maximum_associations
        assert threads_of(process) - threads < 3 * most + 10, "two threads an association, and one a connection"
        deadline = time.monotonic() + WAIT_S
        while not still_serves(impatient):
            assert time.monotonic() < deadline, "those that say nothing are closed after 1 s"
    assert still_serves(impatient)


def test_who_looks_whether_the_port_is_open_keeps_no_place(tmp_path: Path) -> None:
    """A monitor does, each few seconds: it connects and closes. The limits of a silent peer must not be waited for."""
    settings = settings_in(tmp_path, dicom_port=0, network_timeout_s=3600, maximum_associations=2)
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
        process = listener_of(service)
        assert still_serves(service)
        threads = threads_of(process)
        for _ in range(3 * settings.maximum_associations):
            socket.create_connection(("127.0.0.1", port_of(service)), timeout=WAIT_S).close()
        deadline = time.monotonic() + WAIT_S
        while threads_of(process) > threads or not still_serves(service):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_five_slow_peers_are_cut_off_while_a_good_one_finishes(impatient: Running, good: list[bytes]) -> None:
    """They send a byte a while: in an association's request, and in a film's data."""

    def trickle(before: list[bytes], parts: bytes) -> float:
        started = time.monotonic()
        at = ("127.0.0.1", port_of(impatient))
        with socket.create_connection(at, timeout=WAIT_S) as peer, contextlib.suppress(OSError):
            for part in before:
                peer.sendall(part)
            for byte in parts * 5:
                peer.sendall(bytes([byte]))
                peer.settimeout(0.2)
                with contextlib.suppress(TimeoutError):
                    if before:
                        continue_reading(peer)
                    elif not peer.recv(10):
                        break
        return time.monotonic() - started

    def continue_reading(peer: socket.socket) -> None:
        while True:
            if not peer.recv(4096):
                raise ConnectionError

    with ThreadPoolExecutor(5) as peers:
        slow = [peers.submit(trickle, [], good[0][:200]) for _ in range(2)]
        slow += [peers.submit(trickle, good[:2], good[2]) for _ in range(3)]
        assert still_serves(impatient)
        for one in slow:
            assert one.result() < WAIT_S, "1000 bytes at five a second would take 200 s"


def test_films_that_come_a_byte_at_a_time_keep_no_place(impatient: Running) -> None:
    """Each of their PDUs comes whole, so that no limit of one is exceeded."""
    at, places = ("127.0.0.1", port_of(impatient)), impatient.room.settings.maximum_associations
    with contextlib.ExitStack() as stack:
        peers: list[socket.socket] = []
        for number in range(places):
            from_where = (f"127.0.0.{1 + number % 2}", 0)  # one address may not have all of them
            peer = stack.enter_context(socket.create_connection(at, timeout=WAIT_S, source_address=from_where))
            peers.append(peer)
            with contextlib.suppress(OSError, AssertionError):
                peer.sendall(associate([(1, 1)]))
                received(peer)
                peer.sendall(pdu(DATA, pdv(1, 3, command(CR, b"1.2.826.0.1.3680043.10.9"))))

        def go_on() -> None:
            while peers:
                for peer in list(peers):
                    try:
                        peer.sendall(pdu(DATA, pdv(1, 0, b"x")))
                    except OSError:
                        peers.remove(peer)
                time.sleep(0.02)

        sender = threading.Thread(target=go_on, daemon=True)
        sender.start()
        sender.join(WAIT_S)
        assert not peers, f"{len(peers)} are still there"
        deadline = time.monotonic() + WAIT_S
        while not still_serves(impatient):
            assert time.monotonic() < deadline


LIES = {
    "a path": "../../../../etc/passwd",
    "a slash": "1.2/3",
    "a zero": "1.2\x003",
    "too long": "1." * 40 + "1",
    "nothing": "",
    "a wildcard": "1.2.*",
}


def test_uids_that_are_none_are_refused_and_name_no_file(impatient: Running, good: list[bytes]) -> None:
    """The announced UID is changed where it stands in the command; the data set keeps its own."""
    folder = impatient.room.intake.files.films
    before = {path for path in folder.rglob("*") if path.is_file()}
    for name, uid in LIES.items():
        lied = pdu(DATA, pdv(1, 3, command(CR, uid.encode())))
        heard = mock.Mock()
        sent = [good[0], lied, good[2]]
        for _ in range(20):  # on a busy machine the impatient service may cut off this peer, too
            attack(port_of(impatient), sent, stays=False, within_s=WAIT_S, good=good[0], heard=heard)
            if heard.called:
                break
        assert heard.called, name
        assert {path for path in folder.rglob("*") if path.is_file()} <= before, name
    assert still_serves(impatient)


def test_what_a_peer_sent_is_not_quoted_by_a_warning() -> None:
    """pydicom warns of a value that is none, and quotes it: a name in the log, or a flood of them in memory."""
    said = (
        "from hilum.service.logs import start_logs; start_logs(); from pydicom.dataset import Dataset; "
        "made = Dataset(); made.StudyInstanceUID = 'CANARY^NAME'; made.PatientAge = 'CANARY'"
    )
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, timeout=240, check=True)
    assert done.stderr == ""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """With a real bundle: films are decoded in its sandbox."""
    folder = tmp_path_factory.mktemp("real")
    bundle = small_bundle(folder / "small.hilum")
    with running(settings_in(folder, dicom_port=0, bundle=bundle, decode_memory_mb=256, decode_wall_s=60)) as started:
        yield started


def test_an_object_without_a_data_set_is_not_understood(real: Running) -> None:
    how = {"kind": CR, "uid": b"1.2.826.0.1.3680043.10.9", "syntax": "1.2.840.10008.1.2", "within_s": WAIT_S}
    assert store(port_of(real), b"", **how) == 0xC000


def lying_films(service: Running, count: int, seed: int) -> None:
    """Data sets that lie, by C-STORE: acknowledged, since nothing is decoded then; each ends as a film or a reason."""
    rng, films, known = np.random.default_rng(seed), originals(), service.room.store.counts()
    for number in range(count):
        content = films[number % len(films)]
        starts = 144 + int.from_bytes(content[140:144], "little")
        syntax = content[content.index(b"\x02\x00\x10\x00UI") + 8 :][:64].split(b"\x02\x00")[0].strip(b"\0").decode()
        _, lied = mutate(content, rng)
        uid = f"1.2.826.0.1.3680043.10.{seed}.{number}".encode()
        status = store(port_of(service), lied[starts:], kind=DX, uid=uid, syntax=syntax, within_s=WAIT_S)
        assert status == (0x0000 if lied[starts:] else 0xC000), (number, hex(status))
    deadline = time.monotonic() + WAIT_S + count / 10
    while set(service.room.store.counts()) & {"received", "preparing"}:
        assert time.monotonic() < deadline, service.room.store.counts()
        time.sleep(0.05)
    failed = [film for film in service.room.store.films(limit=count + 9).films if film.state == "failed"]
    codes = Counter(film.reason_code for film in failed)
    # A lie about the size may ask for what a child has, or for a little more: which depends on what it read before.
    assert codes.keys() <= KNOWN | {"out-of-memory"}, codes
    assert codes["out-of-memory"] <= 1 + count // 50, codes
    assert sum(service.room.store.counts().values()) > sum(known.values())


DX = "1.2.840.10008.5.1.4.1.1.1.1"


def test_films_that_lie_in_every_way_end_with_a_reason(real: Running) -> None:
    """Sequences 250 deep, Rows x Columns x Frames that overflow, fragments that don't fit, UIDs that are paths."""
    lying_films(real, 40, 5)
    with associated(port_of(real)) as association:
        assert association.send_c_store(dataset(902, 77)).Status == 0x0000, "and it still keeps films"


@pytest.mark.system
@pytest.mark.timeout(1800)
def test_five_hundred_films_that_lie(real: Running) -> None:
    lying_films(real, 500, 6)


def attacked(service: Running, count: int, seed: int) -> None:
    assert still_serves(service)
    process = listener_of(service)
    threads, before = threads_of(process), resident_mb(process)
    lasting = logging.getLogger("pynetdicom").level
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    try:
        longest_s = LIMIT_S + MORE_S
        ways, heard, slowest = attack_often(port_of(service), count, seed, within_s=WAIT_S, longest_s=longest_s)
    finally:
        logging.getLogger("pynetdicom").setLevel(lasting)
    more = resident_mb(process) - before
    said = f"{heard} of them accepted first, slowest end {slowest[0]:.1f} s ({slowest[1]})"
    print(f"{count} associations, {said}, {more:.0f} MB more")
    assert set(ways) == set(WAYS) or count < 200
    assert slowest[0] < longest_s, slowest
    assert heard > 0.5 * count, "what comes before an association is accepted is not looked at"
    assert resident_mb(process) - before < 256
    deadline = time.monotonic() + WAIT_S
    while threads_of(process) > threads + 4:
        assert time.monotonic() < deadline, threads_of(process)
        time.sleep(0.1)
    assert still_serves(service)
    assert listener_of(service) == process, "and it is still the same one"
    assert any(stores(service) for _ in range(10)), "and it still keeps films"


def stores(service: Running) -> bool:
    """On a busy machine a good peer may be too slow for the impatient service as well."""
    with contextlib.suppress(RuntimeError, ValueError), associated(port_of(service)) as association:
        return association.send_c_store(dataset(901, 77)).get("Status") == 0x0000
    return False


def test_mutated_associations(impatient: Running) -> None:
    attacked(impatient, 60, 11)


@pytest.mark.system
@pytest.mark.timeout(1800)
def test_three_thousand_mutated_associations(impatient: Running) -> None:
    attacked(impatient, 3_000, 12)


@pytest.mark.long
@pytest.mark.timeout(36_000)
def test_a_hundred_thousand_mutated_associations(impatient: Running) -> None:
    attacked(impatient, 100_000, 13)
