"""The queue of results: which answers are still to be sent where, and which could not be.

An answer is queued in the transaction that records it (:func:`queue_answers`), so there is no moment at which a killed
process leaves an answer that nobody will send. A delivery is leased while it is sent; sent twice, it is the same object
at the other side, because its UIDs are derived from the answer.
"""

import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from hilum.errors import UsageError
from hilum.records import leases
from hilum.records.audit import Act, append
from hilum.records.cursors import behind
from hilum.records.database import Database
from hilum.records.schema import AnswerRow, DeliveryRow, DestinationRow, FilmRow, HeatmapRow, ReviewRow
from hilum.records.values import HeatmapRecord

DELIVERY_STATES = ("waiting", "sending", "sent", "dead")
"""Where a delivery may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewSent:
    """A reader's review as it is sent."""

    id: str
    """Of this version."""
    reader: str
    """The reader's login."""
    decision: str
    """``agree`` or ``override``."""
    finding: str | None
    """What the reader says instead."""
    comment: str
    """In the reader's words."""
    created_at: datetime
    """When."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One answer on its way to one destination, leased to whoever sends it. No identifiers of patients."""

    id: str
    """Opaque id."""
    destination: str
    """Name of the destination."""
    film_id: str
    """The film that was answered."""
    attempts: int
    """How often it was tried, this time included."""
    created_at: datetime
    """When it was queued."""
    file_sha256: str
    """Names the film's file."""
    content_sha256: str
    """Digest of the film's content."""
    model_sha256: str
    """The model's version."""
    answered_at: datetime
    """When the answer was recorded."""
    label: str | None
    """The finding; None when the model abstained."""
    assessment: Mapping[str, Any]
    """The answer as JSON values."""
    heatmaps: tuple[HeatmapRecord, ...]
    """One a finding."""
    review: "ReviewSent | None" = None
    """What is sent is not the answer but this review of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A delivery that was given up."""

    id: str
    """Opaque id; :meth:`Outbox.requeue` takes it."""
    destination: str
    """Where it should have gone."""
    film_id: str
    """The film that was answered."""
    attempts: int
    """How often it was tried."""
    given_up_at: datetime
    """When it was given up."""
    reason_code: str
    """Machine-readable reason."""
    reason: str
    """The same in one sentence."""


class FilmOfAnswer(Protocol):
    """What decides whether an answer can be sent."""

    format: str
    """Only DICOM films have a study that results can join."""
    origin: str
    """A fetched prior's study was reported on long ago."""


DESTINATIONS = select(DestinationRow.__table__.c.name)
"""Made once: to put a statement together takes longer than to run it."""


def queue_answers(session: Session, films: Mapping[str, FilmOfAnswer], at: datetime) -> int:
    """Queue answers for every destination, inside the transaction that records them.

    Args:
        session: that transaction's.
        films: by id of an answer, its film, which was analysed.
        at: the instant.

    Returns:
        the number of deliveries made.
    """
    names = list(session.connection().execute(DESTINATIONS).scalars()) if films else []
    return sum(_queue(session, names, answer_id, film, at) for answer_id, film in films.items())


def queue_review(session: Session, review: ReviewRow, at: datetime, *, hold: timedelta = timedelta()) -> int:
    """Queue a reader's review for every destination that takes reviews, inside the transaction that records it.

    Args:
        session: that transaction's.
        review: the new version.
        at: the instant.
        hold: how long it can be undone; it is sent after that.

    Returns:
        the number of deliveries made; 0 where the answer itself was never to be sent.
    """
    film = session.get_one(FilmRow, review.film_id)
    answer_id = session.scalar(
        select(AnswerRow.id).where(
            AnswerRow.film_id == film.id, AnswerRow.model_sha256 == review.model_sha256, AnswerRow.risk.is_not(None)
        )
    )
    names = session.scalars(select(DestinationRow.name).where(DestinationRow.reviews))
    return 0 if answer_id is None else _queue(session, names, answer_id, film, at + hold, review.id)


def withdraw_review(session: Session, review_id: str) -> int:
    """Take a review that was not sent yet out of the queue; gives how many deliveries that were."""
    unsent = delete(DeliveryRow).where(DeliveryRow.review_id == review_id, DeliveryRow.state == "waiting")
    return int(getattr(session.execute(unsent), "rowcount", 0))


def _queue(
    session: Session, names: Iterable[str], answer_id: str, film: FilmOfAnswer, at: datetime, review_id: str = ""
) -> int:
    if film.format != "dicom" or film.origin == "pacs":
        return 0
    queued = [
        DeliveryRow(
            id=secrets.token_hex(16),
            answer_id=answer_id,
            destination=name,
            review_id=review_id,
            state="waiting",
            attempts=0,
            created_at=at,
            due_at=at,
            reason_code="",
            reason="",
        )
        for name in names
    ]
    session.add_all(queued)
    return len(queued)


