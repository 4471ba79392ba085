"""Films in by STOW-RS (PS3.18 section 10.5): each part of a body becomes a film by the one intake, or says why not."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect

from hilum.records.values import Receipt
from hilum.service.dicom.classes import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, STORAGE
from hilum.service.dicomweb.attributes import HEAD_BYTES, Attributes, Claim, claim_of
from hilum.service.dicomweb.media import DICOM
from hilum.service.dicomweb.multipart import Piece, Reader, header_of, parameters
from hilum.service.intake import Arrival, Intake
from hilum.service.lasting import begun, to_its_end
from hilum.service.refusals import Refused

MOST_PARTS = 1000

# Failure reasons are statuses of C-STORE (PS3.4 table B.2-1, PS3.7 annex C).
NOT_SUPPORTED, DUPLICATE = 0x0122, 0x0111
WRONG_STUDY = 0xA900
"""The data set does not match what the request says of it."""

Part = AsyncIterator[Piece]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one part."""

    claim: Claim
    """What it says it is."""
    receipt: Receipt | None
    """The film; None when nothing was kept."""
    failure: int
    """Failure reason; 0 where there is none."""
    code: str = ""
    """The refusal's code, for the log and the status; empty where there is none."""
    listed: bool = True
    """Whether it is found and fetched, if it is stored; False where it was erased before whose it is."""


@dataclass(slots=True)
class _Incoming:
    """One part while it comes in."""

    arrival: Arrival | None
    refusal: Refused | None
    head: bytearray = field(default_factory=bytearray)

    def take(self, content: bytes) -> None:
        if len(self.head) < HEAD_BYTES:
            self.head += content[: HEAD_BYTES - len(self.head)]
        if self.arrival is None:
            return
        try:
            self.arrival.write(content)
        except Refused as error:
            self.refuse(error)

    def refuse(self, error: Refused) -> None:
        if self.arrival is not None:
            self.arrival.__exit__(None, None, None)
        self.arrival, self.refusal = None, error


class Storing:
    """Takes the parts of one request.

    Args:
        intake: where films go.
        actor: who sends, for the audit.
        study_uid: the only study that is taken; None for any.
        part_s: longest time for one part.
    """

    def __init__(self, intake: Intake, *, actor: str, study_uid: str | None, part_s: float) -> None:
        self._intake, self._actor, self._study_uid, self._part_s = intake, actor, study_uid, part_s
        self._incoming: _Incoming | None = None
        self.outcomes: list[Outcome] = []

    async def take(self, chunks: AsyncIterator[bytes], boundary: str | None) -> list[Outcome]:
        """Read a body to its end.

        Args:
            chunks: of the body.
            boundary: of its parts; None for a body that is one film.

        Returns:
            what became of each part, in order.

        Raises:
            Malformed: it is no multipart body. Films that came before the fault are kept, and harmless to send again.
            Refused: nothing can be kept now and nothing was, or the body came too slowly or broke off.
        """
        reader = Reader(boundary, MOST_PARTS) if boundary is not None else None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._part_s) as limit:
                if reader is None:
                    await self._handle(Piece("part", f"Content-Type: {DICOM}".encode()))
                async for chunk in chunks:
                    for piece in reader.feed(chunk) if reader else (Piece("data", chunk),):
                        await self._handle(piece)
                        if piece.kind == "end":
                            limit.reschedule(loop.time() + self._part_s)
                if reader is None:
                    await self._handle(Piece("end"))
        except TimeoutError:
            raise Refused(
                f"A part of the body was not complete after {self._part_s:g} s. Send it over a faster line.",
                code="too-slow",
            ) from None
        except ClientDisconnect:
            raise Refused("The upload broke off. Send the films again.", code="too-slow") from None
        finally:
            self._drop()
        if reader is not None and not reader.finished:
            raise Refused("The body ends before its last boundary. Send the films again.", code="cut-off")
        return self.outcomes

    async def _handle(self, piece: Piece) -> None:
        if piece.kind == "part":
            self._incoming = await self._begin(piece.content)
        elif self._incoming is not None and piece.kind == "data":
            arrival = self._incoming.arrival
            if arrival is not None and arrival.waits(len(piece.content)):
                await to_its_end(self._incoming.take, piece.content)
            else:
                self._incoming.take(piece.content)
        elif self._incoming is not None:
            self.outcomes.append(await to_its_end(self._finish, self._incoming))
            self._drop()

    async def _begin(self, header: bytes) -> _Incoming:
        kind = parameters(header_of(header, "content-type") or DICOM)[0]
        if kind != DICOM:
            return _Incoming(None, Refused(f"A part is no {DICOM}. Send films as they are.", code="unsupported"))
        try:
            return _Incoming(await begun(self._intake.begin), None)
        except Refused as error:
            if not any(one.receipt for one in self.outcomes):
                raise  # say so at once instead of reading it all
            return _Incoming(None, error)

    def _finish(self, incoming: _Incoming) -> Outcome:
        claim = claim_of(bytes(incoming.head))
        failure = self._unacceptable(claim)
        if incoming.arrival is None or failure:
            error = incoming.refusal
            code = error.code if error else "unsupported"
            if error is not None:
                failure = CANNOT_UNDERSTAND if error.films_fault and code != "too-large" else OUT_OF_RESOURCES
            return Outcome(claim=claim, receipt=None, failure=failure, code=code)
        try:
            receipt = incoming.arrival.finish(
                origin="dicomweb", actor=self._actor, sop_instance_uid=claim.sop_instance_uid, expected="dicom"
            )
        except Refused as error:
            reason = CANNOT_UNDERSTAND if error.films_fault else OUT_OF_RESOURCES
            return Outcome(claim=claim, receipt=None, failure=reason, code=error.code)
        set_aside = receipt.state == "quarantined"
        return Outcome(claim=claim, receipt=receipt, failure=DUPLICATE if set_aside else 0)

    def _unacceptable(self, claim: Claim) -> int:
        if not (claim.sop_class_uid and claim.sop_instance_uid and claim.study_instance_uid):
            return CANNOT_UNDERSTAND
        if claim.sop_class_uid not in STORAGE:
            return NOT_SUPPORTED
        return WRONG_STUDY if self._study_uid not in (None, claim.study_instance_uid) else 0

    def _drop(self) -> None:
        if self._incoming is not None and self._incoming.arrival is not None:
            self._incoming.arrival.__exit__(None, None, None)
        self._incoming = None


