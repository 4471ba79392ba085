"""What happens to a C-STORE, on whichever association it comes: bytes to the intake, success when they are durable."""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from pynetdicom.dsutils import encode_file_meta

from hilum.records.values import Receipt
from hilum.service.dicom.classes import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, STORAGE, UID
from hilum.service.logs import logger, where
from hilum.service.refusals import Refused

HIGH_PRIORITY = 1
"""(0000,0700) Priority of a C-STORE that is urgent; medium is 0 and low is 2 (PS3.7 table 9.3-1)."""


class Arriving(Protocol):
    """A film on its way in, as :class:`hilum.service.intake.Arrival` is one."""

    def write(self, chunk: bytes | memoryview) -> None:
        """Add bytes."""

    def finish(
        self, *, origin: str, calling_ae: str, sop_instance_uid: str | None, expected: str | None, urgent: bool
    ) -> Receipt:
        """Make it durable and record it."""


class Door(Protocol):
    """Where films go: the intake, or :class:`hilum.service.dicom.far_intake.FarIntake`, which asks it."""

    def begin(self) -> AbstractContextManager[Arriving]:
        """Make ready for one film."""


def answer_store(event: Any, receive: Callable[[Any], int]) -> int:
    """The status of a C-STORE: that of receiving it, or why it failed."""
    try:
        return receive(event)
    except Refused as error:
        logger().warning("film refused", origin="dicom", code=error.code)
        return CANNOT_UNDERSTAND if error.films_fault else OUT_OF_RESOURCES
    except Exception as error:
        logger().error("film refused", origin="dicom", **where(error))
        return OUT_OF_RESOURCES


def announced(event: Any) -> tuple[str, str]:
    """SOP class and SOP instance UID that a C-STORE announces.

    Raises:
        Refused: the instance UID is none.
    """
    request = event.request
    sop_class, sop_instance = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
    if sop_class in STORAGE and not UID.fullmatch(sop_instance):
        raise Refused("The SOP instance UID is not one. Send a conformant object.", code="unsupported")
    return sop_class, sop_instance


def keep(event: Any, door: Door, *, sop_instance_uid: str, calling_ae: str, named: bool, fetched: bool) -> Receipt:
    """Make the film of a C-STORE durable, as it came.

    Args:
        event: pynetdicom's.
        door: where films go.
        sop_instance_uid: as announced.
        calling_ae: what the peer calls itself.
        named: whether the settings name that title, so that the log may.
        fetched: we asked for it as a prior, by what the peer says; the records know better.

    Raises:
        Refused: nothing was kept.
    """
    content = event.request.DataSet
    if content is None or not content.getbuffer().nbytes:
        raise Refused("The object has no data set. Send a film.", code="empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they would quote what the peer sent
        meta = encode_file_meta(event.file_meta)
    with door.begin() as arrival:
        arrival.write(bytes(128) + b"DICM" + meta)
        arrival.write(content.getbuffer())
        receipt = arrival.finish(
            origin="pacs" if fetched else "dicom",
            calling_ae=calling_ae,
            sop_instance_uid=sop_instance_uid,
            expected="dicom",
            urgent=event.request.Priority == HIGH_PRIORITY,
        )
    by = {"calling_ae": calling_ae} if named else {}
    logger().info("film received", origin="dicom", **by, film=receipt.film_id, new=receipt.new, state=receipt.state)
    return receipt
