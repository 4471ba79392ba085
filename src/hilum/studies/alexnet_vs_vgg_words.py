"""What the study found, in sentences that follow from its numbers and say the opposite when they do."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hilum.evaluation.paired import Difference, paired_difference
from hilum.intervals import numeral
from hilum.studies.alexnet_vs_vgg_fits import BASE, NORMED, PLAIN, SMALL_START


def finding(measured: dict[str, Any]) -> str:
    """The paragraph on top of the report."""
    parts = [
        costs_words(measured),
        time_words(measured["latency"]),
        memory_words(measured),
        race_words(measured["race"]["summary"]),
        ablation_words(measured),
        depth_words(measured),
        stack_words(measured),
        transfer_words(measured),
    ]
    return " ".join(part for part in parts if part)


def costs_words(measured: dict[str, Any]) -> str:
    """Parameters and multiply-accumulates of the first and the last network."""
    rows = measured["networks"]
    shares = ", ".join(f"{row['network']} {row['classifier_share']:.0f} %" for row in rows)
    small, large = min(rows, key=lambda r: r["million_macs"]), max(rows, key=lambda r: r["million_macs"])
    parameters = large["parameters"] / small["parameters"]
    macs = large["million_macs"] / small["million_macs"]
    words = f"Most parameters lie in the classifier ({shares})."
    if large is small:
        return words
    return (
        f"{words} {large['network']} has {parameters:.1f} times the parameters of {small['network']} and "
        f"{macs:.1f} times its multiply-accumulates."
    )


def time_words(rows: Sequence[dict[str, Any]]) -> str:
    """Times of one image, and what share the classifier takes alone and in a batch."""
    sentences = []
    ones = [row for row in rows if row["batch"] == 1]
    if ones:
        times = ", ".join(f"{row['network']} {row['median_ms']:.0f} ms" for row in ones)
        sentences.append(f"One image takes {times} here (median).")
    for name in dict.fromkeys(row["network"] for row in rows):
        own = [row for row in rows if row["network"] == name]
        if len(own) > 1:
            first, last = own[0], own[-1]
            shares = [100 * row["classifier_ms"] / row["median_ms"] for row in (first, last)]
            each = [row["classifier_ms"] / row["batch"] for row in (first, last)]
            saved = "saves" if each[1] < 0.8 * each[0] else "does not save"
            sentences.append(
                f"The classifier takes {shares[0]:.0f} % of {name}'s time at a batch of {first['batch']} and "
                f"{shares[1]:.0f} % at {last['batch']}: {each[0]:.1f} and {each[1]:.1f} ms an image, so here a batch "
                f"of {last['batch']} {saved} fetching its weights for each image."
            )
            break
    return " ".join(sentences)


def memory_words(measured: dict[str, Any]) -> str:
    """The folklore about VGG16's megabytes."""
    row = next((row for row in measured["folklore"] if row["network"] == "VGG16"), None)
    if row is None:
        return ""
    one, many = row["training_batch_1_mb"] / 1000, row["training_batch_32_mb"] / 1000
    return (
        f'VGG16\'s "500 MB" are its weights: {row["weights_mb"]:.0f} MB or {row["weights_mib"]:.0f} MiB. Answering one '
        f"image needs {row['answering_one_image_mb']:.0f} MB, training with Adam {one:.1f} GB at a batch of 1 and "
        f"{many:.1f} GB at 32."
    )


