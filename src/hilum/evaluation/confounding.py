"""Whether the label can be read from something else: the source, the view, the age, the sex, the device.

A network finds the easiest way to its label. Where every film of a class comes from one hospital, the hospital is that
way (DeGrave et al. 2021, Nat Mach Intell 3:610), and no test on the same films can tell. These functions can.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hilum.arrays import Array, Indices, Scores
from hilum.errors import DataError
from hilum.evaluation.estimates import Estimate
from hilum.evaluation.false_alarms import FALLS, TABLES
from hilum.evaluation.intervals import Cohort, Resampling, bootstrap, ranked
from hilum.evaluation.metrics import classes_of
from hilum.evaluation.predictability import Predictability
from hilum.evaluation.ranks import Ranking, why_no_ranking
from hilum.labels import Findings
from hilum.predictions import GROUPS, NOT_RECORDED, Predictions

Severity = Literal["red", "amber", "note"]
"""Red: the result can't mean what it seems to. Amber: it is limited. Note: to be known; it changes no verdict."""

WORDS = {"source": "source", "view_position": "view", "sex": "sex", "age_band": "age band", "device": "device"}
"""Groups in words for sentences."""

STRONG, NOTABLE = 0.6, 0.3
"""Cramér's V from which an association of label and source is red, and that of any group is amber."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One thing that a reader must know before the numbers."""

    severity: Severity
    """Red, amber or note."""
    code: str
    """Stable machine-readable name, such as ``single-source``."""
    sentence: str
    """One clear sentence."""
    finding: str = ""
    """The finding it concerns; empty when it concerns all."""
    group: str = ""
    """The group it was found in, one of the predictions' groups; empty when none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossTable:
    """Films and patients by level of a group (rows) and finding (columns)."""

    group: str
    """Name of the group, such as ``source``."""
    findings: tuple[str, ...]
    """Columns."""
    levels: tuple[str, ...]
    """Rows; ``not recorded`` is a level of its own and comes last."""
    films: tuple[tuple[int, ...], ...]
    """Counts of films, a row a level."""
    patients: tuple[tuple[int, ...], ...]
    """Counts of patients, a row a level; a patient counts once in each cell."""
    cramers_v: float
    """Strength of the association over patients, 0 … 1, corrected for bias; NaN with one level or one finding."""
    p_value: float
    """Of the χ² test over patients; NaN with one level or one finding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePair:
    """How well two findings are told apart inside one source."""

    source: str
    """The source; ``all sources`` for the films of all of them together."""
    first: str
    """The finding that should score higher."""
    second: str
    """The other one."""
    films: tuple[int, int]
    """Films of each."""
    auroc: Estimate
    """AUROC of the difference of the two logits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confounding:
    """All that was found."""

    tables: tuple[CrossTable, ...] = ()
    """One a group."""
    within_source: tuple[SourcePair, ...] = ()
    """One a source and a pair of findings that it holds; over all sources first. Empty with one source."""
    predictable: tuple[Predictability, ...] = ()
    """What the network's features say of the source; empty when no features were given."""
    flags: tuple[Flag, ...] = ()
    """What a reader must know, red first."""


ALL_SOURCES = "all sources"


def cross_table(
    group: str, levels: Sequence[str], classes: Indices, findings: Sequence[str], owners: Sequence[str]
) -> CrossTable:
    """Count films and patients by level and finding.

    Args:
        group: name of the group.
        levels: n texts; blank ones count as ``not recorded``.
        classes: [n] known classes, ≥ 0.
        findings: their names.
        owners: n patient ids.
    """
    texts = [text or NOT_RECORDED for text in levels]
    names = sorted(set(texts), key=lambda name: (name == NOT_RECORDED, name))
    row = np.array([names.index(text) for text in texts], dtype=np.int64)
    k = len(findings)
    patient = np.unique(np.asarray(owners, dtype=str), return_inverse=True)[1]
    once = np.unique(np.column_stack([patient, row, classes]), axis=0)
    films = np.bincount(row * k + classes, minlength=len(names) * k).reshape(-1, k)
    patients = np.bincount(once[:, 1] * k + once[:, 2], minlength=len(names) * k).reshape(-1, k)
    v, p = cramers_v(patients)
    return CrossTable(
        group=group,
        findings=tuple(findings),
        levels=tuple(names),
        films=tuple(tuple(counts) for counts in films.tolist()),
        patients=tuple(tuple(counts) for counts in patients.tolist()),
        cramers_v=v,
        p_value=p,
    )


