"""Redo the numbers of audits, and of what else asks more than predictions, from the scores that were written.

A reviewer needs no film and no network: ``audits.json`` (or the report's JSON), ``audits.parquet``,
``predictions.parquet`` and the run's ``out_of_fold.parquet``. The rest of a scorecard is redone by
:func:`hilum.evaluation.scorecard.score`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from hilum.evaluation import network_audits as network
from hilum.evaluation.auditing import AFTER, BEFORE, OTHER, SAME
from hilum.evaluation.audits import Audit, Audits, judged
from hilum.evaluation.backing import SHUFFLED, Backing, Key, Scored
from hilum.evaluation.confounding import cross_table, within_source
from hilum.evaluation.data_audits import COPIES, duplicates_audit, label_noise
from hilum.evaluation.estimates import Estimate
from hilum.evaluation.explanation_audits import LUNGS, VALUE, mean_of
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.light_models import p_of, reading_estimate
from hilum.evaluation.localisation import Localisation, localised
from hilum.evaluation.predictability import SCORE, Predictability, group_auroc
from hilum.evaluation.scorecard import Scorecard
from hilum.evaluation.source_audits import LEVEL, WITH, WITHOUT, association_p, inside_audits, left_out
from hilum.labels import Findings
from hilum.predictions import Predictions

Redone = Callable[[Audit, Backing, Resampling, Findings], Audit]
"""A row, the scores behind it, settings and findings → the row with every number computed anew."""


def redo_audits(
    audits: Audits, backings: Mapping[Key, Backing], films: Predictions, out_of_fold: Predictions
) -> tuple[Audit, ...]:
    """Every row with value, interval, effect, p-values and verdict computed anew; words stay as they are.

    Args:
        audits: from ``audits.json`` or the report's JSON.
        backings: from ``audits.parquet`` (:func:`hilum.evaluation.backing.read_backings`).
        films: ``predictions.parquet`` of the same evaluation.
        out_of_fold: ``out_of_fold.parquet`` of the run.
    """
    settings = audits.settings
    pairs = within_source(films.labelled, settings) if "source" in films.groups else ()
    inside = {row.about: row for row in inside_audits(films, pairs, settings)}
    rows = []
    for row in audits.rows:
        if row.name == "inside one source":
            rows.append(_numbers(row, inside[row.about]))
        elif row.name == "label noise":
            rows.append(_numbers(row, label_noise(out_of_fold)[0]))
        elif not row.value.estimable:
            rows.append(row)
        else:
            rows.append(_way(row.name)(row, backings[row.name, row.about], settings, films.findings))
    return judged(rows, audits.family)


def redo_scorecard(
    card: Scorecard, backings: Mapping[Key, Backing]
) -> tuple[tuple[Predictability, ...], tuple[Localisation, ...]]:
    """What a scorecard holds beyond its predictions: the source in the features, and heat maps against lesions.

    Args:
        card: from ``scorecard.json`` or the report's JSON.
        backings: from ``scorecard.parquet``.
    """
    settings = card.settings.resampling
    predictable = []
    for row in card.confounding.predictable:
        scored = backings[f"{row.group} predictable", row.within].scored(SCORE)
        auroc = group_auroc(scored.values, scored.classes, scored.patient_ids, settings, row.group)
        predictable.append(replace(row, auroc=auroc))
    maps = (localised(row.name, backings["heat maps", row.name], settings) for row in card.localisation)
    return tuple(predictable), tuple(maps)


def _way(name: str) -> Redone:
    """How the rows of a name are redone; those of light models are the rule."""
    others: dict[str, Redone] = {
        "readable from features": _group,
        "left-out source": _left_out,
        "corners covered": _fall,
        "burned-in text covered": _fall,
        "corners swapped": _swap,
        "stability": _stability,
        "duplicates across the split": _duplicates,
        "heat in the lungs": _mean,
        "deletion and insertion": _mean,
        "maps of shuffled weights": _mean,
        "maps under noise": _mean,
    }
    return others.get(name, _reading)


def _numbers(row: Audit, again: Audit) -> Audit:
    return replace(
        row, value=again.value, chance=again.chance, effect=again.effect, floor=again.floor, p_value=again.p_value
    )


def _reading(row: Audit, backing: Backing, settings: Resampling, findings: Findings) -> Audit:
    """A light model: mean AUROC, and how many shuffles reach it."""
    value = _auroc(backing.scored("score: "), settings, "the label")
    shuffled = [v for v, column in zip(backing.value.tolist(), backing.column, strict=True) if column == SHUFFLED]
    return replace(row, value=value, p_value=p_of(value.value, np.array(shuffled)))


def _auroc(scored: Scored, settings: Resampling, what: str) -> Estimate:
    targets = np.column_stack([[text == name for text in scored.truth] for name in scored.columns]).astype(np.float64)
    return reading_estimate(scored.values, targets, scored.patient_ids, scored.classes, settings=settings, what=what)


def _group(row: Audit, backing: Backing, settings: Resampling, findings: Findings) -> Audit:
    value = _auroc(backing.scored("score: "), settings, row.about)
    rows = [i for i, column in enumerate(backing.column) if column.startswith(LEVEL)]
    table = cross_table(
        row.about,
        [backing.column[i].removeprefix(LEVEL) for i in rows],
        backing.classes[rows],
        findings.names,
        [backing.patient_ids[i] for i in rows],
    )
    return replace(row, value=value, p_value=association_p(value, table))


def _left_out(row: Audit, backing: Backing, settings: Resampling, findings: Findings) -> Audit:
    without, with_it = backing.scored(WITHOUT), backing.scored(WITH)
    sides = np.column_stack([[text == name for text in without.truth] for name in without.columns])
    found = left_out(without.values, with_it.values, sides, without.patient_ids, without.classes, settings)
    return replace(row, value=found.value, chance=found.inside, effect=found.fall, p_value=found.p_value)


def _fall(row: Audit, backing: Backing, settings: Resampling, findings: Findings) -> Audit:
    before, after = backing.scored(BEFORE), backing.scored(AFTER)
    covered = row.name.removesuffix(" covered")
    again = network.fall_audit(
        before.values, after.values, before.classes, before.patient_ids, findings, covered=covered, settings=settings
    )
    return _numbers(row, again)


def _stability(row: Audit, backing: Backing, settings: Resampling, findings: Findings) -> Audit:
    before, after = backing.scored(BEFORE), backing.scored(AFTER)
    ids = before.patient_ids
    return _numbers(row, network.stability_audit(before.values, after.values, ids, change=row.about, settings=settings))


def _swap(row: Audit, backing: Backing, settings: Resampling, findings: Findings) -> Audit:
    same, other = backing.scored(SAME), backing.scored(OTHER)
    only = np.zeros(len(same.values), np.int64)
    again = network.swap_audit(same.values, other.values, same.classes, only, same.patient_ids, settings=settings)
    return _numbers(row, again)


def _duplicates(row: Audit, backing: Backing, settings: Resampling, findings: Findings) -> Audit:
    copies = round(float(backing.scored(COPIES).values.sum()))
    return _numbers(row, duplicates_audit(copies, row.value.n, 1))


def _mean(row: Audit, backing: Backing, settings: Resampling, findings: Findings) -> Audit:
    """Heat maps: the mean over films, and for the lungs what an even map would have."""
    scored = backing.scored(VALUE)
    chance = float(backing.scored(LUNGS).values[:, 0].mean()) if LUNGS in backing.column else row.chance
    return replace(row, value=mean_of(scored.values[:, 0], scored.patient_ids, settings), chance=chance)
