"""Which films are labelled next: a known mixture of chance and interest, with each film's probability kept.

Labelling only what a model doubts teaches it, and spoils every estimate: so 40 % of the draw is by chance alone, 30 %
by doubt, 20 % by distance from what is labelled, 10 % by disagreement. The parts are mixed into one probability a film,
and a systematic sample (Madow 1949, doi:10.1214/aoms/1177729988) draws exactly with these probabilities. They are kept,
so that whoever measures performance on these labels can weight by their inverses.
"""

from dataclasses import dataclass

import numpy as np

from hilum.arrays import Array, Indices, Vector
from hilum.errors import DataError, UsageError

SHARES = {"random": 0.40, "uncertain": 0.30, "diverse": 0.20, "disagreement": 0.10}
"""Parts of the mixture."""

AT_ONCE = 2048


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Selection:
    """Films that were drawn."""

    rows: Indices
    """Numbers of the films, ascending."""
    probability: Vector
    """[n] probability of every film, drawn or not, of being drawn."""


def uncertainty(probs: Array) -> Vector:
    """Entropy of each film's probabilities [n, k], in nats."""
    known = np.clip(probs, 1e-12, 1.0)
    found: Vector = -(known * np.log(known)).sum(axis=1)
    return found


def distance_to_labelled(features: Array, labelled: Array) -> Vector:
    """Distance of each film to the nearest labelled one, in standard deviations of the features; ones without any.

    Args:
        features: [n, d] of films to choose from.
        labelled: [m, d] of labelled films.
    """
    if not len(labelled) or not features.shape[1]:
        return np.ones(len(features))
    spread = np.concatenate([features, labelled]).astype(np.float64).std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    known = labelled / scale
    squares, parts = (known**2).sum(axis=1), []
    for start in range(0, len(features), AT_ONCE):
        block = features[start : start + AT_ONCE] / scale
        apart = (block**2).sum(axis=1)[:, None] + squares[None] - 2 * block @ known.T
        parts.append(np.sqrt(np.maximum(apart, 0.0).min(axis=1)))
    return np.concatenate(parts)


def select(
    count: int, rng: np.random.Generator, *, uncertain: Vector, diverse: Vector, disagreement: Vector
) -> Selection:
    """Draw films.

    Args:
        count: how many.
        rng: chance.
        uncertain: [n] ≥ 0, such as :func:`uncertainty`.
        diverse: [n] ≥ 0, such as :func:`distance_to_labelled`.
        disagreement: [n] ≥ 0, such as the members' spread.

    Raises:
        UsageError: more films than there are, or none.
        DataError: vectors of different lengths, or values below 0 or NaN.
    """
    n = len(uncertain)
    if not 1 <= count <= n:
        raise UsageError(f"{count} films can't be drawn from {n}. Give a number between 1 and {n}.")
    parts = {"uncertain": uncertain, "diverse": diverse, "disagreement": disagreement}
    for name, values in parts.items():
        if len(values) != n or np.isnan(values).any() or (values < 0).any():
            raise DataError(f"{name} must hold {n} values from 0 up, without NaN; it holds {len(values)}.")
    mixture = np.full(n, SHARES["random"] / n)
    for name, values in parts.items():
        total = float(values.sum())
        mixture += SHARES[name] * (values / total if total > 0 else np.full(n, 1 / n))
    probability = inclusion(mixture, count)
    return Selection(rows=_systematic(probability, count, rng), probability=probability)


def inclusion(mixture: Vector, count: int) -> Vector:
    """Probabilities of being drawn, at most 1, that are proportional to the mixture otherwise and sum to ``count``."""
    probability, sure = np.zeros(len(mixture)), np.zeros(len(mixture), dtype=bool)
    while True:
        free = ~sure
        left = count - int(sure.sum())
        probability[sure] = 1.0
        if left > 0:
            probability[free] = left * mixture[free] / mixture[free].sum()
        over = free & (probability >= 1.0)
        if not over.any() or left <= 0:
            return np.minimum(probability, 1.0)
        sure |= over


def _systematic(probability: Vector, count: int, rng: np.random.Generator) -> Indices:
    order = rng.permutation(len(probability))
    ends = np.cumsum(probability[order])
    ends *= count / ends[-1]  # rounding must not lose the last film
    marks = rng.random() + np.arange(count)
    drawn = np.minimum(np.searchsorted(ends, marks, side="right"), len(order) - 1)
    found: Indices = np.sort(order[drawn])
    return found
