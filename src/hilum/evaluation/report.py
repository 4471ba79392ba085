"""The report of a run: verdict first, then figures, tables and where they come from, as one page and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hilum.evaluation import report_calibration, report_doubt, report_use
from hilum.evaluation import report_sections as sections
from hilum.evaluation.audit_sections import audits_section
from hilum.evaluation.audits import Audits
from hilum.evaluation.calibrators import Choice
from hilum.evaluation.confounding import Confounding, Flag
from hilum.evaluation.estimates import Estimate, to_plain
from hilum.evaluation.scorecard import Scorecard
from hilum.evaluation.shipped_calibration import ShippedCalibration
from hilum.evaluation.thresholds import OperatingPoint
from hilum.evaluation.tripod import Item, checklist_section
from hilum.evaluation.verdict import Verdict, drops, overall
from hilum.files import write_bytes, write_json, write_text
from hilum.reports.figures import Figure
from hilum.reports.page import DISCLAIMER, Block, Page, Picture, Section, VerdictBox, figures_of, render_page

SCHEMA = 1

REDO = (
    "Every figure of a test follows from its predictions.parquet and this file: settings.resampling holds seed, count, "
    "level and method of the resampling; streams are named in the code (scorecard, calibration, operating-point, "
    "triage, conformal, selective, risk-coverage, decision-curve). "
    "hilum.evaluation.scorecard.score(Predictions.read(path), settings=…, operating_points=…, "
    "validation=Predictions.read('validation.parquet')) gives the same numbers again."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One way of training among several that are compared on the same films."""

    name: str
    """What it is, such as ``from the shipped encoder`` or ``from scratch``."""
    auroc: Estimate
    """Macro AUROC."""
    accuracy: Estimate
    """Share of films answered right."""
    test: str = "internal test"
    """Name of the films."""
    seconds: float | None = None
    """Training time; None when it was not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heatmaps:
    """A gallery of heat maps."""

    pictures: tuple[Picture, ...]
    """The pictures; none shows an identifier."""
    caption: str
    """How they were chosen: not by looking for the best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportInput:
    """Everything that a report is made from; only the title and the internal card are needed."""

    title: str
    """Heading."""
    internal: Scorecard
    """The internal test."""
    external: Scorecard | None = None
    """The external test; shown beside the internal one."""
    subtitle: str = ""
    """One line: data and model."""
    data: Confounding | None = None
    """Tables of the whole data set, from :func:`~hilum.evaluation.confounding.confounding_of_labels`."""
    audits: Audits | None = None
    """What looking for ways round the disease found; None when nobody looked."""
    validation_points: Mapping[str, OperatingPoint] = field(default_factory=dict)
    """Operating points as they were chosen, to show beside the tested ones."""
    calibration: ShippedCalibration | None = None
    """How probabilities are made of logits."""
    history: Sequence[Mapping[str, Any]] = ()
    """Rows of ``metrics.jsonl``: member, stage, epoch, loss, watch_loss, accuracy, watch_accuracy."""
    comparison: Sequence[Comparison] = ()
    """Ways of training, side by side."""
    heatmaps: Heatmaps | None = None
    """A gallery."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Environment and fingerprints: texts, numbers, or mappings of them."""
    command: str = ""
    """The command that makes this report again."""
    openings: int | None = None
    """How often the locked test share has been looked at for this model; None when it isn't locked."""
    openings_log: Sequence[Mapping[str, Any]] = ()
    """Each look at it: ``time`` and ``model`` (fingerprint of the version), the oldest first."""
    model: str = ""
    """Fingerprint of this model version."""
    calibration_choice: Choice | None = None
    """How ways of calibrating compare on out-of-fold predictions."""
    cross_validation: Mapping[str, tuple[Estimate, Estimate]] = field(default_factory=dict)
    """AUROC of out-of-fold predictions by finding: pooled, and mean over folds."""
    checklist: Sequence[Item] = ()
    """TRIPOD+AI items, from :mod:`hilum.evaluation.tripod`."""
    notices: Sequence[str] = ()
    """Sentences that stand right below the verdict, such as that the films are phantoms."""
    more: Sequence[Section] = ()
    """Further sections, put before the provenance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report, ready to be written."""

    verdict: Verdict
    """Over all tests."""
    html: str
    """One self-contained page."""
    json: dict[str, Any]
    """Every number of the page; ``Scorecard.from_json`` reads its ``internal`` and ``external``."""
    figures: tuple[Figure, ...]
    """Every figure of the page."""


