"""Queues kept as rows that are leased while they are worked on: what results out and look-ups do alike."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from hilum.records.schema import DeliveryRow, LookUpRow

REASON_CODE = 32
"""Longest reason code that is kept."""

Queued = DeliveryRow | LookUpRow
Row = TypeVar("Row", DeliveryRow, LookUpRow)


def claim(
    session: Session,
    kind: type[Row],
    *among: ColumnElement[bool],
    key: InstrumentedAttribute[str],
    working: str,
    owner: str,
    now: datetime,
    lease_s: float,
) -> Row | None:
    """Lease the row that is due longest; None when none is due.

    Args:
        session: of a writing transaction.
        kind: the queue.
        among: conditions on its rows.
        key: puts rows of one instant in order.
        working: the state of what is leased.
        owner: who leases it.
        now: the instant.
        lease_s: for how long.
    """
    due = select(kind).where(
        *among,
        kind.state.in_(("waiting", working)),
        kind.due_at <= now,
        or_(kind.lease_until.is_(None), kind.lease_until < now),
    )
    row = session.scalar(due.order_by(kind.due_at, key).limit(1).with_for_update(skip_locked=True))
    if row is not None:
        row.state, row.attempts = working, row.attempts + 1
        row.lease_owner, row.lease_until = owner, now + timedelta(seconds=lease_s)
    return row


def held(row: Queued | None, *, working: str, owner: str) -> bool:
    """Whether this owner's lease on a row still holds."""
    return row is not None and row.state == working and row.lease_owner == owner


def put_off(row: Queued, until: datetime) -> None:
    """Let it wait after a failed attempt."""
    row.state, row.lease_owner, row.lease_until, row.due_at = "waiting", None, None, until


def finish(row: Queued, state: str, at: datetime, code: str = "", reason: str = "") -> None:
    """End it, well or not."""
    row.state, row.finished_at = state, at
    row.lease_owner = row.lease_until = None
    row.reason_code, row.reason = code[:REASON_CODE], reason


def fail(row: Queued, at: datetime, *, code: str, reason: str, retry_after_s: float | None) -> bool:
    """Let it wait after a failed attempt, or give it up.

    Args:
        row: what was tried.
        at: the instant.
        code: machine-readable reason.
        reason: the same in one sentence.
        retry_after_s: when to try again; None gives it up.

    Returns:
        whether it was given up.
    """
    if retry_after_s is None:
        finish(row, "dead", at, code, reason)
    else:
        put_off(row, at + timedelta(seconds=retry_after_s))
        row.reason_code, row.reason = code[:REASON_CODE], reason
    return retry_after_s is None


def put_off_or_given_up(kind: type[Queued], now: datetime) -> ColumnElement[bool]:
    """Rows that failed: those that were given up, and those that wait for their next attempt."""
    put_off = and_(kind.state == "waiting", kind.attempts > 0, kind.due_at > now)
    return or_(kind.state == "dead", put_off)


def start_anew(rows: Sequence[Queued], now: datetime) -> None:
    """Put rows back, due at once and with a fresh count of attempts."""
    for row in rows:
        row.state, row.attempts, row.finished_at = "waiting", 0, None
        row.created_at = row.due_at = now


def release(session: Session, kind: type[Queued], *, working: str, owner: str | None) -> int:
    """Give back what is leased by one owner, or by all; gives how many that were."""
    change = update(kind).where(kind.state == working)
    if owner is not None:
        change = change.where(kind.lease_owner == owner)
    done = session.execute(change.values(state="waiting", lease_owner=None, lease_until=None))
    return int(getattr(done, "rowcount", 0))


def due_in(session: Session, kind: type[Queued], *among: ColumnElement[bool], now: datetime) -> float | None:
    """Seconds until something is due, 0 or more; None when nothing waits."""
    due = session.scalar(select(func.min(kind.due_at)).where(*among, kind.state == "waiting"))
    return None if due is None else max(0.0, (due - now).total_seconds())
