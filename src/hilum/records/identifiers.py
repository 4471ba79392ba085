"""Who films are of: encrypted, each row bound to its film, and found by exact value through keyed digests.

Nothing else in the records says it. Results, audit and queue name a film by its opaque id.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import bindparam, delete, insert, select
from sqlalchemy.orm import Session

from hilum.data_keys import Keyring
from hilum.records.schema import FilmRow, IdentifierRow
from hilum.records.sealed_columns import keys_of
from hilum.records.values import Identity

TABLE: Any = IdentifierRow.__table__
# Made once: to put a statement together takes longer than to run it.
FORGET, KEEP = delete(TABLE).where(TABLE.c.film_id.in_(bindparam("these", expanding=True))), insert(TABLE)
NAMES = tuple(one.name for one in fields(Identity))


def keep_identity(session: Session, film_id: str, identity: Identity) -> None:
    """Record who a film is of; see :func:`keep_identities`."""
    keep_identities(session, {film_id: identity})


def keep_identities(session: Session, known: Mapping[str, Identity]) -> None:
    """Record who films are of, over what was recorded before.

    Args:
        session: of a writing transaction.
        known: by film id, what its header says.
    """
    keys = keys_of(session)
    rows = []
    for film_id, identity in known.items():
        said = {name: value.replace("\0", "") for name in NAMES if (value := getattr(identity, name))}
        rows.append(
            {
                "film_id": film_id,
                "key_id": keys.active_id,
                "sealed": keys.seal(json.dumps(said, sort_keys=True).encode(), _place(film_id)),
                "patient_index": keys.index("patient", said.get("patient_id", "")),
                "accession_index": keys.index("accession", said.get("accession_number", "")),
            }
        )
    connection = session.connection()
    connection.execute(FORGET, {"these": list(known)})
    connection.execute(KEEP, rows)


def identities(session: Session, film_ids: Sequence[str]) -> dict[str, Identity]:
    """Who films are of, by film id; those that were not read yet, or whose identifiers were erased, are left out.

    Raises:
        DataError: a row was changed, moved, or its key is not given.
    """
    rows = session.scalars(select(IdentifierRow).where(IdentifierRow.film_id.in_(film_ids)))
    keys = keys_of(session)
    return {row.film_id: opened(row, keys) for row in rows}


def opened(row: IdentifierRow, keys: Keyring) -> Identity:
    """Who a row says its film is of.

    Raises:
        DataError: it was changed, moved, or its key is not given.
    """
    return Identity(**json.loads(keys.open(row.sealed, _place(row.film_id), row.key_id)))


def films_of_patient(session: Session, patient_id: str) -> list[str]:
    """Ids of the films that say they are of a patient."""
    index = keys_of(session).index("patient", patient_id)
    return list(session.scalars(select(IdentifierRow.film_id).where(IdentifierRow.patient_index == index)))


def films_of_accession(session: Session, accession_number: str) -> list[str]:
    """Ids of the films that say they were made for an order."""
    index = keys_of(session).index("accession", accession_number)
    return list(session.scalars(select(IdentifierRow.film_id).where(IdentifierRow.accession_index == index)))


def films_of_study(session: Session, study_instance_uid: str) -> list[str]:
    """Ids of the films of a study."""
    return list(session.scalars(select(FilmRow.id).where(FilmRow.study_instance_uid == study_instance_uid)))


def _place(film_id: str) -> bytes:
    return b"identifiers\0" + film_id.encode()
