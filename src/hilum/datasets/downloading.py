"""Published data sets: where they are, by which MD5 they are known, and fetching them.

Addresses and MD5 are transcribed from torchvision 0.24 (``torchvision/datasets/mnist.py`` and ``cifar.py``).
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from hilum.errors import DataError
from hilum.files import replacing_directory
from hilum.progress import Progress

CHUNK = 1 << 18
CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFile:
    """One file that somebody publishes."""

    name: str
    """Its name."""
    md5: str
    """MD5 of the file as published, 32 hex digits: proves that it arrived whole, not who made it."""
    folders: tuple[str, ...]
    """Addresses of folders that have it, tried in this order; each ends with a slash."""


MNIST_FOLDERS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")

MNIST_FILES = (
    PublishedFile(name="train-images-idx3-ubyte.gz", md5="f68b3c2dcbeaaa9fbdd348bbdeb94873", folders=MNIST_FOLDERS),
    PublishedFile(name="train-labels-idx1-ubyte.gz", md5="d53e105ee54ea40749a09fcbcd1e9432", folders=MNIST_FOLDERS),
    PublishedFile(name="t10k-images-idx3-ubyte.gz", md5="9fb629c4189551a2d022fa330f9573f3", folders=MNIST_FOLDERS),
    PublishedFile(name="t10k-labels-idx1-ubyte.gz", md5="ec29112dd5afa0611ce80d1b7f02629c", folders=MNIST_FOLDERS),
)

CIFAR10_ARCHIVE = PublishedFile(
    name="cifar-10-python.tar.gz",
    md5="c58f30108f718f92721af3b95e74349a",
    folders=("https://www.cs.toronto.edu/~kriz/",),
)


def download(
    files: tuple[PublishedFile, ...],
    folder: Path,
    *,
    what: str,
    progress: Progress,
    unpack: Callable[[Path], None] | None = None,
) -> None:
    """Fetch files into a folder: all of them, or none and no folder.

    Args:
        files: what to fetch.
        folder: where to; replaced as a whole.
        what: name of the set, for the bar.
        progress: where progress goes.
        unpack: called with the temporary folder once all files are there, to turn them into what is kept.

    Raises:
        DataError: a file can't be had, or isn't the published one, or the folder can't be written.
    """
    try:
        with replacing_directory(folder) as temporary:
            for file in files:
                _fetch_any(file, temporary / file.name, what, progress)
            if unpack is not None:
                unpack(temporary)
    except OSError as error:
        raise DataError(
            f"{what} can't be kept in {folder} ({error.strerror or error}). Name another folder."
        ) from error


def _fetch_any(file: PublishedFile, target: Path, what: str, progress: Progress) -> None:
    reasons = []
    for folder in file.folders:
        try:
            digest = _fetch(folder + file.name, target, f"{what}: {file.name}", progress)
        except httpx.HTTPError as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            reasons.append(f"{folder}{file.name}: {reason}")
            continue
        if digest == file.md5:
            return
        reasons.append(f"{folder}{file.name}: what came has MD5 {digest}, the published file has {file.md5}")
    raise DataError(f"{file.name} can't be downloaded ({'; '.join(reasons)}).")


def _fetch(url: str, target: Path, what: str, progress: Progress) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    # The MD5 is that of the file as it lies on the server, so no compression on the way, and the raw bytes are taken.
    plain = {"Accept-Encoding": "identity"}
    with (
        httpx.stream("GET", url, headers=plain, follow_redirects=True, timeout=timeout) as answer,
        open(target, "wb") as out,
    ):
        answer.raise_for_status()
        total = int(answer.headers.get("content-length", 0))
        with progress.bar(what, total / 1e6 or None) as bar:
            for chunk in answer.iter_raw(CHUNK):
                digest.update(chunk)
                out.write(chunk)
                bar.advance(len(chunk) / 1e6, "MB")
    return digest.hexdigest()


def md5_of(content: bytes | bytearray | memoryview) -> str:
    """MD5 of bytes, 32 hex digits, to recognise published files."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
