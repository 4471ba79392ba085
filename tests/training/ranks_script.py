"""Train the tiny classifier in one process, in two, in two of which the first dies, and in two that go on from there.

Prints one JSON line: how each process ended, and what the one said that was left alone.
"""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import tiny
import torch
from safetensors.torch import save_file

from hilum.errors import TrainingError
from hilum.training.prefix_cache import PrefixCache
from hilum.training.ranks import ALONE, Ranks, group
from hilum.training.transfer import train_member


def train(folder: Path, ranks: Ranks, die_after: int) -> None:
    torch.set_num_threads(1)
    model = tiny.classifier()
    model.head.dropout.p = 0.0  # masks differ from process to process
    stages = (replace(tiny.BLOCKS[0], optimiser="sgd"), replace(tiny.BLOCKS[1], optimiser="sgd", batch_norm="train"))
    cache, told = PrefixCache(folder / "cache"), []

    def watch(row: dict[str, object]) -> None:
        told.append(row)
        if len(told) == die_after:
            os.kill(os.getpid(), signal.SIGKILL)

    config = tiny.config(checkpoint_every_s=0.0)
    train_member(
        model, tiny.data(), stages, config, folder=folder / "member", cache=cache, seed=0, watch=watch, ranks=ranks
    )
    save_file(tiny.state(model), folder / f"rank{ranks.rank}.safetensors")


def child(folder: Path, meeting: Path, rank: int, world: int, die_after: int) -> None:
    """One process, to its end."""
    said = open(folder / f"said{rank}", "w")  # noqa: SIM115 - open until the process ends
    os.dup2(said.fileno(), 2)
    try:
        if world == 1:
            train(folder, ALONE, 0)
        else:
            with group(where=meeting.as_uri(), rank=rank, world=world, timeout_s=120) as ranks:
                train(folder, ranks, die_after)
    except TrainingError as error:
        os.write(2, str(error).encode())
        os._exit(3)
    os._exit(0)


def together(folder: Path, world: int, die_after: int = 0) -> list[int]:
    """Run that many processes; how each ended."""
    folder.mkdir(exist_ok=True)
    meeting = folder / f"meeting-{die_after}"
    processes = []
    for rank in range(world):
        process = os.fork()
        if process == 0:
            child(folder, meeting, rank, world, die_after)
        processes.append(process)
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]


if __name__ == "__main__":
    root = Path(sys.argv[1])
    ends = {"one": together(root / "one", 1), "two": together(root / "two", 2)}
    ends["dying"] = together(root / "cut", 2, die_after=3)
    ends["message"] = (root / "cut" / "said1").read_text()
    ends["again"] = together(root / "cut", 2)
    print(json.dumps(ends))
