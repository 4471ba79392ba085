"""Figures and tables of the study of transfer learning against scratch."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hilum.evaluation.intervals import wilson_interval
from hilum.intervals import interval, numeral
from hilum.reports.canvas import Figure
from hilum.reports.charts import Bar, bars_figure
from hilum.reports.curves import Panel, Reference, Series, curves_figure
from hilum.reports.page import Bullets, Figures, Paragraph, Section
from hilum.reports.tables import Cell, Column, Table, table
from hilum.studies.transfer_vs_scratch_analysis import METHODS, SCRATCH, Rows, best_watched, label_counts, pick, spread


def sections(measured: Mapping[str, Any]) -> tuple[Section, ...]:
    """The report's parts."""
    rows, films = measured["trainings"], measured["films"]
    return (
        Section(
            title="Accuracy against labels",
            name="labels",
            blocks=(
                Figures((accuracy_figure(rows, measured["test"]), gap_figure(rows))),
                summary_table(measured["accuracy"]),
            ),
        ),
        Section(
            title="What it costs",
            name="cost",
            blocks=(
                Paragraph(
                    "Training MACs = frozen · (images × views) + 3 · trained · (images × epochs): a forward pass "
                    "through the frozen layers once for each view, because their outputs are cached; through the "
                    "trained layers forward, and backward at twice the forward pass. Fine-tuning includes the head's "
                    "training before it. Scoring is not counted in MACs; it is in the seconds."
                ),
                parts_table(measured["parts"]),
                Figures((cost_figure(rows),)),
            ),
        ),
        Section(
            title="How soon",
            name="speed",
            blocks=(
                Figures((learning_figure(rows),)),
                targets_table(measured["targets_s"]),
                Bullets(
                    (
                        "Accuracy on watched images: labels that are neither fitted nor tested on.",
                        "Seconds begin before the frozen layers are run, and include the head's training.",
                        "A target is each seed's own: the best that the named method reached on that seed's images.",
                    )
                ),
            ),
        ),
        Section(
            title="Chest films: normal or pneumonia",
            name="films",
            blocks=(Figures((films_figure(films, synthetic=measured["films_synthetic"]),)), films_table(films)),
        ),
    )


def _positions(rows: Rows) -> list[tuple[float, str]]:
    """Places of the numbers of labels on a logarithmic axis: labels a class, and the name of each tick."""
    classes = max(1, _classes(rows))
    places = []
    for labels in label_counts(rows):
        count = pick(rows, SCRATCH, labels)[0]["labels"] / classes if labels == "all" else float(labels)
        places.append((count, f"all ({count:.0f})" if labels == "all" else str(labels)))
    return places


def _classes(rows: Rows) -> int:
    numbered = next((row for row in rows if row["labels_per_class"] != "all"), None)
    return int(numbered["labels"] / numbered["labels_per_class"]) if numbered else 1


def _by_labels(rows: Rows, key: str) -> list[Series]:
    places = [place for place, _ in _positions(rows)]
    series = []
    for method in METHODS:
        values = [spread(row[key] for row in pick(rows, method, labels)) for labels in label_counts(rows)]
        mean, low, high = zip(*values, strict=True)
        series.append(Series(label=method, x=places, y=mean, low=low, high=high))
    return series


def accuracy_figure(rows: Rows, test: int) -> Figure:
    """Test accuracy against labels per class."""
    half = 100 * (wilson_interval(0.5, test)[1] - 0.5)
    return curves_figure(
        [
            Panel(
                series=_by_labels(rows, "test_accuracy"),
                x_label="labels per class",
                y_label="test accuracy (%)",
                log_x=True,
                x_ticks=_positions(rows),
            )
        ],
        name="accuracy_by_labels",
        title="Test accuracy against labels per class",
        caption=f"Mean of the seeds; bars reach from the smallest to the largest. {test:,} test images alone leave ± "
        f"{half:.1f} points at 50 % (95 % Wilson).",
    )


def gap_figure(rows: Rows) -> Figure:
    """Train–test gap against labels per class."""
    gaps = [{**row, "gap": row["train_accuracy"] - row["test_accuracy"]} for row in rows]
    return curves_figure(
        [
            Panel(
                series=_by_labels(gaps, "gap"),
                x_label="labels per class",
                y_label="training − test accuracy (points)",
                log_x=True,
                x_ticks=_positions(rows),
                references=(Reference(value=0, label="no gap"),),
            )
        ],
        name="gap_by_labels",
        title="Gap between training and test",
        caption="Accuracy on the fitted images, without augmentation, less that on test images. Mean of the seeds; "
        "bars from the smallest to the largest.",
    )


def cost_figure(rows: Rows) -> Figure:
    """Seconds and MACs of whole trainings against labels."""
    scaled = [{**row, "gmacs": row["macs"] / 1e9} for row in rows]
    panels = [
        Panel(
            series=_by_labels(scaled, key),
            x_label="labels per class",
            y_label=y_label,
            title=title,
            log_x=True,
            log_y=True,
            x_ticks=_positions(rows),
        )
        for key, y_label, title in (
            ("whole_s", "seconds", "Wall time"),
            ("gmacs", "giga-MACs", "Multiply-accumulates"),
        )
    ]
    return curves_figure(
        panels,
        name="cost_by_labels",
        title="Cost of a whole training",
        caption="Frozen layers are run once and cached; fine-tuning includes the head's training. Mean of the seeds; "
        "bars from the smallest to the largest.",
        legend="above",
    )


