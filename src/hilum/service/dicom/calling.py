"""Associations that we ask for, as guarded as those that others ask us for."""

import contextlib
import socket
import ssl
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AssociationSocket

from hilum.service.destinations import Destination, Undelivered
from hilum.service.dicom.limits import ADVERTISED_PDU_BYTES, LARGEST_PDU_BYTES, GuardedSocket, message_complete, watch
from hilum.service.dicom.no_association import place, why_away, why_rejected
from hilum.service.dicom.unfetched import Unfetched


class _AskingSocket(GuardedSocket):
    """Remembers why no connection came about; pynetdicom only logs it.

    Attributes:
        failed: the error, or None.
    """

    failed: BaseException | None = None

    def _shutdown_socket(self) -> None:
        if not self._is_connected:
            self.failed = self.failed or sys.exception()  # it closes the socket while it handles the error
        super()._shutdown_socket()


class _GuardedEntity(AE):
    """An application entity whose own connections are guarded."""

    def __init__(self, ae_title: str, guard: Callable[[AssociationSocket], GuardedSocket]) -> None:
        super().__init__(ae_title=ae_title)
        self._guard = guard

    def _create_socket(self, assoc: Association, *args: Any) -> AssociationSocket:
        watch(assoc)
        _leave_answers(assoc)
        return self._guard(super()._create_socket(assoc, *args))


def _leave_answers(association: Association) -> None:
    """Let only who asked take an answer.

    pynetdicom's thread of an association looks for messages as well, and is paused while somebody waits for one; but
    what says that it pauses may be from a moment before, and then it takes the answer and drops it: one of some ten
    thousand, where senders never rest. It looks without waiting, and who asked waits.
    """
    take = association.dimse.get_msg
    association.dimse.get_msg = lambda block=False: take(block=True) if block else (None, None)  # type: ignore[method-assign]


def quiet() -> None:
    """Keep pynetdicom from writing what is asked and answered into its log: there are patients in it."""
    _config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False


@contextlib.contextmanager
def asked(
    node: Destination,
    contexts: Sequence[PresentationContext],
    *,
    calling: str,
    fails: type[Unfetched] | type[Undelivered],
    takes_nothing: str,
    tls: ssl.SSLContext | None,
    timeout_s: float,
    deadline_s: float,
    largest_message: int,
    roles: Sequence[Any] = (),
    keep: Callable[[Any], int] | None = None,
) -> Iterator[Association]:
    """An association that a DICOM node was asked for; released on leaving.

    Args:
        node: who is asked.
        contexts: what we ask for.
        calling: our AE title.
        fails: the error where there is none, of code ``away``, ``rejected`` or ``sop-class``.
        takes_nothing: what to say of a node that takes nothing of what we ask for, after its name.
        tls: how its certificate is checked; needed when the node wants TLS.
        timeout_s: longest wait for a connection, an answer, or one PDU.
        deadline_s: the association ends after so long, whatever it does.
        largest_message: bytes of the largest message received.
        roles: role selections, for C-GET.
        keep: gives the status of a C-STORE on this association.

    Raises:
        Unfetched, Undelivered: the node gives no association.
    """
    quiet()
    sockets: list[_AskingSocket] = []

    def guard(plain: AssociationSocket) -> GuardedSocket:
        made = _AskingSocket(
            plain,
            largest_pdu=LARGEST_PDU_BYTES,
            largest_message=largest_message,
            pdu_s=timeout_s,
            association_s=deadline_s,
        )
        sockets.append(made)
        return made

    entity = _GuardedEntity(calling, guard)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = timeout_s
    handlers: list[Any] = [(evt.EVT_DIMSE_RECV, message_complete)]
    if keep is not None:
        handlers.append((evt.EVT_C_STORE, keep))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they would quote what the peer sent
        try:
            association = entity.associate(
                node.host,
                node.port,
                contexts=list(contexts),
                ae_title=node.ae_title,
                max_pdu=ADVERTISED_PDU_BYTES,
                ext_neg=list(roles) or None,
                evt_handlers=handlers,
                tls_args=(tls, node.host) if node.tls and tls else None,
            )
        except (socket.gaierror, UnicodeError) as error:  # no host of this name, or no name at all
            raise fails(why_away(node, error, timeout_s), code="away") from None
        try:
            if not association.is_established:
                failed = sockets[0].failed if sockets else None
                code, said = _none(association, node, calling, takes_nothing, failed, timeout_s)
                raise fails(said, code=code, permanent=code == "sop-class")
            yield association
        finally:
            _close(association, timeout_s)


@contextlib.contextmanager
def associated(
    node: Destination, contexts: Sequence[PresentationContext], *, calling: str, **more: Any
) -> Iterator[Association]:
    """An association with a PACS; takes what :func:`asked` takes.

    Raises:
        Unfetched: there is none, or it was broken off.
    """
    nothing = f"neither answers queries nor sends films. Allow query and retrieve there for {calling}."
    with asked(node, contexts, calling=calling, fails=Unfetched, takes_nothing=nothing, **more) as association:
        try:
            yield association
        except (RuntimeError, ValueError, OSError) as error:
            raise Unfetched(
                f"{node.ae_title} broke the association off ({type(error).__name__}). See its log.", code="broken-off"
            ) from None


def _none(
    association: Association,
    node: Destination,
    calling: str,
    takes_nothing: str,
    failed: BaseException | None,
    timeout_s: float,
) -> tuple[str, str]:
    """Code and sentence for an association that is not established."""
    if association.is_rejected:
        answer: Any = association.acceptor.primitive
        return "rejected", why_rejected(node, calling, (answer.result_source, answer.diagnostic))
    if association.rejected_contexts and not association.accepted_contexts:
        return "sop-class", f"{place(node)} {takes_nothing}"
    return "away", why_away(node, failed, timeout_s)


def _close(association: Association, within_s: float) -> None:
    if association.is_established:
        association.release()
    ends = time.monotonic() + min(within_s, 5)
    while association.is_alive() and time.monotonic() < ends:
        time.sleep(0.005)
    left = association.dul.socket
    if left is not None and left.socket is not None:
        left.socket.close()
