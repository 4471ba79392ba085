"""Decoding in child processes with limits on memory, processor time and waiting, so that a bad film harms only itself.

Children are started once and reused. A child that hangs, crashes or runs out of memory is killed and replaced, and the
caller gets a `FilmError`. The child inherits nothing but its end of a socket: no environment, hence no secrets of the
service, and no open files. Calls and answers cross as `hilum.imaging.wire` has it, not as pickles: a decoder that was
taken over can't run code in the parent that way. Against code execution inside the child this is no barrier.
"""

import contextlib
import dataclasses
import json
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar

from hilum.errors import DataError, FilmError, UsageError
from hilum.imaging import wire
from hilum.shared_memory import Lent

R = TypeVar("R")

STARTUP_S = 60.0
"""How long a child may take to start and import; generous, since it is paid once and never by a film."""

# The child's libraries must not start threads of their own: each reserves address space and shares the CPU limit.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LANG": "C.UTF-8", "PATH": os.defpath}
# glibc would give a film's memory back to the kernel and ask for it again with the next one: thousands of page faults a
# film, a third of all the child's time. 32 MiB is the most that the first of these takes.
ENVIRONMENT |= {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(128 << 20)}
BOOT = (
    "import json, sys; settings = json.loads(sys.argv[1]); sys.path[:] = settings.pop('path'); "
    "from hilum.imaging.sandbox_child import main; main(**settings)"
)
HEADER = struct.Struct(">Q")
USUAL_BYTES = 1 << 16
"""Of a reply, asked for at once: a tile of 224 × 224 and what is said of its film fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLimits:
    """What one call may use."""

    memory_mb: int = 1024
    """Address space on top of what the child has after its imports."""
    cpu_s: float = 20.0
    """Processor time; rounded up to whole seconds by the kernel."""
    wall_s: float = 10.0
    """Time until the answer."""


class Sandbox:
    """A pool of limited child processes; use it as a context manager, from any number of threads.

    Args:
        workers: children, hence calls at the same time; further callers wait.
        memory_mb: see `SandboxLimits`.
        cpu_s: see `SandboxLimits`.
        wall_s: see `SandboxLimits`.
        preload: modules that children import before their limits count.

    Raises:
        UsageError: a limit or the number of workers is not positive.
    """

    def __init__(
        self,
        workers: int = 1,
        *,
        memory_mb: int = 1024,
        cpu_s: float = 20.0,
        wall_s: float = 10.0,
        preload: tuple[str, ...] = ("hilum.imaging.reading", "pydicom.pixels", "PIL.Image"),
    ) -> None:
        if workers < 1 or memory_mb < 1 or cpu_s <= 0 or wall_s <= 0:
            raise UsageError(
                f"Sandbox needs positive numbers, but got workers={workers}, memory_mb={memory_mb}, cpu_s={cpu_s}, "
                f"wall_s={wall_s}."
            )
        self.workers, self.preload = workers, preload
        self.limits = SandboxLimits(memory_mb=memory_mb, cpu_s=cpu_s, wall_s=wall_s)
        self._idle: queue.SimpleQueue[_Child | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._children: set[_Child] = set()
        self._open = False

    def __enter__(self) -> "Sandbox":
        with self._lock:
            if self._open:
                raise UsageError("The sandbox is open already.")
            self._open = True
        for _ in range(self.workers):
            self._idle.put(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill all children; calls under way get a FilmError with code "crashed"."""
        idle = []
        with self._lock:
            self._open = False
            children, self._children = self._children, set()
            with contextlib.suppress(queue.Empty):
                while True:
                    idle.append(self._idle.get_nowait())
        for child in children:
            child.end()
        for one in idle:
            if one is not None:
                one.kill()
        # Callers that wait for a child wake up one after another, each passing the end on.
        self._idle.put(None)

    def run(self, function: Callable[..., R], *args: Any) -> R:
        """Call a function in a child.

        Args:
            function: a function of a module (it travels by name).
            args: its arguments, of the kinds that `hilum.imaging.wire` carries; what is `Lent` is the child's until the
                end of the call.

        Returns:
            Its result: arrays, dataclasses of hilum, and plain values.

        Raises:
            FilmError: code "timeout", "crashed" or "out-of-memory", or whatever FilmError the function raised.
            DataError: the function raised another HilumError; the text is the same.
            UsageError: the sandbox is not open.
            TypeError: an argument is of a kind that may not cross.
        """
        call = wire.encode((function, args))
        lent = [one.descriptor for one in args if isinstance(one, Lent)]
        child = self._idle.get() if self._open else None
        if child is None:
            self._idle.put(None)
            raise UsageError("The sandbox is not open. Use it in a with block.")
        fit = False
        try:
            reply = child.ask(call, lent)
            fit = reply[0] != "out-of-memory"
        finally:
            # Also when a KeyboardInterrupt comes while waiting: the child's state is then unknown.
            self._give_back(child, fit)
        result: R = _unwrap(reply)
        return result

    def map(self, function: Callable[..., R], items: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, R | DataError]]:
        """Call a function for many items, as many at a time as there are workers.

        Args:
            function: as for `run`.
            items: a tuple of arguments each; taken as they are needed.

        Yields:
            (index of the item, result or the error), in the order in which they end.
        """
        with ThreadPoolExecutor(self.workers) as pool:
            pending: dict[Future[R], int] = {}
            for index, args in enumerate(items):
                pending[pool.submit(self.run, function, *args)] = index
                if len(pending) >= 2 * self.workers:
                    yield from _ended(pending)
            while pending:
                yield from _ended(pending)

    def add_worker(self) -> None:
        """Start one more child: for a service that wants its first child awake before it spends its start on others."""
        self.workers += 1
        self._idle.put(self._start())

    def _start(self) -> "_Child | None":
        with self._lock:
            if not self._open:
                return None
            child = _Child(self.limits, self.preload)
            self._children.add(child)
            return child

    def _give_back(self, child: "_Child", fit: bool) -> None:
        with self._lock:
            if fit and self._open:
                self._idle.put(child)
                return
            self._children.discard(child)
        child.kill()
        self._idle.put(self._start())


