"""CIFAR-10 from the published batches (binary or Python's, which are never unpickled) or from a pack of JPEGs."""

import io
import pickletools
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hilum.arrays import Array
from hilum.datasets.downloading import CIFAR10_ARCHIVE, md5_of
from hilum.datasets.image_cache import Allocate, kept_images
from hilum.datasets.labelled_images import ImageSet, LabelledImages
from hilum.errors import DataError
from hilum.progress import Bar, Progress, Silent
from hilum.provenance import sha256_file

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

SIDE = 32
ROW_BYTES = 3 * SIDE * SIDE
BATCH_ROWS = 10_000

PYTHON_BATCHES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
"""MD5 of the published Python batches, transcribed from torchvision 0.24 (``torchvision/datasets/cifar.py``)."""

BINARY_BATCHES = tuple(f"{name}.bin" for name in PYTHON_BATCHES)
"""The published binary batches. No MD5 is published for the single files; each is 30,730,000 bytes."""

PARTS = ("train", "test")
BAR_STEP = 500

SOURCE = (
    "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, technical report, University of Toronto, "
    "2009 (CIFAR-10, a labelled subset of Tiny Images); no licence is stated."
)

Form = Literal["python", "binary", "jpeg"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CifarPlace:
    """Where a CIFAR-10 lies, and in which form."""

    path: Path
    """Folder of batches, or the pack's file."""
    form: Form
    """Published batches (python, binary) or a pack of JPEGs (jpeg)."""


PLACES: tuple[tuple[str, Form], ...] = (
    ("cifar10/cifar-10-batches-py", "python"),
    ("cifar-10-batches-py", "python"),
    ("cifar10/cifar-10-batches-bin", "binary"),
    ("cifar-10-batches-bin", "binary"),
    ("cifar10/cifar10_jpeg.npz", "jpeg"),
)
"""Where below a root it may lie; the published pixels come before the JPEGs."""


def find_cifar10(base: Path) -> CifarPlace | None:
    """CIFAR-10 below a root; None where there is none."""
    for name, form in PLACES:
        path = base / name
        if path.is_file() if form == "jpeg" else path.is_dir():
            return CifarPlace(path=path, form=form)
    return None


def read_cifar10(place: CifarPlace, *, cache: Path | None = None, progress: Progress | None = None) -> ImageSet:
    """CIFAR-10 from where it lies.

    Args:
        place: see :func:`find_cifar10`.
        cache: folder that keeps the pack's decoded pixels.
        progress: where progress goes.

    Raises:
        DataError: something is missing or damaged.
    """
    if place.form == "python":
        return read_python_batches(place.path)
    if place.form == "binary":
        return read_binary_batches(place.path)
    return read_jpeg_pack(place.path, cache=cache, progress=progress)


def read_python_batches(folder: Path, published: Mapping[str, str] = PYTHON_BATCHES) -> ImageSet:
    """The published Python batches: MD5 checked, opcodes walked, nothing executed.

    Args:
        folder: ``cifar-10-batches-py``.
        published: names of the batches with their MD5; the last one is the test batch.

    Raises:
        DataError: batches are missing or aren't the published ones; all of them are named.
    """
    batches, problems = [], []
    for name, md5 in published.items():
        try:
            content = _content(folder / name)
            found = md5_of(content)
            if found != md5:
                raise DataError(
                    f"{folder / name} has MD5 {found}, but the published batch has {md5}: it is damaged or another "
                    f"file. {_MEND}"
                )
            batches.append(unpickled_batch(content, str(folder / name)))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    return _cifar(batches, "All six batches are the published ones (MD5); they were read without unpickling.")


def read_binary_batches(folder: Path, rows: int = BATCH_ROWS) -> ImageSet:
    """The published binary batches: rows of a label and 3,072 pixels.

    Args:
        folder: ``cifar-10-batches-bin``.
        rows: images a batch.

    Raises:
        DataError: batches are missing or damaged; all of them are named.
    """
    batches, problems = [], []
    for name in BINARY_BATCHES:
        try:
            content = _content(folder / name)
            size = rows * (1 + ROW_BYTES)
            if len(content) != size:
                raise DataError(f"{folder / name} has {len(content):,} bytes, but a batch has {size:,}. {_MEND}")
            table = np.frombuffer(content, dtype=np.uint8).reshape(rows, 1 + ROW_BYTES)
            batches.append((table[:, 1:], _labels(table[:, 0], str(folder / name))))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    return _cifar(
        batches, "Binary batches of the right length; no MD5 is published for them, so only that was checked."
    )


_MEND = (
    f"Delete the folder, and unpack {CIFAR10_ARCHIVE.folders[0]}{CIFAR10_ARCHIVE.name} (MD5 "
    f"{CIFAR10_ARCHIVE.md5}) anew."
)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{file.parent} has no {file.name}, and CIFAR-10 is six batches. {_MEND}") from error
    except OSError as error:
        raise DataError(f"{file} can't be read ({error.strerror}). Make it readable.") from error


def _labels(values: Array, where: str) -> Array:
    labels = values.astype(np.int64)
    if labels.size and (labels.min() < 0 or labels.max() >= len(CLASSES)):
        raise DataError(f"{where}: labels lie in {labels.min()} … {labels.max()}, but must be 0 … 9. {_MEND}")
    return labels


def _cifar(batches: list[tuple[Array, Array]], note: str) -> ImageSet:
    def part(chosen: list[tuple[Array, Array]]) -> LabelledImages:
        pixels = np.concatenate([pixels for pixels, _ in chosen])
        return LabelledImages(
            images=pixels.reshape(-1, 3, SIDE, SIDE), labels=np.concatenate([labels for _, labels in chosen])
        )

    train, test = part(batches[:-1]), part(batches[-1:])
    return ImageSet(
        name="cifar10",
        title="CIFAR-10",
        kind="real",
        description=(
            f"CIFAR-10: {len(train):,} + {len(test):,} real colour photographs of 32 × 32 px in ten classes "
            "(Krizhevsky 2009), published pixels and split."
        ),
        classes=CLASSES,
        train=train,
        test=test,
        source=SOURCE,
        notes=(note,),
    )


INTEGERS = ("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1")
TEXTS = (
    "BINSTRING",
    "SHORT_BINSTRING",
    "STRING",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "UNICODE",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINBYTES8",
)
NEUTRAL = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "MARK", "APPEND", "APPENDS", "EMPTY_LIST", "LIST", "FRAME")
"""Opcodes that may lie between the key ``labels`` and its integers, and between these."""


