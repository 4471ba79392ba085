"""What sets a retraining off: each trigger alone, the first that holds, and none."""

from datetime import UTC, datetime, timedelta

import pytest

from hilum.change.triggers import Conditions, Occasion, OpenAlarm, due
from hilum.errors import ConfigError, UsageError

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def occasion(days: float | None = 10, labels: int = 0, alarms: tuple[OpenAlarm, ...] = (), **more: object) -> Occasion:
    last = None if days is None else NOW - timedelta(days=days)
    return Occasion(**{"now": NOW, "last": last, "labels": labels, "alarms": alarms} | more)


DEVICE = OpenAlarm(id="a1", culprit="device", opened_at=NOW - timedelta(days=2))


@pytest.mark.parametrize(
    ("asked", "at", "said"),
    [
        (Conditions(every_days=10), occasion(10), "scheduled every 10 days, and the last one is of 2026-11-17"),
        (Conditions(every_days=10), occasion(None), "and there was none yet"),
        (Conditions(labels=5), occasion(labels=5), "5 labels were accepted since the last version; 5 are enough"),
        (Conditions(alarms=("device",)), occasion(alarms=(DEVICE,)), "Alarm a1 of 2026-11-25 is open; it names device"),
        (Conditions(alarms=("any",), labels=1), occasion(labels=3, alarms=(DEVICE,)), "Alarm a1"),
    ],
)
def test_each_trigger_sets_off_and_says_why(asked: Conditions, at: Occasion, said: str) -> None:
    found, sentence = due(asked, at)
    assert found is not None
    assert said in found.sentence == sentence


@pytest.mark.parametrize(
    ("asked", "at", "said"),
    [
        (Conditions(every_days=10), occasion(9.9), "Nothing is due: the schedule of 10 days comes on 2026-11-27."),
        (Conditions(labels=5), occasion(labels=4), "Nothing is due: 4 of 5 new labels are there."),
        (Conditions(alarms=("exposure",)), occasion(alarms=(DEVICE,)), "no alarm of the kinds exposure is open"),
        (Conditions(alarms=("any",)), occasion(alarms=(DEVICE,), answered=frozenset({"a1"})), "not set one off"),
    ],
)
def test_nothing_is_due_and_it_says_what_is_waited_for(asked: Conditions, at: Occasion, said: str) -> None:
    found, sentence = due(asked, at)
    assert found is None
    assert said in sentence


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (-1, "12:00:00 UTC, 86,400 s before the last version of the data was made (2026-11-28 12:00:00)"),
        (-1 / 86400, "12:00:00 UTC, 1 s before the last version of the data was made (2026-11-27 12:00:01)"),
    ],
)
def test_a_clock_that_went_back_is_refused_and_by_how_much_is_told(days: float, said: str) -> None:
    with pytest.raises(UsageError) as told:
        due(Conditions(every_days=1), occasion(days))
    assert f"The clock says 2026-11-27 {said}. Set the clock right" in str(told.value)


def test_conditions_out_of_range_are_refused_together() -> None:
    with pytest.raises(ConfigError) as told:
        Conditions(every_days=0, labels=0, alarms=())
    assert len(told.value.problems) == 3
    assert not Conditions().asked
    assert Conditions(labels=1).asked
