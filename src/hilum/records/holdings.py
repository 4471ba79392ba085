"""What the records hold, in few numbers, and what waits to be sent again: for whoever keeps the service running."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hilum.records.database import Database
from hilum.records.schema import AnswerRow, DeliveryRow, FilmRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """Films whose files are kept."""

    films: int
    """How many."""
    size: int
    """Bytes of their files as they came, without what encryption adds."""
    oldest: datetime | None
    """When the oldest was received; None when there is none."""
    erased: int = 0
    """Films of which the answers alone are kept, since retention erased their files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentAgain:
    """A result that could not be sent yet and waits to be tried again."""

    destination: str
    """Where it goes."""
    film_id: str
    """The film that was answered."""
    attempts: int
    """How often it was tried."""
    due_at: datetime
    """When it is tried next (UTC)."""
    reason: str
    """Why the last try failed, in one sentence."""


def holdings(database: Database) -> Holdings:
    """How much is kept."""
    kept = FilmRow.file_sha256 != ""
    size, oldest = func.sum(FilmRow.size).filter(kept), func.min(FilmRow.received_at).filter(kept)
    query = select(func.count(), func.count().filter(kept), func.coalesce(size, 0), oldest)
    with database.read() as session:
        known, films, size_bytes, since = session.execute(query).one()
    return Holdings(films=int(films), size=int(size_bytes), oldest=since, erased=int(known) - int(films))


def newest_files(session: Session, *, limit: int) -> list[str]:
    """What names the files of the films that came last, of those whose pixels are kept.

    Args:
        session: of a reading transaction.
        limit: most of them.
    """
    query = select(FilmRow.file_sha256).where(FilmRow.file_sha256 != "").order_by(FilmRow.received_at.desc())
    return list(session.scalars(query.limit(limit)))


def sent_again(database: Database, *, limit: int) -> tuple[SentAgain, ...]:
    """Results that were tried and wait, next due first.

    Args:
        database: the records.
        limit: most of them.
    """
    query = (
        select(DeliveryRow, AnswerRow.film_id)
        .join(AnswerRow, AnswerRow.id == DeliveryRow.answer_id)
        .where(DeliveryRow.state == "waiting", DeliveryRow.attempts > 0, DeliveryRow.reason != "")
        .order_by(DeliveryRow.due_at, DeliveryRow.id)
        .limit(limit)
    )
    with database.read() as session:
        return tuple(
            SentAgain(
                destination=row.destination,
                film_id=film_id,
                attempts=row.attempts,
                due_at=row.due_at,
                reason=row.reason,
            )
            for row, film_id in session.execute(query)
        )
