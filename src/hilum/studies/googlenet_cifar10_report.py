"""What the report of the GoogLeNet study shows: figures and tables of what was measured."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hilum.evaluation.intervals import wilson_interval
from hilum.intervals import numeral
from hilum.reports.canvas import Figure
from hilum.reports.charts import Bar, bars_figure
from hilum.reports.curves import Panel, Reference, Series, curves_figure
from hilum.reports.matrices import heat_figure
from hilum.reports.page import Bullets, Details, Facts, Figures, Notice, Paragraph, Section
from hilum.reports.tables import Cell, Column, Table, table
from hilum.studies.googlenet_cifar10_anatomy import (
    inception_section,
    interval_text,
    kernel_rows,
    kernels_section,
    reduction_rows,
)


def sections(measured: Mapping[str, Any]) -> tuple[Section, ...]:
    """All parts of the report."""
    return (
        course_section(measured),
        rule_section(measured),
        *learning_curve_section(measured),
        variants_section(measured),
        mistakes_section(measured),
        transfer_section(measured["transfer"]),
        *aim_section([done for done in (measured["aim"], measured["fast"]) if done]),
        kernels_section(measured),
        inception_section(),
    )


def flat_tables(measured: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Tables of flat records, as pages about the study show them."""
    variants = [
        {
            "variant": row["label"],
            "test accuracy (%)": round(float(np.mean(row["test_accuracies"])), 1),
            "minus base (points)": None if row["kind"] == "base" else round(row["difference"]["mean"], 1),
            "95 % interval": None if row["kind"] == "base" else interval_text(row["difference"]),
            "gap (points)": round(float(np.mean(row["gaps"])), 1),
            "the curves say": counted(row["verdicts"]),
        }
        for row in measured["variants"]
    ]
    facts = [
        {"read off the curves": name, "value": value}
        for name, value in diagnosis_facts(measured["course"]["diagnosis"])
    ]
    return {
        "variants_table": variants,
        "diagnosis_table": facts,
        "classes_table": class_rows(measured),
        "kernels_table": kernel_rows(),
        "reductions_table": reduction_rows(),
    }


def course_section(measured: Mapping[str, Any]) -> Section:
    """The long training, its diagnosis, and the numbers that it rests on."""
    found = measured["course"]["diagnosis"]
    return Section(
        title="One long training, and what its curves say",
        name="course",
        blocks=(
            Paragraph(found["sentence"]),
            Figures((course_figure(measured),)),
            Facts(diagnosis_facts(found)),
            Paragraph(
                "Training accuracy is that of training images as they are, in evaluation mode; the thresholds are the "
                "fields of hilum.evaluation.fitting_diagnosis.FittingThresholds."
            ),
        ),
    )


def course_figure(measured: Mapping[str, Any]) -> Figure:
    """Loss, accuracy and gap of the long training, epoch by epoch."""
    rows, found = measured["course"]["rows"], measured["course"]["diagnosis"]
    epochs = [row["epoch"] for row in rows]
    begins = found["from_epoch"]
    turn = (Reference(value=begins, label=f"over-fits from epoch {begins}", axis="x"),) if begins else ()
    chance = chance_line(measured)

    def series(kind: str, factor: float) -> list[Series]:
        return [
            Series(label=label, x=epochs, y=[factor * row[f"{prefix}_{kind}"] for row in rows])
            for label, prefix in (("training images", "probe"), ("validation images", "watch"))
        ]

    return curves_figure(
        [
            Panel(series=series("loss", 1), x_label="epoch", y_label="cross-entropy", title="Loss", references=turn),
            Panel(
                series=series("accuracy", 100),
                x_label="epoch",
                y_label="accuracy (%)",
                title="Accuracy",
                y_range=(0, 100),
                references=(*turn, chance),
            ),
        ],
        name="course",
        title=f"The base trained for {len(rows)} epochs: {found['verdict']}",
        caption=f"One seed. {measured['data']['course_train']:,} training images, {measured['data']['validation']:,} "
        "validation images; both scored as they are, in evaluation mode.",
    )


def chance_line(measured: Mapping[str, Any]) -> Reference:
    """Where guessing would be, in per cent."""
    return Reference(value=100 / len(measured["data"]["classes"]), label="chance")


