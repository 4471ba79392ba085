"""Runtimes behind one small interface: tiles in, every output of the graph out, in fp32.

Here are the interface and ONNX Runtime on the CPU; :mod:`hilum.inference.cuda` has it on a GPU,
:mod:`hilum.inference.openvino_runtime` is the other one, and :mod:`hilum.inference.choosing` the table of all.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from hilum.arrays import Array
from hilum.bundle.schema import OPTIONAL_OUTPUTS, OUTPUTS
from hilum.errors import BundleError, UsageError
from hilum.inference.machine import available_cpus


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """The graph's outputs for n films and k findings, all float32; see :data:`hilum.bundle.schema.OUTPUTS`.

    ``answer["cam"]`` is the same as ``answer.cam``.
    """

    logits: Array
    """[n, k] before calibration."""
    probabilities: Array
    """[n, k] calibrated; rows sum to 1."""
    mc_mean: Array
    """[n, k] mean probability under dropout."""
    mc_std: Array
    """[n, k] its standard deviation."""
    mutual_information: Array
    """[n] in nats: what the dropout masks (and members) disagree about."""
    cam: Array
    """[n, k, h, w] class activation maps, ≥ 0, in units of logit."""
    cam_std: Array
    """[n, k, h, w] their spread under dropout."""
    features: Array
    """[n, d] pooled features, for drift."""
    member_std: Array
    """[n, k] standard deviation of the members' probabilities; zeros for one member."""

    def __len__(self) -> int:
        return len(self.logits)

    def __getitem__(self, name: str) -> Array:
        if name not in OUTPUTS:
            raise KeyError(name)
        values: Array = getattr(self, name)
        return values

    def as_mapping(self) -> dict[str, Array]:
        """The arrays by name."""
        return {one.name: self[one.name] for one in fields(self)}


class Runtime(Protocol):
    """What runs a graph."""

    name: str
    """Name and version, such as ``onnxruntime 1.23.0``."""
    precision: str
    """What it computes in, such as ``fp32``; pinned, because some runtimes choose for themselves."""
    threads: int
    """Threads that one run may use."""

    def run(self, tiles: Array) -> Answer:
        """Every output for tiles uint8 [n, 1, h, w], n ≥ 1."""


class OnnxRuntime:
    """ONNX Runtime, fp32, with its threads set by us; outputs are bound, so that the graph writes where they are read.

    A few films are run together by all threads. From as many films as threads on, a processor runs each film by one
    thread: threads that share a film wait for each other some hundred times in it, the more so where others want the
    processors too, and one film's activations stay in a core's cache. The session for that is made when it is needed.

    Args:
        model: bytes of a single-file graph.
        threads: threads of one run; None: the processors that this process may use.
        size: height and width of the tiles; when given, the graph is warmed up and its numbers checked.

    Raises:
        BundleError: the graph can't be loaded, lacks outputs, or answers with values that are not numbers.
        UsageError: threads below 1.
    """

    precision = "fp32"

    def __init__(self, model: bytes, threads: int | None = None, *, size: int | None = None) -> None:
        import onnxruntime

        self.threads = checked_threads(threads)
        self.name = f"onnxruntime {onnxruntime.__version__}"

        def opened(threads: int) -> Any:
            return open_session(model, session_options(threads), ["CPUExecutionProvider"], self.name)

        self._session = opened(self.threads)
        self._lanes = _Lanes(lambda: opened(1), self.threads) if self.threads > 1 else None
        self._turn = threading.Lock()
        self._ports = ports_of(self._session)
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
            return answer_of(self._run(np.ascontiguousarray(tiles)))
        except Exception as error:
            raise BundleError(
                f"model.onnx failed on tiles {tiles.shape} ({first_line(error)}). Use tiles of the bundle's size."
            ) from None

    def _run(self, tiles: Array) -> dict[str, Array]:
        count, lanes = len(tiles), self._lanes
        outputs = self._ports.room(count)
        if lanes is None or len(outputs) < len(self._ports.shapes):
            with self._turn:
                return self._bound(self._session, tiles, outputs)
        if count < self.threads and not lanes.busy and self._turn.acquire(blocking=False):
            try:
                return self._bound(self._session, tiles, outputs)
            finally:
                self._turn.release()

        def one(session: Any, at: int) -> None:
            self._bound(session, tiles[at : at + 1], {name: values[at : at + 1] for name, values in outputs.items()})

        lanes.run(one, count)
        return outputs

    def _bound(self, session: Any, tiles: Array, outputs: dict[str, Array]) -> dict[str, Array]:
        return run_bound(session, self._ports, tiles, outputs)


