"""Which runtime answers on this machine: the table of runtimes, and the choice that ``hilum doctor`` measured.

The default is ONNX Runtime, whatever else is installed: a site's answers must not change because somebody added a
package. ``auto`` takes the recorded choice, and only on the very machine and versions that were measured.
"""

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hilum.config import canonical_json, fingerprint, from_mapping, to_mapping
from hilum.errors import UsageError, nearest
from hilum.files import home, write_text
from hilum.inference.benchmark import Latency
from hilum.inference.cuda import CudaRuntime, GpuMissing, find_gpu, has_package
from hilum.inference.machine import available_cpus
from hilum.inference.openvino_runtime import OpenVinoRuntime
from hilum.inference.runtimes import OnnxRuntime, Runtime
from hilum.provenance import package_version, processor

DEFAULT, AUTO, CUDA = "onnxruntime", "auto", "onnxruntime-cuda"

_Open = Callable[..., Runtime]

RUNTIMES: dict[str, _Open] = {
    DEFAULT: OnnxRuntime,
    CUDA: CudaRuntime,
    "openvino": OpenVinoRuntime,
}
"""Every runtime by name."""

ON_CPU: dict[str, str] = {DEFAULT: "onnxruntime", "openvino": "openvino"}
"""Runtimes for the CPU that ``hilum doctor`` compares, with the module that each needs."""

LEAST_GAIN = 1.05
"""How many times faster than the default another runtime must be to be chosen; less is within what timing can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was measured here, and what follows from it."""

    runtime: str
    """The runtime to use, a key of :data:`RUNTIMES`."""
    machine: str
    """Fingerprint of processor, processors, versions and GPU that it holds for."""
    graph: str
    """What was timed: a bundle's digest, or ``tiny`` for the built-in graph."""
    latencies: tuple[Latency, ...]
    """Every measurement."""
    chosen_at: str
    """When, ISO 8601 in UTC."""


def open_runtime(
    name: str, model: bytes, threads: int | None = None, *, size: int | None = None, record: Path | None = None
) -> Runtime:
    """Load a graph into a runtime.

    Args:
        name: a key of :data:`RUNTIMES`, or ``auto``.
        model: bytes of a single-file graph.
        threads: threads of one run; None: the processors that this process may use.
        size: height and width of the tiles; when given, the graph is warmed up and its numbers checked.
        record: the file with the recorded choice that ``auto`` reads; None: :func:`record_path`.

    Raises:
        UsageError: no such runtime, or it is not installed.
        BundleError: the graph can't be loaded.
    """
    if name == AUTO:
        name = recorded(record or record_path()) or DEFAULT
    if name not in RUNTIMES:
        raise UsageError(f"{name!r} is not a runtime. {nearest(name, [*RUNTIMES, AUTO])}")
    return RUNTIMES[name](model, threads, size=size)


def installed() -> tuple[str, ...]:
    """Runtimes for the CPU that are installed here."""
    return tuple(name for name, module in ON_CPU.items() if importlib.util.find_spec(module) is not None)


def usable() -> tuple[str, ...]:
    """Runtimes that can answer here: those for the CPU, and CUDA's where there is a GPU for it."""
    return (*installed(), *([CUDA] if _gpu() else []))


def _gpu() -> str | None:
    """Name of the GPU that can be used; the driver isn't asked where ONNX Runtime was not built for one."""
    if DEFAULT not in installed() or not has_package():
        return None
    try:
        return find_gpu().name
    except GpuMissing:
        return None


def choose(latencies: Mapping[str, Sequence[Latency]]) -> str:
    """The runtime to use: the default, unless another is faster by :data:`LEAST_GAIN` for a single film.

    Args:
        latencies: by runtime; the rows with batch 1 decide, since a reading room answers film by film.
    """
    alone = {name: next(row.median_ms for row in rows if row.batch == 1) for name, rows in latencies.items()}
    fastest = min(alone, key=lambda name: alone[name])
    if DEFAULT in alone and alone[DEFAULT] / alone[fastest] < LEAST_GAIN:
        return DEFAULT
    return fastest


def record_path() -> Path:
    """Where a user's choice is kept."""
    return home() / ".config" / "hilum" / "runtime.json"


def record_choice(choice: Choice, path: Path) -> None:
    """Write it, atomically."""
    write_text(path, json.dumps(to_mapping(choice), indent=1, sort_keys=True) + "\n")


def recorded(path: Path) -> str | None:
    """The recorded runtime; None when there is none, or it was measured on another machine or other versions.

    Raises:
        UsageError: the file is no record.
    """
    if not path.is_file():
        return None
    try:
        choice = from_mapping(Choice, json.loads(path.read_text()), where=path.name)
    except (ValueError, UsageError, TypeError):
        raise UsageError(f"{path} is no record of a runtime. Run hilum doctor again, which writes it anew.") from None
    return choice.runtime if choice.machine == machine() else None


def machine() -> str:
    """Fingerprint of what a measurement holds for: processor, processors to use, versions of the runtimes, GPU."""
    versions = {name: package_version(module) for name, module in ON_CPU.items() if name in installed()}
    about = {"processor": processor(), "cpus": available_cpus(), "versions": canonical_json(versions)}
    gpu = _gpu()
    return fingerprint(about if gpu is None else about | {"gpu": gpu})
