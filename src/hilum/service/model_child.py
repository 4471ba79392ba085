"""The child's side of :mod:`hilum.service.model_process`: load a bundle, then answer batches until the socket closes.

Tiles and outputs lie in memory that both processes see; only a few bytes say what is there.
"""

import mmap
import os
import socket
from collections.abc import Mapping

import numpy as np

from hilum.arrays import Array
from hilum.bundle.reading import read_bundle
from hilum.errors import HilumError
from hilum.inference.precision import open_in
from hilum.inference.runtimes import Answer, Runtime
from hilum.service.child_wire import FAILED, OK, OUT_OF_MEMORY, PING, limit, receive, send

RUN = 16
"""Asked with the number of tiles."""

MOST_TILES = 8
"""Tiles of one request: the memory between the processes is made for so many."""

Shapes = Mapping[str, tuple[int, ...]]
"""The lengths behind the batch of each output."""


class Shared:
    """The memory between the processes: tiles first, then every output.

    Args:
        descriptor: of the memory.
        size: height and width of a tile.
        shapes: of the outputs.
        grow: True to give the memory its length first.
    """

    def __init__(self, descriptor: int, size: int, shapes: Shapes, *, grow: bool = False) -> None:
        tiles = MOST_TILES * size * size
        places, at = {}, -(-tiles // 64) * 64
        for name, inner in shapes.items():
            places[name] = at, (MOST_TILES, *inner)
            at += -(-4 * int(np.prod((MOST_TILES, *inner))) // 64) * 64
        if grow:
            os.ftruncate(descriptor, at)
        self._memory = mmap.mmap(descriptor, at)
        self.tiles: Array = np.frombuffer(self._memory, np.uint8, tiles).reshape(MOST_TILES, 1, size, size)
        self.outputs: dict[str, Array] = {
            name: np.frombuffer(self._memory, np.float32, int(np.prod(shape)), start).reshape(shape)
            for name, (start, shape) in places.items()
        }


def main(
    *, descriptor: int, memory: int, bundle: str, threads: int | None, runtime: str, precision: str, memory_mb: int
) -> None:
    """Load, limit, announce readiness, and answer.

    Args:
        descriptor: the inherited end of the socket.
        memory: descriptor of the memory between the processes.
        bundle: the bundle's path.
        threads: threads of one run.
        runtime: a key of :data:`hilum.inference.choosing.RUNTIMES`, or ``auto``.
        precision: fp32, or one that a gate let pass.
        memory_mb: address space on top of what is in use once the model is loaded; 0 for no limit, which a GPU's
            driver needs.
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
        about = {"sha256": digest, "size": size, "shapes": shapes, "threads": loaded.threads}
        send(connection, OK, {**about, "name": loaded.name, "precision": loaded.precision})
        limit(memory_mb=memory_mb, file_bytes=0)  # it writes no files; its memory has its length already
        _serve(connection, memory, size, shapes, loaded)


def _serve(connection: socket.socket, memory: int, size: int, shapes: Shapes, runtime: Runtime) -> None:
    shared: Shared | None = None
    while True:
        try:
            what, count, _ = receive(connection)
        except EOFError:
            return  # the service has ended
        if what == PING:
            send(connection, OK)
            continue
        shared = shared or Shared(memory, size, shapes)
        try:
            answer = runtime.run(shared.tiles[:count])
            for name, values in answer.as_mapping().items():
                shared.outputs[name][:count] = values
            send(connection, OK)
        except MemoryError:
            send(connection, OUT_OF_MEMORY)
        except HilumError as error:
            send(connection, FAILED, {"kind": type(error).__name__, "text": str(error)})


def _shapes(answer: Answer) -> dict[str, tuple[int, ...]]:
    return {name: values.shape[1:] for name, values in answer.as_mapping().items()}
