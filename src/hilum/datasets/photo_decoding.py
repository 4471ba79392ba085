"""One photograph file to a small square of pixels: upright, short side to size, cut in the middle, RGB."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from hilum.arrays import Array
from hilum.errors import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
"""Ends of file names that promise an image."""

FORMATS = ("JPEG", "PNG", "BMP", "PPM", "TIFF", "WEBP", "GIF")
"""What a file may really be, whatever its name says."""

MIN_SIDE = 8
"""Pixels of the short side below which an image shows nothing."""

MAX_PIXELS = 100_000_000
"""Width × height above which an image is refused before it is decoded."""

ORIENTATION = 0x0112
"""EXIF tag Orientation (CIPA DC-008, 4.6.4 A)."""

WIDE = ("I;16", "I;16B", "I;16L", "I;16N", "I")
WHITE = (255, 255, 255, 255)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoded:
    """One decoded photograph."""

    pixels: UInt8[np.ndarray, "3 size size"]
    """Red, green, blue."""
    grey: bool
    """Whether the file is grey; its value is then in all three channels."""
    enlarged: bool
    """Whether its short side has fewer pixels than were asked for."""


def decode_photo(file: Path, size: int) -> Decoded:
    """Decode a file.

    Args:
        file: JPEG, PNG, BMP, PPM, TIFF, WebP, or the first picture of a GIF.
        size: pixels a side.

    Returns:
        the middle square. What is transparent becomes white; 16-bit values are cut to 8.

    Raises:
        DataError: it can't be decoded, or is too small or too large. The text doesn't name the file.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file, formats=FORMATS) as image:
            _check_size(*image.size)
            enlarged = min(image.size) < size
            turn = image.getexif().get(ORIENTATION, 1)
            # A JPEG is decoded at a half, a quarter or an eighth, as long as twice the size is left.
            image.draft(None, (2 * size, 2 * size))
            image.load()
            square, grey = _square(image, size)
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"it has far more pixels than the {MAX_PIXELS:,} allowed") from error
    except UnidentifiedImageError as error:
        raise DataError(f"it is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error … on damaged files
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"it is damaged ({reason})") from error
    pixels = np.ascontiguousarray(_upright(square, turn).transpose(2, 0, 1))
    return Decoded(pixels=pixels, grey=grey, enlarged=enlarged)


def _check_size(width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE:
        raise DataError(f"it is {width} × {height} px, too small: the short side must have {MIN_SIDE}")
    if width * height > MAX_PIXELS:
        raise DataError(f"it has {width} × {height} px, more than the {MAX_PIXELS:,} allowed")


def _square(image: Any, size: int) -> tuple[Array, bool]:
    """The middle square at its new size, uint8 [size, size, 3], and whether the image was grey."""
    from PIL import Image

    grey = image.mode in ("1", "L", "LA", "La", *WIDE)
    transparent = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    if image.mode in WIDE:
        image = _eight_bits(image)
    elif image.mode == "F":
        raise DataError("its pixels are 32-bit fractions, which photographs don't have")
    elif transparent:
        image = image.convert("RGBA")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    square = image.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    if square.mode == "RGBA":
        square = Image.alpha_composite(Image.new("RGBA", square.size, WHITE), square)
    return np.asarray(square.convert("RGB")), grey


def _eight_bits(image: Any) -> Any:
    from PIL import Image

    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise DataError("its values lie outside 0 … 65,535")
    return Image.fromarray((values >> 8).astype(np.uint8))


def _upright(square: Array, orientation: int) -> Array:
    """Undo a camera's rotation; a square stays one. Orientation 1 … 8 as in EXIF, others are taken as 1."""
    if orientation in (5, 6, 7, 8):
        square = square.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        square = square[::-1]
    if orientation in (2, 3, 6, 7):
        square = square[:, ::-1]
    return square
