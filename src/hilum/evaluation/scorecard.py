"""The scorecard: everything that was measured on one set of films, as one value that survives JSON unchanged."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from hilum.arrays import Array, Indices
from hilum.errors import DataError
from hilum.evaluation import calibration as cal
from hilum.evaluation.backing import Backing, Key
from hilum.evaluation.calibration_parts import BrierParts, CoxLine, Recalibration, brier_parts, cox_line, recalibrate
from hilum.evaluation.confounding import Confounding, find_confounding
from hilum.evaluation.delong import delong
from hilum.evaluation.estimates import NAN, Estimate, from_plain, not_estimable, to_plain
from hilum.evaluation.externality import Development, why_not_external
from hilum.evaluation.in_use import InUse, UseRules, use_of
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.localisation import Localisation
from hilum.evaluation.measuring import Measured, measure, measure_calibration
from hilum.evaluation.metrics import classes_of, confusion_matrix
from hilum.evaluation.predictability import Predictability, predict_group
from hilum.evaluation.ranks import RocCurve, roc_curve
from hilum.evaluation.subgroups import Gap, Subgroup, gaps, subgroups
from hilum.evaluation.thresholds import OperatingPoint, apply_operating_points
from hilum.evaluation.verdict import Evidence, Role, Verdict, judge, sample_warnings
from hilum.predictions import Predictions
from hilum.progress import Progress, Silent

SCHEMA = 1

OLDER = not_estimable("This scorecard was made before this figure was measured. Evaluate the run again.")

OPTIMISTIC = (
    "The probabilities were calibrated on the films that early stopping watched, so their calibration is optimistic; "
    "train with five folds for out-of-fold calibration."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the figures depend on besides the films."""

    resampling: Resampling = field(default_factory=Resampling)
    """Of every interval."""
    ece_bins: int = 15
    """Bins of the expected calibration error."""
    reliability_bins: int = 10
    """Bins of the reliability diagram, each of equal mass."""
    films_per_bin: int = 20
    """Films that a bin of the reliability diagram needs; fewer films make fewer bins, but three at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationFigures:
    """How far probabilities can be taken at their word."""

    nll: Estimate
    """Mean negative log-likelihood in nats, lower is better."""
    brier: Estimate
    """Mean Brier score over all findings, 0 … 2, lower is better."""
    ece: Estimate
    """Expected calibration error of the answered finding, bins of equal width, 0 … 1."""
    ece_mass: Estimate
    """The same with bins of equal mass."""
    ece_if_perfect: float
    """The ECE that a perfectly calibrated model would show on so many films: its bias."""
    ece_if_perfect_high: float
    """95th percentile of the same; an ECE above it is a true miscalibration."""
    reliability: dict[str, tuple[cal.ReliabilityBin, ...]]
    """Bins of the reliability diagram, by finding."""
    classwise_ece: Estimate = OLDER
    """Mean over findings of each one's ECE, bins of equal mass."""
    lines: dict[str, CoxLine] = field(default_factory=dict)
    """Slope and intercept of each finding on the scale of log-odds."""
    brier_parts: dict[str, BrierParts] = field(default_factory=dict)
    """What the Brier score of each finding consists of."""

    @property
    def miscalibrated(self) -> bool:
        """Whether the ECE is larger than chance on a perfectly calibrated model allows."""
        return self.ece.value > self.ece_if_perfect_high


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalibrated:
    """What a correction on films of the same place would give."""

    done: Recalibration
    """How it was made, and whether the sample suffices."""
    figures: CalibrationFigures | None = None
    """Calibration after it; None where it could not be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorecard:
    """All figures of one test."""

    schema: int = SCHEMA
    """Version of this layout."""
    name: str
    """Name of the test, such as ``internal test``."""
    role: Role
    """Internal or external."""
    findings: tuple[str, ...]
    """In the order of every per-finding figure."""
    films: int
    """Labelled films."""
    patients: int
    """Patients of the labelled films."""
    unlabelled: int
    """Films of unknown label, which are left out everywhere."""
    class_films: dict[str, int]
    """Labelled films by finding."""
    class_patients: dict[str, int]
    """Their patients by finding; a patient may count in several."""
    settings: Settings
    """Seed, resamples, level and bins."""
    auroc: dict[str, Estimate]
    """Each finding against the rest."""
    auprc: dict[str, Estimate]
    """Average precision, each finding against the rest; chance is the finding's share of the films."""
    sensitivity: dict[str, Estimate]
    """Of the most probable finding as the answer, as all figures down to macro_f1."""
    specificity: dict[str, Estimate]
    """Share of the films without the finding that are not answered with it."""
    precision: dict[str, Estimate]
    """Positive predictive value at the shares that these films have."""
    npv: dict[str, Estimate]
    """Negative predictive value at the shares that these films have."""
    f1: dict[str, Estimate]
    """Harmonic mean of sensitivity and precision."""
    macro_auroc: Estimate
    """Mean AUROC over findings."""
    accuracy: Estimate
    """Share of films answered right."""
    balanced_accuracy: Estimate
    """Mean sensitivity over findings."""
    macro_f1: Estimate
    """Mean F1 over findings."""
    mcc: dict[str, Estimate] = field(default_factory=dict)
    """Matthews' correlation of each finding against the rest, −1 … 1; empty in older scorecards, as those below."""
    macro_auprc: Estimate = OLDER
    """Mean average precision over findings."""
    macro_specificity: Estimate = OLDER
    """Mean specificity over findings (mean sensitivity is ``balanced_accuracy``)."""
    macro_precision: Estimate = OLDER
    """Mean positive predictive value over findings."""
    macro_npv: Estimate = OLDER
    """Mean negative predictive value over findings."""
    kappa: Estimate = OLDER
    """Cohen's kappa of answers and truth."""
    mcc_over_findings: Estimate = OLDER
    """Matthews' correlation over all findings at once (Gorodkin's R_K)."""
    confusion: tuple[tuple[int, ...], ...]
    """Films by true finding (rows) and most probable finding (columns)."""
    roc: dict[str, RocCurve]
    """ROC curve of each finding against the rest."""
    calibration_before: CalibrationFigures
    """At temperature 1."""
    calibration_after: CalibrationFigures
    """As the model answers."""
    calibration_optimistic: bool = False
    """Whether the calibration was fitted on films that training watched (one fold)."""
    operating_points: dict[str, OperatingPoint] = field(default_factory=dict)
    """Fixed thresholds, measured on these films; empty when none were given."""
    delong: dict[str, Estimate] = field(default_factory=dict)
    """AUROC of each finding with DeLong's interval by patient, beside the bootstrap's."""
    subgroups: tuple[Subgroup, ...] = ()
    """Figures by source, view, sex, age and device."""
    gaps: tuple[Gap, ...] = ()
    """Levels whose AUROC differs beyond chance."""
    recalibrated: Recalibrated | None = None
    """Calibration after a correction on these films; for external films."""
    in_use: InUse | None = None
    """Triage, decision curves, prediction sets and films left to a person."""
    confounding: Confounding = field(default_factory=Confounding)
    """What else the label can be read from."""
    localisation: tuple[Localisation, ...] = ()
    """Whether heat maps point at lesions, where masks exist."""
    not_external: tuple[str, ...] = ()
    """Why the films can't be called external; empty when they can, or needn't."""
    warnings: tuple[str, ...] = ()
    """Small samples, optimistic calibration and the like."""
    verdict: Verdict
    """What may be claimed, what not, and why."""

    @property
    def backings(self) -> dict[Key, Backing]:
        """The scores behind what the predictions don't hold, by name and what it is about."""
        rows: dict[Key, Backing | None] = {
            (f"{one.group} predictable", one.within): one.backing for one in self.confounding.predictable
        }
        rows |= {("heat maps", one.name): one.backing for one in self.localisation}
        return {key: backing for key, backing in rows.items() if backing is not None}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, NaN as null; :meth:`from_json` gives the same scorecard back."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def from_json(cls, values: Mapping[str, Any] | str) -> "Scorecard":
        """Read back what :meth:`to_json` wrote.

        Raises:
            DataError: another version of the layout, or no JSON.
            ConfigError: fields that are unknown, missing or of a wrong type.
        """
        if isinstance(values, str):
            try:
                values = json.loads(values)
            except json.JSONDecodeError as error:
                raise DataError(f"This scorecard is not JSON ({error}). Give what Scorecard.to_json wrote.") from None
        if not isinstance(values, Mapping) or values.get("schema") != SCHEMA:
            found = values.get("schema") if isinstance(values, Mapping) else type(values).__name__
            raise DataError(
                f"This scorecard has schema {found!r}, but this version reads {SCHEMA}. Evaluate the run again."
            )
        return from_plain(cls, values, where="scorecard")


