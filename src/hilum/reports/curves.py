"""Curves in panels side by side: values over epochs, depth, labels or shifts, with intervals, on linear or log axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hilum.errors import DataError
from hilum.reports import palette
from hilum.reports.canvas import DOTTED, Figure, brief, finish, new_canvas, numbers, styled
from hilum.reports.placing import spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

Legend = Literal["auto", "above", "right", "ends", "none"]
"""Where series are named: above all panels, at the right, at the end of each line, or nowhere."""

FEW_POINTS = 40
"""Lines of fewer points than this show each point with a marker."""
BARS_UP_TO = 8
"""Intervals of up to so many points are whiskers, of more a shaded band."""
OFFSETS = ((8, 10), (-8, 10), (8, -14), (-8, -14))
"""Where the text of a note stands beside its point, in points: right above, left above, right below, left below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line."""

    label: str
    """Name in the legend."""
    x: Sequence[float] | NDArray[Any]
    """Positions."""
    y: Sequence[float] | NDArray[Any]
    """Values; NaN or an infinite one breaks the line."""
    low: Sequence[float] | NDArray[Any] = ()
    """Lower bounds, one for each value; empty for none; NaN where there is none."""
    high: Sequence[float] | NDArray[Any] = ()
    """Upper bounds."""
    name: str = ""
    """Chooses the colour: series of one name have one colour, in every panel; empty: the label is the name."""
    style: Literal["", "solid", "dashed", "dotted", "dashdot", "points"] = ""
    """Line style; ``points`` draws no line; empty: the style that goes with the colour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A line that is not data: chance, a published value, the epoch where over-fitting begins."""

    value: float
    """Where it is."""
    label: str
    """What it is."""
    axis: Literal["x", "y"] = "y"
    """``y``: a horizontal line at that y; ``x``: a vertical line at that x."""
    until: float | None = None
    """Other end of a shaded range; None for a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A word at a point."""

    x: float
    """Position."""
    y: float
    """Value."""
    text: str
    """The word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One pair of axes with its lines."""

    series: Sequence[Series]
    """The lines."""
    x_label: str
    """What x is, with its unit: ``epoch``, ``shift (px)``."""
    y_label: str
    """What y is, with its unit: ``test accuracy (%)``."""
    title: str = ""
    """Heading of the panel."""
    log_x: bool = False
    """Logarithmic x; values of 0 or less are left out, and the axis says so."""
    log_y: bool = False
    """Logarithmic y; values of 0 or less are left out, and the axis says so."""
    x_range: tuple[float, float] | None = None
    """Ends of the x axis; None: as the lines need."""
    y_range: tuple[float, float] | None = None
    """Ends of the y axis; None: as the lines need."""
    x_ticks: Sequence[tuple[float, str]] = ()
    """Named places on the x axis, such as ``(250, "all")``; empty: as matplotlib chooses."""
    references: Sequence[Reference] = ()
    """Lines that are not data."""
    notes: Sequence[Note] = ()
    """Words at points."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A series whose numbers are checked and whose looks are chosen."""

    label: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    left_out: bool
    look: dict[str, Any]


