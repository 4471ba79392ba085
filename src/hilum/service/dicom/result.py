"""What is to be said of one film, as one value: everything that a result object is made from beside the film itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hilum.arrays import Array
from hilum.service.dicom.uids import derived_uid

NOT_FOR_DIAGNOSIS = "Research and validation only - not for diagnosis"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """Where the evidence lies."""

    finding: str
    """The finding that it explains."""
    values: Array
    """float32 [h, w] ≥ 0, in units of logit."""
    top: float
    """Activation that is shown as full heat."""
    preprocessing: Mapping[str, Any]
    """How the film became the model's tile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One answer to one film."""

    content_sha256: str
    """Digest of the film's content."""
    model_sha256: str
    """Digest of the bundle."""
    model_name: str
    """Name of the model."""
    model_version: str
    """Version of the model."""
    parameters: tuple[str, ...]
    """What else the answer depends on, such as ``precision=fp32``."""
    software: str
    """Version of hilum that answered."""
    probs: dict[str, float]
    """Calibrated probability by finding, 0 … 1."""
    spread: dict[str, float] = field(default_factory=dict)
    """Standard deviation of the probabilities under dropout; may be empty."""
    label: str | None
    """The finding; None when the model abstained."""
    positive: tuple[str, ...]
    """Findings that reach their operating point."""
    reasons: tuple[str, ...] = ()
    """Why there is no label."""
    made_at: str
    """When it was recorded, ISO 8601 with an offset; the objects carry this time, in this offset."""
    heat: Heat | None = None
    """The heat map to send; None sends none."""

    def uid(self, kind: str, film_uid: str, *more: str) -> str:
        """A UID that is the same for the same film (SOP instance UID and content) and model version."""
        return derived_uid(kind, film_uid, self.content_sha256, self.model_sha256, *more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a reader decided about an answer."""

    id: str
    """Names the decision; another decision makes another report."""
    verdict: Literal["agreed", "overridden"]
    """Whether the reader agreed with the model."""
    finding: str | None
    """What the reader says; None where the model abstained and the reader agreed."""
    comment: str = ""
    """In the reader's words."""
    reader: str
    """Name of the reader in DICOM's form, such as ``Doe^Jane``."""
    organization: str
    """Who the reader works for."""
    decided_at: str
    """ISO 8601 with an offset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultObject:
    """One object, ready to be sent."""

    sop_class_uid: str
    """What it is."""
    sop_instance_uid: str
    """Its name."""
    content: bytes
    """A Part 10 file in Explicit VR Little Endian."""
