"""Hand results over to a DICOM node by C-STORE (PS3.4 annex B)."""

import io
import ssl
from collections.abc import Sequence
from typing import Any

from hilum.service.destinations import Destination, Undelivered
from hilum.service.dicom.result import ResultObject

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"

LARGEST_ANSWER = 1 << 20
"""Bytes of the largest message that is read: an answer to C-STORE has a few hundred."""

# PS3.4 table B.2-1 and PS3.7 annex C.
DUPLICATE = 0x0111
REFUSED_FOR_GOOD = {0x0122: "does not take objects of this kind", 0x0124: "does not allow us to store"}


def hand_over(
    objects: Sequence[ResultObject],
    destination: Destination,
    *,
    calling: str,
    tls: ssl.SSLContext | None = None,
    timeout_s: float = 30,
    deadline_s: float = 900,
) -> None:
    """Store objects over one association, guarded as those that others ask us for.

    An object that is there already counts as stored.

    Args:
        objects: what to store.
        destination: a DICOM node.
        calling: our AE title.
        tls: how its certificate is checked; needed when the destination wants TLS.
        timeout_s: longest wait for a connection, an answer, or one PDU.
        deadline_s: the association ends after so long, whatever the node does.

    Raises:
        Undelivered: not all of them were stored; storing all again does no harm.
    """
    from pynetdicom.presentation import build_context

    from hilum.service.dicom.calling import asked

    classes = dict.fromkeys(one.sop_class_uid for one in objects)
    # One context for each transfer syntax: a peer that takes both then gets the bytes as they are.
    contexts = [build_context(sop_class, syntax) for sop_class in classes for syntax in (EXPLICIT, IMPLICIT)]
    how: dict[str, Any] = {"calling": calling, "tls": tls, "timeout_s": timeout_s, "deadline_s": deadline_s}
    nothing = "takes neither reports nor heat maps. Allow their SOP classes there, then requeue."
    how |= {"fails": Undelivered, "takes_nothing": nothing, "largest_message": LARGEST_ANSWER}
    with asked(destination, contexts, **how) as association:
        for one in objects:
            _store(association, one, destination)


def _store(association: Any, one: ResultObject, destination: Destination) -> None:
    from pydicom import dcmread

    accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
    if one.sop_class_uid not in accepted:
        raise Undelivered(
            f"{destination.ae_title} does not take the SOP class {one.sop_class_uid}. Allow it there, then requeue.",
            code="sop-class",
            permanent=True,
        )
    try:
        status = association.send_c_store(dcmread(io.BytesIO(one.content)))
    except (RuntimeError, ValueError, OSError) as error:
        raise Undelivered(
            f"{destination.ae_title} broke the association off ({type(error).__name__}). See its log.",
            code="broken-off",
        ) from None
    if "Status" not in status:
        raise Undelivered(f"{destination.ae_title} did not answer a C-STORE. See its log.", code="no-answer")
    _judge(int(status.Status), destination)


def _judge(status: int, destination: Destination) -> None:
    stored = status in (0x0000, DUPLICATE) or status & 0xF000 == 0xB000
    if stored:
        return
    permanent = status in REFUSED_FOR_GOOD or status & 0xFF00 == 0xA900 or status & 0xF000 == 0xC000
    why = REFUSED_FOR_GOOD.get(status, "refuses the object" if permanent else "can't store it now")
    raise Undelivered(
        f"{destination.ae_title} {why} (C-STORE status 0x{status:04X}). See its log.",
        code=f"status-{status:04x}",
        permanent=permanent,
    )
