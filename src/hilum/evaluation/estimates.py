"""An estimate: a value with its interval, or a reason why there is none. Never a made-up number."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from hilum.config import from_mapping, to_mapping
from hilum.intervals import interval, numeral

V = TypeVar("V")

NAN = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A measured value with its interval.

    A value that can't be computed is NaN and ``reason`` says why. A value whose interval can't be computed has NaN
    bounds, and ``reason`` says why.
    """

    value: float
    """The value on the data as they are; NaN when not estimable."""
    low: float = NAN
    """Lower bound of the interval; NaN when there is none."""
    high: float = NAN
    """Upper bound of the interval; NaN when there is none."""
    n: int = 0
    """Films that the value rests on."""
    patients: int = 0
    """Patients that the value rests on; 0 when they were not counted."""
    method: str = ""
    """How the interval was made, such as ``bootstrap by patient`` or ``wilson``."""
    reason: str = ""
    """Why the value or its interval is NaN: one clear sentence; empty when both are there."""

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound."""
        return self.low, self.high

    @property
    def estimable(self) -> bool:
        """Whether there is a value."""
        return not math.isnan(self.value)

    @property
    def bounded(self) -> bool:
        """Whether there is an interval."""
        return not (math.isnan(self.low) or math.isnan(self.high))

    def text(self, digits: int = 2) -> str:
        """The value and its interval for a sentence, such as ``0.72 (0.64–0.79)``, or ``not estimable``."""
        if not self.estimable:
            return "not estimable"
        value = numeral(self.value, f".{digits}f")
        return f"{value} ({interval(self.low, self.high, f'.{digits}f')})" if self.bounded else f"{value} (no interval)"


def not_estimable(reason: str, *, n: int = 0, patients: int = 0) -> Estimate:
    """An estimate without a value.

    Args:
        reason: one clear sentence: what is missing.
        n: films there were.
        patients: patients there were.
    """
    return Estimate(value=NAN, n=n, patients=patients, reason=reason)


def to_plain(value: Any) -> Any:
    """JSON values of a result: as :func:`hilum.config.to_mapping`, with NaN written as null."""
    return _without_nan(to_mapping(value))


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return value


def from_plain(kind: type[V], values: Mapping[str, Any], *, where: str) -> V:
    """Read back what :func:`to_plain` wrote, strictly; null where a number belongs is NaN.

    Raises:
        ConfigError: unknown keys, missing fields or values of a wrong type, all of them at once.
    """
    return from_mapping(kind, _with_nan(kind, values), where=where)


def _with_nan(hint: Any, value: Any) -> Any:
    """Follow the type of a value down to its numbers and put NaN where a number is null."""
    if hint is float:
        return NAN if value is None else value
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _with_nan(next(o for o in inner if o is not type(None)), value)
    if origin is tuple and isinstance(value, list):
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        return [_with_nan(kind, item) for kind, item in zip(kinds, value, strict=False)]
    if origin is dict and isinstance(value, Mapping):
        return {key: _with_nan(inner[1], item) for key, item in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        hints = typing.get_type_hints(hint)
        return {key: _with_nan(hints.get(key, Any), item) for key, item in value.items()}
    return value
