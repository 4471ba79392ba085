"""What the study of chest-film backbones shows and says: tables, figures and the computed finding."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hilum.intervals import interval, numeral
from hilum.reports.charts import Point, scatter_figure
from hilum.reports.figures import Figure, Interval, confusion_figure, forest_figure
from hilum.reports.page import Block, Bullets, Figures, Notice, Paragraph, Section
from hilum.reports.tables import Cell, Column, Table, count, estimate_cell, table
from hilum.studies.outcome import Number

TESTS = {"out_of_fold": "out of fold", "test": "locked test share", "external": "other hospital (external)"}
"""Where figures were measured, in the order of the report."""


QUOTED = {
    "published": "0.99 inside and 0.72–0.77 outside (three-class COVID-19 models)",
    "source": "Cho et al. 2021, as quoted by this project; not checked here",
}
"""What the literature quotes for such models, beside the best row."""


def numbers(measured: Mapping[str, Any]) -> tuple[Number, ...]:
    """Macro AUROC of every backbone on the test share, and of the chosen one on every test."""
    rows = [row for row in measured["rows"] if row["group"] == "backbone"]
    best = next(row for row in rows if row["name"] == measured["best_backbone"])
    found = [
        _number(f"macro AUROC inside, {row['name']}", row["test"]["macro_auroc"], **(QUOTED if row is best else {}))
        for row in rows
    ]
    if "external" in best:
        found.append(_number(f"macro AUROC outside, {best['name']}", best["external"]["macro_auroc"], **QUOTED))
    for pair in best["within_source"]:
        if pair["source"] != "all sources" and pair["value"] is not None and "covid" in pair["pair"]:
            found.append(_number(f"AUROC of {pair['pair']} inside {pair['source']}, {best['name']}", pair))
    return tuple(number for number in found if number is not None)


def _number(name: str, value: Mapping[str, Any], **fields: str) -> Number | None:
    if value["value"] is None:
        return None
    low, high = value["low"], value["high"]
    spread = "95 %, by patient bootstrap"
    return Number(name=name, value=value["value"], low=low, high=high, digits=3, spread=spread, **fields)  # type: ignore[arg-type]


def finding(measured: Mapping[str, Any]) -> str:
    """What was found, from the measurements."""
    rows = [row for row in measured["rows"] if row["group"] == "backbone"]
    best = next(row for row in rows if row["name"] == measured["best_backbone"])
    said = [
        f"By out-of-fold macro AUROC the best of {len(rows)} encoders is {best['name']} with "
        f"{_text(best['out_of_fold']['macro_auroc'])}; on the locked test share it reaches "
        f"{_text(best['test']['macro_auroc'])}."
    ]
    rivals = [row["name"] for row in rows if row is not best and _overlap(row, best)]
    said.append(
        f"Its interval there overlaps that of {', '.join(rivals)}, so these films can't tell them apart."
        if rivals
        else "No other encoder's interval there overlaps its own."
    )
    if "external" in best:
        inside, outside = best["test"]["macro_auroc"]["value"], best["external"]["macro_auroc"]["value"]
        change = "" if inside is None or outside is None else f" ({numeral(outside - inside, '+.3f')})"
        said.append(f"At the other hospital it reaches {_text(best['external']['macro_auroc'])}{change}.")
    said += [
        _compared(measured, "imbalance", "answer to imbalance"),
        _compared(measured, "augmentation", "augmentation"),
    ]
    said.append(f"The verdict on the test is {best['verdict']}: {best['headline']}")
    return " ".join(said)


def _overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    first, second = one["test"]["macro_auroc"], other["test"]["macro_auroc"]
    if None in (first["low"], first["high"], second["low"], second["high"]):
        return True
    return bool(first["low"] <= second["high"] and second["low"] <= first["high"])


def _compared(measured: Mapping[str, Any], group: str, what: str) -> str:
    """The best and the worst of a group, and whether their intervals part them."""
    rows = [row for row in measured["rows"] if row["group"] == group]
    ranked = sorted(rows, key=lambda row: -(row["out_of_fold"]["macro_auroc"]["value"] or 0))
    best, worst = ranked[0], ranked[-1]
    parted = "" if not _overlap(best, worst) else ", within each other's intervals on the test share"
    recall = max(rows, key=lambda row: _least_sensitivity(row["out_of_fold"]))
    return (
        f"Out of fold the best {what} is “{best['name']}” ({_text(best['out_of_fold']['macro_auroc'])}), the worst "
        f"“{worst['name']}” ({_text(worst['out_of_fold']['macro_auroc'])}){parted}; the highest sensitivity of the "
        f"finding found least often comes with “{recall['name']}” ({_least_sensitivity(recall['out_of_fold']):.2f})."
    )


def _least_sensitivity(card: Mapping[str, Any]) -> float:
    values = [value["value"] for value in card["sensitivity"].values() if value["value"] is not None]
    return float(min(values)) if values else math.nan


def sections(measured: Mapping[str, Any]) -> tuple[Section, ...]:
    """The parts of the report."""
    return (
        Section(title="The films, and what goes with the label", name="films", blocks=_films(measured)),
        Section(
            title="Backbones", name="backbones", blocks=_group(measured, "backbone", "Backbones under one protocol")
        ),
        Section(
            title="Class imbalance", name="imbalance", blocks=_group(measured, "imbalance", "Answers to imbalance")
        ),
        Section(title="Augmentation", name="augmentation", blocks=_group(measured, "augmentation", "Augmentation")),
        Section(title="What the best one confuses", name="confusion", blocks=_confusion(measured)),
        Section(title="The protocol", name="protocol", blocks=(_protocol(),)),
    )


def _films(measured: Mapping[str, Any]) -> tuple[Block, ...]:
    rows = measured["label_by_source"]
    labels = [key for key in rows[0] if key != "source"]
    columns = [Column(title="source"), *(Column(title=label, unit="films", number=True) for label in labels)]
    cells = [[row["source"], *(count(row[label]) for label in labels)] for row in rows]
    best = next(row for row in measured["rows"] if row["name"] == measured["best_backbone"])
    flags = tuple(Notice(tone="red", text=sentence) for sentence in best["flags"])
    pairs = [pair for pair in best["within_source"] if pair["value"] is not None]
    inside = table(
        f"AUROC of each pair of findings, over all films and inside one source ({best['name']}, locked test share)",
        ["pair", "films of", Column(title="AUROC", number=True)],
        [[pair["pair"], pair["source"], _cell(pair)] for pair in pairs],
    )
    said = f"What was found on the locked test share, {best['name']}; the table counts the films of both shares."
    told: tuple[Block, ...] = (Paragraph(text=said), *flags) if flags else ()
    return (
        *told,
        table(
            "Films by source and label: where a label has one source, a network can read the source instead",
            columns,
            cells,
        ),
        inside,
    )


def _group(measured: Mapping[str, Any], group: str, title: str) -> tuple[Block, ...]:
    rows = [row for row in measured["rows"] if row["group"] == group]
    figures = [_forest(rows, group, title)]
    if group == "backbone":
        figures.append(_cost(rows))
    return (Figures(tuple(figures)), _table(rows, title, costs=group == "backbone"), *_sensitivities(rows, title))


def _forest(rows: Sequence[Mapping[str, Any]], group: str, title: str) -> Figure:
    intervals = [
        Interval(
            label=row["name"],
            value=_value(row[test]["macro_auroc"]["value"]),
            low=_value(row[test]["macro_auroc"]["low"]),
            high=_value(row[test]["macro_auroc"]["high"]),
            series=name,
            note=_text(row[test]["macro_auroc"]),
        )
        for row in rows
        for test, name in TESTS.items()
        if test in row
    ]
    return forest_figure(
        intervals,
        name={"backbone": "backbones"}.get(group, group),
        title=f"{title}: macro AUROC",
        caption="Mean of the one-against-rest AUROC of the findings. Bars: 95 % by patient bootstrap.",
        xlabel="macro AUROC",
        reference=0.5,
        reference_label="chance",
    )


def _cost(rows: Sequence[Mapping[str, Any]]) -> Figure:
    points = [
        Point(
            label=row["backbone"],
            x=row["macs"] / 1e9,
            y=_value(row["test"]["macro_auroc"]["value"]),
            y_low=_value(row["test"]["macro_auroc"]["low"]),
            y_high=_value(row["test"]["macro_auroc"]["high"]),
            series="random weights, frozen" if "random weights" in row["name"] else "pretrained",
        )
        for row in rows
    ]
    return scatter_figure(
        points,
        name="cost",
        title="Macro AUROC against arithmetic",
        caption="Multiply-accumulates of one film at this study's size; whiskers: 95 % by patient bootstrap.",
        x_label="multiply-accumulates of one film (10⁹)",
        y_label="macro AUROC, locked test share",
        log_x=True,
    )


def _table(rows: Sequence[Mapping[str, Any]], title: str, *, costs: bool) -> Table:
    tests = [test for test in TESTS if test in rows[0]]
    columns = [Column(title="variant"), *(Column(title=f"macro AUROC, {TESTS[test]}", number=True) for test in tests)]
    columns += [Column(title="balanced accuracy, test", number=True), Column(title="ECE, test", number=True)]
    if costs:
        columns += [
            Column(title="parameters", unit="million", number=True),
            Column(title="MACs", unit="10⁹", number=True),
        ]
    columns += [Column(title="frozen layers", unit="s", number=True), Column(title="training", unit="s", number=True)]
    cells: list[list[Cell | str]] = []
    for row in rows:
        line: list[Cell | str] = [row["name"], *(_cell(row[test]["macro_auroc"]) for test in tests)]
        line += [_cell(row["test"]["balanced_accuracy"]), _cell(row["test"]["ece"], 3)]
        if costs:
            line += [f"{row['parameters'] / 1e6:.2f}", f"{row['macs'] / 1e9:.3f}"]
        cells.append([*line, f"{row['prefix_s']:.1f}", f"{row['training_s']:.1f}"])
    note = "Frozen layers whose outputs an earlier variant left in the cache cost next to nothing."
    return table(f"{title}. {note}", columns, cells)


def _sensitivities(rows: Sequence[Mapping[str, Any]], title: str) -> tuple[Table, ...]:
    findings = rows[0]["test"]["findings"]
    columns = [Column(title="variant"), *(Column(title=name, number=True) for name in findings)]
    cells = [[row["name"], *(_cell(row["test"]["sensitivity"][name]) for name in findings)] for row in rows]
    return (
        table(
            f"{title}: sensitivity of each finding, most probable finding as the answer, locked test share",
            columns,
            cells,
        ),
    )


def _confusion(measured: Mapping[str, Any]) -> tuple[Block, ...]:
    best = next(row for row in measured["rows"] if row["name"] == measured["best_backbone"])
    figures = [
        confusion_figure(
            best[test]["confusion"],
            best[test]["findings"],
            name=f"confusion-{test.replace('_', '-')}",
            title=f"{best['backbone']}: {name}",
            caption="Films; per cent of each row.",
        )
        for test, name in TESTS.items()
        if test in best
    ]
    return (Figures(tuple(figures)),)


def _protocol() -> Bullets:
    return Bullets(
        (
            "Films are split by patient; copies of a film stay together. Each variant opens the test share once.",
            "Stage 1 trains GAP → 256 → ReLU → dropout → findings on frozen features; stage 2 also the last block. "
            "Batch normalisation stays frozen. Early stopping watches the fold that a member does not fit.",
            "Members are averaged; the calibration and the choice of the best variant rest on out-of-fold predictions. "
            "Many variants look at one test share, so the highest of its figures is a little too high.",
            "The horizontal flip is a variant, not a default: the heart is on the left.",
        )
    )


def _value(value: float | None) -> float:
    return math.nan if value is None else value


def _cell(value: Mapping[str, Any], digits: int = 2) -> Cell:
    return estimate_cell(_value(value["value"]), _value(value["low"]), _value(value["high"]), digits=digits)


def _text(value: Mapping[str, Any]) -> str:
    if value["value"] is None:
        return "not estimable"
    bounds = "" if value["low"] is None else f" ({interval(value['low'], value['high'], '.2f')})"
    return f"{numeral(value['value'], '.2f')}{bounds}"
