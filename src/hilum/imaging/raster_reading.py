"""Films from PNG, JPEG and TIFF, which say nothing of patient, view or device.

8-bit values are taken as presentation values. Of 16-bit ones the range in use is stretched, since exports keep 12 bits
in 16 and record no window; see `hilum.imaging.pixel_order`.
"""

import io
import warnings
from typing import Any, BinaryIO

import numpy as np

from hilum.arrays import Array, Pixels
from hilum.errors import FilmError
from hilum.imaging.colour import rgb_to_grey
from hilum.imaging.jpeg_memory import ask_for_jpeg_memory
from hilum.imaging.limits import Limits
from hilum.imaging.pixel_order import PixelOrder, present
from hilum.imaging.radiograph import FilmFacts

MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
)
WIDE = ("I;16", "I;16B", "I;16L", "I;16N", "I")
GREY_MODES = ("1", "L", "LA", *WIDE)
MAX_SCANS = 200
"""Scans of a progressive JPEG; encoders write about 10, an attack tens of thousands, each as costly as a picture."""
WHITE_IS_ZERO = 0
TIFF_PHOTOMETRIC = 262


def raster_format(head: bytes) -> str:
    """Format by a file's first bytes: "png", "jpeg" or "tiff".

    Raises:
        FilmError: code "not-an-image".
    """
    for magic, name in MAGIC:
        if head.startswith(magic):
            return name
    raise FilmError(
        "The file is neither DICOM (a preamble of 128 bytes, then DICM), nor PNG, JPEG or TIFF. Export the film "
        "as one of these.",
        code="not-an-image",
    )


def read_raster_facts(stream: BinaryIO, name: str, limits: Limits) -> FilmFacts:
    """Facts from a picture's header.

    Raises:
        FilmError: see `hilum.imaging.reading.read_film`.
    """
    with warnings.catch_warnings():
        # Pillow warns of big pictures and odd metadata; size is judged by our own limits.
        warnings.simplefilter("ignore")
        with _open(stream, name, limits) as image:
            return _facts(image, name)


def read_raster(content: bytes, name: str, limits: Limits) -> tuple[Pixels, FilmFacts, tuple[str, ...]]:
    """Pixels, facts and flags of a picture.

    Raises:
        FilmError: see `hilum.imaging.reading.read_film`.
    """
    if name == "jpeg" and content.count(b"\xff\xda") > MAX_SCANS:
        raise FilmError(f"The JPEG has more than {MAX_SCANS} scans, which no film needs.", code="too-large")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _open(io.BytesIO(content), name, limits) as image:
            return _film(image, name, content)


def _open(stream: BinaryIO, name: str, limits: Limits) -> Any:
    from PIL import Image

    try:
        image = Image.open(stream, formats=(name.upper(),))
    except Image.DecompressionBombError as error:
        raise FilmError(
            f"The {name.upper()} has far more pixels than any film. Export it smaller.", code="too-large"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error ... on damaged headers
        raise FilmError(
            f"The {name.upper()} header is damaged and can't be read. Send it again.", code="unreadable"
        ) from error
    limits.check_pixels(image.height, image.width, 1, 1 if image.mode in ("1", "L") else 4)
    frames = getattr(image, "n_frames", 1) if name == "tiff" else 1
    if frames != 1:
        raise FilmError(f"The {name.upper()} holds {frames} pictures, but a radiograph is one.", code="not-an-image")
    return image


def _facts(image: Any, name: str, colour: bool | None = None) -> FilmFacts:
    width, height = image.size
    if image.getexif().get(0x0112, 1) in (5, 6, 7, 8):  # EXIF orientations that lie on the side
        width, height = height, width
    grey = image.mode in GREY_MODES
    return FilmFacts(
        format=name,
        photometric=image.mode,
        bits_stored=16 if image.mode in WIDE else 1 if image.mode == "1" else 8,
        rows=height,
        columns=width,
        lossy=True if name == "jpeg" else None,
        colour=False if grey else colour,
    )


def _film(image: Any, name: str, content: bytes) -> tuple[Pixels, FilmFacts, tuple[str, ...]]:
    from PIL import ImageOps

    try:
        image.load()
        facts = _facts(image, name)
        ImageOps.exif_transpose(image, in_place=True)
    except (FilmError, MemoryError):
        raise
    except Exception as error:  # as in _open
        if "out of memory" in str(error):  # Pillow's own decoders; libjpeg doesn't say so
            raise MemoryError from error
        if name == "jpeg":
            ask_for_jpeg_memory(content)
        code = "truncated" if "truncated" in str(error) or isinstance(error, EOFError) else "unreadable"
        raise FilmError(
            f"The {name.upper()} is {'truncated' if code == 'truncated' else 'damaged'}. Send it again.", code=code
        ) from error
    if facts.colour is False:
        flags = ("no-voi",) if image.mode in WIDE else ()
        return _grey(image, inverted=_white_is_zero(image)), facts, flags
    grey = rgb_to_grey(np.asarray(_rgb(image)), bits=8)
    flags = ("some-colour",) if grey.share_coloured > 0 and not grey.colour else ()
    return grey.pixels, _facts(image, name, grey.colour), flags


def _white_is_zero(image: Any) -> bool:
    """Pillow inverts 8-bit TIFFs whose white is 0 by itself, and leaves 16-bit ones as they are."""
    tags = getattr(image, "tag_v2", None)
    return image.mode in WIDE and tags is not None and tags.get(TIFF_PHOTOMETRIC) == WHITE_IS_ZERO


def _grey(image: Any, *, inverted: bool) -> Pixels:
    if image.mode in WIDE:
        values: Array = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise FilmError("The picture's values lie outside 0 … 65535.", code="unreadable")
        return present(values.astype(np.uint16), PixelOrder(bits=16, inverted=inverted))
    values = np.asarray(image.convert("L"))
    return present(values, PixelOrder(bits=8))


def _rgb(image: Any) -> Any:
    if image.mode not in ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB", "RGBX", "La", "RGBa"):
        raise FilmError(f"Pictures of mode {image.mode} can't be read; grey or RGB can.", code="unreadable")
    return image if image.mode == "RGB" else image.convert("RGB")
