"""Audits of the films: whether the label can be read from what is not the disease, by light models on frozen features.

No network is trained for them. Each row says which films were asked, and what the number would be by chance.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hilum.arrays import Array, Indices
from hilum.evaluation.audits import Audit, Candidate
from hilum.evaluation.confounding import ALL_SOURCES, NOTABLE, WORDS, CrossTable, Severity, SourcePair, cross_table
from hilum.evaluation.estimates import Estimate, not_estimable
from hilum.evaluation.intervals import (
    FEWEST_PATIENTS,
    Cohort,
    Resampling,
    bootstrap,
    percentile_interval,
    wilson_interval,
)
from hilum.evaluation.light_models import (
    PERMUTATIONS,
    Cases,
    Reading,
    read_labels,
    smoother,
)
from hilum.evaluation.ranks import Ranking
from hilum.labels import Findings
from hilum.predictions import NOT_RECORDED, Predictions

READABLE = 0.6
"""Mean AUROC from which a reading of the label is an alarm, when it is also beyond chance."""

FALL = 0.1
"""Fall of AUROC, in a source that the model wasn't fitted on, that is borne."""

PARTS = {
    "border-only model": "the outer tenth of the film, lungs blacked out",
    "corner-marker model": "the four corners alone, where markers and burned-in text stand",
    "lung-blacked-out model": "the film without its lungs",
}
"""Views without lungs, in words: what can be read from them is not the disease."""

PAPERS = {
    "metadata-only model": "DeGrave et al. 2021, doi:10.1038/s42256-021-00338-7",
    "border-only model": "Maguolo and Nanni 2021, doi:10.1016/j.inffus.2021.04.008",
    "corner-marker model": "Zech et al. 2018, doi:10.1371/journal.pmed.1002683",
    "lung-blacked-out model": "Maguolo and Nanni 2021, doi:10.1016/j.inffus.2021.04.008",
    "centre-only model": "Tartaglione et al. 2020, doi:10.3390/ijerph17186933",
    "whole-film model": "",
    "readable from features": "DeGrave et al. 2021, doi:10.1038/s42256-021-00338-7",
    "inside one source": "Cohen et al. 2020, arXiv:2002.02497",
    "left-out source": "Zech et al. 2018, doi:10.1371/journal.pmed.1002683",
    "duplicates across the split": "Roberts et al. 2021, doi:10.1038/s42256-021-00307-0",
    "label noise": "Northcutt et al. 2021, doi:10.1613/jair.1.12125",
}
"""Where each audit comes from."""

FIT = "fit part, out of fold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The films that light models are asked about."""

    findings: Findings
    """What the labels are."""
    classes: Indices
    """[n] classes; negative where the label is unknown."""
    patient_ids: Sequence[str]
    """n ids."""
    settings: Resampling
    """Of the intervals."""
    permutations: int = PERMUTATIONS
    """Shuffles of each test."""

    @property
    def cases(self) -> Cases:
        """One film a patient and finding."""
        return Cases.of(self.classes, self.patient_ids, seed=self.settings.seed)

    def read(self, features: Array, cases: Cases) -> Reading:
        """Read the label."""
        return read_labels(features, cases, settings=self.settings, permutations=self.permutations)

    def best(self, reading: Reading) -> str:
        """The finding that is read best."""
        return self.findings.name(max(reading.by_class, key=lambda c: reading.by_class[c])) if reading.by_class else ""


def metadata_audit(asked: Asked, columns: Mapping[str, Sequence[str] | Array]) -> Audit:
    """Read the label from what is known of the films without looking at them.

    Args:
        asked: the films.
        columns: texts (each value becomes a column of its own) or numbers (NaN where not known), by name.
    """
    cases, name = asked.cases, "metadata-only model"
    parts = {key: coded(values) for key, values in columns.items()}
    parts = {key: part for key, part in parts.items() if part.shape[1]}
    every = np.concatenate(list(parts.values()), axis=1) if parts else np.zeros((len(asked.classes), 0))
    reading = asked.read(every, cases)
    alone = {
        key: read_labels(part, cases, settings=Resampling(resamples=20), permutations=0).auroc.value
        for key, part in parts.items()
    }
    telling = max(alone, key=lambda key: alone[key], default="")
    said = f", above all from the {WORDS.get(telling, telling)} ({alone[telling]:.2f})" if telling else ""
    sentence = (
        f"{_cap(asked.best(reading))} and the other labels can be read from the films' metadata alone, without a "
        f"pixel{said}: mean AUROC {reading.auroc.text()}, where chance is 0.5."
    )
    return Audit(
        name=name,
        about=", ".join(WORDS.get(key, key) for key in parts),
        measure="mean AUROC",
        value=reading.auroc,
        chance=0.5,
        floor=READABLE,
        p_value=reading.p_value,
        sentence=sentence,
        films=FIT,
        paper=PAPERS[name],
    )


