"""Pictures as figures: grids of images, filters and feature maps, and an image with boxes drawn on it.

A grid is put together as one picture at the resolution of the figure, so that pixels stay square and sharp and the SVG
holds one image however many tiles there are.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hilum.errors import DataError, nearest
from hilum.reports import palette
from hilum.reports.canvas import DPI, Figure, brief, finish, matplotlib_or_raise, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

Scale = Literal["common", "row", "each"]
"""Which tiles of numbers share one scale: all of them, those of a row, or each has its own."""
SCALES: tuple[Scale, ...] = ("common", "row", "each")

MOST_TILES = 400
"""A figure of more tiles than this can't be read."""
WIDEST, TALLEST = 10.0, 14.0
"""Inches; tiles shrink until the grid fits."""
TEXT_HEIGHT = 0.125
"""Inches of one line of small text."""
BAR_LENGTH, BAR_HEIGHT = 1.5, 0.4
"""Inches of the bar that explains the shades of a grid, and of the strip below the grid that holds it."""
EDGES: dict[str, Any] = {"red": (0, (4, 1.5)), "amber": (0, (1.5, 1))}
"""Edges told apart by eyes that don't tell red from green: red is dashed, amber dotted, green and note are solid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One picture of a grid."""

    pixels: NDArray[Any] | None
    """uint8 [h, w] or [h, w, 3] as it is; floats [h, w] as shades, or [h, w, 3] as colours; None: an empty place."""
    caption: str = ""
    """Text below it; lines are parted by a line break."""
    tone: Literal["", "red", "green", "amber", "note"] = ""
    """Colour of its edge; the caption says the same in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle on an image, in pixels of that image; it may reach beyond the edges."""

    label: str
    """What it is, such as ``conv3``."""
    left: float
    """Left edge."""
    top: float
    """Upper edge."""
    width: float
    """Width."""
    height: float
    """Height."""


def pictures_figure(
    rows: Sequence[Sequence[Tile | NDArray[Any] | None]],
    *,
    name: str,
    title: str,
    caption: str = "",
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
    scale: Scale = "common",
    signed: bool = False,
    limits: tuple[float, float] | None = None,
    value_label: str = "",
    tile_inches: float = 1.0,
    what: str = "pictures",
) -> Figure:
    """A grid of pictures with titles of rows and columns, and a caption below each.

    Small pictures are enlarged by whole pixels, so that single weights can be seen; large ones are reduced smoothly.

    Args:
        rows: tiles or bare pictures; rows may have different lengths.
        name: file name.
        title: what it shows.
        caption: how to read it.
        row_titles: one for each row; empty for none.
        column_titles: one for each column; empty for none.
        scale: which tiles of floats share a scale; the figure says which, with its ends.
        signed: floats diverge around 0: maps from orange to purple, colours around mid grey.
        limits: ends of the common scale; None: the lowest and highest value.
        value_label: what the floats are, with their unit.
        tile_inches: wanted size of the longer side of a tile; less where the grid would not fit.
        what: the pictures are, in the words of the alt text, such as ``filters``.

    Raises:
        DataError: no tile, too many, a picture of another shape or type, or titles of another number.
    """
    tiles = [[tile if isinstance(tile, Tile) else Tile(pixels=tile) for tile in row] for row in rows]
    _check_grid(name, tiles, row_titles, column_titles, scale)
    plan = _plan(tiles, row_titles, column_titles, tile_inches)
    ranges = _ranges(tiles, scale, signed=signed, limits=limits)
    floats = any(_is_map(tile.pixels) for row in tiles for tile in row)
    with styled():
        words = _bar_words(tiles, scale, value_label) if floats else ""
        needed = (plan.left / DPI + BAR_LENGTH + 0.25 + 0.059 * len(words)) if floats else 0.0
        canvas, axes = _bare_canvas(max(plan.width, needed), plan.height + (BAR_HEIGHT if floats else 0.0))
        _paste(axes, tiles, ranges, plan, signed=signed)
        _write_titles(axes, row_titles, plan)
        _write_captions(axes, plan)
        if floats:
            grey = not signed or words != _bar_words([], scale, value_label)
            _scale_bar(axes, plan, ranges[0][0] if scale == "common" else None, words, signed=signed, grey=grey)
        alt = _grid_in_words(tiles, row_titles, column_titles, what)
        alt += _scale_in_words(ranges, scale, value_label) if floats else ""
        return finish(canvas, name=name, title=title, caption=caption, alt=f"{title}: {alt}.")


