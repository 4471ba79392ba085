"""What an ONNX file declares, read from its protobuf bytes: no runtime opens a model before this walk has passed it.

Field numbers are those of ``onnx.proto3`` (ONNX IR version 10). Of a tensor's values only one thing is asked, whether
they are numbers: a runtime whose ReLU turns NaN into 0 would answer with damaged weights as if all were well. The walk
takes milliseconds and needs no ``onnx`` package.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hilum.errors import BundleError

# onnx.proto3, message by message: the fields that the walk follows.
MODEL_GRAPH, MODEL_OPSET, MODEL_METADATA, MODEL_TRAINING, MODEL_FUNCTIONS = 7, 8, 14, 20, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT, GRAPH_SPARSE = 1, 5, 11, 12, 15
NODE_ATTRIBUTE = 5
ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS, ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
SPARSE_TENSORS = (1, 2)
TENSOR_TYPE, TENSOR_FLOATS, TENSOR_NAME, TENSOR_RAW, TENSOR_DOUBLES = 2, 4, 8, 9, 10
TENSOR_EXTERNAL_DATA, TENSOR_DATA_LOCATION = 13, 14
FUNCTION_NODE, FUNCTION_ATTRIBUTE = 7, 11
OPSET_DOMAIN, OPSET_VERSION = 1, 2
ENTRY_KEY, ENTRY_VALUE = 1, 2
VALUE_NAME = 1

FLOATING: "dict[int, np.dtype[Any]]" = {1: np.dtype("<f4"), 10: np.dtype("<f2"), 11: np.dtype("<f8")}
"""Types of tensors that can hold NaN: FLOAT, FLOAT16, DOUBLE."""

_MAX_DEPTH = 16
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTH = {_FIXED64: 8, _FIXED32: 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What the graph declares."""

    opsets: dict[str, int]
    """Version of each operator set by its domain; the empty domain is ONNX's own."""
    inputs: tuple[str, ...]
    """Names of the graph's inputs."""
    outputs: tuple[str, ...]
    """Names of the graph's outputs."""
    metadata: dict[str, str]
    """Metadata properties of the model."""
    external: tuple[str, ...]
    """Names of tensors whose values lie in another file."""
    broken: tuple[str, ...]
    """Names of tensors with values that are not numbers (NaN)."""
    trains: bool
    """Whether it holds a training graph."""


def model_facts(content: bytes, *, where: str = "model.onnx") -> ModelFacts:
    """Read what an ONNX model declares.

    Raises:
        BundleError: the bytes are no ONNX model.
    """
    walk = _Walk()
    try:
        walk.model(memoryview(content))
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise BundleError(f"{where} is no ONNX model ({error}). Make the bundle again.") from None
    if not walk.outputs:
        raise BundleError(f"{where} is no ONNX model (its graph has no output). Make the bundle again.")
    return ModelFacts(
        opsets=walk.opsets,
        inputs=tuple(walk.inputs),
        outputs=tuple(walk.outputs),
        metadata=walk.metadata,
        external=tuple(walk.external),
        broken=tuple(walk.broken),
        trains=walk.trains,
    )


