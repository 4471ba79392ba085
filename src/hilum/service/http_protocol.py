"""uvicorn's HTTP protocol on h11, for which films are long: their bytes go past the parser, which has nothing to find.

Between the headers and the last bytes of a body whose length is known there is nothing to parse, and h11 would copy
every byte of it several times. Heads, chunked bodies, the end of each body and everything that is wrong are h11's.
"""

import asyncio

import h11
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.h11_impl import H11Protocol

READ_BYTES = 512 * 1024
"""Most bytes of one read: what is done for each read costs more than what is done for its bytes."""

REPLY_TO_COME = (h11.SEND_RESPONSE, h11.SEND_BODY)


class HttpProtocol(H11Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; asyncio's own transports read so much at a time, others as they like."""
        if hasattr(transport, "max_size"):
            transport.max_size = READ_BYTES
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        if not self._took(data):
            super().data_received(data)

    def _took(self, data: bytes) -> bool:
        """Hand bytes from the middle of a body on; False where they may be something else."""
        reader = getattr(self.conn, "_reader", None)  # of a body of known length, it counts the bytes to come
        left = getattr(reader, "_remaining", 0)
        if left <= len(data) or self.conn.their_state is not h11.SEND_BODY or self.conn.trailing_data[0]:
            return False
        if self.conn.our_state not in REPLY_TO_COME:
            return False
        self._unset_keepalive_if_required()
        reader._remaining = left - len(data)  # type: ignore[union-attr]
        cycle = self.cycle
        if cycle.body:
            cycle.body += data
        else:
            cycle.body = data  # type: ignore[assignment]  # the very object is handed on
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()
        return True
