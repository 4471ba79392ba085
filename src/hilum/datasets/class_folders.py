"""Photographs in class folders: any folder with one folder for each class, in one part or in train/ and val/.

A folder in one part is split by the content of its files: an image stays on its side when others are added, and copies
of one file are never on both sides.
"""

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hilum.arrays import Array
from hilum.datasets.class_listing import Listing, list_classes, shown, some
from hilum.datasets.image_cache import Allocate, kept_images
from hilum.datasets.labelled_images import ImageSet, LabelledImages
from hilum.datasets.photo_decoding import Decoded, decode_photo
from hilum.errors import ConfigError, DataError
from hilum.progress import Progress, Silent, track
from hilum.provenance import combined_hash, sha256_file

DECODING = 2
"""Raised when the way in which photographs are decoded changes, so that kept ones are decoded anew."""

MIN_TRAIN, MIN_TEST = 4, 1
"""Images that each class needs on each side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFoldersConfig:
    """How class folders are read."""

    size: int = 128
    """Pixels a side: the short side is brought to it, and the middle is cut out."""
    test_share: float = 0.2
    """Share of the files for testing where there is one part only, between 0 and 1; each file's hash decides."""
    skip_bad: bool = False
    """Leave out images that can't be used and say how many, instead of refusing the set."""

    def __post_init__(self) -> None:
        problems = []
        if self.size < 8:
            problems.append(f"size is {self.size}, but an image needs 8 pixels a side or more.")
        if not 0 < self.test_share < 1:
            problems.append(f"test_share is {self.test_share}, but must lie between 0 and 1.")
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """What a set of photographs is called."""

    name: str
    """Short name."""
    title: str
    """Name for people."""
    what: str
    """What the images are, such as "real photographs of flowers"."""
    source: str
    """Citation and licence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    """One file of the set."""

    path: Path
    """Where it is."""
    label: int
    """Number of its class."""
    part: str
    """"train", "test", or "" while undecided."""
    sha256: str
    """Of its bytes."""


Bad = list[tuple[Path, str]]
"""Files that can't be used, each with a reason."""


def read_class_folders(
    folder: Path,
    config: ClassFoldersConfig = ClassFoldersConfig(),
    *,
    naming: Naming | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> ImageSet:
    """Read a folder of class folders.

    Args:
        folder: holds one folder for each class, or train/ and val/ (or test/, valid/) that do.
        config: how to read it.
        naming: what to call it; None for the folder's name.
        cache: folder that keeps the decoded pixels.
        progress: where progress goes.

    Returns:
        colour images uint8 [n, 3, size, size] by class and path; the classes are in the order of their names.

    Raises:
        DataError: see :func:`hilum.datasets.class_listing.list_classes`; or images can't be used (all of them are
            named), or a class has too few.
    """
    progress = progress or Silent()
    listing = list_classes(folder)
    classes = tuple(next(iter(listing.parts.values())))
    notes = list(listing.notes)
    photos, unread = _hashed(listing, classes, progress)
    photos = _sorted_out(photos, notes)
    if "" in listing.parts:
        photos = _split(photos, config.test_share)
        notes.append(f"Split {1 - config.test_share:.0%} / {config.test_share:.0%} by the SHA-256 of each file.")
    photos = [photo for part in ("train", "test") for photo in photos if photo.part == part]
    if not unread:
        _check_counts(folder, photos, classes)
    images, photos, bad, remarks = _decoded(folder, photos, unread, config, cache, progress)
    _check_counts(folder, photos, classes)
    if bad:
        left_out = some([shown(path.relative_to(folder)) for path, _ in bad])
        notes.append(f"Left out, since they can't be used: {len(bad)} images ({left_out}).")
    if listing.ignored:
        ignored = some(sorted(set(listing.ignored)))
        notes.append(f"Left aside, since they aren't images: {len(listing.ignored)} ({ignored}).")
    notes += remarks
    return _image_set(folder, naming, classes, photos, images, tuple(notes))


def _image_set(
    folder: Path,
    naming: Naming | None,
    classes: tuple[str, ...],
    photos: Sequence[Photo],
    images: Array,
    notes: tuple[str, ...],
) -> ImageSet:
    labels = np.array([photo.label for photo in photos], dtype=np.int64)
    count, size = sum(photo.part == "train" for photo in photos), images.shape[2]
    if naming is None:
        name = shown(folder.resolve().name)
        source = f"Folder {shown(folder)}; origin and licence aren't recorded."
        naming = Naming(name=name, title=name, what="images from class folders", source=source)
    return ImageSet(
        name=naming.name,
        title=naming.title,
        kind="real",
        description=(
            f"{naming.title}: {count:,} + {len(photos) - count:,} {naming.what} in {len(classes)} classes, cut to "
            f"{size} × {size} px."
        ),
        classes=classes,
        train=LabelledImages(images=images[:count], labels=labels[:count]),
        test=LabelledImages(images=images[count : len(photos)], labels=labels[count:]),
        source=naming.source,
        notes=notes,
    )


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1))


def _hashed(listing: Listing, classes: Sequence[str], progress: Progress) -> tuple[list[Photo], Bad]:
    """All files with their hashes, and those that can't be read."""
    places = [
        (path, label, part)
        for part, found in listing.parts.items()
        for label, name in enumerate(classes)
        for path in found[name]
    ]
    with _threads() as threads:
        answers = list(track(threads.map(_digest, [p for p, _, _ in places]), progress, "reading files", len(places)))
    photos, bad = list[Photo](), Bad()
    for (path, label, part), answer in zip(places, answers, strict=True):
        if isinstance(answer, DataError):
            bad.append((path, str(answer)))
        else:
            photos.append(Photo(path=path, label=label, part=part, sha256=answer))
    return photos, bad


