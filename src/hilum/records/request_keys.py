"""Idempotency keys of requests: the same key with the same film is the same request."""

from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.orm import Session

from hilum.errors import UsageError
from hilum.records.schema import IdempotencyRow
from hilum.records.values import NewFilm

KEYS_KEPT = timedelta(days=7)
"""How long a request's key is remembered."""


def remember(session: Session, film: NewFilm, key: str, film_id: str, at: datetime) -> None:
    """Keep a request's key for a while: the same key with another film is a sender's mistake."""
    session.flush()
    session.execute(delete(IdempotencyRow).where(IdempotencyRow.created_at < at - KEYS_KEPT))
    known = session.get(IdempotencyRow, key)
    if known is None:
        row = IdempotencyRow(key_sha256=key, request_sha256=film.content_sha256, film_id=film_id, created_at=at)
        session.add(row)
    elif known.film_id != film_id:
        raise UsageError("This Idempotency-Key was used for another film. Give each film a key of its own.")
