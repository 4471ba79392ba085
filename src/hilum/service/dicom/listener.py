"""The DICOM listener: C-ECHO and C-STORE. It runs in a process of its own (:mod:`hilum.service.dicom.listener_child`).

Bytes go to the intake as they came; success is said when they are durable, and nothing is decoded here.
"""

import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.transport import AssociationSocket

from hilum.service.dicom.classes import STORAGE, SUCCESS, TRANSFER_SYNTAXES, UID, VERIFICATION
from hilum.service.dicom.limits import (
    ADVERTISED_PDU_BYTES,
    LARGEST_PDU_BYTES,
    GuardedSocket,
    Server,
    guarded_handler,
    message_complete,
)
from hilum.service.dicom.receiving import Door, announced, answer_store, keep
from hilum.service.dicom.sender_certificates import is_proved, read_sender_certificate, shown
from hilum.service.dicom.terms import STRANGER, STRANGER_AT, Terms, asked_for
from hilum.service.logs import logger

COMMAND_BYTES = 1 << 20


class Listener:
    """Listens until stopped.

    Args:
        terms: titles and limits.
        door: where films go.
        listening: the socket, bound and listening.

    Raises:
        ServiceError: a certificate can't be used.
    """

    def __init__(self, terms: Terms, door: Door, listening: socket.socket) -> None:
        self._terms, self._door = terms, door
        entity, tls = _entity(terms), terms.context()
        heard = weakref.WeakSet[Any]()  # associations in which the peer asked for something
        guard: Callable[[AssociationSocket], GuardedSocket] = lambda plain: GuardedSocket(  # noqa: E731
            plain,
            largest_pdu=LARGEST_PDU_BYTES,
            largest_message=terms.largest_film_bytes + COMMAND_BYTES,
            pdu_s=terms.network_timeout_s,
            association_s=terms.association_deadline_s,
            least_rate=terms.least_rate,
        )
        self._server = entity.make_server(
            listening.getsockname(),
            evt_handlers=[
                (evt.EVT_C_STORE, self._store),
                (evt.EVT_C_ECHO, _echo),
                (evt.EVT_DIMSE_RECV, message_complete),
                (evt.EVT_DIMSE_RECV, lambda event: heard.add(event.assoc)),
                (evt.EVT_CONN_CLOSE, _ended, [terms, heard]),
                (evt.EVT_REJECTED, _rejected, [terms]),
            ],
            server_class=Server,
            listening=listening,
            request_handler=guarded_handler(
                guard,
                2 * terms.maximum_associations,
                most_of_one=terms.associations_per_address,
                tls=tls.current if tls else None,
                handshake_s=terms.network_timeout_s,
                admits=_proof_of_titles(terms),
            ),
        )
        entity._servers.append(self._server)  # as AE.start_server does: shutdown() takes it out again
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="hilum-dicom", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """True while it listens."""
        return self._thread.is_alive()

    def stop(self, within_s: float) -> None:
        """Take no further association, let those that run finish, then abort what is left."""
        self._server.shutdown()
        deadline = time.monotonic() + within_s
        while self._server.active_associations and time.monotonic() < deadline:
            time.sleep(0.02)
        for association in self._server.active_associations:
            association.abort()
        self._thread.join(5)

    def _store(self, event: Any) -> int:
        """Answer a C-STORE."""
        return answer_store(event, self._receive)

    def _receive(self, event: Any) -> int:
        sop_class, sop_instance = announced(event)
        if sop_class not in STORAGE:
            logger().info("film skipped", origin="dicom", sop_class=sop_class if UID.fullmatch(sop_class) else "?")
            return SUCCESS
        calling = event.assoc.requestor.ae_title.strip()
        fetched = asked_for(event.request, calling, self._terms)
        named = calling in self._terms.named_ae_titles
        keep(event, self._door, sop_instance_uid=sop_instance, calling_ae=calling, named=named, fetched=fetched)
        return SUCCESS


def _entity(terms: Terms) -> AE:
    entity = AE(ae_title=terms.ae_title)
    entity.maximum_associations = terms.maximum_associations
    entity.maximum_pdu_size = ADVERTISED_PDU_BYTES
    entity.network_timeout = terms.network_timeout_s
    entity.acse_timeout = entity.dimse_timeout = terms.network_timeout_s
    entity.require_calling_aet = list(terms.allowed_ae_titles)
    entity.add_supported_context(VERIFICATION)
    others = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
    for storage in dict.fromkeys([*STORAGE, *others]) if terms.skip_other_classes else STORAGE:
        entity.add_supported_context(storage, list(TRANSFER_SYNTAXES))
    return entity


def _proof_of_titles(terms: Terms) -> Callable[[str, Any], bool] | None:
    """Tells whether a peer has shown the certificate of the title that it calls itself by."""
    if not terms.sender_certificates:
        return None
    certificates = [read_sender_certificate(text) for text in terms.sender_certificates]

    def admits(title: str, connection: Any) -> bool:
        by = shown(connection)
        if is_proved(title, by, certificates):
            return True
        logger().warning(
            "association rejected",
            code="certificate",
            reason="its certificate is not the one that its AE title has to show",
            calling_ae=title,
            certificate=by.sha256 or "none",
        )
        return False

    return admits


def _echo(_: Any) -> int:
    return SUCCESS


def _ended(event: Any, terms: Terms, heard: "weakref.WeakSet[Any]") -> None:
    """Say so when a peer left without a word after we refused classes: its own words for it don't help to see why."""
    association = event.assoc
    refused = [str(context.abstract_syntax) for context in association.rejected_contexts]
    if not refused or association in heard:
        return
    heard.add(association)
    title = association.requestor.ae_title.strip()
    logger().warning(
        "classes refused",
        code="sop-class",
        reason="it sent nothing; SOP classes that it offered are not taken, or not in its transfer syntaxes",
        sop_classes=list(dict.fromkeys(one if UID.fullmatch(one) else "?" for one in refused)),
        **({"calling_ae": title} if title in terms.named_ae_titles else {}),
    )


def _rejected(event: Any, terms: Terms) -> None:
    allowed, peer = terms.allowed_ae_titles, event.assoc.requestor
    title = peer.ae_title.strip()
    if not allowed or title in allowed:
        logger().warning("association rejected", code="too-many", reason="too many associations")
        return
    said = {"code": "title", "reason": "its AE title is not on the list"}
    # The title itself is for an administrator's eyes: Hearing takes it out of the line before it is written.
    logger().warning("association rejected", **said, **{STRANGER: title, STRANGER_AT: str(peer.address)})
