"""Chest films of two classes: real ones of one source, split by patient; phantoms where there are none."""

import csv
from pathlib import Path

import numpy as np
import pytest

from hilum.errors import DataError
from hilum.studies.bench import Bench, Request
from hilum.studies.xray_films import open_xray_films


def bench(tmp_path: Path, root: Path | None = None) -> Bench:
    request = Request(study="transfer-vs-scratch", data_dir=str(root or ""))
    return Bench(request=request, parts=tmp_path / "parts", cache=tmp_path / "cache", download=False)


def test_phantoms_take_the_place_of_films_and_are_named_synthetic(tmp_path: Path) -> None:
    place = bench(tmp_path, tmp_path)
    films = open_xray_films(place, size=32, films=24)
    assert films.synthetic
    assert films.train[0].shape[1:] == (1, 32, 32)
    assert set(films.train[1]) == set(films.test[1]) == {0, 1}
    assert len(films.patients) == len(films.test[1])
    used = place.sets[0]
    assert used.kind == "embedded"
    assert f"there is no chest/manifest.csv in {tmp_path}" in used.description
    assert "they say nothing about patients" in used.description
    again = open_xray_films(bench(tmp_path), size=32, films=24)
    assert np.array_equal(films.train[0], again.train[0])


def slice_of(shared_data: Path, root: Path, sources: tuple[str, ...]) -> None:
    """A few films of the shared chest set, of each class in turn."""
    with (shared_data / "chest" / "manifest.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    picked = [
        row
        for source in sources
        for label in ("normal", "pneumonia")
        for row in [row for row in rows if (row["source"], row["label"]) == (source, label)][:8]
    ]
    (root / "chest").mkdir(parents=True)
    (root / "chest" / "images").symlink_to(shared_data / "chest" / "images")
    with (root / "chest" / "manifest.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(picked)


def test_real_films_come_from_one_source(shared_data: Path, tmp_path: Path) -> None:
    slice_of(shared_data, tmp_path / "root", ("nih", "cohen"))
    place = bench(tmp_path, tmp_path / "root")
    films = open_xray_films(place, size=32, films=1000)
    assert not films.synthetic
    assert len(films.train[1]) + len(films.test[1]) == 16
    assert place.sets[0].kind == "real"
    assert "16 real frontal radiographs, normal or pneumonia, of one source" in place.sets[0].description


def test_a_table_without_films_of_that_source_is_refused(shared_data: Path, tmp_path: Path) -> None:
    slice_of(shared_data, tmp_path / "root", ("cohen",))
    with pytest.raises(DataError, match=r"has films of neither class from source 'nih', .* Complete the table"):
        open_xray_films(bench(tmp_path, tmp_path / "root"), size=32, films=1000)
