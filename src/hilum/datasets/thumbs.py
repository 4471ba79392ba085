"""Perceptual thumbs: what is left of a film when brightness, contrast and compression are taken away.

A thumb is the film itself at 64 × 64, kept in the manifest. Films are compared by two *views* of their thumbs: the
high-pass image divided by its local standard deviation (local contrast normalisation, after Jarrett et al., "What is
the best multi-stage architecture for object recognition?", ICCV 2009), at 32 × 32 and at 64 × 64. Gamma and windowing
change global contrast and leave these almost alone; an inversion changes their sign.
"""

import numpy as np
from scipy import ndimage

from hilum.arrays import Array, Pixels
from hilum.datasets.columns import THUMB_SIDE
from hilum.imaging.preprocessing import Preprocessing, preprocess

COARSE_SIDE = 32
"""Rows and columns of the coarse view."""

COARSE_SIGMAS = (2.0, 3.0)
"""Coarse view: Gaussian widths, in its pixels, of the high-pass and of the local contrast."""

FINE_SIGMAS = (1.5, 3.0)
"""Fine view: the same, in the thumb's pixels."""

FLOOR = 0.1
"""Local contrast, as a share of the film's, below which a place counts as empty rather than being amplified."""

BLOCK = 4096
"""Films whose views are computed at once."""


def make_thumb(pixels: Pixels) -> Array:
    """A film's thumb.

    Args:
        pixels: uint16 [h, w], 0 black … 65535 white.

    Returns:
        uint8 [64, 64]: area averages, stretched between the 0.5 and 99.5 percentiles.
    """
    return preprocess(pixels, Preprocessing(size=THUMB_SIDE))


def coarse_view(thumbs: Array) -> Array:
    """Views for finding candidates: all against all.

    Args:
        thumbs: uint8 [n, 64, 64].

    Returns:
        float32 [n, 32, 32], mean 0 and variance 1 (all 0 for a film of one grey value).
    """
    n, side = len(thumbs), COARSE_SIDE
    halved = thumbs.reshape(n, side, THUMB_SIDE // side, side, THUMB_SIDE // side).mean(axis=(2, 4), dtype=np.float32)
    return _local_contrast(halved, *COARSE_SIGMAS)


def fine_view(thumbs: Array) -> Array:
    """Views for judging a candidate after registration.

    Args:
        thumbs: uint8 [n, 64, 64].

    Returns:
        float32 [n, 64, 64], mean 0 and variance 1 (all 0 for a film of one grey value).
    """
    return _local_contrast(thumbs.astype(np.float32), *FINE_SIGMAS)


def _local_contrast(images: Array, high_pass: float, contrast: float) -> Array:
    views = np.empty(images.shape, np.float32)
    for start in range(0, len(images), BLOCK):
        block = slice(start, start + BLOCK)
        views[block] = _normalised(_block_contrast(_normalised(images[block]), high_pass, contrast))
    return views


def _block_contrast(images: Array, high_pass: float, contrast: float) -> Array:
    detail = images - ndimage.gaussian_filter(images, (0, high_pass, high_pass), mode="nearest")
    local = ndimage.gaussian_filter(detail * detail, (0, contrast, contrast), mode="nearest")
    return np.asarray(detail / (np.sqrt(np.maximum(local, 0)) + FLOOR))


def _normalised(images: Array) -> Array:
    centred = images - images.mean(axis=(1, 2), keepdims=True)
    return np.asarray(centred / (centred.std(axis=(1, 2), keepdims=True) + 1e-6))
