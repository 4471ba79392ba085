"""Comparing two things on the same images or the same seeds: what each has alone, and how sure that is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hilum.errors import DataError


def sign_test(first: int, second: int) -> float:
    """Two-sided exact sign test on pairs that differ, which for right and wrong answers is McNemar's exact test.

    Args:
        first: pairs in which only the first is right.
        second: pairs in which only the second is right.

    Returns:
        probability of a split as uneven as this or more when both are equally good; 1 when no pair differs.

    Source: McNemar 1947, Psychometrika 12:153, doi:10.1007/BF02295996, in its exact binomial form.
    """
    n, fewer = first + second, min(first, second)
    tail = sum(math.comb(n, k) for k in range(fewer + 1))
    return min(1.0, float(2 * tail / 2**n))


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Mean difference of pairs, with its interval."""

    mean: float
    """First minus second."""
    low: float
    """Lower bound; NaN for a single pair."""
    high: float
    """Upper bound; NaN for a single pair."""
    pairs: int
    """Number of pairs, such as seeds."""

    @property
    def sign(self) -> int:
        """1 or −1 when the interval lies above or below 0, else 0: the pairs don't tell the two apart."""
        if math.isnan(self.low):
            return 0
        return int(self.low > 0) - int(self.high < 0)


def paired_difference(first: Sequence[float], second: Sequence[float], level: float = 0.95) -> Difference:
    """Student's interval of the mean difference of paired values, such as two networks' accuracies seed by seed.

    Args:
        first: one value a pair.
        second: the others, in the same order.
        level: nominal coverage.

    Raises:
        DataError: no pairs, or another number of values on the two sides.

    Source: Student 1908, Biometrika 6:1, doi:10.1093/biomet/6.1.1.
    """
    if not first or len(first) != len(second):
        raise DataError(f"{len(first)} values can't be paired with {len(second)}. Give as many of each, at least one.")
    differences = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    n, mean = len(differences), float(differences.mean())
    if n == 1:
        return Difference(mean=mean, low=math.nan, high=math.nan, pairs=1)
    from scipy.stats import t

    reach = float(t.ppf((1 + level) / 2, n - 1) * differences.std(ddof=1) / math.sqrt(n))
    return Difference(mean=mean, low=mean - reach, high=mean + reach, pairs=n)
