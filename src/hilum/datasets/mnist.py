"""MNIST from its idx files, gzipped or plain, each checked to the last byte.

The idx format: a big-endian header (two zero bytes, a type code, the number of dimensions, each dimension as 32 bits),
then the values; see LeCun, Cortes and Burges, *The MNIST database of handwritten digits*.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from hilum.arrays import Array
from hilum.datasets.downloading import MNIST_FILES, md5_of
from hilum.datasets.labelled_images import ImageSet, LabelledImages
from hilum.errors import DataError

FOLDERS = ("mnist/MNIST/raw", "mnist/raw", "mnist", "MNIST/raw")
"""Where below a root the files may lie."""

PARTS = {"train": "train", "test": "t10k"}
"""Beginning of the file names of each part."""

UNPACKED_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""MD5 of the published files, unpacked, as many public loaders record them."""

CLASS_COUNTS = {
    "train": (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    "test": (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
}
"""Images of each digit in the published files."""

UNSIGNED_BYTE = 8
MAX_BYTES = 1 << 30

SOURCE = (
    "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition, Proceedings "
    "of the IEEE 86(11), 1998, doi:10.1109/5.726791; from NIST Special Databases 1 and 3."
)


def find_mnist(base: Path) -> Path | None:
    """The folder below a root that holds MNIST or a piece of it; None where there is none."""
    for name in FOLDERS:
        if any(_variants(base / name, stem) for stem in UNPACKED_MD5):
            return base / name
    return None


def read_mnist(folder: Path) -> ImageSet:
    """MNIST from a folder of its four files.

    Raises:
        DataError: files are missing or damaged; all of them are named.
    """
    contents: dict[str, Array] = {}
    problems, published = [], True
    for stem, md5 in UNPACKED_MD5.items():
        try:
            contents[stem], found = _read_file(folder, stem)
            published &= found == md5
        except DataError as error:
            problems.append(str(error))
    if not problems:
        problems = _disagreements(folder, contents)
    if problems:
        raise DataError("\n".join(problems))
    train, test = (
        LabelledImages(
            images=contents[f"{start}-images-idx3-ubyte"][:, None],
            labels=contents[f"{start}-labels-idx1-ubyte"].astype(np.int64),
        )
        for start in PARTS.values()
    )
    return ImageSet(
        name="mnist",
        title="MNIST",
        kind="real",
        description=(
            f"MNIST: {len(train):,} + {len(test):,} real grey digits of {train.size} × {train.size} px (LeCun et al. "
            f"1998), {'standard split' if published else 'split as in the files at hand'}."
        ),
        classes=tuple(str(digit) for digit in range(10)),
        train=train,
        test=test,
        source=SOURCE,
        notes=(_identity(published, {"train": train, "test": test}),),
    )


def _identity(published: bool, parts: dict[str, LabelledImages]) -> str:
    if published:
        return "All four files are the published ones (MD5)."
    same = all(tuple(part.counts(10).tolist()) == CLASS_COUNTS[name] for name, part in parts.items())
    counts = "each digit is as frequent in each part as in the published files" if same else "so are their class counts"
    return f"The files are not the published ones byte for byte (MD5): their order or content is another; {counts}."


def _variants(folder: Path, stem: str) -> list[Path]:
    """Files that may be this one: gzipped first, since a gzip proves itself."""
    dotted = stem.replace("-idx", ".idx")
    names = (f"{stem}.gz", f"{dotted}.gz", stem, dotted)
    return [folder / name for name in names if (folder / name).is_file()]


def _mend(stem: str) -> str:
    file = next(file for file in MNIST_FILES if file.name == f"{stem}.gz")
    return f"Delete it, and fetch {file.folders[0]}{file.name} (MD5 {file.md5}) anew."


def _read_file(folder: Path, stem: str) -> tuple[Array, str]:
    """One file's values, and the MD5 of its unpacked bytes."""
    found = _variants(folder, stem)
    if not found:
        mend = _mend(stem).removeprefix("Delete it, and f").replace(" anew.", ".")
        raise DataError(f"{folder} has no {stem}.gz, and MNIST is four files. F{mend}")
    file = found[0]
    try:
        with open(file, "rb") as plain, gzip.GzipFile(fileobj=plain) as unpacked:
            return _read_idx(cast(BinaryIO, unpacked) if file.suffix == ".gz" else plain, file, stem)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{file} is damaged or was downloaded half ({file.stat().st_size:,} bytes; {error}). {_mend(stem)}"
        ) from error
    except OSError as error:
        raise DataError(f"{file} can't be read ({error.strerror}). Make it readable.") from error


def _read_idx(stream: BinaryIO, file: Path, stem: str) -> tuple[Array, str]:
    dimensions = 3 if "idx3" in stem else 1
    header = stream.read(4 + 4 * dimensions)
    if header[:4] != bytes((0, 0, UNSIGNED_BYTE, dimensions)) or len(header) < 4 + 4 * dimensions:
        raise DataError(f"{file} doesn't begin as an idx{dimensions}-ubyte file ({header[:4].hex(' ')}). {_mend(stem)}")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    size = math.prod(shape)
    if size == 0 or size > MAX_BYTES or (dimensions == 3 and shape[1] != shape[2]):
        raise DataError(f"{file} announces {' × '.join(map(str, shape))} values, which MNIST can't be. {_mend(stem)}")
    content = bytearray(header)
    content += stream.read(size)
    # Reading past the end makes gzip check its length and CRC.
    surplus = stream.read(1)
    there = len(content) - len(header)
    if there != size or surplus:
        more = "more" if surplus else f"{there:,}"
        raise DataError(f"{file} announces {size:,} bytes of values, but holds {more}. {_mend(stem)}")
    return np.frombuffer(content, dtype=np.uint8, offset=len(header)).reshape(shape), md5_of(content)


def _disagreements(folder: Path, contents: dict[str, Array]) -> list[str]:
    problems = []
    for start in PARTS.values():
        images, labels = contents[f"{start}-images-idx3-ubyte"], contents[f"{start}-labels-idx1-ubyte"]
        if len(images) != len(labels):
            problems.append(
                f"{folder} has {len(images):,} images but {len(labels):,} labels in {start}-*. They are of different "
                f"sets; fetch both anew from {MNIST_FILES[0].folders[0]}."
            )
        elif labels.max() > 9:
            problems.append(
                f"Labels in {folder}/{start}-labels-idx1-ubyte reach {labels.max()}, but digits end at 9. "
                f"{_mend(f'{start}-labels-idx1-ubyte')}"
            )
    return problems