def race_words(summary: Sequence[dict[str, Any]]) -> str:
    """How many times longer tanh takes to the hardest target that both reached with every seed."""
    whole = [row for row in summary if row["both_reached"] == row["seeds"]]
    if not whole:
        reached = {name: max(row[f"{name}_reached"] for row in summary) for name in ("relu", "tanh")}
        first = [name for name, count in reached.items() if count]
        if len(first) == 1:
            return f"Only {_name(first[0])} reached a training error of {summary[0]['training_error']:g} %."
        return "ReLU and tanh did not both reach a training error that was asked for, so neither is called faster."
    row = whole[-1]
    ratio, low, high = row["tanh_over_relu"], row["ratio_low"], row["ratio_high"]
    verdict = "took longer" if low > 1 else "was faster" if high < 1 else "was neither clearly faster nor slower"
    words = (
        f"Tanh {verdict}: {row['tanh_epochs']:.1f} epochs to a training error of {row['training_error']:g} % against "
        f"{row['relu_epochs']:.1f} with ReLU, {ratio:.2f} times as many ({low:.2f}–{high:.2f} over {row['seeds']} "
        "seeds); the paper's figure says six times."
    )
    harder = [row for row in summary if row["training_error"] < whole[-1]["training_error"]]
    if harder:
        missed = harder[-1]
        words += (
            f" {missed['training_error']:g} % was reached by {missed['relu_reached']} of {missed['seeds']} seeds with "
            f"ReLU and {missed['tanh_reached']} with tanh."
        )
    return words


def _name(activation: str) -> str:
    return {"relu": "ReLU", "tanh": "tanh"}[activation]


def differences(rows: Sequence[dict[str, Any]]) -> list[tuple[str, Difference | None]]:
    """Test error of each variant of AlexNet minus that of the base, in points, paired by seed; None: one diverged."""
    by_name: dict[str, list[float | None]] = {}
    for row in rows:
        by_name.setdefault(row["name"], []).append(row["test_error"])
    found: list[tuple[str, Difference | None]] = []
    for name, errors in by_name.items():
        if name == BASE:
            continue
        pairs = [
            (own, base) for own, base in zip(errors, by_name[BASE], strict=True) if own is not None and base is not None
        ]
        whole = len(pairs) == len(errors)
        found.append(
            (name, paired_difference([p[0] for p in pairs], [p[1] for p in pairs]) if whole and pairs else None)
        )
    return found


def ablation_words(measured: dict[str, Any]) -> str:
    """Which changes to the small AlexNet moved its test error beyond what seeds do."""
    lowered, raised, unclear = [], [], []
    for name, difference in differences(measured["ablation"]):
        if difference is None or difference.sign == 0:
            unclear.append(name)
        elif difference.sign < 0:
            lowered.append(f"{name} ({numeral(difference.mean, '+.1f')} points)")
        else:
            raised.append(f"{name} ({numeral(difference.mean, '+.1f')} points)")
    seeds, epochs = measured["settings"]["ablation_seeds"], measured["settings"]["ablation_epochs"]
    words = f"After {epochs} epochs the small AlexNet's test error"
    parts = []
    if lowered:
        parts.append(f"fell {_listed(lowered)}")
    if raised:
        parts.append(f"rose {_listed(raised)}")
    if unclear:
        parts.append(f"can't be told apart by {_count(seeds)} from no change {_listed(unclear)}")
    return f"{words} {', '.join(parts)}."


def _count(seeds: int) -> str:
    return "one seed" if seeds == 1 else f"{seeds} seeds"


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def by_depth(rows: Sequence[dict[str, Any]], kind: str) -> dict[int, list[dict[str, Any]]]:
    """Trainings of one kind of VGG, by depth."""
    found: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        if row["kind"] == kind:
            found.setdefault(row["depth"], []).append(row)
    return dict(sorted(found.items()))


def depth_words(measured: dict[str, Any]) -> str:
    """Which depths trained, with and without BatchNorm and from one spread; and the best of each."""
    guessing = math.log(measured["settings"]["classes"])
    sentences = []
    for kind in (PLAIN, NORMED, SMALL_START):
        nets = by_depth(measured["depth"], kind)
        if not nets:
            continue
        stuck = [f"VGG{depth}" for depth, rows in nets.items() if not all(row["trained"] for row in rows)]
        words = {
            PLAIN: "Without BatchNorm",
            NORMED: "With BatchNorm",
            SMALL_START: "Without BatchNorm from one spread of initial weights",
        }[kind]
        if stuck:
            loss = [row["losses"][-1] for name in stuck for row in nets[int(name[3:])] if row["losses"]]
            ends = f" (loss at the end up to {max(loss):.2f}; guessing has {guessing:.2f})" if loss else ""
            sentences.append(f"{words} {_listed(stuck)} failed to train{ends}.")
        else:
            names = _listed([f"VGG{depth}" for depth in nets])
            sentences.append(f"{words} {names} trained.")
    return " ".join(sentences) + _depth_trend(measured)


