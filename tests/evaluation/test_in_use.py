"""What is chosen on validation films is measured on others, and what can't be chosen is said."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hilum.errors import DataError
from hilum.evaluation.conformal import NOT_EXCHANGEABLE, ConformalRules, calibrate_sets, measure_sets
from hilum.evaluation.decision_curves import net_benefit
from hilum.evaluation.in_use import MORE_DOUBT, UseRules, chosen_on, use_of
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.selective import ENTROPY, LEAST_PROBABLE, MC_STD, SET_SIZE
from hilum.evaluation.triage import triage
from hilum.labels import Findings
from hilum.predictions import Predictions
from hilum.randomness import stream

FEW = Resampling(resamples=40)


def test_all_parts_are_those_of_their_own_modules(make: Callable[..., Predictions]) -> None:
    validation, films = make(240, seed=1), make(240, seed=2)
    found = use_of(films, validation, settings=FEW)
    assert found.triage == triage(validation, films, settings=FEW)
    assert found.sets is not None
    assert found.selective is not None
    sets = measure_sets(calibrate_sets(validation), films, groups=("source",), settings=FEW)
    assert found.sets.class_coverage["covid-19"].value == sets.class_coverage["covid-19"].value
    assert set(found.sets.group_coverage) == set(films.groups)
    assert set(found.selective.groups) == set(films.groups)
    curve = found.decision_curves["covid-19"]
    np.testing.assert_allclose(
        curve.net_benefit, net_benefit(films.probs[:, 2], films.targets[:, 2] == 1, curve.thresholds)
    )
    assert len(found.workload[0]) == 101
    assert NOT_EXCHANGEABLE not in found.sets.warnings
    outside = use_of(films, validation, settings=FEW, external=True)
    assert outside.sets is not None
    assert NOT_EXCHANGEABLE in outside.sets.warnings


def test_without_validation_films_nothing_is_chosen(make: Callable[..., Predictions]) -> None:
    found = use_of(make(120), settings=FEW)
    assert (found.triage, found.sets, found.selective) == (None, None, None)
    assert found.decision_curves["covid-19"].net_benefit


def test_doubt_that_only_one_side_has_is_not_used(make: Callable[..., Predictions]) -> None:
    validation, films = make(240, seed=1), make(240, seed=2)
    wrong = validation.probs.argmax(axis=1) != validation.targets.argmax(axis=1)
    told = replace(validation, uncertainty={"oracle": wrong.astype(float)})
    found = use_of(films, told, settings=FEW)
    assert found.selective is not None
    assert "oracle" not in found.selective.policy.aurc
    assert LEAST_PROBABLE in found.selective.policy.aurc


def test_every_kind_of_doubt_that_both_sides_have_is_compared(make: Callable[..., Predictions]) -> None:
    validation, films = make(400, seed=1), make(400, seed=2)
    wrong = validation.probs.argmax(axis=1) != validation.targets.argmax(axis=1)
    rng = stream(0, "kinds")

    def told(of: Predictions, spread: np.ndarray) -> Predictions:
        return replace(
            of, uncertainty={"mutual_information": rng.random(400), MC_STD: spread, "ood_distance": rng.random(400)}
        )

    asked = told(validation, wrong + 0.1 * rng.random(400))
    found = use_of(told(films, rng.random(400)), asked, settings=FEW).selective
    assert found is not None
    assert set(found.policy.aurc) == {
        LEAST_PROBABLE, ENTROPY, "mutual_information", MC_STD, "ood_distance", SET_SIZE
    }  # fmt: skip
    assert found.policy.doubt == MC_STD
    assert MORE_DOUBT in found.warnings
    asked.uncertainty[MC_STD][3] = np.nan
    without = use_of(told(films, rng.random(400)), asked, settings=FEW).selective
    assert without is not None
    assert MC_STD not in without.policy.aurc


def test_a_policy_by_the_size_of_sets_carries_their_limits(
    make: Callable[..., Predictions], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hilum.evaluation.selective.TOO_COARSE", 1.0)
    monkeypatch.setattr("hilum.evaluation.selective.aurc_of", lambda doubt, *_: np.array([len(np.unique(doubt))]))
    sets, policy = chosen_on(make(400, seed=1))
    assert policy.doubt == SET_SIZE
    assert policy.set_limits == sets.least_probabilities
    assert sets.least_probabilities["covid-19"] == pytest.approx(1 - sets.limits[2])


def test_other_promises_are_kept(make: Callable[..., Predictions]) -> None:
    validation, films = make(300, seed=1), make(300, seed=2)
    wide = use_of(films, validation, rules=UseRules(sets=ConformalRules(coverage=0.95)), settings=FEW)
    narrow = use_of(films, validation, rules=UseRules(sets=ConformalRules(coverage=0.6)), settings=FEW)
    assert wide.sets is not None
    assert narrow.sets is not None
    assert wide.sets.size.value > narrow.sets.size.value
    assert use_of(films, validation, rules=UseRules(normal="healthy"), settings=FEW).triage is None


def test_validation_films_without_a_score_choose_nothing_and_others_findings_are_refused(
    make: Callable[..., Predictions],
) -> None:
    films = make(120)
    broken = replace(films, probs=np.where(np.arange(120)[:, None] == 3, np.nan, films.probs))
    found = use_of(films, broken, settings=FEW)
    assert found.problems == ("1 of 120 validation films have no probability (NaN), so nothing was chosen on them.",)
    assert found.sets is None
    with pytest.raises(DataError, match=r"Validation films of \['a', 'b', 'c'\] can't choose for"):
        use_of(films, replace(films, findings=Findings(("a", "b", "c"))))
