"""Alarms of the monitor in the records: what they are, and how a person takes one on and closes it.

Opening and following them is :mod:`hilum.monitoring`'s; the page and REST of the service read them here.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from hilum.errors import UsageError
from hilum.records.audit import Act, append
from hilum.records.cursors import behind
from hilum.records.database import Database
from hilum.records.schema import AlarmRow
from hilum.records.store import now

AlarmState = Literal["open", "acknowledged", "closed"]
UNSETTLED: tuple[AlarmState, ...] = ("open", "acknowledged")
"""States of an alarm that is not closed."""


class NoSuchAlarm(UsageError):
    """No alarm has this id."""


class AlarmMovedOn(UsageError):
    """The alarm is past the state in which this could be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """An alarm and where its owner is with it."""

    id: str
    """Opaque id."""
    state: AlarmState
    """``open`` until somebody acknowledges it; ``closed`` by a person or by quiet looks."""
    owner: str
    """Who answers for it."""
    opened_at: datetime
    """When (UTC)."""
    streams: tuple[str, ...]
    """Streams that fired in two looks in a row, then or since."""
    culprit: str
    """What the domain classifier named; empty when nothing."""
    sentence: str
    """The same for a person."""
    quiet_looks: int = 0
    """Looks in a row, since, in which none of its streams fired."""
    acknowledged_by: str = ""
    """Who; empty until then."""
    acknowledged_at: datetime | None = None
    """When."""
    closed_by: str = ""
    """Who, or :data:`hilum.monitoring.alarms.BY_ITSELF`; empty until then."""
    closed_at: datetime | None = None
    """When."""
    reason: str = ""
    """Why it was closed, in one sentence."""


def acknowledge(alarm: Alarm, *, by: str, at: datetime) -> Alarm:
    """Somebody takes the alarm on.

    Raises:
        AlarmMovedOn: it is closed, or somebody has it already.
    """
    if alarm.state != "open":
        raise AlarmMovedOn(f"The alarm is {alarm.state}, so it can't be acknowledged. Only open alarms can.")
    return replace(alarm, state="acknowledged", acknowledged_by=by, acknowledged_at=at)


def close(alarm: Alarm, *, by: str, at: datetime, reason: str) -> Alarm:
    """Somebody closes the alarm and says why.

    Raises:
        AlarmMovedOn: it is closed already.
        UsageError: there is no reason.
    """
    if alarm.state == "closed":
        raise AlarmMovedOn("The alarm is closed already.")
    if not reason.strip():
        raise UsageError("An alarm is closed with a reason. Say what was found, in one sentence.")
    return replace(alarm, state="closed", closed_by=by, closed_at=at, reason=reason.strip())


class Alarms:
    """Alarms that are looked at, taken on and closed; each act is one transaction with its row in the audit.

    Args:
        database: where they are kept.
        clock: gives the instant; tests give their own.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime] = now) -> None:
        self._database, self._clock = database, clock

    def newest(self, *, limit: int, cursor: str | None = None) -> tuple[Alarm, ...]:
        """So many, newest first.

        Args:
            limit: most of them.
            cursor: only those behind it, as :func:`hilum.records.cursors.write_cursor` makes it of an alarm.

        Raises:
            UsageError: the cursor is none of ours.
        """
        query = newest_first().limit(limit)
        if cursor is not None:
            query = query.where(behind(cursor, AlarmRow.opened_at, AlarmRow.id))
        with self._database.read() as session:
            return tuple(to_alarm(row) for row in session.scalars(query))

    def unsettled(self) -> tuple[Alarm, ...]:
        """All that are not closed, newest first; read from the index of states."""
        with self._database.read() as session:
            return tuple(to_alarm(row) for row in session.scalars(newest_first().where(AlarmRow.state.in_(UNSETTLED))))

    def counts(self) -> dict[str, int]:
        """How many are not closed, by state."""
        query = select(AlarmRow.state, func.count()).where(AlarmRow.state.in_(UNSETTLED)).group_by(AlarmRow.state)
        with self._database.read() as session:
            found = {state: int(number) for state, number in session.execute(query)}
        return {state: found.get(state, 0) for state in UNSETTLED}

    def acknowledge(self, alarm_id: str, *, by: str) -> Alarm:
        """Somebody takes an alarm on.

        Raises:
            NoSuchAlarm: no alarm has this id.
            AlarmMovedOn: it isn't open.
        """
        at = self._clock()
        return self._change(alarm_id, "alarm.acknowledged", by, lambda alarm: acknowledge(alarm, by=by, at=at), at)

    def close(self, alarm_id: str, *, by: str, reason: str) -> Alarm:
        """Somebody closes an alarm and says why.

        Raises:
            NoSuchAlarm: no alarm has this id.
            AlarmMovedOn: it is closed.
            UsageError: there is no reason.
        """
        at = self._clock()
        return self._change(alarm_id, "alarm.closed", by, lambda alarm: close(alarm, by=by, at=at, reason=reason), at)

    def _change(self, alarm_id: str, act: str, by: str, step: Callable[[Alarm], Alarm], at: datetime) -> Alarm:
        with self._database.write() as session:
            row = session.get(AlarmRow, alarm_id, with_for_update=True)
            if row is None:
                raise NoSuchAlarm(f"There is no alarm {alarm_id}. hilum monitor alarms lists them.")
            alarm = step(to_alarm(row))
            keep(session, row, alarm, Act(actor=by, act=act, subject=alarm.id), at)
        return alarm


def keep(session: Session, row: AlarmRow, alarm: Alarm, act: Act, at: datetime, *, seen_until: float = -1.0) -> None:
    """Write what an alarm is now, and the act that made it so into the audit.

    Args:
        session: of a writing transaction.
        row: the alarm's.
        alarm: what it is now.
        act: who did what; its detail is put in here.
        at: the instant.
        seen_until: end of the newest look that it has seen; before any for the one that it had.
    """
    until = seen_until if seen_until >= 0 else float(json.loads(row.detail)["seen_until"])
    row.state, row.quiet_looks, row.detail = alarm.state, alarm.quiet_looks, detail_of(alarm, until)
    row.acknowledged_by, row.acknowledged_at = alarm.acknowledged_by, alarm.acknowledged_at
    row.closed_by, row.closed_at, row.reason = alarm.closed_by, alarm.closed_at, alarm.reason
    said = {"state": alarm.state, "quiet_looks": alarm.quiet_looks, "reason": alarm.reason}
    append(session, replace(act, detail=said), at)


def detail_of(alarm: Alarm, seen_until: float) -> str:
    """What an alarm's row holds as JSON."""
    return json.dumps({"streams": list(alarm.streams), "sentence": alarm.sentence, "seen_until": seen_until})


def newest_first() -> Select[AlarmRow]:
    """The query for all alarms."""
    return select(AlarmRow).order_by(AlarmRow.opened_at.desc(), AlarmRow.id)


def to_alarm(row: AlarmRow) -> Alarm:
    """A row as a value."""
    detail = json.loads(row.detail)
    return Alarm(
        id=row.id,
        state=row.state,  # type: ignore[arg-type]  # the table's check constraint admits no other
        owner=row.owner,
        opened_at=row.opened_at,
        streams=tuple(detail["streams"]),
        culprit=row.culprit,
        sentence=detail["sentence"],
        quiet_looks=row.quiet_looks,
        acknowledged_by=row.acknowledged_by,
        acknowledged_at=row.acknowledged_at,
        closed_by=row.closed_by,
        closed_at=row.closed_at,
        reason=row.reason,
    )
