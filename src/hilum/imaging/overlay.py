"""Heat maps over films, and films as PNG.

The colour scale is dark violet → red → orange → pale yellow, and perceptually uniform: each of its steps looks as large
as any other (the same distance in CIELAB). Its lightness (L*) rises all the way, so that it reads in the same order
without colour vision and in print; where there is no heat the film shows through untouched.
"""

import functools
import io
from typing import Any

import numpy as np

from hilum.arrays import Array, Heatmap, Pixels, Tile
from hilum.errors import UsageError
from hilum.imaging.png_writing import quick_png
from hilum.imaging.preprocessing import Preprocessing, area_average, heatmap_on_film

CAPTION = "AI heat map - not for diagnosis"

# sRGB from no heat to the most; how far apart on the scale follows from how far apart they look.
ANCHORS = (
    (32, 8, 64),
    (84, 14, 104),
    (134, 28, 106),
    (184, 48, 86),
    (222, 82, 54),
    (244, 128, 22),
    (250, 180, 36),
    (252, 224, 92),
    (255, 250, 180),
)
SRGB_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
WHITE_D65 = (0.95047, 1.0, 1.08883)

FULL_OPACITY_FROM = 0.4
"""Heat from which the colour has its full opacity; below, it fades away with the heat."""

CONTOURS = (0.25, 0.5, 0.75)
"""Shares of the top at which lines are drawn."""

JPEG_QUALITY = 95
"""Of heat maps as JPEG: grey values move by less than one in 256 on average, and letters stay sharp."""

STRIP = 256
"""Rows blended at a time, so that no full-size copy of another type is made."""


@functools.cache
def colour_scale() -> Array:
    """Colours of 256 steps of heat: uint8 [256, 3], read-only, lightness rising, in steps that look equally large."""
    fine = np.linspace(0, len(ANCHORS) - 1, 4096)
    anchors = np.array(ANCHORS, np.float64)
    path = np.stack([np.interp(fine, np.arange(len(ANCHORS)), anchors[:, i]) for i in range(3)], axis=1)
    travelled = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(cielab(path), axis=0), axis=1))])
    steps = np.interp(np.linspace(0, travelled[-1], 256), travelled, fine)
    channels = [np.interp(steps, fine, path[:, i]) for i in range(3)]
    scale: Array = np.rint(np.stack(channels, axis=1)).astype(np.uint8)
    scale.setflags(write=False)
    return scale


def cielab(rgb: Array) -> Array:
    """CIE 1976 L*a*b* (white D65) of sRGB colours: float64 [n, 3], L* from 0 to 100.

    IEC 61966-2-1 for the way to CIE XYZ, ISO/CIE 11664-4 from there on.

    Args:
        rgb: [n, 3], 0 … 255.
    """
    coded = np.asarray(rgb, np.float64) / 255.0
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array(SRGB_TO_XYZ).T / np.array(WHITE_D65)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    lab: Array = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
    return lab


def contour_colour(level: float) -> tuple[int, int, int]:
    """Colour of the line at a share of the top, from the scale's lighter half, to show on dark and bright anatomy."""
    red, green, blue = (int(one) for one in colour_scale()[int(96 + level * 159)])
    return red, green, blue


