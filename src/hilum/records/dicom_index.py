"""What DICOMweb finds: one row for each film that names itself, and for each result of one.

Results are not kept: their UIDs are derived, so a row says which object can be made, and fetching it makes the same
bytes as sending it did. Headers hold identifiers of patients; they lie here, apart from results.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, delete, exists, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hilum.records.audit import Act, append
from hilum.records.database import Database
from hilum.records.results_out import Delivery, answer_as_sent
from hilum.records.schema import AnswerRow, DicomObjectRow, FilmRow, FollowerRow, HeatmapRow, ReviewRow
from hilum.records.store import now
from hilum.records.values import FINISHED, WAITING

FILM = "film"
"""The kind of object that is a film; the others are kinds of results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomObject:
    """One object that is found and fetched."""

    sop_instance_uid: str
    """SOP Instance UID."""
    study_instance_uid: str
    """Study Instance UID."""
    series_instance_uid: str
    """Series Instance UID."""
    sop_class_uid: str
    """SOP Class UID."""
    kind: str
    """``film``, ``report``, ``heatmap`` or ``verified-report``."""
    film_id: str
    """The film, or the one that it is a result of."""
    answer_id: str = ""
    """The answer that it tells; empty for a film."""
    review_id: str = ""
    """The review that it tells; empty for what is no review."""
    modality: str = ""
    """Modality."""
    study_date: str = ""
    """Study Date, ``YYYYMMDD``; empty where there is none."""
    header: Mapping[str, Any] = field(default_factory=dict)
    """What is kept of the film's header, in the DICOM JSON model; the same for its results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownAnswer:
    """What the records know of an answer whose results may be found."""

    id: str
    """Opaque id."""
    model_sha256: str
    """The model's version."""
    label: str | None
    """What it says; None when it abstained."""
    drawable: bool
    """Whether it says how a heat map is drawn over its film."""
    maps: tuple[str, ...]
    """Findings that it has a heat map of."""
    reviews: tuple[str, ...]
    """Ids of the reviews that judged it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the records know of a film that may be found."""

    usable: bool
    """False when it is no DICOM film, was set aside, or is erased."""
    file_sha256: str
    """Names its file."""
    film: DicomObject | None
    """Its own row; None before its header was read."""
    content_sha256: str
    """Digest of its content, from which its results' UIDs are derived."""
    answers: tuple[KnownAnswer, ...]
    """Its answers, where it was analysed."""
    waiting: bool = False
    """Whether it is still to be answered: then another event will come."""
    was_read: bool = False
    """Whether the film was read whole, and so is known to be sound."""


