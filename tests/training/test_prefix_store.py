"""Rows on disk: whole or not there, whoever is killed, and evicted only when nobody reads."""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from hilum.errors import TrainingError
from hilum.training.prefix_store import PrefixStore, evict, store_sizes

HALF = np.dtype(np.float16)


def key(i: int) -> bytes:
    return i.to_bytes(16, "little")


def rows(start: int, stop: int) -> np.ndarray:
    return np.arange(start * 3, stop * 3, dtype=np.float16).reshape(-1, 3)


Opener = Callable[..., PrefixStore]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Opener]:
    """Opens stores, and closes them in the end."""
    with contextlib.ExitStack() as opened:

        def opener(name: str = "a", shape: tuple[int, ...] = (3,), dtype: np.dtype = HALF) -> PrefixStore:
            made = PrefixStore(tmp_path, {"name": name}, shape, dtype)
            opened.callback(made.close)
            return made

        yield opener


def test_rows_are_found_again(store: Opener, tmp_path: Path) -> None:
    """By another opener, in any order."""
    one = store()
    with one.writing():
        one.append([key(5), key(7)], rows(0, 2))
        one.append([key(6)], rows(2, 3))
    two = store()
    assert len(two) == 3
    assert key(9) not in two
    assert two.values()[two.places([key(6), key(5)])].tolist() == [[6, 7, 8], [0, 1, 2]]
    with pytest.raises(KeyError):
        two.places([key(9)])


def test_other_identity_shape_or_type_is_another_store(store: Opener, tmp_path: Path) -> None:
    one = store()
    others = [
        store("b"),
        store(shape=(4,)),
        store(dtype=np.dtype(np.float32)),
    ]
    assert len({one.folder, *(other.folder for other in others)}) == 4


@pytest.mark.parametrize("torn", [b"", b"x" * 7, b"x" * 100])
def test_what_a_killed_writer_left_is_written_over(store: Opener, torn: bytes) -> None:
    """Half a block of rows and half a key after the last completion mark."""
    one = store()
    with one.writing():
        one.append([key(1)], rows(0, 1))
    one.close()
    with open(one.folder / "rows.bin", "ab") as handle:
        handle.write(torn)
    with open(one.folder / "keys.bin", "ab") as handle:
        handle.write(b"half a key"[: len(torn)])
    two = store()
    assert len(two) == 1
    with two.writing():
        two.append([key(2)], rows(1, 2))
    three = store()
    assert three.values()[three.places([key(1), key(2)])].tolist() == rows(0, 2).tolist()


def _write_many(root: Path, turn: int) -> None:
    mine = PrefixStore(root, {"name": "a"}, (3,), HALF)
    for i in range(40):
        with mine.writing():
            if key(i) not in mine:
                mine.append([key(i)], rows(i, i + 1))
    os._exit(0)


def test_writers_in_several_processes_agree(store: Opener, tmp_path: Path) -> None:
    """Each row is there once, and is the right one."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_write_many, args=(tmp_path, turn)) for turn in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    whole = store()
    assert len(whole) == 40
    assert whole.values()[whole.places([key(i) for i in range(40)])].tolist() == rows(0, 40).tolist()


def test_store_in_use_is_not_evicted(store: Opener, tmp_path: Path) -> None:
    one = store()
    assert not evict(one.folder)
    one.close()
    assert evict(one.folder)
    assert not one.folder.exists()
    assert list(tmp_path.iterdir()) == []


def test_sizes_come_least_recently_used_first(store: Opener, tmp_path: Path) -> None:
    """Opening is using."""
    for name in ("a", "b", "a"):
        opened = store(name)
        opened.close()
        os.utime(opened.folder / "use.lock", ns=(0, len(name)))
    os.utime(store("b").folder / "use.lock", ns=(0, 10))
    os.utime(store("a").folder / "use.lock", ns=(0, 20))
    assert list(store_sizes(tmp_path)) == [store("b").folder, store("a").folder]


def test_full_disk_is_said_and_leaves_whole_rows(store: Opener, tmp_path: Path) -> None:
    """A device that takes nothing stands for the full disk."""
    one = store()
    with one.writing():
        one.append([key(1)], rows(0, 1))
        (one.folder / "rows.bin").rename(tmp_path / "kept")
        (one.folder / "rows.bin").symlink_to("/dev/full")
        with pytest.raises(TrainingError, match=r"prefix cache can't be written \(No space left on device\)"):
            one.append([key(2)], rows(1, 2))
    assert len(store()) == 1
