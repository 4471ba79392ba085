"""Export to ONNX: one file, fixed opset, dynamic batch, checked; the same network gives the same bytes."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from hilum.errors import MissingExtra, UsageError
from hilum.models.explained import OUTPUTS, Explained

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 20
"""ONNX operator set of every exported graph."""

INPUT = "films"
"""Name of the graph's input: uint8 [n, channels, size, size]."""

PRODUCER = "hilum"


def export_onnx(explained: Explained, size: int | None = None, channels: int | None = None) -> bytes:
    """The network as one ONNX file.

    Args:
        explained: the network; its outputs are named as :data:`hilum.models.explained.OUTPUTS`.
        size: height and width of a film in pixels; the network's own when None.
        channels: channels of a film; the network's own when None.

    Returns:
        a serialised model with input ``films`` uint8 [n, channels, size, size], n free, and all weights inside.

    Raises:
        MissingExtra: onnx or onnxscript is not installed.
        UsageError: a weight is not finite.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 - the exporter needs it, and says so less clearly
    except ImportError as error:
        raise MissingExtra("train", "Export to ONNX") from error
    broken = [name for name, value in explained.state_dict().items() if not torch.isfinite(value).all()]
    if broken:
        raise UsageError(f"Weight {broken[0]} is not finite, so the network can't be exported. Train it again.")
    shape = (2, channels or explained.image_channels, size or explained.size, size or explained.size)
    films = torch.zeros(shape, dtype=torch.uint8)
    with torch.no_grad(), _muted():
        program = torch.onnx.export(
            explained.eval(),
            (films,),
            dynamo=True,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_shapes={INPUT: {0: torch.export.Dim("n")}},
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise UsageError("The exporter gave no model back. Update torch.")
    model = program.model_proto
    _forget_surroundings(model)
    model.metadata_props.add(key="findings", value=json.dumps(list(explained.findings)))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _forget_surroundings(model: "ModelProto") -> None:
    """Drop stack traces and notes: they name files of this machine, and would make equal networks unequal bytes."""
    model.producer_name, model.producer_version, model.doc_string = PRODUCER, "", ""
    graph = model.graph
    graph.name, graph.doc_string = "explained", ""
    del model.metadata_props[:], graph.metadata_props[:]
    for item in [*graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info]:
        item.doc_string = ""
        del item.metadata_props[:]


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """The exporter talks of its own internals (deprecations, missing optional parts); none of it is for our caller."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
