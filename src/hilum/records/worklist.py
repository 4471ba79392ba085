"""The worklist: which films are to be read, in which order, and who holds one.

Films that need a reader come first; among them those that waited beyond the cap, then the riskiest. Who opens a film to
read it claims it for a while, so that two readers don't read the same one; a claim that is not renewed runs out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, cast

from sqlalchemy import ColumnElement, Select, and_, case, exists, func, or_, select, tuple_
from sqlalchemy.orm import Session, aliased

from hilum.errors import UsageError
from hilum.records.audit import Act, append
from hilum.records.cursors import bad_cursor, read_cursor, write_cursor
from hilum.records.database import Database
from hilum.records.identifiers import films_of_accession, identities
from hilum.records.labelling_sight import to_label
from hilum.records.look_ups import PACS
from hilum.records.reading import film_records
from hilum.records.reviews import FINAL
from hilum.records.schema import AnswerRow, FilmRow, ReadingRow, ReviewRow
from hilum.records.store import UNKNOWN_RISK, now
from hilum.records.study_places import films_under_study
from hilum.records.values import FilmRecord

Reading = Literal["unread", "once", "disagreement", "read", "settled"]
OPEN = ("unread", "once", "disagreement")
READABLE = ("answered", "not-analysed")
FOLLOWING = 2000
"""So many films are looked through for the next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which films of the worklist are asked for."""

    status: str = ""
    """A film's state, how far its reading is, ``open`` for those that need a reader, or empty for all."""
    finding: str = ""
    """Only films with this label; empty for all."""
    doubt: str = ""
    """``abstained``, ``unsure`` (neither risk nor its opposite reaches 75 %), or empty for all."""
    mine: bool = False
    """Only films that the reader holds or has reviewed."""
    blind: bool = False
    """Leave out what the reader is to label without the answer, where films are chosen by their answers."""
    accession: str = ""
    """Only films with this accession number, whole: it lies encrypted, and its parts can't be found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the worklist."""

    film: FilmRecord
    """The film with its newest answer."""
    accession: str
    """Accession number; empty when not recorded."""
    reading: Reading
    """How far its reading is."""
    held_by: str
    """Who holds it now; empty when nobody does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Some lines of the worklist."""

    entries: tuple[Entry, ...]
    """In the worklist's order."""
    total: int
    """How many there are in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistPage:
    """Some lines of the worklist and where to go on."""

    entries: tuple[Entry, ...]
    """In the worklist's order."""
    next_cursor: str | None
    """Give it to get the lines after these; None at the end."""


