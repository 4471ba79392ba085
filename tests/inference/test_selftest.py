"""Self-test and benchmark: a bundle whose answers aren't reproduced fails, whatever its hashes say."""

from pathlib import Path

import numpy as np
import pytest
from tests.bundle.small import reference_for, small_graph, small_info

from hilum.bundle.reading import read_bundle
from hilum.bundle.reference import ReferenceAnswers
from hilum.bundle.writing import write_bundle
from hilum.inference.benchmark import benchmark
from hilum.inference.runtimes import OnnxRuntime
from hilum.inference.selftest import self_test, verify_bundle
from hilum.inference.tiny_graph import SIZE, tiny_graph


def test_a_good_bundle_reproduces_its_answers(bundle_path: Path) -> None:
    test = verify_bundle(bundle_path, threads=1)
    assert test.passed
    assert test.films == 4
    assert set(test.differences) == set(read_bundle(bundle_path).reference.outputs)
    assert max(test.differences.values()) <= 1e-6
    assert (test.bundle, test.precision) == ("small 1.0", "fp32")


def with_reference(path: Path, **changes: np.ndarray) -> Path:
    good = reference_for(small_graph())
    outputs = {**good.outputs, **changes}
    return write_bundle(
        path,
        info=small_info(),
        model_onnx=small_graph(),
        reference=ReferenceAnswers(tiles=good.tiles, outputs=outputs),
        card_markdown="",
    )


@pytest.mark.parametrize("output", ["logits", "probabilities", "cam", "features", "mutual_information"])
def test_an_answer_that_differs_fails_and_is_named(tmp_path: Path, output: str) -> None:
    values = reference_for(small_graph()).outputs[output].copy()
    values.flat[0] += 2e-4 * max(1, abs(values.flat[0]))
    test = verify_bundle(with_reference(tmp_path / "b.hilum", **{output: values}), threads=1)
    assert not test.passed
    assert test.worst == output
    assert test.differences[output] == pytest.approx(2e-4, rel=0.01)


def test_large_values_are_compared_relatively(tmp_path: Path) -> None:
    """A logit of 1,000 has no fourth decimal in fp32."""
    weights = {"b2": np.asarray([1000.0, 0, 0], np.float32)}
    graph = small_graph(**weights)
    good = reference_for(graph)
    outputs = {**good.outputs, "logits": good.outputs["logits"] * np.float32(1 + 2e-5)}
    path = write_bundle(
        tmp_path / "b.hilum",
        info=small_info(),
        model_onnx=graph,
        reference=ReferenceAnswers(tiles=good.tiles, outputs=outputs),
        card_markdown="",
    )
    assert verify_bundle(path, threads=1).passed


def test_maps_of_another_size_fail(tmp_path: Path) -> None:
    cam = reference_for(small_graph()).outputs["cam"][:, :, :8, :8]
    test = verify_bundle(with_reference(tmp_path / "b.hilum", cam=cam), threads=1)
    assert test.differences["cam"] == float("inf")
    assert not test.passed


def test_an_answer_that_depends_on_its_batch_fails(bundle_path: Path) -> None:
    """A runtime that is right in batches and wrong one by one is caught."""
    bundle = read_bundle(bundle_path)
    runtime = OnnxRuntime(bundle.model, 1)
    right = runtime.run

    def wrong_alone(tiles: np.ndarray):  # type: ignore[no-untyped-def]
        return right(tiles if len(tiles) > 1 else 255 - tiles)

    runtime.run = wrong_alone  # type: ignore[method-assign]
    assert not self_test(bundle, runtime).passed


def test_benchmark_names_what_it_timed() -> None:
    runtime = OnnxRuntime(tiny_graph(), 1)
    rows = benchmark(runtime, SIZE, batches=(1, 2), budget_s=0.02)
    assert [row.batch for row in rows] == [1, 2]
    for row in rows:
        assert (row.runtime, row.precision, row.threads) == (runtime.name, "fp32", 1)
        assert row.runs >= 3
        assert 0 < row.best_ms <= row.median_ms
        assert row.films_per_s == pytest.approx(1000 * row.batch / row.median_ms)
