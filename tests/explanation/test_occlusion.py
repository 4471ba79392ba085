"""Occlusion: what a hidden square takes from a score, shared by the pixels under it."""

import numpy as np
import pytest

from hilum.errors import UsageError
from hilum.explanation.occlusion import occlusion, square_count


def sums(tiles: np.ndarray) -> np.ndarray:
    """Two scores: the sum of the left half, and minus the sum of the right half."""
    half = tiles.shape[3] // 2
    return np.stack([tiles[..., :half].sum((1, 2, 3)), -1.0 * tiles[..., half:].sum((1, 2, 3))], axis=1)


def test_a_linear_score_loses_what_was_hidden_by_hand() -> None:
    """Squares side by side, filled with the median 0: each pixel gets its own square's sum, with the score's sign."""
    tile = np.zeros((4, 4), np.uint8)
    tile[0, 0], tile[3, 3] = 8, 4
    lost = occlusion(sums, tile, side=2, stride=2)
    expected = np.zeros((2, 4, 4))
    expected[0, :2, :2], expected[1, 2:, 2:] = 8, -4
    np.testing.assert_array_equal(lost, expected)
    assert lost.dtype == np.float32


def test_overlapping_squares_are_averaged() -> None:
    """One bright pixel, squares of side 2 one apart: neighbours share it by the squares that they have in common."""
    tile = np.zeros((3, 4), np.uint8)
    tile[1, 1] = 12
    lost = occlusion(lambda tiles: tiles.sum((1, 2, 3))[:, None], tile, side=2, stride=1)[0]
    assert lost[1, 1] == 12
    assert lost[0, 0] == 12  # its only square hides the bright pixel too
    assert lost[1, 2] == 6  # two of its four squares do
    assert lost[1, 3] == 0


def test_the_fill_is_the_median_grey() -> None:
    tile = np.full((4, 4), 100, np.uint8)
    tile[0, 0] = 130
    lost = occlusion(lambda tiles: tiles.sum((1, 2, 3))[:, None], tile, side=1, stride=1)[0]
    assert lost[0, 0] == 30
    assert np.abs(lost).sum() == 30


@pytest.mark.parametrize(("shape", "side", "stride"), [((7, 9), 3, 2), ((8, 8), 8, 8), ((5, 5), 2, 2)])
def test_every_pixel_is_hidden_and_the_count_is_known(shape: tuple[int, int], side: int, stride: int) -> None:
    asked: list[int] = []

    def scores(tiles: np.ndarray) -> np.ndarray:
        asked.append(len(tiles))
        return tiles.sum((1, 2, 3))[:, None]

    lost = occlusion(scores, np.arange(shape[0] * shape[1], dtype=np.uint8).reshape(shape), side=side, stride=stride)
    assert np.isfinite(lost).all()
    assert sum(asked) == 1 + square_count(shape, side, stride)
    assert max(asked) <= 8


def test_squares_that_would_miss_pixels_are_refused() -> None:
    with pytest.raises(UsageError, match=r"side is 2 and stride 3, but occlusion needs 1 ≤ stride ≤ side ≤ 4"):
        occlusion(sums, np.zeros((4, 4), np.uint8), side=2, stride=3)
    with pytest.raises(UsageError, match=r"side is 5 and stride 1"):
        occlusion(sums, np.zeros((4, 4), np.uint8), side=5, stride=1)
    with pytest.raises(UsageError, match=r"Occlusion takes a tile uint8 \[h, w\], but got float32 \[4, 4\]"):
        occlusion(sums, np.zeros((4, 4), np.float32), side=2, stride=2)
