"""CIFAR-10 in three forms; the Python batches are walked, never unpickled."""

import hashlib
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hilum.arrays import Array
from hilum.datasets import cifar
from hilum.datasets.cifar import (
    BINARY_BATCHES,
    CLASSES,
    PYTHON_BATCHES,
    CifarPlace,
    find_cifar10,
    read_binary_batches,
    read_cifar10,
    read_jpeg_pack,
    read_python_batches,
    unpickled_batch,
)
from hilum.errors import DataError

ROWS = 20


def batch(seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (ROWS, 3072), dtype=np.uint8), (np.arange(ROWS) % 10).astype(np.uint8)


def short_string(text: bytes) -> bytes:
    return b"U" + bytes([len(text)]) + text


def pickled(pixels: Array, labels: Array, *, before: bytes = b"") -> bytes:
    """A batch as Python 2 and NumPy wrote it (protocol 2), opcode by opcode."""
    raw = pixels.tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87Rq\x04"
        + b"(K\x01"
        + b"M"
        + struct.pack("<H", len(pixels))
        + b"M\x00\x0c\x86"
        + b"cnumpy\ndtype\nq\x05U\x02u1K\x00K\x01\x87Rq\x06(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + b"\x89T"
        + struct.pack("<i", len(raw))
        + raw
        + b"tb"
    )
    first, second = labels.tolist()[:12], labels.tolist()[12:]
    numbers = b"".join(b"(" + b"".join(b"K" + bytes([n]) for n in part) + b"e" for part in (first, second))
    names = b"(" + b"".join(short_string(b"a_%d.png" % n) for n in range(len(labels))) + b"e"
    return (
        b"\x80\x02}q\x00(" + before
        + short_string(b"data") + b"q\x01" + array
        + short_string(b"labels") + b"q\x07]q\x08" + numbers
        + short_string(b"batch_label") + short_string(b"training batch 1 of 5")
        + short_string(b"filenames") + b"]q\x09" + names
        + b"u."
    )  # fmt: skip


def write_python(folder: Path) -> dict[str, str]:
    """Six small batches; returns their MD5."""
    folder.mkdir(parents=True)
    for seed, name in enumerate(PYTHON_BATCHES):
        (folder / name).write_bytes(pickled(*batch(seed)))
    return {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in PYTHON_BATCHES}


def write_binary(folder: Path) -> None:
    folder.mkdir(parents=True)
    for seed, name in enumerate(BINARY_BATCHES):
        pixels, labels = batch(seed)
        (folder / name).write_bytes(np.concatenate([labels[:, None], pixels], axis=1).tobytes())


def jpeg(image: Array) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=95)
    return out.getvalue()


def pack_of(**changes: Any) -> dict[str, Any]:
    """The arrays of a small pack of smooth images."""
    ramp = np.linspace(0, 200, 32).astype(np.uint8)
    arrays: dict[str, Any] = {"classes": np.array(CLASSES)}
    for part, count in (("train", 20), ("test", 10)):
        images = [np.broadcast_to((ramp + 5 * (n % 10))[:, None, None], (32, 32, 3)) for n in range(count)]
        files = [jpeg(np.ascontiguousarray(image)) for image in images]
        arrays[f"{part}_bytes"] = np.frombuffer(b"".join(files), dtype=np.uint8)
        arrays[f"{part}_offsets"] = np.cumsum([0, *map(len, files)])
        arrays[f"{part}_labels"] = (np.arange(count) % 10).astype(np.uint8)
    return arrays | changes


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    (tmp_path / "cifar10").mkdir()
    np.savez(tmp_path / "cifar10/cifar10_jpeg.npz", **pack_of())
    return tmp_path / "cifar10/cifar10_jpeg.npz"


def test_python_batches_give_their_pixels_and_labels(tmp_path: Path) -> None:
    md5 = write_python(tmp_path / "b")
    found = read_python_batches(tmp_path / "b", md5)
    pixels, labels = batch(1)
    assert np.array_equal(found.train.images[ROWS : 2 * ROWS].reshape(ROWS, -1), pixels)
    assert np.array_equal(found.train.labels[ROWS : 2 * ROWS], labels)
    assert np.array_equal(found.test.images.reshape(ROWS, -1), batch(5)[0])
    assert (len(found.train), found.title, found.kind, found.classes) == (100, "CIFAR-10", "real", CLASSES)
    assert "published pixels and split" in found.description
    assert found.notes == ("All six batches are the published ones (MD5); they were read without unpickling.",)


