"""A film's way to the disk and to its decoder: through the disk's cache, and past it, in milliseconds of the processor.

Run: python benchmarks/film_on_disk.py [--mb 2] [--films 200] [--work FOLDER]

In turn, film by film, each a new file of random bytes that came in pieces of 512 KiB:

through the cache      written as bytes come and synced; read back whole
past it, from memory   gathered in memory, written past the cache and synced; its decoder takes it where it lies
past it, from disk     the same, but that memory was needed for another film: read past the cache

Then a first pass over what was read, two bytes a pixel, as a decoder makes it: what lies in no cache of the processor
costs more there. Hashing, which all ways have in common, is left out. The disk's cache is filled up before, as on a
server that has run for a day.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _section import Save, head, main, spread, table
from service_load import fill_cache

from hilum.direct_io import DirectReader, DirectWriter
from hilum.shared_memory import Lent, SharedMemory

PIECE = 512 << 10
WAYS = ("through the cache", "past it, from memory", "past it, from disk")


def written(path: Path, content: bytes, memory: SharedMemory | None) -> None:
    """Write a film as the intake does."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0) as file:
        writer = DirectWriter(file, lambda: None if memory is None else memory.memory)
        for at in range(0, len(content), PIECE):
            rest = memoryview(content)[at : at + PIECE]
            while rest:
                rest = rest[writer.write(rest) :]
        writer.flush()
        os.fsync(file.fileno())


def looked_through(content: bytes | memoryview) -> int:
    """A pass over all pixels."""
    return int(np.frombuffer(content, np.uint16, count=len(content) // 2).max())


def films(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of the processor for each film, by way and step."""
    memory = SharedMemory(-(-options.mb // 4) * (4 << 20))
    other = np.zeros((options.mb << 20) * 2, np.uint8)
    found: dict[str, dict[str, list[float]]] = {way: {"write": [], "read": []} for way in WAYS}
    for number in range(options.films):
        content = os.urandom(options.mb << 20)
        for way in WAYS:
            path = folder / f"{WAYS.index(way)}-{number}"
            found[way]["write"].append(
                timed(lambda: written(path, content, None if way == WAYS[0] else memory))  # noqa: B023
            )
            other += 1  # another film's arithmetic in between
            found[way]["read"].append(timed(lambda: reading(way, path, memory, len(content))))  # noqa: B023
    return found


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of this thread's processor time, the system's share of it included."""
    started = time.thread_time()
    work()
    return 1000 * (time.thread_time() - started)


def reading(way: str, path: Path, memory: SharedMemory, size: int) -> None:
    """Take a film as its decoder does, and pass over it."""
    if way == WAYS[0]:
        looked_through(path.read_bytes())
    elif way == WAYS[1]:
        looked_through(Lent(descriptor=memory.descriptor, size=size).content())
    else:
        with DirectReader(path) as reader:
            looked_through(reader.first(size))


def measure(options: argparse.Namespace, save: Save) -> dict[str, Any]:
    if options.smoke:
        options.films, options.mb = 3, 1
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        filled = 0 if options.smoke else fill_cache(Path(folder) / "fill")
        found = films(options, Path(folder))
    return {"mb": options.mb, "films": options.films, "filled_mb": filled, "ways": found}


def write(found: dict[str, Any]) -> str:
    rows = []
    for way, steps in found["ways"].items():
        both = [sum(one) for one in zip(steps["write"], steps["read"], strict=True)]
        rows.append([way, *(quartiles(values) for values in (steps["write"], steps["read"], both))])
    return (
        f"{head(found)}\n{found['films']} films of {found['mb']} MiB each way, in turn, after the disk's cache was "
        f"filled up ({found['filled_mb'] / 1024:.0f} GiB). Milliseconds of the processor a film: the median, with the "
        f"quartiles.\n\n{table(['', 'write and sync', 'read, and one pass', 'both'], rows)}"
    )


def quartiles(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return spread([low, middle, high], ".2f")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mb", type=int, default=2, help="MiB of a film")
    parser.add_argument("--films", type=int, default=200)
    parser.add_argument("--work", type=Path, help="folder for the films; its disk is part of what is timed")


if __name__ == "__main__":
    main(__doc__ or "", measure, write, add)
