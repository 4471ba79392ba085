"""``pccp.yaml``: the pre-specified change control plan, as frozen values, read strictly."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hilum.config import canonical_json, from_mapping
from hilum.errors import ConfigError
from hilum.predictions import GROUPS

ChangeType = Literal["retrained", "recalibrated", "thresholds"]
"""``retrained``: new weights by the recorded recipe; ``recalibrated``: a site's own temperature; ``thresholds``: own
operating points."""

Metric = Literal["auroc", "sensitivity", "specificity"]

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What may change at all; everything else needs another plan."""

    findings: tuple[str, ...]
    """What the model tells apart; a candidate tells the same apart."""
    changes: tuple[ChangeType, ...] = ("retrained",)
    """Kinds of change."""
    architectures: tuple[str, ...] = ()
    """Backbones that a candidate may have; empty for that of the current model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedTest:
    """The locked test set."""

    fingerprint: str
    """Its fingerprint: 64 hex digits, as ``hilum data`` and every scorecard give it."""
    least_patients: int = 100
    """Fewer patients are no test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NonInferiority:
    """No finding may become worse by the margin, against the first approved and against the current model."""

    margin: float
    """Largest loss of AUROC that is accepted, such as 0.03."""
    alpha: float = 0.025
    """Chance, over all updates together and one-sided, that a model worse by the margin passes."""
    updates: int = 10
    """Updates that the plan is for; each spends an equal part of alpha, and none comes after the last."""
    power: float = 0.8
    """Chance that an equal model passes; a test set that gives less can't resolve the margin, and is refused."""
    method: Literal["delong", "bootstrap"] = "delong"
    """How the lower bound is made; both are paired and by patient."""

    @property
    def update_alpha(self) -> float:
        """What one update spends."""
        return self.alpha / self.updates


@dataclass(frozen=True, slots=True, kw_only=True)
class Superiority:
    """What a change is made for."""

    finding: str
    """The finding whose AUROC is to rise over the current model's."""
    least_gain: float = 0.0
    """By so much at least, beyond chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubgroupFloor:
    """A floor for every level of a group; too few cases are not enough, and fail."""

    group: str
    """Column, such as sex, age_band, device or view_position."""
    finding: str
    """The finding."""
    floor: float
    """The lower 95 % bound must reach it."""
    metric: Metric = "auroc"
    """What is measured."""
    least_positives: int = 20
    """Patients with the finding (for specificity: without it) below which a level is insufficient."""
    levels: tuple[str, ...] = ()
    """Levels that count; empty for all that the test set has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationBand:
    """How far mean probability may lie from the share of films with the finding, and how large ECE may be."""

    largest_gap: float = 0.05
    """Mean probability minus share, without its sign, by finding."""
    largest_ece: float = 0.10
    """Expected calibration error of the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalCase:
    """A film that no candidate may miss."""

    film_id: str
    """SHA-256 of its file, or the first 12 digits and more."""
    finding: str
    """The finding that must reach its operating point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approver:
    """Somebody who may approve."""

    name: str
    """A name or a role."""
    key: str
    """Ed25519 public key: 64 hex digits, as ``hilum change key`` prints it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approvals:
    """Who approves, and how many of them must."""

    approvers: tuple[Approver, ...]
    """All who may."""
    least: int = 2
    """So many must; those who trained or proposed the candidate don't count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackBounds:
    """When the service goes back by itself, compared with what was usual before."""

    least_films: int = 50
    """Fewer films decide nothing."""
    abstained_above: float = 0.25
    """Lower bound of the share of abstained answers."""
    overridden_above: float = 0.20
    """Lower bound of the share of overridden answers among those that were read."""
    failed_above: float = 0.05
    """Lower bound of the share of films that failed."""
    disagreed_above: float = 0.20
    """Lower bound of the share of films that shadow and production answer differently."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraining:
    """What sets ``hilum retrain propose`` off by itself; each trigger is asked for by its option."""

    every_days: float | None = None
    """Days from one version of the data to the next; None for no schedule."""
    labels: int | None = None
    """New labels that are enough; None when labels alone don't set it off."""
    alarms: tuple[str, ...] = ()
    """Kinds of alarm, by what the alarm names as the culprit, such as device; ``any`` for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The whole plan."""

    schema: int
    """Version of this form."""
    name: str
    """What is changed, such as ``chest classifier, St. Anne``."""
    version: str
    """Of the plan."""
    intended_use: str
    """What the model is for, in one or two sentences; a change never widens it."""
    scope: Scope
    """What may change."""
    test_set: LockedTest
    """The locked test set."""
    non_inferiority: NonInferiority
    """What must not become worse."""
    approvals: Approvals
    """Who approves."""
    superiority: Superiority | None = None
    """What must become better; None when a change only refreshes."""
    subgroups: tuple[SubgroupFloor, ...] = ()
    """Floors."""
    calibration: CalibrationBand = field(default_factory=CalibrationBand)
    """The calibration band."""
    operating_points: dict[str, float] = field(default_factory=dict)
    """Probability from which each finding counts as positive; used by sensitivity, specificity and critical cases."""
    critical_cases: tuple[CriticalCase, ...] = ()
    """Films that no candidate may miss."""
    largest_latency_ms: float = 2000.0
    """95th percentile of the time for one film, on the machine of the evaluation."""
    rollback: RollbackBounds = field(default_factory=RollbackBounds)
    """Automatic rollback."""
    retraining: Retraining = field(default_factory=Retraining)
    """When a candidate is trained by itself; it goes the same way as any other."""

    def __post_init__(self) -> None:
        problems = [*_ranges(self), *_names(self), *_approvers(self.approvals)]
        if problems:
            raise ConfigError(problems)

    @property
    def sha256(self) -> str:
        """Digest of the plan's values: what a proposal is bound to."""
        return hashlib.sha256(canonical_json(self).encode()).hexdigest()


