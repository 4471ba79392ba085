"""Certificates that are renewed while the service runs: their files are read anew when they change.

Connections that are open go on as they began. A file that can't be used, such as a new certificate whose key is still
the old one, changes nothing: the log says so, and the next change is looked at again.
"""

import ssl
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from hilum.errors import ServiceError
from hilum.service.certificates import Clients, client_context, server_context
from hilum.service.logs import logger

State = tuple[tuple[int, int, int] | None, ...]


class Renewed:
    """How peers are met, by the files as they are now.

    Args:
        make: makes it of the files; raises ServiceError or OSError when they can't be used.
        files: which.

    Raises:
        ServiceError: as ``make`` raises it.
        OSError: as ``make`` raises it.
    """

    def __init__(self, make: Callable[[], ssl.SSLContext], files: Sequence[Path | None]) -> None:
        self._make, self._files = make, tuple(file for file in files if file is not None)
        self._lock = threading.Lock()
        self._seen = self._look()  # before they are read, so that no change in between is missed
        self._context = make()

    def current(self) -> ssl.SSLContext:
        """The context for a connection that begins now."""
        seen = self._look()
        with self._lock:
            if seen != self._seen:
                self._seen = seen
                self._renew()
            return self._context

    def _renew(self) -> None:
        try:
            self._context = self._make()
            logger().info("certificates read anew")
        except (ServiceError, OSError) as error:  # ssl.SSLError is one
            reason = str(error) if isinstance(error, ServiceError) else error.strerror or type(error).__name__
            logger().error("changed certificates can't be used; the old ones are", reason=reason)

    def _look(self) -> State:
        return tuple(_state(file) for file in self._files)


def renewed_server(certificate: Path, key: Path, *, clients: Clients, authorities: Path | None) -> Renewed:
    """How peers that connect to us are met, as :func:`~hilum.service.certificates.server_context` has it."""

    def make() -> ssl.SSLContext:
        return server_context(certificate, key, clients=clients, authorities=authorities)

    return Renewed(make, (certificate, key, authorities))


def lasting_server(certificate: Path, key: Path) -> ssl.SSLContext:
    """For who wants one context for good: it hands each connection over to that of the files as they are then."""
    renewed = renewed_server(certificate, key, clients="on", authorities=None)
    first = server_context(certificate, key, clients="on", authorities=None)

    def hand_over(connection: ssl.SSLSocket | ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        connection.context = renewed.current()

    first.sni_callback = hand_over
    return first


def renewed_client(authorities: Path | None, own: Path | None) -> Renewed:
    """How peers that we connect to are met, as :func:`~hilum.service.certificates.client_context` has it."""
    return Renewed(lambda: client_context(authorities=authorities, own=own), (authorities, own))


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
