"""A film for a viewer that sets its own window: 16-bit values, and the window that the film asks for.

Presentation values are clipped to the film's window; a reader who opens the window wants what lies beyond. So where the
film records a linear window, the values here are taken before it (modality LUT and polarity applied, padding black),
spread over 16 bits, and the window is handed over in these units. Shown through it they are the presentation values
again. A VOI LUT, a sigmoid, colours and pictures without a header have no such window: their presentation values are
handed over as they are, with the whole range as the window.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hilum.arrays import Array, Pixels
from hilum.imaging.dicom_reading import is_dicom, read_dicom_codes
from hilum.imaging.limits import Limits
from hilum.imaging.pixel_order import PixelOrder, Window, codes_in_use, look_up, present
from hilum.imaging.radiograph import FilmFacts
from hilum.imaging.reading import file_content, read_film
from hilum.imaging.straight_line import WHITE

LEAST_STEPS = 2048
"""A window must span so many of the 65,536 values; a narrower one would show steps, and is applied here instead."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ViewerFilm:
    """What a viewer needs of a film."""

    pixels: Pixels
    """uint16 [h, w], 0 black … 65535 white at the widest window."""
    low: float
    """Value that the film's own window shows black; may lie outside 0 … 65535."""
    high: float
    """Value that it shows white; > ``low``."""
    windowed: bool
    """True when a VOI was applied already, so that nothing lies beyond the window."""
    spacing_mm: tuple[float, float] | None
    """Distance of pixel centres down and across; None when not recorded."""


def read_for_viewing(source: Path | str | bytes, *, limits: Limits = Limits()) -> ViewerFilm:  # noqa: B008 - frozen
    """Read a film for a viewer.

    Args:
        source: a file, or its bytes.
        limits: what the film may cost.

    Raises:
        FilmError: it can't be read; see `hilum.imaging.reading.read_film`.
    """
    content = file_content(source, limits)
    if not is_dicom(content[:132]) or (read := read_dicom_codes(content, limits)) is None:
        film = read_film(content, limits=limits)
        return _windowed(film.pixels, film.facts)
    codes, order, facts = read
    wide = _wide(codes, order)
    if wide is None:
        return _windowed(present(codes, order), facts)
    table, low, high = wide
    return ViewerFilm(pixels=look_up(codes, table), low=low, high=high, windowed=False, spacing_mm=facts.spacing_mm)


def _windowed(pixels: Pixels, facts: FilmFacts) -> ViewerFilm:
    return ViewerFilm(pixels=pixels, low=0.0, high=float(WHITE), windowed=True, spacing_mm=facts.spacing_mm)


def _wide(codes: Array, order: PixelOrder) -> tuple[Array, float, float] | None:
    """Table over all codes before the window, and the window in its units; None where that can't be exact."""
    if not isinstance(order.voi, Window) or order.voi.function == "SIGMOID":
        return None
    used = codes_in_use(codes, order.bits)
    before = replace(order, voi=None)
    first, last = before.range_in_use(used)
    center, width = order.voi.center, order.voi.width
    if order.voi.function == "LINEAR":
        center, width = center - 0.5, width - 1.0
    if last <= first or width <= 0:
        return None
    ends = [(center + sign * width / 2 - first) / (last - first) * WHITE for sign in (-1, 1)]
    low, high = (WHITE - ends[1], WHITE - ends[0]) if order.inverted else ends
    # Padding is black under the film's own window: 0 must not lie inside it.
    visible_padding = low < 0 and bool((before.is_padding() & used).any())
    if high - low < LEAST_STEPS or visible_padding:
        return None
    return before.table(used), low, high


def through_window(film: ViewerFilm) -> Array:
    """The film through its own window, uint8 [h, w]: what a viewer must show first."""
    share = np.clip((film.pixels - np.float64(film.low)) / (film.high - film.low), 0.0, 1.0)
    shown: Array = np.floor(share * 255 + 0.5).astype(np.uint8)
    return shown
