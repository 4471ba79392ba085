"""The page of a reader study: the answer first, each reader after it, and what the intervals are about."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hilum.evaluation.estimates import Estimate
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.reader_study import (
    Agreement,
    Change,
    FindingScore,
    Rates,
    Readings,
    agreement,
    notes_on,
    score_finding,
)
from hilum.evaluation.reader_study_plan import StudyPlan
from hilum.evaluation.reader_study_ratings import Areas, score_ratings
from hilum.evaluation.report_sections import cell, slug
from hilum.intervals import p_value
from hilum.reports.charts import Bar, bars_figure
from hilum.reports.figures import Figure
from hilum.reports.page import Block, Bullets, Facts, Figures, Notice, Page, Section
from hilum.reports.tables import Cell, Column, Table, count, percent, table

SEQUENTIAL = (
    "Read first, then uncovered: the same reader sees a film without the model and, in the same sitting, with it. This "
    "is sequential reading and not a crossover: the order is always the same, a second look helps without any model, "
    "and who has written down an opinion is slow to leave it. The difference is that of all of these together."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyScore:
    """What a reader study found."""

    design: str
    """``crossover`` or ``sequential``."""
    finding: str
    """The question."""
    films: int
    """Number of films."""
    patients: int
    """Number of patients."""
    readers: tuple[str, ...]
    """Who read."""
    level: float
    """Nominal coverage of the intervals."""
    resamples: int
    """Number of resamples."""
    seed: int
    """Of the resamples."""
    plan_sha256: str
    """Fingerprint of the plan."""
    findings: tuple[FindingScore, ...]
    """The question first, then the others."""
    agreement: Agreement
    """Kappa."""
    areas: tuple[Areas, ...]
    """AUROC of the confidence in the question, the mean of the readers first; empty where none was asked for."""
    notes: tuple[str, ...]
    """What must be known to read the figures."""
    schema: int = 1
    """Version of this form."""


def study_score(
    plan: StudyPlan, readings: Readings, *, design: str, fingerprint: str, notes: Sequence[str]
) -> StudyScore:
    """Score a whole study; its intervals take the plan's seed."""
    settings = Resampling(seed=plan.seed)
    order = [plan.finding, *(name for name in plan.findings if name != plan.finding)]
    return StudyScore(
        design=design,
        finding=plan.finding,
        films=len(readings.patient_ids),
        patients=len(set(readings.patient_ids)),
        readers=readings.readers,
        level=settings.level,
        resamples=settings.resamples,
        seed=settings.seed,
        plan_sha256=fingerprint,
        findings=tuple(score_finding(readings, name, settings) for name in order),
        agreement=agreement(readings, settings),
        areas=score_ratings(readings, plan.finding, level=settings.level),
        notes=(*notes, *notes_on(readings), *_question(plan)),
    )


def _question(plan: StudyPlan) -> tuple[str, ...]:
    if len(plan.findings) == 2:
        return ()
    return (f"Only {plan.finding} is the question; the other findings' intervals aren't adjusted for being several.",)


def headline(score: StudyScore) -> str:
    """The answer in one sentence."""
    first = score.findings[0].pooled
    parts = [f"{name} {_moved(change)}" for name, change in _both(first)]
    return f"With the model, for {score.finding}: {parts[0]}; {parts[1]}."


def _moved(change: Change) -> str:
    if not change.difference.estimable:
        return "not estimable"
    return f"{change.without.value:.2f} → {change.with_model.value:.2f}, difference {_signed(change)}"


def _signed(change: Change) -> str:
    one = change.difference
    bounds = f" ({_plus(one.low)} to {_plus(one.high)})" if one.bounded else " (no interval)"
    return f"{_plus(one.value)}{bounds}"


def _plus(value: float) -> str:
    """Two digits with a sign; nothing that rounds to 0 has one."""
    text = f"{value:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "−")


def _both(rates: Rates) -> tuple[tuple[str, Change], tuple[str, Change]]:
    return ("sensitivity", rates.sensitivity), ("specificity", rates.specificity)


