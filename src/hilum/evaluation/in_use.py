"""What a model would be worth in use: triage, decision curves, prediction sets, and leaving doubtful films to a person.

All limits are chosen on validation films and measured once on others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hilum.errors import DataError
from hilum.evaluation.conformal import NOT_EXCHANGEABLE, ConformalRules, SetFigures, calibrate_sets, measure_sets
from hilum.evaluation.decision_curves import DecisionCurve, decision_curve
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.metrics import classes_of
from hilum.evaluation.selective import AbstentionRules, SelectiveFigures, choose_policy, measure_policy
from hilum.evaluation.triage import Triage, triage, workload_curve
from hilum.predictions import GROUPS, Predictions

FOLDS_AND_ENSEMBLE = (
    "Limits come from out-of-fold predictions, each by one member, and are applied to the mean of all members; the "
    "guarantee is exact for one model on both sides, so look at the measured coverage."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UseRules:
    """What is promised and chosen on validation films."""

    normal: str = "normal"
    """Finding that means health."""
    sets: ConformalRules = field(default_factory=ConformalRules)
    """Of prediction sets."""
    abstention: AbstentionRules = field(default_factory=AbstentionRules)
    """Of the policy that leaves films to a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InUse:
    """Figures of use, on films that chose nothing."""

    decision_curves: dict[str, DecisionCurve]
    """By finding."""
    triage: Triage | None = None
    """A sorted reading list; None without validation films or where no finding means health."""
    workload: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    """Shares of films read, most suspicious first, and shares of abnormal films found."""
    sets: SetFigures | None = None
    """Prediction sets; None without validation films."""
    selective: SelectiveFigures | None = None
    """Films that are left to a person; None without validation films."""
    problems: tuple[str, ...] = ()
    """What could not be chosen, and why."""


def use_of(
    films: Predictions,
    validation: Predictions | None = None,
    *,
    rules: UseRules | None = None,
    settings: Resampling | None = None,
    external: bool = False,
) -> InUse:
    """Choose on validation films, measure on others.

    Args:
        films: the films to measure on; unknown labels are left out.
        validation: predictions on films that are neither training nor test films, such as out-of-fold ones.
        rules: what is promised.
        settings: of the intervals.
        external: the films are of another source than the validation films.

    Raises:
        DataError: validation films of other findings.
    """
    rules, settings = rules or UseRules(), settings or Resampling()
    films = films.labelled
    curves = _decision_curves(films, settings)
    read, found = workload_curve(films, normal=rules.normal) if rules.normal in films.findings.names else ((), ())
    workload = (tuple(map(float, read)), tuple(map(float, found)))
    if validation is None:
        return InUse(decision_curves=curves, workload=workload)
    if validation.findings != films.findings:
        raise DataError(
            f"Validation films of {list(validation.findings.names)} can't choose for {list(films.findings.names)}. "
            "Give predictions of the same model."
        )
    validation = _comparable(validation.labelled, films)
    broken = int(np.isnan(validation.probs).any(axis=1).sum())
    if broken:
        why = (
            f"{broken} of {len(validation)} validation films have no probability (NaN), so nothing was chosen on them."
        )
        return InUse(decision_curves=curves, workload=workload, problems=(why,))
    groups = [name for name in GROUPS if name in films.groups]
    words = (FOLDS_AND_ENSEMBLE, *((NOT_EXCHANGEABLE,) if external else ()))
    return InUse(
        decision_curves=curves,
        triage=triage(validation, films, normal=rules.normal, settings=settings),
        workload=workload,
        sets=measure_sets(
            calibrate_sets(validation, rules.sets),
            films,
            groups=_few_levels(films, groups),
            settings=settings,
            warnings=words,
        ),
        selective=measure_policy(
            choose_policy(validation, rules.abstention), films, groups=_few_levels(films, groups), settings=settings
        ),
    )


def _comparable(validation: Predictions, films: Predictions) -> Predictions:
    """Validation films with the kinds of uncertainty that the others have too."""
    shared = {name: values for name, values in validation.uncertainty.items() if name in films.uncertainty}
    return replace(validation, uncertainty=shared)


def _few_levels(films: Predictions, groups: Sequence[str], most: int = 12) -> list[str]:
    return [name for name in groups if len(set(films.groups[name])) <= most]


def _decision_curves(films: Predictions, settings: Resampling) -> dict[str, DecisionCurve]:
    classes = classes_of(films.targets, films.findings)
    return {
        name: decision_curve(films.probs[:, c], classes == c, films.patient_ids, finding=name, settings=settings)
        for c, name in enumerate(films.findings.names)
    }
