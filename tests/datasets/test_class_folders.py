"""Class folders: what is accepted, how it is split, and a clear sentence for everything else."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hilum.datasets import class_folders, class_listing
from hilum.datasets.class_folders import ClassFoldersConfig, Naming, read_class_folders
from hilum.errors import ConfigError, DataError

Save = Callable[..., Path]
SMALL = ClassFoldersConfig(size=16)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """``save("cats/a.png", seed)``: write a small colour image below the folder ``set``."""

    def write(name: str, seed: int, mode: str = "RGB", side: int = 24) -> Path:
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(values).convert(mode).save(path)
        return path

    return write


@pytest.fixture
def one_part(tmp_path: Path, save: Save) -> Path:
    """Two classes of 30 images each, in one part."""
    for seed in range(30):
        save(f"cats/{seed:02d}.png", seed)
        save(f"dogs/{seed:02d}.png", 100 + seed)
    return tmp_path / "set"


@pytest.fixture
def two_parts(tmp_path: Path, save: Save) -> Path:
    """train/ with 6 and val/ with 2 images of each of two classes."""
    for index, name in enumerate(("cats", "dogs")):
        for seed in range(6):
            save(f"train/{name}/{seed}.png", 100 * index + seed)
        for seed in range(2):
            save(f"val/{name}/{seed}.png", 1000 + 100 * index + seed)
    return tmp_path / "set"


def pixels(images: np.ndarray) -> set[bytes]:  # type: ignore[type-arg]
    return {image.tobytes() for image in images}


def test_train_and_val_are_taken_as_they_are(two_parts: Path) -> None:
    found = read_class_folders(two_parts, SMALL)
    assert found.classes == ("cats", "dogs")
    assert found.train.counts(2).tolist() == [6, 6]
    assert found.test.counts(2).tolist() == [2, 2]
    assert found.train.images.shape == (12, 3, 16, 16)
    assert (found.kind, found.name, found.notes) == ("real", "set", ())
    assert found.description == "set: 12 + 4 images from class folders in 2 classes, cut to 16 × 16 px."
    assert found.source == f"Folder {two_parts}; origin and licence aren't recorded."


@pytest.mark.parametrize("name", ["test", "valid", "Validation"])
def test_the_test_part_may_have_other_names(two_parts: Path, name: str) -> None:
    (two_parts / "val").rename(two_parts / name)
    assert len(read_class_folders(two_parts, SMALL).test) == 4


def test_test_comes_before_val_and_what_is_left_aside_is_said(two_parts: Path, save: Save) -> None:
    for index, name in enumerate(("cats", "dogs")):
        save(f"test/{name}/t.png", 5000 + index)
    found = read_class_folders(two_parts, SMALL)
    assert len(found.test) == 2
    assert found.notes == ("Trained on train/, tested on test/; left aside: val.",)


def test_a_lone_train_folder_is_split(two_parts: Path, tmp_path: Path) -> None:
    (two_parts / "val").rename(tmp_path / "elsewhere")
    found = read_class_folders(two_parts, SMALL)
    assert len(found.train) + len(found.test) == 12
    assert found.notes[0] == "There is only train/, so it was split."


def test_one_part_is_split_by_hash_and_all_images_are_used_once(one_part: Path) -> None:
    found = read_class_folders(one_part, SMALL)
    assert len(found.train) + len(found.test) == 60
    assert pixels(found.train.images).isdisjoint(pixels(found.test.images))
    assert 2 <= len(found.test) <= 24
    assert "Split 80% / 20% by the SHA-256 of each file." in found.notes


def test_an_image_stays_on_its_side_when_others_are_added_or_files_renamed(one_part: Path, save: Save) -> None:
    before = read_class_folders(one_part, SMALL)
    for seed in range(200, 230):
        save(f"cats/{seed}.png", seed)
    (one_part / "dogs/03.png").rename(one_part / "dogs/zz.png")
    after = read_class_folders(one_part, SMALL)
    assert len(after.train) + len(after.test) == 90
    assert pixels(before.train.images) < pixels(after.train.images)
    assert pixels(before.test.images) <= pixels(after.test.images)


def test_the_split_is_near_its_share(one_part: Path) -> None:
    half = read_class_folders(one_part, ClassFoldersConfig(size=16, test_share=0.5))
    assert 15 < len(half.test) < 45


def test_a_small_class_still_has_both_sides(tmp_path: Path, save: Save) -> None:
    for index, name in enumerate(("a", "b", "c", "d")):
        for seed in range(5):
            save(f"{name}/{seed}.png", 100 * index + seed)
    for share in (0.001, 0.2, 0.999):
        found = read_class_folders(tmp_path / "set", ClassFoldersConfig(size=16, test_share=share))
        assert found.train.counts(4).tolist() == [4] * 4
        assert found.test.counts(4).tolist() == [1] * 4


def test_copies_are_never_on_both_sides(one_part: Path) -> None:
    for seed in range(30):
        content = (one_part / f"cats/{seed:02d}.png").read_bytes()
        (one_part / f"cats/copy-{seed:02d}.png").write_bytes(content)
    found = read_class_folders(one_part, SMALL)
    assert len(found.train) + len(found.test) == 60
    assert pixels(found.train.images).isdisjoint(pixels(found.test.images))
    assert "Left out: 30 byte-identical copies of files of the same class and part." in found.notes


def test_a_training_image_that_is_tested_as_well_is_left_out_of_training(two_parts: Path) -> None:
    (two_parts / "train/cats/leak.png").write_bytes((two_parts / "val/cats/0.png").read_bytes())
    found = read_class_folders(two_parts, SMALL)
    assert (len(found.train), len(found.test)) == (12, 4)
    assert found.notes == ("Left out of training: 1 files that are byte for byte in the test part as well.",)


def test_a_file_in_two_classes_is_left_out_whole(two_parts: Path) -> None:
    (two_parts / "train/cats/0.png").write_bytes((two_parts / "train/dogs/0.png").read_bytes())
    found = read_class_folders(two_parts, SMALL)
    assert found.train.counts(2).tolist() == [5, 5]
    assert found.notes == ("Left out: 2 files whose bytes lie in two classes, so that their class is unknown.",)


def test_images_come_in_the_order_of_class_and_path(two_parts: Path, save: Save) -> None:
    save("train/cats/deep/below/9.jpg", 77)
    found = read_class_folders(two_parts, SMALL)
    assert found.train.labels.tolist() == [0] * 7 + [1] * 6
    assert found.fingerprint == read_class_folders(two_parts, SMALL).fingerprint


def test_what_is_no_image_is_left_aside_and_said(two_parts: Path) -> None:
    (two_parts / "train/cats/.DS_Store").write_bytes(b"\0")
    (two_parts / "train/dogs/notes.txt").write_text("bark")
    (two_parts / "__MACOSX").mkdir()
    (two_parts / ".git").mkdir()
    found = read_class_folders(two_parts, SMALL)
    assert found.classes == ("cats", "dogs")
    assert found.notes == ("Left aside, since they aren't images: 4 (.DS_Store, .git, __MACOSX, notes.txt).",)


def test_grey_among_colour_is_accepted_and_counted(two_parts: Path, save: Save) -> None:
    save("train/cats/g.png", 5, mode="L")
    save("val/dogs/g.jpg", 6, mode="L")
    found = read_class_folders(two_parts, SMALL)
    assert found.channels == 3
    assert found.notes == ("2 of 18 images are grey; their value was repeated in three channels.",)


def test_images_that_were_enlarged_are_counted(two_parts: Path) -> None:
    found = read_class_folders(two_parts, ClassFoldersConfig(size=32))
    assert found.notes == ("16 of 16 images have a short side below 32 px and were enlarged.",)


def test_decoded_images_are_kept_and_the_answer_is_the_same(
    two_parts: Path, tmp_path: Path, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    save("train/cats/g.png", 5, mode="L")
    cold = read_class_folders(two_parts, SMALL, cache=tmp_path / "cache")
    monkeypatch.setattr(class_folders, "decode_photo", None)
    warm = read_class_folders(two_parts, SMALL, cache=tmp_path / "cache")
    assert (warm.fingerprint, warm.notes) == (cold.fingerprint, cold.notes)


def test_another_size_or_a_changed_file_is_decoded_anew(two_parts: Path, tmp_path: Path, save: Save) -> None:
    cache = tmp_path / "cache"
    first = read_class_folders(two_parts, SMALL, cache=cache)
    assert read_class_folders(two_parts, ClassFoldersConfig(size=20), cache=cache).size == 20
    save("train/cats/0.png", 999)
    assert read_class_folders(two_parts, SMALL, cache=cache).fingerprint != first.fingerprint


def test_a_set_can_be_given_names(two_parts: Path) -> None:
    naming = Naming(name="pets", title="Pets", what="photographs of pets", source="my phone")
    found = read_class_folders(two_parts, SMALL, naming=naming)
    assert (found.name, found.title, found.source) == ("pets", "Pets", "my phone")
    assert found.description == "Pets: 12 + 4 photographs of pets in 2 classes, cut to 16 × 16 px."


def test_every_bad_image_is_named_at_once_and_nothing_is_kept(two_parts: Path, tmp_path: Path, save: Save) -> None:
    (two_parts / "train/cats/broken.jpg").write_text("no image")
    (two_parts / "train/dogs/empty.png").write_bytes(b"")
    save("val/cats/dot.png", 3, side=1)
    (two_parts / "val/dogs/gone.png").symlink_to(two_parts / "nowhere.png")
    with pytest.raises(DataError) as caught:
        read_class_folders(two_parts, SMALL, cache=tmp_path / "cache")
    text = str(caught.value)
    assert text.startswith(f"{two_parts}: 4 images can't be used: ")
    assert "train/dogs/empty.png (it is empty (0 bytes))" in text
    assert "val/dogs/gone.png (it can't be read: No such file or directory)" in text
    assert "train/cats/broken.jpg (it is no JPEG" in text
    assert "val/cats/dot.png (it is 1 × 1 px, too small" in text
    assert text.endswith("Mend or delete them, or leave them out with skip_bad.")
    assert list((tmp_path / "cache").rglob("*.npy")) == []


def test_bad_images_can_be_left_out_and_are_named_in_a_note(two_parts: Path, tmp_path: Path) -> None:
    good = read_class_folders(two_parts, SMALL)
    (two_parts / "train/cats/00-broken.jpg").write_text("no image")
    (two_parts / "train/dogs/empty.png").write_bytes(b"")
    skip = ClassFoldersConfig(size=16, skip_bad=True)
    for _ in ("cold", "warm"):
        found = read_class_folders(two_parts, skip, cache=tmp_path / "cache")
        assert found.fingerprint == good.fingerprint
        assert found.notes == (
            "Left out, since they can't be used: 2 images (train/dogs/empty.png, train/cats/00-broken.jpg).",
        )
    with pytest.raises(DataError, match="2 images can't be used"):
        read_class_folders(two_parts, SMALL, cache=tmp_path / "cache")


def test_a_long_list_of_bad_images_is_cut(two_parts: Path) -> None:
    for index in range(30):
        (two_parts / f"train/cats/x{index:02d}.jpg").write_text(f"no image {index}")
    with pytest.raises(DataError, match=r"30 images can't be used: .*x19.jpg \(.*\) and 10 more. Mend or"):
        read_class_folders(two_parts, SMALL)


def test_leaving_out_may_leave_too_few(two_parts: Path) -> None:
    for index in range(6):
        (two_parts / f"train/cats/{index}.png").write_text(f"no image {index}")
    with pytest.raises(DataError, match=r"too few of cats \(0 to train on, 2 to test on\)"):
        read_class_folders(two_parts, ClassFoldersConfig(size=16, skip_bad=True))


def test_three_images_are_too_few(tmp_path: Path, save: Save) -> None:
    for seed, name in enumerate(("cats/a.png", "cats/b.png", "dogs/a.png")):
        save(name, seed)
    with pytest.raises(DataError) as caught:
        read_class_folders(tmp_path / "set", SMALL)
    assert str(caught.value) == (
        f"{tmp_path}/set holds 3 different images that can be used, too few of cats (1 to train on, 1 to test on), "
        "dogs (0 to train on, 1 to test on): each class needs 4 to train on and 1 to test on. Add images, or delete "
        "the class."
    )


def test_one_class_is_refused_and_the_folder_within_is_hinted_at(one_part: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"has one class folder \(set\), but a classification needs two classes or more"
    ):
        read_class_folders(tmp_path, SMALL)
    with pytest.raises(
        DataError, match=r"cats has no class folders and 30 loose images, but .*name the folder that holds"
    ):
        read_class_folders(one_part / "cats", SMALL)


def test_an_empty_class_is_named(one_part: Path) -> None:
    (one_part / "birds").mkdir()
    (one_part / "birds/readme.txt").write_text("none yet")
    with pytest.raises(DataError, match=r"no image in class birds. Add images \(.jpg, .*\), or delete the folder"):
        read_class_folders(one_part, SMALL)


def test_classes_that_differ_between_the_parts_are_listed_both_ways(two_parts: Path, save: Save) -> None:
    (two_parts / "val/dogs").rename(two_parts / "val/hounds")
    save("train/birds/a.png", 1)
    with pytest.raises(DataError) as caught:
        read_class_folders(two_parts, SMALL)
    assert "only the training part has birds, dogs; only the test part has hounds. Name the class" in str(caught.value)


def test_a_missing_folder_and_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"Folder .*nowhere does not exist. Name a folder that holds one folder for each"
    ):
        read_class_folders(tmp_path / "nowhere", SMALL)
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"a.zip is a file, but an image set is a folder of class folders"):
        read_class_folders(tmp_path / "a.zip", SMALL)


@pytest.mark.timeout(120)
def test_loops_of_links_end_and_each_image_is_read_once(two_parts: Path) -> None:
    (two_parts / "train/cats/again").symlink_to(two_parts / "train/cats", target_is_directory=True)
    (two_parts / "train/dogs/up").symlink_to(two_parts / "train/dogs/..", target_is_directory=True)
    (two_parts / "train/dogs/self").symlink_to("self")
    (two_parts / "val/cats/self.png").symlink_to("self.png")
    with pytest.raises(
        DataError, match=r"1 images can't be used: val/cats/self.png \(it can't be read: Too many levels"
    ):
        read_class_folders(two_parts, SMALL)


@pytest.mark.timeout(120)
def test_pipes_and_links_to_devices_are_left_aside(two_parts: Path) -> None:
    os.mkfifo(two_parts / "train/cats/pipe.png")
    (two_parts / "train/cats/zero.png").symlink_to("/dev/zero")
    assert "Left aside, since they aren't images: 2 (pipe.png, zero.png)." in read_class_folders(two_parts, SMALL).notes


def test_names_that_are_no_utf8_can_be_shown(two_parts: Path) -> None:
    (two_parts / "train/cats").rename(two_parts / "train" / os.fsdecode(b"ca\xffts"))
    with pytest.raises(DataError, match=r"only the training part has ca\\xffts"):
        read_class_folders(two_parts, SMALL)


def test_a_folder_that_cant_be_read_is_named(two_parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(class_listing.os, "scandir", refuse)
    with pytest.raises(DataError, match=r"Folder .*set can't be read \(Permission denied\). Make it readable"):
        read_class_folders(two_parts, SMALL)


def test_a_wrong_config_is_refused_with_all_that_is_wrong() -> None:
    with pytest.raises(ConfigError) as caught:
        ClassFoldersConfig(size=4, test_share=1.0)
    assert caught.value.problems == (
        "size is 4, but an image needs 8 pixels a side or more.",
        "test_share is 1.0, but must lie between 0 and 1.",
    )


def test_real_photographs_are_read(shared_data: Path) -> None:
    found = read_class_folders(shared_data / "ants_bees", ClassFoldersConfig(size=32))
    assert (found.classes, len(found.test)) == (("ants", "bees"), 153)
    assert 50 < found.train.images.mean() < 200
