"""Reader studies on the service's own pages: who reads what next, what may be seen meanwhile, and what was said.

A study has slots, one for each reading to be done, in each reader's own order. A reader is always at the first slot
without a final opinion; what was said is never changed, and there is no way back. A later session opens when the
wash-out has passed since the last opinion of the one before. Until a reader has read every slot, or the study is
closed, its films are covered to that reader everywhere else.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import exists, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hilum.errors import UsageError, nearest
from hilum.records.access import NAME
from hilum.records.audit import Act, append
from hilum.records.creations import Request, made_before, remember
from hilum.records.cursors import behind
from hilum.records.database import Database
from hilum.records.reviews import Conflict
from hilum.records.roles import scopes_of
from hilum.records.schema import AnswerRow, FilmRow, UserRow
from hilum.records.store import now
from hilum.records.study_places import films_under_study, place_of, protocol_of
from hilum.records.study_schema import ReaderStudyRow, StudyOpinionRow, StudySlotRow
from hilum.records.study_values import Place, Protocol, Said, StudySlot, StudyState, washout_sentence


class ReaderStudies:
    """The acts on reader studies, each one transaction.

    Args:
        database: where they are kept.
        clock: gives the instant; tests give their own.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime] = now) -> None:
        self._database, self._clock = database, clock

    def create(
        self,
        protocol: Protocol,
        sessions: Mapping[str, Sequence[Sequence[StudySlot]]],
        *,
        actor: str,
        request: Request | None = None,
    ) -> StudyState:
        """Register a study; nothing of it can be changed afterwards.

        Args:
            protocol: how it is read.
            sessions: by reader the sessions, each in the order of reading.
            actor: who registers it.
            request: the same request again registers no second one; None for one without a key.

        Raises:
            UsageError: the name is taken; a reader is no user who may review; a film is not in the records, has no
                answer, is there twice in an arm, or belongs to another open study of the reader.
        """
        with self._database.write() as session:
            at = self._clock()
            if (before := made_before(session, request, at)) is None:
                self._register(session, protocol, sessions, actor, at)
                remember(session, request, protocol.name, at)
            row = _existing(session, before or protocol.name)
            session.flush()
            return self._state(session, row)

    def _register(
        self,
        session: Session,
        protocol: Protocol,
        sessions: Mapping[str, Sequence[Sequence[StudySlot]]],
        actor: str,
        at: datetime,
    ) -> None:
        if session.get(ReaderStudyRow, protocol.name) is not None:
            raise UsageError(f"There is a reader study {protocol.name!r} already. Choose another name.")
        if protocol.question not in protocol.findings:
            raise UsageError(
                f"The question {protocol.question!r} is none of the findings. "
                f"{nearest(protocol.question, protocol.findings)}"
            )
        for reader in sessions:
            _reader(session, reader)
        films = _films(session, sorted({slot.film for both in sessions.values() for one in both for slot in one}))
        session.add(
            ReaderStudyRow(
                name=protocol.name,
                plan_sha256=protocol.plan_sha256,
                question=protocol.question,
                findings=json.dumps(protocol.findings),
                answer=protocol.answer,
                priors=protocol.priors,
                washout_days=protocol.washout_days,
                created_at=at,
                created_by=actor,
            )
        )
        session.flush()
        for reader, both in sessions.items():
            _lay_out(session, protocol.name, reader, both, films)
        detail = {
            "plan": protocol.plan_sha256,
            "readers": sorted(sessions),
            "films": len(films),
            "answer": protocol.answer,
            "priors": protocol.priors,
            "washout_days": protocol.washout_days,
        }
        append(session, Act(actor=actor, act="reader-study.created", subject=protocol.name, detail=detail), at)

    def close(self, name: str, *, actor: str) -> None:
        """End a study, read or not: its films are no longer covered, and no opinion is taken any more.

        Raises:
            UsageError: no such study.
        """
        with self._database.write() as session:
            row = _existing(session, name)
            if row.closed_at is None:
                row.closed_at = self._clock()
                append(session, Act(actor=actor, act="reader-study.closed", subject=name), row.closed_at)

    def all(self, *, limit: int | None = None, cursor: str | None = None) -> tuple[StudyState, ...]:
        """Every study with its readers, the newest first.

        Args:
            limit: most of them; None for all.
            cursor: only those behind it, as :func:`hilum.records.cursors.write_cursor` makes it of a study.

        Raises:
            UsageError: the cursor is none of ours.
        """
        query = select(ReaderStudyRow).order_by(ReaderStudyRow.created_at.desc(), ReaderStudyRow.name).limit(limit)
        if cursor is not None:
            query = query.where(behind(cursor, ReaderStudyRow.created_at, ReaderStudyRow.name))
        with self._database.read() as session:
            return tuple(self._state(session, row) for row in session.scalars(query))

    def of(self, reader: str) -> tuple[Place, ...]:
        """Where a reader is in each open study, the oldest first."""
        mine = exists().where(StudySlotRow.study == ReaderStudyRow.name, StudySlotRow.reader == reader)
        query = select(ReaderStudyRow).where(ReaderStudyRow.closed_at.is_(None), mine)
        with self._database.read() as session:
            rows = session.scalars(query.order_by(ReaderStudyRow.created_at, ReaderStudyRow.name))
            return tuple(place_of(session, row, reader, self._clock()) for row in rows)

    def at(self, name: str, reader: str) -> Place | None:
        """Where a reader is in a study; None when there is no open study of this name that they read in."""
        return next((place for place in self.of(reader) if place.protocol.name == name), None)

    def opened(self, place: Place, reader: str) -> None:
        """Write down that the present film was shown to its reader."""
        detail = {"study": place.protocol.name, "session": place.session, "position": place.position, "arm": place.arm}
        act = Act(
            actor=reader, act="reader-study.opened", subject=place.film_id, detail=detail | {"answer": place.reveals}
        )
        with self._database.write() as session:
            append(session, act, self._clock())

    def say(self, name: str, reader: str, said: Said) -> Place:
        """Record an opinion of the present film.

        Returns:
            where the reader is now.

        Raises:
            UsageError: no such open study of this reader, the session has not opened, or a value is none.
            Conflict: the opinion is of another film than the present one, or was recorded already.
        """
        try:
            with self._database.write() as session:
                return self._say(session, name, reader, said)
        except IntegrityError:
            raise Conflict("This opinion was recorded at the same moment. Load the page again.") from None

    def _say(self, session: Session, name: str, reader: str, said: Said) -> Place:
        row, at = session.get(ReaderStudyRow, name), self._clock()
        if row is None or row.closed_at is not None:
            raise UsageError("There is no open reader study of this name. See /reader-study for yours.")
        place = place_of(session, row, reader, at)
        if not place.films:
            raise UsageError("You don't read in this study. See /reader-study for yours.")
        if place.opens_at is not None:
            raise UsageError(washout_sentence(place))
        if (said.session, said.position, said.stage) != (place.session, place.position, place.stage):
            raise Conflict(
                "That film is not the present one of the study: an opinion that is recorded is not changed, and films "
                "are read in their order. Load the page again."
            )
        if said.finding not in place.protocol.findings:
            raise UsageError(
                f"{said.finding!r} is no finding of the study. {nearest(said.finding, place.protocol.findings)}"
            )
        if not 0 <= said.rating <= 100:
            raise UsageError(f"The confidence is {said.rating}, but goes from 0 (certainly not) to 100 (certainly).")
        opinion = StudyOpinionRow(
            study=name,
            reader=reader,
            session=said.session,
            position=said.position,
            stage=said.stage,
            finding=said.finding,
            rating=said.rating,
            seconds=said.seconds,
            model_sha256=_newest_model(session, place.film_id) if place.reveals else None,
            shown=json.dumps(dict(said.shown), sort_keys=True) if said.shown else "",
            created_at=at,
        )
        session.add(opinion)
        session.flush()
        detail = {"study": name, "session": said.session, "position": said.position, "arm": place.arm}
        more = {"stage": said.stage, "finding": said.finding, "rating": said.rating, "model": opinion.model_sha256}
        act = Act(actor=reader, act="reader-study.read", subject=place.film_id, detail=detail | more)
        append(session, act, at)
        return place_of(session, row, reader, at)

    def sight(self, film_ids: Sequence[str], reader: str) -> tuple[frozenset[str], frozenset[str]]:
        """Which of these films' answers a reader's open studies cover, and which one they show just now."""
        if not film_ids:
            return frozenset(), frozenset()
        with self._database.read() as session:
            studied = frozenset(session.scalars(films_under_study(reader).where(StudySlotRow.film_id.in_(film_ids))))
        if not studied:
            return frozenset(), frozenset()
        shown = frozenset(place.film_id for place in self.of(reader) if place.reveals) & studied
        return studied - shown, shown

    def under_study(self, film_id: str, reader: str) -> bool:
        """Whether a reader has to read this film in an open study, and so nowhere else."""
        with self._database.read() as session:
            found = session.scalar(films_under_study(reader).where(StudySlotRow.film_id == film_id).limit(1))
            return found is not None

    def reads(self, reader: str) -> bool:
        """Whether a reader has films left to read in an open study."""
        with self._database.read() as session:
            return session.scalar(films_under_study(reader).limit(1)) is not None

    def _state(self, session: Session, row: ReaderStudyRow) -> StudyState:
        query = select(StudySlotRow.reader).where(StudySlotRow.study == row.name).distinct()
        readers = session.scalars(query.order_by(StudySlotRow.reader)).all()
        return StudyState(
            protocol=protocol_of(row),
            created_at=row.created_at,
            closed_at=row.closed_at,
            readers={reader: place_of(session, row, reader, self._clock()) for reader in readers},
        )


