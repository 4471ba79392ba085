"""Curves in panels side by side: values over epochs, depth, labels or shifts, with intervals, on linear or log axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hilum.errors import DataError
from hilum.intervals import joined
from hilum.reports import palette
from hilum.reports.canvas import (
    DOTTED,
    Figure,
    brief,
    find_layout,
    finish,
    new_canvas,
    numbers,
    plain_log_ticks,
    styled,
    text_size,
)
from hilum.reports.placing import Box, least_hidden, place_labels, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

Legend = Literal["auto", "above", "right", "ends", "none"]
"""Where series are named: above all panels, at the right, at the end of each line, or nowhere."""

MOST_MARKERS = 16
"""Lines of up to so many points show each with a marker; longer ones show every second, third … point."""
BARS_UP_TO = 8
"""Intervals of up to so many points are whiskers, of more a shaded band."""
DODGE = 3.0
"""Points by which whiskers at one x are drawn apart."""


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
    digits: int = 4,
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
        digits: of the numbers in the alt text.

    Raises:
        DataError: no panel, or a series whose y, low or high has not one value for each x.
    """
    if not panels:
        raise DataError(f"Figure {name!r} has no panels: give at least one.")
    looks = _looks([series for panel in panels for series in panel.series], ordered=ordered)
    lines = [[_line(panel, series, looks) for series in panel.series] for panel in panels]
    with styled():
        across = min(len(panels), columns or (2 if len(panels) == 4 else 3))
        down = -(-len(panels) // across)
        place = _legend_place(legend, len(looks), across)
        width = (6.4 if across == 1 else 0.6 + 3.7 * across) + (1.6 if place in ("right", "ends") else 0)
        canvas, all_axes = new_canvas(width, 0.3 + 3.2 * down, down, across)
        for axes, panel, drawn in zip(all_axes, panels, lines, strict=False):
            _draw_panel(axes, panel, drawn)
        for axes in all_axes[len(panels) :]:
            axes.set_axis_off()
        del all_axes[len(panels) :]
        if share_y:
            _share_y(all_axes)
        for axes, panel in zip(all_axes, panels, strict=True):
            if panel.log_y:
                plain_log_ticks(axes, "y")
        _name_upright(all_axes, panels, 72 * ((6.4 if across == 1 else 3.7) - 0.8))
        _draw_legend(canvas, all_axes, place)
        _write_words(canvas, all_axes, panels, lines, name_ends=place == "ends")
        alt = "; ".join(
            part for panel, drawn in zip(panels, lines, strict=True) for part in _in_words(panel, drawn, digits)
        )
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
    for position, line in enumerate(lines):
        _draw_line(axes, line, DODGE * (position - (len(lines) - 1) / 2))
    if not any(np.any(np.isfinite(line.y)) for line in lines):
        axes.text(0.5, 0.5, "nothing to draw", transform=axes.transAxes, ha="center", color=palette.QUIET)
    left_out = "\n(values of 0 or less are not shown)" if any(line.left_out for line in lines) else ""
    axes.set(xlabel=panel.x_label + left_out, ylabel=panel.y_label)
    if panel.x_range:
        axes.set_xlim(*panel.x_range)
    if panel.y_range:
        axes.set_ylim(*panel.y_range)
    _ticks(axes, panel, lines)
    _draw_references(axes, panel)


def _draw_line(axes: "Axes", line: _Line, dodge: float) -> None:
    from matplotlib.transforms import ScaledTranslation

    every = -(-len(line.x) // MOST_MARKERS) if line.look["linestyle"] != "none" else 1
    drawn: list[Any] = axes.plot(
        line.x, line.y, **line.look, linewidth=1.6, markersize=4.5, markevery=max(1, every), label=line.label
    )
    bounded = np.isfinite(line.low) & np.isfinite(line.high) & np.isfinite(line.y)
    if not np.any(bounded):
        return
    colour = line.look["color"]
    if len(line.x) > BARS_UP_TO:
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.16, linewidth=0)
        return
    drawn.append(axes.vlines(line.x[bounded], line.low[bounded], line.high[bounded], color=colour, linewidth=1.2))
    # Whiskers at one x are drawn beside one another, with their line.
    canvas: Any = axes.get_figure(root=True)
    aside = ScaledTranslation(dodge / 72, 0, canvas.dpi_scale_trans)
    for artist in drawn:
        artist.set_transform(axes.transData + aside)


def _ticks(axes: "Axes", panel: Panel, lines: Sequence[_Line]) -> None:
    from matplotlib.ticker import MaxNLocator, NullLocator

    places = np.unique(np.concatenate([line.x[np.isfinite(line.x)] for line in lines])) if lines else np.empty(0)
    named = list(panel.x_ticks)
    if not named and panel.log_x and 0 < len(places) <= 8:
        named = [(float(x), brief(x)) for x in places if x > 0]
    if named:
        axes.set_xticks([x for x, _ in named], [word for _, word in named])
        axes.xaxis.set_minor_locator(NullLocator())
    elif panel.log_x:
        plain_log_ticks(axes, "x")
    elif all(float(x).is_integer() for x in places):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))


