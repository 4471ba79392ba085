"""Numbers, intervals and gaps are written in one way."""

import math

import pytest

from hilum.errors import DataError
from hilum.reports.tables import Cell, Column, count, estimate_cell, number, percent, share_cell, table


def test_numbers_counts_and_shares() -> None:
    assert number(0.12345, 3) == "0.123"
    assert count(12345) == "12,345"
    assert percent(0.954) == "95\u00a0%"
    assert share_cell(1, 4) == Cell(text="1", detail="25\u00a0%")
    assert share_cell(0, 0) == Cell(text="0")


def test_what_is_not_estimable_is_never_a_number() -> None:
    assert number(math.nan) == percent(math.nan) == "not estimable"
    cell = estimate_cell(math.nan, 0.1, 0.2, reason="No film.")
    assert (cell.text, cell.detail, cell.reason) == ("not estimable", "", "No film.")


def test_an_estimate_shows_its_interval_or_that_it_has_none() -> None:
    assert estimate_cell(0.7, 0.6, 0.8).detail == "0.60–0.80"
    assert estimate_cell(0.7, math.nan, 0.8, reason="Few.").detail == "no interval"


def test_plain_texts_become_columns_and_cells() -> None:
    made = table("c", ["a", Column(title="b", number=True)], [["x", Cell(text="1")]])
    assert made.columns[0] == Column(title="a")
    assert made.rows[0][0] == Cell(text="x")


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(DataError, match="Row 1 of table 'c' has 2 cells for 1 columns"):
        table("c", ["a"], [["x"], ["x", "y"]])
