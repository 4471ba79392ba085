"""Which precision answers: fp32, and another one only where a gate let it pass for this very bundle and machine.

:mod:`hilum.inference.gate` measures; here is what it leaves behind, and who asks for it before a film is answered.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from hilum.bundle.reading import Bundle
from hilum.config import from_mapping, to_mapping
from hilum.errors import UsageError, nearest
from hilum.files import write_text
from hilum.inference.choosing import AUTO, DEFAULT, machine, open_runtime, record_path, recorded
from hilum.inference.openvino_runtime import OpenVinoRuntime
from hilum.inference.runtimes import Runtime

FP32, BF16 = "fp32", "bf16"
PRECISIONS = (FP32, BF16)
"""What can be asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRecord:
    """What a gate decided, for one bundle, precision and machine."""

    bundle: str
    """The bundle's digest."""
    name: str
    """Name and version of the model."""
    precision: str
    """What was tried."""
    runtime: str
    """What computed in it, with its version."""
    machine: str
    """Fingerprint of processor, processors and versions that it holds for."""
    processor: str
    """The processor's name, for people."""
    films: int
    """Films that it rests on."""
    manifest: str
    """Fingerprint of their manifest."""
    speed: float
    """How many times faster it was for one film than the fastest fp32."""
    refusals: tuple[str, ...]
    """Why it is refused, a sentence each; empty when it passed."""
    gated_at: str
    """When, ISO 8601 in UTC."""

    @property
    def passed(self) -> bool:
        """Whether this precision may answer."""
        return not self.refusals


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRecords:
    """All that were kept."""

    gates: tuple[GateRecord, ...] = ()
    """One a bundle, precision and machine."""


def gates_path() -> Path:
    """Where a user's gates are kept: beside the choice of the runtime."""
    return record_path().with_name("precision.json")


def record_gate(record: GateRecord, path: Path) -> None:
    """Keep a gate's result, atomically, in place of an older one for the same bundle, precision and machine."""
    key = (record.bundle, record.precision, record.machine)
    others = [one for one in recorded_gates(path) if (one.bundle, one.precision, one.machine) != key]
    content = to_mapping(GateRecords(gates=(*others, record)))
    write_text(path, json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def recorded_gates(path: Path) -> tuple[GateRecord, ...]:
    """What was kept; nothing when there is no file.

    Raises:
        UsageError: the file is no record.
    """
    if not path.is_file():
        return ()
    try:
        return from_mapping(GateRecords, json.loads(path.read_text()), where=path.name).gates
    except (ValueError, UsageError, TypeError):
        raise UsageError(
            f"{path} is no record of precision gates. Remove it, and run hilum bundle gate again."
        ) from None


def check_gate(sha256: str, precision: str, path: Path) -> None:
    """Refuse a precision that no gate has let pass for this bundle on this machine.

    Args:
        sha256: the bundle's digest.
        precision: one of :data:`PRECISIONS`; fp32 needs no gate.
        path: where gates are kept.

    Raises:
        UsageError: no gate passed; the sentence says which way it is and what to do.
    """
    if precision == FP32:
        return
    kept = [one for one in recorded_gates(path) if one.bundle == sha256 and one.precision == precision]
    again = "hilum bundle gate BUNDLE --films VALIDATION.parquet"
    if not kept:
        raise UsageError(f"{precision} was not gated for this bundle on this machine: run {again}, or use fp32.")
    here = [one for one in kept if one.machine == machine()]
    if not here:
        raise UsageError(
            f"{precision} was gated for this bundle on another processor, number of processors or version of a "
            f"runtime: run {again}, or use fp32."
        )
    if not here[0].passed:
        raise UsageError(f"{precision} was refused for this bundle at {here[0].gated_at}: {here[0].refusals[0]}")


def open_in(
    bundle: Bundle,
    threads: int | None = None,
    *,
    runtime: str = DEFAULT,
    precision: str = FP32,
    record: Path | None = None,
) -> Runtime:
    """Load a bundle's graph into a runtime, warmed up, in a precision that it may have here.

    Args:
        bundle: verified.
        threads: threads of one run; None: the processors that this process may use.
        runtime: a key of :data:`hilum.inference.choosing.RUNTIMES`, or ``auto``.
        precision: one of :data:`PRECISIONS`.
        record: where gates are kept; None: :func:`gates_path`.

    Raises:
        UsageError: no such precision or runtime, a runtime that has no bf16, or no gate that passed.
        BundleError: the graph can't be loaded.
    """
    size = bundle.info.preprocessing.size
    if precision not in PRECISIONS:
        raise UsageError(f"{precision!r} is not a precision. {nearest(precision, PRECISIONS)}")
    if precision == FP32:
        return open_runtime(runtime, bundle.model, threads, size=size)
    chosen = (recorded(record_path()) or DEFAULT) if runtime == AUTO else runtime
    if chosen != "openvino":
        raise UsageError(
            f"{chosen} has convolutions in fp32 alone: add --runtime openvino for {precision}, or use fp32."
        )
    check_gate(bundle.sha256, precision, record or gates_path())
    return open_low(bundle, threads, precision=precision)


def open_low(bundle: Bundle, threads: int | None = None, *, precision: str) -> Runtime:
    """The runtime that computes in a lower precision, without asking a gate: for the gate itself.

    Raises:
        MissingExtra: OpenVINO is not installed.
        UsageError: a processor without that precision.
        BundleError: the graph can't be loaded.
    """
    return OpenVinoRuntime(bundle.model, threads, size=bundle.info.preprocessing.size, precision=precision)
