"""What the study of residual connections says: its main numbers and its finding, computed from the measurements."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hilum.evaluation.paired import sign_test
from hilum.intervals import numeral
from hilum.reports.canvas import brief
from hilum.studies.outcome import Number, over_seeds

Rows = Sequence[dict[str, Any]]

PAPER = "He, Zhang, Ren, Sun 2016, CVPR, doi:10.1109/CVPR.2016.90"
PUBLISHED_ERRORS = {20: "8.75", 32: "7.51", 44: "7.17", 56: "6.97", 110: "6.43 (mean of five 6.61)"}
"""Test errors of table 6 in per cent: residual nets, all 50,000 training images at 32 px, 64,000 steps, augmented."""
PUBLISHED_MILLIONS = {20: "0.27", 32: "0.46", 44: "0.66", 56: "0.85", 110: "1.7"}
UNCHECKED = "read in transcripts of the paper, not in its PDF"

EXPONENTIAL = 0.03
"""A gradient that every further layer multiplies by 1.03 or more, or by 0.97 or less, is called exponential."""
SURE = 0.05
"""Two nets differ on the test images where the exact sign test gives less than this with every seed."""


def of(rows: Rows, **wanted: Any) -> list[dict[str, Any]]:
    """The rows in which these keys have these values."""
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def values(rows: Rows, key: str) -> list[float]:
    """The values of one key; infinite where there was an overflow."""
    return [math.inf if row[key] is None else float(row[key]) for row in rows]


def middle(numbers: Sequence[float]) -> float:
    """Geometric mean of numbers above 0."""
    return math.exp(sum(map(math.log, numbers)) / len(numbers)) if all(map(math.isfinite, numbers)) else math.inf


def names(rows: Rows) -> list[str]:
    """The kinds of nets in their order."""
    return list(dict.fromkeys(row["kind"] for row in rows))


def spelled(kind: str) -> str:
    """A kind among the four that cross shortcuts with BatchNorm: ``plain, BatchNorm``."""
    return kind if kind.endswith("no BatchNorm") else f"{kind}, BatchNorm"


def further(start: Rows, kind: str) -> float:
    """What each further layer multiplies the gradient at the first block by, between the two deepest nets."""
    depths = sorted({row["depth"] for row in start})
    low, high = (middle(values(of(start, kind=kind, depth=depth), "grown")) for depth in depths[-2:])
    return float((high / low) ** (1 / (depths[-1] - depths[-2])))


def finding(measured: dict[str, Any]) -> str:
    """The finding, sentence by sentence."""
    return " ".join((*start_words(measured), blame_words(measured), depth_words(measured), side_words(measured)))


def start_words(measured: dict[str, Any]) -> tuple[str, str]:
    """What becomes of the gradient before training, and who keeps it."""
    start = measured["start"]
    depth = _near(sorted({row["depth"] for row in start}), measured["settings"]["gain_depth"])
    factors = {kind: further(start, kind) for kind in names(start)}
    grown = {kind: middle(values(of(start, kind=kind, depth=depth), "grown")) for kind in factors}
    told = "; ".join(
        f"{spelled(kind)}: × {brief(grown[kind])}, and × "
        f"{factors[kind]:.3f} for each further layer ({_fate(factors[kind])})"
        for kind in factors
    )
    kept = [kind for kind, factor in factors.items() if abs(factor - 1) < EXPONENTIAL]
    if kept == ["residual"]:
        moral = "So neither shortcuts nor BatchNorm alone keep its size; the two together do."
    elif kept:
        moral = f"So its size is kept in: {'; '.join(map(spelled, kept))}."
    else:
        moral = "So none of the four keeps its size."
    return (
        f"Before any step, the gradient's norm on its way from the last block down to the first of {depth} layers "
        f"changes as follows. {told[0].upper()}{told[1:]}.",
        moral,
    )


def _fate(factor: float) -> str:
    if factor <= 1 - EXPONENTIAL:
        return "it vanishes"
    return "it explodes" if factor >= 1 + EXPONENTIAL else "it keeps its size"


def _near(depths: Sequence[int], wanted: int) -> int:
    return min(depths, key=lambda depth: abs(depth - wanted))


def blame_words(measured: dict[str, Any]) -> str:
    """Whether vanishing gradients are why the deep plain net trains badly."""
    plain = of(measured["degradation"], kind="plain", seed=0)
    deep, shallow = plain[-1], min(plain, key=lambda run: run.get("train_error", math.inf))
    if deep["diverged"] or deep is shallow:
        return f"The plain net of {deep['depth']} layers {'diverged' if deep['diverged'] else 'trains best of all'}."
    first = deep["start"]["grown"] or math.inf
    steps = sorted(map(int, deep["during"]))
    last = deep["during"][str(steps[-1])]["grown"] or math.inf
    fades = min(first, last) < 0.1
    return (
        f"The plain net of {deep['depth']} layers ends with {deep['train_error']:.0f} % error on its own training "
        f"images (that of {shallow['depth']}: {shallow['train_error']:.0f} %), "
        + ("where" if fades else "but not because its gradient vanishes:")
        + f" the gradient at its first block is {brief(first)} times that at its last before the first step, and "
        f"{brief(last)} times after step {steps[-1]}."
    )


def depth_words(measured: dict[str, Any]) -> str:
    """Degradation, and whether more layers hurt the residual nets."""
    runs = measured["degradation"]
    told = {}
    for kind in ("plain", "residual"):
        told[kind] = ", ".join(
            f"{mean_error(of(runs, kind=kind, depth=depth), 'train_error'):.0f} % at {depth}" for depth in _depths(runs)
        )
    degraded = {kind: rises(runs, kind, "train_error") for kind in told}
    words = f"Training error of the plain nets by depth: {told['plain']}; of the residual nets: {told['residual']}. "
    if degraded["plain"]:
        words += "So plain nets degrade: with more layers they fit even the training images worse. "
    else:
        words += "So these plain nets do not degrade: with more layers they fit the training images better. "
    return words + hurt_words(measured)


def hurt_words(measured: dict[str, Any]) -> str:
    """The answer to ``more layers never hurt``, for the residual nets' test accuracy."""
    runs, steps = measured["degradation"], measured["settings"]["steps"]
    drops = [drop for drop in falls(runs, "residual") if drop["points"] > 0]
    if not drops:
        return (
            "More layers did not hurt the residual nets here: their test accuracy falls between no two neighbouring "
            f"depths after {steps:,} steps."
        )
    told = "; ".join(
        f"from {drop['from']} to {drop['to']} layers by {drop['points']:.1f} points "
        f"({'beyond chance' if drop['sure'] else 'within chance'}, sign test with each of {drop['seeds']} "
        f"seed{'s' if drop['seeds'] > 1 else ''})"
        for drop in drops
    )
    sure = any(drop["sure"] for drop in drops)
    verdict = "is refuted" if sure else "is neither refuted nor shown"
    return f'"More layers never hurt" {verdict} at {steps:,} steps: test accuracy of residual nets falls {told}.'


