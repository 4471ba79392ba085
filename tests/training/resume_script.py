"""Train in a child process that is killed at random moments, again and again, until it comes to its end.

Prints one JSON line: how many children were killed, whether the last one found a checkpoint, and the digests of the
weights without kills and with them.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import tiny
import torch

from hilum.training.frozen import tensors_fingerprint
from hilum.training.prefix_cache import PrefixCache
from hilum.training.transfer import train_member


def train(folder: Path) -> None:
    model = tiny.classifier()
    config = tiny.config(checkpoint_every_s=0.02)
    train_member(model, tiny.data(), tiny.BLOCKS, config, folder=folder / "member", cache=PrefixCache(folder), seed=0)
    (folder / "digest").write_text(tensors_fingerprint(model.state_dict()))


def child(folder: Path, kill_after_s: float | None) -> bool:
    """Whether the child came to its end."""
    process = os.fork()
    if process == 0:
        train(folder)
        os._exit(0)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(process, signal.SIGKILL)
    return os.waitpid(process, 0)[1] == 0


def main(root: Path, kills: int, seed: int) -> None:
    torch.set_num_threads(1)
    started = time.monotonic()
    if not child(root / "whole", None):
        sys.exit("the training that nobody killed failed")
    lasted = time.monotonic() - started
    chance = random.Random(seed)
    killed = sum(not child(root / "cut", chance.uniform(0.02, 0.5) * lasted) for _ in range(kills))
    begun = (root / "cut" / "member" / "checkpoint.safetensors").exists()
    if not child(root / "cut", None):
        sys.exit("the last training failed")
    digests = [(root / name / "digest").read_text() for name in ("whole", "cut")]
    print(json.dumps({"killed": killed, "begun": begun, "whole": digests[0], "cut": digests[1]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
