"""The model in a process of its own, behind the interface of a runtime: what kills it doesn't kill the service.

A child that ends, hangs or runs out of memory is killed and another one is started in its place; who waits for the
batch gets :class:`~hilum.service.answering.ModelDied` and may try it again. A watchdog asks the child every second
whether it is there, so one that dies while nobody asks is replaced before the next film comes. Tiles and outputs cross
in shared memory.

The child has no environment but what it needs, no open files but its own, and reads the bundle itself; its digest must
be the one that was verified here.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from hilum.arrays import Array
from hilum.errors import BundleError, ServiceError, UsageError
from hilum.inference.machine import available_cpus
from hilum.inference.runtimes import Answer, answer_of, check_tiles
from hilum.service.answering import ModelDied
from hilum.service.logs import logger
from hilum.service.model_child import FAILED, MOST_TILES, OUT_OF_MEMORY, PING, REPLY, REQUEST, RUN, Shared

STARTUP_S = 120.0
"""How long a child may take to load its bundle; generous, since a busy machine must not refuse a good model."""

BEAT_S = 1.0
"""How often the watchdog asks."""

ANSWER_TO_BEAT_S = 20.0
"""How long an idle child may take to say that it is there; generous for the same reason."""

LONGEST_PAUSE_S = 30.0
"""Longest wait between two attempts to start a child that doesn't come up."""