def cramers_v(counts: Array) -> tuple[float, float]:
    """Strength of association in a table of counts, corrected for bias, and the p-value of the χ² test.

    Returns:
        V in 0 … 1 and p; NaN when fewer than two rows or two columns hold anything.

    Source: Bergsma 2013, J Korean Stat Soc 42:323.
    """
    from scipy.special import gammaincc

    table = np.asarray(counts, dtype=np.float64)
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    rows, columns = table.shape
    n = table.sum()
    if min(rows, columns) < 2 or n < 3:
        return math.nan, math.nan
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / n
    chi2 = float(((table - expected) ** 2 / expected).sum())
    freedom = (rows - 1) * (columns - 1)
    excess = max(0.0, chi2 / n - freedom / (n - 1))
    rows_c, columns_c = rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)
    smaller = min(rows_c, columns_c) - 1
    v = math.sqrt(excess / smaller) if smaller > 0 else math.nan
    return min(1.0, v), float(gammaincc(freedom / 2, chi2 / 2))


def find_confounding(
    films: Predictions, *, predictable: Sequence[Predictability] = (), settings: Resampling | None = None
) -> Confounding:
    """Look for ways round the disease.

    Args:
        films: predictions with their groups; films of unknown label are left out.
        predictable: what :func:`~hilum.evaluation.predictability.predict_group` found.
        settings: of the intervals.

    Returns:
        tables, within-source AUROCs and flags.
    """
    films = films.labelled
    pairs = within_source(films, settings) if "source" in films.groups else ()
    by_label = confounding_of_labels(films.findings, films.targets, films.groups, films.patient_ids)
    found = [_predictable_flag(asked, by_label.tables) for asked in predictable if asked.auroc.estimable]
    fallen = falls(pairs)
    return Confounding(
        tables=by_label.tables,
        within_source=pairs,
        predictable=tuple(predictable),
        flags=_sorted([*by_label.flags, *fallen, *_inside(pairs, [*by_label.flags, *fallen]), *found]),
    )


def confounding_of_labels(
    findings: Findings, targets: Scores, groups: Mapping[str, Sequence[str]], patient_ids: Sequence[str]
) -> Confounding:
    """Tables and flags from labels alone, such as those of a whole manifest, before any model.

    Args:
        findings: the k findings.
        targets: [n, k] one-hot; films of unknown label (NaN) are left out.
        groups: for each group n texts; blank ones count as ``not recorded``.
        patient_ids: n ids.

    Raises:
        DataError: a group or the patient ids of another length, or targets that are not one-hot.
    """
    columns = {"patient_ids": patient_ids, **groups}
    wrong = [f"{name} has {len(values)}" for name, values in columns.items() if len(values) != len(targets)]
    if wrong:
        raise DataError(f"Labels of {len(targets)} films: {', '.join(wrong)} values. Give one a film.")
    classes = classes_of(targets, findings)
    rows = np.flatnonzero(classes >= 0).tolist()
    ordered = [name for name in GROUPS if name in groups] + [name for name in groups if name not in GROUPS]
    owners = [patient_ids[i] for i in rows]
    tables = [
        cross_table(name, [groups[name][i] for i in rows], classes[rows], findings.names, owners)
        for name in ordered
        if len(rows)
    ]
    flags = [flag for table in tables for flag in table_flags(table, tests=len(tables))]
    if "source" not in groups:
        sentence = "The films' sources were not given, so a confounding of label and source can't be looked for."
        flags.append(Flag(severity="amber", code="source-unknown", sentence=sentence, group="source"))
    return Confounding(tables=tuple(tables), flags=_sorted([f for f in flags if not _implied(f, flags)]))


