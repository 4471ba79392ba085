"""Bars and scatters: single values with their intervals, compared by length or by place."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.errors import DataError
from hilum.intervals import interval, joined, numeral
from hilum.reports import palette
from hilum.reports.canvas import (
    DOTTED,
    Figure,
    brief,
    find_layout,
    finish,
    new_canvas,
    plain_log_ticks,
    styled,
    text_size,
)
from hilum.reports.placing import Box, place_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

HATCHES = ("", "///", "\\\\\\", "xxx", "---", "+++", "|||")
"""Fillings that go with the colours, so that a grey print still tells series apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar."""

    label: str
    """Row; bars of one label stand together."""
    value: float
    """Its length; NaN leaves the row empty and says so."""
    low: float = float("nan")
    """Lower bound; NaN draws no whisker."""
    high: float = float("nan")
    """Upper bound."""
    series: str = ""
    """Which series it belongs to; gives colour, filling and legend."""
    note: str = ""
    """Text at its end; empty: the value, with as many decimals as those of the other bars."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One point of a scatter."""

    label: str
    """Its name, written beside it; empty for none."""
    x: float
    """Position across."""
    y: float
    """Position up."""
    x_low: float = float("nan")
    """Lower bound across; NaN draws no whisker."""
    x_high: float = float("nan")
    """Upper bound across."""
    y_low: float = float("nan")
    """Lower bound up; NaN draws no whisker."""
    y_high: float = float("nan")
    """Upper bound up."""
    size: float = float("nan")
    """A third quantity, drawn as area; NaN: a plain marker."""
    series: str = ""
    """Which series it belongs to; gives colour, marker and legend."""


def bars_figure(
    bars: Sequence[Bar],
    *,
    name: str,
    title: str,
    caption: str = "",
    x_label: str,
    y_label: str = "",
    log_x: bool = False,
    limits: tuple[float, float] | None = None,
    reference: float | None = None,
    reference_label: str = "",
    digits: int = 3,
) -> Figure:
    """Horizontal bars with intervals and values, grouped by label, from the top down.

    On a logarithmic axis, where the length of a bar means nothing, they are dots on lines.

    Args:
        bars: what to draw.
        name: file name.
        title: what it shows.
        caption: how to read it; say what the whiskers are.
        x_label: the quantity and its unit.
        y_label: what the rows are; empty where their names say it.
        log_x: logarithmic axis; every value must then be above 0.
        limits: of the axis; None: from 0, or on a logarithmic axis as the bars need.
        reference: a vertical line, such as chance.
        reference_label: what the line is.
        digits: that count in the largest of the values at the ends that have no note of their own; on a logarithmic
            axis, in each of them.

    Raises:
        DataError: a value of 0 or less on a logarithmic axis.
    """
    below = [bar for bar in bars if log_x and bar.value <= 0]
    if below:
        raise DataError(
            f"Bar {below[0].label!r} of figure {name!r} is {below[0].value:g}, which a logarithmic axis can't show. "
            "Use log_x=False, or leave the bar out."
        )
    series = list(dict.fromkeys(bar.series for bar in bars))
    labels = list(dict.fromkeys(bar.label for bar in bars))
    thick = 0.8 / max(1, len(series))
    notes = [_bar_note(bar, digits, None if log_x else _common_decimals(bars, digits)) for bar in bars]
    with styled():
        rows = max(1, len(labels)) * max(0.32, 0.21 * len(series) + 0.1)
        canvas, (axes,) = new_canvas(7.0, 0.8 + rows + (0.3 if len(series) > 1 or reference_label else 0))
        if log_x:
            axes.set_xscale("log")
        if reference is not None:
            axes.axvline(reference, color=palette.INK, linewidth=1.0, linestyle=DOTTED, label=reference_label or None)
        _bar_limits(axes, bars, log_x=log_x, limits=limits)
        if log_x:
            plain_log_ticks(axes, "x")
        seen: set[str] = set()
        for bar, note in zip(bars, notes, strict=True):
            position = series.index(bar.series)
            at = labels.index(bar.label) + (position - (len(series) - 1) / 2) * thick
            _draw_bar(axes, bar, note, at, thick, position, named=bool(bar.series) and bar.series not in seen)
            seen.add(bar.series)
        axes.set_yticks(range(len(labels)), labels)
        axes.set(ylim=(max(1, len(labels)) - 0.5, -0.5), xlabel=x_label, ylabel=y_label)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        if (len(series) > 1) or reference_label:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, borderaxespad=0.2)
        told = zip(bars, notes, strict=True)
        alt = "; ".join(" ".join(filter(None, (bar.label, bar.series, note))) for bar, note in told)
        return finish(canvas, name=name, title=title, caption=caption, alt=f"{title}: {alt or 'nothing to draw'}.")


