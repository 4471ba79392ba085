"""The comparison of answers to imbalance in sentences, a table and figures, all made from what was measured."""

import math
from collections.abc import Mapping
from typing import Any

from hilum.evaluation.estimates import Estimate, from_plain
from hilum.reports.figures import Figure, Interval, forest_figure
from hilum.reports.page import Bullets, Code, Facts, Figures, Paragraph, Section
from hilum.reports.tables import Cell, Column, Table, count, estimate_cell

WORDS = {"balanced_accuracy": "balanced accuracy", "macro_auroc": "macro AUROC", "ece": "ECE"}


def estimate(values: Mapping[str, Any]) -> Estimate:
    """An estimate read back from plain values."""
    return from_plain(Estimate, values, where="comparison")


def answer_sentences(measured: Mapping[str, Any]) -> list[str]:
    """What the comparison found: what differs beyond its interval, what does not, and what that rests on."""
    rows, base = measured["rows"], measured["base"]
    return [
        _sizes(measured),
        *(_against(rows, base, metric) for metric in ("balanced_accuracy", "macro_auroc")),
        _extremes(rows, "ece"),
        _caution(len(rows) - 1),
    ]


def _sizes(measured: Mapping[str, Any]) -> str:
    films, patients = measured["class_films"], measured["class_patients"]
    parts = [f"{name} {films[name]} films of {patients[name]} patients" for name in films]
    least, most = min(films.values()), max(films.values())
    ratio = f" The largest class has {most / least:.2g} times the films of the smallest." if least else ""
    if least == most:
        ratio = " All classes have the same number of films, so there is no imbalance to answer."
    return f"Labelled films: {', '.join(parts)}.{ratio}"


def _against(rows: list[dict[str, Any]], base: str, metric: str) -> str:
    """Which answers change a figure beyond the interval of the difference."""
    word, better, worse, unknown, same = WORDS[metric], [], [], [], []
    for row in rows:
        if row["strategy"] == base:
            continue
        found = estimate(row["against"][metric])
        if not found.bounded:
            unknown.append(row["answer"])
        elif found.low > 0:
            better.append(f"{row['answer']} by {_signed(found)}")
        elif found.high < 0:
            worse.append(f"{row['answer']} by {_signed(found)}")
        else:
            same.append(row["answer"])
    parts = [
        f"higher with {', '.join(better)}" if better else "",
        f"lower with {', '.join(worse)}" if worse else "",
        f"not told apart with {', '.join(same)}" if same else "",
        f"not comparable with {', '.join(unknown)}" if unknown else "",
    ]
    return f"Beside {base}, {word} is {'; '.join(part for part in parts if part)}."


def _signed(found: Estimate) -> str:
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def _extremes(rows: list[dict[str, Any]], metric: str) -> str:
    known = [(estimate(row[metric]), row["answer"]) for row in rows]
    known = [(value, answer) for value, answer in known if value.estimable]
    if not known:
        return f"{WORDS[metric]} can't be measured on these films."
    (low, first), (high, last) = (end(known, key=lambda pair: pair[0].value) for end in (min, max))
    return (
        f"{WORDS[metric]} is lowest for {first}, {low.text(3)}, and highest for {last}, {high.text(3)}; each after its "
        "own calibration, which was fitted on the same films."
    )


def _caution(comparisons: int) -> str:
    chance = 1 - 0.95**comparisons
    return (
        f"Intervals are 95 % each, by patient, and not widened for {comparisons} "
        f"comparison{'s' if comparisons != 1 else ''} on one split and one seed: were all answers alike and the "
        f"comparisons independent, one or more would seem to differ in {chance:.0%} of such tables."
    )


