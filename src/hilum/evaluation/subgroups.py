"""How figures differ between groups of patients and films: by source, view, sex, age and device.

Intervals need no resampling: AUROC takes DeLong's variance by patient, proportions Wilson's interval with patients as
trials. Many groups are looked at, so a gap is named only if it outlasts Holm's correction.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hilum.arrays import Array, Indices
from hilum.evaluation.confounding import WORDS
from hilum.evaluation.delong import auroc_covariance, delong
from hilum.evaluation.estimates import Estimate, not_estimable
from hilum.evaluation.false_alarms import GAPS
from hilum.evaluation.intervals import FEWEST_PATIENTS, wilson_interval
from hilum.evaluation.metrics import classes_of
from hilum.intervals import p_value
from hilum.predictions import GROUPS, NOT_RECORDED, Predictions

MOST_LEVELS = 12
"""A group with more levels than this is not shown level by level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subgroup:
    """Figures of the films of one level of one group."""

    group: str
    """Column, such as ``sex``."""
    level: str
    """Its value, or ``not recorded``."""
    films: int
    """Labelled films."""
    patients: int
    """Their patients."""
    auroc: dict[str, Estimate]
    """Each finding against the rest."""
    sensitivity: dict[str, Estimate]
    """Of the most probable finding as the answer."""
    specificity: dict[str, Estimate]
    """Of the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A level whose AUROC differs from that of all other films of the group."""

    group: str
    """Column."""
    level: str
    """Its value."""
    finding: str
    """Which AUROC."""
    inside: float
    """In the level."""
    outside: float
    """In the others together."""
    p: float
    """Two-sided, after Holm's correction over all that were tested."""
    tested: int
    """How many comparisons the correction knows of."""

    @property
    def sentence(self) -> str:
        """The gap in words."""
        what, p = WORDS.get(self.group, self.group), p_value(self.p, ".2g", equals="= ")
        return (
            f"AUROC of {self.finding} is {self.inside:.2f} where {what} is {self.level} and {self.outside:.2f} "
            f"elsewhere (p {p} after Holm's correction over {self.tested} comparisons)."
        )


def subgroups(films: Predictions, *, groups: Sequence[str] = GROUPS, level: float = 0.95) -> tuple[Subgroup, ...]:
    """Figures of each level of each group.

    Args:
        films: unknown labels are left out.
        groups: columns of ``films.groups``; those with one level or more than :data:`MOST_LEVELS` are left out.
        level: nominal coverage.

    Returns:
        one value a level, groups in the given order; what can't be measured is NaN with a reason.
    """
    films = films.labelled
    classes, owner = classes_of(films.targets, films.findings), _owners(films)
    return tuple(
        _measured(films, classes, owner, group, name, rows, level)
        for group in groups
        for name, rows in _levels(films, group).items()
    )


def _owners(films: Predictions) -> Indices:
    if not len(films):
        return np.zeros(0, dtype=np.int64)
    return np.unique(np.asarray(films.patient_ids, dtype=str), return_inverse=True)[1].astype(np.int64)


def _levels(films: Predictions, group: str) -> dict[str, Array]:
    values = np.asarray([value or NOT_RECORDED for value in films.groups.get(group, ())], dtype=str)
    names = np.unique(values)
    if not 2 <= len(names) <= MOST_LEVELS:
        return {}
    return {str(name): np.flatnonzero(values == name) for name in names}


def _measured(
    films: Predictions, classes: Indices, owner: Indices, group: str, name: str, rows: Indices, level: float
) -> Subgroup:
    probs, truth, who = films.probs[rows], classes[rows], owner[rows]
    missing = int(np.isnan(probs).any(axis=1).sum())
    why = f"{missing} of {len(rows)} films have no score (NaN)." if missing else ""
    answer = np.where(np.isnan(probs), 0, probs).argmax(axis=1)
    aurocs, sensitivities, specificities = {}, {}, {}
    for c, finding in enumerate(films.findings.names):
        ill = truth == c
        aurocs[finding] = delong(probs[:, c], ill, who, finding=finding, level=level)
        sensitivities[finding] = _share(answer == c, ill, who, why or f"No labelled film shows {finding}.", why, level)
        specificities[finding] = _share(
            answer != c, ~ill, who, why or f"Every labelled film shows {finding}.", why, level
        )
    return Subgroup(
        group=group,
        level=name,
        films=len(rows),
        patients=len(np.unique(who)),
        auroc=aurocs,
        sensitivity=sensitivities,
        specificity=specificities,
    )


def _share(right: Array, among: Array, owner: Indices, reason: str, why: str, level: float) -> Estimate:
    n = int(among.sum())
    if not n or why:
        return not_estimable(reason, n=n)
    share, patients = float(right[among].mean()), len(np.unique(owner[among]))
    low, high = wilson_interval(share, patients, level)
    return Estimate(value=share, low=low, high=high, n=n, patients=patients, method="wilson, patients as trials")


def gaps(films: Predictions, *, groups: Sequence[str] = GROUPS, chance: float = GAPS) -> tuple[Gap, ...]:
    """Levels whose AUROC differs from that of the other films, after Holm's correction over all of them.

    Args:
        films: unknown labels are left out.
        groups: columns.
        chance: that any gap is named where there is none.

    Returns:
        the gaps, the least likely first. Sources are films of other patients; where a patient has films on both sides
        the test is cautious, since it takes them for independent.

    Source: Holm 1979, Scand J Stat 6:65.
    """
    from scipy.special import ndtr

    films = films.labelled
    if np.isnan(films.probs).any():
        return ()
    classes, owner, tested = classes_of(films.targets, films.findings), _owners(films), []
    for group in groups:
        levels = _levels(films, group)
        for name, rows in levels.items():
            if len(levels) == 2 and name != next(iter(levels)):
                continue  # of two levels the second says the same
            inside = np.isin(np.arange(len(films)), rows)
            for c, finding in enumerate(films.findings.names):
                pair = [_area(films.probs[side, c], classes[side] == c, owner[side]) for side in (inside, ~inside)]
                if all(not math.isnan(variance) for _, variance in pair):
                    z = (_logit(pair[0][0]) - _logit(pair[1][0])) / math.sqrt(pair[0][1] + pair[1][1])
                    tested.append((float(2 * ndtr(-abs(z))), group, name, finding, pair[0][0], pair[1][0]))
    found, worst = [], 0.0
    for rank, (p, group, name, finding, a, b) in enumerate(sorted(tested)):
        worst = max(worst, min(1.0, p * (len(tested) - rank)))
        if worst <= chance:
            found.append(
                Gap(group=group, level=name, finding=finding, inside=a, outside=b, p=worst, tested=len(tested))
            )
    return tuple(found)


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _area(scores: Array, positive: Array, owner: Indices) -> tuple[float, float]:
    """AUROC and the variance of its logit; NaN where a side is too small or the ranking has no spread.

    On the logit scale the test keeps its level with five patients on a side and near 1, where the plain one rejects too
    often or never.
    """
    if min(len(np.unique(owner[positive])), len(np.unique(owner[~positive]))) < FEWEST_PATIENTS:
        return math.nan, math.nan
    area, covariance = auroc_covariance(scores[None], positive, owner)
    value, variance = float(area[0]), float(covariance[0, 0])
    if not (variance > 1e-12 and 0 < value < 1):
        return math.nan, math.nan
    return value, variance / (value * (1 - value)) ** 2
