"""Train in a child process that is killed at random moments, again and again, until it comes to its end.

Two members of two folds are trained, each in two stages: on the prefix cache, or live. Prints one JSON line: how many
children were killed, behind how many of these a checkpoint was there, how many trainings were needed for them, and
whether all of these ended in the weights and metrics of the one that nobody killed.
"""

import json
import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import tiny
import torch

from hilum.files import write_text
from hilum.provenance import sha256_bytes
from hilum.training.frozen import tensors_fingerprint
from hilum.training.prefix_cache import PrefixCache
from hilum.training.transfer import train_member

HEAD, BLOCK = tiny.BLOCKS
STAGES = (HEAD, replace(BLOCK, batch_norm="train"))


def train(folder: Path, cached: bool) -> None:
    """Both folds; what each ends in goes into the file ``digest``."""
    data, digests = tiny.data(), []
    for fold in (0, 1):
        watch = np.arange(40) // 4 % 3 == fold
        split = replace(data, fit=np.flatnonzero(~watch), watch=np.flatnonzero(watch))
        model, member = tiny.classifier(), folder / f"fold{fold}"
        train_member(
            model,
            split,
            STAGES,
            tiny.config(checkpoint_every_s=0.02),
            folder=member,
            cache=PrefixCache(folder) if cached else None,
            seed=fold,
        )
        rows = [json.loads(line) for line in (member / "metrics.jsonl").read_text().splitlines()]
        told = [{k: v for k, v in row.items() if k != "seconds" and not k.endswith("_s")} for row in rows]
        digests += [tensors_fingerprint(model.state_dict()), sha256_bytes(json.dumps(told).encode())]
    write_text(folder / "digest", " ".join(digests))


def begun(folder: Path) -> bool:
    return any(folder.glob("fold*/checkpoint.safetensors"))


def child(folder: Path, cached: bool, kill_after_s: float | None, *, behind_checkpoint: bool = False) -> bool:
    """Whether the child came to its end."""
    process = os.fork()
    if process == 0:
        train(folder, cached)
        os._exit(0)
    if kill_after_s is not None:
        patient_until = time.monotonic() + 200
        while behind_checkpoint and not begun(folder) and time.monotonic() < patient_until:
            time.sleep(0.002)
        time.sleep(kill_after_s)
        os.kill(process, signal.SIGKILL)
    return os.waitpid(process, 0)[1] == 0


def main(root: Path, kills: int, seed: int, cached: bool) -> None:
    torch.set_num_threads(1)
    started = time.monotonic()
    if not child(root / "whole", cached, None):
        sys.exit("the training that nobody killed failed")
    lasted = time.monotonic() - started
    chance, killed, behind, runs = random.Random(seed), 0, 0, 0
    while killed < kills:
        cut = root / f"cut{runs}"
        late = (
            killed % 4 == 1
        )  # the other kills fall anywhere, which on a fast machine may be before the first checkpoint
        if child(cut, cached, chance.uniform(0.02, 0.1 if late else 0.4) * lasted, behind_checkpoint=late):
            runs += 1  # it came to its end: the next one begins anew
        else:
            killed += 1
            behind += begun(cut)
    if not child(root / f"cut{runs}", cached, None):
        sys.exit("the last training failed")
    digests = {(root / f"cut{i}" / "digest").read_text() for i in range(runs + 1)}
    whole = (root / "whole" / "digest").read_text()
    print(json.dumps({"killed": killed, "begun": behind, "runs": runs + 1, "same": digests == {whole}}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "cached")