def curves_figure(
    panels: Sequence[Panel],
    *,
    name: str,
    title: str,
    caption: str = "",
    legend: Legend = "auto",
    ordered: bool = False,
    share_y: bool = False,
    columns: int = 0,
) -> Figure:
    """Lines in panels side by side.

    Args:
        panels: what to draw; a panel without series is drawn empty and says so.
        name: file name.
        title: what it shows.
        caption: how to read it; say what the intervals are.
        legend: where the series are named; ``auto``: above up to four, at the right when there are more.
        ordered: the series are steps of one scale (depths, sizes): colours run from light to dark.
        share_y: all panels have the same y axis.
        columns: panels in a row; 0: up to three.

    Raises:
        DataError: no panel, or a series whose y, low or high has not one value for each x.
    """
    if not panels:
        raise DataError(f"Figure {name!r} has no panels: give at least one.")
    looks = _looks([series for panel in panels for series in panel.series], ordered=ordered)
    lines = [[_line(panel, series, looks) for series in panel.series] for panel in panels]
    with styled():
        across = min(len(panels), columns or 3)
        down = -(-len(panels) // across)
        place = _legend_place(legend, len(looks), across)
        width = (6.4 if across == 1 else 0.6 + 3.7 * across) + (1.6 if place in ("right", "ends") else 0)
        canvas, all_axes = new_canvas(width, 0.3 + 3.2 * down, down, across)
        for axes, panel, drawn in zip(all_axes, panels, lines, strict=False):
            _draw_panel(axes, panel, drawn)
        for axes in all_axes[len(panels) :]:
            axes.set_axis_off()
        if share_y:
            _share_y(all_axes[: len(panels)])
        _draw_legend(canvas, all_axes[: len(panels)], lines, place)
        alt = "; ".join(part for panel, drawn in zip(panels, lines, strict=True) for part in _in_words(panel, drawn))
        return finish(canvas, name=name, title=title, caption=caption, alt=f"{title}: {alt}.")


def _looks(series: Sequence[Series], *, ordered: bool) -> dict[tuple[str, str], dict[str, Any]]:
    """Colour, style and marker of each series, by name and label: the same in every panel."""
    names = list(dict.fromkeys(one.name or one.label for one in series))
    colours = palette.ordered(len(names)) if ordered else ()
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for one in series:
        key = (one.name, one.label)
        position = names.index(one.name or one.label)
        if key not in found:
            same_colour = sum(other == one.name for other, _ in found) if one.name else 0
            style = palette.STYLES[(position + same_colour) % len(palette.STYLES)]
            found[key] = {
                "color": colours[position] if ordered else palette.colour_of(one.name, position),
                "linestyle": {"": style, "points": "none"}.get(one.style, one.style),
                "marker": palette.MARKERS[(position + same_colour) % len(palette.MARKERS)],
                "markerfacecolor": None if same_colour == 0 else palette.PAPER,
            }
    return found


def _line(panel: Panel, series: Series, looks: dict[tuple[str, str], dict[str, Any]]) -> _Line:
    where = f"Series {series.label!r} of panel {panel.title or panel.y_label!r}"
    x = numbers(series.x, f"{where}: x")
    y = numbers(series.y, f"{where}: y", len(x))
    if (len(series.low) > 0) != (len(series.high) > 0):
        raise DataError(f"{where} has only one of low and high: give both bounds, or neither.")
    low = numbers(series.low, f"{where}: low", len(x)) if len(series.low) else np.full(len(x), np.nan)
    high = numbers(series.high, f"{where}: high", len(x)) if len(series.high) else np.full(len(x), np.nan)
    left_out = (panel.log_x and bool(np.any(x <= 0))) or (panel.log_y and bool(np.any(y <= 0)))
    if panel.log_y:
        y = np.where(y > 0, y, np.nan)
        low = np.where(low > 0, low, np.nan)
    if panel.log_x:
        y = np.where(x > 0, y, np.nan)
    return _Line(series.label, x, y, low, high, left_out, looks[(series.name, series.label)])


def _draw_panel(axes: "Axes", panel: Panel, lines: Sequence[_Line]) -> None:
    if panel.log_x:
        axes.set_xscale("log")
    if panel.log_y:
        axes.set_yscale("log")
    for line in lines:
        _draw_line(axes, line)
    if not any(np.any(np.isfinite(line.y)) for line in lines):
        axes.text(0.5, 0.5, "nothing to draw", transform=axes.transAxes, ha="center", color=palette.QUIET)
    left_out = " (0 or less not shown)" if any(line.left_out for line in lines) else ""
    axes.set(xlabel=panel.x_label + (left_out if not panel.log_y else ""))
    axes.set(ylabel=panel.y_label + (left_out if panel.log_y else ""))
    if panel.x_range:
        axes.set_xlim(*panel.x_range)
    if panel.y_range:
        axes.set_ylim(*panel.y_range)
    _ticks(axes, panel, lines)
    rows = _draw_references(axes, panel)
    axes.set_title(panel.title, pad=6 + 11 * rows)
    for note in panel.notes:
        _draw_note(axes, note)


def _draw_line(axes: "Axes", line: _Line) -> None:
    marked = len(line.x) < FEW_POINTS or line.look["linestyle"] == "none"
    look = dict(line.look, marker=line.look["marker"] if marked else "")
    axes.plot(line.x, line.y, **look, linewidth=1.6, markersize=4.2, label=line.label)
    bounded = np.isfinite(line.low) & np.isfinite(line.high) & np.isfinite(line.y)
    if not np.any(bounded):
        return
    colour = line.look["color"]
    if len(line.x) <= BARS_UP_TO:
        axes.vlines(line.x[bounded], line.low[bounded], line.high[bounded], color=colour, linewidth=1.1, alpha=0.8)
    else:
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.16, linewidth=0)


