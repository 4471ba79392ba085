"""The clinic's whole story in small: PostgreSQL, Orthanc, Chromium, and every step's own checks."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.system.postgres import programs

pytestmark = pytest.mark.system


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may enter: where tests run as root, PostgreSQL does not."""
    made = Path(tempfile.mkdtemp(prefix="hilum-clinic-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.mark.timeout(1200)
def test_the_whole_story_passes_its_own_checks_and_leaves_nothing_running(
    folder: Path, need: Callable[[object, str], None]
) -> None:
    need(programs(), "PostgreSQL (initdb, pg_ctl)")
    need(shutil.which("Orthanc", path=f"{os.environ['PATH']}:/usr/sbin"), "Orthanc")
    words = ["demo", "--clinic", "--patients", "360", "--exit", "--quiet", "--json", "--out", str(folder)]
    done = subprocess.run([sys.executable, "-m", "hilum", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    story = json.loads(done.stdout.splitlines()[-1])
    assert story["passed"]
    names = [step["name"].partition(":")[0] for step in story["steps"]]
    assert names[-1] == "Audit"
    assert {"Films", "Answers", "Override", "New scanner", "Labels", "Candidate", "Gate", "Approvals"} <= set(names)
    assert {"Shadow", "Canary", "Promotion", "Regression", "Rollback", "Sender"} <= set(names)
    page = (folder / "clinic.html").read_text("utf-8")
    assert "Synthetic phantom films" in page
    assert "model.rollback" in page
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(folder) not in running
