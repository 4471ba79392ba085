"""Opening a set: the real one where it is to be had, an embedded one that says why, never a silent exchange."""

import gzip
import hashlib
import io
import struct
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hilum.datasets import cifar, image_sets
from hilum.datasets.downloading import PublishedFile
from hilum.datasets.image_sets import PURPOSES, SETS, ImageSet, open_image_set
from hilum.errors import DataError, UsageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty data folder."""
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def opened(tmp_path: Path, root: Path):  # type: ignore[no-untyped-def]
    """``opened(purpose, name)``: open with this test's root and cache, without a download unless asked."""

    def call(purpose: str, name: str = "auto", **more: Any) -> ImageSet:
        return open_image_set(purpose, name, **({"root": root, "cache": tmp_path / "cache", "download": False} | more))

    return call


def mnist_files() -> dict[str, bytes]:
    files = {}
    for start, count in (("train", 40), ("t10k", 20)):
        images = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        head = bytes((0, 0, 8, 3)) + struct.pack(">3I", *images.shape)
        files[f"{start}-images-idx3-ubyte.gz"] = gzip.compress(head + images.tobytes(), mtime=0)
        files[f"{start}-labels-idx1-ubyte.gz"] = gzip.compress(
            bytes((0, 0, 8, 1)) + struct.pack(">I", count) + labels.tobytes(), mtime=0
        )
    return files


def put_mnist(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, content in mnist_files().items():
        (folder / name).write_bytes(content)


def put_photos(folder: Path, classes: tuple[str, ...], side: int = 24, count: int = 5) -> None:
    rng = np.random.default_rng(len(classes))
    for name in classes:
        (folder / name).mkdir(parents=True)
        for index in range(count):
            image = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
            image.save(folder / name / f"{index}.png")


def publish(monkeypatch: pytest.MonkeyPatch, name: str, files: dict[str, bytes], folder: Path, address: str) -> None:
    """Let a known set be downloaded from the test's server."""
    for file, content in files.items():
        (folder / file).write_bytes(content)
    table = tuple(
        PublishedFile(name=file, md5=hashlib.md5(content).hexdigest(), folders=(address,))
        for file, content in files.items()
    )
    monkeypatch.setitem(SETS, name, replace(SETS[name], files=table))


def test_auto_takes_the_real_set_from_the_root(root: Path, opened: Any) -> None:
    put_mnist(root / "mnist/MNIST/raw")
    found = opened("digits")
    assert (found.name, found.kind, len(found.train)) == ("mnist", "real", 40)


def test_auto_takes_the_real_set_from_the_cache(tmp_path: Path, opened: Any) -> None:
    put_mnist(tmp_path / "cache/mnist")
    assert opened("digits").name == "mnist"
    assert opened("digits", root=None).name == "mnist"


@pytest.mark.parametrize(
    ("purpose", "embedded", "size", "missing"),
    [
        ("digits", "scikit-learn's digits", 8, "MNIST was not to be had"),
        ("small-images", "Procedural images", 32, "CIFAR-10 was not to be had"),
        ("photographs", "Procedural images", 128, "Flowers was not to be had"),
        ("two-class photographs", "Procedural images", 128, "Ants and bees was not to be had"),
    ],
)
def test_auto_falls_back_to_an_embedded_set_that_says_why_and_what_would_help(
    tmp_path: Path, opened: Any, purpose: str, embedded: str, size: int, missing: str
) -> None:
    """In words that name no folder of the machine: a report may travel."""
    found = opened(purpose, train=20, test=20)
    assert (found.kind, found.size, len(found.train), len(found.test)) == ("embedded", size, 20, 20)
    assert found.description.startswith(embedded)
    assert f"{missing}: not in the data folder; not in the cache; " in found.description
    assert f"and put it at the data folder/{SETS[PURPOSES[purpose].real].place}." in found.description
    assert str(tmp_path) not in found.description


def test_every_purpose_names_known_sets() -> None:
    for purpose in PURPOSES.values():
        assert SETS[purpose.real].find is not None
        assert SETS[purpose.embedded].find is None


def test_a_damaged_real_set_is_an_error_and_no_reason_to_fall_back(root: Path, opened: Any) -> None:
    put_mnist(root / "mnist")
    file = root / "mnist/train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz is damaged or was downloaded half \(5,000 bytes"):
        opened("digits")