def _draw_references(axes: "Axes", panel: Panel) -> None:
    look: dict[str, Any] = {"color": palette.QUIET, "linewidth": 1.0, "linestyle": DOTTED, "zorder": 1.5}
    for one in panel.references:
        if one.until is not None:
            span = axes.axhspan if one.axis == "y" else axes.axvspan
            span(one.value, one.until, color=palette.RULE, alpha=0.45, linewidth=0, zorder=0.5)
        elif one.axis == "y":
            axes.axhline(one.value, **look)
        else:
            axes.axvline(one.value, **look)


def _name_upright(all_axes: Sequence["Axes"], panels: Sequence[Panel], width: float) -> None:
    """Name the vertical lines above the axes, in as many rows as keep the words apart, and put the titles over them.

    Args:
        all_axes: of the panels.
        panels: with their references.
        width: of the axes, about, in points.
    """
    most = 0
    for axes, panel in zip(all_axes, panels, strict=True):
        ends: list[float] = []
        for one in sorted((one for one in panel.references if one.axis == "x"), key=lambda one: one.value):
            side = _side(axes, one.value)
            at, long = width * _fraction(axes, one.value, axes.get_ylim()[0])[0], 4.9 * len(one.label)
            start = at - long if side == "right" else at
            row = next((i for i, end in enumerate(ends) if end < start - 6), len(ends))
            ends[row : row + 1] = [start + long]
            axes.annotate(
                one.label, (one.value, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 2 + 11 * row),
                textcoords="offset points", ha=side, va="bottom", fontsize=8, color=palette.QUIET,
            )  # fmt: skip
        most = max(most, len(ends))
    for axes, panel in zip(all_axes, panels, strict=True):
        axes.set_title(panel.title, pad=6 + 11 * most)


def _fraction(axes: "Axes", x: float, y: float) -> tuple[float, float]:
    across, up = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))
    return float(across), float(up)


def _side(axes: "Axes", x: float) -> str:
    """Text at the right half of the axes ends at its place, text at the left half begins there."""
    return "right" if _fraction(axes, x, axes.get_ylim()[0])[0] > 0.55 else "left"


def _write_words(
    canvas: "Canvas",
    all_axes: Sequence["Axes"],
    panels: Sequence[Panel],
    lines: Sequence[Sequence[_Line]],
    *,
    name_ends: bool,
) -> None:
    """Write what must find its place beside the lines: names at their ends, names of horizontal lines, notes."""
    words = [[one for one in panel.references if one.axis == "y"] + list(panel.notes) for panel in panels]
    if not (name_ends or any(words)):
        return
    find_layout(canvas, keep=not name_ends)  # names at the ends stand outside the axes, which make room for them
    scale = canvas.dpi / 72
    for axes, panel, drawn in zip(all_axes, panels, lines, strict=True):
        if name_ends:
            _name_ends(axes, drawn, axes.get_window_extent().height / scale)
        dots, taken = _along(axes, drawn), list[Box]()
        for one in panel.references:
            if one.axis == "y":
                taken.append(_name_level(axes, one, dots, taken, scale))
        _write_notes(axes, panel.notes, dots, taken, scale)


def _along(axes: "Axes", lines: Sequence[_Line]) -> NDArray[np.float64]:
    """Places every few pixels along all lines [n, 2]."""
    steps = [np.empty((0, 2))]
    for line in lines:
        seen = np.isfinite(line.x) & np.isfinite(line.y)
        corners = axes.transData.transform(np.column_stack([line.x[seen], line.y[seen]]))
        if len(corners) > 1:
            far = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(corners, axis=0).T))])
            at = np.linspace(0, far[-1], min(600, 2 + int(far[-1] / 4)))
            corners = np.column_stack([np.interp(at, far, corners[:, 0]), np.interp(at, far, corners[:, 1])])
        steps.append(corners)
    return np.concatenate(steps)


