"""MNIST's files: gzipped or plain, whole or refused by name."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from hilum.arrays import Array
from hilum.datasets import mnist
from hilum.datasets.mnist import find_mnist, read_mnist
from hilum.errors import DataError


def idx(values: Array) -> bytes:
    """The idx form of uint8 values."""
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def small(count: int, seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 28, 28), dtype=np.uint8), (np.arange(count) % 10).astype(np.uint8)


def write(folder: Path, *, zipped: bool = True) -> dict[str, bytes]:
    """Four small files of the right structure; returns their unpacked contents."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {}
    for start, count in (("train", 30), ("t10k", 20)):
        images, labels = small(count, count)
        contents[f"{start}-images-idx3-ubyte"], contents[f"{start}-labels-idx1-ubyte"] = idx(images), idx(labels)
    for name, content in contents.items():
        (folder / (name + ".gz" * zipped)).write_bytes(gzip.compress(content, mtime=0) if zipped else content)
    return contents


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["mnist/MNIST/raw", "mnist", "MNIST/raw"])
def test_files_are_found_and_read_in_every_usual_place(tmp_path: Path, place: str, zipped: bool) -> None:
    write(tmp_path / place, zipped=zipped)
    found = find_mnist(tmp_path)
    assert found == tmp_path / place
    digits = read_mnist(found)
    images, labels = small(30, 30)
    assert np.array_equal(digits.train.images[:, 0], images)
    assert np.array_equal(digits.train.labels, labels)
    assert (len(digits.test), digits.kind, digits.classes[9]) == (20, "real", "9")


def test_the_dotted_names_of_other_archives_are_read_as_well(tmp_path: Path) -> None:
    for name, content in write(tmp_path / "mnist", zipped=False).items():
        (tmp_path / "mnist" / name).unlink()
        (tmp_path / "mnist" / name.replace("-idx", ".idx")).write_bytes(content)
    assert len(read_mnist(tmp_path / "mnist").train) == 30


def test_nothing_is_found_where_there_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "mnist").mkdir()
    assert find_mnist(tmp_path) is None


def test_published_files_are_recognised_by_their_md5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = write(tmp_path)
    assert "not the published ones byte for byte (MD5)" in read_mnist(tmp_path).notes[0]
    assert "so are their class counts" in read_mnist(tmp_path).notes[0]
    assert read_mnist(tmp_path).description.endswith("split as in the files at hand.")
    monkeypatch.setattr(mnist, "UNPACKED_MD5", {name: mnist.md5_of(content) for name, content in contents.items()})
    assert read_mnist(tmp_path).notes == ("All four files are the published ones (MD5).",)
    assert read_mnist(tmp_path).description == (
        "MNIST: 30 + 20 real grey digits of 28 × 28 px (LeCun et al. 1998), standard split."
    )


@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_a_half_downloaded_gzip_is_refused_with_its_name_and_the_mend(tmp_path: Path, share: float) -> None:
    write(tmp_path)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError) as caught:
        read_mnist(tmp_path)
    text = str(caught.value)
    assert text.startswith(f"{file} is damaged or was downloaded half (")
    assert "Delete it, and fetch https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz" in text
    assert "MD5 f68b3c2dcbeaaa9fbdd348bbdeb94873" in text


def test_a_flipped_bit_in_a_gzip_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    file = tmp_path / "t10k-images-idx3-ubyte.gz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte.gz (is damaged|announces|doesn't begin)"):
        read_mnist(tmp_path)


def test_a_page_saved_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_text("<html>404 Not Found</html>")
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte.gz is damaged or was downloaded half \(26 bytes"):
        read_mnist(tmp_path)


def test_a_half_copied_plain_file_is_refused_with_both_lengths(tmp_path: Path) -> None:
    contents = write(tmp_path, zipped=False)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(contents["t10k-images-idx3-ubyte"][:5016])
    with pytest.raises(DataError, match=r"ubyte announces 15,680 bytes of values, but holds 5,000. Delete it"):
        read_mnist(tmp_path)


def test_a_file_with_more_than_it_announces_is_refused(tmp_path: Path) -> None:
    contents = write(tmp_path, zipped=False)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(contents["t10k-labels-idx1-ubyte"] + b"\0")
    with pytest.raises(DataError, match=r"announces 20 bytes of values, but holds more"):
        read_mnist(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\0\0\x08", b"\0\0\x0d\x03" + bytes(12), b"PNG!" + bytes(12)])
def test_another_file_of_the_same_name_is_refused(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, zipped=False)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte doesn't begin as an idx3-ubyte file"):
        read_mnist(tmp_path)


@pytest.mark.parametrize("shape", [(0, 28, 28), (30, 28, 27), (2**31, 28, 28)])
def test_impossible_dimensions_are_refused_before_memory_is_taken(tmp_path: Path, shape: tuple[int, ...]) -> None:
    write(tmp_path, zipped=False)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(bytes((0, 0, 8, 3)) + struct.pack(">3I", *shape))
    with pytest.raises(DataError, match=rf"announces {' × '.join(map(str, shape))} values, which MNIST can't be"):
        read_mnist(tmp_path)


def test_missing_files_are_all_named_with_where_to_get_them(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    (tmp_path / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError) as caught:
        read_mnist(tmp_path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{tmp_path} has no train-labels-idx1-ubyte.gz, and MNIST is four files. Fetch https://")
    assert "has no t10k-images-idx3-ubyte.gz" in lines[1]


def test_images_and_labels_of_different_sets_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    content = gzip.compress(idx(np.zeros(7, dtype=np.uint8)))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"has 30 images but 7 labels in train-\*. They are of different sets"):
        read_mnist(tmp_path)


def test_labels_beyond_nine_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    content = gzip.compress(idx(np.full(20, 11, dtype=np.uint8)))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte reach 11, but digits end at 9"):
        read_mnist(tmp_path)


def test_a_file_that_cant_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise OSError(5, "Input/output error")

    write(tmp_path)
    monkeypatch.setattr(mnist, "_read_idx", fail)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz can't be read \(Input/output error\)"):
        read_mnist(tmp_path)


def test_the_real_set_is_whole_and_known_by_its_counts(shared_data: Path) -> None:
    found = find_mnist(shared_data)
    assert found is not None
    digits = read_mnist(found)
    assert (len(digits.train), len(digits.test)) == (60_000, 10_000)
    assert tuple(digits.train.counts(10).tolist()) == mnist.CLASS_COUNTS["train"]
    # Ink is bright on black, and most of a digit's field is empty.
    assert 0.7 < (digits.test.images == 0).mean() < 0.9