def left_behind_words(destination: str, results: int) -> str:
    """What is said of results that wait for a destination which the settings don't name any more."""
    return (
        f"{destination} is none of the destinations that the service was started with, so nobody sends what "
        f"waits for it ({results}). Name it in HILUM_RESULTS_TO again, and it is sent."
    )


class Outbox:
    """The queue.

    Args:
        database: where it is kept.
        clock: gives the instant; tests give their own.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database, self._clock = database, clock

    def register(self, names: Sequence[str], *, reviews: bool = False) -> None:
        """Say which destinations there are. Those that are gone get nothing new; what waits for them stays.

        Args:
            names: of the destinations.
            reviews: whether readers' reviews are sent there as well.
        """
        with self._database.write() as session:
            session.execute(delete(DestinationRow).where(DestinationRow.name.not_in(names)))
            known = set(session.scalars(select(DestinationRow.name)))
            session.add_all(DestinationRow(name=name, since=self._clock()) for name in names if name not in known)
            session.flush()
            session.execute(update(DestinationRow).values(reviews=reviews))

    def claim(self, destination: str, owner: str, *, lease_s: float) -> Delivery | None:
        """Lease the delivery that is due longest; None when none is due."""
        now = self._clock()
        with self._database.write() as session:
            row = leases.claim(
                session,
                DeliveryRow,
                DeliveryRow.destination == destination,
                key=DeliveryRow.id,
                working="sending",
                owner=owner,
                now=now,
                lease_s=lease_s,
            )
            if row is None:
                return None
            return _delivery(session, row)

    def sent(self, delivery_id: str, owner: str) -> bool:
        """Record that the destination has it; False when the lease was lost."""
        with self._database.write() as session:
            row = _leased(session, delivery_id, owner)
            if row is not None:
                leases.finish(row, "sent", self._clock())
                self._note(session, "service", "result.sent", row)
            return row is not None

    def failed(self, delivery_id: str, owner: str, *, code: str, reason: str, retry_after_s: float | None) -> bool:
        """Record that it could not be sent.

        Args:
            delivery_id: the delivery.
            owner: who holds the lease.
            code: machine-readable reason.
            reason: the same in one sentence, without identifiers.
            retry_after_s: when to try again; None gives it up.

        Returns:
            False when the lease was lost.
        """
        with self._database.write() as session:
            row, how = _leased(session, delivery_id, owner), {"code": code, "reason": reason}
            if row is not None and leases.fail(row, self._clock(), **how, retry_after_s=retry_after_s):
                self._note(session, "service", "result.given-up", row, code=code[: leases.REASON_CODE])
            return row is not None

    def release(self, owner: str | None = None) -> int:
        """Give back what is being sent: by one owner (who stops), or by all (at the start of the only process)."""
        with self._database.write() as session:
            return leases.release(session, DeliveryRow, working="sending", owner=owner)

    def age_s(self, delivery: Delivery) -> float:
        """Seconds since it was queued, or put back into the queue."""
        return (self._clock() - delivery.created_at).total_seconds()

    def next_due_in(self, destination: str) -> float | None:
        """Seconds until something is due there, 0 or more; None when nothing waits."""
        with self._database.read() as session:
            return leases.due_in(session, DeliveryRow, DeliveryRow.destination == destination, now=self._clock())

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of deliveries by destination and state."""
        query = select(DeliveryRow.destination, DeliveryRow.state, func.count()).group_by(
            DeliveryRow.destination, DeliveryRow.state
        )
        counted: dict[str, dict[str, int]] = {}
        with self._database.read() as session:
            for destination, state, number in session.execute(query):
                counted.setdefault(destination, {})[state] = int(number)
        return counted

    def left_behind(self) -> dict[str, int]:
        """Number of results that wait for destinations that the service was last started without: nobody sends them."""
        named = select(DestinationRow.name)
        query = select(DeliveryRow.destination, func.count()).where(
            DeliveryRow.state == "waiting", DeliveryRow.destination.not_in(named)
        )
        with self._database.read() as session:
            return {str(name): int(number) for name, number in session.execute(query.group_by(DeliveryRow.destination))}

    def dead(self, *, limit: int = 100, cursor: str | None = None) -> tuple[DeadLetter, ...]:
        """What was given up, the latest first.

        Args:
            limit: most of them.
            cursor: only those behind it, as :func:`hilum.records.cursors.write_cursor` makes it of a dead letter.

        Raises:
            UsageError: the cursor is none of ours.
        """
        query = (
            select(DeliveryRow, AnswerRow.film_id)
            .join(AnswerRow, AnswerRow.id == DeliveryRow.answer_id)
            .where(DeliveryRow.state == "dead")
            .order_by(DeliveryRow.finished_at.desc(), DeliveryRow.id)
            .limit(limit)
        )
        if cursor is not None:
            query = query.where(behind(cursor, DeliveryRow.finished_at, DeliveryRow.id))
        with self._database.read() as session:
            return tuple(
                DeadLetter(
                    id=row.id,
                    destination=row.destination,
                    film_id=film_id,
                    attempts=row.attempts,
                    given_up_at=row.finished_at or row.created_at,
                    reason_code=row.reason_code,
                    reason=row.reason,
                )
                for row, film_id in session.execute(query)
            )

    def requeue(self, delivery_id: str | None = None, *, actor: str = "service") -> int:
        """Put one dead letter back into the queue, due at once and with a fresh count of attempts; or all that failed.

        Args:
            delivery_id: a dead letter; None for all of them, and for what waits for its next attempt.
            actor: who asked for it, for the audit.

        Raises:
            UsageError: no dead letter has this id.
        """
        now = self._clock()
        wanted = select(DeliveryRow).where(leases.put_off_or_given_up(DeliveryRow, now))
        if delivery_id is not None:
            wanted = select(DeliveryRow).where(DeliveryRow.state == "dead", DeliveryRow.id == delivery_id)
        with self._database.write() as session:
            rows = list(session.scalars(wanted))
            leases.start_anew(rows, now)
            for row in rows:
                self._note(session, actor, "result.requeued", row)
        if delivery_id is not None and not rows:
            raise UsageError(f"No dead letter has the id {delivery_id!r}. hilum results lists them.")
        return len(rows)

    def _note(self, session: Session, actor: str, act: str, row: DeliveryRow, **detail: Any) -> None:
        """Write an act down in its own transaction."""
        film_id = session.get_one(AnswerRow, row.answer_id).film_id
        detail |= {"answer": row.answer_id, "destination": row.destination, "attempts": row.attempts}
        append(session, Act(actor=actor, act=act, subject=film_id, detail=detail), self._clock())


