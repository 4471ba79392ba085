"""Resident or streaming: by the memory that is free, within all limits; the same bits and a flat process either way."""

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from hilum.errors import UsageError
from hilum.training.data_path import choose_data_path, free_memory
from hilum.training.films import Films, grey_counts, some_of
from hilum.training.live import LiveInputs
from hilum.training.row_store import RowsOf, RowStore

GB = 10**9


def test_the_choice_goes_by_size_and_is_said_in_one_sentence() -> None:
    small = choose_data_path(800, 40_000_000, free=2 * GB)
    large = choose_data_path(100_000, 5 * GB, free=2 * GB)
    assert (small.kind, large.kind) == ("resident", "streaming")
    assert small.sentence == (
        "800 films (40.0 MB) stay in memory: they take no more than 50% of the 2.0 GB of memory that are free."
    )
    assert large.sentence == (
        "100,000 films (5.0 GB) are streamed from disk: they take more than 50% of the 2.0 GB of memory that are free."
    )


def test_a_person_may_choose() -> None:
    path = choose_data_path(800, 40_000_000, "streaming", free=2 * GB)
    assert path.sentence == "800 films (40.0 MB) are streamed from disk, as asked."
    assert choose_data_path(800, 5 * GB, "resident", free=2 * GB).kind == "resident"
    with pytest.raises(UsageError, match="can't reach the network by 'stream'. Did you mean 'streaming'"):
        choose_data_path(1, 1, "stream")


def machine(root: Path, **files: str) -> Path:
    """A proc and a sys of one's own."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8000 kB\n")
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_free_memory_is_the_machine_s_where_nothing_limits_it(tmp_path: Path) -> None:
    assert free_memory(machine(tmp_path)) == 8000 * 1024
    assert free_memory() > 0
    assert free_memory(tmp_path / "no linux") > 0


def test_the_narrowest_cgroup_decides(tmp_path: Path) -> None:
    """Version 2: the process's own group has no limit, the one above has; inactive files would be given back."""
    root = machine(
        tmp_path,
        proc__self__cgroup="0::/a/b\n",
        **{
            "sys__fs__cgroup__a__b__memory.max": "max\n",
            "sys__fs__cgroup__a__b__memory.current": "5\n",
            "sys__fs__cgroup__a__memory.max": "3000000\n",
            "sys__fs__cgroup__a__memory.current": "1000000\n",
            "sys__fs__cgroup__a__memory.stat": "anon 7\ninactive_file 400000\n",
        },
    )
    assert free_memory(root) == 2_400_000


def test_cgroups_of_version_one_are_understood(tmp_path: Path) -> None:
    """In a container, which sees its own group as the root, and in a group without a limit."""
    files = {
        "sys__fs__cgroup__memory__memory.limit_in_bytes": "2000000\n",
        "sys__fs__cgroup__memory__memory.usage_in_bytes": "500000\n",
        "sys__fs__cgroup__memory__memory.stat": "total_inactive_file 100000\n",
    }
    groups = "9:name=systemd:/x\n4:memory:/docker/0123\n"
    assert free_memory(machine(tmp_path / "a", proc__self__cgroup=groups, **files)) == 1_600_000
    files["sys__fs__cgroup__memory__memory.limit_in_bytes"] = "9223372036854771712\n"
    assert free_memory(machine(tmp_path / "b", proc__self__cgroup=groups, **files)) == 8000 * 1024


def streamed(tmp_path: Path, tiles: np.ndarray, order: np.ndarray) -> RowsOf:
    store = RowStore(tmp_path, {}, tiles.shape[1:], np.dtype(np.uint8))
    with store.writing():
        store.append([int(i).to_bytes(16, "little") for i in range(len(tiles))], tiles)
    return RowsOf(store, order)


def test_streamed_films_are_the_same_bits_as_resident_ones(tiny: ModuleType, tmp_path: Path) -> None:
    """Batches, digests and histograms; from a store in another order."""
    resident = tiny.films()
    order = np.random.default_rng(0).permutation(40)
    stack = np.empty_like(resident.tiles)
    stack[order] = resident.tiles
    films = Films(streamed(tmp_path, stack, order), resident.film_ids)
    assert films.streamed
    assert not resident.streamed
    rows = torch.tensor([7, 3, 39])
    assert torch.equal(films.take(rows), resident.take(rows))
    assert films.summary(np.arange(40)) == resident.summary(np.arange(40))
    assert np.array_equal(grey_counts(films.tiles), np.bincount(resident.tiles.reshape(-1), minlength=256))
    for tiles in (films.tiles, resident.tiles):
        assert np.array_equal(some_of(tiles, np.array([5, 0]))[:], resident.tiles[[5, 0]])
    inputs = [
        LiveInputs(classifier=tiny.classifier().eval(), cut=6, films=f, augmentation=tiny.config().augmentation, seed=0)
        for f in (films, resident)
    ]
    for one in inputs:
        one.expect([rows], 1)
    assert torch.equal(*(one(rows, 1) for one in inputs))
    inputs[0].close()
    films.tiles.store.close()


RSS = """
import sys
from pathlib import Path
import numpy as np, torch
from hilum.training.films import Films
from hilum.training.live import LiveInputs
from hilum.training.prefetch import Ahead
from hilum.training.row_store import RowStore, RowsOf
torch.set_num_threads(1)
store = RowStore(Path(sys.argv[1]), {}, (256, 256), np.dtype(np.uint8))
count = int(sys.argv[2])
with store.writing():
    for start in range(0, count, 64):
        keys = [i.to_bytes(16, "little") for i in range(start, start + 64)]
        store.append(keys, np.full((64, 256, 256), start % 251, np.uint8))
films = Films(RowsOf(store, np.arange(count)), ("",) * count)
ahead = Ahead(lambda rows, view: films.take(rows))
def rss():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmRSS")).split()[1]) / 1024
seen = []
for epoch in range(3):
    batches = list(torch.split(torch.randperm(count), 32))
    ahead.expect(batches, 0)
    for rows in batches:
        taken = ahead(rows, 0)
        assert int(taken[0].max()) == int(rows[0]) // 64 * 64 % 251
        seen.append(rss())
print(seen[0], max(seen), seen[-1])
"""


def test_a_set_larger_than_its_budget_is_read_with_a_flat_rss(tmp_path: Path) -> None:
    """Three epochs over 252 MiB in random order: of the films no more than some batches stays with the process."""
    done = subprocess.run(
        [sys.executable, "-c", RSS, str(tmp_path), "4032"], capture_output=True, text=True, timeout=120, check=True
    )
    first, most, _ = (float(number) for number in re.findall(r"[\d.]+", done.stdout))
    assert most - first < 60
