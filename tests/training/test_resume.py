"""kill -9 at random moments, then the same call: the same bits."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def outcome(folder: Path, kills: int, seed: int) -> dict[str, object]:
    script = Path(__file__).with_name("resume_script.py")
    command = [sys.executable, str(script), str(folder), str(kills), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_killed_training_ends_in_the_same_weights(tmp_path: Path) -> None:
    """Four real SIGKILLs, in prefix, stages and checkpoints alike."""
    result = outcome(tmp_path, kills=4, seed=0)
    assert result["killed"] >= 2
    assert result["cut"] == result["whole"]


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 11))
def test_killed_many_times(tmp_path: Path, seed: int) -> None:
    result = outcome(tmp_path, kills=20, seed=seed)
    assert result["cut"] == result["whole"]
