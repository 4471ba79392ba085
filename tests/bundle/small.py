"""The smallest real bundle: convolution, pooled head, dropout masks and closed-form CAM in an ONNX graph, no torch."""

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from hilum.bundle.distribution import DriftReference, OodReference, heatmap_top
from hilum.bundle.reference import ReferenceAnswers
from hilum.bundle.schema import OUTPUTS, BundleInfo
from hilum.bundle.writing import write_bundle
from hilum.imaging.preprocessing import Preprocessing
from hilum.inference.runtimes import OnnxRuntime

SIZE, CHANNELS, HIDDEN, MASKS, SIDE = 32, 8, 6, 4, 16
FINDINGS = ("normal", "pneumonia", "covid-19")
OPSET = 17


def small_graph(seed: int = 0, **changed: np.ndarray) -> bytes:
    """uint8 [n, 1, 32, 32] → every output of the schema; weights by seed, or as given."""
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    weights = {
        "scale": np.float32(1 / 255),
        "half": np.float32(0.5),
        "kernel": normal(CHANNELS, 1, 3, 3) / 3,
        "w1": normal(CHANNELS, HIDDEN),
        "b1": normal(HIDDEN) / 4,
        "w2": normal(HIDDEN, len(FINDINGS)),
        "b2": np.zeros(len(FINDINGS), np.float32),
        "masks": 2.0 * (random.random((1, MASKS, HIDDEN)) < 0.5).astype(np.float32),
        "zero": np.float32(0),
        "tiny": np.float32(1e-12),
        "area": np.float32(SIDE * SIDE),
        "tenth": np.float32(0.1),
        "one_axis": np.asarray([1], np.int64),
        "two_axis": np.asarray([2], np.int64),
        "last_axis": np.asarray([-1], np.int64),
        "flat": np.asarray([0, CHANNELS, SIDE * SIDE], np.int64),
        "map": np.asarray([0, len(FINDINGS), SIDE, SIDE], np.int64),
    } | changed
    weights["w1t"] = np.ascontiguousarray(weights["w1"].T)
    weights["w2t"] = np.ascontiguousarray(weights["w2"].T)
    names = {
        name: helper.make_tensor_value_info(
            name,
            TensorProto.FLOAT,
            [{"n": "n", "k": len(FINDINGS), "d": CHANNELS, "h": SIDE, "w": SIDE}[letter] for letter in letters],
        )
        for name, letters in OUTPUTS.items()
    }
    films = helper.make_tensor_value_info("films", TensorProto.UINT8, ["n", 1, SIZE, SIZE])
    tensors = [numpy_helper.from_array(np.asarray(values), name) for name, values in weights.items()]
    graph = helper.make_graph(_nodes(), "small", [films], list(names.values()), tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    return bytes(model.SerializeToString(deterministic=True))


def _nodes() -> list[Any]:
    def node(kind: str, inputs: str, output: str, **attributes: Any) -> Any:
        return helper.make_node(kind, inputs.split(), [output], **attributes)

    return [
        node("Cast", "films", "float", to=TensorProto.FLOAT),
        node("Mul", "float scale", "unit"),
        node("Sub", "unit half", "centred"),
        node("Conv", "centred kernel", "conv", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", "conv", "maps"),
        node("GlobalAveragePool", "maps", "pooled"),
        node("Flatten", "pooled", "features", axis=1),
        node("MatMul", "features w1", "h0"),
        node("Add", "h0 b1", "h"),
        node("Relu", "h", "r"),
        node("MatMul", "r w2", "l0"),
        node("Add", "l0 b2", "logits"),
        node("Softmax", "logits", "probabilities", axis=1),
        node("Unsqueeze", "r one_axis", "r3"),
        node("Mul", "r3 masks", "dropped"),
        node("MatMul", "dropped w2", "sampled0"),
        node("Add", "sampled0 b2", "sampled"),
        node("Softmax", "sampled", "chances", axis=2),
        node("ReduceMean", "chances", "mc_mean", axes=[1], keepdims=0),
        # Two passes: E[x²] − E[x]² would cancel in fp32.
        node("Unsqueeze", "mc_mean one_axis", "mean3"),
        node("Sub", "chances mean3", "deviations"),
        node("Mul", "deviations deviations", "squares"),
        node("ReduceMean", "squares", "variance", axes=[1], keepdims=0),
        node("Sqrt", "variance", "mc_std"),
        node("Add", "chances tiny", "safe"),
        node("Log", "safe", "log"),
        node("Mul", "chances log", "plogp"),
        node("ReduceSum", "plogp two_axis", "negative", keepdims=0),
        node("ReduceMean", "negative", "inner", axes=[1], keepdims=0),
        node("Add", "mc_mean tiny", "safe_mean"),
        node("Log", "safe_mean", "log_mean"),
        node("Mul", "mc_mean log_mean", "plogp_mean"),
        node("ReduceSum", "plogp_mean last_axis", "outer", keepdims=0),
        node("Sub", "inner outer", "information"),
        node("Relu", "information", "mutual_information"),
        node("Greater", "h zero", "on"),
        node("Cast", "on", "gate", to=TensorProto.FLOAT),
        node("Unsqueeze", "gate one_axis", "gate3"),
        node("Mul", "gate3 w2t", "gated"),
        node("MatMul", "gated w1t", "alpha0"),
        node("Div", "alpha0 area", "alpha"),
        node("Reshape", "maps flat", "rows"),
        node("MatMul", "alpha rows", "evidence"),
        node("Reshape", "evidence map", "signed"),
        node("Relu", "signed", "cam"),
        node("Mul", "cam tenth", "cam_std"),
        node("Mul", "probabilities zero", "member_std"),
    ]


def some_tiles(n: int = 4, seed: int = 1) -> np.ndarray:
    """uint8 [n, 1, 32, 32]: gradients with noise, every one different."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 180, SIZE)[None, :] * np.linspace(0.3, 1, SIZE)[:, None]
    noise = random.integers(0, 70, (n, SIZE, SIZE)) * np.linspace(0.2, 1, n)[:, None, None]
    return (ramp + noise).astype(np.uint8)[:, None]


def small_info(**changes: Any) -> BundleInfo:
    """A complete ``bundle.json``; fields as given."""
    values: dict[str, Any] = {
        "name": "small",
        "version": "1.0",
        "created": "2026-11-23T12:00:00Z",
        "findings": FINDINGS,
        "preprocessing": Preprocessing(size=SIZE),
        "intended_use": "Tests only.",
        "temperature": 1.0,
        "dropout": 0.5,
        "thresholds": {"pneumonia": 0.3, "covid-19": 0.3},
        "provenance": {"run": "none"},
        "fingerprints": {"data": "0" * 64},
    }
    return BundleInfo(**(values | changes))


def reference_for(graph: bytes, n: int = 4) -> ReferenceAnswers:
    """Some tiles and the graph's own answers."""
    tiles = some_tiles(n)
    return ReferenceAnswers(tiles=tiles, outputs=OnnxRuntime(graph, 1).run(tiles).as_mapping())


def small_bundle(path: Path, *, files: dict[str, bytes] | None = None, **changes: Any) -> Path:
    """Write the small bundle; its references come from 40 tiles, and no film is out of distribution."""
    graph = small_graph()
    answer = OnnxRuntime(graph, 1).run(some_tiles(40))
    ood = OodReference.of(answer.features)
    info = {
        "ood": OodReference(mean=ood.mean, scale=ood.scale, threshold=1e6, films=ood.films),
        "drift": DriftReference.of(features=answer.features, probs=answer.probabilities, findings=FINDINGS),
        "heatmap_top": heatmap_top(answer.cam),
    } | changes
    return write_bundle(
        path,
        info=small_info(**info),
        model_onnx=graph,
        reference=reference_for(graph),
        card_markdown="# Model card: small\n",
        files=files,
    )
