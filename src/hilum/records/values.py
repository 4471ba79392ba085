"""What goes into the records and what comes out: frozen values, no table rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

State = Literal["received", "preparing", "answered", "not-analysed", "failed", "quarantined"]
"""Where a film is: waiting, in work, answered, refused by the gate, unreadable, or set aside for a person."""

WAITING: tuple[State, ...] = ("received", "preparing")
FINISHED: tuple[State, ...] = ("answered", "not-analysed", "failed", "quarantined")
STATES: tuple[State, ...] = (*WAITING, *FINISHED)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFilm:
    """A film whose bytes are durable on disk and that is now to be recorded."""

    content_sha256: str
    """Digest of what makes the film itself: that of the file as kept."""
    file_sha256: str
    """Digest of the file as kept; names the file on disk."""
    size: int
    """Bytes of the file as kept."""
    format: str
    """``dicom``, ``png`` or ``jpeg``."""
    origin: str
    """Which door it came through: ``rest`` or ``dicom``."""
    calling_ae: str = ""
    """AE title that the peer called itself; empty for REST. A claim, not a proof."""
    named_ae: str = ""
    """The same where the settings name it. Only then it is in the audit, which holds no name that may be anybody's."""
    sop_instance_uid: str | None = None
    """As the peer announced it; None where it is known only after reading."""
    named_uid: str | None = None
    """SOP instance UID that its head names, where the peer announced none: by it a film of before is looked for."""
    former_sha256: str | None = None
    """What its identity was before migration 0016; None where that was not computed."""
    request_key: str | None = None
    """Digest of the sender and the key that it gave this request; None when it gave none."""
    sender: str = ""
    """Whose turn it takes in the queue: ``dicom:`` and an AE title, or the name of a user."""
    urgent: bool = False
    """Whether its sender asked for it to be read at once (STAT)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What the sender is told."""

    film_id: str
    """Opaque id of the film."""
    new: bool
    """False when the same film was there already."""
    state: State
    """Where the film is now."""
    file_sha256: str
    """Names the file that is kept: another than what was sent when the same film came in another container before."""
    leased: bool = False
    """Whether it was leased to a worker in the transaction that recorded it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A film leased to one worker until the lease runs out."""

    film_id: str
    """Opaque id of the film."""
    file_sha256: str
    """Names the file on disk."""
    attempts: int
    """How often it was claimed, this time included."""
    sender: str = ""
    """Whose turn it took."""
    urgent: bool = False
    """Whether it is to be read at once."""
    suspect: bool = False
    """Whether the model died over it before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a film says it is; read from its header. Kept apart from results."""

    sop_instance_uid: str | None = None
    """SOP Instance UID (0008,0018)."""
    study_instance_uid: str | None = None
    """Study Instance UID (0020,000D)."""
    patient_id: str = ""
    """Patient ID (0010,0020)."""
    accession_number: str = ""
    """Accession Number (0008,0050)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatmapRecord:
    """One class activation map, as the model gave it."""

    finding: str
    """The finding that it explains."""
    rows: int
    """Height."""
    columns: int
    """Width."""
    values: bytes
    """float32, little endian, row by row; ≥ 0, in units of logit."""
    spread: bytes | None = None
    """Its standard deviation under dropout, in the same layout; None when the model gives none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewObservation:
    """What an answer looked like from outside, for watching drift. No identifiers, no pixels."""

    outcome: str
    """``answered``, ``abstained`` or ``not-analysed``."""
    device: str
    """Maker's name of the device, or ``not recorded``, as for the following."""
    view_position: str
    """AP, PA, …"""
    sex: str
    """F, M or O."""
    age_band: str
    """Ten years wide, such as ``40-49``."""
    size_class: str
    """Rows and columns in thousands, such as ``2x3``."""
    statistics: bytes
    """float32, little endian: figures of the pixels, in the order of ``records.observations.STATISTICS``."""
    scores: bytes | None = None
    """float32, little endian: calibrated probabilities in the model's order; None when not analysed."""
    features: bytes | None = None
    """float16, little endian: the model's features; None when not analysed or where the site keeps no fingerprints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowAnswer:
    """What a candidate in shadow says of a film that another model answers."""

    model_sha256: str
    """Digest of the candidate's bundle."""
    label: str | None
    """The finding, or None when it abstains or doesn't analyse."""
    abstained: bool
    """True when it would give no label to a film that it analyses."""
    risk: float | None
    """Probability of anything but normal; None when not analysed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAnswer:
    """A model's answer to one film."""

    model_sha256: str
    """Digest of the bundle: the model's version."""
    analysed: bool
    """False when the intended-use gate refused the film."""
    label: str | None
    """The finding, or None when abstained or not analysed."""
    abstained: bool
    """True when the film goes to a person without a label."""
    risk: float | None
    """Probability of anything but normal, 0 … 1; None when not analysed."""
    assessment: Mapping[str, Any]
    """The assessment as JSON values; no identifiers."""
    reason: str = ""
    """Why it was not analysed, in one sentence."""
    heatmaps: tuple[HeatmapRecord, ...] = ()
    """One a finding; empty when not analysed."""
    observation: NewObservation | None = None
    """What it looked like from outside; None when nothing is kept of it."""
    shadow: ShadowAnswer | None = None
    """What a candidate in shadow says of the same film; None when there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A film's answer that is to be recorded."""

    film_id: str
    """The film."""
    identity: Identity
    """Who it says it is of."""
    answer: NewAnswer
    """The answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRecord:
    """An answer as recorded."""

    model_sha256: str
    """Digest of the bundle."""
    created_at: datetime
    """When it was recorded (UTC)."""
    label: str | None
    """The finding, or None."""
    abstained: bool
    """True when the film goes to a person without a label."""
    risk: float | None
    """Probability of anything but normal."""
    assessment: Mapping[str, Any]
    """The assessment as JSON values."""
    findings: tuple[str, ...]
    """Findings that have a heat map."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmRecord:
    """A film as recorded, with its newest answer. No identifiers."""

    film_id: str
    """Opaque id."""
    received_at: datetime
    """When it was acknowledged (UTC)."""
    origin: str
    """``rest``, ``dicom``, ``dicomweb`` or ``pacs``."""
    calling_ae: str
    """AE title that the peer called itself; empty where it came over HTTP. A claim, not a proof."""
    format: str
    """``dicom``, ``png`` or ``jpeg``."""
    file_sha256: str
    """Digest of the file as kept; empty when its pixels were erased."""
    size: int
    """Bytes of the file as kept."""
    state: State
    """Where it is."""
    attempts: int
    """How often it was claimed."""
    reason_code: str
    """Machine-readable reason of a state that is no answer; empty otherwise."""
    reason: str
    """The same in one sentence."""
    answer: AnswerRecord | None
    """The newest answer, if any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What came of an answer that was to be recorded."""

    state: State | None
    """The film's state now; None when its lease was lost, and another worker's answer counts."""
    film: FilmRecord | None = None
    """The film with this answer, for those who were written down as shown it; None where nobody was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some films and where to go on."""

    films: tuple[FilmRecord, ...]
    """Newest first."""
    next_cursor: str | None
    """Give it to get the films after these; None at the end."""
