"""Take a port, or say why it can't be had."""

import socket

from hilum.errors import ServiceError


def bound(host: str, port: int, *, what: str = "port", option: str) -> socket.socket:
    """A socket on an address of this machine; it doesn't listen yet.

    Args:
        host: name or address.
        port: 0 for a free one.
        what: what the port is called in a sentence.
        option: where another one is given.

    Raises:
        ServiceError: the port is taken, or the address is not ours.
    """
    taken = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((host, port))
    except OSError as error:
        taken.close()
        raise ServiceError(
            f"The {what} {port} on {host} can't be used ({error.strerror}). Give another with {option}."
        ) from None
    return taken
