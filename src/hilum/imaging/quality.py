"""Measures of a film's technical quality, by its pixels alone.

They tell a picture from a blank, a black, a burnt-out or a noise film, and one that fits an upright frontal chest from
most that don't. What else a picture shows is asked of the header, and of the classifier's feature space afterwards.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from hilum.arrays import Array, Mask, Pixels
from hilum.imaging.percentiles import percentiles
from hilum.imaging.preprocessing import area_average

GRID = 256
"""Most rows and columns of the averaged picture that contrast and structure are measured on."""

SAMPLE = 256
"""Most rows and columns of the sampled pixels that clipping and entropy are counted on. So many give the entropy of 256
levels within 0.003 bits on average, downward: (256 − 1) / 2N ln 2 (Miller 1955, "Note on the bias of information
estimates")."""

COARSE = 64
"""Rows and columns on which neighbours are compared: noise averages out, anatomy stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What was measured; shares and contrasts lie in 0 … 1, where 1 is the whole film or from black to white."""

    height: int
    """Rows."""
    width: int
    """Columns."""
    contrast: float
    """99th minus 1st percentile of the averaged picture."""
    mean: float
    """Mean grey value."""
    black_share: float
    """Share of the averaged picture within 1 % of black."""
    white_share: float
    """Share of the averaged picture within 1 % of white."""
    clipped_black: float
    """Share of pixels that are exactly black."""
    clipped_white: float
    """Share of pixels that are exactly white."""
    entropy_bits: float
    """Shannon entropy of the 256-level histogram, 0 … 8."""
    sharpness: float
    """Mean gradient from one averaged pixel to the next, as a share of the contrast; 0 where there is none."""
    structure: float
    """Correlation of neighbouring pixels on a 64 × 64 picture, −1 … 1: near 1 for films, near 0 for noise."""
    frontal_fit: float = 0.0
    """Fit to two dark lungs beside each other, −1 … 1; see `hilum.imaging.lungs.frontal_fit`."""


def measure_quality(pixels: Pixels) -> Quality:
    """Measure a film.

    Args:
        pixels: uint16 [h, w], 0 black … 65535 white.
    """
    return measures(averaged_picture(pixels), pixels)


def averaged_picture(pixels: Pixels) -> Array:
    """A film averaged down to `GRID` rows and columns, where it has more: float64 in units of the pixels."""
    height, width = (int(one) for one in pixels.shape)
    return area_average(pixels, min(height, GRID), min(width, GRID))


def measures(grid: Array, pixels: Pixels) -> Quality:
    """Measures by a film's averaged picture and by a sample of its pixels.

    Args:
        grid: from `averaged_picture`.
        pixels: uint16 [h, w], 0 black … 65535 white.
    """
    # SciPy's image functions take a fifth of a service's start, and it measures no film: its children do.
    from hilum.imaging.lungs import frontal_fit

    height, width = (int(one) for one in pixels.shape)
    averaged = grid / 65535.0
    rounded = (grid + 0.5).astype(np.uint16)
    sampled = np.ascontiguousarray(pixels[:: -(-height // SAMPLE), :: -(-width // SAMPLE)])
    low, high = percentiles(averaged, (1.0, 99.0))
    return Quality(
        height=height,
        width=width,
        contrast=high - low,
        mean=float(averaged.mean()),
        black_share=_share(averaged <= 0.01),
        white_share=_share(averaged >= 0.99),
        clipped_black=_share(sampled == 0),
        clipped_white=_share(sampled == 65535),
        entropy_bits=_entropy(sampled),
        sharpness=_gradient(averaged) / (high - low) if high > low else 0.0,
        structure=_neighbours(rounded),
        frontal_fit=frontal_fit(rounded),
    )


def _share(where: Mask) -> float:
    return int(np.count_nonzero(where)) / where.size


def _entropy(pixels: Pixels) -> float:
    # Pillow counts bytes as they are; NumPy would turn them into 64-bit numbers first.
    counts = np.array(Image.fromarray((pixels >> 8).astype(np.uint8)).histogram())
    shares = counts[counts > 0] / counts.sum()
    return float(max(0.0, -np.sum(shares * np.log2(shares))))


def _gradient(picture: Array) -> float:
    means = []
    for axis in (0, 1):
        if picture.shape[axis] > 1:
            step = np.diff(picture, axis=axis)
            means.append(np.abs(step, out=step).mean())
    return float(np.mean(means)) if means else 0.0


def _neighbours(grid: Pixels) -> float:
    height, width = grid.shape
    coarse = area_average(grid, min(int(height), COARSE), min(int(width), COARSE))
    found = []
    for first, second in ((coarse[:-1], coarse[1:]), (coarse[:, :-1], coarse[:, 1:])):
        if first.size < 2:
            continue
        a, b = first - first.mean(), second - second.mean()
        scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
        found.append(float((a * b).sum()) / scale if scale > 0 else 0.0)
    return float(np.mean(found)) if found else 0.0
