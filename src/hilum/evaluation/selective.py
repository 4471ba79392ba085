"""Answering some films and leaving the doubtful ones to a person: risk against coverage, and one policy for it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hilum.arrays import Array, Indices, Vector
from hilum.errors import ConfigError, DataError
from hilum.evaluation.confounding import clearly_apart
from hilum.evaluation.estimates import NAN, Estimate, not_estimable
from hilum.evaluation.false_alarms import UNEVEN
from hilum.evaluation.intervals import Cohort, Resampled, Resampling
from hilum.evaluation.metrics import classes_of
from hilum.evaluation.uncertainty import entropy
from hilum.predictions import Predictions

LEAST_PROBABLE = "1 − probability of the answer"
ENTROPY = "entropy"
MUTUAL_INFORMATION = "mutual_information"
MC_STD = "mc_std"
"""Standard deviation over dropout masks and members of the answered finding's probability."""
OOD_DISTANCE = "ood_distance"
"""Distance of the features from those of the fitted films."""
SET_SIZE = "prediction_set_size"
"""Findings in the prediction set; a set of none counts as one of all."""

FEW_FOR_POLICY = 50
"""Fewer validation patients than this choose no policy."""

TOO_COARSE = 0.05
"""A kind of doubt whose ties answer this much more than the wanted coverage can't keep it, and isn't chosen."""

FALLBACK = 0.5
"""Least probability of the answer in a bundle for which no policy could be chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AbstentionRules:
    """How a policy is chosen on validation films."""

    coverage: float = 0.8
    """Share of validation films that are answered, when no error is asked for."""
    most_error: float | None = None
    """Greatest share of wrong answers among answered films, held with ``confidence``; None: take ``coverage``."""
    confidence: float = 0.95
    """With what probability ``most_error`` is to hold on films like the validation films."""
    usual: float = 0.995
    """Share of the validation films whose distance from the fitted films counts as usual; whatever the doubt, a film
    farther away gets no answer."""

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {value}, but must lie between 0 and 1."
            for name, value in (
                ("usual", self.usual),
                ("coverage", self.coverage),
                ("most_error", self.most_error),
                ("confidence", self.confidence),
            )
            if value is not None and not 0 < value < 1
        ]
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class AbstentionPolicy:
    """One rule, chosen on validation films and fixed: a film with more doubt than the limit gets no answer."""

    doubt: str
    """By what films are ordered, such as ``1 − probability of the answer`` or ``mutual_information``."""
    limit: float
    """Most doubt that still gets an answer; NaN when no policy could be chosen."""
    rules: AbstentionRules
    """How it was chosen."""
    aurc: dict[str, float]
    """Area under risk–coverage of each kind of doubt on the validation films; the lowest one was taken."""
    coverage: float
    """Share of the validation films that it answers."""
    risk: float
    """Share of wrong answers among those; optimistic, since it was chosen here."""
    reason: str = ""
    """Why there is no policy; empty when all is well."""
    most_distance: float = NAN
    """Distance from the fitted films beyond which a film gets no answer, whatever its doubt; NaN without distances."""
    set_limits: dict[str, float] = field(default_factory=dict)
    """Where the doubt is the size of the prediction set: least probability at which each finding enters it."""

    def answers(self, kinds: Mapping[str, Vector]) -> Array:
        """Bool [n]: which films it answers, from their :func:`doubts`; none where there is no policy."""
        held: Array = kinds[self.doubt] <= self.limit
        if not math.isnan(self.most_distance) and OOD_DISTANCE in kinds:
            held &= kinds[OOD_DISTANCE] <= self.most_distance
        return held


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskCoverage:
    """Share of wrong answers among the films that are answered, as more and more doubtful ones are."""

    doubt: str
    """By what films are ordered."""
    coverage: tuple[float, ...]
    """Share of films answered, rising to 1."""
    risk: tuple[float, ...]
    """Share of wrong answers among them."""
    aurc: Estimate
    """Mean risk over all coverages; lower is better."""
    excess: float
    """AURC above that of an order that puts every wrong answer last (E-AURC): 0 is perfect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectiveFigures:
    """How a policy and its alternatives do on films that did not choose it."""

    policy: AbstentionPolicy
    """The policy."""
    curves: tuple[RiskCoverage, ...]
    """One for each kind of doubt."""
    coverage: Estimate
    """Share of films that the policy answers."""
    risk: Estimate
    """Share of wrong answers among them."""
    risk_of_all: Estimate
    """Share of wrong answers when every film is answered."""
    sensitivity: dict[str, Estimate]
    """By finding, among answered films that show it."""
    abstained: dict[str, Estimate]
    """Share of films left to a person, by true finding."""
    groups: dict[str, dict[str, Estimate]]
    """Share of films left to a person, by group and level: a policy can shift the work onto one group."""
    group_risk: dict[str, dict[str, Estimate]]
    """Share of wrong answers among answered films, by group and level."""
    warnings: tuple[str, ...] = field(default=())
    """Groups that are left to a person clearly more often than others."""