def _ticks(axes: "Axes", panel: Panel, lines: Sequence[_Line]) -> None:
    from matplotlib.ticker import MaxNLocator, NullLocator

    places = np.unique(np.concatenate([line.x[np.isfinite(line.x)] for line in lines])) if lines else np.empty(0)
    named = list(panel.x_ticks)
    if not named and panel.log_x and 0 < len(places) <= 8:
        named = [(float(x), f"{x:g}") for x in places if x > 0]
    if named:
        axes.set_xticks([x for x, _ in named], [word for _, word in named])
        axes.xaxis.set_minor_locator(NullLocator())
    elif not panel.log_x and all(float(x).is_integer() for x in places):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))


def _draw_references(axes: "Axes", panel: Panel) -> int:
    """Draw the lines that are not data; returns how many rows of words stand above the axes."""
    look: dict[str, Any] = {"color": palette.QUIET, "linewidth": 0.9, "linestyle": DOTTED, "zorder": 1.5}
    upright = sorted((one for one in panel.references if one.axis == "x"), key=lambda one: one.value)
    for one in panel.references:
        if one.until is not None:
            span = axes.axhspan if one.axis == "y" else axes.axvspan
            span(one.value, one.until, color=palette.RULE, alpha=0.45, linewidth=0, zorder=0.5)
        elif one.axis == "y":
            axes.axhline(one.value, **look)
        else:
            axes.axvline(one.value, **look)
        if one.axis == "y":
            axes.annotate(
                one.label, (0.995, one.value), xycoords=("axes fraction", "data"), xytext=(0, 2),
                textcoords="offset points", ha="right", va="bottom", fontsize=8, color=palette.QUIET,
            )  # fmt: skip
    for row, one in enumerate(upright):
        axes.annotate(
            one.label, (one.value, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 2 + 11 * row),
            textcoords="offset points", ha=_side(axes, one.value), va="bottom", fontsize=8, color=palette.QUIET,
        )  # fmt: skip
    return len(upright)


def _fraction(axes: "Axes", x: float, y: float) -> tuple[float, float]:
    across, up = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))
    return float(across), float(up)


def _side(axes: "Axes", x: float) -> str:
    """Text at the right half of the axes ends at its place, text at the left half begins there."""
    return "right" if _fraction(axes, x, axes.get_ylim()[0])[0] > 0.55 else "left"


def _draw_note(axes: "Axes", note: Note) -> None:
    across, up = _fraction(axes, note.x, note.y)
    right, below = across > 0.55, up > 0.7
    axes.annotate(
        note.text, (note.x, note.y), xytext=OFFSETS[right + 2 * below], textcoords="offset points", fontsize=8.5,
        ha="right" if right else "left", va="top" if below else "bottom",
        bbox={"boxstyle": "round,pad=0.2", "facecolor": palette.PAPER, "edgecolor": "none", "alpha": 0.85},
        arrowprops={"arrowstyle": "-", "color": palette.QUIET, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 3},
    )  # fmt: skip


