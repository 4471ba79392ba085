"""The gate's comparisons: each a pure function of the evidence and the plan, giving one check."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hilum.arrays import Array
from hilum.change.evidence import Evidence
from hilum.change.plan import CriticalCase, NonInferiority, Plan, SubgroupFloor
from hilum.change.resolving import resolution
from hilum.evaluation.calibration import ece
from hilum.evaluation.delong import delong, delong_test
from hilum.evaluation.intervals import Cohort, Resampling, bootstrap, wilson_interval
from hilum.evaluation.ranks import Ranking
from hilum.predictions import Predictions

Outcome = Literal["passed", "failed", "insufficient"]

RESAMPLES = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class GateCheck:
    """One question of the gate and its answer."""

    name: str
    """Such as ``non-inferiority: covid-19 against the current model``."""
    outcome: Outcome
    """``insufficient``: the evidence can't tell, which doesn't pass either."""
    sentence: str
    """Why, for a person."""


def non_inferiority(evidence: Evidence, plan: Plan) -> Iterator[GateCheck]:
    """Every finding, against the first approved and against the current model.

    All must pass, so no correction over them is due (intersection-union); alpha is spent over updates.
    """
    for role in ("first", "current"):
        other: Predictions = getattr(evidence, role)
        for column, finding in enumerate(evidence.candidate.findings.names):
            yield _not_worse(evidence, other, column, finding, role, plan.non_inferiority)


def _not_worse(
    evidence: Evidence, other: Predictions, column: int, finding: str, role: str, rule: NonInferiority
) -> GateCheck:
    name = f"non-inferiority: {finding} against the {role} model"
    low, value, error, reason = _difference(evidence, other, column, finding, rule)
    if reason:
        return GateCheck(name=name, outcome="insufficient", sentence=reason)
    told = resolution(error, rule.margin, alpha=rule.update_alpha, power=rule.power)
    if not told.resolved:
        patients = len(set(evidence.candidate.labelled.patient_ids))
        sentence = (
            f"The test set can't resolve a margin of {rule.margin:.3f} for {finding}: the least it resolves is "
            f"{told.least_margin:.3f}. About {math.ceil(told.needed * patients):,} patients of the same mixture would "
            f"do, where there are {patients:,}."
        )
        return GateCheck(name=name, outcome="insufficient", sentence=sentence)
    passed = low > -rule.margin
    sentence = (
        f"The AUROC of {finding} differs by {value:+.4f} from the {role} model's; its lower bound {low:+.4f} "
        f"(one-sided, alpha {rule.update_alpha:.4g}) is {'above' if passed else 'not above'} the margin of "
        f"{-rule.margin:+.3f}."
    )
    return GateCheck(name=name, outcome="passed" if passed else "failed", sentence=sentence)


def _difference(
    evidence: Evidence, other: Predictions, column: int, finding: str, rule: NonInferiority
) -> tuple[float, float, float, str]:
    """Lower bound, value and standard error of candidate minus other; a reason where there is none."""
    mine, theirs = evidence.candidate.labelled, other.labelled
    positive = mine.targets[:, column] > 0.5
    level = 1 - 2 * rule.update_alpha
    tested = delong_test(
        mine.probs[:, column], theirs.probs[:, column], positive, mine.patient_ids, finding=finding, level=level
    )
    difference = tested.difference
    if difference.value == 0.0 and not difference.bounded and "alike" in difference.reason:
        return 0.0, 0.0, 0.0, ""  # the same ranking: nothing is lost
    if not difference.bounded:
        return math.nan, math.nan, math.nan, difference.reason
    error = abs(difference.value / tested.z) if tested.z else (difference.high - difference.low) / 2 / _z(level)
    if rule.method == "delong":
        return difference.low, difference.value, error, ""
    low, error = _bootstrapped(mine, theirs, column, positive, rule.update_alpha)
    return low, difference.value, error, "" if not math.isnan(low) else "Resamples without the finding are too many."


def _z(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri((1 + level) / 2))


def _bootstrapped(
    mine: Predictions, theirs: Predictions, column: int, positive: Array, alpha: float
) -> tuple[float, float]:
    rankings = [Ranking.of(one.probs[:, column], positive) for one in (mine, theirs)]

    def statistic(weights: Array) -> Array:
        return np.subtract(rankings[0].auroc(weights), rankings[1].auroc(weights))[:, None]

    cohort = Cohort.of(mine.patient_ids, positive.astype(np.int64))
    samples = bootstrap(statistic, cohort, Resampling(resamples=RESAMPLES), name="gate")[:, 0]
    known = samples[~np.isnan(samples)]
    if len(known) < 0.95 * len(samples):
        return math.nan, math.nan
    return float(np.quantile(known, alpha)), float(known.std(ddof=1))


def superiority(evidence: Evidence, plan: Plan) -> Iterator[GateCheck]:
    """The named target, over the current model."""
    target = plan.superiority
    if target is None:
        return
    name = f"superiority: {target.finding}"
    column = evidence.candidate.findings.names.index(target.finding)
    low, value, _, reason = _difference(evidence, evidence.current, column, target.finding, plan.non_inferiority)
    if reason:
        yield GateCheck(name=name, outcome="insufficient", sentence=reason)
        return
    passed = low > target.least_gain
    yield GateCheck(
        name=name,
        outcome="passed" if passed else "failed",
        sentence=(
            f"The AUROC of {target.finding} rises by {value:+.4f}; its lower bound {low:+.4f} is "
            f"{'above' if passed else 'not above'} the least gain of {target.least_gain:+.3f}."
        ),
    )


def subgroups(evidence: Evidence, plan: Plan) -> Iterator[GateCheck]:
    """Every floor in every level that counts."""
    films = evidence.candidate.labelled
    for floor in plan.subgroups:
        column = films.groups.get(floor.group)
        if column is None:
            name = f"floor: {floor.group}"
            why = f"The test set doesn't record {floor.group}, so its floor can't be checked."
            yield GateCheck(name=name, outcome="insufficient", sentence=why)
            continue
        values = np.asarray(column)
        for level in floor.levels or tuple(sorted(set(column))):
            yield _floor(films.select(np.flatnonzero(values == level)), floor, level, plan)


def _floor(films: Predictions, floor: SubgroupFloor, level: str, plan: Plan) -> GateCheck:
    name = f"floor: {floor.metric} of {floor.finding} where {floor.group} is {level}"
    positive = films.targets[:, films.findings.names.index(floor.finding)] > 0.5
    counted = ~positive if floor.metric == "specificity" else positive
    patients = len({one for one, yes in zip(films.patient_ids, counted, strict=True) if yes})
    if patients < floor.least_positives:
        why = f"{patients} patients count there, but {floor.least_positives} are needed: too few to tell, which fails."
        return GateCheck(name=name, outcome="insufficient", sentence=why)
    value, low, reason = _metric(films, floor, positive, patients, plan)
    if reason:
        return GateCheck(name=name, outcome="insufficient", sentence=reason)
    passed = low >= floor.floor
    sentence = f"{value:.3f}, lower bound {low:.3f}, floor {floor.floor:.3f}, from {patients} patients."
    return GateCheck(name=name, outcome="passed" if passed else "failed", sentence=sentence)


def _metric(
    films: Predictions, floor: SubgroupFloor, positive: Array, patients: int, plan: Plan
) -> tuple[float, float, str]:
    scores = films.probs[:, films.findings.names.index(floor.finding)]
    if floor.metric == "auroc":
        found = delong(scores, positive, films.patient_ids, finding=floor.finding)
        return found.value, found.low, "" if found.bounded else found.reason
    called = scores >= plan.operating_points[floor.finding]
    right = called[positive] if floor.metric == "sensitivity" else ~called[~positive]
    share = float(right.mean())
    # Films of one patient are alike, so patients are the trials.
    return share, wilson_interval(share, patients)[0], ""


def calibration(evidence: Evidence, plan: Plan) -> Iterator[GateCheck]:
    """Each finding's gap, and ECE."""
    films, band = evidence.candidate.labelled, plan.calibration
    if not len(films):
        yield GateCheck(name="calibration", outcome="insufficient", sentence="No film of the test set has a label.")
        return
    for column, finding in enumerate(films.findings.names):
        gap = float(films.probs[:, column].mean() - films.targets[:, column].mean())
        passed = abs(gap) <= band.largest_gap
        yield GateCheck(
            name=f"calibration: {finding}",
            outcome="passed" if passed else "failed",
            sentence=f"Mean probability minus share is {gap:+.4f}; at most ±{band.largest_gap:.3f} is accepted.",
        )
    error = ece(films.probs, films.targets.argmax(axis=1))
    yield GateCheck(
        name="calibration: ECE",
        outcome="passed" if error <= band.largest_ece else "failed",
        sentence=f"ECE is {error:.4f}; at most {band.largest_ece:.3f} is accepted.",
    )


def critical_cases(evidence: Evidence, plan: Plan) -> Iterator[GateCheck]:
    """Each named film."""
    for case in plan.critical_cases:
        yield _critical(evidence.candidate, case, plan.operating_points[case.finding])


def _critical(films: Predictions, case: CriticalCase, threshold: float) -> GateCheck:
    name = f"critical case {case.film_id[:12]}"
    rows = [i for i, film in enumerate(films.film_ids) if film.startswith(case.film_id)]
    if len(rows) != 1:
        why = f"{len(rows)} films of the test set begin with {case.film_id[:12]}; exactly one must."
        return GateCheck(name=name, outcome="insufficient", sentence=why)
    found = float(films.probs[rows[0], films.findings.names.index(case.finding)])
    passed = found >= threshold
    sentence = f"{case.finding} has probability {found:.3f}; its operating point is {threshold:.3f}."
    return GateCheck(name=name, outcome="passed" if passed else "failed", sentence=sentence)
