"""Operating points: thresholds chosen on validation films, fixed, and then tested on films they have never seen."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from hilum.arrays import Array, Vector
from hilum.errors import ConfigError, DataError, nearest
from hilum.evaluation.estimates import Estimate, not_estimable
from hilum.evaluation.intervals import Cohort, Resampling, bootstrap_sums, proportion
from hilum.evaluation.metrics import classes_of
from hilum.predictions import Predictions

Rule = Literal["sensitivity-floor", "youden", "cost"]
"""A floor for sensitivity (then the best specificity), the best sum of both (Youden 1950), or the least cost."""

FEW_POSITIVES = 20
"""With fewer patients who have the finding than this, a floor of 0.95 rests on less than one missed patient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingRules:
    """How thresholds are chosen."""

    sensitivity_floor: float = 0.95
    """Lowest sensitivity on the validation films, for every finding but the normal one: a miss is the worst error."""
    normal: str = "normal"
    """Finding that means health; its threshold is Youden's. If the name is no finding, each gets the rule."""
    rule: Rule = "sensitivity-floor"
    """How thresholds of all findings but the normal one are chosen."""
    cost_of_miss: float = 10.0
    """For the rule ``cost``: how many false alarms a missed finding weighs."""
    floors: dict[str, float] = field(default_factory=dict)
    """Floors of findings that need another one than ``sensitivity_floor``, by name."""

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {floor}, but must lie above 0 and up to 1, such as 0.95."
            for name, floor in {"sensitivity_floor": self.sensitivity_floor, **self.floors}.items()
            if not 0 < floor <= 1
        ]
        if self.rule not in get_args(Rule):
            problems.append(f"rule is {self.rule!r}. {nearest(self.rule, get_args(Rule))}")
        if not self.cost_of_miss > 0:
            problems.append(f"cost_of_miss is {self.cost_of_miss}, but must be above 0, such as 10 false alarms.")
        if problems:
            raise ConfigError(problems)

    def rule_of(self, finding: str) -> Rule:
        """The rule that a finding's threshold is chosen by."""
        return "youden" if finding == self.normal else self.rule

    def aim_of(self, finding: str) -> str:
        """What a finding's threshold is chosen for, in words."""
        return {
            "sensitivity-floor": f"sensitivity of at least {self.floors.get(finding, self.sensitivity_floor):g}",
            "youden": "Youden's index",
            "cost": f"least cost, a miss weighing {self.cost_of_miss:g} false alarms",
        }[self.rule_of(finding)]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """One finding's threshold, and how it does on the films named by ``measured_on``."""

    finding: str
    """The finding."""
    rule: Rule
    """How the threshold was chosen."""
    threshold: float
    """A film is called positive when its probability is at least this; NaN when no threshold could be chosen."""
    sensitivity: Estimate
    """Share of the films with the finding that are called positive."""
    specificity: Estimate
    """Share of the films without it that are not."""
    flagged: float
    """Share of all films that are called positive: the work it makes; NaN when there is none."""
    measured_on: str
    """Which films: ``validation`` (chosen here, so optimistic) or ``test``."""
    aim: str = ""
    """What the threshold was chosen for, in words; empty where an older version chose it."""
    reason: str = ""
    """Why there is no threshold, or what to mind; empty when all is well."""


def floor_threshold(probs: Vector, positive: Array, floor: float) -> float:
    """The highest threshold whose sensitivity is at least the floor.

    It lies halfway to the next lower score, so that a film whose probability moves in the seventh digit (another
    processor, another runtime) stays on its side.

    Args:
        probs: [n] probabilities of the finding.
        positive: [n] bool with at least one true.
        floor: lowest sensitivity, above 0 and up to 1.
    """
    falling = np.sort(probs[positive])[::-1]
    needed = math.ceil(floor * len(falling) - 1e-9)
    return _halfway_down(probs, float(falling[needed - 1]))


def youden_threshold(probs: Vector, positive: Array) -> float:
    """The threshold with the highest sensitivity + specificity; the lowest one among equals, for sensitivity's sake."""
    rising, group = np.unique(probs, return_inverse=True)
    with_it = np.bincount(group, weights=positive, minlength=len(rising))
    without = np.bincount(group, weights=~positive, minlength=len(rising))
    sensitivity = with_it[::-1].cumsum()[::-1] / with_it.sum()
    specificity = (without.cumsum() - without) / without.sum()
    return _halfway_down(probs, float(rising[int(np.argmax(np.round(sensitivity + specificity, 12)))]))


def cost_threshold(probs: Vector, positive: Array, cost_of_miss: float) -> float:
    """The threshold with the least cost on these films; the lowest one among equals, for sensitivity's sake.

    With calibrated probabilities it tends to 1 / (1 + cost_of_miss) (Elkan 2001, IJCAI 17:973).

    Args:
        probs: [n] probabilities of the finding.
        positive: [n] bool with at least one true and one false.
        cost_of_miss: how many false alarms a missed finding weighs, > 0.
    """
    rising, group = np.unique(probs, return_inverse=True)
    with_it = np.bincount(group, weights=positive, minlength=len(rising))
    without = np.bincount(group, weights=~positive, minlength=len(rising))
    missed = with_it.cumsum() - with_it
    alarms = without[::-1].cumsum()[::-1]
    return _halfway_down(probs, float(rising[int(np.argmin(np.round(cost_of_miss * missed + alarms, 9)))]))


def _threshold(rule: Rule, probs: Vector, positive: Array, rules: OperatingRules, finding: str) -> float:
    if rule == "youden":
        return youden_threshold(probs, positive)
    if rule == "cost":
        return cost_threshold(probs, positive, rules.cost_of_miss)
    return floor_threshold(probs, positive, rules.floors.get(finding, rules.sensitivity_floor))


