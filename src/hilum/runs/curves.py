"""Curves of a member's training as PNG and SVG in the run's folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hilum.files import write_bytes
from hilum.reports.canvas import Figure
from hilum.reports.curves import Note, Panel, Reference, Series, curves_figure
from hilum.runs.layout import RunFolder

LEAST_RATE = 3000.0
"""How far below the highest learning rate the axis goes: a cosine ends near 0, which would squeeze the rest."""


def write_curves(folder: RunFolder, number: int, rows: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Draw a member's curves into ``curves/fold<number>.png`` and ``.svg``.

    Args:
        folder: of the run.
        number: of the member.
        rows: its metrics, one an epoch; with none, nothing is drawn.
    """
    if not rows:
        return []
    figure = training_figure(rows, name=f"fold{number}", title=f"{folder.root.name}: training of member {number + 1}")
    paths = [folder.root / "curves" / f"{figure.name}.{kind}" for kind in ("png", "svg")]
    for path, content in zip(paths, (figure.png, figure.svg), strict=True):
        write_bytes(path, content)
    return paths


def training_figure(rows: Sequence[Mapping[str, Any]], *, name: str, title: str) -> Figure:
    """Loss, accuracy and learning rate over the epochs of all stages, with the epoch whose weights were kept.

    Args:
        rows: metrics of one member, one an epoch.
        name: of the figure's files.
        title: what it shows.
    """
    epochs = list(range(1, len(rows) + 1))
    starts = [i for i in epochs if i == 1 or rows[i - 1]["stage"] != rows[i - 2]["stage"]]
    marks = [Reference(value=max(1.0, i - 0.5), label=str(rows[i - 1]["stage"]), axis="x") for i in starts]

    def panel(kind: str, y_label: str, scale: float = 1.0) -> Panel:
        fitted, watched = _values(rows, kind, scale), _values(rows, f"watch_{kind}", scale)
        lines = [Series(label="fitted films", x=epochs, y=fitted)]
        if any(row[f"watch_{kind}"] is not None for row in rows):
            lines.append(Series(label="watched films", x=epochs, y=watched))
        return Panel(series=lines, x_label="epoch", y_label=y_label, title=kind, references=marks, notes=kept(watched))

    def kept(watched: Sequence[float]) -> list[Note]:
        best = [i for i in epochs if rows[i - 1]["best"] and rows[i - 1]["stage"] == rows[-1]["stage"]]
        return [Note(x=best[-1], y=watched[best[-1] - 1], text="kept")] if best else []

    rate = Series(label="learning rate", x=epochs, y=_values(rows, "lr"))
    top = max(rate.y)
    return curves_figure(
        [
            panel("loss", "loss"),
            panel("accuracy", "accuracy (%)", 100),
            Panel(
                series=[rate],
                x_label="epoch",
                y_label="learning rate",
                title="rate",
                log_y=True,
                y_range=(top / LEAST_RATE, 1.5 * top) if top > 0 else None,
                references=marks,
            ),
        ],
        name=name,
        title=title,
        caption="Fitted films are measured while they are learnt, augmented and with dropout; watched films as they "
        "are. Dotted lines are the starts of stages; the weights of the epoch marked 'kept' are the member's.",
    )


def _values(rows: Sequence[Mapping[str, Any]], key: str, scale: float = 1.0) -> list[float]:
    return [float("nan") if row[key] is None else scale * float(row[key]) for row in rows]
