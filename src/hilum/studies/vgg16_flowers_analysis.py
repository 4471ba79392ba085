"""What one row a phase says of fine-tuning in two stages: means, gains, choices, and the sizes of the parts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hilum.evaluation.paired import Difference, paired_difference
from hilum.models.encoders import Encoder
from hilum.models.heads import FlatHead, Head
from hilum.models.zoo import architecture, published_network
from hilum.training.arithmetic import encoder_macs, head_macs

PHASES = {"head": "stage 1: the head", "block": "stage 2: the last block"}
"""Name of each phase's stage, and what people call it."""

CLASSIC_QUOTED = {"head": "90–92 %", "block": "94–96 %"}
"""What is commonly quoted for the classic recipe, without a data set, a split or a source that could be checked.
It is of photographs, so only photographs are held against it."""

OURS, PLAIN, CLASSIC = "ours", "ours without augmentation", "classic recipe"
"""The variants."""

Rows = Sequence[Mapping[str, Any]]


def variant_names(rows: Rows) -> list[str]:
    """Variants in the order in which they were measured."""
    return list(dict.fromkeys(row["variant"] for row in rows))


def pick(rows: Rows, variant: str, phase: str = "") -> list[Mapping[str, Any]]:
    """Rows of a variant, and of one phase when it is named, by seed."""
    found = [row for row in rows if row["variant"] == variant and phase in ("", row["phase"])]
    return sorted(found, key=lambda row: row["seed"])


def spread(values: Iterable[float]) -> tuple[float, float, float]:
    """Mean, smallest and largest."""
    listed = list(values)
    return float(np.mean(listed)), float(min(listed)), float(max(listed))


def mean(rows: Rows, key: str) -> float:
    """Mean over rows."""
    return float(np.mean([row[key] for row in rows]))


def chosen_variant(rows: Rows) -> str:
    """The variant that does best on validation images after its second stage; the first of equals."""
    return max(variant_names(rows), key=lambda name: mean(pick(rows, name, "block"), "validation_accuracy"))


def phase_rows(rows: Rows) -> list[dict[str, Any]]:
    """One flat record for each variant and phase, over seeds."""
    records = []
    for variant in variant_names(rows):
        for phase in PHASES:
            ours = pick(rows, variant, phase)
            middle, low, high = spread(row["test_accuracy"] for row in ours)
            frozen = ours[0]["prefix_macs"] if phase == "head" else 0
            records.append(
                {
                    "variant": variant,
                    "phase": phase,
                    "test_accuracy": middle,
                    "lowest": low,
                    "highest": high,
                    "validation_accuracy": mean(ours, "validation_accuracy"),
                    "train_test_gap": mean(ours, "train_accuracy") - middle,
                    "epochs": mean(ours, "epochs"),
                    "gmacs": (frozen + mean(ours, "macs")) / 1e9,
                    "frozen_layers_s": ours[0]["prefix_s"],
                    "stage_s": mean(ours, "phase_s"),
                }
            )
    return records


def network_rows(rows: Rows) -> list[dict[str, Any]]:
    """One flat record for each network and set, ours in both phases."""
    records = []
    for network, images in dict.fromkeys((row["network"], row["set"]) for row in rows):
        here = [row for row in rows if (row["network"], row["set"]) == (network, images)]
        record: dict[str, Any] = {
            "network": network,
            "weights": here[0]["weights"],
            "set": images,
            "labels": here[0]["labels"],
        }
        for phase in PHASES:
            ours = [row for row in here if row["phase"] == phase]
            middle, low, high = spread(row["test_accuracy"] for row in ours)
            record |= {f"{phase}_accuracy": middle, f"{phase}_lowest": low, f"{phase}_highest": high}
        record["frozen_layers_s"] = here[0]["prefix_s"]
        for phase in PHASES:
            record[f"{phase}_s"] = mean([row for row in here if row["phase"] == phase], "phase_s")
        records.append(record)
    return records


def gain(rows: Rows, first: tuple[str, str], second: tuple[str, str]) -> Difference:
    """Points of test accuracy that one (variant, phase) has above another, paired by seed."""
    one, other = ([row["test_accuracy"] for row in pick(rows, *which)] for which in (first, second))
    return paired_difference(one, other)


def shape_rows(name: str, size: int, classes: int, hidden: int) -> list[dict[str, Any]]:
    """Parameters and MACs of each part of a network, at our size and at the published one.

    Args:
        name: the network's name in the zoo; VGG16's own rows are added to another network's.
        size: pixels a side at which it was measured.
        classes: outputs of the new top.
        hidden: units of its hidden layer.
    """
    wanted = dict.fromkeys([(name, size), (name, architecture(name).size), ("vgg16", architecture("vgg16").size)])
    return [record for network, side in wanted for record in _parts(network, side, classes, hidden)]


def map_side(name: str, size: int) -> int:
    """Pixels a side of a network's last feature map, halvings rounded as its layers do."""
    from hilum.models.anatomy import layer_rows

    row = architecture(name)
    rows = layer_rows(Encoder(name, published_network(name), row), (row.in_channels, size, size))
    return int(rows[-1].shape[-1])


def _parts(name: str, size: int, classes: int, hidden: int) -> list[dict[str, Any]]:
    row = architecture(name)
    encoder = Encoder(name, published_network(name), row)
    macs, cut = encoder_macs(name, size), row.layers.index(row.last_block)
    side = map_side(name, size)
    pooled = name.startswith(("vgg", "alexnet")) and side > 1
    heads = {
        "our top: average pooling, 256, classes": Head(row.channels, hidden, classes, 0.5),
        "classic top: flatten, 256, classes": FlatHead(
            (row.channels, side, side), hidden, classes, 0.5, max_pool=pooled
        ),
    }
    parts = [
        ("layers before the last block", _count(encoder.modules_before(cut)), sum(macs[:cut]), "no stage"),
        ("last block", _count(encoder.modules_from(cut)), sum(macs[cut:]), "stage 2"),
        *((part, _count([head]), head_macs(head), "both stages") for part, head in heads.items()),
    ]
    return [
        {"network": name, "size": size, "part": part, "parameters": count, "mmacs": cost / 1e6, "trained_in": when}
        for part, count, cost, when in parts
    ]


def _count(modules: Sequence[Any]) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def cached_saving(name: str, size: int, views: int, epochs: tuple[float, float]) -> float:
    """How many times more MACs both stages would cost if the frozen layers were run in every epoch.

    Args:
        name: the network's name in the zoo.
        size: pixels a side.
        views: views of an image, the clean one included.
        epochs: of the first and the second stage.
    """
    row = architecture(name)
    macs, cut = encoder_macs(name, size), row.layers.index(row.last_block)
    whole, last = sum(macs), sum(macs[cut:])
    trained = 3 * last * epochs[1]
    return (whole * epochs[0] + (whole - last) * epochs[1] + trained) / (whole * views + trained)
