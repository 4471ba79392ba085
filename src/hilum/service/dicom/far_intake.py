"""The intake as the listener's process sees it: films are written here, and made durable and recorded over there.

For each film the service opens a file, hands it over with that file's own key, and is told in the end what was written.
So this process has neither the data key nor the records, and what it says is checked (:mod:`.reception`).
"""

import contextlib
import dataclasses
import mmap
import os
import queue
import socket
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from io import FileIO
from typing import Any

from hilum.direct_io import Buffers, DirectWriter
from hilum.records.values import Receipt
from hilum.sealing import FileKey
from hilum.service.child_wire import OK, receive, send
from hilum.service.film_writing import FilmWriter
from hilum.service.refusals import Refused

BEGIN, FINISH, FORGET = 16, 17, 18
"""What this side asks: a file for a film; to make it durable and record it; to forget it, which nobody answers."""

REFUSED = 3
"""What the other side answers beside OK."""

SAID = 16
"""Kind of a message that holds a line of the log, on the socket for those."""


BUFFER_BYTES = 1 << 20
"""Bytes that are written at once."""


class FarIntake:
    """Accepts films by asking the service. Usable from as many threads at a time as there are channels.

    Args:
        channels: sockets to the service.
        largest_bytes: largest film.
    """

    def __init__(self, channels: Sequence[socket.socket], largest_bytes: int) -> None:
        self._largest_bytes = largest_bytes
        self._buffers = Buffers(len(channels), lambda: mmap.mmap(-1, BUFFER_BYTES))
        self._free: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        for channel in channels:
            self._free.put(channel)

    @contextlib.contextmanager
    def begin(self) -> Iterator["FarArrival"]:
        """Make ready for one film; leaving without finishing keeps nothing.

        Raises:
            Refused: as the intake says.
            OSError, EOFError: the service has gone.
        """
        channel = self._free.get()
        try:
            said, descriptors = _asked(channel, BEGIN, {}, 1)
            with FileIO(descriptors[0], "wb") as file, self._buffer() as buffer:
                sink = DirectWriter(file, lambda: buffer)
                arrival = FarArrival(channel, FilmWriter(sink, key=_key(said), largest_bytes=self._largest_bytes))
                try:
                    yield arrival
                finally:
                    if not arrival.finished:
                        send(channel, FORGET)
        finally:
            self._free.put(channel)

    @contextlib.contextmanager
    def _buffer(self) -> Iterator[mmap.mmap | None]:
        buffer = self._buffers.take()
        try:
            yield buffer
        finally:
            if buffer is not None:
                self._buffers.give_back(buffer)


class FarArrival:
    """One film on its way in."""

    def __init__(self, channel: socket.socket, writer: FilmWriter) -> None:
        self._channel, self._writer = channel, writer
        self.finished = False

    def write(self, chunk: bytes | memoryview) -> None:
        """Add bytes; raises Refused when there are too many, they are of no known kind, or the disk is full."""
        self._writer.write(chunk)

    def finish(
        self, *, origin: str, calling_ae: str, sop_instance_uid: str | None, expected: str | None, urgent: bool
    ) -> Receipt:
        """Have the film made durable and recorded.

        Args:
            origin: ``dicom``, or ``pacs`` for what was asked for by what the peer says.
            calling_ae: what the peer called itself.
            sop_instance_uid: what it announced.
            expected: kind of file.
            urgent: whether it asked for the film to be read at once.

        Returns:
            the receipt: now, and not before, the peer may be told.

        Raises:
            Refused: nothing was kept.
        """
        written = self._writer.finish(expected)
        asked = {
            "origin": origin,
            "calling_ae": calling_ae,
            "sop_instance_uid": sop_instance_uid,
            "urgent": urgent,
            "written": dataclasses.asdict(written),
        }
        self.finished = True
        said, _ = _asked(self._channel, FINISH, asked)
        return Receipt(**said)


def _asked(channel: socket.socket, kind: int, content: Any, files: int = 0) -> tuple[Any, list[int]]:
    send(channel, kind, content)
    status, said, descriptors = receive(channel, files)
    if status == OK:
        return said, descriptors
    for descriptor in descriptors:
        os.close(descriptor)
    raise Refused(said["text"], code=said["code"])


def _key(said: Mapping[str, str]) -> FileKey | None:
    if not said:
        return None
    return FileKey(key_id=said["key_id"], salt=b64decode(said["salt"]), raw=b64decode(said["raw"]))