def _ranges(plan: Plan) -> list[str]:
    rule, problems = plan.non_inferiority, []
    if plan.schema != SCHEMA:
        problems.append(f"schema is {plan.schema}, but this version reads {SCHEMA}.")
    for name, value, top in (
        ("non_inferiority.margin", rule.margin, 0.5),
        ("non_inferiority.alpha", rule.alpha, 0.5),
        ("non_inferiority.power", rule.power, 1.0),
    ):
        if not 0 < value < top:
            problems.append(f"{name} is {value}, but must lie between 0 and {top}.")
    if rule.updates < 1:
        problems.append(f"non_inferiority.updates is {rule.updates}, but must be 1 or more.")
    if plan.retraining.every_days is not None and not plan.retraining.every_days > 0:
        problems.append(f"retraining.every_days is {plan.retraining.every_days}, but must be above 0.")
    if plan.retraining.labels is not None and plan.retraining.labels < 1:
        problems.append(f"retraining.labels is {plan.retraining.labels}, but must be 1 or more.")
    digest = plan.test_set.fingerprint
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        problems.append("test_set.fingerprint must be 64 hex digits, as hilum data prints it.")
    problems += [
        f"operating_points.{name} is {value}, but must lie in 0 … 1."
        for name, value in plan.operating_points.items()
        if not 0 <= value <= 1
    ]
    problems += [
        f"critical_cases: {case.film_id!r} is too short. Give at least 12 digits of the film's SHA-256."
        for case in plan.critical_cases
        if len(case.film_id) < 12
    ]
    return problems


def _names(plan: Plan) -> list[str]:
    known, problems = plan.scope.findings, []
    used = [("subgroups", floor.finding) for floor in plan.subgroups]
    used += [("critical_cases", case.finding) for case in plan.critical_cases]
    used += [("operating_points", name) for name in plan.operating_points]
    used += [("superiority", plan.superiority.finding)] if plan.superiority else []
    for where, name in used:
        if name not in known:
            problems.append(f"{where} names the finding {name!r}; scope.findings has {', '.join(known)}.")
    for floor in plan.subgroups:
        if floor.group not in GROUPS:
            problems.append(f"subgroups names the group {floor.group!r}; known are {', '.join(GROUPS)}.")
        if floor.metric != "auroc" and floor.finding not in plan.operating_points:
            problems.append(f"subgroups: {floor.metric} of {floor.finding!r} needs its operating point.")
    for case in plan.critical_cases:
        if case.finding not in plan.operating_points:
            problems.append(f"critical_cases: {case.finding!r} needs its operating point.")
    return problems


def _approvers(approvals: Approvals) -> list[str]:
    problems = []
    if approvals.least < 2:
        problems.append(f"approvals.least is {approvals.least}, but two people must approve at least.")
    if len(approvals.approvers) < approvals.least:
        problems.append(f"approvals names {len(approvals.approvers)} approvers, but {approvals.least} must approve.")
    keys = [one.key for one in approvals.approvers]
    if len(set(keys)) != len(keys):
        problems.append("approvals: two approvers have the same key. Each needs one of their own.")
    problems += [
        f"approvals: the key of {one.name!r} must be 64 hex digits."
        for one in approvals.approvers
        if len(one.key) != 64 or set(one.key) - set("0123456789abcdef")
    ]
    return problems


def read_plan(path: Path | str) -> Plan:
    """Read a plan.

    Raises:
        ConfigError: no such file, no YAML, a key twice, unknown keys (with the nearest known one), values of a wrong
            type or out of range, all of them at once.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"The plan {path} can't be read ({type(error).__name__}). Check the path."]) from None
    return from_mapping(Plan, _yaml(text, path.name), where=path.name)


def _yaml(text: str, name: str) -> dict[str, Any]:
    import yaml

    class Strict(yaml.SafeLoader):
        """Plain values only, and no key twice: YAML would keep the last one without a word."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            """A mapping whose keys are all different."""
            seen = set()
            for key, _ in node.value:
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise ConfigError([f"{name}, line {line}: the key {key.value!r} stands there twice. Keep one."])
                seen.add(key.value)
            return dict(super().construct_mapping(node, deep=deep))

    try:
        values = yaml.load(text, Loader=Strict)  # a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        why = getattr(error, "problem", None) or "it ends too early"
        raise ConfigError([f"{name}{where} is no YAML: {why}."]) from None
    if not isinstance(values, dict):
        raise ConfigError([f"{name} holds {type(values).__name__}, not a mapping of the plan's keys."])
    return values