def learning_figure(rows: Rows) -> Figure:
    """Watched accuracy against seconds, with all labels."""
    series = []
    for method in METHODS:
        curves = [row["curve"] for row in pick(rows, method, "all")]
        points = [spread(curve[i]["watch_accuracy"] for curve in curves) for i in range(len(curves[0]))]
        mean, low, high = zip(*points, strict=True)
        elapsed = [float(np.mean([curve[i]["elapsed_s"] for curve in curves])) for i in range(len(curves[0]))]
        series.append(Series(label=method, x=elapsed, y=mean, low=low, high=high))
    goal = float(np.mean([best_watched(row) for row in pick(rows, SCRATCH, "all")]))
    return curves_figure(
        [
            Panel(
                series=series,
                x_label="seconds of training, frozen layers included",
                y_label="validation accuracy (%)",
                log_x=True,
                references=(Reference(value=goal, label="best of scratch"),),
            )
        ],
        name="learning",
        title="How soon each method learns, with all labels",
        caption="Each point is the end of an epoch; mean of the seeds, the band from the smallest to the largest. The "
        "first point of all but scratch comes after the frozen layers were run once.",
    )


def films_figure(records: Rows, *, synthetic: bool) -> Figure:
    """AUROC on chest films."""
    bars = [
        Bar(
            label=record["method"],
            value=record["auroc"],
            low=record["low"],
            high=record["high"],
            series="all labels"
            if record["labels_per_class"] == "all"
            else f"{record['labels_per_class']} labels a class",
        )
        for record in records
    ]
    kind = "synthetic phantom films" if synthetic else "chest films"
    return bars_figure(
        bars,
        name="films",
        title=f"Pneumonia or normal on {kind}",
        caption="AUROC on test patients, mean over seeds; whiskers are 95 % intervals by bootstrap of patients.",
        x_label="AUROC",
        limits=(0.4, 1.0),
        reference=0.5,
        reference_label="chance",
    )


def summary_table(records: Rows) -> Table:
    """Accuracy and cost of each method for each number of labels."""
    columns: list[Column | str] = [
        "labels per class",
        "method",
        Column(title="test accuracy", unit="%", number=True),
        Column(title="train − test", unit="points", number=True),
        Column(title="epochs", number=True),
        Column(title="training", unit="giga-MACs", number=True),
        Column(title="training", unit="s", number=True),
    ]
    rows: list[list[Cell | str]] = [
        [
            str(record["labels_per_class"]),
            record["method"],
            Cell(text=f"{record['test_accuracy']:.1f}", detail=interval(record["lowest"], record["highest"], ".1f")),
            Cell(text=f"{record['train_test_gap']:.1f}"),
            Cell(text=str(record["epochs"])),
            Cell(text=f"{record['gmacs']:,.1f}"),
            Cell(text=f"{record['training_time_s']:.1f}"),
        ]
        for record in records
    ]
    return table("Mean of the seeds; below it the smallest and the largest", columns, rows)


def parts_table(records: Rows) -> Table:
    """MACs of one image before and behind each method's cut."""
    columns: list[Column | str] = [
        "method",
        Column(title="frozen", unit="mega-MACs an image", number=True),
        Column(title="trained", unit="mega-MACs an image", number=True),
        Column(title="trained parameters", number=True),
    ]
    rows = [
        [
            record["method"],
            f"{record['frozen_mmacs']:,.2f}",
            f"{record['trained_mmacs']:,.2f}",
            f"{record['trained_parameters']:,}",
        ]
        for record in records
    ]
    return table("One image through each method's network, forward", columns, rows)


def targets_table(records: Rows) -> Table:
    """Epochs and seconds to the targets."""
    columns: list[Column | str] = [
        "target",
        "method",
        "seeds that reach it",
        Column(title="epochs", number=True),
        Column(title="seconds", number=True),
        Column(title="less time than scratch", unit="%", number=True),
    ]
    rows: list[list[Cell | str]] = [
        [
            f"{record['target']} ({record['accuracy']:.1f} %)",
            record["method"],
            f"{record['seeds_that_reach_it']} of {record['seeds']}",
            "–" if record["epochs"] is None else f"{record['epochs']:.1f}",
            "–" if record["seconds"] is None else f"{record['seconds']:.1f}",
            "–"
            if record["less_time_percent"] is None
            else Cell(
                text=f"{record['less_time_percent']:.0f}", detail=interval(record["least"], record["most"], ".0f")
            ),
        ]
        for record in records
    ]
    return table("Epochs and seconds to a target, mean of the seeds that reach it", columns, rows)


def films_table(records: Rows) -> Table:
    """AUROC, difference from scratch and cost on chest films."""
    columns: list[Column | str] = [
        "labels per class",
        "method",
        Column(title="AUROC", number=True),
        Column(title="above scratch", number=True),
        Column(title="accuracy", unit="%", number=True),
        Column(title="train − test", unit="points", number=True),
        Column(title="training", unit="giga-MACs", number=True),
        Column(title="training", unit="s", number=True),
    ]
    rows: list[list[Cell | str]] = [
        [
            str(record["labels_per_class"]),
            record["method"],
            Cell(text=f"{record['auroc']:.3f}", detail=interval(record["low"], record["high"], ".3f")),
            "–"
            if record["method"] == SCRATCH
            else Cell(
                text=numeral(record["above_scratch"], "+.3f"),
                detail=" to ".join(numeral(record[f"above_scratch_{end}"], "+.3f") for end in ("low", "high")),
            ),
            Cell(text=f"{record['test_accuracy']:.1f}"),
            Cell(text=f"{record['train_test_gap']:.1f}"),
            Cell(text=f"{record['gmacs']:,.1f}"),
            Cell(text=f"{record['training_time_s']:.1f}"),
        ]
        for record in records
    ]
    return table("95 % intervals by bootstrap of patients; mean of the seeds", columns, rows)
