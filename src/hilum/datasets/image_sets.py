"""Which images a study runs on: a named set, a folder, or the best that is at hand, and a sentence that says which.

Nothing falls back silently. ``auto`` takes the real set from the root, from the cache, or by download; where it can be
had nowhere, an embedded set takes its place and says so. A damaged real set is an error, never a reason to fall back.
"""

import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hilum.datasets.cifar import PYTHON_BATCHES, CifarPlace, find_cifar10, read_cifar10
from hilum.datasets.class_folders import ClassFoldersConfig, Naming, read_class_folders
from hilum.datasets.digits import read_digits
from hilum.datasets.downloading import CIFAR10_ARCHIVE, MNIST_FILES, PublishedFile, download
from hilum.datasets.labelled_images import ImageSet, LabelledImages
from hilum.datasets.mnist import find_mnist, read_mnist
from hilum.datasets.procedural_sets import ProceduralSetConfig, procedural_set
from hilum.errors import DataError, UsageError, nearest
from hilum.progress import Progress, Silent

__all__ = ["PURPOSES", "SETS", "ImageSet", "LabelledImages", "open_image_set"]

CACHE = Path("~/.cache/hilum/data")
"""Folder that keeps downloads and decoded images; it may be emptied at any time."""


MAX_SIZE = 1024
"""Pixels a side that may be asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for."""

    purpose: str
    """One of :data:`PURPOSES`."""
    size: int | None
    """Pixels a side, None for the set's own."""
    train: int | None
    """Training images, None for all."""
    test: int | None
    """Test images, None for all."""
    seed: int
    """Seed of subsets, of the digits' split and of procedural images."""
    cache: Path
    """Folder that keeps downloads and decoded images."""
    skip_bad: bool
    """Leave out photographs that can't be used."""
    progress: Progress
    """Where progress goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """What a study needs images for, and which sets serve."""

    real: str
    """The set that ``auto`` looks for."""
    embedded: str
    """The set that takes its place."""
    procedural: ProceduralSetConfig
    """Procedural images of the right size and number."""


TWO = (2, 3)
"""Classes of the two-class procedural set: star shapes that differ in surface alone."""

PURPOSES: dict[str, Purpose] = {
    "digits": Purpose(real="mnist", embedded="digits", procedural=ProceduralSetConfig(size=32)),
    "small-images": Purpose(real="cifar10", embedded="procedural", procedural=ProceduralSetConfig(size=32)),
    "photographs": Purpose(
        real="flowers", embedded="procedural", procedural=ProceduralSetConfig(size=128, train=1600, test=400)
    ),
    "two-class photographs": Purpose(
        real="ants_bees",
        embedded="procedural",
        procedural=ProceduralSetConfig(size=128, train=400, test=200, classes=TWO),
    ),
}
"""The purposes by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSet:
    """One named set."""

    title: str
    """Name for people."""
    find: Callable[[Path], Any] | None
    """Where it lies below a root, or None; None for a set that needs no files."""
    read: Callable[[Any, Request], ImageSet]
    """Reads it from what ``find`` returned."""
    place: str
    """Where it belongs below a root, for messages."""
    files: tuple[PublishedFile, ...] = ()
    """What can be downloaded."""
    unpack: Callable[[Path], None] | None = None
    """Turns the downloaded files into what ``find`` looks for."""
    keep: str = ""
    """Folder below the cache for the download."""
    origin: str = ""
    """Where a person can get it, for messages."""


def _find_folder(name: str, *others: str) -> Callable[[Path], Path | None]:
    def find(base: Path) -> Path | None:
        return next((base / n for n in (name, *others) if (base / n).is_dir()), None)

    return find


def _read_folder(naming: Naming) -> Callable[[Any, Request], ImageSet]:
    return lambda place, request: _class_folders(place, request, naming)


def _class_folders(place: Path, request: Request, naming: Naming | None = None) -> ImageSet:
    config = ClassFoldersConfig(skip_bad=request.skip_bad)
    config = replace(config, size=request.size or config.size)
    return read_class_folders(place, config, naming=naming, cache=request.cache, progress=request.progress)


def _read_cifar(place: CifarPlace, request: Request) -> ImageSet:
    return read_cifar10(place, cache=request.cache, progress=request.progress)


