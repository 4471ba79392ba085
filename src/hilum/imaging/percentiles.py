"""Percentiles near the ends without putting all values in order: NumPy's very numbers, in a quarter of the time.

A sorted sample tells about where a percentile lies; what lies beyond is picked out and sorted, and the percentile read
off where enough was picked out (after Floyd & Rivest 1975, "Expected time bounds for selection", CACM 18:165).
"""

from collections.abc import Sequence

import numpy as np

from hilum.arrays import Array

SPARSE = 61
"""One value in so many is in the sample; a prime, so that the sample of a picture is not some of its columns."""

MARGIN = 16
"""Values of the sample that are gone beyond the place where it puts a percentile: about five standard deviations of
that place for the first and the last percent of 65,536 values. Where it is too little, all values are sorted."""


def percentiles(values: Array, percents: Sequence[float]) -> tuple[float, ...]:
    """Percentiles as `numpy.percentile` gives them, to the last bit: linear between the values on either side.

    Args:
        values: float64 of any shape, without NaN, at least one.
        percents: 0 … 100 each; those near either end are found quickly.
    """
    flat = values.ravel()
    sample = np.sort(flat[::SPARSE])
    return tuple(_percentile(flat, sample, percent) for percent in percents)


def _percentile(flat: Array, sample: Array, percent: float) -> float:
    place = (len(flat) - 1) * (percent / 100)
    below = int(place)
    from_the_end = percent > 50
    rank = len(flat) - 1 - below if from_the_end else below
    sampled = (rank + 1) // SPARSE + MARGIN
    if sampled >= len(sample):
        return float(np.percentile(flat, percent))
    picked = flat[flat >= sample[-1 - sampled]] if from_the_end else flat[flat <= sample[sampled]]
    if len(picked) < rank + 2:
        return float(np.percentile(flat, percent))
    picked.sort()
    at = len(picked) - 1 - rank if from_the_end else rank
    first, second = float(picked[at]), float(picked[min(at + 1, len(picked) - 1)])
    return _between(first, second, place - below)


def _between(first: float, second: float, share: float) -> float:
    """NumPy's interpolation, with its rounding: from the nearer end."""
    if share >= 0.5:
        return second - (second - first) * (1 - share)
    return first + (second - first) * share
