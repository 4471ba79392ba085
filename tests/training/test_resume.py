"""kill -9 at random moments, then the same call: the same bits."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def outcome(folder: Path, kills: int, seed: int, kind: str = "cached") -> dict[str, object]:
    script = Path(__file__).with_name("resume_script.py")
    command = [sys.executable, str(script), str(folder), str(kills), str(seed), kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_killed_training_ends_in_the_same_weights_and_metrics(tmp_path: Path) -> None:
    """Four real SIGKILLs, in prefix, stages, folds and checkpoints alike."""
    result = outcome(tmp_path, kills=4, seed=0)
    assert (result["killed"], result["same"]) == (4, True)
    assert result["begun"]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["cached", "live"])
@pytest.mark.parametrize("seed", range(1, 4))
def test_killed_at_fifty_moments(tmp_path: Path, seed: int, kind: str) -> None:
    """A training that comes to its end between kills is begun anew; each must end in the same."""
    result = outcome(tmp_path, kills=50, seed=seed, kind=kind)
    assert (result["killed"], result["same"]) == (50, True)
    assert result["begun"] >= 25