def test_a_set_of_which_a_piece_is_there_is_an_error_too(root: Path, opened: Any) -> None:
    (root / "cifar10/cifar-10-batches-py").mkdir(parents=True)
    with pytest.raises(DataError, match="has no data_batch_1, and CIFAR-10 is six batches"):
        opened("small-images")


def test_a_named_set_that_is_not_there_is_an_error_with_where_it_was_looked_for(
    root: Path, tmp_path: Path, opened: Any
) -> None:
    with pytest.raises(DataError) as caught:
        opened("small-images", "cifar10")
    assert str(caught.value) == (
        f"CIFAR-10 is not there: not in {root}; not in {tmp_path / 'cache'}; downloading is switched off. To use it, "
        f"get it from https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz and put it at {root}/cifar10/"
        "cifar-10-batches-py/ (or cifar-10-batches-bin/, or cifar10_jpeg.npz)."
    )


def test_without_a_root_the_mend_names_none(opened: Any) -> None:
    with pytest.raises(DataError, match=r"put it at flowers/<class>/ below a data folder, and name that folder"):
        opened("photographs", "flowers", root=None)


def test_embedded_sets_can_be_named_for_any_purpose(opened: Any) -> None:
    assert opened("digits", "digits").description.endswith("not MNIST.")
    assert opened("small-images", "digits", size=32, channels=3).train.images.shape == (1437, 3, 32, 32)
    procedural = opened("digits", "procedural", size=16, channels=1, train=20, test=10)
    assert procedural.train.images.shape == (20, 1, 16, 16)
    assert procedural.description.endswith("not photographs. Made grey.")


def test_photographs_are_found_below_the_root_and_named(root: Path, opened: Any) -> None:
    put_photos(root / "flowers", ("rose", "tulip"))
    flowers = opened("photographs", size=16)
    assert (flowers.name, flowers.kind, flowers.size) == ("flowers", "real", 16)
    assert flowers.description == "Flowers: 8 + 2 real photographs of flowers in 2 classes, cut to 16 × 16 px."
    assert "martinwestin/flower_classification" in flowers.source
    put_photos(root / "hymenoptera_data/train", ("ants", "bees"))
    put_photos(root / "hymenoptera_data/val", ("ants", "bees"), side=25)
    assert opened("two-class photographs", "ants_bees", size=16).title == "Ants and bees"


def test_a_path_names_a_folder_of_class_folders(tmp_path: Path, opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put_photos(tmp_path / "mine", ("a", "b"))
    assert opened("photographs", str(tmp_path / "mine")).description.startswith("mine: 8 + 2 images from class folders")
    monkeypatch.chdir(tmp_path)
    assert opened("photographs", "mine", size=16, channels=1).train.images.shape == (8, 1, 16, 16)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert opened("photographs", "~/mine").name == "mine"
    (tmp_path / "mine/a/bad.jpg").write_text("")
    with pytest.raises(DataError, match=r"1 images can't be used: a/bad.jpg"):
        opened("photographs", "mine")
    assert len(opened("photographs", "mine", skip_bad=True).train) == 8


def test_a_path_may_lead_to_mnist_or_cifar10_as_published(tmp_path: Path, root: Path, opened: Any) -> None:
    put_mnist(root / "mnist/MNIST/raw")
    assert opened("digits", str(root / "mnist"), root=None).name == "mnist"
    (root / "cifar10/cifar-10-batches-bin").mkdir(parents=True)
    for folder in ("cifar10", "cifar10/cifar-10-batches-bin"):
        with pytest.raises(DataError, match=r"cifar-10-batches-bin has no data_batch_1.bin"):
            opened("small-images", str(root / folder), root=None)


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path, opened: Any) -> None:
    with pytest.raises(DataError, match=r"Folder .*nowhere does not exist"):
        opened("photographs", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"There is no home folder for '~no-such-person/x'"):
        opened("photographs", "~no-such-person/x")


@pytest.mark.parametrize(("name", "hint"), [("cifar100", "Did you mean 'cifar10'\\?"), ("", "Known: auto, mnist")])
def test_an_unknown_name_gets_the_nearest(opened: Any, name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=rf"Image set {name!r} is not known, and there is no such folder. {hint}"):
        opened("small-images", name)


