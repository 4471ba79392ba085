"""Films decoded at a fraction of their size, where nothing but a tile and measures of it are asked for.

JPEG and JPEG 2000 keep coarse pictures inside fine ones: libjpeg inverts a part of each block's cosines, and a decoder
of JPEG 2000 stops before the finest wavelets (ISO 15444-1, "reduced resolution"). At 3,000 × 3,000 that saves nine
tenths of the decoding. A tile made so differs from the exact one by little: by half a grey level of 255 in the mean and
by 12 at most (``tests/imaging/test_reduced_reading.py``). Lines a few pixels thin that were drawn or laid on a film, a
marker's frame, a tube, a wire, differ by more than anatomy does, since wavelets don't average: by 16 in 999 of 1,000
pixels and by 40 in any (``tests/imaging/test_reduced_phantoms.py``). It is made only where that was measured, and only
when `Preprocessing.decoding` asks for it, so that training and service agree.

What the decoder leaves out, it doesn't see. Baseline JPEG is read to its last bit at any size. Of JPEG 2000 the headers
of all packets are read, and tile-parts are followed to the end marker: a codestream that is cut short, lacks its end or
has lost its place is found as it is when it is decoded whole; where that isn't known `ReducedFilm.checked` is False.
Bits that changed within the finest wavelets are not seen; decoded whole they refuse no film either, but show as spots
(``tests/imaging/test_reduced_damage.py``).
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar, cast

import numpy as np

from hilum.arrays import Array, Pixels, Tile
from hilum.errors import FilmError
from hilum.imaging.codecs import Frame, FrameStream
from hilum.imaging.dicom_reading import EncodedFilm, encoded_film, is_dicom
from hilum.imaging.limits import Limits
from hilum.imaging.pixel_order import PixelOrder, Window, present
from hilum.imaging.preprocessing import Preprocessing, geometry, tile_from_averages
from hilum.imaging.radiograph import FilmFacts
from hilum.imaging.raster_reading import read_raster_facts

T = TypeVar("T")

OVERSAMPLING = 3
"""A reduced film has at least this many pixels for each pixel of the tile, each way."""

MOST = 8
"""Largest reduction; libjpeg knows no larger one."""

SMALLEST_JPEG_2000 = 1024
"""Fewer rows or columns are decoded whole: on films that were made small before, wavelets cut into what can be seen
(mean difference up to 0.8 of 255 on films of 448 pixels), and there is nothing to save."""

JPEG_SYNTAX = "1.2.840.10008.1.2.4.50"
JPEG_2000_SYNTAXES = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReducedFilm:
    """A film at a fraction of its size.

    Attributes:
        pixels: uint16 [⌈h / scale⌉, ⌈w / scale⌉], 0 black … 65535 white.
        shape: height and width of the whole film.
        scale: pixels of the film along one side of a reduced pixel: 2, 4 or 8.
        shift: how far, in halves of a film's pixel, a reduced pixel's middle lies before that of the pixels it stands
            for: 0 for JPEG, scale − 1 for JPEG 2000, whose coarse samples sit on the first of them.
        checked: whether a film that is refused when it is decoded whole would have been refused here, as far as is
            known.
        facts: what the file says.
        flags: oddities that the reader worked around, as of the whole film.
    """

    pixels: Pixels
    shape: tuple[int, int]
    scale: int
    shift: int
    checked: bool
    facts: FilmFacts
    flags: tuple[str, ...] = ()


def read_reduced(content: bytes, preprocessing: Preprocessing, limits: Limits) -> ReducedFilm | None:
    """Decode a film at the size that a tile needs.

    Args:
        content: the file.
        preprocessing: how the tile will be made.
        limits: as for `hilum.imaging.reading.read_film`.

    Returns:
        The reduced film; ``None`` where the film has to be decoded whole: another encoding, colour, no size to spare,
        or grey values that don't commute with averaging (padding, look-up tables, sigmoids, a stretch over the range
        in use, values beyond the window).

    Raises:
        FilmError: the file is damaged.
    """
    decode = reducible(content, preprocessing, limits)
    return None if decode is None else decode()


Decoding = Callable[[], ReducedFilm | None]
"""Decodes a film at reduced size, if it can be."""


def reducible(content: bytes | memoryview, preprocessing: Preprocessing, limits: Limits) -> Decoding | None:
    """What `read_reduced` does after it has read the header: the most of its time.

    Returns:
        ``None`` where the header shows that the film has to be decoded whole.

    Raises:
        FilmError: the file is damaged.
    """
    if is_dicom(content[:132]):
        film = encoded_film(content, limits, (JPEG_SYNTAX, *JPEG_2000_SYNTAXES))
        return None if film is None else _from_dicom(film, preprocessing)
    if content[:3] == b"\xff\xd8\xff":
        jpeg = bytes(content)
        facts = read_raster_facts(io.BytesIO(jpeg), "jpeg", limits)
        return lambda: _from_jpeg(jpeg, PixelOrder(bits=8), facts, (), preprocessing)
    return None


def reduced_tile(film: ReducedFilm, config: Preprocessing) -> Tile:
    """The tile of a reduced film: the same areas averaged as in `hilum.imaging.preprocessing.preprocess`."""
    where = geometry(film.shape, config)
    rows = _averaged(film.pixels, film, where.top, where.height, where.tile_height)
    both = _averaged(np.ascontiguousarray(rows.T), film, where.left, where.width, where.tile_width).T
    return tile_from_averages(both / (4.0 * where.height * where.width), where, config)


def _averaged(pixels: Array, film: ReducedFilm, start: int, length: int, cells: int) -> Array:
    """Rows summed under each cell of a grid, in whole numbers [cells, w]: 2 × length is the weight of a cell.

    A cell's edge lies at start + i · length / cells on the film, and at that plus shift / 2, over scale, on the reduced
    film; both are counted in 1 / (2 · scale · cells) of a reduced pixel.
    """
    parts = 2 * film.scale * cells
    edges = 2 * (start * cells + np.arange(cells + 1, dtype=np.int64) * length) + film.shift * cells
    first, before = edges[:-1] // parts, edges[:-1] % parts
    end, after = edges[1:] // parts, edges[1:] % parts
    # Whole numbers, exact whatever the order: a cell's weights add up to 2 × length.
    kind = np.uint64 if int(pixels.max()) * 2 * length >= 1 << 32 else np.uint32
    found: Array = np.zeros((cells, pixels.shape[1]), kind)
    for step in range(int((end - first).max()) + 1):
        at = first + step
        weight = np.where(at < end, parts, np.where(at == end, after, 0)) - np.where(step == 0, before, 0)
        # Beyond the last pixel, where a reduced film may end half a pixel early, its value goes on.
        found += pixels[np.minimum(at, len(pixels) - 1)] * weight[:, None].astype(kind)
    return found


def _scale(rows: int, columns: int, preprocessing: Preprocessing, most: int) -> int:
    """The largest power of two that leaves enough pixels for each of the tile's; 1 where none does."""
    where = geometry((rows, columns), preprocessing)
    spare = min(where.height // where.tile_height, where.width // where.tile_width) // OVERSAMPLING
    scale = 1
    while scale * 2 <= min(spare, most):
        scale *= 2
    return scale


def _from_dicom(film: EncodedFilm, preprocessing: Preprocessing) -> Decoding | None:
    form, order = film.form, film.order
    if form.high_bit != form.stored - 1 or order.padding is not None or not isinstance(order.modality, tuple):
        return None
    linear = isinstance(order.voi, Window) and order.voi.function != "SIGMOID"
    if not (linear or (order.voi is None and form.stored == 8)):
        return None
    if film.syntax != JPEG_SYNTAX:
        return lambda: _from_jpeg_2000(film, preprocessing)
    if form.stored != 8 or form.signed:
        return None
    return lambda: _from_jpeg(bytes(film.frame), order, film.facts, film.flags, preprocessing)


def _from_jpeg(
    frame: bytes, order: PixelOrder, facts: FilmFacts, flags: tuple[str, ...], preprocessing: Preprocessing
) -> ReducedFilm | None:
    rows, columns = facts.rows or 0, facts.columns or 0
    scale = _scale(rows, columns, preprocessing, MOST)
    if scale == 1 or frame.count(b"\xff\xda") > 1:  # progressive pictures cost their scans whatever the size
        return None

    def decode() -> Array | None:
        with _opened(frame, "JPEG") as image:
            if image.mode != "L" or image.size != (columns, rows) or image.getexif().get(0x0112, 1) != 1:
                return None
            image.draft("L", (columns // scale, rows // scale))
            return np.asarray(image)

    codes = _or_none(decode)
    if codes is None or codes.shape != (-(-rows // scale), -(-columns // scale)) or _beyond_window(codes, order):
        return None
    pixels = present(codes, order)
    return ReducedFilm(
        pixels=pixels, shape=(rows, columns), scale=scale, shift=0, checked=True, facts=facts, flags=flags
    )


def _from_jpeg_2000(film: EncodedFilm, preprocessing: Preprocessing) -> ReducedFilm | None:
    form = film.form
    header = _jpeg_2000_header(film.frame)
    expected = (form.rows, form.columns, 1, form.stored, form.signed)
    if header is None or header[:5] != expected:
        return None
    scale = _scale(form.rows, form.columns, preprocessing, min(MOST, 1 << header[5]))
    if scale == 1 or min(form.rows, form.columns) < SMALLEST_JPEG_2000:
        return None
    # Pillow takes the nearest size instead of the next larger one, and fails where these differ.
    if any(-(-side // scale) != (side + scale // 2) // scale for side in (form.rows, form.columns)):
        return None
    samples = _or_none(lambda: reduced_samples(film.frame, scale))
    if samples is None or samples.shape != (-(-form.rows // scale), -(-form.columns // scale)):
        return None
    # Pillow spreads samples over its 8 or 16 bits and makes signed ones unsigned.
    codes = samples >> samples.dtype.type(samples.itemsize * 8 - form.stored)
    if form.signed:
        codes = codes ^ codes.dtype.type(1 << (form.stored - 1))
    if _beyond_window(codes, film.order):
        return None
    return ReducedFilm(
        pixels=present(codes, film.order, in_place=True),
        shape=(form.rows, form.columns),
        scale=scale,
        shift=scale - 1,
        checked=_is_checked(film.frame),
        facts=film.facts,
        flags=film.flags,
    )


def reduced_samples(frame: Frame, scale: int) -> Array:
    """Decode a JPEG 2000 codestream without its finest wavelets.

    Args:
        frame: a codestream of one component.
        scale: pixels of the film along one side of a reduced pixel, a power of two.

    Returns:
        uint8 or uint16 [⌈h / scale⌉, ⌈w / scale⌉], over the whole range of the type, signed samples made unsigned.
    """
    with _opened(frame, "JPEG2000") as image:
        image.reduce = scale.bit_length() - 1
        samples: Array = np.asarray(image)
        return samples


def _beyond_window(codes: Array, order: PixelOrder) -> bool:
    """True when values lie beyond the window: cut off before and after averaging they give different greys."""
    if not isinstance(order.voi, Window) or not isinstance(order.modality, tuple):
        return False
    # With its sign bit turned over, two's complement rises with the value; the ends tell, since rescaling is linear.
    half = 1 << (order.bits - 1) if order.signed else 0
    turned = codes ^ codes.dtype.type(half)
    values = [(int(end) - half) * order.modality[0] + order.modality[1] for end in (turned.min(), turned.max())]
    # LINEAR ends half a value inside LINEAR_EXACT's window; one value beyond is no matter.
    return any(abs(value - order.voi.center) > order.voi.width / 2 + 1 for value in values)


def _jpeg_2000_header(frame: Frame) -> tuple[int, int, int, int, bool, int] | None:
    """Rows, columns, components, bits, sign and decompositions of a bare codestream without offsets (ISO 15444-1 A)."""
    if frame[:4] != b"\xff\x4f\xff\x51" or len(frame) < 44:
        return None
    sizes = [int.from_bytes(frame[at : at + 4], "big") for at in range(8, 40, 4)]
    columns, rows, offsets = sizes[0], sizes[1], (sizes[2], sizes[3], sizes[6], sizes[7])
    components, depth, sampling = int.from_bytes(frame[40:42], "big"), frame[42], frame[43:45]
    if any(offsets) or sampling != b"\x01\x01":
        return None
    at = 4 + int.from_bytes(frame[4:6], "big")
    while at + 10 < len(frame) and frame[at] == 0xFF and frame[at + 1] != 0x90:
        if frame[at + 1] == 0x52:  # COD: Lcod, Scod, progression, layers, transform, levels
            return rows, columns, components, (depth & 0x7F) + 1, bool(depth & 0x80), frame[at + 9]
        at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None


PLAIN_MARKERS = {0x52, 0x55, 0x57, 0x58, 0x5C, 0x64}
"""COD, TLM, PLM, PLT, QCD and COM. What others say of components, regions or the order of packets (COC, QCC, RGN, POC,
PPM, PPT) or of another block coder (CAP) is left to the decoder of whole films."""


def _is_checked(frame: Frame) -> bool:
    """Whether a codestream is of the kind in which decoding a part of it finds what decoding it whole finds.

    It holds nothing but `PLAIN_MARKERS`, and its tile-parts follow each other up to the end of the frame (ISO 15444-1
    A.3 to A.6).
    """
    at = 4 + _length(frame, 4)
    while (marker := frame[at : at + 2]) != b"\xff\x90":
        if len(marker) < 2 or marker[0] != 0xFF or marker[1] not in PLAIN_MARKERS or _length(frame, at + 2) < 2:
            return False
        if marker[1] == 0x52 and bytes(frame[at + 12 : at + 13]) >= b"\x40":  # blocks coded as in ISO 15444-15
            return False
        at += 2 + _length(frame, at + 2)
    return _is_complete(frame, at)


def _is_complete(frame: Frame, at: int) -> bool:
    """Whether tile-parts, the first of them at a place, follow each other up to the codestream's end marker."""
    while frame[at : at + 4] == b"\xff\x90\0\x0a":  # SOT, Lsot, Isot, Psot, ...
        end = at + int.from_bytes(frame[at + 6 : at + 10], "big")
        at += 12
        while (marker := frame[at : at + 2]) != b"\xff\x93":
            if len(marker) < 2 or marker[0] != 0xFF or marker[1] not in (0x58, 0x64) or _length(frame, at + 2) < 2:
                return False
            at += 2 + _length(frame, at + 2)
        if end < at + 2:  # also where the length is left open, as the last one's may be
            return False
        at = end
    # Fragments are padded to an even length.
    return frame[at : at + 2] == b"\xff\xd9" and not any(frame[at + 2 :])


def _length(frame: Frame, at: int) -> int:
    return int.from_bytes(frame[at : at + 2], "big")


def _opened(frame: Frame, name: str) -> Any:
    # Where it doesn't know a format yet, Pillow imports all of its fifty, on the first film's time.
    from PIL import Image, Jpeg2KImagePlugin, JpegImagePlugin  # noqa: F401

    return Image.open(cast(BinaryIO, FrameStream(frame)), formats=(name,))


def _or_none(step: Callable[[], T]) -> T | None:
    """What a step of Pillow's gives; ``None`` where it fails: whatever is wrong, the full decoder says it better."""
    try:
        return step()
    except (FilmError, MemoryError):
        raise
    except Exception:
        return None