def _check_grid(
    name: str, tiles: Sequence[Sequence[Tile]], row_titles: Sequence[str], column_titles: Sequence[str], scale: str
) -> None:
    total = sum(map(len, tiles))
    if not 1 <= total <= MOST_TILES:
        raise DataError(f"Figure {name!r} has {total} tiles: give between 1 and {MOST_TILES}.")
    if scale not in SCALES:
        raise DataError(f"{scale!r} is not a scale of pictures_figure. {nearest(scale, SCALES)}")
    columns = max(map(len, tiles))
    for titles, number, word in ((row_titles, len(tiles), "rows"), (column_titles, columns, "columns")):
        if len(titles) not in (0, number):
            raise DataError(f"Figure {name!r} has {number} {word}, but {len(titles)} titles of {word}.")
    for i, row in enumerate(tiles):
        for j, tile in enumerate(row):
            _check_pixels(f"Tile {j} of row {i} of figure {name!r}", tile.pixels)


def _check_pixels(where: str, pixels: NDArray[Any] | None) -> None:
    if pixels is None:
        return
    shape = list(np.shape(pixels))
    if not isinstance(pixels, np.ndarray) or not (pixels.dtype == np.uint8 or pixels.dtype.kind == "f"):
        kind = pixels.dtype if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise DataError(f"{where} must be an array of uint8 or floats, but is {kind}.")
    if not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)) or 0 in shape:
        raise DataError(f"{where} must be [h, w] or [h, w, 3] and not empty, but is {shape}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Where everything stands, in pixels of the figure from the upper left."""

    side: int
    """Width and height of a place."""
    gap: int
    """Space between two places."""
    left: int
    """Room for the titles of the rows."""
    top: int
    """Room for the titles of the columns."""
    below: tuple[int, ...]
    """Room for the captions of each row."""
    captions: tuple[tuple[str, ...], ...]
    """Captions in lines that fit."""
    column_titles: tuple[str, ...]
    """Titles of the columns in lines that fit."""
    size: tuple[int, int]
    """Width and height of all."""

    @property
    def width(self) -> float:
        """Inches."""
        return self.size[0] / DPI

    @property
    def height(self) -> float:
        """Inches."""
        return self.size[1] / DPI

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Upper left corner of a place: x, y."""
        y = self.top + row * (self.side + self.gap) + sum(self.below[:row])
        return self.left + column * (self.side + self.gap), y


def _plan(
    tiles: Sequence[Sequence[Tile]], row_titles: Sequence[str], column_titles: Sequence[str], tile_inches: float
) -> _Plan:
    rows, columns = len(tiles), max(map(len, tiles))
    longest = max((len(line) for word in row_titles for line in word.split("\n")), default=0)
    left = round(DPI * (0.08 + (0.079 * longest + 0.08 if longest else 0)))
    captioned = any(tile.caption for row in tiles for tile in row)
    gap = round(DPI * (0.04 if columns > 6 and not captioned else 0.1))
    side = max(8, int(min(tile_inches * DPI, (WIDEST * DPI - left) / columns - gap)))
    captions = tuple(tuple(_in_lines(tile.caption, (side + gap) / DPI / 0.063) for tile in row) for row in tiles)
    titles = tuple(_in_lines(word, (side + gap) / DPI / 0.086) for word in column_titles)
    below = tuple(round(DPI * (TEXT_HEIGHT * _lines(row) + (0.06 if _lines(row) else 0))) for row in captions)
    top = round(DPI * (0.06 + (0.165 * _lines(titles) + 0.04 if _lines(titles) else 0)))
    side = max(8, min(side, int((TALLEST * DPI - top - sum(below)) / rows - gap)))
    edge = round(0.06 * DPI)
    size = (left + columns * (side + gap) + edge, top + rows * (side + gap) + sum(below) + edge)
    return _Plan(
        side=side, gap=gap, left=left, top=top, below=below, captions=captions, column_titles=titles, size=size
    )


def _in_lines(words: str, letters: float) -> str:
    return "\n".join(textwrap.fill(line, max(6, int(letters))) for line in words.split("\n"))


def _lines(words: Sequence[str]) -> int:
    return max((word.count("\n") + 1 for word in words if word), default=0)


def _bare_canvas(width: float, height: float) -> "tuple[Canvas, Axes]":
    """A canvas whose one axes covers it: one unit is one pixel of the figure, from the upper left."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width, height), dpi=DPI)
    axes = canvas.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width * DPI), ylim=(height * DPI, 0))
    axes.set_axis_off()
    return canvas, axes


