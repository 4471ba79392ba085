"""What a reader study on the service's own pages is made of: protocol, slots, opinions, and where its readers are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Arm = Literal["without", "with"]
Shown = Literal["start", "after"]
"""When the answer is shown in the arm with the model: from the start, or after the reader's first opinion."""

Stage = Literal["first", "final"]
"""An opinion before the answer of the arm with the model, where the protocol asks for it; and the one that counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySlot:
    """One reading to be done."""

    film: str
    """The film: its id in the records, or the SHA-256 of its file."""
    arm: Arm
    """Without the model, or with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How a study is read."""

    name: str
    """Its name."""
    plan_sha256: str
    """Fingerprint of the plan, which holds the truth and stays with whoever runs the study."""
    question: str
    """The finding that the confidence is about."""
    findings: tuple[str, ...]
    """What readers may answer."""
    answer: Shown
    """When the answer is shown in the arm with the model."""
    priors: bool
    """Whether a film's prior may be looked at."""
    washout_days: int
    """Least days between the last reading of a session and the next session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A reader's opinion of the film in a slot."""

    session: int
    """1 for the first session."""
    position: int
    """Place in it, from 1."""
    stage: Stage
    """``first`` before the answer is shown, ``final`` for what counts."""
    finding: str
    """One of the protocol's."""
    rating: int
    """How sure the reader is that the film shows the question's finding: 0 certainly not, 100 certainly."""
    seconds: float | None = None
    """How long the film was in front, as the page measured it."""
    shown: Mapping[str, Any] = field(default_factory=dict)
    """What was on the screen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a reader is in a study."""

    protocol: Protocol
    """The study."""
    done: tuple[int, ...]
    """By session, how many films are read."""
    films: tuple[int, ...]
    """By session, how many there are."""
    session: int = 0
    """The session of the next film; 0 when all are read."""
    position: int = 0
    """Its place in the session."""
    film_id: str = ""
    """The next film; empty when all are read or the session has not opened."""
    arm: Arm = "without"
    """The arm of the next film."""
    stage: Stage = "final"
    """Which opinion is asked for now."""
    opens_at: datetime | None = None
    """When the next session opens (UTC); None when the next film can be read now, or none is left."""

    @property
    def finished(self) -> bool:
        """Whether the reader has read all."""
        return self.session == 0

    @property
    def reveals(self) -> bool:
        """Whether the answer to the present film may be seen now."""
        asked_first = self.protocol.answer == "after" and self.stage == "first"
        return bool(self.film_id) and self.arm == "with" and not asked_first


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyState:
    """A study and how far its readers are."""

    protocol: Protocol
    """The study."""
    created_at: datetime
    """When it was registered (UTC)."""
    closed_at: datetime | None
    """When it was closed; None while it is read."""
    readers: Mapping[str, Place]
    """By reader, where they are."""


def washout_sentence(place: Place) -> str:
    """Why the next session has not opened, and when it does."""
    opens = "" if place.opens_at is None else place.opens_at.strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"Session {place.session} opens on {opens}: {place.protocol.washout_days} days must lie between the last "
        "reading of a session and the next one."
    )