def diagnosis_facts(found: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The numbers of a diagnosis in words."""
    gain = found["gain_per_doubling"]
    return (
        ("verdict", found["verdict"]),
        ("over-fits from epoch", str(found["from_epoch"] or "–")),
        ("what would help", found["limit"]),
        ("lowest validation loss (running median)", f"{found['best_loss']:.3f} in epoch {found['best_epoch']}"),
        ("settled (as low, up to noise) since epoch", str(found["settled_epoch"])),
        ("validation loss at the end", f"{found['end_loss']:.3f}, {found['rise']:.3f} above the lowest"),
        ("rise that would count", f"{found['rise_needed']:.3f}"),
        ("noise of validation loss, epoch to epoch", f"{found['noise']:.3f}"),
        ("training loss falls at the end by", f"{100 * found['train_fall']:.1f} % an epoch"),
        ("validation loss falls at the end by", f"{100 * found['validation_fall']:.1f} % an epoch"),
        ("accuracy at the end, training images", f"{100 * found['train_accuracy']:.1f} %"),
        ("accuracy at the end, validation images", f"{100 * found['validation_accuracy']:.1f} %"),
        ("gap at the end", f"{100 * found['gap']:.1f} points"),
        ("gap when validation loss had settled", f"{100 * found['gap_when_settled']:.1f} points"),
        ("validation accuracy since the lowest loss", f"{numeral(100 * found['accuracy_change'], '+.1f')} points"),
        ("twice the images bring", "not measured" if gain is None else f"{numeral(100 * gain, '+.1f')} points"),
    )


def rule_section(measured: Mapping[str, Any]) -> Section:
    """The rule of thumb beside the diagnosis, for every training."""
    rows = [
        [
            name,
            Cell(text=f"{100 * training['diagnosis']['gap']:.1f}"),
            training["rule"],
            training["diagnosis"]["verdict"],
            training["agreement"],
        ]
        for name, training in _all_trainings(measured)
    ]
    gap_column = Column(title="gap at the end", unit="points", number=True)
    columns: list[Column | str] = ["training", gap_column, "the rule says", "the curves say", "rule and curves"]
    reasons = dict.fromkeys(
        training["why"] for _, training in _all_trainings(measured) if training["agreement"] == "disagrees"
    )
    disagreements = (
        (Paragraph("Where they disagree: " + " ".join(reasons)),)
        if reasons
        else (Paragraph("Rule and curves disagree in no training here."),)
    )
    return Section(
        title="The rule of thumb beside the curves",
        name="rule",
        blocks=(
            Paragraph(
                "The rule as it is commonly quoted: a gap between training and validation accuracy above 10 to 15 "
                "points overfits, one below 5 generalises. It looks at the last epoch alone, and not at how well the "
                "training images are learnt."
            ),
            *disagreements,
            Details(summary="Every training", blocks=(table("Gap, rule and curves", columns, rows),)),
        ),
    )


def _all_trainings(measured: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    labels = {row["variant"]: row["label"] for row in measured["variants"]}
    return [
        ("long training", measured["course"]),
        *((f"{labels[one['variant']]}, seed {one['seed']}", one) for one in measured["trainings"]),
    ]


def learning_curve_section(measured: Mapping[str, Any]) -> tuple[Section, ...]:
    """Validation accuracy against the number of training images; nothing when it was not measured."""
    points = measured["learning_curve"]
    if not points:
        return ()
    panel = Panel(
        series=[
            Series(
                label="validation images",
                x=[point["training_images"] for point in points],
                y=[point["validation_accuracy"] for point in points],
            )
        ],
        x_label="training images",
        y_label="validation accuracy (%)",
        log_x=True,
        y_range=(0, 1.2 * max(point["validation_accuracy"] for point in points) + 1),
        references=(chance_line(measured),),
    )
    figure = curves_figure(
        [panel],
        name="learning-curve",
        title="What more images bring",
        caption=f"The base, as many steps for each size; mean of {measured['scale']['seeds']} seeds, last weights.",
    )
    gain = 100 * measured["course"]["diagnosis"]["gain_per_doubling"]
    return (
        Section(
            title="Is it for want of data?",
            name="data",
            blocks=(
                Paragraph(
                    f"Between the two largest sizes a doubling brings {numeral(gain, '+.1f')} points of accuracy."
                ),
                Figures((figure,)),
            ),
        ),
    )


def variants_section(measured: Mapping[str, Any]) -> Section:
    """Every variant beside the base: accuracy, gap, curves."""
    return Section(
        title="Auxiliary classifiers, kernels and regularisation",
        name="variants",
        blocks=(
            Paragraph(
                "Each variant differs from the base in one thing, and starts from the same weights as the base, seed "
                f"by seed. With {measured['comparisons']} comparisons a difference is told apart from none when "
                f"Student's interval over the pairs leaves 0 out at {100 - 5 / measured['comparisons']:.1f} % "
                "(Bonferroni: 95 % for all together); the intervals shown are those of 95 %. With two or three pairs "
                "only a large and steady difference is told apart. The loss with label smoothing is the smoothed one, "
                "so its level can't be compared with the others'."
            ),
            Figures((variants_figure(measured),)),
            variants_table(measured),
            Figures((curves_of_variants(measured),)),
        ),
    )


def variants_figure(measured: Mapping[str, Any]) -> Figure:
    """Training and test accuracy of each variant; the distance between the two bars is the gap."""
    bars = []
    for row in measured["variants"]:
        for name, key in (("training images", "training_accuracies"), ("test images", "test_accuracies")):
            values = row[key]
            bars.append(
                Bar(
                    label=row["label"],
                    series=name,
                    value=float(np.mean(values)),
                    low=min(values),
                    high=max(values),
                    note=f"{np.mean(values):.1f}",
                )
            )
    return bars_figure(
        bars,
        name="variants",
        title="Accuracy on training and on test images, by variant",
        caption=f"{measured['scale']['epochs']} epochs on {measured['data']['train']:,} images; mean of "
        f"{measured['scale']['seeds']} seeds, whiskers from the smallest to the largest.",
        x_label="accuracy (%)",
        limits=(0, 105),
    )


def variants_table(measured: Mapping[str, Any]) -> Table:
    """Each variant's paired differences from the base, and its verdicts."""
    columns: list[Column | str] = [
        "variant",
        Column(title="test accuracy", unit="%", number=True),
        Column(title="minus base", unit="points", number=True),
        Column(title="gap", unit="points", number=True),
        Column(title="minus base", unit="points", number=True),
        "the curves say",
    ]
    rows = []
    for row in measured["variants"]:
        base = row["kind"] == "base"
        rows.append(
            [
                row["label"],
                f"{np.mean(row['test_accuracies']):.1f}",
                Cell(text="–") if base else difference_cell(row["difference"], row["difference_told"]),
                f"{np.mean(row['gaps']):.1f}",
                Cell(text="–") if base else difference_cell(row["gap_difference"], -row["gap_told"]),
                counted(row["verdicts"]),
            ]
        )
    return table("Paired differences from the base, with Student's 95 % interval over the seeds", columns, rows)


def difference_cell(difference: Mapping[str, Any], good: int) -> Cell:
    """A paired difference with its interval; tinted and worded where it is told apart from none."""
    word = {1: "better", -1: "worse", 0: "not told apart"}[good]
    return Cell(
        text=numeral(difference["mean"], "+.1f"),
        detail=f"{interval_text(difference)}; {word}",
        tone={1: "green", -1: "red", 0: ""}[good],  # type: ignore[arg-type]
    )


def counted(words: Sequence[str]) -> str:
    """``overfits (2 of 3), fits (1 of 3)``; a word alone when all agree."""
    counts = {word: words.count(word) for word in dict.fromkeys(words)}
    if len(counts) == 1:
        return words[0]
    return ", ".join(f"{word} ({count} of {len(words)})" for word, count in counts.items())


def curves_of_variants(measured: Mapping[str, Any]) -> Figure:
    """Accuracy of each variant epoch by epoch, first seed."""
    first: dict[str, Any] = {}
    for training in measured["trainings"]:
        first.setdefault(training["variant"], training["rows"])
    panels = [
        Panel(
            series=[
                Series(label=label, x=[row["epoch"] for row in rows], y=[100 * row[key] for row in rows])
                for label, key in (("training images", "probe_accuracy"), ("validation images", "watch_accuracy"))
            ],
            x_label="epoch",
            y_label="accuracy (%)",
            title=next(row["label"] for row in measured["variants"] if row["variant"] == variant),
        )
        for variant, rows in first.items()
    ]
    return curves_figure(
        panels,
        name="variant-curves",
        title="Accuracy of each variant, epoch by epoch",
        caption="First seed; all panels share one axis.",
        share_y=True,
        legend="above",
    )


def mistakes_section(measured: Mapping[str, Any]) -> Section:
    """The confusion matrix and the accuracy of each class."""
    return Section(
        title="What it mistakes",
        name="mistakes",
        blocks=(
            Paragraph(
                "Test images, the long training's weights with the lowest validation loss. Rows are true classes."
            ),
            Figures((confusion_figure(measured), classes_figure(measured))),
        ),
    )


def confusion_figure(measured: Mapping[str, Any]) -> Figure:
    """Shares of each true class by answer."""
    counts = np.asarray(measured["course"]["best"]["confusion"], dtype=float)
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    classes = measured["data"]["classes"]
    return heat_figure(
        shares,
        classes,
        classes,
        name="confusion",
        title="What each class is taken for",
        caption=f"{int(counts.sum()):,} test images; each row adds up to 100 %.",
        x_label="answer",
        y_label="class",
        value_label="share of the class (%)",
        limits=(0, 100),
        texts=[[f"{value:.0f}" if value >= 0.5 else "" for value in row] for row in shares],
    )


def class_rows(measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Accuracy of each class on the test images, in per cent, with Wilson's 95 % interval."""
    found = []
    for i, (name, counts) in enumerate(
        zip(measured["data"]["classes"], measured["course"]["best"]["confusion"], strict=True)
    ):
        total = sum(counts)
        if not total:
            continue
        low, high = wilson_interval(counts[i] / total, total)
        found.append(
            {"class": name, "images": total, "accuracy": 100 * counts[i] / total, "low": 100 * low, "high": 100 * high}
        )
    return found


def classes_figure(measured: Mapping[str, Any]) -> Figure:
    """Accuracy of each class."""
    return bars_figure(
        [
            Bar(
                label=row["class"],
                value=row["accuracy"],
                low=row["low"],
                high=row["high"],
                note=f"{row['accuracy']:.0f}",
            )
            for row in sorted(class_rows(measured), key=lambda row: -row["accuracy"])
        ],
        name="classes",
        title="Accuracy of each class",
        caption="Test images; whiskers are Wilson's 95 % intervals.",
        x_label="share of the class answered right (%)",
        limits=(0, 105),
    )


def transfer_section(transfer: Mapping[str, Any]) -> Section:
    """Pretrained weights beside random ones."""
    if "skipped" in transfer:
        return Section(title="Scratch or pretrained", name="transfer", blocks=(Paragraph(transfer["skipped"]),))
    epochs = list(range(1, transfer["epochs"] + 1))
    series = [
        Series(
            label=label,
            x=epochs,
            y=list(100 * np.mean([run["watch_accuracy"] for run in transfer[key]], axis=0)),
            low=list(100 * np.min([run["watch_accuracy"] for run in transfer[key]], axis=0)),
            high=list(100 * np.max([run["watch_accuracy"] for run in transfer[key]], axis=0)),
        )
        for label, key in (("pretrained", "pretrained"), ("random weights", "random"))
    ]
    figure = curves_figure(
        [Panel(series=series, x_label="epoch", y_label="validation accuracy (%)")],
        name="transfer",
        title=f"{transfer['network']}, fine-tuned and from scratch",
        caption=f"{transfer['images']:,} training images enlarged to {transfer['size']} × {transfer['size']} px; the "
        "same recipe for both; lines are means over the seeds, ranges from the smallest to the largest.",
    )
    stand_in = (
        (
            Notice(
                tone="amber",
                text=f"No pretrained GoogLeNet can be had here: what is compared is {transfer['network']} "
                f"(weights {transfer['weights']}, pretrained on: {', '.join(transfer['pretrained_on'])}).",
            ),
        )
        if transfer["network"] != "googlenet"
        else ()
    )
    return Section(title="Scratch or pretrained", name="transfer", blocks=(*stand_in, Figures((figure,))))


def aim_section(trainings: Sequence[Mapping[str, Any]]) -> tuple[Section, ...]:
    """The trainings that aim high, and soon; nothing when there was none."""
    said = []
    for done in trainings:
        until = done["until_target_s"]
        told = "never" if until is None else f"after {until:,.0f} s of training"
        said.append(
            f"One cycle of {len(done['rows'])} epochs: {100 * done['accuracy']:.2f} % of the test images; "
            f"{100 * done['target']:.0f} % of the validation images were reached {told}."
        )
    if not said:
        return ()
    return (Section(title="As high as it gets, and how soon", name="aim", blocks=(Bullets(tuple(said)),)),)
