"""Occlusion: hide a square of the film, ask again, and see how much of each score goes. NumPy alone, for any runtime.

Zeiler, Fergus 2014, "Visualizing and understanding convolutional networks", ECCV, doi:10.1007/978-3-319-10590-1_53. It
asks the network itself and trusts no gradient, at the price of one forward pass a square.
"""

from collections.abc import Callable, Iterator

import numpy as np

from hilum.arrays import Array, Tile
from hilum.errors import UsageError

Scores = Callable[[Array], Array]
"""Tiles uint8 [n, 1, h, w] → scores [n, k]."""


def occlusion(scores: Scores, tile: Tile, *, side: int, stride: int, batch: int = 8) -> Array:
    """How much of each score every part of a film carries.

    Args:
        scores: what is asked, such as a network's logits.
        tile: uint8 [h, w].
        side: of the hidden square, in pixels, at most the tile's.
        stride: how far apart squares are, in pixels, 1 … side; so that every pixel is hidden at least once.
        batch: tiles that are asked at a time.

    Returns:
        float32 [k, h, w], in the scores' unit: for each pixel the mean loss of score over the squares that hide it.
        Negative where hiding raises the score. Squares are filled with the tile's median grey.

    Raises:
        UsageError: side or stride out of range, or a tile of another kind.
    """
    if tile.dtype != np.uint8 or tile.ndim != 2:
        raise UsageError(f"Occlusion takes a tile uint8 [h, w], but got {tile.dtype} {list(tile.shape)}.")
    if not 1 <= side <= min(tile.shape) or not 1 <= stride <= side:
        raise UsageError(
            f"side is {side} and stride {stride}, but occlusion needs 1 ≤ stride ≤ side ≤ {min(tile.shape)} (the tile)."
        )
    squares = list(_squares(tile.shape, side, stride))
    grey = np.uint8(np.median(tile))
    whole = np.asarray(scores(tile[None, None]), np.float64)[0]
    lost = np.zeros((len(whole), *tile.shape))
    times = np.zeros(tile.shape)
    for start in range(0, len(squares), batch):
        part = squares[start : start + batch]
        hidden = np.repeat(tile[None, None], len(part), axis=0)
        for one, (rows, columns) in zip(hidden, part, strict=True):
            one[0, rows, columns] = grey
        for (rows, columns), score in zip(part, np.asarray(scores(hidden), np.float64), strict=True):
            lost[:, rows, columns] += (whole - score)[:, None, None]
            times[rows, columns] += 1
    carried: Array = (lost / times).astype(np.float32)
    return carried


def square_count(shape: tuple[int, int], side: int, stride: int) -> int:
    """How many times :func:`occlusion` asks, beside the whole tile."""
    return sum(1 for _ in _squares(shape, side, stride))


def _squares(shape: tuple[int, ...], side: int, stride: int) -> Iterator[tuple[slice, slice]]:
    """Squares at every stride; the last of a row or column is moved inwards, so that borders are covered too."""
    starts = [sorted({min(at, length - side) for at in range(0, length, stride)}) for length in shape]
    for top in starts[0]:
        for left in starts[1]:
            yield slice(top, top + side), slice(left, left + side)
