"""Values cross to a sandbox and back as they were, and nothing else crosses."""

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest

from hilum.errors import FilmError
from hilum.imaging import wire
from hilum.imaging.intended_use import Check, Gate
from hilum.imaging.preprocessing import Preprocessing, preprocess


def there_and_back(value):
    return wire.decode(wire.encode(value))


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -(10**30), 1.5, float("inf"), "é\0", b"", b"\0\xff", [], (), {}, set(), frozenset({1}),
        [1, (2, [3])], {"a": {1: (None,)}}, {("a", 1): b"x"}, Path("a/b.dcm"), {1, 2},
        Preprocessing(size=64), Gate(analyse=True, checks=(Check(code="a", outcome="pass", sentence="b"),)),
    ],
    ids=repr,
)  # fmt: skip
def test_round_trip(value):
    """Equal, and of the same type."""
    back = there_and_back(value)
    assert back == value
    assert type(back) is type(value)


def test_not_a_number_crosses():
    """NaN isn't JSON, and crosses all the same."""
    assert np.isnan(there_and_back(float("nan")))


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<i8", "<f2", "<f4", "<f8", "?"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (4, 5, 6)])
def test_arrays_cross(dtype, shape):
    """Values, shape and type are kept, whatever the memory order."""
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    for one in (array, array.T):
        back = there_and_back(one)
        np.testing.assert_array_equal(back, one)
        assert (back.dtype, back.shape) == (one.dtype, one.shape)


def test_scalars_of_numpy_cross():
    """A float32 stays one."""
    back = there_and_back({"a": np.float32(0.1), "b": np.uint16(7)})
    assert back == {"a": np.float32(0.1), "b": np.uint16(7)}
    assert type(back["a"]) is np.float32


def test_functions_cross_to_the_child_alone():
    """By name, and only where the reader allows it."""
    content = wire.encode((preprocess, Path.write_bytes, abs))
    assert wire.decode(content, functions=True) == (preprocess, Path.write_bytes, abs)
    with pytest.raises(ValueError, match="a function may not come out"):
        wire.decode(content)


@dataclasses.dataclass
class Foreign:
    value: int = 1


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (object(), "builtins.object may not cross"),
        (Foreign(), "Foreign may not cross"),
        (FilmError("a", code="b"), "FilmError may not cross"),
        (functools.partial(abs, 1), "partial may not cross"),
        (lambda: 1, "can't be found by its name"),
        (np.array(["text"]), "An array of <U4 may not cross"),
        (np.array([object()]), "An array of object may not cross"),
    ],
)
def test_what_may_not_cross(value, match):
    """Each is refused where it is sent, by its name."""
    with pytest.raises(TypeError, match=match):
        wire.encode(value)


@pytest.mark.parametrize(
    ("tree", "match"),
    [
        ({"array": ["|u1", [1 << 40], 0, 0, False]}, "cannot reshape"),
        ({"array": ["|u1", [3], 0, 2, False]}, "cannot reshape"),
        ({"array": ["|u1", [-1], 0, 3, False]}, "fewer values than none"),
        ({"array": ["|u1", [2], 2, 2, False]}, "beyond the end"),
        ({"tuple": {"array": ["|u1", [3], 0, 3, False]}}, "'tuple' is no kind of value"),
        ({"set": {"bytes": [0, 3]}}, "'set' is no kind of value"),
        ({"frozenset": "abc"}, "'frozenset' is no kind of value"),
    ],
)
def test_what_is_said_is_never_more_than_what_came(tree, match):
    """A few bytes may neither have a large array made, nor one of whatever lay in memory, nor a sequence of one."""
    said = json.dumps(tree).encode()
    with pytest.raises(ValueError, match=match):
        wire.decode(wire.LENGTH.pack(len(said)) + said + b"abc")
