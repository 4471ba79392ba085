"""The audits as a section of the report: alarms first, then every row, then what a person should look at."""

from hilum.evaluation.audits import Audit, Audits
from hilum.evaluation.false_alarms import TOGETHER
from hilum.evaluation.report_sections import Heads, Row, cell
from hilum.intervals import p_value
from hilum.reports.page import Block, Details, Notice, Paragraph, Section
from hilum.reports.tables import Cell, Column, number, percent, table

WORDS = {"alarm": "alarm", "clear": "not found", "note": "for the record", "not estimable": "not estimable"}

CANDIDATES = 20
"""Label-noise candidates on the page; ``audits.json`` has more."""


def audits_section(audits: Audits) -> Section:
    """What was asked, what was found, and how likely a false alarm is."""
    tests = [row for row in audits.rows if row.p_value == row.p_value]
    alarms = audits.alarms
    blocks: list[Block] = [Notice(tone=row.severity, text=row.sentence) for row in alarms]
    if not alarms:
        blocks.append(Paragraph("No audit raised an alarm. That is no proof of absence: see the intervals."))
    caption = (
        f"{len(tests)} of these questions can end in an alarm. Holm's procedure over all of them keeps the chance of "
        f"any false alarm at {percent(audits.family)}, and label tables, gaps and the like keep the rest of "
        f"{percent(TOGETHER)}; an alarm also needs an effect that counts."
    )
    heads: Heads = [
        "audit",
        "about",
        Column(title="value", number=True),
        Column(title="if nothing is wrong", number=True),
        Column(title="p", unit="Holm", number=True),
        "verdict",
    ]
    blocks.append(table(caption, heads, [_row(row) for row in audits.rows]))
    if audits.features:
        blocks.append(
            Paragraph(
                f"Light models are ridge regressions on {audits.features}; no network was trained for them. They are "
                "asked about patients that they haven't seen, one film a patient and finding."
            )
        )
    papers = sorted({f"{row.name}: {row.paper}" for row in audits.rows if row.paper})
    if papers:
        blocks.append(Details(summary="Where the audits come from", blocks=tuple(Paragraph(paper) for paper in papers)))
    if audits.candidates:
        blocks.append(_candidates(audits))
    return Section(name="audits", title="Audits: ways round the disease", blocks=tuple(blocks))


def _row(row: Audit) -> Row:
    tone = row.severity if row.verdict == "alarm" else ""
    return [
        row.name,
        Cell(text=row.about or "–", detail=row.measure),
        cell(row.value),
        "–" if row.chance != row.chance else number(row.chance),
        "–" if row.adjusted != row.adjusted else p_value(row.adjusted),
        Cell(text=WORDS[row.verdict], tone="" if tone == "note" else tone),
    ]


def _candidates(audits: Audits) -> Details:
    rows: list[Row] = [
        [candidate.film_id[:12], candidate.label, candidate.answer, number(candidate.probability)]
        for candidate in audits.candidates[:CANDIDATES]
    ]
    heads: Heads = ["film (SHA-256)", "label", "answer", Column(title="probability", number=True)]
    text = "Labels that a model that never saw the patient contradicts with most confidence; for a person to look at."
    shown = min(CANDIDATES, len(audits.candidates))
    return Details(
        summary=f"Labels to look at ({shown} of {len(audits.candidates)})", blocks=(table(text, heads, rows),)
    )
