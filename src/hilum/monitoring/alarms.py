"""What a look makes of an alarm: opened by two looks in a row, followed, closed by quiet ones. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from hilum.errors import UsageError
from hilum.monitoring.looks import Look, persistent
from hilum.records.alarms import Alarm

BY_ITSELF = "quiet"
"""Who closed an alarm that closed by itself."""


def advance(alarm: Alarm | None, looks: Sequence[Look], *, quiet_looks: int, at: datetime) -> tuple[Alarm | None, bool]:
    """What the newest look makes of the alarm that is not closed yet.

    One alarm is open at a time: what fires meanwhile is added to it and calls nobody a second time.

    Args:
        alarm: the alarm that is open or acknowledged; None for none.
        looks: all looks up to the newest.
        quiet_looks: looks in a row without a finding after which it closes by itself.
        at: the instant.

    Returns:
        the alarm now (None when there is none), and whether a new one must be opened.
    """
    if alarm is None:
        return None, bool(persistent(looks))
    if alarm.state == "closed":
        raise UsageError("A closed alarm doesn't change any more. Give the one that is open, or None.")
    fired = set(looks[-1].fired) if looks else set()
    added = tuple(name for name in persistent(looks) if name not in alarm.streams)
    if added or fired & set(alarm.streams):
        return replace(alarm, streams=alarm.streams + added, quiet_looks=0), False
    quiet = alarm.quiet_looks + 1
    if quiet < quiet_looks:
        return replace(alarm, quiet_looks=quiet), False
    why = f"Its streams were quiet in {quiet} looks in a row."
    return (
        replace(alarm, state="closed", quiet_looks=quiet, closed_by=BY_ITSELF, closed_at=at, reason=why),
        False,
    )
