"""The DICOM listener: C-ECHO and C-STORE.

Bytes go to the intake as they came; success is said when they are durable, and nothing is decoded here.
"""

import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.transport import AssociationSocket

from hilum.errors import ServiceError
from hilum.service.certificates import server_context
from hilum.service.dicom.classes import STORAGE, SUCCESS, TRANSFER_SYNTAXES, VERIFICATION
from hilum.service.dicom.limits import (
    ADVERTISED_PDU_BYTES,
    LARGEST_PDU_BYTES,
    GuardedSocket,
    Server,
    guarded_handler,
    message_complete,
)
from hilum.service.dicom.receiving import UID, announced, answer_store, keep
from hilum.service.intake import Intake
from hilum.service.logs import logger
from hilum.service.settings import MIB, Settings

COMMAND_BYTES = 1 * MIB


class Listener:
    """Listens until stopped.

    Args:
        settings: address, titles and limits.
        intake: where films go.
        expected: is the film with this SOP instance UID wanted as a prior?

    Raises:
        ServiceError: the port is taken, or a certificate can't be used.
    """

    def __init__(
        self, settings: Settings, intake: Intake, *, expected: Callable[[str], bool] = lambda uid: False
    ) -> None:
        self._settings, self._intake, self._expected = settings, intake, expected
        entity = _entity(settings)
        guard: Callable[[AssociationSocket], GuardedSocket] = lambda plain: GuardedSocket(  # noqa: E731
            plain,
            largest_pdu=LARGEST_PDU_BYTES,
            largest_message=settings.largest_film_mb * MIB + COMMAND_BYTES,
            pdu_s=settings.network_timeout_s,
            association_s=settings.association_deadline_s,
        )
        try:
            self._server = entity.make_server(
                (settings.host, settings.dicom_port or 0),
                evt_handlers=[
                    (evt.EVT_C_STORE, self._store),
                    (evt.EVT_C_ECHO, _echo),
                    (evt.EVT_DIMSE_RECV, message_complete),
                    (evt.EVT_REJECTED, _rejected),
                ],
                server_class=Server,
                request_handler=guarded_handler(
                    guard,
                    2 * settings.maximum_associations,
                    tls=_tls(settings),
                    handshake_s=settings.network_timeout_s,
                ),
            )
        except OSError as error:
            raise ServiceError(
                f"The DICOM port {settings.dicom_port} on {settings.host} can't be used ({error.strerror}). "
                "Give another with --dicom-port."
            ) from None
        entity._servers.append(self._server)  # as AE.start_server does: shutdown() takes it out again
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="hilum-dicom", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port in use."""
        return int(self._server.server_address[1])

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
        fetched = asked_for(event.request, calling, self._settings) and self._expected(sop_instance)
        keep(event, self._intake, sop_instance_uid=sop_instance, calling_ae=calling, fetched=fetched)
        return SUCCESS


def asked_for(request: Any, calling: str, settings: Settings) -> bool:
    """Does a film come because of our own C-MOVE?

    The C-STORE then names us as the move's originator (PS3.7, 9.1.1.1); some archives name nobody there, or themselves.

    Args:
        request: the C-STORE.
        calling: who sends.
        settings: who we are, and who is asked.
    """
    pacs = settings.pacs_node
    if pacs is None:
        return False
    originator = str(request.MoveOriginatorApplicationEntityTitle or "").strip()
    return originator == settings.ae_title or (calling == pacs.ae_title and originator in ("", pacs.ae_title))


def _entity(settings: Settings) -> AE:
    entity = AE(ae_title=settings.ae_title)
    entity.maximum_associations = settings.maximum_associations
    entity.maximum_pdu_size = ADVERTISED_PDU_BYTES
    entity.network_timeout = settings.network_timeout_s
    entity.acse_timeout = entity.dimse_timeout = settings.network_timeout_s
    entity.require_calling_aet = list(settings.allowed_ae_titles)
    entity.add_supported_context(VERIFICATION)
    others = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
    for storage in STORAGE if settings.other_classes == "refuse" else dict.fromkeys([*STORAGE, *others]):
        entity.add_supported_context(storage, list(TRANSFER_SYNTAXES))
    return entity


def _tls(settings: Settings) -> ssl.SSLContext | None:
    pair = settings.dicom_pair
    if settings.dicom_tls == "off" or pair is None:
        return None
    return server_context(*pair, clients=settings.dicom_tls, authorities=settings.dicom_ca)


def _echo(_: Any) -> int:
    return SUCCESS


def _rejected(_: Any) -> None:
    logger().warning("association rejected", reason="calling AE title is not on the list, or too many associations")