def _bar_limits(axes: "Axes", bars: Sequence[Bar], *, log_x: bool, limits: tuple[float, float] | None) -> None:
    ends = np.array([x for bar in bars for x in (bar.value, bar.low, bar.high) if np.isfinite(x)] or [1.0])
    if limits:
        axes.set_xlim(*limits)
    elif log_x:
        axes.set_xlim(ends[ends > 0].min() / 2, ends.max() * 1.3)
    else:
        axes.set_xlim(min(0.0, 1.05 * ends.min()), max(0.0, 1.05 * ends.max()) or 1.0)


def _draw_bar(axes: "Axes", bar: Bar, note: str, at: float, thick: float, position: int, *, named: bool) -> None:
    colour = palette.colour_of(bar.series, position)
    start = axes.get_xlim()[0] if axes.get_xscale() == "log" else 0.0
    end = start
    log = axes.get_xscale() == "log"
    if np.isfinite(bar.value) and log:
        axes.plot([start, bar.value], [at, at], color=palette.RULE, linewidth=1.2, zorder=1.5)
        axes.plot(
            [bar.value], [at], color=colour, marker=palette.MARKERS[position % len(palette.MARKERS)], markersize=7,
            linestyle="none", label=bar.series if named else None, zorder=3,
        )  # fmt: skip
        end = bar.value
    elif np.isfinite(bar.value):
        axes.barh(
            at, bar.value - start, left=start, height=0.86 * thick, color=colour, edgecolor=palette.PAPER, linewidth=0,
            hatch=HATCHES[position % len(HATCHES)], label=bar.series if named else None,
        )  # fmt: skip
        end = max(end, bar.value)
    if np.isfinite(bar.value + bar.low + bar.high):
        # Dark inside a light edge: seen on the bar and on paper.
        axes.plot([bar.low, bar.high], [at, at], color=palette.PAPER, linewidth=3.2, solid_capstyle="butt")
        axes.plot([bar.low, bar.high], [at, at], color=palette.INK, linewidth=1.3, solid_capstyle="butt")
        end = max(end, bar.high)
    axes.annotate(
        note, (end, at), xytext=(7 if log else 4, 0), textcoords="offset points", va="center",
        fontsize=8.5, annotation_clip=False,
    )  # fmt: skip


def _common_decimals(bars: Sequence[Bar], digits: int) -> int | None:
    """Decimals of all values without a note: ``digits`` count in the largest, one at least in the smallest.

    ``None`` where values are so far apart, so large or so small that each is better written by itself.
    """
    told = [bar for bar in bars if not bar.note and np.isfinite(bar.value)]
    sizes = [abs(bar.value) for bar in told if bar.value]
    if not sizes or max(sizes) >= 1e6 or min(sizes) < max(0.001, max(sizes) / 10**digits):
        return None
    decimals = max(0, digits - 1 - floor(log10(max(sizes))), -floor(log10(min(sizes))))
    numbers = [x for bar in told for x in (bar.value, bar.low, bar.high) if np.isfinite(x)]
    return next(few for few in range(decimals + 1) if all(round(x, few) == round(x, decimals) for x in numbers))


def _bar_note(bar: Bar, digits: int, decimals: int | None) -> str:
    if bar.note:
        return bar.note
    if not np.isfinite(bar.value):
        return "no value"
    if decimals is None:
        return _with_bounds(bar.value, bar.low, bar.high, digits)
    form = f",.{decimals}f"
    bounds = f" ({interval(bar.low, bar.high, form)})" if np.isfinite(bar.low + bar.high) else ""
    return numeral(bar.value, form) + bounds


def _with_bounds(value: float, low: float, high: float, digits: int = 3) -> str:
    bounds = f" ({joined(brief(low, digits), brief(high, digits))})" if np.isfinite(low + high) else ""
    return brief(value, digits) + bounds


def scatter_figure(
    points: Sequence[Point],
    *,
    name: str,
    title: str,
    caption: str = "",
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
    size_label: str = "",
    y_range: tuple[float, float] | None = None,
) -> Figure:
    """Points with their names, such as accuracy against multiply-accumulates, and parameters as area.

    Args:
        points: what to draw; one whose x or y is NaN, or not above 0 on a logarithmic axis, is left out, and the words
            say so.
        name: file name.
        title: what it shows.
        caption: how to read it.
        x_label: what x is, with its unit.
        y_label: what y is, with its unit.
        log_x: logarithmic x.
        log_y: logarithmic y.
        size_label: what the area is, with its unit.
        y_range: ends of the y axis; None: as the points need.
    """
    seen = [point for point in points if _can_be_drawn(point, log_x=log_x, log_y=log_y)]
    series = list(dict.fromkeys(point.series for point in seen))
    largest = max((point.size for point in seen if np.isfinite(point.size)), default=float("nan"))
    with styled():
        canvas, (axes,) = new_canvas(6.8, 4.6)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.set_xscale("log" if log_x else "linear")
        axes.set_yscale("log" if log_y else "linear")
        axes.margins(0.09)
        for position, word in enumerate(series):
            _draw_points(axes, [point for point in seen if point.series == word], position, largest)
        if y_range:
            axes.set_ylim(*y_range)
        for which, log in (("x", log_x), ("y", log_y)):
            if log:
                plain_log_ticks(axes, which)
        _scatter_legend(canvas, axes, series, largest, size_label)
        _label_points(canvas, axes, seen, largest)
        alt = "; ".join(
            f"{point.label} {x_label} {brief(point.x)}, {y_label} {_with_bounds(point.y, point.y_low, point.y_high)}"
            + (f", {size_label} {brief(point.size)}" if np.isfinite(point.size) else "")
            for point in seen
        )
        lost = ", ".join(point.label for point in points if point not in seen)
        words = f"{alt or 'nothing to draw'}" + (f"; not drawn: {lost}" if lost else "")
        return finish(canvas, name=name, title=title, caption=caption, alt=f"{title}: {words}.")


