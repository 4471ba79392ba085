"""The scale beside a heat map: which colour, or which line, means how much."""

import functools

import numpy as np

from hilum.arrays import Array
from hilum.errors import UsageError
from hilum.imaging.overlay import CONTOURS, colour_scale, contour_colour

PAPER, INK = (0, 0, 0), (235, 235, 235)


def with_colour_bar(picture: Array, *, top: float, unit: str, style: str = "heat") -> Array:
    """A picture with the scale of its heat map to the right of it.

    Args:
        picture: uint8 [h, w, 3], from `overlay` with the same top and style.
        top: the heat of the hottest colour, > 0.
        unit: of the heat, in a word or two, such as "logit".
        style: "heat" for areas in colour, "contour" for lines.

    Returns:
        uint8 [h, w + bar, 3]: the picture untouched, and on black the scale with 0, half the top and the top.

    Raises:
        UsageError: no such picture, or the top is not above 0.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise UsageError(f"A picture must be uint8 [h, w, 3], but is {picture.dtype} {list(picture.shape)}.")
    if not top > 0:
        raise UsageError(f"top is {top}, but a colour bar needs a heat above 0.")
    barred: Array = np.concatenate([picture, _panel(int(picture.shape[0]), top, unit, style)], axis=1)
    return barred


@functools.lru_cache(maxsize=32)
def _panel(height: int, top: float, unit: str, style: str) -> Array:
    """The scale alone, uint8 [height, bar, 3]: pictures of one height and top share it."""
    from PIL import Image, ImageDraw, ImageFont

    points = max(9, min(48, height // 36))
    font, line = ImageFont.load_default(points), int(points * 1.3)
    values = {1.0: f"{top:.3g}", 0.5: f"{top / 2:.3g}", 0.0: "0"}
    if style == "contour":
        values = {level: f"{level * top:.3g}" for level in CONTOURS}
    words = int(max(font.getlength(text) for text in (*values.values(), unit))) + 1
    thick, gap = max(6, line), max(3, line // 3)
    panel = Image.new("RGB", (3 * gap + thick + words, height), PAPER)
    draw = ImageDraw.Draw(panel)
    first, last = line, max(line + 2, height - 2 * line)
    if style == "contour":
        for level in CONTOURS:
            at = last - level * (last - first)
            draw.line((gap, at, gap + thick, at), fill=contour_colour(level), width=max(2, height // 150))
    else:
        steps = np.linspace(255, 0, last - first + 1)
        ramp = colour_scale()[np.rint(steps).astype(int)][:, None].repeat(thick, axis=1)
        panel.paste(Image.fromarray(ramp), (gap, first))
    for share, text in values.items():
        draw.text((2 * gap + thick, last - share * (last - first)), text, font=font, fill=INK, anchor="lm")
    draw.text((gap, height - line // 2), unit, font=font, fill=INK, anchor="lm")
    drawn: Array = np.asarray(panel)
    drawn.setflags(write=False)
    return drawn