def _depths(runs: Rows) -> list[int]:
    return sorted({run["depth"] for run in runs})


def mean_error(runs: Rows, key: str) -> float:
    """Mean over seeds; NaN where one diverged."""
    found = [float(run.get(key, math.nan)) for run in runs]
    return sum(found) / len(found)


def rises(runs: Rows, kind: str, key: str) -> bool:
    """Whether the deepest net errs more than the best of all depths, by more than a point."""
    errors = [mean_error(of(runs, kind=kind, depth=depth), key) for depth in _depths(runs)]
    return errors[-1] > min(errors) + 1


def falls(runs: Rows, kind: str) -> list[dict[str, Any]]:
    """How test accuracy changes between neighbouring depths, seed by seed that both were trained with.

    Returns:
        rows with the depths, points lost (below 0: gained), seeds, and whether every seed loses beyond chance.
    """
    found = []
    depths = _depths(runs)
    for low, high in pairwise(depths):
        pairs = paired(of(runs, kind=kind, depth=low), of(runs, kind=kind, depth=high))
        if pairs:
            points = [b["test_error"] - a["test_error"] for a, b in pairs]
            sure = all(point > 0 and surely_differ(a, b) for point, (a, b) in zip(points, pairs, strict=True))
            mean = sum(points) / len(points)
            found.append({"from": low, "to": high, "points": mean, "seeds": len(pairs), "sure": sure})
    return found


def paired(first: Rows, second: Rows) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Runs of two nets with the same seed, of which neither diverged."""
    others = {run["seed"]: run for run in second if not run["diverged"]}
    return [(run, others[run["seed"]]) for run in first if run["seed"] in others and not run["diverged"]]


def surely_differ(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two nets' answers to the same test images differ beyond chance (exact sign test)."""
    only = [0, 0]
    for a, b in zip(first["right"], second["right"], strict=True):
        only[0], only[1] = only[0] + (a > b), only[1] + (b > a)
    return sign_test(*only) < SURE


