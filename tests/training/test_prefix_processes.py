"""The prefix cache under kill -9 with two writers, and under its cap with two fillers, in real processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hilum.training.room import Promise, promised, settling, sizes_to_come
from hilum.training.row_store import MARK_BYTES

SCRIPT = Path(__file__).with_name("prefix_script.py")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    root = tmp_path_factory.mktemp("prefixes")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(root), "0"], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_two_writers_killed_six_times_leave_what_one_whole_filling_gives(told: dict[str, object]) -> None:
    """Bit for bit; and the kills did fall while rows were written."""
    left = told["left"]
    assert left == sorted(left)
    assert 0 < left[0] < left[-1]
    assert sum(0 < rows < 160 for rows in left) >= 4
    assert told["right"]


def test_two_fillers_together_stay_under_the_cap(told: dict[str, object]) -> None:
    """One has written a block of what it needs, which is promised to it; when it is dead the other gets in."""
    room = told["room"]
    assert "The prefix cache needs" in room["told"]
    assert "with all that is in use. Raise its limit" in room["told"]
    assert 160 * MARK_BYTES < room["size"] <= room["limit"]


def test_the_largest_promise_of_one_who_works_counts(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "use.lock").write_bytes(b"12345")
    with settling(tmp_path):
        small, large = Promise(store, 1000), Promise(store, 3000)
        assert promised(store) == 3000
        large.close()
        assert sizes_to_come(tmp_path) == {store: (5 + len("1000"), 1000)}
        (store / "promised.0123").write_text("9999")  # of one who was killed
        assert promised(store) == 1000
        small.close()
        assert promised(store) == 0
    assert [path.name for path in store.iterdir()] == ["use.lock"]