def score(
    predictions: Predictions,
    *,
    name: str = "internal test",
    role: Role = "internal",
    settings: Settings | None = None,
    seed: int = 0,
    resamples: int = 1000,
    operating_points: Mapping[str, OperatingPoint] | None = None,
    features: Float[np.ndarray, "n d"] | None = None,
    localisation: Sequence[Localisation] = (),
    seen: Development | None = None,
    calibration_optimistic: bool = False,
    validation: Predictions | None = None,
    use: UseRules | None = None,
    progress: Progress | None = None,
) -> Scorecard:
    """Measure everything about one set of predictions.

    Args:
        predictions: what the model said, with what is known of the films; unknown labels are left out.
        name: of the test, for the report.
        role: ``external`` is a claim: it needs ``seen``, and what speaks against it is written down.
        settings: of intervals and bins; overrides seed and resamples.
        seed: of the intervals.
        resamples: of the intervals.
        operating_points: chosen on validation films, to be measured on these.
        features: [n, d] of all n films, to ask whether the source can be read from them (needs scikit-learn).
        localisation: rows of :func:`hilum.evaluation.localisation.localise` on these films.
        seen: what the model has seen, to check the external claim.
        calibration_optimistic: the calibration was fitted on films that training watched.
        validation: predictions on films that are neither training nor test films, such as out-of-fold ones; they choose
            triage, prediction sets and the abstention policy.
        use: what is promised and chosen on them.
        progress: where progress goes.

    Returns:
        the scorecard. Figures that can't be computed are NaN with a reason.

    Raises:
        DataError: probabilities outside 0 … 1 or rows that don't sum to 1, targets that are not one-hot.
    """
    settings = settings or Settings(resampling=Resampling(seed=seed, resamples=resamples))
    films, classes = _known(predictions)
    with (progress or Silent()).bar(f"Scoring the {name}", 6) as bar:
        measured = measure(films, classes, settings.resampling)
        bar.advance(note="calibration")
        calibrated = _calibrated(films, classes, settings, external=role == "external")
        bar.advance(note="operating points")
        points = apply_operating_points(operating_points, films, settings.resampling) if operating_points else {}
        bar.advance(note="confounding")
        confounding = _confounded(predictions, features, settings)
        bar.advance(note="subgroups")
        groups = _groups(films, classes, settings.resampling.level)
        bar.advance(note="use")
        in_use = use_of(films, validation, rules=use, settings=settings.resampling, external=role == "external")
        bar.advance()
    not_external = _not_external(predictions, role, seen)
    warnings = _warnings(measured, groups["gaps"], optimistic=calibration_optimistic)
    evidence = Evidence(
        role=role,
        auroc=measured.figures["auroc"],
        n=len(films),
        unscored=_unscored(films),
        flags=confounding.flags,
        warnings=(*warnings, *_localisation_warnings(localisation)),
        not_external=not_external,
    )
    return Scorecard(
        name=name,
        role=role,
        **_counts(predictions, films),
        **measured.fields(),
        **calibrated,
        **groups,
        settings=settings,
        calibration_optimistic=calibration_optimistic,
        operating_points=points,
        in_use=in_use,
        confounding=confounding,
        localisation=tuple(localisation),
        not_external=not_external,
        warnings=warnings,
        verdict=judge(evidence),
    )


