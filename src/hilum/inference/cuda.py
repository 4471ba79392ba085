"""ONNX Runtime on an NVIDIA GPU; where the CPU would answer in its place, a refusal that says why.

A GPU's kernels are chosen for a batch's size, and chosen anew whenever the size changes; so a batch is filled up to one
of a few sizes, each of which has a session that never sees another one.
"""

import contextlib
import ctypes
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hilum.arrays import Array
from hilum.errors import BundleError, ServiceError, UsageError
from hilum.inference.runtimes import (
    Answer,
    answer_of,
    check_tiles,
    checked_threads,
    first_line,
    open_session,
    ports_of,
    run_bound,
    session_options,
    warm_up,
)

PROVIDER = "CUDAExecutionProvider"

BATCHES = (1, 8)
"""Films of one run; a batch between two of them is filled up, a larger one is cut."""

OPTIONS = {
    "use_tf32": "0",  # it rounds products to 10 bits
    "cudnn_conv_algo_search": "HEURISTIC",  # chosen by timing, a convolution may differ from run to run
    "arena_extend_strategy": "kSameAsRequested",  # memory for what is asked, not for the next power of two
}

DRIVER = "libcuda.so.1"
_NO_DEVICE, _MAJOR, _MINOR = 100, 75, 76


class GpuMissing(UsageError):
    """No GPU can be used here; its text says why and what mends it."""


