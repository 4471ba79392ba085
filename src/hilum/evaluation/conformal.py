"""Conformal prediction sets: as many findings as are needed to hold the true one with a stated probability.

The guarantee holds for films like the calibration films (exchangeable with them), as long as these have chosen nothing
else, whatever the model is worth; a poor model gives large sets. It is an average over calibration sets, and holds in
each class with the class-conditional form.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hilum.arrays import Array, Indices, Scores
from hilum.errors import ConfigError, DataError
from hilum.evaluation.estimates import Estimate, not_estimable
from hilum.evaluation.intervals import Cohort, Resampled, Resampling
from hilum.evaluation.metrics import classes_of
from hilum.predictions import Predictions
from hilum.randomness import stream

Score = Literal["lac", "aps"]
"""``lac``: one minus the finding's probability (smallest sets); ``aps``: mass of all findings at least as likely."""

NOT_EXCHANGEABLE = (
    "The coverage is promised for films like the calibration films; films of another source need not be like them, so "
    "look at the measured coverage."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConformalRules:
    """What is promised, and how."""

    coverage: float = 0.9
    """Share of sets that are to hold the true finding, strictly between 0 and 1."""
    by_class: bool = True
    """Promise it within each true finding (Mondrian), not only on average, which a common finding could carry."""
    score: Score = "lac"
    """How strange a finding is for a film."""
    seed: int = 0
    """Of the choice of one film a patient."""

    def __post_init__(self) -> None:
        problems = []
        if not 0 < self.coverage < 1:
            problems.append(f"coverage is {self.coverage}, but must lie between 0 and 1, such as 0.9.")
        if self.score not in ("lac", "aps"):
            problems.append(f"score is {self.score!r}, but must be lac or aps.")
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conformal:
    """Limits that make prediction sets of probabilities."""

    rules: ConformalRules
    """What is promised."""
    findings: tuple[str, ...]
    """The findings, in column order."""
    limits: tuple[float, ...]
    """A finding is in the set when its score is at most this; infinite where too few films leave nothing out."""
    patients: tuple[int, ...]
    """Calibration patients of each finding, one film each."""
    warnings: tuple[str, ...] = ()
    """What a reader must know: too few patients of a finding."""

    @property
    def least_probabilities(self) -> dict[str, float]:
        """For the score ``lac``: probability from which each finding enters the set, 0 where it always does."""
        lac = self.rules.score == "lac"
        pairs = zip(self.findings, self.limits, strict=True)
        return {name: max(0.0, 1 - limit) if lac else math.nan for name, limit in pairs}

    def sets(self, probs: Scores) -> Array:
        """Bool [n, k]: which findings each film's set holds. A film without probabilities (NaN) has all of them."""
        strange = scores(probs, self.rules.score)
        held: Array = (strange <= np.asarray(self.limits) + 1e-12) | np.isnan(probs)
        return held


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFigures:
    """How prediction sets do on films that did not make them."""

    promised: float
    """Coverage that was asked for."""
    by_class: bool
    """Whether it was asked for in each finding."""
    coverage: Estimate
    """Share of films whose set holds the true finding."""
    class_coverage: dict[str, Estimate]
    """The same among the films of each finding."""
    size: Estimate
    """Mean number of findings in a set."""
    single: Estimate
    """Share of films whose set holds one finding: the answer is clear."""
    sizes: dict[str, int]
    """Films by size of their set."""
    group_coverage: dict[str, dict[str, Estimate]]
    """Coverage by group and level, such as ``source`` and ``hospital-b``."""
    limits: dict[str, float]
    """Least probability at which a finding enters the set, for the score ``lac``; 0 where all enter."""
    patients: dict[str, int]
    """Calibration patients of each finding."""
    warnings: tuple[str, ...] = ()
    """What a reader must know."""


def scores(probs: Scores, kind: Score) -> Scores:
    """How strange each finding would be as the truth, [n, k], higher is stranger.

    Source: ``lac``: Sadinle, Lei and Wasserman 2019, J Am Stat Assoc 114:223, doi:10.1080/01621459.2017.1395341;
    ``aps``: Romano, Sesia and Candès 2020 (NeurIPS), arXiv:2006.02544, without its randomisation, so on the safe side.
    """
    if kind == "lac":
        strange: Scores = 1 - probs
        return strange
    order = np.argsort(-probs, axis=1, kind="stable")
    summed = np.take_along_axis(probs, order, axis=1).cumsum(axis=1)
    found: Scores = np.empty_like(probs)
    np.put_along_axis(found, order, summed, axis=1)
    return found


def finite_quantile(values: Array, coverage: float) -> float:
    """The limit below which a further exchangeable value lies with at least the stated probability.

    Args:
        values: [n] scores.
        coverage: wanted probability.

    Returns:
        the ⌈(n + 1)·coverage⌉-th smallest value; infinite where n is too small for any limit.

    Source: Vovk, Gammerman and Shafer 2005, Algorithmic Learning in a Random World, doi:10.1007/b106715; Angelopoulos
    and Bates 2023, Found Trends Mach Learn 16:494, doi:10.1561/2200000101.
    """
    n = len(values)
    rank = math.ceil((n + 1) * coverage - 1e-9)
    return math.inf if rank > n else float(np.sort(values)[rank - 1])


def calibrate_sets(validation: Predictions, rules: ConformalRules | None = None) -> Conformal:
    """Find the limits on films that the network was not trained on.

    Films of one patient are not exchangeable with films of another, so one film a patient is drawn (Dunn, Wasserman and
    Ramdas 2022, J Am Stat Assoc, doi:10.1080/01621459.2022.2060112).

    Args:
        validation: predictions; unknown labels are left out.
        rules: what is promised.

    Returns:
        the limits. A finding with too few patients gets no limit (it is in every set), with a warning.

    Raises:
        DataError: a film has no probability.
    """
    rules, films = rules or ConformalRules(), validation.labelled
    if np.isnan(films.probs).any():
        raise DataError(
            f"{int(np.isnan(films.probs).any(axis=1).sum())} of {len(films)} calibration films have no probability "
            "(NaN). Predict them again, or leave them out."
        )
    classes = classes_of(films.targets, films.findings)
    rows = _one_a_patient(films.patient_ids, rules.seed)
    own = scores(films.probs, rules.score)[rows, classes[rows]] if len(rows) else np.empty(0)
    names, of_class = films.findings.names, [own[classes[rows] == c] for c in range(len(films.findings))]
    used = of_class if rules.by_class else [own] * len(names)
    limits = tuple(finite_quantile(values, rules.coverage) for values in used)
    needed = math.ceil(rules.coverage / (1 - rules.coverage) - 1e-9)
    warnings = tuple(
        f"Only {len(values)} calibration patients show {name}; {needed} are needed to promise {rules.coverage:.0%}, so "
        "it is in every set."
        for name, values, limit in zip(names, used, limits, strict=True)
        if math.isinf(limit)
    )
    return Conformal(
        rules=rules,
        findings=names,
        limits=limits,
        patients=tuple(len(values) for values in of_class),
        warnings=warnings,
    )


def _one_a_patient(patient_ids: Sequence[str], seed: int) -> Indices:
    """One row of each patient, drawn at random."""
    if not len(patient_ids):
        return np.empty(0, dtype=np.int64)
    owner = np.unique(np.asarray(patient_ids, dtype=str), return_inverse=True)[1]
    shuffled = stream(seed, "one film a patient").permutation(len(owner))
    first = np.unique(owner[shuffled], return_index=True)[1]
    return np.sort(shuffled[first])


def measure_sets(
    conformal: Conformal,
    films: Predictions,
    *,
    groups: Sequence[str] = (),
    settings: Resampling | None = None,
    warnings: Sequence[str] = (),
) -> SetFigures:
    """Measure prediction sets on other films.

    Args:
        conformal: from :func:`calibrate_sets`.
        films: of the same findings; unknown labels are left out.
        groups: columns of ``films.groups`` to report coverage by.
        settings: of the intervals.
        warnings: further sentences.

    Raises:
        DataError: other findings.
    """
    if conformal.findings != films.findings.names:
        raise DataError(
            f"Prediction sets of {list(conformal.findings)} can't be measured on {list(films.findings.names)}."
        )
    films, settings = films.labelled, settings or Resampling()
    names, n = films.findings.names, len(films)
    shown: dict[str, Any] = {
        "promised": conformal.rules.coverage,
        "by_class": conformal.rules.by_class,
        "limits": conformal.least_probabilities,
        "patients": dict(zip(names, conformal.patients, strict=True)),
        "warnings": (*conformal.warnings, *warnings),
    }
    missing = int(np.isnan(films.probs).any(axis=1).sum())
    if not n or missing:
        return _no_figures(
            names, f"{missing} of {n} films have no score (NaN)." if n else "There is no labelled film.", shown
        )
    classes, sets = classes_of(films.targets, films.findings), conformal.sets(films.probs)
    hit, size = sets[np.arange(n), classes], sets.sum(axis=1)
    among = {("", ""): np.ones(n, dtype=bool), **{("class", name): classes == c for c, name in enumerate(names)}}
    among |= _levels(films.groups, groups)
    cohort = Cohort.of(films.patient_ids, classes)
    made = _resampled(hit, size, list(among.values()), cohort, settings)
    found = {
        key: made.proportion(
            i,
            n=int(rows.sum()),
            patients=cohort.count(rows) if rows.any() else 0,
            reason=f"No labelled film shows {key[1]}.",
        )
        for i, (key, rows) in enumerate(among.items())
    }
    last = len(among)
    return SetFigures(
        coverage=found["", ""],
        class_coverage={
            name: found["class", name] if math.isfinite(limit) else _no_promise(conformal, name, found["class", name])
            for name, limit in zip(names, conformal.limits, strict=True)
        },
        single=made.proportion(last, n=n, patients=cohort.patients),
        size=made.signed(last + 1, n=n, patients=cohort.patients),
        sizes={str(s): int((size == s).sum()) for s in range(len(names) + 1) if (size == s).any()},
        group_coverage={
            group: {level: found[kind, level] for kind, level in found if kind == f"group {group}"} for group in groups
        },
        **shown,
    )


def _resampled(hit: Array, size: Array, among: Sequence[Array], cohort: Cohort, settings: Resampling) -> Resampled:
    """Coverage among each group of films (the first is all), then the share of single findings, and the mean size."""
    marked, m = np.column_stack(among).astype(np.float64), len(among)
    counted = np.column_stack([marked * hit[:, None], marked, size == 1, size])

    def finish(sums: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = sums[:, :m] / sums[:, m : 2 * m]
        return np.column_stack([shares, sums[:, 2 * m :] / sums[:, m : m + 1]])

    return Resampled.of_sums(counted, finish, cohort, settings, name="conformal")


def _no_promise(conformal: Conformal, name: str, found: Estimate) -> Estimate:
    """No coverage of a finding without a limit: it is in every set, so that its films are covered says nothing."""
    reason = next((text for text in conformal.warnings if f" show {name};" in text), "It has no limit.")
    return not_estimable(reason, n=found.n, patients=found.patients)


def _no_figures(names: Sequence[str], reason: str, shown: Mapping[str, Any]) -> SetFigures:
    nothing = not_estimable(reason)
    return SetFigures(
        coverage=nothing,
        class_coverage=dict.fromkeys(names, nothing),
        size=nothing,
        single=nothing,
        sizes={},
        group_coverage={},
        **shown,
    )


def _levels(groups: Mapping[str, Sequence[str]], wanted: Sequence[str]) -> dict[tuple[str, str], Array]:
    """Films of each level of the wanted groups; no level is named not recorded."""
    found = {}
    for group in wanted:
        levels = np.asarray([level or "not recorded" for level in groups.get(group, ())])
        for level in np.unique(levels):
            found[f"group {group}", str(level)] = levels == level
    return found
