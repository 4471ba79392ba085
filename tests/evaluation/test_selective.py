"""Risk falls as doubtful films are left to a person; one policy is chosen on validation films and holds its promise."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hilum.errors import ConfigError, DataError
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.selective import (
    ENTROPY,
    LEAST_PROBABLE,
    OOD_DISTANCE,
    SET_SIZE,
    AbstentionRules,
    aurc_of,
    best_aurc,
    choose_policy,
    doubts,
    measure_policy,
    with_set_sizes,
)
from hilum.predictions import Predictions
from hilum.randomness import stream

FEW = Resampling(resamples=60)
EVEN = np.ones((1, 4))


def test_aurc_by_hand() -> None:
    """Wrong, right, right, wrong by rising doubt: risks 1, 1/2, 1/3, 1/2."""
    doubt, wrong = np.array([0.4, 0.1, 0.2, 0.3]), np.array([True, True, False, False])
    assert aurc_of(doubt, wrong, EVEN)[0] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert best_aurc(wrong) == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)


def test_films_of_equal_doubt_are_answered_together() -> None:
    wrong = np.array([True, False, False, False])
    assert aurc_of(np.zeros(4), wrong, EVEN)[0] == pytest.approx(0.25)
    assert aurc_of(np.zeros(4), wrong[::-1], EVEN)[0] == pytest.approx(0.25)


def test_weights_mean_copies() -> None:
    rng = stream(0, "aurc")
    doubt, wrong, weights = rng.random(50), rng.random(50) < 0.3, rng.integers(0, 4, (3, 50)).astype(float)
    found = aurc_of(doubt, wrong, weights)
    for r in range(3):
        copies = np.repeat(np.arange(50), weights[r].astype(int))
        expected = aurc_of(doubt[copies], wrong[copies], np.ones((1, len(copies))))[0]
        assert found[r] == pytest.approx(expected)


def test_the_best_doubt_is_chosen_and_its_limit_answers_the_wanted_share(make: Callable[..., Predictions]) -> None:
    films = make(400)
    wrong = films.probs.argmax(axis=1) != films.targets.argmax(axis=1)
    told = replace(films, uncertainty={"oracle": wrong + np.linspace(0, 0.1, 400)})
    policy = choose_policy(told, AbstentionRules(coverage=0.7))
    assert policy.doubt == "oracle"
    assert policy.aurc["oracle"] == pytest.approx(best_aurc(wrong))
    assert policy.coverage == pytest.approx(0.7, abs=0.005)
    assert policy.risk == 0 or wrong.mean() > 0.3
    assert set(choose_policy(films).aurc) == {LEAST_PROBABLE, ENTROPY}


def test_a_doubt_with_too_many_ties_to_keep_the_wanted_share_is_not_chosen(make: Callable[..., Predictions]) -> None:
    """Marking the wrong answers alone is the best order, but its only limits answer all but those, or all."""
    films = make(400, skill=3)
    wrong = films.probs.argmax(axis=1) != films.targets.argmax(axis=1)
    assert wrong.mean() < 0.15
    policy = choose_policy(replace(films, uncertainty={"mark": wrong.astype(float)}))
    assert policy.aurc["mark"] == min(policy.aurc.values())
    assert policy.doubt != "mark"
    assert policy.coverage == pytest.approx(0.8, abs=0.01)


def test_a_film_unlike_the_fitted_ones_gets_no_answer_however_sure(make: Callable[..., Predictions]) -> None:
    films = make(400)
    far = np.full(400, 1.0) + np.arange(400) / 1e4
    wrong = films.probs.argmax(axis=1) != films.targets.argmax(axis=1)
    oracle = wrong + np.linspace(0, 0.1, 400)
    policy = choose_policy(replace(films, uncertainty={"oracle": oracle, OOD_DISTANCE: far}))
    assert policy.doubt == "oracle"
    assert policy.most_distance == pytest.approx(np.quantile(far, 0.995))
    sure = np.flatnonzero(oracle <= policy.limit)[:7]
    far[sure] = 9.0
    other = replace(films, uncertainty={"oracle": oracle, OOD_DISTANCE: far})
    found = measure_policy(policy, other, settings=FEW)
    expected = (oracle <= policy.limit) & (far <= policy.most_distance)
    assert found.coverage.value == expected.mean()
    assert not expected[sure].any()
    far[5] = math.nan
    assert measure_policy(policy, replace(other), settings=FEW).risk.reason == "1 of 400 films have no score (NaN)."


def test_the_size_of_a_prediction_set_is_a_doubt_and_an_empty_one_the_greatest(
    make: Callable[..., Predictions],
) -> None:
    films = with_set_sizes(make(3), np.array([[1, 0, 0], [0, 0, 0], [1, 1, 0]], dtype=bool))
    assert doubts(films)[SET_SIZE].tolist() == [1, 3, 2]


def test_a_promised_error_holds_on_new_films_as_often_as_it_says(make: Callable[..., Predictions]) -> None:
    """Over cohorts the policy's true error, measured on many new films, exceeds the promise in at most 10 %."""
    many = make(20_000, seed=99, per_patient=1)
    wrong = many.probs.argmax(axis=1) != many.targets.argmax(axis=1)
    broken, answered_some = 0, 0
    for seed in range(60):
        films = make(300, seed=seed, per_patient=1)
        policy = choose_policy(films, AbstentionRules(most_error=0.1, confidence=0.9))
        answered = (1 - many.probs.max(axis=1) if policy.doubt == LEAST_PROBABLE else _entropy(many)) <= policy.limit
        answered_some += not math.isnan(policy.limit)
        broken += bool(answered.any()) and wrong[answered].mean() > 0.1
    assert answered_some > 40
    assert broken / 60 <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / 60)


