"""Triage: if films below a threshold were read later, how much work is put off, and which cases with it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hilum.arrays import Array, Indices
from hilum.evaluation.calibration_parts import clopper_pearson
from hilum.evaluation.estimates import NAN, Estimate, not_estimable
from hilum.evaluation.intervals import Cohort, Resampled, Resampling
from hilum.evaluation.metrics import classes_of
from hilum.evaluation.thresholds import floor_threshold
from hilum.predictions import Predictions

FLOORS = (0.80, 0.90, 0.95, 0.98, 0.99)
"""Shares of the abnormal films that are to be read first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriageRow:
    """One way to sort the reading list: its threshold was chosen on validation films and is measured on others."""

    floor: float
    """Share of abnormal films that validation films chose the threshold for."""
    threshold: float
    """A film is read first when its probability of being abnormal is at least this; NaN when none could be chosen."""
    first: Estimate
    """Share of all films that are read first: the work that can't wait."""
    sensitivity: Estimate
    """Share of abnormal films among those read first."""
    later_abnormal: int
    """Abnormal films that are read later."""
    later: int
    """Films that are read later."""
    later_abnormal_share: Estimate
    """Share of abnormal ones among the films that are read later; exact interval over patients."""
    missed_by_finding: dict[str, int]
    """Abnormal films that are read later, by finding."""
    reason: str = ""
    """Why there is no threshold; empty when all is well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Triage:
    """A reading list sorted by the model."""

    normal: str
    """Finding that means health; all others are abnormal."""
    rows: tuple[TriageRow, ...]
    """From the lowest floor up."""
    chosen_on: str
    """Which films the thresholds were chosen on."""


def triage(
    validation: Predictions,
    films: Predictions,
    *,
    normal: str = "normal",
    floors: Sequence[float] = FLOORS,
    settings: Resampling | None = None,
    chosen_on: str = "validation films",
) -> Triage | None:
    """Choose thresholds on validation films and measure on others what they put off.

    Args:
        validation: predictions on films that are neither training nor test films.
        films: the films to measure on, of the same findings.
        normal: finding that means health.
        floors: shares of the abnormal films that are to be read first.
        settings: of the intervals.
        chosen_on: words for the validation films.

    Returns:
        the table; None when no finding means health.
    """
    if normal not in films.findings.names:
        return None
    column, settings = films.findings.index(normal), settings or Resampling()
    validation, films = validation.labelled, films.labelled
    chosen = _abnormal(validation, column)
    classes = classes_of(films.targets, films.findings)
    suspicion, ill = _abnormal(films, column)
    reason = _why_not(*chosen, "validation") or _why_not(suspicion, ill, "tested")
    if reason:
        return Triage(normal=normal, rows=tuple(_no_row(floor, reason) for floor in floors), chosen_on=chosen_on)
    thresholds = [floor_threshold(*chosen, floor) for floor in floors]
    first = np.column_stack([suspicion >= threshold for threshold in thresholds])
    cohort = Cohort.of(films.patient_ids, classes)
    counted = np.column_stack([first, first & ill[:, None], ill, np.ones(len(ill))])
    made = Resampled.of_sums(counted, _shares, cohort, settings, name="triage")
    rows = []
    for i, (floor, threshold) in enumerate(zip(floors, thresholds, strict=True)):
        later = ~first[:, i]
        missed = {
            name: int((later & (classes == c)).sum()) for c, name in enumerate(films.findings.names) if c != column
        }
        rows.append(
            TriageRow(
                floor=floor,
                threshold=threshold,
                first=made.proportion(i, n=len(films), patients=cohort.patients),
                sensitivity=made.proportion(len(floors) + i, n=int(ill.sum()), patients=cohort.count(ill)),
                later_abnormal=int((later & ill).sum()),
                later=int(later.sum()),
                later_abnormal_share=_exact(later, ill, cohort, settings.level),
                missed_by_finding=missed,
            )
        )
    return Triage(normal=normal, rows=tuple(rows), chosen_on=chosen_on)


def _abnormal(films: Predictions, column: int) -> tuple[Array, Array]:
    """Probability of anything but the normal finding, and whether there is anything."""
    return 1 - films.probs[:, column], films.targets[:, column] == 0


def _why_not(suspicion: Array, ill: Array, which: str) -> str:
    if not len(ill):
        return f"There is no labelled {which} film."
    if np.isnan(suspicion).any():
        return f"{int(np.isnan(suspicion).sum())} {which} films have no probability (NaN)."
    if not ill.any() or ill.all():
        return f"The {which} films are all {'abnormal' if ill.all() else 'normal'}."
    return ""


def _no_row(floor: float, reason: str) -> TriageRow:
    nothing = not_estimable(reason)
    return TriageRow(
        floor=floor,
        threshold=NAN,
        first=nothing,
        sensitivity=nothing,
        later_abnormal=0,
        later=0,
        later_abnormal_share=nothing,
        missed_by_finding={},
        reason=reason,
    )


def _shares(counts: Array) -> Array:
    """Shares read first among all, then among the abnormal, from sums [r, 2m + 2]."""
    m = (counts.shape[1] - 2) // 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.column_stack([counts[:, :m] / counts[:, -1:], counts[:, m : 2 * m] / counts[:, -2:-1]])


def _exact(later: Array, ill: Array, cohort: Cohort, level: float) -> Estimate:
    """Share of ill among films read later; a patient counts once, as ill if any of their later films is."""
    n, patients = int(later.sum()), cohort.count(later) if later.any() else 0
    if not n:
        return not_estimable("Every film is read first.")
    share = float(ill[later].mean())
    low, high = clopper_pearson(cohort.count(later & ill) if (later & ill).any() else 0, patients, level)
    return Estimate(
        value=share,
        low=min(low, share),
        high=max(high, share),
        n=n,
        patients=patients,
        method="Clopper–Pearson, patients as trials",
    )


def workload_curve(films: Predictions, *, normal: str = "normal", points: int = 101) -> tuple[Array, Array]:
    """What share of the abnormal films is found when a share of all films is read, most suspicious first.

    Args:
        films: labelled films with probabilities.
        normal: finding that means health.
        points: of the curve.

    Returns:
        shares read, and shares found, each [points] in 0 … 1; empty when it can't be drawn.
    """
    films = films.labelled
    column = films.findings.index(normal)
    suspicion, ill = _abnormal(films, column)
    if _why_not(suspicion, ill, "tested"):
        return np.empty(0), np.empty(0)
    order: Indices = np.argsort(-suspicion, kind="stable")
    falling = suspicion[order]
    ends = np.append(np.flatnonzero(np.diff(falling) != 0), len(falling) - 1)  # equal films are read in any order
    read = np.concatenate([[0.0], (ends + 1) / len(ill)])
    found = np.concatenate([[0.0], np.cumsum(ill[order])[ends] / ill.sum()])
    shares = np.linspace(0, 1, points)
    return shares, np.interp(shares, read, found)


def cases_per_thousand(row: TriageRow, films: int) -> float:
    """Abnormal films read later, of a thousand films; NaN without a threshold."""
    return NAN if math.isnan(row.threshold) or not films else 1000 * row.later_abnormal / films
