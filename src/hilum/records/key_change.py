"""Bringing records under the active data key: at the first start with a key, and after each change of it.

The table ``data_keys`` names every key that something here, or a film, may still be encrypted with, and the empty one
while films from before the first key may lie readable. So a start with a wrong key, or with none, is refused in one
sentence before anything is touched, and what is still to be done is known.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, String, Table, func, literal, select, text, type_coerce, update
from sqlalchemy.orm import Session

from hilum.data_keys import NO_KEY, SEALED, Keyring
from hilum.errors import ServiceError
from hilum.records.audit import Act, append
from hilum.records.database import Database
from hilum.records.identifiers import keep_identity, opened
from hilum.records.schema import Base, DataKeyRow, FilmRow, IdentifierRow
from hilum.records.sealed_columns import SealedText, keys_of


def require_keys(database: Database) -> None:
    """Refuse to go on without a key that something may be encrypted with.

    Raises:
        ServiceError: one is not given.
    """
    with database.read() as session:
        _require(session)


def _require(session: Session) -> tuple[str, ...]:
    keys, used = keys_of(session), _used(session)
    missing = [one for one in used if one not in keys.ids]
    if missing:
        given = f"given are {', '.join(keys.ids)}" if keys else "none is given"
        raise ServiceError(
            f"The records or films are encrypted with the data key {', '.join(missing)}, and {given}. Nothing was "
            "touched. Give that key, too, in HILUM_DATA_KEY_FILE or HILUM_DATA_KEY."
        )
    return used


def require_taken_over(database: Database) -> None:
    """Refuse to write with an active key that a running service may not know; also as :func:`require_keys`.

    Raises:
        ServiceError: the records are not under the active key, or a key that something is encrypted with is not given.
    """
    with database.read() as session:
        used, active = _require(session), keys_of(session).active_id
    if used and active != used[-1]:
        raise ServiceError(
            f"The data key {active} comes first and the records are not under it yet. Start the service, or start it "
            "anew, and it takes the key over; or run hilum keys apply while none runs."
        )


def bring_under_key(database: Database, clock: Callable[[], datetime]) -> int:
    """Encrypt the records with the active key, all in one transaction; nothing to do where they are.

    Args:
        database: opened with the keys.
        clock: gives the instant.

    Returns:
        rows that were changed.

    Raises:
        ServiceError: a key that something is encrypted with is not given; nothing was touched.
        DataError: a value was changed by somebody; nothing was touched.
    """
    with database.write() as session:
        if not database.is_sqlite:  # of services that start at once one does it, and the others find it done
            session.execute(text("LOCK TABLE data_keys IN EXCLUSIVE MODE"))
        used, keys = _require(session), keys_of(session)
        if not keys or used[-1:] == (keys.active_id,):
            return 0
        kept = session.scalar(select(FilmRow.file_sha256).where(FilmRow.file_sha256 != "").limit(1)) is not None
        if kept and database.others(but=keys.active_id):
            raise ServiceError(
                f"Other hilum processes have the database open and don't have the data key {keys.active_id} first. "
                "Stop every service on it, give all of them the same keys, and start them."
            )
        if kept and not used:
            session.add(DataKeyRow(id=NO_KEY, since=clock()))
        changed = _identifiers(session, keys) + sum(_table(session, table, keys) for table in _sealed_tables())
        _put_last(session, keys.active_id, clock())
        detail = {"key": keys.active_id, "rows": changed}
        append(session, Act(actor="service", act="data-key.used", detail=detail), clock())
    database.tidy(whole=True)
    return changed


def keys_in_use(database: Database) -> tuple[str, ...]:
    """Ids of the keys that something may be encrypted with; the last is the one that the records are under."""
    with database.read() as session:
        return _used(session)


def all_under(database: Database, key_id: str) -> bool:
    """Whether nothing may be under another key than this one, or readable."""
    with database.read() as session:
        return list(session.scalars(select(DataKeyRow.id))) == [key_id]


def retire_older_keys(
    database: Database, clock: Callable[[], datetime], *, films: int, actor: str = "console"
) -> tuple[str, ...]:
    """Write down that nothing is encrypted with older keys any more, after films were brought under the active one.

    Args:
        database: opened with the keys.
        clock: gives the instant.
        films: how many were encrypted anew.
        actor: who did it.

    Returns:
        ids of the keys that are no longer needed here. Backups that were made before still need them.
    """
    with database.write() as session:
        active = keys_of(session).active_id
        older = list(session.scalars(select(DataKeyRow).where(DataKeyRow.id != active)))
        for row in older:
            session.delete(row)
        retired = [row.id for row in older if row.id != NO_KEY]
        if retired or films:
            detail = {"key": active, "retired": retired, "films": films}
            append(session, Act(actor=actor, act="data-key.applied", detail=detail), clock())
        return tuple(retired)


def film_files(database: Database) -> list[str]:
    """What names the files of all films."""
    with database.read() as session:
        return [name for name in session.scalars(select(FilmRow.file_sha256).order_by(FilmRow.file_sha256)) if name]


def _used(session: Session) -> tuple[str, ...]:
    found = select(DataKeyRow.id).where(DataKeyRow.id != NO_KEY).order_by(DataKeyRow.since)
    return tuple(session.scalars(found))


def _put_last(session: Session, key_id: str, at: datetime) -> None:
    """Name the key that the records are under now: the newest, though it was there before or the clock was set back."""
    newest = session.scalar(select(func.max(DataKeyRow.since)))
    since = at if newest is None else max(at, newest + timedelta(microseconds=1))
    session.merge(DataKeyRow(id=key_id, since=since))


def _identifiers(session: Session, keys: Keyring) -> int:
    changed = 0
    for row in session.scalars(select(IdentifierRow).where(IdentifierRow.key_id != keys.active_id)).all():
        keep_identity(session, row.film_id, opened(row, keys))
        changed += 1
    return changed


def _sealed_tables() -> list[Table]:
    return [table for table in Base.metadata.sorted_tables if _sealed(table)]


def _sealed(table: Table) -> list[Column[Any]]:
    return [column for column in table.columns if isinstance(column.type, SealedText)]


def _table(session: Session, table: Table, keys: Keyring) -> int:
    """Encrypt a table's sealed columns anew, row by row, as they lie there: types are set aside on both sides."""
    columns, places = _sealed(table), list(table.primary_key.columns)
    changed = 0
    for row in session.execute(select(*[_raw(column) for column in [*places, *columns]])).all():
        stored = dict(zip([column.name for column in columns], row[len(places) :], strict=True))
        fresh = {column.name: _anew(stored[column.name], column.type, keys) for column in columns}
        if fresh == stored:
            continue
        here = [_raw(place) == value for place, value in zip(places, row[: len(places)], strict=True)]
        plain = {name: literal(value, String) for name, value in fresh.items()}
        session.execute(update(table).where(*here).values(plain))
        changed += 1
    return changed


def _raw(column: Column[Any]) -> Any:
    return type_coerce(column, String) if isinstance(column.type, SealedText) else column


def _anew(stored: str | None, kind: Any, keys: Keyring) -> str | None:
    if stored is None or stored.startswith(f"{SEALED}{keys.active_id}."):
        return stored
    return keys.seal_text(keys.open_text(stored, kind.kind, exact=kind.exact), kind.kind, exact=kind.exact)
