"""What the GoogLeNet study found, as numbers and as sentences that follow from them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hilum.intervals import numeral
from hilum.studies.googlenet_cifar10_anatomy import interval_text, kernel_rows
from hilum.studies.googlenet_cifar10_report import counted
from hilum.studies.outcome import Number, over_seeds, share

PUBLISHED = "95.35 %; with torchvision's 3×3 92.85 %"
PROTOCOL = (
    "READMEs of WeihaoZhuang/cifar10-100-fast-training (70 epochs) and huyvnphan/PyTorch_CIFAR10 on GitHub: canonical "
    "pixels, 50,000 training images, full width; read, not run here"
)
"""Accuracies of GoogLeNet on CIFAR-10 that could be read at their source, with their protocol."""


def title(measured: Mapping[str, Any]) -> str:
    """Heading that is true of what was measured."""
    found, data = measured["course"]["diagnosis"], measured["data"]
    return f"GoogLeNet on {data['title']}, {data['course_train']:,} training images: {found['verdict']}"


def main_numbers(measured: Mapping[str, Any]) -> tuple[Number, ...]:
    """The main numbers; published ones stand beside those of CIFAR-10 alone."""
    course, data = measured["course"], measured["data"]
    found = course["diagnosis"]
    cifar = {"published": PUBLISHED, "source": PROTOCOL} if data["name"] == "cifar10" else {}
    numbers = [
        share(
            "test accuracy, long training, weights of the lowest validation loss",
            round(course["best"]["accuracy"] * data["test"]),
            data["test"],
            **cifar,
        ),
        share(
            f"test accuracy, long training, last of {found['epochs']} epochs",
            round(course["last"]["accuracy"] * data["test"]),
            data["test"],
        ),
        Number(
            name="gap between training and validation accuracy at its end",
            value=100 * found["gap"],
            unit="points",
            digits=1,
            spread=f"mean of the last {found['tail']} epochs, one seed",
            published="above 10–15 overfits, below 5 generalises",
            source="rule of thumb, commonly quoted; no derivation known to us",
        ),
    ]
    if found["from_epoch"]:
        numbers.append(
            Number(
                name="first epoch of over-fitting, from the curves",
                value=found["from_epoch"],
                digits=0,
                spread=f"of {found['epochs']}, one seed",
            )
        )
    numbers += [_accuracy(measured["variants"][0]), *(_difference(row) for row in measured["variants"][1:])]
    return (*numbers, *_transfer(measured["transfer"]), *_aim(measured), *_counts(), _time(measured))


def _accuracy(base: Mapping[str, Any]) -> Number:
    return over_seeds("test accuracy, base, short training", base["test_accuracies"], unit="%", digits=1)


def _difference(row: Mapping[str, Any]) -> Number:
    difference = row["difference"]
    known: dict[str, Any] = {}
    if row["variant"] == "auxiliary":
        known = {
            "published": "no faster convergence, a regulariser",
            "source": "Szegedy et al. 2016, arXiv:1512.00567, section 4; read in a summary, not checked",
        }
    return Number(
        name=f"test accuracy, {row['label']} minus base",
        value=difference["mean"],
        low=difference["low"],
        high=difference["high"],
        spread=f"Student's 95 %, {difference['pairs']} pairs" if difference["pairs"] > 1 else "one pair",
        unit="points",
        digits=1,
        **known,
    )


def _transfer(transfer: Mapping[str, Any]) -> list[Number]:
    if "skipped" in transfer:
        return []
    difference = transfer["difference"]
    bounds: dict[str, Any] = {
        key: None if difference[key] is None else 100 * difference[key] for key in ("low", "high")
    }
    return [
        Number(
            name=f"test accuracy, {transfer['network']} pretrained ({transfer['weights']}) minus random weights",
            value=100 * difference["mean"],
            spread=f"Student's 95 %, {difference['pairs']} pairs" if difference["pairs"] > 1 else "one pair",
            unit="points",
            digits=1,
            **bounds,
        )
    ]


def _aim(measured: Mapping[str, Any]) -> list[Number]:
    numbers = []
    for done in filter(None, (measured["aim"], measured["fast"])):
        epochs, total = len(done["rows"]), measured["data"]["test"]
        name = f"test accuracy, all that regularises, one cycle of {epochs} epochs, last weights"
        right = round(done["accuracy"] * total)
        numbers.append(share(name, right, total, published=f"aim 95 %; {PUBLISHED}", source=PROTOCOL))
        if done["until_target_s"] is not None:
            name = f"time until {100 * done['target']:.0f} % of the validation images are right, {epochs} epochs"
            numbers.append(Number(name=name, value=done["until_target_s"], unit="s", digits=0, timing=True))
    return numbers


def _counts() -> list[Number]:
    quoted = {
        "googlenet": "6,624,904",
        "googlenet_5x5": "6.8 million, the sum of table 1's column; 5 million is often quoted",
    }
    source = {
        "googlenet": "torchvision's table of weights (num_params)",
        "googlenet_5x5": "Szegedy et al. 2015, doi:10.1109/CVPR.2015.7298594, without BatchNorm; arXiv:1512.00567",
    }
    return [
        Number(
            name=f"parameters, {row['network']} ({row['third branch']}), 1,000 classes",
            value=row["parameters"],
            digits=0,
            published=quoted[row["network"]],
            source=source[row["network"]],
        )
        for row in kernel_rows()
    ]


def _time(measured: Mapping[str, Any]) -> Number:
    return over_seeds(
        "training time, base, short training", measured["variants"][0]["fit_s"], unit="s", digits=1, timing=True
    )


def finding(measured: Mapping[str, Any]) -> str:
    """What was found, in words that follow from the numbers."""
    parts = [
        _course_found(measured),
        _rule_found(measured),
        _regularisation_found(measured),
        *(_structure_found(row) for row in measured["variants"] if row["kind"] == "structure"),
        _transfer_found(measured["transfer"]),
        _reach_found(measured),
    ]
    return " ".join(part for part in parts if part)


def _course_found(measured: Mapping[str, Any]) -> str:
    course, data = measured["course"], measured["data"]
    best, last = 100 * course["best"]["accuracy"], 100 * course["last"]["accuracy"]
    change = last - best
    side = "gained" if change > 0 else "lost"
    after = (
        f"Training on to the last epoch {side} {abs(change):.1f} points there" if change else "The last have as many"
    )
    losses = f"{course['best']['loss']:.2f} to {course['last']['loss']:.2f}"
    return (
        f"On {data['title']} ({data['course_train']:,} training, {data['validation']:,} validation images) the base "
        f"was trained for {course['diagnosis']['epochs']} epochs. {course['diagnosis']['sentence']} The weights with "
        f"the lowest validation loss get {best:.1f} % of {data['test']:,} test images right. {after}, and took the "
        f"test loss from {losses}."
    )


def _rule_found(measured: Mapping[str, Any]) -> str:
    said = [one["agreement"] for one in [measured["course"], *measured["trainings"]]]
    return (
        f"Over all {len(said)} trainings the rule of thumb on the gap agrees with the curves in "
        f"{said.count('agrees')}, disagrees in {said.count('disagrees')} and says nothing in "
        f"{said.count('says nothing')}."
    )


def _regularisation_found(measured: Mapping[str, Any]) -> str:
    rows = [row for row in measured["variants"] if row["kind"] == "regularisation"]
    pairs = rows[0]["difference"]["pairs"]
    better = [row for row in rows if row["difference_told"] > 0]
    worse = [row for row in rows if row["difference_told"] < 0]
    closer = [row for row in rows if row["gap_told"] < 0]
    said = []
    if better:
        said.append(f"more test images right with {_named(better, 'difference')}")
    if worse:
        said.append(f"fewer with {_named(worse, 'difference')}")
    if closer:
        said.append(f"a smaller gap with {_named(closer, 'gap_difference')}")
    told = f"Regularisation, told apart from the base over {pairs} paired seeds: {'; '.join(said)}." if said else (
        f"No regulariser is told apart from the base over {pairs} paired seed{'s' if pairs > 1 else ''}."
    )  # fmt: skip
    largest = max(rows, key=lambda row: row["difference"]["mean"])
    return (
        f"{told} The largest mean gain in test accuracy was that of {largest['label']} "
        f"({numeral(largest['difference']['mean'], '+.1f')} points); under it the curves say: "
        f"{counted(largest['verdicts'])}. "
        f"{_gap_found(measured['variants'])}"
    )


def _gap_found(rows: Sequence[Mapping[str, Any]]) -> str:
    """Whether the smallest gap goes with the highest accuracy."""
    smallest = min(rows, key=lambda row: float(np.mean(row["gaps"])))
    best = max(rows, key=lambda row: float(np.mean(row["test_accuracies"])))
    gap, accuracy = (
        f"{row['label']} ({np.mean(row['gaps']):.1f} points, {np.mean(row['test_accuracies']):.1f} % right)"
        for row in (smallest, best)
    )
    if smallest is best:
        return f"The smallest gap goes with the most test images right: {gap}."
    return f"The smallest gap is that of {gap}, the most test images right has {accuracy}: a small gap is not the aim."


def _named(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    return ", ".join(f"{row['label']} ({numeral(row[key]['mean'], '+.1f')} points)" for row in rows)


def _structure_found(row: Mapping[str, Any]) -> str:
    difference = row["difference"]
    words = {"auxiliary": "Auxiliary classifiers", "3x3": "3×3 kernels in place of the paper's 5×5"}[row["variant"]]
    told = "which the pairs tell apart from none" if row["difference_told"] else (
        "which, among all comparisons, the pairs don't tell apart from none"
    )  # fmt: skip
    points = f"{numeral(difference['mean'], '+.1f')} points ({interval_text(difference)})"
    return f"{words} changed the test accuracy by {points}, {told}."


def _transfer_found(transfer: Mapping[str, Any]) -> str:
    if "skipped" in transfer:
        return str(transfer["skipped"])
    difference = transfer["difference"]
    pretrained, random = (
        100 * float(np.mean([run["accuracy"] for run in transfer[key]])) for key in ("pretrained", "random")
    )
    stand_in = "" if transfer["network"] == "googlenet" else ", in place of GoogLeNet, whose weights can't be had here,"
    told = "one pair alone says little of that"
    if difference["low"] is not None:
        outside = difference["low"] > 0 or difference["high"] < 0
        told = f"the {difference['pairs']} pairs {'tell' if outside else 'do not tell'} the two apart"
    return (
        f"Fine-tuned from {transfer['weights']} weights, {transfer['network']}{stand_in} gets {pretrained:.1f} % of "
        f"the test images right against {random:.1f} % from random weights after {transfer['epochs']} epochs; {told}."
    )


def _reach_found(measured: Mapping[str, Any]) -> str:
    scale, done = measured["scale"], measured["aim"]
    if done is not None:
        side = "reaches" if done["accuracy"] >= 0.95 else "does not reach"
        return f"The training that aims high {side} 95 % of the test images ({100 * done['accuracy']:.2f} %)."
    return (
        f"With {scale['width']:g} of its channels, {scale['early_pools']} early poolings and "
        f"{measured['data']['course_train']:,} training images these accuracies say nothing of what GoogLeNet reaches "
        "at full size; that is the full budget's, on a GPU."
    )