def answer_as_sent(session: Session, answer_id: str, review_id: str = "") -> Delivery:
    """An answer, or a reader's review of it, as it would be sent, for whoever fetches it instead.

    Args:
        session: of a reading transaction.
        answer_id: an answer to a film that was analysed.
        review_id: of the review; empty for the answer itself.
    """
    return _delivery(session, _asked(session.get_one(AnswerRow, answer_id), review_id))


def _leased(session: Session, delivery_id: str, owner: str) -> DeliveryRow | None:
    row = session.get(DeliveryRow, delivery_id)
    return row if leases.held(row, working="sending", owner=owner) else None


def _asked(answer: AnswerRow, review_id: str) -> DeliveryRow:
    asked = {"answer_id": answer.id, "review_id": review_id, "created_at": answer.created_at}
    return DeliveryRow(id="", destination="", attempts=0, **asked)


def _delivery(session: Session, row: DeliveryRow) -> Delivery:
    answer = session.get_one(AnswerRow, row.answer_id)
    heatmaps = session.scalars(select(HeatmapRow).where(HeatmapRow.answer_id == answer.id).order_by(HeatmapRow.finding))
    return _as_sent(session, row, answer, heatmaps)


def _as_sent(session: Session, row: DeliveryRow, answer: AnswerRow, heatmaps: Iterable[HeatmapRow]) -> Delivery:
    film = session.get_one(FilmRow, answer.film_id)
    return Delivery(
        id=row.id,
        destination=row.destination,
        film_id=film.id,
        attempts=row.attempts,
        created_at=row.created_at,
        file_sha256=film.file_sha256,
        content_sha256=film.content_sha256,
        model_sha256=answer.model_sha256,
        answered_at=answer.created_at,
        label=answer.label,
        review=_review(session, row.review_id),
        assessment=json.loads(answer.assessment),
        heatmaps=tuple(
            HeatmapRecord(finding=one.finding, rows=one.rows, columns=one.columns, values=one.values, spread=one.spread)
            for one in heatmaps
        ),
    )


def _review(session: Session, review_id: str) -> ReviewSent | None:
    row = session.get(ReviewRow, review_id) if review_id else None
    if row is None:
        return None
    return ReviewSent(
        id=row.id,
        reader=row.reader,
        decision=row.decision,
        finding=row.finding,
        comment=row.comment,
        created_at=row.created_at,
    )
