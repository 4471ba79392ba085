"""Filters of a convolution, and what each one looks for: an edge, a blob, a colour, or nothing in particular.

The analysis rests on a filter's spatial autocorrelation r, summed over its channels, and on its Fourier transform, the
power spectrum (Wiener-Khinchin theorem; the filter is padded with zeros to 64 × 64). Nothing is fitted. The rule, whose
every limit is a constant below:

1. *dead*: the filter's norm is below 5 % of the median norm of its layer.
2. *unspecific*: its power is spread over the frequency plane as that of a random filter is: r(0)² / Σ r², which is 1
   when all frequencies pass alike, is not below what 99 % of Gaussian random filters of its window exceed, which have
   as many channels as the filter has independent ones (RGB channels that agree count as one: participation ratio of the
   singular values). A filter that is neither oriented nor round (a cross, a chessboard) is unspecific too.
3. *colour*: at least half of its energy is in the two colour-opponent axes (red − green, red + green − 2 blue) of RGB.
4. *edge*: it is oriented: the power-weighted mean of exp(2iθ) over the frequency plane is at least 0.42 long. For the
   first derivative of a round Gaussian it is exactly 0.5, for the second 2/3, for a Gaussian blob twice as long as wide
   1/3, for a round one 0; the limit lies in the middle.
5. *blob*: it is round: that mean and the one of exp(4iθ) are both shorter than 0.42.

Gabor-like and colour-blob filters in the first layer: Krizhevsky, Sutskever, Hinton 2012, "ImageNet classification with
deep convolutional neural networks", NeurIPS, figure 3. Small windows tell little: a random filter of 3 × 3 often looks
like something, so that the second rule lets few of that size pass.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from torch import nn

from hilum.arrays import Array
from hilum.errors import UsageError, nearest

KINDS = ("edge", "blob", "colour", "unspecific", "dead")
"""What a filter can be, in the order of reports."""

DEAD_SHARE = 0.05
"""Norm below this share of the layer's median: dead."""

CHANCE = 0.01
"""Share of random filters that pass for specific."""

COLOUR_SHARE = 0.5
"""Share of energy in colour from which on a filter is one of colour."""

ORIENTED = 0.42
"""Length of the mean of exp(2iθ) from which on a filter is oriented."""

SPECTRUM = 64
"""Rows and columns of the power spectrum: steps of 1/64 cycle a pixel."""

