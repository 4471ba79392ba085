"""Searching the audit: the newest rows first, by film, actor, act and day."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from hilum.records.audit import Entry
from hilum.records.schema import AuditRow

Query = Select[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """Which rows are wanted; what is empty or None lets all through."""

    subject: str = ""
    """About this film, user or key, by its whole id."""
    actor: str = ""
    """Done by this user, or ``service``, ``dicom``, ``console``."""
    act: str = ""
    """This act, or all that begin so, as ``film.``."""
    first: date | None = None
    """From this day on (UTC)."""
    last: date | None = None
    """Up to this day, it included (UTC)."""

    @property
    def used(self) -> list[str]:
        """Names of the filters that are used: what was typed may be anything, and the audit holds no patient's name."""
        return [name for name in ("subject", "actor", "act", "first", "last") if getattr(self, name)]


def search(session: Session, sought: Sought, *, before: int | None = None, limit: int) -> list[Entry]:
    """Rows that fit, the newest first.

    Args:
        session: of a reading transaction.
        sought: which.
        before: only rows before this place; None for the newest.
        limit: most rows.
    """
    query = select(AuditRow).order_by(AuditRow.seq.desc()).limit(limit)
    if before is not None:
        query = query.where(AuditRow.seq < before)
    if sought.subject:
        query = query.where(AuditRow.subject == sought.subject)
    if sought.actor:
        query = query.where(AuditRow.actor == sought.actor)
    if sought.first is not None:
        query = query.where(AuditRow.at >= sought.first.isoformat())
    if sought.last is not None and sought.last < date.max:
        query = query.where(AuditRow.at < (sought.last + timedelta(days=1)).isoformat())
    rows = [row for one in _by_act(session, sought, query) for row in session.scalars(one)]
    return [
        Entry(seq=r.seq, at=r.at, actor=r.actor, act=r.act, subject=r.subject, body=r.body, hash=r.hash)
        for r in sorted(rows, key=lambda row: -row.seq)[:limit]
    ]


def _by_act(session: Session, sought: Sought, query: Query) -> list[Query]:
    """A query an act, each answered from the index of acts; one alone where an index of subject or actor is better."""
    if not sought.act:
        return [query]
    if sought.subject or sought.actor:
        return [query.where(AuditRow.act.startswith(sought.act, autoescape=True))]
    return [query.where(AuditRow.act == act) for act in acts_of(session) if act.startswith(sought.act)]


def acts_of(session: Session) -> list[str]:
    """Every act that the audit holds: some dozens, found one by one in the index, however many rows there are."""
    found: list[str] = []
    following = select(func.min(AuditRow.act))
    act = session.scalar(following)
    while act is not None:
        found.append(act)
        act = session.scalar(following.where(AuditRow.act > act))
    return found