def _read_procedural(place: Any, request: Request) -> ImageSet:
    config = PURPOSES[request.purpose].procedural
    config = replace(
        config,
        size=request.size or config.size,
        train=request.train or config.train,
        test=request.test or config.test,
        seed=request.seed,
    )
    return procedural_set(config, cache=request.cache, progress=request.progress)


def _unpack_cifar(folder: Path) -> None:
    """Take the batches out of the archive; nothing else of it touches the disk."""
    archive = folder / CIFAR10_ARCHIVE.name
    with tarfile.open(archive) as tar:
        for name in PYTHON_BATCHES:
            member = tar.extractfile(f"cifar-10-batches-py/{name}")
            if member is None:
                raise DataError(f"{archive.name} has no batch {name}.")
            (folder / name).write_bytes(member.read())
    archive.unlink()


FLOWERS = Naming(
    name="flowers",
    title="Flowers",
    what="real photographs of flowers",
    source=(
        "Flower photographs, martinwestin/flower_classification on GitHub; licences of the single photographs aren't "
        "recorded."
    ),
)
ANTS_BEES = Naming(
    name="ants_bees",
    title="Ants and bees",
    what="real photographs of ants and bees",
    source=(
        "Hymenoptera set of the PyTorch transfer-learning tutorial (S. Chilamkurthy), a small part of ImageNet; "
        "licences of the single photographs aren't recorded."
    ),
)

SETS: dict[str, KnownSet] = {
    "mnist": KnownSet(
        title="MNIST",
        find=find_mnist,
        read=lambda place, request: read_mnist(place),
        place="mnist/MNIST/raw/*-ubyte.gz",
        files=MNIST_FILES,
        keep="mnist",
        origin=f"{MNIST_FILES[0].folders[0]} (four files)",
    ),
    "digits": KnownSet(
        title="scikit-learn's digits",
        find=None,
        read=lambda place, request: read_digits(request.seed),
        place="",
    ),
    "cifar10": KnownSet(
        title="CIFAR-10",
        find=find_cifar10,
        read=_read_cifar,
        place="cifar10/cifar-10-batches-py/ (or cifar-10-batches-bin/, or cifar10_jpeg.npz)",
        files=(CIFAR10_ARCHIVE,),
        unpack=_unpack_cifar,
        keep="cifar10/cifar-10-batches-py",
        origin=f"{CIFAR10_ARCHIVE.folders[0]}{CIFAR10_ARCHIVE.name}",
    ),
    "flowers": KnownSet(
        title="Flowers",
        find=_find_folder("flowers"),
        read=_read_folder(FLOWERS),
        place="flowers/<class>/",
        origin="https://github.com/martinwestin/flower_classification",
    ),
    "ants_bees": KnownSet(
        title="Ants and bees",
        find=_find_folder("ants_bees", "hymenoptera_data"),
        read=_read_folder(ANTS_BEES),
        place="ants_bees/{train,val}/<class>/",
        origin="https://download.pytorch.org/tutorial/hymenoptera_data.zip",
    ),
    "procedural": KnownSet(title="Procedural images", find=None, read=_read_procedural, place=""),
}
"""All sets by name."""


