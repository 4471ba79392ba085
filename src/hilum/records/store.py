"""The acts on the records, each one transaction."""

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hilum.errors import ServiceError, UsageError
from hilum.records.audit import Act, append
from hilum.records.cursors import read_cursor, write_cursor
from hilum.records.database import Database
from hilum.records.former_films import Former, FormerNeeded, is_former, same_film
from hilum.records.identifiers import identities
from hilum.records.look_ups import NO_PRIORS, PACS, SET_ASIDE, PriorsPolicy, take_up
from hilum.records.queue import Lease, lease_films
from hilum.records.reading import film_records
from hilum.records.recording import FILMS, SAME_UID, SERVICE, has_answer, record, uid_in_use
from hilum.records.request_keys import remember
from hilum.records.schema import SENDER_LENGTH, AnswerRow, FilmRow, HeatmapRow
from hilum.records.turns import AGEING_CAP_S, Turns
from hilum.records.values import (
    Answered,
    Claim,
    FilmRecord,
    HeatmapRecord,
    Identity,
    NewAnswer,
    NewFilm,
    Page,
    Receipt,
    Recorded,
    State,
)

CRASHES_PER_ATTEMPT = 10
UNKNOWN_RISK = 0.5
NEW_FILM = insert(FILMS)

NOBODY: Mapping[str, Sequence[str]] = {}


def now() -> datetime:
    """The instant, in UTC."""
    return datetime.now(UTC)


