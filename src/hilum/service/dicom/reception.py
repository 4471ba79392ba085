"""The service's side of :mod:`.far_intake`: opens a file for each film that comes, makes it durable and records it.

The other side has peers from the network before it. What it says is taken for what a peer says: each message has one
form, and one of another form ends it.
"""

import contextlib
import os
import re
import socket
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from hilum.records.values import Receipt
from hilum.sealing import FileKey, sealed_bytes
from hilum.service.child_wire import OK, receive, send
from hilum.service.dicom.classes import UID
from hilum.service.dicom.far_intake import BEGIN, FINISH, FORGET, REFUSED
from hilum.service.film_writing import Written
from hilum.service.intake import Arrival, Intake
from hilum.service.logs import logger, where
from hilum.service.refusals import Refused

DIGEST = re.compile(r"[0-9a-f]{64}")
LONGEST_TITLE = 16


class Reception:
    """Receives what the listener's process asks for.

    Args:
        intake: where films go.
        expected: is the film with this SOP instance UID wanted as a prior?
    """

    def __init__(self, intake: Intake, expected: Callable[[str], bool]) -> None:
        self._intake, self._expected = intake, expected

    def serve(self, channel: socket.socket) -> None:
        """Answer one channel until the other side has gone; what it had begun is forgotten then.

        Raises:
            ValueError: the other side says what it can't have meant, and is not to be trusted any more.
        """
        with contextlib.suppress(EOFError, OSError):
            while True:
                kind, _, _ = receive(channel)
                if kind != BEGIN:
                    raise ValueError(f"a message of kind {kind} where a film begins")
                self._one_film(channel)

    def _one_film(self, channel: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            try:
                arrival = stack.enter_context(self._intake.begin())
            except Exception as error:
                _refuse(channel, error)
                return
            send(channel, OK, _told(arrival.key), [arrival.descriptor])
            kind, asked, _ = receive(channel)
            if kind == FORGET:
                return
            if kind != FINISH:
                raise ValueError(f"a message of kind {kind} where a film ends")
            written = _written(asked)
            try:
                receipt = self._finish(arrival, asked, written)
            except Exception as error:
                _refuse(channel, error)
                return
            send(channel, OK, asdict(receipt))

    def _finish(self, arrival: Arrival, asked: Mapping[str, Any], written: Written) -> Receipt:
        there = os.fstat(arrival.descriptor).st_size
        if there != (sealed_bytes(written.size) if arrival.key else written.size):
            raise Refused(f"The film's file has {there} bytes, other than was said. Send it again.", code="internal")
        uid = asked["sop_instance_uid"]
        fetched = asked["origin"] == "pacs" and self._expected(uid)
        return arrival.finish(
            origin="pacs" if fetched else "dicom",
            calling_ae=asked["calling_ae"],
            sop_instance_uid=uid,
            urgent=asked["urgent"],
            written=written,
        )


def _refuse(channel: socket.socket, error: Exception) -> None:
    if isinstance(error, Refused):
        send(channel, REFUSED, {"code": error.code, "text": str(error)})
        return
    logger().error("film not kept", origin="dicom", **where(error))
    send(channel, REFUSED, {"code": "internal", "text": "An internal error; the service's log says where."})


def _told(key: FileKey | None) -> Mapping[str, str]:
    if key is None:
        return {}
    return {"key_id": key.key_id, "salt": b64encode(key.salt).decode(), "raw": b64encode(key.raw).decode()}


def _written(asked: Any) -> Written:
    """What was written, if the message has its form."""
    try:
        written = Written(**asked["written"])
        well = (
            asked.keys() == {"origin", "calling_ae", "sop_instance_uid", "urgent", "written"}
            and asked["origin"] in ("dicom", "pacs")
            and isinstance(asked["urgent"], bool)
            and isinstance(asked["calling_ae"], str)
            and len(asked["calling_ae"]) <= LONGEST_TITLE
            and UID.fullmatch(asked["sop_instance_uid"]) is not None
            and DIGEST.fullmatch(written.file_sha256) is not None
            and isinstance(written.size, int)
            and written.format == "dicom"
        )
    except (TypeError, KeyError, AttributeError):
        well = False
    if not well:
        raise ValueError("a film's end of another form")
    return written