def test_what_a_batch_would_execute_is_not_executed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    attack = short_string(b"x") + b"cos\nmkdir\n" + short_string(str(victim).encode()) + b"\x85R"
    pixels, labels = unpickled_batch(pickled(*batch(0), before=attack), "here")
    assert np.array_equal(pixels, batch(0)[0])
    assert np.array_equal(labels, batch(0)[1])
    assert not victim.exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.97])
def test_a_python_batch_that_breaks_off_is_refused(share: float) -> None:
    content = pickled(*batch(0))
    with pytest.raises(DataError, match=r"data_batch_1 breaks off or is no Python batch of CIFAR-10 \(.+Delete the"):
        unpickled_batch(content[: int(len(content) * share)], "data_batch_1")


def test_a_python_batch_with_other_pixels_than_labels_is_refused() -> None:
    pixels, labels = batch(0)
    with pytest.raises(DataError, match=r"holds 58,368 bytes of pixels for 20 labels, but an image has 3,072"):
        unpickled_batch(pickled(pixels[:19], labels), "data_batch_1")


def test_labels_beyond_nine_are_refused() -> None:
    with pytest.raises(DataError, match=r"here: labels lie in 12 … 12, but must be 0 … 9"):
        unpickled_batch(pickled(batch(0)[0], np.full(ROWS, 12)), "here")


def test_a_changed_or_missing_python_batch_is_refused_and_all_are_named(tmp_path: Path) -> None:
    md5 = write_python(tmp_path / "b")
    content = bytearray((tmp_path / "b/data_batch_2").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "b/data_batch_2").write_bytes(content)
    (tmp_path / "b/test_batch").unlink()
    with pytest.raises(DataError) as caught:
        read_python_batches(tmp_path / "b", md5)
    changed, missing = str(caught.value).splitlines()
    assert changed.startswith(
        f"{tmp_path}/b/data_batch_2 has MD5 {hashlib.md5(content).hexdigest()}, but the published"
    )
    assert (
        "unpack https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz (MD5 c58f30108f718f92721af3b95e74349a)"
        in changed
    )
    assert missing.startswith(f"{tmp_path}/b has no test_batch, and CIFAR-10 is six batches.")


def test_binary_batches_give_their_pixels_and_labels(tmp_path: Path) -> None:
    write_binary(tmp_path / "b")
    found = read_binary_batches(tmp_path / "b", rows=ROWS)
    assert np.array_equal(found.train.images[:ROWS].reshape(ROWS, -1), batch(0)[0])
    assert np.array_equal(found.test.labels, batch(5)[1])
    assert "no MD5 is published" in found.notes[0]


def test_both_published_forms_are_the_same_set(tmp_path: Path) -> None:
    write_binary(tmp_path / "bin")
    md5 = write_python(tmp_path / "py")
    binary, python = read_binary_batches(tmp_path / "bin", rows=ROWS), read_python_batches(tmp_path / "py", md5)
    assert binary.fingerprint == python.fingerprint


def test_a_binary_batch_of_another_length_or_label_is_refused(tmp_path: Path) -> None:
    write_binary(tmp_path / "b")
    file = tmp_path / "b/data_batch_3.bin"
    content = file.read_bytes()
    file.write_bytes(content[:-10])
    (tmp_path / "b/test_batch.bin").write_bytes(b"\x0b" + (tmp_path / "b/test_batch.bin").read_bytes()[1:])
    with pytest.raises(DataError) as caught:
        read_binary_batches(tmp_path / "b", rows=ROWS)
    short, label = str(caught.value).splitlines()
    assert short.startswith(f"{file} has 61,450 bytes, but a batch has 61,460. Delete the folder")
    assert "test_batch.bin: labels lie in 0 … 11, but must be 0 … 9" in label


def test_a_batch_that_cant_be_read_is_named(tmp_path: Path) -> None:
    write_binary(tmp_path / "b")
    (tmp_path / "b/data_batch_1.bin").unlink()
    (tmp_path / "b/data_batch_1.bin").mkdir()
    with pytest.raises(DataError, match=r"data_batch_1.bin can't be read \(Is a directory\). Make it readable"):
        read_binary_batches(tmp_path / "b", rows=ROWS)


