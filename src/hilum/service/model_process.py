"""The model in a process of its own, behind the interface of a runtime: what kills it doesn't kill the service.

A child that ends, hangs or runs out of memory is killed and another one is started in its place; who waits for the
batch gets :class:`~hilum.service.answering.ModelDied` and may try it again. A watchdog asks the child every second
whether it is there, so one that dies while nobody asks is replaced before the next film comes. Tiles and outputs cross
in shared memory.

The child has no environment but what it needs, no open files but its own, and reads the bundle itself; its digest must
be the one that was verified here.
"""

import os
import queue
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from hilum.arrays import Array
from hilum.errors import BundleError, UsageError
from hilum.inference.machine import available_cpus
from hilum.inference.runtimes import Answer, answer_of, check_tiles
from hilum.service.answering import LINES, ModelDied
from hilum.service.child_process import STARTUP_S, ChildDied, ChildProcess, Kept, child_environment
from hilum.service.model_child import MOST_TILES, RUN, Shared, shared_memory

NAME = "model's process"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLimits:
    """What the model's process may use."""

    threads: int | None = None
    """Threads of one run; None: the processors that this process may use."""
    memory_mb: int = 4096
    """Address space on top of what it has once the model is loaded; 0 for no limit.

    On a GPU there is none: its driver reserves far more than it uses."""
    wall_s: float = 60.0
    """Time for one batch."""


class ModelProcess:
    """A runtime in a child process. Usable from several threads; a context manager.

    Args:
        bundle: the bundle's path; the file must stay what it is.
        sha256: its digest, which the child must find as well.
        limits: what the child may use.
        runtime: a key of :data:`hilum.inference.choosing.RUNTIMES`, or ``auto``.
        precision: fp32, or one that a gate let pass.
        environment: variables of the child beside its own: for a GPU's driver.
        restarted: told the reason each time another child takes the place of one.

    Raises:
        BundleError: the bundle can't be trusted or its graph can't be loaded.
        UsageError: no such runtime, or no gate let the precision pass.
        ServiceError: no child comes up.
    """

    def __init__(
        self,
        bundle: Path,
        *,
        sha256: str,
        limits: ModelLimits | None = None,
        runtime: str = "onnxruntime",
        precision: str = "fp32",
        environment: Mapping[str, str] | None = None,
        restarted: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._limits = limits or ModelLimits()
        self._settings = {
            "bundle": str(bundle),
            "threads": self._limits.threads,
            "runtime": runtime,
            "precision": precision,
            "memory_mb": self._limits.memory_mb,
        }
        threads = str(self._limits.threads or available_cpus())
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        self._environment = child_environment(**dict.fromkeys(names, threads), **(environment or {}))
        self._sha256 = sha256
        self._kept = Kept(NAME, self._start, restarted=restarted)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child; a batch under way fails."""
        self._kept.close()

    @property
    def trouble(self) -> str | None:
        """Why no batch can be answered just now; None when all is well."""
        return self._kept.trouble

    @property
    def restarts(self) -> int:
        """How often another child took the place of one."""
        return self._kept.restarts

    @property
    def process_id(self) -> int | None:
        """Of the child; None while there is none."""
        child = self._kept.child
        return None if child is None else child.process.process_id

    def run(self, tiles: Array) -> Answer:
        """Every output for tiles uint8 [n, 1, h, w], n ≥ 1.

        Raises:
            UsageError: tiles of another kind or shape.
            BundleError: the graph failed on them.
            ModelDied: the child ended, hung or ran out of memory over them, and was replaced, or none comes up.
        """
        check_tiles(tiles)
        parts = [self._run(tiles[start : start + MOST_TILES]) for start in range(0, len(tiles), MOST_TILES)]
        names = parts[0].keys()
        return answer_of({name: np.concatenate([part[name] for part in parts]) for name in names})

    def _run(self, tiles: Array) -> dict[str, Array]:
        kept = self._kept
        with kept.asking() as child:
            if kept.closed:
                raise UsageError("The model's process is closed. Open the bundle again.")
            if child is None:
                raise ModelDied(kept.trouble or "The model's process is being started again.")
            try:
                return child.run(tiles, self._limits.wall_s)
            except ChildDied as error:
                kept.replace(str(error), child)
                raise ModelDied(str(error)) from None

    def _start(self) -> "_Child":
        child = _Child(self._settings, self._environment, self._sha256)
        self.name, self.precision, self.threads = child.name, child.precision, child.threads
        return child


class _Child:
    """The process, and the memory that both see."""

    def __init__(self, settings: Mapping[str, Any], environment: Mapping[str, str], sha256: str) -> None:
        memory = _memory()
        try:
            self.process = ChildProcess(
                NAME,
                "hilum.service.model_child",
                {"memory": memory, **settings},
                environment=environment,
                descriptors=[memory],
                lines=LINES,
                memory_setting="HILUM_MODEL_MEMORY_MB",
            )
            try:
                about = self._loaded(sha256)
                self.name, self.precision, self.threads = about["name"], about["precision"], int(about["threads"])
                shapes = {name: tuple(inner) for name, inner in about["shapes"].items()}
                size = int(about["size"])
                self._shape = (1, size, size)
                self._free: queue.SimpleQueue[tuple[int, Shared]] = queue.SimpleQueue()
                for line, shared in enumerate(shared_memory(memory, size, shapes, lines=LINES, grow=True)):
                    self._free.put((line, shared))
            except BaseException:
                self.kill()
                raise
        finally:
            os.close(memory)  # the mapping keeps it

    def _loaded(self, sha256: str) -> dict[str, Any]:
        about = self.process.reply(STARTUP_S, "load its bundle") or {}
        if about.get("sha256") != sha256:
            raise BundleError(
                f"The bundle was exchanged: its digest is {str(about.get('sha256'))[:12]}, but {sha256[:12]} was "
                "verified. Keep the file as it was, or activate the new one."
            )
        return about

    def run(self, tiles: Array, wall_s: float) -> dict[str, Array]:
        """The outputs for up to :data:`MOST_TILES` tiles; raises ChildDied, and the child must then be replaced."""
        if tiles.shape[1:] != self._shape:
            raise UsageError(f"The model takes tiles {self._shape}, but got {tiles.shape[1:]}.")
        count = len(tiles)
        line, shared = self._free.get()
        try:
            shared.tiles[:count] = tiles
            self.process.ask(RUN, count, wall_s, "answer a batch", line=line)
            return {name: values[:count].copy() for name, values in shared.outputs.items()}
        finally:
            self._free.put((line, shared))

    def beat(self, within_s: float) -> None:
        """Ask whether it is there; raises ChildDied."""
        self.process.beat(within_s)

    def kill(self) -> None:
        """End it."""
        self.process.kill()


def _memory() -> int:
    """A descriptor of memory that has no name, so nothing is left behind however the processes end."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("hilum-tiles", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
