"""Audits of groups: source, view, sex, age band and device in the features; inside one source; without one source.

As in :mod:`hilum.evaluation.data_audits` no network is trained; each row says which films were asked.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hilum.arrays import Array, Indices
from hilum.evaluation.audits import Audit
from hilum.evaluation.backing import Backing, together
from hilum.evaluation.confounding import ALL_SOURCES, NOTABLE, WORDS, CrossTable, Severity, SourcePair, cross_table
from hilum.evaluation.data_audits import FIT, PAPERS, Asked, capital
from hilum.evaluation.estimates import Estimate, not_estimable
from hilum.evaluation.intervals import FEWEST_PATIENTS, Cohort, Resampling, bootstrap, percentile_interval
from hilum.evaluation.light_models import Cases, read_labels, smoother
from hilum.evaluation.ranks import Ranking
from hilum.predictions import NOT_RECORDED, Predictions

FALL = 0.1
"""Fall of AUROC, in a source that the model wasn't fitted on, that is borne."""


def group_audits(asked: Asked, features: Array, groups: Mapping[str, Sequence[str]]) -> list[Audit]:
    """Read source, view, sex, age band and device from features; an alarm where the label goes with it too.

    Reading the sex from a chest film is no fault. It is a way round the disease where the label goes with it, so the
    p-value is that of the association of label and group: both must hold.
    """
    rows = []
    known = np.flatnonzero(np.asarray(asked.classes) >= 0)
    for group, levels in groups.items():
        texts = np.asarray([level or NOT_RECORDED for level in levels])
        names, which = np.unique(texts, return_inverse=True)
        which = np.where(texts == NOT_RECORDED, -1, which)
        cases = Cases.of(which, asked.patient_ids, seed=asked.settings.seed)
        what = WORDS.get(group, group)
        reading = read_labels(features, cases, what=what, settings=asked.settings, permutations=0)
        table = cross_table(
            group,
            texts[known].tolist(),
            np.asarray(asked.classes)[known],
            asked.findings.names,
            [asked.patient_ids[i] for i in known.tolist()],
        )
        backing = asked.backing(reading, cases, [str(name) for name in names])
        if backing:
            backing += _levels(asked, known, texts)
        rows.append(replace(_group_row(group, what, reading.auroc, table), backing=backing))
    return rows


LEVEL = "level: "
"""Beginning of the columns that say which level of a group a film has, one row a film."""


def _levels(asked: Asked, known: Indices, texts: Array) -> Backing:
    """The level of every film of known label, from which the association of label and group is counted."""
    classes = np.asarray(asked.classes)
    parts = []
    for level in np.unique(texts[known]):
        rows = known[texts[known] == level]
        parts.append(
            Backing.of(
                {f"{LEVEL}{level}": np.ones(len(rows))},
                [asked.patient_ids[i] for i in rows.tolist()],
                film_ids=[asked.film_ids[i] for i in rows.tolist()] if asked.film_ids else (),
                truth=[asked.findings.name(int(c)) for c in classes[rows]],
                classes=classes[rows],
            )
        )
    return together(parts)


def association_p(auroc: Estimate, table: CrossTable) -> float:
    """The p-value of a group's row: that of the association where the label goes with it and it is readable, else 1."""
    if not auroc.estimable:
        return math.nan
    associated = not math.isnan(table.cramers_v) and table.cramers_v >= NOTABLE
    readable = auroc.bounded and auroc.low > 0.5
    return table.p_value if associated and readable and not math.isnan(table.p_value) else 1.0


def _group_row(group: str, what: str, auroc: Estimate, table: CrossTable) -> Audit:
    strength = table.cramers_v
    associated = not math.isnan(strength) and strength >= NOTABLE
    readable = auroc.bounded and auroc.low > 0.5
    severity: Severity = "red" if group == "source" and auroc.value >= 0.9 else "amber"
    goes = f"the label goes with it (Cramér's V {strength:.2f})" if associated else "the label doesn't go with it"
    can = "can" if readable else "can't"
    clear = (
        f"No way round the disease: the {what} {can} be read from the network's frozen features beyond chance (AUROC "
        f"{auroc.text()}), {'but' if readable or associated else 'and'} {goes}."
    )
    return Audit(
        name="readable from features",
        about=what,
        measure="mean AUROC",
        value=auroc,
        chance=0.5,
        floor=0.75,
        p_value=association_p(auroc, table),
        severity=severity,
        sentence=f"The {what} can be read from the network's frozen features (AUROC {auroc.text()}), and {goes}.",
        if_clear="" if readable and associated else clear,
        films=FIT,
        paper=PAPERS["readable from features"],
    )


