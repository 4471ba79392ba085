"""Paired comparisons: by hand and against scipy."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_rel

from hilum.errors import DataError
from hilum.evaluation.paired import paired_difference, sign_test


@pytest.mark.parametrize(("first", "second"), [(0, 5), (7, 3), (40, 25), (120, 180)])
def test_sign_test_equals_scipy(first: int, second: int) -> None:
    assert sign_test(first, second) == pytest.approx(binomtest(first, first + second, 0.5).pvalue)


def test_sign_test_by_hand() -> None:
    """Five against none: 2 · (1/2)⁵; equal or no differences say nothing."""
    assert sign_test(5, 0) == 2 / 32
    assert sign_test(4, 4) == 1
    assert sign_test(0, 0) == 1


def test_interval_of_paired_differences_equals_scipy() -> None:
    first, second = [0.97, 0.96, 0.98, 0.95], [0.95, 0.955, 0.96, 0.949]
    found = paired_difference(first, second)
    expected = ttest_rel(first, second).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(np.mean(first) - np.mean(second))
    assert (found.sign, found.pairs) == (0, 4)


def test_sign_says_which_side_the_interval_lies_on() -> None:
    assert paired_difference([3.0, 3.1, 2.9], [1.0, 1.1, 0.8]).sign == 1
    assert paired_difference([1.0, 1.1, 0.8], [3.0, 3.1, 2.9]).sign == -1


def test_one_pair_has_no_interval_and_no_side() -> None:
    found = paired_difference([2.0], [1.0])
    assert (found.mean, found.sign, found.pairs) == (1.0, 0, 1)
    assert math.isnan(found.low)


def test_values_that_are_no_pairs_are_refused() -> None:
    with pytest.raises(DataError, match=r"2 values can't be paired with 1"):
        paired_difference([1.0, 2.0], [1.0])
