"""The audit: who did or looked at what, each row chained to the one before.

A row's body is canonical JSON in the manner of RFC 8785 (sorted ASCII keys, no spaces, no floats), holds the hash of
the row before, and the row's hash is the SHA-256 of the body. Rows are written in the transaction of the act itself: an
act without its row, or a row without its act, can't be committed. Signed heads (:mod:`hilum.records.heads`) lie outside
the database; with them a cut end and a chain that was computed anew are found as well.

No row holds an identifier of a patient: films are named by their opaque id. So a film can be erased and its history
still be proved.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from hilum.errors import UsageError
from hilum.records.schema import AuditRow

GENESIS = "0" * 64
"""What the first row names as the hash of the row before."""

CHAIN_LOCK = 0x68696C02
"""Key of PostgreSQL's advisory lock: one row after another, whoever writes."""

OWN_TIP = "audit tip"
"""Under this name a session holds where the chain ends for its transaction."""

COLUMNS = ("seq", "at", "actor", "act", "subject", "body", "hash")
LARGEST_INTEGER = 2**53 - 1
ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
TABLE: Any = AuditRow.__table__
LAST, INSERT = select(TABLE.c.seq, TABLE.c.hash).order_by(TABLE.c.seq.desc()).limit(1), insert(TABLE)
FIELDS = frozenset(("act", "actor", "at", "detail", "previous", "seq", "subject"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What is to be written down."""

    actor: str
    """Who: a user's name, or ``service``, ``dicom``, ``console`` for what no user did."""
    act: str
    """What, as ``film.received`` or ``film.viewed``."""
    subject: str = ""
    """To what: a film's opaque id, a user's name, a key's id."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """More of it: text, whole numbers, true, false, null, and lists and mappings of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row of the audit as it lies in the database or in an export."""

    seq: int
    """Its place: 1, 2, 3 …"""
    at: str
    """When (UTC, RFC 3339 with microseconds)."""
    actor: str
    """Who."""
    act: str
    """What."""
    subject: str
    """To what."""
    body: str
    """The canonical JSON that is hashed; it repeats the columns and adds ``detail`` and ``previous``."""
    hash: str
    """SHA-256 of the body, 64 hex digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tip:
    """Where the chain ends."""

    seq: int
    """Place of the last row; 0 when there is none."""
    hash: str
    """Its hash; :data:`GENESIS` when there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a check of the chain found."""

    rows: int
    """Rows that were read and are whole, from the first on."""
    tip: Tip
    """Where the whole part ends."""
    first_bad: int | None
    """Place of the first row that is wrong or missing; None when all is well."""
    reason: str
    """What is wrong with it, in one sentence; empty when all is well."""
    short: bool = False
    """Whether only the end is missing: a signed head knows rows behind it."""

    @property
    def whole(self) -> bool:
        """True when nothing was found."""
        return self.first_bad is None


def canonical(value: Any) -> str:
    """The one text of a JSON value that has no floats.

    Raises:
        UsageError: a float, a number beyond 2⁵³ - 1, a key that is not ASCII text, or a value of another kind.
    """
    _plain(value)
    return ENCODER.encode(value)


def _plain(value: Any) -> None:
    if value is None or isinstance(value, (str, bool)):
        return
    if isinstance(value, int) and abs(value) <= LARGEST_INTEGER:
        return
    if isinstance(value, (list, tuple)):
        items: Iterable[Any] = value
    elif isinstance(value, (dict, Mapping)) and _ascii(value):
        items = value.values()
    else:
        raise UsageError(
            f"A {type(value).__name__} can't stand in the audit. Give text, whole numbers, true, false, null, or lists "
            "and mappings (with ASCII keys) of these."
        )
    for item in items:
        if not isinstance(item, str):  # as most are
            _plain(item)


def _ascii(keys: Iterable[Any]) -> bool:
    try:
        return all(map(str.isascii, keys))
    except TypeError:  # no text
        return False


def without_floats(value: Any) -> Any:
    """A JSON value whose numbers with a fraction have become text: what a page says of itself may hold any."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        return {str(key).encode("ascii", "replace").decode(): without_floats(item) for key, item in value.items()}
    return [without_floats(item) for item in value] if isinstance(value, list | tuple) else value


def entry_after(tip: Tip, act: Act, at: datetime) -> Entry:
    """The row that an act makes after the end of the chain.

    Raises:
        UsageError: the act's detail is not plain.
    """
    stamp = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    body = canonical(
        {
            "act": act.act,
            "actor": act.actor,
            "at": stamp,
            "detail": dict(act.detail),
            "previous": tip.hash,
            "seq": tip.seq + 1,
            "subject": act.subject,
        }
    )
    return Entry(
        seq=tip.seq + 1, at=stamp, actor=act.actor, act=act.act, subject=act.subject, body=body, hash=digest(body)
    )


def digest(body: str) -> str:
    """SHA-256 of a body, 64 hex digits."""
    return hashlib.sha256(body.encode()).hexdigest()


def append(session: Session, act: Act, at: datetime) -> Entry:
    """Write an act down in the transaction that does it.

    Args:
        session: of a writing transaction.
        act: what is done.
        at: when.

    Raises:
        UsageError: the act's detail is not plain.
    """
    return append_all(session, [act], at)[0]


def append_all(session: Session, acts: Sequence[Act], at: datetime) -> list[Entry]:
    """Write several acts down, one after another, in the transaction that does them; see :func:`append`."""
    session.flush()
    tip = _own_tip(session)
    made: list[Entry] = []
    for act in acts:
        made.append(entry_after(tip, act, at))
        tip = Tip(seq=made[-1].seq, hash=made[-1].hash)
    if made:
        rows = [{name: getattr(entry, name) for name in COLUMNS} for entry in made]
        session.connection().execute(INSERT, rows)
        session.info[OWN_TIP] = session.get_transaction(), tip
    return made


def _own_tip(session: Session) -> Tip:
    """Where the chain ends for this transaction, which nobody else can make longer until it ends."""
    transaction, tip = session.info.get(OWN_TIP, (None, None))
    if transaction is not None and transaction is session.get_transaction():
        known: Tip = tip
        return known
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": CHAIN_LOCK})
    return tip_of(session)


def tip_of(session: Session) -> Tip:
    """Where the chain ends."""
    last = session.connection().execute(LAST).first()
    return Tip(seq=last[0], hash=last[1]) if last else Tip(seq=0, hash=GENESIS)


def entries(session: Session, *, after: int = 0, limit: int | None = None, subject: str | None = None) -> list[Entry]:
    """Rows in their order.

    Args:
        session: of a reading transaction.
        after: only rows behind this place.
        limit: most rows; None for all.
        subject: only rows about this.
    """
    query = select(AuditRow).where(AuditRow.seq > after).order_by(AuditRow.seq).limit(limit)
    if subject is not None:
        query = query.where(AuditRow.subject == subject)
    return [
        Entry(seq=r.seq, at=r.at, actor=r.actor, act=r.act, subject=r.subject, body=r.body, hash=r.hash)
        for r in session.scalars(query)
    ]


def check(rows: Iterable[Entry], known: Sequence[Tip] = ()) -> Verdict:
    """Follow the chain from its first row to its last.

    Args:
        rows: all of them, in the order of their places.
        known: ends that were signed when the chain was there; a chain that differs, or is shorter, is wrong.

    Returns:
        the verdict; what comes after the first wrong row says nothing and is not read.
    """
    signed = {tip.seq: tip.hash for tip in known}
    tip, count = Tip(seq=0, hash=GENESIS), 0
    for row in rows:
        wrong = _wrong(row, tip) or _unlike(row, signed)
        if wrong:
            return Verdict(rows=count, tip=tip, first_bad=tip.seq + 1, reason=wrong)
        tip, count = Tip(seq=row.seq, hash=row.hash), count + 1
    longest = max(signed, default=0)
    if longest > tip.seq:
        reason = f"The chain ends at row {tip.seq}, but a signed head knows row {longest}: the end was cut off."
        return Verdict(rows=count, tip=tip, first_bad=tip.seq + 1, reason=reason, short=True)
    return Verdict(rows=count, tip=tip, first_bad=None, reason="")


def _unlike(row: Entry, signed: Mapping[int, str]) -> str:
    if signed.get(row.seq, row.hash) == row.hash:
        return ""
    return f"Row {row.seq} differs from its signed head: a row up to here was changed and the chain computed anew."


def _wrong(row: Entry, tip: Tip) -> str:
    """What is wrong with a row after the end of the whole part; empty when nothing is."""
    due = tip.seq + 1
    if row.seq != due:
        return f"Row {due} is missing; row {row.seq} stands in its place."
    if digest(row.body) != row.hash:
        return f"Row {due} doesn't match its hash: its text or its hash was changed."
    try:
        said = json.loads(row.body)
        again = canonical(said)
    except (ValueError, UsageError, RecursionError):
        said, again = None, ""
    if not isinstance(said, dict) or again != row.body or set(said) != FIELDS:
        return f"Row {due} is not a row that hilum wrote: its text is not canonical."
    if said["previous"] != tip.hash:
        return f"Row {due} doesn't follow row {tip.seq}: a row was inserted, removed or exchanged."
    told = {"seq": row.seq, "at": row.at, "actor": row.actor, "act": row.act, "subject": row.subject}
    changed = [name for name, value in told.items() if said[name] != value]
    if changed:
        return f"Row {due} says other than its text in {', '.join(changed)}: a column was changed."
    return ""
