"""Configs: strict reading, all errors at once, fingerprints that depend on values alone."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from hilum.config import BESIDE, canonical_json, fingerprint, from_mapping, to_mapping
from hilum.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    rate: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    name: str
    size: int = 224
    mode: Literal["stretch", "crop"] = "stretch"
    limits: tuple[float, ...] = (0.5, 99.5)
    inner: Inner = field(default_factory=Inner)
    folder: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limited:
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.share > 1:
            raise ConfigError([f"share is {self.share}, but must be at most 1."])


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    inside: tuple[Limited, ...] = ()


def test_round_trip_through_json_gives_the_same_value() -> None:
    value = Outer(name="a", size=64, inner=Inner(rate=0.25), folder=Path("x"), limits=(1.0, 2.0, 3.0))
    assert from_mapping(Outer, json.loads(json.dumps(to_mapping(value)))) == value


def test_fingerprint_changes_with_any_field_and_not_with_key_order() -> None:
    assert fingerprint(Outer(name="a")) != fingerprint(Outer(name="a", inner=Inner(rate=0.1)))
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert len(fingerprint(Outer(name="a"))) == 64


def test_all_errors_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping(Outer, {"siez": 3, "size": "big", "mode": "strech", "inner": {"rate": "fast"}}, where="run.json")
    assert caught.value.problems == (
        "run.json: unknown key 'siez'. Did you mean 'size'? Known: folder, inner, limits, mode, name, size.",
        "run.json: 'name' is missing and has no default. Add it.",
        "run.json.size is 'big' (str), but must be int.",
        "run.json.mode is 'strech'. Did you mean 'stretch'? Known: stretch, crop.",
        "run.json.inner.rate is 'fast' (str), but must be float.",
    )


def test_an_integer_is_a_float_and_a_bool_is_not_an_integer() -> None:
    assert from_mapping(Inner, {"rate": 1}).rate == 1.0
    with pytest.raises(ConfigError, match=r"config\.size is True \(bool\), but must be int"):
        from_mapping(Outer, {"name": "a", "size": True})


def test_values_out_of_range_are_told_with_all_other_errors() -> None:
    """What a config inside refuses by itself stands beside unknown keys, with its place."""
    with pytest.raises(ConfigError) as caught:
        _local(Holder, {"inside": [{"share": 2.0}, {"share": 0.5}], "nane": 1})
    assert caught.value.problems == (
        "config: unknown key 'nane'. Known: inside.",
        "config.inside[0]: share is 2.0, but must be at most 1.",
    )


def test_a_fixed_tuple_has_a_fixed_length() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Pair:
        at: tuple[int, int] = (0, 0)

    assert _local(Pair, {"at": [1, 2]}) == Pair(at=(1, 2))
    with pytest.raises(ConfigError, match=r"config\.at has 3 values, but needs 2"):
        _local(Pair, {"at": [1, 2, 3]})


def _local(kind: type, values: dict[str, object]) -> object:
    return from_mapping(kind, values)


def test_what_is_no_json_value_is_refused() -> None:
    with pytest.raises(TypeError, match="not set"):
        canonical_json({1, 2})


def test_a_field_that_lies_beside_is_no_part_of_the_plain_values() -> None:
    @dataclass(frozen=True)
    class Measured:
        value: float
        table: object = field(default=None, metadata=BESIDE, compare=False)

    made = Measured(value=0.5, table=object())
    assert to_mapping(made) == {"value": 0.5}
    assert from_mapping(Measured, to_mapping(made)) == made