def inside_audits(films: Predictions, pairs: Sequence[SourcePair], settings: Resampling) -> list[Audit]:
    """Each pair of findings inside each source, against the same pair over all sources.

    The p-value is of the fall, by the bootstrap's spread of the difference over the same patients.

    Args:
        films: the predictions that the pairs were measured on.
        pairs: from :func:`~hilum.evaluation.confounding.within_source`.
        settings: of the intervals.
    """
    everywhere = {(pair.first, pair.second): pair for pair in pairs if pair.source == ALL_SOURCES}
    rows = []
    for pair in pairs:
        if pair.source == ALL_SOURCES:
            continue
        overall = everywhere[pair.first, pair.second].auroc
        fall, spread = _fall_inside(films.labelled, pair, settings)
        p_value = _above(fall, 0.0, spread) if pair.auroc.estimable and overall.estimable else math.nan
        rows.append(
            Audit(
                name="inside one source",
                about=f"{pair.first} against {pair.second} inside '{pair.source}'",
                measure="AUROC",
                value=pair.auroc,
                chance=overall.value,
                effect=fall,
                floor=FALL,
                p_value=p_value,
                sentence=(
                    f"{capital(pair.first)} against {pair.second} reaches AUROC {overall.text()} over all sources, but "
                    f"{pair.auroc.text()} inside source '{pair.source}', where the source can't help."
                ),
                films="the test's films",
                paper=PAPERS["inside one source"],
            )
        )
    return rows


def _fall_inside(films: Predictions, pair: SourcePair, settings: Resampling) -> tuple[float, float]:
    """AUROC over all sources minus AUROC inside one, and the standard error of the difference."""
    first, second = films.findings.index(pair.first), films.findings.index(pair.second)
    classes = films.targets.argmax(axis=1)
    both = np.isin(classes, (first, second))
    inside = both & (np.asarray([source or NOT_RECORDED for source in films.groups["source"]]) == pair.source)
    scores = films.logits[:, first] - films.logits[:, second]
    if np.isnan(scores[both]).any() or len(np.unique(classes[inside])) < 2:
        return math.nan, math.nan
    rankings = [
        (rows, Ranking.of(scores[rows], classes[rows] == first)) for rows in map(np.flatnonzero, (both, inside))
    ]

    def statistic(weights: Array) -> Array:
        over, within = (ranking.auroc(weights[:, rows]) for rows, ranking in rankings)
        difference: Array = over - within
        return difference

    samples = bootstrap(statistic, Cohort.of(films.patient_ids, classes), settings, name="inside")[:, 0]
    return float(statistic(np.ones((1, len(films))))[0]), float(np.nanstd(samples))


def _above(value: float, limit: float, spread: float) -> float:
    """Chance of so high a value were the truth the limit, by the normal curve; NaN without a spread."""
    if math.isnan(value) or math.isnan(spread):
        return math.nan
    if spread <= 0:
        return 0.0 if value > limit else 1.0
    return 0.5 * math.erfc((value - limit) / spread / math.sqrt(2))


