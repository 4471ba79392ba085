"""A film's story, from its reception to its erasure: what the audit and the records hold of it, in one piece.

What was done is read from the audit, which outlives the film; which model that was, what the gate said and what is
still on its way, from the records. Nothing here says whose the film is.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from hilum.records.audit import Act, append, entries
from hilum.records.database import Database
from hilum.records.identifiers import films_of_accession
from hilum.records.schema import AnswerRow, AuditRow, DeliveryRow, FilmRow, ModelRow
from hilum.records.store import now

FILM_ID = re.compile(r"[0-9a-f]{32}")
LOOKS = (
    "film.viewed",
    "picture.viewed",
    "reviews.viewed",
    "labelling.viewed",
    "worklist.viewed",
    "films.listed",
    "dicom.found",
    "dicom.fetched",
)
"""Acts that only show a film to somebody."""
OF_MANY = ("worklist.viewed", "films.listed", "dicom.found", "dicom.fetched")
"""Those of them whose rows name several films."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One row of the audit about the film."""

    row: int
    """Its place in the audit."""
    at: str
    """When (UTC, RFC 3339)."""
    who: str
    """A user's name, or ``service``, ``dicom``, ``console``."""
    what: str
    """The act, as ``film.answered``."""
    detail: Mapping[str, Any]
    """More of it; of a row about several films without their list."""

    @property
    def look(self) -> bool:
        """Whether the film was only shown to somebody."""
        return self.what in LOOKS


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerTold:
    """One model's answer, as the records have it."""

    model_sha256: str
    """Digest of the bundle."""
    model: str
    """Its name and version; empty where the registry doesn't have them."""
    at: datetime
    """When it was recorded (UTC)."""
    label: str | None
    """The finding; None when it abstained, or did not analyse the film."""
    abstained: bool
    """True when the film went to a person without a label."""
    gate: Mapping[str, Any]
    """Verdict of the intended-use checks: ``analyse``, and ``checks`` with code, outcome and sentence of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultTold:
    """An answer, or a reader's review of it, for one destination."""

    destination: str
    """Its name."""
    model_sha256: str
    """Whose answer."""
    review: bool
    """Whether it is a review."""
    state: str
    """``waiting``, ``sending``, ``sent`` or ``dead``, which is given up."""
    attempts: int
    """How often it was tried."""
    finished_at: datetime | None
    """When it was sent or given up (UTC)."""
    reason: str
    """Why the last attempt failed; empty otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmTold:
    """The film, as the records have it."""

    state: str
    """Where it is."""
    reason: str
    """Why it has no answer; empty otherwise."""
    received_at: datetime
    """When it was acknowledged (UTC)."""
    origin: str
    """Which door it came through."""
    calling_ae: str
    """AE title of who sent it; empty where it came over HTTP."""
    sha256: str
    """Digest of the file; empty when its pixels were erased."""
    answers: tuple[AnswerTold, ...]
    """The oldest first."""
    results: tuple[ResultTold, ...]
    """In the order in which they were queued."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All that is known of one film. No identifiers."""

    film_id: str
    """Its opaque id."""
    film: FilmTold | None
    """None when it was erased: the audit alone tells of it."""
    happenings: tuple[Happening, ...]
    """In the order of the audit."""


def stories(database: Database, named: str, *, viewer: str) -> tuple[Story, ...]:
    """The stories of all films of that name; that they were looked at is in the audit before they are returned.

    Args:
        database: the records, opened with the data keys.
        named: a film's opaque id, an accession number, or a SOP instance UID.
        viewer: who looks.

    Returns:
        one a film, the first received first; none where nothing is known of it.

    Raises:
        ServiceError: the database is away.
    """
    with database.read() as session:
        told = tuple(_story(session, film_id) for film_id in _films(session, named))
    if told:
        with database.write() as session:
            for one in told:
                newest = one.film.answers[-1].model_sha256 if one.film and one.film.answers else None
                detail = {"model": newest, "shown": "history"}
                append(session, Act(actor=viewer, act="film.viewed", subject=one.film_id, detail=detail), now())
    return told


