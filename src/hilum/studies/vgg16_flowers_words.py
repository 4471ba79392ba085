"""What the study of fine-tuning in two stages says: its numbers, and a paragraph that follows from them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hilum.evaluation.paired import Difference
from hilum.intervals import numeral
from hilum.studies.outcome import Number, over_seeds
from hilum.studies.vgg16_flowers_analysis import (
    CLASSIC,
    CLASSIC_QUOTED,
    OURS,
    PHASES,
    PLAIN,
    Rows,
    gain,
    mean,
    pick,
    variant_names,
)

QUOTED_SOURCE = "common in tutorials; data set, split and source are not given, so it could not be checked"


def main_rows(measured: Mapping[str, Any]) -> Rows:
    """The trainings of the main network on the main set."""
    wanted = (measured["network"], measured["set"])
    return [row for row in measured["trainings"] if (row["network"], row["set"]) == wanted]


def of_photographs(measured: Mapping[str, Any]) -> bool:
    """Whether the main set is one of real images, which alone are held against what is quoted for others."""
    return bool(measured["kind"] == "real")


def numbers(measured: Mapping[str, Any]) -> tuple[Number, ...]:
    """The main numbers."""
    rows = main_rows(measured)
    quoted = CLASSIC_QUOTED if of_photographs(measured) else {}
    found = [
        over_seeds(
            f"test accuracy after {PHASES[phase]}, {variant}",
            [row["test_accuracy"] for row in pick(rows, variant, phase)],
            unit="%",
            digits=1,
            published=quoted.get(phase, "") if variant == CLASSIC else "",
            source=QUOTED_SOURCE if quoted and variant == CLASSIC else "",
        )
        for variant in variant_names(rows)
        for phase in PHASES
    ]
    found += [
        Number(
            name=f"frozen layers, once a view, {OURS}",
            value=pick(rows, OURS)[0]["prefix_s"],
            spread="one measurement",
            unit="s",
            digits=1,
            timing=True,
        ),
        *(
            over_seeds(
                f"seconds of {PHASES[phase]}, {OURS}",
                [row["phase_s"] for row in pick(rows, OURS, phase)],
                unit="s",
                digits=1,
                timing=True,
            )
            for phase in PHASES
        ),
    ]
    others = [
        record
        for record in measured["networks"]
        if (record["network"], record["set"]) != (measured["network"], measured["set"])
    ]
    found += [
        Number(
            name=f"test accuracy after {PHASES['block']}, {OURS}, {record['network']} on {record['set']}",
            value=record["block_accuracy"],
            low=record["block_lowest"],
            high=record["block_highest"],
            spread="smallest and largest of the seeds",
            unit="%",
            digits=1,
        )
        for record in others
    ]
    return tuple(found)


def finding(measured: Mapping[str, Any]) -> str:
    """What was found, in words that follow from the numbers."""
    rows = main_rows(measured)
    parts = (
        _stand_in_words(measured),
        _stage_words(rows, measured),
        _augmentation_words(rows),
        _classic_words(rows, quoted=of_photographs(measured)),
        _time_words(measured),
        _other_words(measured),
        _confusion_words(measured),
    )
    return " ".join(part for part in parts if part)


def _stand_in_words(measured: Mapping[str, Any]) -> str:
    if measured["network"] == measured["wanted"]:
        return ""
    return (
        f"Not {measured['wanted']} but {measured['network']} was measured, because the former's published weights "
        "can't be had here."
    )


def _signed(found: Difference) -> str:
    bounds = (
        "" if np.isnan(found.low) else f", 95 % interval {numeral(found.low, '+.1f')} to {numeral(found.high, '+.1f')}"
    )
    return f"{numeral(found.mean, '+.1f')} points ({found.pairs} paired seeds{bounds})"


def _told(found: Difference, up: str, down: str, level: str) -> str:
    return {1: up, -1: down, 0: level}[found.sign]


def _stage_words(rows: Rows, measured: Mapping[str, Any]) -> str:
    head, block = (mean(pick(rows, OURS, phase), "test_accuracy") for phase in PHASES)
    found = gain(rows, (OURS, "block"), (OURS, "head"))
    told = _told(found, "improves on it", "makes it worse", "doesn't change it beyond what seeds do")
    return (
        f"{measured['network']} on {measured['labels']:,} labelled images of {measured['set']}: a new top on frozen "
        f"features reads {head:.1f} % of the test images right; training the last block as well {told}: {block:.1f} %, "
        f"{_signed(found)}."
    )


def _augmentation_words(rows: Rows) -> str:
    found = gain(rows, (OURS, "block"), (PLAIN, "block"))
    told = _told(found, "helps", "hurts", "makes no difference that the seeds tell from 0")
    gaps = [
        mean(pick(rows, name, "block"), "train_accuracy") - mean(pick(rows, name, "block"), "test_accuracy")
        for name in (OURS, PLAIN)
    ]
    return (
        f"Augmentation {told}: {_signed(found)}; the gap between training and test is {gaps[0]:.0f} points with it and "
        f"{gaps[1]:.0f} without."
    )


def _classic_words(rows: Rows, *, quoted: bool) -> str:
    head, block = (mean(pick(rows, CLASSIC, phase), "test_accuracy") for phase in PHASES)
    found = gain(rows, (OURS, "block"), (CLASSIC, "block"))
    told = _told(found, "ours is better", "the classic is better", "the two are not told apart")
    own = gain(rows, (CLASSIC, "block"), (CLASSIC, "head"))
    second = _told(own, "adds", "takes", "changes, within what seeds do,")
    low, high = (float(word) for word in CLASSIC_QUOTED["block"].removesuffix(" %").split("–"))
    place = "below" if block < low else "above" if block > high else "within"
    beside = f", {place} the commonly quoted {CLASSIC_QUOTED['block']}" if quoted else ""
    return (
        f"The classic recipe reads {head:.1f} % and then {block:.1f} % right{beside}; its second stage {second} "
        f"{abs(own.mean):.1f} points, and after both stages {told} ({_signed(found)})."
    )


def _time_words(measured: Mapping[str, Any]) -> str:
    records = {record["phase"]: record for record in measured["phases"] if record["variant"] == OURS}
    frozen, head, block = (
        records["head"]["frozen_layers_s"],
        records["head"]["stage_s"],
        records["block"]["stage_s"],
    )
    whole = frozen + head + block
    most = max((("the frozen layers", frozen), ("stage 1", head), ("stage 2", block)), key=lambda pair: pair[1])
    return (
        f"A training takes {whole:.1f} s: {frozen:.1f} s for the frozen layers, once a view, {head:.1f} s for stage 1 "
        f"and {block:.1f} s for stage 2; {most[0]} take{'' if most[0].endswith('layers') else 's'} most. Running the "
        f"frozen layers in every epoch would cost {measured['cached_saving']:.1f} times the multiply-accumulates."
    )


def _other_words(measured: Mapping[str, Any]) -> str:
    sentences = []
    for images in dict.fromkeys(record["set"] for record in measured["networks"]):
        here = [record for record in measured["networks"] if record["set"] == images]
        if len(here) > 1:
            ordered = sorted(here, key=lambda record: -record["block_accuracy"])
            listed = ", ".join(f"{record['network']} {record['block_accuracy']:.1f} %" for record in ordered)
            sentences.append(f"After both stages on {images}: {listed}.")
    return " ".join(sentences)


def _confusion_words(measured: Mapping[str, Any]) -> str:
    counts = np.array(measured["confusion"])
    wrong = counts - np.diag(np.diag(counts))
    if not wrong.sum():
        return "No test image is mistaken."
    true, answered = divmod(int(wrong.argmax()), len(counts))
    names = measured["classes"]
    share = 100 * wrong[true, answered] / max(1, counts[true].sum())
    return (
        f"The commonest mistake is {names[answered]} for {names[true]}: {share:.0f} % of the test images of "
        f"{names[true]}."
    )
