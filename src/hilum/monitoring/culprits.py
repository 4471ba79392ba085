"""What changed: a domain classifier that tells the window's films from the reference's, and the attribute that lets it.

A cross-fitted linear classifier is trained on each attribute alone and on all together; its AUROC on films that it was
not fitted to says how well the two can be told apart. Attributes stand in causal order: a new device changes grey
values, features and scores as well, but not the other way round. The culprit is the first attribute that explains most
of what any attribute explains.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hilum.arrays import Array, Vector
from hilum.errors import DataError
from hilum.evaluation.delong import midranks
from hilum.randomness import stream
from hilum.records.observations import STATISTICS, Classes, Observations

ORDER = ("device", "view position", "population", "image size", "polarity", "exposure", "prevalence", "features")
"""Attributes, causes before what they cause."""

FIT = STATISTICS.index("frontal_fit")
"""Turned round by an inverted film: two dark lungs become two light ones. Illness only lowers it a little, so that what
counts is how many films fit worse than nearly all of the reference."""

RARE_FIT = 0.02
"""Share of the reference that fits so badly."""

ENOUGH = 0.6
"""Share of the largest distance from chance that the first attribute must have to be named."""

CLEAR_ERRORS = 2.5
"""Standard errors above chance that an attribute must have to be named at all."""

FOLDS = 5
RIDGE = 1.0
MOST = 4000
"""Most films a side; more are thinned by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Culprit:
    """What tells the window from the reference."""

    name: str
    """One of :data:`ORDER`; empty when nothing does."""
    aurocs: Mapping[str, float]
    """By attribute, alone, and ``all`` together; 0.5 is chance."""
    error: float
    """Standard error of an AUROC at chance at these sizes."""

    @property
    def sentence(self) -> str:
        """The same for a person."""
        if not self.name:
            return "No attribute tells the new films from the reference."
        return (
            f"{self.name.capitalize()} tells the new films from the reference best "
            f"(AUROC {self.aurocs[self.name]:.2f}; all attributes together {self.aurocs['all']:.2f}, chance 0.50)."
        )


def name_culprit(reference: Observations, window: Observations, *, seed: int = 0) -> Culprit:
    """Name the attribute that changed.

    Args:
        reference: what is usual.
        window: films of the looks that found something.
        seed: of the folds.

    Raises:
        DataError: fewer films than folds on a side.
    """
    if min(len(reference), len(window)) < FOLDS:
        raise DataError(f"A classifier in {FOLDS} folds needs {FOLDS} films a side; {len(window)} are in the window.")
    rng = stream(seed, "culprit", len(reference), len(window))
    reference, window = (_thinned(one, rng) for one in (reference, window))
    new = np.repeat([False, True], [len(reference), len(window)])
    blocks = attributes(reference, window)
    fold = _folds(new, rng)
    aurocs = {name: cross_fitted_auroc(block, new, fold) for name, block in blocks.items()}
    aurocs["all"] = cross_fitted_auroc(np.column_stack(list(blocks.values())), new, fold)
    n, m = len(reference), len(window)
    error = float(np.sqrt((n + m + 1) / (12 * n * m)))
    return Culprit(name=_first(aurocs, error), aurocs=aurocs, error=error)


def _first(aurocs: Mapping[str, float], error: float) -> str:
    above = {name: aurocs[name] - 0.5 for name in ORDER if name in aurocs}
    best = max(above.values(), default=0.0)
    named = [name for name, one in above.items() if one >= ENOUGH * best and one >= CLEAR_ERRORS * error]
    return named[0] if named else ""


def _thinned(films: Observations, rng: np.random.Generator) -> Observations:
    return films if len(films) <= MOST else films.select(np.sort(rng.choice(len(films), MOST, replace=False)))


def attributes(reference: Observations, window: Observations) -> dict[str, Array]:
    """Each attribute as numbers [n + m, d], reference first."""

    def both(column: str) -> Classes:
        a, b = reference.groups[column], window.groups[column]
        return Classes(codes=np.concatenate([a.codes, b.codes]), levels=a.levels)

    pixels = _ranked(np.concatenate([reference.statistics, window.statistics]))
    fit = np.concatenate([reference.statistics[:, FIT], window.statistics[:, FIT]])
    turned = fit < np.nanquantile(reference.statistics[:, FIT], RARE_FIT)
    others = [i for i in range(len(STATISTICS)) if i != FIT]
    blocks = {
        "device": _one_hot(both("device")),
        "view position": _one_hot(both("view_position")),
        "population": np.column_stack([_one_hot(both("sex")), _one_hot(both("age_band"))]),
        "image size": _one_hot(both("size_class")),
        "polarity": turned[:, None].astype(np.float64),
        "exposure": pixels[:, others],
        "prevalence": _ranked(np.concatenate([reference.scores, window.scores])),
    }
    if reference.features.shape[1]:
        blocks["features"] = _ranked(np.concatenate([reference.features, window.features]).astype(np.float32))
    return blocks


def _one_hot(column: Classes) -> Array:
    hot: Array = (column.codes[:, None] == np.arange(len(column.levels))[None]).astype(np.float64)
    return hot


def _ranked(values: Array) -> Array:
    """Columns as ranks in −1 … 1, so that outliers weigh no more than others; NaN as the middle."""
    ranks = np.argsort(np.argsort(values, axis=0, kind="stable"), axis=0, kind="stable")
    scaled: Array = 2.0 * (ranks + 0.5) / len(values) - 1.0
    return np.where(np.isnan(values), 0.0, scaled)


def _folds(new: Array, rng: np.random.Generator) -> Array:
    """A fold a film, even over both sides."""
    fold = np.empty(len(new), dtype=np.int64)
    for side in (False, True):
        rows = np.flatnonzero(new == side)
        fold[rng.permutation(rows)] = np.arange(len(rows)) % FOLDS
    return fold


def cross_fitted_auroc(block: Array, new: Array, fold: Array) -> float:
    """AUROC of a ridge discriminant on films that it was not fitted to; means over folds.

    Args:
        block: [n, d] numbers.
        new: [n] true for the window.
        fold: [n] which fold holds a film out.
    """
    found = [_held_out(block, new, fold != one, fold == one) for one in range(FOLDS)]
    return float(np.mean(found))


def _held_out(block: Array, new: Array, fitted: Array, held: Array) -> float:
    x, y = block[fitted], new[fitted]
    difference = x[y].mean(axis=0) - x[~y].mean(axis=0)
    centred = np.concatenate([x[y] - x[y].mean(axis=0), x[~y] - x[~y].mean(axis=0)])
    spread = centred.T @ centred / len(centred)
    scale = float(np.trace(spread)) / len(spread)
    ridge = (RIDGE * len(spread) / len(centred) + 1e-3) * (scale if scale > 0 else 1.0)
    weights = np.linalg.solve(spread + ridge * np.eye(len(spread)), difference)
    return _auroc(block[held] @ weights, new[held])


def _auroc(scores: Vector, positive: Array) -> float:
    m = int(positive.sum())
    n = len(positive) - m
    return float((midranks(scores)[positive].sum() - m * (m + 1) / 2) / (m * n))


def largest_class_change(reference: Sequence[int] | Array, window: Sequence[int] | Array, levels: Sequence[str]) -> str:
    """The class whose share grew most, for a sentence such as ``device: Detector B, 0 % → 31 %``."""
    before, after = (np.asarray(one) / max(1, int(np.sum(one))) for one in (reference, window))
    place = int(np.argmax(after - before))
    return f"{levels[place]}, {100 * before[place]:.0f} % → {100 * after[place]:.0f} %"
