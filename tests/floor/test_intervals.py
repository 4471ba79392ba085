"""Bounds are told apart from the dash between them: a minus sign, and "to" where one of them is negative."""

from typing import Any

import pytest

from hilum.intervals import interval, joined, numeral, p_value


@pytest.mark.parametrize(
    ("low", "high", "form", "text"),
    [
        (0.64, 0.79, ".2f", "0.64–0.79"),
        (-89.2, -83.81, ".2f", "−89.20 to −83.81"),
        (-0.12, 0.03, ".2f", "−0.12 to 0.03"),
        (-0.001, 0.03, ".2f", "0.00–0.03"),
        (-1234.5, 9876.5, ",.1f", "−1,234.5 to 9,876.5"),
        (0.0, 1.0, ".0f", "0–1"),
        (0.3, 2.5, "+.1f", "+0.3–+2.5"),
    ],
)
def test_bounds_are_told_apart_from_the_dash_between_them(low: float, high: float, form: str, text: str) -> None:
    assert interval(low, high, form) == text


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [(-0.004, ".2f", "0.00"), (-0.004, "+.2f", "0.00"), (-3.5, ".1f", "−3.5"), (3.5, "+.1f", "+3.5"),
     (0.0, ".3f", "0.000"), (float("nan"), ".2f", "nan"), (-1e-7, ".1e", "−1.0e−07")],
)  # fmt: skip
def test_a_number_has_a_minus_sign_and_zero_has_none(value: float, form: str, text: str) -> None:
    assert numeral(value, form) == text


def test_written_bounds_are_put_together_alike() -> None:
    assert joined("−4", "−4") == "−4 to −4"
    assert joined("28.4", "40.92") == "28.4–40.92"


@pytest.mark.parametrize(
    ("p", "more", "text"),
    [
        (3.9e-96, {}, "< 0.001"),
        (0.0, {}, "< 0.001"),
        (0.001, {}, "0.001"),
        (0.0015, {"form": ".2g"}, "0.0015"),
        (0.0005, {"form": ".4f", "least": 0.0001}, "0.0005"),
        (0.00005, {"form": ".4f", "least": 0.0001}, "< 0.0001"),
        (0.0123, {"form": ".2g", "equals": "= "}, "= 0.012"),
        (1e-9, {"form": ".2g", "equals": "= "}, "< 0.001"),
    ],
)
def test_a_small_p_value_is_told_as_below_what_is_worth_telling(p: float, more: dict[str, Any], text: str) -> None:
    assert p_value(p, **more) == text
