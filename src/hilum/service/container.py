"""What kind of file a film came in, told from its first bytes, and what is kept of them; nothing is decoded here."""

import struct
from dataclasses import dataclass

from hilum.imaging.dicom_structure import LONG_VRS
from hilum.service.refusals import Refused

HEAD_BYTES = 64 * 1024
"""So many first bytes are looked at; a File Meta Information group longer than this is refused."""

PREAMBLE_BYTES = 128
LONGEST_UID = 64
SOP_CLASS, SOP_INSTANCE, SYNTAX = b"\x02\x00", b"\x03\x00", b"\x10\x00"
"""Element numbers of Media Storage SOP Class UID, Media Storage SOP Instance UID and Transfer Syntax UID."""

IMPLEMENTATION = b"2.25.264911737201870532921839437261528830927"
"""(0002,0012) of every kept film. It is in the bytes that a film is known by: no release may change it."""

IMPLEMENTATION_VERSION = b"HILUM"
"""(0002,0013) of every kept film, as fixed, so without a version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A recognised kind of file."""

    format: str
    """``dicom``, ``png`` or ``jpeg``."""
    content_starts: int
    """Offset of the data set in a DICOM file; 0 in the others."""
    kept_head: bytes
    """What is kept in place of the bytes before that."""
    named_uid: str | None
    """Media Storage SOP Instance UID, where it is ASCII; a claim until the data set was read."""
    syntax: bytes
    """Transfer Syntax UID of a DICOM file; empty where there is none, and for the others."""


def recognise(head: bytes) -> Container:
    """Tell the kind of file.

    A DICOM file is kept under File Meta Information of our own, which depends on its SOP class, SOP instance and
    transfer syntax alone: so the same film by C-STORE and by REST, whose preamble and File Meta Information differ, is
    the same bytes.

    Args:
        head: the first :data:`HEAD_BYTES` bytes, or all when there are fewer.

    Raises:
        Refused: ``unsupported`` or ``empty``.
    """
    if not head:
        raise Refused("The film is empty (0 bytes). Send the whole file.", code="empty")
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return Container(format="png", content_starts=0, kept_head=b"", named_uid=None, syntax=b"")
    if head.startswith(b"\xff\xd8\xff"):
        return Container(format="jpeg", content_starts=0, kept_head=b"", named_uid=None, syntax=b"")
    if head[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] == b"DICM":
        return _dicom(head)
    raise Refused("The body is none of DICOM (Part 10 file), PNG and JPEG. Send one of these.", code="unsupported")


def _dicom(head: bytes) -> Container:
    """Walk the File Meta Information (PS3.10 section 7.1: group 0002, Explicit VR Little Endian)."""
    at, syntax = PREAMBLE_BYTES + 4, b""
    uids: dict[bytes, bytes] = {}
    while head[at : at + 2] == b"\x02\x00":
        number, vr = head[at + 2 : at + 4], head[at + 4 : at + 6]
        if vr in LONG_VRS:
            length, start = struct.unpack("<I", head[at + 8 : at + 12].ljust(4, b"\xff"))[0], at + 12
        else:
            length, start = struct.unpack("<H", head[at + 6 : at + 8].ljust(2, b"\xff"))[0], at + 8
        if start + length > len(head):
            raise Refused(
                "The DICOM file's meta information is damaged or longer than 64 KiB. Send the file as it was written.",
                code="unsupported",
            )
        value = head[start : start + length].rstrip(b"\0 ")
        if number == SYNTAX:
            syntax = value
        uids[number] = value if vr == b"UI" and len(value) <= LONGEST_UID else b""
        at = start + length
    sop_class, sop_instance = uids.get(SOP_CLASS), uids.get(SOP_INSTANCE)
    if sop_class and sop_instance and uids.get(SYNTAX):
        kept = own_head(sop_class, sop_instance, syntax)
    else:  # nobody can say what is missing, so the sender's own head is part of what this film is
        kept = bytes(PREAMBLE_BYTES) + head[PREAMBLE_BYTES:at]
    return Container(
        format="dicom",
        content_starts=at,
        kept_head=kept,
        named_uid=sop_instance.decode() if sop_instance and sop_instance.isascii() else None,
        syntax=syntax,
    )


def own_head(sop_class: bytes, sop_instance: bytes, syntax: bytes) -> bytes:
    """Preamble, prefix and File Meta Information of a kept film (PS3.10 table 7.1-1).

    Args:
        sop_class: Media Storage SOP Class UID, without padding.
        sop_instance: Media Storage SOP Instance UID, without padding.
        syntax: Transfer Syntax UID, without padding.
    """
    group = b"\x02\x00\x01\x00OB\0\0\x02\x00\x00\x00\x00\x01"
    for number, value in ((SOP_CLASS, sop_class), (SOP_INSTANCE, sop_instance), (SYNTAX, syntax)):
        group += _element(number, b"UI", value + b"\0" * (len(value) % 2))
    group += _element(b"\x12\x00", b"UI", IMPLEMENTATION + b"\0" * (len(IMPLEMENTATION) % 2))
    group += _element(b"\x13\x00", b"SH", IMPLEMENTATION_VERSION + b" " * (len(IMPLEMENTATION_VERSION) % 2))
    return bytes(PREAMBLE_BYTES) + b"DICM" + _element(b"\0\0", b"UL", struct.pack("<I", len(group))) + group


def _element(number: bytes, vr: bytes, value: bytes) -> bytes:
    return b"\x02\x00" + number + vr + struct.pack("<H", len(value)) + value
