"""A report's section on doubt: prediction sets, and films that are left to a person."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hilum.evaluation.confounding import WORDS
from hilum.evaluation.report_sections import Heads, Row, cell
from hilum.evaluation.scorecard import Scorecard
from hilum.evaluation.selective import (
    FALLBACK,
    MC_STD,
    MUTUAL_INFORMATION,
    OOD_DISTANCE,
    SET_SIZE,
    AbstentionPolicy,
)
from hilum.reports import curves as lines
from hilum.reports import figures as draw
from hilum.reports.page import Block, Details, Figures, Notice, Paragraph, Section
from hilum.reports.tables import NONE, Column, count, number, percent, table

KINDS = {
    MUTUAL_INFORMATION: "mutual information",
    MC_STD: "spread under dropout",
    OOD_DISTANCE: "distance of the features",
    SET_SIZE: "size of the prediction set",
}
"""Kinds of doubt as the glossary names them; the others are words already."""


def doubt(cards: Sequence[Scorecard]) -> Section | None:
    """Prediction sets and films left to a person."""
    blocks: list[Block] = []
    sets = [card for card in cards if card.in_use is not None and card.in_use.sets is not None]
    if sets:
        blocks += _sets(sets)
    left = [card for card in cards if card.in_use is not None and card.in_use.selective is not None]
    for card in left:
        blocks += _selective(card)
    drawn = _risk_coverage(left)
    if drawn is not None:
        blocks.append(Figures((drawn,)))
    blocks += [block for card in left for block in _by_group(card)]
    return Section(name="doubt", title="When the model is in doubt", blocks=tuple(blocks)) if blocks else None


def _sets(cards: Sequence[Scorecard]) -> list[Block]:
    rows: list[Row] = []
    words: dict[str, None] = {}
    for card in cards:
        made = card.in_use.sets if card.in_use else None
        if made is None:
            continue
        sizes = ", ".join(f"{size}: {count(n)}" for size, n in made.sizes.items()) or NONE
        rows.append(
            [
                card.name,
                percent(made.promised),
                cell(made.coverage),
                *(cell(made.class_coverage[finding]) for finding in card.findings),
                cell(made.size),
                cell(made.single),
                sizes,
            ]
        )
        words |= dict.fromkeys(made.warnings)
    heads: Heads = [
        Column(title="promised", number=True),
        Column(title="measured", unit="all films", number=True),
        *(Column(title=finding, unit="measured", number=True) for finding in cards[0].findings),
        Column(title="findings in a set", unit="mean", number=True),
        Column(title="one finding", unit="share of sets", number=True),
        Column(title="sets by size", unit="size: films"),
    ]
    caption = (
        "Prediction sets hold as many findings as are needed to hold the true one as often as promised, in each "
        "finding by itself (split conformal prediction, one validation film a patient)."
    )
    return [table(caption, ["test", *heads], rows), *(Paragraph(text) for text in words)]


def _selective(card: Scorecard) -> list[Block]:
    made = card.in_use.selective if card.in_use else None
    if made is None:
        return []
    policy = made.policy
    if policy.reason:
        text = (
            f"No policy was chosen that leaves films to a person ({card.name}): {policy.reason} A bundle of this run "
            f"then gives no label where the likeliest finding stays below {FALLBACK:.2f}{_far(policy, ', or where')}."
        )
        return [Notice(tone="amber", text=text)]
    rules = policy.rules
    aim = (
        f"at most {percent(rules.most_error)} mistakes at {percent(rules.confidence)} confidence"
        if rules.most_error is not None
        else f"{percent(rules.coverage)} of the validation films answered"
    )
    rows: list[Row] = [
        ["films answered", percent(policy.coverage), cell(made.coverage)],
        ["mistakes among them", percent(policy.risk), cell(made.risk)],
        ["mistakes if all were answered", "–", cell(made.risk_of_all)],
    ]
    rows += [[f"sensitivity, {finding}, among answered", "–", cell(one)] for finding, one in made.sensitivity.items()]
    rows += [[f"{finding} left to a person", "–", cell(one)] for finding, one in made.abstained.items()]
    heads: Heads = [
        Column(title="validation", unit="chosen here, so optimistic", number=True),
        Column(title=card.name, number=True),
    ]
    caption = (
        f"One policy, chosen on validation films ({aim}) and fixed: a film whose {_words(policy.doubt)} "
        f"exceeds {policy.limit:.3g} goes to a person{_far(policy, ', and so does one where')}. A bundle applies this "
        "policy and no other."
    )
    notices: list[Block] = [Notice(tone="amber", text=text) for text in made.warnings]
    return [table(caption, ["share of films", *heads], rows), _kinds(policy), *notices]


def _words(kind: str) -> str:
    """A kind of doubt as the glossary names it."""
    return KINDS.get(kind, kind)


def _far(policy: AbstentionPolicy, word: str) -> str:
    """The rule on distance that stands beside every policy; empty without distances."""
    if math.isnan(policy.most_distance):
        return ""
    return (
        f"{word} the features lie farther from the fitted films than {policy.most_distance:.2f} (all but "
        f"{100 * (1 - policy.rules.usual):.3g}\u00a0% of the validation films lie nearer)"
    )


def _kinds(policy: AbstentionPolicy) -> Details:
    rows: list[Row] = [
        [_words(kind), number(area, 4), "chosen" if kind == policy.doubt else ""]
        for kind, area in sorted(policy.aurc.items(), key=lambda one: one[1])
    ]
    caption = (
        "Kinds of doubt, compared on validation films: mean share of mistakes over all shares of films answered, the "
        "least doubtful first; lower is better. One whose ties keep it from answering about the wanted share isn't "
        "chosen."
    )
    heads: Heads = [Column(title="area under risk–coverage", number=True), ""]
    return Details(summary="Kinds of doubt compared", blocks=(table(caption, ["doubt", *heads], rows),))


def _risk_coverage(cards: Sequence[Scorecard]) -> draw.Figure | None:
    panels = []
    for card in cards:
        made = card.in_use.selective if card.in_use else None
        if made is None or not made.curves:
            continue
        series = [
            lines.Series(label=_words(one.doubt), x=one.coverage, y=one.risk, name=one.doubt) for one in made.curves
        ]
        answered = (
            (lines.Reference(value=made.coverage.value, label="policy", axis="x"),) if made.coverage.estimable else ()
        )
        panels.append(
            lines.Panel(
                series=series,
                title=card.name,
                x_label="share of films answered",
                y_label="share of mistakes among them",
                x_range=(0, 1.01),
                references=answered,
            )
        )
    if not panels:
        return None
    areas = "; ".join(
        f"{card.name}, {_words(one.doubt)} {one.aurc.text(3)}"
        for card in cards
        if card.in_use and card.in_use.selective
        for one in card.in_use.selective.curves
    )
    return lines.curves_figure(
        panels,
        name="risk-coverage",
        title="Mistakes against films answered",
        caption=f"The least doubtful films are answered first. Area under the curve (lower is better): {areas}.",
        share_y=True,
        digits=3,
    )


def _by_group(card: Scorecard) -> list[Block]:
    made = card.in_use.selective if card.in_use else None
    if made is None or not made.groups or made.policy.reason:
        return []
    sets = card.in_use.sets if card.in_use else None
    covered: Mapping[str, Mapping[str, Any]] = sets.group_coverage if sets else {}
    rows: list[Row] = [
        [
            WORDS.get(group, group),
            level,
            cell(left),
            cell(made.group_risk[group][level]),
            cell(covered[group][level]) if level in covered.get(group, {}) else NONE,
        ]
        for group, levels in made.groups.items()
        for level, left in levels.items()
    ]
    heads: Heads = [
        Column(title="left to a person", unit="share of films", number=True),
        Column(title="mistakes", unit="among answered films", number=True),
        Column(title="sets that hold the truth", unit="share", number=True),
    ]
    caption = "A policy can shift the work, and the mistakes, onto one group."
    block = table(caption, ["group", "level", *heads], rows)
    return [Details(summary=f"Doubt by group ({card.name})", blocks=(block,))]
