"""How films are drawn: by hand, and by counting."""

from collections import Counter

import numpy as np
import pytest
import torch

from hilum.training.sampling import RepeatedInputs, balanced_order, oversampled
from hilum.training.stages import Stage

ROWS = np.array([3, 4, 5, 6, 7, 8, 9, 12])
CLASSES = np.array([0, 0, 0, 0, 0, 0, 1, 2])


def test_balanced_order_draws_every_class_alike() -> None:
    """Eight films in three classes: 3, 3 and 2; of the large class without repetition, and others each time."""
    orders = [balanced_order(ROWS, CLASSES, np.random.default_rng(seed)) for seed in range(20)]
    place = dict(zip(ROWS.tolist(), CLASSES.tolist(), strict=True))
    for order in orders:
        assert Counter(place[row] for row in order.tolist()) == {0: 3, 1: 3, 2: 2}
        assert len(set(order.tolist())) == 5
    assert set(np.concatenate(orders).tolist()) == set(ROWS.tolist())
    assert np.array_equal(orders[0], balanced_order(ROWS, CLASSES, np.random.default_rng(0)))


def test_oversampling_keeps_every_film_and_fills_up_the_smaller_classes() -> None:
    """Repetition r of row i is i + 100 r."""
    rows = oversampled(ROWS, CLASSES, 100)
    assert rows[: len(ROWS)].tolist() == ROWS.tolist()
    assert sorted(rows[len(ROWS) :].tolist()) == [109, 112, 209, 212, 309, 312, 409, 412, 509, 512]
    two = oversampled(np.array([0, 1, 2, 3, 4]), np.array([0, 0, 0, 1, 1]), 5)
    assert two.tolist() == [0, 1, 2, 3, 4, 8]


@pytest.mark.parametrize(("views", "seen"), [(2, [1, 2, 0]), (None, [1, 31, 61])])
def test_repetitions_are_other_views(views: int | None, seen: list[int]) -> None:
    """Fixed views take turns; live ones are views that no other epoch shows. Rows stay in their places."""

    def inputs(rows: torch.Tensor, view: int) -> torch.Tensor:
        return torch.stack([rows.float(), torch.full((len(rows),), float(view))], dim=1)

    given = RepeatedInputs(inputs=inputs, stage=Stage(name="x", views=views, epochs=30), films=10)
    found = given(torch.tensor([4, 14, 24, 5]), 1)
    assert found.tolist() == [[4, seen[0]], [4, seen[1]], [4, seen[2]], [5, seen[0]]]
    maps = RepeatedInputs(inputs=lambda rows, view: torch.full((len(rows), 2, 3, 3), view), stage=given.stage, films=10)
    assert maps(torch.tensor([1, 11]), 0).is_contiguous(memory_format=torch.channels_last)
    assert given(torch.tensor([4, 5]), 1)[:, 1].tolist() == [1, 1]
