"""What usual films look like to a model: the reference for out-of-distribution films and for drift."""

import math
from dataclasses import dataclass, field

import numpy as np

from hilum.arrays import Array, Scores, Vector
from hilum.errors import ConfigError, DataError

LEVELS = tuple(round(i / 20, 2) for i in range(21))
"""Quantile levels that a drift reference keeps: 0, 0.05 … 1."""

_FLOOR = 1e-6
"""Least scale of a feature, relative to the largest one: a feature that never moved must not divide by zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OodReference:
    """Mean and scale of each feature on fitted films, and how far from them a usual film lies.

    The distance of a film is the root mean square of its standardised features, ``sqrt(mean(((f − mean) / scale)²))``:
    about 1 for a usual film, and growing without bound. It is a Mahalanobis distance with a diagonal covariance,
    divided by √d.

    Raises:
        ConfigError: lengths that disagree, a scale or threshold that is not positive.
    """

    mean: tuple[float, ...]
    """Mean of each feature."""
    scale: tuple[float, ...]
    """Standard deviation of each feature, > 0."""
    threshold: float
    """Distance beyond which a film is called unlike the fitted ones."""
    films: int = 0
    """Films that the mean and scale come from."""

    def __post_init__(self) -> None:
        numbers = (*self.mean, *self.scale, self.threshold)
        if len(self.mean) != len(self.scale) or not self.mean or not all(math.isfinite(value) for value in numbers):
            raise ConfigError(
                [
                    f"ood needs as many means as scales, all finite, but has {len(self.mean)} and {len(self.scale)}. "
                    "Compute them from the features of the fitted films."
                ]
            )
        if min(self.scale) <= 0 or self.threshold <= 0:
            raise ConfigError(
                [f"ood needs scales and a threshold above 0, but has {min(self.scale)} and {self.threshold}."]
            )

    @classmethod
    def of(cls, features: Scores, *, held_out: Scores | None = None, share: float = 0.99) -> "OodReference":
        """From films.

        Args:
            features: [n, d] of the films that the model was fitted on, n ≥ 2.
            held_out: [m, d] of usual films that it was not fitted on; they set the threshold. Fitted films lie a little
                too close, so without held-out ones the threshold is strict.
            share: share of the usual films that the threshold lets pass.

        Raises:
            DataError: fewer than two films, or features that are not numbers.
        """
        values = _checked(features, "An out-of-distribution reference")
        usual = values if held_out is None or not len(held_out) else np.asarray(held_out, dtype=np.float64)
        mean, scale = values.mean(axis=0), _scale(values)
        distance = _distance(usual, mean, scale)
        return cls(
            mean=tuple(mean.tolist()),
            scale=tuple(scale.tolist()),
            threshold=float(max(np.quantile(distance, share), _FLOOR)),
            films=len(values),
        )

    def distance(self, features: Scores) -> Vector:
        """Distance of each film, [n], from features [n, d].

        Raises:
            DataError: another number of features.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise DataError(
                f"The out-of-distribution reference knows {len(self.mean)} features, but got {features.shape}. "
                "Use the model that it was made with."
            )
        return _distance(np.asarray(features, dtype=np.float64), np.asarray(self.mean), np.asarray(self.scale))


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReference:
    """What features, scores and labels looked like on reference films; monitoring compares with it."""

    films: int
    """Films that it comes from."""
    feature_mean: tuple[float, ...]
    """Mean of each feature."""
    feature_std: tuple[float, ...]
    """Standard deviation of each feature."""
    probs_quantiles: dict[str, tuple[float, ...]]
    """Quantiles of each finding's probability at :data:`LEVELS`."""
    label_shares: dict[str, float]
    """Share of the films whose likeliest finding it is."""
    uncertainty_quantiles: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Quantiles at :data:`LEVELS` of named uncertainties, such as ``mutual_information``."""

    @classmethod
    def of(
        cls,
        *,
        features: Scores,
        probs: Scores,
        findings: tuple[str, ...],
        uncertainty: dict[str, Vector] | None = None,
    ) -> "DriftReference":
        """From films that the model has not been fitted on.

        Args:
            features: [n, d], n ≥ 2.
            probs: [n, k] calibrated probabilities.
            findings: k names.
            uncertainty: named vectors [n].

        Raises:
            DataError: fewer than two films, values that are not numbers, or shapes that disagree.
        """
        values, scores = _checked(features, "A drift reference"), _checked(probs, "A drift reference")
        if scores.shape != (len(values), len(findings)):
            raise DataError(
                f"A drift reference of {len(values)} films and {len(findings)} findings needs probabilities "
                f"[{len(values)}, {len(findings)}], but got {scores.shape}."
            )
        likeliest = scores.argmax(axis=1)
        return cls(
            films=len(values),
            feature_mean=tuple(values.mean(axis=0).tolist()),
            feature_std=tuple(values.std(axis=0).tolist()),
            probs_quantiles={name: _quantiles(scores[:, i]) for i, name in enumerate(findings)},
            label_shares={name: float((likeliest == i).mean()) for i, name in enumerate(findings)},
            uncertainty_quantiles={name: _quantiles(v) for name, v in (uncertainty or {}).items()},
        )


def heatmap_top(cams: Array, percent: float = 99.5) -> float:
    """Activation that heat maps show as full heat: a percentile of reference films' maps.

    Args:
        cams: [n, k, h, w] activations ≥ 0 of reference films, in units of logit.
        percent: percentile over all pixels that are above 0.

    Returns:
        the top of the scale, > 0; 1.0 where no map has any heat.
    """
    hot = np.asarray(cams)[np.asarray(cams) > 0]
    return float(np.percentile(hot, percent)) if hot.size else 1.0


def _checked(values: Scores, what: str) -> Scores:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 2 or len(numbers) < 2 or not np.isfinite(numbers).all():
        raise DataError(f"{what} needs finite values of two or more films, but got {numbers.shape}.")
    return numbers


def _scale(values: Scores) -> Vector:
    std: Vector = values.std(axis=0)
    largest = float(std.max())
    scale: Vector = np.maximum(std, largest * _FLOOR if largest > 0 else 1.0)
    return scale


def _distance(values: Scores, mean: Vector, scale: Vector) -> Vector:
    distance: Vector = np.sqrt(np.mean(((values - mean) / scale) ** 2, axis=1))
    return distance


def _quantiles(values: Vector) -> tuple[float, ...]:
    return tuple(np.quantile(np.asarray(values, dtype=np.float64), LEVELS).tolist())
