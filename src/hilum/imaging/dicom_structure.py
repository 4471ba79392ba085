"""A walk over the data elements of a DICOM file that trusts none of its lengths.

pydicom recurses into sequences (it overflows Python's stack near 249 levels) and reads as much as a length says, so
this walk comes first: without recursion, without reading values, and with every number checked (PS3.5 section 7).
"""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from hilum.errors import FilmError
from hilum.imaging.limits import Limits

# PS3.5 tables 7.1-1 and 7.1-2: the first have two reserved bytes and a length of 32 bits, the others one of 16.
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
UNDEFINED = 0xFFFFFFFF
TRANSFER_SYNTAX_UID = 0x00020010
PIXEL_DATA = 0x7FE00010
FLOAT_PIXEL_DATA = (0x7FE00008, 0x7FE00009)
SPECIAL_GROUPS = (0x7FE0, 0xFFFE)
"""Of pixels and of items."""
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
# By byte order: an element's tag, value representation and short length; and a length of 32 bits.
HEADERS = {order: (struct.Struct(order + "HH2sH"), struct.Struct(order + "L")) for order in "<>"}
DEFLATED, BIG_ENDIAN, IMPLICIT = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """What the walk found.

    Attributes:
        transfer_syntax: UID from the file meta information.
        elements: data elements and items, nested ones counted, pixels excluded.
        depth: deepest nesting of sequences.
        pixels: tag of the element that holds the pixels, or ``None``.
        pixel_bytes: its length, the item headers of fragments included.
        fragments: fragments of encapsulated pixels, the offset table excluded; 0 for native pixels.
        pixels_at: where in the file the bytes of native pixels, or of an only fragment, begin; ``None`` for several
            fragments, and in a deflated file.
        pixels_end: where they end.
        header_at: where the data set begins, behind the file meta information.
        header_end: where the element of the pixels begins; ``None`` without pixels, and in a deflated file.
    """

    transfer_syntax: str
    elements: int
    depth: int
    pixels: int | None
    pixel_bytes: int
    fragments: int
    pixels_at: int | None = None
    pixels_end: int = 0
    header_at: int = 0
    header_end: int | None = None


def examine(source: bytes | memoryview | BinaryIO, limits: Limits) -> Structure:
    """Walk over a DICOM file with a preamble, to its pixels and over them.

    Args:
        source: its bytes, or a seekable file, of which values are skipped and not read.
        limits: bounds on elements, depth, header bytes and inflated bytes.

    Raises:
        FilmError: code "truncated", "too-large" or "unreadable".
    """
    meta = _Walk(source, limits)
    meta.at = 132
    syntax = meta.file_meta()
    header_at = meta.at
    walk = meta
    if syntax == DEFLATED:
        walk = _Walk(inflate(meta.bytes_at(meta.at, meta.size - meta.at), limits), limits)
    walk.short, walk.long = HEADERS[">" if syntax == BIG_ENDIAN else "<"]
    walk.dataset(implicit=syntax == IMPLICIT)
    return Structure(
        transfer_syntax=syntax,
        elements=walk.elements,
        depth=walk.depth,
        pixels=walk.pixels,
        pixel_bytes=walk.pixel_bytes,
        fragments=walk.fragments,
        pixels_at=walk.pixels_at if walk is meta else None,
        pixels_end=walk.pixels_end,
        header_at=header_at,
        header_end=walk.header_end if walk is meta else None,
    )


