"""Prediction sets cover as often as promised, in each class, for any n; what can't be promised is said."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hilum.errors import ConfigError, DataError
from hilum.evaluation.conformal import (
    Conformal,
    ConformalRules,
    Score,
    calibrate_sets,
    finite_quantile,
    measure_sets,
    scores,
)
from hilum.evaluation.intervals import Resampling
from hilum.labels import Findings
from hilum.predictions import Predictions
from hilum.randomness import stream

FEW = Resampling(resamples=60)


def test_the_finite_quantile_by_hand() -> None:
    """Of 9 values the 90 % limit is the ninth, of 8 there is none: ⌈9·0.9⌉ = 9 > 8."""
    values = np.array([3.0, 1, 2, 9, 8, 7, 4, 5, 6])
    assert finite_quantile(values, 0.9) == 9.0
    assert math.isinf(finite_quantile(values[:8], 0.9))
    assert finite_quantile(values, 0.5) == 5.0
    assert finite_quantile(np.arange(1.0, 20), 0.95) == 19.0  # 20·0.95 is 19, not 19.000…1


def test_a_further_value_lies_below_the_limit_with_the_exact_probability() -> None:
    """Of 19 + 1 exchangeable values, the 90 % limit holds the last in exactly 18 of 20 ranks."""
    rng, held = stream(0, "exchangeable"), 0
    for _ in range(2000):
        values = rng.normal(size=20)
        held += values[-1] <= finite_quantile(values[:-1], 0.9)
    assert held / 2000 == pytest.approx(0.9, abs=0.02)


def coverage_of_draws(draws: int, score: Score, *, calibrating: int) -> np.ndarray:
    """Share of sets that hold the truth, by class, over draws of calibration films and 60 new ones each.

    The model is poor and badly calibrated, and classes are uneven: the promise needs none of that.
    """
    rng, held, count = stream(1, "conformal", score), np.zeros(3), np.zeros(3)
    findings, n = Findings(("a", "b", "c")), calibrating + 60
    names = tuple(map(str, range(calibrating)))
    for draw in range(draws):
        classes = rng.choice(3, n, p=[0.6, 0.2, 0.2])
        logits = 2 * rng.normal(size=(n, 3)) + 1.5 * np.eye(3)[classes]
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        films = Predictions(
            findings=findings,
            film_ids=names,
            patient_ids=names,
            logits=logits[:calibrating],
            probs=probs[:calibrating],
            targets=np.eye(3)[classes[:calibrating]],
        )
        sets = calibrate_sets(films, ConformalRules(score=score, seed=draw)).sets(probs[calibrating:])
        new = classes[calibrating:]
        held += np.bincount(new, sets[np.arange(60), new], 3)
        count += np.bincount(new, minlength=3)
    return held / count


def test_ninety_per_cent_lands_between_88_and_92_over_a_thousand_draws() -> None:
    """In each class, the rarest with about 80 calibration films."""
    found = coverage_of_draws(1000, "lac", calibrating=400)
    assert (found >= 0.88).all()
    assert (found <= 0.92).all()


def test_few_films_and_the_cautious_score_cover_more_not_less() -> None:
    """Limits come in steps of 1/(n + 1): with about 12 films of a class they may only be too wide."""
    assert (coverage_of_draws(150, "lac", calibrating=60) >= 0.89).all()
    assert (coverage_of_draws(60, "aps", calibrating=200) >= 0.89).all()


def test_the_marginal_promise_lets_a_common_class_carry_a_rare_one() -> None:
    """Which is why the class-conditional one is the default."""
    rng = stream(2, "marginal")
    classes = np.concatenate([np.zeros(900, int), np.ones(100, int)])
    probs = np.where(classes == 0, 0.85, 0.4) + 0.05 * rng.uniform(-1, 1, 1000)
    own = np.column_stack([np.where(classes == 0, probs, 1 - probs), np.where(classes == 1, probs, 1 - probs)])
    films = Predictions(
        findings=Findings(("common", "rare")),
        film_ids=tuple(map(str, range(1000))),
        patient_ids=tuple(map(str, range(1000))),
        logits=np.log(own),
        probs=own,
        targets=np.eye(2)[classes],
    )
    marginal = measure_sets(calibrate_sets(films, ConformalRules(by_class=False)), films, settings=FEW)
    inside = measure_sets(calibrate_sets(films), films, settings=FEW)
    assert marginal.coverage.value >= 0.9
    assert marginal.class_coverage["rare"].value < 0.5
    assert inside.class_coverage["rare"].value >= 0.9


def test_scores_by_hand() -> None:
    probs = np.array([[0.5, 0.3, 0.2]])
    np.testing.assert_allclose(scores(probs, "lac"), [[0.5, 0.7, 0.8]])
    np.testing.assert_allclose(scores(probs, "aps"), [[0.5, 0.8, 1.0]])
    np.testing.assert_allclose(scores(probs[:, ::-1], "aps"), [[1.0, 0.8, 0.5]])


def test_one_film_a_patient_calibrates(make: Callable[..., Predictions]) -> None:
    films = make(240, per_patient=4)
    assert sum(calibrate_sets(films).patients) == 60
    once = calibrate_sets(films.select(np.arange(0, 240, 4)))
    assert once.patients == calibrate_sets(films).patients


def test_figures_are_counted_from_the_sets(make: Callable[..., Predictions]) -> None:
    conformal = calibrate_sets(make(300, seed=1))
    films = make(300, seed=2)
    found = measure_sets(conformal, films, groups=("source", "sex"), settings=FEW)
    sets, classes = conformal.sets(films.probs), films.targets.argmax(axis=1)
    hit = sets[np.arange(300), classes]
    assert found.coverage.value == pytest.approx(hit.mean())
    assert found.class_coverage["covid-19"].value == pytest.approx(hit[classes == 2].mean())
    assert found.size.value == pytest.approx(sets.sum(axis=1).mean())
    assert found.single.value == pytest.approx((sets.sum(axis=1) == 1).mean())
    assert sum(found.sizes.values()) == 300
    where = np.array(films.groups["source"]) == "hospital-b"
    assert found.group_coverage["source"]["hospital-b"].value == pytest.approx(hit[where].mean())
    assert "not recorded" in found.group_coverage["sex"]
    for c, name in enumerate(films.findings.names):
        np.testing.assert_array_equal(sets[:, c], films.probs[:, c] >= found.limits[name] - 1e-12)


def test_too_few_patients_leave_a_finding_in_every_set_and_say_so(make: Callable[..., Predictions]) -> None:
    films = make(240, per_patient=1)
    few = films.select(np.flatnonzero((films.targets[:, 2] == 0) | (np.arange(240) < 24)))
    conformal = calibrate_sets(few)
    assert conformal.sets(films.probs)[:, 2].all()
    expected = "Only 8 calibration patients show covid-19; 9 are needed to promise 90%, so it is in every set."
    assert conformal.warnings == (expected,)
    measured = measure_sets(conformal, films, settings=FEW).class_coverage
    assert measured["covid-19"].reason == expected  # in every set, so that its films are covered says nothing
    assert measured["normal"].estimable
    assert calibrate_sets(films.select(np.arange(0))).limits == (math.inf,) * 3


def test_films_without_a_score_are_refused_or_not_estimable(make: Callable[..., Predictions]) -> None:
    films = make(60)
    broken = replace(films, probs=np.where(np.arange(60)[:, None] == 3, np.nan, films.probs))
    with pytest.raises(DataError, match="1 of 60 calibration films have no probability"):
        calibrate_sets(broken)
    conformal = calibrate_sets(films)
    assert conformal.sets(broken.probs)[3].all()
    found = measure_sets(conformal, broken, settings=FEW)
    assert found.coverage.reason == "1 of 60 films have no score (NaN)."
    assert measure_sets(conformal, films.select(np.arange(0)), settings=FEW).size.reason == "There is no labelled film."
    one = films.select(np.flatnonzero(films.targets[:, 0] == 1))
    assert measure_sets(conformal, one, settings=FEW).class_coverage["pneumonia"].reason == (
        "No labelled film shows pneumonia."
    )


def test_wrong_rules_and_other_findings_are_refused(make: Callable[..., Predictions]) -> None:
    with pytest.raises(ConfigError, match="coverage is 1.0, but must lie between 0 and 1(?s:.*)score is 'x'"):
        ConformalRules(coverage=1.0, score="x")  # type: ignore[arg-type]
    other = Conformal(rules=ConformalRules(), findings=("a", "b"), limits=(0.1, 0.2), patients=(5, 5))
    with pytest.raises(DataError, match=r"Prediction sets of \['a', 'b'\] can't be measured on"):
        measure_sets(other, make(60))
