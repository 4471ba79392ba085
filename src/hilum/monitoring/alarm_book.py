"""Alarms in the records as looks open, follow and close them, each act with its row in the audit.

People take them on and close them by :mod:`hilum.records.alarms`.
"""

import json
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import select

from hilum.monitoring.alarms import advance
from hilum.monitoring.culprits import Culprit
from hilum.monitoring.looks import Look, persistent
from hilum.monitoring.plan import WatchPlan
from hilum.records.alarms import Alarm, detail_of, keep, newest_first, to_alarm
from hilum.records.audit import Act, append
from hilum.records.database import Database
from hilum.records.schema import AlarmRow
from hilum.records.store import now

MONITOR = "monitor"
"""The actor of what no person did."""


class AlarmBook:
    """The monitor's acts on alarms, each one transaction.

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
        if current is not None:
            return self._follow(current.id, looks, plan), False
        _, anew = advance(None, looks, quiet_looks=plan.quiet_looks, at=self._clock())
        return (self._open(looks, plan, culprit()), True) if anew else (None, False)

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
            row.detail = detail_of(alarm, looks[-1].until)
            session.add(row)
            detail = {"owner": plan.owner, "streams": list(streams), "culprit": culprit.name}
            append(session, Act(actor=MONITOR, act="alarm.opened", subject=alarm.id, detail=detail), at)
        return alarm

    def _follow(self, alarm_id: str, looks: Sequence[Look], plan: WatchPlan) -> Alarm:
        """Take the look in for an alarm as it is now: somebody may have taken it on, or closed it, a moment ago."""
        with self._database.write() as session:
            row, at = session.get_one(AlarmRow, alarm_id, with_for_update=True), self._clock()
            alarm = to_alarm(row)
            if alarm.state == "closed":
                return alarm
            moved, _ = advance(alarm, looks, quiet_looks=plan.quiet_looks, at=at)
            if moved is None:  # never so of an alarm that is there
                return alarm
            what = "alarm.closed" if moved.state == "closed" else "alarm.followed"
            act = Act(actor=MONITOR, act=what, subject=alarm.id)
            keep(session, row, moved, act, at, seen_until=looks[-1].until)
        return moved
