"""The listener's own process: peers from the network are met here, and nowhere else.

It is told what to do by the service over an inherited socket, and ends when that closes. Films go to the service over
channels of their own, what is to be logged and counted over one more; it has no records, no data key, no model.
"""

import os
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from hilum.errors import HilumError, ServiceError
from hilum.sealing import sealed_bytes
from hilum.service.child_wire import FAILED, OK, PING, limit, receive, send
from hilum.service.dicom.far_intake import SAID, FarIntake
from hilum.service.dicom.listener import Listener
from hilum.service.dicom.terms import Terms
from hilum.service.logs import hand_logs

STACK_BYTES = 2 << 20
"""Of each thread: an association has two, and their stacks count as memory in use."""


def main(
    *,
    descriptor: int,
    listening: int,
    news: int,
    channels: Sequence[int],
    terms: Mapping[str, Any],
    memory_mb: int,
) -> None:
    """Limit itself, listen, and do as it is told.

    Args:
        descriptor: the inherited end of the socket.
        listening: descriptor of the socket that listens.
        news: descriptor of the socket for lines of the log.
        channels: descriptors of the sockets for films.
        terms: fields of :class:`~hilum.service.dicom.listener.Terms`.
        memory_mb: address space on top of what is in use once all is loaded.
    """
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in terms.items()}
    met = Terms(**given)
    threading.stack_size(STACK_BYTES)
    tell_news(socket.socket(fileno=news))
    with socket.socket(fileno=descriptor) as told:
        doors = [socket.socket(fileno=one) for one in channels]
        try:
            listener = Listener(met, FarIntake(doors, met.largest_film_bytes), socket.socket(fileno=listening))
        except HilumError as error:
            send(told, FAILED, {"kind": type(error).__name__, "text": str(error)})
            return
        limit(
            memory_mb=memory_mb,
            file_bytes=sealed_bytes(met.largest_film_bytes) + (1 << 20),
            open_files=64 + 8 * met.maximum_associations,
        )
        try:
            send(told, OK)
            _serve(told, listener)
        except (EOFError, OSError):
            pass  # the service has ended
        finally:
            os._exit(0)  # threads of associations would keep it


def _serve(told: socket.socket, listener: Listener) -> None:
    while True:
        kind, content, _ = receive(told)
        if kind == PING:
            if not listener.alive:
                error = ServiceError("The DICOM listener takes no connections any more.")
                send(told, FAILED, {"kind": "ServiceError", "text": str(error)})
                return
            send(told, OK)
        else:
            listener.stop(float(content))
            send(told, OK)


def tell_news(to: socket.socket) -> None:
    """Have this process's log written by the service, which counts its lines as well."""
    hand_logs(lambda said: send(to, SAID, said))
