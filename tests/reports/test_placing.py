"""Labels keep apart, near what they name, inside of the frame."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from hilum.reports.placing import least_hidden, place_labels, spread


def test_places_far_enough_apart_stay_where_they_are() -> None:
    assert spread([3.0, 1.0, 2.0], 0.5) == [3.0, 1.0, 2.0]


def test_close_places_spread_around_their_mean_in_their_order() -> None:
    assert spread([1.0, 1.0], 1.0) == [0.5, 1.5]
    assert spread([0.0, 0.1, 5.0], 1.0) == pytest.approx([-0.45, 0.55, 5.0])
    wanted = [0.1, 0.5, 0.52, 0.9, 0.91, 0.2]
    found = spread(wanted, 0.2)
    assert np.argsort(found).tolist() == np.argsort(wanted).tolist()
    assert all(b - a >= 0.2 - 1e-9 for a, b in pairwise(sorted(found)))


def test_labels_of_crowded_points_meet_neither_points_nor_one_another() -> None:
    points = [(100.0 + 12 * (i % 3), 100.0 + 12 * (i // 3)) for i in range(9)]
    sizes = [(40.0, 10.0)] * 9
    found = place_labels(points, [3.0] * 9, sizes, (0, 0, 300, 300), 2.0)
    boxes = [(x, y, x + 40, y + 10) for x, y, _ in found]
    apart = [a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1] for a, b in combinations(boxes, 2)]
    assert all(apart)
    assert any(far for _, _, far in found)


def test_a_lone_label_stands_right_beside_and_at_the_edge_on_the_other_side() -> None:
    frame = (0.0, 0.0, 100.0, 100.0)
    assert place_labels([(50, 50)], [5], [(20, 10)], frame, 2) == [(57, 45, False)]
    assert place_labels([(95, 50)], [5], [(20, 10)], frame, 2)[0][0] < 95 - 20
    assert place_labels([(50, 50)], [5], [(0, 0)], frame, 2) == [(50, 50, False)]


def test_a_label_avoids_lines() -> None:
    frame = (0.0, 0.0, 100.0, 100.0)
    places = [(10.0, 10.0, 30.0, 20.0), (10.0, 30.0, 30.0, 40.0)]
    assert least_hidden(places, [], frame) == 0
    assert least_hidden(places, [], frame, np.array([[15.0, 15.0]])) == 1
