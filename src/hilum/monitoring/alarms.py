"""An alarm: opened by two looks in a row, owned by somebody, acknowledged, closed. Pure; the records keep it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from hilum.errors import UsageError
from hilum.monitoring.looks import Look, persistent

AlarmState = Literal["open", "acknowledged", "closed"]

BY_ITSELF = "quiet"
"""Who closed an alarm that closed by itself."""


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
    """Who, or :data:`BY_ITSELF`; empty until then."""
    closed_at: datetime | None = None
    """When."""
    reason: str = ""
    """Why it was closed, in one sentence."""


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


def acknowledge(alarm: Alarm, *, by: str, at: datetime) -> Alarm:
    """Somebody takes the alarm on.

    Raises:
        UsageError: it is closed, or somebody has it already.
    """
    if alarm.state != "open":
        raise UsageError(f"The alarm is {alarm.state}, so it can't be acknowledged. Only open alarms can.")
    return replace(alarm, state="acknowledged", acknowledged_by=by, acknowledged_at=at)


def close(alarm: Alarm, *, by: str, at: datetime, reason: str) -> Alarm:
    """Somebody closes the alarm and says why.

    Raises:
        UsageError: it is closed already, or there is no reason.
    """
    if alarm.state == "closed":
        raise UsageError("The alarm is closed already.")
    if not reason.strip():
        raise UsageError("An alarm is closed with a reason. Say what was found, in one sentence.")
    return replace(alarm, state="closed", closed_by=by, closed_at=at, reason=reason)
