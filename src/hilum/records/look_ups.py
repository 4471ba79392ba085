"""Look-ups: for which films a PACS is still to be asked for earlier ones, and which films are priors of which.

A look-up is queued in the transaction that records an answer and leased while it is made, as results on their way are
(:mod:`hilum.records.results_out`). What it found is written down by SOP instance UID before it is fetched: a film is a
prior because it was asked for, whichever association brings it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hilum.errors import UsageError
from hilum.records import leases
from hilum.records.audit import Act, append
from hilum.records.cursors import behind
from hilum.records.database import Database
from hilum.records.identifiers import keep_identity
from hilum.records.schema import FilmRow, LookUpRow, PriorRow
from hilum.records.values import Identity

PACS = "pacs"
"""Origin of films that were fetched as priors."""

LOOK_UP_STATES = ("waiting", "looking", "done", "dead")
"""Where a look-up may be."""

PRIOR = "Fetched as an earlier film of another film's patient; it is shown beside that film and not analysed itself."
OTHER_PATIENT = (
    "The PACS gave this film for a prior, but by its own header it is of another patient; a person must look."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorsPolicy:
    """What a store does about priors."""

    wanted: bool = False
    """Queue a look-up for every film that is answered."""
    analysed: bool = False
    """Have fetched priors answered like other films; they stay off the worklist."""


NO_PRIORS = PriorsPolicy()
"""Of a service without a PACS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookUp:
    """One film whose priors are looked for, leased to whoever looks. No identifiers of patients."""

    film_id: str
    """The film."""
    file_sha256: str
    """Names its file; its header says whose it is."""
    attempts: int
    """How often it was tried, this time included."""
    created_at: datetime
    """When it was queued."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A film that a PACS has and that is a prior."""

    study_instance_uid: str
    """Its study."""
    series_instance_uid: str
    """Its series."""
    sop_instance_uid: str
    """The film."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LostLookUp:
    """A look-up that was given up."""

    film_id: str
    """The film; :meth:`LookUps.requeue` takes it."""
    attempts: int
    """How often it was tried."""
    given_up_at: datetime
    """When it was given up."""
    reason_code: str
    """Machine-readable reason."""
    reason: str
    """The same in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PutOffLookUp:
    """A look-up that could not be made yet and waits to be tried again."""

    film_id: str
    """The film."""
    attempts: int
    """How often it was tried."""
    due_at: datetime
    """When it is tried next (UTC)."""
    reason: str
    """Why the last try failed, in one sentence."""


def queue_look_up(session: Session, film: FilmRow, at: datetime) -> bool:
    """Queue a look-up for a film, inside the transaction that records its answer; False where it makes no sense."""
    if film.format != "dicom" or film.origin == PACS or session.get(LookUpRow, film.id) is not None:
        return False
    session.add(LookUpRow(film_id=film.id, state="waiting", attempts=0, created_at=at, due_at=at))
    return True


SET_ASIDE: Mapping[str, str] = {"state": "not-analysed", "reason_code": "prior", "reason": PRIOR}
"""Columns of a fetched film that is kept as a prior, without an answer."""


def take_up(film: FilmRow, origin: str) -> bool:
    """A film that was fetched as a prior now comes by itself: it is a film like others. True when it waits anew."""
    film.origin = origin
    if film.reason_code != "prior":
        return False
    film.state, film.attempts, film.reason_code, film.reason = "received", 0, "", ""
    return True


def priors_of(session: Session, film_id: str) -> tuple[str, ...]:
    """Ids of the films that are priors of a film and are here, the latest first."""
    there = select(PriorRow.prior_id).where(PriorRow.film_id == film_id, PriorRow.prior_id.is_not(None))
    there = there.order_by(PriorRow.rank, PriorRow.sop_instance_uid)
    return tuple(str(one) for one in session.scalars(there))


