"""Hand results over to a DICOMweb server by STOW-RS (PS3.18 section 10.5)."""

import json
import secrets
import ssl
import time
from collections.abc import Sequence
from typing import Any

import httpx

from hilum.doubts import certificate_doubt
from hilum.service.destinations import Destination, Undelivered
from hilum.service.dicom.result import ResultObject

FAILED_SOP_SEQUENCE, FAILURE_REASON, FAILED_UID = "00081198", "00081197", "00081155"
DUPLICATE = 0x0111
LONGEST_ANSWER_BYTES = 1024 * 1024
ANSWER_S = 60.0
"""An answer that has begun is there after so long, however many bytes come one at a time."""

AGAIN = (408, 423, 425, 429, 500, 502, 503, 504, 507)
"""HTTP statuses that may pass; every other failure stays until a person has changed something."""


def stow(
    objects: Sequence[ResultObject],
    destination: Destination,
    *,
    tls: ssl.SSLContext | None = None,
    timeout_s: float = 30,
) -> None:
    """Store objects in one request. An object that is there already counts as stored.

    Args:
        objects: what to store.
        destination: a DICOMweb server.
        tls: how its certificate is checked; None checks it with the system's authorities.
        timeout_s: longest wait for a connection or for the next bytes.

    Raises:
        Undelivered: not all of them were stored; storing all again does no harm.
    """
    boundary = secrets.token_hex(16)
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
        "Accept": "application/dicom+json",
        "Accept-Encoding": "identity",  # a few KiB that are compressed twice can be gigabytes
    }
    try:
        with (
            httpx.Client(verify=tls or True, timeout=timeout_s, auth=destination.login, trust_env=False) as client,
            client.stream(
                "POST", f"{destination.url}/studies", content=_body(objects, boundary), headers=headers
            ) as reply,
        ):
            content = _read(reply, time.monotonic() + ANSWER_S)
    except httpx.TransportError as error:
        doubt = certificate_doubt(error)
        if doubt:
            raise Undelivered(
                f"{destination.name} ({destination.host}:{destination.port}) shows a certificate that isn't trusted "
                f"({doubt}). Name its authority in HILUM_RESULTS_CA, or have it renewed.",
                code="certificate",
            ) from None
        raise Undelivered(
            f"{destination.name} ({destination.host}:{destination.port}) can't be reached "
            f"({type(error).__name__}). Check that it runs.",
            code="away",
        ) from None
    _judge(reply.status_code, content, destination)


def _body(objects: Sequence[ResultObject], boundary: str) -> bytes:
    parts = [
        b"--" + boundary.encode() + b"\r\nContent-Type: application/dicom\r\n\r\n" + one.content + b"\r\n"
        for one in objects
    ]
    return b"".join(parts) + b"--" + boundary.encode() + b"--\r\n"


def _read(reply: httpx.Response, until: float) -> bytes:
    """The answer as it came, never unpacked; cut off where it is too long or comes too slowly."""
    content = bytearray()
    for chunk in reply.iter_raw():
        content += chunk
        if len(content) > LONGEST_ANSWER_BYTES or time.monotonic() > until:
            break
    return bytes(content)


def _judge(status: int, content: bytes, destination: Destination) -> None:
    failures = _failures(content)
    there_already = bool(failures) and all(code == DUPLICATE for code in failures or ())
    if (there_already and status in (200, 202, 409)) or (failures == [] and status in (200, 202)):
        return
    if status in (200, 202) and failures:
        worst = next(code for code in failures if code != DUPLICATE)
        raise Undelivered(
            f"{destination.name} did not store every object (failure reason 0x{worst:04X}). See its log.",
            code=f"status-{worst:04x}",
            permanent=worst & 0xFF00 == 0xA900 or worst & 0xF000 == 0xC000 or worst == 0x0122,
        )
    if status in (200, 202):
        raise Undelivered(
            f"{destination.name} answered {status} with something that is no DICOM JSON. See its log.", code="no-answer"
        )
    what = "asks for another login" if status in (401, 403) else "refuses the objects"
    raise Undelivered(
        f"{destination.name} {what if status not in AGAIN else 'is not ready'} (HTTP {status}). See its log.",
        code=f"http-{status}",
        permanent=status not in AGAIN,
    )


def _failures(content: bytes) -> list[int] | None:
    """Failure reasons of the objects that were not stored; None when the answer can't be read."""
    try:
        answer: Any = json.loads(content)
        answer = answer[0] if isinstance(answer, list) else answer
        failed = answer.get(FAILED_SOP_SEQUENCE, {}).get("Value", [])
        return [int(one[FAILURE_REASON]["Value"][0]) for one in failed]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError):
        return None
