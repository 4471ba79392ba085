"""What ``hilum doctor`` looks at: is this machine fit to answer films, and what would make it fitter?"""

import contextlib
import importlib.util
import os
import platform
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from hilum.errors import HilumError
from hilum.inference.benchmark import Latency, benchmark
from hilum.inference.machine import available_cpus, cpu_quota
from hilum.provenance import now_utc, package_version

if TYPE_CHECKING:
    from hilum.bundle.reading import Bundle
    from hilum.inference.runtimes import Runtime

State = Literal["ok", "warn", "mend"]
"""Fine; fine with a limit; broken until mended."""

PACKAGES = ("numpy", "onnxruntime", "pydicom", "pynetdicom", "pillow", "fastapi", "sqlalchemy")
EXTRAS: dict[str, tuple[str, ...]] = {
    "openvino": ("openvino",),
    "train": ("torch", "torchvision", "onnx", "onnxscript", "safetensors", "sklearn", "matplotlib"),
}
"""Modules of each optional part."""

SQLITE_FIXED = (3, 51, 3)
"""First version without the WAL-reset fault, which needs two connections that write at once; the service has one."""

_LEAST_DISK_GB, _MOST_MS = 5.0, 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """One line of the checkup."""

    what: str
    """What was looked at."""
    state: State
    """How it is."""
    found: str
    """What was found."""
    mend: str = ""
    """What to do about it; empty when all is well."""

    @property
    def line(self) -> str:
        """State, what, found, and the mend."""
        tail = f" → {self.mend}" if self.mend else ""
        return f"{self.state:<4}  {self.what}: {self.found}{tail}"


EXTRA_MENDS = {"openvino": "to try a second runtime", "train": "to train here"}
"""What each optional part is for."""


def check_up(folder: Path, bundle: Path | None = None, *, record: Path | None = None) -> tuple[Sign, ...]:
    """Look at everything.

    Args:
        folder: where data will be kept; its disk is looked at.
        bundle: verify and time this bundle; None: time a tiny graph.
        record: where the choice among runtimes is recorded; None records nothing.
    """
    checks: tuple[Callable[[], list[Sign]], ...] = (
        versions,
        extras,
        decoders,
        processors,
        gpu,
        sqlite,
        lambda: disk(folder),
        lambda: speed(bundle, record),
    )
    return tuple(sign for check in checks for sign in check())


def versions() -> list[Sign]:
    """Python and the packages that answering needs."""
    python = platform.python_version()
    signs = [Sign(what="Python", state="ok", found=f"{python}, {platform.system()} {platform.machine()}")]
    have = {name: package_version(name) for name in ("hilum", *PACKAGES)}
    missing = [name for name, version in have.items() if version is None]
    found = ", ".join(f"{name} {version}" for name, version in have.items() if version)
    if missing:
        mend = f"install {', '.join(missing)}: pip install hilum brings them"
        return [*signs, Sign(what="packages", state="mend", found=found or "none", mend=mend)]
    return [*signs, Sign(what="packages", state="ok", found=found)]


def extras() -> list[Sign]:
    """Optional parts; without ``train`` a machine answers films and doesn't train."""
    signs = []
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        if missing:
            mend = f"{EXTRA_MENDS[extra]}: pip install 'hilum[{extra}]'"
            signs.append(Sign(what=f"extra {extra}", state="warn", found=f"without {', '.join(missing)}", mend=mend))
        else:
            signs.append(Sign(what=f"extra {extra}", state="ok", found="present"))
    return signs


def decoders() -> list[Sign]:
    """A line for each transfer syntax: a small film is written in it, read back, and compared with the plain one, or a
    known frame is read where nothing here writes it; and one for those that nothing here decodes."""
    from hilum.imaging.codecs import CODECS, WITHOUT_DECODER
    from hilum.imaging.encoders import ENCODERS

    written = {encoder.uid: name for name, encoder in ENCODERS.items()}
    signs = []
    for uid, codec in CODECS.items():
        what = f"decoder {codec.name}"
        if uid in written:
            problem = _round_trip(written[uid], lossy=codec.lossy or ENCODERS[written[uid]].lossy)
            found = "reads what was written"
        else:
            problem = _known_frame(uid)
            found = "reads a known frame"
        mend = (
            "films in this syntax are refused by name, or decoded once; install hilum again with all its dependencies"
        )
        state: State = "warn" if problem else "ok"
        signs.append(Sign(what=what, state=state, found=problem or found, mend=mend if problem else ""))
    none = f"{', '.join(WITHOUT_DECODER)} and video; not agreed to over DICOM, and files in them are refused by name"
    return [*signs, Sign(what="no decoder", state="ok", found=none)]


