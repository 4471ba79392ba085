"""What a child process and its parent say to each other: a kind, a length, and JSON, over a socket that was inherited.

Nobody else has an end of that socket, so nothing else has to prove who it is. A message is bounded: a side that lost
its mind can't have the other one reserve memory for what it announces.
"""

import json
import os
import resource
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HEADER = struct.Struct("<BI")
LARGEST_BYTES = 1 << 20
"""Largest body of a message."""

PING, STOP = 0, 1
"""What every child is asked; further kinds are its own, from 16 on."""

OK, FAILED, OUT_OF_MEMORY, ENDING = 0, 1, 2, 3
"""What every child answers."""


def send(connection: socket.socket, kind: int, content: Any = None, descriptors: Sequence[int] = ()) -> None:
    """Send a message.

    Args:
        connection: the socket.
        kind: what it is about.
        content: JSON's kinds; None sends no body.
        descriptors: open files that the other side gets as well.

    Raises:
        OSError: the other side has gone.
    """
    body = b"" if content is None else json.dumps(content).encode()
    message = HEADER.pack(kind, len(body)) + body
    if descriptors:
        sent = socket.send_fds(connection, [message], list(descriptors))
        message = message[sent:]
    connection.sendall(message)


def receive(connection: socket.socket, most_descriptors: int = 0) -> tuple[int, Any, list[int]]:
    """The next message: its kind, its content, and the files that came with it.

    Raises:
        EOFError: the other side has gone.
        ValueError: it is larger than may be, or no JSON.
        OSError: the socket's time is up, or it is broken.
    """
    head, descriptors = b"", list[int]()
    if most_descriptors:
        head, descriptors, _, _ = socket.recv_fds(connection, HEADER.size, most_descriptors)
        if not head:
            raise EOFError
    kind, length = HEADER.unpack(head + exactly(connection, HEADER.size - len(head)))
    if length > LARGEST_BYTES:
        raise ValueError(f"a message of {length} bytes")
    return kind, json.loads(exactly(connection, length)) if length else None, descriptors


def exactly(connection: socket.socket, size: int) -> bytes:
    """So many bytes.

    Raises:
        EOFError: the other side has gone.
        OSError: the socket's time is up, or it is broken.
    """
    content = bytearray()
    while len(content) < size:
        part = connection.recv(size - len(content))
        if not part:
            raise EOFError
        content += part
    return bytes(content)


def limit(*, memory_mb: int, file_bytes: int, open_files: int | None = None) -> None:
    """Limit this process, which has loaded all that it needs; it can't take the limits back.

    Args:
        memory_mb: address space on top of what is in use by now; 0 for no limit.
        file_bytes: length of the longest file that it may write.
        open_files: most open files; None leaves it as it is.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    if open_files is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))
    if memory_mb and sys.platform == "linux":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        most = used + (memory_mb << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
