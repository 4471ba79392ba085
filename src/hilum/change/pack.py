"""``hilum docs pack``: documents filled from artefacts, with every missing field named. Support, not clearance."""

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hilum.bundle.reading import Bundle
from hilum.change import document_tables as asked
from hilum.change.plan import Plan
from hilum.config import canonical_json, from_mapping, to_mapping
from hilum.errors import ConfigError, DataError
from hilum.files import write_bytes
from hilum.intervals import interval, numeral
from hilum.records.registry import Deployment
from hilum.reports.page import Block, Bullets, Facts, Link, Links, Notice, Page, Section, VerdictBox, render_page
from hilum.reports.tables import Cell, table

NOT_CLEARANCE = (
    "These documents support whoever prepares a submission or runs a quality system. They are not clearance, approval "
    "or legal advice, and nothing in them makes this software a medical device that may be sold or used for diagnosis."
)
LONGEST = 600
"""Characters of a value that are shown; the whole lies in the artefact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What only the site can say; an empty field is a missing one."""

    organisation: str = ""
    """Who is responsible."""
    team: str = ""
    """Disciplines and people who developed and run it."""
    users: str = ""
    """Who uses it."""
    workflow: str = ""
    """Where in the work."""
    not_for: str = ""
    """What it must not be used for."""
    patients_represented: str = ""
    """Whom the data represent, and whom not."""
    reference_standard: str = ""
    """How labels were made."""
    ethics: str = ""
    """Consent, or the ethics committee's decision."""
    reader_study: str = ""
    """Plan or result."""
    prospective_pilot: str = ""
    """Plan or result."""
    literature: str = ""
    """What is known of the like."""
    clinical_lead: str = ""
    """Who answers for the clinical evaluation."""
    formative_evaluation: str = ""
    """Of use, while developing."""
    summative_evaluation: str = ""
    """Of use, at the end."""
    training_given: str = ""
    """To whom, when."""
    change_benefits: str = ""
    """Of the planned modifications."""
    change_risks: str = ""
    """Of them, and how they are mitigated."""
    security_officer: str = ""
    """Name or role."""
    data_protection_officer: str = ""
    """Name or role."""
    lawful_basis: str = ""
    """Of the processing."""
    patient_information: str = ""
    """How patients are told."""
    impact_assessment: str = ""
    """Of data protection."""
    incident_contact: str = ""
    """Whom to tell, and within what time."""
    authority: str = ""
    """To whom incidents are reported."""
    review_date: str = ""
    """When the plan is reviewed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefacts:
    """What the documents are filled from."""

    bundle: Bundle
    """The model."""
    plan: Plan | None = None
    """The change control plan."""
    scorecard: Mapping[str, Any] = field(default_factory=dict)
    """A run's scorecard, as JSON values; empty for none."""
    monitor: Mapping[str, Any] = field(default_factory=dict)
    """``monitor.json``; empty for none."""
    history: tuple[Deployment, ...] = ()
    """The registry."""
    site: Site = field(default_factory=Site)
    """What the site says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A field that no artefact fills."""

    document: str
    """File name of the document."""
    item: str
    """What is asked there."""
    source: str
    """What would fill it, such as ``site.reader_study``."""


