"""The child's side of :mod:`hilum.service.model_process`: load a bundle, then answer batches until the socket closes.

Tiles and outputs lie in memory that both processes see; only a few bytes say what is there.
"""

import math
import mmap
import os
import socket
import threading
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from hilum.arrays import Array
from hilum.bundle.reading import read_bundle
from hilum.errors import HilumError
from hilum.inference.cuda import CudaRuntime, GpuFailed
from hilum.inference.precision import open_in
from hilum.inference.runtimes import Answer, Runtime
from hilum.service.child_wire import ENDING, FAILED, OK, OUT_OF_MEMORY, limit, receive, send

RUN = 16
"""Asked with the number of tiles."""

MOST_TILES = 8
"""Tiles of one request: the memory between the processes is made for so many."""

Shapes = Mapping[str, tuple[int, ...]]
"""The lengths behind the batch of each output."""


class Shared:
    """Memory of one line between the processes: tiles first, then every output.

    Args:
        memory: what both processes see.
        at: first byte of it that is this line's.
        size: height and width of a tile.
        shapes: of the outputs.
    """

    def __init__(self, memory: mmap.mmap, at: int, size: int, shapes: Shapes) -> None:
        tiles = MOST_TILES * size * size
        self.tiles: Array = np.frombuffer(memory, np.uint8, tiles, at).reshape(MOST_TILES, 1, size, size)
        self.outputs: dict[str, Array] = {}
        at += _rounded(tiles)
        for name, inner in shapes.items():
            shape = (MOST_TILES, *inner)
            self.outputs[name] = np.frombuffer(memory, np.float32, math.prod(shape), at).reshape(shape)
            at += _rounded(4 * math.prod(shape))


def shared_memory(descriptor: int, size: int, shapes: Shapes, *, lines: int, grow: bool = False) -> list[Shared]:
    """The memory between the processes, cut into lines.

    Args:
        descriptor: of the memory.
        size: height and width of a tile.
        shapes: of the outputs.
        lines: batches at once.
        grow: True to give the memory its length first.
    """
    outputs = (4 * MOST_TILES * math.prod(inner) for inner in shapes.values())
    each = sum(map(_rounded, (MOST_TILES * size * size, *outputs)))
    if grow:
        os.ftruncate(descriptor, lines * each)
    memory = mmap.mmap(descriptor, lines * each)
    return [Shared(memory, line * each, size, shapes) for line in range(lines)]


def _rounded(length: int) -> int:
    return -(-length // 64) * 64


def main(
    *,
    descriptor: int,
    lines: list[int],
    memory: int,
    bundle: str,
    threads: int | None,
    runtime: str,
    precision: str,
    memory_mb: int,
) -> None:
    """Load, limit, announce readiness, and answer.

    Args:
        descriptor: the inherited end of the socket.
        lines: those of the sockets that batches come by, one at a time on each.
        memory: descriptor of the memory between the processes.
        bundle: the bundle's path.
        threads: threads of one run.
        runtime: a key of :data:`hilum.inference.choosing.RUNTIMES`, or ``auto``.
        precision: fp32, or one that a gate let pass.
        memory_mb: address space on top of what is in use once the model is loaded; 0 for no limit. None on a
            GPU, whose driver reserves far more than it uses.
    """
    with socket.socket(fileno=descriptor) as connection:
        try:
            opened = read_bundle(bundle)
            loaded = open_in(opened, threads, runtime=runtime, precision=precision)
            size, digest = opened.info.preprocessing.size, opened.sha256
            shapes = _shapes(loaded.run(np.full((1, 1, size, size), 128, np.uint8)))
            del opened
        except HilumError as error:
            send(connection, FAILED, {"kind": type(error).__name__, "text": str(error)})
            return
        for number, line in enumerate(lines):
            own = partial(_own_memory, memory, size, shapes, len(lines), number)
            threading.Thread(target=_serve_line, args=(line, own, loaded), name=f"line-{number}", daemon=True).start()
        about = {"sha256": digest, "size": size, "shapes": shapes, "threads": loaded.threads}
        send(connection, OK, {**about, "name": loaded.name, "precision": loaded.precision})
        most_mb = 0 if isinstance(loaded, CudaRuntime) else memory_mb
        limit(memory_mb=most_mb, file_bytes=0)  # it writes no files; its memory has its length already
        _serve(connection)
        os._exit(0)  # a batch may be in work, for nobody


def _serve(connection: socket.socket) -> None:
    while True:
        try:
            receive(connection)  # nothing but whether this process is there is asked here
        except EOFError:
            return  # the service has ended
        send(connection, OK)


def _serve_line(line: int, shared: Callable[[], Shared], runtime: Runtime) -> None:
    """Answer the batches of one line; whatever ends it ends the process, so that another one takes its place."""
    code = 1
    try:
        with socket.socket(fileno=line) as connection:
            _answer_batches(connection, shared, runtime)
        code = 0
    finally:
        os._exit(code)


def _answer_batches(connection: socket.socket, shared: Callable[[], Shared], runtime: Runtime) -> None:
    memory: Shared | None = None
    while True:
        try:
            _, count, _ = receive(connection)
        except EOFError:
            return  # the service has ended
        memory = memory or shared()  # which has its length by the first batch
        try:
            answer = runtime.run(memory.tiles[:count])
            for name, values in answer.as_mapping().items():
                memory.outputs[name][:count] = values
            send(connection, OK)
        except MemoryError:
            send(connection, OUT_OF_MEMORY)
        except GpuFailed as error:
            send(connection, ENDING, {"text": str(error)})
            raise  # another process may find the GPU well
        except HilumError as error:
            send(connection, FAILED, {"kind": type(error).__name__, "text": str(error)})


def _own_memory(memory: int, size: int, shapes: Shapes, lines: int, number: int) -> Shared:
    return shared_memory(memory, size, shapes, lines=lines)[number]


def _shapes(answer: Answer) -> dict[str, tuple[int, ...]]:
    return {name: values.shape[1:] for name, values in answer.as_mapping().items()}
