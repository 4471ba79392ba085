"""What readers decided: each reader's opinions of a film are kept as versions, and none is ever changed.

A version is an opinion before the model's answer was seen, an agreement, an override, the settling of two readers'
disagreement, or the withdrawal of the version before it. What counts is the newest that was not withdrawn.
"""

import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hilum.errors import ServiceError, UsageError
from hilum.records.audit import Act, append, without_floats
from hilum.records.database import Database
from hilum.records.results_out import queue_review, withdraw_review
from hilum.records.schema import AnswerRow, FilmRow, ReadingRow, ReviewRow
from hilum.records.store import now

Decision = Literal["opinion", "agree", "override", "withdraw", "adjudicate"]
Reading = Literal["unread", "once", "read", "disagreement", "settled"]
"""How far a film is: read by nobody, by fewer readers than asked for, by all; readers differ; a third settled it."""

DECIDED = ("agree", "override")
FINAL = (*DECIDED, "adjudicate")
WITH_FINDING = ("opinion", "override", "adjudicate")
UNDO = timedelta(seconds=60)
REASONS: Mapping[str, str] = {
    "missed": "the model missed a finding",
    "overcalled": "the model saw what is not there",
    "other-finding": "it is another finding",
    "wrong-place": "the right finding, in the wrong place",
    "image-quality": "the film is too poor",
    "clinical-context": "the patient's history says otherwise",
    "other": "another reason",
}
"""Why a reader overrides, and what it means."""


class Conflict(ServiceError):
    """Somebody changed it meanwhile: it must be read again first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """What goes with a decision."""

    reason_code: str = ""
    """One of :data:`REASONS`; empty when none was given."""
    regions: tuple[tuple[float, float, float, float], ...] = ()
    """Rectangles on the film, in its pixels: left, top, right, bottom."""
    seconds: float | None = None
    """How long the film was in front of the reader, as the page measured it."""
    shown: Mapping[str, Any] = field(default_factory=dict)
    """What was on the screen: window, heat map, prior film."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """One version of one reader's opinion of one film."""

    film_id: str
    """The film."""
    reader: str
    """Whose opinion."""
    version: int
    """1 for the first, one more for each change."""
    decision: Decision
    """``opinion`` before the answer, ``agree`` with the model, ``override`` it, ``withdraw`` the version before, or
    ``adjudicate`` between readers."""
    finding: str | None
    """What the reader says; None when it agrees or withdraws."""
    comment: str
    """In the reader's own words; never in the audit, since it may name somebody."""
    model_sha256: str | None
    """The version of the model whose answer was newest then."""
    created_at: datetime
    """When (UTC)."""
    noted: Noted = Noted()
    """Reason, regions, time and what was on the screen."""


