"""Candidates on trial: what they said in shadow, and what happened since the last change of what is in production."""

from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from hilum.records.schema import AnswerRow, FilmRow, ReviewRow, ShadowRow
from hilum.records.values import FINISHED, NewAnswer

if TYPE_CHECKING:
    from hilum.records.registry import Deployment  # it imports the store, which imports this


def keep_shadow(session: Session, film_id: str, answer: NewAnswer, at: datetime) -> None:
    """Keep what a candidate said beside an answer, in the transaction that records it; nothing where none did."""
    shadow = answer.shadow
    if shadow is None:
        return
    session.merge(
        ShadowRow(
            film_id=film_id,
            model_sha256=shadow.model_sha256,
            beside_sha256=answer.model_sha256,
            created_at=at,
            label=shadow.label,
            abstained=shadow.abstained,
            risk=shadow.risk,
        )
    )


def trial_counts(session: Session, holds: "Deployment") -> dict[str, tuple[int, int]]:
    """What happened since the last change, each as (hits, of so many), for the plan's bounds.

    Abstained and overridden are those of the model that was changed to: the canary, else production. Disagreed are
    films that a candidate in shadow labels otherwise than the model that answered; abstaining counts as a label.

    Args:
        session: of a reading transaction.
        holds: the last row of the registry.
    """
    model = holds.candidate if holds.stage == "canary" and holds.candidate else holds.production
    answered: tuple[ColumnElement[bool], ...] = (
        AnswerRow.model_sha256 == model,
        AnswerRow.created_at >= holds.at,
        AnswerRow.risk.is_not(None),
    )
    abstained = [bool(one) for one in session.scalars(select(AnswerRow.abstained).where(*answered))]
    counts = {"abstained": (sum(abstained), len(abstained)), "overridden": _overridden(session, model, holds.at)}
    ended = select(func.count()).where(FilmRow.received_at >= holds.at)
    done = session.scalar(ended.where(FilmRow.state.in_(FINISHED))) or 0
    counts["failed"] = (session.scalar(ended.where(FilmRow.state == "failed")) or 0, done)
    if holds.stage == "shadow":
        counts["disagreed"] = _disagreed(session, holds)
    return counts


def _overridden(session: Session, model: str, since: datetime) -> tuple[int, int]:
    query = (
        select(ReviewRow.film_id, ReviewRow.reader, ReviewRow.decision)
        .where(ReviewRow.model_sha256 == model, ReviewRow.created_at >= since)
        .order_by(ReviewRow.version)
    )
    newest = {(film, reader): decision for film, reader, decision in session.execute(query)}
    decided = [decision for decision in newest.values() if decision in ("agree", "override")]
    return sum(one == "override" for one in decided), len(decided)


def _disagreed(session: Session, holds: "Deployment") -> tuple[int, int]:
    query = (
        select(ShadowRow.label, AnswerRow.label)
        .join(AnswerRow, (AnswerRow.film_id == ShadowRow.film_id) & (AnswerRow.model_sha256 == ShadowRow.beside_sha256))
        .where(ShadowRow.model_sha256 == holds.candidate, ShadowRow.created_at >= holds.at)
    )
    pairs = list(session.execute(query))
    return sum(one != other for one, other in pairs), len(pairs)
