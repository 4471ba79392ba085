"""Figures and tables of the study of fine-tuning in two stages, computed from one row a phase."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hilum.arrays import Array
from hilum.datasets.labelled_images import ImageSet
from hilum.intervals import interval
from hilum.reports.canvas import Figure
from hilum.reports.charts import Bar, bars_figure
from hilum.reports.curves import Panel, Series, curves_figure
from hilum.reports.matrices import heat_figure
from hilum.reports.page import Figures, Gallery, Paragraph, Picture, Section
from hilum.reports.tables import Cell, Column, Table, table
from hilum.studies.vgg16_flowers_analysis import CLASSIC_QUOTED, PHASES, Rows, pick, variant_names
from hilum.studies.vgg16_flowers_words import of_photographs

SHOWN_ERRORS = 12
"""Wrong answers in the report."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shown:
    """What the report shows beside numbers: photographs, which belong to the person who runs the study.

    Attributes:
        images: the set.
        answers: row of the training whose wrong answers are shown.
    """

    images: ImageSet
    answers: Mapping[str, Any]


def sections(measured: Mapping[str, Any], shown: Shown) -> tuple[Section, ...]:
    """The report's parts."""
    rows = [row for row in measured["trainings"] if row["set"] == measured["set"]]
    ours = [row for row in rows if row["network"] == measured["network"]]
    return (
        Section(
            title="Two stages, three ways",
            name="phases",
            blocks=(
                Figures(
                    (
                        phases_figure(measured["phases"], quoted=of_photographs(measured)),
                        times_figure(measured["phases"]),
                    )
                ),
                phases_table(measured["phases"]),
                Figures((curves(ours),)),
            ),
        ),
        Section(
            title="Other networks and sets",
            name="networks",
            blocks=(
                Figures((networks_figure(measured["networks"]),)),
                networks_table(measured["networks"]),
            ),
        ),
        Section(
            title="What is frozen, what is trained",
            name="shapes",
            blocks=(
                Paragraph(
                    "MACs of one image, forward. With a cache the frozen layers are run once for each view, without it "
                    "in every epoch; the trained layers cost three forward passes an epoch, backward included."
                ),
                shapes_table(measured["shapes"]),
            ),
        ),
        Section(
            title="What is mistaken for what",
            name="errors",
            blocks=(Figures((confusion_figure(measured),)), errors_gallery(shown)),
        ),
    )


def _named(phase: str) -> str:
    return PHASES[phase]


def phases_figure(records: Rows, *, quoted: bool) -> Figure:
    """Test accuracy after each stage, with what is quoted for other images where it may stand beside these."""
    beside = (
        f" The classic recipe is commonly quoted at {CLASSIC_QUOTED['head']} after stage 1 and "
        f"{CLASSIC_QUOTED['block']} after stage 2, on other images."
    )
    bars = [
        Bar(
            label=record["variant"],
            value=record["test_accuracy"],
            low=record["lowest"],
            high=record["highest"],
            series=_named(record["phase"]),
        )
        for record in records
    ]
    return bars_figure(
        bars,
        name="phases",
        title="Test accuracy after each stage",
        caption="Mean of the seeds; whiskers from the smallest to the largest." + (beside if quoted else ""),
        x_label="test accuracy (%)",
        limits=(0, 105),
    )


def times_figure(records: Rows) -> Figure:
    """Where the seconds go."""
    bars = []
    for record in records:
        if record["phase"] == "head":
            bars.append(Bar(label=record["variant"], value=record["frozen_layers_s"], series="frozen layers, once"))
        bars.append(Bar(label=record["variant"], value=record["stage_s"], series=_named(record["phase"])))
    return bars_figure(
        bars,
        name="times",
        title="Where the time goes",
        caption="Seconds of one training, mean of the seeds; what the frozen layers took is shared by both stages.",
        x_label="seconds",
    )


def curves(rows: Rows) -> Figure:
    """Validation accuracy and loss over the epochs of both stages, first seed."""
    accuracy: list[Series] = []
    loss: list[Series] = []
    for variant in variant_names(rows):
        seed = min(row["seed"] for row in pick(rows, variant))
        parts = [row for row in pick(rows, variant) if row["seed"] == seed]
        points = [point for part in parts for point in part["curve"]]
        epochs = list(range(1, len(points) + 1))
        for panel, key, factor in ((accuracy, "watch_accuracy", 100), (loss, "watch_loss", 1)):
            panel.append(Series(label=variant, x=epochs, y=[factor * point[key] for point in points]))
    return curves_figure(
        [
            Panel(series=accuracy, x_label="epoch of both stages", y_label="validation accuracy (%)"),
            Panel(series=loss, x_label="epoch of both stages", y_label="validation loss (nats)"),
        ],
        name="curves",
        title="Validation during both stages",
        caption="First seed. Stage 2 goes on from the best weights of stage 1, after as many epochs as the table says.",
        legend="above",
    )