def _sorted(flags: Sequence[Flag]) -> tuple[Flag, ...]:
    order = {"red": 0, "amber": 1, "note": 2}
    return tuple(sorted(flags, key=lambda flag: order[flag.severity]))


def table_flags(table: CrossTable, *, tests: int = 1) -> list[Flag]:
    """What one table shows.

    Args:
        table: counts by level and finding.
        tests: tables that are looked at together; the chance of a false alarm is shared among them.
    """
    what = WORDS.get(table.group, table.group)
    if len(table.levels) == 1:
        return _one_level(table, what)
    alpha = TABLES / max(1, tests)
    patients = np.array(table.patients)
    flags = []
    for column, finding in enumerate(table.findings):
        if patients[:, column].sum():
            flags += _class_flags(table, column, finding, alpha / len(table.findings))
    if table.cramers_v >= NOTABLE and table.p_value < alpha:
        flags = [flag for flag in flags if flag.code != "nearly-single"]  # the association says as much
        strong = table.group == "source" and table.cramers_v >= STRONG
        sentence = (
            f"Label and {what} go together (Cramér's V {table.cramers_v:.2f}, where 0 is none and 1 is complete"
            f"{_by_missing(table)}), so part of every figure over all films may be the {what}."
        )
        severity: Severity = "red" if strong else "amber"
        flags.append(Flag(severity=severity, code="association", sentence=sentence, group=table.group))
    return flags


def _by_missing(table: CrossTable) -> str:
    """Says so when the association is chiefly one of being recorded at all."""
    if NOT_RECORDED not in table.levels:
        return ""
    recorded, _ = cramers_v(np.array(table.patients)[:-1])
    return "" if recorded >= NOTABLE else "; chiefly by whether it is recorded"


def _one_level(table: CrossTable, what: str) -> list[Flag]:
    level = table.levels[0]
    if level == NOT_RECORDED:
        severity: Severity = "amber" if table.group == "source" else "note"
        sentence = f"The {what} of every film is not recorded, so a confounding with it can't be looked for."
        return [Flag(severity=severity, code="not-recorded", sentence=sentence, group=table.group)]
    if table.group != "source":
        return []
    sentence = f"All films come from source '{level}', so they say nothing of films from elsewhere."
    return [Flag(severity="note", code="one-source", sentence=sentence, group="source")]


def _class_flags(table: CrossTable, column: int, finding: str, alpha: float) -> list[Flag]:
    """A class that comes from one level alone, or nearly so, while the others don't."""
    patients = np.array(table.patients)
    own, others = patients[:, column], patients.sum(axis=1) - patients[:, column]
    if not others.sum():
        return []
    top, total = int(own.argmax()), int(own.sum())
    elsewhere = (others[top] + 1) / (others.sum() + 2)  # share of the other classes at that level, never 0 or 1
    if own[top] == total:
        return _sole(table, finding, table.levels[top], total, by_chance=elsewhere**total, alpha=alpha)
    from scipy.special import bdtrc

    unlikely = float(bdtrc(int(own[top]) - 1, total, elsewhere)) < alpha
    if own[top] >= 0.9 * total and elsewhere <= 0.5 and unlikely:
        what, level = WORDS.get(table.group, table.group), _named(table.group, table.levels[top])
        verb = "come from" if table.group == "source" else "have"
        sentence = (
            f"{own[top]} of {total} patients with {finding} {verb} {level}, but only {others[top]} of {others.sum()} "
            f"others do, so {finding} and the {what} are hard to tell apart."
        )
        return [Flag(severity="amber", code="nearly-single", sentence=sentence, finding=finding, group=table.group)]
    return []


def _named(group: str, level: str) -> str:
    what = WORDS.get(group, group)
    return f"no recorded {what}" if level == NOT_RECORDED else f"{what} '{level}'"


def _implied(flag: Flag, flags: Sequence[Flag]) -> bool:
    """A device belongs to a hospital: what is said of the source needn't be said again of the device."""
    same = {"single-level": "single-source"}.get(flag.code, flag.code)
    return flag.group == "device" and any(
        other.group == "source" and other.code == same and other.finding == flag.finding for other in flags
    )


