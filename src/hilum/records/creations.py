"""Requests with an Idempotency-Key that make something other than a film: made once, however often they are sent.

The key is remembered in the transaction that makes it, so a sender that was told nothing (the line broke, the process
was killed) sends the same again and gets the same thing, not a second one.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.orm import Session

from hilum.errors import ServiceError, UsageError
from hilum.records.schema import CreationRow

KEPT = timedelta(days=7)
"""How long a request is remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request and the key that its sender gave it."""

    key_sha256: str
    """Digest of the sender, what is made, and the key."""
    request_sha256: str
    """Digest of what was asked for; no password is part of it."""


class MadeBefore(ServiceError):
    """The same request made something that can't be told a second time.

    Attributes:
        subject: what it made.
    """

    def __init__(self, subject: str) -> None:
        self.subject = subject
        super().__init__(
            f"This request made the key {subject} already, and a key's secret is told once. If it was lost, revoke "
            "that key and ask again with another Idempotency-Key."
        )


def made_before(session: Session, request: Request | None, at: datetime) -> str | None:
    """What a request made when it came before; None when it didn't come, or has no key.

    Raises:
        UsageError: its key was used for another request.
    """
    if request is None:
        return None
    session.execute(delete(CreationRow).where(CreationRow.created_at < at - KEPT))
    row = session.get(CreationRow, request.key_sha256)
    if row is None:
        return None
    if row.request_sha256 != request.request_sha256:
        raise UsageError("This Idempotency-Key was used for another request. Give each request a key of its own.")
    return row.subject


def remember(session: Session, request: Request | None, subject: str, at: datetime) -> None:
    """Remember what a request made, in the transaction that makes it."""
    if request is not None:
        made = {"key_sha256": request.key_sha256, "request_sha256": request.request_sha256}
        session.add(CreationRow(**made, subject=subject, created_at=at))
        session.flush()
