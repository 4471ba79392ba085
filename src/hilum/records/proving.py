"""Checking the audit from outside: of a database that is only read, or of an export."""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, make_url, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from hilum.data_keys import Keyring
from hilum.errors import DataError, ServiceError, UsageError
from hilum.files import replacing
from hilum.keys import read_public_key
from hilum.records.audit import Entry, Tip, Verdict, check
from hilum.records.heads import read_heads
from hilum.records.schema import AnswerRow, AuditRow
from hilum.records.sealed_columns import hang_keys
from hilum.records.unusable import unusable

AT_ONCE = 1000
RESTORED = "records.restored"
"""Act: the chain goes on from a backup. Heads that were signed after the backup know other rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a check found, and what it rests on."""

    verdict: Verdict
    """Of the chain."""
    heads: int
    """Signed heads that it was compared with."""
    signed_up_to: int
    """Row of the last of them; what comes after could be cut off without trace. 0 when there are none."""


def prove(*, url: str, export: Path | None, heads: Path, heads_given: bool, keys: Sequence[Path]) -> Proof:
    """Check the whole audit.

    Args:
        url: of the database.
        export: a file of :func:`write_export` instead of it; None for the database.
        heads: file of the signed heads.
        heads_given: whether it was asked for by name; else it may be absent where there are no keys.
        keys: files of the public keys whose signatures count.

    Raises:
        UsageError: a file can't be read.
        DataError: a head is damaged or forged, the heads of a database are gone while their key is there, or a line of
            the export is none.
        ServiceError: the database can't be read.
    """
    known: tuple[Tip, ...] = ()
    if heads_given or heads.exists():
        known = tuple(head.tip for head in read_heads(heads, [read_public_key(key) for key in keys]))
    elif export is None and keys:
        raise DataError(
            f"The signed heads {heads} are gone, though {keys[0]} is there, which they are checked with: a cut end, or "
            "a chain computed anew, could not be told. Put a copy of them there, or give it with --heads."
        )
    if export is not None:
        verdict = check(_exported(export), known)
    else:
        with reading(url) as session:
            verdict = check(_rows(session), known)
    return Proof(verdict=verdict, heads=len(known), signed_up_to=max((tip.seq for tip in known), default=0))


def last_restore(url: str) -> int:
    """Place of the last row that says that the records come from a backup; 0 for none.

    Raises:
        ServiceError: the database can't be read.
    """
    with reading(url) as session:
        return session.scalar(select(func.max(AuditRow.seq)).where(AuditRow.act == RESTORED)) or 0


def write_export(url: str, out: Path) -> int:
    """Write all rows, one JSON object a line, whole or not at all.

    Returns:
        how many.

    Raises:
        ServiceError: the database can't be read.
    """
    count = 0
    with reading(url) as session, replacing(out) as temporary, open(temporary, "w", encoding="utf-8") as handle:
        for row in _rows(session):
            handle.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")
            count += 1
    return count


def rows_of(url: str, *, subject: str) -> list[Entry]:
    """All rows about one film, user or key.

    Raises:
        ServiceError: the database can't be read.
    """
    with reading(url) as session:
        return list(_rows(session, subject=subject))


def answers_as_written(url: str, film_id: str) -> dict[str, bool | None]:
    """Whether a film's answers are still those that the audit names, by the model's digest; None for one that is gone.

    Raises:
        ServiceError: the database can't be read.
    """
    found: dict[str, bool | None] = {}
    with reading(url) as session:
        kept = {row.model_sha256: row for row in session.scalars(select(AnswerRow).where(AnswerRow.film_id == film_id))}
        for entry in _rows(session, subject=film_id):
            if entry.act != "film.answered":
                continue
            said = json.loads(entry.body)["detail"]
            row = kept.get(said["model"])
            found[said["model"]] = None if row is None else _as_said(row, said)
    return found


def _as_said(row: AnswerRow, said: Mapping[str, Any]) -> bool:
    digest = hashlib.sha256(row.assessment.encode()).hexdigest()
    kept = {"label": row.label, "abstained": row.abstained, "assessment_sha256": digest}
    return kept == {name: said[name] for name in kept}


@contextlib.contextmanager
def reading(url: str, keys: Keyring | None = None) -> Iterator[Session]:
    """A session that can't write, beside a service or without one; it neither migrates nor checkpoints.

    Args:
        url: of the database.
        keys: data keys, for whoever reads what is encrypted.

    Raises:
        ServiceError: the database can't be read, or is none of ours.
    """
    try:
        engine = _read_only(url)
        hang_keys(engine.dialect, keys or Keyring())
        with Session(engine) as session:
            yield session
        engine.dispose()
    except (SQLAlchemyError, ImportError) as error:
        raise unusable(error, url) from None


def _read_only(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 5})
        event.listen(engine, "begin", _postgres_read_only)
        return engine
    path = Path(str(parsed.database)).resolve()
    if not path.exists():
        raise ServiceError(f"There are no records at {path}. Give the service's folder with --data.")
    uri = f"file:{_quoted(path)}?mode=ro"
    return create_engine(f"sqlite:///{uri}&uri=true", poolclass=NullPool)


def _postgres_read_only(connection: Connection) -> None:
    connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(str(path))


def _rows(session: Session, *, subject: str | None = None) -> Iterator[Entry]:
    """All rows in their order, some at a time, in one transaction."""
    query = select(AuditRow).order_by(AuditRow.seq).execution_options(yield_per=AT_ONCE)
    if subject is not None:
        query = query.where(AuditRow.subject == subject)
    for r in session.scalars(query):
        yield Entry(seq=r.seq, at=r.at, actor=r.actor, act=r.act, subject=r.subject, body=r.body, hash=r.hash)


def _exported(path: Path) -> Iterable[Entry]:
    try:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                yield _entry(line, f"{path}, line {number}")
    except OSError as error:
        raise UsageError(f"The export {path} can't be read ({error.strerror}). Check the path.") from None
    except UnicodeDecodeError:
        raise DataError(f"The export {path} is no UTF-8 text. hilum audit export writes one.") from None


def _entry(line: str, where: str) -> Entry:
    try:
        entry = Entry(**json.loads(line))
        kinds = [type(value) for value in asdict(entry).values()]
    except (ValueError, TypeError, RecursionError):
        kinds = []
    if kinds != [int, *[str] * 6]:
        raise DataError(f"{where} is no row of an audit. The file was damaged or changed.")
    return entry