def _sole(table: CrossTable, finding: str, level: str, total: int, *, by_chance: float, alpha: float) -> list[Flag]:
    what = WORDS.get(table.group, table.group)
    if by_chance >= alpha:
        if table.group != "source":
            return []
        sentence = (
            f"All {total} patients with {finding} come from source '{level}'; they are too few to say whether that is "
            "chance, and the model may see the source."
        )
        return [Flag(severity="amber", code="single-source-few", sentence=sentence, finding=finding, group="source")]
    if table.group == "source":
        where = "a source that is not recorded" if level == NOT_RECORDED else f"source '{level}'"
        sentence = (
            f"Every {finding} film comes from {where}, so this test can't tell whether the model sees the disease or "
            "the source."
        )
        return [Flag(severity="red", code="single-source", sentence=sentence, finding=finding, group="source")]
    sentence = (
        f"Every {finding} film has {_named(table.group, level)}, so this test can't tell whether the model sees the "
        f"disease or the {what}."
    )
    return [Flag(severity="amber", code="single-level", sentence=sentence, finding=finding, group=table.group)]


def within_source(films: Predictions, settings: Resampling | None = None) -> tuple[SourcePair, ...]:
    """Tell each pair of findings apart inside each source: the confounding with the source can't help there.

    Returns:
        rows over all sources, then a source at a time; pairs that a source doesn't hold are left out; empty with
        fewer than two sources.
    """
    settings = settings or Resampling()
    films = films.labelled
    sources = [text or NOT_RECORDED for text in films.groups.get("source", ())]
    if len(set(sources)) < 2:
        return ()
    classes = classes_of(films.targets, films.findings)
    where = np.asarray(sources)
    names = films.findings.names
    rows = []
    for source in [ALL_SOURCES, *sorted(set(sources), key=lambda name: (name == NOT_RECORDED, name))]:
        inside = np.ones(len(where), dtype=bool) if source == ALL_SOURCES else where == source
        for second in range(len(names)):
            for first in range(second + 1, len(names)):
                chosen = np.flatnonzero(inside & np.isin(classes, (first, second)))
                if len(np.unique(classes[chosen])) == 2:
                    rows.append(_pair(films.select(chosen), classes[chosen], (first, second), source, settings))
    return tuple(rows)


def pair_auroc(
    films: Predictions, classes: Indices, pair: tuple[int, int], settings: Resampling, *, stream_name: str = "pair"
) -> Estimate:
    """AUROC of the difference of two logits on films of these two classes alone.

    Args:
        films: films of the two classes.
        classes: [n] their classes.
        pair: columns of the two findings; the first should score higher.
        settings: of the interval.
        stream_name: of the random stream.
    """
    first, second = pair
    scores, positive = films.logits[:, first] - films.logits[:, second], classes == first
    names = films.findings.names
    reason = why_no_ranking(scores, positive, names[first])
    if reason:
        return ranked(
            math.nan, np.array([]), n=len(films), sides=(0, 0), level=settings.level, finding="", reason=reason
        )
    cohort, ranking = Cohort.of(films.patient_ids, classes), Ranking.of(scores, positive)
    samples = bootstrap(ranking.auroc, cohort, settings, name=stream_name)[:, 0]
    sides = (cohort.count(positive), cohort.count(~positive))
    value = float(ranking.auroc(np.ones((1, len(films))))[0])
    fewer = names[first] if sides[0] <= sides[1] else names[second]
    # Both sides are findings here, so the reason names the one that is short.
    estimate = ranked(value, samples, n=len(films), sides=(min(sides), max(sides)), level=settings.level, finding=fewer)
    return estimate


def _pair(films: Predictions, classes: Indices, pair: tuple[int, int], source: str, settings: Resampling) -> SourcePair:
    counts = (int((classes == pair[0]).sum()), int((classes == pair[1]).sum()))
    names = films.findings.names
    return SourcePair(
        source=source,
        first=names[pair[0]],
        second=names[pair[1]],
        films=counts,
        auroc=pair_auroc(films, classes, pair, settings),
    )


