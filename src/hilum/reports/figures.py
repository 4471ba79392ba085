"""The clinic's figures, as bytes: PNG for documents, SVG for pages. The same numbers give the same bytes, on any day.

The lab's figures are in `curves`, `charts`, `matrices` and `pictures`; what all of them share is in `canvas`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hilum.errors import DataError
from hilum.reports import palette
from hilum.reports.canvas import DPI, SETTINGS, Figure, finish, line_style, new_canvas, styled
from hilum.reports.tables import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "DPI",
    "SETTINGS",
    "CalibrationPoint",
    "Curve",
    "Figure",
    "Interval",
    "confusion_figure",
    "forest_figure",
    "lines_figure",
    "reliability_figure",
    "roc_figure",
]

ROOMY_LABELS = 5
"""A confusion matrix of up to so many labels has large cells, with count and per cent in each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One line of a figure."""

    label: str
    """Name in the legend."""
    x: Sequence[float]
    """Positions; NaN breaks the line."""
    y: Sequence[float]
    """Values."""
    name: str = ""
    """Name that chooses the colour, such as a finding; empty: the next colour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """One row of a forest figure."""

    label: str
    """What it is, at the left."""
    value: float
    """The value; NaN leaves the row empty, with the note."""
    low: float
    """Lower bound; NaN draws no bar."""
    high: float
    """Upper bound."""
    series: str = ""
    """Which series it belongs to; gives the colour and the legend."""
    note: str = ""
    """Text at the right, such as ``0.72 (0.64–0.79)``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationPoint:
    """One bin of a reliability diagram."""

    confidence: float
    """Mean probability, 0 … 1."""
    frequency: float
    """Share that showed the finding, 0 … 1."""
    low: float
    """Lower bound of the share."""
    high: float
    """Upper bound of the share."""


def roc_figure(curves: Sequence[Curve], *, name: str = "roc", title: str = "ROC curves", caption: str = "") -> Figure:
    """ROC curves in a square, with the line of chance.

    Args:
        curves: x is 1 − specificity, y is sensitivity; a curve without points is left out.
        name: file name.
        title: what it shows.
        caption: how to read it.
    """
    with styled():
        canvas, (axes,) = new_canvas(4.6, 4.6)
        axes.plot([0, 1], [0, 1], color=palette.QUIET, linewidth=0.8, linestyle=(0, (2, 3)), label="chance (0.50)")
        for i, curve in enumerate(curves):
            if len(curve.x):
                axes.plot(curve.x, curve.y, **line_style(curve.name, i), linewidth=1.8, label=curve.label)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel="1 − specificity", ylabel="sensitivity")
        axes.set_aspect("equal")
        axes.legend(loc="lower right")
        drawn = ", ".join(curve.label for curve in curves if len(curve.x)) or "nothing could be drawn"
        return finish(canvas, name=name, title=title, caption=caption, alt=f"{title}: {drawn}.")


def confusion_figure(
    counts: Sequence[Sequence[int]],
    labels: Sequence[str],
    *,
    name: str = "confusion",
    title: str = "Confusion matrix",
    caption: str = "",
    answer_label: str = "answer (most probable finding)",
    what: str = "films",
) -> Figure:
    """A confusion matrix: counts, and the share of each row as shade and per cent.

    Of more than five labels the cells are small: they hold counts, with per cent on the diagonal alone, zeros are
    dots, and shades grow with the root of the share, so that rare confusions are seen.

    Args:
        counts: k rows (truth) of k columns (answer).
        labels: k names.
        name: file name.
        title: what it shows.
        caption: how to read it.
        answer_label: what the columns are.
        what: the counted things are, in the words of the alt text.

    Raises:
        DataError: counts that are not a k × k table.
    """
    matrix = np.asarray(counts, dtype=np.int64)
    k = len(labels)
    if matrix.shape != (k, k):
        raise DataError(f"A confusion matrix of {k} labels is [{k}, {k}], but got {matrix.shape}.")
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    small = k > ROOMY_LABELS
    with styled():
        canvas, (axes,) = new_canvas(*((1.5 + 0.58 * k, 1.3 + 0.44 * k) if small else (1.5 + 0.95 * k, 1.2 + 0.85 * k)))
        _confusion_cells(axes, matrix, shares, small=small)
        axes.set_xticks(range(k), labels)
        axes.set_yticks(range(k), labels)
        if small and max(map(len, labels)) > 6:
            axes.tick_params(axis="x", labelrotation=45)
            for label in axes.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
        axes.set(xlabel=answer_label, ylabel="truth")
        axes.grid(visible=False)
        axes.tick_params(length=0)
        alt = "; ".join(f"of {matrix[i].sum()} {labels[i]} {what} {matrix[i, i]} answered right" for i in range(k))
        return finish(canvas, name=name, title=title, caption=caption, alt=f"{title}: {alt}.")


def _confusion_cells(axes: "Axes", matrix: NDArray[np.int64], shares: NDArray[np.float64], *, small: bool) -> None:
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    shades = LinearSegmentedColormap.from_list("shades", palette.SHADES)
    shown = np.sqrt(shares) if small else shares
    axes.imshow(shown, cmap=shades, vmin=0, vmax=1, aspect="auto" if small else "equal")
    for (row, column), count in np.ndenumerate(matrix):
        ink = palette.text_on(to_hex(shades(float(shown[row, column]))))
        share = percent(float(shares[row, column])) if matrix[row].sum() else "–"
        if small and row != column:
            text = f"{count:,}" if count else "·"
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=8.5)
            continue
        axes.text(
            column, row - (0.16 if small else 0.08), f"{count:,}", ha="center", va="center", color=ink,
            fontsize=8.5 if small else 11, weight="bold",
        )  # fmt: skip
        axes.text(column, row + 0.24, share, ha="center", va="center", color=ink, fontsize=7.5 if small else 8.5)


def reliability_figure(
    panels: Sequence[tuple[str, Mapping[str, Sequence[CalibrationPoint]]]],
    *,
    name: str = "reliability",
    title: str = "Reliability",
    caption: str = "",
) -> Figure:
    """Reliability diagrams side by side: how often a finding was there when the model gave it that probability.

    Args:
        panels: a title (a finding) and its series, such as ``{"before": points, "after": points}``.
        name: file name.
        title: what it shows.
        caption: how to read it.
    """
    with styled():
        canvas, all_axes = new_canvas(max(3.2, 3.0 * len(panels)), 3.5, columns=max(1, len(panels)))
        for axes, (heading, series) in zip(all_axes, panels, strict=False):
            axes.plot([0, 1], [0, 1], color=palette.QUIET, linewidth=0.8, linestyle=(0, (2, 3)))
            for i, (label, points) in enumerate(series.items()):
                _reliability_series(axes, label, points, i)
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="probability given")
            axes.set_title(heading)
            axes.set_aspect("equal")
        all_axes[0].set_ylabel("share with the finding")
        if panels and panels[0][1]:
            all_axes[0].legend(loc="upper left")
        return finish(canvas, name=name, title=title, caption=caption, alt=f"{title}: {_distances(panels)}.")


def _reliability_series(axes: "Axes", label: str, points: Sequence[CalibrationPoint], position: int) -> None:
    x = [point.confidence for point in points]
    y = np.array([point.frequency for point in points])
    low = np.array([point.low for point in points])
    high = np.array([point.high for point in points])
    colour = palette.SERIES[1 - position] if position < 2 else palette.SERIES[position]
    axes.errorbar(
        x,
        y,
        yerr=np.maximum(0, np.vstack([y - low, high - y])) if len(points) else None,
        color=colour,
        marker=palette.MARKERS[position],
        markersize=4,
        markerfacecolor=palette.PAPER if position == 0 else colour,
        linestyle=palette.STYLES[1 - position] if position < 2 else "-",
        linewidth=1.1,
        elinewidth=0.8,
        capsize=0,
        alpha=0.75 if position == 0 else 1.0,
        label=label,
    )


def _distances(panels: Sequence[tuple[str, Mapping[str, Sequence[CalibrationPoint]]]]) -> str:
    sentences = []
    for heading, series in panels:
        for label, points in series.items():
            if points:
                worst = max(abs(point.frequency - point.confidence) for point in points)
                sentences.append(f"{heading} {label}, largest distance from the diagonal {worst:.2f}")
    return "; ".join(sentences) or "nothing could be drawn"


def forest_figure(
    rows: Sequence[Interval],
    *,
    name: str,
    title: str,
    caption: str = "",
    xlabel: str,
    limits: tuple[float, float] | None = None,
    reference: float | None = None,
    reference_label: str = "",
) -> Figure:
    """Values with intervals, one row each, from the top down.

    Args:
        rows: what to draw.
        name: file name.
        title: what it shows.
        caption: how to read it.
        xlabel: the quantity and its unit.
        limits: of the axis; None: as the rows need.
        reference: a vertical line, such as chance at 0.5.
        reference_label: what the line is.
    """
    series = list(dict.fromkeys(row.series for row in rows))
    with styled():
        canvas, (axes,) = new_canvas(7.0, 0.9 + 0.3 * max(1, len(rows)) + 0.25 * (len(series) > 1))
        if reference is not None:
            axes.axvline(reference, color=palette.QUIET, linewidth=0.9, linestyle=(0, (2, 3)), label=reference_label)
        for position, row in enumerate(rows):
            _forest_row(
                axes, row, position, series.index(row.series), named=len(series) > 1 and _is_first(rows, position)
            )
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=xlabel, **({"xlim": limits} if limits else {}))
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        if len(series) > 1 or reference_label:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, borderaxespad=0.2)
        alt = "; ".join(f"{row.label} {row.note or round(row.value, 3)}" for row in rows)
        return finish(canvas, name=name, title=title, caption=caption, alt=f"{title}: {alt}.")


def _is_first(rows: Sequence[Interval], position: int) -> bool:
    return all(row.series != rows[position].series for row in rows[:position])


def _forest_row(axes: "Axes", row: Interval, position: int, series: int, *, named: bool) -> None:
    colour = palette.colour_of(row.series, series)
    if not np.isnan(row.value):
        label = row.series if named else None
        if not (np.isnan(row.low) or np.isnan(row.high)):
            axes.plot([row.low, row.high], [position, position], color=colour, linewidth=1.8, solid_capstyle="butt")
        axes.plot(
            [row.value], [position], marker=palette.MARKERS[series % len(palette.MARKERS)], color=colour,
            markersize=6, linestyle="none", label=label,
        )  # fmt: skip
    axes.annotate(
        row.note, (1.01, position), xycoords=("axes fraction", "data"), va="center", fontsize=8.5, annotation_clip=False
    )


def lines_figure(
    panels: Sequence[tuple[str, Sequence[Curve]]],
    *,
    name: str,
    title: str,
    caption: str = "",
    xlabel: str,
    markers: Sequence[tuple[float, str]] = (),
) -> Figure:
    """Lines over one axis in panels side by side, such as loss and accuracy over epochs.

    Args:
        panels: the quantity (the y label) and its curves.
        name: file name.
        title: what it shows.
        caption: how to read it.
        xlabel: the common x axis.
        markers: vertical lines with a word each, such as the start of a stage.
    """
    with styled():
        from matplotlib.ticker import MaxNLocator

        canvas, all_axes = new_canvas(max(4.0, 3.6 * len(panels)), 3.1, columns=max(1, len(panels)))
        for axes, (quantity, curves) in zip(all_axes, panels, strict=False):
            for i, curve in enumerate(curves):
                few = len(curve.x) < 40
                axes.plot(
                    curve.x, curve.y, **line_style(curve.name, i), label=curve.label, linewidth=1.5,
                    marker=palette.MARKERS[i % len(palette.MARKERS)] if few else None, markersize=3,
                )  # fmt: skip
            for x, word in markers:
                axes.axvline(x, color=palette.QUIET, linewidth=0.8, linestyle=(0, (2, 3)))
                axes.annotate(
                    word, (x, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 2), textcoords="offset points",
                    va="bottom", fontsize=8, color=palette.QUIET,
                )  # fmt: skip
            axes.set(xlabel=xlabel)
            axes.set_title(quantity, pad=16 if markers else None)
            if all(float(x).is_integer() for curve in curves for x in curve.x):
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if len(curves) > 1:
                axes.legend(loc="best")
        alt = "; ".join(
            f"{quantity}, {curve.label} from {curve.y[0]:.3g} to {curve.y[-1]:.3g}"
            for quantity, curves in panels
            for curve in curves
            if len(curve.y)
        )
        return finish(canvas, name=name, title=title, caption=caption, alt=f"{title}: {alt or 'nothing to draw'}.")