class _Lanes:
    """Threads beside each other, each with a film of its own, on a session whose runs take one thread.

    They take the films of several callers one after the other, so that none of them waits for another's last film.

    Args:
        open_session: makes that session.
        count: how many.
    """

    def __init__(self, open_session: Callable[[], Any], count: int) -> None:
        self._open: Callable[[], Any] | None = open_session
        self._lock, self._session = threading.Lock(), None
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="hilum-lane")
        self._callers = 0

    @property
    def busy(self) -> bool:
        """Whether films are in work."""
        return self._callers > 0

    def run(self, one: Callable[[Any, int], None], count: int) -> None:
        """Call a function for 0, 1, …, count - 1; raises what one of the calls raised, when all have ended."""
        with self._lock:
            if self._open is not None:
                self._session, self._open = self._open(), None  # the graph's bytes are let go of
            session = self._session
            self._callers += 1
        try:
            wait(calls := [self._pool.submit(one, session, at) for at in range(count)])
        finally:
            with self._lock:
                self._callers -= 1
        for call in calls:
            call.result()


def checked_threads(threads: int | None) -> int:
    """Threads of one run: as given, else the processors that this process may use.

    Raises:
        UsageError: below 1.
    """
    threads = available_cpus() if threads is None else threads
    if threads < 1:
        raise UsageError(f"threads is {threads}, but a runtime needs at least 1.")
    return threads


def check_tiles(tiles: Array) -> None:
    """Refuse what is no batch of tiles.

    Raises:
        UsageError: not uint8 [n, 1, h, w] with n ≥ 1.
    """
    if tiles.dtype != np.uint8 or tiles.ndim != 4 or tiles.shape[1] != 1 or not len(tiles):
        raise UsageError(f"A runtime takes tiles uint8 [n, 1, h, w] with n ≥ 1, but got {tiles.dtype} {tiles.shape}.")


def checked_ports(inputs: Iterable[tuple[str, str]], outputs: Iterable[str]) -> list[str]:
    """The schema's outputs that a loaded graph has, in the schema's order.

    Args:
        inputs: name and type of each.
        outputs: names.

    Raises:
        BundleError: not one uint8 input, or outputs are missing.
    """
    inputs, have = list(inputs), set(outputs)
    missing = [name for name in OUTPUTS if name not in have and name not in OPTIONAL_OUTPUTS]
    if missing or len(inputs) != 1 or inputs[0][1] != "uint8":
        raise BundleError(
            f"model.onnx has inputs {inputs} and lacks outputs {missing}; it needs one uint8 input and every output of "
            "the schema. Export the model again."
        )
    return [name for name in OUTPUTS if name in have]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What a graph takes and gives, in ONNX Runtime."""

    input: str
    """Its input's name."""
    tile: tuple[int, ...] | None
    """Lengths behind its batch; None when one of them is open."""
    shapes: Mapping[str, tuple[int, ...] | None]
    """Lengths behind the batch of each output, by name; None when one of them is open."""

    def room(self, count: int) -> dict[str, Array]:
        """Arrays that the outputs of so many tiles can be written to; an open one has none."""
        return {n: np.empty((count, *inner), np.float32) for n, inner in self.shapes.items() if inner is not None}


