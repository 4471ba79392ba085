"""How much a linear model reads from frozen features: ridge regression on the classes, its strength chosen inside."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer

from hilum.arrays import Array, Indices
from hilum.errors import DataError
from hilum.randomness import stream

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Penalties that are tried, for each image that is fitted."""

HELD_OUT = 0.25
"""Share of the training images on which the penalty is chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a linear model reads from features."""

    right: int
    """Test images whose class it names."""
    n: int
    """Test images."""
    strength: float
    """The penalty that was chosen."""
    features: int
    """How many features an image has."""


def linear_probe(
    train: tuple[Float[np.ndarray, "n d"], Integer[np.ndarray, " n"]],
    test: tuple[Float[np.ndarray, "m d"], Integer[np.ndarray, " m"]],
    *,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> Probe:
    """Fit a linear classifier to features and count what it gets right on others.

    Least squares on one-hot classes with an L2 penalty (Hoerl, Kennard 1970, doi:10.1080/00401706.1970.10488634), on
    features standardised with the training images. The penalty is the one that names most of a held-out quarter of the
    training images; then all of them are fitted. The test images choose nothing.

    Args:
        train: features, finite, and classes from 0.
        test: the same of other images.
        strengths: penalties to choose from; the strongest wins a tie.
        seed: of the choice of the held-out images.

    Raises:
        DataError: lengths that disagree, fewer than 8 training images, or features that are not finite.
    """
    values = [np.asarray(part[0], dtype=np.float64) for part in (train, test)]
    _check(values, [len(train[1]), len(test[1])])
    labels = np.asarray(train[1], dtype=np.int64)
    order = stream(seed, "linear probe").permutation(len(labels))
    held, fitted = np.split(order, [round(HELD_OUT * len(order))])
    scores = _right(values[0], labels, fitted, values[0][held], labels[held], strengths)
    best = max(zip(scores, strengths, strict=True))[1]
    right = _right(values[0], labels, order, values[1], np.asarray(test[1], dtype=np.int64), [best])[0]
    return Probe(right=right, n=len(test[1]), strength=best, features=values[0].shape[1])


def _right(
    features: Array, labels: Indices, rows: Indices, others: Array, truths: Indices, strengths: Sequence[float]
) -> list[int]:
    """How many of the others each penalty names, fitted to these rows."""
    own = features[rows]
    mean, scale = own.mean(0), 1 / own.std(0).clip(1e-6)
    own = (own - mean) * scale
    targets = np.eye(int(labels.max()) + 1)[labels[rows]]
    centre = targets.mean(0)
    # One decomposition serves all penalties: w = V · s/(s² + λ) · Uᵀ(y − ȳ).
    left, spread, across = np.linalg.svd(own, full_matrices=False)
    inside = left.T @ (targets - centre)
    reach = ((others - mean) * scale) @ across.T
    found = []
    for strength in strengths:
        shrunk = (spread / (spread**2 + strength * len(rows)))[:, None] * inside
        found.append(int(((reach @ shrunk + centre).argmax(1) == truths).sum()))
    return found


def _check(values: Sequence[Array], labels: Sequence[int]) -> None:
    shapes = [value.shape for value in values]
    if any(value.ndim != 2 for value in values) or shapes[0][1:] != shapes[1][1:] or labels != [s[0] for s in shapes]:
        raise DataError(
            f"Features {shapes[0]} and {shapes[1]} with {labels} labels don't match. Give one row an image."
        )
    if labels[0] < 8:
        raise DataError(
            f"{labels[0]} images are too few for a linear probe, which also holds some out. Give 8 or more."
        )
    if not all(np.isfinite(value).all() for value in values):
        raise DataError("Some features are not finite. Look for a network whose training diverged.")
