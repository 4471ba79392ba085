"""The report of AlexNet against VGG: its numbers and finding, beside what is published."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hilum.evaluation.intervals import wilson_interval
from hilum.studies.alexnet_vs_vgg_fits import BASE, NORMED, PLAIN, SMALL_START, STACKS
from hilum.studies.alexnet_vs_vgg_published import ALEXNET_PAPER, READ, VGG_PAPER
from hilum.studies.alexnet_vs_vgg_sections import (
    ablation_section,
    costs_section,
    depth_section,
    input_section,
    kernels_section,
    memory_section,
    published_section,
    race_section,
    time_section,
    transfer_section,
)
from hilum.studies.alexnet_vs_vgg_words import by_depth, differences, finding, stack_errors
from hilum.studies.outcome import Number, Outcome, over_seeds

QUOTED = {
    "AlexNet 2014 (one tower)": (61_100_840, 0.714),
    "AlexNet 2012 (two GPUs)": (60_965_224, None),
    "VGG16": (138_357_544, 15.470),
    "VGG19": (143_667_240, 19.632),
}
"""Parameters, and giga-multiply-accumulates, as published or commonly quoted."""

TORCHVISION = "torchvision's documentation of the weights; read in the installed package"


def outcome(measured: dict[str, Any]) -> Outcome:
    """Numbers, finding and sections from what was measured."""
    settings = measured["settings"]
    _complete(measured)
    sections = (
        costs_section(measured),
        time_section(measured),
        memory_section(measured),
        input_section(measured),
        kernels_section(measured),
        race_section(measured),
        ablation_section(measured),
        depth_section(measured),
        transfer_section(measured),
        published_section(measured),
    )
    return Outcome(
        title=f"AlexNet, VGG16 and VGG19 side by side, their designs tried on {settings['data']}",
        numbers=main_numbers(measured),
        finding=finding(measured),
        sections=sections,
        measured=measured,
        key_figure="classifier",
    )


def _complete(measured: dict[str, Any]) -> None:
    """Flat tables for the topic page, added to what was measured."""
    measured["ablation_table"] = [
        {
            "variant": name,
            "test_error_minus_base": None if difference is None else difference.mean,
            "low": _known(difference.low) if difference else None,
            "high": _known(difference.high) if difference else None,
            "seeds": difference.pairs if difference else 0,
        }
        for name, difference in differences(measured["ablation"])
    ]
    measured["depth_table"] = [
        {
            "network": f"VGG{depth}",
            "kind": kind,
            "parameters": rows[0]["parameters"],
            "macs": rows[0]["macs"],
            "last_training_loss": _mean([row["losses"][-1] for row in rows if row["losses"]]),
            "test_error": _mean([row["test_error"] for row in rows if row["test_error"] is not None]),
            "trained": all(row["trained"] for row in rows),
            "seeds": len(rows),
        }
        for kind in (PLAIN, NORMED, SMALL_START)
        for depth, rows in by_depth(measured["depth"], kind).items()
    ]
    measured["race_table"] = measured["race"]["summary"]
    measured["stack_table"] = [_stack_row(measured, name) for name, *_ in STACKS]


def _stack_row(measured: dict[str, Any], name: str) -> dict[str, Any]:
    rows = [row for row in measured["stacks"] if row["name"] == name]
    return {
        "each_stage": name,
        "parameters": rows[0]["parameters"],
        "macs": rows[0]["macs"],
        "train_image_ms": _mean([row["train_image_ms"] for row in rows]),
        "test_error": _mean(stack_errors(measured, name)),
        "seeds": len(rows),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def main_numbers(measured: dict[str, Any]) -> tuple[Number, ...]:
    """The main numbers, beside what is published."""
    return (*_count_numbers(measured), *_time_numbers(measured), *_fit_numbers(measured))


def _count_numbers(measured: dict[str, Any]) -> list[Number]:
    found = []
    for row in measured["networks"]:
        name = row["network"]
        parameters, giga = QUOTED.get(name, (None, None))
        found.append(
            Number(
                name=f"parameters, {name}",
                value=row["parameters"],
                digits=0,
                published=f"{parameters:,}" if parameters else "",
                source=_parameter_source(name) if parameters else "",
            )
        )
        found.append(
            Number(
                name=f"multiply-accumulates of one image, {name}",
                value=row["million_macs"] / 1000,
                unit="billion",
                digits=3,
                published=f"{giga:.3f} billion" if giga else "",
                source=TORCHVISION if giga else "",
            )
        )
        found.append(
            Number(
                name=f"share of parameters in the classifier, {name}", value=row["classifier_share"], unit="%", digits=1
            )
        )
    for row in measured["folklore"]:
        if row["network"] == "VGG16":
            found += [
                Number(name="VGG16's weights in fp32", value=row["weights_mib"], unit="MiB", digits=1,
                       published="\"VGG needs 500 MB\"; 528 MB for the file",
                       source=f"folklore; {TORCHVISION} ({row['weights_file_mib']:g} MiB, called MB)"),
                Number(name="memory to train VGG16, batch of 1, Adam", value=row["training_batch_1_mb"] / 1000,
                       unit="GB", spread="computed; workspace on top"),
                Number(name="memory to train VGG16, batch of 32, Adam", value=row["training_batch_32_mb"] / 1000,
                       unit="GB", spread="computed; workspace on top"),
            ]  # fmt: skip
    return found


def _parameter_source(name: str) -> str:
    if "2012" in name:
        return f"follows from the layer sizes; the paper says 60 million ({ALEXNET_PAPER})"
    return TORCHVISION


def _time_numbers(measured: dict[str, Any]) -> list[Number]:
    return [
        Number(
            name=f"time of a batch of {row['batch']}, {row['network']}",
            value=row["median_ms"],
            low=row["fastest_ms"],
            high=row["slowest_ms"],
            spread="median; fastest and slowest",
            unit="ms",
            digits=1,
            timing=True,
        )
        for row in measured["latency"]
    ]


def _fit_numbers(measured: dict[str, Any]) -> list[Number]:
    found = []
    summary = measured["race"]["summary"]
    whole = [row for row in summary if row["both_reached"] == row["seeds"]]
    if whole:
        row = whole[-1]
        found.append(
            Number(
                name=f"epochs to {row['training_error']:g} % training error, tanh over ReLU",
                value=row["tanh_over_relu"],
                low=row["ratio_low"],
                high=row["ratio_high"],
                spread=f"smallest and largest of {row['seeds']} seeds" if row["seeds"] > 1 else "one seed",
                unit="times",
                published="6 times, to 25 % on all of CIFAR-10",
                source=f"{ALEXNET_PAPER}, figure 1, {READ}",
            )
        )
    bases = [row["test_error"] for row in measured["ablation"] if row["name"] == BASE and row["test_error"] is not None]
    if bases:
        found.append(over_seeds("test error, small AlexNet", bases, unit="%", digits=1))
    published = {
        "without response normalisation": ("+1.4 points top-1 on ImageNet, +2 points on CIFAR-10", "section 3.3"),
        "without dropout": ('"substantial overfitting"', "section 4.2"),
        "with colour jitter (±30 %)": ("over 1 point lower top-1, by PCA of the colours", "section 4.1"),
    }
    for name, difference in differences(measured["ablation"]):
        if difference is None:
            continue
        quoted, where = published.get(name, ("", ""))
        alone = math.isnan(difference.low)
        found.append(
            Number(
                name=f"test error, {name}, minus the small AlexNet's",
                value=difference.mean,
                low=None if alone else difference.low,
                high=None if alone else difference.high,
                spread="one seed" if alone else f"95 % Student, {difference.pairs} seeds in pairs",
                unit="points",
                digits=1,
                published=quoted,
                source=f"{ALEXNET_PAPER}, {where}, {READ}" if quoted else "",
            )
        )
    return found + _vgg_numbers(measured)


def _vgg_numbers(measured: dict[str, Any]) -> list[Number]:
    n = measured["settings"]["test"]
    errors = {"VGG11": "10.4 % top-5 val, 1 scale", "VGG13": "9.9 % top-5 val, 1 scale",
              "VGG16": "8.8 % top-5 val, 1 scale", "VGG19": "9.0 % top-5 val, 1 scale"}  # fmt: skip
    found = [
        _error(
            f"test error, small {row['network']}, {row['kind']}", row["test_error"], n, row["seeds"],
            published=f"{errors[row['network']]} (no BatchNorm)" if row["kind"] == PLAIN else "",
            source=f"{VGG_PAPER}, table 3, {READ}" if row["kind"] == PLAIN else "",
        )
        for row in measured["depth_table"]
        if row["test_error"] is not None
    ]  # fmt: skip
    for row in measured["stack_table"]:
        if row["test_error"] is not None:
            five = row["each_stage"] == "one 5×5"
            found.append(
                _error(
                    f"test error, stages of {row['each_stage']}", row["test_error"], n, row["seeds"],
                    published="top-1 error 7 points above that of two 3×3, on a centre crop" if five else "",
                    source=f"{VGG_PAPER}, section 4.1, {READ}" if five else "",
                )
            )  # fmt: skip
    for row in measured["transfer"]:
        found.append(
            Number(
                name=f"linear probe on {row['target']}, {row['network']} ({row['weights']})",
                value=row["accuracy"],
                low=row["low"],
                high=row["high"],
                spread=f"95 % Wilson, n = {row['test_images']:,}",
                unit="%",
                digits=1,
            )
        )
    return found


def _error(name: str, value: float, n: int, seeds: int, **published: str) -> Number:
    low, high = wilson_interval(value / 100, n)
    spread = f"95 % Wilson, n = {n:,}" + (f", mean of {seeds} seeds" if seeds > 1 else ", one seed")
    return Number(
        name=name,
        value=value,
        low=100 * low,
        high=100 * high,
        spread=spread,
        unit="%",
        digits=1,
        **published,  # type: ignore[arg-type]
    )
