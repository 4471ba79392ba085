"""The order of a model card: the fields of the CHAI Applied Model Card as blocks, from which both forms are written."""

from collections.abc import Mapping, Sequence

from hilum.bundle.card import DataSet, KeyMetric, Measured, ModelCard
from hilum.reports.page import Block, Bullets, Facts, Paragraph, Section
from hilum.reports.tables import Cell, Column, table

NOT_STATED = "not stated"
"""What stands where nothing is known; nothing is made up."""


def card_sections(card: ModelCard) -> tuple[Section, ...]:
    """Every part of the card, in order; a part without content reads "not stated" instead of being left out."""
    said = card.stated
    return (
        _identity(card),
        _uses(card),
        Section(title="Warnings", name="warnings", blocks=_warnings(card)),
        _system(card),
        _section(
            "Trust ingredients: transparency information",
            {
                "Funding source of the technical implementation": said.funding,
                "Third-party information": said.third_parties,
                "Stakeholders consulted during design": said.stakeholders,
            },
        ),
        Section(title="Development data characterisation", name="data", blocks=(_data(card.data),)),
        _metric("Key metrics: usefulness, usability and efficacy", "usefulness", card.usefulness),
        _metric("Key metrics: fairness and equity", "fairness", card.fairness),
        _metric("Key metrics: safety and reliability", "safety", card.safety),
        Section(
            title="Operating points, calibration and abstention",
            name="operating-points",
            blocks=(
                _points(card.operating_points),
                _facts(
                    {
                        "Thresholds chosen for": card.operating_rules,
                        "Calibration": card.calibration,
                        "When it gives no label": card.abstention,
                    }
                ),
            ),
        ),
        _resources(card),
        Section(title="Bibliography", name="bibliography", blocks=(_list(said.bibliography),)),
        Section(title="Provenance", name="provenance", blocks=(_provenance(card),)),
    )


def _identity(card: ModelCard) -> Section:
    """Which model, whose, and at what stage."""
    said = card.stated
    return _section(
        "Identity",
        {
            "Name": card.name,
            "Version": card.version,
            "Developer": said.developer,
            "Inquiries or to report an issue": said.inquiries,
            "Release stage": said.release_stage,
            "Release date": said.release_date,
            "Bundle made": card.created,
            "Global availability": said.global_availability,
            "Regulatory approval": said.regulatory_approval,
            "Summary": card.summary,
            "Keywords": ", ".join(said.keywords),
        },
    )


def _uses(card: ModelCard) -> Section:
    """For what, for whom, on which films."""
    said = card.stated
    return _section(
        "Uses and directions",
        {
            "Intended use": card.intended_use,
            "Workflow": said.workflow,
            "Primary intended users": card.intended_users,
            "How to use": said.how_to_use,
            "Targeted patient population": said.population,
            "Films that are analysed": card.analysed,
            "Cautioned out-of-scope settings and use cases": "; ".join(card.not_intended_for),
        },
    )


def _system(card: ModelCard) -> Section:
    """What it is made of and what it answers."""
    said = card.stated
    return _section(
        "Trust ingredients: AI system facts",
        {
            "Outcome(s) and output(s)": card.outputs,
            "Findings": ", ".join(card.findings),
            "Model type": card.architecture,
            "Foundation models used in application": card.weights,
            "Training": card.training,
            "Input data source and output/input data types": card.inputs,
            "Bias mitigation approaches": card.bias_mitigation,
            "Ongoing maintenance": said.maintenance,
            "Integrity of the bundle": card.integrity,
            "Security and compliance practices or accreditations": said.security,
            "Heat maps": card.explanation,
            "Transparency, intelligibility and accountability": said.transparency,
        },
    )


def _resources(card: ModelCard) -> Section:
    """What others published of it."""
    said = card.stated
    return _section(
        "Resources",
        {
            "Evaluation references": said.evaluation_references,
            "Clinical trial": said.clinical_trial,
            "Peer-reviewed publications": said.publications,
            "Reimbursement status": said.reimbursement,
            "Patient consent or disclosure": said.consent,
        },
    )


