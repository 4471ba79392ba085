"""Freed memory is kept: the kernel is not asked for the same pages again."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from hilum.training.allocator import keep_freed_memory
torch.set_num_threads(1)
print(len(sys.argv) == 1 and keep_freed_memory())
def step():
    maps = [torch.ones(8, 2**20) for _ in range(3)]  # 32 MiB each
    return maps[0].sum()
for _ in range(6):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
WHOLE = 4 * 3 * 2**25 // 4096  # page faults when all maps are asked for anew


def faults(*arguments: str) -> tuple[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, *arguments], capture_output=True, text=True, timeout=120, check=True
    )
    said, count = done.stdout.split()
    return said, int(count)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_a_repeated_step_takes_no_new_pages() -> None:
    """Hardly a page fault, against those of every map when nothing is kept."""
    said, kept = faults()
    assert said == "True"
    assert kept < WHOLE / 20
    said, asked_anew = faults("as it is")
    assert said == "False"
    assert asked_anew > max(10 * kept, 100)
