"""From the bytes of one encoded frame to stored samples: one decoder for each transfer syntax (PS3.5 Annex A).

Decoders were chosen for being right on 8 to 16 bits and for their licence: openjpeg for JPEG 2000, CharLS for JPEG-LS,
libjpeg through Pillow for baseline JPEG, GDCM for 12-bit and lossless JPEG, and the Rust decoder of pylibjpeg-rle. They
are imported when first needed. A codestream's own size is compared with the header before it is decoded, so that a
small header can't unpack into a huge picture.
"""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import numpy as np

from hilum.arrays import Array
from hilum.errors import FilmError
from hilum.imaging.jpeg_memory import ask_for_jpeg_memory

Frame = bytes | memoryview
"""An encoded frame, or where it lies in a file."""

DECODING = 12
"""Bytes a sample while a frame is decoded: 4 in openjpeg's planes, and copies on the way out."""

JPEG_SYNTAXES = tuple(f"1.2.840.10008.1.2.4.{last}" for last in ("50", "51", "57", "70"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleFormat:
    """The Image Pixel module of a film (PS3.3 C.7.6.3)."""

    rows: int
    """Height."""
    columns: int
    """Width."""
    samples: int
    """Samples per Pixel: 1 or 3."""
    allocated: int
    """Bits Allocated: 8 or 16."""
    stored: int
    """Bits Stored."""
    high_bit: int
    """High Bit."""
    signed: bool
    """Pixel Representation."""
    photometric: str
    """Photometric Interpretation."""
    planar: bool
    """Planar Configuration 1: colour by plane."""

    @property
    def dtype(self) -> "np.dtype[np.unsignedinteger]":
        """Little-endian unsigned container of a sample."""
        return np.dtype("<u1" if self.allocated == 8 else "<u2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Codestream:
    """What a codestream says of itself."""

    rows: int
    columns: int
    samples: int
    precision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """How one transfer syntax is read."""

    name: str
    """Name in PS3.6 table A-1, shortened."""
    decode: Callable[[Any, SampleFormat], Array] | None
    """From a frame to samples [h, w] or [h, w, 3]; ``None`` for native pixels."""
    inspect: Callable[[Any], Codestream] | None
    """Reads the codestream's own header, where it has one."""
    lossy: bool = False
    """True when the syntax itself implies loss."""
    streams: bool = False
    """True when a frame is read from where it lies; the others need its bytes by themselves."""


def decode_frame(frame: Frame, syntax: str, form: SampleFormat) -> Array:
    """Decode one encapsulated frame.

    Args:
        frame: its fragments, joined.
        syntax: transfer syntax UID, one of `CODECS` with a decoder.
        form: what the header says.

    Returns:
        Unsigned codes [h, w] or [h, w, 3], uint8 or uint16; signed samples keep their two's complement bits.

    Raises:
        FilmError: code "unreadable" when the codestream disagrees with the header or can't be decoded.
    """
    codec = CODECS[syntax]
    if codec.decode is None:
        raise FilmError(f"Transfer syntax {codec.name} is native, but its pixels come in fragments.", code="unreadable")
    content = frame if codec.streams else bytes(frame)
    check_codestream(content, syntax, form)
    try:
        samples = codec.decode(content, form)
    except (FilmError, MemoryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # decoders raise whatever they like; a panic of Rust's is not even an Exception
        ask_for_memory(form)
        raise FilmError(f"The {codec.name} pixel data are damaged and can't be decoded.", code="unreadable") from error
    expected = (form.rows, form.columns) if form.samples == 1 else (form.rows, form.columns, form.samples)
    if samples.shape != expected:
        raise FilmError(
            f"The {codec.name} pixel data decode to {samples.shape}, but the header says {expected}.", code="unreadable"
        )
    return samples.view(np.dtype(f"u{samples.dtype.itemsize}"))


def ask_for_memory(form: SampleFormat) -> None:
    """Ask for as much memory as a decoder may need for a frame, and give it back: for when one has failed, since most
    say the same of damage and of an allocation that fails.

    Raises:
        MemoryError: there is not so much.
    """
    np.empty(form.rows * form.columns * form.samples * DECODING, np.uint8)


def check_codestream(frame: Frame, syntax: str, form: SampleFormat) -> None:
    """Compare what a codestream says of itself, where it does, with the header.

    Args:
        frame: an encoded frame.
        syntax: transfer syntax UID, one of `CODECS`.
        form: what the header says.

    Raises:
        FilmError: code "unreadable".
    """
    codec = CODECS[syntax]
    if codec.inspect is not None:
        _compare(codec.inspect(frame), form, codec.name)


def native_samples(content: bytes | memoryview, form: SampleFormat, *, big_endian: bool, words: bool) -> Array:
    """Samples of uncompressed pixel data (PS3.5 section 8.1 and Annex A.1–A.3).

    Args:
        content: the element's value.
        form: what the header says.
        big_endian: the transfer syntax is explicit VR big endian.
        words: the element's VR is OW, so that big endian swaps the bytes of 8-bit samples too.

    Raises:
        FilmError: code "truncated" when bytes are missing.
    """
    subsampled = form.photometric == "YBR_FULL_422"
    count = form.rows * form.columns * (2 if subsampled else form.samples)
    needed = count * form.allocated // 8
    if len(content) < needed:
        raise FilmError(
            f"The file is truncated: {form.rows} × {form.columns} pixels need {needed:,} bytes, and Pixel Data "
            f"(7FE0,0010) holds {len(content):,}. Send it again.",
            code="truncated",
        )
    if big_endian and (form.allocated == 16 or words):
        content = np.frombuffer(content[: needed + needed % 2], ">u2").astype("<u2").tobytes()
    samples = np.frombuffer(content, form.dtype, count=count)
    if subsampled:
        return _spread_chroma(samples, form)
    if form.samples == 1:
        return samples.reshape(form.rows, form.columns)
    if form.planar:
        return samples.reshape(form.samples, form.rows, form.columns).transpose(1, 2, 0)
    return samples.reshape(form.rows, form.columns, form.samples)


def _spread_chroma(samples: Array, form: SampleFormat) -> Array:
    """PS3.3 C.7.6.3.1.2: YBR_FULL_422 stores Y Y Cb Cr for each two pixels of a row."""
    pairs = samples.reshape(-1, 4)
    full = np.empty((len(pairs), 2, 3), samples.dtype)
    full[:, :, 0] = pairs[:, :2]
    full[:, :, 1:] = pairs[:, None, 2:]
    return full.reshape(form.rows, form.columns, 3)


def _compare(found: Codestream, form: SampleFormat, name: str) -> None:
    said = (form.rows, form.columns, form.samples)
    if (found.rows, found.columns, found.samples) != said:
        raise FilmError(
            f"The {name} codestream is {found.rows} × {found.columns} with {found.samples} samples, but the header "
            f"says {form.rows} × {form.columns} with {form.samples}. The file was damaged or badly edited.",
            code="unreadable",
        )
    if not 1 <= found.precision <= 16:
        raise FilmError(
            f"The {name} codestream has {found.precision} bits a sample; 1 to 16 can be read.", code="unreadable"
        )


def _inspect_jpeg(frame: bytes) -> Codestream:
    """Read the frame header of a JPEG or JPEG-LS codestream (ITU-T T.81 B.2.2, T.87 C.2.2)."""
    at = 2
    if frame[:2] != b"\xff\xd8":
        raise FilmError("The JPEG codestream doesn't begin with SOI.", code="unreadable")
    while at + 9 < len(frame):
        if frame[at] != 0xFF:
            break
        marker = frame[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            precision, rows, columns, samples = struct.unpack(">BHHB", frame[at + 4 : at + 10])
            return Codestream(rows=rows, columns=columns, samples=samples, precision=precision)
        at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    raise FilmError("The JPEG codestream has no frame header.", code="unreadable")


def _check_jpeg_tables(frame: bytes) -> None:
    """Refuse what GDCM ends the whole process on: a scan that names tables that aren't there (T.81 B.2.3), a JFIF
    segment of another major version than 1 (T.871 10.1), an Adobe segment whose transform is none of one or three
    samples (T.872 6.5.3)."""
    damaged = FilmError("The JPEG codestream's tables are damaged or missing.", code="unreadable")
    at, huffman, steps, wanted = 2, set(), set(), set()
    lossless = False
    while at + 4 <= len(frame) and frame[at] == 0xFF:
        marker, length = frame[at + 1], int.from_bytes(frame[at + 2 : at + 4], "big")
        if marker == 0xFF:
            at += 1
            continue
        content = frame[at + 4 : at + 2 + length]
        if length < 2 or len(content) != length - 2:
            raise damaged
        if (marker == 0xE0 and content[:5] == b"JFIF\0" and content[5:6] != b"\1") or (
            marker == 0xEE and content[:5] == b"Adobe" and content[11:12] not in (b"\0", b"\1")
        ):
            raise FilmError("The JPEG codestream's application segment is damaged.", code="unreadable")
        if marker == 0xC4:
            huffman |= _huffman_tables(content, damaged)
        elif marker == 0xDB:
            while content:
                steps.add(content[0] & 15)
                content = content[129 if content[0] >> 4 else 65 :]
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC8, 0xCC):
            lossless = marker == 0xC3
            wanted = set(content[8::3])
        elif marker == 0xDA:
            selectors = content[2 : 1 + 2 * content[0] : 2] if content else b""
            needed = {one >> 4 for one in selectors} | (set() if lossless else {16 | (one & 15) for one in selectors})
            if not selectors or not needed <= huffman or not (lossless or wanted <= steps):
                raise damaged
            return
        at += 2 + length
    raise damaged


def _huffman_tables(content: bytes, damaged: FilmError) -> set[int]:
    """Class and number of each table of a DHT segment, as 16 × class + number (T.81 B.2.4.2)."""
    found = set()
    while content:
        symbols = sum(content[1:17])
        if len(content) < 17 + symbols or symbols > 256:
            raise damaged
        found.add(content[0])
        content = content[17 + symbols :]
    return found


def _inspect_jpeg_2000(frame: Frame) -> Codestream:
    """Read the SIZ marker of a JPEG 2000 codestream, also behind a (non-conformant) JP2 header (ISO 15444-1 A.5.1)."""
    head = bytes(frame[: 4096 + 43])
    start = head.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start < 0 or len(head) < start + 43:
        raise FilmError("The JPEG 2000 codestream has no SIZ marker.", code="unreadable")
    right, bottom, left, top = struct.unpack(">4L", head[start + 8 : start + 24])
    samples, depth = struct.unpack(">HB", head[start + 40 : start + 43])
    return Codestream(rows=bottom - top, columns=right - left, samples=samples, precision=(depth & 0x7F) + 1)


def _rle(frame: bytes, form: SampleFormat) -> Array:
    from rle.rle import decode_frame as decode  # type: ignore[import-not-found]

    decoded = np.frombuffer(decode(frame, form.rows * form.columns, form.allocated, "<"), form.dtype)
    planes = decoded.reshape(form.samples, form.rows, form.columns)
    return planes[0] if form.samples == 1 else np.ascontiguousarray(planes.transpose(1, 2, 0))


def _jpeg_2000(frame: Frame, form: SampleFormat) -> Array:
    from openjpeg.utils import decode

    decoded: Array = decode(cast(BinaryIO, FrameStream(frame)))
    return decoded


class FrameStream:
    """A frame as openjpeg reads it, part by part from where it lies: as much of a binary file as it asks for."""

    def __init__(self, frame: Frame) -> None:
        self.frame, self.at = memoryview(frame), 0

    def read(self, count: int = -1) -> bytes:
        end = len(self.frame) if count < 0 else self.at + count
        part = bytes(self.frame[self.at : end])
        self.at += len(part)
        return part

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: len(self.frame)}[whence]
        self.at = max(0, start + offset)
        return self.at


def _jpeg_ls(frame: bytes, form: SampleFormat) -> Array:
    from jpeg_ls import decode_pixel_data  # type: ignore[import-untyped]

    if not frame[-8:].rstrip(b"\0").endswith(b"\xff\xd9"):
        raise ValueError("no end marker (EOI)")  # CharLS would look for it beyond the end, for ever
    buffer, info = decode_pixel_data(frame)
    decoded = np.frombuffer(buffer, "<u1" if info["bits_per_sample"] <= 8 else "<u2")
    if form.samples == 1:
        return decoded.reshape(form.rows, form.columns)
    if info["interleave_mode"] == 0:
        planes = decoded.reshape(form.samples, form.rows, form.columns)
        return np.ascontiguousarray(planes.transpose(1, 2, 0))
    return decoded.reshape(form.rows, form.columns, form.samples)


def _jpeg_8_bit(frame: bytes, form: SampleFormat) -> Array:
    from PIL import Image

    with Image.open(io.BytesIO(frame), formats=("JPEG",)) as image:
        if form.samples == 3 and form.photometric == "RGB" and "adobe_transform" not in image.info:
            # Without a marker libjpeg takes three samples for YCbCr; the header says they are RGB, so leave them be.
            image.draft("YCbCr", image.size)
        try:
            return np.asarray(image)
        except OSError:
            ask_for_jpeg_memory(frame)
            raise


def jpeg_precision(frame: bytes) -> int:
    """Bits of a sample by the frame's own header."""
    return _inspect_jpeg(frame).precision


def _jpeg_extended(frame: bytes, form: SampleFormat) -> Array:
    if jpeg_precision(frame) == 8:
        return _jpeg_8_bit(frame, form)
    return by_gdcm(frame, form, "1.2.840.10008.1.2.4.51")


def _jpeg_lossless(frame: bytes, form: SampleFormat) -> Array:
    return by_gdcm(frame, form, "1.2.840.10008.1.2.4.57")


def by_gdcm(frame: bytes, form: SampleFormat, syntax: str) -> Array:
    """Decode a frame by GDCM: samples of the container's width, two's complement where they are signed."""
    import gdcm

    if syntax in JPEG_SYNTAXES:
        _check_jpeg_tables(frame)

    # GDCM tries an 8-bit decoder first and complains on stderr before it takes the right one.
    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((form.columns, form.rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType("RGB" if form.samples == 3 else "MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    image.SetPixelFormat(gdcm.PixelFormat(form.samples, form.allocated, form.stored, form.stored - 1, int(form.signed)))
    # The binding hands a char* over as str; surrogateescape gives the bytes back.
    content = image.GetBuffer().encode("utf-8", "surrogateescape")
    shape = (form.rows, form.columns) if form.samples == 1 else (form.rows, form.columns, form.samples)
    return np.frombuffer(content, form.dtype).reshape(shape)


def by_libjpeg_turbo(frame: bytes) -> Array:
    """Decode a JPEG frame of any process and of 2 to 16 bits: samples as they are coded, uint8 up to 8 bits."""
    from imagecodecs import jpeg8_decode

    decoded: Array = jpeg8_decode(frame)
    return decoded


# PS3.6 table A-1. 57 and 70 differ in the predictor alone, 80 and 81, 90 and 91 in whether loss is allowed.
CODECS: dict[str, Codec] = {
    "1.2.840.10008.1.2": Codec(name="Implicit VR Little Endian", decode=None, inspect=None),
    "1.2.840.10008.1.2.1": Codec(name="Explicit VR Little Endian", decode=None, inspect=None),
    "1.2.840.10008.1.2.1.99": Codec(name="Deflated Explicit VR Little Endian", decode=None, inspect=None),
    "1.2.840.10008.1.2.2": Codec(name="Explicit VR Big Endian", decode=None, inspect=None),
    "1.2.840.10008.1.2.4.50": Codec(name="JPEG Baseline", decode=_jpeg_8_bit, inspect=_inspect_jpeg, lossy=True),
    "1.2.840.10008.1.2.4.51": Codec(name="JPEG Extended", decode=_jpeg_extended, inspect=_inspect_jpeg, lossy=True),
    "1.2.840.10008.1.2.4.57": Codec(name="JPEG Lossless", decode=_jpeg_lossless, inspect=_inspect_jpeg),
    "1.2.840.10008.1.2.4.70": Codec(name="JPEG Lossless SV1", decode=_jpeg_lossless, inspect=_inspect_jpeg),
    "1.2.840.10008.1.2.4.80": Codec(name="JPEG-LS Lossless", decode=_jpeg_ls, inspect=_inspect_jpeg),
    "1.2.840.10008.1.2.4.81": Codec(name="JPEG-LS Near-lossless", decode=_jpeg_ls, inspect=_inspect_jpeg),
    "1.2.840.10008.1.2.4.90": Codec(
        name="JPEG 2000 Lossless", decode=_jpeg_2000, inspect=_inspect_jpeg_2000, streams=True
    ),
    "1.2.840.10008.1.2.4.91": Codec(name="JPEG 2000", decode=_jpeg_2000, inspect=_inspect_jpeg_2000, streams=True),
    "1.2.840.10008.1.2.5": Codec(name="RLE Lossless", decode=_rle, inspect=None),
}

_JPEG = "1.2.840.10008.1.2.4."
WITHOUT_DECODER: dict[str, tuple[str, ...]] = {
    "HTJ2K": tuple(_JPEG + last for last in ("201", "202", "203")),
    "JPEG XL": tuple(_JPEG + last for last in ("110", "111", "112")),
    "JPEG 2000 Part 2": tuple(_JPEG + last for last in ("92", "93")),
    "JPIP": tuple(_JPEG + last for last in ("94", "95", "204", "205")),
    "Encapsulated Uncompressed": ("1.2.840.10008.1.2.1.98",),
    "Deflated Image Frame": ("1.2.840.10008.1.2.8.1",),
}
"""Transfer syntaxes in force for single pictures that nothing here decodes (PS3.6 table A-1), by shortened names."""