def _known(predictions: Predictions) -> tuple[Predictions, Indices]:
    """The labelled films and their classes, their probabilities checked."""
    films = predictions.labelled
    _check_probs(films.probs)
    return films, classes_of(films.targets, films.findings)


def _confounded(predictions: Predictions, features: Array | None, settings: Settings) -> Confounding:
    predictable = _predictable(predictions, features, settings)
    return find_confounding(predictions.labelled, predictable=predictable, settings=settings.resampling)


def _warnings(measured: Measured, found: Sequence[Gap], *, optimistic: bool) -> tuple[str, ...]:
    return (
        *sample_warnings(measured.class_patients),
        *((OPTIMISTIC,) if optimistic else ()),
        *(one.sentence for one in found),
    )


def _calibrated(films: Predictions, classes: Indices, settings: Settings, *, external: bool) -> dict[str, Any]:
    return {
        "calibration_before": _calibration(films, _softmax(films.logits), classes, settings),
        "calibration_after": _calibration(films, films.probs, classes, settings),
        "recalibrated": _recalibrated(films, classes, settings) if external and len(films) else None,
    }


def _groups(films: Predictions, classes: Indices, level: float) -> dict[str, Any]:
    return {
        "delong": {
            name: delong(films.probs[:, c], classes == c, films.patient_ids, finding=name, level=level)
            for c, name in enumerate(films.findings.names)
        },
        "subgroups": subgroups(films, level=level),
        "gaps": gaps(films),
    }


def _unscored(films: Predictions) -> int:
    return int(np.isnan(films.probs).any(axis=1).sum())


def _counts(predictions: Predictions, films: Predictions) -> dict[str, Any]:
    return {
        "findings": films.findings.names,
        "films": len(films),
        "patients": len(set(films.patient_ids)),
        "unlabelled": len(predictions) - len(films),
        "confusion": _confusion(films, classes_of(films.targets, films.findings)),
        "roc": _curves(films, classes_of(films.targets, films.findings)),
    }