def clearly_apart(higher: Estimate, lower: Estimate, *, chance: float, level: float = 0.95) -> bool:
    """Whether two intervals don't meet and the difference has at most the stated two-sided chance, by the normal curve.

    Standard errors are read from the intervals, and the two figures are taken for independent, which is cautious where
    films are in both.

    Args:
        higher: the figure that may be higher.
        lower: the other one; both with intervals.
        chance: of such a difference in either direction.
        level: of the intervals.
    """
    from scipy.special import ndtri

    wide = 2 * float(ndtri(0.5 + level / 2))
    spread = math.hypot((higher.high - higher.low) / wide, (lower.high - lower.low) / wide)
    far = float(ndtri(1 - chance / 2)) * spread
    return higher.low > lower.high and higher.value - lower.value > far


def falls(pairs: Sequence[SourcePair]) -> list[Flag]:
    """Pairs that are told apart over all sources and clearly less well inside one.

    Clearly: the intervals don't meet, and the fall is beyond chance by Bonferroni over all pairs that are looked at.
    """
    overall = {(pair.first, pair.second): pair.auroc for pair in pairs if pair.source == ALL_SOURCES}
    looked_at = sum(pair.source != ALL_SOURCES and pair.auroc.bounded for pair in pairs)
    flags = []
    for pair in pairs:
        everywhere = overall[pair.first, pair.second]
        if pair.source == ALL_SOURCES or not (pair.auroc.bounded and everywhere.bounded):
            continue
        if clearly_apart(everywhere, pair.auroc, chance=2 * FALLS / looked_at):
            sentence = (
                f"{pair.first} against {pair.second} reaches AUROC {everywhere.text()} over all sources, but "
                f"{pair.auroc.text()} inside source '{pair.source}', so the first figure owes much to the source."
            )
            severity: Severity = "red" if everywhere.value - pair.auroc.value >= 0.1 else "amber"
            flags.append(
                Flag(
                    severity=severity, code="falls-inside-source", sentence=sentence, finding=pair.first, group="source"
                )
            )
    return flags


def _inside(pairs: Sequence[SourcePair], flags: Sequence[Flag]) -> list[Flag]:
    """What a finding of one source alone is worth inside that source: the one figure where the source can't help."""
    alone = [flag.finding for flag in flags if flag.code == "single-source"]
    said = {flag.finding for flag in flags if flag.code == "falls-inside-source"}
    overall = {(pair.first, pair.second): pair.auroc for pair in pairs if pair.source == ALL_SOURCES}
    return [
        Flag(
            severity="red",
            code="inside-source",
            sentence=(
                f"Inside source '{pair.source}', where the source can't help, {pair.first} against {pair.second} has "
                f"AUROC {pair.auroc.text()}; over all sources it has {overall[pair.first, pair.second].text()}."
            ),
            finding=finding,
            group="source",
        )
        for finding in alone
        if finding not in said
        for pair in pairs
        if pair.source != ALL_SOURCES and finding in (pair.first, pair.second) and pair.auroc.estimable
    ]


def _predictable_flag(found: Predictability, tables: Sequence[CrossTable]) -> Flag:
    what = WORDS.get(found.group, found.group)
    table = next((t for t in tables if t.group == found.group), None)
    associated = table is not None and table.cramers_v >= NOTABLE and table.p_value < TABLES / len(tables)
    if found.auroc.value >= 0.9 and associated:
        severity: Severity = "red"
    elif found.auroc.value >= 0.75 and associated:
        severity = "amber"
    else:
        severity = "note"
    consequence = "and the label goes with it" if associated else "though the label doesn't go with it here"
    among = f" among {found.within} films" if found.within else ""
    sentence = f"The {what} can be read from the network's features{among} (AUROC {found.auroc.text()}), {consequence}."
    if found.auroc.value < 0.75:
        sentence = f"The {what} can hardly be read from the network's features{among} (AUROC {found.auroc.text()})."
    return Flag(severity=severity, code="group-predictable", sentence=sentence, group=found.group)
