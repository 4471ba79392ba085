"""Decoded images on disk: computed once, checked each time, and never half written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hilum.datasets import image_cache
from hilum.datasets.image_cache import Allocate, kept_images
from hilum.errors import DataError


class Maker:
    """Fills images with 7 and counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, allocate: Allocate) -> dict[str, Any]:
        self.calls += 1
        allocate((3, 1, 2, 2))[:] = 7
        return {"grey": 1}


def test_images_are_made_once_and_mapped_afterwards(tmp_path: Path) -> None:
    make = Maker()
    first, second = kept_images(tmp_path, "k", make), kept_images(tmp_path, "k", make)
    assert make.calls == 1
    for images, facts, note in (first, second):
        assert images.shape == (3, 1, 2, 2)
        assert (images == 7).all()
        assert (facts, note) == ({"grey": 1}, "")


def test_other_keys_are_other_images(tmp_path: Path) -> None:
    make = Maker()
    kept_images(tmp_path, "k", make)
    kept_images(tmp_path, "l", make)
    assert make.calls == 2


def test_a_change_in_memory_never_reaches_the_disk(tmp_path: Path) -> None:
    images, _, _ = kept_images(tmp_path, "k", Maker())
    images[0] = 9
    assert (kept_images(tmp_path, "k", Maker())[0] == 7).all()


def test_without_a_cache_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images, facts, note = kept_images(None, "k", Maker())
    assert (images == 7).all()
    assert (facts, note) == ({"grey": 1}, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["flip", "truncate", "facts", "missing"])
def test_a_damaged_entry_is_made_anew(tmp_path: Path, damage: str) -> None:
    make = Maker()
    kept_images(tmp_path, "k", make)
    file, facts = tmp_path / "decoded/k/images.npy", tmp_path / "decoded/k/facts.json"
    content = file.read_bytes()
    if damage == "flip":
        file.write_bytes(content[:-1] + b"\x08")
    elif damage == "truncate":
        file.write_bytes(content[:-3])
    elif damage == "facts":
        facts.write_text('{"sha256": 3}')
    else:
        file.unlink()
    images, _, note = kept_images(tmp_path, "k", make)
    assert (images == 7).all()
    assert (make.calls, note) == (2, "")
    assert file.read_bytes() == content


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(allocate: Allocate) -> dict[str, Any]:
        allocate((5, 1, 2, 2))[:] = 1
        raise DataError("image 3 is broken")

    with pytest.raises(DataError, match="image 3 is broken"):
        kept_images(tmp_path, "k", fail)
    assert list((tmp_path / "decoded").iterdir()) == []


def test_a_folder_that_cant_be_written_is_said_and_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    images, _, note = kept_images(tmp_path / "file", "k", Maker())
    assert (images == 7).all()
    assert note == f"Decoded images could not be kept in {tmp_path / 'file'} (Not a directory)."


def test_an_entry_that_cant_be_read_back_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_cache, "_load", lambda folder: None)
    images, _, note = kept_images(tmp_path, "k", Maker())
    assert (images == 7).all()
    assert note == f"Decoded images could not be read back from {tmp_path}."


def test_what_another_process_kept_meanwhile_is_taken(tmp_path: Path) -> None:
    def make(allocate: Allocate) -> dict[str, Any]:
        kept_images(tmp_path, "k", Maker())
        allocate((1, 1, 2, 2))
        raise OSError(39, "Directory not empty")

    images, _, note = kept_images(tmp_path, "k", make)
    assert images.shape == (3, 1, 2, 2)
    assert (np.asarray(images) == 7).all()
    assert note == ""
