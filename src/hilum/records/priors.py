"""Earlier films of the same patient. Who a film is of never leaves this module."""

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, aliased

from hilum.records.database import Database
from hilum.records.look_ups import PACS, priors_of
from hilum.records.schema import DicomObjectRow, FilmRow, IdentifierRow
from hilum.records.sealed_columns import keys_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """An earlier film of the same patient."""

    film_id: str
    """Its id."""
    study_date: date | None
    """When it was taken; None where its header doesn't say, or is not in the records yet."""
    received_at: datetime
    """When it came here (UTC)."""
    later_date: date | None
    """When the film was taken that it is looked at beside; None likewise."""


def prior_beside(database: Database, film_id: str) -> Prior | None:
    """The film of :func:`prior_of`, with when both were taken."""
    prior_id = prior_of(database, film_id)
    if prior_id is None:
        return None
    with database.read() as session:
        received = session.scalar(select(FilmRow.received_at).where(FilmRow.id == prior_id))
        if received is None:  # erased just now
            return None
        return Prior(
            film_id=prior_id,
            study_date=_study_date(session, prior_id),
            received_at=received,
            later_date=_study_date(session, film_id),
        )


def prior_of(database: Database, film_id: str) -> str | None:
    """The film of the same patient that was taken or received last before this one; None when there is none.

    Where a PACS was asked, it is the latest one that it named and that is here. Otherwise the same patient is the same
    Patient ID, which one hospital gives once; a film without one has no prior, and a film that was set aside is none.
    """
    with database.read() as session:
        linked = priors_of(session, film_id)
        if linked:
            return linked[0]
        return session.scalar(_earlier(film_id, nobody=keys_of(session).index("patient", "")))


def _earlier(film_id: str, *, nobody: str) -> Select[str]:
    other, earlier = aliased(IdentifierRow), aliased(FilmRow)
    return (
        select(earlier.id)
        .join(other, other.film_id == earlier.id)
        .join(IdentifierRow, IdentifierRow.patient_index == other.patient_index)
        .join(FilmRow, FilmRow.id == IdentifierRow.film_id)
        .where(
            IdentifierRow.film_id == film_id,
            IdentifierRow.patient_index != nobody,
            earlier.id != film_id,
            earlier.received_at < FilmRow.received_at,
            earlier.state.in_(("answered", "not-analysed")),
            earlier.origin != PACS,  # fetched later than it was taken
        )
        .order_by(earlier.received_at.desc(), earlier.id)
        .limit(1)
    )


def _study_date(session: Session, film_id: str) -> date | None:
    said = session.scalar(
        select(DicomObjectRow.study_date)
        .where(DicomObjectRow.film_id == film_id, DicomObjectRow.kind == "film")
        .limit(1)
    )
    try:
        return datetime.strptime(said or "", "%Y%m%d").date()
    except ValueError:
        return None
