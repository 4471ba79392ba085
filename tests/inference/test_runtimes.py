"""The runtime: the numbers of ONNX's own reference evaluator, threads as given, every refusal named."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from tests.bundle.small import CHANNELS, HIDDEN, SIZE, small_graph, some_tiles

from hilum.bundle.schema import OUTPUTS
from hilum.errors import BundleError, UsageError
from hilum.inference.machine import available_cpus
from hilum.inference.runtimes import OnnxRuntime, answer_of
from hilum.inference.tiny_graph import SIZE as TINY_SIZE
from hilum.inference.tiny_graph import tiny_graph


@pytest.fixture(scope="module")
def runtime() -> OnnxRuntime:
    return OnnxRuntime(small_graph(), 1, size=SIZE)


def test_outputs_are_those_of_onnx_reference_evaluator(runtime: OnnxRuntime) -> None:
    tiles = some_tiles(3)
    expected = ReferenceEvaluator(onnx.load_from_string(small_graph())).run(list(OUTPUTS), {"films": tiles})
    answer = runtime.run(tiles)
    for name, values in zip(OUTPUTS, expected, strict=True):
        np.testing.assert_allclose(answer[name], values, atol=2e-6, err_msg=name)


def test_an_answer_does_not_depend_on_its_batch(runtime: OnnxRuntime) -> None:
    tiles = some_tiles(8)
    together = runtime.run(tiles)
    for i in range(8):
        alone = runtime.run(tiles[i : i + 1])
        for name in OUTPUTS:
            np.testing.assert_allclose(alone[name][0], together[name][i], atol=1e-6, err_msg=name)


def test_the_same_tiles_give_the_same_bits(runtime: OnnxRuntime) -> None:
    tiles = some_tiles(2)
    again = OnnxRuntime(small_graph(), 1).run(tiles)
    assert all(np.array_equal(runtime.run(tiles)[name], again[name]) for name in OUTPUTS)


def test_two_threads_agree_with_one(runtime: OnnxRuntime) -> None:
    two = OnnxRuntime(small_graph(), 2)
    assert two.threads == 2
    np.testing.assert_allclose(two.run(some_tiles())["cam"], runtime.run(some_tiles())["cam"], atol=1e-6)


def test_each_film_of_a_batch_has_a_thread_of_its_own_and_the_answer_that_it_has_alone(
    monkeypatch: pytest.MonkeyPatch, runtime: OnnxRuntime
) -> None:
    two, sizes = OnnxRuntime(small_graph(), 2), []
    bound = OnnxRuntime._bound

    def noted(self: OnnxRuntime, session: Any, tiles: np.ndarray, outputs: dict[str, np.ndarray]) -> object:
        sizes.append((len(tiles), session.get_session_options().intra_op_num_threads))
        return bound(self, session, tiles, outputs)

    monkeypatch.setattr(OnnxRuntime, "_bound", noted)
    tiles = some_tiles(7)
    together, alone = two.run(tiles), [runtime.run(tiles[i : i + 1]) for i in range(7)]
    assert sizes[:7] == [(1, 1)] * 7
    for name in OUTPUTS:
        assert np.array_equal(together[name], np.concatenate([one[name] for one in alone])), name
    sizes.clear()
    two.run(tiles[:1])
    assert sizes == [(1, 2)], "a film that is by itself gets all threads"


def test_a_batch_of_many_threads_that_fails_says_so() -> None:
    two = OnnxRuntime(small_graph(), 2)
    with pytest.raises(BundleError, match="failed on tiles"):
        two.run(np.zeros((4, 1, SIZE + 1, SIZE), np.uint8))
    assert len(two.run(some_tiles(4))) == 4


def test_threads_default_to_the_processors_of_this_process() -> None:
    assert OnnxRuntime(tiny_graph()).threads == available_cpus()


def test_it_names_itself_and_its_precision(runtime: OnnxRuntime) -> None:
    assert runtime.name.startswith("onnxruntime 1.")
    assert runtime.precision == "fp32"


def test_answers_are_float32_and_read_only(runtime: OnnxRuntime) -> None:
    answer = runtime.run(some_tiles(2))
    assert len(answer) == 2
    assert list(answer.as_mapping()) == list(OUTPUTS)
    for values in answer.as_mapping().values():
        assert values.dtype == np.float32
        assert not values.flags.writeable
    with pytest.raises(KeyError, match="colour"):
        answer["colour"]


def test_a_missing_member_std_reads_as_zeros(runtime: OnnxRuntime) -> None:
    outputs = dict(runtime.run(some_tiles(2)).as_mapping())
    del outputs["member_std"]
    assert not answer_of(outputs).member_std.any()


@pytest.mark.parametrize(
    "tiles",
    [
        np.zeros((1, 1, SIZE, SIZE), np.float32),
        np.zeros((1, SIZE, SIZE), np.uint8),
        np.zeros((1, 3, SIZE, SIZE), np.uint8),
        np.zeros((0, 1, SIZE, SIZE), np.uint8),
    ],
)
def test_other_tiles_are_refused(runtime: OnnxRuntime, tiles: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"A runtime takes tiles uint8 \[n, 1, h, w\] with n ≥ 1, but got"):
        runtime.run(tiles)


def test_tiles_of_another_size_are_refused_by_name(runtime: OnnxRuntime) -> None:
    with pytest.raises(BundleError, match=r"model.onnx failed on tiles \(1, 1, 8, 8\)"):
        runtime.run(np.zeros((1, 1, 8, 8), np.uint8))


def test_threads_below_one_are_refused() -> None:
    with pytest.raises(UsageError, match="threads is 0, but a runtime needs at least 1"):
        OnnxRuntime(tiny_graph(), 0)


@pytest.mark.parametrize("content", [b"", b"not a model", small_graph()[:-500]])
def test_a_graph_that_cant_be_loaded_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match="model.onnx can't be loaded by onnxruntime"):
        OnnxRuntime(content, 1)


def test_weights_that_are_not_numbers_show_at_the_warm_up() -> None:
    broken = small_graph(w1=np.full((CHANNELS, HIDDEN), np.nan, np.float32))
    with pytest.raises(BundleError, match="answers a grey tile with values that are not numbers .*logits"):
        OnnxRuntime(broken, 1, size=SIZE)


def test_a_graph_without_every_output_is_refused() -> None:
    model = onnx.load_from_string(small_graph())
    del model.graph.output[5:]
    with pytest.raises(BundleError, match=r"lacks outputs \['cam', 'cam_std', 'features'\]"):
        OnnxRuntime(bytes(model.SerializeToString()), 1)


def test_an_operator_set_that_the_runtime_doesnt_know_is_refused() -> None:
    model = onnx.load_from_string(small_graph())
    model.opset_import[0].version = 900
    with pytest.raises(BundleError, match="model.onnx can't be loaded by onnxruntime"):
        OnnxRuntime(bytes(model.SerializeToString()), 1)


def test_the_tiny_graph_is_valid_onnx_and_answers() -> None:
    """Written byte by byte in the package; here ONNX's own checker reads it."""
    onnx.checker.check_model(onnx.load_from_string(tiny_graph()), full_check=True)
    answer = OnnxRuntime(tiny_graph(), 1).run(np.full((2, 1, TINY_SIZE, TINY_SIZE), 9, np.uint8))
    np.testing.assert_allclose(answer.probabilities.sum(axis=1), 1, atol=1e-6)
    assert answer.cam.shape == (2, 3, TINY_SIZE // 2, TINY_SIZE // 2)


def test_a_graph_whose_maps_keep_their_size_open_answers_too(runtime: OnnxRuntime) -> None:
    """Outputs of known lengths are written where they are read; the others are found by the runtime."""
    model = onnx.load_from_string(small_graph())
    for output in model.graph.output:
        if output.name in ("cam", "cam_std"):
            output.type.tensor_type.shape.dim[2].dim_param = "h"
    opened = OnnxRuntime(bytes(model.SerializeToString()), 1).run(some_tiles(3))
    expected = runtime.run(some_tiles(3))
    for name in OUTPUTS:
        np.testing.assert_array_equal(opened[name], expected[name], err_msg=name)


def test_answers_dont_share_memory(runtime: OnnxRuntime) -> None:
    first = runtime.run(some_tiles(2))
    kept = {name: first[name].copy() for name in OUTPUTS}
    runtime.run(some_tiles(2, seed=9))
    assert all(np.array_equal(first[name], kept[name]) for name in OUTPUTS)