def _existing(session: Session, name: str) -> ReaderStudyRow:
    row = session.get(ReaderStudyRow, name)
    if row is None:
        raise UsageError(f"There is no reader study {name!r}. GET /api/v1/reader-studies lists them.")
    return row


def _reader(session: Session, name: str) -> None:
    user = session.get(UserRow, name) if NAME.fullmatch(name) else None
    if user is None or user.disabled_at is not None or "reviews:write" not in scopes_of(user.roles.split()):
        raise UsageError(f"{name!r} is no user who may review. Make one with the role reviewer first.")


def _films(session: Session, names: Sequence[str]) -> dict[str, str]:
    """Ids in the records of films that are named by them or by their files' SHA-256."""
    found: dict[str, str] = {}
    answered = exists().where(AnswerRow.film_id == FilmRow.id)
    for start in range(0, len(names), 400):
        part = names[start : start + 400]
        query = select(FilmRow.id, FilmRow.file_sha256, answered)
        for film_id, digest, known in session.execute(
            query.where(or_(FilmRow.id.in_(part), FilmRow.file_sha256.in_(part)))
        ):
            if not known:
                raise UsageError(f"The film {film_id} has no answer yet. Wait until it is answered, or leave it out.")
            found |= {name: film_id for name in (film_id, digest) if name in part}
    missing = [name for name in names if name not in found]
    if missing:
        raise UsageError(
            f"{len(missing)} of {len(names)} films are not in the records, such as {missing[0][:64]!r}. Send them to "
            "the service first, and name films by the SHA-256 of their files."
        )
    return found


def _lay_out(
    session: Session, study: str, reader: str, both: Sequence[Sequence[StudySlot]], films: Mapping[str, str]
) -> None:
    """Write a reader's slots."""
    taken = set(session.scalars(films_under_study(reader)))
    if any(films[slot.film] in taken for one in both for slot in one):
        raise UsageError(f"{reader!r} reads some of these films in another open study. Close that one first.")
    once = {(films[slot.film], slot.arm) for one in both for slot in one}
    if len(once) != sum(len(one) for one in both):
        raise UsageError(f"The sessions of {reader!r} hold a film twice in the same arm. Make the plan again.")
    for number, one in enumerate(both, 1):
        for position, slot in enumerate(one, 1):
            session.add(
                StudySlotRow(
                    study=study,
                    reader=reader,
                    session=number,
                    position=position,
                    film_id=films[slot.film],
                    film_name=slot.film,
                    arm=slot.arm,
                )
            )
    session.flush()


def _newest_model(session: Session, film_id: str) -> str | None:
    newest = select(AnswerRow.model_sha256).where(AnswerRow.film_id == film_id)
    return session.scalar(newest.order_by(AnswerRow.created_at.desc(), AnswerRow.id).limit(1))
