"""Rows on disk: whole or not there, whoever is killed, and evicted only when nobody reads. With real processes."""

import contextlib
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import numpy as np
import pytest

from hilum.errors import TrainingError
from hilum.training import row_store
from hilum.training.row_store import MARK_BYTES, RowsOf, RowStore, StoredRows, evict, store_sizes

HALF = np.dtype(np.float16)
FORK = multiprocessing.get_context("fork")


def key(i: int) -> bytes:
    return i.to_bytes(16, "little")


def rows(start: int, stop: int) -> np.ndarray:
    return np.arange(start * 3, stop * 3, dtype=np.float16).reshape(-1, 3)


Opener = Callable[..., RowStore]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Opener]:
    """Opens stores, and closes them in the end."""
    with contextlib.ExitStack() as opened:

        def opener(name: str = "a", shape: tuple[int, ...] = (3,), dtype: np.dtype = HALF) -> RowStore:
            made = RowStore(tmp_path, {"name": name}, shape, dtype)
            opened.callback(made.close)
            return made

        yield opener


def read(opened: RowStore, keys: list[bytes]) -> list[list[float]]:
    return opened.values().take(opened.places(keys)).tolist()


def test_rows_are_found_again(store: Opener, tmp_path: Path) -> None:
    """By another opener, in any order."""
    one = store()
    with one.writing():
        one.append([key(5), key(7)], rows(0, 2))
        one.append([key(6)], rows(2, 3))
    two = store()
    assert len(two) == 3
    assert key(9) not in two
    assert read(two, [key(6), key(5)]) == [[6, 7, 8], [0, 1, 2]]
    with pytest.raises(KeyError):
        two.places([key(9)])


def test_rows_in_an_order_of_one_s_own_are_indexed_as_an_array_is(store: Opener) -> None:
    one = store()
    assert len(one.values()) == 0
    with one.writing():
        one.append([key(i) for i in range(6)], rows(0, 6))
    order = np.array([4, 0, 5, 5, 1])
    mine, array = RowsOf(one, order), rows(0, 6)[order]
    assert (mine.shape, mine.ndim, mine.dtype, mine.nbytes, len(mine)) == (array.shape, 2, HALF, array.nbytes, 5)
    for index in (0, -1, slice(1, 4), np.array([2, 0]), np.array([True, False, True, False, False])):
        assert np.array_equal(mine[index], array[index])


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
    """Half a block of rows and half a mark after the last completion mark."""
    one = store()
    with one.writing():
        one.append([key(1)], rows(0, 1))
    one.close()
    with open(one.folder / "rows.bin", "ab") as handle:
        handle.write(torn)
    with open(one.folder / "marks.bin", "ab") as handle:
        handle.write(b"half a mark"[: len(torn)])
    two = store()
    assert len(two) == 1
    with two.writing():
        two.append([key(2)], rows(1, 2))
    assert read(store(), [key(1), key(2)]) == rows(0, 2).tolist()


def test_marks_without_their_rows_are_not_believed(store: Opener) -> None:
    """A file that was cut short: what is whole stays, the rest is computed anew in its place."""
    one = store()
    with one.writing():
        one.append([key(i) for i in range(5)], rows(0, 5))
    one.close()
    os.truncate(one.folder / "rows.bin", 3 * one.row_bytes + 1)
    two = store()
    assert [key(i) in two for i in range(5)] == [True, True, True, False, False]
    with two.writing():
        two.append([key(3)], rows(3, 4))
    assert read(store(), [key(i) for i in range(4)]) == rows(0, 4).tolist()
    assert (one.folder / "marks.bin").stat().st_size == 4 * MARK_BYTES


def test_a_row_whose_bytes_changed_is_forgotten_and_replaced(store: Opener) -> None:
    one = store()
    with one.writing():
        one.append([key(i) for i in range(5)], rows(0, 5))
    with open(one.folder / "rows.bin", "r+b") as handle:
        handle.seek(2 * one.row_bytes + 3)
        handle.write(b"\xff")
    two = store()
    assert two.check([key(i) for i in (4, 2, 0, 77)]) == 1
    assert [key(i) in two for i in range(5)] == [True, True, False, True, True]
    with two.writing():
        two.append([key(2)], rows(2, 3))
    three = store()
    assert three.check([key(i) for i in range(5)]) == 0
    assert read(three, [key(i) for i in range(5)]) == rows(0, 5).tolist()


