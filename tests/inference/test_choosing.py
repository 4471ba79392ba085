"""Which runtime answers: the default unless another is asked for, and a recorded choice only where it was measured."""

from pathlib import Path

import pytest
from tests.bundle.small import small_graph

from hilum.errors import UsageError
from hilum.inference import choosing
from hilum.inference.assess import open_bundle
from hilum.inference.benchmark import Latency
from hilum.inference.choosing import Choice, choose, machine, open_runtime, record_choice, recorded
from hilum.inference.runtimes import OnnxRuntime


def timed(name: str, batch: int, median_ms: float) -> Latency:
    return Latency(
        runtime=name, precision="fp32", threads=1, batch=batch, median_ms=median_ms, best_ms=median_ms, runs=3
    )


def measured(one: float, other: float) -> dict[str, tuple[Latency, ...]]:
    """Times of a single film; of eight, the other way round."""
    return {
        "onnxruntime": (timed("onnxruntime", 8, other), timed("onnxruntime", 1, one)),
        "openvino": (timed("openvino", 8, one), timed("openvino", 1, other)),
    }


@pytest.mark.parametrize(
    ("one", "other", "chosen"),
    [(10.0, 9.0, "openvino"), (10.0, 9.6, "onnxruntime"), (10.0, 11.0, "onnxruntime")],
)
def test_another_runtime_must_be_faster_by_more_than_timing_can_tell(one: float, other: float, chosen: str) -> None:
    assert choose(measured(one, other)) == chosen


def test_where_the_default_is_missing_the_fastest_is_taken() -> None:
    assert choose({"openvino": (timed("openvino", 1, 3.0),)}) == "openvino"


def choice(**changes: str) -> Choice:
    values = {"runtime": "openvino", "machine": machine(), "graph": "tiny", "chosen_at": "2026-11-26T12:00:00Z"}
    return Choice(**(values | changes), latencies=(timed("openvino 1", 1, 2.0),))  # type: ignore[arg-type]


def test_auto_follows_the_record_of_this_machine_alone(tmp_path: Path) -> None:
    record = tmp_path / "runtime.json"
    assert open_runtime("auto", small_graph(), 1, record=record).name.startswith("onnxruntime")
    record_choice(choice(), record)
    assert recorded(record) == "openvino"
    assert open_runtime("auto", small_graph(), 1, record=record).name.startswith("openvino")
    record_choice(choice(machine="another"), record)
    assert recorded(record) is None
    assert open_runtime("auto", small_graph(), 1, record=record).name.startswith("onnxruntime")


def test_a_record_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "runtime.json").write_text("{}")
    with pytest.raises(UsageError, match="runtime.json is no record of a runtime. Run hilum doctor again"):
        recorded(tmp_path / "runtime.json")


def test_an_unknown_runtime_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="'openvin' is not a runtime. Did you mean 'openvino'"):
        open_runtime("openvin", small_graph())


def test_a_gpu_that_this_installation_cant_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UsageError, match=r"can't use a GPU \(it has CPUExecutionProvider\). Install onnxruntime-gpu"):
        open_runtime("onnxruntime-cuda", small_graph())


def test_the_default_stays_the_default_whatever_is_installed(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "recorded", lambda path: "openvino")
    with open_bundle(bundle_path, 1) as assessor:
        assert isinstance(assessor.runtime, OnnxRuntime)
    with open_bundle(bundle_path, 1, runtime="openvino") as assessor:
        assert assessor.runtime.name.startswith("openvino ")