def _digest(path: Path) -> str | DataError:
    try:
        return sha256_file(path) if path.stat().st_size else DataError("it is empty (0 bytes)")
    except OSError as error:
        return DataError(f"it can't be read: {error.strerror}")


def _sorted_out(photos: Sequence[Photo], notes: list[str]) -> list[Photo]:
    """One file of each content. What lies in two classes is left out whole; what is tested isn't trained on."""
    labels: dict[str, set[int]] = {}
    tested = {photo.sha256 for photo in photos if photo.part == "test"}
    for photo in photos:
        labels.setdefault(photo.sha256, set()).add(photo.label)
    kept, seen, torn, leaked, copies = list[Photo](), set[str](), 0, 0, 0
    for photo in photos:
        if len(labels[photo.sha256]) > 1:
            torn += 1
        elif photo.part == "train" and photo.sha256 in tested:
            leaked += 1
        elif photo.sha256 in seen:
            copies += 1
        else:
            seen.add(photo.sha256)
            kept.append(photo)
    if torn:
        notes.append(f"Left out: {torn} files whose bytes lie in two classes, so that their class is unknown.")
    if leaked:
        notes.append(f"Left out of training: {leaked} files that are byte for byte in the test part as well.")
    if copies:
        notes.append(f"Left out: {copies} byte-identical copies of files of the same class and part.")
    return kept


def _split(photos: Sequence[Photo], test_share: float) -> list[Photo]:
    """Give every file its side by its hash; a small class still gets both sides."""
    by_class: dict[int, list[str]] = {}
    for photo in photos:
        by_class.setdefault(photo.label, []).append(photo.sha256)
    tested = set[str]()
    for digests in by_class.values():
        digests.sort()
        below = sum(int(digest[:16], 16) < test_share * 2**64 for digest in digests)
        tested.update(digests[: max(MIN_TEST, min(below, len(digests) - MIN_TRAIN))])
    return [replace(photo, part="test" if photo.sha256 in tested else "train") for photo in photos]


def _check_counts(folder: Path, photos: Sequence[Photo], classes: Sequence[str]) -> None:
    counts = Counter((photo.label, photo.part) for photo in photos)
    short = [
        f"{name} ({counts[label, 'train']} to train on, {counts[label, 'test']} to test on)"
        for label, name in enumerate(classes)
        if counts[label, "train"] < MIN_TRAIN or counts[label, "test"] < MIN_TEST
    ]
    if short:
        raise DataError(
            f"{shown(folder)} holds {len(photos)} different images that can be used, too few of {some(short)}: each "
            f"class needs {MIN_TRAIN} to train on and {MIN_TEST} to test on. Add images, or delete the class."
        )


def _decoded(
    folder: Path, photos: list[Photo], unread: Bad, config: ClassFoldersConfig, cache: Path | None, progress: Progress
) -> tuple[Array, list[Photo], Bad, list[str]]:
    """Pixels and photos of all that can be used, what can't be, and notes."""

    def judged(rows: list[list[Any]]) -> Bad:
        bad = [*unread, *((photos[row].path, reason) for row, reason in rows)]
        if bad and not config.skip_bad:
            texts = [f"{shown(path.relative_to(folder))} ({reason})" for path, reason in bad]
            raise DataError(
                f"{shown(folder)}: {len(bad)} images can't be used: {some(texts)}. Mend or delete them, or leave "
                "them out with skip_bad."
            )
        return bad

    def make(allocate: Allocate) -> dict[str, Any]:
        images = allocate((len(photos), 3, config.size, config.size))
        rows, grey, enlarged, good = list[list[Any]](), 0, 0, 0
        for row, answer in enumerate(_decode_all(photos, config.size, progress)):
            if isinstance(answer, DataError):
                rows.append([row, str(answer)])
            else:
                images[good] = answer.pixels
                grey, enlarged, good = grey + answer.grey, enlarged + answer.enlarged, good + 1
        judged(rows)
        images[good:] = 0
        return {"bad": rows, "grey": grey, "enlarged": enlarged}

    from PIL import __version__

    parts = [f"{DECODING} {__version__} {config.size}", *(f"{p.part} {p.label} {p.sha256}" for p in photos)]
    images, facts, note = kept_images(cache, f"folders-{combined_hash(parts)[:32]}", make)
    bad = judged(facts["bad"])
    unusable = {row for row, _ in facts["bad"]}
    usable = [photo for row, photo in enumerate(photos) if row not in unusable]
    return images, usable, bad, [*_remarks(facts, len(usable), config.size), *([note] if note else [])]


def _decode_all(photos: Sequence[Photo], size: int, progress: Progress) -> Iterator[Decoded | DataError]:
    def decode(photo: Photo) -> Decoded | DataError:
        try:
            return decode_photo(photo.path, size)
        except DataError as error:
            return error

    with warnings.catch_warnings(), _threads() as threads:
        # Pillow warns of big pictures and odd metadata; size is judged by our own limit.
        warnings.simplefilter("ignore")
        yield from track(threads.map(decode, photos), progress, "decoding photographs", len(photos))


def _remarks(facts: Mapping[str, Any], count: int, size: int) -> list[str]:
    remarks = []
    if facts["grey"]:
        remarks.append(f"{facts['grey']:,} of {count:,} images are grey; their value was repeated in three channels.")
    if facts["enlarged"]:
        remarks.append(
            f"{facts['enlarged']:,} of {count:,} images have a short side below {size} px and were enlarged."
        )
    return remarks