def doubts(films: Predictions) -> dict[str, Vector]:
    """Kinds of doubt that films can be ordered by, each [n], higher is more doubtful.

    From probabilities, and whatever the predictions name as uncertainty.
    """
    kinds: dict[str, Vector] = {
        LEAST_PROBABLE: 1 - films.probs.max(axis=1) if len(films) else np.empty(0),
        ENTROPY: entropy(films.probs),
    }
    return kinds | {name: np.asarray(values, dtype=np.float64) for name, values in films.uncertainty.items()}


@dataclass(frozen=True, slots=True)
class _Order:
    """Films by rising doubt; equal doubts are answered together."""

    rows: Indices
    ends: Indices

    @classmethod
    def of(cls, doubt: Vector) -> "_Order":
        rows = np.argsort(doubt, kind="stable")
        return cls(rows, np.append(np.flatnonzero(np.diff(doubt[rows]) != 0), len(rows) - 1))

    def curve(self, wrong: Array, weights: Array) -> tuple[Array, Array]:
        """Weight answered and weight answered wrongly after each group of equal doubt, [r, g]."""
        ordered = weights[:, self.rows]
        return np.cumsum(ordered, axis=1)[:, self.ends], np.cumsum(ordered * wrong[self.rows], axis=1)[:, self.ends]


def aurc_of(doubt: Vector, wrong: Array, weights: Array) -> Array:
    """Area under risk–coverage for counts [r, n], [r]: the mean over films of the risk at which each is answered.

    Source: Geifman and El-Yaniv 2017 (NeurIPS), arXiv:1705.08500; as a mean over films: Geifman, Uziel and El-Yaniv
    2019 (ICLR), arXiv:1805.08206.
    """
    return _area(_Order.of(doubt), wrong, weights)


