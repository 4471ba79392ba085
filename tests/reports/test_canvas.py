"""Numbers as labels, and what figures take in."""

import math

import pytest

from hilum.errors import DataError
from hilum.reports.canvas import brief, numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.91234, "0.912"),
        (99.0, "99"),
        (0.0, "0"),
        (-0.5, "−0.5"),
        (1234.5, "1,234"),
        (999.9, "1000"),
        (6_624_904, "6.62 million"),
        (15_470_000_000, "15.5 billion"),
        (2e12, "2 trillion"),
        (5.5e-4, "5.5×10⁻⁴"),
        (1e20, "1.0×10²⁰"),
        (math.nan, "–"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
    ],
)
def test_a_number_is_written_short(value: float, text: str) -> None:
    assert brief(value) == text


def test_more_digits_when_asked_for() -> None:
    assert brief(99.054, 4) == "99.05"


def test_infinite_numbers_become_gaps_and_the_callers_array_stays() -> None:
    import numpy as np

    given = np.array([1.0, math.inf])
    assert np.isnan(numbers(given, "y")[1])
    assert given[1] == math.inf


def test_numbers_are_one_row() -> None:
    with pytest.raises(DataError, match=r"x must be one row of numbers, but got the shape \(\)"):
        numbers(3, "x")  # type: ignore[arg-type]
