"""The labelling queue: films that were drawn, read without the model's answer, some of them by a second reader.

A batch is drawn with known probabilities (:mod:`hilum.evaluation.selection`), which are kept. Each film waits for as
many readers as it needs; who opens one holds it for a while, so that two don't label the same film at once unless it is
to be read twice. A label that leans on the model's answer would only teach the model what it said: so a film whose
answer a reader has opened is not given to that reader, and a label of it is refused. Labels are events: a change of
mind is another one, and none is ever changed.
"""

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, cast

from sqlalchemy import ColumnElement, Select, and_, exists, func, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hilum.errors import UsageError
from hilum.records.audit import Act, append, without_floats
from hilum.records.cursors import bad_cursor, read_cursor, write_cursor
from hilum.records.database import Database
from hilum.records.labelling_schema import BlindLabelRow, LabelBatchRow, LabelHoldRow, LabelTaskRow
from hilum.records.labelling_sight import OPENED, sight, to_label
from hilum.records.reviews import Conflict
from hilum.records.schema import AuditRow, FilmRow
from hilum.records.store import now

TaskState = Literal["waiting", "agreed", "differ", "undecided"]
"""Readers are missing; most of all say the same; they don't; nobody could tell."""

CANNOT_TELL: Mapping[str, str] = {
    "image-quality": "the film is too poor",
    "not-frontal": "it is no frontal chest film",
    "cut-off": "what matters is cut off or covered",
    "needs-more": "it takes more than this film: history, earlier films, CT",
    "other": "another reason",
}
"""Why a reader can't tell, and what it means."""

MOST_READINGS = 5
PLACE = re.compile(r"[0-9]{1,6}")
"""A film's place in its batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlindLabel:
    """One version of one reader's label of one film."""

    film_id: str
    """The film."""
    reader: str
    """Whose."""
    version: int
    """1 for the first, one more for each change."""
    finding: str | None
    """What the reader says; None for one who can't tell."""
    reason_code: str
    """One of :data:`CANNOT_TELL`; empty where there is a finding."""
    comment: str
    """In the reader's own words; never in the audit, since it may name somebody."""
    created_at: datetime
    """When (UTC)."""
    seconds: float | None
    """How long the film was in front of the reader, as the page measured it."""
    shown: Mapping[str, Any]
    """What was on the screen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsettled:
    """A film that its readers label differently, or that none of them can tell."""

    film_id: str
    """The film."""
    state: TaskState
    """``differ`` or ``undecided``."""
    labels: tuple[BlindLabel, ...]
    """The newest of each reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsettledPage:
    """Some films without an agreement, and where to go on."""

    films: tuple[Unsettled, ...]
    """In the order of their batches."""
    next_cursor: str | None
    """Give it to get the films after these; None at the end."""


