"""The gate: same inputs, same bytes; what it can't tell doesn't pass; a worse candidate is not let through."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from tests.change.made import FINDINGS, NAMES, evidence, key, plan, predictions

from hilum.change.evidence import Evidence
from hilum.change.gate import APPROVALS, GateVerdict, gate, proposal_document
from hilum.change.plan import CalibrationBand, CriticalCase, NonInferiority, Plan, Scope, SubgroupFloor, Superiority
from hilum.change.signing import Signature, sign
from hilum.errors import DataError


@pytest.fixture(scope="module")
def equal() -> Evidence:
    return evidence(2500)


def signed(rules: Plan, what: Evidence, who: Sequence[int] = (0, 1)) -> list[Signature]:
    return [sign(proposal_document(rules, what), name=NAMES[i], key=key(i + 1)) for i in who]


def failing(verdict: GateVerdict) -> dict[str, str]:
    return {check.name: check.sentence for check in verdict.checks if check.outcome != "passed"}


def test_an_equal_candidate_with_two_approvals_passes_and_the_verdict_is_the_same_byte_for_byte(
    equal: Evidence,
) -> None:
    rules = plan()
    first, again = (gate(rules, equal, signed(rules, equal)) for _ in range(2))
    assert first.passed
    assert first.to_canonical_json() == again.to_canonical_json()
    assert first.sha256 == again.sha256
    assert gate(rules, equal).ready_for_approval
    assert list(failing(gate(rules, equal))) == [APPROVALS]


def test_approvals_of_trainer_proposer_stranger_and_forger_do_not_count(equal: Evidence) -> None:
    rules = plan()
    ours = signed(rules, equal)
    told = failing(gate(rules, equal, ours, proposer=key(1).public.raw.hex()))[APPROVALS]
    assert "1 of 2 approved" in told
    assert "'quality manager' proposed the change" in told
    trained = replace(equal, facts=replace(equal.facts, trained_by=NAMES[1]))
    assert (
        "'lead radiologist' trained the candidate" in failing(gate(rules, trained, signed(rules, trained)))[APPROVALS]
    )
    stranger = sign(proposal_document(rules, equal), name="stranger", key=key(9))
    assert "none of the plan's" in failing(gate(rules, equal, [*ours, stranger]))[APPROVALS]
    other_name = sign(proposal_document(rules, equal), name=NAMES[0], key=key(2))
    assert "is 'lead radiologist''s" in failing(gate(rules, equal, [ours[0], other_name]))[APPROVALS]
    forged = replace(ours[1], signature="0" * 128)
    assert "it was forged" in failing(gate(rules, equal, [ours[0], forged]))[APPROVALS]
    assert "it was forged" in failing(gate(rules, equal, [ours[0], replace(ours[1], signature="zz")]))[APPROVALS]
    assert "1 of 2 approved" in failing(gate(rules, equal, [ours[0], ours[0]]))[APPROVALS]


def test_an_approval_of_another_proposal_does_not_count(equal: Evidence) -> None:
    rules = plan()
    other = replace(equal, facts=replace(equal.facts, reason="Another reason."))
    assert "is for another one" in failing(gate(rules, equal, signed(rules, other)))[APPROVALS]


def test_a_margin_that_the_test_set_can_not_resolve_is_refused_with_the_size_that_would_do() -> None:
    small = evidence(300)
    verdict = gate(plan(), small)
    told = failing(verdict)["non-inferiority: covid-19 against the first model"]
    assert "can't resolve a margin of 0.030" in told
    assert "patients of the same mixture would do, where there are 300" in told
    assert {c.outcome for c in verdict.checks if c.name.startswith("non-inf")} == {"insufficient"}


def test_a_candidate_that_is_worse_than_the_first_model_fails_though_it_equals_the_current_one() -> None:
    crept = evidence(4000, current=0.84, first=0.9)
    crept = replace(crept, candidate=crept.current)
    told = failing(gate(plan(), crept))
    assert all("against the first model" in name for name in told if name.startswith("non-inf"))
    assert any(name.startswith("non-inf") for name in told)


def test_the_same_ranking_loses_nothing(equal: Evidence) -> None:
    same = replace(equal, candidate=equal.current, first=equal.current)
    assert gate(plan(), same).ready_for_approval


def test_the_bootstrap_agrees_with_the_exact_algebra() -> None:
    films = evidence(900)

    def bounds(method: str) -> list[float]:
        rule = NonInferiority(margin=0.1, method=method, updates=1)  # type: ignore[arg-type]
        texts = [c.sentence for c in gate(plan(non_inferiority=rule), films).checks if c.name.startswith("non-inf")]
        return [float(text.split("lower bound ")[1].split(" ")[0]) for text in texts]

    assert bounds("bootstrap") == pytest.approx(bounds("delong"), abs=0.004)


def test_what_lies_outside_the_scope_fails_by_name(equal: Evidence) -> None:
    facts = equal.facts
    told = failing(
        gate(
            plan(),
            replace(equal, facts=replace(facts, change="thresholds", architecture="resnet50", update=11)),
        )
    )
    assert "'thresholds' is not in the plan" in told["scope: change"]
    assert "'resnet50' is not in the plan" in told["scope: architecture"]
    assert "the plan's alpha is spent after 10" in told["scope: updates"]
    narrower = plan(scope=Scope(findings=("normal", "pneumonia")), operating_points={})
    verdict = gate(narrower, equal)
    assert "the plan is for normal, pneumonia" in failing(verdict)["scope: findings"]
    assert not any(c.name.startswith("non-inf") for c in verdict.checks)


def test_data_that_overlap_or_are_not_the_locked_set_fail(equal: Evidence) -> None:
    overlapping = replace(equal, training_patients=frozenset({"p3", "p4"}), training_films=frozenset({f"{5:064x}"}))
    assert "2 patients and 1 films" in failing(gate(plan(), overlapping))["data: disjoint"]
    unlisted = replace(equal, training_films=frozenset())
    assert "doesn't list the films" in failing(gate(plan(), unlisted))["data: disjoint"]
    other = replace(equal, facts=replace(equal.facts, test_fingerprint="9" * 64))
    assert "not the locked test set" in failing(gate(plan(), other))["data: locked test set"]
    few = evidence(60)
    assert "has 60 patients; 100 are needed" in failing(gate(plan(), few))["data: patients"]


def test_superiority_needs_more_than_chance(equal: Evidence) -> None:
    target = plan(superiority=Superiority(finding="covid-19"))
    assert "not above the least gain" in failing(gate(target, equal))["superiority: covid-19"]
    better = evidence(2500, candidate=0.93, current=0.88, first=0.88)
    assert "superiority: covid-19" not in failing(gate(target, better))


def test_subgroups_with_too_few_cases_are_insufficient_and_fail() -> None:
    n = 2500
    device = ["A"] * (n - 30) + ["B"] * 30
    films = evidence(n, groups={"device": device})
    floors = (
        SubgroupFloor(group="device", finding="covid-19", floor=0.8),
        SubgroupFloor(group="device", finding="covid-19", floor=0.99, levels=("A",)),
        SubgroupFloor(group="device", finding="covid-19", floor=0.3, metric="sensitivity", levels=("A",)),
        SubgroupFloor(group="sex", finding="covid-19", floor=0.8),
    )
    told = failing(gate(plan(subgroups=floors), films))
    assert "too few to tell, which fails" in told["floor: auroc of covid-19 where device is B"]
    assert "doesn't record sex" in told["floor: sex"]
    assert "floor 0.990" in told["floor: auroc of covid-19 where device is A"]
    assert "floor: sensitivity of covid-19 where device is A" not in told


def test_specificity_counts_films_without_the_finding() -> None:
    films = evidence(400, groups={"sex": ["F"] * 400})
    floor = SubgroupFloor(group="sex", finding="covid-19", floor=0.0, metric="specificity")
    check = next(c for c in gate(plan(subgroups=(floor,)), films).checks if c.name.startswith("floor"))
    probs, truth = films.candidate.probs[:, 2], films.candidate.targets[:, 2] > 0.5
    assert check.sentence.startswith(f"{(probs[~truth] < 0.3).mean():.3f}, lower bound")


def test_calibration_latency_and_critical_cases_have_their_bounds(equal: Evidence) -> None:
    narrow = plan(calibration=CalibrationBand(largest_gap=0.0001, largest_ece=0.0001), largest_latency_ms=10)
    told = failing(gate(narrow, equal))
    assert {"calibration: normal", "calibration: ECE", "latency"} <= set(told)
    assert "at most 80 ms, but 10 ms are accepted" in told["latency"]
    covid = int(np.flatnonzero((equal.candidate.targets[:, 2] > 0.5) & (equal.candidate.probs[:, 2] < 0.3))[0])
    cases = (
        CriticalCase(film_id=f"{covid:064x}", finding="covid-19"),
        CriticalCase(film_id="f" * 64, finding="covid-19"),
        CriticalCase(film_id="0" * 12, finding="covid-19"),
    )
    sentences = [c.sentence for c in gate(plan(critical_cases=cases), equal).checks if c.name.startswith("critical")]
    assert "its operating point is 0.300" in sentences[0]
    assert "0 films of the test set begin with" in sentences[1]
    assert "exactly one must" in sentences[2]


def test_without_labels_or_with_one_class_nothing_passes(equal: Evidence) -> None:
    truth = np.zeros(200, dtype=np.int64)
    values = np.random.default_rng(0).dirichlet(np.ones(3), 200)
    one = predictions(truth, values)
    told = failing(gate(plan(), replace(equal, candidate=one, current=one, first=one)))
    assert "non-inferiority: covid-19 against the first model" in told
    blank = replace(one, targets=np.full((200, 3), np.nan))
    told = failing(gate(plan(), replace(equal, candidate=blank, current=blank, first=blank)))
    assert "No film of the test set has a label" in told["calibration"]


def test_models_that_answered_other_films_are_refused(equal: Evidence) -> None:
    other = evidence(100).candidate
    with pytest.raises(DataError, match="Candidate and current model answered other films"):
        replace(equal, current=other)
    flipped = replace(equal.first, targets=np.roll(equal.first.targets, 1, axis=0))
    with pytest.raises(DataError, match="labels of the first model's films differ"):
        replace(equal, first=flipped)


def promoted(seed: int, updates: int) -> bool:
    """Whether any of so many successive updates, each worse by 0.05 than the first model, passes for its AUROCs."""
    rules = plan()
    for update in range(1, updates + 1):
        # One locked test set for all updates: the same truth and the same first model, another candidate each time.
        films = evidence(2000, candidate=0.843, current=0.9, first=0.9, seed=seed * 100 + update, update=update)
        if gate(rules, films).ready_for_approval:
            return True
    return False


@pytest.mark.parametrize(
    "runs",
    [
        pytest.param(20, id="few"),
        pytest.param(200, marks=pytest.mark.system, id="quick"),
        pytest.param(2000, marks=[pytest.mark.long, pytest.mark.timeout(7200)], id="full"),
    ],
)
def test_a_candidate_worse_by_five_points_under_a_margin_of_three_is_hardly_ever_promoted(runs: int) -> None:
    """The one-sided bound: so few promotions that 2.5 % or less is not in doubt."""
    found = sum(promoted(seed, updates=1 if runs == 20 else 10) for seed in range(runs))
    assert found <= stats.binom.ppf(0.975, runs, 0.025)


def test_a_candidate_at_the_margin_itself_passes_as_rarely_as_alpha_says() -> None:
    """One finding's comparison, with both models' scores drawn so that the true difference is the margin."""
    from hilum.change.comparing import _not_worse

    rule = NonInferiority(margin=0.03, updates=1, alpha=0.025)
    chance, hits, runs = np.random.default_rng(0), 0, 300
    for _ in range(runs):
        positive = np.arange(1500) < 500
        common = chance.normal(size=1500)
        mine, theirs = (
            0.8 * common + 0.6 * chance.normal(size=1500) + np.sqrt(2) * stats.norm.ppf(auroc) * positive
            for auroc in (0.87, 0.90)
        )
        one, other = (
            predictions(positive.astype(np.int64), np.column_stack([-s, s, np.zeros(1500)]).clip(-9, 9) + 10)
            for s in (mine, theirs)
        )
        pair = Evidence(
            facts=evidence(3).facts,
            candidate=one,
            current=other,
            first=other,
            training_patients=frozenset(),
            training_films=frozenset(),
        )
        hits += _not_worse(pair, other, 1, FINDINGS[1], "first", rule).outcome == "passed"
    assert hits <= stats.binom.ppf(0.999, runs, 0.025)
