"""What sets a retraining off: the schedule, an alarm, or so many new labels. Pure: clock and counts are given."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from hilum.errors import ConfigError, UsageError

ANY = "any"
"""Stands for every kind of alarm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Which triggers are asked for; any one of them is enough.

    Raises:
        ConfigError: values out of range, or none is asked for.
    """

    every_days: float | None = None
    """Days since the last version of the data; None when the schedule isn't asked."""
    alarms: tuple[str, ...] | None = None
    """Kinds of alarm, by what the alarm names as the culprit, or :data:`ANY`; None when alarms aren't asked."""
    labels: int | None = None
    """New labels; None when they aren't counted."""

    def __post_init__(self) -> None:
        problems = []
        if self.every_days is not None and not self.every_days > 0:
            problems.append(f"every_days is {self.every_days}, but must be above 0.")
        if self.labels is not None and self.labels < 1:
            problems.append(f"labels is {self.labels}, but must be 1 or more.")
        if self.alarms == ():
            problems.append(f"alarms names no kind. Name what alarms may be of, or {ANY!r}.")
        if problems:
            raise ConfigError(problems)

    @property
    def asked(self) -> bool:
        """Whether any trigger is asked for; without one a person has decided."""
        return (self.every_days, self.alarms, self.labels) != (None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAlarm:
    """An alarm of monitoring that is not closed."""

    id: str
    """Opaque id."""
    culprit: str
    """What it names; empty when nothing."""
    opened_at: datetime
    """When (UTC)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """What set a retraining off."""

    sentence: str
    """For the proposal."""
    alarm: str = ""
    """Id of the alarm; empty for other triggers. An alarm sets off one retraining."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """What the triggers are held against."""

    now: datetime
    """The instant."""
    last: datetime | None
    """When the last version of the data was made; None before the first."""
    labels: int
    """Labels that were accepted since."""
    alarms: tuple[OpenAlarm, ...] = ()
    """Alarms that are not closed."""
    answered: frozenset[str] = frozenset()
    """Ids of alarms that set a retraining off already."""


def due(asked: Conditions, at: Occasion) -> tuple[Trigger | None, str]:
    """Whether a retraining is due.

    Returns:
        (what sets it off, or None; the same in a sentence).

    Raises:
        UsageError: the last version was made later than now, so one of the clocks is wrong.
    """
    if at.last is not None and at.last > at.now:
        behind_s = ceil((at.last - at.now).total_seconds())
        raise UsageError(
            f"The clock says {at.now:%Y-%m-%d %H:%M:%S} UTC, {behind_s:,} s before the last version of the data was "
            f"made ({at.last:%Y-%m-%d %H:%M:%S}). Set the clock right, or every schedule is wrong."
        )
    found = [told for told in (_by_alarm(asked, at), _by_labels(asked, at), _by_schedule(asked, at)) if told]
    if found:
        return found[0], found[0].sentence
    return None, "Nothing is due: " + "; ".join(_waiting(asked, at)) + "."


def _by_alarm(asked: Conditions, at: Occasion) -> Trigger | None:
    for alarm in sorted(at.alarms, key=lambda one: (one.opened_at, one.id)):
        if alarm.id not in at.answered and asked.alarms and (ANY in asked.alarms or alarm.culprit in asked.alarms):
            what = alarm.culprit or "nothing that it could name"
            said = f"Alarm {alarm.id} of {alarm.opened_at:%Y-%m-%d} is open; it names {what}."
            return Trigger(sentence=said, alarm=alarm.id)
    return None


def _by_labels(asked: Conditions, at: Occasion) -> Trigger | None:
    if asked.labels is None or at.labels < asked.labels:
        return None
    return Trigger(sentence=f"{at.labels} labels were accepted since the last version; {asked.labels} are enough.")


def _by_schedule(asked: Conditions, at: Occasion) -> Trigger | None:
    if asked.every_days is None or (at.last is not None and at.now - at.last < timedelta(days=asked.every_days)):
        return None
    since = "there was none yet" if at.last is None else f"the last one is of {at.last:%Y-%m-%d}"
    return Trigger(sentence=f"A retraining is scheduled every {asked.every_days:g} days, and {since}.")


def _waiting(asked: Conditions, at: Occasion) -> Sequence[str]:
    told = []
    if asked.every_days is not None and at.last is not None:
        then = at.last + timedelta(days=asked.every_days)
        told.append(f"the schedule of {asked.every_days:g} days comes on {then:%Y-%m-%d}")
    if asked.alarms is not None:
        told.append(f"no alarm of the kinds {', '.join(asked.alarms)} is open that has not set one off")
    if asked.labels is not None:
        told.append(f"{at.labels} of {asked.labels} new labels are there")
    return told
