"""What readers decided: each reader has one opinion of a film, and each change of it is kept as the next version."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Select, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hilum.errors import ServiceError, UsageError
from hilum.records.audit import Act, append
from hilum.records.database import Database
from hilum.records.results_out import queue_review
from hilum.records.schema import AnswerRow, FilmRow, ReviewRow
from hilum.records.store import now

Decision = Literal["agree", "override"]


class Conflict(ServiceError):
    """Somebody changed it meanwhile: it must be read again first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """One reader's opinion of one film."""

    film_id: str
    """The film."""
    reader: str
    """Whose opinion."""
    version: int
    """1 for the first, one more for each change."""
    decision: Decision
    """``agree`` with the model, or ``override`` it."""
    finding: str | None
    """What the reader says instead; None when it agrees."""
    comment: str
    """In the reader's own words; never in the audit, since it may name somebody."""
    model_sha256: str | None
    """The version of the model whose answer was newest then."""
    created_at: datetime
    """When (UTC)."""


class Reviews:
    """The acts on reviews, each one transaction.

    Args:
        database: where they are kept.
        clock: gives the instant; tests give their own.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime] = now) -> None:
        self._database, self._clock = database, clock

    def of(self, film_id: str, *, viewer: str) -> tuple[Review, ...]:
        """The newest version of each reader's opinion, by reader; who looks is written down."""
        with self._database.write() as session:
            found = tuple(_review(row) for row in session.scalars(_newest(film_id)))
            append(session, Act(actor=viewer, act="reviews.viewed", subject=film_id), self._clock())
            return found

    def by(self, film_id: str, reader: str) -> Review | None:
        """One reader's own opinion; None before the first."""
        with self._database.read() as session:
            row = session.scalar(_newest(film_id).where(ReviewRow.reader == reader))
            return _review(row) if row else None

    def put(
        self, film_id: str, reader: str, *, decision: Decision, finding: str | None, comment: str, over: int
    ) -> Review:
        """Record an opinion, or a change of it.

        Args:
            film_id: the film.
            reader: whose.
            decision: agree or override.
            finding: what the reader says; needed to override, and None to agree.
            comment: free text.
            over: the version that it replaces; 0 for the first.

        Raises:
            UsageError: decision and finding don't go together, or there is no answer to judge.
            Conflict: another version is there than the one it would replace.
        """
        if (finding is None) != (decision == "agree"):
            raise UsageError("An override says which finding it is instead, and an agreement says none.")
        try:
            with self._database.write() as session:
                return self._put(session, film_id, reader, decision, finding, comment, over)
        except IntegrityError:
            raise Conflict("The review was changed at the same moment. Read it again, then decide.") from None

    def _put(
        self,
        session: Session,
        film_id: str,
        reader: str,
        decision: Decision,
        finding: str | None,
        comment: str,
        over: int,
    ) -> Review:
        newest = select(AnswerRow.model_sha256).where(AnswerRow.film_id == film_id)
        model = session.scalar(newest.order_by(AnswerRow.created_at.desc(), AnswerRow.id).limit(1))
        if session.get(FilmRow, film_id) is None or model is None:
            raise UsageError("The film has no answer to agree with or to override yet.")
        mine = select(func.max(ReviewRow.version)).where(ReviewRow.film_id == film_id, ReviewRow.reader == reader)
        there = session.scalar(mine) or 0
        if there != over:
            raise Conflict(f"Version {there} of the review is there, not {over}. Read it again, then decide.")
        row = ReviewRow(
            id=secrets.token_hex(16),
            film_id=film_id,
            model_sha256=model,
            reader=reader,
            version=there + 1,
            decision=decision,
            finding=finding,
            comment=comment,
            created_at=self._clock(),
        )
        session.add(row)
        session.flush()
        queue_review(session, row, row.created_at)
        detail = {"version": row.version, "decision": decision, "finding": finding, "model": model}
        append(session, Act(actor=reader, act="film.reviewed", subject=film_id, detail=detail), self._clock())
        return _review(row)


def _newest(film_id: str) -> Select[ReviewRow]:
    last = (
        select(ReviewRow.reader, func.max(ReviewRow.version).label("version"))
        .where(ReviewRow.film_id == film_id)
        .group_by(ReviewRow.reader)
        .subquery()
    )
    return (
        select(ReviewRow)
        .join(last, (ReviewRow.reader == last.c.reader) & (ReviewRow.version == last.c.version))
        .where(ReviewRow.film_id == film_id)
        .order_by(ReviewRow.reader)
    )


def _review(row: ReviewRow) -> Review:
    return Review(
        film_id=row.film_id,
        reader=row.reader,
        version=row.version,
        decision=row.decision,  # type: ignore[arg-type]  # put() writes no other
        finding=row.finding,
        comment=row.comment,
        model_sha256=row.model_sha256,
        created_at=row.created_at,
    )
