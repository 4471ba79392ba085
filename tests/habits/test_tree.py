"""What is committed: a lock that names no host, no pickle, no foreign weights."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what is tracked can't be told")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).exists()]


LOCKS = {
    "requirements.lock": 50,
    "deploy/requirements.lock": 50,
    "deploy/requirements-gpu.lock": 50,
    "deploy/build.lock": 3,
}


@pytest.mark.parametrize(("name", "least"), LOCKS.items())
def test_lock_has_a_hash_for_every_package_and_names_no_host(name: str, least: int) -> None:
    lock = (ROOT / name).read_text()
    blocks = re.split(r"\n(?=\S)", lock)
    assert len(blocks) >= least
    assert all("--hash=sha256:" in block for block in blocks if block.strip())
    assert "://" not in lock


def test_nothing_is_pickled() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"^\s*(import|from) (pickle|dill|joblib|shelve)\b", text, re.M), path
        assert "allow_pickle=True" not in text, path
        assert "weights_only=False" not in text, path


def test_the_only_weights_are_our_own_and_small() -> None:
    weights = [p for p in tracked() if p.suffix in {".safetensors", ".pt", ".pth", ".onnx", ".npz"}]
    assert all(p.name.startswith("hilum") for p in weights)
    assert all(p.stat().st_size <= 4 * 1024 * 1024 for p in weights)


def test_nothing_tracked_is_a_link() -> None:
    """A link to an environment, committed by mistake, takes the place of whoever's environment lies there."""
    tracked()
    listed = subprocess.run(["git", "ls-files", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not [line for line in listed.splitlines() if line.startswith("120000 ")]


def test_tests_name_each_other_whole() -> None:
    """``import service`` would find a folder of tests or a script of benchmarks, as whoever came first had it."""
    folders = "|".join(sorted(folder.name for folder in (ROOT / "tests").iterdir() if folder.is_dir()))
    short = re.compile(rf"^\s*(?:import|from) (?:{folders})\b", re.M)
    files = [path for path in tracked() if path.suffix == ".py" and path.is_relative_to(ROOT / "tests")]
    assert len(files) > 100
    assert [path.name for path in files if short.search(path.read_text())] == []
