"""Why a PACS gave no association is told apart: nobody there, no DICOM, no TLS, a title that one side doesn't know."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest
from pynetdicom import AE
from tests.service.archive import archive

from hilum.service.destinations import read_pacs
from hilum.service.dicom.no_association import why_away, why_rejected
from hilum.service.dicom.pacs import Pacs, what_it_takes
from hilum.service.dicom.unfetched import Unfetched


def told(setting: str, code: str = "away", *, tls: ssl.SSLContext | None = None) -> str:
    pacs = Pacs(node=read_pacs(setting), calling="HILUM", tls=(lambda: tls) if tls else None, timeout_s=120)
    with pytest.raises(Unfetched) as none:
        what_it_takes(pacs)
    assert (none.value.code, none.value.permanent) == (code, False)
    return str(none.value)


@contextlib.contextmanager
def closing_peer() -> Iterator[int]:
    """Takes a connection, reads a little of it and closes it, as a web server does with what it doesn't understand."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            peer, _ = listening.accept()
            with peer:
                peer.settimeout(120)
                peer.recv(65536)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(120)


def test_nobody_who_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: a connection is refused
        said = told(f"x=dicom://A@127.0.0.1:{taken.getsockname()[1]}")
    assert "gives no association: nothing listens there (connection refused). Check host and port, and" in said


def test_what_is_no_host() -> None:
    said = told("x=dicom://A@a..b:104")
    assert "A@a..b:104 gives no association: no host a..b is known here (not a host's name). Check the name, or" in said


@pytest.mark.parametrize(
    ("tls", "saying"),
    [
        (
            False,
            "it takes the connection, and answers nothing of DICOM. Check that this is its DICOM port, and whether it",
        ),
        (
            True,
            "no TLS came about (WRONG_VERSION_NUMBER). Check that it speaks TLS on this port; without TLS it is dicom:",
        ),
    ],
)
def test_something_else_that_listens(tls: bool, saying: str) -> None:
    with closing_peer() as port:
        context = ssl.create_default_context() if tls else None
        assert saying in told(f"x=dicom{'s' if tls else ''}://A@127.0.0.1:{port}", tls=context)


def test_a_title_of_ours_that_it_does_not_know() -> None:
    with archive([], callers=["OTHER"]) as pacs:
        said = told(pacs.setting, "rejected")
    assert (
        "rejects associations of HILUM: it does not know this title of ours (calling AE title not recognised)" in said
    )
    assert "Make HILUM known there with this host, or set HILUM_AE_TITLE" in said


def test_a_title_of_its_own_that_is_another() -> None:
    entity = AE(ae_title="ARCHIVE")
    entity.require_called_aet = True
    entity.add_supported_context("1.2.840.10008.1.1")
    server = entity.start_server(("127.0.0.1", 0), block=False)
    try:
        said = told(f"x=dicom://OTHER@127.0.0.1:{server.server_address[1]}", "rejected")
    finally:
        server.shutdown()
    assert "its own AE title is not OTHER (called AE title not recognised). Write its own before the @" in said


@pytest.mark.parametrize(
    ("reason", "saying"),
    [
        ((3, 1), "rejects associations of HILUM: it is congested. Try again later"),
        ((3, 2), "rejects associations of HILUM: it has as many associations as it takes. Try again later"),
        ((1, 1), "rejects associations of HILUM without a reason that helps. Make HILUM known there"),
        ((None, None), "without a reason that helps"),
    ],
)
def test_other_rejections(reason: tuple[int | None, int | None], saying: str) -> None:
    assert saying in why_rejected(read_pacs("x=dicom://A@h:104"), "HILUM", reason)


@pytest.mark.parametrize(
    ("error", "saying"),
    [
        (TimeoutError("timed out"), "nobody answered within 30 s. Check host and port, and the firewalls between."),
        (
            OSError(113, "No route to host"),
            "it can't be reached (No route to host). Check host and port, and the network",
        ),
        (
            socket.gaierror(-2, "Name or service not known"),
            "no host h is known here (Name or service not known). Check",
        ),
        (TimeoutError("_ssl.c:1: The handshake operation timed out"), "no TLS came about (it does not answer ours)."),
        (ConnectionResetError(104, "Connection reset by peer"), "no TLS came about (Connection reset by peer)."),
        (None, "and whether it asks for our certificate (HILUM_RESULTS_CERTIFICATE)."),
    ],
)
def test_other_ways_to_fail(error: BaseException | None, saying: str) -> None:
    assert saying in why_away(read_pacs("x=dicoms://A@h:104"), error, 30)


def test_of_tls_only_who_has_it_is_told() -> None:
    reset = ConnectionResetError(104, "Connection reset by peer")
    said = why_away(read_pacs("x=dicom://A@h:104"), reset, 30)
    assert "gives no association: it can't be reached (Connection reset by peer). Check host and port" in said
