"""The DICOM listener: C-ECHO and C-STORE.

Bytes go to the intake as they came; success is said when they are durable, and nothing is decoded here.
"""

import re
import ssl
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.dsutils import encode_file_meta
from pynetdicom.transport import AssociationSocket, ThreadedAssociationServer

from hilum.errors import ServiceError
from hilum.service.certificates import server_context
from hilum.service.dicom.classes import (
    CANNOT_UNDERSTAND,
    OUT_OF_RESOURCES,
    STORAGE,
    SUCCESS,
    TRANSFER_SYNTAXES,
    VERIFICATION,
)
from hilum.service.dicom.limits import GuardedSocket, guarded_handler
from hilum.service.intake import Intake
from hilum.service.logs import logger, where
from hilum.service.refusals import Refused
from hilum.service.settings import MIB, Settings

ADVERTISED_PDU_BYTES = 256 * 1024
LARGEST_PDU_BYTES = 4 * ADVERTISED_PDU_BYTES
"""Some peers exceed what is advertised; beyond this they are cut off."""

COMMAND_BYTES = 1 * MIB
HIGH_PRIORITY = 1
"""(0000,0700) Priority of a C-STORE that is urgent; medium is 0 and low is 2 (PS3.7 table 9.3-1)."""
UID = re.compile(r"[0-9.]{1,64}")


class Listener:
    """Listens until stopped.

    Args:
        settings: address, titles and limits.
        intake: where films go.

    Raises:
        ServiceError: the port is taken, or a certificate can't be used.
    """

    def __init__(self, settings: Settings, intake: Intake) -> None:
        self._settings, self._intake = settings, intake
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
                    (evt.EVT_DIMSE_RECV, _message_complete),
                    (evt.EVT_REJECTED, _rejected),
                ],
                server_class=ThreadedAssociationServer,
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
        try:
            return self._receive(event)
        except Refused as error:
            logger().warning("film refused", origin="dicom", code=error.code)
            return CANNOT_UNDERSTAND if error.films_fault else OUT_OF_RESOURCES
        except Exception as error:
            logger().error("film refused", origin="dicom", **where(error))
            return OUT_OF_RESOURCES

    def _receive(self, event: Any) -> int:
        request = event.request
        sop_class, sop_instance = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
        if sop_class not in STORAGE:
            logger().info("film skipped", origin="dicom", sop_class=sop_class if UID.fullmatch(sop_class) else "?")
            return SUCCESS
        if not UID.fullmatch(sop_instance):
            raise Refused("The SOP instance UID is not one. Send a conformant object.", code="unsupported")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they would quote what the peer sent
            meta = encode_file_meta(event.file_meta)
        with self._intake.begin() as arrival:
            arrival.write(bytes(128) + b"DICM" + meta)
            arrival.write(request.DataSet.getbuffer())
            receipt = arrival.finish(
                origin="dicom",
                calling_ae=event.assoc.requestor.ae_title.strip(),
                sop_instance_uid=sop_instance,
                expected="dicom",
                urgent=request.Priority == HIGH_PRIORITY,
            )
        logger().info("film received", origin="dicom", film=receipt.film_id, new=receipt.new, state=receipt.state)
        return SUCCESS


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


def _message_complete(event: Any) -> None:
    guarded = event.assoc.dul.socket
    if isinstance(guarded, GuardedSocket):
        guarded.message_bytes = 0


def _rejected(_: Any) -> None:
    logger().warning("association rejected", reason="calling AE title is not on the list, or too many associations")
