"""What the study of transfer learning against scratch says: its numbers, and a paragraph that follows from them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hilum.intervals import numeral
from hilum.studies.outcome import Number, over_seeds
from hilum.studies.transfer_vs_scratch_analysis import (
    BLOCK,
    FULL,
    HEAD,
    METHODS,
    SCRATCH,
    Rows,
    difference,
    label_counts,
    labels_saved,
    pick,
    spread,
    unfinished,
    whole_saved,
)

CLAIM_PERCENT = 90
"""What is commonly claimed: transfer learning takes 90 % less training time."""

CLAIM_SOURCE = "said in many tutorials; no primary source was found, so its protocol could not be checked"


def numbers(measured: Mapping[str, Any]) -> tuple[Number, ...]:
    """The main numbers."""
    photos, films = measured["trainings"], measured["films"]
    found = [
        over_seeds(
            f"test accuracy, all labels, {method}",
            [row["test_accuracy"] for row in pick(photos, method, "all")],
            unit="%",
            digits=1,
        )
        for method in METHODS
    ]
    fewest = label_counts(photos)[0]
    if fewest != "all":
        found += [
            over_seeds(
                f"test accuracy, {fewest} labels a class, {method}",
                [row["test_accuracy"] for row in pick(photos, method, fewest)],
                unit="%",
                digits=1,
            )
            for method in (SCRATCH, HEAD)
        ]
    found += [
        _claim(record)
        for record in measured["targets_s"]
        if record["target"] == f"best of {SCRATCH}" and record["method"] != SCRATCH and record["seconds"] is not None
    ]
    found += [
        over_seeds(
            f"whole training with all labels shorter than scratch's, {method}",
            whole_saved(photos, method),
            unit="%",
            digits=0,
            timing=True,
        )
        for method in METHODS[1:]
    ]
    return (*found, *(_auroc(record) for record in films if record["labels_per_class"] == "all"))


def _claim(record: Mapping[str, Any]) -> Number:
    reached, seeds = record["seeds_that_reach_it"], record["seeds"]
    missed = f", {seeds - reached} of {seeds} seeds never reach it" if reached < seeds else ""
    return Number(
        name=f"less time than scratch to scratch's best validation accuracy, {record['method']}",
        value=record["less_time_percent"],
        low=record["least"],
        high=record["most"],
        spread=f"smallest and largest of {reached} seeds{missed}",
        unit="%",
        digits=0,
        published=f"{CLAIM_PERCENT} % less training time",
        source=CLAIM_SOURCE,
        timing=True,
    )


def _auroc(record: Mapping[str, Any]) -> Number:
    return Number(
        name=f"AUROC of pneumonia on chest films, all labels, {record['method']}",
        value=record["auroc"],
        low=record["low"],
        high=record["high"],
        spread="95 %, bootstrap by patient, mean over seeds",
        digits=3,
    )


def finding(measured: Mapping[str, Any]) -> str:
    """What was found, in words that follow from the numbers."""
    rows = measured["trainings"]
    return " ".join(
        filter(
            None,
            (
                _accuracy_words(rows, measured["network"]),
                _labels_words(rows),
                _claim_words(measured["targets_s"], rows),
                _arithmetic_words(rows),
                _gap_words(rows),
                _film_words(measured["films"], synthetic=measured["films_synthetic"]),
                _normalisation_words(measured),
            ),
        )
    )


def _mean(rows: Rows, method: str, labels: int | str, key: str = "test_accuracy") -> float:
    return float(np.mean([row[key] for row in pick(rows, method, labels)]))


def _accuracy_words(rows: Rows, network: str) -> str:
    fewest = label_counts(rows)[0]
    means = ", ".join(f"{_mean(rows, method, 'all'):.1f} % ({method})" for method in METHODS)
    words = [f"{network}, with all {pick(rows, SCRATCH, 'all')[0]['labels']:,} labels: {means}."]
    for labels in dict.fromkeys((fewest, "all")):
        mean, sign = difference(rows, HEAD, SCRATCH, labels)
        count = f"{labels} labels a class" if labels != "all" else "all labels"
        seeds = len(pick(rows, HEAD, labels))
        side = {1: "beats", -1: "loses against", 0: "is not told apart from"}[sign]
        words.append(
            f"With {count} feature extraction {side} scratch ({numeral(mean, '+.1f')} points, {seeds} paired seeds)."
        )
    best = max(METHODS, key=lambda method: _mean(rows, method, "all"))
    if best in (BLOCK, FULL):
        mean, sign = difference(rows, best, HEAD, "all")
        sure = "" if sign > 0 else ", which the seeds don't tell from 0"
        words.append(f"Fine-tuning ({best}) adds {numeral(mean, '+.1f')} points to feature extraction{sure}.")
    else:
        words.append(f"Fine-tuning adds nothing here: {best} is the best of the four.")
    return " ".join(words)


def _labels_words(rows: Rows) -> str:
    enough, every = labels_saved(rows), pick(rows, SCRATCH, "all")[0]["labels"]
    if enough is None:
        return "Feature extraction doesn't reach scratch with all labels, with any number of labels."
    few = pick(rows, HEAD, enough)[0]["labels"]
    if enough == "all":
        return "Feature extraction needs all labels to equal scratch."
    return (
        f"Feature extraction on {few:,} labels ({enough} a class) is as good as scratch on {every:,}: "
        f"{every / few:.0f} times fewer."
    )


def _claim_words(records: Rows, rows: Rows) -> str:
    words = []
    ours = [record for record in records if record["target"] == f"best of {SCRATCH}" and record["method"] != SCRATCH]
    for record in ours:
        if record["less_time_percent"] is None:
            words.append(f"{record['method']} never gets there")
            continue
        missed = record["seeds"] - record["seeds_that_reach_it"]
        lost = f", {missed} of {record['seeds']} seeds never" if missed else ""
        word = "less" if record["less_time_percent"] >= 0 else "more"
        words.append(f"{record['method']} {abs(record['less_time_percent']):.0f} % {word}{lost}")
    whole = {method: spread(whole_saved(rows, method)) for method in METHODS[1:]}
    verdict = _verdict(ours)
    shorter = ", ".join(f"{value[0]:.0f} % ({method})" for method, value in whole.items())
    late = (
        " Scratch was still improving when it ended, so its whole time is a lower bound, and what it could reach too."
        if unfinished(rows)
        else ""
    )
    return (
        f"'{CLAIM_PERCENT} % less training time' {verdict}: to the validation accuracy that scratch reaches at best, "
        f"compared with the time that scratch takes to it, {'; '.join(words)}. Whole trainings are shorter than "
        f"scratch's by {shorter}; how long a training is, is a choice.{late}"
    )


def _verdict(records: Rows) -> str:
    known = [record for record in records if record["least"] is not None]
    held = [record["method"] for record in known if record["least"] >= CLAIM_PERCENT]
    failed = [record["method"] for record in records if record["most"] is None or record["most"] < CLAIM_PERCENT]
    if len(held) == len(records):
        return "holds here for every method and every seed"
    if len(failed) == len(records):
        return "does not hold here for any method"
    parts = [f"holds here for {', '.join(held)}"] if held else []
    parts += [f"not for {', '.join(failed)}"] if failed else []
    mixed = [record["method"] for record in records if record["method"] not in (*held, *failed)]
    parts += [f"depends on the seed for {', '.join(mixed)}"] if mixed else []
    return ", ".join(parts)


def _arithmetic_words(rows: Rows) -> str:
    scratch = _mean(rows, SCRATCH, "all", "macs")
    parts = [f"{scratch / _mean(rows, method, 'all', 'macs'):,.1f} ({method})" for method in METHODS[1:]]
    return (
        f"Scratch's whole training costs {scratch / 1e12:.2f} tera-MACs, as many times the others' as follows: "
        f"{', '.join(parts)}."
    )


def _gap_words(rows: Rows) -> str:
    gaps = {method: _mean(rows, method, "all", "train_accuracy") - _mean(rows, method, "all") for method in METHODS}
    listed = ", ".join(f"{gap:.0f} ({method})" for method, gap in gaps.items())
    widest = max(gaps, key=lambda method: gaps[method])
    return f"The gap between training and test, in points: {listed}; it is widest for {widest}."


def _film_words(records: Rows, *, synthetic: bool) -> str:
    whole = [record for record in records if record["labels_per_class"] == "all"]
    listed = ", ".join(f"{record['auroc']:.3f} ({record['method']})" for record in whole)
    better = [record["method"] for record in whole if record["above_scratch_low"] > 0]
    worse = [record["method"] for record in whole if record["above_scratch_high"] < 0]
    if better or worse:
        parts = [f"{' and '.join(better)} above scratch"] if better else []
        parts += [f"{' and '.join(worse)} below scratch"] if worse else []
        told = f"beyond what patients by chance explain: {', '.join(parts)}"
    else:
        told = "no method is told apart from scratch"
    films = "synthetic phantom films" if synthetic else "chest films"
    return f"On {films} (normal or pneumonia, {whole[0]['labels']:,} labels), AUROC is {listed}; {told}."


def _normalisation_words(measured: Mapping[str, Any]) -> str:
    if not measured["batch_norm_folded"]:
        return ""
    return (
        "The weights' batch normalisation was folded into the convolutions, so full fine-tuning trained a network "
        "without normalisation, at a low learning rate."
    )
