"""What the service answers to who looks after it: its audit, keys, and results on their way, as values."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """A row of the audit."""

    seq: int
    """Its place: 1, 2, 3 …"""
    at: datetime
    """When (UTC)."""
    actor: str
    """Who: a user, or ``service``, ``dicom``, ``console``."""
    act: str
    """What, such as ``film.viewed``."""
    subject: str
    """To what: a film's id, a user's name, a key's id."""
    body: str
    """The canonical JSON that is hashed."""
    hash: str
    """SHA-256 of the body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A program's key, without its secret."""

    id: str
    """Public part, by which it is revoked."""
    user: str
    """Whose."""
    label: str
    """What for."""
    scopes: tuple[str, ...]
    """What it may do."""
    created_at: datetime
    """When it was made (UTC)."""
    expires_at: datetime | None
    """Until when it counts; None for no end."""
    revoked_at: datetime | None
    """Since when it counts no more; None while it isn't revoked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """How many results a PACS or DICOMweb server has, and how many it still waits for."""

    name: str
    """As the settings name it."""
    waiting: int
    """To be sent, now or after a pause."""
    sending: int
    """Being sent."""
    sent: int
    """It has them."""
    dead: int
    """Given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A result that was given up."""

    id: str
    """By which it is requeued."""
    destination: str
    """Where it should have gone."""
    film: str
    """Id of the film that was answered."""
    attempts: int
    """How often it was tried."""
    given_up_at: datetime
    """When it was given up (UTC)."""
    code: str
    """Why, for a program."""
    reason: str
    """Why, in one sentence."""


def read_entry(reply: Mapping[str, Any]) -> AuditEntry:
    """A reply's JSON as a value; a KeyError or ValueError when it is none."""
    plain = {name: reply[name] for name in ("seq", "actor", "act", "subject", "body", "hash")}
    return AuditEntry(at=datetime.fromisoformat(reply["at"]), **plain)


def read_key(reply: Mapping[str, Any]) -> ApiKey:
    """A reply's JSON as a value; a KeyError or ValueError when it is none."""
    return ApiKey(
        id=reply["id"],
        user=reply["user"],
        label=reply["label"],
        scopes=tuple(reply["scopes"]),
        created_at=datetime.fromisoformat(reply["created_at"]),
        expires_at=_instant(reply["expires_at"]),
        revoked_at=_instant(reply["revoked_at"]),
    )


def read_destination(reply: Mapping[str, Any]) -> Destination:
    """A reply's JSON as a value; a KeyError when it is none."""
    return Destination(**{name: reply[name] for name in ("name", "waiting", "sending", "sent", "dead")})


def read_dead_letter(reply: Mapping[str, Any]) -> DeadLetter:
    """A reply's JSON as a value; a KeyError or ValueError when it is none."""
    plain = {name: reply[name] for name in ("id", "destination", "film", "attempts", "code", "reason")}
    return DeadLetter(given_up_at=datetime.fromisoformat(reply["given_up_at"]), **plain)


def _instant(told: str | None) -> datetime | None:
    return None if told is None else datetime.fromisoformat(told)
