"""Tables as pictures: a heat map of any table, and a table of marks such as which map feeds which."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hilum.errors import DataError, nearest
from hilum.reports import palette
from hilum.reports.canvas import Figure, brief, finish, new_canvas, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Scale = Literal["linear", "log", "signed"]
"""Linear from the lowest to the highest value, logarithmic, or diverging around 0."""
SCALES: tuple[Scale, ...] = ("linear", "log", "signed")

MOST_CELLS_WITH_TEXT = 400
"""A table of more cells than this shows no values, only colours and the bar that explains them."""
MOST_NAMES = 40
"""Of more rows or columns than this only some are named, evenly."""


def heat_figure(
    matrix: Sequence[Sequence[float]] | NDArray[Any],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    *,
    name: str,
    title: str,
    caption: str = "",
    x_label: str = "",
    y_label: str = "",
    value_label: str = "",
    scale: Scale = "linear",
    limits: tuple[float, float] | None = None,
    texts: Sequence[Sequence[str]] | None = None,
    bar: bool = True,
) -> Figure:
    """A table as shades, with the value in each cell where there is room for it.

    Args:
        matrix: r rows of c values; NaN is drawn as an empty hatched cell.
        row_labels: r names, from the top.
        column_labels: c names, from the left.
        name: file name.
        title: what it shows.
        caption: how to read it.
        x_label: what the columns are, with a unit.
        y_label: what the rows are, with a unit.
        value_label: what the values are, with their unit, beside the colour bar.
        scale: ``linear``, ``log`` (values of 0 or less are drawn as NaN) or ``signed`` (white at 0).
        limits: values of the lightest and darkest shade; None: as the values need.
        texts: what to write into the cells instead of the values; empty texts write nothing.
        bar: whether to draw the colour bar.

    Raises:
        DataError: the matrix or the texts have another shape than the labels, or an unknown scale.
    """
    values = _table(matrix, row_labels, column_labels)
    words = None if texts is None else np.array(texts, dtype=object)
    if words is not None and words.shape != values.shape:
        raise DataError(f"Figure {name!r} has texts of shape {words.shape} for a matrix of shape {values.shape}.")
    if scale not in SCALES:
        raise DataError(f"{scale!r} is not a scale of heat_figure. {nearest(scale, SCALES)}")
    if scale == "log":
        values = np.where(values > 0, values, np.nan)
    if words is None and values.size <= MOST_CELLS_WITH_TEXT:
        words = np.array([[brief(v) for v in row] for row in values], dtype=object)
    with styled():
        cell_width, cell_height = _cell_size(words, values.shape, column_labels)
        margin = 0.6 + 0.075 * max(map(len, row_labels), default=0)
        width = min(12.0, margin + cell_width * values.shape[1] + 1.1 * bar)
        canvas, (axes,) = new_canvas(max(3.0, width), min(10.0, 1.2 + cell_height * values.shape[0]))
        shades, norm = _shades(values, scale, limits)
        axes.set_facecolor(palette.RULE)
        image = axes.imshow(values, cmap=shades, norm=norm, aspect="auto", interpolation="nearest")
        _hatch_gaps(axes, values)
        _write(axes, values, words, shades, norm, min(9.0, 62 * cell_height))
        _name_cells(axes, row_labels, column_labels, x_label, y_label, cell_width)
        if bar:
            label = value_label + (" (logarithmic)" if scale == "log" else "")
            canvas.colorbar(image, ax=axes, label=label, pad=0.02, aspect=30).outline.set_visible(False)
        alt = _in_words(values, row_labels, column_labels, value_label)
        return finish(canvas, name=name, title=title, caption=caption, alt=f"{title}: {alt}.")


def marks_figure(
    matrix: Sequence[Sequence[bool]] | NDArray[Any],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    *,
    name: str,
    title: str,
    caption: str = "",
    x_label: str = "",
    y_label: str = "",
) -> Figure:
    """A table of marks, such as which maps of one layer feed which of the next, with the count of each row and column.

    Args:
        matrix: r rows of c truths.
        row_labels: r names, from the top.
        column_labels: c names, from the left.
        name: file name.
        title: what it shows.
        caption: how to read it.
        x_label: what the columns are.
        y_label: what the rows are.

    Raises:
        DataError: the matrix has another shape than the labels.
    """
    marks = _table(matrix, row_labels, column_labels) > 0
    rows, columns = marks.shape
    with styled():
        canvas, (axes,) = new_canvas(1.6 + 0.3 * columns, 1.2 + 0.3 * rows)
        down, across = np.nonzero(marks)
        every_down, every_across = np.indices(marks.shape)
        axes.scatter(every_across, every_down, s=110, marker="s", facecolor=palette.PAPER, edgecolor=palette.RULE)
        axes.scatter(across, down, s=110, marker="s", color=palette.SERIES[0])
        _name_cells(axes, row_labels, column_labels, x_label, y_label, 0.3)
        axes.set(xlim=(-0.5, columns + 0.4), ylim=(rows + 0.4, -0.5))
        for i in range(rows):
            axes.text(columns, i, f"{marks[i].sum()}", ha="center", va="center", fontsize=8, color=palette.QUIET)
        for j in range(columns):
            axes.text(j, rows, f"{marks[:, j].sum()}", ha="center", va="center", fontsize=8, color=palette.QUIET)
        axes.text(columns, rows, f"{marks.sum()}", ha="center", va="center", fontsize=8, weight="bold")
        axes.set_aspect("equal")
        each = "; ".join(
            f"{label}: {', '.join(word for word, mark in zip(column_labels, row, strict=True) if mark) or 'none'}"
            for label, row in zip(row_labels, marks, strict=True)
        )
        alt = f"{marks.sum()} marks of {marks.size}; {each}"
        return finish(canvas, name=name, title=title, caption=caption, alt=f"{title}: {alt}.")


def _table(
    matrix: Sequence[Sequence[Any]] | NDArray[Any], row_labels: Sequence[str], column_labels: Sequence[str]
) -> NDArray[np.float64]:
    wanted = (len(row_labels), len(column_labels))
    try:
        values = np.array(matrix, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"A matrix of shape {list(wanted)} must be numbers in rows of one length.") from None
    if values.shape != wanted or not values.size:
        raise DataError(
            f"A matrix with {wanted[0]} row and {wanted[1]} column labels is {list(wanted)} and not empty, "
            f"but got {list(values.shape)}."
        )
    values[~np.isfinite(values)] = np.nan
    return values


def _cell_size(words: NDArray[Any] | None, shape: tuple[int, ...], column_labels: Sequence[str]) -> tuple[float, float]:
    """Width and height of a cell in inches: room for its text, less where a table is long."""
    rows, columns = shape
    if words is None:
        return min(0.45, 8.0 / columns), min(0.32, 7.0 / rows)
    longest = max(len(str(word)) for word in words.ravel())
    return max(0.34, 0.16 + 0.078 * longest), 0.34


def _shades(values: NDArray[np.float64], scale: Scale, limits: tuple[float, float] | None) -> tuple[Any, Any]:
    from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize

    seen = values[np.isfinite(values)]
    low, high = limits or ((float(seen.min()), float(seen.max())) if seen.size else (0.0, 1.0))
    if scale == "signed":
        most = max(abs(low), abs(high)) or 1.0
        return LinearSegmentedColormap.from_list("diverging", palette.DIVERGING), Normalize(-most, most)
    shades = LinearSegmentedColormap.from_list("shades", palette.SHADES)
    if scale == "log":
        return shades, LogNorm(low if low > 0 else 1e-12, high if high > low else 10 * max(low, 1e-12))
    return shades, Normalize(low, high if high > low else low + 1.0)


def _hatch_gaps(axes: "Axes", values: NDArray[np.float64]) -> None:
    from matplotlib.patches import Rectangle

    look: dict[str, Any] = {"facecolor": palette.PAPER, "edgecolor": palette.RULE, "hatch": "////", "linewidth": 0}
    for row, column in zip(*np.nonzero(np.isnan(values)), strict=True):
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **look))


def _write(
    axes: "Axes", values: NDArray[np.float64], words: NDArray[Any] | None, shades: Any, norm: Any, size: float
) -> None:
    from matplotlib.colors import to_hex

    if words is None:
        return
    for (row, column), word in np.ndenumerate(words):
        value = values[row, column]
        ink = palette.QUIET if np.isnan(value) else palette.text_on(to_hex(shades(norm(value))))
        axes.text(column, row, str(word), ha="center", va="center", fontsize=min(8.5, size), color=ink)


def _name_cells(
    axes: "Axes", row_labels: Sequence[str], column_labels: Sequence[str], x_label: str, y_label: str, cell_width: float
) -> None:
    for axis, labels in ((axes.xaxis, column_labels), (axes.yaxis, row_labels)):
        shown = range(0, len(labels), max(1, -(-len(labels) // MOST_NAMES)))
        axis.set_ticks(list(shown), [labels[i] for i in shown])
    longest = max(map(len, column_labels))
    if 0.085 * longest > cell_width:
        axes.tick_params(axis="x", labelrotation=45 if longest > 4 else 90)
        for label in axes.get_xticklabels():
            label.set(ha="right" if longest > 4 else "center", rotation_mode="anchor" if longest > 4 else "default")
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _in_words(
    values: NDArray[np.float64], row_labels: Sequence[str], column_labels: Sequence[str], value_label: str
) -> str:
    rows, columns = values.shape
    size = f"{rows} rows, {columns} columns" + (f", {value_label}" if value_label else "")
    gaps = int(np.isnan(values).sum())
    if gaps == values.size:
        return f"{size}; no values"
    words = [size]
    for word, flat in (("lowest", int(np.nanargmin(values))), ("highest", int(np.nanargmax(values)))):
        row, column = divmod(flat, columns)
        words.append(f"{word} {brief(values[row, column])} at {row_labels[row]}, {column_labels[column]}")
    return "; ".join(words + ([f"{gaps} cells without a value"] if gaps else []))