def study_page(score: StudyScore) -> Page:
    """The report as a page."""
    notices = [Notice(tone="amber", text=SEQUENTIAL)] if score.design == "sequential" else []
    sections = [_finding_section(score, one, first=i == 0) for i, one in enumerate(score.findings)]
    if score.areas:
        sections.insert(1, _areas_section(score))
    return Page(
        title=f"Reader study: {score.finding}",
        subtitle=f"{count(score.films)} films of {count(score.patients)} patients, {len(score.readers)} "
        f"reader{'s' if len(score.readers) > 1 else ''}, {score.design}",
        lead=headline(score),
        notices=tuple(notices),
        sections=(*sections, _agreement_section(score), _method_section(score)),
    )


def _finding_section(score: StudyScore, found: FindingScore, *, first: bool) -> Section:
    everyone = (found.pooled, *found.readers)
    films = f"{found.films_with} films with {found.finding}, {found.films_without} without"
    note = f"{films}. Intervals at {percent(score.level)}."
    blocks: list[Block] = [_rates_table(f"{name.capitalize()}. {note}", name, everyone) for name in RATES]
    if first:
        blocks.append(Figures((_figure(found, everyone),)))
    title = f"{found.finding}: the question" if first else found.finding
    return Section(title=title, blocks=tuple(blocks), name=slug(found.finding) or "finding")


RATES = ("sensitivity", "specificity")


def _rates_table(caption: str, name: str, everyone: Sequence[Rates]) -> Table:
    heads = [
        Column(title=title, number=True)
        for title in ("without", "with", "with − without", "gained", "lost", "McNemar p")
    ]
    rows: list[list[Cell | str]] = []
    for one in everyone:
        change: Change = getattr(one, name)
        p = "—" if math.isnan(change.mcnemar) else p_value(change.mcnemar)
        moved = [count(change.gained), count(change.lost), p]
        rows.append([one.reader, cell(change.without), cell(change.with_model), signed_cell(change.difference), *moved])
    return table(caption, ["reader", *heads], rows)


def signed_cell(one: Estimate) -> Cell:
    """A difference with its sign; its bounds have theirs."""
    if not one.bounded:
        return cell(one)
    return Cell(text=_plus(one.value), detail=f"{_plus(one.low)} to {_plus(one.high)}")


def _figure(found: FindingScore, everyone: Sequence[Rates]) -> Figure:
    bars = [
        Bar(label=one.reader, value=change.difference.value, low=change.difference.low, high=change.difference.high,
            series=name, note=_signed(change) if change.difference.estimable else "")
        for one in everyone
        for name, change in _both(one)
    ]  # fmt: skip
    return bars_figure(
        bars, name="differences", title=f"{found.finding}: with minus without the model",
        caption="Above 0 readers do better with the model. Whiskers: intervals as in the tables.",
        x_label="difference of the share read right", reference=0.0, digits=2,
    )  # fmt: skip


def _areas_section(score: StudyScore) -> Section:
    rows: list[list[Cell | str]] = [
        [one.reader, cell(one.without), cell(one.with_model), signed_cell(one.difference)] for one in score.areas
    ]
    heads = [Column(title=title, number=True) for title in ("without", "with", "with − without")]
    caption = (
        f"AUROC of the confidence that a film shows {score.finding}, 0 to 100. Intervals by DeLong; the mean's are "
        "about these readers on other films."
    )
    return Section(title="Confidence", blocks=(table(caption, ["reader", *heads], rows),), name="confidence")


def _agreement_section(score: StudyScore) -> Section:
    found = score.agreement
    rows: list[list[Cell | str]] = [
        ["between readers, without the model", cell(found.without)],
        ["between readers, with the model", cell(found.with_model)],
        ["with − without", signed_cell(found.difference)],
    ]
    rows += [[f"{reader}, without against with", cell(one)] for reader, one in found.itself.items()]
    caption = "Cohen's kappa over all findings; between readers the mean over pairs. 1 is perfect, 0 is chance."
    blocks = (table(caption, ["who", Column(title="kappa", number=True)], rows),)
    return Section(title="Agreement", blocks=blocks, name="agreement")


def _method_section(score: StudyScore) -> Section:
    facts = Facts(
        (
            ("design", score.design),
            ("intervals", f"{percent(score.level)}, {count(score.resamples)} resamples, seed {score.seed}"),
            ("plan", f"SHA-256 {score.plan_sha256}"),
        )
    )
    return Section(title="How to read it", blocks=(Bullets(score.notes), facts), name="method")