def in_use_instead(database: Database, film_ids: Sequence[str]) -> dict[str, str]:
    """Of films that were set aside, those that bear the same SOP instance UID and are in use: id by id.

    Args:
        database: the records.
        film_ids: of films that were set aside.
    """
    aside, used = aliased(FilmRow), aliased(FilmRow)
    query = (
        select(aside.id, used.id)
        .join(used, used.sop_instance_uid == aside.sop_instance_uid)
        .where(aside.id.in_(film_ids), used.id != aside.id, used.state != "quarantined")
    )
    with database.read() as session:
        return {str(row[0]): str(row[1]) for row in session.execute(query)}


def _films(session: Session, named: str) -> Sequence[str]:
    found = set(films_of_accession(session, named)) if named else set()
    found |= set(session.scalars(select(FilmRow.id).where(FilmRow.sop_instance_uid == named)))
    if FILM_ID.fullmatch(named) and _known(session, named):
        found.add(named)
    when = select(FilmRow.id).where(FilmRow.id.in_(found)).order_by(FilmRow.received_at, FilmRow.id)
    there = list(session.scalars(when))
    return [*there, *sorted(found.difference(there))]


def _known(session: Session, film_id: str) -> bool:
    about = select(AuditRow.seq).where(AuditRow.subject == film_id, AuditRow.act.startswith("film.")).limit(1)
    return session.get(FilmRow, film_id) is not None or session.scalar(about) is not None


def _story(session: Session, film_id: str) -> Story:
    rows = entries(session, subject=film_id)
    there = {row.seq for row in rows}
    if rows:
        # These rows name their films in the text alone; only those since the film is here are read.
        among = AuditRow.body.contains(film_id, autoescape=True)
        seen = select(AuditRow).where(AuditRow.act.in_(OF_MANY), AuditRow.seq > rows[0].seq, among)
        rows += [row for row in session.scalars(seen) if row.seq not in there]  # type: ignore[misc]  # same columns
    happenings = [
        Happening(row=row.seq, at=row.at, who=row.actor, what=row.act, detail=_detail(row.body, film_id))
        for row in sorted(rows, key=lambda row: row.seq)
    ]
    row = session.get(FilmRow, film_id)
    return Story(film_id=film_id, film=None if row is None else _film(session, row), happenings=tuple(happenings))


def _detail(body: str, film_id: str) -> Mapping[str, Any]:
    detail: dict[str, Any] = json.loads(body)["detail"]
    others = detail.get("films")
    if isinstance(others, list) and film_id in others:
        del detail["films"]
    return detail


def _film(session: Session, row: FilmRow) -> FilmTold:
    answers = list(
        session.scalars(
            select(AnswerRow).where(AnswerRow.film_id == row.id).order_by(AnswerRow.created_at, AnswerRow.id)
        )
    )
    models = {
        one.sha256: f"{one.name} {one.version}"
        for one in session.scalars(select(ModelRow).where(ModelRow.sha256.in_({one.model_sha256 for one in answers})))
    }
    by = {one.id: one.model_sha256 for one in answers}
    sent = select(DeliveryRow).where(DeliveryRow.answer_id.in_(by)).order_by(DeliveryRow.created_at, DeliveryRow.id)
    return FilmTold(
        state=row.state,
        reason=row.reason,
        received_at=row.received_at,
        origin=row.origin,
        calling_ae=row.calling_ae,
        sha256=row.file_sha256,
        answers=tuple(_answer(one, models.get(one.model_sha256, "")) for one in answers),
        results=tuple(_result(one, by[one.answer_id]) for one in session.scalars(sent)),
    )


def _answer(row: AnswerRow, model: str) -> AnswerTold:
    return AnswerTold(
        model_sha256=row.model_sha256,
        model=model,
        at=row.created_at,
        label=row.label,
        abstained=row.abstained,
        gate=json.loads(row.assessment).get("gate", {}),
    )


def _result(row: DeliveryRow, model_sha256: str) -> ResultTold:
    return ResultTold(
        destination=row.destination,
        model_sha256=model_sha256,
        review=bool(row.review_id),
        state=row.state,
        attempts=row.attempts,
        finished_at=row.finished_at,
        reason=row.reason,
    )
