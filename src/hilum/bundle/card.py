"""The model card, Markdown, rendered from artefacts: what is not known stays visibly "not stated"."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NOT_STATED = "*not stated*"
NOTICE = "Assistive, not for diagnosis. For research and validation; not a medical device."


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """Films that the model was made or measured with."""

    name: str
    """What it is called, such as ``training`` or ``external test``."""
    films: int | None = None
    """Number of films."""
    patients: int | None = None
    """Number of patients."""
    labels: Mapping[str, int] = field(default_factory=dict)
    """Films by label."""
    sources: Mapping[str, int] = field(default_factory=dict)
    """Films by source."""
    fingerprint: str | None = None
    """Hash of the manifest."""
    note: str = ""
    """What else must be known, such as that the films are synthetic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One number with its interval."""

    what: str
    """What was measured, such as ``AUROC``."""
    finding: str
    """Of which finding, or ``all``."""
    on: str
    """On which films, such as ``external test``."""
    value: float | None
    """The number; None where it can't be estimated."""
    low: float | None = None
    """Lower end of the 95 % interval."""
    high: float | None = None
    """Upper end of the 95 % interval."""
    n: int | None = None
    """Films that it rests on."""
    reason: str = ""
    """Why there is no number, or what to mind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What the card says; everything but name and version may be unknown."""

    name: str
    """Name of the model."""
    version: str
    """Its version."""
    created: str | None = None
    """When it was made."""
    intended_use: str | None = None
    """On which films, for what."""
    intended_users: str | None = None
    """Who may use it."""
    not_intended_for: Sequence[str] = ()
    """Uses that are out of the question."""
    findings: Sequence[str] = ()
    """What it tells apart."""
    architecture: str | None = None
    """Network, input size, members."""
    weights: str | None = None
    """Where training started from, with its licence."""
    training: str | None = None
    """How it was trained, in a sentence or two."""
    data: Sequence[DataSet] = ()
    """Films that it was made and measured with."""
    performance: Sequence[Measured] = ()
    """Numbers with intervals."""
    operating_points: Mapping[str, float] = field(default_factory=dict)
    """Threshold by finding."""
    calibration: str | None = None
    """How probabilities were calibrated and how well."""
    abstention: str | None = None
    """When it gives no label."""
    explanation: str | None = None
    """What the heat map is, and how it was checked."""
    warnings: Sequence[str] = ()
    """What a reader must know first, such as a confounded label; shown at the top."""
    limits: Sequence[str] = ()
    """Known limits and risks."""
    not_validated_on: Sequence[str] = ()
    """Groups, devices and settings that no test film covers."""
    maintenance: str | None = None
    """How it is watched and changed."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Run, commit, packages, hashes."""


def render_card(card: ModelCard) -> str:
    """The card as Markdown; every value from outside is escaped.

    Returns:
        Markdown that ends with a newline. A part without content reads "not stated" instead of being left out.
    """
    parts = [
        f"# Model card: {_plain(card.name)} {_plain(card.version)}",
        f"**{NOTICE}**",
        *(f"> **Warning.** {_plain(text)}" for text in card.warnings),
        "## Summary\n\n"
        + _facts(
            {
                "Made": card.created,
                "Findings": ", ".join(card.findings) or None,
                "Network": card.architecture,
                "Started from": card.weights,
                "Training": card.training,
            }
        ),
        f"## Intended use\n\n{_said(card.intended_use)}\n\n" + _facts({"Users": card.intended_users}),
        f"## Not intended for\n\n{_list(card.not_intended_for)}",
        f"## Data\n\n{_data(card.data)}",
        f"## Performance\n\n{_performance(card.performance)}",
        f"## Operating points\n\n{_points(card.operating_points)}",
        f"## Calibration\n\n{_said(card.calibration)}",
        f"## When it gives no label\n\n{_said(card.abstention)}",
        f"## Heat maps\n\n{_said(card.explanation)}",
        f"## Limits\n\n{_list(card.limits)}",
        f"## Not validated on\n\n{_list(card.not_validated_on)}",
        f"## Maintenance\n\n{_said(card.maintenance)}",
        f"## Provenance\n\n{_provenance(card.provenance)}",
    ]
    return "\n\n".join(parts) + "\n"


def _plain(value: object) -> str:
    """One line of text that Markdown and HTML take literally."""
    text = " ".join(str(value).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{letter}" if letter in "\\`*_[]|#!" else letter for letter in text)


def _said(value: str | None) -> str:
    return _plain(value) if value and value.strip() else NOT_STATED


def _facts(facts: Mapping[str, str | None]) -> str:
    return "\n".join(f"- {name}: {_said(value)}" for name, value in facts.items())


def _list(items: Sequence[str]) -> str:
    return "\n".join(f"- {_plain(item)}" for item in items) or NOT_STATED


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _data(sets: Sequence[DataSet]) -> str:
    if not sets:
        return NOT_STATED
    rows = [
        [
            _plain(one.name),
            _number(one.films),
            _number(one.patients),
            _counts(one.labels),
            _counts(one.sources),
            f"`{one.fingerprint[:12]}`" if one.fingerprint else NOT_STATED,
            _plain(one.note),
        ]
        for one in sets
    ]
    return _table(["films of", "films", "patients", "by label", "by source", "fingerprint", "note"], rows)


def _performance(numbers: Sequence[Measured]) -> str:
    if not numbers:
        return NOT_STATED
    rows = [
        [_plain(one.on), _plain(one.what), _plain(one.finding), _value(one), _number(one.n), _plain(one.reason)]
        for one in numbers
    ]
    return _table(["on", "measure", "finding", "value (95 % interval)", "films", "note"], rows)


def _value(one: Measured) -> str:
    if one.value is None:
        return NOT_STATED
    if one.low is None or one.high is None:
        return f"{one.value:.3f} (interval {NOT_STATED})"
    return f"{one.value:.3f} ({one.low:.3f} – {one.high:.3f})"


def _points(points: Mapping[str, float]) -> str:
    if not points:
        return NOT_STATED
    return _table(["finding", "positive from"], [[_plain(name), f"{value:.3f}"] for name, value in points.items()])


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{_plain(name)} {count:,}" for name, count in counts.items()) or NOT_STATED


def _number(value: int | None) -> str:
    return NOT_STATED if value is None else f"{value:,}"


def _provenance(values: Mapping[str, Any]) -> str:
    said = {_plain(name): None if value is None else str(value) for name, value in values.items()}
    return _facts(said) or NOT_STATED
