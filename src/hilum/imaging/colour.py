"""Pictures with colours: turned into grey, and told apart from grey pictures that merely have three channels."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hilum.arrays import Array, Pixels
from hilum.errors import FilmError
from hilum.imaging.dicom_facts import table_data

COLOURED = 0.08
"""Difference between a pixel's largest and smallest channel, as a share of white, from which it counts as coloured:
JPEG at ordinary quality stays below it on grey pictures."""

COLOUR_PICTURE = 0.01
"""Share of coloured pixels from which a picture is a colour picture; a marker or an annotation stays below."""


AT_ONCE = 1 << 20
"""Pixels that are turned into grey at a time: what is computed on the way takes twenty times their size."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grey:
    """A picture turned into grey.

    Attributes:
        pixels: uint16 [h, w], 0 black … 65535 white.
        share_coloured: share of pixels with a visible colour, 0 … 1.
    """

    pixels: Pixels
    share_coloured: float

    @property
    def colour(self) -> bool:
        """True for a colour picture."""
        return self.share_coloured >= COLOUR_PICTURE


def rgb_to_grey(rgb: Array, *, bits: int) -> Grey:
    """Luma of ITU-R BT.601 in whole numbers, so that three equal channels give back exactly their value.

    Args:
        rgb: uint8 or uint16 [h, w, 3].
        bits: significant bits of a sample.
    """
    pixels, coloured = np.empty(rgb.shape[:2], np.uint16), 0
    rows = max(1, AT_ONCE // max(1, rgb.shape[1]))
    for top in range(0, len(rgb), rows):
        pixels[top : top + rows], found = _grey_of(rgb[top : top + rows], (1 << bits) - 1)
        coloured += found
    return Grey(pixels=pixels, share_coloured=coloured / max(1, pixels.size))


def _grey_of(rgb: Array, white: int) -> tuple[Pixels, int]:
    """The same of some rows, and how many of their pixels are coloured."""
    rgb = np.minimum(rgb, white) if white < np.iinfo(rgb.dtype).max else rgb
    red, green, blue = (rgb[..., i].astype(np.uint32) for i in range(3))
    luma = (299 * red + 587 * green + 114 * blue + 500) // 1000
    spread = rgb.max(axis=2) - rgb.min(axis=2)
    pixels = ((luma.astype(np.uint64) * 65535 + white // 2) // white).astype(np.uint16)
    return pixels, int(np.count_nonzero(spread > COLOURED * white))


def ycbcr_to_rgb(ycbcr: Array, *, bits: int) -> Array:
    """PS3.3 C.7.6.3.1.2, YBR_FULL, inverted.

    Args:
        ycbcr: uint8 or uint16 [h, w, 3].
        bits: significant bits of a sample.
    """
    white, middle = (1 << bits) - 1, 1 << (bits - 1)
    y, cb, cr = (ycbcr[..., i].astype(np.float32) for i in range(3))
    cb, cr = cb - middle, cr - middle
    channels = (y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb)
    return np.stack([np.clip(np.rint(one), 0, white).astype(ycbcr.dtype) for one in channels], axis=2)


def palette_to_rgb(dataset: Any, indices: Array) -> Array:
    """Look indices up in a palette (PS3.3 C.7.6.3.1.5 and C.7.6.3.1.6).

    Args:
        dataset: a pydicom data set with descriptors and data for red, green and blue.
        indices: unsigned [h, w].

    Returns:
        uint8 [h, w, 3].

    Raises:
        FilmError: code "unreadable" when a table is missing, segmented or shorter than it says.
    """
    channels = []
    for colour in ("Red", "Green", "Blue"):
        descriptor = dataset.get(f"{colour}PaletteColorLookupTableDescriptor")
        content = table_data(dataset, f"{colour}PaletteColorLookupTableData")
        if descriptor is None or len(descriptor) != 3 or not isinstance(content, bytes):
            raise FilmError(f"The {colour.lower()} palette is missing or segmented.", code="unreadable")
        entries, first, bits = (int(one) for one in descriptor)
        entries = entries or 65536
        wide = len(content) >= 2 * entries
        table = np.frombuffer(content, "<u2" if wide else "u1")[:entries]
        if len(table) < entries:
            raise FilmError(f"The {colour.lower()} palette has {len(table)} of {entries} entries.", code="unreadable")
        table = (table >> 8 if wide and bits == 16 else table).astype(np.uint8)
        channels.append(table[np.clip(indices.astype(np.int32) - first, 0, entries - 1)])
    return np.stack(channels, axis=2)