def left_out_audits(asked: Asked, features: Array, sources: Sequence[str]) -> list[Audit]:
    """Fit a light model on all sources but one and ask it for that one, against a model that has seen the source.

    The alarm is a fall of more than :data:`FALL`.
    """
    where = np.asarray([source or NOT_RECORDED for source in sources])
    cases = asked.cases
    rows = []
    levels = [str(name) for name in np.unique(where[cases.rows]) if name != NOT_RECORDED]
    for source in levels if len(levels) > 1 else ():
        found, backing = _left_out(asked, features, cases, where[cases.rows] == source)
        value, inside, fall = found.value, found.inside, found.fall
        rows.append(
            Audit(
                name="left-out source",
                about=f"'{source}'",
                measure="mean AUROC",
                value=value,
                chance=inside,
                effect=fall,
                floor=FALL,
                p_value=found.p_value,
                severity="amber",
                sentence=(
                    f"A light model that never saw source '{source}' reaches mean AUROC {value.text()} there; one that "
                    f"did reaches {inside:.2f}: what is learned elsewhere doesn't hold there."
                ),
                films="fit part, source by source",
                paper=PAPERS["left-out source"],
                backing=backing,
            )
        )
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A source that a model was not fitted on, against one that knew it."""

    value: Estimate
    """Mean AUROC there of the model that never saw it."""
    inside: float = math.nan
    """Mean AUROC there of the one that did."""
    fall: float = math.nan
    """How much the second is better."""
    p_value: float = math.nan
    """Chance of such a fall were :data:`FALL` the truth."""


WITHOUT, WITH = "never saw it: ", "saw it: "
"""Beginnings of the columns of the two models."""


def _left_out(asked: Asked, features: Array, cases: Cases, here: Array) -> tuple[LeftOut, Backing | None]:
    """What the two models are worth on the cases of a source, and their scores."""
    values, classes = np.asarray(features, dtype=np.float64)[cases.rows], cases.classes
    common = [
        c for c in cases.askable if min((classes[here] == c).sum(), (classes[~here] == c).sum()) >= FEWEST_PATIENTS
    ]
    kept = np.isin(classes, common)
    fit, test = np.flatnonzero(kept & ~here), np.flatnonzero(kept & here)
    if len(common) < 2:
        reason = f"Fewer than two findings have {FEWEST_PATIENTS} patients both there and elsewhere."
        return LeftOut(value=not_estimable(reason, n=len(test))), None
    targets = np.column_stack([classes == c for c in common]).astype(np.float64)
    without = smoother(values, fit, test) @ targets[fit]
    with_it = np.zeros_like(without)
    everyone = np.flatnonzero(kept)
    for fold in np.unique(cases.fold):
        own = np.flatnonzero(cases.fold[test] == fold)
        others = everyone[cases.fold[everyone] != fold]
        if len(own):
            with_it[own] = smoother(values, others, test[own]) @ (targets[others] - targets[others].mean(axis=0))
    tested = Cases(cases.rows[test], classes[test], cases.patient[test], cases.fold[test])
    names = asked.findings.names
    columns = {
        f"{start}{names[c]}": scores[:, i]
        for start, scores in ((WITHOUT, without), (WITH, with_it))
        for i, c in enumerate(common)
    }
    owners = [f"{i:09d}" for i in tested.patient.tolist()]  # in the order of the patients' ids
    found = left_out(without, with_it, targets[test] > 0, owners, tested.classes, asked.settings)
    return found, asked.of_cases(columns, tested, names)


def left_out(
    without: Array, with_it: Array, sides: Array, patient_ids: Sequence[str], classes: Indices, settings: Resampling
) -> LeftOut:
    """Two models' scores on the cases of a source.

    Args:
        without: [m, k] of the model that never saw the source.
        with_it: of the one that did.
        sides: bool [m, k], whether a case is of that finding.
        patient_ids: m ids.
        classes: [m].
        settings: of the interval.
    """
    rankings = [
        [Ranking.of(scores[:, i], side) for i, side in enumerate(sides.T)] for scores in (without, with_it)
    ]  # one list a model

    def statistic(weights: Array) -> Array:
        means = [np.mean([ranking.auroc(weights) for ranking in model], axis=0) for model in rankings]
        return np.column_stack(means)

    cohort = Cohort.of(patient_ids, classes)
    samples = bootstrap(statistic, cohort, settings, name="left out")
    outside, inside = (float(v) for v in statistic(np.ones((1, len(sides))))[0])
    low, high = percentile_interval(samples[:, 0], settings.level)
    value = Estimate(
        value=outside, low=low, high=high, n=len(sides), patients=cohort.patients, method="bootstrap by patient"
    )
    fall, spread = inside - outside, float(np.nanstd(samples[:, 1] - samples[:, 0]))
    return LeftOut(value=value, inside=inside, fall=fall, p_value=_above(fall, FALL, spread))