def _section(title: str, facts: Mapping[str, str | None]) -> Section:
    return Section(title=title, name=title.split(":")[-1].strip().lower().replace(" ", "-"), blocks=(_facts(facts),))


def _said(value: object) -> str:
    text = "" if value is None else str(value).strip()
    return text or NOT_STATED


def _facts(facts: Mapping[str, object]) -> Facts:
    return Facts(tuple((name, _said(value)) for name, value in facts.items()))


def _list(items: Sequence[str]) -> Block:
    return Bullets(tuple(items)) if items else Paragraph(NOT_STATED)


def _warnings(card: ModelCard) -> tuple[Block, ...]:
    """Sentences as lists; what there is none of stands with the facts."""
    lists = {
        "Known risks and limitations": card.limits,
        "Known biases": card.biases,
        "Not validated on": card.not_validated_on,
    }
    blocks: list[Block] = []
    for title, items in lists.items():
        blocks += [Paragraph(f"{title}:"), Bullets(items)] if items else []
    unknown = {title: None for title, items in lists.items() if not items}
    stated = {"Ethical considerations": card.stated.ethics, "Clinical risk level": card.stated.clinical_risk}
    return (*blocks, _facts({**unknown, **stated}))


def _provenance(card: ModelCard) -> Block:
    return _facts(card.provenance) if card.provenance else Paragraph(NOT_STATED)


def _data(sets: Sequence[DataSet]) -> Block:
    if not sets:
        return Paragraph(NOT_STATED)
    rows = [
        [
            one.name,
            _count(one.films),
            _count(one.patients),
            _counts(one.labels),
            _counts(one.sources),
            one.fingerprint[:12] if one.fingerprint else NOT_STATED,
            one.note,
        ]
        for one in sets
    ]
    numbers = [Column(title=title, number=True) for title in ("films", "patients")]
    return table(
        "Films that the model was made and measured with.",
        ["films of", *numbers, "by label", "by source", "fingerprint", "note"],
        rows,
    )


def _metric(title: str, name: str, metric: KeyMetric) -> Section:
    facts = _facts(
        {
            "Goal of metric": metric.goal,
            "Interpretation": metric.interpretation,
            "Test type": metric.test_type,
            "Testing data description": metric.testing_data,
            "Validation process and justification": metric.validation,
        }
    )
    results = _results(metric.results) if metric.results else _facts({"Result": None})
    return Section(title=title, name=name, blocks=(facts, results))


def _results(numbers: Sequence[Measured]) -> Block:
    """A row for each measure on the same films, a column for each finding."""
    findings = list(dict.fromkeys(one.finding for one in numbers))
    rows: dict[tuple[str, str], dict[str, Cell]] = {}
    for one in numbers:
        rows.setdefault((one.on, one.what), {})[one.finding] = _cell(one)
    none = Cell(text="–")
    cells: list[list[Cell | str]] = [
        [on, what, *(row.get(name, none) for name in findings)] for (on, what), row in rows.items()
    ]
    caption = "Values with their 95 % intervals, and the films that each rests on."
    return table(caption, ["on", "measure", *findings], cells)


def _cell(one: Measured) -> Cell:
    if one.value is None:
        return Cell(text="not estimable" if one.reason else NOT_STATED, reason=one.reason)
    interval = f"interval {NOT_STATED}" if one.low is None or one.high is None else f"{one.low:.3f} – {one.high:.3f}"
    films = "" if one.n is None else f"n = {one.n:,}"
    return Cell(text=f"{one.value:.3f} ({interval})", detail=films, reason=one.reason)


def _points(points: Mapping[str, float]) -> Block:
    if not points:
        return _facts({"Operating points": None})
    threshold = Column(title="positive from", number=True)
    return table(
        "A finding is positive from this probability.",
        ["finding", threshold],
        [[name, f"{value:.3f}"] for name, value in points.items()],
    )


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or NOT_STATED


def _count(value: int | None) -> str:
    return NOT_STATED if value is None else f"{value:,}"
