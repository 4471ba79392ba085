"""The gate's bars: each is reached by what changes nothing, and refused with its numbers by what does."""

import math

import numpy as np
import pytest

from hilum.evaluation.delong import delong_test
from hilum.inference.gate_checks import (
    Check,
    auroc_checks,
    map_check,
    map_correlations,
    probability_shift,
    sensitivity_checks,
    speed_check,
)
from hilum.labels import Findings
from hilum.predictions import Predictions

FINDINGS = Findings(("normal", "pneumonia"))


def films(n: int, *, noise: float = 0.0, seed: int = 0, per_patient: int = 1) -> Predictions:
    """n synthetic films, half of them with pneumonia, ranked well; noise is that of another precision."""
    random = np.random.default_rng(seed)
    positive = np.arange(n) // per_patient % 2 == 1
    logit = random.normal(0, 1, n) + 2.0 * positive
    logit = logit + noise * np.random.default_rng(99).normal(0, 1, n)
    chance = 1 / (1 + np.exp(1 - logit))
    return Predictions(
        findings=FINDINGS,
        film_ids=tuple(f"f{i}" for i in range(n)),
        patient_ids=tuple(f"p{i // per_patient}" for i in range(n)),
        logits=np.column_stack([-logit, logit]),
        probs=np.column_stack([1 - chance, chance]),
        targets=np.column_stack([~positive, positive]).astype(np.float64),
    )


def pneumonia(checks: tuple[Check, ...]) -> Check:
    return next(check for check in checks if "pneumonia" in check.what)


def test_a_small_disturbance_passes_on_enough_films_and_the_interval_is_delongs() -> None:
    usual, low = films(4000), films(4000, noise=0.01)
    check = pneumonia(auroc_checks(usual, low))
    test = delong_test(usual.probs[:, 1], low.probs[:, 1], usual.targets[:, 1] == 1, usual.patient_ids)
    assert check.passed
    assert check.numbers["drop"] == pytest.approx(test.difference.value)
    assert check.numbers["drop_high"] == pytest.approx(test.difference.high)
    assert 0 < test.difference.high < 0.002


def test_the_same_disturbance_on_few_films_is_not_shown_to_be_small_and_needs_this_many() -> None:
    usual, low = films(60), films(60, noise=0.1)
    check = pneumonia(auroc_checks(usual, low))
    drop, high = check.numbers["drop"], check.numbers["drop_high"]
    assert drop is not None
    assert high is not None
    assert drop < 0.002 < high
    assert check.films_needed == math.ceil(60 * ((high - drop) / (0.002 - drop)) ** 2)
    assert f"on 60 films; about {check.films_needed:,} such films would show whether it does." in check.refusal


def test_a_drop_that_is_too_large_is_not_mended_by_more_films() -> None:
    check = pneumonia(auroc_checks(films(400), films(400, noise=1.0)))
    assert (check.numbers["drop"] or 0) > 0.002
    assert check.films_needed is None
    assert "0.002 is allowed, and more films would not help" in check.refusal


@pytest.mark.parametrize(("n", "passes"), [(76, False), (78, True)])
def test_rankings_that_agree_in_every_pair_count_their_pairs(n: int, passes: bool) -> None:
    """3 / 38² is more than 0.002, 3 / 39² is less: to see no pair change places among few pairs says little."""
    check = pneumonia(auroc_checks(films(n), films(n)))
    assert check.numbers["drop_high"] == pytest.approx(3 / (n / 2) ** 2)
    assert check.passed is passes


def test_films_of_one_patient_are_not_many() -> None:
    """As many films, of a tenth of the patients: fewer pairs of patients, and the bar is out of reach."""
    assert pneumonia(auroc_checks(films(80), films(80))).passed
    assert not pneumonia(auroc_checks(films(80, per_patient=10), films(80, per_patient=10))).passed


def test_a_finding_that_too_few_show_cant_be_compared() -> None:
    usual = films(8)
    check = pneumonia(auroc_checks(usual, usual))
    assert "AUROC of pneumonia can't be compared: Only 4 patients" in check.refusal
    assert check.found == "not shown"