class Store:
    """Films and their answers.

    Args:
        database: where they are kept.
        clock: gives the instant; tests give their own.
        ageing_cap_s: a routine film that has waited longer is overdue, see :mod:`hilum.records.turns`.
        priors: what is done about earlier films.
    """

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime] = now,
        *,
        ageing_cap_s: float = AGEING_CAP_S,
        priors: PriorsPolicy = NO_PRIORS,
    ) -> None:
        self._database, self._clock, self._priors = database, clock, priors
        self._turns, self._turns_lock = Turns(ageing_cap_s), threading.Lock()
        self.former: Former = "unread"
        """What the records hold of films from before migration 0016, as far as somebody looked."""

    def receive(
        self,
        film: NewFilm,
        *,
        model_sha256: str | None = None,
        actor: str = SERVICE,
        former: Callable[[], str] | None = None,
        lease: Lease | None = None,
        patience_s: float = 0.0,
    ) -> Receipt:
        """Record a film whose bytes are durable; the same content again gives the same id.

        Args:
            film: what came.
            model_sha256: the version in service: a finished film that it has not answered is put back in the queue.
            actor: who sent it, for the audit.
            former: computes what the film's identity was before migration 0016, where a film from then may be the same;
                what it raises goes through, and nothing was recorded. None where nobody can.
            lease: of a worker that takes a new film at once, while no other film waits; None where none does.
            patience_s: how long it may wait for others to share a transaction with.

        Raises:
            ServiceError: the database is away or full; nothing was recorded.
            UsageError: the film's request key was used for another film; nothing was recorded.
        """
        if former is not None and self.former == "unread":
            film, former = replace(film, former_sha256=former()), None
        try:
            return self._recorded(film, model_sha256, actor, lease, patience_s, former_known=former is None)
        except FormerNeeded:
            if former is None:
                raise
            film = replace(film, former_sha256=former())
            return self._recorded(film, model_sha256, actor, lease, former_known=True)

    def _recorded(
        self,
        film: NewFilm,
        model_sha256: str | None,
        actor: str,
        lease: Lease | None,
        patience_s: float = 0.0,
        *,
        former_known: bool,
    ) -> Receipt:
        def receive(session: Session) -> Receipt:
            return self._receive(session, film, model_sha256, actor, lease, former_known)

        try:
            receipt = self._database.share(receive, patience_s=patience_s)
        except IntegrityError:
            # Another process recorded the same film in between: now it is there.
            receipt = self._database.share(receive)
        if receipt.leased:
            with self._turns_lock:
                self._turns.had(film.sender, film.urgent)
        return receipt

    def _receive(
        self,
        session: Session,
        film: NewFilm,
        model_sha256: str | None,
        actor: str,
        lease: Lease | None,
        former_known: bool,
    ) -> Receipt:
        there = same_film(session, film.content_sha256, film.former_sha256)
        uid = film.sop_instance_uid or film.named_uid
        if there is None and not former_known and self.former != "none" and is_former(session, uid):
            raise FormerNeeded
        if there is None:
            receipt = self._receive_new(session, film, actor, lease)
        else:
            receipt = self._receive_again(session, film, session.get_one(FilmRow, there), model_sha256, actor)
        if film.request_key is not None:
            remember(session, film, film.request_key, receipt.film_id, self._clock())
        return receipt

    def _receive_again(
        self, session: Session, film: NewFilm, known: FilmRow, model_sha256: str | None, actor: str
    ) -> Receipt:
        if film.origin != PACS and known.origin == PACS and take_up(known, film.origin):
            self._note(session, actor, "film.requeued", known.id, code="prior")
        finished = film.origin != PACS and known.state in ("answered", "not-analysed")
        known.urgent = known.urgent or film.urgent
        if finished and model_sha256 and not has_answer(session, known.id, model_sha256):
            known.state, known.attempts = "received", 0
            self._note(session, actor, "film.requeued", known.id, model=model_sha256)
        if not known.file_sha256:  # its pixels were erased, and here they are again
            known.file_sha256, known.size = film.file_sha256, film.size
            self._note(session, actor, "film.returned", known.id, sha256=film.file_sha256)
        return Receipt(film_id=known.id, new=False, state=_state(known.state), file_sha256=known.file_sha256)

    def _receive_new(self, session: Session, film: NewFilm, actor: str, lease: Lease | None) -> Receipt:
        clash = uid_in_use(session, film.sop_instance_uid)
        prior = film.origin == PACS and not clash and not self._priors.analysed
        state: State = "quarantined" if clash else "not-analysed" if prior else "received"
        film_id, at = secrets.token_hex(16), self._clock()
        leased = lease is not None and state == "received"
        values: dict[str, Any] = {
            "id": film_id,
            "received_at": at,
            "origin": film.origin,
            "calling_ae": film.calling_ae[:16],
            "format": film.format,
            "content_sha256": film.content_sha256,
            "identity_sha256": film.content_sha256,
            "file_sha256": film.file_sha256,
            "size": film.size,
            "sop_instance_uid": film.sop_instance_uid,
            "sender": film.sender[:SENDER_LENGTH],
            "urgent": film.urgent,
            "state": state,
            "reason_code": "same-uid-other-content" if clash else "",
            "reason": SAME_UID if clash else "",
            **(SET_ASIDE if prior else {}),
            **(lease.taken(at) if lease is not None and leased else {}),
        }
        session.connection().execute(NEW_FILM, values)
        facts = {"origin": film.origin, "sha256": film.file_sha256, "size": film.size, "state": state}
        facts |= {"calling_ae": film.named_ae} if film.named_ae else {}
        self._note(session, actor, "film.received", film_id, **facts)
        return Receipt(film_id=film_id, new=True, state=state, file_sha256=film.file_sha256, leased=leased)

    def _note(self, session: Session, actor: str, act: str, subject: str, **detail: Any) -> None:
        """Write an act down in its own transaction."""
        append(session, Act(actor=actor, act=act, subject=subject, detail=detail), self._clock())

    def claim(self, owner: str, *, lease_s: float, max_attempts: int) -> Claim | None:
        """Lease the film whose turn it is; None when none waits. See :meth:`claims`."""
        return next(iter(self.claims(owner, lease_s=lease_s, max_attempts=max_attempts, most=1)), None)

    def claims(self, owner: str, *, lease_s: float, max_attempts: int, most: int) -> list[Claim]:
        """Lease films that wait, urgent ones first and senders in turn, in one transaction.

        A film whose lease ran out (its worker died) is claimed again. One that was claimed ten times as often as it
        may fail has taken its workers down with it, and fails.
        """

        how, most_claims = Lease(owner=owner, seconds=lease_s), max_attempts * CRASHES_PER_ATTEMPT

        def claims(session: Session) -> list[Claim]:
            def broken(row: FilmRow) -> None:
                reason = f"Work on the film was broken off {row.attempts} times; a person must look at it."
                _close(row, "failed", "crashing", reason)
                self._note(session, SERVICE, "film.failed", row.id, code="crashing", attempts=row.attempts)

            with self._turns_lock:
                return lease_films(
                    session, self._turns, self._clock(), how, most=most, most_claims=most_claims, broken=broken
                )

        return self._database.share(claims)

    def record_answer(self, film_id: str, owner: str, identity: Identity, answer: NewAnswer) -> State | None:
        """Record an answer, its heat maps and who the film is of, in one transaction.

        Returns:
            the film's state now; None when the lease was lost, and another worker's answer counts.
        """
        return self.record_answers(owner, [Answered(film_id=film_id, identity=identity, answer=answer)])[0].state

    def record_answers(
        self, owner: str, answered: Sequence[Answered], viewers: Mapping[str, Sequence[str]] = NOBODY
    ) -> list[Recorded]:
        """Record several answers in one transaction, all or none.

        Args:
            owner: who holds the leases.
            answered: the answers.
            viewers: by film id, who is shown the answer once this has returned; it is in the audit then.

        Returns:
            what came of each.

        Raises:
            ServiceError: the database is away or full, or a film is not in the records; nothing was recorded.
        """

        def recording(some: Sequence[Answered]) -> Callable[[Session], list[Recorded]]:
            wanted = self._priors.wanted
            return lambda session: record(session, owner, some, self._clock(), viewers=viewers, priors=wanted)

        try:
            return self._database.share(recording(answered))
        except IntegrityError:
            # Another process recorded the same UID or answer in between: now it is there, and decides.
            return [self._database.share(recording([one]))[0] for one in answered]

    def record_failure(
        self, film_id: str, owner: str, *, code: str, reason: str, retry_after_s: float | None = None
    ) -> State | None:
        """Record that a film could not be answered.

        Args:
            film_id: the film.
            owner: who holds the lease.
            code: machine-readable reason.
            reason: the same in one sentence, without identifiers.
            retry_after_s: when to try again; None to give up.
        """
        with self._database.write() as session:
            row = _leased(session, film_id, owner)
            if row is None:
                return None
            if retry_after_s is None:
                _close(row, "failed", code, reason)
                self._note(session, SERVICE, "film.failed", film_id, code=code, attempts=row.attempts)
            else:
                row.state, row.lease_owner = "received", None
                row.lease_until = self._clock() + timedelta(seconds=retry_after_s)
                row.reason_code, row.reason = code, reason
            return _state(row.state)

    def requeue(self, film_id: str, *, actor: str) -> State | None:
        """Put a film that failed back into the queue, with all its attempts before it.

        Returns:
            the film's state now; None when the id is unknown.

        Raises:
            UsageError: the film did not fail.
        """
        with self._database.write() as session:
            row = session.get(FilmRow, film_id, with_for_update=True)
            if row is None:
                return None
            if row.state != "failed":
                raise UsageError(f"The film is {row.state}, not failed. Only failed films go back into the queue.")
            self._note(session, actor, "film.requeued", film_id, code=row.reason_code, attempts=row.attempts)
            _close(row, "received")
            row.attempts = 0
            return _state(row.state)

    def renew(self, owner: str, film_ids: Sequence[str], *, lease_s: float) -> int:
        """Prolong the leases on films that their owner still works on.

        Returns:
            how many leases the owner still held.
        """
        with self._database.write() as session:
            mine = update(FilmRow).where(
                FilmRow.id.in_(film_ids), FilmRow.lease_owner == owner, FilmRow.state == "preparing"
            )
            done = session.execute(mine.values(lease_until=self._clock() + timedelta(seconds=lease_s)))
            return int(getattr(done, "rowcount", 0))

    def release(self, owner: str | None = None) -> int:
        """Give back unfinished films: those of one owner (who stops), or all (at the start of the only process)."""
        with self._database.write() as session:
            change = update(FilmRow).where(FilmRow.state == "preparing")
            if owner is not None:
                # Stopped on purpose: that was no attempt.
                change = change.where(FilmRow.lease_owner == owner).values(attempts=FilmRow.attempts - 1)
            done = session.execute(change.values(state="received", lease_owner=None, lease_until=None))
            return int(getattr(done, "rowcount", 0))

    @contextlib.contextmanager
    def _look(self, viewer: str | None) -> Iterator[Session]:
        """A transaction to read in; one that can write down who looks when it is a person."""
        with self._database.read() if viewer is None else self._database.write() as session:
            yield session

    def film(self, film_id: str, *, viewer: str | None = None) -> FilmRecord | None:
        """One film with its newest answer; None when the id is unknown.

        Args:
            film_id: the film.
            viewer: who looks, for the audit; None when it is the service itself.
        """

        def look(session: Session) -> FilmRecord | None:
            records = film_records(session, select(FilmRow).where(FilmRow.id == film_id))
            if records and viewer is not None:
                answer = records[0].answer
                self._note(session, viewer, "film.viewed", film_id, model=answer.model_sha256 if answer else None)
            return records[0] if records else None

        if viewer is not None:
            return self._database.share(look)
        with self._database.read() as session:
            return look(session)

    def films(
        self, *, limit: int = 50, cursor: str | None = None, states: Sequence[State] = (), viewer: str | None = None
    ) -> Page:
        """Films, newest first.

        Args:
            limit: most films.
            cursor: where the page before ended.
            states: only films in these; empty for all.
            viewer: who looks, for the audit.

        Raises:
            UsageError: the cursor is none of ours.
        """
        query = select(FilmRow).order_by(FilmRow.received_at.desc(), FilmRow.id.desc()).limit(limit + 1)
        if cursor is not None:
            when, film_id = read_cursor(cursor)
            same_instant = and_(FilmRow.received_at == when, FilmRow.id < film_id)
            query = query.where(or_(FilmRow.received_at < when, same_instant))
        if states:
            query = query.where(FilmRow.state.in_(states))
        with self._look(viewer) as session:
            records = film_records(session, query)
            if viewer is not None:
                self._note(session, viewer, "films.listed", "", films=[film.film_id for film in records[:limit]])
        more = len(records) > limit
        last = records[limit - 1] if more else None
        return Page(
            films=tuple(records[:limit]), next_cursor=write_cursor(last.received_at, last.film_id) if last else None
        )

    def worklist(self, *, limit: int, waiting_cap: timedelta, viewer: str | None = None) -> tuple[FilmRecord, ...]:
        """Films by risk, highest first, but none waits behind fresher ones for longer than the cap.

        A film whose risk is unknown (still waiting, not analysed, failed) stands in the middle: it is read as it
        would be without a model. Fetched priors are not on it: they were read when they were new.
        """
        risk = (
            select(AnswerRow.risk)
            .where(AnswerRow.film_id == FilmRow.id)
            .order_by(AnswerRow.created_at.desc(), AnswerRow.id)
            .limit(1)
            .scalar_subquery()
        )
        overdue: ColumnElement[int] = case((FilmRow.received_at < self._clock() - waiting_cap, 0), else_=1)
        order = (overdue, func.coalesce(risk, UNKNOWN_RISK).desc(), FilmRow.received_at, FilmRow.id)
        with self._look(viewer) as session:
            films = tuple(
                film_records(session, select(FilmRow).where(FilmRow.origin != PACS).order_by(*order).limit(limit))
            )
            if viewer is not None:
                self._note(session, viewer, "worklist.viewed", "", films=[film.film_id for film in films])
            return films

    def picture_viewed(self, film_id: str, what: str, *, viewer: str) -> None:
        """Write down that somebody is shown a film's picture; the picture is drawn after this is durable.

        Args:
            film_id: the film.
            what: ``film``, or the finding whose heat map it is.
            viewer: who looks.
        """
        with self._database.write() as session:
            self._note(session, viewer, "picture.viewed", film_id, picture=what)

    def heatmap(self, film_id: str, finding: str) -> HeatmapRecord | None:
        """The newest answer's heat map of one finding; None when there is none."""
        newest = (
            select(AnswerRow.id)
            .where(AnswerRow.film_id == film_id)
            .order_by(AnswerRow.created_at.desc(), AnswerRow.id)
            .limit(1)
            .scalar_subquery()
        )
        with self._database.read() as session:
            row = session.scalar(
                select(HeatmapRow).where(HeatmapRow.answer_id == newest, HeatmapRow.finding == finding)
            )
            if row is None:
                return None
            return HeatmapRecord(
                finding=finding, rows=row.rows, columns=row.columns, values=row.values, spread=row.spread
            )

    def accession_numbers(self, film_ids: Sequence[str]) -> dict[str, str]:
        """Accession numbers by film id, for the reader's page alone."""
        with self._database.read() as session:
            found = identities(session, film_ids)
            return {film_id: who.accession_number for film_id, who in found.items() if who.accession_number}

    def counts(self) -> dict[str, int]:
        """Number of films in each state."""
        with self._database.read() as session:
            rows = session.execute(select(FilmRow.state, func.count()).group_by(FilmRow.state))
            return {str(state): int(count) for state, count in rows}

    def ping(self) -> None:
        """Raises ServiceError when the database is away."""
        self._database.ping()


def _leased(session: Session, film_id: str, owner: str) -> FilmRow | None:
    row = session.get(FilmRow, film_id, with_for_update=True)
    if row is None:
        raise ServiceError(f"Film {film_id} is not in the records. It may have been erased.")
    return row if row.lease_owner == owner and row.state == "preparing" else None


def _close(row: FilmRow, state: State, code: str = "", reason: str = "") -> None:
    row.state, row.reason_code, row.reason = state, code, reason
    row.lease_owner = row.lease_until = None


def _state(value: str) -> State:
    return value  # type: ignore[return-value]  # the table's check constraint admits no other