def compared(first: Rows, second: Rows, name: str, other: str) -> str:
    """Which of two kinds errs less on the test images; says so only where every seed does beyond chance."""
    pairs = paired(first, second)
    if not pairs:
        return f"{name} can't be compared with {other}: no seed ended in both"
    points = sum(a["test_error"] - b["test_error"] for a, b in pairs) / len(pairs)
    seeds = f"{len(pairs)} seed{'s' if len(pairs) > 1 else ''}"
    if all(surely_differ(a, b) and (a["test_error"] > b["test_error"]) == (points > 0) for a, b in pairs):
        return f"{name} errs {abs(points):.1f} points {'more' if points > 0 else 'less'} than {other} ({seeds})"
    return f"{name} and {other} can't be told apart ({numeral(points, '+.1f')} points, {seeds})"


def side_words(measured: dict[str, Any]) -> str:
    """Shortcuts, and BatchNorm on and off."""
    runs, depth = measured["shortcuts"], measured["settings"]["side_depth"]
    identity = of(runs, kind="residual")
    told = [
        compared(of(runs, kind=kind), identity, kind.removeprefix("residual, "), "the identity (A)")
        for kind in names(runs)
        if kind not in ("plain", "residual")
    ]
    return f"Shortcuts at {depth} layers: {'; '.join(told)}. {norm_words(measured)}"


def norm_words(measured: dict[str, Any]) -> str:
    """What BatchNorm buys, each net at its own best learning rate."""
    best = best_rates(measured["rates"])
    parts = []
    for kind in ("plain", "residual"):
        bare, normed = best[f"{kind}, no BatchNorm"], best[kind]
        if bare["diverged"] or normed["diverged"]:
            parts.append(f"{kind} without BatchNorm trains at none of the learning rates tried")
        else:
            parts.append(
                f"{kind} {bare['test_error']:.0f} % without (learning rate {bare['lr']:g}), "
                f"{normed['test_error']:.0f} % with it ({normed['lr']:g})"
            )
    depth = measured["settings"]["side_depth"]
    return f"Test error at {depth} layers without and with BatchNorm: {'; '.join(parts)}."


def best_rates(runs: Rows) -> dict[str, dict[str, Any]]:
    """For each kind the run with the fewest errors on the training images held out."""
    best: dict[str, dict[str, Any]] = {}
    for run in runs:
        key = run["kind"]
        if key not in best or run.get("watch_error", math.inf) < best[key].get("watch_error", math.inf):
            best[key] = run
    return best


def main_numbers(measured: dict[str, Any]) -> tuple[Number, ...]:
    """The numbers on top of the report."""
    start, runs, settings = measured["start"], measured["degradation"], measured["settings"]
    depth = _near(sorted({row["depth"] for row in start}), settings["gain_depth"])
    found = [
        over_seeds(
            f"growth of the gradient per layer at the start, {spelled(kind)}, {depth} layers",
            values(of(start, kind=kind, depth=depth), "per_layer"),
            digits=3,
            **_theory(kind),
        )
        for kind in names(start)
    ]
    first = measured["blocks"][0]
    found.append(
        Number(
            name="largest difference of autograd from ∂L/∂y·(1 + ∂F/∂x), one block in float64",
            value=first["formula_off_by"] / 1e-15,
            unit="× 10⁻¹⁵",
            digits=1,
        )
    )
    for kind in ("plain", "residual"):
        for at in _depths(runs):
            found += _errors(of(runs, kind=kind, depth=at), kind, at)
    return tuple(found)


def _theory(kind: str) -> dict[str, str]:
    if kind == "plain":
        return {
            "published": "grows exponentially; wide ReLU layers: √(π/(π − 1)) = 1.211",
            "source": "Yang et al. 2019, ICLR, arXiv:1902.08129; derived in docs/topics/residual-learning.md",
        }
    return {}


def _errors(runs: Rows, kind: str, depth: int) -> list[Number]:
    if any(run["diverged"] for run in runs):
        return []
    published = {}
    if kind == "residual" and depth in PUBLISHED_ERRORS:
        published = {
            "published": f"{PUBLISHED_ERRORS[depth]} % (whole CIFAR-10, 32 px, 64,000 steps, augmented)",
            "source": f"{PAPER}, table 6; {UNCHECKED}",
        }
    return [
        over_seeds(f"training error, {kind}, {depth} layers", values(runs, "train_error"), unit="%", digits=1),
        over_seeds(f"test error, {kind}, {depth} layers", values(runs, "test_error"), unit="%", digits=1, **published),
    ]
