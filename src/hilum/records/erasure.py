"""Erasing films, or what of them a site keeps for a while only, so that the audit still proves what happened.

The audit names films by opaque ids and holds no identifiers, so nothing in it has to change: what is erased is written
down like any other act, in the same transaction, and the chain verifies as before. Files are removed after the
transaction that forgets them, whose list of them is worked off again after a kill; so no record names a file that is
gone, and no file stays that nobody remembers.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, delete, exists, or_, select, update
from sqlalchemy.orm import Session

from hilum.records.audit import Act, append
from hilum.records.database import Database
from hilum.records.identifiers import films_of_patient, films_of_study
from hilum.records.labelling_schema import BlindLabelRow
from hilum.records.retention import Retention
from hilum.records.schema import (
    AnswerRow,
    DeliveryRow,
    DicomObjectRow,
    ErasedFileRow,
    FilmRow,
    IdentifierRow,
    PriorRow,
    ReviewRow,
)
from hilum.records.sealed_columns import keys_of
from hilum.records.values import FINISHED

FILMS_AT_ONCE = 100
"""Films of one transaction of retention."""


class Eraser:
    """The acts of erasing.

    Args:
        database: the records.
        clock: gives the instant.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database, self._clock = database, clock

    def films_of(self, *, patient_id: str | None = None, study_uid: str | None = None) -> list[str]:
        """Ids of the films of a patient or of a study, as far as their headers were read."""
        with self._database.read() as session:
            if patient_id is not None:
                return films_of_patient(session, patient_id)
            return films_of_study(session, study_uid or "")

    def unread(self) -> list[tuple[str, str]]:
        """Films with files of which nobody has recorded yet whose they are: their ids, and what names their files."""
        unknown = ~exists().where(IdentifierRow.film_id == FilmRow.id)
        with self._database.read() as session:
            films = select(FilmRow.id, FilmRow.file_sha256).where(FilmRow.format == "dicom", FilmRow.file_sha256 != "")
            rows = session.execute(films.where(unknown))
            return [(row[0], row[1]) for row in rows]

    def erase(self, film_ids: Sequence[str], *, actor: str, by: str, value: str = "") -> int:
        """Erase films with all that hangs on them: answers, heat maps, reviews, what is on its way to a PACS.

        Args:
            film_ids: which.
            actor: who does it.
            by: ``patient`` or ``study``; ``list`` for what was erased before and came back with an older backup;
                ``set-aside`` for a film that bore another's UID.
            value: the patient's id or the study's UID; only a keyed digest of it is written down, if there is a key.

        Returns:
            films erased. Their files are in :meth:`pending`.
        """
        now = self._clock()
        with self._database.write() as session:
            keys = keys_of(session)
            films = list(session.scalars(select(FilmRow).where(FilmRow.id.in_(film_ids)).order_by(FilmRow.id)))
            for film in films:
                self._forget_file(session, film)
                session.execute(delete(FilmRow).where(FilmRow.id == film.id))
                self._note(session, actor, "film.erased", film.id, {"by": by})
            detail = {"by": by, "films": len(films), "digest": keys.index(by, value) if keys and value else None}
            append(session, Act(actor=actor, act="privacy.erased", detail=detail), now)
            return len(films)

    def due(self, retention: Retention) -> tuple[list[str], list[str]]:
        """Ids of films whose files, and of those whose identifiers, are past their time, the oldest first."""
        with self._database.read() as session:
            pixels = self._old(session, retention.pixels_days, FilmRow.file_sha256 != "")
            named = or_(exists().where(IdentifierRow.film_id == FilmRow.id), FilmRow.sop_instance_uid.is_not(None))
            return pixels, self._old(session, retention.identifiers_days, named)

    def erase_pixels(self, film_ids: Sequence[str], *, actor: str) -> int:
        """Forget films' files; answers stay. One transaction."""
        with self._database.write() as session:
            films = list(session.scalars(select(FilmRow).where(FilmRow.id.in_(film_ids), FilmRow.file_sha256 != "")))
            for film in films:
                self._forget_file(session, film)
                film.file_sha256 = ""
                self._note(session, actor, "pixels.erased", film.id, {"by": "retention"})
            return len(films)

    def erase_identifiers(self, film_ids: Sequence[str], *, actor: str) -> int:
        """Forget who films are of, and readers' own words about them; answers stay. One transaction."""
        with self._database.write() as session:
            for table, column in (
                (IdentifierRow, IdentifierRow.film_id),
                (DicomObjectRow, DicomObjectRow.film_id),
                (PriorRow, PriorRow.film_id),
                (PriorRow, PriorRow.prior_id),
            ):
                session.execute(delete(table).where(column.in_(film_ids)))
            for said in (ReviewRow, BlindLabelRow):
                session.execute(update(said).where(said.film_id.in_(film_ids)).values(comment=""))
            films = list(session.scalars(select(FilmRow).where(FilmRow.id.in_(film_ids))))
            for film in films:
                film.sop_instance_uid = film.study_instance_uid = None
                self._note(session, actor, "identifiers.erased", film.id, {"by": "retention"})
            return len(films)

    def pending(self) -> list[str]:
        """What names the files that are still to be removed."""
        with self._database.read() as session:
            return list(session.scalars(select(ErasedFileRow.file_sha256).order_by(ErasedFileRow.at)))

    def needed(self, file_sha256: str) -> bool:
        """Whether a record names the file, since the same film came again."""
        with self._database.read() as session:
            return session.scalar(select(FilmRow.id).where(FilmRow.file_sha256 == file_sha256).limit(1)) is not None

    def removed(self, file_sha256: str) -> None:
        """Take a file off the list: it is gone, or needed again."""
        with self._database.write() as session:
            session.execute(delete(ErasedFileRow).where(ErasedFileRow.file_sha256 == file_sha256))

    def tidy(self, *, whole: bool) -> None:
        """Leave nothing of what was erased in the database's log, nor, ``whole``, where rows once lay in its file."""
        self._database.tidy(whole=whole)

    def _old(self, session: Session, days: int, there: ColumnElement[bool]) -> list[str]:
        if not days:
            return []
        old = FilmRow.received_at < self._clock() - timedelta(days=days)
        on_its_way = exists().where(
            and_(
                DeliveryRow.answer_id == AnswerRow.id,
                AnswerRow.film_id == FilmRow.id,
                DeliveryRow.state.in_(("waiting", "sending")),
            )
        )
        query = select(FilmRow.id).where(old, there, FilmRow.state.in_(FINISHED), ~on_its_way)
        return list(session.scalars(query.order_by(FilmRow.received_at, FilmRow.id)))

    def _forget_file(self, session: Session, film: FilmRow) -> None:
        if film.file_sha256:
            session.merge(ErasedFileRow(file_sha256=film.file_sha256, at=self._clock()))

    def _note(self, session: Session, actor: str, act: str, film_id: str, detail: dict[str, str]) -> None:
        append(session, Act(actor=actor, act=act, subject=film_id, detail=detail), self._clock())
