"""Two real processes (gloo, CPU) train what one trains; one that dies stops the other; a restart ends in the same."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hilum.errors import TrainingError
from hilum.training.position import Tally
from hilum.training.ranks import ALONE, Ranks, group, heard
from hilum.training.stages import Stage

SCRIPT = Path(__file__).with_name("ranks_script.py")


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """The folder of all trainings, and how their processes ended."""
    root = tmp_path_factory.mktemp("ranks")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(root)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return root, json.loads(done.stdout)


def weights(folder: Path, rank: int = 0) -> dict[str, torch.Tensor]:
    return load_file(folder / f"rank{rank}.safetensors")


def test_two_processes_make_the_steps_of_one(ended: tuple[Path, dict[str, object]]) -> None:
    """28 films in batches of 7, so shares of 4 and 3; both stages, in the second batch normalisation trains; both
    processes hold the same bits."""
    root, told = ended
    assert (told["one"], told["two"]) == ([0], [0, 0])
    first, second = weights(root / "two"), weights(root / "two", 1)
    for name, value in weights(root / "one").items():
        assert torch.equal(first[name], second[name]), name
        np.testing.assert_allclose(first[name].numpy(), value.numpy(), rtol=1e-5, atol=1e-6, err_msg=name)
    rows = [
        [json.loads(line) for line in (root / name / "member" / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    for alone, both in zip(*rows, strict=True):
        for key in ("loss", "watch_loss", "accuracy", "watch_accuracy"):
            assert both[key] == pytest.approx(alone[key], rel=1e-5), key


def test_a_dead_process_stops_the_other_and_the_same_call_goes_on(ended: tuple[Path, dict[str, object]]) -> None:
    """The first, which writes, dies by SIGKILL behind its third epoch; the restart ends in the bits of the whole."""
    root, told = ended
    assert told["dying"] == [-9, 3]
    assert "Process 2 of 2 no longer hears another one" in told["message"]
    assert "Start the same command again: it goes on at the last checkpoint." in told["message"]
    assert told["again"] == [0, 0]
    whole = weights(root / "two")
    assert all(torch.equal(value, whole[name]) for name, value in weights(root / "cut").items())


def test_shares_differ_by_one_film_at_most_and_cover_the_batch() -> None:
    shares = [Ranks(rank=i, world=3).mine(torch.arange(8)) for i in range(3)]
    assert [len(share) for share in shares] == [3, 3, 2]
    assert torch.equal(torch.cat(shares), torch.arange(8))
    assert [list(Ranks(rank=i, world=2).every([1, 2, 3])) for i in range(2)] == [[1, 3], [2]]


def test_alone_nothing_is_shared() -> None:
    tally = Tally(1.0, 2.0, 3, 4)
    assert ALONE.add_up(tally) is tally
    assert torch.equal(ALONE.mine(torch.arange(3)), torch.arange(3))
    ALONE.check(Stage(name="all", batch_norm="train"), 1)
    ALONE.agree("films", "x")
    assert ALONE.first


def test_what_can_t_be_shared_is_refused() -> None:
    two = Ranks(world=2)
    with pytest.raises(TrainingError, match="has batches of 1 films, too few for 2 processes. Raise batch_size"):
        two.check(Stage(name="all", batch_size=1), 100)


def test_silence_becomes_one_sentence() -> None:
    told = r"Process 1 of 2 no longer hears another one \(peer closed\). Start the"
    with pytest.raises(TrainingError, match=told), heard(Ranks(world=2)):
        raise RuntimeError("peer closed\nand a long trace")


def test_processes_that_do_not_come_are_missed(tmp_path: Path) -> None:
    told = r"did not find each other within 1 s .* Start all of them with torchrun"
    where = (tmp_path / "meeting").as_uri()
    with pytest.raises(TrainingError, match=told), group(where=where, rank=0, world=2, timeout_s=1):
        pass