def overlay(
    film: Pixels | Tile,
    heatmap: Heatmap,
    *,
    opacity: float = 0.45,
    style: str = "heat",
    top: float | None = None,
    caption: str = "",
) -> Array:
    """Draw a heat map over a film.

    Args:
        film: uint16 or uint8 [h, w], 0 black.
        heatmap: float [h, w] ≥ 0 of the film's size, from `heatmap_on_film`; of another size it is stretched over the
            whole film. Values that are not numbers count as 0.
        opacity: 0 … 1, of the hottest places.
        style: "heat" colours areas, "contour" draws lines at a quarter, a half and three quarters of the top.
        top: the heat of the hottest colour; the map's own largest value when not given. Give the same top for all
            films that are compared.
        caption: small text in the bottom left corner, such as `CAPTION`.

    Returns:
        uint8 [h, w, 3].

    Raises:
        UsageError: the film, the opacity or the style is none of the above.
    """
    if film.ndim != 2 or film.dtype not in (np.uint8, np.uint16):
        raise UsageError(f"A film to draw on must be uint8 or uint16 [h, w], but is {film.dtype} {list(film.shape)}.")
    if not 0.0 <= opacity <= 1.0:
        raise UsageError(f"opacity is {opacity}, but must be from 0 to 1.")
    if style not in ("heat", "contour"):
        raise UsageError(f"style is {style!r}. Known: heat, contour.")
    height, width = (int(one) for one in film.shape)
    steps = _steps(heatmap, (height, width), top)
    drawn = np.empty((height, width, 3), np.uint8)
    colours, kept = _blend_tables(opacity)
    for start in range(0, height, STRIP):
        strip = slice(start, start + STRIP)
        grey = _bytes(film[strip])
        if style == "contour":
            drawn[strip] = grey[..., None]
            continue
        faded = np.take(kept, steps[strip]) * grey + np.uint16(128)
        for channel in range(3):
            drawn[strip, :, channel] = (faded + np.take(colours[channel], steps[strip])) >> 8
    if style == "contour":
        _draw_contours(drawn, steps)
    if caption:
        _write_caption(drawn, caption)
    return drawn


def _steps(heatmap: Heatmap, shape: tuple[int, int], top: float | None) -> Array:
    """Heat in 255ths of the top, uint8 [h, w]."""
    if tuple(heatmap.shape) != shape:
        heatmap = heatmap_on_film(heatmap, shape, Preprocessing())
    if top is None:
        top = float(np.nanmax(heatmap, initial=0.0))
    if not top > 0:
        return np.zeros(shape, np.uint8)
    steps = np.empty(shape, np.uint8)
    for start in range(0, shape[0], STRIP):
        strip = slice(start, start + STRIP)
        # Unlike `clip`, these take the number where the other is none.
        scaled = np.fmin(np.fmax(heatmap[strip] * (255.0 / top), 0.0), 255.0)
        steps[strip] = scaled + 0.5
    return steps


@functools.lru_cache(maxsize=8)
def _blend_tables(opacity: float) -> tuple[Array, Array]:
    """For each step of heat: its colour times its weight, uint16 [3, 256], and what is kept of the film, in 256ths."""
    heat = np.linspace(0.0, 1.0, 256)
    weights = np.rint(opacity * np.clip(heat / FULL_OPACITY_FROM, 0.0, 1.0) * 256)
    # Both parts together stay below 65,280, so that 16 bits are enough to add them.
    tables = (colour_scale().T * weights).astype(np.uint16), (256 - weights).astype(np.uint16)
    for one in tables:
        one.setflags(write=False)
    return tables


def _draw_contours(drawn: Array, steps: Array) -> None:
    reach = max(1, round(min(steps.shape) / 300))
    for level in CONTOURS:
        inside = steps >= level * 255
        line = np.zeros(steps.shape, bool)
        for axis in (0, 1):
            # A pixel belongs to the line when a pixel within reach lies on the other side.
            for distance in range(1, reach + 1):
                near = [slice(None), slice(None)]
                far = [slice(None), slice(None)]
                near[axis], far[axis] = slice(None, -distance), slice(distance, None)
                differs = inside[tuple(near)] != inside[tuple(far)]
                line[tuple(near)] |= differs & inside[tuple(near)]
                line[tuple(far)] |= differs & inside[tuple(far)]
        drawn[line] = contour_colour(level)


def _write_caption(drawn: Array, caption: str) -> None:
    top, left, box = _caption_box(caption, int(drawn.shape[0]), int(drawn.shape[1]))
    drawn[top : top + box.shape[0], left : left + box.shape[1]] = box


