"""Configs are frozen dataclasses; these functions give each a fingerprint, JSON, and strict reading back.

A config's defaults live in its fields and nowhere else. Unknown keys are errors and all errors are reported at once.
"""

import dataclasses
import functools
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from hilum.errors import ConfigError, nearest

BESIDE: Mapping[str, Any] = {"beside": True}
"""Metadata of a field that isn't part of the plain values, such as a table that is written beside them."""

PLAIN = (str, int, float, bool, type(None))


class Dataclass(Protocol):
    """Any dataclass instance."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


C = TypeVar("C")


def to_mapping(value: Any) -> Any:
    """Plain JSON values (dict, list, str, int, float, bool, None) of a config or of anything inside one."""
    kept = _kept(value.__class__)
    if kept is not None:
        value = {name: getattr(value, name) for name in kept}
    # What is inside is plain mostly: then no call is made for it.
    if isinstance(value, (dict, Mapping)):
        return {str(key): item if isinstance(item, PLAIN) else to_mapping(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [item if isinstance(item, PLAIN) else to_mapping(item) for item in value]
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"A config holds JSON values, paths and configs, not {type(value).__name__} ({value!r}).")


@functools.cache
def _kept(kind: type) -> tuple[str, ...] | None:
    """Names of a dataclass's fields that are part of its plain values; None for what is no dataclass."""
    if not dataclasses.is_dataclass(kind):
        return None
    return tuple(f.name for f in dataclasses.fields(kind) if not f.metadata.get("beside"))


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(to_mapping(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(value: Any) -> str:
    """SHA-256, as 64 hex digits, of a config's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def from_mapping(kind: type[C], values: Mapping[str, Any], *, where: str = "config") -> C:
    """Build a config from plain values, strictly.

    Args:
        kind: the config's dataclass.
        values: its fields; missing ones take their defaults.
        where: what the values were read from, for messages.

    Raises:
        ConfigError: unknown keys, missing fields or values of a wrong type, all of them at once.
    """
    problems: list[str] = []
    built = _build(kind, values, where, problems)
    if problems:
        raise ConfigError(problems)
    return typing.cast(C, built)


def _build(kind: Any, values: Mapping[str, Any], where: str, problems: list[str]) -> Any:
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    found = len(problems)
    for key in values:
        if key not in fields:
            problems.append(f"{where}: unknown key {key!r}. {nearest(key, sorted(fields))}")
    arguments = {}
    for name, field in fields.items():
        if name in values:
            arguments[name] = _convert(hints[name], values[name], f"{where}.{name}", problems)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(f"{where}: {name!r} is missing and has no default. Add it.")
    if len(problems) > found:
        return None
    try:
        return kind(**arguments)
    except ConfigError as error:  # values out of range: told with all other errors
        problems += [f"{where}: {problem}" for problem in error.problems]
        return None


def _convert(hint: Any, value: Any, where: str, problems: list[str]) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        return _convert(next(o for o in options if o is not type(None)), value, where, problems)
    if origin is typing.Literal:
        options = typing.get_args(hint)
        if value not in options:
            problems.append(f"{where} is {value!r}. {nearest(str(value), [str(o) for o in options])}")
        return value
    if origin is tuple and isinstance(value, list | tuple):
        inner = typing.get_args(hint)
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
        if len(kinds) != len(value):
            problems.append(f"{where} has {len(value)} values, but needs {len(kinds)}.")
            return ()
        pairs = zip(kinds, value, strict=True)
        return tuple(_convert(kind, item, f"{where}[{i}]", problems) for i, (kind, item) in enumerate(pairs))
    if origin is dict and isinstance(value, Mapping):
        kind = typing.get_args(hint)[1]
        return {str(key): _convert(kind, item, f"{where}.{key}", problems) for key, item in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return _build(hint, value, where, problems)
    if hint is Any:
        return value
    return _scalar(hint, value, where, problems)


def _scalar(hint: Any, value: Any, where: str, problems: list[str]) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    plain = typing.get_origin(hint) or hint
    if not isinstance(value, plain) or (isinstance(value, bool) and plain in (int, float)):
        problems.append(f"{where} is {value!r} ({type(value).__name__}), but must be {plain.__name__}.")
    return value
