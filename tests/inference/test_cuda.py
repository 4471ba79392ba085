"""ONNX Runtime on a GPU: the CPU's answers where there is one, and everywhere a sentence where there is none.

What needs a GPU is skipped without one; the rest runs on the CPU, with a driver and sessions that only say otherwise.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.bundle.small import FINDINGS, SIZE, small_bundle, small_graph, some_tiles

from hilum.bundle.schema import OUTPUTS
from hilum.errors import BundleError
from hilum.inference import checkup, choosing, cuda
from hilum.inference.assess import MAX_BATCH
from hilum.inference.cuda import BATCHES, PROVIDER, CudaRuntime, Gpu, GpuFailed, GpuMissing, find_gpu
from hilum.inference.runtimes import OnnxRuntime, open_session
from hilum.service.model_child import MOST_TILES

H100 = Gpu(name="NVIDIA H100 80GB HBM3", memory_mb=81_559, capability="9.0", cuda="13.0")
AGAIN = """
import hashlib, sys
from pathlib import Path
import numpy as np
from hilum.inference.cuda import CudaRuntime
answer = CudaRuntime(Path(sys.argv[1]).read_bytes(), 1, size=int(sys.argv[3])).run(np.load(sys.argv[2]))
print(hashlib.sha256(b"".join(values.tobytes() for values in answer.as_mapping().values())).hexdigest())
"""


@pytest.fixture(scope="module")
def gpu() -> Gpu:
    try:
        return find_gpu()
    except GpuMissing as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def graph(gpu: Gpu) -> bytes:
    """A whole network with every output, as bundles hold it.

    Its normalisations know films: else random weights make logits of millions, of which no probability says anything.
    """
    torch = pytest.importorskip("torch")
    from hilum.models.classifier import ClassifierConfig, build_classifier
    from hilum.models.explained import Explained
    from hilum.models.export import export_onnx

    config = ClassifierConfig(backbone="densenet121", findings=FINDINGS, size=224)
    network = build_classifier(config, "none", 0)[0].train()
    with torch.no_grad():
        for _ in range(20):
            network(torch.from_numpy(films(20)))
    return export_onnx(Explained([network.eval()]))


def films(count: int, size: int = 224) -> np.ndarray:
    """Synthetic films' tiles uint8 [n, 1, size, size]."""
    from tests.inference.films import stored

    return np.stack([(stored(i, size) >> 4).astype(np.uint8) for i in range(count)])[:, None]


def apart(one: Any, other: Any) -> dict[str, float]:
    """Largest difference of each output: absolute up to 1, relative beyond, as the self-test has it."""
    return {n: float(np.max(np.abs(one[n] - other[n]) / np.maximum(1, np.abs(other[n])))) for n in OUTPUTS}


def test_every_output_is_the_cpus(graph: bytes) -> None:
    tiles = films(20)
    found = apart(CudaRuntime(graph, size=224).run(tiles), OnnxRuntime(graph, size=224).run(tiles))
    assert {name: value for name, value in found.items() if value > 1e-4} == {}


def test_an_answer_does_not_depend_on_its_batch_on_a_gpu(graph: bytes) -> None:
    runtime, tiles = CudaRuntime(graph, size=224), films(20)
    together = runtime.run(tiles)
    for count in (1, 3, 8):
        parts = [runtime.run(tiles[at : at + count]) for at in range(0, 20, count)]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in OUTPUTS}
        found = apart(joined, together)
        assert {name: value for name, value in found.items() if value > 1e-5} == {}, count


def test_the_same_films_give_the_same_bits_after_a_restart(graph: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(graph)
    np.save(tmp_path / "tiles.npy", films(3))
    command = [sys.executable, "-c", AGAIN, str(tmp_path / "model.onnx"), str(tmp_path / "tiles.npy"), "224"]
    done = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2)]
    assert done[0].stdout == done[1].stdout
    assert [one.stderr for one in done] == ["", ""], "the runtime says nothing by itself"