def networks_figure(records: Rows) -> Figure:
    """Accuracy of ours with each network on each set."""
    bars = [
        Bar(
            label=f"{record['network']}, {record['set']}",
            value=record[f"{phase}_accuracy"],
            low=record[f"{phase}_lowest"],
            high=record[f"{phase}_highest"],
            series=_named(phase),
        )
        for record in records
        for phase in PHASES
    ]
    return bars_figure(
        bars,
        name="networks",
        title="Our recipe with the weights at hand",
        caption="Test accuracy, mean of the seeds; whiskers from the smallest to the largest.",
        x_label="test accuracy (%)",
        limits=(0, 105),
    )


def confusion_figure(measured: Mapping[str, Any]) -> Figure:
    """Confusion of the variant that validation images chose."""
    matrix = np.array(measured["confusion"], dtype=np.float64)
    share = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    return heat_figure(
        share,
        measured["classes"],
        measured["classes"],
        name="confusion",
        title="What is answered for each class",
        caption=f"Per cent of the test images of a class, all seeds; {measured['best_by_validation']}, which did best "
        "on validation images, after its second stage.",
        x_label="answered",
        y_label="true class",
        value_label="share of the class (%)",
        limits=(0, 100),
        texts=[[f"{value:.0f}" for value in row] for row in share],
    )


def errors_gallery(shown: Shown) -> Gallery:
    """The wrong answers that the network was surest of."""
    images, answers = shown.images, np.array(shown.answers["answers"])
    sureness = np.array(shown.answers["sureness"])
    wrong = np.flatnonzero(answers != images.test.labels)
    worst = wrong[np.argsort(-sureness[wrong], kind="stable")][:SHOWN_ERRORS]
    pictures = tuple(
        Picture(
            png=png(images.test.images[row]),
            title=images.classes[images.test.labels[row]],
            text=f"answered {images.classes[answers[row]]}, sure by {sureness[row]:.0%}",
            tone="red",
        )
        for row in worst
    )
    return Gallery(
        caption=f"{len(worst)} of {len(wrong)} wrong answers on {len(answers)} test images, those first that the "
        "network was surest of (first seed).",
        items=pictures,
    )


def png(image: Array) -> bytes:
    """An image uint8 [c, h, w] as PNG."""
    from PIL import Image

    pixels = np.ascontiguousarray(np.asarray(image).transpose(1, 2, 0))
    buffer = io.BytesIO()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(buffer, format="PNG")
    return buffer.getvalue()


def phases_table(records: Rows) -> Table:
    """Accuracy and cost of each phase."""
    columns: list[Column | str] = [
        "variant",
        "stage",
        Column(title="test accuracy", unit="%", number=True),
        Column(title="validation accuracy", unit="%", number=True),
        Column(title="train − test", unit="points", number=True),
        Column(title="epochs", number=True),
        Column(title="training", unit="giga-MACs", number=True),
        Column(title="frozen layers", unit="s", number=True),
        Column(title="stage", unit="s", number=True),
    ]
    rows: list[list[Cell | str]] = [
        [
            record["variant"],
            _named(record["phase"]),
            Cell(text=f"{record['test_accuracy']:.1f}", detail=interval(record["lowest"], record["highest"], ".1f")),
            f"{record['validation_accuracy']:.1f}",
            f"{record['train_test_gap']:.1f}",
            f"{record['epochs']:.1f}",
            f"{record['gmacs']:,.0f}",
            f"{record['frozen_layers_s']:.1f}" if record["phase"] == "head" else "from the cache",
            f"{record['stage_s']:.1f}",
        ]
        for record in records
    ]
    return table("Mean of the seeds; below it the smallest and the largest", columns, rows)


def networks_table(records: Rows) -> Table:
    """Ours with each network on each set."""
    columns: list[Column | str] = [
        "network",
        "weights",
        "set",
        Column(title="after stage 1", unit="%", number=True),
        Column(title="after stage 2", unit="%", number=True),
        Column(title="frozen layers", unit="s", number=True),
        Column(title="stage 1", unit="s", number=True),
        Column(title="stage 2", unit="s", number=True),
    ]
    rows: list[list[Cell | str]] = [
        [
            record["network"],
            record["weights"],
            f"{record['set']} ({record['labels']:,} labels)",
            *(
                Cell(
                    text=f"{record[f'{phase}_accuracy']:.1f}",
                    detail=interval(record[f"{phase}_lowest"], record[f"{phase}_highest"], ".1f"),
                )
                for phase in PHASES
            ),
            f"{record['frozen_layers_s']:.1f}",
            f"{record['head_s']:.1f}",
            f"{record['block_s']:.1f}",
        ]
        for record in records
    ]
    return table("Our recipe with augmentation; mean of the seeds, the smallest and the largest", columns, rows)


def shapes_table(records: Rows) -> Table:
    """Parameters and MACs of frozen and trained parts."""
    columns: list[Column | str] = [
        "network",
        "part",
        Column(title="parameters", number=True),
        Column(title="MACs", unit="mega, an image", number=True),
        "trained in",
    ]
    rows: Sequence[Sequence[Cell | str]] = [
        [
            f"{record['network']} at {record['size']} × {record['size']} px",
            record["part"],
            f"{record['parameters']:,}",
            f"{record['mmacs']:,.2f}",
            record["trained_in"],
        ]
        for record in records
    ]
    return table("Parts of the network", columns, rows)
