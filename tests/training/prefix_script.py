"""Fillers of one prefix cache in processes of their own, killed while they write; and one that another must wait for.

Prints one JSON line: what lay in the cache after the kills, and what the one said that found no room.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import tiny
import torch

from hilum.errors import TrainingError
from hilum.training import prefix_cache
from hilum.training.augmentation import Augmentation
from hilum.training.prefix_cache import PrefixCache, PrefixOutputs
from hilum.training.row_store import MARK_BYTES

VIEWS, KILLS, PATIENCE_S = 3, 6, 60.0
WANTED = {view: np.arange(40) for view in range(1 + VIEWS)}
TOTAL = 40 * (1 + VIEWS)
SIZE = TOTAL * (6 * 4 * 4 * 2 + MARK_BYTES)


def fill(root: Path, seed: int = 0, limit_gb: float = 20.0) -> PrefixOutputs:
    cache = PrefixCache(root, limit_gb=limit_gb)
    options = {"augmentation": Augmentation(), "precision": "fp32"}
    return cache.open(tiny.classifier(seed), 6, tiny.films(), WANTED, **options)


def filler(root: Path, stop_behind: str = "", **options: object) -> int:
    """Fill in a process of its own, which stops by itself behind its first block when that is asked for."""
    process = os.fork()
    if process:
        return process
    add = prefix_cache._Filling._add

    def add_and_stop(*given: object) -> None:
        add(*given)
        (root / stop_behind).touch()
        time.sleep(PATIENCE_S)

    if stop_behind:
        prefix_cache._Filling._add = add_and_stop
    fill(root, **options)
    os._exit(0)


def rows(root: Path) -> int:
    return sum(path.stat().st_size for path in root.glob("*/marks.bin")) // MARK_BYTES


def wait_until(ready: object) -> None:
    started = time.monotonic()
    while not ready():
        if time.monotonic() - started > PATIENCE_S:
            raise TimeoutError
        time.sleep(0.001)


def kill(*processes: int) -> None:
    for process in processes:
        os.kill(process, signal.SIGKILL)
    for process in processes:
        os.waitpid(process, 0)


def killed_while_writing(root: Path, seed: int) -> list[int]:
    """Rows that are whole behind each kill of two fillers at once."""
    chance, left = random.Random(seed), []
    root.mkdir()
    for _ in range(KILLS):
        enough = rows(root) + chance.randint(1, TOTAL // KILLS)
        processes = [filler(root), filler(root)]
        wait_until(lambda enough=enough: rows(root) >= enough)
        time.sleep(chance.random() * 0.003)
        kill(*processes)
        left.append(rows(root))
    return left


def outputs_of(root: Path) -> list[torch.Tensor]:
    with fill(root) as outputs:
        return [outputs(torch.arange(40), view).clone() for view in WANTED]


def refused_then_let_in(root: Path) -> dict[str, object]:
    """One fills a network's outputs and halts; there is no room for another's until it is dead."""
    root.mkdir()
    limit_gb = (SIZE * 1.5 + 4000) / 1e9
    first = filler(root, stop_behind="begun", limit_gb=limit_gb)
    wait_until((root / "begun").exists)
    told = ""
    try:
        fill(root, seed=1, limit_gb=limit_gb).close()
    except TrainingError as error:
        told = str(error)
    kill(first)
    fill(root, seed=1, limit_gb=limit_gb).close()
    return {"told": told, "size": sum(path.stat().st_size for path in root.glob("*/*")), "limit": limit_gb * 1e9}


if __name__ == "__main__":
    torch.set_num_threads(1)
    prefix_cache.BLOCK = 2
    folder = Path(sys.argv[1])
    left = killed_while_writing(folder / "killed", seed=int(sys.argv[2]))
    found, fresh = outputs_of(folder / "killed"), outputs_of(folder / "fresh")
    right = all(torch.equal(one, other) for one, other in zip(found, fresh, strict=True))
    print(json.dumps({"left": left, "right": right, "room": refused_then_let_in(folder / "room")}))
