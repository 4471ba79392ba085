"""uvicorn's HTTP protocol on h11, for which films are long: their bytes go past the parser, which has nothing to find.

Between the headers and the last byte of a body whose length is known there is nothing to parse, and h11 would copy
every byte of it several times. Heads, chunked bodies, the end of each body and everything that is wrong are h11's.
"""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

READ_BYTES = 512 * 1024
"""Most bytes of one read: what is done for each read costs more than what is done for its bytes."""

LONG = 64 * 1024
END_OF_HEAD = b"\r\n\r\n"
REPLY_TO_COME = (h11.SEND_RESPONSE, h11.SEND_BODY)


class HttpProtocol(H11Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; asyncio's own transports read so much at a time, others as they like."""
        if hasattr(transport, "max_size"):
            transport.max_size = READ_BYTES
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take what came: the head and the last byte of a body go to the parser, what lies between doesn't."""
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