def status_of(outcomes: list[Outcome]) -> int:
    """The HTTP status for all parts together (PS3.18 table 10.5.3-1)."""
    stored = [one for one in outcomes if not one.failure]
    if len(stored) == len(outcomes):
        return 200
    if stored:
        return 202
    codes = {one.code for one in outcomes}
    if codes == {"too-large"}:
        return 413
    passing = {"no-space", "storage-failed", "records-away", "stopping", "busy"}
    return 503 if codes & passing else 409


def response_of(outcomes: list[Outcome], base_url: str) -> Attributes:
    """What the sender is told of each part (PS3.18 section 10.5.3.2).

    Args:
        outcomes: of each part.
        base_url: of this DICOMweb service, without a slash at the end.
    """
    stored, failed, others = [], [], []
    for one in outcomes:
        if not one.failure:
            url = f"{base_url}/studies/{one.claim.study_instance_uid}"
            at = f"{url}/series/{one.claim.series_instance_uid}/instances/{one.claim.sop_instance_uid}"
            stored.append(_reference(one.claim) | ({"00081190": {"vr": "UR", "Value": [at]}} if one.listed else {}))
        elif one.claim.sop_class_uid and one.claim.sop_instance_uid:
            failed.append(_reference(one.claim) | {"00081197": {"vr": "US", "Value": [one.failure]}})
        else:
            others.append({"00081197": {"vr": "US", "Value": [one.failure]}})
    studies = {one.claim.study_instance_uid for one in outcomes if not one.failure}
    told: Attributes = {}
    if len(studies) == 1 and any(one.listed for one in outcomes if not one.failure):
        told["00081190"] = {"vr": "UR", "Value": [f"{base_url}/studies/{studies.pop()}"]}
    for tag, items in (("00081198", failed), ("00081199", stored), ("0008119A", others)):
        if items:
            told[tag] = {"vr": "SQ", "Value": items}
    return told


def _reference(claim: Claim) -> Attributes:
    return {
        "00081150": {"vr": "UI", "Value": [claim.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [claim.sop_instance_uid]},
    }
