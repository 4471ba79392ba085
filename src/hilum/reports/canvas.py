"""What every figure shares: the style, an empty canvas, and the finished figure as bytes.

matplotlib is drawn through its objects on the Agg canvas: no window, no global state of pyplot.
"""

import base64
import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hilum.errors import DataError, MissingExtra
from hilum.reports import palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

DPI = 144

SETTINGS = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.edgecolor": palette.QUIET,
    "axes.labelcolor": palette.INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": palette.RULE,
    "grid.linewidth": 0.6,
    "text.color": palette.INK,
    "xtick.color": palette.QUIET,
    "ytick.color": palette.QUIET,
    "xtick.labelcolor": palette.INK,
    "ytick.labelcolor": palette.INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.hashsalt": "hilum",
    "svg.fonttype": "path",
    "figure.facecolor": palette.PAPER,
    "savefig.facecolor": palette.PAPER,
}

DOTTED = (0, (2, 3))
"""Line style of what is not data: chance, a published value, the start of a stage."""

PHOTO_BYTES = 120_000
"""A picture inside an SVG that is larger than this as PNG is stored as JPEG."""
LARGE_BYTES = 500_000
"""A PNG larger than this, hence full of photographs, is stored in 256 colours."""

RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A drawn figure."""

    name: str
    """File name without suffix, such as ``roc``."""
    title: str
    """What it shows, in a few words."""
    caption: str
    """How to read it: one or two sentences."""
    alt: str
    """What it shows to one who can't see it: the main numbers in words."""
    png: bytes
    """PNG at 144 dpi."""
    svg: bytes
    """SVG without a date, fonts as outlines."""


def matplotlib_or_raise() -> Any:
    """matplotlib itself.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise MissingExtra("train", "Drawing figures") from None
    return matplotlib


def styled() -> AbstractContextManager[None]:
    """A context in which matplotlib draws in our style; afterwards its settings are as before.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    context: AbstractContextManager[None] = matplotlib_or_raise().rc_context(SETTINGS)
    return context


def new_canvas(width: float, height: float, rows: int = 1, columns: int = 1) -> "tuple[Canvas, list[Axes]]":
    """An empty canvas and its axes, row by row; sizes in inches."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width, height), dpi=DPI, layout="compressed")
    return canvas, list(canvas.subplots(rows, columns, squeeze=False).ravel())


def find_layout(canvas: "Canvas", *, keep: bool) -> None:
    """Lay out what is drawn so far, without drawing it, so that words find their places beside lines and points.

    Args:
        canvas: with everything that takes room.
        keep: True where the words stay inside the axes, so that no layout need be sought again.
    """
    engine = canvas.get_layout_engine()
    if engine is not None:
        engine.execute(canvas)
    if keep:
        canvas.set_layout_engine("none")


def finish(canvas: "Canvas", *, name: str, title: str, caption: str, alt: str) -> Figure:
    """The canvas as PNG and SVG, without a date or a version, so that the same numbers give the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    png, svg = io.BytesIO(), io.BytesIO()
    # Printing through the canvases draws once where savefig draws twice, and a layout that was found need not be
    # sought again.
    FigureCanvasAgg(canvas).print_png(png, metadata={"Software": None})  # type: ignore[no-untyped-call]
    canvas.set_layout_engine("none")
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    FigureCanvasSVG(canvas).print_svg(svg, metadata=nothing)  # type: ignore[no-untyped-call]
    return Figure(
        name=name,
        title=title,
        caption=caption,
        alt=alt,
        png=_fewer_colours(png.getvalue()),
        svg=_smaller_photos(svg.getvalue()),
    )


def _fewer_colours(png: bytes) -> bytes:
    from PIL import Image

    if len(png) <= LARGE_BYTES:
        return png
    smaller = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        colours = picture.convert("RGB")
        few = colours.quantize(palette=colours.quantize(256), dither=Image.Dither.FLOYDSTEINBERG)
        few.save(smaller, "PNG", optimize=True, dpi=(DPI, DPI))
    return smaller.getvalue()


def _smaller_photos(svg: bytes) -> bytes:
    """Store the large pictures inside an SVG as JPEG: a photograph shrinks to a fifth and looks the same."""
    return re.sub(rb'"data:image/png;base64,\s*([^"]{%d,})"' % (PHOTO_BYTES * 4 // 3), _as_jpeg, svg)


def _as_jpeg(found: re.Match[bytes]) -> bytes:
    from PIL import Image

    jpeg = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(found[1]))) as picture:
        paper = Image.new("RGB", picture.size, palette.PAPER)
        paper.paste(picture, mask=picture.getchannel("A") if "A" in picture.getbands() else None)
        paper.save(jpeg, "JPEG", quality=85, subsampling=0)
    return b'"data:image/jpeg;base64,' + base64.b64encode(jpeg.getvalue()) + b'"'


def line_style(name: str, position: int) -> dict[str, Any]:
    """Colour and line style of a series."""
    return {
        "color": palette.colour_of(name, position),
        "linestyle": palette.STYLES[position % len(palette.STYLES)],
    }


def numbers(values: Sequence[float] | NDArray[Any], what: str, length: int | None = None) -> NDArray[np.float64]:
    """Values as one row of floats; what is infinite becomes NaN, which is not drawn.

    Args:
        values: the numbers.
        what: they are, for the message.
        length: how many there must be; None: any number.

    Raises:
        DataError: not one row of numbers, or another number of them.
    """
    try:
        row = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{what} must be numbers, but got {values!r}.") from None
    if row.ndim != 1:
        raise DataError(f"{what} must be one row of numbers, but got the shape {row.shape}.")
    if length is not None and len(row) != length:
        raise DataError(f"{what} has {len(row)} values where {length} are needed: one for each x.")
    row[~np.isfinite(row)] = np.nan
    return row


def brief(value: float, digits: int = 3) -> str:
    """A number as a label: ``0.912``, ``1,234``, ``6.62 million``, ``5.5×10⁻⁴``; a dash for NaN.

    Args:
        value: the number.
        digits: how many count; zeros at the end are left out.
    """
    size = abs(value)
    if np.isnan(value):
        return "–"
    if np.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:.{digits}g}"
    if size >= 1e15 or 0 < size < 0.001:
        text = _as_power(f"{value:.{max(0, digits - 2)}e}")
    elif size >= 1e6:
        unit, word = next(pair for pair in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")) if size >= pair[0])
        text = f"{value / unit:.{digits}g} {word}"
    elif size >= 1000:
        text = f"{value:,.0f}"
    elif "e" in text:
        text = f"{value:.0f}"
    return text.replace("-", "−")


def _as_power(scientific: str) -> str:
    mantissa, exponent = scientific.split("e")
    return f"{mantissa}×10{str(int(exponent)).translate(RAISED)}"


def text_size(axes: "Axes", word: str, size: float = 8.5) -> tuple[float, float]:
    """Width and height of a word in pixels; nothing for an empty one."""
    if not word:
        return 0.0, 0.0
    text = axes.text(0.5, 0.5, word, fontsize=size, transform=axes.transAxes)
    box = text.get_window_extent()
    text.remove()
    return float(box.width), float(box.height)


def plain_log_ticks(axes: "Axes", which: str) -> None:
    """On a logarithmic axis of up to three decades, name 1, 2 and 5 of each in plain numbers.

    Args:
        axes: whose axis.
        which: ``x`` or ``y``.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = sorted(axis.get_view_interval())
    decades = np.log10(high / low) if low > 0 else np.inf
    if decades <= 3:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades <= 2 else (1.0, 3.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: brief(value)))
        axis.set_minor_formatter(NullFormatter())