def coded(values: Sequence[str] | Array) -> Array:
    """One column of metadata as numbers: each text that two films or more share, or a number and its logarithm."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiu":
        numbers = values.astype(np.float64)
        known = ~np.isnan(numbers)
        if not known.any():
            return np.zeros((len(numbers), 0))
        filled = np.where(known, numbers, np.median(numbers[known]))
        return np.column_stack([filled, np.log1p(np.abs(filled)), known])
    texts = np.asarray([str(value) for value in values])
    levels, counts = np.unique(texts, return_counts=True)
    shared = levels[counts > 1]
    shown: Array = (texts[:, None] == shared[None]).astype(np.float64)
    return shown


def part_audits(asked: Asked, views: Mapping[str, Array], whole: Array) -> list[Audit]:
    """Read the label from parts of the films that hold no lung, and from lungs and whole films for comparison.

    Args:
        asked: the films.
        views: features [n, d] of each of :data:`PARTS`, and of ``centre-only model``.
        whole: features of the films as they are.
    """
    cases = asked.cases
    rows = []
    for name, part in PARTS.items():
        if name not in views:
            continue
        reading = asked.read(views[name], cases)
        sentence = (
            f"{_cap(asked.best(reading))} can be read from {part} (mean AUROC over findings {reading.auroc.text()}, "
            f"chance 0.5): {_meaning(name)}."
        )
        rows.append(
            Audit(
                name=name,
                about=part,
                measure="mean AUROC",
                value=reading.auroc,
                chance=0.5,
                floor=READABLE,
                p_value=reading.p_value,
                sentence=sentence,
                films=FIT,
                paper=PAPERS[name],
            )
        )
    for name, features in (("whole-film model", whole), ("centre-only model", views.get("centre-only model"))):
        if features is None:
            continue
        reading = read_labels(features, cases, settings=asked.settings, permutations=0)
        part = "the film as it is" if name == "whole-film model" else "the box around the lungs, the rest black"
        rows.append(
            Audit(
                name=name,
                about=part,
                measure="mean AUROC",
                value=reading.auroc,
                chance=0.5,
                sentence=f"From {part} the label is read with mean AUROC {reading.auroc.text()}.",
                films=FIT,
                paper=PAPERS[name],
            )
        )
    return rows


def _meaning(name: str) -> str:
    if name == "corner-marker model":
        return "a marker or burned-in text goes with the label"
    return "the label goes with something outside the lungs"


def _cap(text: str) -> str:
    return text[:1].upper() + text[1:]


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
        rows.append(_group_row(group, what, reading.auroc, table, [str(name) for name in names]))
    return rows


def _group_row(group: str, what: str, auroc: Estimate, table: CrossTable, names: Sequence[str]) -> Audit:
    strength = table.cramers_v
    associated = not math.isnan(strength) and strength >= NOTABLE
    readable = auroc.bounded and auroc.low > 0.5
    p_value = math.nan
    if auroc.estimable:
        p_value = table.p_value if associated and readable and not math.isnan(table.p_value) else 1.0
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
        p_value=p_value,
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
                    f"{_cap(pair.first)} against {pair.second} reaches AUROC {overall.text()} over all sources, but "
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
        outside, inside, spread, value = _left_out(asked, features, cases, where[cases.rows] == source)
        fall = inside - outside
        rows.append(
            Audit(
                name="left-out source",
                about=f"'{source}'",
                measure="mean AUROC",
                value=value,
                chance=inside,
                effect=fall,
                floor=FALL,
                p_value=_above(fall, FALL, spread),
                severity="amber",
                sentence=(
                    f"A light model that never saw source '{source}' reaches mean AUROC {value.text()} there; one that "
                    f"did reaches {inside:.2f}: what is learned elsewhere doesn't hold there."
                ),
                films="fit part, source by source",
                paper=PAPERS["left-out source"],
            )
        )
    return rows


def _left_out(asked: Asked, features: Array, cases: Cases, here: Array) -> tuple[float, float, float, Estimate]:
    """Mean AUROC in a source without and with it among the fitted films, the spread of the fall, the estimate."""
    values, classes = np.asarray(features, dtype=np.float64)[cases.rows], cases.classes
    common = [
        c for c in cases.askable if min((classes[here] == c).sum(), (classes[~here] == c).sum()) >= FEWEST_PATIENTS
    ]
    kept = np.isin(classes, common)
    fit, test = np.flatnonzero(kept & ~here), np.flatnonzero(kept & here)
    if len(common) < 2:
        reason = f"Fewer than two findings have {FEWEST_PATIENTS} patients both there and elsewhere."
        return math.nan, math.nan, math.nan, not_estimable(reason, n=len(test))
    targets = np.column_stack([classes == c for c in common]).astype(np.float64)
    without = smoother(values, fit, test) @ targets[fit]
    with_it = np.zeros_like(without)
    everyone = np.flatnonzero(kept)
    for fold in np.unique(cases.fold):
        own = np.flatnonzero(cases.fold[test] == fold)
        others = everyone[cases.fold[everyone] != fold]
        if len(own):
            with_it[own] = smoother(values, others, test[own]) @ (targets[others] - targets[others].mean(axis=0))
    sides = [targets[test][:, i] > 0 for i in range(len(common))]
    rankings = [
        [Ranking.of(scores[:, i], side) for i, side in enumerate(sides)] for scores in (without, with_it)
    ]  # one list a model

    def statistic(weights: Array) -> Array:
        means = [np.mean([ranking.auroc(weights) for ranking in model], axis=0) for model in rankings]
        return np.column_stack(means)

    cohort = Cohort.of([str(i) for i in cases.patient[test]], classes[test])
    samples = bootstrap(statistic, cohort, asked.settings, name="left out")
    outside, inside = (float(v) for v in statistic(np.ones((1, len(test))))[0])
    low, high = percentile_interval(samples[:, 0], asked.settings.level)
    value = Estimate(
        value=outside, low=low, high=high, n=len(test), patients=cohort.patients, method="bootstrap by patient"
    )
    return outside, inside, float(np.nanstd(samples[:, 1] - samples[:, 0])), value


def duplicates_audit(pairs_across: int, films: int, compared: int) -> Audit:
    """Copies of one film on both sides of the split: any is an alarm.

    Args:
        pairs_across: pairs of copies, one in the fit part and one in the test share.
        films: films of the test share.
        compared: films of both parts that could be compared by their look.
    """
    share = min(1.0, pairs_across / films) if films else math.nan
    low, high = wilson_interval(share, films)
    value = Estimate(value=share, low=low, high=high, n=films, method="wilson")
    if not films or not compared:
        value = not_estimable("There is no test share, or no film has a thumb to compare.", n=films)
    return Audit(
        name="duplicates across the split",
        about="copies by SHA-256 or look",
        measure="pairs, as a share of the test films",
        value=value,
        chance=0.0,
        floor=1e-12,
        p_value=math.nan if not value.estimable else (0.0 if pairs_across else 1.0),
        sentence=(
            f"{pairs_across} pair{'s' if pairs_across != 1 else ''} of copies stand on both sides of the split, so the "
            "test asks for films that were learned."
        ),
        films="fit part against test share",
        paper=PAPERS["duplicates across the split"],
    )


def label_noise(films: Predictions, *, most: int = 50) -> tuple[Audit, tuple[Candidate, ...]]:
    """Films whose label a model that never saw their patient contradicts with confidence (confident learning).

    A film counts when the probability of another finding is at least the mean that this finding gets on films that
    bear it; the joint of label and answer is counted so. Candidates are for a person to look at: nothing is changed.

    Args:
        films: out-of-fold predictions.
        most: candidates that are listed.
    """
    films = films.labelled
    n, k = len(films), len(films.findings)
    name = "label noise"
    scored = ~np.isnan(films.probs).any(axis=1) if n else np.zeros(0, dtype=bool)
    row = Audit(
        name=name,
        about="confident disagreement with the label",
        measure="share of films",
        value=not_estimable("There is no labelled film with an out-of-fold prediction.", n=n),
        films=FIT,
        paper=PAPERS[name],
    )
    if not scored.any():
        return row, ()
    rows = np.flatnonzero(scored)
    probs, truth = films.probs[rows], films.targets[rows].argmax(axis=1)
    means = np.array([probs[truth == c, c].mean() if (truth == c).any() else math.inf for c in range(k)])
    sure = np.where(probs >= means, probs, -1.0)
    said = sure.argmax(axis=1)
    wrong = np.flatnonzero((sure.max(axis=1) > 0) & (said != truth))
    order = wrong[np.argsort(-(probs[wrong, said[wrong]] - probs[wrong, truth[wrong]]), kind="stable")]
    patients = len({films.patient_ids[i] for i in rows})
    low, high = wilson_interval(len(wrong) / len(rows), patients)
    value = Estimate(
        value=len(wrong) / len(rows),
        low=low,
        high=high,
        n=len(rows),
        patients=patients,
        method="wilson, patients as trials",
    )
    found = tuple(
        Candidate(
            film_id=films.film_ids[rows[i]],
            label=films.findings.name(int(truth[i])),
            answer=films.findings.name(int(said[i])),
            probability=float(probs[i, said[i]]),
        )
        for i in order[:most].tolist()
    )
    sentence = f"{len(wrong)} of {len(rows)} labels are contradicted with confidence; a person should look at them."
    return replace(row, value=value, sentence=sentence), found