OPPONENT = np.array([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]) / np.sqrt([[2.0], [6.0]])
"""Red − green and yellow − blue, of length 1; the third axis is luminance, (1, 1, 1)/√3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterTraits:
    """What was measured on one filter, and what it is; None where there is nothing to measure."""

    unit: int
    """Number of the filter in its layer."""
    kind: str
    """One of ``KINDS``."""
    norm: float
    """Square root of its energy."""
    frequency: float | None
    """Spatial frequency at which the power is largest, in cycles a pixel; 0 for what passes even areas."""
    orientation_deg: float | None
    """Direction of its stripes, counter-clockwise from the horizontal, 0 ≤ angle < 180; None unless it is oriented."""
    selectivity: float | None
    """How oriented it is, 0 to 1: length of the mean of exp(2iθ)."""
    bandwidth_deg: float | None
    """Spread of the orientations that it passes: circular standard deviation, √(−2 ln selectivity)/2, in degrees."""
    spread: float | None
    """Share of the frequency plane that it occupies, 0 to 1; a random filter has about a half."""
    chroma_share: float | None
    """Share of its energy in colour, 0 to 1; None unless the layer sees three channels. By chance it is 2/3."""


def conv_filters(network: nn.Module, layer: str | None = None) -> tuple[str, Float[np.ndarray, "o i y x"]]:
    """Weights of a convolution.

    Args:
        network: any.
        layer: fully-qualified name of a Conv2d; the first one when None.

    Returns:
        the layer's name, and a copy of its filters, float64.

    Raises:
        UsageError: there is no such convolution.
    """
    convolutions = {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    if not convolutions:
        raise UsageError("The network has no convolution (Conv2d), so that it has no filters. Take another network.")
    name = next(iter(convolutions)) if layer is None else layer
    if name not in convolutions:
        raise UsageError(f"The network has no convolution {name!r}. {nearest(name, list(convolutions))}")
    return name, convolutions[name].weight.detach().double().cpu().numpy().copy()


def analyse(filters: Float[np.ndarray, "o i y x"]) -> tuple[FilterTraits, ...]:
    """Measure and name each filter of a layer by the rule of this module.

    Args:
        filters: of one layer; three input channels are taken for red, green and blue.

    Raises:
        UsageError: a weight is not a finite number, or the window is of one pixel.
    """
    if filters.shape[-1] * filters.shape[-2] < 2:
        raise UsageError("Filters of 1 × 1 have no shape in space to analyse. Take a convolution with a window.")
    if not np.isfinite(filters).all():
        raise UsageError("A filter's weight is not a finite number. Look at the training that made it.")
    norms = np.sqrt((filters**2).sum((1, 2, 3)))
    floor = max(DEAD_SHARE * float(np.median(norms)), np.finfo(float).tiny)
    return tuple(
        _traits(unit, filters[unit], float(norm)) if norm >= floor else _dead(unit, float(norm))
        for unit, norm in enumerate(norms)
    )


def kind_counts(traits: tuple[FilterTraits, ...]) -> dict[str, int]:
    """Number of filters of each kind, all kinds named."""
    return {kind: sum(trait.kind == kind for trait in traits) for kind in KINDS}


def _dead(unit: int, norm: float) -> FilterTraits:
    return FilterTraits(
        unit=unit,
        kind="dead",
        norm=norm,
        frequency=None,
        orientation_deg=None,
        selectivity=None,
        bandwidth_deg=None,
        spread=None,
        chroma_share=None,
    )


def _traits(unit: int, weights: Array, norm: float) -> FilterTraits:
    correlation = _autocorrelation(weights[None])[0]
    spread, power = float(_spread(correlation)), _power(correlation)
    limit = random_spread_limit(_independent_channels(weights), *weights.shape[1:])
    second, fourth = _resultant(power, 2), _resultant(power, 4)
    chroma, selectivity = _chroma_share(weights), min(abs(second), 1.0)
    oriented = selectivity >= ORIENTED
    return FilterTraits(
        unit=unit,
        kind=_kind(spread < limit, oriented, abs(fourth) < ORIENTED, chroma),
        norm=norm,
        frequency=_dominant_frequency(power),
        # The wave runs across the stripes; image rows grow downwards, which mirrors the angle.
        orientation_deg=float((90 - np.degrees(np.angle(second)) / 2) % 180) if oriented else None,
        selectivity=selectivity,
        bandwidth_deg=float(np.degrees(np.sqrt(-2 * np.log(selectivity)) / 2)) if oriented else None,
        spread=spread,
        chroma_share=chroma,
    )


def _kind(structured: bool, oriented: bool, even: bool, chroma: float | None) -> str:
    if not structured or not (oriented or even):
        return "unspecific"
    if chroma is not None and chroma >= COLOUR_SHARE:
        return "colour"
    return "edge" if oriented else "blob"


def power_spectrum(weights: Float[np.ndarray, "i y x"]) -> Float[np.ndarray, "s s"]:
    """Power of one filter at each spatial frequency, summed over its channels.

    Returns:
        ≥ 0, rows and columns in the order of ``numpy.fft.fftfreq``, cycles a pixel; 64 × 64 but for huge filters.
    """
    return _power(_autocorrelation(weights[None])[0])


def _power(correlation: Array) -> Array:
    """The autocorrelation's Fourier transform; one for all channels, which is what makes deep layers quick."""
    height, width = ((length + 1) // 2 for length in correlation.shape)
    size = max(SPECTRUM, *correlation.shape)
    padded = np.zeros((size, size))
    rows, columns = np.arange(1 - height, height), np.arange(1 - width, width)
    padded[np.ix_(rows, columns)] = correlation[np.ix_(rows, columns)]
    return np.maximum(np.fft.fft2(padded).real, 0.0)


def _autocorrelation(filters: Array) -> Array:
    """Spatial autocorrelation of each filter [o, 2y − 1, 2x − 1], summed over channels; lag 0 comes first."""
    shape = (2 * filters.shape[-2] - 1, 2 * filters.shape[-1] - 1)
    power = sum(np.abs(np.fft.fft2(filters[:, channel], shape)) ** 2 for channel in range(filters.shape[1]))
    return np.fft.ifft2(power).real


def _spread(correlation: Array) -> Array:
    """Mean power squared over mean squared power, by Parseval's theorem from the autocorrelation; 1 when it is flat."""
    spread: Array = correlation[..., 0, 0] ** 2 / (correlation**2).sum((-2, -1))
    return spread


def _independent_channels(weights: Array) -> int:
    """How many patterns in space the channels hold: 1 when all are multiples of one."""
    energies = np.linalg.svd(weights.reshape(len(weights), -1), compute_uv=False) ** 2
    return max(1, round(float(energies.sum() ** 2 / (energies**2).sum())))


@lru_cache(maxsize=64)
def random_spread_limit(channels: int, height: int, width: int) -> float:
    """What the spread of all but ``CHANCE`` of the Gaussian random filters of a shape exceeds.

    Measured on 2,000 filters from a fixed seed (at least 200 where they are large, whose spread varies little).
    """
    draws = int(np.clip(1_000_000 // (channels * height * width), 200, 2000))
    generator = np.random.default_rng(0)
    return float(
        np.quantile(_spread(_autocorrelation(generator.normal(size=(draws, channels, height, width)))), CHANCE)
    )


def _resultant(power: Array, order: int) -> complex:
    """Mean of exp(i·order·θ) over the frequency plane, weighted with the power; what is even has no direction."""
    frequency = np.fft.fftfreq(len(power))
    angle = np.arctan2(frequency[:, None], frequency[None, :])
    weights = power.copy()
    weights[0, 0] = 0.0
    return complex((weights * np.exp(1j * order * angle)).sum() / weights.sum())


def _dominant_frequency(power: Array) -> float:
    row, column = np.unravel_index(int(power.argmax()), power.shape)
    frequency = np.fft.fftfreq(len(power))
    return float(np.hypot(frequency[row], frequency[column]))


def _chroma_share(weights: Array) -> float | None:
    if len(weights) != 3:
        return None
    return float((np.tensordot(OPPONENT, weights, 1) ** 2).sum() / (weights**2).sum())
