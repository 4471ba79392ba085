"""What the cards of several models say they measured, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

from hilum.bundle.card import Measured, ModelCard
from hilum.intervals import interval, numeral


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One measurement, as each model's card has it."""

    on: str
    """On which films."""
    what: str
    """What was measured, such as ``AUROC``."""
    finding: str
    """Of which finding, or ``all``."""
    cells: tuple[str, ...]
    """By model the value with its 95 % interval, why there is none, or a dash where its card has no such line."""


def side_by_side(cards: Sequence[ModelCard | None]) -> tuple[Line, ...]:
    """Every measurement of usefulness and of calibration, in the order of the cards; the first card's come first.

    Args:
        cards: by model; None where a bundle has none or is not here.
    """
    columns = [{_key(one): one for one in _results(card)} for card in cards]
    keys = dict.fromkeys(key for column in columns for key in column)
    return tuple(
        Line(
            on=on, what=what, finding=finding, cells=tuple(_cell(column.get((on, what, finding))) for column in columns)
        )
        for on, what, finding in keys
    )


def _results(card: ModelCard | None) -> tuple[Measured, ...]:
    return () if card is None else (*card.usefulness.results, *card.safety.results)


def _key(one: Measured) -> tuple[str, str, str]:
    return one.on, one.what, one.finding


def _cell(one: Measured | None) -> str:
    if one is None:
        return "–"
    if one.value is None:
        return f"not estimable: {one.reason}" if one.reason else "not estimable"
    form = ".3f" if "error" in one.what else ".2f"
    bounds = "" if one.low is None or one.high is None else f" ({interval(one.low, one.high, form)})"
    films = "" if one.n is None else f", n {one.n:,}"
    return f"{numeral(one.value, form)}{bounds}{films}"
