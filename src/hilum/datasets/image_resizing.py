"""Stacks of small images at another size or with other channels, as matrix products on arrays."""

# mypy: disable-error-code="no-any-return"
# NumPy's stubs type arithmetic on arrays of any dtype as Any.

from functools import lru_cache

import numpy as np

from hilum.arrays import Array
from hilum.errors import UsageError

BLOCK = 1024
"""Images that are computed at once."""

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in a grey value: ITU-R BT.601-7, 2.5.1."""


@lru_cache(maxsize=16)
def triangle_matrix(size: int, old: int) -> Array:
    """Matrix float32 [size, old] of bilinear resampling along one axis; rows sum to 1.

    Between pixel centres when enlarging; a triangle of two new pixels' width when shrinking, so that nothing aliases.
    """
    scale = old / size
    centres = (np.arange(size)[:, None] + 0.5) * scale
    distance = np.abs(np.arange(old)[None, :] + 0.5 - centres) / max(scale, 1.0)
    matrix = np.maximum(1 - distance, 0)
    matrix = (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32)
    matrix.flags.writeable = False
    return matrix


def resized_stack(images: Array, size: int) -> Array:
    """Images uint8 [n, c, h, h] at [n, c, size, size].

    Raises:
        UsageError: size is less than 1.
    """
    if size < 1:
        raise UsageError(f"size is {size}, but an image needs 1 pixel a side or more.")
    matrix = triangle_matrix(size, images.shape[2])
    resized = np.empty((*images.shape[:2], size, size), dtype=np.uint8)
    for start in range(0, len(images), BLOCK):
        block = images[start : start + BLOCK].astype(np.float32)
        resized[start : start + BLOCK] = matrix @ block @ matrix.T + np.float32(0.5)
    return resized


def bordered_stack(images: Array, size: int) -> Array:
    """Images uint8 [n, c, h, h] in the middle of black fields [n, c, size, size].

    Raises:
        UsageError: size is less than the images'.
    """
    old = images.shape[2]
    if size < old:
        raise UsageError(f"size is {size}, but the images have {old} pixels a side. Resize them instead.")
    bordered = np.zeros((*images.shape[:2], size, size), dtype=np.uint8)
    start = (size - old) // 2
    bordered[:, :, start : start + old, start : start + old] = images
    return bordered


def channels_stack(images: Array, channels: int) -> Array:
    """Images uint8 [n, c, h, w] with one channel (luma) or three (grey repeated).

    Raises:
        UsageError: other than 1 or 3 channels, on either side.
    """
    if channels not in (1, 3) or images.shape[1] not in (1, 3):
        raise UsageError(f"Images of {images.shape[1]} channels can't be given {channels}; 1 and 3 are possible.")
    if channels == images.shape[1]:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=1)
    grey = np.empty((len(images), 1, *images.shape[2:]), dtype=np.uint8)
    weights = np.asarray(LUMA, dtype=np.float32)
    for start in range(0, len(images), BLOCK):
        block = images[start : start + BLOCK].astype(np.float32)
        grey[start : start + BLOCK, 0] = np.einsum("nchw,c->nhw", block, weights) + np.float32(0.5)
    return grey
