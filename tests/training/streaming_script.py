"""Train a member on streamed films, on cached outputs and where that is asked for live too, after a warm-up on a few.

Prints megabytes: of the films, and that the process had at most between two blocks, in the warm-up and behind it.
"""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import tiny
import torch

from hilum.training import transfer
from hilum.training.prefix_cache import PrefixCache
from hilum.training.row_store import RowsOf, RowStore
from hilum.training.transfer import TrainingData, train_member

SIDE, BLOCK = 256, 32

transfer.keep_freed_memory = lambda: False  # what films hold is asked, not what is kept between steps


class Weighing:
    """Progress that notes how large the process is at each step."""

    def __init__(self) -> None:
        self.most = 0.0

    @contextlib.contextmanager
    def bar(self, description: str, total: float | None = None) -> Iterator["Weighing"]:
        yield self

    def advance(self, steps: float = 1, note: str = "") -> None:
        lines = Path("/proc/self/status").read_text().splitlines()
        rss = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
        self.most = max(self.most, rss / 1e3)

    def say(self, sentence: str) -> None: ...


def store_of(root: Path, count: int) -> RowStore:
    store = RowStore(root, {}, (SIDE, SIDE), np.dtype(np.uint8))
    with store.writing():
        for start in range(0, count, BLOCK):
            greys = (np.arange(start, start + BLOCK) % 251).astype(np.uint8)[:, None, None]
            tiles = np.repeat(np.repeat(greys, SIDE, axis=1), SIDE, axis=2)
            store.append([i.to_bytes(16, "little") for i in range(start, start + BLOCK)], tiles)
    return store


def train(store: RowStore, count: int, folder: Path, live: bool) -> float:
    cached = replace(tiny.BLOCKS[0], epochs=2, views=0, batch_size=32)
    fresh = replace(tiny.BLOCKS[1], epochs=1, views=None, batch_size=32)
    stages = (cached, fresh) if live else (cached,)
    data = TrainingData(
        tiles=RowsOf(store, np.arange(count)),
        film_ids=tuple(f"film-{i}" for i in range(count)),
        targets=np.eye(3)[np.arange(count) % 3],
        fit=np.arange(count // 4, count),
        watch=np.arange(count // 4),
    )
    given = {"cache": PrefixCache(folder / "cache"), "seed": 0, "progress": Weighing()}
    train_member(tiny.classifier(), data, stages, tiny.config(), folder=folder / "member", **given)
    return given["progress"].most


if __name__ == "__main__":
    torch.set_num_threads(1)
    root, films, live = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "live"
    opened = store_of(root / "films", films)
    before = train(opened, 96, root / "warm-up", live)
    print(films * SIDE * SIDE / 1e6, before, train(opened, films, root / "all", live))