def _is_map(pixels: NDArray[Any] | None) -> bool:
    """Whether a picture is made of numbers that need a scale."""
    return pixels is not None and pixels.dtype.kind == "f"


def _ranges(
    tiles: Sequence[Sequence[Tile]], scale: Scale, *, signed: bool, limits: tuple[float, float] | None
) -> list[list[tuple[float, float]]]:
    """Lowest and highest value of the scale of each tile."""

    def ends(group: Sequence[Tile]) -> tuple[float, float]:
        maps = [tile.pixels for tile in group if tile.pixels is not None and _is_map(tile.pixels)]
        seen = [m[np.isfinite(m)] for m in maps if np.any(np.isfinite(m))]
        low, high = (min(float(m.min()) for m in seen), max(float(m.max()) for m in seen)) if seen else (0.0, 1.0)
        if signed:
            most = max(abs(low), abs(high)) or 1.0
            return -most, most
        return low, high

    if scale == "common":
        whole = limits or ends([tile for row in tiles for tile in row])
        return [[whole for _ in row] for row in tiles]
    if scale == "row":
        return [[ends(row) for _ in row] for row in tiles]
    return [[ends([tile]) for tile in row] for row in tiles]


def _coloured(pixels: NDArray[Any], ends: tuple[float, float], *, signed: bool) -> NDArray[np.uint8]:
    """Any picture as uint8 [h, w, 3]; what is not a number becomes paper white."""
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(np.broadcast_to(pixels.reshape(*pixels.shape[:2], -1), (*pixels.shape[:2], 3)))
    span = ends[1] - ends[0]
    share = np.clip((pixels.astype(np.float64) - ends[0]) / span, 0, 1) if span > 0 else np.full(pixels.shape, 0.5)
    if pixels.ndim == 3:
        mixed: NDArray[np.uint8] = np.nan_to_num(255 * share, nan=255).round().astype(np.uint8)
        return mixed
    shades: NDArray[np.uint8] = _map_colours(signed=signed)(share, bytes=True)[..., :3]
    shades[np.isnan(share)] = 255
    return shades


def _map_colours(*, signed: bool) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    if signed:
        return LinearSegmentedColormap.from_list("diverging", palette.DIVERGING)
    return matplotlib_or_raise().colormaps["gray"]


