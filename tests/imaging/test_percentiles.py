"""Percentiles near the ends are NumPy's own, to the last bit, however values are spread."""

import numpy as np
import pytest

from hilum.imaging import percentiles as module
from hilum.imaging.percentiles import percentiles

SPREADS = {
    "even": lambda random, count: random.random(count),
    "in order": lambda random, count: np.sort(random.normal(size=count)),
    "few values": lambda random, count: random.integers(0, 4, count).astype(float),
    "mostly one": lambda random, count: np.where(random.random(count) < 0.99, 7.0, random.random(count)),
}


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("count", [1, 2, 3, 40, 900, 50_176])
def test_the_same_numbers_as_numpys(spread, count):
    """Ends, middles and what lies outside them."""
    random = np.random.default_rng(count)
    values = SPREADS[spread](random, count)
    for percents in ((0.5, 99.5), (1.0, 99.0), (0.0, 100.0), (0.013, 50.0), (50.1, 87.3)):
        assert percentiles(values, percents) == tuple(np.percentile(values, percents)), percents


def test_a_sample_that_misleads_costs_time_alone():
    """All sampled values lie at the other end."""
    values = np.random.default_rng(0).random(40_000)
    values[:: module.SPARSE] = 2.0
    assert percentiles(values, (1.0, 99.0)) == tuple(np.percentile(values, (1.0, 99.0)))
    assert percentiles(-values, (1.0, 99.0)) == tuple(np.percentile(-values, (1.0, 99.0)))


def test_ends_of_a_picture_are_found_without_ordering_it(monkeypatch):
    """A film's dark border lies in whole columns; the sample takes from all of them."""
    picture = np.random.default_rng(1).random((256, 256))
    picture[:, 240:] *= 0.01
    expected = tuple(np.percentile(picture, (1.0, 99.0)))
    monkeypatch.setattr(np, "percentile", None)  # calling it would fail
    assert percentiles(picture, (1.0, 99.0)) == expected
