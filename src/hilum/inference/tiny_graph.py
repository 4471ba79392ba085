"""A tiny ONNX graph with a bundle's outputs, written byte by byte: ``hilum doctor`` needs no bundle and no ``onnx``.

Its answers mean nothing. Field numbers are those of ``onnx.proto3`` (ONNX IR version 10).
"""

from collections.abc import Sequence

import numpy as np

from hilum.arrays import Array

SIZE = 112
"""Height and width of its tiles."""
_CHANNELS, _FINDINGS, _LAYERS, _FLOAT, _UINT8, _INT64 = 32, 3, 3, 1, 2, 7
_OPSET, _IR_VERSION = 17, 8


def tiny_graph(seed: int = 0) -> bytes:
    """An ONNX model: uint8 [n, 1, h, w] → three 3 × 3 convolutions → pooled head, with every output of the schema."""
    random = np.random.Generator(np.random.PCG64(seed))
    weights: dict[str, Array] = {}
    nodes = [_node("Cast", ["films"], ["layer0"], _int("to", _FLOAT))]
    for i in range(_LAYERS):
        shape = (_CHANNELS, 1 if i == 0 else _CHANNELS, 3, 3)
        weights[f"w{i}"] = (random.standard_normal(shape) / (9 * shape[1] * (255 if i == 0 else 1))).astype(np.float32)
        strides, pads = _ints("strides", [2, 2] if i == 0 else [1, 1]), _ints("pads", [1, 1, 1, 1])
        nodes.append(_node("Conv", [f"layer{i}", f"w{i}"], [f"conv{i}"], strides, pads))
        nodes.append(_node("Relu", [f"conv{i}"], [f"layer{i + 1}"]))
    weights["head"] = random.standard_normal((_CHANNELS, _FINDINGS)).astype(np.float32)
    weights["mix"] = weights["head"].T.reshape(_FINDINGS, _CHANNELS, 1, 1).copy()
    weights["zero"], weights["axis"] = np.zeros(1, np.float32), np.asarray([1], np.int64)
    last = f"layer{_LAYERS}"
    nodes += [
        _node("GlobalAveragePool", [last], ["pooled"]),
        _node("Flatten", ["pooled"], ["features"], _int("axis", 1)),
        _node("MatMul", ["features", "head"], ["logits"]),
        _node("Softmax", ["logits"], ["probabilities"], _int("axis", 1)),
        _node("Identity", ["probabilities"], ["mc_mean"]),
        _node("Mul", ["probabilities", "zero"], ["mc_std"]),
        _node("Identity", ["mc_std"], ["member_std"]),
        _node("ReduceSum", ["mc_std", "axis"], ["mutual_information"], _int("keepdims", 0)),
        _node("Conv", [last, "mix"], ["maps"]),
        _node("Relu", ["maps"], ["cam"]),
        _node("Mul", ["cam", "zero"], ["cam_std"]),
    ]
    return _model(nodes, weights)


def _model(nodes: Sequence[bytes], weights: dict[str, Array]) -> bytes:
    side = SIZE // 2
    shapes: dict[str, list[int | str]] = {
        **{name: ["n", _FINDINGS] for name in ("logits", "probabilities", "mc_mean", "mc_std", "member_std")},
        **{name: ["n", _FINDINGS, side, side] for name in ("cam", "cam_std")},
        "mutual_information": ["n"],
        "features": ["n", _CHANNELS],
    }
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, b"tiny")
    graph += b"".join(_field(5, _tensor(name, values)) for name, values in weights.items())
    graph += _field(11, _value("films", _UINT8, ["n", 1, SIZE, SIZE]))
    graph += b"".join(_field(12, _value(name, _FLOAT, shape)) for name, shape in shapes.items())
    return _number(1, _IR_VERSION) + _field(7, graph) + _field(8, _field(1, b"") + _number(2, _OPSET))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _field(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _node(kind: str, inputs: Sequence[str], outputs: Sequence[str], *attributes: bytes) -> bytes:
    parts = [_field(1, name.encode()) for name in inputs] + [_field(2, name.encode()) for name in outputs]
    return b"".join(parts) + _field(4, kind.encode()) + b"".join(_field(5, one) for one in attributes)


def _int(name: str, value: int) -> bytes:
    return _field(1, name.encode()) + _number(3, value) + _number(20, 2)


def _ints(name: str, values: Sequence[int]) -> bytes:
    return _field(1, name.encode()) + b"".join(_number(8, value) for value in values) + _number(20, 7)


def _tensor(name: str, values: Array) -> bytes:
    kind = _INT64 if values.dtype == np.int64 else _FLOAT
    dims = b"".join(_number(1, length) for length in values.shape)
    raw = values.astype(values.dtype.newbyteorder("<")).tobytes()
    return dims + _number(2, kind) + _field(8, name.encode()) + _field(9, raw)


def _value(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    dims = [_number(1, one) if isinstance(one, int) else _field(2, one.encode()) for one in shape]
    tensor = _number(1, kind) + _field(2, b"".join(_field(1, one) for one in dims))
    return _field(1, name.encode()) + _field(2, _field(1, tensor))
