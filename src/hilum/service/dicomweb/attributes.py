"""What is kept of a film's header so that it can be found (PS3.18 tables 10.6.1-3 and -5, PS3.4 annex C.6)."""

import io
import json
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hilum.errors import FilmError
from hilum.imaging.dicom_structure import (
    BIG_ENDIAN,
    DEFLATED,
    IMPLICIT,
    ITEM_END,
    LONG_VRS,
    SEQUENCE_END,
    SHORT_VRS,
    UNDEFINED,
    examine,
)
from hilum.imaging.limits import Limits
from hilum.service.container import recognise
from hilum.service.refusals import Refused

HEAD_BYTES = 1024 * 1024
"""So many first bytes of a film on its way in are held, to read what it says it is."""

# keyword: tag, VR. The levels are those at which a search asks for them.
STUDY: Mapping[str, tuple[str, str]] = {
    "StudyDate": ("00080020", "DA"),
    "StudyTime": ("00080030", "TM"),
    "AccessionNumber": ("00080050", "SH"),
    "ReferringPhysicianName": ("00080090", "PN"),
    "StudyDescription": ("00081030", "LO"),
    "PatientName": ("00100010", "PN"),
    "PatientID": ("00100020", "LO"),
    "IssuerOfPatientID": ("00100021", "LO"),
    "PatientBirthDate": ("00100030", "DA"),
    "PatientSex": ("00100040", "CS"),
    "StudyInstanceUID": ("0020000D", "UI"),
    "StudyID": ("00200010", "SH"),
    "TimezoneOffsetFromUTC": ("00080201", "SH"),
}
SERIES: Mapping[str, tuple[str, str]] = {
    "Modality": ("00080060", "CS"),
    "SeriesDescription": ("0008103E", "LO"),
    "SeriesInstanceUID": ("0020000E", "UI"),
    "SeriesNumber": ("00200011", "IS"),
    "PerformedProcedureStepStartDate": ("00400244", "DA"),
    "PerformedProcedureStepStartTime": ("00400245", "TM"),
    "BodyPartExamined": ("00180015", "CS"),
}
INSTANCE: Mapping[str, tuple[str, str]] = {
    "SOPClassUID": ("00080016", "UI"),
    "SOPInstanceUID": ("00080018", "UI"),
    "InstanceNumber": ("00200013", "IS"),
    "NumberOfFrames": ("00280008", "IS"),
    "Rows": ("00280010", "US"),
    "Columns": ("00280011", "US"),
    "BitsAllocated": ("00280100", "US"),
    "AvailableTransferSyntaxUID": ("00083002", "UI"),
}
KEPT = {**STUDY, **SERIES, **INSTANCE}
_VRS = {0x00080005: "", **{int(tag, 16): vr for tag, vr in KEPT.values()}}
_CHARACTER_SET = b"\x08\x00\x05\x00"
_LAST = max(_VRS)
_PLAIN = re.compile(rb"[!-\[\]-}](?:[ -\[\]-}]{0,255})")
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")

Attributes = dict[str, dict[str, Any]]
"""Attributes in the DICOM JSON model (PS3.18 annex F), by tag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a film on its way in says it is; empty where it doesn't say."""

    sop_class_uid: str = ""
    """SOP Class UID."""
    sop_instance_uid: str = ""
    """SOP Instance UID."""
    study_instance_uid: str = ""
    """Study Instance UID."""
    series_instance_uid: str = ""
    """Series Instance UID."""


def claim_of(head: bytes) -> Claim:
    """Read the four UIDs from the first bytes of a Part 10 file; what can't be read is empty.

    Args:
        head: the first :data:`HEAD_BYTES` bytes, or all when there are fewer.
    """
    from pydicom.filereader import read_dataset
    from pydicom.tag import Tag
    from pydicom.uid import UID

    try:
        container = recognise(head[:65_536])
        syntax = container.syntax.decode("ascii", "replace")
        body = head[container.content_starts :]
        if syntax == DEFLATED:
            body = zlib.decompressobj(-zlib.MAX_WBITS).decompress(body, HEAD_BYTES)
        last = Tag(0x0020, 0x000E)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote values
            found = read_dataset(
                io.BytesIO(body),
                is_implicit_VR=UID(syntax) == IMPLICIT,
                is_little_endian=syntax != BIG_ENDIAN,
                stop_when=lambda tag, vr, length: tag > last,
                specific_tags=[Tag(int(KEPT[name][0], 16)) for name in UIDS],
            )
            said = {name: str(found.get(name) or "").strip("\0 ") for name in UIDS}
    except Exception:  # whatever pydicom trips over in a foreign file
        return Claim()
    return Claim(
        sop_class_uid=said["SOPClassUID"],
        sop_instance_uid=said["SOPInstanceUID"],
        study_instance_uid=said["StudyInstanceUID"],
        series_instance_uid=said["SeriesInstanceUID"],
    )


def read_attributes(content: bytes) -> Attributes:
    """What is kept of a film, in the DICOM JSON model; attributes whose value is none of their kind are left out.

    The structure is walked before, so that no length and no depth is believed.

    Args:
        content: a Part 10 file.

    Raises:
        FilmError: it can't be read, or lacks one of the UIDs.
    """
    from pydicom import dcmread

    syntax = examine(content, Limits()).transfer_syntax

    def read() -> Any:
        return dcmread(io.BytesIO(content), stop_before_pixels=True, specific_tags=["SpecificCharacterSet", *KEPT])

    return _whole(_told(read), syntax)


