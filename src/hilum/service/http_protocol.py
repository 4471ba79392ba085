"""uvicorn's HTTP protocol on h11, for which films are long: their bytes go past the parser, which has nothing to find.

Between the headers and the last byte of a body whose length is known there is nothing to parse, and h11 would copy
every byte of it several times. Heads, chunked bodies, the end of each body and everything that is wrong are h11's.

uvicorn waits for a request's head, and for somebody to read a reply, for as long as the peer likes. Here both have an
end, and where connections are many, the one of which nothing was heard for longest gives way to a new one.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

READ_BYTES = 512 * 1024
"""Most bytes of one read: what is done for each read costs more than what is done for its bytes."""

LONG = 64 * 1024
HEAD_S, UNREAD_S = 20.0, 60.0
"""A request's head is there after so long, and of a reply something is taken in each stretch of so long."""

MOST_CONNECTIONS = 400
"""Requests that are worked on are bounded by the shield, below this; the rest wait for their peers."""

END_OF_HEAD = b"\r\n\r\n"
REPLY_TO_COME = (h11.SEND_RESPONSE, h11.SEND_BODY)


class HttpProtocol(H11Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; asyncio's own transports read so much at a time, others as they like."""
        if hasattr(transport, "max_size"):
            transport.max_size = READ_BYTES
        super().connection_made(transport)
        self.heard = self._head_began = self.loop.time()
        self._in_head, self._unread = True, (0.0, 0)
        if len(self.connections) > MOST_CONNECTIONS:
            self._make_room()
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._looks.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """A reply is out; what comes now is another head."""
        self._in_head = False
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The peer doesn't take what it is sent as fast as it comes."""
        self._unread = self.loop.time(), self.transport.get_write_buffer_size()
        super().pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        self._unread = 0.0, 0
        super().resume_writing()

    @property
    def waits_for_peer(self) -> bool:
        """Whether there is no request, or one whose body is not all there."""
        return not self._in_work or self.cycle.more_body

    @property
    def _in_work(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _make_room(self) -> None:
        """End the connection of which nothing was heard for longest, of those that wait for their peer."""
        others: list[Any] = [one for one in self.connections if one is not self]
        waiting = [one for one in others if one.waits_for_peer and not one.transport.is_closing()]
        if waiting:
            min(waiting, key=lambda one: one.heard).transport.abort()

    def _look_later(self) -> None:
        self._looks = self.loop.call_later(HEAD_S / 2, self._look)

    def _look(self) -> None:
        """End the connection where its peer has had its time."""
        now, (since, size), left = self.loop.time(), self._unread, self.transport.get_write_buffer_size()
        if since and now - since >= UNREAD_S:
            if left >= size:
                self.transport.abort()
                return
            self._unread = now, left
        if self._in_head and not self._in_work and now - self._head_began >= HEAD_S:
            self.transport.abort()
            return
        self._look_later()

    def data_received(self, data: bytes) -> None:
        """Take what came: the head and the last byte of a body go to the parser, what lies between doesn't."""
        self.heard = self.loop.time()
        if not self._in_head and not self._in_work:
            self._in_head, self._head_began = True, self.heard
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