def test_sensitivity_that_stays_passes_and_one_that_falls_is_refused_with_its_films() -> None:
    usual = films(400)
    same = pneumonia(sensitivity_checks(usual, usual, {"pneumonia": 0.5}))
    assert same.passed
    assert same.numbers["change_low"] == pytest.approx(-3 / 200)
    lowered = films(400)
    lowered.probs[:, 1] -= 0.25
    check = pneumonia(sensitivity_checks(usual, lowered, {"pneumonia": 0.5}))
    caught = (usual.probs[1::2, 1] >= 0.5).sum(), (lowered.probs[1::2, 1] >= 0.5).sum()
    assert check.numbers["fp32"] == pytest.approx(caught[0] / 200)
    assert check.numbers["low"] == pytest.approx(caught[1] / 200)
    assert check.numbers["lost"] == caught[0] - caught[1]
    assert (check.numbers["change_high"] or 0) < 0
    assert check.refusal.startswith("The sensitivity for pneumonia at 0.500 changes:")


def test_a_fall_within_the_interval_of_fp32_is_refused_all_the_same_when_the_pairs_show_it() -> None:
    """Seven films of 200 lost and none gained: far inside the interval of fp32 alone, but no chance."""
    usual, lowered = films(400), films(400)
    caught = np.flatnonzero((usual.probs[:, 1] >= 0.5) & (usual.targets[:, 1] == 1))[:7]
    lowered.probs[caught, 1] = 0.4
    check = pneumonia(sensitivity_checks(usual, lowered, {"pneumonia": 0.5}))
    assert (check.numbers["fp32_low"] or 0) < (check.numbers["low"] or 0) < (check.numbers["fp32_high"] or 0)
    assert not check.passed


def test_without_operating_points_or_patients_sensitivity_is_not_shown() -> None:
    (check,) = sensitivity_checks(films(40), films(40), {})
    assert check.refusal == "The bundle has no operating points, so sensitivity can't be compared."
    (check,) = sensitivity_checks(films(8), films(8), {"pneumonia": 0.5})
    assert "only 4 patients show it, and 5 are needed" in check.refusal


def test_a_films_correlation_is_that_of_its_least_alike_visible_map() -> None:
    random = np.random.default_rng(0)
    usual = random.random((4, 2, 5, 5))
    low = usual.copy()
    low[1, 1] = random.random((5, 5))
    usual[2, 0] /= 100  # too little to be drawn: may differ
    low[2, 0] = random.random((5, 5)) / 100
    usual[3], low[3] = usual[3] / 100, low[3] / 100
    found = map_correlations(usual, low, top=1.0)
    assert found[0] == pytest.approx(1)
    assert found[1] == pytest.approx(np.corrcoef(usual[1, 1].ravel(), low[1, 1].ravel())[0, 1])
    assert found[2] == pytest.approx(1)
    assert math.isnan(found[3])


def test_a_map_that_goes_flat_correlates_with_nothing() -> None:
    usual = np.random.default_rng(0).random((1, 1, 5, 5))
    assert map_correlations(usual, np.ones((1, 1, 5, 5)), top=1.0)[0] == 0


def test_heat_maps_are_judged_at_the_first_percentile_and_below_100_films_by_the_least() -> None:
    many = np.r_[0.5, np.full(199, 0.99)]
    check = map_check(many)
    assert check.passed
    assert (check.numbers["least"], check.numbers["first_percentile"]) == (0.5, 0.99)
    few = map_check(many[:90])
    assert not few.passed
    assert "first percentile 0.5000" in few.refusal
    assert "No film has a visible heat map" in map_check(np.array([np.nan])).refusal


@pytest.mark.parametrize(("low", "passes"), [(7.6, True), (7.8, False)])
def test_speed_is_held_against_the_fastest_fp32(low: float, passes: bool) -> None:
    check = speed_check({"a": [20.0, 20.0, 20.0], "b": [10.0, 10.0, 10.0]}, [low] * 3)
    assert check.passed is passes
    assert check.numbers["ratio"] == pytest.approx(10 / low)


def test_a_ratio_is_the_median_of_ratios_within_a_turn() -> None:
    """A slow moment that meets both leaves the ratio as it is."""
    check = speed_check({"a": [10.0, 100.0, 14.0]}, [5.0, 50.0, 10.0])
    assert check.numbers["ratio"] == 2
    refusal = speed_check({"a": [10.0]}, [10.0]).refusal
    assert refusal == "It is 1.00 × as fast as a in fp32 for one film; 1.3 × is needed."


def test_the_shift_of_probabilities_is_said() -> None:
    usual, low = films(10), films(10)
    low.probs[3] = low.probs[3, ::-1]
    apart = abs(usual.probs[3, 0] - usual.probs[3, 1])
    assert probability_shift(usual, low) == pytest.approx({"largest": apart, "mean": apart / 10, "other_label": 1})