def _frame(axes: "Axes") -> Box:
    left, bottom, right, top = axes.get_window_extent().extents
    return float(left), float(bottom), float(right), float(top)


def _name_level(axes: "Axes", one: Reference, dots: NDArray[np.float64], taken: Sequence[Box], scale: float) -> Box:
    """Write the name of a horizontal line where it hides least; returns the place."""
    frame = _frame(axes)
    width, height = text_size(axes, one.label, 8)
    low, high = sorted((one.value, one.value if one.until is None else one.until))
    levels = [axes.transData.transform((axes.get_xlim()[0], value))[1] for value in (high, low)]
    places: list[tuple[float, float, float]] = []
    for share in (1.0, 0.0, 0.5, 0.75, 0.25):
        left = frame[0] + 3 * scale + share * (frame[2] - frame[0] - width - 6 * scale)
        places += [(left, levels[0] + 1.5 * scale, one.value), (left, levels[1] - 2 * scale - height, one.value)]
    boxes = [(left, bottom, left + width, bottom + height) for left, bottom, _ in places]
    best = boxes[least_hidden(boxes, taken, frame, dots)]
    at = axes.transData.inverted().transform(best[:2])
    axes.annotate(one.label, (float(at[0]), float(at[1])), va="bottom", fontsize=8, color=palette.QUIET)
    return best


def _write_notes(
    axes: "Axes", notes: Sequence[Note], dots: NDArray[np.float64], taken: Sequence[Box], scale: float
) -> None:
    points = [(float(x), float(y)) for x, y in (axes.transData.transform((note.x, note.y)) for note in notes)]
    sizes = [text_size(axes, note.text) for note in notes]
    found = place_labels(points, [3 * scale] * len(notes), sizes, _frame(axes), 4 * scale, taken, dots)
    for note, (x, y), (left, bottom, _), size in zip(notes, points, found, sizes, strict=True):
        near = (np.clip((x - left) / max(1.0, size[0]), 0, 1), np.clip((y - bottom) / max(1.0, size[1]), 0, 1))
        axes.annotate(
            note.text, (note.x, note.y), xytext=((left - x) / scale, (bottom - y) / scale),
            textcoords="offset points", fontsize=8.5, va="bottom", zorder=6,
            bbox={"boxstyle": "round,pad=0.12", "facecolor": palette.PAPER, "edgecolor": "none", "alpha": 0.8},
            arrowprops={"arrowstyle": "-", "color": palette.INK, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 3,
                        "relpos": tuple(map(float, near))},
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


def _draw_legend(canvas: "Canvas", all_axes: Sequence["Axes"], place: Legend) -> None:
    handles: dict[str, Any] = {}
    for axes in all_axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if place in ("none", "ends") or not handles:
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


def _in_words(panel: Panel, lines: Sequence[_Line], digits: int) -> list[str]:
    heading = f"{panel.title or panel.y_label}, "
    words = [heading + _line_in_words(line, digits) for line in lines] or [f"{heading}nothing to draw"]
    for one in panel.references:
        until = "" if one.until is None else f" to {brief(one.until, digits)}"
        words.append(f"{heading}{one.label} at {brief(one.value, digits)}{until}")
    return words + [f"{heading}{note.text} at {brief(note.x, digits)}" for note in panel.notes]


def _line_in_words(line: _Line, digits: int) -> str:
    seen = np.flatnonzero(np.isfinite(line.y))
    if not len(seen):
        return f"{line.label}: nothing to draw"
    first, last = int(seen[0]), int(seen[-1])
    words = f"{line.label} {_value(line, first, digits)}"
    if first != last:
        words = f"{line.label} from {_value(line, first, digits)} to {_value(line, last, digits)}"
    for word, extreme in (("lowest", int(np.nanargmin(line.y))), ("highest", int(np.nanargmax(line.y)))):
        if line.y[extreme] not in (line.y[first], line.y[last]):
            words += f", {word} {brief(line.y[extreme], digits)} at {brief(line.x[extreme], digits)}"
    gaps = len(line.y) - len(seen)
    return words + (f", {gaps} of {len(line.y)} not drawn" if gaps else "")


def _value(line: _Line, at: int, digits: int) -> str:
    """A value with its interval and its place in words."""
    low, high = line.low[at], line.high[at]
    bounds = f" ({joined(brief(low, digits), brief(high, digits))})" if np.isfinite(low + high) else ""
    return f"{brief(line.y[at], digits)}{bounds} at {brief(line.x[at], digits)}"