def _can_be_drawn(point: Point, *, log_x: bool, log_y: bool) -> bool:
    finite = np.isfinite(point.x) and np.isfinite(point.y)
    return bool(finite and (point.x > 0 or not log_x) and (point.y > 0 or not log_y))


def _area(size: float, largest: float) -> float:
    """Area of a marker in square points: in proportion to the size, never too small to see."""
    return 36.0 if not np.isfinite(size) else max(14.0, 700.0 * size / largest)


def _draw_points(axes: "Axes", points: Sequence[Point], position: int, largest: float) -> None:
    colour = palette.SERIES[position % len(palette.SERIES)]
    sized = np.isfinite(largest)
    for point in points:
        whisker: dict[str, Any] = {"color": colour, "linewidth": 1.2, "alpha": 0.8}
        if np.isfinite(point.y_low + point.y_high):
            axes.plot([point.x, point.x], [point.y_low, point.y_high], **whisker)
        if np.isfinite(point.x_low + point.x_high):
            axes.plot([point.x_low, point.x_high], [point.y, point.y], **whisker)
    axes.scatter(
        [point.x for point in points], [point.y for point in points],
        s=[_area(point.size, largest) for point in points], color=colour, alpha=0.6 if sized else 1.0,
        marker="o" if sized else palette.MARKERS[position % len(palette.MARKERS)], edgecolor=palette.INK, linewidth=0.6,
        label=points[0].series, zorder=3,
    )  # fmt: skip


def _scatter_legend(canvas: "Canvas", axes: "Axes", series: Sequence[str], largest: float, size_label: str) -> None:
    handles: list[Any] = []
    if len(series) > 1 or any(series):
        handles += axes.get_legend_handles_labels()[0]
    if np.isfinite(largest):
        handles += [
            axes.scatter([], [], s=_area(size, largest), color=palette.RULE, edgecolor=palette.INK, linewidth=0.6,
                         label=f"{brief(size)} {size_label}".strip())
            for size in dict.fromkeys(_round_down(largest * share) for share in (0.1, 0.4, 1.0))
        ]  # fmt: skip
    if handles:
        apart = 1.9 if np.isfinite(largest) else 0.9
        canvas.legend(handles=handles, loc="outside right upper", labelspacing=apart, borderaxespad=0.8)


def _round_down(value: float) -> float:
    """The largest of 1, 2, 5, 10, 20, 50 … that is not above the value."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(power * max(step for step in (1, 2, 5) if step * power <= value * (1 + 1e-9)))


def _label_points(canvas: "Canvas", axes: "Axes", points: Sequence[Point], largest: float) -> None:
    """Write the names beside the points."""
    find_layout(canvas, keep=True)
    scale = canvas.dpi / 72
    places = [axes.transData.transform((point.x, point.y)) for point in points]
    centres = [(float(x), float(y)) for x, y in places]
    radii = [scale * (_area(point.size, largest) / np.pi) ** 0.5 for point in points]
    sizes = [text_size(axes, point.label) for point in points]
    left, bottom, right, top = axes.get_window_extent().extents
    whiskers = [box for point in points for box in _whisker_boxes(axes, point)]
    found = place_labels(centres, radii, sizes, (left, bottom, right, top), 2.5 * scale, whiskers)
    for point, (x, y), (label_x, label_y, far) in zip(points, centres, found, strict=True):
        line = {"arrowstyle": "-", "color": palette.QUIET, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0}
        axes.annotate(
            point.label, (point.x, point.y), xytext=((label_x - x) / scale, (label_y - y) / scale),
            textcoords="offset points", fontsize=8.5, va="bottom", annotation_clip=False, zorder=5,
            arrowprops=line if far else None,
        )  # fmt: skip


def _whisker_boxes(axes: "Axes", point: Point) -> list[Box]:
    boxes = []
    for low, high in (
        ((point.x, point.y_low), (point.x, point.y_high)),
        ((point.x_low, point.y), (point.x_high, point.y)),
    ):
        left, bottom = axes.transData.transform(low)
        right, top = axes.transData.transform(high)
        if np.isfinite(left + bottom + right + top):
            boxes.append((float(left) - 2, float(bottom) - 2, float(right) + 2, float(top) + 2))
    return boxes
