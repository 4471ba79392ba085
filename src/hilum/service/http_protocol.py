"""uvicorn's HTTP protocol on h11, for which films are long: their bytes go past the parser, which has nothing to find.

Between the headers and the last byte of a body whose length is known there is nothing to parse, and h11 would copy
every byte of it several times. Heads, chunked bodies, the end of each body and everything that is wrong are h11's.
What a connection waits for is told to :mod:`hilum.service.connections`, which cuts off who is too slow.
"""

import array
import asyncio
import contextlib
import fcntl
import termios
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from hilum.service.connections import Connections, Doing

READ_BYTES = 512 * 1024
"""Most bytes of one read: what is done for each read costs more than what is done for its bytes."""

LONG = 64 * 1024
END_OF_HEAD = b"\r\n\r\n"
REPLY_TO_COME = (h11.SEND_RESPONSE, h11.SEND_BODY)
SORRY = (
    b'{"type": "urn:hilum:problem:too-slow", "title": "The request took too long", "status": 408, '
    b'"detail": "The request came too slowly. Send it over a faster line."}'
)
TOO_SLOW = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/problem+json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(SORRY), SORRY)
)


class HttpProtocol(H11Protocol):
    """One connection.

    Args:
        given: as for uvicorn's.
        connections: told of it; None when nobody counts.
    """

    def __init__(self, *given: Any, connections: Connections | None = None, **more: Any) -> None:
        super().__init__(*given, **more)
        self.open, self.replies, self.came = connections, 0, 0
        self.tls: Any = None
        self.number = -1

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; asyncio's own transports read so much at a time, others as they like."""
        if hasattr(transport, "max_size"):
            transport.max_size = READ_BYTES
        super().connection_made(transport)
        self.tls = getattr(transport, "_ssl_protocol", None)  # kept: a transport that is closed twice forgets it
        self.number = transport.get_extra_info("socket").fileno()
        if self.open is not None:
            self.open.speaks(self.number, self)

    def on_response_complete(self) -> None:
        """Count it."""
        self.replies += 1
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Say what came wrong, where no reply has begun, and close; one to an earlier request goes nowhere."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        elif not self.transport.is_closing():
            self.transport.close()

    def doing(self) -> Doing:
        """What it waits for."""
        cycle = self.cycle
        if self.unsent():
            return "reply"
        if self.transport.is_closing():
            return "end"
        if self.conn.their_state is h11.SEND_BODY:
            return "work" if self.flow.read_paused or cycle.waiting_for_100_continue else "body"
        if cycle is None or cycle.response_complete:
            return "head" if self.timeout_keep_alive_task is None else "idle"
        return "work"

    def unsent(self) -> int:
        """Bytes of replies that the peer has not taken yet."""
        waits = self.transport.get_write_buffer_size() if self.tls is None else self.tls._get_write_buffer_size()
        below = None if self.tls is None else self.tls._transport  # what is encrypted already waits there
        waits += below.get_write_buffer_size() if below is not None else 0
        return waits + _unsent_by_system(self.number) if waits else 0

    def cut_off(self, *, says_why: bool) -> None:
        """Close at once; first say that the request came too slowly, where one has begun and no reply to it."""
        begun = self.conn.their_state is not h11.IDLE or bool(self.conn.trailing_data[0])
        if says_why and begun and self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.write(TOO_SLOW)
        below = self.transport if self.tls is None else self.tls._transport
        if below is not None:
            below.abort()

    def data_received(self, data: bytes) -> None:
        """Take what came: the head and the last byte of a body go to the parser, what lies between doesn't."""
        self.came += len(data)
        if len(data) > LONG and self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
            end = data.find(END_OF_HEAD, 0, LONG)
            end = LONG if end < 0 else end + len(END_OF_HEAD)
            super().data_received(data[:end])
            if self.transport.is_closing() or self.transport.get_protocol() is not self:
                return
            data = data[end:]
        taken = self._take(data)
        if taken < len(data):
            super().data_received(data[taken:] if taken else data)

    def _take(self, data: bytes) -> int:
        """Hand the first bytes on where they are the middle of a body; how many those are."""
        reader = getattr(self.conn, "_reader", None)  # of a body of known length, it counts the bytes to come
        left = getattr(reader, "_remaining", 0)
        if left < 2 or self.conn.their_state is not h11.SEND_BODY or self.conn.trailing_data[0]:
            return 0
        if self.conn.our_state not in REPLY_TO_COME:
            return 0
        count, cycle = min(len(data), left - 1), self.cycle
        self._unset_keepalive_if_required()
        reader._remaining = left - count  # type: ignore[union-attr]
        if cycle.body:
            cycle.body += memoryview(data)[:count]
        else:
            cycle.body = data[:count]  # type: ignore[assignment]  # the very object is handed on where it is whole
        if len(cycle.body) > READ_BYTES:  # else the application takes it before the line is read again
            self.flow.pause_reading()
        cycle.message_event.set()
        return count


def _unsent_by_system(number: int) -> int:
    """Bytes that the system holds for the peer of this socket; it takes more only once a third of them is gone."""
    said = array.array("i", [0])
    with contextlib.suppress(OSError):  # Linux alone can tell
        fcntl.ioctl(number, termios.TIOCOUTQ, said)
    return said[0]