class LookUps:
    """The queue of look-ups.

    Args:
        database: where it is kept.
        clock: gives the instant; tests give their own.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database, self._clock = database, clock

    def claim(self, owner: str, *, lease_s: float) -> LookUp | None:
        """Lease the look-up that is due longest; None when none is due."""
        now = self._clock()
        with self._database.write() as session:
            row = leases.claim(
                session, LookUpRow, key=LookUpRow.film_id, working="looking", owner=owner, now=now, lease_s=lease_s
            )
            if row is None:
                return None
            film = session.get_one(FilmRow, row.film_id)
            return LookUp(
                film_id=film.id, file_sha256=film.file_sha256, attempts=row.attempts, created_at=row.created_at
            )

    def want(self, film_id: str, films: Sequence[Wanted]) -> list[Wanted]:
        """Write down what a look-up found.

        Args:
            film_id: whose priors they are.
            films: the latest first.

        Returns:
            what is still to be fetched.
        """
        with self._database.write() as session:
            missing = []
            for rank, one in enumerate(films):
                key = {"film_id": film_id, "sop_instance_uid": one.sop_instance_uid}
                prior = session.get(PriorRow, key) or PriorRow(**key, state="wanted", rank=rank)
                session.add(prior)
                if prior.state != "wanted":
                    continue
                if _here(session, one.sop_instance_uid) is None:
                    missing.append(one)
            return missing

    def expected(self, sop_instance_uid: str) -> bool:
        """Is this film wanted as a prior, and not here yet?"""
        with self._database.read() as session:
            wanted = select(PriorRow.film_id).where(
                PriorRow.sop_instance_uid == sop_instance_uid, PriorRow.state == "wanted"
            )
            return session.scalar(wanted.limit(1)) is not None

    def arrived(self, film_id: str) -> list[tuple[str, str]]:
        """Wanted priors of a film that are here and not yet looked at: their ids and what names their files."""
        with self._database.read() as session:
            wanted = session.scalars(
                select(PriorRow.sop_instance_uid).where(PriorRow.film_id == film_id, PriorRow.state == "wanted")
            )
            here = [row for uid in list(wanted) if (row := _here(session, uid)) is not None]
            return [(row.id, row.file_sha256) for row in here]

    def link(
        self, film_id: str, prior_id: str, *, study_instance_uid: str, patient_id: str, accession_number: str
    ) -> None:
        """Write down that one film is a prior of another, and who it is of: nobody else reads a film set aside."""
        with self._database.write() as session:
            prior, row = self._pair(session, film_id, prior_id)
            row.state, row.prior_id = "there", prior.id
            if prior.origin == PACS:
                prior.study_instance_uid = study_instance_uid[:64]
                who = Identity(
                    sop_instance_uid=prior.sop_instance_uid,
                    study_instance_uid=prior.study_instance_uid,
                    patient_id=patient_id,
                    accession_number=accession_number,
                )
                keep_identity(session, prior.id, who)
            self._note(session, "prior.linked", film_id, prior=prior.id)

    def refuse(self, film_id: str, prior_id: str, *, code: str, reason: str) -> None:
        """Write down that a film is no prior after all; one that came for this alone is quarantined."""
        with self._database.write() as session:
            prior, row = self._pair(session, film_id, prior_id)
            row.state = "refused"
            if prior.origin == PACS:
                prior.state, prior.reason_code, prior.reason = "quarantined", code[:32], reason
            self._note(session, "prior.refused", film_id, prior=prior.id, code=code)

    def done(self, film_id: str, owner: str, *, code: str = "", reason: str = "") -> bool:
        """Record that a look-up was made, with what kept it from finding anything; False when the lease was lost."""
        with self._database.write() as session:
            row = _leased(session, film_id, owner)
            if row is not None:
                leases.finish(row, "done", self._clock(), code, reason)
                self._note(session, "priors.looked-up", film_id, priors=len(priors_of(session, film_id)), code=code)
            return row is not None

    def failed(self, film_id: str, owner: str, *, code: str, reason: str, retry_after_s: float | None) -> bool:
        """Record that a look-up could not be made.

        Args:
            film_id: the film.
            owner: who holds the lease.
            code: machine-readable reason.
            reason: the same in one sentence, without identifiers.
            retry_after_s: when to try again; None gives it up.

        Returns:
            False when the lease was lost.
        """
        with self._database.write() as session:
            row, how = _leased(session, film_id, owner), {"code": code, "reason": reason}
            if row is not None and leases.fail(row, self._clock(), **how, retry_after_s=retry_after_s):
                self._note(session, "priors.given-up", film_id, code=code[: leases.REASON_CODE])
            return row is not None

    def release(self, owner: str | None = None) -> int:
        """Give back what is being looked for: by one owner (who stops), or by all (at the only process's start)."""
        with self._database.write() as session:
            return leases.release(session, LookUpRow, working="looking", owner=owner)

    def age_s(self, look_up: LookUp) -> float:
        """Seconds since it was queued, or put back into the queue."""
        return (self._clock() - look_up.created_at).total_seconds()

    def next_due_in(self) -> float | None:
        """Seconds until something is due, 0 or more; None when nothing waits."""
        with self._database.read() as session:
            return leases.due_in(session, LookUpRow, now=self._clock())

    def counts(self) -> dict[str, int]:
        """Number of look-ups by state."""
        with self._database.read() as session:
            rows = session.execute(select(LookUpRow.state, func.count()).group_by(LookUpRow.state))
            return {str(state): int(number) for state, number in rows}

    def lost(self, *, limit: int = 100, cursor: str | None = None) -> tuple[LostLookUp, ...]:
        """What was given up, the latest first.

        Args:
            limit: most of it.
            cursor: only what is behind it, as :func:`hilum.records.cursors.write_cursor` makes it of a look-up.

        Raises:
            UsageError: the cursor is none of ours.
        """
        query = select(LookUpRow).where(LookUpRow.state == "dead")
        if cursor is not None:
            query = query.where(behind(cursor, LookUpRow.finished_at, LookUpRow.film_id))
        with self._database.read() as session:
            return tuple(
                LostLookUp(
                    film_id=row.film_id,
                    attempts=row.attempts,
                    given_up_at=row.finished_at or row.created_at,
                    reason_code=row.reason_code,
                    reason=row.reason,
                )
                for row in session.scalars(query.order_by(LookUpRow.finished_at.desc(), LookUpRow.film_id).limit(limit))
            )

    def put_off(self, *, limit: int = 100) -> tuple[PutOffLookUp, ...]:
        """What was tried and waits, next due first."""
        query = select(LookUpRow).where(LookUpRow.state == "waiting", LookUpRow.attempts > 0, LookUpRow.reason != "")
        with self._database.read() as session:
            return tuple(
                PutOffLookUp(film_id=row.film_id, attempts=row.attempts, due_at=row.due_at, reason=row.reason)
                for row in session.scalars(query.order_by(LookUpRow.due_at, LookUpRow.film_id).limit(limit))
            )

    def requeue(self, film_id: str | None = None, *, actor: str = "service") -> int:
        """Look again, at once, for the priors of a film whose look-up was given up or is done, or of all that failed.

        Args:
            film_id: one film; None for all that were given up, and for what waits for its next attempt.
            actor: who asked for it, for the audit.

        Raises:
            UsageError: no finished look-up is of this film.
        """
        now = self._clock()
        wanted = select(LookUpRow).where(leases.put_off_or_given_up(LookUpRow, now))
        if film_id is not None:
            wanted = select(LookUpRow).where(LookUpRow.state.in_(("dead", "done")), LookUpRow.film_id == film_id)
        with self._database.write() as session:
            rows = list(session.scalars(wanted))
            leases.start_anew(rows, now)
            for row in rows:
                row.reason_code = row.reason = ""
                append(session, Act(actor=actor, act="priors.requeued", subject=row.film_id), now)
        if film_id is not None and not rows:
            raise UsageError(f"No finished look-up is of a film {film_id!r}. hilum pacs list names those given up.")
        return len(rows)

    def priors_of(self, film_id: str) -> tuple[str, ...]:
        """Ids of the films that are priors of a film and are here, the latest first."""
        with self._database.read() as session:
            return priors_of(session, film_id)

    def _pair(self, session: Session, film_id: str, prior_id: str) -> tuple[FilmRow, PriorRow]:
        prior = session.get_one(FilmRow, prior_id)
        key = {"film_id": film_id, "sop_instance_uid": prior.sop_instance_uid}
        return prior, session.get_one(PriorRow, key)

    def _note(self, session: Session, act: str, film_id: str, **detail: Any) -> None:
        append(session, Act(actor="service", act=act, subject=film_id, detail=detail), self._clock())


def _here(session: Session, sop_instance_uid: str) -> FilmRow | None:
    return session.scalar(
        select(FilmRow).where(FilmRow.sop_instance_uid == sop_instance_uid, FilmRow.state != "quarantined").limit(1)
    )


def _leased(session: Session, film_id: str, owner: str) -> LookUpRow | None:
    row = session.get(LookUpRow, film_id)
    return row if leases.held(row, working="looking", owner=owner) else None
