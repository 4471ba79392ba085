"""``hilum retrain propose`` killed again and again: the same command ends in the same weights and one proposal."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.processes import at_a_terminal, marked
from tests.runs.site import Site, half_locked

from hilum.runs.package import package
from hilum.runs.rounds import Rounds
from hilum.runs.run import Run
from hilum.runs.train import TrainConfig

pytestmark = pytest.mark.system


def until_ended(site: Site, *, after_s: float | None = None, seed: int = 0) -> int:
    """Run the command until it ends by itself, killing it after random times that grow; how often it was killed."""
    command = [sys.executable, "-m", "hilum", *site.command("--run", site.run.path, "--reason", "x")]
    chance, kills, longest = random.Random(seed), 0, after_s
    while True:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            process.wait(None if longest is None else chance.uniform(longest / 2, longest))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills, longest = kills + 1, (longest or 0) * 1.5
            continue
        _, said = process.communicate()
        assert process.returncode == 0, said.decode()
        return kills


def test_a_killed_round_ends_in_the_same_weights(
    cohort: Path, small: TrainConfig, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = half_locked(cohort, small, tmp_path_factory.mktemp("half"))
    bundle = package(run, tmp_path_factory.mktemp("b") / "first.hilum", cache=run.path.parent / ".cache")
    whole, killed = (Site(tmp_path_factory.mktemp(name), cohort, run, bundle, 6) for name in ("whole", "killed"))
    assert until_ended(whole) == 0
    assert until_ended(killed, after_s=4.0) >= 2
    one, other = (Rounds(site.out) for site in (whole, killed))
    assert Run.open(one.folder(2).run).fingerprint == Run.open(other.folder(2).run).fingerprint
    assert [len(rounds.versions()) for rounds in (one, other)] == [2, 2]
    assert one.versions()[1].films == other.versions()[1].films
    documents = [json.loads(rounds.folder(2).proposal.read_text())["document"] for rounds in (one, other)]
    said = [[document[name] for name in ("current", "first", "change", "update", "reason")] for document in documents]
    assert said[0] == said[1]


@pytest.mark.timeout(900)
def test_ctrl_c_says_so_and_leaves_no_process(
    cohort: Path, small: TrainConfig, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """While the candidate is trained; that the same command then goes on is what the kills above show."""
    run = half_locked(cohort, small, tmp_path_factory.mktemp("half"))
    bundle = package(run, tmp_path_factory.mktemp("b") / "first.hilum", cache=run.path.parent / ".cache")
    site = Site(tmp_path_factory.mktemp("stopped"), cohort, run, bundle, 6)
    mark = f"RETRAIN_MARK={site.folder}"
    words = site.command("--run", site.run.path, "--reason", "x")
    process = at_a_terminal(words, mark, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 600
    while not list((site.out / "versions").glob("00002/run*")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 130, said
    assert "hilum: interrupted; what was finished is kept, and the same command goes on from there." in said
    assert "Traceback" not in said
    while marked(mark):
        assert time.monotonic() < deadline, marked(mark)
        time.sleep(0.1)