def _area(order: _Order, wrong: Array, weights: Array) -> Array:
    answered, mistakes = order.curve(wrong, weights)
    steps = np.diff(answered, axis=1, prepend=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        risk = np.where(answered > 0, mistakes / answered, 0.0)
        areas: Array = (steps * risk).sum(axis=1) / answered[:, -1]
    return areas


def best_aurc(wrong: Array) -> float:
    """AURC of the order that puts every wrong answer last."""
    return float(aurc_of(np.sort(wrong.astype(np.float64)) + np.arange(len(wrong)), np.sort(wrong), _ones(wrong))[0])


def _ones(wrong: Array) -> Array:
    return np.ones((1, len(wrong)))


def with_set_sizes(films: Predictions, sets: Array) -> Predictions:
    """The films with the size of their prediction sets among their kinds of doubt.

    Args:
        films: n predictions.
        sets: bool [n, k] of :meth:`hilum.evaluation.conformal.Conformal.sets`.
    """
    size = sets.sum(axis=1)
    doubtful = np.where(size == 0, sets.shape[1], size).astype(np.float64)
    return replace(films, uncertainty={**films.uncertainty, SET_SIZE: doubtful})


def choose_policy(validation: Predictions, rules: AbstentionRules | None = None) -> AbstentionPolicy:
    """Choose one policy on validation films: the doubt that orders wrong answers last, and its limit.

    A kind of doubt with so many ties that no limit comes near the wanted coverage is left out.

    With ``most_error`` the limit is the largest coverage whose share of wrong answers is below it with confidence,
    tested from the least doubtful film on and stopped at the first that fails, on one film a patient (fixed-sequence
    testing, Angelopoulos et al. 2022, arXiv:2110.01052; the bound is Clopper and Pearson's).

    Args:
        validation: predictions on films that are neither training nor test films; unknown labels are left out.
        rules: how.

    Returns:
        the policy; with a NaN limit and a reason where none can be chosen.

    Raises:
        DataError: a film has no probability or no uncertainty.
    """
    rules, films = rules or AbstentionRules(), validation.labelled
    kinds = doubts(films)
    for name, values in kinds.items():
        if np.isnan(values).any():
            raise DataError(
                f"{int(np.isnan(values).sum())} of {len(films)} validation films have no {name} (NaN). "
                "Predict them again, or leave them out."
            )
    patients, wrong = len(set(films.patient_ids)), _wrong(films)
    far = float(np.quantile(kinds[OOD_DISTANCE], rules.usual)) if len(films) and OOD_DISTANCE in kinds else NAN
    made = AbstentionPolicy(
        doubt=LEAST_PROBABLE, limit=NAN, rules=rules, aurc={}, coverage=NAN, risk=NAN, most_distance=far
    )
    if patients < FEW_FOR_POLICY:
        return replace(made, reason=f"Only {patients} validation patients; a policy needs {FEW_FOR_POLICY}.")
    if not wrong.any():
        why = "No validation film is answered wrongly, so doubt can't be held against mistakes."
        return replace(made, reason=why)
    areas = {name: float(aurc_of(values, wrong, _ones(wrong))[0]) for name, values in kinds.items()}
    if rules.most_error is None:
        name, limit = _limit_of(kinds, areas, rules.coverage)
    else:
        name = _lowest(areas, list(areas))
        limit = _limit_for(kinds[name], wrong, films.patient_ids, rules.most_error, rules.confidence)
    made = replace(made, doubt=name, limit=limit, aurc=areas)
    if math.isnan(limit):
        why = (
            f"No share of the validation films can be answered with at most {rules.most_error:.1%} mistakes at "
            f"{rules.confidence:.0%} confidence, so every film goes to a person."
        )
        return replace(made, coverage=0.0, reason=why)
    answered = made.answers(kinds)
    return replace(made, coverage=float(answered.mean()), risk=float(wrong[answered].mean()) if answered.any() else NAN)


def _lowest(areas: Mapping[str, float], names: Sequence[str]) -> str:
    return min(names, key=lambda kind: round(areas[kind], 12))


def _limit_of(kinds: Mapping[str, Vector], areas: Mapping[str, float], coverage: float) -> tuple[str, float]:
    """The best doubt whose limit answers about the wanted share of films, and that limit."""
    limits = {name: float(np.quantile(values, coverage, method="higher")) for name, values in kinds.items()}
    kept = [name for name, values in kinds.items() if (values <= limits[name]).mean() <= coverage + TOO_COARSE]
    name = _lowest(areas, kept or [LEAST_PROBABLE])
    return name, limits[name]


def _wrong(films: Predictions) -> Array:
    wrong: Array = films.probs.argmax(axis=1) != classes_of(films.targets, films.findings)
    return wrong


def _limit_for(doubt: Vector, wrong: Array, patient_ids: Sequence[str], most: float, confidence: float) -> float:
    """Largest doubt up to which the error's upper bound stays at or below the most; NaN when not even there."""
    from scipy.special import betaincinv

    owner = np.unique(np.asarray(patient_ids, dtype=str), return_inverse=True)[1]
    first = np.unique(owner, return_index=True)[1]
    order = first[np.argsort(doubt[first], kind="stable")]
    values, mistakes = doubt[order], np.cumsum(wrong[order])
    n = np.arange(1, len(order) + 1)
    bound = np.where(mistakes == n, 1.0, betaincinv(mistakes + 1, np.maximum(1, n - mistakes), confidence))
    # Fewer films than this can't show it even without a mistake, so the test begins there.
    start = math.ceil(math.log(1 - confidence) / math.log(1 - most))
    ends = np.append(np.flatnonzero(np.diff(values) != 0), len(values) - 1)
    limit = NAN
    for end in ends[ends >= start - 1]:
        if bound[end] > most:
            break
        limit = float(values[end])
    return limit


def measure_policy(
    policy: AbstentionPolicy, films: Predictions, *, groups: Sequence[str] = (), settings: Resampling | None = None
) -> SelectiveFigures:
    """Measure a fixed policy on other films.

    Args:
        policy: from :func:`choose_policy`.
        films: unknown labels are left out.
        groups: columns of ``films.groups`` to report by.
        settings: of the intervals.

    Raises:
        DataError: the films lack the policy's doubt.
    """
    films, settings = films.labelled, settings or Resampling()
    kinds = doubts(films)
    if policy.doubt not in kinds:
        raise DataError(
            f"The policy goes by {policy.doubt}, which these predictions lack (they have {', '.join(kinds)}). "
            "Predict them with the same model."
        )
    n, names = len(films), films.findings.names
    broken = {name: int(np.isnan(values).sum()) for name, values in kinds.items()}
    needed = [LEAST_PROBABLE, policy.doubt, *([OOD_DISTANCE] if OOD_DISTANCE in kinds else [])]
    missing = max(broken[name] for name in needed)
    if not n or missing:
        nothing = not_estimable(f"{missing} of {n} films have no score (NaN)." if n else "There is no labelled film.")
        return SelectiveFigures(
            policy=policy,
            curves=(),
            coverage=nothing,
            risk=nothing,
            risk_of_all=nothing,
            sensitivity=dict.fromkeys(names, nothing),
            abstained=dict.fromkeys(names, nothing),
            groups={},
            group_risk={},
        )
    classes, wrong = classes_of(films.targets, films.findings), _wrong(films)
    cohort = Cohort.of(films.patient_ids, classes)
    usable = [name for name in kinds if not broken[name]]
    curves = _curves({name: kinds[name] for name in usable}, wrong, cohort, settings)
    shares = _shares_of(policy, kinds, films, classes, wrong, groups)
    found = _estimates(shares, cohort, settings, policy.reason)
    by_group = {
        what: {
            group: {key[2]: one for key, one in found.items() if key[:2] == (what, group)}
            for group in groups
            if any(key[:2] == (what, group) for key in found)
        }
        for what in ("left", "risk")
    }
    return SelectiveFigures(
        policy=policy,
        curves=curves,
        coverage=found["coverage", "", ""],
        risk=found["risk", "", ""],
        risk_of_all=found["all", "", ""],
        sensitivity={name: found["sensitivity", "", name] for name in names},
        abstained={name: found["left", "", name] for name in names},
        groups=by_group["left"],
        group_risk=by_group["risk"],
        warnings=_uneven(by_group["left"], settings.level),
    )


def _shares_of(
    policy: AbstentionPolicy,
    kinds: Mapping[str, Vector],
    films: Predictions,
    classes: Indices,
    wrong: Array,
    groups: Sequence[str],
) -> dict[tuple[str, str, str], tuple[Array, Array]]:
    """What is counted among what: (figure, group, level) to two bool vectors."""
    every = np.ones(len(films), dtype=bool)
    shares = {("all", "", ""): (wrong, every)}
    answered = policy.answers(kinds)
    if math.isnan(policy.limit):
        every = answered  # nothing can be said of coverage without a policy
    shares |= {("coverage", "", ""): (answered, every), ("risk", "", ""): (wrong, answered)}
    for c, name in enumerate(films.findings.names):
        mine = classes == c
        shares["sensitivity", "", name] = (~wrong, answered & mine)
        shares["left", "", name] = (~answered, every & mine)
    for group in groups:
        levels = np.asarray([level or "not recorded" for level in films.groups.get(group, ())])
        for level in np.unique(levels):
            shares["left", group, str(level)] = (~answered, every & (levels == level))
            shares["risk", group, str(level)] = (wrong, answered & (levels == level))
    return shares


def _estimates(
    shares: Mapping[tuple[str, str, str], tuple[Array, Array]], cohort: Cohort, settings: Resampling, why: str
) -> dict[tuple[str, str, str], Estimate]:
    parts = [part & among for part, among in shares.values()]
    counted = np.column_stack([*parts, *(among for _, among in shares.values())])

    def finish(sums: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Array = sums[:, : len(parts)] / sums[:, len(parts) :]
        return found

    made = Resampled.of_sums(counted, finish, cohort, settings, name="selective")
    found = {}
    for i, (key, (_, among)) in enumerate(shares.items()):
        n = int(among.sum())
        patients = cohort.count(among) if n else 0
        reason = "No such film is answered." if key[0] in ("risk", "sensitivity") else "There is no such film."
        reason = why or reason
        found[key] = made.proportion(i, n=n, patients=patients, reason=reason)
    return found


def _curves(
    kinds: Mapping[str, Vector], wrong: Array, cohort: Cohort, settings: Resampling, points: int = 100
) -> tuple[RiskCoverage, ...]:
    orders = {name: _Order.of(doubt) for name, doubt in kinds.items()}

    def statistic(weights: Array) -> Array:
        return np.column_stack([_area(order, wrong, weights) for order in orders.values()])

    made, least = Resampled.of(statistic, cohort, settings, name="risk-coverage"), best_aurc(wrong)
    curves = []
    for i, (name, order) in enumerate(orders.items()):
        answered, mistakes = (values[0] for values in order.curve(wrong, _ones(wrong)))
        keep = np.unique(np.searchsorted(answered, np.linspace(answered[0], answered[-1], points)))
        area = made.signed(i, n=len(wrong), patients=cohort.patients)
        curves.append(
            RiskCoverage(
                doubt=name,
                coverage=tuple((answered[keep] / len(wrong)).tolist()),
                risk=tuple((mistakes[keep] / answered[keep]).tolist()),
                aurc=area,
                excess=area.value - least,
            )
        )
    return tuple(curves)


def _uneven(groups: Mapping[str, Mapping[str, Estimate]], level: float) -> tuple[str, ...]:
    """A sentence for each group in which two levels differ beyond chance, by Bonferroni over all pairs of levels."""
    bounded = {group: {name: one for name, one in levels.items() if one.bounded} for group, levels in groups.items()}
    pairs = sum(math.comb(len(known), 2) for known in bounded.values())
    sentences = []
    for group, known in bounded.items():
        if len(known) < 2:
            continue
        most = max(known, key=lambda name: known[name].low)
        least = min(known, key=lambda name: known[name].high)
        if clearly_apart(known[most], known[least], chance=UNEVEN / pairs, level=level):
            sentences.append(
                f"By {group.replace('_', ' ')}, films of {most} are left to a person clearly more often "
                f"({known[most].text()}) than those of {least} ({known[least].text()})."
            )
    return tuple(sentences)
