"""How values cross to a sandbox's child and back: JSON for their structure, raw bytes for arrays.

Not pickle: a decoder that was taken over could then run code in whoever reads its answer. What may cross is a closed
list: plain values, bytes, paths, arrays, sequences, mappings, sets, and dataclasses of hilum, which are built through
their constructors. Functions travel by name, towards the child alone.

Layout: 8 bytes length of the JSON, the JSON, then the raw bytes that it points into. An object in the JSON has one key,
which says what it stands for.
"""

import dataclasses
import importlib
import json
import math
import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

LENGTH = struct.Struct(">Q")
KINDS_OF_NUMBERS = "biuf"


def encode(value: Any) -> bytes:
    """Bytes of a value.

    Raises:
        TypeError: it holds something that may not cross.
    """
    blobs: list[Any] = []
    tree = json.dumps(_tree(value, blobs, [0]), separators=(",", ":"), allow_nan=False).encode()
    return b"".join([LENGTH.pack(len(tree)), tree, *blobs])


def decode(content: bytes | bytearray | memoryview, *, functions: bool = False) -> Any:
    """The value of `encode`'s bytes.

    Args:
        content: the bytes; arrays are views into them.
        functions: True to resolve names of functions, which imports their modules: in the child, for what its parent
            sends, and nowhere else.

    Raises:
        ValueError: the bytes don't hold a value of the closed list.
    """
    try:
        (length,) = LENGTH.unpack_from(content)
        tree = json.loads(bytes(content[LENGTH.size : LENGTH.size + length]))
        return _value(tree, memoryview(content)[LENGTH.size + length :], functions)
    except ValueError:
        raise
    except Exception as error:  # hostile bytes can make any step fail
        raise ValueError(f"not a value that may cross ({type(error).__name__})") from error


_ORDERED = frozenset((list, tuple, set, frozenset))
_AS_THEY_ARE = frozenset((type(None), bool, int, str))
"""What JSON has itself; most values are of these, so they are asked for before anything is called."""
_LEAVES = _AS_THEY_ARE | {float}
"""What JSON gives back that stands for itself."""


def _tree(value: Any, blobs: list[Any], at: list[int]) -> Any:
    kind: Any = type(value)
    if kind in _ORDERED or _fields(kind) is not None:
        return _compound(value, blobs, at)
    if isinstance(value, float) and not isinstance(value, np.generic):
        return value if math.isfinite(value) else {"float": repr(value)}
    if value is None or (isinstance(value, bool | int | str) and not isinstance(value, np.generic)):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return {"bytes": _blob(value, blobs, at)}
    if isinstance(value, np.ndarray | np.generic):
        return {"array": _array(value, blobs, at)}
    if isinstance(value, Path):
        return {"path": str(value)}
    return _compound(value, blobs, at)


def _compound(value: Any, blobs: list[Any], at: list[int]) -> Any:
    kind: Any = type(value)
    if kind in _ORDERED:
        items = [item if type(item) in _AS_THEY_ARE else _tree(item, blobs, at) for item in value]
        return items if kind is list else {kind.__name__: items}
    fields = _fields(kind)
    if fields is not None:
        items = [item if type(item) in _AS_THEY_ARE else _tree(item, blobs, at) for item in fields[1](value)]
        return {"dataclass": [kind.__module__, kind.__qualname__, items]}
    if isinstance(value, Mapping):
        return {"dict": [[_tree(key, blobs, at), _tree(item, blobs, at)] for key, item in value.items()]}
    if callable(value) and hasattr(value, "__qualname__"):
        owner = getattr(value, "__module__", None) or "builtins"
        if _named(owner, value.__qualname__) != value:
            raise TypeError(f"{owner}.{value.__qualname__} can't be found by its name, so it can't cross")
        return {"function": [owner, value.__qualname__]}
    raise TypeError(f"{kind.__module__}.{kind.__qualname__} may not cross into or out of a sandbox")