def read_site(path: Path) -> Site:
    """The site's file (TOML); unknown fields are refused with the nearest known one.

    Raises:
        ConfigError: it can't be read, or fields are unknown or wrong.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError([f"The site's file {path} can't be read as TOML ({type(error).__name__})."]) from None
    return from_mapping(Site, values, where=path.name)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a file.

    Raises:
        DataError: there is none.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read as JSON ({type(error).__name__}). Check the path.") from None
    if not isinstance(values, dict):
        raise DataError(f"{path} holds {type(values).__name__}, not an object.")
    return values


def value_of(source: str, have: Artefacts) -> str:
    """What an artefact says at a source; empty when nothing does."""
    room, _, name = source.partition(".")
    if source.startswith("doc:"):
        return f"Described in {source.removeprefix('doc:')}."
    if room == "site":
        return str(getattr(have.site, name)).strip()
    if room == "plan":
        return "" if have.plan is None else _text(getattr(have.plan, name))
    if room == "registry":
        rows = [f"{one.at:%Y-%m-%d}: {one.production[:12]} ({one.act}, {one.reason})" for one in have.history]
        return "; ".join(rows)
    if room == "bundle":
        return _of_bundle(name, have.bundle)
    return _text((have.scorecard if room == "scorecard" else have.monitor).get(name))


def _of_bundle(name: str, bundle: Bundle) -> str:
    if name == "sha256":
        return bundle.sha256
    if name == "card":
        return "The bundle holds its model card: hilum bundle card." if bundle.card.strip() else ""
    if name == "split":
        return bundle.info.fingerprints.get("films", "")
    if name == "calibration":
        return bundle.info.calibration or f"Temperature {bundle.info.temperature:.3f}."
    said = _text(getattr(bundle.info, name))
    return said or ("No rule of its own: it labels every film." if name == "abstention" else "")


def _text(value: Any) -> str:
    """A value for a page: estimates as value and interval, mappings as names and values."""
    plain = to_mapping(value) if value is not None else None
    if plain in (None, "", [], {}):
        return ""
    said = _words(plain)
    return said if len(said) <= LONGEST else f"{said[:LONGEST]}…"


def _words(value: Any) -> str:
    if isinstance(value, dict):
        if {"value", "low", "high"} <= set(value):
            numbers = [value["value"], value["low"], value["high"]]
            if all(isinstance(one, int | float) for one in numbers):
                return f"{numeral(numbers[0], '.3f')} ({interval(numbers[1], numbers[2], '.3f')})"
            return str(value.get("reason") or "not estimable")
        return ", ".join(f"{name}: {_words(item)}" for name, item in value.items() if item not in (None, "", [], {}))
    if isinstance(value, list):
        return "; ".join(_words(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


DOCUMENTS: dict[str, tuple[str, tuple[asked.Asked, ...]]] = {
    "intended-use": ("Intended use", asked.INTENDED_USE),
    "gmlp": ("Good machine learning practice: ten principles (IMDRF N88:2025)", asked.GMLP),
    "risk-file": ("Risk file", ()),
    "data-sheet": ("Data sheet", asked.DATA_SHEET),
    "model-card": ("Model card", asked.MODEL_CARD),
    "pccp": ("Predetermined change control plan, in three parts", asked.PCCP),
    "security": ("Security and privacy: HIPAA Security Rule and GDPR", ()),
    "clinical-evaluation": ("Clinical evaluation plan", asked.CLINICAL),
    "human-factors": ("Human-factors plan", asked.HUMAN_FACTORS),
    "training-sheet": ("Training sheet for clinicians", ()),
    "post-market": ("Post-market plan", asked.POST_MARKET),
}
"""Documents by file name."""


def missing_fields(have: Artefacts) -> tuple[Missing, ...]:
    """Every field that no artefact fills, by document."""
    found = []
    for name, (_, items) in DOCUMENTS.items():
        for item in items:
            found += [_missing(name, item.title, source) for source in item.sources if not value_of(source, have)]
        if name == "security":
            rows = [one for one in asked.SAFEGUARDS if not value_of(one.source, have)]
            found += [_missing(name, f"{one.rule}: {one.asks}", one.source) for one in rows]
    return tuple(found)


def _missing(document: str, item: str, source: str) -> Missing:
    return Missing(document=document, item=item, source=source)


def write_pack(folder: Path, have: Artefacts, *, made: str) -> tuple[Missing, ...]:
    """Write every document as a page, an index, and ``pack.json``.

    Args:
        folder: where; made when absent.
        have: what they are filled from.
        made: the footer: what made them, and when.

    Returns:
        the missing fields.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = missing_fields(have)
    for name in DOCUMENTS:
        page = document_page(name, have, made=made)
        write_bytes(folder / f"{name}.html", render_page(page).encode())
    write_bytes(folder / "index.html", render_page(_index(have, missing, made)).encode())
    summary = {
        "notice": NOT_CLEARANCE,
        "model": have.bundle.sha256,
        "plan": have.plan.sha256 if have.plan else None,
        "documents": list(DOCUMENTS),
        "missing": list(missing),
    }
    write_bytes(folder / "pack.json", canonical_json(summary).encode() + b"\n")
    return missing