def test_the_published_pixels_are_preferred_to_jpegs(tmp_path: Path, pack: Path) -> None:
    assert find_cifar10(tmp_path) == CifarPlace(path=pack, form="jpeg")
    (tmp_path / "cifar10/cifar-10-batches-bin").mkdir()
    assert find_cifar10(tmp_path) == CifarPlace(path=tmp_path / "cifar10/cifar-10-batches-bin", form="binary")
    (tmp_path / "cifar10/cifar-10-batches-py").mkdir()
    place = find_cifar10(tmp_path)
    assert place == CifarPlace(path=tmp_path / "cifar10/cifar-10-batches-py", form="python")
    assert find_cifar10(tmp_path / "cifar10") is not None
    assert find_cifar10(tmp_path / "elsewhere") is None


def test_each_form_is_read_as_what_it_is(tmp_path: Path, pack: Path) -> None:
    assert read_cifar10(CifarPlace(path=pack, form="jpeg")).title == "CIFAR-10 (JPEG)"
    with pytest.raises(DataError, match=r"has no data_batch_1, and"):
        read_cifar10(CifarPlace(path=tmp_path, form="python"))
    with pytest.raises(DataError, match=r"has no data_batch_1.bin, and"):
        read_cifar10(CifarPlace(path=tmp_path, form="binary"))


def test_a_pack_is_decoded_named_lossy_and_kept(tmp_path: Path, pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read_jpeg_pack(pack, cache=tmp_path / "cache")
    expected = np.linspace(0, 200, 32)[:, None] + 5 * 3
    assert np.abs(found.train.images[3, 1] - expected).max() < 6
    assert (len(found.train), len(found.test), found.size) == (20, 10, 32)
    assert found.title == "CIFAR-10 (JPEG)"
    assert "through lossy JPEG" in found.description
    assert "no result on them is one on CIFAR-10 itself" in found.notes[0]
    monkeypatch.setattr(cifar, "_decode", None)
    assert read_jpeg_pack(pack, cache=tmp_path / "cache").fingerprint == found.fingerprint


def test_a_pack_that_cant_be_kept_is_noted(tmp_path: Path, pack: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "could not be kept" in read_jpeg_pack(pack, cache=tmp_path / "file").notes[-1]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_pack_copied_half_is_refused(pack: Path, share: float) -> None:
    content = pack.read_bytes()
    pack.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"cifar10_jpeg.npz is damaged or was copied half \(.*\). Get the pack anew"):
        read_jpeg_pack(pack)


def test_a_lone_array_is_no_pack(pack: Path) -> None:
    with open(pack, "wb") as out:
        np.save(out, np.zeros(3))
    with pytest.raises(DataError, match=r"is damaged or was copied half \(it is a lone array\)"):
        read_jpeg_pack(pack)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"train_offsets": np.arange(5)}, "train_offsets and train_labels don't fit together"),
        ({"test_labels": np.zeros(10)}, "test_offsets and test_labels don't fit together"),
        ({"test_offsets": np.array([0, 9, 8, *range(10, 18)], dtype=np.uint64)}, "don't rise from image to image"),
        ({"train_labels": np.full(20, 10)}, r"train_labels: labels lie in 10 … 10, but must be 0 … 9"),
        ({"classes": np.array(["a", "b"])}, "names 2 classes, but CIFAR-10 has 10"),
        ({"train_offsets": np.arange(21)}, r"image 0 of train can't be decoded"),
    ],
)
def test_a_pack_whose_arrays_dont_fit_is_refused(pack: Path, changes: dict[str, Any], match: str) -> None:
    np.savez(pack, **pack_of(**changes))
    with pytest.raises(DataError, match=match):
        read_jpeg_pack(pack)


def test_a_pack_without_an_array_is_refused(pack: Path) -> None:
    arrays = pack_of()
    del arrays["test_labels"]
    np.savez(pack, **arrays)
    with pytest.raises(DataError, match=r"has no test_labels. Get the pack anew, or use the published batches"):
        read_jpeg_pack(pack)


def test_an_image_of_another_size_in_a_pack_is_refused(pack: Path) -> None:
    arrays = pack_of()
    large = jpeg(np.zeros((40, 32, 3), dtype=np.uint8))
    arrays["test_bytes"] = np.frombuffer(large * 10, dtype=np.uint8)
    arrays["test_offsets"] = np.arange(11) * len(large)
    np.savez(pack, **arrays)
    with pytest.raises(DataError, match=r"image 0 of test can't be decoded \(it has 32 × 40 px\)"):
        read_jpeg_pack(pack)


@pytest.mark.long
def test_the_real_pack_is_whole(shared_data: Path) -> None:
    found = read_jpeg_pack(shared_data / "cifar10/cifar10_jpeg.npz")
    assert found.train.counts(10).tolist() == [5000] * 10
    assert found.test.counts(10).tolist() == [1000] * 10
