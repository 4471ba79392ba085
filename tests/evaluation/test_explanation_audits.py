"""Heat maps are held against a network whose reasons are known: it looks at one square."""

import numpy as np
import pytest

from hilum.errors import DataError
from hilum.evaluation.audits import concluded
from hilum.evaluation.explanation_audits import (
    deletion_curve,
    faithfulness,
    faithfulness_audit,
    lung_audit,
    mean_of,
    noisy,
    on_tile,
    rank_correlation,
    similarity_audit,
)
from hilum.evaluation.intervals import Resampling
from hilum.randomness import stream

FEW = Resampling(resamples=60)
SQUARE = np.zeros((16, 16))
SQUARE[4:8, 4:8] = 1.0
IDS = [f"p{i}" for i in range(6)]


def answer(tiles: np.ndarray) -> np.ndarray:
    """Probability of the first finding: how bright the square is."""
    bright = tiles[:, 4:8, 4:8].mean(axis=(1, 2)) / 255
    return np.column_stack([bright, 1 - bright])


def film() -> np.ndarray:
    tile = np.zeros((16, 16), np.uint8)
    tile[4:8, 4:8] = 255
    return tile


def test_the_curve_falls_as_soon_as_the_hot_pixels_go_and_rises_as_they_come() -> None:
    order = np.argsort(-SQUARE.ravel(), kind="stable")
    gone = deletion_curve(film(), order, answer, 0, steps=16)
    back = deletion_curve(film(), order, answer, 0, insert=True, steps=16)
    grey = 16 / 255  # the film's mean: 16 of 256 pixels are white
    assert gone.tolist() == pytest.approx([1.0] + [grey] * 16)
    assert back.tolist() == pytest.approx([grey] + [1.0] * 16)
    last = deletion_curve(film(), order[::-1], answer, 0, steps=16)
    assert last[-2] == 1.0


def test_a_true_map_is_faithful_and_a_wrong_one_is_not() -> None:
    assert faithfulness(film(), SQUARE, answer, 0) > 0.5
    assert faithfulness(film(), 1 - SQUARE, answer, 0) < -0.3
    tiles = np.stack([film()] * 6)
    row = faithfulness_audit(tiles, [SQUARE] * 6, np.zeros(6, int), answer, IDS, FEW)
    assert row.value.value == pytest.approx(faithfulness(film(), SQUARE, answer, 0))
    assert concluded([row])[0].verdict == "note"


def test_heat_in_the_lungs_by_hand() -> None:
    lungs = np.zeros((16, 16), dtype=bool)
    lungs[:, :8] = True
    half = np.zeros((16, 16))
    half[0, 0], half[0, 15] = 3.0, 1.0
    row = lung_audit([SQUARE, half] * 3, [lungs] * 6, IDS, FEW)
    assert row.value.value == pytest.approx((1 + 0.75) / 2)
    assert row.chance == 0.5
    with pytest.raises(DataError, match="2 heat maps and 1 lung fields don't match"):
        lung_audit([SQUARE, half], [lungs], IDS[:2], FEW)


def test_rank_correlation_by_hand() -> None:
    one = np.array([[1.0, 2], [3, 4]])
    assert rank_correlation(one, one**3) == pytest.approx(1)
    assert rank_correlation(one, -one) == pytest.approx(-1)
    assert rank_correlation(one, np.zeros((2, 2))) == 0
    assert rank_correlation(one, np.array([[1.0, 2], [4, 3]])) == pytest.approx(0.8)


def test_maps_that_ignore_the_weights_or_shake_under_noise_show() -> None:
    other = stream(0, "map").random((16, 16))
    same = similarity_audit([SQUARE] * 6, [SQUARE] * 6, IDS, FEW, kind="weights")
    assert same.value.value == pytest.approx(1)
    assert same.name == "maps of shuffled weights"
    apart = similarity_audit([SQUARE] * 6, [other] * 6, IDS, FEW, kind="weights")
    assert apart.value.value < 0.3
    turned = similarity_audit([SQUARE] * 6, [-SQUARE] * 6, IDS, FEW, kind="noise")
    assert turned.value.value == pytest.approx(-1)


def test_noise_is_slight_and_the_same_each_time() -> None:
    tiles = np.full((2, 32, 32), 128, np.uint8)
    assert noisy(tiles).std() == pytest.approx(4, rel=0.1)
    assert np.array_equal(noisy(tiles), noisy(tiles))
    assert noisy(np.zeros((1, 8, 8), np.uint8)).min() == 0


def test_a_map_grows_to_the_tile_and_one_patient_has_no_interval() -> None:
    grown = on_tile(np.array([[0.0, 0], [0, 4]]), (8, 6))
    assert grown.shape == (8, 6)
    assert grown[-1, -1] == grown.max() == 4
    assert mean_of(np.ones(3), ["p", "p", "p"], FEW).reason == "Fewer than two patients have a heat map."
