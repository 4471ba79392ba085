"""Uncertainty in numbers: spread and mutual information of samples or members, dropout in closed form, and distance.

A sample is one answer of a network with some units left out, or of one member of an ensemble; both are the same here.
"""

from dataclasses import dataclass

import numpy as np

from hilum.arrays import Array, Indices, Scores, Vector
from hilum.errors import DataError


@dataclass(frozen=True, slots=True)
class Spread:
    """What several answers to the same films say together.

    Attributes:
        mean: [n, k] mean probabilities: the ensemble's answer.
        std: [n, k] standard deviation over answers.
        entropy: [n] of the mean, in nats: all uncertainty.
        expected_entropy: [n] mean of each answer's own entropy: what the film itself leaves open.
        mutual_information: [n] the difference, ≥ 0: what the answers don't agree on.
    """

    mean: Scores
    std: Scores
    entropy: Vector
    expected_entropy: Vector
    mutual_information: Vector


def entropy(probs: Array) -> Array:
    """Entropy over the last axis in nats; 0 log 0 is 0."""
    from scipy.special import entr

    found: Array = entr(probs).sum(axis=-1)
    return found


def spread_of(probs: Array) -> Spread:
    """Spread of several answers.

    Args:
        probs: [t, n, k] probabilities of t samples or members, rows sum to 1.

    Raises:
        DataError: another shape, or no answer.

    Source: Houlsby et al. 2011, arXiv:1112.5745 (mutual information); Gal and Ghahramani 2016 (ICML), arXiv:1506.02142
    (dropout); Lakshminarayanan et al. 2017 (NeurIPS), arXiv:1612.01474 (ensembles).
    """
    if probs.ndim != 3 or not len(probs):
        raise DataError(f"Several answers are probabilities [t, n, k] with t ≥ 1, but got {probs.shape}.")
    mean = probs.mean(axis=0)
    whole, own = entropy(mean), entropy(probs).mean(axis=0)
    return Spread(mean, probs.std(axis=0), whole, own, np.maximum(0.0, whole - own))


def dropout_logits(hidden: Array, weight: Array, bias: Vector, rate: float) -> tuple[Scores, Scores]:
    """Mean and variance of logits under dropout in front of the last layer, in closed form.

    The kept units are scaled by 1/(1 − p), so each contributes its own w·h on average, with variance p/(1 − p)·(w·h)²;
    the units are dropped independently, so variances add up.

    Args:
        hidden: [n, d] activations that dropout acts on.
        weight: [k, d] of the last layer.
        bias: [k].
        rate: p, the share dropped, 0 … 1 exclusive.

    Returns:
        [n, k] means, which are the logits without dropout, and [n, k] variances.

    Raises:
        DataError: a rate outside 0 … 1.
    """
    if not 0 <= rate < 1:
        raise DataError(f"The dropout rate is {rate:g}, but must be at least 0 and below 1.")
    means: Scores = hidden @ weight.T + bias
    variances: Scores = rate / (1 - rate) * (hidden**2) @ (weight**2).T
    return means, variances


def mean_field_probs(means: Scores, variances: Scores) -> Scores:
    """Mean probabilities of logits with independent normal errors, without sampling.

    The difference of each two logits is drawn towards zero by 1/√(1 + π·variance/8), MacKay's approximation for two
    classes, and the pairs are put together as in the softmax. Rows are divided by their sum.

    Args:
        means: [n, k] logits.
        variances: [n, k], ≥ 0.

    Source: MacKay 1992, Neural Comput 4:720, doi:10.1162/neco.1992.4.5.720; several classes: Lu, Ie and Sha 2020,
    arXiv:2006.07584.
    """
    apart = means[:, :, None] - means[:, None, :]
    drawn = apart / np.sqrt(1 + np.pi * (variances[:, :, None] + variances[:, None, :]) / 8)
    drawn[:, *np.diag_indices(means.shape[1])] = 0.0
    own = 1 / np.exp(np.clip(-drawn, None, 700)).sum(axis=2)
    probs: Scores = own / own.sum(axis=1, keepdims=True)
    return probs


@dataclass(frozen=True, slots=True)
class FeatureDistance:
    """How far features lie from those of known films: Mahalanobis distance to the nearest class.

    Attributes:
        means: [c, d] mean of each class.
        precision: [d, d] inverse of the covariance within classes, shrunk towards its diagonal.
        shrinkage: how much it was shrunk, 0 … 1.
        films: films that it comes from.
    """

    means: Array
    precision: Array
    shrinkage: float
    films: int

    @classmethod
    def of(cls, features: Array, classes: Indices) -> "FeatureDistance":
        """From films that the model was fitted on, or better, films like them.

        Args:
            features: [n, d].
            classes: [n] known classes; each needs a film.

        Raises:
            DataError: fewer than three films, values that are not finite, or shapes that disagree.

        Source: Lee et al. 2018 (NeurIPS), arXiv:1807.03888; shrinkage: Schäfer and Strimmer 2005, Stat Appl Genet Mol
        Biol 4:32, doi:10.2202/1544-6115.1175 (towards the diagonal).
        """
        values = np.asarray(features, dtype=np.float64)
        if values.ndim != 2 or len(values) != len(classes) or len(values) < 3 or not np.isfinite(values).all():
            raise DataError(
                f"A distance needs finite features [n, d] of three or more films with a class each, but got "
                f"{values.shape} for {len(classes)} classes."
            )
        kinds, inverse = np.unique(classes, return_inverse=True)
        means = np.stack([values[inverse == c].mean(axis=0) for c in range(len(kinds))])
        apart = values - means[inverse]
        covariance, shrinkage = _shrunk(apart, max(1, len(values) - len(kinds)))
        return cls(means, np.linalg.pinv(covariance), shrinkage, len(values))

    def distance(self, features: Array) -> Vector:
        """Distance to the nearest class, [n], divided by √d: about 1 for a film like those it was made from.

        Raises:
            DataError: another number of features.
        """
        values = np.asarray(features, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != self.means.shape[1]:
            raise DataError(
                f"The distance knows {self.means.shape[1]} features, but got {values.shape}. Use the same model."
            )
        squares = np.stack([np.einsum("nd,de,ne->n", x := values - mean, self.precision, x) for mean in self.means])
        nearest: Vector = np.sqrt(np.maximum(0, squares.min(axis=0)) / values.shape[1])
        return nearest


def _shrunk(apart: Array, freedom: int) -> tuple[Array, float]:
    """Covariance of deviations [n, d], correlations shrunk by the amount that minimises the expected squared error."""
    n = len(apart)
    covariance = apart.T @ apart / freedom
    scale = np.sqrt(np.diag(covariance))
    scale = np.where(scale > 1e-12 * max(1e-300, float(scale.max())), scale, 1.0)
    standard = apart / scale
    correlation = standard.T @ standard / freedom
    squares = (standard**2).T @ (standard**2) / n
    noise = (squares - (standard.T @ standard / n) ** 2) / max(1, n - 1)
    off = ~np.eye(len(scale), dtype=bool)
    total = float((correlation[off] ** 2).sum())
    shrinkage = float(np.clip(noise[off].sum() / total, 0.0, 1.0)) if total > 0 else 1.0
    correlation = np.where(off, (1 - shrinkage) * correlation, correlation)
    return correlation * np.outer(scale, scale), shrinkage