def head_attributes(head: bytes) -> Attributes | None:
    """The same from the first bytes of a film that was read before, so that its structure is known to be sound.

    Returns:
        None where the first bytes don't suffice: a header that is longer, deflated or big endian, or one that isn't
        what its file says.

    Raises:
        FilmError: as :func:`read_attributes`.
    """
    from pydicom.filereader import read_dataset

    try:
        container = recognise(head[:65_536])
    except Refused:
        return None
    syntax = container.syntax.decode("ascii", "replace")
    elements = None
    if syntax not in (DEFLATED, BIG_ENDIAN):
        elements = kept_elements(head[container.content_starts :], implicit=syntax == IMPLICIT)
    if elements is None:
        return None
    found: Attributes = {}
    others = []
    for tag, vr, value, written in elements:
        plain = _plain(tag, vr, value)
        if plain is None:
            others.append(written)
        else:
            found[f"{tag:08X}"] = plain
    if len(others) > 1 or (others and not others[0].startswith(_CHARACTER_SET)):
        found |= _told(lambda: read_dataset(io.BytesIO(b"".join(others)), syntax == IMPLICIT, True))
    return _whole(found, syntax)


def kept_elements(body: bytes, *, implicit: bool) -> list[tuple[int, bytes, bytes, bytes]] | None:
    """The elements of a little-endian data set that are kept.

    Returns:
        tag, value representation (empty in an implicit data set), value, and all of it as it stands there; None where
        not all can be told.
    """
    at, kept = 0, list[tuple[int, bytes, bytes, bytes]]()
    try:
        while True:
            tag, length, start = _header(body, at, implicit)
            if tag > _LAST:
                return kept
            after = _behind_sequence(body, start, implicit) if length == UNDEFINED else start + length
            if tag in _VRS and length != UNDEFINED:
                kept.append((tag, b"" if implicit else body[at + 4 : at + 6], body[start:after], body[at:after]))
            at = after
    except (struct.error, ValueError):
        return None


def _plain(tag: int, vr: bytes, value: bytes) -> dict[str, Any] | None:
    """A value that is the same in every character set; None for others, which pydicom reads."""
    expected = _VRS[tag]
    if expected == "" or vr not in (b"", expected.encode()):
        return None
    if not value:
        return {"vr": expected}
    if expected == "US":
        return {"vr": "US", "Value": [int.from_bytes(value, "little")]} if len(value) == 2 else None
    text = value.rstrip(b"\0" if expected == "UI" else b" ")
    if not _PLAIN.fullmatch(text) or (expected == "PN" and b"=" in text):
        return None
    if expected == "IS":
        return {"vr": "IS", "Value": [int(text)]} if text.isdigit() else None
    said = text.decode("ascii")
    return {"vr": expected, "Value": [{"Alphabetic": said} if expected == "PN" else said]}


def _header(body: bytes, at: int, implicit: bool) -> tuple[int, int, int]:
    """Tag, length, and where the value starts."""
    group, element, vr, length = struct.unpack_from("<HH2sH", body, at)
    tag = group << 16 | element
    if implicit or group == 0xFFFE:
        return tag, struct.unpack_from("<L", body, at + 4)[0], at + 8
    if vr in SHORT_VRS:
        return tag, length, at + 8
    if not (vr.isalpha() and vr.isupper()) or (vr == b"UN" and body[at + 8 : at + 12] == b"\xff" * 4):
        raise ValueError("no explicit value representation, or an implicit one inside")
    if vr in LONG_VRS:
        return tag, struct.unpack_from("<L", body, at + 8)[0], at + 12
    return tag, length, at + 8


def _behind_sequence(body: bytes, at: int, implicit: bool) -> int:
    """Where a sequence that is closed by a delimiter ends."""
    open_ones = 1
    while open_ones:
        tag, length, at = _header(body, at, implicit)
        if tag in (ITEM_END, SEQUENCE_END):
            open_ones -= 1
        elif length == UNDEFINED:
            open_ones += 1
        else:
            at += length
    return at


def _told(read: Callable[[], Any]) -> Attributes:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = read()
            return {tag: one for tag, _ in KEPT.values() if (one := _element(dataset, tag)) is not None}
    except (FilmError, MemoryError):
        raise
    except Exception as error:
        raise FilmError(f"The film's header can't be read ({type(error).__name__}).", code="unreadable") from None


def _whole(found: Attributes, syntax: str) -> Attributes:
    missing = [name for name in UIDS if not value_of(found, name)]
    if missing:
        raise FilmError(f"The film has no {missing[0]}, so it can't be found by DICOMweb.", code="no-identity")
    found[KEPT["AvailableTransferSyntaxUID"][0]] = {"vr": "UI", "Value": [syntax]}
    return found


def value_of(attributes: Attributes, keyword: str) -> str:
    """An attribute's first value as text; empty where there is none."""
    values = attributes.get(KEPT[keyword][0], {}).get("Value") or [""]
    return str(values[0]) if not isinstance(values[0], dict) else str(values[0].get("Alphabetic", ""))


def _element(dataset: Any, tag: str) -> dict[str, Any] | None:
    try:
        element = dataset.get(int(tag, 16))
        if element is None or element.VR == "SQ":
            return None
        written: dict[str, Any] = element.to_json_dict(None, 4096)
        return written if len(json.dumps(written)) <= 4096 and "InlineBinary" not in written else None
    except Exception:
        return None