class _Walk:
    """Collects while walking over nested messages."""

    def __init__(self) -> None:
        self.opsets: dict[str, int] = {}
        self.metadata: dict[str, str] = {}
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.external: list[str] = []
        self.broken: list[str] = []
        self.trains = False

    def model(self, content: memoryview) -> None:
        for number, value in fields(content):
            if number == MODEL_GRAPH:
                self.graph(_message(value), depth=0)
            elif number == MODEL_OPSET:
                entry = dict(fields(_message(value)))
                version = entry.get(OPSET_VERSION, 0)
                self.opsets[_text(entry.get(OPSET_DOMAIN, b""))] = version if isinstance(version, int) else 0
            elif number == MODEL_METADATA:
                entry = dict(fields(_message(value)))
                self.metadata[_text(entry.get(ENTRY_KEY, b""))] = _text(entry.get(ENTRY_VALUE, b""))
            elif number == MODEL_TRAINING:
                self.trains = True
            elif number == MODEL_FUNCTIONS:
                self.function(_message(value))

    def function(self, content: memoryview) -> None:
        for number, value in fields(content):
            if number == FUNCTION_NODE:
                self.node(_message(value), depth=1)
            elif number == FUNCTION_ATTRIBUTE:
                self.attribute(_message(value), depth=1)

    def graph(self, content: memoryview, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise ValueError(f"graphs are nested more than {_MAX_DEPTH} deep")
        for number, value in fields(content):
            if number == GRAPH_NODE:
                self.node(_message(value), depth)
            elif number == GRAPH_INITIALIZER:
                self.tensor(_message(value))
            elif number == GRAPH_SPARSE:
                self.sparse(_message(value))
            elif number in (GRAPH_INPUT, GRAPH_OUTPUT) and depth == 0:
                name = _text(dict(fields(_message(value))).get(VALUE_NAME, b""))
                (self.inputs if number == GRAPH_INPUT else self.outputs).append(name)

    def node(self, content: memoryview, depth: int) -> None:
        for number, value in fields(content):
            if number == NODE_ATTRIBUTE:
                self.attribute(_message(value), depth)

    def attribute(self, content: memoryview, depth: int) -> None:
        for number, value in fields(content):
            if number in ATTRIBUTE_TENSORS:
                self.tensor(_message(value))
            elif number in ATTRIBUTE_GRAPHS:
                self.graph(_message(value), depth + 1)
            elif number in ATTRIBUTE_SPARSE:
                self.sparse(_message(value))

    def sparse(self, content: memoryview) -> None:
        for number, value in fields(content):
            if number in SPARSE_TENSORS:
                self.tensor(_message(value))

    def tensor(self, content: memoryview) -> None:
        name, outside, kind = "", False, 0
        values: list[tuple[int, int | memoryview]] = []
        for number, value in fields(content):
            if number == TENSOR_NAME:
                name = _text(value)
            elif number == TENSOR_TYPE:
                kind = value if isinstance(value, int) else 0
            elif number in (TENSOR_RAW, TENSOR_FLOATS, TENSOR_DOUBLES):
                values.append((number, value))
            elif number == TENSOR_EXTERNAL_DATA or (number == TENSOR_DATA_LOCATION and value != 0):
                outside = True
        if outside:
            self.external.append(name)
        raw: np.dtype[Any] | None = FLOATING.get(kind)
        dtypes = {TENSOR_RAW: raw, TENSOR_FLOATS: FLOATING[1], TENSOR_DOUBLES: FLOATING[11]}
        if any((dtype := dtypes[number]) is not None and _has_nan(_message(value), dtype) for number, value in values):
            self.broken.append(name)


def _has_nan(content: memoryview, dtype: "np.dtype[Any]") -> bool:
    """One pass without a copy: the least of values among which one is NaN is NaN."""
    whole = len(content) - len(content) % dtype.itemsize
    return bool(whole) and bool(np.isnan(np.frombuffer(content[:whole], dtype).min()))


def fields(content: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Fields of one protobuf message: number, and the integer or the bytes.

    Raises:
        ValueError: the bytes are no message.
    """
    at, end = 0, len(content)
    while at < end:
        key, at = _varint(content, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(content, at)
            yield number, value
            continue
        if wire == _BYTES:
            length, at = _varint(content, at)
        elif wire in _WIDTH:
            length = _WIDTH[wire]
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if not number or length > end - at:
            raise ValueError(f"a field of {length} bytes at byte {at} reaches past the end")
        yield number, content[at : at + length]
        at += length


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError(f"a number at byte {at} is too long")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number stands where a message belongs")
    return value


def _text(value: int | memoryview | bytes) -> str:
    if isinstance(value, int):
        raise ValueError("a number stands where text belongs")
    return bytes(value).decode("utf-8")