def _ended(pending: dict[Future[R], int]) -> Iterator[tuple[int, R | DataError]]:
    for future in wait(pending, return_when=FIRST_COMPLETED).done:
        index = pending.pop(future)
        try:
            yield index, future.result()
        except DataError as error:
            yield index, error


def _unwrap(reply: tuple[Any, ...]) -> Any:
    kind, *rest = reply
    if kind == "ok":
        return rest[0]
    if kind == "film-error":
        raise FilmError(rest[0], code=rest[1])
    if kind == "hilum-error":
        raise DataError(rest[0])
    if kind == "out-of-memory":
        raise FilmError("Reading the film needs more memory than the sandbox allows.", code="out-of-memory")
    raise FilmError(f"Reading the film failed inside the sandbox ({rest[0]}).", code="crashed") from RuntimeError(
        rest[1]
    )


class _Child:
    """One child process and this side of its socket."""

    def __init__(self, limits: SandboxLimits, preload: tuple[str, ...]) -> None:
        self.limits = limits
        self.ready = False
        self.socket, theirs = socket.socketpair()
        settings = {"path": sys.path, "descriptor": theirs.fileno(), "preload": preload, **dataclasses.asdict(limits)}
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", BOOT, json.dumps(settings)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=ENVIRONMENT,
                start_new_session=True,  # Ctrl-C at a terminal is for the parent to handle
            )

    def ask(self, call: bytes, descriptors: Sequence[int] = ()) -> tuple[Any, ...]:
        """Send a call and wait for its reply.

        Args:
            call: encoded.
            descriptors: files that the child gets with it, in the order of the arguments that name them.

        Raises:
            FilmError: code "timeout" or "crashed"; the child must then be replaced.
        """
        try:
            if not self.ready:
                self._receive(time.monotonic() + STARTUP_S)
                self.ready = True
            deadline = time.monotonic() + self.limits.wall_s
            self.socket.settimeout(self.limits.wall_s)
            message = memoryview(HEADER.pack(len(call)) + call)
            sent = socket.send_fds(self.socket, [message], descriptors) if descriptors else 0
            if sent < len(message):
                self.socket.sendall(message[sent:])
            return _load(self._receive(deadline))
        except TimeoutError as error:
            raise FilmError(
                f"Reading the film took longer than the {self.limits.wall_s:g} s allowed and was stopped.",
                code="timeout",
            ) from error
        except (EOFError, OSError) as error:
            raise self._why_dead() from error

    def _receive(self, deadline: float) -> memoryview:
        """The child's next message. Sizes are bounded, and nothing may come with the end of a short one."""
        content = memoryview(bytearray(USUAL_BYTES))
        received = self._fill(content, 0, HEADER.size, deadline)
        end = HEADER.size + int(HEADER.unpack_from(content)[0])
        if end > self.limits.memory_mb << 20:
            raise FilmError(f"The sandbox's answer of {end:,} bytes is larger than its memory.", code="crashed")
        if received > end:
            raise FilmError("The sandbox's answer goes on after its end.", code="crashed")
        if end > len(content):
            more = memoryview(bytearray(end))
            more[:received] = content[:received]
            content = more
        self._fill(content[:end], received, end, deadline)
        return content[HEADER.size : end]

    def _fill(self, content: memoryview, received: int, least: int, deadline: float) -> int:
        """Receive into the rest of a buffer until it holds so many bytes or more; how many it holds."""
        while received < least:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.socket.settimeout(left)
            count = self.socket.recv_into(content[received:])
            if count == 0:
                raise EOFError
            received += count
        return received

    def _why_dead(self) -> FilmError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        code = self.process.returncode
        if code in (-signal.SIGXCPU, -signal.SIGALRM):
            return FilmError(
                f"Reading the film used up the {self.limits.cpu_s:g} s of processor time allowed and was stopped.",
                code="timeout",
            )
        name = signal.Signals(-code).name if code is not None and code < 0 else f"exit {code}"
        return FilmError(
            f"Reading the film ended its process ({name}). The film is damaged or hostile.", code="crashed"
        )

    def end(self) -> None:
        """End the process and collect it; whoever waits for it learns that."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.process.kill()
        self.process.wait()

    def kill(self) -> None:
        """The same, and close the socket: by whom nobody else can have the child any more.

        A number that is closed while another thread may read it becomes the next socket's.
        """
        self.end()
        self.socket.close()


def _load(content: bytes | memoryview) -> tuple[Any, ...]:
    try:
        reply = wire.decode(content)
    except (ValueError, MemoryError) as error:
        raise FilmError("The sandbox's answer holds something that may not leave it.", code="crashed") from error
    if not isinstance(reply, tuple) or not reply:
        raise FilmError("The sandbox's answer is not one.", code="crashed")
    return reply
