"""Films are decoded once, whatever is asked for and whoever is killed; bad ones are listed apart, good ones kept."""

import csv
import io
import itertools
import multiprocessing
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hilum.datasets.manifest import Manifest
from hilum.errors import DataError, TrainingError
from hilum.imaging.preprocessing import Preprocessing
from hilum.imaging.tile_reading import read_tile
from hilum.progress import Lines
from hilum.runs import tiles
from hilum.runs.tiles import load_tiles, open_tiles
from hilum.training.row_store import MARK_BYTES, RowsOf

SMALL = Preprocessing(size=32)


@pytest.fixture
def films(cohort: Path) -> Manifest:
    return Manifest.read(cohort / "split.parquet").select(np.arange(24))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the films that are decoded."""
    seen: list[str] = []

    def counted(path: Path, film_id: str, preprocessing: Preprocessing) -> np.ndarray:
        seen.append(film_id)
        return read_tile(path, film_id, preprocessing)

    monkeypatch.setattr(tiles, "read_tile", counted)
    return seen


def load(films: Manifest, cache: Path) -> np.ndarray:
    return load_tiles(films, SMALL, cache, workers=0)


def test_only_films_that_were_never_decoded_are(films: Manifest, tmp_path: Path, decoded: list[str]) -> None:
    """Added in between, taken away, in another order, twice."""
    some = films.select([0, 2, 4, 6])
    first = load(some, tmp_path)
    whole = load(films.select(range(8)), tmp_path)
    assert sorted(decoded) == sorted(films.strings("film_id")[:8])
    again = load(films.select([6, 0, 6, 7]), tmp_path)
    assert len(decoded) == 8
    assert np.array_equal(first, whole[[0, 2, 4, 6]])
    assert np.array_equal(again, whole[[6, 0, 6, 7]])
    load_tiles(some, Preprocessing(size=16), tmp_path, workers=0)
    assert len(decoded) == 12


def test_sandboxed_processes_give_the_same_tiles(films: Manifest, tmp_path: Path) -> None:
    here = load(films, tmp_path / "a")
    assert np.array_equal(load_tiles(films, SMALL, tmp_path / "b", workers=2), here)


def test_films_beyond_the_memory_are_streamed_and_it_is_said(films: Manifest, tmp_path: Path) -> None:
    said = io.StringIO()
    size = 24 * 32 * 32
    progress = Lines(said, every_s=99)
    with open_tiles(films, SMALL, tmp_path, free=size, workers=0, progress=progress) as (stack, path):
        assert isinstance(stack, RowsOf)
        assert path.kind == "streaming"
        read = stack[:]
    with open_tiles(films, SMALL, tmp_path, free=2 * size, progress=progress) as (resident, _):
        assert isinstance(resident, np.ndarray)
        assert np.array_equal(read, resident)
    assert path.sentence in said.getvalue().splitlines()
    assert "24 films (0.0 MB) stay in memory: they take no more than 50%" in said.getvalue()
    with open_tiles(films, SMALL, tmp_path, wanted="streaming") as (forced, _):
        assert isinstance(forced, RowsOf)


def test_bad_films_are_listed_apart_and_the_others_kept(
    films: Manifest, cohort: Path, tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One vanished, one changed, one of no film at all; then with one name in the message."""
    shutil.copytree(cohort / "films", tmp_path / "films")
    moved = replace(films, folder=tmp_path).select(range(6))
    gone, changed, broken = moved.film_paths()[:3]
    gone.unlink()
    changed.write_bytes(changed.read_bytes() + b"\0\0")
    broken.write_bytes(b"no film")
    with pytest.raises(DataError, match="3 films of the manifest can't be used, all listed in .*bad_films.csv") as said:
        load(moved, tmp_path / "cache")
    assert "can't be opened: No such file" in str(said.value)
    assert "The file changed since the import" in str(said.value)
    (listing,) = tmp_path.glob("cache/tiles/*/bad_films.csv")
    with open(listing, newline="") as handle:
        assert {row["path"] for row in csv.DictReader(handle)} == {str(gone), str(changed), str(broken)}
    decoded.clear()
    load(moved.select([3, 4, 5]), tmp_path / "cache")
    assert decoded == []
    monkeypatch.setattr(tiles, "TOLD", 1)
    with pytest.raises(DataError, match=r"The first 1 are named here\. Restore them, or import again") as said:
        load(moved, tmp_path / "cache")
    assert len(str(said.value).splitlines()) == 2


def test_a_cache_that_can_t_be_written_to_is_said(films: Manifest, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"The cache of decoded films can't be written \(Not a directory\)"):
        load(films, tmp_path / "file")


def _decode_some(films: Manifest, cache: Path) -> None:
    """Decode until killed: it halts behind seven films, so that it never comes to its end first."""
    tiles.BLOCK, read, begun = 2, tiles.read_tile, itertools.count()

    def one(path: Path, film_id: str, preprocessing: Preprocessing) -> np.ndarray:
        if next(begun) >= 7:
            time.sleep(600)
        return read(path, film_id, preprocessing)

    tiles.read_tile = one
    load(films, cache)
    os._exit(1)


def test_a_decoding_that_is_killed_goes_on_where_it_was(films: Manifest, tmp_path: Path, decoded: list[str]) -> None:
    """Killed three times while it decodes; what was kept is kept once, and is right."""
    kept = [0]
    for _ in range(3):
        process = multiprocessing.get_context("fork").Process(target=_decode_some, args=(films, tmp_path))
        process.start()
        while _kept(tmp_path) < kept[-1] + 3:
            assert process.is_alive()
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kept.append(_kept(tmp_path))
    assert sorted(set(kept)) == kept
    whole = load(films, tmp_path)
    assert len(decoded) == 24 - kept[-1]
    assert _kept(tmp_path) == 24
    assert np.array_equal(whole, load(films, tmp_path / "another"))


def _kept(cache: Path) -> int:
    return sum(path.stat().st_size // MARK_BYTES for path in cache.glob("tiles/*/marks.bin"))
