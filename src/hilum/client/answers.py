"""What the service answers, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertainty:
    """How sure the model is; what it doesn't give is empty or None."""

    mc_mean: Mapping[str, float]
    """Mean probability of each finding under dropout."""
    mc_std: Mapping[str, float]
    """Its standard deviation."""
    member_std: Mapping[str, float]
    """Standard deviation of the members' probabilities."""
    mutual_information: float | None
    """In nats."""
    ood_distance: float | None
    """Distance from usual films; about 1 is usual."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateCheck:
    """One question of the intended use and its answer."""

    code: str
    """Its stable name."""
    outcome: str
    """``pass``, ``fail`` or ``unknown``."""
    sentence: str
    """Why, for a person."""
    refuses: bool
    """True when this alone keeps the film from being analysed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateVerdict:
    """Whether the film is within the intended use."""

    analyse: bool | None
    """False when it is outside, and so not analysed; None while there is no answer."""
    checks: tuple[GateCheck, ...]
    """Every check; empty while there is no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What made an answer; None for what is not told, and all None while there is none."""

    bundle_name: str | None
    """Name of the model."""
    bundle_version: str | None
    """Its version, for people."""
    bundle_sha256: str | None
    """Digest of its bundle."""
    preprocessing_version: int | None
    """Version of the preprocessing function."""
    preprocessing_fingerprint: str | None
    """Hash of its parameters."""
    runtime: str | None
    """Runtime and its version."""
    precision: str | None
    """What it computed in."""
    hilum: str | None
    """Version of the service."""
    answered_at: datetime | None
    """When (UTC)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyAnswer:
    """A film and what became of it. Assistive, not for diagnosis."""

    id: str
    """Opaque id of the film."""
    state: str
    """``received``, ``preparing``, ``answered``, ``not-analysed``, ``failed`` or ``quarantined``."""
    received_at: datetime
    """When it was acknowledged (UTC)."""
    sha256: str
    """Digest of the file as the service keeps it."""
    label: str | None
    """The finding; None when abstained, not analysed or not answered yet."""
    probs: Mapping[str, float]
    """Calibrated probability of each finding; empty while there is no answer."""
    uncertainty: Uncertainty
    """How sure the model is."""
    positive: tuple[str, ...]
    """Findings that reach their operating point, likeliest first."""
    abstained: bool
    """True when the film goes to a person without a label."""
    reasons: tuple[str, ...]
    """Why there is no label, one sentence each."""
    gate: GateVerdict
    """Verdict of the intended-use checks."""
    heatmaps: tuple[str, ...]
    """Findings that have a heat map."""
    provenance: Provenance
    """Model version, preprocessing version, runtime, time."""
    new: bool | None
    """When it was sent just now: False if the service had it already. None when it was only asked for."""
    raw: Mapping[str, Any]
    """The whole reply."""

    @property
    def finished(self) -> bool:
        """True when nothing more is to come."""
        return self.state not in ("received", "preparing")


def read_answer(reply: Mapping[str, Any], *, new: bool | None = None) -> StudyAnswer:
    """A reply's JSON as a value; a KeyError or ValueError when it is no answer."""
    answer: Mapping[str, Any] = reply["answer"] or {}
    reason: Mapping[str, Any] | None = reply["reason"]
    said = tuple(answer.get("reasons", ()))
    why = (reason["sentence"],) if reason and reason["sentence"] not in said else ()
    return StudyAnswer(
        id=reply["id"],
        state=reply["state"],
        received_at=datetime.fromisoformat(reply["received_at"]),
        sha256=reply["sha256"],
        label=answer.get("label"),
        probs=answer.get("probabilities") or {},
        uncertainty=_uncertainty(answer.get("uncertainty", {})),
        positive=tuple(answer.get("positive", ())),
        abstained=bool(answer.get("abstained", False)),
        reasons=(*why, *said),
        gate=_gate(answer.get("gate", {})),
        heatmaps=tuple(answer.get("heatmaps", ())),
        provenance=_provenance(answer.get("provenance", {})),
        new=new,
        raw=reply,
    )


