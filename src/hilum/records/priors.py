"""Earlier films of the same patient. Who a film is of never leaves this module."""

from sqlalchemy import Select, select
from sqlalchemy.orm import aliased

from hilum.records.database import Database
from hilum.records.schema import FilmRow, IdentifierRow
from hilum.records.sealed_columns import keys_of


def prior_of(database: Database, film_id: str) -> str | None:
    """The film of the same patient that was received last before this one; None when there is none.

    The same patient is the same Patient ID, which one hospital gives once; a film without one has no prior, and a film
    that was set aside is none.
    """
    with database.read() as session:
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
        )
        .order_by(earlier.received_at.desc(), earlier.id)
        .limit(1)
    )
