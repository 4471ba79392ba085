"""Earlier films of the same patient. Who a film is of never leaves this module."""

from sqlalchemy import Select, select
from sqlalchemy.orm import aliased

from hilum.records.database import Database
from hilum.records.look_ups import PACS, priors_of
from hilum.records.schema import FilmRow, IdentifierRow
from hilum.records.sealed_columns import keys_of


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