def inflate(content: bytes, limits: Limits) -> bytes:
    """Inflate a raw deflate stream (PS3.5 A.5), never beyond the limit.

    Raises:
        FilmError: code "too-large", "truncated" or "unreadable".
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(content, limits.max_bytes + 1)
    except zlib.error as error:
        raise FilmError("The deflated data set is damaged and can't be inflated.", code="unreadable") from error
    if len(inflated) > limits.max_bytes:
        raise FilmError(
            f"The deflated data set inflates to more than the {limits.max_bytes:,} bytes allowed.", code="too-large"
        )
    if not inflater.eof:
        raise FilmError("The deflated data set ends before its end marker.", code="truncated")
    return inflated


def _reading(source: bytes | memoryview | BinaryIO) -> tuple[Callable[[int, int], bytes], int]:
    """How bytes are taken, from where on and how many, and how many there are."""
    if isinstance(source, bytes | memoryview):
        return lambda at, count: bytes(source[at : at + count]), len(source)

    def read(at: int, count: int) -> bytes:
        source.seek(at)
        return source.read(count)

    return read, source.seek(0, io.SEEK_END)


@dataclass(frozen=True, slots=True)
class _Open:
    """A sequence or an item that the walk is inside of; end is ``None`` when a delimiter closes it."""

    is_sequence: bool
    implicit: bool
    end: int | None


class _Walk:
    """Position and counts of one walk."""

    def __init__(self, source: bytes | memoryview | BinaryIO, limits: Limits) -> None:
        self.limits = limits
        self.bytes_at, self.size = _reading(source)
        self.at = 0
        self.short, self.long = HEADERS["<"]
        self.elements = self.depth = self.pixel_bytes = self.fragments = 0
        self.pixels: int | None = None
        self.pixels_at: int | None = None
        self.pixels_end = 0
        self.header_end: int | None = None

    def file_meta(self) -> str:
        """Walk over group 0002 (always explicit, little endian) and return the transfer syntax."""
        syntax = ""
        while self.at + 8 <= self.size and self._peek_group() == 0x0002:
            tag, _, length = self._header(implicit=False)
            if length == UNDEFINED:
                raise FilmError("File meta information holds a value without a length.", code="unreadable")
            if tag == TRANSFER_SYNTAX_UID:
                if length > 66:
                    raise FilmError(f"Transfer Syntax UID has {length} characters; 64 fit.", code="unreadable")
                syntax = self._read(length).rstrip(b"\0 ").decode("ascii", "replace")
            else:
                self._skip(length)
        if not syntax:
            raise FilmError(
                "Transfer Syntax UID (0002,0010) is missing, so the file can't be read. Send it again.",
                code="unreadable",
            )
        return syntax

    def dataset(self, *, implicit: bool) -> None:
        """Walk over the data set up to and over the pixels."""
        if not implicit and self.at + 6 <= self.size:
            # Some writers declare explicit VRs and write implicit ones; pydicom looks at the first element too.
            vr = self.bytes_at(self.at + 4, 2)
            implicit = not (vr.isalpha() and vr.isupper())
        stack: list[_Open] = []
        while True:
            while stack and stack[-1].end is not None and self.at >= stack[-1].end:
                stack.pop()
            if not stack:
                self._plain(implicit)
                if self.at >= self.size or self._element(stack, None, implicit):
                    return
            elif self._element(stack, stack[-1], stack[-1].implicit):
                return

    def _plain(self, implicit: bool) -> None:
        """Walk over plain values of the data set itself, most of a header, in few steps each.

        It stops before whatever else there is: sequences, items, pixels, what is wrong, and what a limit forbids.
        """
        at, elements = self.at, self.elements
        most = min(self.size, self.limits.max_header_bytes)
        while elements < self.limits.max_elements and at + 8 <= most:
            head = self.bytes_at(at, 8)
            group, _, vr, length = self.short.unpack(head)
            if implicit:
                length = self.long.unpack_from(head, 4)[0]
            elif vr not in SHORT_VRS:
                break
            if group in SPECIAL_GROUPS or length > most - at - 8:
                break
            at += 8 + length
            elements += 1
        self.at, self.elements = at, elements

    def _element(self, stack: list[_Open], inner: _Open | None, implicit: bool) -> bool:
        """Walk over one element or item; True when the pixels were reached."""
        start = self.at
        tag, vr, length = self._header(implicit=implicit)
        self._count()
        if tag in (ITEM_END, SEQUENCE_END):
            if inner is None or inner.is_sequence != (tag == SEQUENCE_END):
                raise FilmError(f"A delimiter stands where none belongs, at byte {self.at - 8}.", code="unreadable")
            stack.pop()
        elif inner is not None and inner.is_sequence:
            if tag != ITEM:
                raise FilmError(
                    f"A sequence holds something other than items, at byte {self.at - 8}.", code="unreadable"
                )
            stack.append(_Open(False, inner.implicit, self._end(length)))
        elif inner is None and (tag == PIXEL_DATA or tag in FLOAT_PIXEL_DATA):
            self.pixels, self.header_end = tag, start
            self._pixels(length)
            return True
        elif vr == b"SQ" or length == UNDEFINED:
            self._enter(stack, _Open(True, implicit or vr == b"UN", self._end(length)))
        else:
            self._skip(length)
            if inner is None and self.at > self.limits.max_header_bytes:
                raise FilmError(
                    f"The header is longer than the {self.limits.max_header_bytes:,} bytes allowed.", code="too-large"
                )
        return False

    def _enter(self, stack: list[_Open], sequence: _Open) -> None:
        stack.append(sequence)
        self.depth = max(self.depth, sum(one.is_sequence for one in stack))
        if self.depth > self.limits.max_depth:
            raise FilmError(
                f"Sequences are nested more than {self.limits.max_depth} deep, which no film needs.", code="too-large"
            )

    def _pixels(self, length: int) -> None:
        start = self.at
        if length != UNDEFINED:
            self._skip(length)
            self.pixels_at, self.pixels_end, self.pixel_bytes = start, self.at, length
            return
        while True:
            tag, _, length = self._header(implicit=True)
            if tag == SEQUENCE_END:
                break
            if tag != ITEM or length == UNDEFINED:
                raise FilmError("Encapsulated pixel data hold something other than fragments.", code="unreadable")
            self._count()
            self.pixels_at = self.at
            self._skip(length)
            self.pixels_end = self.at
            self.fragments += 1
        # The first item is the basic offset table (PS3.5 A.4), which may be empty but is always there.
        self.fragments = max(0, self.fragments - 1)
        self.pixel_bytes = self.at - start
        if self.fragments != 1:
            self.pixels_at = None

    def _count(self) -> None:
        self.elements += 1
        if self.elements > self.limits.max_elements:
            raise FilmError(
                f"The file has more than the {self.limits.max_elements:,} data elements allowed.", code="too-large"
            )

    def _peek_group(self) -> int:
        return int.from_bytes(self.bytes_at(self.at, 2), "little")

    def _header(self, *, implicit: bool) -> tuple[int, bytes, int]:
        """Tag, value representation and length of the next element."""
        head = self._read(8)
        group, element, vr, length = self.short.unpack(head)
        tag = group << 16 | element
        if implicit or group == 0xFFFE:
            return tag, b"", self.long.unpack_from(head, 4)[0]
        if vr in LONG_VRS:
            return tag, vr, self.long.unpack(self._read(4))[0]
        if not (vr.isalpha() and vr.isupper()):
            raise FilmError(f"Data element ({group:04X},{element:04X}) has no value representation.", code="unreadable")
        return tag, vr, length

    def _end(self, length: int) -> int | None:
        if length == UNDEFINED:
            return None
        self._check_fits(length)
        return self.at + length

    def _read(self, count: int) -> bytes:
        self._check_fits(count)
        self.at += count
        return self.bytes_at(self.at - count, count)

    def _skip(self, length: int) -> None:
        if length == UNDEFINED:
            raise FilmError("A value has no length where it must have one.", code="unreadable")
        self._check_fits(length)
        self.at += length

    def _check_fits(self, length: int) -> None:
        if self.at + length > self.size:
            raise FilmError(
                f"The file is truncated: {length:,} bytes are announced at byte {self.at:,}, and only "
                f"{max(0, self.size - self.at):,} are left. Send it again.",
                code="truncated",
            )