def sections(measured: Mapping[str, Any], command: str) -> tuple[Section, ...]:
    """The page's parts."""
    seconds = [row["seconds"]["prefix"] + row["seconds"]["training"] for row in measured["rows"]]
    warning = (
        "Each member's films were watched by early stopping, so every figure is optimistic; give --folds as many as "
        "the split has."
        if measured["optimistic"]
        else "Each film was predicted by the members that did not fit it. The locked test share was not opened."
    )
    facts = (
        ("answers", str(len(measured["rows"]))),
        ("seconds in all", f"{sum(seconds):.0f}"),
        ("sources", ", ".join(measured["sources"])),
        ("films fingerprint", measured["films_fingerprint"]),
        ("config fingerprint", measured["config_fingerprint"]),
        *((name, str(value)) for name, value in measured["environment"].items() if isinstance(value, str | int)),
    )
    return (
        Section(title="What was found", name="finding", blocks=(Bullets(tuple(measured["sentences"])),)),
        Section(
            title="Figures of every answer",
            name="answers",
            blocks=(Paragraph(f"Measured on {measured['measured_on']}. {warning}"), _table(measured)),
        ),
        Section(title="In pictures", name="pictures", blocks=(Figures(_figures(measured)),)),
        Section(
            title="The answers",
            name="what",
            blocks=(Bullets(tuple(f"{row['answer']}: {row['what']}." for row in measured["rows"])),),
        ),
        Section(title="Provenance", name="provenance", blocks=(Facts(facts), *((Code(command),) if command else ()))),
    )


def _table(measured: Mapping[str, Any]) -> Table:
    columns = (
        Column(title="answer"),
        *(Column(title=f"sensitivity, {name}", number=True) for name in measured["findings"]),
        Column(title="balanced accuracy", number=True),
        Column(title="macro AUROC", number=True),
        Column(title="ECE", number=True),
        Column(title=f"balanced accuracy minus {measured['base']}", number=True),
    )
    rows = []
    for row in measured["rows"]:
        figures = [*(row["sensitivity"][name] for name in measured["findings"]), row["balanced_accuracy"]]
        against = row["against"].get("balanced_accuracy")
        rows.append(
            (
                Cell(text=row["answer"]),
                *(_cell(values, 2) for values in figures),
                _cell(row["macro_auroc"], 3),
                _cell(row["ece"], 3),
                _difference_cell(against),
            )
        )
    return Table(
        caption=f"{count(measured['films'])} films; 95 % intervals by patient bootstrap ({measured['resamples']} "
        "resamples), for few patients by Wilson's. Sensitivity is of the most probable finding.",
        columns=columns,
        rows=tuple(rows),
    )


def _cell(values: Mapping[str, Any], digits: int) -> Cell:
    found = estimate(values)
    return estimate_cell(found.value, found.low, found.high, reason=found.reason, digits=digits)


def _difference_cell(values: Mapping[str, Any] | None) -> Cell:
    """With signs, so that no minus is taken for a dash."""
    found = None if values is None else estimate(values)
    if found is None or not found.bounded:
        return Cell(text="–", reason=found.reason if found else "")
    return Cell(text=f"{found.value:+.3f}", detail=f"{found.low:+.3f} to {found.high:+.3f}")


def _figures(measured: Mapping[str, Any]) -> tuple[Figure, ...]:
    return (
        _forest(measured, "balanced_accuracy", "Balanced accuracy", "balanced accuracy (mean sensitivity, 0 to 1)"),
        _forest(measured, "ece", "Calibration error", "expected calibration error (0 to 1, lower is better)"),
        _sensitivities(measured),
    )


def _forest(measured: Mapping[str, Any], metric: str, title: str, xlabel: str) -> Figure:
    rows = [
        Interval(label=row["answer"], value=e.value, low=e.low, high=e.high, note=e.text(3))
        for row in measured["rows"]
        if (e := estimate(row[metric])) is not None
    ]
    base = next(row for row in measured["rows"] if row["strategy"] == measured["base"])
    value = estimate(base[metric]).value
    return forest_figure(
        rows,
        name=metric.replace("_", "-"),
        title=f"{title} of every answer",
        caption="Points are values, bars 95 % intervals by patient; differences have narrower intervals than two bars "
        "side by side suggest, and stand in the table.",
        xlabel=xlabel,
        reference=None if math.isnan(value) else value,
        reference_label=measured["base"],
    )


def _sensitivities(measured: Mapping[str, Any]) -> Figure:
    rows = [
        Interval(
            label=row["answer"] if not i else "", value=e.value, low=e.low, high=e.high, series=name, note=e.text()
        )
        for row in measured["rows"]
        for i, name in enumerate(measured["findings"])
        if (e := estimate(row["sensitivity"][name])) is not None
    ]
    return forest_figure(
        rows,
        name="sensitivity",
        title="Sensitivity for every finding",
        caption="What an answer gives to one finding it may take from another.",
        xlabel="sensitivity (share of the finding's films answered with it, 0 to 1)",
        limits=(0.0, 1.0),
    )
