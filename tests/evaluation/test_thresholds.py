"""Operating points keep their floor on validation films, stay fixed, and are measured on others."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hilum.errors import ConfigError, DataError
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.thresholds import (
    OperatingRules,
    apply_operating_points,
    choose_operating_points,
    cost_threshold,
    floor_threshold,
    thresholds,
    youden_threshold,
)
from hilum.labels import Findings
from hilum.predictions import Predictions
from hilum.randomness import stream

FEW = Resampling(resamples=60)
PROBS = np.array([0.9, 0.8, 0.6, 0.5, 0.3, 0.1])
POSITIVE = np.array([True, True, False, True, False, False])


def test_floor_threshold_by_hand_lies_halfway_to_the_next_lower_score() -> None:
    assert floor_threshold(PROBS, POSITIVE, 1.0) == pytest.approx((0.5 + 0.3) / 2)
    assert floor_threshold(PROBS, POSITIVE, 2 / 3) == pytest.approx((0.8 + 0.6) / 2)


def test_the_lowest_score_of_all_has_a_threshold_below_it() -> None:
    assert floor_threshold(np.array([0.4, 0.7]), np.array([True, False]), 0.95) == pytest.approx(0.2)


def test_youden_threshold_by_hand() -> None:
    assert youden_threshold(PROBS, POSITIVE) == pytest.approx((0.5 + 0.3) / 2)


@pytest.mark.parametrize("seed", range(3))
def test_thresholds_are_the_best_among_all(seed: int) -> None:
    rng = stream(seed, "thresholds")
    positive = rng.random(60) < 0.4
    probs = np.round(np.clip(rng.normal(0.4, 0.2, 60) + 0.25 * positive, 0, 1), 2)

    def both(t: float) -> tuple[float, float]:
        return float((probs >= t)[positive].mean()), float((probs < t)[~positive].mean())

    every = [both(t) for t in np.unique(probs)]
    sensitivity, specificity = both(floor_threshold(probs, positive, 0.9))
    assert sensitivity >= 0.9
    assert specificity == max(spec for sens, spec in every if sens >= 0.9)
    assert sum(both(youden_threshold(probs, positive))) == pytest.approx(max(map(sum, every)))


def test_each_point_says_what_it_was_chosen_for(make: Callable[..., Predictions]) -> None:
    films = make(240)

    def aims(rules: OperatingRules) -> list[str]:
        chosen = choose_operating_points(films, rules, FEW)
        return [point.aim for point in apply_operating_points(chosen, films, FEW).values()]

    assert aims(OperatingRules(floors={"covid-19": 0.98})) == [
        "Youden's index",
        "sensitivity of at least 0.95",
        "sensitivity of at least 0.98",
    ]
    assert aims(OperatingRules(rule="youden")) == ["Youden's index"] * 3
    assert aims(OperatingRules(rule="cost", cost_of_miss=5))[1] == "least cost, a miss weighing 5 false alarms"
    with pytest.raises(ConfigError, match=r"rule is 'best'\. .*Known: sensitivity-floor, youden, cost"):
        OperatingRules(rule="best")  # type: ignore[arg-type]


def test_every_finding_but_normal_keeps_its_floor_on_the_validation_films(make: Callable[..., Predictions]) -> None:
    points = choose_operating_points(make(240), OperatingRules(sensitivity_floor=0.9), FEW)
    assert {name: point.rule for name, point in points.items()} == {
        "normal": "youden",
        "pneumonia": "sensitivity-floor",
        "covid-19": "sensitivity-floor",
    }
    for name in ("pneumonia", "covid-19"):
        assert points[name].sensitivity.value >= 0.9
        assert points[name].measured_on == "validation"
        assert points[name].specificity.bounded


def test_fixed_points_keep_their_threshold_on_other_films(make: Callable[..., Predictions]) -> None:
    chosen = choose_operating_points(make(240), settings=FEW)
    films = make(120, seed=7)
    tested = apply_operating_points(chosen, films, FEW)
    assert thresholds(tested) == thresholds(chosen)
    called = films.probs[:, 2] >= chosen["covid-19"].threshold
    assert tested["covid-19"].sensitivity.value == pytest.approx(called[films.targets[:, 2] == 1].mean())
    assert tested["covid-19"].specificity.value == pytest.approx((~called)[films.targets[:, 2] == 0].mean())
    assert tested["covid-19"].flagged == pytest.approx(called.mean())
    assert tested["covid-19"].measured_on == "test"


def test_a_finding_without_a_film_has_no_threshold_and_says_why(make: Callable[..., Predictions]) -> None:
    films = make(60)
    without = films.select(np.flatnonzero(films.targets[:, 2] == 0))
    points = choose_operating_points(without, settings=FEW)
    assert math.isnan(points["covid-19"].threshold)
    assert points["covid-19"].reason == "No labelled film shows covid-19, so no threshold can be chosen."
    assert not points["covid-19"].sensitivity.estimable
    assert "covid-19" not in thresholds(points)


def test_a_finding_that_all_films_show_has_no_threshold(make: Callable[..., Predictions]) -> None:
    films = make(60)
    only = films.select(np.flatnonzero(films.targets[:, 0] == 1))
    reason = choose_operating_points(only, settings=FEW)["normal"].reason
    assert reason == "Every labelled film shows normal, so no threshold can be chosen."


def test_nan_probabilities_have_no_threshold(make: Callable[..., Predictions]) -> None:
    films = make(60)
    films.probs[3] = np.nan
    point = choose_operating_points(films, settings=FEW)["normal"]
    assert "1 of 60 films have no probability (NaN)" in point.reason
    assert point.specificity.reason == "There is no threshold, or a film has no probability."


def test_test_films_that_lack_one_side_say_so(make: Callable[..., Predictions]) -> None:
    points = choose_operating_points(make(120), settings=FEW)
    films = make(60, seed=3)
    without = films.select(np.flatnonzero(films.targets[:, 2] == 0))
    tested = apply_operating_points(points, without, FEW)["covid-19"]
    assert tested.sensitivity.reason == "The labelled films all show covid-19, or none does."
    assert tested.specificity.estimable


def test_no_labelled_film_at_all_is_not_estimable(make: Callable[..., Predictions]) -> None:
    films = make(30)
    films.targets[:] = np.nan
    points = choose_operating_points(films, settings=FEW)
    assert thresholds(points) == {}


def test_few_positive_patients_are_named(make: Callable[..., Predictions]) -> None:
    reason = choose_operating_points(make(60), settings=FEW)["covid-19"].reason
    assert reason == "Only 10 patients with covid-19 choose this threshold; other films may fall below it."


def test_a_floor_outside_its_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="sensitivity_floor is 95, but must lie above 0 and up to 1, such as 0.95"):
        OperatingRules(sensitivity_floor=95)


def test_points_for_other_findings_are_refused(make: Callable[..., Predictions]) -> None:
    points = choose_operating_points(make(60), settings=FEW)
    films = replace(make(60), findings=Findings(("a", "b", "c")))
    with pytest.raises(DataError, match="can't be applied to predictions of"):
        apply_operating_points(points, films, FEW)


def test_the_cost_rule_minimises_the_cost_on_the_films_by_search() -> None:
    rng = stream(7, "cost")
    probs = np.round(rng.random(120), 2)
    positive = rng.random(120) < probs
    for cost in (0.5, 3.0, 20.0):
        found = cost_threshold(probs, positive, cost)
        costs = [
            cost * (positive & (probs < t)).sum() + (~positive & (probs >= t)).sum() for t in np.unique([*probs, found])
        ]
        assert cost * (positive & (probs < found)).sum() + (~positive & (probs >= found)).sum() == min(costs)


def test_the_cost_rule_tends_to_elkans_threshold_on_calibrated_probabilities() -> None:
    rng = stream(8, "cost")
    probs = rng.random(20_000)
    found = cost_threshold(probs, rng.random(20_000) < probs, 4.0)
    assert found == pytest.approx(1 / 5, abs=0.05)


def test_a_finding_may_have_its_own_floor_or_a_cost(make: Callable[..., Predictions]) -> None:
    films = make(300)
    floors = OperatingRules(floors={"covid-19": 0.6})
    points = choose_operating_points(films, floors, FEW)
    assert 0.6 <= points["covid-19"].sensitivity.value < 0.7
    assert points["pneumonia"].sensitivity.value >= 0.95
    costly = choose_operating_points(films, OperatingRules(rule="cost", cost_of_miss=50), FEW)
    cheap = choose_operating_points(films, OperatingRules(rule="cost", cost_of_miss=0.2), FEW)
    assert costly["covid-19"].rule == "cost"
    assert costly["covid-19"].threshold < cheap["covid-19"].threshold
    assert costly["normal"].rule == "youden"


def test_wrong_costs_and_floors_are_refused(make: Callable[..., Predictions]) -> None:
    with pytest.raises(ConfigError, match="x is 1.2, but must lie above 0 and up to 1(?s:.*)cost_of_miss is 0"):
        OperatingRules(floors={"x": 1.2}, cost_of_miss=0)
    with pytest.raises(ConfigError, match=r"Floors are given for \['x'\], but the findings are"):
        choose_operating_points(make(60), OperatingRules(floors={"x": 0.5}))