def open_session(model: bytes, options: Any, providers: list[Any], name: str) -> Any:
    """A session of ONNX Runtime, which says nothing by itself and falls back to nothing.

    Args:
        model: bytes of a single-file graph.
        options: of the session.
        providers: what may compute, the first one first.
        name: what the runtime is called in an error.

    Raises:
        BundleError: the graph can't be loaded.
    """
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)
    except Exception as error:  # the runtime's own exceptions share no base class but Exception
        raise BundleError(
            f"model.onnx can't be loaded by {name} ({first_line(error)}). Export the model again."
        ) from None


def ports_of(session: Any) -> Ports:
    """A session's input and the schema's outputs that it has.

    Raises:
        BundleError: not one uint8 input, or outputs are missing.
    """
    inputs, outputs = session.get_inputs(), session.get_outputs()
    kinds = [(one.name, one.type.removeprefix("tensor(").removesuffix(")")) for one in inputs]
    names = checked_ports(kinds, [one.name for one in outputs])
    shapes = {one.name: _inner_shape(one.shape) for one in outputs if one.name in names}
    return Ports(input=inputs[0].name, tile=_inner_shape(inputs[0].shape), shapes=shapes)


def run_bound(session: Any, ports: Ports, tiles: Array, outputs: dict[str, Array]) -> dict[str, Array]:
    """Run a session, whose outputs are written to the arrays that are given; those of open length are added.

    Args:
        session: of ONNX Runtime.
        ports: its own.
        tiles: uint8 [n, 1, h, w], contiguous.
        outputs: as :meth:`Ports.room` gives them.
    """
    binding = session.io_binding()
    binding.bind_cpu_input(ports.input, tiles)
    for name in ports.shapes:
        if name in outputs:
            values = outputs[name]
            binding.bind_output(name, "cpu", 0, np.float32, values.shape, values.ctypes.data)
        else:  # a graph that keeps its maps' size open: the runtime finds the room
            binding.bind_output(name, "cpu")
    session.run_with_iobinding(binding)
    if len(outputs) < len(ports.shapes):
        outputs |= dict(zip(ports.shapes, binding.copy_outputs_to_cpu(), strict=True))
    return outputs


def warm_up(runtime: Runtime, size: int, batch: int = 1) -> None:
    """Run once, so that the first film doesn't pay for it; weights that are not numbers show here.

    Raises:
        BundleError: they do.
    """
    answer = runtime.run(np.full((batch, 1, size, size), 128, np.uint8))
    broken = [name for name, values in answer.as_mapping().items() if not np.isfinite(values).all()]
    if broken:
        raise BundleError(
            f"model.onnx answers a grey tile with values that are not numbers ({', '.join(broken)}): its weights "
            "are damaged. Export the model again."
        )


def answer_of(outputs: Mapping[str, Any]) -> Answer:
    """An answer from named outputs, read-only; an optional output that is missing becomes zeros."""
    arrays = {name: np.asarray(outputs[name], np.float32) for name in OUTPUTS if name in outputs}
    arrays.setdefault("member_std", np.zeros_like(arrays["probabilities"]))
    for values in arrays.values():
        values.setflags(write=False)
    return Answer(**arrays)


def _inner_shape(shape: list[int | str | None]) -> tuple[int, ...] | None:
    """Lengths behind the batch; None when one of them is open."""
    inner = shape[1:]
    return tuple(int(one) for one in inner if isinstance(one, int)) if all(isinstance(i, int) for i in inner) else None


def session_options(threads: int) -> Any:
    """What a session of ONNX Runtime is opened with."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4
    # Threads that spin while they wait would take the processors from decoding and from the service beside us.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("mlas.enable_gemm_fastmath_arm64_bfloat16", "0")
    return options


def first_line(error: Exception) -> str:
    """What an error says, cut short."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
