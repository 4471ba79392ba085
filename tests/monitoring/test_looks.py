"""Looks: a plan's budget adds up, what can't be looked at is refused by name, and one story end to end."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from tests.monitoring.joining import together
from tests.monitoring.promises import PLAN, drift, stable_quarter

from hilum.errors import ConfigError, DataError, UsageError
from hilum.monitoring.alarm_book import AlarmBook
from hilum.monitoring.alarms import advance
from hilum.monitoring.culprits import largest_class_change, name_culprit
from hilum.monitoring.looks import Look, StreamLook, halves, look, one_a_patient, persistent, watch
from hilum.monitoring.plan import WatchPlan
from hilum.monitoring.power import detectable
from hilum.monitoring.selftest import self_test
from hilum.monitoring.simulation import DAY_S, START, Site, drifted, simulate
from hilum.monitoring.two_sample import Found
from hilum.records.alarms import Alarm, Alarms, acknowledge, close, detail_of
from hilum.records.database import Database
from hilum.records.observations import Observations
from hilum.records.schema import AlarmRow

NOW = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def usual() -> Observations:
    return simulate(Site(), 40, np.random.default_rng(0))


def test_the_budget_is_spent_over_the_looks_of_a_quarter() -> None:
    plan = WatchPlan(owner="qm")
    assert plan.looks_a_quarter * plan.look_level**2 == pytest.approx(plan.false_alarms_a_quarter)
    assert WatchPlan(owner="qm", look_days=1).look_level < plan.look_level


def test_a_plan_names_all_that_is_wrong_with_it() -> None:
    with pytest.raises(ConfigError) as caught:
        WatchPlan(owner=" ", false_alarms_a_quarter=0, look_days=0, share_floor=1.5, day_s=0)
    assert [text.split(" is ")[0] for text in caught.value.problems] == [
        "owner",
        "false_alarms_a_quarter",
        "look_days",
        "share_floor",
        "day_s",
    ]


def test_one_new_device_is_found_and_named_and_one_stable_quarter_is_quiet() -> None:
    assert drift("new device", 0) == "device"
    assert stable_quarter(0) == 0


def test_looks_in_a_row_are_compared_with_films_that_they_do_not_share(usual: Observations) -> None:
    even, odd = halves(usual)
    assert not set(even.patient.tolist()) & set(odd.patient.tolist())
    assert len(even) + len(odd) == len(usual)


def test_the_same_films_give_the_same_look(usual: Observations) -> None:
    window = simulate(Site(), 4, np.random.default_rng(1))
    first, again = (look(usual, window, PLAN, number=3) for _ in range(2))
    # NaN (no failures to compare) is not equal to itself, so texts are compared.
    assert repr(first) == repr(again)


def test_a_patient_counts_once_until_two_looks_without_a_film_are_over(usual: Observations) -> None:
    pairs = replace(usual, patient=usual.patient // 2)
    assert len(one_a_patient(pairs, PLAN)) == (len(usual) + 1) // 2
    days = np.array([0, 1, 13, 14, 26, 30, 50.0])
    films = replace(usual.select(np.arange(7)), at=START + days * DAY_S, patient=np.array([5, 8, 8, 5, 8, 9, 8]))
    counted = (one_a_patient(films, PLAN).at - START) / DAY_S
    assert counted.tolist() == [14, 30, 50], "who was there in the first two weeks is not known"
    assert len(one_a_patient(films.select(np.array([0, 1, 5])), PLAN)) == 3


def staying(films: Observations, rng: np.random.Generator) -> Observations:
    """The same site, where one in ten patients stays and has a film a day, alike each day, for a week and more."""
    stays = np.where(rng.random(len(films)) < 0.1, rng.geometric(1 / 8, len(films)), 1)
    row = np.repeat(np.arange(len(films)), stays)
    day = np.arange(len(row)) - np.repeat(np.cumsum(stays) - stays, stays)
    at = films.at[row] + day * DAY_S
    order = np.argsort(at, kind="stable")[at[np.argsort(at, kind="stable")] <= films.at[-1]]
    return replace(films.select(row[order]), at=at[order])


def test_patients_who_stay_and_have_a_film_a_day_raise_no_more_alarms() -> None:
    chance = np.random.default_rng(4)
    films = staying(simulate(Site(films_a_day=15), 70 + 5 * 7, chance), chance)
    told = [
        sum(bool(one.fired) for one in watch(seen_one, PLAN, now=START + 106 * DAY_S).looks)
        for seen_one in (films, replace(films, patient=np.arange(len(films))))
    ]
    assert told[0] <= stats.binom.ppf(0.99, 5, PLAN.look_level)
    assert told[1] > stats.binom.ppf(0.999, 5, PLAN.look_level), "counted film by film they would"


def test_empty_and_small_windows_are_refused_by_name(usual: Observations) -> None:
    with pytest.raises(DataError, match="window of look 2 holds 10 films, but 50 are needed"):
        look(usual, usual.select(np.arange(10)), PLAN, number=2)
    with pytest.raises(DataError, match="No answers were kept in this span"):
        watch(usual.select(np.arange(0)), PLAN, now=START)
    with pytest.raises(DataError, match="reference holds 100 films, but 400 are needed"):
        look(usual.select(np.arange(100)), usual.select(np.arange(60)), PLAN, number=1)


def test_a_clock_that_jumps_is_refused(usual: Observations) -> None:
    with pytest.raises(DataError, match="days after now: a clock jumped"):
        watch(usual, PLAN, now=START)
    back = usual.at.copy()
    back[7] = back[3]
    with pytest.raises(DataError, match="Row 8 was received before the row above it"):
        watch(replace(usual, at=back), PLAN, now=START + 400 * DAY_S)


def test_few_films_wait_for_the_next_look() -> None:
    films = simulate(Site(films_a_day=12), 40 + 30, np.random.default_rng(2))
    plan = WatchPlan(owner="qm", reference_days=40, least_films=100, look_days=7)
    watched = watch(films, plan, now=START + 70 * DAY_S)
    assert [len(span) >= 100 for span in watched.spans] == [True, True]  # two weeks each, not four looks of one


def test_in_a_rehearsal_weeks_pass_in_minutes_and_the_looks_are_the_same() -> None:
    films = simulate(Site(), 40 + 14, np.random.default_rng(3))
    plan = WatchPlan(owner="qm", reference_days=40)
    fast = replace(films, at=START + (films.at - START) / 1440)
    looks = watch(films, plan, now=START + 54.5 * DAY_S).looks
    again = watch(fast, replace(plan, day_s=60), now=START + 54.5 * 60).looks
    assert len(looks) == 2
    assert [repr(one.streams) for one in again] == [repr(one.streams) for one in looks]


def a_look(*fired: str) -> Look:
    found = Found(effect=0.3, p_value=0.001, reference=100, window=100)
    streams = tuple(
        StreamLook(name=name, kind="class", found=found, adjusted=0.01, floor=0.05, fires=True) for name in fired
    )
    return Look(number=1, since=0, until=1, films=100, reference=100, level=0.06, streams=streams)


def an_alarm() -> Alarm:
    return Alarm(
        id="1", state="open", owner="qm", opened_at=NOW, streams=("device",), culprit="device", sentence="A device."
    )


def test_an_alarm_needs_the_same_stream_in_two_looks_in_a_row() -> None:
    assert persistent([a_look("device")]) == ()
    assert persistent([a_look("device"), a_look("features")]) == ()
    assert persistent([a_look("device", "features"), a_look("features")]) == ("features",)
    assert advance(None, [a_look("device"), a_look("device")], quiet_looks=4, at=NOW) == (None, True)


def test_what_fires_while_an_alarm_is_open_is_added_and_calls_nobody_again() -> None:
    alarm, anew = advance(an_alarm(), [a_look("features"), a_look("features")], quiet_looks=4, at=NOW)
    assert alarm is not None
    assert alarm.streams == ("device", "features")
    assert not anew


def test_an_alarm_closes_by_itself_after_quiet_looks_and_not_before() -> None:
    alarm = acknowledge(an_alarm(), by="qm", at=NOW)
    for _ in range(3):
        moved, _ = advance(alarm, [a_look()], quiet_looks=4, at=NOW)
        assert moved is not None
        alarm = moved
        assert alarm.state == "acknowledged"
    again, _ = advance(alarm, [a_look("device")], quiet_looks=4, at=NOW)
    assert again is not None
    assert again.quiet_looks == 0
    closed, _ = advance(replace(alarm, quiet_looks=3), [a_look()], quiet_looks=4, at=NOW)
    assert closed is not None
    assert (closed.state, closed.closed_by) == ("closed", "quiet")


def test_steps_of_an_alarm_that_make_no_sense_are_refused() -> None:
    done = close(an_alarm(), by="qm", at=NOW, reason="The device was replaced.")
    with pytest.raises(UsageError, match="alarm is closed, so it can't be acknowledged"):
        acknowledge(done, by="qm", at=NOW)
    with pytest.raises(UsageError, match="closed already"):
        close(done, by="qm", at=NOW, reason="again")
    with pytest.raises(UsageError, match="closed with a reason"):
        close(an_alarm(), by="qm", at=NOW, reason=" ")
    with pytest.raises(UsageError, match="closed alarm doesn't change"):
        advance(done, [a_look()], quiet_looks=4, at=NOW)


def test_a_self_test_without_films_says_so(usual: Observations) -> None:
    with pytest.raises(DataError, match=r"a self-test needs 200 for two looks of 50 .* Wait until more were answered"):
        self_test(usual.select(np.arange(120)), PLAN, films=200)
    with pytest.raises(DataError, match="holds 1 film; "):
        self_test(usual.select(np.arange(1)), PLAN, films=200)


def test_nothing_is_named_where_nothing_changed(usual: Observations) -> None:
    other = simulate(Site(), 8, np.random.default_rng(3))
    found = name_culprit(usual, other)
    assert found.name == ""
    assert "No attribute" in found.sentence
    with pytest.raises(DataError, match="needs 5 films a side; 3 are in the window"):
        name_culprit(usual, other.select(np.arange(3)))


def test_the_stated_power_is_met_by_simulation() -> None:
    """A share that moves by the stated amount is found by a look in at least the root of the stated power."""
    from hilum.monitoring.two_sample import compare_classes

    stated = detectable(PLAN, films=200, reference=1000, streams=20)
    chance, hits = np.random.default_rng(0), 0
    for _ in range(100):
        a, b = chance.binomial(1000, 0.5 - stated.share / 2), chance.binomial(200, 0.5 + stated.share / 2)
        hits += compare_classes(np.array([1000 - a, a]), np.array([200 - b, b]), chance).p_value <= stated.level
    assert hits >= 88
    assert detectable(PLAN, films=50, reference=200, streams=20).distance > stated.distance
    assert "Smaller changes may pass unseen" in stated.sentence


def test_the_class_that_grew_is_named() -> None:
    assert largest_class_change([90, 10, 0], [60, 10, 30], ("A", "B", "C")) == "C, 0 % → 30 %"


def test_an_unknown_drift_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'new device'"):
        drifted(Site(), "new devise")


def test_sites_join_in_time(usual: Observations) -> None:
    later = simulate(Site(), 2, np.random.default_rng(1), start=START + 50 * DAY_S)
    both = together(usual, later)
    assert len(both) == len(usual) + len(later)
    assert len(set(both.patient.tolist())) == len(both)


def test_a_look_undoes_nothing_that_a_person_did_to_the_alarm_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monitor has read the alarm as open; before it writes, a person takes it on, later closes it."""
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    book, alarms, stale = AlarmBook(database), Alarms(database), an_alarm()
    with database.write() as session:
        row = AlarmRow(id=stale.id, state="open", owner=stale.owner, opened_at=stale.opened_at, culprit="")
        row.detail = detail_of(stale, -1.0)
        session.add(row)
    monkeypatch.setattr(book, "alarms", lambda: (stale,))
    rules = WatchPlan(owner="qm")
    alarms.acknowledge(stale.id, by="ada")
    followed, _ = book.advance([a_look()], rules, lambda: pytest.fail("none is opened"))
    assert followed is not None
    assert (followed.state, followed.acknowledged_by, followed.quiet_looks) == ("acknowledged", "ada", 1)
    assert alarms.newest(limit=1) == (followed,)
    alarms.close(stale.id, by="ada", reason="A new detector.")
    later = replace(a_look(), until=a_look().until + 1)
    kept, _ = book.advance([later], rules, lambda: pytest.fail("none is opened"))
    assert kept == alarms.newest(limit=1)[0]
    assert (kept.state, kept.closed_by, kept.quiet_looks) == ("closed", "ada", 1)
    database.close()