def _share_y(all_axes: Sequence["Axes"]) -> None:
    low = min(axes.get_ylim()[0] for axes in all_axes)
    high = max(axes.get_ylim()[1] for axes in all_axes)
    for axes in all_axes:
        axes.set_ylim(low, high)


def _legend_place(legend: Legend, names: int, across: int) -> Legend:
    if legend != "auto":
        return legend
    if names < 2:
        return "none"
    return "above" if names <= 4 or across > 2 else "right"


def _draw_legend(canvas: "Canvas", all_axes: Sequence["Axes"], lines: Sequence[Sequence[_Line]], place: Legend) -> None:
    if place == "ends":
        canvas.draw_without_rendering()
        for axes, drawn in zip(all_axes, lines, strict=True):
            _name_ends(axes, drawn, axes.get_window_extent().height * 72 / canvas.dpi)
        return
    handles: dict[str, Any] = {}
    for axes in all_axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if place == "none" or not handles:
        return
    longest = max(len(label) for label in handles)
    ncols = 1 if place == "right" else max(1, min(len(handles), int(canvas.get_figwidth() / (0.55 + 0.075 * longest))))
    canvas.legend(
        list(handles.values()), list(handles), loc="outside right upper" if place == "right" else "outside upper left",
        ncols=ncols, handlelength=2.8, borderaxespad=0.3,
    )  # fmt: skip


def _name_ends(axes: "Axes", lines: Sequence[_Line], height_points: float) -> None:
    """Name each line at its right end, in the order of the ends and far enough apart to read."""
    ends = []
    for line in lines:
        seen = np.flatnonzero(np.isfinite(line.y))
        if len(seen):
            x, y = float(line.x[seen[-1]]), float(line.y[seen[-1]])
            ends.append((_fraction(axes, x, y)[1], x, y, line))
    heights = spread([end[0] for end in ends], 12.5 / height_points)
    for (_, x, y, line), height in zip(ends, heights, strict=True):
        axes.annotate(
            line.label, (x, y), xytext=(1.05, height), textcoords="axes fraction", fontsize=8.5, va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": line.look["color"], "linewidth": 0.9, "shrinkA": 1, "shrinkB": 4},
        )  # fmt: skip


def _in_words(panel: Panel, lines: Sequence[_Line]) -> list[str]:
    heading = f"{panel.title or panel.y_label}, "
    words = [heading + _line_in_words(line) for line in lines] or [f"{heading}nothing to draw"]
    words += [
        f"{heading}{one.label} at {brief(one.value)}" + ("" if one.until is None else f" to {brief(one.until)}")
        for one in panel.references
    ]
    return words + [f"{heading}{note.text} at {brief(note.x)}" for note in panel.notes]


def _line_in_words(line: _Line) -> str:
    seen = np.flatnonzero(np.isfinite(line.y))
    if not len(seen):
        return f"{line.label}: nothing to draw"
    first, last = int(seen[0]), int(seen[-1])
    words = f"{line.label} {_value(line, first)}"
    if first != last:
        words = f"{line.label} from {_value(line, first)} to {_value(line, last)}"
    lowest, highest = int(np.nanargmin(line.y)), int(np.nanargmax(line.y))
    for word, extreme in (("lowest", lowest), ("highest", highest)):
        if line.y[extreme] not in (line.y[first], line.y[last]):
            words += f", {word} {brief(line.y[extreme])} at {brief(line.x[extreme])}"
    gaps = len(line.y) - len(seen)
    return words + (f", {gaps} of {len(line.y)} not drawn" if gaps else "")


def _value(line: _Line, at: int) -> str:
    """A value with its interval and its place in words."""
    bounds = f" ({brief(line.low[at])}–{brief(line.high[at])})" if np.isfinite(line.low[at] + line.high[at]) else ""
    return f"{brief(line.y[at])}{bounds} at {brief(line.x[at])}"