def unpickled_batch(content: bytes, where: str) -> tuple[Array, Array]:
    """Pixels and labels of a Python batch, found by walking the pickle's opcodes; nothing is executed.

    A batch is a dictionary with ``data`` (a NumPy array, whose pixels are the one long string in it) and ``labels``
    (a list of integers).

    Args:
        content: the file.
        where: its name, for messages.

    Returns:
        (pixels uint8 [n, 3072], labels int64 [n]).

    Raises:
        DataError: it isn't such a batch, or breaks off.
    """
    pixels, labels, inside = b"", list[int](), False
    try:
        for name, argument in _opcodes(content):
            if name in TEXTS:
                inside = argument in ("labels", b"labels")
                if len(argument) > len(pixels):
                    pixels = argument if isinstance(argument, bytes) else argument.encode("latin-1")
            elif inside and name in INTEGERS:
                labels.append(int(argument))
            elif name not in NEUTRAL:
                inside = False
    except (ValueError, UnicodeError, EOFError) as error:
        raise DataError(f"{where} breaks off or is no Python batch of CIFAR-10 ({error}). {_MEND}") from error
    if not labels or len(pixels) != len(labels) * ROW_BYTES:
        raise DataError(
            f"{where} holds {len(pixels):,} bytes of pixels for {len(labels):,} labels, but an image has "
            f"{ROW_BYTES:,}. {_MEND}"
        )
    table = np.frombuffer(bytearray(pixels), dtype=np.uint8).reshape(-1, ROW_BYTES)
    return table, _labels(np.asarray(labels), where)


def _opcodes(content: bytes) -> Iterator[tuple[str, Any]]:
    for opcode, argument, _ in pickletools.genops(content):
        yield opcode.name, argument