def _depth_trend(measured: dict[str, Any]) -> str:
    """Test errors of the shallowest and the deepest net with BatchNorm, and a verdict where seeds allow one."""
    nets = by_depth(measured["depth"], NORMED)
    errors = {depth: [row["test_error"] for row in rows] for depth, rows in nets.items() if _trained(rows)}
    if len(errors) < 2:
        return ""
    first, last = min(errors), max(errors)
    words = {
        -1: "more layers lowered the test error",
        0: "the seeds don't tell whether more layers changed the test error",
        1: "more layers raised the test error",
        None: "one seed can't say whether more layers change the test error",
    }[verdict(errors[last], errors[first])]
    return (
        f" With BatchNorm {words}: {np.mean(errors[first]):.1f} % with {first} layers, {np.mean(errors[last]):.1f} % "
        f"with {last}."
    )


def _trained(rows: Sequence[dict[str, Any]]) -> bool:
    return all(row["trained"] for row in rows)


def verdict(first: Sequence[float], second: Sequence[float]) -> int | None:
    """Whether the first are above (1) or below (−1) the second, seed by seed, or not told apart (0); None: one seed."""
    return paired_difference(first, second).sign if len(first) > 1 else None


def stack_words(measured: dict[str, Any]) -> str:
    """Stacks of 3×3 against the kernels that see as far, and against the same stack without its inner ReLUs."""
    pairs = (("two 3×3", "one 5×5"), ("three 3×3", "one 7×7"), ("two 3×3", "two 3×3, no ReLU between"))
    return " ".join(part for part in (_stack_pair(measured, *pair) for pair in pairs) if part)


def stack_errors(measured: dict[str, Any], name: str) -> list[float]:
    """Test errors of one kind of stage, one a seed that did not diverge."""
    return [row["test_error"] for row in measured["stacks"] if row["name"] == name and row["test_error"] is not None]


def _stack_pair(measured: dict[str, Any], first: str, second: str) -> str:
    errors = [stack_errors(measured, name) for name in (first, second)]
    if not all(errors):
        return ""
    if not _trained([row for row in measured["stacks"] if row["name"] in (first, second)]):
        return f"Stages of {first} and of {second} did not both train, so they are not compared."
    means = [float(np.mean(values)) for values in errors]
    told = f"stages of {first} {means[0]:.1f} % test error, of {second} {means[1]:.1f} %"
    words = {
        -1: "the first lower beyond what seeds do",
        0: "the seeds don't tell them apart",
        1: "the first higher beyond what seeds do",
        None: "one seed can't rank them",
    }[verdict(errors[0], errors[1])]
    return f"{told[0].upper()}{told[1:]}: {words}."


def transfer_words(measured: dict[str, Any]) -> str:
    """Which features a linear probe reads best, and what was not measured."""
    rows = [row for row in measured["transfer"] if row["weights"] not in ("random", "none")]
    sentences = []
    for target in dict.fromkeys(row["target"] for row in rows):
        own = [row for row in rows if row["target"] == target]
        best = max(own, key=lambda row: row["right"])
        others = [
            row for row in measured["transfer"] if row["target"] == target and row["weights"] in ("random", "none")
        ]
        told = ", ".join(f"{row['network']} {row['accuracy']:.0f} %" for row in own)
        words = f"A linear probe on {target} read {told} from features learned elsewhere"
        if others:
            floor = max(others, key=lambda row: row["right"])
            kind = "pixels" if floor["weights"] == "none" else f"{floor['network']} with random weights"
            side = (
                "above" if best["low"] > floor["high"] else "below" if best["high"] < floor["low"] else "not apart from"
            )
            words += f"; the best is {side} the best that learned nothing ({kind}, {floor['accuracy']:.0f} %)"
        sentences.append(f"{words}.")
    missing = [row["network"] for row in measured["not_probed"]]
    if missing:
        sentences.append(
            f"The published weights of {_listed(missing)} could not be had, so their transfer was not measured."
        )
    return " ".join(sentences)