class Labelling:
    """The acts on the queue, each one transaction.

    Args:
        database: where it is kept.
        clock: gives the instant; tests give their own.
        held_for: how long a film is held unless that is renewed.
    """

    def __init__(
        self, database: Database, clock: Callable[[], datetime] = now, *, held_for: timedelta = timedelta(minutes=5)
    ) -> None:
        self._database, self._clock, self._held_for = database, clock, held_for

    def unsettled(self, *, viewer: str, limit: int = 100) -> tuple[Unsettled, ...]:
        """The first films without an agreement; see :meth:`unsettled_page`."""
        return self.unsettled_page(viewer=viewer, limit=limit).films

    def unsettled_page(self, *, viewer: str, limit: int = 100, cursor: str | None = None) -> UnsettledPage:
        """Films whose readers differ, or of whom none can tell, in the order of their batches; who looks is written
        down.

        Args:
            viewer: who looks.
            limit: most films.
            cursor: where the page before ended.

        Raises:
            UsageError: the cursor is none of ours.
        """
        order = LabelBatchRow.drawn_at, LabelTaskRow.place, LabelTaskRow.film_id
        query = (
            select(LabelTaskRow.film_id, LabelTaskRow.state, LabelBatchRow.drawn_at, LabelTaskRow.place)
            .join(LabelBatchRow, LabelBatchRow.id == LabelTaskRow.batch_id)
            .where(LabelTaskRow.state.in_(("differ", "undecided")))
            .order_by(*order)
        )
        if cursor is not None:
            at, line = read_cursor(cursor)
            place, _, film = line.partition(".")
            if not PLACE.fullmatch(place):
                raise bad_cursor()
            query = query.where(tuple_(*order) > (at, int(place), film))
        with self._database.write() as session:
            rows = session.execute(query.limit(limit + 1)).all()
            shown, following = rows[:limit], None
            if shown:
                seen = Act(actor=viewer, act="labels.viewed", detail={"films": [row.film_id for row in shown]})
                append(session, seen, self._clock())
            if len(rows) > limit:
                following = write_cursor(shown[-1].drawn_at, f"{shown[-1].place}.{shown[-1].film_id}")
            films = tuple(
                Unsettled(
                    film_id=row.film_id,
                    state=cast(TaskState, row.state),
                    labels=tuple(_label(one) for one in newest_labels(session, row.film_id)),
                )
                for row in shown
            )
        return UnsettledPage(films=films, next_cursor=following)

    def sight(self, film_ids: Sequence[str], reader: str) -> tuple[frozenset[str], frozenset[str]]:
        """Which of these films the reader is to label, and which ones the reader labels just now."""
        if not film_ids:
            return frozenset(), frozenset()
        with self._database.read() as session:
            return sight(session, film_ids, reader, self._clock())

    def waiting(self, reader: str) -> int:
        """Films that this reader could label."""
        with self._database.read() as session:
            return session.scalar(self._open(select(func.count(LabelTaskRow.film_id)), reader)) or 0

    def following(self, reader: str) -> str | None:
        """The film that this reader labels next, which is held and written down as shown; None when there is none."""
        held = exists().where(
            LabelHoldRow.film_id == LabelTaskRow.film_id,
            LabelHoldRow.reader == reader,
            LabelHoldRow.until > self._clock(),
        )
        passed = exists().where(
            LabelHoldRow.film_id == LabelTaskRow.film_id, LabelHoldRow.reader == reader, LabelHoldRow.passed
        )
        query = self._open(select(LabelTaskRow.film_id), reader).join(
            LabelBatchRow, LabelBatchRow.id == LabelTaskRow.batch_id
        )
        query = query.order_by(held.desc(), passed, LabelBatchRow.drawn_at, LabelTaskRow.place).limit(20)
        with self._database.write() as session:
            for film_id in map(str, session.scalars(query).all()):
                if self._take(session, film_id, reader):
                    append(session, Act(actor=reader, act="labelling.viewed", subject=film_id), self._clock())
                    return film_id
        return None

    def again(self, film_id: str, reader: str) -> BlindLabel:
        """A film that the reader has labelled, to label it otherwise; it is held and written down as shown.

        Raises:
            UsageError: the reader has not labelled it, or has opened the model's answer since.
        """
        with self._database.write() as session:
            mine = _newest(session, film_id, reader)
            if mine is None:
                raise UsageError("You have not labelled this film. The queue gives you those that are yours.")
            self._refuse_leaning(session, film_id, reader)
            self._hold(session, film_id, reader)
            append(session, Act(actor=reader, act="labelling.viewed", subject=film_id), self._clock())
            return _label(mine)

    def hold(self, film_id: str, reader: str) -> bool:
        """Hold a film longer; False where others took its place meanwhile."""
        with self._database.write() as session:
            return self._take(session, film_id, reader)

    def release(self, film_id: str, reader: str, *, passed: bool = False) -> None:
        """Let a film go; one that was passed over comes last for this reader."""
        with self._database.write() as session:
            row = session.get(LabelHoldRow, (film_id, reader), with_for_update=True)
            if row is not None:
                row.until, row.passed = self._clock(), row.passed or passed
                if passed:
                    append(session, Act(actor=reader, act="labelling.passed", subject=film_id), self._clock())

    def put(
        self,
        film_id: str,
        reader: str,
        *,
        finding: str | None,
        reason_code: str = "",
        comment: str = "",
        over: int = 0,
        seconds: float | None = None,
        shown: Mapping[str, Any] | None = None,
    ) -> BlindLabel:
        """Record what a reader says of a film, or a change of it.

        Args:
            film_id: the film.
            reader: whose label.
            finding: what it is; None for a reader who can't tell.
            reason_code: why not, one of :data:`CANNOT_TELL`.
            comment: free text.
            over: the version that it replaces; 0 for the first.
            seconds: how long the film was in front of the reader.
            shown: what was on the screen.

        Raises:
            UsageError: the film is not in the queue, finding and reason don't go together, or the reader has opened
                the model's answer.
            Conflict: another version is there than the one that it would replace, or the film is with others now.
        """
        if (finding is None) == (reason_code == ""):
            raise UsageError("A label says which finding it is, or why nobody can tell from this film: one of both.")
        if reason_code and reason_code not in CANNOT_TELL:
            raise UsageError(f"{reason_code!r} is no reason. Known: {', '.join(CANNOT_TELL)}.")
        said = BlindLabelRow(id=secrets.token_hex(16), film_id=film_id, reader=reader, version=over + 1)
        said.finding, said.reason_code, said.comment, said.seconds = finding, reason_code, comment, seconds
        said.shown = json.dumps(dict(shown), sort_keys=True) if shown else ""
        try:
            with self._database.write() as session:
                return self._put(session, said, over)
        except IntegrityError:
            raise Conflict("The label was changed at the same moment. Load the film again.") from None

    def _put(self, session: Session, said: BlindLabelRow, over: int) -> BlindLabel:
        film_id, reader, at = said.film_id, said.reader, self._clock()
        task = session.get(LabelTaskRow, film_id, with_for_update=True)
        if task is None:
            raise UsageError("This film is not in the labelling queue.")
        there = _newest(session, film_id, reader)
        if there is not None and there.version == over + 1 and _same(there, said):
            return _label(there)  # the reply was lost, and the same came again
        if (there.version if there else 0) != over:
            raise Conflict(
                f"Version {there.version if there else 0} of your label is there, not {over}. Load it again."
            )
        self._refuse_leaning(session, film_id, reader)
        if there is None and not self._room(session, task, reader):
            raise Conflict("Other readers label this film now, as many as it needs. Go on with the next one.")
        said.created_at = at
        session.add(said)
        session.flush()
        _settle(session, task)
        hold = session.get(LabelHoldRow, (film_id, reader))
        if hold is not None:
            session.delete(hold)
        detail = {"version": said.version, "finding": said.finding, "reason": said.reason_code, "batch": task.batch_id}
        detail |= {"probability": f"{task.probability:.9f}", "shown": without_floats(json.loads(said.shown or "{}"))}
        append(session, Act(actor=reader, act="film.labelled", subject=film_id, detail=detail), at)
        return _label(said)

    def ask_another(self, film_id: str, *, actor: str) -> int:
        """Ask for one more reader of a film on which there is no agreement.

        Returns:
            readers that it needs now.

        Raises:
            UsageError: there is nothing to settle, or it was read often enough.
        """
        with self._database.write() as session:
            task = session.get(LabelTaskRow, film_id, with_for_update=True)
            if task is None or task.state not in ("differ", "undecided"):
                raise UsageError("The film's readers don't differ, so there is nothing to settle.")
            if task.readings >= MOST_READINGS:
                raise UsageError(f"{task.readings} readers have labelled this film. Leave it out of the labels.")
            task.readings, task.state = task.readings + 1, "waiting"
            detail = {"readings": task.readings}
            append(
                session, Act(actor=actor, act="labelling.reader-asked", subject=film_id, detail=detail), self._clock()
            )
            return task.readings

    def _open(self, query: Select[Any], reader: str) -> Select[Any]:
        """Films that wait for a reader, and for this one among others."""
        here = LabelTaskRow.film_id
        picture = exists().where(FilmRow.id == here, FilmRow.file_sha256 != "")
        return query.where(
            here.in_(to_label(reader)),
            picture,
            self._taken(here, reader) < LabelTaskRow.readings,
        )

    def _taken(self, film_id: Any, reader: str) -> ColumnElement[int]:
        """Readers, beside this one, who have labelled a film or hold it now."""
        given = select(func.count(func.distinct(BlindLabelRow.reader))).where(
            BlindLabelRow.film_id == film_id, BlindLabelRow.reader != reader
        )
        again = exists().where(BlindLabelRow.film_id == film_id, BlindLabelRow.reader == LabelHoldRow.reader)
        others = and_(LabelHoldRow.reader != reader, LabelHoldRow.until > self._clock(), ~again)
        held = select(func.count()).select_from(LabelHoldRow).where(LabelHoldRow.film_id == film_id, others)
        return given.scalar_subquery() + held.scalar_subquery()

    def _room(self, session: Session, task: LabelTaskRow, reader: str) -> bool:
        return int(session.scalar(select(self._taken(task.film_id, reader))) or 0) < task.readings

    def _take(self, session: Session, film_id: str, reader: str) -> bool:
        task = session.get(LabelTaskRow, film_id, with_for_update=True)
        if task is None or (_newest(session, film_id, reader) is None and not self._room(session, task, reader)):
            return False
        self._hold(session, film_id, reader)
        return True

    def _hold(self, session: Session, film_id: str, reader: str) -> None:
        row = session.get(LabelHoldRow, (film_id, reader)) or LabelHoldRow(film_id=film_id, reader=reader, passed=False)
        row.until = self._clock() + self._held_for
        session.add(row)

    def _refuse_leaning(self, session: Session, film_id: str, reader: str) -> None:
        """Raises UsageError where the reader has opened the film's answer."""
        opened = select(AuditRow.at).where(
            AuditRow.subject == film_id, AuditRow.actor == reader, AuditRow.act == OPENED
        )
        if session.scalar(opened.limit(1)) is not None:
            raise UsageError(
                "You have opened this film's answer, so your label would lean on it. Go on with the next film; this "
                "one goes to another reader."
            )


