"""Fetching published files: checked by MD5, all of them or none, from a real server on this machine."""

import hashlib
import importlib.util
from pathlib import Path

import pytest

from hilum.datasets.cifar import PYTHON_BATCHES
from hilum.datasets.downloading import CIFAR10_ARCHIVE, MNIST_FILES, PublishedFile, download
from hilum.errors import DataError
from hilum.progress import Silent


def published(folder: Path, name: str, content: bytes, *addresses: str) -> PublishedFile:
    (folder / name).write_bytes(content)
    return PublishedFile(name=name, md5=hashlib.md5(content).hexdigest(), folders=addresses)


def fetch(files: tuple[PublishedFile, ...], folder: Path, **more: object) -> None:
    download(files, folder, what="Set", progress=Silent(), **more)  # type: ignore[arg-type]


def test_files_arrive_whole(server: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = server
    files = tuple(published(folder, name, bytes(range(256)) * 3000, address) for name in ("a.gz", "b.gz"))
    fetch(files, tmp_path / "kept")
    assert (tmp_path / "kept/b.gz").read_bytes() == bytes(range(256)) * 3000
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["a.gz", "b.gz"]


def test_the_next_address_is_tried_after_a_failure(server: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = server
    file = published(folder, "a.gz", b"content", f"{address}nowhere/", "http://127.0.0.1:9/", address)
    fetch((file,), tmp_path / "kept")
    assert (tmp_path / "kept/a.gz").read_bytes() == b"content"


def test_one_failure_leaves_no_file_and_says_what_each_address_answered(
    server: tuple[str, Path], tmp_path: Path
) -> None:
    address, folder = server
    good = published(folder, "a.gz", b"content", address)
    gone = PublishedFile(name="b.gz", md5="0" * 32, folders=(address, "http://127.0.0.1:9/"))
    with pytest.raises(DataError) as caught:
        fetch((good, gone), tmp_path / "kept")
    text = str(caught.value)
    assert text.startswith(f"b.gz can't be downloaded ({address}b.gz: Client error '404 File not found'")
    assert "http://127.0.0.1:9/b.gz: [Errno 111] Connection refused" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["published"]


def test_another_content_than_published_is_refused(server: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = server
    file = published(folder, "a.gz", b"content", address)
    (folder / "a.gz").write_bytes(b"<html>Please log in</html>")
    with pytest.raises(DataError, match=rf"what came has MD5 [0-9a-f]{{32}}, the published file has {file.md5}"):
        fetch((file,), tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_failing_download_leaves_what_was_there(server: tuple[str, Path], tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/old").write_text("old")
    with pytest.raises(DataError, match="can't be downloaded"):
        fetch((PublishedFile(name="b.gz", md5="0" * 32, folders=(server[0],)),), tmp_path / "kept")
    assert (tmp_path / "kept/old").read_text() == "old"


def test_what_arrives_can_be_unpacked_before_it_is_kept(server: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = server

    def unpack(here: Path) -> None:
        (here / "a.gz").rename(here / "a")

    fetch((published(folder, "a.gz", b"content", address),), tmp_path / "kept", unpack=unpack)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["a"]


def test_a_folder_that_cant_be_written_is_named(server: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = server
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"Set can't be kept in .*file/kept \(.*\). Name another folder"):
        fetch((published(folder, "a.gz", b"content", address),), tmp_path / "file/kept")


def test_the_table_of_published_files_is_torchvisions() -> None:
    # Read as text: importing torchvision takes seconds.
    spec = importlib.util.find_spec("torchvision")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "datasets"
    mnist, cifar10 = (folder / "mnist.py").read_text(), (folder / "cifar.py").read_text()
    for file in MNIST_FILES:
        assert f'("{file.name}", "{file.md5}")' in mnist
        assert all(f'"{address}"' in mnist for address in file.folders)
    assert f'url = "{CIFAR10_ARCHIVE.folders[0]}{CIFAR10_ARCHIVE.name}"' in cifar10
    assert f'tgz_md5 = "{CIFAR10_ARCHIVE.md5}"' in cifar10
    assert all(f'["{name}", "{md5}"]' in cifar10 for name, md5 in PYTHON_BATCHES.items())