def document_page(name: str, have: Artefacts, *, made: str) -> Page:
    """One document."""
    title, items = DOCUMENTS[name]
    sections = [_section(i, item, have) for i, item in enumerate(items)]
    if name == "risk-file":
        sections = [_hazards()]
    elif name == "security":
        sections = [_safeguards(have)]
    elif name == "training-sheet":
        sections = [Section(title="What to know", name="know", blocks=(Bullets(asked.TRAINING),))]
    return Page(
        title=f"{title}: {have.bundle.info.name} {have.bundle.info.version}",
        notices=(Notice(tone="amber", text=NOT_CLEARANCE),),
        sections=tuple(sections),
        footer=made,
    )


def _section(number: int, item: asked.Asked, have: Artefacts) -> Section:
    values = [(source, value_of(source, have)) for source in item.sources]
    blocks: list[Block] = [Notice(tone="note", text=item.text)] if item.text else []
    filled = tuple((source.removeprefix("doc:"), value) for source, value in values if value)
    blocks += [Facts(filled)] if filled else []
    blocks += [Notice(tone="red", text=f"Missing: {source}. {how_to_fill(source)}") for source, v in values if not v]
    return Section(title=item.title, name=f"item-{number + 1}", blocks=tuple(blocks))


def how_to_fill(source: str) -> str:
    """What fills a missing field."""
    room = source.partition(".")[0]
    return {
        "site": "Write it into the site's file (--site).",
        "plan": "Give the change control plan (--plan).",
        "scorecard": "Give an evaluation's scorecard (--scorecard).",
        "monitor": "Give monitor.json of hilum monitor report (--monitor).",
        "registry": "Give the records (--data) once a model is in production.",
    }.get(room, "Package the bundle with a version that records it.")


def _hazards() -> Section:
    rows = [[str(i + 1), one.name, one.harm, one.control, one.check] for i, one in enumerate(asked.HAZARDS)]
    caption = (
        "Hazards, false negatives first, what controls them and what shows the control at work. Likelihood and the "
        "acceptance of what remains are the site's to judge (ISO 14971)."
    )
    block = table(caption, ["", "Hazard", "Harm", "Control", "Shown by"], rows)
    return Section(title="Hazards and controls", name="hazards", blocks=(block,))


def _safeguards(have: Artefacts) -> Section:
    rows: list[Sequence[Cell | str]] = []
    for one in asked.SAFEGUARDS:
        value = value_of(one.source, have)
        cell = Cell(text=value or f"Missing: {one.source}", tone="" if value else "red")
        rows.append([one.rule, one.asks, one.control, cell])
    caption = (
        "What the rules ask in short, and what here answers it. The whole of a rule, and its measures outside this "
        "software, are the site's."
    )
    return Section(
        title="Safeguards", name="safeguards", blocks=(table(caption, ["Rule", "Asks", "Answer", "Evidence"], rows),)
    )


def _index(have: Artefacts, missing: Iterable[Missing], made: str) -> Page:
    lacking = [*missing]
    counts = {name: sum(one.document == name for one in lacking) for name in DOCUMENTS}
    links = tuple(
        Link(title=title, href=f"{name}.html", text=f"{counts[name]} fields missing" if counts[name] else "complete")
        for name, (title, _) in DOCUMENTS.items()
    )
    rows = [[DOCUMENTS[one.document][0], one.item, one.source, how_to_fill(one.source)] for one in lacking]
    listed = table("Each field, where it is asked, and what fills it.", ["Document", "Item", "Field", "Mend"], rows)
    sections = [Section(title="Documents", name="documents", blocks=(Links(links),))]
    sections += [Section(title="Missing fields", name="missing", blocks=(listed,))] if rows else []
    headline = f"{len(lacking)} fields are missing." if lacking else "Every field is filled."
    return Page(
        title=f"Documents of {have.bundle.info.name} {have.bundle.info.version}",
        verdict=VerdictBox(tone="amber", headline=headline, lists=(("What this is", (NOT_CLEARANCE,)),)),
        sections=tuple(sections),
        footer=made,
    )


def site_template() -> str:
    """An empty site's file with every field and what belongs there."""
    lines = ["# What only the site can say; an empty field is listed as missing."]
    lines += [f'{one.name} = ""' for one in fields(Site)]
    return "\n".join(lines) + "\n"
