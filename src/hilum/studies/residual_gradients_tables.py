"""The tables of the study of residual connections, as flat records, from its measurements."""

import math
from typing import Any

from hilum.studies.residual_gradients_words import Rows, best_rates, mean_error, middle, names, of, spelled, values

PUBLISHED_TOP1 = {
    "resnet18": "27.88", "resnet34": "24.52", "resnet50": "22.85", "resnet101": "21.75", "resnet152": "21.43",
    "resnext50_32x4d": "22.2 (one crop)", "densenet121": "23.61", "densenet169": "22.08", "densenet201": "21.46",
}  # fmt: skip
"""Top-1 error on ImageNet's validation images in per cent, ten crops: He et al. 2016, tables 2 and 3; Xie et al. 2017,
doi:10.1109/CVPR.2017.634, table 3; Huang et al. 2017, doi:10.1109/CVPR.2017.243, table 3."""

BLOCKS = {"resnet18": "basic", "resnet34": "basic", "resnext": "bottleneck, grouped", "densenet": "dense layer"}
"""Block of each network, by the beginning of its name; else a bottleneck."""


def without_gaps(value: Any) -> Any:
    """The same with None in place of numbers that JSON doesn't know: what overflowed, and what there is not."""
    if isinstance(value, dict):
        return {key: without_gaps(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_gaps(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def plainly(run: dict[str, Any]) -> dict[str, Any]:
    """A training without the long lists."""
    long = ("right", "start", "during", "ways_start", "ways_end")
    return {key: value for key, value in run.items() if key not in long}


def profiles(start: Rows) -> dict[str, dict[str, list[float]]]:
    """For each kind and depth the geometric mean over seeds of every layer's gradient, next to the loss first.

    Each as a multiple of that at the last convolution.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for kind in names(start):
        for depth in sorted({row["depth"] for row in start}):
            rows = of(start, kind=kind, depth=depth)
            layers = [middle([_relative(row, i) for row in rows]) for i in range(1, depth - 1)]
            found.setdefault(kind, {})[str(depth)] = layers[::-1]
    return found


def _relative(row: dict[str, Any], layer: int) -> float:
    """Gradient at a layer's input over that at the last convolution's, which is the last layer but one."""
    value, last = row["inputs"][layer], row["inputs"][-2]
    return math.inf if value is None or not last else float(value / last)


def start_rows(start: Rows) -> list[dict[str, Any]]:
    """How the gradient grows before training, by kind and depth, over the seeds."""
    rows = []
    for kind in names(start):
        for depth in sorted({row["depth"] for row in start}):
            found = of(start, kind=kind, depth=depth)
            grown = values(found, "grown")
            rows.append(
                {
                    "network": spelled(kind),
                    "layers": depth,
                    "growth": middle(grown),
                    "smallest": min(grown),
                    "largest": max(grown),
                    "per_layer": middle(values(found, "per_layer")),
                    "loss": middle(values(found, "loss")),
                }
            )
    return rows


def ways_rows(runs: Rows) -> list[dict[str, Any]]:
    """Stage by stage of the deepest residual net that ended: by which way the gradient comes, and what stays open."""
    ended = [run for run in of(runs, kind="residual", seed=0) if not run["diverged"]]
    rows = []
    for when, key in (("before training", "ways_start"), ("after training", "ways_end")):
        for stage in ("layer1", "layer2", "layer3"):
            ways = [way for way in ended[-1][key] if way["block"].startswith(stage)] if ended else []
            if ways:
                shares = [way["by_shortcut"] / (way["by_shortcut"] + way["by_branch"]) for way in ways]
                rows.append(
                    {
                        "layers": ended[-1]["depth"],
                        "when": when,
                        "stage": stage.removeprefix("layer"),
                        "identity_blocks": len(ways),
                        "open_in_a_block": sum(way["open"] for way in ways) / len(ways),
                        "open_in_all": ways[-1]["open_so_far"],
                        "share_by_shortcut": sum(shares) / len(shares),
                    }
                )
    return rows


def degradation_rows(runs: Rows) -> list[dict[str, Any]]:
    """Training and test error by kind and depth, over the seeds."""
    rows = []
    for kind in ("plain", "residual"):
        for depth in sorted({run["depth"] for run in runs}):
            found = of(runs, kind=kind, depth=depth)
            row: dict[str, Any] = {"network": kind, "layers": depth, "seeds": len(found)}
            for part in ("train", "test"):
                errors = [run.get(f"{part}_error", math.nan) for run in found]
                row |= {f"{part}_error": mean_error(found, f"{part}_error")}
                row |= {f"{part}_smallest": min(errors), f"{part}_largest": max(errors)}
            row["parameters"] = found[0]["parameters"]
            rows.append(row)
    return rows


def during_rows(runs: Rows) -> list[dict[str, Any]]:
    """Gradients of the first seed's nets before, during and after training."""
    rows = []
    for run in runs:
        if run["seed"] == 0:
            stages = {0: run["start"], **{int(step): taken for step, taken in run.get("during", {}).items()}}
            for step, taken in sorted(stages.items()):
                rows.append(
                    {
                        "network": run["kind"],
                        "layers": run["depth"],
                        "step": step,
                        "growth": taken["grown"],
                        "first_weights": taken["weights"][0],
                        "last_weights": taken["weights"][-2],
                        "loss": taken["loss"],
                    }
                )
    return rows


def shortcut_rows(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """Errors with each kind of shortcut, and how the gradient grows at the start of a deeper net."""
    rows = []
    for kind in names(measured["shortcuts"]):
        runs, start = of(measured["shortcuts"], kind=kind), of(measured["shortcuts_start"], kind=kind)
        errors = [run.get("test_error", math.nan) for run in runs]
        rows.append(
            {
                "network": kind,
                "parameters": runs[0]["parameters"],
                "train_error": mean_error(runs, "train_error"),
                "test_error": mean_error(runs, "test_error"),
                "test_smallest": min(errors),
                "test_largest": max(errors),
                "growth_of_the_deep_net": middle(values(start, "grown")),
            }
        )
    return rows


def padding_rows(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """What zeros around the borders cost the gradient of a plain net, beside what they should."""
    depth = measured["settings"]["gain_depth"]
    zeros = of(measured["start"], kind="plain, no BatchNorm", depth=depth)
    sides = [measured["settings"]["size"] // part for part in (1, 2, 4)]
    pairs = [("zeros around the borders", zeros, math.prod(1 - 2 / (3 * side) for side in sides) ** (1 / 3))]
    pairs.append(("wrapping around", measured["wrapped_start"], 1.0))
    return [
        {
            "padding": words,
            "layers": depth,
            "per_layer": middle(values(rows, "per_layer")),
            "expected_per_layer": theory,
        }
        for words, rows, theory in pairs
        if rows
    ]


def rate_rows(runs: Rows) -> list[dict[str, Any]]:
    """Errors at each learning rate with and without BatchNorm, and which rate was chosen."""
    best = best_rates(runs)
    return [
        {
            "network": spelled(run["kind"]),
            "learning_rate": run["lr"],
            "held_out_error": run.get("watch_error"),
            "train_error": run.get("train_error"),
            "test_error": run.get("test_error"),
            "outcome": "diverged" if run["diverged"] else "chosen" if best[run["kind"]] is run else "",
        }
        for run in runs
    ]


def family_row(row: dict[str, Any]) -> dict[str, Any]:
    """One row of the table of families, with its block and its published error."""
    name = row["network"]
    return {
        "network": name,
        "year": row["year"],
        "block": next((word for start, word in BLOCKS.items() if name.startswith(start)), "bottleneck"),
        "layers": row["layers"],
        "parameters": row["parameters"],
        "gmacs": row["macs"] / 1e9,
        "published_top1_error": PUBLISHED_TOP1.get(name),
    }