def _fitted(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A picture whose longer side fits the place: whole steps up, smoothly down."""
    from PIL import Image

    height, width = picture.shape[:2]
    longer = max(height, width)
    if longer <= side:
        step = side // longer
        enlarged: NDArray[np.uint8] = picture.repeat(step, axis=0).repeat(step, axis=1)
        return enlarged
    size = (max(1, round(width * side / longer)), max(1, round(height * side / longer)))
    reduced: NDArray[np.uint8] = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
    return reduced


def _paste(
    axes: "Axes", tiles: Sequence[Sequence[Tile]], ranges: list[list[tuple[float, float]]], plan: _Plan, *, signed: bool
) -> None:
    from matplotlib.patches import Rectangle

    width, height = plan.size
    sheet = np.full((height, width, 3), 255, dtype=np.uint8)
    for i, row in enumerate(tiles):
        for j, tile in enumerate(row):
            if tile.pixels is None:
                continue
            picture = _fitted(_coloured(tile.pixels, ranges[i][j], signed=signed), plan.side)
            high, wide = picture.shape[:2]
            x, y = plan.corner(i, j)
            x, y = x + (plan.side - wide) // 2, y + (plan.side - high) // 2
            sheet[y : y + high, x : x + wide] = picture
            edge = palette.TONES[tile.tone] if tile.tone else palette.RULE
            line = 2.2 if tile.tone else 0.5
            style = EDGES.get(tile.tone, "-")
            axes.add_patch(Rectangle((x, y), wide, high, fill=False, edgecolor=edge, linewidth=line, linestyle=style))
    axes.imshow(sheet, extent=(0, width, height, 0), interpolation="nearest", aspect="auto", zorder=0)
    axes.set_autoscale_on(False)


def _write_titles(axes: "Axes", row_titles: Sequence[str], plan: _Plan) -> None:
    for i, word in enumerate(row_titles):
        y = plan.corner(i, 0)[1] + plan.side / 2
        axes.text(plan.left - 0.08 * DPI, y, word, ha="right", va="center", fontsize=9, weight="bold")
    for j, word in enumerate(plan.column_titles):
        x = plan.corner(0, j)[0] + plan.side / 2
        axes.text(x, plan.top - 0.04 * DPI, word, ha="center", va="bottom", fontsize=9, weight="bold")


def _write_captions(axes: "Axes", plan: _Plan) -> None:
    for i, row in enumerate(plan.captions):
        for j, caption in enumerate(row):
            x, y = plan.corner(i, j)
            at = (x + plan.side / 2, y + plan.side + 0.03 * DPI)
            axes.text(*at, caption, ha="center", va="top", fontsize=7.5, linespacing=1.15)


def _bar_words(tiles: Sequence[Sequence[Tile]], scale: Scale, label: str) -> str:
    """What stands beside the scale bar."""
    maps = [tile.pixels for row in tiles for tile in row if tile.pixels is not None and _is_map(tile.pixels)]
    alike = ["red, green and blue alike"] if maps and all(pixels.ndim == 3 for pixels in maps) else []
    kind = {"common": "one scale for all", "row": "each row has its own scale", "each": "each tile has its own scale"}
    return "; ".join([label or "value", *alike, kind[scale]])


def _scale_bar(
    axes: "Axes", plan: _Plan, ends: tuple[float, float] | None, words: str, *, signed: bool, grey: bool
) -> None:
    """A bar below the grid that explains its shades; ends are None where tiles don't share a scale."""
    low, high = ("− most", "+ most") if signed else ("least", "most")
    if ends:
        step = 1e-3 * max(abs(ends[0]), abs(ends[1]))
        low, high = (brief(0.0 if abs(end) < step else end) for end in ends)
    left, top, wide, tall = plan.left, plan.size[1], BAR_LENGTH * DPI, 0.12 * DPI
    shades = _map_colours(signed=not grey)
    ramp = np.linspace(0, 1, 128)[None]
    axes.imshow(ramp, cmap=shades, extent=(left, left + wide, top + tall, top), aspect="auto", vmin=0, vmax=1)
    for share, word, side in ((0.0, low, "left"), (0.5, "0" if signed else "", "center"), (1.0, high, "right")):
        axes.text(left + share * wide, top + tall + 0.03 * DPI, word, ha=side, va="top", fontsize=7.5)
    axes.text(left + wide + 0.1 * DPI, top + tall / 2, words, ha="left", va="center", fontsize=8)


def _grid_in_words(
    tiles: Sequence[Sequence[Tile]], row_titles: Sequence[str], column_titles: Sequence[str], what: str
) -> str:
    total = sum(tile.pixels is not None for row in tiles for tile in row)
    words = [f"{total} {what} in {len(tiles)} row{'s' if len(tiles) > 1 else ''}"]
    if any(row_titles):
        words.append("rows: " + ", ".join(word.replace("\n", " ") for word in row_titles))
    if any(column_titles):
        words.append("columns: " + ", ".join(word.replace("\n", " ") for word in column_titles))
    captions = [tile.caption.replace("\n", ", ") for row in tiles for tile in row if tile.caption]
    if captions:
        shown = "; ".join(captions[:24])
        words.append(shown + (f"; and {len(captions) - 24} more" if len(captions) > 24 else ""))
    return "; ".join(words)


def _scale_in_words(ranges: Sequence[Sequence[tuple[float, float]]], scale: Scale, value_label: str) -> str:
    low = min(ends[0] for row in ranges for ends in row)
    high = max(ends[1] for row in ranges for ends in row)
    kind = {"common": "one scale", "row": "a scale for each row", "each": "a scale for each tile"}[scale]
    return f"; {kind}, {value_label or 'values'} between {brief(low)} and {brief(high)}"


def boxes_figure(
    image: NDArray[Any],
    boxes: Sequence[Box],
    *,
    name: str,
    title: str,
    caption: str = "",
    unit: str = "px",
    inches: float = 4.6,
) -> Figure:
    """An image with labelled rectangles, such as the receptive fields of several layers.

    Args:
        image: uint8 [h, w] or [h, w, 3].
        boxes: what to draw; parts beyond the image are drawn on paper.
        name: file name.
        title: what it shows.
        caption: how to read it.
        unit: of the sizes in the legend.
        inches: wanted size of the longer side of the image.

    Raises:
        DataError: the image has another shape or type.
    """
    _check_pixels(f"The image of figure {name!r}", image)
    if image.dtype != np.uint8:
        raise DataError(f"The image of figure {name!r} must be uint8, but is {image.dtype}.")
    height, width = image.shape[:2]
    left, top = min([0.0, *(box.left for box in boxes)]), min([0.0, *(box.top for box in boxes)])
    right = max([float(width), *(box.left + box.width for box in boxes)])
    bottom = max([float(height), *(box.top + box.height for box in boxes)])
    unit_inches = inches / max(right - left, bottom - top)
    edge = 0.1 / unit_inches
    with styled():
        canvas, axes = _bare_canvas((right - left) * unit_inches + 2.6, (bottom - top) * unit_inches + 0.2)
        wide = (right - left + 2 * edge) * unit_inches / canvas.get_figwidth()
        axes.set_position((0, 0, wide, 1))
        axes.set(xlim=(left - edge, right + edge), ylim=(bottom + edge, top - edge))
        picture = _fitted(_coloured(image, (0, 1), signed=False), max(1, int(max(width, height) * unit_inches * DPI)))
        axes.imshow(picture, extent=(0, width, height, 0), interpolation="nearest", aspect="auto")
        axes.set_autoscale_on(False)
        handles = [_draw_box(axes, box, position, unit) for position, box in enumerate(boxes)]
        _name_boxes(axes, boxes, unit_inches)
        if (left, top, right, bottom) != (0, 0, width, height):
            handles.insert(0, _draw_beyond(axes, left, top, right, bottom))
        if handles:
            axes.legend(
                handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=2.8, labelspacing=0.8,
            )  # fmt: skip
        alt = "; ".join(f"{box.label} {box.width:g} × {box.height:g} {unit}" for box in boxes) or "no boxes"
        alt = f"{title}: on an image of {width} × {height} px, {alt}."
        return finish(canvas, name=name, title=title, caption=caption, alt=alt)


def _draw_box(axes: "Axes", box: Box, position: int, unit: str) -> Any:
    """Draw a box on a light casing, so that it is seen on dark and on light; returns what stands in the legend."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    place: Any = ((box.left, box.top), box.width, box.height)
    look: dict[str, Any] = {
        "color": palette.SERIES[position % len(palette.SERIES)],
        "linestyle": palette.STYLES[position % len(palette.STYLES)],
        "linewidth": 2.0,
    }
    axes.add_patch(Rectangle(*place, fill=False, edgecolor=palette.PAPER, linewidth=4.0))
    axes.add_patch(Rectangle(*place, fill=False, **look))
    return Line2D([], [], **look, label=f"{box.label}: {box.width:g} × {box.height:g} {unit}")


def _name_boxes(axes: "Axes", boxes: Sequence[Box], unit_inches: float) -> None:
    """Write the names at the upper edges, from the largest box on, where they don't meet one already written."""
    taken: list[tuple[float, float, float]] = []
    for box in sorted(boxes, key=lambda one: -one.width * one.height):
        x, y, wide = box.left * unit_inches + 0.05, box.top * unit_inches, 0.075 * len(box.label)
        free = all(abs(y - up) > 0.16 or x > right or x + wide < left for left, up, right in taken)
        if free and wide < box.width * unit_inches:
            taken.append((x, y, x + wide))
            look = {"boxstyle": "round,pad=0.15", "facecolor": palette.PAPER, "edgecolor": "none"}
            axes.text(x / unit_inches, box.top, box.label, fontsize=8, va="center", bbox=look, zorder=5)


def _draw_beyond(axes: "Axes", left: float, top: float, right: float, bottom: float) -> Any:
    """Shade what lies outside of the image, under everything; returns what stands in the legend."""
    from matplotlib.patches import Rectangle

    look: dict[str, Any] = {"facecolor": "#eceff2", "edgecolor": palette.RULE, "linewidth": 0.6}
    axes.add_patch(Rectangle((left, top), right - left, bottom - top, zorder=-1, **look))
    return Rectangle((0, 0), 1, 1, **look, label="beyond the image")
