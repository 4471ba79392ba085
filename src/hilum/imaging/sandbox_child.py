"""The child's side of `hilum.imaging.sandbox`: limits, then one call after another until the socket closes."""

import importlib
import math
import os
import resource
import signal
import socket
import struct
import sys
import traceback
from dataclasses import replace
from pathlib import Path

from hilum.errors import FilmError, HilumError
from hilum.imaging import wire
from hilum.shared_memory import Lent

HEADER = struct.Struct(">Q")
MOST_FILES = 4


def main(*, descriptor: int, preload: list[str], memory_mb: int, cpu_s: float, wall_s: float) -> None:
    """Import, limit, announce readiness, and answer calls.

    Args:
        descriptor: the inherited end of the socket.
        preload: modules to import before the limits count.
        memory_mb: address space on top of what is in use after the imports.
        cpu_s: processor time of one call.
        wall_s: time until the answer, after which the parent kills; the child's own alarm comes a little later, for
            when the parent is gone.
    """
    for module in preload:
        importlib.import_module(module)
    _limit(memory_mb)
    with socket.socket(fileno=descriptor) as connection:
        _send(connection, b"")
        while (received := _receive(connection)) is not None:
            _allow_cpu(cpu_s)
            signal.setitimer(signal.ITIMER_REAL, wall_s + 5.0)
            reply = _answer(*received)
            del received
            _send(connection, reply)
            del reply
            signal.setitimer(signal.ITIMER_REAL, 0)


def _limit(memory_mb: int) -> None:
    used = 0
    if sys.platform == "linux":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    most = used + (memory_mb << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A decoder has nothing to write; Python turns the signal of this limit into an OSError.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _allow_cpu(cpu_s: float) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(usage.ru_utime + usage.ru_stime + cpu_s)
    # The limit is on the life of the process, so it is moved before each call; its signal kills, and can't be caught
    # by a library that hangs.
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _answer(call: bytearray, descriptors: list[int]) -> bytes:
    try:
        function, args = wire.decode(call, functions=True)
        mine = iter(descriptors)
        args = [replace(one, descriptor=next(mine)) if isinstance(one, Lent) else one for one in args]
        return wire.encode(("ok", function(*args)))
    except MemoryError:
        return wire.encode(("out-of-memory",))
    except FilmError as error:
        return _out_of_memory(error) or wire.encode(("film-error", str(error), error.code))
    except HilumError as error:
        return wire.encode(("hilum-error", str(error)))
    except Exception as error:  # the parent decides what becomes of it
        return wire.encode(("crashed", type(error).__name__, traceback.format_exc()))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _out_of_memory(error: FilmError) -> bytes | None:
    """A decoder may have wrapped a MemoryError in its own exception on the way up."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            return wire.encode(("out-of-memory",))
        cause = cause.__cause__ or cause.__context__
    return None


def _send(connection: socket.socket, content: bytes) -> None:
    # In one piece: a parent that a header alone woke up would take the processor only to wait for the rest.
    connection.sendall(HEADER.pack(len(content)) + content)


def _receive(connection: socket.socket) -> tuple[bytearray, list[int]] | None:
    """A call, and the files that came with it."""
    header, descriptors, _, _ = socket.recv_fds(connection, HEADER.size, MOST_FILES)
    header += _exactly(connection, HEADER.size - len(header)) if header else b""
    if len(header) < HEADER.size:
        return None
    return _exactly(connection, HEADER.unpack(header)[0]), descriptors


def _exactly(connection: socket.socket, size: int) -> bytearray:
    """So many bytes; fewer where the other side has gone."""
    content = bytearray(size)
    view = memoryview(content)
    while view:
        received = connection.recv_into(view)
        if received == 0:
            return content[: size - len(view)]
        view = view[received:]
    return content