@functools.lru_cache(maxsize=32)
def _caption_box(caption: str, height: int, width: int) -> tuple[int, int, Array]:
    """Top and left of a caption on a picture of this size, and its pixels: films of one size share them."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (width, height))
    font = ImageFont.load_default(max(9, min(48, height // 36)))
    draw = ImageDraw.Draw(image)
    margin = max(2, height // 128)
    text = "\n".join(_lines(caption, draw, font, width - 4 * margin))
    left, top, right, bottom = draw.multiline_textbbox((0, 0), text, font=font)
    at = (2 * margin - left, height - 2 * margin - bottom)
    draw.multiline_text(at, text, font=font, fill=(255, 255, 255))
    first = (max(0, int(margin)), max(0, int(at[1] + top - margin)))
    beyond = (min(width, int(3 * margin + right - left) + 1), min(height, height - margin + 1))
    box: Array = np.asarray(image)[first[1] : beyond[1], first[0] : beyond[0]].copy()
    box.setflags(write=False)
    return first[1], first[0], box


def _lines(caption: str, draw: Any, font: Any, width: int) -> list[str]:
    """Break a caption into lines that fit, between words."""
    lines: list[str] = []
    for word in caption.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and draw.textlength(longer, font=font) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _bytes(film: Pixels | Tile) -> Array:
    """To 8 bits, rounded: 65535 / 255 is 257 exactly."""
    if film.dtype == np.uint8:
        return film
    rounded: Array = ((film.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return rounded


def shrink(pixels: Pixels, longest: int) -> Pixels:
    """A film small enough for a page, averaged over areas.

    Args:
        pixels: uint16 [h, w].
        longest: most rows or columns to keep; a smaller film is returned as it is.
    """
    height, width = (int(one) for one in pixels.shape)
    scale = longest / max(height, width)
    if scale >= 1:
        return pixels
    averaged = area_average(pixels, max(1, round(height * scale)), max(1, round(width * scale)))
    small: Pixels = (averaged + 0.5).astype(np.uint16)
    return small


def grey_png(pixels: Pixels | Tile, *, bits: int = 8) -> bytes:
    """A film as PNG.

    Args:
        pixels: uint16 or uint8 [h, w], 0 black.
        bits: 8 for looking, 16 for a viewer that sets its own window (uint16 alone).

    Raises:
        UsageError: bits is neither, or the pixels are not a film.
    """
    if bits not in (8, 16) or (bits == 16 and pixels.dtype != np.uint16):
        raise UsageError(f"grey_png makes 8 bits, or 16 from uint16, but bits is {bits} and pixels are {pixels.dtype}.")
    if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.uint16):
        raise UsageError(f"A film must be uint8 or uint16 [h, w], but is {pixels.dtype} {list(pixels.shape)}.")
    return _png(_bytes(pixels) if bits == 8 else pixels)


def png(rgb: Array) -> bytes:
    """A picture as PNG, made quickly rather than small: heat maps are drawn for every film.

    Args:
        rgb: uint8 [h, w, 3].

    Raises:
        UsageError: it is not.
    """
    _check_picture(rgb)
    return quick_png(rgb)


def jpeg(rgb: Array) -> bytes:
    """A picture as JPEG: a quarter of the time and a third of the bytes of a PNG, for a picture of every film.

    Colours are kept at full resolution, so that they stay where the heat is.

    Args:
        rgb: uint8 [h, w, 3].

    Raises:
        UsageError: it is not.
    """
    from PIL import Image

    _check_picture(rgb)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def _check_picture(rgb: Array) -> None:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise UsageError(f"A picture must be uint8 [h, w, 3], but is {rgb.dtype} {list(rgb.shape)}.")


def _png(picture: Array) -> bytes:
    """Level 3 takes half the time of the default 6 and a few per cent more bytes."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
