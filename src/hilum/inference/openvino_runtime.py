"""OpenVINO behind the same interface, pinned to fp32 unless another precision is asked for by name.

Left to itself OpenVINO computes in bf16 where the processor has it, which moves probabilities by about 1e-3; so bf16 is
offered behind a gate alone (:mod:`hilum.inference.precision`). And importing it reports the import to its makers when
its telemetry package is there; a reading room tells nobody, so that package is kept out of the process.
"""

import sys
import threading
from types import ModuleType
from typing import Any

import numpy as np

from hilum.arrays import Array
from hilum.bundle.onnx_file import model_facts
from hilum.bundle.schema import OUTPUTS
from hilum.errors import BundleError, MissingExtra, UsageError
from hilum.inference.runtimes import Answer, answer_of, check_tiles, checked_ports, checked_threads, warm_up
from hilum.provenance import processor

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
"""What can be asked for, with OpenVINO's own words."""


class OpenVinoRuntime:
    """OpenVINO on the CPU, in the precision that is asked for, with its threads set by us.

    Runs are serialised: one run already uses all its threads.

    Args:
        model: bytes of a single-file graph.
        threads: threads of one run; None: the processors that this process may use.
        size: height and width of the tiles; when given, the graph is warmed up and its numbers checked.
        precision: what to compute in, a key of :data:`PRECISIONS`.

    Raises:
        MissingExtra: OpenVINO is not installed.
        BundleError: the graph can't be loaded, lacks outputs, answers with values that are not numbers, or OpenVINO
            would compute in another precision.
        UsageError: threads below 1, or bf16 on a processor without it.
    """

    def __init__(
        self, model: bytes, threads: int | None = None, *, size: int | None = None, precision: str = "fp32"
    ) -> None:
        openvino = load_openvino()
        self.threads, self.precision = checked_threads(threads), precision
        if precision != "fp32" and not has_bf16():
            raise UsageError(
                f"This processor ({processor()}) has no bf16 products, so bf16 would gain nothing. Use fp32 here."
            )
        self.name = f"openvino {openvino.get_version().split('-')[0]}"
        if broken := model_facts(model).broken:
            # Its ReLU turns NaN into 0, so the warm-up would see nothing.
            raise BundleError(f"model.onnx holds weights that are not numbers ({broken[0]!r}). Export the model again.")
        try:
            core = openvino.Core()
            compiled = core.compile_model(core.read_model(model), "CPU", _properties(self.threads, precision))
        except Exception as error:  # OpenVINO's own exceptions share no base class but Exception
            raise BundleError(
                f"model.onnx can't be loaded by {self.name} ({_last_line(error)}). Export the model again."
            ) from None
        chosen = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if chosen != (wanted := PRECISIONS[precision]):
            raise BundleError(
                f"{self.name} would compute in {chosen}, although {wanted} is asked for. Use onnxruntime here."
            )
        # A tensor may carry several names when operations were fused, so each is asked for all of its own.
        self._ports = {name: i for i, port in enumerate(compiled.outputs) for name in port.get_names() & OUTPUTS.keys()}
        kinds = [(port.get_any_name(), _kind(port)) for port in compiled.inputs]
        names = checked_ports(kinds, self._ports)
        self._ports = {name: self._ports[name] for name in names}
        self._compiled, self._request = compiled, compiled.create_infer_request()
        self._turn = threading.Lock()
        if size is not None:
            warm_up(self, size)

    def run(self, tiles: Array) -> Answer:
        """Every output for tiles uint8 [n, 1, h, w], n ≥ 1.

        Raises:
            UsageError: tiles of another kind or shape.
            BundleError: the graph failed on them.
        """
        check_tiles(tiles)
        try:
            with self._turn:
                # The request's own memory is used for input and output; what is kept is copied out of it.
                self._request.infer({0: np.ascontiguousarray(tiles)}, share_inputs=True, share_outputs=True)
                outputs = {
                    name: np.array(self._request.get_output_tensor(port).data) for name, port in self._ports.items()
                }
        except Exception as error:
            raise BundleError(
                f"model.onnx failed on tiles {tiles.shape} ({_last_line(error)}). Use tiles of the bundle's size."
            ) from None
        return answer_of(outputs)

    def precisions(self) -> set[str]:
        """What each layer that computes really runs in, such as ``{"f32"}``; found in the compiled graph."""
        layers = [layer.get_rt_info() for layer in self._compiled.get_runtime_model().get_ops()]
        return {
            str(info["runtimePrecision"].astype(str))
            for info in layers
            if info["layerType"].astype(str) in ("Convolution", "FullyConnected", "MatMul", "Subgraph", "Pooling")
        }


def load_openvino() -> ModuleType:
    """The module, with its telemetry kept out.

    Raises:
        MissingExtra: it is not installed.
    """
    # An entry of None makes the import fail, and OpenVINO then uses the empty stand-in that it brings.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise MissingExtra("openvino", "The runtime openvino") from error
    module: ModuleType = openvino
    return module


def has_bf16() -> bool:
    """Whether OpenVINO finds bf16 products in this processor's hardware.

    Raises:
        MissingExtra: OpenVINO is not installed.
    """
    return "BF16" in load_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _properties(threads: int, precision: str = "fp32") -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
        "EXECUTION_MODE_HINT": "ACCURACY" if precision == "fp32" else "PERFORMANCE",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        # A pinned thread can't move away from a processor that decoding is using.
        "ENABLE_CPU_PINNING": False,
    }


def _kind(port: Any) -> str:
    name = str(port.get_element_type().get_type_name())
    return "uint8" if name == "u8" else name


def _last_line(error: Exception) -> str:
    """OpenVINO begins with where in its own source an error arose; what was wrong comes last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1][:300]