class Worklist:
    """Looks at the worklist, and claims on films.

    Args:
        database: where the records are.
        waiting_cap: no film waits behind fresher, riskier ones for longer than this.
        held_for: how long a claim lasts unless it is renewed.
        clock: gives the instant; tests give their own.
    """

    def __init__(
        self,
        database: Database,
        *,
        waiting_cap: timedelta,
        held_for: timedelta = timedelta(minutes=5),
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._database, self._cap, self._held_for, self._clock = database, waiting_cap, held_for, clock

    def lines(self, wanted: Wanted, *, reader: str, offset: int = 0, limit: int = 100) -> Lines:
        """Some lines in their order. Nothing is written down: :meth:`seen` does that once they are shown.

        Args:
            wanted: which films.
            reader: who asks, for ``mine``.
            offset: lines to leave out.
            limit: most lines.
        """
        query = self._from(select(FilmRow))
        with self._database.read() as session:
            condition = and_(_elsewhere(reader), *self._conditions(session, wanted, reader))
            total = session.scalar(self._from(select(func.count(FilmRow.id))).where(condition)) or 0
            order = _by_risk(self._order(self._clock()))
            films = film_records(session, query.where(condition).order_by(*order).offset(offset).limit(limit))
            return Lines(entries=self._entries(session, films), total=total)

    def page(self, wanted: Wanted, *, viewer: str, cursor: str | None = None, limit: int = 100) -> WorklistPage:
        """One page of lines in their order, read in the transaction that writes them down as seen.

        The first page's instant says on all of them who waited beyond the cap, so time shifts nothing between pages.
        Which lines these are is looked up before, for that takes longer than others should wait to write.

        Args:
            wanted: which films.
            viewer: who looks.
            cursor: where the page before ended.
            limit: most lines.

        Raises:
            UsageError: the cursor is none of ours, or its film was erased.
        """
        at, after = _read_place(cursor) if cursor is not None else (self._clock(), None)
        with self._database.read() as session:
            order = self._order(at)
            conditions = [_elsewhere(viewer), *self._conditions(session, wanted, viewer)]
            if after is not None:
                done, waits, risk, received, film_id = order
                conditions.append(tuple_(done, waits, -risk, received, film_id) > self._place(session, at, *after))
            query = self._from(select(FilmRow.id, order[0])).where(*conditions).order_by(*_by_risk(order))
            places = {film_id: int(done) for film_id, done in session.execute(query.limit(limit + 1))}
            ids = list(places)[:limit]
            following = _write_place(session, at, places[ids[-1]], ids[-1]) if len(places) > limit else None
        with self._database.write() as session:
            found = {film.film_id: film for film in film_records(session, select(FilmRow).where(FilmRow.id.in_(ids)))}
            entries = self._entries(session, [found[film_id] for film_id in ids if film_id in found])
            seen = {"films": [entry.film.film_id for entry in entries]}
            append(session, Act(actor=viewer, act="worklist.viewed", subject="", detail=seen), self._clock())
        return WorklistPage(entries=entries, next_cursor=following)

    def entry(self, film_id: str) -> tuple[str, str]:
        """How far a film's reading is, and who holds it now (empty for nobody)."""
        with self._database.read() as session:
            row = session.get(ReadingRow, film_id)
            return ("unread", "") if row is None else (row.status, self._holder(row))

    def following(self, film_id: str | None, *, reader: str) -> str | None:
        """The next film that needs this reader and that nobody else holds, after one; from the top at the end."""
        needed = and_(
            FilmRow.state.in_(READABLE),
            self._reading().in_(OPEN),
            ~self._decided(reader),
            self._free(reader),
            _elsewhere(reader),
        )
        # The film that was just read stands in its old place: one that was passed over doesn't come back at once.
        query = self._from(select(FilmRow.id)).where(or_(needed, FilmRow.id == (film_id or ""))).limit(FOLLOWING)
        with self._database.read() as session:
            order = list(session.scalars(query.order_by(*_by_risk(self._order(self._clock()))[1:])))
        at = order.index(film_id) if film_id in order else -1
        return next(iter([*order[at + 1 :], *order[: max(at, 0)]]), None)

    def claim(self, film_id: str, reader: str) -> str:
        """Hold a film for a while, or hold it longer.

        Returns:
            who holds it now: the reader, or another one who was first.
        """
        with self._database.write() as session:
            if session.get(FilmRow, film_id) is None:
                return ""
            row = session.get(ReadingRow, film_id, with_for_update=True) or ReadingRow(film_id=film_id, status="unread")
            holder = self._holder(row)
            if holder not in ("", reader):
                return holder
            if holder == "":
                append(session, Act(actor=reader, act="film.claimed", subject=film_id), self._clock())
            row.claimed_by, row.claimed_until = reader, self._clock() + self._held_for
            session.add(row)
            return reader

    def release(self, film_id: str, reader: str) -> None:
        """Let a film go; nothing happens when the reader doesn't hold it."""
        with self._database.write() as session:
            row = session.get(ReadingRow, film_id, with_for_update=True)
            if row is not None and row.claimed_by == reader:
                row.claimed_by = row.claimed_until = None
                append(session, Act(actor=reader, act="film.released", subject=film_id), self._clock())

    def seen(self, film_ids: list[str], *, viewer: str) -> None:
        """Write down that somebody was shown these lines."""
        with self._database.write() as session:
            append(session, Act(actor=viewer, act="worklist.viewed", subject="", detail={"films": film_ids}), now())

    def _holder(self, row: ReadingRow) -> str:
        held = row.claimed_until is not None and row.claimed_until > self._clock()
        return row.claimed_by or "" if held else ""

    def _entries(self, session: Session, films: Sequence[FilmRecord]) -> tuple[Entry, ...]:
        ids = [film.film_id for film in films]
        numbers = {film_id: who.accession_number for film_id, who in identities(session, ids).items()}
        rows = {row.film_id: row for row in session.scalars(select(ReadingRow).where(ReadingRow.film_id.in_(ids)))}
        return tuple(self._entry(film, numbers, rows.get(film.film_id)) for film in films)

    def _entry(self, film: FilmRecord, numbers: dict[str, str], row: ReadingRow | None) -> Entry:
        return Entry(
            film=film,
            accession=numbers.get(film.film_id, ""),
            reading=cast(Reading, row.status) if row else "unread",
            held_by=self._holder(row) if row else "",
        )

    def _from(self, query: Select[Any]) -> Select[Any]:
        """Films that came to be read; those that were fetched as priors of others are no work."""
        return query.outerjoin(ReadingRow, ReadingRow.film_id == FilmRow.id).where(FilmRow.origin != PACS)

    def _reading(self) -> ColumnElement[str]:
        return func.coalesce(ReadingRow.status, "unread")

    def _order(self, at: datetime) -> tuple[Any, ...]:
        """What the lines are sorted by at an instant; the risk from the highest, the others from the lowest."""
        done = case((self._reading().in_(OPEN), 0), else_=1)
        waits = case((FilmRow.received_at < at - self._cap, 0), else_=1)
        risk = func.coalesce(_newest(AnswerRow.risk), UNKNOWN_RISK)
        return done, waits, risk, FilmRow.received_at, FilmRow.id

    def _place(self, session: Session, at: datetime, done: int, answer_id: str, film_id: str) -> tuple[Any, ...]:
        """Where a line stood when it ended a page, though it may have been read or answered anew since."""
        received = session.scalar(select(FilmRow.received_at).where(FilmRow.id == film_id))
        answers = session.execute(select(AnswerRow.risk).where(AnswerRow.id == answer_id, AnswerRow.film_id == film_id))
        risks = [risk for (risk,) in answers] if answer_id else [None]
        if received is None or not risks:
            raise UsageError("The film that the page before ended with was erased. Leave the cursor out to begin anew.")
        risk = UNKNOWN_RISK if risks[0] is None else risks[0]
        return done, int(received >= at - self._cap), -risk, received, film_id

    def _free(self, reader: str) -> ColumnElement[bool]:
        return or_(
            ReadingRow.claimed_by.is_(None),
            ReadingRow.claimed_by == reader,
            ReadingRow.claimed_until <= self._clock(),
        )

    def _decided(self, reader: str) -> ColumnElement[bool]:
        """The reader's newest version is a decision."""
        mine, later = aliased(ReviewRow), aliased(ReviewRow)
        same = and_(later.film_id == mine.film_id, later.reader == mine.reader, later.version > mine.version)
        return exists().where(
            mine.film_id == FilmRow.id, mine.reader == reader, mine.decision.in_(FINAL), ~exists().where(same)
        )

    def _conditions(self, session: Session, wanted: Wanted, reader: str) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = [FilmRow.id.is_not(None)]
        if wanted.status == "open":
            found.append(self._reading().in_(OPEN))
        elif wanted.status in (*OPEN, "read", "settled"):
            found.append(self._reading() == wanted.status)
        elif wanted.status:
            found.append(FilmRow.state == wanted.status)
        if wanted.finding:
            found.append(_newest(AnswerRow.label) == wanted.finding)
        if wanted.doubt == "abstained":
            found.append(_newest(AnswerRow.abstained).is_(True))
        elif wanted.doubt == "unsure":
            found.append(_newest(AnswerRow.risk).between(0.25, 0.75))
        if wanted.blind and (wanted.finding or wanted.doubt):
            found.append(FilmRow.id.not_in(to_label(reader)))
        if wanted.mine:
            held = and_(ReadingRow.claimed_by == reader, ReadingRow.claimed_until > self._clock())
            reviewed = exists().where(ReviewRow.film_id == FilmRow.id, ReviewRow.reader == reader)
            found.append(or_(held, reviewed))
        if wanted.accession:
            found.append(FilmRow.id.in_(films_of_accession(session, wanted.accession)))
        return found


def _by_risk(order: tuple[Any, ...]) -> tuple[Any, ...]:
    done, waits, risk, received, film_id = order
    return done, waits, risk.desc(), received, film_id


def _write_place(session: Session, at: datetime, done: int, film_id: str) -> str:
    """A cursor behind a line. It names the answer and not the risk: a reader who goes first must not see that."""
    answer_id = session.scalar(select(_newest(AnswerRow.id)).where(FilmRow.id == film_id)) or ""
    return write_cursor(at, f"{done}.{answer_id}.{film_id}")


def _read_place(cursor: str) -> tuple[datetime, tuple[int, str, str]]:
    """The instant of the first page, and the line that a cursor stands behind; raises UsageError."""
    at, line = read_cursor(cursor)
    done, *rest = line.split(".")
    if done not in ("0", "1") or len(rest) != 2:
        raise bad_cursor()
    return at, (int(done), rest[0], rest[1])


def _elsewhere(reader: str) -> ColumnElement[bool]:
    """Not among what the reader reads in a study: the worklist's order is by risk, which is part of the answer."""
    return FilmRow.id.not_in(films_under_study(reader))


def _newest(column: Any) -> Any:
    """A column of a film's newest answer."""
    return (
        select(column)
        .where(AnswerRow.film_id == FilmRow.id)
        .order_by(AnswerRow.created_at.desc(), AnswerRow.id)
        .limit(1)
        .scalar_subquery()
    )