def _halfway_down(probs: Vector, score: float) -> float:
    below = probs[probs < score]
    return (score + float(below.max())) / 2 if len(below) else score / 2


def choose_operating_points(
    validation: Predictions,
    rules: OperatingRules | None = None,
    settings: Resampling | None = None,
) -> dict[str, OperatingPoint]:
    """Choose one threshold a finding on validation films.

    Args:
        validation: predictions on films that are neither training nor test films (out-of-fold ones serve).
        rules: floor and name of the normal finding.
        settings: of the intervals.

    Returns:
        an operating point for each finding, measured on the validation films; NaN with a reason where a finding has
        no film, or nothing else has.

    Raises:
        ConfigError: a floor for a finding that isn't one.
    """
    rules = rules or OperatingRules()
    if unknown := sorted(set(rules.floors) - set(validation.findings.names)):
        raise ConfigError([f"Floors are given for {unknown}, but the findings are {list(validation.findings.names)}."])
    chosen = {}
    films = validation.labelled
    classes = classes_of(films.targets, films.findings)
    for column, finding in enumerate(films.findings.names):
        rule = rules.rule_of(finding)
        probs, positive = films.probs[:, column], classes == column
        reason = _why_no_threshold(probs, positive, finding)
        threshold = math.nan
        if not reason:
            threshold = _threshold(rule, probs, positive, rules, finding)
            owners = len({films.patient_ids[i] for i in np.flatnonzero(positive)})
            if owners < FEW_POSITIVES:
                reason = f"Only {owners} patients with {finding} choose this threshold; other films may fall below it."
        chosen[finding] = _Chosen(rule, threshold, rules.aim_of(finding), reason)
    return _measured(films, chosen, "validation", settings or Resampling())


def apply_operating_points(
    points: Mapping[str, OperatingPoint], films: Predictions, settings: Resampling | None = None
) -> dict[str, OperatingPoint]:
    """Measure fixed operating points on other films; the thresholds stay as they are.

    Raises:
        DataError: the points are for other findings.
    """
    if set(points) != set(films.findings.names):
        raise DataError(
            f"Operating points for {sorted(points)} can't be applied to predictions of {sorted(films.findings.names)}. "
            "Choose them on predictions of the same classifier."
        )
    chosen = {
        name: _Chosen(points[name].rule, points[name].threshold, points[name].aim, points[name].reason)
        for name in films.findings.names
    }
    return _measured(films.labelled, chosen, "test", settings or Resampling())


def thresholds(points: Mapping[str, OperatingPoint]) -> dict[str, float]:
    """The thresholds alone, for a bundle; findings without one are left out."""
    return {name: point.threshold for name, point in points.items() if not math.isnan(point.threshold)}


def _why_no_threshold(probs: Vector, positive: Array, finding: str) -> str:
    if np.isnan(probs).any():
        return f"{int(np.isnan(probs).sum())} of {len(probs)} films have no probability (NaN), so no threshold fits."
    if not positive.any():
        return f"No labelled film shows {finding}, so no threshold can be chosen."
    if positive.all():
        return f"Every labelled film shows {finding}, so no threshold can be chosen."
    return ""


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A threshold before it is measured."""

    rule: Rule
    threshold: float
    aim: str
    reason: str


def _measured(
    films: Predictions, chosen: Mapping[str, _Chosen], measured_on: str, settings: Resampling
) -> dict[str, OperatingPoint]:
    classes = classes_of(films.targets, films.findings)
    cohort = Cohort.of(films.patient_ids, classes) if len(films) else None
    right, among, usable = [], [], []
    for column, threshold in enumerate(one.threshold for one in chosen.values()):
        probs, positive = films.probs[:, column], classes == column
        usable.append(bool(len(films)) and not math.isnan(threshold) and not np.isnan(probs).any())
        called = probs >= threshold
        right += [called & positive, ~called & ~positive]
        among += [positive, ~positive]
    samples = _resampled(np.column_stack(right), np.column_stack(among), cohort, settings)
    measured = {}
    for column, (finding, one) in enumerate(chosen.items()):
        rates = [
            _share(right[i], among[i], samples[:, i], cohort if usable[column] else None, settings.level, finding)
            for i in (2 * column, 2 * column + 1)
        ]
        measured[finding] = OperatingPoint(
            finding=finding,
            rule=one.rule,
            threshold=one.threshold,
            sensitivity=rates[0],
            specificity=rates[1],
            flagged=float((films.probs[:, column] >= one.threshold).mean()) if usable[column] else math.nan,
            measured_on=measured_on,
            aim=one.aim,
            reason=one.reason,
        )
    return measured


def _resampled(right: Array, among: Array, cohort: Cohort | None, settings: Resampling) -> Array:
    """Shares of ``right`` in ``among`` [n, m] under the bootstrap, [r, m]."""
    if cohort is None:
        return np.full((1, right.shape[1]), np.nan)
    m = right.shape[1]
    sums = bootstrap_sums(np.column_stack([right, among]), cohort, settings, name="operating-point")
    with np.errstate(divide="ignore", invalid="ignore"):
        shares: Array = sums[:, :m] / sums[:, m:]
    return shares


def _share(right: Array, among: Array, samples: Array, cohort: Cohort | None, level: float, finding: str) -> Estimate:
    n = int(among.sum())
    if cohort is None:
        return not_estimable("There is no threshold, or a film has no probability.", n=n)
    if not n:
        return not_estimable(f"The labelled films all show {finding}, or none does.")
    return proportion(float(right.sum() / n), samples, n=n, patients=cohort.count(among), level=level)
