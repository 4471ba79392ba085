"""What a study gives back: numbers, a computed finding, and the parts of its report."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hilum.errors import DataError
from hilum.intervals import interval, numeral
from hilum.reports.page import Section
from hilum.reports.tables import Cell, Column, Table, table


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One measured number, beside what is published or commonly quoted for it."""

    name: str
    """What was measured, such as ``test accuracy, modern form, 5 epochs``."""
    value: float
    """The value; the mean where several seeds were run."""
    low: float | None = None
    """Lower bound of the interval or range; None without."""
    high: float | None = None
    """Upper bound."""
    spread: str = ""
    """What the bounds are, such as ``95 % Wilson, 10,000 test images`` or ``smallest and largest of 3 seeds``."""
    unit: str = ""
    """Its unit, such as ``%`` or ``s``."""
    digits: int = 2
    """Digits behind the point."""
    published: str = ""
    """The published or commonly quoted figure, with its protocol in a few words; empty for none."""
    source: str = ""
    """Where that figure stands: authors, year, DOI or arXiv; says when it could not be checked."""
    timing: bool = False
    """Whether it is a time or a rate, which differs from run to run."""

    def text(self) -> str:
        """``99.26 % (99.07–99.41)``."""
        unit = f"\u00a0{self.unit}" if self.unit else ""
        form = f",.{self.digits}f"
        value = f"{numeral(self.value, form)}{unit}"
        if self.low is None or self.high is None:
            return value
        return f"{value} ({interval(self.low, self.high, form)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All that a study found."""

    numbers: tuple[Number, ...]
    """The main numbers; the table on top of the report, and the study's rows in ``docs/results.md``."""
    finding: str
    """A paragraph computed from the measurements."""
    sections: tuple[Section, ...]
    """The report's parts."""
    measured: Mapping[str, Any]
    """Everything measured, as plain JSON values; keys of times end with ``_s``, ``_ms`` or ``_per_s``."""
    title: str = ""
    """Heading when the table's would not be true of what was measured; names the network measured."""
    key_figure: str = ""
    """Name of the figure that stands for the study in the atlas; the first when empty."""
    disclaimer: str = ""
    """Sentence that every surface must show, such as the clinic's."""


def over_seeds(name: str, values: Sequence[float], **fields: Any) -> Number:
    """A number from several seeds: their mean, with the smallest and the largest.

    Args:
        name: what was measured.
        values: one a seed, at least one.
        fields: further fields of :class:`Number`.

    Raises:
        DataError: no value, or one that is not finite.
    """
    if not values or not all(math.isfinite(value) for value in values):
        raise DataError(f"{name!r} can't be summed up: its values are {list(values)}. Give one finite value a seed.")
    if len(values) == 1:
        return Number(name=name, value=float(values[0]), **{"spread": "one seed", **fields})
    spread = f"smallest and largest of {len(values)} seeds"
    return Number(
        name=name,
        value=float(np.mean(values)),
        low=float(min(values)),
        high=float(max(values)),
        **{"spread": spread, **fields},
    )


def share(name: str, right: int, n: int, **fields: Any) -> Number:
    """A share of n as per cent, with Wilson's 95 % interval.

    Args:
        name: what was measured.
        right: how many of n.
        n: how many in all, ≥ 1.
        fields: further fields of :class:`Number`.
    """
    from hilum.evaluation.intervals import wilson_interval

    low, high = wilson_interval(right / n, n)
    spread = f"95 % Wilson, n = {n:,}"
    return Number(
        name=name, value=100 * right / n, low=100 * low, high=100 * high, unit="%", **{"spread": spread, **fields}
    )


def numbers_table(numbers: Sequence[Number], caption: str = "The main numbers") -> Table:
    """The numbers as a table: ours, its interval, and what is published."""
    columns = [
        Column(title="quantity"),
        Column(title="measured here", number=True),
        Column(title="interval"),
        Column(title="published or commonly quoted"),
        Column(title="source"),
    ]
    rows: list[list[Cell | str]] = [
        [
            number.name,
            Cell(text=number.text().split(" (")[0]),
            Cell(text=_bounds(number), detail=number.spread if number.low is not None else ""),
            number.published or "–",
            number.source or "–",
        ]
        for number in numbers
    ]
    return table(caption, columns, rows)


def _bounds(number: Number) -> str:
    if number.low is None or number.high is None:
        return number.spread or "–"
    return interval(number.low, number.high, f",.{number.digits}f")
