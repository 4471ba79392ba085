"""``kill -9`` at named points and at random, again during recovery: nothing acknowledged is lost, no second answer."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from hilum.records.audit import check, entries
from hilum.records.database import Database
from hilum.service.film_files import FilmFiles

ROOT = Path(__file__).parents[2]


def kill_often(url: str, data: Path, count: int, seed: int) -> None:
    """Kill a service so often, and look at what it kept."""
    command = [sys.executable, "-m", "tests.service.killed_often", url, str(data), str(count), str(seed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ended_well"]
    assert found["killed"] >= count * 0.8
    database = Database(url)
    with database.read() as session:
        films = dict(session.execute(text("SELECT id, file_sha256 FROM films")).fetchall())
        states = set(session.execute(text("SELECT DISTINCT state FROM films")).scalars())
        answers = session.execute(text("SELECT film_id FROM answers")).scalars().all()
        rows = entries(session)
    database.close()
    assert set(found["acknowledged"]) <= set(films)
    assert len(found["acknowledged"]) > count / 4
    assert states == {"answered"}
    assert sorted(answers) == sorted(films), "each film has exactly one answer"
    assert check(rows).whole
    for act in ("film.received", "film.answered"):
        assert sorted(row.subject for row in rows if row.act == act) == sorted(films), act
    files = FilmFiles(data)
    assert all(hashlib.sha256(files.path(sha).read_bytes()).hexdigest() == sha for sha in films.values())


def url_in(folder: Path) -> str:
    return f"sqlite:///{folder / 'hilum.db'}"


def test_killed_at_each_point_once(tmp_path: Path) -> None:
    kill_often(url_in(tmp_path), tmp_path / "data", 9, 1)


@pytest.mark.system
def test_killed_a_hundred_times(tmp_path: Path) -> None:
    kill_often(url_in(tmp_path), tmp_path / "data", 100, 2)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_killed_five_thousand_times(tmp_path: Path, counted: Callable[[int], int]) -> None:
    kill_often(url_in(tmp_path), tmp_path / "data", counted(5_000), 3)
