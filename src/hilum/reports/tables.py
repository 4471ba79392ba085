"""Tables and the words for numbers: one way to write a value, its interval, its unit, and that there is none."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hilum.errors import DataError
from hilum.intervals import interval, numeral

NONE = "not estimable"
"""What stands where a value can't be computed; never a made-up number."""

Tone = Literal["", "red", "amber", "green", "note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Head of a table's column."""

    title: str
    """What it holds."""
    unit: str = ""
    """Its unit, shown under the title; empty for a text or a number between 0 and 1."""
    number: bool = False
    """Whether it holds numbers, which are set to the right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell."""

    text: str
    """What is shown."""
    detail: str = ""
    """A second, smaller line, such as the interval."""
    tone: Tone = ""
    """Tint behind it; empty for none. The text says the same in words."""
    reason: str = ""
    """Why there is no value; shown small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with its caption."""

    caption: str
    """What it shows and how to read it."""
    columns: tuple[Column, ...]
    """Heads, the first one of the row names."""
    rows: tuple[tuple[Cell, ...], ...]
    """Cells, as many in each row as there are columns."""

    def __post_init__(self) -> None:
        for i, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise DataError(
                    f"Row {i} of table {self.caption!r} has {len(row)} cells for {len(self.columns)} columns."
                )


def table(caption: str, columns: Sequence[Column | str], rows: Sequence[Sequence[Cell | str]]) -> Table:
    """A table from plain texts or cells; a column given as text is the column's title."""
    return Table(
        caption=caption,
        columns=tuple(c if isinstance(c, Column) else Column(title=c) for c in columns),
        rows=tuple(tuple(c if isinstance(c, Cell) else Cell(text=c) for c in row) for row in rows),
    )


def number(value: float, digits: int = 2) -> str:
    """A number with fixed digits; :data:`NONE` for NaN."""
    return NONE if math.isnan(value) else numeral(value, f".{digits}f")


def percent(share: float) -> str:
    """A share as per cent, with a space that doesn't break; :data:`NONE` for NaN."""
    return NONE if math.isnan(share) else f"{100 * share:.0f}\u00a0%"


def count(value: int) -> str:
    """A count with thousands set apart."""
    return f"{value:,}"


def estimate_cell(value: float, low: float, high: float, *, reason: str = "", digits: int = 2, tone: Tone = "") -> Cell:
    """A value with its interval below it; without a value the reason."""
    if math.isnan(value):
        return Cell(text=NONE, reason=reason)
    if math.isnan(low) or math.isnan(high):
        return Cell(text=number(value, digits), detail="no interval", reason=reason, tone=tone)
    return Cell(text=number(value, digits), detail=interval(low, high, f".{digits}f"), tone=tone)


def share_cell(part: int, whole: int) -> Cell:
    """A count with its share of a whole below it."""
    return Cell(text=count(part), detail=percent(part / whole) if whole else "")