def test_the_models_process_answers_on_the_gpu(gpu: Gpu, tmp_path: Path) -> None:
    from hilum.bundle.reading import read_bundle
    from hilum.service.model_process import ModelLimits, ModelProcess
    from hilum.service.settings import gpu_environment

    path = small_bundle(tmp_path / "small.hilum")
    given: dict[str, Any] = {"sha256": read_bundle(path).sha256, "environment": gpu_environment()}
    limits = ModelLimits(threads=1, memory_mb=256)
    with ModelProcess(path, limits=limits, runtime="onnxruntime-cuda", **given) as process:
        assert gpu.name in process.name
        expected = OnnxRuntime(small_graph(), 1).run(some_tiles(40))
        found = apart(process.run(some_tiles(40)), expected)
        assert {name: value for name, value in found.items() if value > 1e-5} == {}


def test_the_gpu_has_its_line_in_the_checkup(gpu: Gpu, tmp_path: Path) -> None:
    (line,) = [sign.line for sign in checkup.gpu()]
    assert line.startswith(f"ok    GPU: {gpu.name}, ")
    assert choosing.usable()[-1] == "onnxruntime-cuda"
    signs = checkup.speed(small_bundle(tmp_path / "small.hilum"))
    assert [sign.state for sign in signs if "cuda" in sign.what] == ["ok", "ok"], [sign.line for sign in signs]


# From here on without a GPU.


class Driver:
    """What is asked of NVIDIA's driver."""

    def __init__(self, version: int = 13_000, started: int = 0, gpus: int = 1) -> None:
        self._version, self._started, self._gpus = version, started, gpus

    def cuDriverGetVersion(self, out: Any) -> int:
        out._obj.value = self._version
        return 0

    def cuInit(self, flags: int) -> int:
        return self._started

    def cuDeviceGetCount(self, out: Any) -> int:
        out._obj.value = self._gpus
        return 0

    def cuDeviceGet(self, out: Any, number: int) -> int:
        out._obj.value = number
        return 0

    def cuDeviceGetName(self, out: Any, length: int, device: Any) -> int:
        out.value = H100.name.encode()
        return 0

    def cuDeviceTotalMem_v2(self, out: Any, device: Any) -> int:
        out._obj.value = H100.memory_mb << 20
        return 0

    def cuDeviceGetAttribute(self, out: Any, attribute: int, device: Any) -> int:
        out._obj.value = {75: 9, 76: 0}[attribute]
        return 0