def render_report(given: ReportInput) -> Report:
    """Make a report.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    verdict = report_verdict(given.internal, given.external, given.data, given.audits)
    parts = report_sections(given)
    page = Page(
        title=given.title,
        subtitle=given.subtitle,
        verdict=VerdictBox(
            tone=verdict.colour,
            headline=verdict.headline,
            lists=(
                ("What may be claimed", verdict.may_claim),
                ("What may not be claimed", verdict.may_not_claim),
                ("Why", verdict.why),
                ("Reservations", _shown_reservations(verdict)),
            ),
        ),
        notices=sections.notices(given.notices, given.openings),
        sections=parts,
        footer="Made by hilum",
    )
    values = {
        "schema": SCHEMA,
        "title": given.title,
        "disclaimer": DISCLAIMER,
        "verdict": to_plain(verdict),
        "internal": given.internal.to_json(),
        "external": given.external.to_json() if given.external else None,
        "data": to_plain(given.data),
        "audits": given.audits.to_json() if given.audits else None,
        "calibration": given.calibration.to_json() if given.calibration else None,
        "validation_operating_points": to_plain(given.validation_points),
        "history": to_plain(list(given.history)),
        "comparison": to_plain(list(given.comparison)),
        "openings": given.openings,
        "openings_log": to_plain(list(given.openings_log)),
        "model": given.model,
        "calibration_choice": to_plain(given.calibration_choice),
        "cross_validation": to_plain(
            {name: {"pooled": pooled, "over_folds": folds} for name, (pooled, folds) in given.cross_validation.items()}
        ),
        "checklist": to_plain(list(given.checklist)),
        "redo": REDO,
        "notices": list(given.notices),
        "command": given.command,
        "provenance": to_plain(given.provenance),
    }
    return Report(verdict=verdict, html=render_page(page), json=values, figures=figures_of(parts))


def report_verdict(
    internal: Scorecard,
    external: Scorecard | None = None,
    data: Confounding | None = None,
    audits: Audits | None = None,
) -> Verdict:
    """One verdict over both tests, the data they come from and the audits."""
    falls = drops(internal.auroc, external.auroc) if external else ()
    known = {_key(flag) for card in (internal, external) if card for flag in card.confounding.flags}
    flags = [flag for flag in (data.flags if data else ()) if _key(flag) not in known]
    said = [flag.sentence for card in (internal, external) if card for flag in card.confounding.flags]
    flags += [flag for flag in (audits.flags if audits else ()) if not _said_before(flag, said)]
    return overall(internal.verdict, external.verdict if external else None, falls, flags)


def _said_before(flag: Flag, said: Sequence[str]) -> bool:
    """Whether an audit's alarm about findings inside a source is what the tables of a test say of the same pair."""
    if flag.code != "audit-inside-one-source":
        return False
    pair, _, rest = flag.sentence.partition(" reaches AUROC ")
    where = rest.partition(" inside ")[2].partition(", where")[0].lower()
    return any(pair.lower() in sentence.lower() and f"inside {where}" in sentence.lower() for sentence in said)


def _key(flag: Flag) -> tuple[str, str, str]:
    return flag.code, flag.finding, flag.group


def _shown_reservations(verdict: Verdict) -> tuple[str, ...]:
    """All of them, unless red: then the reasons for red come first and alone."""
    count = len(verdict.reservations)
    if verdict.colour != "red" or count <= 3:
        return verdict.reservations
    return (f"{count} more, which matter once the red ones are gone; the sections below and report.json list them.",)


def report_sections(given: ReportInput) -> tuple[Section, ...]:
    """The sections of a report; those without anything to show are left out."""
    cards = [given.internal] + ([given.external] if given.external else [])
    parts = [
        sections.main_figures(cards),
        sections.decisions(cards),
        sections.operating_points(cards, given.validation_points),
        report_use.use(cards),
        _with(
            sections.calibration(cards, given.calibration.sentence if given.calibration else ""),
            *report_calibration.calibration_parts(cards, given.calibration_choice, given.calibration),
        ),
        report_doubt.doubt(cards),
        report_use.subgroups(cards),
        sections.confounding(cards, given.data),
        audits_section(given.audits) if given.audits else None,
        sections.heat_maps(cards, given.heatmaps.pictures if given.heatmaps else (), _caption(given.heatmaps)),
        report_use.cross_validation(given.cross_validation),
        sections.training(given.history),
        sections.comparison([(row.name, row.test, row.auroc, row.accuracy, row.seconds) for row in given.comparison]),
        *given.more,
        checklist_section(given.checklist),
        _with(
            sections.provenance(cards, given.provenance, given.command),
            report_use.openings(given.openings_log, given.model),
        ),
    ]
    return tuple(part for part in parts if part is not None and part.blocks)


def _with(section: Section, *blocks: Block | None) -> Section:
    """A section with further blocks at its end."""
    return replace(section, blocks=(*section.blocks, *(block for block in blocks if block is not None)))


def _caption(heatmaps: Heatmaps | None) -> str:
    return heatmaps.caption if heatmaps else ""


def write_report(folder: Path, report: Report) -> Path:
    """Write ``report.html``, ``report.json`` and ``figures/*.png|svg``, each atomically.

    Returns:
        the path of ``report.html``.
    """
    for figure in report.figures:
        write_bytes(folder / "figures" / f"{figure.name}.png", figure.png)
        write_bytes(folder / "figures" / f"{figure.name}.svg", figure.svg)
    write_json(folder / "report.json", report.json)
    write_text(folder / "report.html", report.html)
    return folder / "report.html"
