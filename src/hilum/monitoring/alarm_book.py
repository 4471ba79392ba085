"""Alarms in the records: opened, acknowledged and closed, each act with its row in the audit."""

import json
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Select, select

from hilum.errors import UsageError
from hilum.monitoring.alarms import Alarm, acknowledge, advance, close
from hilum.monitoring.culprits import Culprit
from hilum.monitoring.looks import Look, persistent
from hilum.monitoring.plan import WatchPlan
from hilum.records.audit import Act, append
from hilum.records.database import Database
from hilum.records.schema import AlarmRow
from hilum.records.store import now

MONITOR = "monitor"
"""The actor of what no person did."""


class AlarmBook:
    """The acts on alarms, each one transaction.

    Args:
        database: where they are kept.
        clock: gives the instant; tests give their own.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime] = now) -> None:
        self._database, self._clock = database, clock

    def alarms(self) -> tuple[Alarm, ...]:
        """All alarms, newest first."""
        with self._database.read() as session:
            return tuple(to_alarm(row) for row in session.scalars(newest_first()))

    def advance(
        self, looks: Sequence[Look], plan: WatchPlan, culprit: Callable[[], Culprit]
    ) -> tuple[Alarm | None, bool]:
        """Take the newest look in; the same look again changes nothing.

        Args:
            looks: all up to the newest.
            plan: how the site is watched.
            culprit: asked when an alarm is opened.

        Returns:
            the alarm that isn't closed, or was just closed, and whether it was opened now; None for none.
        """
        current = next((one for one in self.alarms() if one.state != "closed"), None)
        seen = self._last_look()
        fresh = [one for one in looks if one.until > seen]
        if not fresh:
            return current, False
        moved, anew = advance(current, looks, quiet_looks=plan.quiet_looks, at=self._clock())
        if anew:
            return self._open(looks, plan, culprit()), True
        if moved is not None and current is not None:
            self._keep(moved, "alarm.closed" if moved.state == "closed" else "alarm.followed", MONITOR, looks[-1].until)
        return moved, False

    def _last_look(self) -> float:
        """End of the newest look that an alarm has seen: a second check in the same week adds nothing."""
        with self._database.read() as session:
            rows = [json.loads(row.detail) for row in session.scalars(select(AlarmRow))]
        return max((float(row["seen_until"]) for row in rows), default=-1.0)

    def _open(self, looks: Sequence[Look], plan: WatchPlan, culprit: Culprit) -> Alarm:
        streams = persistent(looks)
        said = f"{', '.join(streams)} changed in two looks in a row. {culprit.sentence}"
        at = self._clock()
        alarm = Alarm(
            id=secrets.token_hex(8),
            state="open",
            owner=plan.owner,
            opened_at=at,
            streams=streams,
            culprit=culprit.name,
            sentence=said,
        )
        with self._database.write() as session:
            row = AlarmRow(id=alarm.id, state="open", owner=plan.owner, opened_at=at, culprit=culprit.name)
            row.detail = _detail(alarm, looks[-1].until)
            session.add(row)
            detail = {"owner": plan.owner, "streams": list(streams), "culprit": culprit.name}
            append(session, Act(actor=MONITOR, act="alarm.opened", subject=alarm.id, detail=detail), at)
        return alarm

    def acknowledge(self, alarm_id: str, *, by: str) -> Alarm:
        """Somebody takes an alarm on.

        Raises:
            UsageError: no such alarm, or it isn't open.
        """
        alarm = acknowledge(self._get(alarm_id), by=by, at=self._clock())
        self._keep(alarm, "alarm.acknowledged", by, None)
        return alarm

    def close(self, alarm_id: str, *, by: str, reason: str) -> Alarm:
        """Somebody closes an alarm and says why.

        Raises:
            UsageError: no such alarm, it is closed, or there is no reason.
        """
        alarm = close(self._get(alarm_id), by=by, at=self._clock(), reason=reason)
        self._keep(alarm, "alarm.closed", by, None)
        return alarm

    def _get(self, alarm_id: str) -> Alarm:
        with self._database.read() as session:
            row = session.get(AlarmRow, alarm_id)
            if row is None:
                raise UsageError(f"There is no alarm {alarm_id}. hilum monitor alarms lists them.")
            return to_alarm(row)

    def _keep(self, alarm: Alarm, act: str, actor: str, seen_until: float | None) -> None:
        with self._database.write() as session:
            row = session.get_one(AlarmRow, alarm.id, with_for_update=True)
            until = seen_until if seen_until is not None else float(json.loads(row.detail)["seen_until"])
            row.state, row.quiet_looks, row.detail = alarm.state, alarm.quiet_looks, _detail(alarm, until)
            row.acknowledged_by, row.acknowledged_at = alarm.acknowledged_by, alarm.acknowledged_at
            row.closed_by, row.closed_at, row.reason = alarm.closed_by, alarm.closed_at, alarm.reason
            detail = {"state": alarm.state, "quiet_looks": alarm.quiet_looks, "reason": alarm.reason}
            append(session, Act(actor=actor, act=act, subject=alarm.id, detail=detail), self._clock())


def _detail(alarm: Alarm, seen_until: float) -> str:
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
