"""OpenVINO behind the same interface: the same numbers in fp32 whatever it would choose itself, and no telemetry."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from tests.bundle.small import CHANNELS, HIDDEN, SIZE, small_graph, some_tiles

from hilum.bundle.schema import OUTPUTS
from hilum.errors import BundleError, MissingExtra, UsageError
from hilum.inference import openvino_runtime
from hilum.inference.machine import available_cpus
from hilum.inference.openvino_runtime import OpenVinoRuntime
from hilum.inference.runtimes import OnnxRuntime


@pytest.fixture(scope="module")
def runtime() -> OpenVinoRuntime:
    return OpenVinoRuntime(small_graph(), 1, size=SIZE)


def test_its_outputs_are_those_of_onnx_runtime(runtime: OpenVinoRuntime) -> None:
    tiles = some_tiles(5)
    ours, theirs = runtime.run(tiles), OnnxRuntime(small_graph(), 1).run(tiles)
    for name in OUTPUTS:
        assert ours[name].shape == theirs[name].shape
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-5, err_msg=name)


def test_every_layer_really_computes_in_fp32(runtime: OpenVinoRuntime) -> None:
    """On processors with bf16 this fails without the pin; elsewhere it can't."""
    assert runtime.precisions() == {"f32"}
    assert runtime.precision == "fp32"


def test_a_precision_that_was_not_asked_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The precision is read back from the compiled graph: what it says is compared, not what was asked for."""
    properties = openvino_runtime._properties(1)
    monkeypatch.setattr(openvino_runtime, "_properties", lambda threads, precision: properties)
    monkeypatch.setattr(openvino_runtime, "has_bf16", lambda: True)
    with pytest.raises(BundleError, match="would compute in f32, although bf16 is asked for. Use onnxruntime here"):
        OpenVinoRuntime(small_graph(), 1, precision="bf16")


def test_a_processor_without_bf16_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_runtime, "has_bf16", lambda: False)
    with pytest.raises(UsageError, match=r"This processor \(.+\) has no bf16 products, .* Use fp32 here"):
        OpenVinoRuntime(small_graph(), 1, precision="bf16")


def test_bf16_really_computes_in_bf16_and_stays_near() -> None:
    if not openvino_runtime.has_bf16():
        pytest.skip("this processor has no bf16 products")
    low = OpenVinoRuntime(small_graph(), 1, size=SIZE, precision="bf16")
    assert low.precision == "bf16"
    assert "bf16" in low.precisions()
    tiles = some_tiles(5)
    exact = OnnxRuntime(small_graph(), 1).run(tiles).probabilities
    apart = np.abs(low.run(tiles).probabilities - exact).max()
    assert 0 < apart < 0.05


def test_an_answer_does_not_depend_on_its_batch(runtime: OpenVinoRuntime) -> None:
    tiles = some_tiles(8)
    together = runtime.run(tiles)
    for i in range(8):
        alone = runtime.run(tiles[i : i + 1])
        for name in OUTPUTS:
            np.testing.assert_allclose(alone[name][0], together[name][i], atol=1e-5, err_msg=name)


def test_an_answer_stays_what_it_was_after_the_next_run(runtime: OpenVinoRuntime) -> None:
    """Answers are copies: the request's memory is used again."""
    first = runtime.run(some_tiles(2))
    kept = {name: first[name].copy() for name in OUTPUTS}
    runtime.run(some_tiles(2, seed=9))
    assert all(np.array_equal(first[name], kept[name]) for name in OUTPUTS)


def test_threads_are_ours(runtime: OpenVinoRuntime) -> None:
    assert runtime.threads == 1
    assert runtime._compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert OpenVinoRuntime(small_graph()).threads == available_cpus()
    with pytest.raises(UsageError, match="threads is 0, but a runtime needs at least 1"):
        OpenVinoRuntime(small_graph(), 0)


def test_what_it_cannot_run_is_refused(runtime: OpenVinoRuntime) -> None:
    with pytest.raises(BundleError, match=r"model.onnx is no ONNX model"):
        OpenVinoRuntime(b"not a model", 1)
    with pytest.raises(BundleError, match=r"model.onnx failed on tiles \(1, 1, 8, 8\)"):
        runtime.run(np.zeros((1, 1, 8, 8), np.uint8))
    with pytest.raises(UsageError, match="A runtime takes tiles uint8"):
        runtime.run(np.zeros((1, SIZE, SIZE), np.uint8))
    model = onnx.load_from_string(small_graph())
    del model.graph.output[5:]
    with pytest.raises(BundleError, match=r"lacks outputs \['cam', 'cam_std', 'features'\]"):
        OpenVinoRuntime(bytes(model.SerializeToString()), 1)


def test_weights_that_are_not_numbers_are_refused_before_its_relu_hides_them() -> None:
    broken = small_graph(w1=np.full((CHANNELS, HIDDEN), np.nan, np.float32))
    with pytest.raises(BundleError, match=r"model.onnx holds weights that are not numbers \('w1'\)"):
        OpenVinoRuntime(broken, 1, size=SIZE)


def test_without_it_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtra, match="The runtime openvino needs the 'openvino' extra"):
        OpenVinoRuntime(small_graph(), 1)


def test_loading_it_leaves_its_telemetry_out() -> None:
    code = (
        "import sys; from hilum.inference.openvino_runtime import load_openvino; load_openvino();"
        "print([name for name, module in sys.modules.items() if 'openvino_telemetry' in name and module])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