def read_jpeg_pack(file: Path, *, cache: Path | None = None, progress: Progress | None = None) -> ImageSet:
    """CIFAR-10 from one .npz of JPEGs: ``train_bytes``, ``train_offsets``, ``train_labels``, the same for test.

    JPEG is lossy: these are not the published pixels, and the set calls itself CIFAR-10 (JPEG).

    Args:
        file: the pack.
        cache: folder that keeps the decoded pixels, by the pack's hash.
        progress: where progress goes.

    Raises:
        DataError: the pack is damaged, or an image in it is.
    """
    parts = _pack(file)
    counts = [len(parts[f"{part}_labels"]) for part in PARTS]

    def make(allocate: Allocate) -> dict[str, Any]:
        images = allocate((sum(counts), 3, SIDE, SIDE))
        with (progress or Silent()).bar("decoding CIFAR-10 (JPEG)", sum(counts)) as bar:
            for part, start, count in zip(PARTS, (0, counts[0]), counts, strict=True):
                _decode(file, part, parts[f"{part}_offsets"], images[start : start + count], bar)
        return {}

    key = f"cifar10-jpeg-{_decoder()}-{sha256_file(file)[:32]}"
    images, _, note = kept_images(cache, key, make)
    train, test = (
        LabelledImages(images=pixels, labels=_labels(parts[f"{part}_labels"], f"{file}, {part}_labels"))
        for part, pixels in zip(PARTS, (images[: counts[0]], images[counts[0] :]), strict=True)
    )
    lossy = "JPEG is lossy: these are not the published pixels, so no result on them is one on CIFAR-10 itself."
    return ImageSet(
        name="cifar10",
        title="CIFAR-10 (JPEG)",
        kind="real",
        description=(
            f"CIFAR-10 (JPEG): {len(train):,} + {len(test):,} real colour photographs of 32 × 32 px in ten classes "
            "(Krizhevsky 2009), standard split, through lossy JPEG."
        ),
        classes=tuple(str(name) for name in parts["classes"]),
        train=train,
        test=test,
        source=SOURCE,
        notes=(lossy, *((note,) if note else ())),
    )


def _decoder() -> str:
    """What decodes JPEGs here: another version may give other pixels."""
    from PIL import __version__, features

    return f"pillow{__version__}-jpeg{features.version('libjpeg_turbo') or features.version('jpg') or ''}"


def _pack(file: Path) -> dict[str, Array]:
    """The pack's labels, offsets and class names, checked; the JPEGs stay in the file."""
    wanted = [f"{part}_{key}" for part in PARTS for key in ("offsets", "labels")]
    parts = _pack_arrays(file, [*wanted, "classes"])
    for part in PARTS:
        offsets, labels = parts[f"{part}_offsets"], parts[f"{part}_labels"]
        whole = offsets.dtype.kind in "iu" and labels.dtype.kind in "iu" and offsets.ndim == labels.ndim == 1
        if not whole or len(offsets) != len(labels) + 1 or offsets[0] != 0:
            raise DataError(f"{file}: {part}_offsets and {part}_labels don't fit together. {_PACK_MEND}")
        parts[f"{part}_offsets"] = offsets.astype(np.int64)
        if bool((np.diff(parts[f"{part}_offsets"]) <= 0).any()):
            raise DataError(f"{file}: {part}_offsets don't rise from image to image. {_PACK_MEND}")
    if parts["classes"].shape != (len(CLASSES),):
        raise DataError(f"{file} names {parts['classes'].size} classes, but CIFAR-10 has 10. {_PACK_MEND}")
    return parts


_PACK_MEND = "Get the pack anew, or use the published batches."


def _pack_arrays(file: Path, names: list[str]) -> dict[str, Array]:
    try:
        # Opened here: NumPy leaves a damaged archive's file open.
        with open(file, "rb") as handle:
            pack = np.load(handle, allow_pickle=False)
            if not isinstance(pack, Mapping):
                raise ValueError("it is a lone array")
            missing = [name for name in names if name not in pack]
            if missing:
                raise DataError(f"{file} has no {', '.join(missing)}. {_PACK_MEND}")
            return {name: pack[name] for name in names}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{file} is damaged or was copied half ({error}). {_PACK_MEND}") from error


def _decode(file: Path, part: str, offsets: Array, images: Array, bar: Bar) -> None:
    """Decode one part's JPEGs into uint8 [n, 3, 32, 32]."""
    from PIL import Image

    content = _pack_arrays(file, [f"{part}_bytes"])[f"{part}_bytes"].tobytes()
    ends = offsets.tolist()
    for row in range(len(images)):
        try:
            with Image.open(io.BytesIO(content[ends[row] : ends[row + 1]]), formats=("JPEG",)) as image:
                if image.size != (SIDE, SIDE):
                    raise ValueError(f"it has {image.width} × {image.height} px")
                images[row] = np.asarray(image if image.mode == "RGB" else image.convert("RGB")).transpose(2, 0, 1)
        except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError … on damaged files
            raise DataError(f"{file}: image {row} of {part} can't be decoded ({error}). {_PACK_MEND}") from error
        if row % BAR_STEP == BAR_STEP - 1:
            bar.advance(BAR_STEP)