def _check_probs(probs: Array) -> None:
    known = probs[~np.isnan(probs).any(axis=1)]
    wrong = (known < 0).any(axis=1) | (known > 1).any(axis=1) | (np.abs(known.sum(axis=1) - 1) > 1e-3)
    if wrong.any():
        row = known[np.flatnonzero(wrong)[0]]
        raise DataError(
            f"{int(wrong.sum())} of {len(probs)} films have probabilities that are no distribution, such as "
            f"{np.round(row, 4).tolist()}. Give values in 0 … 1 that sum to 1 (logits belong into 'logits')."
        )


def _softmax(logits: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return cal.softmax(logits) if len(logits) else logits


def _confusion(films: Predictions, classes: Indices) -> tuple[tuple[int, ...], ...]:
    scored = ~np.isnan(films.probs).any(axis=1)
    predicted = np.argmax(np.where(np.isnan(films.probs), 0, films.probs), axis=1)
    matrix = confusion_matrix(classes[scored], predicted[scored], len(films.findings))
    return tuple(tuple(row) for row in matrix.tolist())


def _curves(films: Predictions, classes: Indices) -> dict[str, RocCurve]:
    return {
        name: roc_curve(films.probs[:, column], classes == column) for column, name in enumerate(films.findings.names)
    }


def _calibration(films: Predictions, probs: Array, classes: Indices, settings: Settings) -> CalibrationFigures:
    figures = measure_calibration(films, probs, classes, settings.resampling, settings.ece_bins)
    scored = not np.isnan(probs).any()
    bias = (NAN, NAN)
    if scored:
        bias = cal.ece_if_perfect(probs, seed=settings.resampling.seed, bins=settings.ece_bins)
    bins = {
        name: cal.reliability(
            probs[:, column],
            classes == column,
            patients=films.patient_ids,
            bins=min(settings.reliability_bins, max(3, len(films) // settings.films_per_bin)),
            level=settings.resampling.level,
        )
        if scored
        else ()
        for column, name in enumerate(films.findings.names)
    }
    names = films.findings.names
    lines = {
        name: cox_line(probs[:, c], classes == c, films.patient_ids, finding=name, level=settings.resampling.level)
        for c, name in enumerate(names)
    }
    parts = {name: brier_parts(probs[:, c], classes == c) for c, name in enumerate(names)} if scored else {}
    return CalibrationFigures(
        **figures,
        ece_if_perfect=bias[0],
        ece_if_perfect_high=bias[1],
        reliability=bins,
        lines=lines,
        brier_parts=parts,
    )


def _recalibrated(films: Predictions, classes: Indices, settings: Settings) -> Recalibrated:
    """Calibration after a correction on these films, each by what other patients' films teach."""
    done, probs = recalibrate(
        films.probs, films.targets, films.patient_ids, films.findings.names, seed=settings.resampling.seed
    )
    figures = None if probs is None else _calibration(films, probs, classes, settings)
    return Recalibrated(done=done, figures=figures)


def _predictable(films: Predictions, features: Array | None, settings: Settings) -> tuple[Predictability, ...]:
    """Ask the features for the source, over all films and inside each finding that several sources hold."""
    if features is None or "source" not in films.groups:
        return ()
    if len(features) != len(films):
        raise DataError(f"{len(features)} rows of features for {len(films)} films. Give one row a film.")
    sources = np.asarray([source or "not recorded" for source in films.groups["source"]])
    ids, classes = np.asarray(films.patient_ids), classes_of(films.targets, films.findings)
    found = []
    for within, rows in [("", np.arange(len(films)))] + [
        (name, np.flatnonzero(classes == column)) for column, name in enumerate(films.findings.names)
    ]:
        asked = predict_group(
            features[rows],
            sources[rows].tolist(),
            ids[rows].tolist(),
            within=within,
            film_ids=[films.film_ids[i] for i in rows.tolist()],
            settings=settings.resampling,
        )
        if asked.auroc.estimable:
            found.append(asked)
    return tuple(found)


def _not_external(films: Predictions, role: Role, seen: Development | None) -> tuple[str, ...]:
    if role != "external":
        return ()
    if seen is None:
        return ("What the model was developed on was not given, so the claim can't be checked.",)
    return why_not_external(films, seen)


def _localisation_warnings(rows: Sequence[Localisation]) -> tuple[str, ...]:
    return tuple(
        f"The heat maps of {row.name} films don't point at the lesion better than chance "
        f"(hit rate {row.hit_rate.text()}, chance {row.chance:.2f})."
        for row in rows
        if row.hit_rate.estimable and not math.isnan(row.chance) and not row.better_than_chance
    )