def _write_many(root: Path, turn: int) -> None:
    mine = RowStore(root, {"name": "a"}, (3,), HALF)
    for i in range(40):
        with mine.writing():
            if key(i) not in mine:
                mine.append([key(i)], rows(i, i + 1))
    os._exit(0)


def test_writers_in_several_processes_agree(store: Opener, tmp_path: Path) -> None:
    """Each row is there once, and is the right one."""
    processes = [FORK.Process(target=_write_many, args=(tmp_path, turn)) for turn in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    whole = store()
    assert len(whole) == 40
    assert read(whole, [key(i) for i in range(40)]) == rows(0, 40).tolist()


WIDE = 1000


def wide(i: int) -> np.ndarray:
    """The one right row of a key."""
    return np.random.default_rng(i).integers(0, 2**31, WIDE, dtype=np.int32)


def _write_until_killed(root: Path, total: int) -> None:
    mine = RowStore(root, {"name": "killed"}, (WIDE,), np.dtype(np.int32))
    chance = random.Random(os.getpid())
    while len(mine) < total:
        with mine.writing():
            some = [i for i in {chance.randrange(total) for _ in range(9)} if key(i) not in mine]
            mine.append([key(i) for i in some], np.stack([wide(i) for i in some]))


def _marks(root: Path) -> int:
    return sum(path.stat().st_size // MARK_BYTES for path in root.glob("*/marks.bin"))


def _kill_writers(root: Path, *, kills: int, total: int) -> int:
    """Two writers on one store, killed at a random moment while they write, again and again; every row is then read.

    Returns:
        rows that were there in the end.
    """
    chance = random.Random(0)
    there: list[int] = []
    for _ in range(kills):
        writers = [FORK.Process(target=_write_until_killed, args=(root, total)) for _ in range(2)]
        for writer in writers:
            writer.start()
        enough = len(there) + chance.randint(1, 30)
        while _marks(root) < enough:
            time.sleep(0.0005)
        time.sleep(chance.uniform(0, 0.004))
        for writer in chance.sample(writers, 2):
            os.kill(writer.pid, signal.SIGKILL)
            time.sleep(chance.choice((0, chance.uniform(0, 0.004))))
        for writer in writers:
            writer.join()
        opened = RowStore(root, {"name": "killed"}, (WIDE,), np.dtype(np.int32))
        there = [i for i in range(total) if key(i) in opened]
        assert opened.check(key(i) for i in there) == 0
        values = opened.values().take(opened.places([key(i) for i in there]))
        assert all(np.array_equal(row, wide(i)) for i, row in zip(there, values, strict=True))
        assert len(opened) == len(there)
        opened.close()
    return len(there)


def test_writers_killed_at_random_moments_leave_right_rows_alone(tmp_path: Path) -> None:
    assert _kill_writers(tmp_path, kills=8, total=10_000) > 8


@pytest.mark.long
def test_writers_killed_two_hundred_times_leave_right_rows_alone(tmp_path: Path) -> None:
    assert _kill_writers(tmp_path, kills=200, total=20_000) > 200


def _evict_until_killed(root: Path, evicted: "Synchronized[int]") -> None:
    while True:
        for folder in store_sizes(root):
            if evict(folder):
                with evicted.get_lock():
                    evicted.value += 1


def _use(root: Path, seed: int, rounds: int, evicted: "Synchronized[int]", wanted: int) -> None:
    """Opens the store, fills what it lacks, reads all of it, lets it go; until it was evicted often enough too."""
    while rounds > 0 or evicted.value < wanted:
        rounds -= 1
        mine = RowStore(root, {"name": "evicted"}, (WIDE,), np.dtype(np.int32))
        for i in range(5):
            with mine.writing():
                if key(i) not in mine:
                    mine.append([key(i)], wide(i)[None])
        values = mine.values().take(mine.places([key(i) for i in range(5)]))
        if not all(np.array_equal(values[i], wide(i)) for i in range(5)):
            os._exit(1)
        mine.close()
    os._exit(0)


def test_evictors_never_take_a_store_from_one_who_uses_it(tmp_path: Path) -> None:
    """Two evictors beside two users: every value read is right, and the store really was evicted in between."""
    evicted = FORK.Value("i", 0)
    evictors = [FORK.Process(target=_evict_until_killed, args=(tmp_path, evicted)) for _ in range(2)]
    users = [FORK.Process(target=_use, args=(tmp_path, seed, 15, evicted, 3)) for seed in range(2)]
    for process in (*evictors, *users):
        process.start()
    for process in users:
        process.join(timeout=240)
    for process in (*evictors, *users):
        process.kill()
        process.join()
    assert [user.exitcode for user in users] == [0, 0]


def test_an_evictor_that_comes_late_leaves_the_next_store_alone(store: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock is on a folder that another evicted, and a third has begun anew and uses."""
    one = store()
    one.close()
    waited = row_store.fcntl.flock

    def flock(handle: object, how: int) -> None:
        monkeypatch.undo()
        assert evict(one.folder)
        store()
        waited(handle, how)

    monkeypatch.setattr(row_store.fcntl, "flock", flock)
    assert not evict(one.folder)
    assert (one.folder / "rows.bin").exists()


def test_a_store_that_is_evicted_while_its_folder_is_looked_for_is_begun_anew(
    store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To make a folder that is there is no error if it still is there; a moment later it was gone."""
    one = store()
    one.close()
    is_dir = Path.is_dir

    def evicted_before(path: Path) -> bool:
        monkeypatch.undo()
        assert evict(one.folder)
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", evicted_before)
    again = store()
    assert (again.folder / "rows.bin").exists()
    again.close()


def test_a_file_where_a_store_shall_be_is_said(store: Opener) -> None:
    one = store()
    one.close()
    assert evict(one.folder)
    one.folder.write_text("")
    with pytest.raises(TrainingError, match=r"can't be written \(File exists\)"):
        store()


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
        said = r"prefix cache can't be written \(No space left on device\) at .*Free space on its disk, give leave"
        with pytest.raises(TrainingError, match=said):
            one.append([key(2)], rows(1, 2))
    (one.folder / "rows.bin").unlink()
    (tmp_path / "kept").rename(one.folder / "rows.bin")
    assert len(store()) == 1


def test_a_folder_that_can_t_be_written_to_is_said(store: Opener, tmp_path: Path) -> None:
    """A file in the place of the cache's folder; and of a lock."""
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"The film cache can't be written \(Not a directory\) at .*/file\. Free"):
        RowStore(tmp_path / "file", {}, (3,), HALF, called="The film cache")
    one = store()
    (one.folder / "write.lock").mkdir()
    with pytest.raises(TrainingError, match=r"The prefix cache can't be written \(Is a directory\)"), one.writing():
        pass


def test_reading_rows_in_any_order_leaves_no_page_of_the_file_with_the_process(tmp_path: Path) -> None:
    """96 MiB read by row, and afterwards the process maps nothing of the file."""
    content = np.arange(24 * 2**20, dtype=np.uint32)
    content.tofile(tmp_path / "rows.bin")
    del content
    stored = StoredRows(tmp_path / "rows.bin", 1536, (2**14,), np.dtype(np.uint32))
    order = np.random.default_rng(0).permutation(1536)
    for places in np.split(order, 24):
        assert stored.take(places)[:, 1].tolist() == (places * 2**14 + 1).tolist()
        assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_rows_are_taken_in_the_order_asked_for(tmp_path: Path) -> None:
    """Runs, repeats, one alone, none, and into memory of the caller's."""
    content = np.arange(30, dtype=np.int16).reshape(10, 3)
    content.tofile(tmp_path / "rows.bin")
    stored = StoredRows(tmp_path / "rows.bin", 10, (3,), np.dtype(np.int16))
    for places in ([4, 5, 6, 2, 2, 9, 0, 1], [3], [], range(10)):
        wanted = np.array(places, dtype=np.int64)
        assert np.array_equal(stored.take(wanted), content[wanted])
        out = np.zeros((len(wanted), 3), np.int16)
        assert stored.take(wanted, out=out) is out
        assert np.array_equal(out, content[wanted])
    assert np.array_equal(stored.take(np.int64(7)), content[7])  # type: ignore[arg-type]
    for wrong in (10, -1):
        with pytest.raises(IndexError, match=r"there are 10"):
            stored.take(np.array([wrong]))


def test_a_file_that_was_cut_while_open_is_said(tmp_path: Path) -> None:
    """Half a row is never answered."""
    np.arange(30, dtype=np.int16).tofile(tmp_path / "rows.bin")
    stored = StoredRows(tmp_path / "rows.bin", 10, (3,), np.dtype(np.int16))
    os.truncate(tmp_path / "rows.bin", 57)
    with pytest.raises(TrainingError, match=r"rows\.bin ends before byte 60\. Remove it and run again"):
        stored.take(np.array([9]))
    stored.close()
