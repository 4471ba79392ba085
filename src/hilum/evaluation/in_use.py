"""What a model would be worth in use: triage, decision curves, prediction sets, and leaving doubtful films to a person.

All limits are chosen on validation films and measured once on others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hilum.errors import DataError
from hilum.evaluation.conformal import (
    NOT_EXCHANGEABLE,
    Conformal,
    ConformalRules,
    SetFigures,
    calibrate_sets,
    measure_sets,
)
from hilum.evaluation.decision_curves import DecisionCurve, decision_curve
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.metrics import classes_of
from hilum.evaluation.selective import (
    MC_STD,
    MUTUAL_INFORMATION,
    SET_SIZE,
    AbstentionPolicy,
    AbstentionRules,
    SelectiveFigures,
    choose_policy,
    measure_policy,
    with_set_sizes,
)
from hilum.evaluation.triage import Triage, triage, workload_curve
from hilum.predictions import GROUPS, Predictions

ALSO_CHOSE = (
    "The promise is exact where tested films are exchangeable with the validation films (drawn alike: same place, time "
    "and mix of patients) and these served nothing else. In a run they have also ended each training and fitted the "
    "calibration, so it is not exact: look at the measured coverage."
)

FOLDS_AND_ENSEMBLE = (
    "Limits come from out-of-fold predictions, each by one member, and are applied to the mean of all members; the "
    "guarantee is exact for one model on both sides, so look at the measured coverage."
)

MORE_DOUBT = (
    "The limit comes from films that single members didn't fit, and is applied to all members together: their "
    "disagreement comes on top, so more films may go to a person than on validation; look at the measured share."
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
    validation = validation.labelled
    broken = int(np.isnan(validation.probs).any(axis=1).sum())
    if broken:
        why = (
            f"{broken} of {len(validation)} validation films have no probability (NaN), so nothing was chosen on them."
        )
        return InUse(decision_curves=curves, workload=workload, problems=(why,))
    groups = _few_levels(films, [name for name in GROUPS if name in films.groups])
    words = (ALSO_CHOSE, FOLDS_AND_ENSEMBLE, *((NOT_EXCHANGEABLE,) if external else ()))
    sets, policy = chosen_on(_comparable(validation, films), rules)
    sized = with_set_sizes(films, sets.sets(films.probs)) if len(films) else films
    return InUse(
        decision_curves=curves,
        triage=triage(validation, films, normal=rules.normal, settings=settings),
        workload=workload,
        sets=measure_sets(sets, films, groups=groups, settings=settings, warnings=words),
        selective=_warned(measure_policy(policy, sized, groups=groups, settings=settings)),
    )


def chosen_on(validation: Predictions, rules: UseRules | None = None) -> tuple[Conformal, AbstentionPolicy]:
    """What validation films choose: limits of prediction sets, and the policy that leaves films to a person.

    Args:
        validation: of known labels, each film with probabilities and with what it knows of uncertainty.
        rules: what is promised.
    """
    rules = rules or UseRules()
    sets = calibrate_sets(validation, rules.sets)
    sized = with_set_sizes(validation, sets.sets(validation.probs)) if len(validation) else validation
    policy = choose_policy(sized, rules.abstention)
    if policy.doubt == SET_SIZE and rules.sets.score == "lac":
        policy = replace(policy, set_limits=sets.least_probabilities)
    return sets, policy


def _warned(made: SelectiveFigures) -> SelectiveFigures:
    if made.policy.reason or made.policy.doubt not in (MUTUAL_INFORMATION, MC_STD):
        return made
    return replace(made, warnings=(*made.warnings, MORE_DOUBT))


def _comparable(validation: Predictions, films: Predictions) -> Predictions:
    """Validation films with the kinds of uncertainty that the others have too, where each film has a number."""
    shared = {
        name: values
        for name, values in validation.uncertainty.items()
        if name in films.uncertainty and not np.isnan(values).any()
    }
    return replace(validation, uncertainty=shared)


def _few_levels(films: Predictions, groups: Sequence[str], most: int = 12) -> list[str]:
    return [name for name in groups if len(set(films.groups[name])) <= most]


def _decision_curves(films: Predictions, settings: Resampling) -> dict[str, DecisionCurve]:
    classes = classes_of(films.targets, films.findings)
    return {
        name: decision_curve(films.probs[:, c], classes == c, films.patient_ids, finding=name, settings=settings)
        for c, name in enumerate(films.findings.names)
    }
