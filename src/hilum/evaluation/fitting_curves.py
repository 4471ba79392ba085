"""The curves of one training, checked, and the numbers that are read off them. Arrays only; epochs count from 1.

What is read is the loss and accuracy of each epoch on training images *as they are* and on validation images, both in
evaluation mode: the running accuracy of a training with augmentation or dropout is lower than what the network knows,
and hides the gap.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hilum.arrays import Array
from hilum.errors import DataError

_CURVES = ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy")

FEWEST = 3
"""Points below which a curve has no second difference, hence no noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitCurves:
    """One value an epoch, of one training.

    Raises:
        DataError: no epoch, curves of different lengths, a value that is not finite, a negative loss, or an accuracy
            outside 0 … 1; the curve and the epoch are named.
    """

    train_loss: Sequence[float]
    """Loss on training images as they are, in evaluation mode."""
    validation_loss: Sequence[float]
    """Loss on validation images."""
    train_accuracy: Sequence[float]
    """Accuracy on training images as they are, 0 … 1."""
    validation_accuracy: Sequence[float]
    """Accuracy on validation images, 0 … 1."""

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in _CURVES}
        if len(set(lengths.values())) != 1:
            told = ", ".join(f"{name} {count}" for name, count in lengths.items())
            raise DataError(f"The curves have different numbers of epochs ({told}). Give one value an epoch in each.")
        if not len(self.train_loss):
            raise DataError("The curves have no epoch. Give one value an epoch.")
        for name in _CURVES:
            self._check(name)

    def _check(self, name: str) -> None:
        for epoch, value in enumerate(getattr(self, name), start=1):
            if value is None or not math.isfinite(value):
                raise DataError(f"{name} is {value} in epoch {epoch}. Train with a lower rate, or leave the run out.")
            if value < 0 or (name.endswith("accuracy") and value > 1):
                wanted = "in 0 … 1, not per cent" if name.endswith("accuracy") else "0 or more"
                raise DataError(f"{name} is {value:g} in epoch {epoch}, but must be {wanted}.")

    @classmethod
    def of_rows(
        cls, rows: Sequence[Mapping[str, Any]], *, train: str = "probe", validation: str = "watch"
    ) -> "FitCurves":
        """Curves from the rows that training writes, one an epoch.

        Args:
            rows: with ``{train}_loss``, ``{train}_accuracy`` and the same of validation.
            train: prefix of the training images' columns; ``probe`` are images as they are.
            validation: prefix of the validation images' columns.

        Raises:
            DataError: a column that is missing or holds no value.
        """
        columns = {
            f"{part}_{kind}": f"{prefix}_{kind}"
            for part, prefix in (("train", train), ("validation", validation))
            for kind in ("loss", "accuracy")
        }
        missing = sorted({column for row in rows for column in columns.values() if row.get(column) is None})
        if missing:
            raise DataError(
                f"Rows lack {', '.join(missing)} in some epochs. Train with validation images and with probe images."
            )
        return cls(**{name: tuple(float(row[column]) for row in rows) for name, column in columns.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class FitFacts:
    """What is read off the curves. The end is the tail: the mean of the last epochs. Accuracies and gaps are 0 … 1."""

    epochs: int
    """Epochs looked at."""
    tail: int
    """Epochs at the end that count as the end."""
    best_epoch: int
    """Epoch of the lowest validation loss, outliers aside (a running median of three epochs, of more in a long run)."""
    best_loss: float
    """That loss."""
    settled_epoch: int
    """First epoch whose validation loss (running median) was as low as it ever got, up to noise and a small share."""
    end_loss: float
    """Validation loss at the end, of epochs behind the best one; the lowest where there are less than two."""
    rise: float
    """Rise of validation loss from its lowest value to the end."""
    rise_error: float
    """Standard error of that rise, from the noise of validation loss; NaN below three epochs."""
    noise: float
    """Standard deviation of validation loss from one epoch to the next, its trend and the steep first third aside; NaN
    below three epochs."""
    train_fall: float
    """Share by which training loss falls in an epoch at the end; negative when it rises."""
    train_fall_error: float
    """Standard error of that share, from the noise of training loss."""
    validation_fall: float
    """Share by which validation loss falls in an epoch at the end."""
    train_accuracy: float
    """Accuracy on training images at the end."""
    validation_accuracy: float
    """Accuracy on validation images at the end."""
    gap: float
    """Training minus validation accuracy at the end."""
    gap_when_settled: float
    """The same around the settled epoch (three epochs)."""
    gap_growth_error: float
    """Standard error of the gap's growth since then, from its noise."""
    accuracy_change: float
    """Validation accuracy at the end minus that around the epoch of the lowest validation loss."""
    gain_per_doubling: float | None
    """Validation accuracy that twice the training images bring, from a learning curve; None without one."""


def read_curves(
    curves: FitCurves,
    *,
    tail_share: float = 0.25,
    settled_share: float = 0.01,
    learning_curve: Sequence[tuple[int, float]] = (),
) -> FitFacts:
    """Read the numbers off the curves.

    Args:
        curves: of one training.
        tail_share: share of the epochs that count as the end; two epochs at least.
        settled_share: share of the lowest validation loss that is as low as the lowest.
        learning_curve: (training images, validation accuracy 0 … 1) of trainings that are alike but for the number of
            images; two or more sizes, or none.

    Raises:
        DataError: a learning curve of one size, or with a value that is no accuracy.
    """
    train_loss, loss, train, accuracy = (np.asarray(getattr(curves, name), dtype=np.float64) for name in _CURVES)
    epochs = len(loss)
    tail = min(epochs, max(2, round(tail_share * epochs)))
    gap, noise, width = train - accuracy, _late_noise(loss), max(3, 2 * (epochs // 16) + 1)
    smooth = _running_median(loss, width)
    best = int(np.argmin(smooth))
    # Of a mean over the tail, and of a median of so many values: π/2 the variance of their mean (for normal noise).
    error = noise * math.sqrt(1 / tail + math.pi / 2 / width)
    tolerance = max(settled_share * float(smooth[best]), 0.0 if math.isnan(error) else 1.5 * error)
    settled = int(np.argmax(smooth <= smooth[best] + tolerance))
    behind = loss[best + 1 :][-tail:]
    end = float(behind.mean()) if len(behind) > 1 else float(smooth[best])
    train_fall, train_fall_error = _fall(train_loss, tail)
    return FitFacts(
        epochs=epochs,
        tail=tail,
        best_epoch=best + 1,
        best_loss=float(smooth[best]),
        settled_epoch=settled + 1,
        end_loss=end,
        rise=end - float(smooth[best]),
        rise_error=error,
        noise=noise,
        train_fall=train_fall,
        train_fall_error=train_fall_error,
        validation_fall=_fall(loss, tail)[0],
        train_accuracy=float(train[-tail:].mean()),
        validation_accuracy=float(accuracy[-tail:].mean()),
        gap=float(gap[-tail:].mean()),
        gap_when_settled=float(_around(gap, settled).mean()),
        gap_growth_error=_late_noise(gap) * math.sqrt(1 / tail + 1 / 3),
        accuracy_change=float(accuracy[-tail:].mean() - _around(accuracy, best).mean()),
        gain_per_doubling=_gain(learning_curve),
    )


def _around(values: Array, place: int) -> Array:
    return values[max(0, place - 1) : place + 2]


def _late_noise(values: Array) -> float:
    """Noise behind the first third of the epochs, where a loss falls too steeply to be told from noise."""
    return noise_of(values[min(len(values) // 3, max(0, len(values) - FEWEST)) :])


def noise_of(values: Sequence[float] | Array) -> float:
    """Standard deviation of a curve from point to point, its trend aside; NaN below three points.

    From second differences: a straight line has none, a bend little. That of independent noise of variance σ² has
    variance 6·σ². Its size is taken from the median and from the mean of their absolute values, and the larger counts:
    among few epochs either may come out too small by chance.
    """
    if len(values) < FEWEST:
        return math.nan
    sizes = np.abs(np.diff(np.asarray(values, dtype=np.float64), n=2))
    return float(max(np.median(sizes) / 0.6745, np.mean(sizes) * math.sqrt(math.pi / 2)) / math.sqrt(6))


def _running_median(values: Array, width: int) -> Array:
    """Median of each value and its neighbours, so many in all (odd); fewer near the ends."""
    edge = np.full(width // 2, np.nan)
    padded = np.concatenate([edge, values, edge])
    return np.asarray(np.nanmedian(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1))


def _fall(losses: Array, tail: int) -> tuple[float, float]:
    """Share by which a loss falls in an epoch at the end, from a straight line, and its standard error."""
    last = losses[-max(tail, FEWEST) :]
    if len(last) < 2 or not last.mean() > 0:
        return 0.0, 0.0
    places = np.arange(len(last)) - (len(last) - 1) / 2
    slope = float(places @ last / (places @ places))
    return -slope / float(last.mean()), _late_noise(losses) / float(last.mean() * math.sqrt(places @ places))


def _gain(learning_curve: Sequence[tuple[int, float]]) -> float | None:
    """Accuracy that a doubling brings, between the two largest sizes."""
    if not learning_curve:
        return None
    points = sorted(learning_curve)
    sizes = [size for size, _ in points]
    if len(set(sizes)) < len(sizes) or len(sizes) < 2 or sizes[0] < 1:
        raise DataError(f"A learning curve needs two or more different numbers of images, but has {sizes}.")
    wrong = [value for _, value in points if not 0 <= value <= 1]
    if wrong:
        raise DataError(f"A learning curve holds the accuracy {wrong[0]:g}, but must lie in 0 … 1.")
    (few, low), (many, high) = points[-2:]
    return (high - low) / math.log2(many / few)
