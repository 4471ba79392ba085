"""The clinic's whole story in small: PostgreSQL, Orthanc, Chromium, and every step's own checks."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.processes import at_a_terminal, marked
from tests.system.postgres import programs

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
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
    assert marked(str(folder)) == []


@pytest.mark.timeout(1200)
def test_ctrl_c_while_a_verb_trains_leaves_nothing_running(folder: Path, need: Callable[[object, str], None]) -> None:
    """As a terminal sends it, to the whole group, and twice by somebody who can't wait; films and model are kept."""
    need(programs(), "PostgreSQL (initdb, pg_ctl)")
    need(shutil.which("Orthanc", path=f"{os.environ['PATH']}:/usr/sbin"), "Orthanc")
    mark = f"STORY_MARK={folder}"
    words = ["demo", "--clinic", "--patients", "360", "--exit", "--quiet", "--out", str(folder)]
    story = at_a_terminal(words, mark, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert story.stdout is not None
    told = []
    for line in story.stdout:
        told.append(line)
        if "hilum retrain propose" in line:
            break
    until(lambda: list(folder.glob("clinic/retraining/versions/00002/*")) or story.poll() is not None, "training")
    assert story.poll() is None, "".join(told)
    assert any("hilum retrain propose" in one for one in marked(mark))
    os.killpg(story.pid, signal.SIGINT)
    time.sleep(0.5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(story.pid, signal.SIGINT)
    out, error = story.communicate(timeout=600)
    assert story.returncode == 130, out[-2000:] + error[-4000:]
    assert "Interrupted: stopping the service, Orthanc and PostgreSQL" in out
    assert "hilum: interrupted; what was finished is kept" in error
    assert "Traceback" not in error
    until(lambda: marked(mark) == [], f"everything has ended: {marked(mark)}")
    assert list(folder.glob("clinic/*.pid")) == []
    assert (folder / "first.hilum").exists()
    assert "It was interrupted before its end." in (folder / "clinic.html").read_text("utf-8")


def until(true: Callable[[], object], what: str, *, within_s: float = 300) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