def open_image_set(
    purpose: str,
    name: str = "auto",
    *,
    root: Path | None,
    size: int | None = None,
    channels: int | None = None,
    train: int | None = None,
    test: int | None = None,
    seed: int = 0,
    download: bool = True,
    skip_bad: bool = False,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> ImageSet:
    """Open the images for a study.

    Args:
        purpose: what they are for, one of :data:`PURPOSES`.
        name: ``auto``, one of :data:`SETS`, or the path of a folder of class folders, or of MNIST or CIFAR-10.
        root: folder that holds sets, each at its ``place``; None for none.
        size: pixels a side; None for the set's own. Sets of files at a fixed size are resized, photographs decoded so.
        channels: 1 grey or 3; None for the set's own.
        train: training images, stratified by class; None for all.
        test: test images, likewise.
        seed: seed of subsets, of the digits' split and of procedural images.
        download: whether published sets may be fetched.
        skip_bad: leave out photographs that can't be used, instead of refusing the set.
        cache: folder that keeps downloads and decoded images; None for :data:`CACHE`.
        progress: where progress goes; None for silence.

    Raises:
        UsageError: an unknown purpose or name, or an impossible size or number.
        DataError: the set is not there or damaged; with ``auto``, damaged only.
    """
    if purpose not in PURPOSES:
        raise UsageError(f"Images for {purpose!r} are not known. {nearest(purpose, list(PURPOSES))}")
    _check(size, train, test)
    request = Request(
        purpose=purpose,
        size=size,
        train=train,
        test=test,
        seed=seed,
        cache=(cache or CACHE).expanduser(),
        skip_bad=skip_bad,
        progress=progress or Silent(),
    )
    found = _open(name, request, root.expanduser() if root else None, may_download=download)
    found = found.subset(train, test, seed)
    found = found if size is None else found.resized(size)
    return found if channels is None else found.with_channels(channels)


def _check(size: int | None, train: int | None, test: int | None) -> None:
    if size is not None and not 8 <= size <= MAX_SIZE:
        raise UsageError(f"size is {size} px, but must be 8 … {MAX_SIZE}.")
    for name, count in (("train", train), ("test", test)):
        if count is not None and count < 1:
            raise UsageError(f"{name} is {count} images, but must be 1 or more. Leave it out for all.")


def _open(name: str, request: Request, root: Path | None, *, may_download: bool) -> ImageSet:
    if name == "auto":
        return _open_best(request, root, may_download)
    if name in SETS:
        known = SETS[name]
        if known.find is None:
            return known.read(None, request)
        found, reasons = _locate(known, request, root, may_download)
        if found is None:
            raise DataError(f"{known.title} is not there: {'; '.join(reasons)}. {_mend(known, root)}")
        return known.read(found, request)
    path = _as_path(name)
    if path is not None:
        return _open_path(path, request)
    raise UsageError(
        f"Image set {name!r} is not known, and there is no such folder. {nearest(name, ['auto', *SETS])} A folder of "
        "class folders is named by its path."
    )


def _as_path(name: str) -> Path | None:
    """The folder that a name means; None where it can only be a misspelt name."""
    try:
        path = Path(name).expanduser()
    except RuntimeError as error:
        raise UsageError(
            f"There is no home folder for {name!r} ({error}). Name the folder by its whole path."
        ) from error
    return path if name and (path.exists() or name != path.name) else None


def _open_path(path: Path, request: Request) -> ImageSet:
    """A folder of class folders, or one in which MNIST or CIFAR-10 lies as published."""
    for known in (SETS["mnist"], SETS["cifar10"]):
        place = known.find(path.parent) if known.find and path.is_dir() else None
        where = place.path if isinstance(place, CifarPlace) else place
        if where is not None and where.is_relative_to(path):
            return known.read(place, request)
    return _class_folders(path, request)


def _open_best(request: Request, root: Path | None, may_download: bool) -> ImageSet:
    purpose = PURPOSES[request.purpose]
    known = SETS[purpose.real]
    found, reasons = _locate(known, request, root, may_download)
    if found is not None:
        return known.read(found, request)
    embedded = SETS[purpose.embedded].read(None, request)
    why = f"{known.title} was not to be had: {'; '.join(reasons)}. {_mend(known, root)}"
    # A report may travel: it names no folder of this machine.
    for folder, words in ((root, "the data folder"), (request.cache, "the cache")):
        why = why.replace(str(folder), words) if folder is not None else why
    return replace(embedded, description=f"{embedded.description} {why}")


def _locate(known: KnownSet, request: Request, root: Path | None, may_download: bool) -> tuple[Any, list[str]]:
    """Where the set lies (None for nowhere), and why not elsewhere."""
    find = known.find
    if find is None:
        return None, []
    reasons = []
    for what, base in (("root", root), ("cache", request.cache)):
        if base is None:
            continue
        if what == "root" and not base.is_dir():
            raise DataError(f"Data folder {base} does not exist. Name the folder that holds {known.place}.")
        place = find(base)
        if place is not None:
            return place, []
        reasons.append(f"not in {base}")
    if not known.files:
        reasons.append("no download is published with a hash")
    elif not may_download:
        reasons.append("downloading is switched off")
    else:
        try:
            folder = request.cache / known.keep
            download(known.files, folder, what=known.title, progress=request.progress, unpack=known.unpack)
            return find(request.cache), []
        except DataError as error:
            reasons.append(str(error).rstrip("."))
    return None, reasons


def _mend(known: KnownSet, root: Path | None) -> str:
    where = f"{root}/{known.place}" if root else f"{known.place} below a data folder, and name that folder"
    return f"To use it, get it from {known.origin} and put it at {where}."