def _uncertainty(said: Mapping[str, Any]) -> Uncertainty:
    return Uncertainty(
        mc_mean=said.get("mc_mean") or {},
        mc_std=said.get("mc_std") or {},
        member_std=said.get("member_std") or {},
        mutual_information=said.get("mutual_information"),
        ood_distance=said.get("ood_distance"),
    )


def _gate(said: Mapping[str, Any]) -> GateVerdict:
    checks = [
        GateCheck(
            code=one["code"], outcome=one["outcome"], sentence=one["sentence"], refuses=bool(one.get("refuses", False))
        )
        for one in said.get("checks", ())
    ]
    return GateVerdict(analyse=said.get("analyse"), checks=tuple(checks))


def _provenance(said: Mapping[str, Any]) -> Provenance:
    at = said.get("answered_at")
    plain = {one.name: said.get(one.name) for one in fields(Provenance) if one.name != "answered_at"}
    return Provenance(answered_at=datetime.fromisoformat(at) if at else None, **plain)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistLine:
    """A film of the worklist."""

    study: StudyAnswer
    """The film with its answer, where that is shown."""
    reading: str
    """``unread``, ``once``, ``disagreement``, ``read`` or ``settled``."""
    held_by: str | None
    """Who reads it now; None when nobody does."""
    comes_first: str | None
    """``reading`` or ``label`` where the answer is not shown before one's own; None where it is shown."""


def read_line(reply: Mapping[str, Any]) -> WorklistLine:
    """A reply's JSON as a value; a KeyError or ValueError when it is none."""
    return WorklistLine(
        study=read_answer(reply["study"]),
        reading=reply["reading"],
        held_by=reply["held_by"],
        comes_first=reply["comes_first"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A reader's opinion."""

    reader: str
    """Whose."""
    version: int
    """1 for the first, one more for each change."""
    decision: str
    """``agree`` or ``override``."""
    finding: str | None
    """What it is instead; None to agree."""
    comment: str
    """In the reader's words."""
    model_sha256: str | None
    """The version of the model that was judged."""
    created_at: datetime
    """When (UTC)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserAccount:
    """A user."""

    name: str
    """Its name."""
    roles: tuple[str, ...]
    """What it may do."""
    disabled: bool
    """True when it may do nothing any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsInService:
    """Which model answers, and which did."""

    sha256: str
    """Digest of the bundle that answers now."""
    name: str
    """Its name."""
    version: str
    """Its version, for people."""
    findings: tuple[str, ...]
    """What it tells apart."""
    changes: tuple[Mapping[str, Any], ...]
    """The latest changes of what is in production, newest first; empty without change control."""


def read_review(reply: Mapping[str, Any]) -> Review:
    """A reply's JSON as a value."""
    return Review(
        reader=reply["reader"],
        version=reply["version"],
        decision=reply["decision"],
        finding=reply["finding"],
        comment=reply["comment"],
        model_sha256=reply["model_sha256"],
        created_at=datetime.fromisoformat(reply["created_at"]),
    )


def read_user(reply: Mapping[str, Any]) -> UserAccount:
    """A reply's JSON as a value."""
    return UserAccount(name=reply["name"], roles=tuple(reply["roles"]), disabled=reply["disabled_at"] is not None)


def read_models(reply: Mapping[str, Any]) -> ModelsInService:
    """A reply's JSON as a value."""
    serving = reply["serving"]
    return ModelsInService(
        sha256=serving["sha256"],
        name=serving["name"],
        version=serving["version"],
        findings=tuple(serving["findings"]),
        changes=tuple(reply["changes"]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCheck:
    """How the running model answered its fixed phantom films."""

    passed: bool
    """Whether it answered as it did at first."""
    sentence: str
    """The same for a person."""
    films: int
    """Films that were compared; 0 the first time."""
    recorded: int
    """Films that were answered for the first time."""


def read_check(reply: Mapping[str, Any]) -> ModelCheck:
    """A reply's JSON as a value; a KeyError or ValueError when it is none."""
    return ModelCheck(**{name: reply[name] for name in ("passed", "sentence", "films", "recorded")})