def test_an_unknown_purpose_gets_the_nearest(opened: Any) -> None:
    with pytest.raises(UsageError, match=r"Images for 'digit' are not known. Did you mean 'digits'\?"):
        opened("digit")


def test_a_root_that_is_not_there_is_an_error(tmp_path: Path, opened: Any) -> None:
    with pytest.raises(DataError, match=r"Data folder .*none does not exist. Name the folder that holds mnist/MNIST"):
        opened("digits", root=tmp_path / "none")


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"size": 4}, "size is 4 px, but must be 8 … 1024"),
        ({"size": 5000}, "size is 5000 px"),
        ({"train": 0}, "train is 0 images, but must be 1 or more. Leave it out for all"),
        ({"test": -1}, "test is -1 images"),
        ({"channels": 2}, "Images of 1 channels can't be given 2"),
        ({"train": 5}, "5 train images can't hold 10 classes"),
    ],
)
def test_impossible_numbers_are_refused(opened: Any, more: dict[str, int], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        opened("digits", "digits", **more)


def test_a_subset_of_a_real_set_says_so(root: Path, opened: Any) -> None:
    put_mnist(root / "mnist")
    found = opened("digits", train=20, test=10, size=32)
    assert found.train.counts(10).tolist() == [2] * 10
    assert found.description.endswith(
        "Subset, stratified by class: 20 + 10 images (seed 0). Resized to 32 × 32 px (bilinear)."
    )


def test_mnist_is_downloaded_checked_and_kept(
    server: tuple[str, Path], tmp_path: Path, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder = server
    publish(monkeypatch, "mnist", mnist_files(), folder, address)
    assert opened("digits", download=True).name == "mnist"
    assert len(list((tmp_path / "cache/mnist").iterdir())) == 4
    for file in folder.iterdir():
        file.unlink()
    assert opened("digits", download=True).name == "mnist"


def test_cifar10_is_downloaded_and_only_its_batches_are_unpacked(
    server: tuple[str, Path], tmp_path: Path, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder = server
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name in ("../evil", *(f"cifar-10-batches-py/{name}" for name in cifar.PYTHON_BATCHES)):
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"data"))
    publish(monkeypatch, "cifar10", {"cifar-10-python.tar.gz": out.getvalue()}, folder, address)
    with pytest.raises(DataError, match=r"cache/cifar10/cifar-10-batches-py/data_batch_1 has MD5"):
        opened("small-images", download=True)
    kept = sorted(path.name for path in (tmp_path / "cache/cifar10/cifar-10-batches-py").iterdir())
    assert kept == sorted(cifar.PYTHON_BATCHES)
    assert not list(tmp_path.rglob("evil"))


def test_an_archive_without_its_batches_is_no_set(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as tar:
        for name in cifar.PYTHON_BATCHES:
            folder = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
    with pytest.raises(DataError, match=r"cifar-10-python.tar.gz has no batch data_batch_1"):
        image_sets._unpack_cifar(tmp_path)


def test_a_download_that_fails_is_the_reason_given(
    server: tuple[str, Path], opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder = server
    publish(monkeypatch, "mnist", mnist_files(), folder, address)
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    description = opened("digits", download=True).description
    assert description.startswith("scikit-learn's digits")
    assert (
        f"t10k-images-idx3-ubyte.gz can't be downloaded ({address}t10k-images-idx3-ubyte.gz: Client error '404"
        in description
    )
    with pytest.raises(DataError, match=r"MNIST is not there: .*t10k-images-idx3-ubyte.gz can't be downloaded"):
        opened("digits", "mnist", download=True)


def test_the_default_cache_is_in_the_home_folder(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    found = open_image_set("small-images", "procedural", root=root, size=16, train=10, test=10)
    assert len(found.train) == 10
    assert len(list((tmp_path / ".cache/hilum/data/decoded").iterdir())) == 1


@pytest.mark.long
def test_all_real_sets_open(shared_data: Path, tmp_path: Path) -> None:
    for purpose, known in PURPOSES.items():
        found = open_image_set(purpose, known.real, root=shared_data, cache=tmp_path, size=32, train=100, test=100)
        assert (found.kind, found.size, len(found.train), len(found.test)) == ("real", 32, 100, 100)
