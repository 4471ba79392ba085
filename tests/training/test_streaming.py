"""A training on films that are streamed keeps to its memory, in a process of its own, whatever their number."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# What is freed goes back to the system at once, so that the process is as large as what it holds.
AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
SCRIPT = Path(__file__).with_name("streaming_script.py")


def trained(folder: Path, films: int, stages: str, timeout_s: float) -> tuple[float, float]:
    """Megabytes of the films, and by how many the process grew behind a warm-up on 96 of them."""
    command = [sys.executable, str(SCRIPT), str(folder), str(films), stages]
    done = subprocess.run(
        command, env=os.environ | AT_ONCE, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, done.stderr
    size, before, most = map(float, done.stdout.split())
    return size, most - before


def test_a_training_on_streamed_films_has_a_flat_rss(tmp_path: Path) -> None:
    """42 MB of films on cached outputs: the process grows by far less than they are."""
    size, grown = trained(tmp_path, 640, "cached", 240)
    assert size > 40
    assert grown < 15


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_two_gigabytes_through_a_cached_and_a_live_stage_grow_a_process_by_no_more(tmp_path: Path) -> None:
    size, grown = trained(tmp_path, 30_720, "live", 3600)
    assert size > 2000
    assert grown < size / 10