def newest_labels(session: Session, film_id: str) -> list[BlindLabelRow]:
    """The newest label of each reader of a film, by reader."""
    rows = session.scalars(
        select(BlindLabelRow)
        .where(BlindLabelRow.film_id == film_id)
        .order_by(BlindLabelRow.reader, BlindLabelRow.version)
    )
    return list({row.reader: row for row in rows}.values())


def agreed_finding(said: Sequence[str | None]) -> str | None:
    """What more than half of all readers say, those who can't tell among them; None where there is no such finding."""
    return next((one for one in said if one is not None and 2 * said.count(one) > len(said)), None)


def _settle(session: Session, task: LabelTaskRow) -> None:
    said = [one.finding for one in newest_labels(session, task.film_id)]
    if len(said) < task.readings:
        task.state = "waiting"
    elif agreed_finding(said) is not None:
        task.state = "agreed"
    else:
        task.state = "differ" if any(said) else "undecided"


def _newest(session: Session, film_id: str, reader: str) -> BlindLabelRow | None:
    mine = select(BlindLabelRow).where(BlindLabelRow.film_id == film_id, BlindLabelRow.reader == reader)
    return session.scalar(mine.order_by(BlindLabelRow.version.desc()).limit(1))


def _same(one: BlindLabelRow, other: BlindLabelRow) -> bool:
    return (one.finding, one.reason_code, one.comment) == (other.finding, other.reason_code, other.comment)


def _label(row: BlindLabelRow) -> BlindLabel:
    return BlindLabel(
        film_id=row.film_id,
        reader=row.reader,
        version=row.version,
        finding=row.finding,
        reason_code=row.reason_code,
        comment=row.comment,
        created_at=row.created_at,
        seconds=row.seconds,
        shown=json.loads(row.shown or "{}"),
    )
