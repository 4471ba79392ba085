"""Pointing game and energy share by hand, against chance, and what can't be measured."""

import numpy as np
import pytest

from hilum.errors import DataError
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.localisation import energy_share, localise, pointing_hit
from hilum.randomness import stream

FEW = Resampling(resamples=100)
MASK = np.zeros((4, 4), dtype=bool)
MASK[:2, :2] = True


def heat(row: int, column: int) -> np.ndarray:
    made = np.full((4, 4), 0.1)
    made[row, column] = 1.0
    return made


def test_the_hottest_point_decides_the_hit() -> None:
    assert pointing_hit(heat(1, 1), MASK) == 1.0
    assert pointing_hit(heat(3, 3), MASK) == 0.0


def test_equally_hot_points_share_the_hit() -> None:
    two = heat(0, 0)
    two[3, 3] = 1.0
    assert pointing_hit(two, MASK) == 0.5


def test_energy_is_the_share_of_heat_inside() -> None:
    assert energy_share(heat(0, 0), MASK) == pytest.approx((1.0 + 0.3) / (1.0 + 1.5))
    assert energy_share(np.ones((4, 4)), MASK) == MASK.mean()


def test_a_map_without_heat_points_nowhere() -> None:
    assert pointing_hit(np.zeros((4, 4)), MASK) == energy_share(np.zeros((4, 4)), MASK) == 0.0


def test_rows_for_all_and_for_each_finding() -> None:
    maps = [heat(0, 0)] * 30 + [heat(3, 3)] * 30
    rows = localise(maps, [MASK] * 60, ["covid-19"] * 30 + ["pneumonia"] * 30, [f"p{i}" for i in range(60)], FEW)
    assert [(row.name, row.hit_rate.value, row.chance) for row in rows] == [
        ("all", 0.5, 0.25),
        ("covid-19", 1.0, 0.25),
        ("pneumonia", 0.0, 0.25),
    ]
    assert [row.better_than_chance for row in rows] == [True, True, False]
    assert rows[1].hit_rate.low < 1.0  # thirty hits out of thirty are no certainty


def test_a_heat_map_at_random_hits_by_chance() -> None:
    rng = stream(0, "random")
    masks = [MASK] * 200
    (row,) = localise(list(rng.random((200, 4, 4))), masks, ["x"] * 200, [f"p{i}" for i in range(200)], FEW)
    assert row.hit_rate.value == pytest.approx(0.25, abs=0.08)
    assert not row.better_than_chance or row.hit_rate.low < 0.3


def test_empty_maps_are_counted_as_misses() -> None:
    (row,) = localise([np.zeros((4, 4)), heat(0, 0)], [MASK] * 2, ["x"] * 2, ["p", "q"], FEW)
    assert (row.empty, row.hit_rate.value) == (1, 0.5)
    (none,) = localise([np.zeros((4, 4))], [MASK], ["x"], ["p"], FEW)
    assert none.energy.reason == "Every heat map is zero everywhere."


def test_one_patient_has_no_interval_of_energy() -> None:
    (row,) = localise([heat(0, 0), heat(0, 1)], [MASK] * 2, ["x"] * 2, ["p", "p"], FEW)
    assert row.energy.reason == "One patient has no spread."


def test_no_film_gives_no_row() -> None:
    assert localise([], [], [], []) == ()


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(DataError, match="1 heat maps, 2 masks, 1 findings and 1 patients don't match"):
        localise([heat(0, 0)], [MASK] * 2, ["x"], ["p"])
    with pytest.raises(DataError, match=r"Heat map 0 is \(4, 4\), but its mask is \(2, 2\)"):
        localise([heat(0, 0)], [MASK[:2, :2]], ["x"], ["p"])
    with pytest.raises(DataError, match="Heat map 0 holds values that are negative or not finite"):
        localise([-heat(0, 0)], [MASK], ["x"], ["p"])
    with pytest.raises(DataError, match="Mask 0 is empty"):
        localise([heat(0, 0)], [~MASK & MASK], ["x"], ["p"])
