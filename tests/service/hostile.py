"""What a hostile peer sends: whole associations as bytes, taken from a good one, and changed by chance."""

import contextlib
import itertools
import json
import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pynetdicom import AE, evt
from tests.service.small import CR, dataset

from hilum.records.audit import entries
from hilum.records.database import Database
from hilum.service.app import Running

ASSOCIATE, ACCEPT, DATA, RELEASE = 1, 2, 4, 5
LENGTHS = (0, 1, 2, 5, 6, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
WAYS = (
    "flip", "length", "cut", "type", "drop", "double", "swap", "insert", "pdv length", "pdv context", "pdv flags",
    "never last", "command", "uid", "noise",
)  # fmt: skip


def pdu(kind: int, body: bytes, length: int | None = None) -> bytes:
    """A PDU (PS3.8 section 9.3.1)."""
    return struct.pack(">BBL", kind, 0, len(body) if length is None else length) + body


def pdv(context: int, flags: int, body: bytes, length: int | None = None) -> bytes:
    """A presentation data value (PS3.8 section 9.3.5.1)."""
    return struct.pack(">LBB", len(body) + 2 if length is None else length, context, flags) + body


def recorded(port: int, number: int = 900) -> list[bytes]:
    """The PDUs of a good association that stores one film."""
    sent: list[bytes] = []
    entity = AE(ae_title="SCU")
    entity.add_requested_context(CR)
    handlers = [(evt.EVT_DATA_SENT, lambda event: sent.append(bytes(event.data)))]
    association = entity.associate("127.0.0.1", port, ae_title="HILUM", evt_handlers=handlers)
    assert association.send_c_store(dataset(number)).Status == 0x0000
    association.release()
    return sent


def recorded_at_last(port: int) -> list[bytes]:
    """The same where the service is impatient: on a busy machine a good peer may be too slow for it."""
    for _ in range(20):
        with contextlib.suppress(RuntimeError, AssertionError, AttributeError, ValueError):
            return recorded(port)
    raise AssertionError("no good association")


def mutate(good: Sequence[bytes], rng: np.random.Generator) -> tuple[str, list[bytes]]:
    """One of the ways in which a peer can lie; returns its name and what is sent."""
    parts = [bytearray(one) for one in good]
    way = WAYS[rng.integers(len(WAYS))]
    at = int(rng.integers(len(parts)))
    data = [index for index, one in enumerate(parts) if one[0] == DATA]
    if way == "flip":
        for place in rng.integers(0, len(parts[at]), rng.integers(1, 9)):
            parts[at][place] = rng.integers(256)
    elif way == "length":
        parts[at][2:6] = struct.pack(">L", rng.choice(LENGTHS))
    elif way == "cut":
        del parts[at][rng.integers(0, len(parts[at])) :]
        del parts[at + 1 :]
    elif way == "type":
        parts[at][0] = rng.integers(256)
    elif way == "drop":
        del parts[at]
    elif way == "double":
        parts[at:at] = [parts[at]] * int(rng.integers(1, 30))
    elif way == "swap":
        rng.shuffle(parts)  # type: ignore[arg-type]
    elif way == "insert":
        place = int(rng.integers(len(parts[at])))
        parts[at][place:place] = rng.bytes(int(rng.integers(1, 60)))
    elif way == "command":
        first = parts[data[0]]
        for place in rng.integers(12, len(first), rng.integers(1, 9)):
            first[place] = rng.integers(256)
    elif way == "uid":
        for index in data:
            found = parts[index].find(b"1.2.826.0.1.3680043.10")
            if found >= 0:
                lie = (b"../../../../etc/passwd", b"1.2.826.0.1.3680043.1\0", b"*" * 22, b"\xff" * 22)[rng.integers(4)]
                parts[index][found : found + 22] = lie
    elif way == "noise":
        parts = [bytearray(rng.bytes(int(rng.integers(1, 400)))) for _ in range(3)]
    else:
        one = parts[data[rng.integers(len(data))]]
        if way == "pdv length":
            one[6:10] = struct.pack(">L", rng.choice(LENGTHS))
        elif way == "pdv context":
            one[10] = rng.integers(256)
        elif way == "pdv flags":
            one[11] = rng.integers(256)
        else:
            one[11] &= 1
            parts[data[-1] + 1 :] = [one] * int(rng.integers(1, 40))
    return way, [bytes(one) for one in parts]


def attack(
    port: int,
    parts: Sequence[bytes],
    *,
    stays: bool,
    within_s: float,
    good: bytes = b"",
    heard: Callable[[], object] = int,
) -> float:
    """Send it; seconds until the other side has closed.

    Args:
        port: of the listener.
        parts: what is sent, one after the other, whatever is answered.
        stays: keep our side open until the other closes its own.
        within_s: longest wait.
        good: a request for an association; where the first part is that, its answer is awaited before the rest is
            sent. What comes ahead of the answer ends the association unread (PS3.8 table 9-10, state 3).
        heard: called when the association was accepted, so that the rest is looked at.

    Raises:
        TimeoutError: the other side never closed.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=within_s) as peer:
        with contextlib.suppress(OSError):
            for number, part in enumerate(parts):
                peer.sendall(part)
                if number == 0 and part == good and accepted(peer):
                    heard()
            if not stays:
                peer.shutdown(socket.SHUT_WR)
        started = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while peer.recv(65536):
                assert time.monotonic() - started < within_s
        return time.monotonic() - started


def accepted(peer: socket.socket) -> bool:
    """Wait for what is said to a request for an association; whether it is a yes."""
    with contextlib.suppress(AssertionError, OSError):
        return received(peer)[0] == ACCEPT
    return False


def listener_of(service: Running) -> int:
    """Id of the process that peers are met by."""
    listener = service.room.listener
    assert listener is not None
    assert listener.process_id is not None, listener.trouble
    return listener.process_id


def noted(database: Database) -> list[dict[str, Any]]:
    """What the audit says of refused peers."""
    with database.read() as session:
        return [json.loads(row.body)["detail"] for row in entries(session) if row.act == "association.refused"]


def resident_mb(process_id: int) -> float:
    """Memory of a process in use."""
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def threads_of(process_id: int) -> int:
    """Threads of a process."""
    return len(list(Path(f"/proc/{process_id}/task").iterdir()))


def attack_again(
    port: int, parts: Sequence[bytes], *, stays: bool, within_s: float, longest_s: float, good: bytes = b""
) -> float:
    """The same alone, up to three times until it ends in time: a busy machine is not the listener's doing."""
    took = float("inf")
    for _ in range(3):
        took = min(took, attack(port, parts, stays=stays, within_s=within_s, good=good))
        if took < longest_s:
            break
    return took


def attack_often(
    port: int, count: int, seed: int, *, within_s: float, longest_s: float
) -> tuple[Counter[str], int, tuple[float, str]]:
    """Attack by chance so often; how often in each way, in how many accepted associations, and the slowest end.

    One in ten sends all ahead of what the listener answers. What takes longer than ``longest_s`` counts as long as it
    takes alone.
    """
    rng, ways, slowest = np.random.default_rng(seed), Counter[str](), (0.0, "")
    good, heard = recorded_at_last(port), itertools.count()
    for _ in range(count):
        way, parts = mutate(good, rng)
        ways[way] += 1
        stays = bool(rng.random() < 0.02)
        awaited = b"" if rng.random() < 0.1 else good[0]
        took = attack(port, parts, stays=stays, within_s=within_s, good=awaited, heard=heard.__next__)
        if took >= longest_s:
            took = attack_again(port, parts, stays=stays, within_s=within_s, longest_s=longest_s, good=awaited)
        slowest = max(slowest, (took, f"{way}, stays" if stays else way))
    return ways, next(heard), slowest


def associate(contexts: Sequence[tuple[int, int]], *, kind: str = CR, syntax: str = "1.2.840.10008.1.2") -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8 section 9.3.2) with these presentation contexts: id, and number of transfer syntaxes."""

    def item(number: int, body: bytes) -> bytes:
        return struct.pack(">BBH", number, 0, len(body)) + body

    def context(number: int, syntaxes: int) -> bytes:
        offered = item(0x40, syntax.encode()) * syntaxes
        return item(0x20, bytes([number, 0, 0, 0]) + item(0x30, kind.encode()) + offered)

    head = struct.pack(">HH", 1, 0) + b"HILUM".ljust(16) + b"SCU".ljust(16) + bytes(32)
    user = item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3"))
    body = b"".join(context(*one) for one in contexts)
    return pdu(ASSOCIATE, head + item(0x10, b"1.2.840.10008.3.1.1.1") + body + user)


def command(kind: str, uid: bytes) -> bytes:
    """The command set of a C-STORE-RQ (Implicit VR Little Endian, PS3.7 section 6.3.1 and table 9.3-1)."""

    def element(number: int, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return struct.pack("<HHL", 0, number, len(value)) + value

    body = element(0x0002, kind.encode()) + element(0x0100, b"\x01\0") + element(0x0110, b"\x01\0")
    body += element(0x0700, b"\0\0") + element(0x0800, b"\x01\0") + element(0x1000, uid)
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def store(port: int, content: bytes, *, kind: str, uid: bytes, syntax: str, within_s: float) -> int:
    """Store a data set of any bytes; the status of the answer (PS3.7 table 9.3-2)."""
    with storing(port, kind=kind, syntax=syntax, within_s=within_s) as peer:
        return stored(peer, content, kind=kind, uid=uid)


@contextlib.contextmanager
def storing(port: int, *, kind: str, syntax: str, within_s: float) -> Iterator[socket.socket]:
    """An association on which data sets are stored one after another."""
    with socket.create_connection(("127.0.0.1", port), timeout=within_s) as peer:
        peer.sendall(associate([(1, 1)], kind=kind, syntax=syntax))
        assert received(peer)[0] == 2, "an A-ASSOCIATE-AC"
        yield peer
        peer.sendall(pdu(RELEASE, bytes(4)))
        received(peer)


def stored(peer: socket.socket, content: bytes, *, kind: str, uid: bytes) -> int:
    """Store a data set on an association; the status of the answer."""
    fragments = [content[at : at + 60_000] for at in range(0, len(content), 60_000)] or [b""]
    data = [pdu(DATA, pdv(1, 0, one)) for one in fragments[:-1]] + [pdu(DATA, pdv(1, 2, fragments[-1]))]
    for part in (pdu(DATA, pdv(1, 3, command(kind, uid))), *data):
        peer.sendall(part)
    answer = received(peer)
    at = answer.index(struct.pack("<HHL", 0, 0x0900, 2)) + 8
    return int(struct.unpack("<H", answer[at : at + 2])[0])


def received(peer: socket.socket) -> bytes:
    """One whole PDU."""
    content = bytearray()
    while len(content) < 6 or len(content) < 6 + struct.unpack(">L", content[2:6])[0]:
        more = peer.recv(65536)
        assert more, "the other side closed"
        content += more
    return bytes(content)
