"""The model card as a value: what the artefacts say, and what only people can state; the rest stays "not stated".

Its fields are those of the CHAI Applied Model Card (Coalition for Health AI, https://github.com/coalition-for-health-ai/mc-schema,
version 0.2 of its schema), so that cards of different makers can be laid side by side; operating points, calibration,
abstention and provenance come on top. :mod:`hilum.bundle.card_sections` orders them, :mod:`hilum.bundle.card_text`
writes them as Markdown and as HTML.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hilum.bundle.schema import BundleInfo, calibration_of, parse_json
from hilum.config import from_mapping, to_mapping
from hilum.errors import BundleError, ConfigError, UsageError

CARD_JSON_MEMBER = "model_card.json"
"""The card as a value, from which its other forms are written; bundles of older versions have none."""

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
    labels: dict[str, int] = field(default_factory=dict)
    """Films by label."""
    sources: dict[str, int] = field(default_factory=dict)
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
class KeyMetric:
    """One of the three areas in which a card reports numbers."""

    goal: str | None = None
    """What the numbers shall show."""
    results: tuple[Measured, ...] = ()
    """The numbers."""
    interpretation: str | None = None
    """What they mean."""
    test_type: str | None = None
    """Internal or external films, retrospective or prospective."""
    testing_data: str | None = None
    """Which films they were measured on."""
    validation: str | None = None
    """How, and why so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What no artefact knows, and somebody answers for: read from a file with :func:`read_stated`."""

    developer: str | None = None
    """Who made the model."""
    inquiries: str | None = None
    """Where to ask, and to report an issue."""
    release_stage: str | None = None
    """Such as research, pilot, general availability."""
    release_date: str | None = None
    """When it was released to users."""
    global_availability: str | None = None
    """Where it may be used."""
    regulatory_approval: str | None = None
    """Approvals, with their numbers."""
    keywords: tuple[str, ...] = ()
    """For finding it."""
    workflow: str | None = None
    """Where in the work it answers, and who acts on it."""
    how_to_use: str | None = None
    """Directions for its users."""
    population: str | None = None
    """Patients that it is meant for."""
    ethics: str | None = None
    """Ethical considerations."""
    clinical_risk: str | None = None
    """Clinical risk level, with its reason."""
    maintenance: str | None = None
    """How it is watched and changed."""
    security: str | None = None
    """Practices or accreditations of the place where it runs."""
    transparency: str | None = None
    """Who answers for it, and how it can be looked into."""
    funding: str | None = None
    """Who paid for it."""
    third_parties: str | None = None
    """What others contributed."""
    stakeholders: str | None = None
    """Who was consulted, such as patients and providers."""
    evaluation_references: str | None = None
    """Evaluations by others."""
    clinical_trial: str | None = None
    """Its registration."""
    publications: str | None = None
    """Peer-reviewed."""
    reimbursement: str | None = None
    """Status."""
    consent: str | None = None
    """Whether patients must consent or be told."""
    bibliography: tuple[str, ...] = ()
    """References, one an entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What the card says; everything but name and version may be unknown."""

    name: str
    """Name of the model."""
    version: str
    """Its version."""
    created: str | None = None
    """When the bundle was made."""
    summary: str | None = None
    """What it does, in a sentence or two."""
    intended_use: str | None = None
    """On which films, for what."""
    intended_users: str | None = None
    """Who may use it."""
    not_intended_for: tuple[str, ...] = ()
    """Settings and uses that are out of the question."""
    analysed: str | None = None
    """Which films its gate lets be analysed."""
    findings: tuple[str, ...] = ()
    """What it tells apart."""
    outputs: str | None = None
    """What it answers."""
    inputs: str | None = None
    """What it reads, and in which form the network gets it."""
    architecture: str | None = None
    """Network, input size, members."""
    weights: str | None = None
    """Where training started from, with its licence."""
    training: str | None = None
    """How it was trained, in a sentence or two."""
    bias_mitigation: str | None = None
    """What was done against bias."""
    biases: tuple[str, ...] = ()
    """Biases that were found, such as a label that goes with the source."""
    data: tuple[DataSet, ...] = ()
    """Films that it was made and measured with."""
    usefulness: KeyMetric = field(default_factory=KeyMetric)
    """Usefulness, usability and efficacy."""
    fairness: KeyMetric = field(default_factory=KeyMetric)
    """Fairness and equity."""
    safety: KeyMetric = field(default_factory=KeyMetric)
    """Safety and reliability."""
    operating_points: dict[str, float] = field(default_factory=dict)
    """Threshold by finding."""
    operating_rules: str | None = None
    """What the thresholds were chosen for."""
    calibration: str | None = None
    """How probabilities were calibrated and how well."""
    abstention: str | None = None
    """When it gives no label."""
    explanation: str | None = None
    """What the heat map is, and how it was checked."""
    warnings: tuple[str, ...] = ()
    """What a reader must know first, such as a confounded label; shown at the top."""
    limits: tuple[str, ...] = ()
    """Known limits and risks."""
    not_validated_on: tuple[str, ...] = ()
    """Groups, devices and settings that no test film covers."""
    integrity: str | None = None
    """How the bundle is kept from being changed."""
    stated: Stated = field(default_factory=Stated)
    """What people state."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Run, commit, packages, hashes."""

    def to_bytes(self) -> bytes:
        """``model_card.json``: sorted, indented UTF-8; :func:`read_card` gives the same card back."""
        text = json.dumps(to_mapping(self), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        return (text + "\n").encode()


def read_card(content: bytes, where: str) -> ModelCard:
    """Read what :meth:`ModelCard.to_bytes` wrote.

    Raises:
        BundleError: it is no card.
    """
    try:
        return from_mapping(ModelCard, parse_json(content, where), where=where)
    except ConfigError as error:
        raise BundleError(f"{where} is no model card: {error} Make the bundle again.") from None


def card_of(info: BundleInfo) -> ModelCard:
    """What ``bundle.json`` alone knows, for bundles that carry no ``model_card.json``; nothing was measured here."""
    return ModelCard(
        name=info.name,
        version=info.version,
        created=info.created,
        intended_use=info.intended_use,
        findings=info.findings,
        operating_points=info.thresholds,
        calibration=calibration_of(info),
        provenance=dict(info.fingerprints),
    )


def read_stated(path: Path) -> Stated:
    """What people state of a model, from a TOML file with the names of :class:`Stated`.

    Raises:
        UsageError: the file is missing or no TOML.
        ConfigError: unknown names or values of a wrong type, all of them at once.
    """
    try:
        values: Mapping[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f'{path} can\'t be read as TOML ({error}). Give lines such as: developer = "…".') from None
    return from_mapping(Stated, values, where=path.name)
