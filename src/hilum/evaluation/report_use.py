"""Sections of a report on groups of patients, triage, decision curves, and looks at the locked test films."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hilum.evaluation.confounding import WORDS
from hilum.evaluation.estimates import Estimate
from hilum.evaluation.report_sections import Heads, Row, cell, slug
from hilum.evaluation.scorecard import Scorecard
from hilum.evaluation.triage import Triage, cases_per_thousand
from hilum.reports import curves as lines
from hilum.reports import figures as draw
from hilum.reports.page import Block, Details, Figures, Notice, Paragraph, Section
from hilum.reports.tables import NONE, Cell, Column, Table, Tone, count, number, percent, table


def subgroups(cards: Sequence[Scorecard]) -> Section | None:
    """Forest plots by group, and the numbers behind them."""
    if not any(card.subgroups for card in cards):
        return None
    blocks: list[Block] = [
        Notice(tone="amber", text=f"{one.sentence} ({card.name[0].upper()}{card.name[1:]}.)")
        for card in cards
        for one in card.gaps
    ]
    if not blocks:
        words = (
            "No level's AUROC differs from that of the others beyond chance, after Holm's correction over all of them."
        )
        blocks.append(Paragraph(f"{words} A small group can hide a large difference: read the intervals."))
    blocks.append(Figures(tuple(_forest(cards, finding) for finding in cards[0].findings)))
    blocks += [
        Details(summary=f"Sensitivity and specificity by group ({card.name})", blocks=(_group_table(card),))
        for card in cards
        if card.subgroups
    ]
    return Section(name="subgroups", title="Groups of patients and films", blocks=tuple(blocks))


def _forest(cards: Sequence[Scorecard], finding: str) -> draw.Figure:
    several, rows = len(cards) > 1, []
    for card in cards:
        rows.append(_row(card, f"all films (n {card.films:,})", card.delong.get(finding), several))
    levels = dict.fromkeys((one.group, one.level) for card in cards for one in card.subgroups)
    groups = list(dict.fromkeys(group for group, _ in levels))
    for group, level in sorted(levels, key=lambda pair: groups.index(pair[0])):
        for card in cards:
            for one in card.subgroups:
                if (one.group, one.level) == (group, level):
                    label = f"{WORDS.get(group, group)}: {level} (n {one.films:,})"
                    rows.append(_row(card, label, one.auroc[finding], several))
    lows = [row.low for row in rows if not math.isnan(row.low)]
    return draw.forest_figure(
        rows,
        name=f"subgroups-{slug(finding)}",
        title=f"AUROC of {finding} by group",
        xlabel="AUROC",
        limits=(max(0.0, min([0.5, *lows]) - 0.03), 1.005),
        reference=0.5,
        reference_label="chance",
        caption="DeLong's intervals by patient; n counts films. With fewer than five patients on a side there is none.",
    )


def _row(card: Scorecard, label: str, found: Estimate | None, several: bool) -> draw.Interval:
    if found is None:
        return draw.Interval(label=label, value=math.nan, low=math.nan, high=math.nan, series=card.name, note=NONE)
    return draw.Interval(
        label=label,
        value=found.value,
        low=found.low,
        high=found.high,
        series=card.name if several else "",
        note=found.text(),
    )


def _group_table(card: Scorecard) -> Table:
    rows: list[Row] = [
        [
            WORDS.get(one.group, one.group),
            one.level,
            f"{count(one.films)} ({count(one.patients)})",
            *(cell(part[finding]) for finding in card.findings for part in (one.sensitivity, one.specificity)),
        ]
        for one in card.subgroups
    ]
    heads: Heads = [
        Column(title=f"{word}, {finding}", number=True) for finding in card.findings for word in ("sens.", "spec.")
    ]
    caption = "Of the most probable finding as the answer. Wilson's intervals with patients as trials."
    return table(caption, ["group", "level", Column(title="films", unit="(patients)", number=True), *heads], rows)


def use(cards: Sequence[Scorecard]) -> Section | None:
    """Triage and decision curves."""
    known = [card for card in cards if card.in_use is not None]
    if not known:
        return None
    blocks: list[Block] = []
    for card in known:
        made = card.in_use
        if made is not None and made.triage is not None:
            blocks.append(_triage(card, made.triage))
        if made is not None:
            blocks += [Notice(tone="amber", text=text) for text in made.problems]
    drawn = [*_workload(known), _decision_curves(known)]
    blocks.append(Figures(tuple(drawn)))
    sentences = [text for card in known for text in _useful(card)]
    blocks += [Paragraph(text) for text in sentences]
    return Section(name="use", title="What it would be worth in use", blocks=tuple(blocks))


def _triage(card: Scorecard, made: Triage) -> Table:
    rows: list[Row] = []
    for row in made.rows:
        missed = ", ".join(f"{n} {name}" for name, n in row.missed_by_finding.items() if n) or "none"
        later = cell(row.later_abnormal_share, 3)
        rows.append(
            [
                Cell(
                    text=percent(row.floor),
                    detail=f"1 − P({made.normal}) ≥ {number(row.threshold, 3)}",
                    reason=row.reason,
                )
                if not row.reason
                else Cell(text=percent(row.floor), reason=row.reason),
                cell(row.first),
                cell(row.sensitivity),
                NONE if row.reason else f"{count(row.later_abnormal)} of {count(row.later)}",
                NONE if row.reason else Cell(text=number(cases_per_thousand(row, card.films), 1), detail=missed),
                later,
            ]
        )
    heads: Heads = [
        Column(title="read first", unit="share of films", number=True),
        Column(title="abnormal found", unit="share of abnormal films", number=True),
        Column(title="abnormal among those read later", unit="films", number=True),
        Column(title="the same per 1,000 films", number=True),
        Column(title="share of those read later", unit="exact interval", number=True),
    ]
    caption = (
        f"Triage on the {card.name}: thresholds were chosen on {made.chosen_on} so that the first column's share of "
        "abnormal films is read first, and then measured here. All films are read in the end; some wait."
    )
    return table(caption, ["wanted", *heads], rows)


def _workload(cards: Sequence[Scorecard]) -> list[draw.Figure]:
    series = [
        lines.Series(label=card.name, x=card.in_use.workload[0], y=card.in_use.workload[1])
        for card in cards
        if card.in_use is not None and card.in_use.workload[0]
    ]
    if not series:
        return []
    even = lines.Series(label="any order", x=(0.0, 1.0), y=(0.0, 1.0), style="dotted", name="any order")
    panel = lines.Panel(
        series=[*series, even],
        x_label="share of films read, most suspicious first",
        y_label="share of abnormal films found",
        x_range=(0, 1),
        y_range=(0, 1.01),
    )
    return [
        lines.curves_figure(
            [panel],
            name="workload",
            title="Abnormal films found against films read",
            caption="Films are ordered by 1 − P(normal). No threshold is needed to read this figure.",
            digits=2,
        )
    ]


def _decision_curves(cards: Sequence[Scorecard]) -> draw.Figure:
    panels = []
    for finding in cards[0].findings:
        series, tops = [], [0.0]
        for card in cards:
            curve = card.in_use.decision_curves.get(finding) if card.in_use else None
            if curve is None or not curve.thresholds:
                continue
            series.append(
                lines.Series(
                    label=f"model, {card.name}",
                    name=f"model, {card.name}",
                    x=curve.thresholds,
                    y=curve.net_benefit,
                    low=curve.low,
                    high=curve.high,
                    style="solid",
                )
            )
            series.append(
                lines.Series(
                    label=f"act on all, {card.name}",
                    name=f"act on all, {card.name}",
                    x=curve.thresholds,
                    y=[value if value > -0.05 else math.nan for value in curve.act_on_all],
                    style="dashed",
                )
            )
            tops += [curve.prevalence, *(curve.high or curve.net_benefit)]
        panels.append(
            lines.Panel(
                series=series,
                title=finding,
                x_label="probability above which one acts",
                y_label="net benefit per film",
                x_range=(0, 0.92),
                y_range=(-0.03, 1.08 * max(tops) or 1.0),
                references=(lines.Reference(value=0.0, label="act on none"),),
            )
        )
    return lines.curves_figure(
        panels,
        name="decision-curves",
        title="Decision curves",
        caption=(
            "Net benefit: cases found per film, less false alarms weighed with t/(1 − t) at threshold t (Vickers and "
            "Elkin 2006). A model is of use where it lies above both acting on all and on none. Bands: pointwise "
            "intervals by patient."
        ),
        digits=3,
    )


def _useful(card: Scorecard) -> list[str]:
    if card.in_use is None:
        return []
    sentences = []
    for finding, curve in card.in_use.decision_curves.items():
        if curve.reason:
            sentences.append(f"{finding}, {card.name}: no decision curve or interval. {curve.reason}")
        elif curve.useful is None:
            sentences.append(
                f"{finding}, {card.name}: at no threshold is the model shown to be of more use than acting on all or "
                "on none."
            )
        else:
            low, high = curve.useful
            sentences.append(
                f"{finding}, {card.name}: shown to be of more use than acting on all or none for thresholds between "
                f"{percent(low)} and {percent(high)}."
            )
    return sentences


def cross_validation(found: Mapping[str, tuple[Estimate, Estimate]]) -> Section | None:
    """AUROC on out-of-fold predictions, with the interval that fits each question."""
    if not found:
        return None
    rows: list[Row] = [[finding, cell(pooled), cell(folds)] for finding, (pooled, folds) in found.items()]
    heads: Heads = [
        Column(title="pooled", unit="these networks, other patients", number=True),
        Column(title="mean over folds", unit="the recipe, trained anew", number=True),
    ]
    caption = (
        "AUROC on out-of-fold predictions, each film by a network that did not fit it. Pooled: DeLong's interval by "
        "patient. Mean over folds: corrected for training sets that overlap (Nadeau and Bengio 2003), since the plain "
        "standard error over folds is too small."
    )
    return Section(
        name="cross-validation", title="Cross-validation", blocks=(table(caption, ["finding", *heads], rows),)
    )


def openings(log: Sequence[Mapping[str, Any]], model: str) -> Block | None:
    """Each time the locked test films were looked at, for this model version and others."""
    if not log:
        return None
    seen: dict[str, int] = {}
    rows: list[Row] = []
    for line in log:
        version = str(line.get("model", ""))
        seen[version] = seen.get(version, 0) + 1
        again = f"look {seen[version]} at this version" if version == model else "another version of this run"
        tone: Tone = "amber" if version == model and seen[version] > 1 else ""
        rows.append([str(line.get("time", "")), version[:12], Cell(text=again, tone=tone)])
    caption = (
        "Every look at the locked test films. Only the first look at a version is a test; what is chosen after a look "
        "is tuned to these films."
    )
    return table(caption, ["time", "model version", "look"], rows)