class GpuFailed(ServiceError):
    """The GPU failed over a batch. What a process had on it is lost: only a new process can go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """The GPU that is used: the first one that this process sees."""

    name: str
    """As its driver calls it."""
    memory_mb: int
    """MiB."""
    capability: str
    """Compute capability, such as ``9.0``."""
    cuda: str
    """Newest CUDA that its driver can do, such as ``13.0``."""


def has_package() -> bool:
    """Whether the ONNX Runtime that is installed was built for CUDA."""
    import onnxruntime

    return PROVIDER in onnxruntime.get_available_providers()


def find_gpu() -> Gpu:
    """The GPU that would be used; the driver is asked, nothing is put on the GPU.

    Raises:
        GpuMissing: a package without CUDA, no driver, no GPU, or a driver that is too old.
    """
    import onnxruntime

    if not has_package():
        have = ", ".join(onnxruntime.get_available_providers())
        raise GpuMissing(
            f"This ONNX Runtime can't use a GPU (it has {have}). Install onnxruntime-gpu in its place, and not beside "
            "it."
        )
    needed = str(getattr(onnxruntime, "cuda_version", "") or "0")
    return _ask_driver(_driver(), int(needed.partition(".")[0]))


def _driver() -> Any:
    try:
        return ctypes.CDLL(DRIVER)
    except OSError as error:
        raise GpuMissing(
            f"No GPU can be used: NVIDIA's driver is not there ({error}). Install it on the host, and give the "
            "container the GPU."
        ) from None


def _ask_driver(driver: Any, least_cuda: int) -> Gpu:
    version, count, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    cuda = f"{version.value // 1000}.{version.value % 1000 // 10}"
    if version.value // 1000 < least_cuda:
        raise GpuMissing(
            f"No GPU can be used: its driver does CUDA {cuda}, and this ONNX Runtime needs {least_cuda}. Install a "
            "newer driver on the host."
        )
    code = driver.cuInit(0)
    if code == 0:
        code = driver.cuDeviceGetCount(ctypes.byref(count))
    if code in (0, _NO_DEVICE) and not count.value:
        raise GpuMissing(
            "No GPU can be used: the driver sees none. Give the container the GPU, and look at CUDA_VISIBLE_DEVICES."
        )
    if code:
        raise GpuMissing(
            f"No GPU can be used: its driver fails (CUDA error {code}). See what nvidia-smi says on the host; restart "
            "it after a driver's update."
        )
    driver.cuDeviceGet(ctypes.byref(device), 0)
    name, memory, major, minor = ctypes.create_string_buffer(256), ctypes.c_size_t(), ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    return Gpu(
        name=name.value.decode(errors="replace"),
        memory_mb=memory.value >> 20,
        capability=f"{major.value}.{minor.value}",
        cuda=cuda,
    )


class CudaRuntime:
    """ONNX Runtime on the first GPU that is seen, in fp32.

    Args:
        model: bytes of a single-file graph.
        threads: threads for what stays on the CPU; None: the processors that this process may use.
        size: height and width of the tiles; when given, every batch size is warmed up and the numbers are checked.

    Raises:
        GpuMissing: no GPU can be used, or ONNX Runtime can't load what it needs for one.
        BundleError: the graph can't be loaded, lacks outputs, or answers with values that are not numbers.
        UsageError: threads below 1.
    """

    precision = "fp32"

    def __init__(self, model: bytes, threads: int | None = None, *, size: int | None = None) -> None:
        import onnxruntime

        self.threads = checked_threads(threads)
        gpu = find_gpu()
        self.name = f"onnxruntime {onnxruntime.__version__} cuda on {gpu.name}"
        failures = _load_libraries()
        options = session_options(self.threads)
        options.use_deterministic_compute = True
        self._sessions: dict[int, Any] = {}
        for batch in BATCHES:
            self._sessions[batch] = _session(model, options, self.name, gpu, failures)
        self._ports = ports_of(self._sessions[BATCHES[0]])
        self._turn = threading.Lock()
        if size is not None:
            for batch in BATCHES:
                warm_up(self, size, batch)

    def run(self, tiles: Array) -> Answer:
        """Every output for tiles uint8 [n, 1, h, w], n ≥ 1.

        Raises:
            UsageError: tiles of another kind or shape.
            BundleError: tiles of another size than the bundle's.
            GpuFailed: the GPU failed; this process can't use it any more.
        """
        check_tiles(tiles)
        if self._ports.tile not in (None, tiles.shape[1:]):
            raise BundleError(f"model.onnx takes tiles {self._ports.tile}, but got {tiles.shape[1:]}.")
        parts = [self._run(tiles[at : at + BATCHES[-1]]) for at in range(0, len(tiles), BATCHES[-1])]
        return answer_of({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})

    def _run(self, tiles: Array) -> dict[str, Array]:
        count = len(tiles)
        batch = next(one for one in BATCHES if one >= count)
        filled = np.zeros((batch, *tiles.shape[1:]), np.uint8)
        filled[:count] = tiles
        try:
            with self._turn:
                outputs = run_bound(self._sessions[batch], self._ports, filled, self._ports.room(batch))
        except Exception as error:
            raise GpuFailed(
                f"The GPU failed over {count} tiles ({first_line(error)}). See what nvidia-smi says on the host."
            ) from None
        return {name: values[:count] for name, values in outputs.items()}


def _session(model: bytes, options: Any, name: str, gpu: Gpu, failures: str) -> Any:
    try:
        session = open_session(model, options, [(PROVIDER, OPTIONS), "CPUExecutionProvider"], name)
        if PROVIDER in session.get_providers():
            return session
        reason = failures or _loader_says()
    except BundleError as error:
        open_session(model, options, ["CPUExecutionProvider"], name)  # a graph that is at fault fails there too
        reason = str(error).partition("(")[2].rpartition(")")[0]
    raise GpuMissing(
        f"{gpu.name} is there, but ONNX Runtime can't use it ({reason}). Its package needs CUDA's libraries and cuDNN: "
        "install onnxruntime-gpu[cuda,cudnn] anew; until then use the runtime onnxruntime."
    )


def _load_libraries() -> str:
    """Load CUDA's libraries from their packages, where the loader doesn't look; what could not be loaded, in words."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)  # what fails is said once, by us
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(RuntimeError):
        getattr(onnxruntime, "preload_dlls", lambda: None)()
    return "; ".join(_failures(said.getvalue()))


def _failures(said: str) -> Iterator[str]:
    for line in said.splitlines():
        if line.startswith("Failed to load ") and "/" not in line.partition(":")[0]:
            yield line.partition(": ")[2]


def _loader_says() -> str:
    import onnxruntime

    try:
        ctypes.CDLL(str(Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"))
    except OSError as error:
        return first_line(error)
    return "no reason given"