NOTHING = Known(usable=False, file_sha256="", content_sha256="", film=None, answers=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrowing:
    """What of a search the database can do by itself."""

    study_uids: tuple[str, ...] = ()
    """One of these; empty for any."""
    series_uids: tuple[str, ...] = ()
    """One of these; empty for any."""
    sop_uids: tuple[str, ...] = ()
    """One of these; empty for any."""
    dates: tuple[str, str] | None = None
    """First and last Study Date, ``YYYYMMDD``, either may be empty; None for any."""


class DicomIndex:
    """The rows.

    Args:
        database: where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def place(self, follower: str) -> int:
        """How far a follower has followed the events."""
        with self._database.read() as session:
            return session.connection().execute(_PLACE, {"follower": follower}).scalar() or 0

    def known(self, film_id: str) -> Known:
        """What there is of a film."""
        return self.known_all([film_id])[film_id]

    def known_all(self, film_ids: Sequence[str]) -> dict[str, Known]:
        """What there is of films, in a few queries however many they are."""
        with self._database.read() as session:
            connection = session.connection()
            films = {row.id: row for row in connection.execute(_FILMS, {"these": film_ids})}
            wanted = [film_id for film_id, row in films.items() if _usable(row)]
            answers = _known_answers(connection, wanted)
            own = {row.film_id: row for row in connection.execute(_OWN, {"these": wanted})} if wanted else {}
        found = dict.fromkeys(film_ids, NOTHING)
        for film_id in wanted:
            found[film_id] = _known(films[film_id], own.get(film_id), answers[film_id])
        return found

    def unlisted(self, after: str = "", *, most: int = 100) -> list[str]:
        """Films that were read and could be found, and are not: by id, so many behind one.

        What was passed over when its header could not be read is among them, for somebody who tries again.
        """
        listed = exists().where(DicomObjectRow.film_id == FilmRow.id, DicomObjectRow.kind == FILM)
        query = (
            select(FilmRow)
            .where(FilmRow.id > after, FilmRow.format == "dicom", FilmRow.state.in_(FINISHED), ~listed)
            .order_by(FilmRow.id)
            .limit(most)
        )
        with self._database.read() as session:
            return [row.id for row in session.scalars(query) if _usable(row)]

    def put(
        self, objects: Iterable[DicomObject], *, gone: Sequence[str] = (), follower: str = "", place: int = 0
    ) -> None:
        """Add what is not there yet, and take away what no longer is, in one transaction.

        Args:
            objects: what is to be found.
            gone: films of which nothing is to be found any more.
            follower: who followed the events to find this out; empty for nobody.
            place: how far.
        """
        objects = tuple(objects)
        try:
            self._put(objects, gone, follower, place)
        except IntegrityError:  # another process added one of them in between: now it is there
            self._put(objects, gone, follower, place)

    def _put(self, objects: Sequence[DicomObject], gone: Sequence[str], follower: str, place: int) -> None:
        with self._database.write() as session:
            if gone:
                session.execute(delete(DicomObjectRow).where(DicomObjectRow.film_id.in_(gone)))
            new = self._new(session, objects)
            if new:
                session.connection().execute(insert(_TABLE), [_row(one) for one in new])
            if follower:
                _go_on(session, follower, place)

    def _new(self, session: Session, objects: Sequence[DicomObject]) -> list[DicomObject]:
        """Those that are not there yet, each once, and whose film still is."""
        if not objects:
            return []
        wanted = {one.sop_instance_uid: one for one in objects}
        connection = session.connection()
        there = set(connection.execute(_THERE, {"these": list(wanted)}).scalars())
        films = set(connection.execute(_STILL, {"these": list({one.film_id for one in objects})}).scalars())
        return [one for uid, one in wanted.items() if uid not in there and one.film_id in films]

    def study_uids(self, narrowing: Narrowing, *, offset: int, limit: int) -> list[str]:
        """Studies by date, the newest first, so many behind so many."""
        query = (
            select(DicomObjectRow.study_instance_uid)
            .where(*_where(narrowing))
            .group_by(DicomObjectRow.study_instance_uid)
            .order_by(func.max(DicomObjectRow.study_date).desc(), DicomObjectRow.study_instance_uid)
            .offset(offset)
            .limit(limit)
        )
        with self._database.read() as session:
            return list(session.scalars(query))

    def objects(self, study_uids: Sequence[str]) -> dict[str, list[DicomObject]]:
        """Everything of some studies, films before results, by study in the order given."""
        query = (
            select(DicomObjectRow)
            .where(DicomObjectRow.study_instance_uid.in_(study_uids))
            .order_by(DicomObjectRow.kind != FILM, DicomObjectRow.series_instance_uid, DicomObjectRow.sop_instance_uid)
        )
        found: dict[str, list[DicomObject]] = {uid: [] for uid in study_uids}
        with self._database.read() as session:
            rows = list(session.scalars(query))
        headers = {row.film_id: _header(row) for row in rows if row.kind == FILM}
        for row in rows:
            found[row.study_instance_uid].append(_object(row, headers.get(row.film_id, {})))
        return found

    def answer(self, one: DicomObject) -> tuple[str, Delivery]:
        """What a result is made from: its film's file, and the answer or review."""
        with self._database.read() as session:
            film = session.get_one(FilmRow, one.film_id)
            return film.file_sha256, answer_as_sent(session, one.answer_id, one.review_id)

    def file_of(self, film_id: str) -> str:
        """Names a film's file; empty when it is gone."""
        with self._database.read() as session:
            return session.scalar(select(FilmRow.file_sha256).where(FilmRow.id == film_id)) or ""

    def looked(self, viewer: str, act: str, objects: Sequence[DicomObject], **detail: Any) -> None:
        """Write down that somebody is shown objects, before they are.

        Args:
            viewer: who.
            act: ``dicom.found`` or ``dicom.fetched``.
            objects: which.
            detail: more of it; no identifiers.
        """
        films = sorted({one.film_id for one in objects})
        subject = films[0] if len(films) == 1 else ""
        shown: dict[str, Any] = {"films": films, "kinds": sorted({one.kind for one in objects}), **detail}
        with self._database.write() as session:
            append(session, Act(actor=viewer, act=act, subject=subject, detail=shown), now())


_TABLE: Any = DicomObjectRow.__table__
_THESE: Any = bindparam("these", expanding=True)
# Made once, and without mapped objects: to put a statement together takes longer than to run it.
_FILMS = select(
    FilmRow.id,
    FilmRow.format,
    FilmRow.state,
    FilmRow.file_sha256,
    FilmRow.content_sha256,
    FilmRow.sop_instance_uid,
    FilmRow.reason_code,
).where(FilmRow.id.in_(_THESE))
_ANSWERS = select(AnswerRow.id, AnswerRow.film_id, AnswerRow.model_sha256, AnswerRow.label, AnswerRow.assessment).where(
    AnswerRow.film_id.in_(_THESE), AnswerRow.risk.is_not(None)
)
_DRAWN = select(HeatmapRow.answer_id, HeatmapRow.finding).where(HeatmapRow.answer_id.in_(_THESE))
_JUDGED = select(ReviewRow.id, ReviewRow.film_id, ReviewRow.model_sha256).where(ReviewRow.film_id.in_(_THESE))
_OWN = select(_TABLE).where(_TABLE.c.film_id.in_(_THESE), _TABLE.c.kind == FILM)
_THERE = select(_TABLE.c.sop_instance_uid).where(_TABLE.c.sop_instance_uid.in_(_THESE))
_STILL = select(FilmRow.id).where(FilmRow.id.in_(_THESE))
_PLACE = select(FollowerRow.place).where(FollowerRow.name == bindparam("follower"))
_GO_ON: Any = update(FollowerRow).where(FollowerRow.name == bindparam("follower")).values(place=bindparam("to"))


def _go_on(session: Session, follower: str, place: int) -> None:
    connection = session.connection()
    there = connection.execute(_PLACE, {"follower": follower}).scalar()
    if there is None:
        session.add(FollowerRow(name=follower, place=place))
    elif place > there:
        connection.execute(_GO_ON, {"follower": follower, "to": place})


def _usable(film: Any) -> bool:
    """A film that was read knows its UID until its identifiers are erased; then its file may lie there longer."""
    forgotten = film.state in FINISHED and film.sop_instance_uid is None
    return film.format == "dicom" and film.state != "quarantined" and bool(film.file_sha256) and not forgotten


def _known_answers(connection: Connection, film_ids: Sequence[str]) -> dict[str, list[KnownAnswer]]:
    """Answers of analysed films, by film."""
    rows = connection.execute(_ANSWERS, {"these": film_ids}).all() if film_ids else []
    maps: dict[str, list[str]] = {row.id: [] for row in rows}
    for answer_id, finding in connection.execute(_DRAWN, {"these": list(maps)}) if maps else ():
        maps[answer_id].append(finding)
    reviews: dict[tuple[str, str], list[str]] = {(row.film_id, row.model_sha256): [] for row in rows}
    for review_id, film_id, model_sha256 in connection.execute(_JUDGED, {"these": film_ids}) if rows else ():
        reviews.get((film_id, model_sha256 or ""), []).append(review_id)
    found: dict[str, list[KnownAnswer]] = {film_id: [] for film_id in film_ids}
    for row in rows:
        found[row.film_id].append(
            KnownAnswer(
                id=row.id,
                model_sha256=row.model_sha256,
                label=row.label,
                # Names of the assessment's own; to parse all of it would cost more than the rest.
                drawable='"preprocessing":' in row.assessment and '"heatmap_top":' in row.assessment,
                maps=tuple(maps[row.id]),
                reviews=tuple(reviews[row.film_id, row.model_sha256]),
            )
        )
    return found


def _known(film: Any, own: Any, answers: Sequence[KnownAnswer]) -> Known:
    return Known(
        usable=True,
        file_sha256=film.file_sha256,
        content_sha256=film.content_sha256,
        film=_object(own, _header(own)) if own else None,
        answers=tuple(answers),
        waiting=film.state in WAITING,
        was_read=film.state in ("answered", "not-analysed") and film.reason_code != "prior",
    )


def _row(one: DicomObject) -> dict[str, Any]:
    return {
        "sop_instance_uid": one.sop_instance_uid,
        "study_instance_uid": one.study_instance_uid,
        "series_instance_uid": one.series_instance_uid,
        "sop_class_uid": one.sop_class_uid,
        "kind": one.kind,
        "film_id": one.film_id,
        "answer_id": one.answer_id,
        "review_id": one.review_id,
        "modality": one.modality[:16],
        "study_date": one.study_date[:8],
        "header": json.dumps(one.header, separators=(",", ":")) if one.kind == FILM else "",
    }


def _header(row: DicomObjectRow) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(row.header) if row.header else {}
    return header


def _object(row: DicomObjectRow, header: Mapping[str, Any]) -> DicomObject:
    return DicomObject(
        sop_instance_uid=row.sop_instance_uid,
        study_instance_uid=row.study_instance_uid,
        series_instance_uid=row.series_instance_uid,
        sop_class_uid=row.sop_class_uid,
        kind=row.kind,
        film_id=row.film_id,
        answer_id=row.answer_id,
        review_id=row.review_id,
        modality=row.modality,
        study_date=row.study_date,
        header=header,
    )


def _where(narrowing: Narrowing) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    for column, uids in (
        (DicomObjectRow.study_instance_uid, narrowing.study_uids),
        (DicomObjectRow.series_instance_uid, narrowing.series_uids),
        (DicomObjectRow.sop_instance_uid, narrowing.sop_uids),
    ):
        if uids:
            found.append(column.in_(uids))
    if narrowing.dates is not None:
        first, last = narrowing.dates
        date = DicomObjectRow.study_date
        found += [date >= first] if first else []
        found += [date <= last] if last else []
    return found
