"""Why a DICOM node gave no association: what failed, and what to look at."""

import socket
import ssl

from hilum.service.destinations import Destination

# (result source, reason) of A-ASSOCIATE-RJ, PS3.8 table 9-21.
NO_SUCH_CALLER, NO_SUCH_CALLED = (1, 3), (1, 7)
BUSY = {(3, 1): "it is congested", (3, 2): "it has as many associations as it takes"}


def why_rejected(node: Destination, calling: str, reason: tuple[int | None, int | None]) -> str:
    """The sentence for a node that rejected the association.

    Args:
        node: who was asked.
        calling: our AE title.
        reason: result source and reason of its answer (PS3.8 table 9-21).
    """
    rejects = f"{place(node)} rejects associations of {calling}"
    if reason == NO_SUCH_CALLER:
        return (
            f"{rejects}: it does not know this title of ours (calling AE title not recognised). Make {calling} known "
            "there with this host, or set HILUM_AE_TITLE to the title that it knows us by."
        )
    if reason == NO_SUCH_CALLED:
        return (
            f"{rejects}: its own AE title is not {node.ae_title} (called AE title not recognised). Write its own "
            "before the @ of the setting."
        )
    if reason in BUSY:
        return f"{rejects}: {BUSY[reason]}. Try again later, or allow more there."
    return f"{rejects} without a reason that helps. Make {calling} known there, and check its AE title."


def why_away(node: Destination, error: BaseException | None, timeout_s: float) -> str:
    """The sentence for a node with which no association came about.

    Args:
        node: who was asked.
        error: what ended the attempt to connect; None when the connection was made.
        timeout_s: how long was waited.
    """
    return f"{place(node)} gives no association: {_told(node, error, timeout_s)}."


def _told(node: Destination, error: BaseException | None, timeout_s: float) -> str:
    if error is None:
        more = "whether it asks for our certificate (HILUM_RESULTS_CERTIFICATE)" if node.tls else "whether it wants TLS"
        return f"it takes the connection, and answers nothing of DICOM. Check that this is its DICOM port, and {more}"
    if isinstance(error, socket.gaierror | UnicodeError):
        why = getattr(error, "strerror", None) or "not a host's name"
        return f"no host {node.host} is known here ({why}). Check the name, or write its address"
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate isn't trusted ({error.verify_message}). Check that the setting has the name which the "
            "certificate was made for, and that HILUM_RESULTS_CA names its certificate's authority"
        )
    if node.tls and (isinstance(error, ssl.SSLError | ConnectionResetError) or "handshake" in str(error)):
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or "it does not answer ours"
        return f"no TLS came about ({why}). Check that it speaks TLS on this port; without TLS it is dicom://"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there (connection refused). Check host and port, and that it runs"
    if isinstance(error, TimeoutError):
        return f"nobody answered within {timeout_s:g} s. Check host and port, and the firewalls between"
    why = getattr(error, "strerror", None) or type(error).__name__
    return f"it can't be reached ({why}). Check host and port, and the network between"


def place(node: Destination) -> str:
    """A node as it is written in its setting."""
    return f"{node.ae_title}@{node.host}:{node.port}"
