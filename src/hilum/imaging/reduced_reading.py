"""Films decoded at a fraction of their size, where nothing but a tile is asked for.

JPEG and JPEG 2000 keep coarse pictures inside fine ones: libjpeg inverts a part of each block's cosines, and a decoder
of JPEG 2000 stops before the finest wavelets (ISO 15444-1, "reduced resolution"). At 3,000 × 3,000 that saves nine
tenths of the decoding. A tile made so differs from the exact one by little: by half a grey level of 255 in the mean and
by 12 at most (``tests/imaging/test_reduced_reading.py``). Lines a few pixels thin that were drawn or laid on a film, a
marker's frame, a tube, a wire, differ by more than anatomy does, since wavelets don't average: by 16 in 999 of 1,000
pixels and by 40 in any (``tests/imaging/test_reduced_phantoms.py``). It is made only where that was measured, and only
when `Preprocessing.decoding` asks for it, so that training and service agree.
"""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from hilum.arrays import Array, Pixels, Tile
from hilum.errors import FilmError
from hilum.imaging.codecs import SampleFormat
from hilum.imaging.dicom_facts import GREY
from hilum.imaging.dicom_reading import encoded_frame, is_dicom
from hilum.imaging.grey_scale import film_order
from hilum.imaging.limits import Limits
from hilum.imaging.pixel_order import PixelOrder, Window, present
from hilum.imaging.preprocessing import Preprocessing, geometry, tile_from_averages

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
    """

    pixels: Pixels
    shape: tuple[int, int]
    scale: int
    shift: int


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
    if is_dicom(content[:132]):
        return _from_dicom(content, preprocessing, limits)
    if content[:3] == b"\xff\xd8\xff":
        return _from_jpeg(content, PixelOrder(bits=8), preprocessing, limits)
    return None


def reduced_tile(film: ReducedFilm, config: Preprocessing) -> Tile:
    """The tile of a reduced film: the same areas averaged as in `hilum.imaging.preprocessing.preprocess`."""
    where = geometry(film.shape, config)
    rows = _averaged(film.pixels, film, where.top, where.height, where.tile_height)
    both = _averaged(rows.T, film, where.left, where.width, where.tile_width).T
    return tile_from_averages(both / (4.0 * where.height * where.width), where, config)


def _averaged(pixels: Array, film: ReducedFilm, start: int, length: int, cells: int) -> Array:
    """Rows summed under each cell of a grid, in whole numbers [cells, w]: 2 × length is the weight of a cell.

    A cell's edge lies at start + i · length / cells on the film, and at that plus shift / 2, over scale, on the reduced
    film; both are counted in 1 / (2 · scale · cells) of a reduced pixel.
    """
    parts = 2 * film.scale * cells
    edges = 2 * (start * cells + np.arange(cells + 1, dtype=np.int64) * length) + film.shift * cells
    whole, part = edges // parts, edges % parts
    last = len(pixels) - 1
    # Beyond the last pixel, where a reduced film may end half a pixel early, its value goes on.
    needed = np.concatenate([pixels, pixels[last:]]).astype(np.uint64)
    before = np.zeros((len(needed) + 1, pixels.shape[1]), np.uint64)
    np.cumsum(needed, axis=0, out=before[1:])
    inside = np.minimum(whole, last + 1)
    # Sums may wrap on the way; the differences are right, and small enough.
    up_to = before[inside] * np.uint64(parts) + needed[inside] * part.astype(np.uint64)[:, None]
    found: Array = np.diff(up_to, axis=0)
    return found


def _scale(rows: int, columns: int, preprocessing: Preprocessing, most: int) -> int:
    """The largest power of two that leaves enough pixels for each of the tile's; 1 where none does."""
    where = geometry((rows, columns), preprocessing)
    spare = min(where.height // where.tile_height, where.width // where.tile_width) // OVERSAMPLING
    scale = 1
    while scale * 2 <= min(spare, most):
        scale *= 2
    return scale


def _from_dicom(content: bytes, preprocessing: Preprocessing, limits: Limits) -> ReducedFilm | None:
    found = encoded_frame(content, limits, (JPEG_SYNTAX, *JPEG_2000_SYNTAXES))
    if found is None:
        return None
    dataset, form, syntax, frame = found
    if form.photometric not in GREY or form.high_bit != form.stored - 1:
        return None
    order = film_order(dataset, form, [])
    if order.padding is not None or not isinstance(order.modality, tuple):
        return None
    linear = isinstance(order.voi, Window) and order.voi.function != "SIGMOID"
    if not (linear or (order.voi is None and form.stored == 8)):
        return None
    if syntax == JPEG_SYNTAX:
        if form.stored != 8 or form.signed:
            return None
        return _from_jpeg(frame, order, preprocessing, limits, (form.rows, form.columns))
    return _from_jpeg_2000(frame, form, order, preprocessing)


def _from_jpeg(
    frame: bytes,
    order: PixelOrder,
    preprocessing: Preprocessing,
    limits: Limits,
    said: tuple[int, int] | None = None,
) -> ReducedFilm | None:
    def decode(image: Any) -> ReducedFilm | None:
        columns, rows = image.size
        limits.check_pixels(rows, columns, 1, 1)
        if image.mode != "L" or image.getexif().get(0x0112, 1) != 1 or said not in (None, (rows, columns)):
            return None
        scale = _scale(rows, columns, preprocessing, MOST)
        if scale == 1 or frame.count(b"\xff\xda") > 1:  # progressive pictures cost their scans whatever the size
            return None
        image.draft("L", (columns // scale, rows // scale))
        codes = np.asarray(image)
        if codes.shape != (-(-rows // scale), -(-columns // scale)) or _beyond_window(codes, order):
            return None
        return ReducedFilm(pixels=present(codes, order), shape=(rows, columns), scale=scale, shift=0)

    return _opened(frame, "JPEG", decode)


def _from_jpeg_2000(
    frame: bytes, form: SampleFormat, order: PixelOrder, preprocessing: Preprocessing
) -> ReducedFilm | None:
    header = _jpeg_2000_header(frame)
    expected = (form.rows, form.columns, 1, form.stored, form.signed)
    if header is None or header[:5] != expected:
        return None
    scale = _scale(form.rows, form.columns, preprocessing, min(MOST, 1 << header[5]))
    if scale == 1 or min(form.rows, form.columns) < SMALLEST_JPEG_2000:
        return None

    def decode(image: Any) -> ReducedFilm | None:
        image.reduce = scale.bit_length() - 1
        samples = np.asarray(image)
        if samples.shape != (-(-form.rows // scale), -(-form.columns // scale)):
            return None
        # Pillow spreads samples over its 8 or 16 bits and makes signed ones unsigned.
        codes = samples >> samples.dtype.type(samples.itemsize * 8 - form.stored)
        if form.signed:
            codes = codes ^ codes.dtype.type(1 << (form.stored - 1))
        if _beyond_window(codes, order):
            return None
        return ReducedFilm(pixels=present(codes, order), shape=(form.rows, form.columns), scale=scale, shift=scale - 1)

    return _opened(frame, "JPEG2000", decode)


def _beyond_window(codes: Array, order: PixelOrder) -> bool:
    """True when values lie beyond the window: cut off before and after averaging they give different greys."""
    if not isinstance(order.voi, Window) or not isinstance(order.modality, tuple):
        return False
    stored = order.stored_values()[[int(one) for one in np.unique(codes)]]
    values = stored * order.modality[0] + order.modality[1]
    # LINEAR ends half a value inside LINEAR_EXACT's window; one value beyond is no matter.
    half = order.voi.width / 2 + 1
    return bool(np.any(np.abs(values - order.voi.center) > half))


def _jpeg_2000_header(frame: bytes) -> tuple[int, int, int, int, bool, int] | None:
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


def _opened(frame: bytes, name: str, decode: Any) -> ReducedFilm | None:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(frame), formats=(name,)) as image:
            found: ReducedFilm | None = decode(image)
            return found
    except (FilmError, MemoryError):
        raise
    except Exception:  # whatever is wrong, the full decoder says it better
        return None