def _round_trip(syntax: str, *, lossy: bool) -> str:
    """What is wrong with a decoder; empty when nothing is."""
    from hilum.imaging.dicom_writing import FilmHeader, film_bytes
    from hilum.imaging.reading import read_film

    bits = 8 if syntax == "jpeg" else 12
    ramp = np.add.outer(np.arange(32), np.arange(32)) * ((1 << bits) - 1) // 62
    header = FilmHeader(bits_stored=bits, patient_id="SYNTHETIC")
    stored = ramp.astype(np.uint8 if bits == 8 else np.uint16)
    try:
        plain = read_film(film_bytes(stored, header)[0]).pixels.astype(np.int64)
        found = read_film(film_bytes(stored, header, transfer_syntax=syntax)[0]).pixels.astype(np.int64)
    except (ImportError, HilumError) as error:
        return str(error)
    apart = int(np.abs(plain - found).max())
    return f"differs by {apart} of 65535 grey values" if apart > (65535 // 16 if lossy else 0) else ""


def _known_frame(syntax: str) -> str:
    """What is wrong with a decoder of GDCM's, or is missing to check it; empty when nothing is."""
    from hilum.imaging.known_frames import KNOWN_FRAMES

    if importlib.util.find_spec("gdcm") is None:
        return "python-gdcm is not installed"
    if importlib.util.find_spec("imagecodecs") is None:
        return "imagecodecs is not installed, so there is no second decoder"
    try:
        with _without_stderr():
            apart = KNOWN_FRAMES[syntax].largest_difference(syntax)
    except HilumError as error:
        return str(error)
    return f"differs by {apart} of 4095 grey values" if apart else ""


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """GDCM's JPEG library writes a complaint there by itself, of the 8-bit decoder that it tries first."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed: there is nowhere to write
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def processors() -> list[Sign]:
    """Processors that this process may use."""
    cpus, quota = available_cpus(), cpu_quota()
    granted = "no quota" if quota is None else f"quota {quota:g}"
    found = f"{cpus} usable ({granted})"
    if cpus < 2:
        return [Sign(what="processors", state="warn", found=found, mend="two let decoding and answering overlap")]
    return [Sign(what="processors", state="ok", found=found)]


def gpu() -> list[Sign]:
    """Whether a GPU can be used, and which; nothing where ONNX Runtime was not built for one."""
    from hilum.inference.cuda import GpuMissing, find_gpu, has_package

    if importlib.util.find_spec("onnxruntime") is None or not has_package():
        return []
    try:
        found = find_gpu()
    except GpuMissing as error:
        why, _, mend = str(error).removeprefix("No GPU can be used: ").partition(". ")
        return [Sign(what="GPU", state="warn", found=f"none can be used: {why}", mend=mend.rstrip("."))]
    about = f"{found.name}, {found.memory_mb:,} MiB, compute capability {found.capability}, driver for CUDA"
    return [Sign(what="GPU", state="ok", found=f"{about} {found.cuda}")]


def sqlite(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> list[Sign]:
    """SQLite's version against a known fault."""
    text = ".".join(str(part) for part in version)
    if version < SQLITE_FIXED:
        mend = "safe with the one writer that hilum uses; let nothing else write to its database (fixed in 3.51.3)"
        return [Sign(what="SQLite", state="warn", found=text, mend=mend)]
    return [Sign(what="SQLite", state="ok", found=text)]


def disk(folder: Path) -> list[Sign]:
    """Free space where data will be kept."""
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    free = shutil.disk_usage(there).free / 1e9
    found = f"{free:.1f} GB free at {there}"
    if free < _LEAST_DISK_GB:
        return [Sign(what="disk", state="warn", found=found, mend="about 10 MB a film are needed; free some")]
    return [Sign(what="disk", state="ok", found=found)]


def speed(bundle: Path | None, record: Path | None = None) -> list[Sign]:
    """Each installed runtime's latency, with a bundle also its self-test, and which one to use here.

    Args:
        bundle: what to time; None: a tiny graph.
        record: where the choice is recorded; None records nothing.
    """
    from hilum.inference import choosing

    signs: list[Sign] = []
    measured: dict[str, tuple[Latency, ...]] = {}
    try:
        subject = _Subject.of(bundle)
    except HilumError as error:
        return [Sign(what="runtime", state="mend", found=str(error), mend="nothing can be answered before this works")]
    for name in choosing.usable():
        try:
            runtime = choosing.open_runtime(name, subject.model)
            signs += subject.self_test(name, runtime)
            rows = benchmark(runtime, subject.size, budget_s=0.5)
            signs.append(_timed(name, runtime, rows, subject.what))
            if name != choosing.CUDA or subject.bundle is not None:  # a tiny graph says nothing of a GPU's speed
                measured[name] = rows
        except HilumError as error:
            # One of two runtimes may fail where the other one answers.
            state: State = "mend" if name == choosing.DEFAULT else "warn"
            mend = "nothing can be answered before this works" if state == "mend" else "leave this runtime alone"
            signs.append(Sign(what=f"runtime {name}", state=state, found=str(error), mend=mend))
    if len(measured) > 1 and not any(sign.what.startswith("self-test") and sign.state != "ok" for sign in signs):
        signs.append(_chosen(measured, subject.graph, record))
    return signs


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """What runtimes are timed on."""

    model: bytes
    size: int
    what: str
    graph: str
    bundle: "Bundle | None" = None

    @classmethod
    def of(cls, path: Path | None) -> "_Subject":
        from hilum.bundle.reading import read_bundle
        from hilum.inference.tiny_graph import SIZE, tiny_graph

        if path is None:
            return cls(model=tiny_graph(), size=SIZE, what="a tiny graph", graph="tiny")
        opened = read_bundle(path)
        return cls(
            model=opened.model,
            size=opened.info.preprocessing.size,
            what=f"{opened.info.name} {opened.info.version}",
            graph=opened.sha256,
            bundle=opened,
        )

    def self_test(self, name: str, runtime: "Runtime") -> list[Sign]:
        """Whether the bundle's references come out; nothing to test for a tiny graph."""
        from hilum.inference.selftest import self_test

        if self.bundle is None:
            return []
        test = self_test(self.bundle, runtime)
        worst = test.differences[test.worst]
        found = f"{self.what}: {test.films} reference tiles, {test.worst} differs by {worst:.1e}"
        mend = "" if test.passed else "answers on this machine are not those of the bundle; don't use it here"
        state: State = "ok" if test.passed else "mend"
        return [Sign(what=f"self-test {name}", state=state, found=found, mend=mend)]


def _timed(name: str, runtime: "Runtime", rows: "Sequence[Latency]", what: str) -> Sign:
    times = ", ".join(f"batch {row.batch} {row.median_ms:.1f} ms" for row in rows)
    found = f"{runtime.name} {runtime.precision}, {runtime.threads} threads, {what}: {times} (median)"
    slow = rows[0].median_ms > _MOST_MS
    mend = "a film takes long here; give the process more processors" if slow else ""
    return Sign(what=f"runtime {name}", state="warn" if slow else "ok", found=found, mend=mend)


def _chosen(measured: "dict[str, tuple[Latency, ...]]", graph: str, record: Path | None) -> Sign:
    from hilum.inference import choosing

    chosen = choosing.choose(measured)
    alone = {name: rows[0].median_ms for name, rows in measured.items()}
    other = min((name for name in alone if name != chosen), key=lambda name: alone[name])
    found = f"{chosen}, {alone[other] / alone[chosen]:.2f} × as fast as {other} for one film, both in fp32"
    if record is not None:
        choosing.record_choice(
            choosing.Choice(
                runtime=chosen,
                machine=choosing.machine(),
                graph=graph,
                latencies=tuple(row for rows in measured.values() for row in rows),
                chosen_at=now_utc(),
            ),
            record,
        )
        followed = choosing.record_path()
        found += f"; recorded in {record}, "
        if record == followed:
            found += "which --runtime auto follows and nothing else does; remove it to undo that"
        else:
            found += f"while --runtime auto follows {followed}"
    return Sign(what="choice of runtime", state="ok", found=found)