@lru_cache(maxsize=256)
def _fields(kind: Any) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]] | None:
    """What the constructor of one of hilum's dataclasses takes, and what finds that; ``None`` for another class."""
    if not (dataclasses.is_dataclass(kind) and _is_ours(kind.__module__)):
        return None
    names = tuple(field.name for field in dataclasses.fields(kind) if field.init)
    found = attrgetter(*names) if len(names) > 1 else lambda value: tuple(getattr(value, name) for name in names)
    return names, found


def _is_ours(module: str) -> bool:
    return module == "hilum" or module.startswith("hilum.")


def _blob(content: Any, blobs: list[Any], at: list[int]) -> list[int]:
    view = memoryview(content)
    start = at[0]
    blobs.append(view)
    at[0] += view.nbytes
    return [start, view.nbytes]


def _array(value: Any, blobs: list[Any], at: list[int]) -> list[Any]:
    array = np.asarray(value)
    if array.dtype.kind not in KINDS_OF_NUMBERS:
        raise TypeError(f"An array of {array.dtype} may not cross into or out of a sandbox")
    # A view as bytes, since memoryview doesn't know half precision and other orders.
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return [array.dtype.str, list(array.shape), *_blob(flat, blobs, at), isinstance(value, np.generic)]


def _value(tree: Any, blobs: memoryview, functions: bool) -> Any:
    if isinstance(tree, list):
        return [item if type(item) in _LEAVES else _value(item, blobs, functions) for item in tree]
    if not isinstance(tree, dict):
        return tree
    ((name, content),) = tree.items()
    if name == "function":
        if not functions:
            raise ValueError("a function may not come out of a sandbox")
        return _named(content[0], content[1])
    if name == "dataclass":
        return _dataclass(content, blobs, functions)
    if name == "dict":
        return {_value(key, blobs, functions): _value(item, blobs, functions) for key, item in content}
    if name in _SEQUENCES and isinstance(content, list):
        return _SEQUENCES[name](_value(content, blobs, functions))
    if name == "bytes":
        return bytes(_slice(blobs, *content))
    if name == "array":
        return _array_of(content, blobs)
    if name in _PLAIN:
        return _PLAIN[name](content)
    raise ValueError(f"{name!r} is no kind of value")


_SEQUENCES: dict[str, Callable[..., Any]] = {"tuple": tuple, "set": set, "frozenset": frozenset}
_PLAIN: dict[str, Callable[..., Any]] = {"float": float, "path": Path}


def _slice(blobs: memoryview, start: int, size: int) -> memoryview:
    if start < 0 or size < 0 or start + size > len(blobs):
        raise ValueError("bytes beyond the end")
    return blobs[start : start + size]


def _array_of(content: list[Any], blobs: memoryview) -> Any:
    name, shape, start, size, is_scalar = content
    dtype = np.dtype(str(name))
    if dtype.kind not in KINDS_OF_NUMBERS:
        raise ValueError(f"an array of {dtype} may not cross")
    if min(shape, default=0) < 0:  # which reshape would take for "as many as there are"
        raise ValueError("an array of fewer values than none")
    array = np.frombuffer(_slice(blobs, start, size), dtype).reshape(shape)
    return array[()] if is_scalar else array


def _dataclass(content: list[Any], blobs: memoryview, functions: bool) -> Any:
    module, name, items = content
    kind, names = _dataclass_named(module, name)
    values = [item if type(item) in _LEAVES else _value(item, blobs, functions) for item in items]
    return kind(**dict(zip(names, values, strict=True)))


@lru_cache(maxsize=256)
def _dataclass_named(module: str, name: str) -> tuple[Any, tuple[str, ...]]:
    if not _is_ours(module):
        raise ValueError(f"{module}.{name} may not cross")
    kind = _named(module, name)
    fields = _fields(kind) if isinstance(kind, type) else None
    if fields is None:
        raise ValueError(f"{module}.{name} is no dataclass")
    return kind, fields[0]


def _named(module: str, qualname: str) -> Any:
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found