def _entropy(films: Predictions) -> np.ndarray:
    return -(films.probs * np.log(films.probs)).sum(axis=1)


def test_an_error_that_can_not_be_promised_answers_nothing(make: Callable[..., Predictions]) -> None:
    policy = choose_policy(make(200, skill=0.1, per_patient=1), AbstentionRules(most_error=0.02))
    assert math.isnan(policy.limit)
    assert policy.reason.startswith("No share of the validation films can be answered with at most 2.0% mistakes")
    found = measure_policy(policy, make(100, seed=2), settings=FEW)
    assert found.risk.reason == policy.reason
    assert found.risk_of_all.estimable


def test_figures_are_counted_on_other_films(make: Callable[..., Predictions]) -> None:
    policy, films = choose_policy(make(400, seed=1)), make(400, seed=2)
    found = measure_policy(policy, films, groups=("source", "sex"), settings=FEW)
    doubt = 1 - films.probs.max(axis=1) if policy.doubt == LEAST_PROBABLE else _entropy(films)
    answered, classes = doubt <= policy.limit, films.targets.argmax(axis=1)
    wrong = films.probs.argmax(axis=1) != classes
    assert found.coverage.value == pytest.approx(answered.mean())
    assert found.risk.value == pytest.approx(wrong[answered].mean())
    assert found.risk_of_all.value == pytest.approx(wrong.mean())
    assert found.risk.value < found.risk_of_all.value
    ill = classes == 2
    assert found.sensitivity["covid-19"].value == pytest.approx((~wrong)[answered & ill].mean())
    assert found.abstained["covid-19"].value == pytest.approx((~answered)[ill].mean())
    where = np.array(films.groups["source"]) == "hospital-b"
    assert found.groups["source"]["hospital-b"].value == pytest.approx((~answered)[where].mean())
    assert found.group_risk["source"]["hospital-b"].value == pytest.approx(wrong[answered & where].mean())
    assert "not recorded" in found.groups["sex"]


def test_curves_end_at_the_error_of_all_films_and_their_area_has_an_interval(make: Callable[..., Predictions]) -> None:
    films = make(400, seed=2)
    found = measure_policy(choose_policy(make(400, seed=1)), films, settings=FEW)
    for curve in found.curves:
        assert curve.coverage[-1] == 1.0
        assert curve.risk[-1] == pytest.approx(found.risk_of_all.value)
        assert len(curve.coverage) <= 100
        assert curve.aurc.low < curve.aurc.value < curve.aurc.high
        assert curve.excess > 0


def test_a_group_that_is_left_to_a_person_more_often_is_named(make: Callable[..., Predictions]) -> None:
    films = make(600, per_patient=1)
    hard = np.array(films.groups["source"]) == "hospital-b"
    vague = replace(films, probs=np.where(hard[:, None], 0.3 * films.probs + 0.7 / 3, films.probs))
    found = measure_policy(choose_policy(vague), vague, groups=("source",), settings=FEW)
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith("By source, films of hospital-b are left to a person clearly more often")
    assert not measure_policy(choose_policy(films), films, groups=("source",), settings=FEW).warnings


def test_no_policy_is_chosen_without_mistakes_or_with_few_patients(make: Callable[..., Predictions]) -> None:
    perfect = make(200, skill=50)
    policy = choose_policy(perfect)
    assert policy.reason == "No validation film is answered wrongly, so doubt can't be held against mistakes."
    found = measure_policy(policy, make(100, seed=2), settings=FEW)
    assert not found.coverage.estimable
    assert found.risk_of_all.estimable
    assert choose_policy(make(60)).reason == "Only 30 validation patients; a policy needs 50."


def test_films_without_a_score_or_without_the_policys_doubt(make: Callable[..., Predictions]) -> None:
    films = make(200)
    broken = replace(films, probs=np.where(np.arange(200)[:, None] == 3, np.nan, films.probs))
    with pytest.raises(DataError, match="1 of 200 validation films have no 1 − probability of the answer"):
        choose_policy(broken)
    assert (
        measure_policy(choose_policy(films), broken, settings=FEW).risk.reason == "1 of 200 films have no score (NaN)."
    )
    wrong = films.probs.argmax(axis=1) != films.targets.argmax(axis=1)
    policy = choose_policy(replace(films, uncertainty={"oracle": wrong + np.linspace(0, 0.1, 200)}))
    with pytest.raises(DataError, match="The policy goes by oracle, which these predictions lack"):
        measure_policy(policy, films)


def test_wrong_rules_are_refused() -> None:
    with pytest.raises(ConfigError, match="coverage is 0, but must lie(?s:.*)most_error is 1.5, but must lie"):
        AbstentionRules(coverage=0, most_error=1.5)