class Session:
    """A session on the CPU that says that it runs where it is told to say."""

    def __init__(self, session: Any, providers: list[str]) -> None:
        self._session, self._providers, self.broken = session, providers, ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def get_providers(self) -> list[str]:
        return self._providers

    def run_with_iobinding(self, binding: Any) -> None:
        if self.broken:
            raise RuntimeError(self.broken)
        self._session.run_with_iobinding(binding)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime as the package for a GPU has it."""
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [PROVIDER, "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0", raising=False)
    monkeypatch.setattr(onnxruntime, "set_default_logger_severity", lambda severity: None)


@pytest.fixture
def runs_on(monkeypatch: pytest.MonkeyPatch, package: None) -> Callable[..., None]:
    """``runs_on(PROVIDER, …)``: a driver that is well, and sessions that run there by their own account."""

    def told(*providers: str) -> None:
        def opened(model: bytes, options: Any, asked: list[Any], name: str) -> Any:
            return Session(open_session(model, options, ["CPUExecutionProvider"], name), list(providers))

        monkeypatch.setattr(cuda, "_driver", Driver)
        monkeypatch.setattr(cuda, "open_session", opened)
        monkeypatch.setattr(cuda, "_load_libraries", lambda: "")

    return told


def test_batches_are_those_of_the_service() -> None:
    assert BATCHES[0] == 1
    assert BATCHES[-1] == MAX_BATCH == MOST_TILES


def test_the_gpu_is_named_by_its_driver(package: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_driver", Driver)
    assert find_gpu() == H100
    assert [sign.line for sign in checkup.gpu()] == [
        "ok    GPU: NVIDIA H100 80GB HBM3, 81,559 MiB, compute capability 9.0, driver for CUDA 13.0"
    ]
    assert choosing.usable()[-1] == "onnxruntime-cuda"


@pytest.mark.parametrize(
    ("driver", "sentence"),
    [
        (Driver(version=12_040), "its driver does CUDA 12.4, and this ONNX Runtime needs 13. Install a newer driver"),
        (Driver(gpus=0), "the driver sees none. Give the container the GPU, and look at CUDA_VISIBLE_DEVICES."),
        (Driver(started=100, gpus=0), "the driver sees none. Give the container the GPU"),
        (Driver(started=803), r"its driver fails \(CUDA error 803\). See what nvidia-smi says on the host"),
    ],
)
def test_why_no_gpu_can_be_used_is_said(
    package: None, monkeypatch: pytest.MonkeyPatch, driver: Driver, sentence: str
) -> None:
    monkeypatch.setattr(cuda, "_driver", lambda: driver)
    with pytest.raises(GpuMissing, match=f"No GPU can be used: {sentence}"):
        CudaRuntime(small_graph(), 1)
    (sign,) = checkup.gpu()
    assert sign.state == "warn"
    assert sign.found.startswith("none can be used: ")
    assert sign.mend
    assert "onnxruntime-cuda" not in choosing.usable()


def test_a_machine_without_nvidias_driver_is_told(package: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "DRIVER", "libno-such-driver.so")
    with pytest.raises(GpuMissing, match=r"NVIDIA's driver is not there \(libno-such-driver.so: .*container"):
        find_gpu()


def test_a_package_for_the_cpu_has_no_line_in_the_checkup(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert checkup.gpu() == []
    assert "onnxruntime-cuda" not in choosing.usable()


def test_a_session_that_fell_back_to_the_cpu_is_refused(runs_on: Callable[..., None]) -> None:
    runs_on("CPUExecutionProvider")
    with pytest.raises(GpuMissing, match=r"H100 80GB HBM3 is there, but ONNX Runtime can't use it \(.+\). Its package"):
        CudaRuntime(small_graph(), 1, size=SIZE)


def test_a_library_that_is_missing_is_named(runs_on: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    said = "Failed to load /x/nvidia/libcufft.so.12: no\nFailed to load libcufft.so.12: cannot open\nPlease follow\n"
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print(said), raising=False)
    assert cuda._load_libraries() == "cannot open"
    runs_on("CPUExecutionProvider")
    monkeypatch.setattr(cuda, "_load_libraries", lambda: "libcufft.so.12: cannot open")
    with pytest.raises(GpuMissing, match=r"can't use it \(libcufft.so.12: cannot open\)"):
        CudaRuntime(small_graph(), 1)


def test_what_fails_on_the_gpu_alone_is_not_the_graphs_fault(
    runs_on: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs_on(PROVIDER)

    def opened(model: bytes, options: Any, providers: list[Any], name: str) -> Any:
        if len(providers) > 1 and model != b"bad":
            raise BundleError("model.onnx can't be loaded by x (CUDNN failure 1001 (not initialized)). Export again.")
        return open_session(model, options, ["CPUExecutionProvider"], name)

    monkeypatch.setattr(cuda, "open_session", opened)
    with pytest.raises(GpuMissing, match=r"can't use it \(CUDNN failure 1001 \(not initialized\)\). Its package"):
        CudaRuntime(small_graph(), 1)
    with pytest.raises(BundleError, match="model.onnx can't be loaded by onnxruntime .* cuda on NVIDIA H100"):
        CudaRuntime(b"bad", 1)


def test_batches_are_filled_up_and_cut_and_answered_as_on_the_cpu(
    runs_on: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs_on(PROVIDER)
    sizes, bound = [], cuda.run_bound

    def noted(session: Any, ports: Any, tiles: np.ndarray, outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        sizes.append((id(session), len(tiles)))
        return bound(session, ports, tiles, outputs)

    monkeypatch.setattr(cuda, "run_bound", noted)
    runtime, plain = CudaRuntime(small_graph(), 1, size=SIZE), OnnxRuntime(small_graph(), 1)
    assert runtime.name.endswith(" cuda on NVIDIA H100 80GB HBM3")
    assert [count for _, count in sizes] == list(BATCHES), "every size is warmed up"
    for count in (1, 2, 8, 11):
        tiles = some_tiles(count)
        found = apart(runtime.run(tiles), plain.run(tiles))
        assert {name: value for name, value in found.items() if value > 1e-6} == {}, count
    assert len(set(sizes)) == len({session for session, _ in sizes}) == len(BATCHES), "a session sees one size alone"
    with pytest.raises(BundleError, match=r"model.onnx takes tiles \(1, 32, 32\), but got \(1, 8, 8\)"):
        runtime.run(np.zeros((1, 1, 8, 8), np.uint8))


def test_a_gpu_that_fails_ends_the_models_process_with_its_reason(runs_on: Callable[..., None]) -> None:
    import mmap
    import socket

    from hilum.service.child_process import ChildDied, ChildProcess
    from hilum.service.child_wire import send
    from hilum.service.model_child import RUN, Shared, _answer_batches

    runs_on(PROVIDER)
    runtime = CudaRuntime(small_graph(), 1, size=SIZE)
    for session in runtime._sessions.values():
        session.broken = "CUDA failure 719: unspecified launch failure"
    with pytest.raises(GpuFailed, match=r"The GPU failed over 1 tiles \(CUDA failure 719.*nvidia-smi"):
        runtime.run(some_tiles(1))

    ours, theirs = socket.socketpair()
    answer = OnnxRuntime(small_graph(), 1).run(some_tiles(1)).as_mapping()
    shapes = {name: values.shape[1:] for name, values in answer.items()}
    shared = Shared(mmap.mmap(-1, 1 << 20), 0, SIZE, shapes)
    with ours, theirs:
        send(ours, RUN, 2)
        with pytest.raises(GpuFailed):
            _answer_batches(theirs, lambda: shared, runtime)
        parent = ChildProcess.__new__(ChildProcess)
        parent.name = "model's process"
        with pytest.raises(ChildDied, match=r"The model's process ended: The GPU failed over 2 tiles"):
            parent._reply(ours, 10, "answer a batch")


def test_auto_takes_the_gpu_only_where_it_was_measured(
    runs_on: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tests.inference.test_choosing import choice

    from hilum.inference.choosing import machine, record_choice, recorded

    monkeypatch.setattr(cuda, "_driver", lambda: Driver(gpus=0))
    without = machine()
    runs_on(PROVIDER)
    assert machine() != without
    record = tmp_path / "runtime.json"
    record_choice(choice(runtime="onnxruntime-cuda", machine=machine()), record)
    assert recorded(record) == "onnxruntime-cuda"
    monkeypatch.setattr(Driver, "cuDeviceGetName", lambda self, out, length, device: setattr(out, "value", b"T4"))
    assert recorded(record) is None
    monkeypatch.setattr(cuda, "_driver", lambda: Driver(gpus=0))
    assert machine() == without


def test_a_tiny_graph_says_nothing_of_a_gpu(runs_on: Callable[..., None], tmp_path: Path) -> None:
    runs_on(PROVIDER)
    signs = checkup.speed(None, tmp_path / "runtime.json")
    assert [sign.what for sign in signs if "cuda" in sign.what] == ["runtime onnxruntime-cuda"]
    assert all("onnxruntime-cuda" not in sign.found for sign in signs if sign.what == "choice of runtime")
    signs = checkup.speed(small_bundle(tmp_path / "small.hilum"), tmp_path / "runtime.json")
    assert [sign.what for sign in signs if "cuda" in sign.what] == [
        "self-test onnxruntime-cuda",
        "runtime onnxruntime-cuda",
    ]
