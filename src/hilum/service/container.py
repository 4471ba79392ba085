"""What kind of file a film came in, told from its first bytes; nothing is decoded here."""

import struct
from dataclasses import dataclass

from hilum.service.refusals import Refused

HEAD_BYTES = 64 * 1024
"""So many first bytes are looked at; a File Meta Information group longer than this is refused."""

PREAMBLE_BYTES = 128
LONG_VRS = frozenset((b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A recognised kind of file."""

    format: str
    """``dicom``, ``png`` or ``jpeg``."""
    content_starts: int
    """Offset of the data set in a DICOM file; 0 in the others."""
    content_prefix: bytes
    """What the content's digest begins with: the kind and, for DICOM, the transfer syntax."""


def recognise(head: bytes) -> Container:
    """Tell the kind of file.

    A DICOM file's identity is its transfer syntax and its data set, so that the same film sent by C-STORE and by REST
    (whose preamble and File Meta Information differ) is one film.

    Args:
        head: the first :data:`HEAD_BYTES` bytes, or all when there are fewer.

    Raises:
        Refused: ``unsupported`` or ``empty``.
    """
    if not head:
        raise Refused("The film is empty (0 bytes). Send the whole file.", code="empty")
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return Container(format="png", content_starts=0, content_prefix=b"png\0")
    if head.startswith(b"\xff\xd8\xff"):
        return Container(format="jpeg", content_starts=0, content_prefix=b"jpeg\0")
    if head[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] == b"DICM":
        return _dicom(head)
    raise Refused("The body is none of DICOM (Part 10 file), PNG and JPEG. Send one of these.", code="unsupported")


def _dicom(head: bytes) -> Container:
    """Walk the File Meta Information (PS3.10 section 7.1: group 0002, Explicit VR Little Endian)."""
    at, syntax = PREAMBLE_BYTES + 4, b""
    while head[at : at + 2] == b"\x02\x00":
        if head[at + 4 : at + 6] in LONG_VRS:
            length, start = struct.unpack("<I", head[at + 8 : at + 12].ljust(4, b"\xff"))[0], at + 12
        else:
            length, start = struct.unpack("<H", head[at + 6 : at + 8].ljust(2, b"\xff"))[0], at + 8
        if start + length > len(head):
            raise Refused(
                "The DICOM file's meta information is damaged or longer than 64 KiB. Send the file as it was written.",
                code="unsupported",
            )
        if head[at + 2 : at + 4] == b"\x10\x00":  # (0002,0010) Transfer Syntax UID
            syntax = head[start : start + length].rstrip(b"\0 ")
        at = start + length
    return Container(format="dicom", content_starts=at, content_prefix=b"dicom\0" + syntax + b"\0")
