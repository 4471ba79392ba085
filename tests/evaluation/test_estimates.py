"""An estimate speaks for itself, and a result of estimates survives JSON with its gaps."""

import json
import math
from dataclasses import dataclass

import pytest

from hilum.errors import ConfigError
from hilum.evaluation.estimates import Estimate, from_plain, not_estimable, to_plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What is written and read back."""

    one: Estimate
    many: dict[str, Estimate]
    pairs: tuple[tuple[str, float], ...]
    maybe: Estimate | None
    bounds: tuple[float, ...]


def test_text_of_an_estimate() -> None:
    assert Estimate(value=0.7234, low=0.641, high=0.789).text() == "0.72 (0.64–0.79)"
    assert Estimate(value=0.7234).text(3) == "0.723 (no interval)"
    assert not_estimable("Nothing there.").text() == "not estimable"


def test_an_estimate_knows_what_it_has() -> None:
    whole = Estimate(value=0.7, low=0.6, high=0.8)
    assert (whole.estimable, whole.bounded, whole.interval) == (True, True, (0.6, 0.8))
    assert (Estimate(value=0.7).estimable, Estimate(value=0.7).bounded) == (True, False)
    assert not not_estimable("x").estimable


def test_results_survive_json_with_nan_as_null() -> None:
    result = Result(
        one=not_estimable("Nothing there.", n=3),
        many={"a": Estimate(value=0.1 + 0.2, low=0.0, high=1.0, n=7, patients=5, method="m")},
        pairs=(("x", math.nan), ("y", 1.0)),
        maybe=None,
        bounds=(math.nan, 2.0),
    )
    text = json.dumps(to_plain(result), allow_nan=False)
    back = from_plain(Result, json.loads(text), where="result")
    assert json.dumps(to_plain(back), allow_nan=False) == text
    assert back.many["a"] == result.many["a"]
    assert math.isnan(back.one.value)
    assert math.isnan(back.pairs[0][1])
    assert back.maybe is None


def test_a_nested_optional_estimate_is_read_back() -> None:
    result = Result(one=Estimate(value=1.0), many={}, pairs=(), maybe=not_estimable("x"), bounds=())
    back = from_plain(Result, to_plain(result), where="result")
    assert back.maybe is not None
    assert math.isnan(back.maybe.value)


def test_null_where_no_number_belongs_is_refused() -> None:
    plain = to_plain(Result(one=Estimate(value=1.0), many={}, pairs=(), maybe=None, bounds=()))
    plain["one"]["reason"] = None
    with pytest.raises(ConfigError, match="result.one.reason is None"):
        from_plain(Result, plain, where="result")
