"""What reduced decoding does to films with drawn lines: markers with frames, tubes, wires. Phantoms, all synthetic."""

import numpy as np
import pytest
from tests.imaging.grainy_phantoms import as_film, large_enough, stored_values

from hilum.imaging.limits import Limits
from hilum.imaging.preprocessing import Preprocessing, preprocess
from hilum.imaging.reading import read_film
from hilum.imaging.reduced_reading import OVERSAMPLING, read_reduced, reduced_tile

MEAN, NEARLY_ALL, MOST = 0.5, 16, 40
"""Tolerance where lines are drawn, in grey levels of 255: mean, 999 of 1,000 pixels of a tile, and any pixel."""


def differences(number, syntax, scale):
    stored = stored_values(number, 8 if syntax == "jpeg" else 12)
    content = as_film(stored, syntax)
    config = Preprocessing(size=min(stored.shape) // (scale * OVERSAMPLING), decoding="reduced")
    reduced = read_reduced(content, config, Limits())
    assert reduced.scale == scale
    exact = preprocess(read_film(content).pixels, config).astype(int)
    return np.abs(reduced_tile(reduced, config) - exact)


def check(numbers, syntax, scale):
    found = [differences(number, syntax, scale) for number in numbers]
    assert max(one.mean() for one in found) <= MEAN
    assert max(np.quantile(one, 0.999) for one in found) <= NEARLY_ALL
    assert max(one.max() for one in found) <= MOST
    return max(one.max() for one in found)


@pytest.mark.parametrize(("syntax", "numbers"), [("jpeg2000-lossless", (4, 20)), ("jpeg", (2, 10))])
def test_drawn_lines_stay_within_their_tolerance(syntax, numbers):
    """The films of the 24 that differ most, at the fewest reduced pixels there may be for one of the tile.

    They differ by more than the 12 that films without drawn lines keep to; a bound that nothing reaches would say less.
    """
    assert check(numbers, syntax, 4) > 12


@pytest.mark.long
@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("syntax", ["jpeg2000-lossless", "jpeg"])
def test_all_phantoms_stay_within_the_tolerance(syntax, scale):
    """All of them; JPEG 2000 is reduced from 1,024 pixels on."""
    large = large_enough(syntax)
    assert len(large) >= 10
    check(large, syntax, scale)