BOOT = (
    "import json, sys; settings = json.loads(sys.argv[1]); sys.path[:] = settings.pop('path'); "
    "from hilum.service.model_child import main; main(**settings)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLimits:
    """What the model's process may use."""

    threads: int | None = None
    """Threads of one run; None: the processors that this process may use."""
    memory_mb: int = 4096
    """Address space on top of what it has once the model is loaded; 0 for no limit, as a GPU's driver needs."""
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
            "memory_mb": 0 if "cuda" in runtime else self._limits.memory_mb,
        }
        threads = str(self._limits.threads or available_cpus())
        self._environment = {
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads),
            "LANG": "C.UTF-8",
            "PATH": os.defpath,
            "HOME": str(Path.home()),
            **(environment or {}),
        }
        self._sha256, self._restarted = sha256, restarted
        self._lock, self._closed = threading.RLock(), threading.Event()
        self._child: _Child | None = None
        self._trouble: str | None = None
        self._failures, self._next_try = 0, 0.0
        self.restarts = 0
        try:
            self._child = self._start()
        except ModelDied as error:
            raise ServiceError(str(error)) from None
        self.name, self.precision, self.threads = self._child.name, self._child.precision, self._child.threads
        self._watchdog = threading.Thread(target=self._watch, name="hilum-watchdog", daemon=True)
        self._watchdog.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child; a batch under way fails."""
        self._closed.set()
        child = self._child
        if child is not None:
            child.kill()
        self._watchdog.join()

    @property
    def trouble(self) -> str | None:
        """Why no batch can be answered just now; None when all is well."""
        return self._trouble

    @property
    def process_id(self) -> int | None:
        """Of the child; None while there is none."""
        return None if self._child is None else self._child.process.pid

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
        with self._lock:
            if self._closed.is_set():
                raise UsageError("The model's process is closed. Open the bundle again.")
            if self._child is None:
                raise ModelDied(self._trouble or "The model's process is being started again.")
            try:
                return self._child.run(tiles, self._limits.wall_s)
            except ModelDied as error:
                self._replace(str(error))
                raise

    def _watch(self) -> None:
        while not self._closed.wait(BEAT_S):
            if not self._lock.acquire(blocking=False):
                continue  # a batch is in work, and has a limit of its own
            try:
                self._look()
            finally:
                self._lock.release()

    def _look(self) -> None:
        if self._child is None:
            if time.monotonic() >= self._next_try:
                self._replace(self._trouble or "")
            return
        try:
            self._child.beat(ANSWER_TO_BEAT_S)
        except ModelDied as error:
            self._replace(str(error))

    def _replace(self, reason: str) -> None:
        """Another child in the place of this one, if it comes up; else the watchdog tries again, ever less often."""
        if self._child is not None:
            self._child.kill()
            self._child = None
        if self._closed.is_set():
            return
        logger().error("model's process is started again", reason=reason)
        try:
            self._child = self._start()
        except (ModelDied, BundleError, UsageError, OSError) as error:
            self._trouble = f"The model's process doesn't come up: {error}"
            self._failures += 1
            self._next_try = time.monotonic() + min(LONGEST_PAUSE_S, 2.0 ** (self._failures - 1))
            logger().error("model's process doesn't come up", reason=str(error))
            return
        self._trouble, self._failures = None, 0
        self.restarts += 1
        self._restarted(reason)

    def _start(self) -> "_Child":
        child = _Child(self._settings, self._environment, self._sha256)
        if self._closed.is_set():
            child.kill()
        return child


class _Child:
    """One child process and this side of its socket."""

    def __init__(self, settings: Mapping[str, Any], environment: Mapping[str, str], sha256: str) -> None:
        self.socket, theirs = socket.socketpair()
        memory = _memory()
        given = {"path": sys.path, "descriptor": theirs.fileno(), "memory": memory, **settings}
        try:
            with theirs:
                self.process = subprocess.Popen(
                    [sys.executable, "-c", BOOT, json.dumps(given)],
                    pass_fds=[theirs.fileno(), memory],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=dict(environment),
                    start_new_session=True,  # Ctrl-C at a terminal is for the parent to handle
                )
            about = self._loaded(sha256)
            self.name, self.precision, self.threads = about["name"], about["precision"], int(about["threads"])
            shapes = {name: tuple(inner) for name, inner in about["shapes"].items()}
            self._shared = Shared(memory, int(about["size"]), shapes, grow=True)
        except BaseException:
            self.kill()
            raise
        finally:
            os.close(memory)  # the mapping keeps it

    def _loaded(self, sha256: str) -> dict[str, Any]:
        about = self._reply(STARTUP_S, "load its bundle") or {}
        if about.get("sha256") != sha256:
            raise BundleError(
                f"The bundle was exchanged: its digest is {str(about.get('sha256'))[:12]}, but {sha256[:12]} was "
                "verified. Keep the file as it was, or activate the new one."
            )
        return about

    def run(self, tiles: Array, wall_s: float) -> dict[str, Array]:
        """The outputs for up to :data:`MOST_TILES` tiles; raises ModelDied, and the child must then be replaced."""
        if tiles.shape[1:] != self._shared.tiles.shape[1:]:
            raise UsageError(f"The model takes tiles {self._shared.tiles.shape[1:]}, but got {tiles.shape[1:]}.")
        count = len(tiles)
        self._shared.tiles[:count] = tiles
        self._ask(RUN, count, wall_s, "answer a batch")
        return {name: values[:count].copy() for name, values in self._shared.outputs.items()}

    def beat(self, within_s: float) -> None:
        """Ask whether it is there; raises ModelDied."""
        self._ask(PING, 0, within_s, "say that it is there")

    def _ask(self, what: int, count: int, within_s: float, to: str) -> None:
        try:
            self.socket.settimeout(within_s)
            self.socket.sendall(REQUEST.pack(what, count))
        except OSError:
            raise self._ended() from None
        self._reply(within_s, to)

    def _reply(self, within_s: float, to: str) -> Any:
        deadline = time.monotonic() + within_s
        try:
            status, length = REPLY.unpack(self._exactly(REPLY.size, deadline))
            said: Any = json.loads(self._exactly(length, deadline)) if length else None
        except TimeoutError:
            raise ModelDied(f"The model's process took longer than {within_s:g} s to {to}, and was stopped.") from None
        except (OSError, EOFError):
            raise self._ended() from None
        if status == OUT_OF_MEMORY:
            raise ModelDied("The model's process has no memory left. Raise HILUM_MODEL_MEMORY_MB.")
        if status == FAILED and said is not None:
            kind = UsageError if said["kind"] != "BundleError" else BundleError
            raise kind(said["text"])
        return said

    def _exactly(self, size: int, deadline: float) -> bytes:
        content = bytearray()
        while len(content) < size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.socket.settimeout(left)
            part = self.socket.recv(size - len(content))
            if not part:
                raise EOFError
            content += part
        return bytes(content)

    def _ended(self) -> ModelDied:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2.0)
        code = self.process.returncode
        name = signal.Signals(-code).name if code is not None and code < 0 else f"exit {code}"
        return ModelDied(f"The model's process ended ({name}).")

    def kill(self) -> None:
        """End the process and collect it."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        if hasattr(self, "process"):
            self.process.kill()
            self.process.wait()
        self.socket.close()


def _memory() -> int:
    """A descriptor of memory that has no name, so nothing is left behind however the processes end."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("hilum-tiles", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