class Reviews:
    """The acts on reviews, each one transaction.

    Args:
        database: where they are kept.
        clock: gives the instant; tests give their own.
        readings: how many readers a film needs.
        undo: how long a review can be withdrawn; it is sent on after that.
    """

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime] = now,
        *,
        readings: int = 1,
        undo: timedelta = UNDO,
    ) -> None:
        self._database, self._clock, self._readings, self._undo = database, clock, readings, undo

    def of(self, film_id: str, *, viewer: str) -> tuple[Review, ...]:
        """The newest version of each reader's opinion, by reader; who looks is written down."""
        with self._database.write() as session:
            newest = {row.reader: row for row in _history(session, film_id)}
            append(session, Act(actor=viewer, act="reviews.viewed", subject=film_id), self._clock())
            return tuple(_review(newest[reader]) for reader in sorted(newest))

    def by(self, film_id: str, reader: str) -> Review | None:
        """The newest version of one reader's own opinion; None before the first."""
        with self._database.read() as session:
            rows = [row for row in _history(session, film_id) if row.reader == reader]
            return _review(rows[-1]) if rows else None

    def counting(self, film_id: str) -> tuple[Review, ...]:
        """Each reader's newest version that was not withdrawn, by reader. For the service itself: nobody looks."""
        with self._database.read() as session:
            counts = counting(_history(session, film_id))
            return tuple(_review(counts[reader]) for reader in sorted(counts))

    def opined(self, film_ids: Sequence[str], reader: str) -> frozenset[str]:
        """Which of these films the reader has given any opinion of."""
        with self._database.read() as session:
            mine = select(ReviewRow.film_id).where(ReviewRow.reader == reader, ReviewRow.film_id.in_(film_ids))
            return frozenset(session.scalars(mine))

    def put(
        self,
        film_id: str,
        reader: str,
        *,
        decision: Decision,
        finding: str | None,
        comment: str,
        over: int,
        noted: Noted | None = None,
        read_first: bool = False,
    ) -> Review:
        """Record an opinion, or a change of it.

        Args:
            film_id: the film.
            reader: whose.
            decision: which kind of version it is.
            finding: what the reader says; needed for an opinion, an override and a settlement, and None otherwise.
            comment: free text.
            over: the version that it replaces; 0 for the first.
            noted: what goes with it.
            read_first: an opinion must come before an agreement or an override; recorded with the version.

        Raises:
            UsageError: decision and finding don't go together, it is not its turn, or there is no answer to judge.
            Conflict: another version is there than the one it would replace, or somebody else holds the film.
        """
        if (finding is None) == (decision in WITH_FINDING):
            raise UsageError("An override says which finding it is instead, and an agreement says none.")
        noted = noted or Noted()
        if noted.reason_code and noted.reason_code not in REASONS:
            raise UsageError(f"{noted.reason_code!r} is no reason. Known: {', '.join(REASONS)}.")
        said = ReviewRow(
            id=secrets.token_hex(16),
            film_id=film_id,
            reader=reader,
            version=over + 1,
            decision=decision,
            finding=finding,
            comment=comment,
            reason_code=noted.reason_code,
            regions=json.dumps(noted.regions) if noted.regions else "",
            shown=json.dumps(dict(noted.shown), sort_keys=True) if noted.shown else "",
            seconds=noted.seconds,
            read_first=read_first,
        )
        try:
            with self._database.write() as session:
                return self._put(session, said, over, read_first)
        except IntegrityError:
            raise Conflict("The review was changed at the same moment. Read it again, then decide.") from None

    def _put(self, session: Session, said: ReviewRow, over: int, read_first: bool) -> Review:
        film_id, reader, at = said.film_id, said.reader, self._clock()
        newest = select(AnswerRow.model_sha256, AnswerRow.label).where(AnswerRow.film_id == film_id)
        answer = session.execute(newest.order_by(AnswerRow.created_at.desc(), AnswerRow.id).limit(1)).first()
        said.model_sha256 = answer.model_sha256 if answer else None
        if session.get(FilmRow, film_id) is None or said.model_sha256 is None:
            raise UsageError("The film has no answer to agree with or to override yet.")
        if said.decision == "agree" and answer is not None and answer.label is None:
            raise UsageError("The model gave this film no finding to agree with. Override it with your own finding.")
        there = session.scalar(
            select(func.max(ReviewRow.version)).where(ReviewRow.film_id == film_id, ReviewRow.reader == reader)
        )
        if (there or 0) != over:
            raise Conflict(f"Version {there or 0} of the review is there, not {over}. Read it again, then decide.")
        reading = session.get(ReadingRow, film_id) or ReadingRow(film_id=film_id, status="unread")
        if reading.claimed_by not in (None, reader) and reading.claimed_until and reading.claimed_until > at:
            raise Conflict("Another reader holds this film now. Go on with the next one, or wait until it is free.")
        history = _history(session, film_id)
        self._check_turn(said, counting(history), reading.status, at, read_first)
        said.created_at = at
        session.add(said)
        session.flush()
        if said.decision in FINAL:
            queue_review(session, said, at, hold=self._undo)
        elif said.decision == "withdraw":
            withdraw_review(session, counting(history)[reader].id)
        self._settle(session, reading, [*history, said])
        if said.decision in FINAL:
            reading.claimed_by = reading.claimed_until = None
        detail = {"version": said.version, "decision": said.decision, "finding": said.finding}
        more = {"model": said.model_sha256, "reason": said.reason_code}
        more |= {"shown": without_floats(json.loads(said.shown or "{}"))}
        append(session, Act(actor=reader, act="film.reviewed", subject=film_id, detail={**detail, **more}), at)
        return _review(said)

    def _check_turn(
        self, said: ReviewRow, counts: Mapping[str, ReviewRow], status: str, at: datetime, read_first: bool
    ) -> None:
        """Raises UsageError where this version can't follow what is there."""
        mine = counts.get(said.reader)
        if said.decision == "opinion" and mine is not None:
            raise UsageError("Your opinion of this film is recorded already. Agree with the answer, or override it.")
        if said.decision in DECIDED and read_first and mine is None:
            raise UsageError("Record your own opinion first; the model's answer is shown after it.")
        if said.decision == "withdraw":
            last = mine is not None and mine.decision in FINAL and mine.version == said.version - 1
            if mine is None or not last or at - mine.created_at > self._undo:
                raise UsageError(
                    f"Only a review of the last {self._undo.total_seconds():.0f} s can be undone. Record another one, "
                    "which counts instead."
                )
        if said.decision == "adjudicate":
            if status != "disagreement":
                raise UsageError("The film's readers don't disagree, so there is nothing to settle.")
            if mine is not None and mine.decision in DECIDED:
                raise UsageError("You are one of the readers who disagree; another one must settle it.")

    def _settle(self, session: Session, reading: ReadingRow, history: Iterable[ReviewRow]) -> None:
        """Compute how far the film's reading is."""
        counts = counting(history)
        said = [_finding(session, row) for row in counts.values() if row.decision in DECIDED]
        if any(row.decision == "adjudicate" for row in counts.values()):
            reading.status = "settled"
        elif len(set(said)) > 1:
            reading.status = "disagreement"
        elif len(said) >= self._readings:
            reading.status = "read"
        else:
            reading.status = "once" if said else "unread"
        session.add(reading)


def _history(session: Session, film_id: str) -> list[ReviewRow]:
    """All versions of all readers, oldest first."""
    query = select(ReviewRow).where(ReviewRow.film_id == film_id).order_by(ReviewRow.reader, ReviewRow.version)
    return list(session.scalars(query))


def counting(history: Iterable[ReviewRow]) -> dict[str, ReviewRow]:
    """By reader the newest version that was not withdrawn."""
    stacks: dict[str, list[ReviewRow]] = {}
    for row in history:
        stack = stacks.setdefault(row.reader, [])
        if row.decision != "withdraw":
            stack.append(row)
        elif stack:
            stack.pop()
    return {reader: stack[-1] for reader, stack in stacks.items() if stack}


def _finding(session: Session, row: ReviewRow) -> str | None:
    """What a decision comes to: an agreement says the label that it agreed with."""
    if row.decision != "agree":
        return row.finding
    answer = select(AnswerRow.label).where(AnswerRow.film_id == row.film_id, AnswerRow.model_sha256 == row.model_sha256)
    return session.scalar(answer)


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
        noted=Noted(
            reason_code=row.reason_code,
            regions=tuple(tuple(one) for one in json.loads(row.regions or "[]")),
            seconds=row.seconds,
            shown=json.loads(row.shown or "{}"),
        ),
    )
