"""Photographs in class folders: any folder with one folder for each class, in one part or in train/ and val/.

A folder in one part is split by the content of its files: an image stays on its side when others are added, and copies
of one file are never on both sides.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hilum.arrays import Array
from hilum.datasets.class_listing import Listing, list_classes, shown, some
from hilum.datasets.image_cache import Allocate, kept_images
from hilum.datasets.labelled_images import ImageSet, LabelledImages
from hilum.datasets.photo_decoding import decode_photo
from hilum.errors import ConfigError, DataError
from hilum.progress import Progress, Silent, track
from hilum.provenance import combined_hash, sha256_file

DECODING = 1
"""Raised when the way in which photographs are decoded changes, so that kept ones are decoded anew."""

MIN_TRAIN, MIN_TEST = 4, 1
"""Images that each class needs on each side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFoldersConfig:
    """How class folders are read."""

    size: int = 128
    """Pixels a side: the short side is brought to it, and the middle is cut out."""
    test_share: float = 0.2
    """Share of the files for testing where there is one part only, within 0 … 1; each file's hash decides."""
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


def read_class_folders(
    folder: Path,
    config: ClassFoldersConfig = ClassFoldersConfig(),
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> ImageSet:
    """Read a folder of class folders.

    Args:
        folder: holds one folder for each class, or train/ and val/ (or test/, valid/) that do.
        config: how to read it.
        cache: folder that keeps the decoded pixels.
        progress: where progress goes.

    Returns:
        colour images uint8 [n, 3, size, size], by class and path, classes in the order of their names.

    Raises:
        DataError: see :func:`hilum.datasets.class_listing.list_classes`; or images can't be used (all of them are
            named), or a class has too few.
    """
    progress = progress or Silent()
    listing = list_classes(folder)
    classes = tuple(next(iter(listing.parts.values())))
    notes = list(listing.notes)
    photos = _sorted_out(_hashed(listing, classes, progress), classes, notes)
    if "" in listing.parts:
        photos = _split(photos, len(classes), config.test_share)
    _check_counts(folder, photos, classes)
    photos = [photo for part in ("train", "test") for photo in photos if photo.part == part]
    images, facts, note = _decoded(folder, photos, config, cache, progress)
    if facts["bad"]:
        left_out = [shown(photos[row].path.relative_to(folder)) for row, _ in facts["bad"]]
        notes.append(f"Left out, since they can't be used: {len(left_out)} images ({some(left_out)}).")
        photos = [photo for row, photo in enumerate(photos) if row not in {row for row, _ in facts["bad"]}]
        _check_counts(folder, photos, classes)
    notes += _remarks(listing, facts["grey"], len(photos))
    by_hash = f", split {1 - config.test_share:.0%} / {config.test_share:.0%} by file content"
    return _image_set(
        folder, classes, photos, images, (*notes, *((note,) if note else ())), by_hash if "" in listing.parts else ""
    )


def _image_set(
    folder: Path, classes: tuple[str, ...], photos: Sequence[Photo], images: Array, notes: tuple[str, ...], how: str
) -> ImageSet:
    labels = np.array([photo.label for photo in photos], dtype=np.int64)
    count = sum(photo.part == "train" for photo in photos)
    name, size = shown(folder.resolve().name), images.shape[2]
    return ImageSet(
        name=name,
        title=name,
        kind="real",
        description=(
            f"{name}: {count:,} + {len(photos) - count:,} images from class folders, cut to {size} × {size} px, in "
            f"{len(classes)} classes{how}."
        ),
        classes=classes,
        train=LabelledImages(images=images[:count], labels=labels[:count]),
        test=LabelledImages(images=images[count : len(photos)], labels=labels[count:]),
        source=f"Folder {shown(folder)}; origin and licence aren't recorded.",
        notes=notes,
    )


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1))


def _hashed(listing: Listing, classes: Sequence[str], progress: Progress) -> list[Photo]:
    places = [
        (path, label, part)
        for part, found in listing.parts.items()
        for label, name in enumerate(classes)
        for path in found[name]
    ]
    with _threads() as threads:
        digests = list(track(threads.map(_digest, [p for p, _, _ in places]), progress, "reading files", len(places)))
    return [
        Photo(path=path, label=label, part=part, sha256=digest)
        for (path, label, part), digest in zip(places, digests, strict=True)
    ]


def _digest(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise DataError(f"{shown(path)} can't be read ({error.strerror}). Make it readable, or delete it.") from error


def _sorted_out(photos: Sequence[Photo], classes: Sequence[str], notes: list[str]) -> list[Photo]:
    """One file of each content. What lies in two classes is left out whole; what is tested isn't trained on."""
    labels: dict[str, set[int]] = {}
    tested = {photo.sha256 for photo in photos if photo.part == "test"}
    for photo in photos:
        labels.setdefault(photo.sha256, set()).add(photo.label)
    kept, seen, torn, leaked, copies = list[Photo](), set[tuple[str, str]](), 0, 0, 0
    for photo in photos:
        if len(labels[photo.sha256]) > 1:
            torn += 1
        elif photo.part == "train" and photo.sha256 in tested:
            leaked += 1
        elif (photo.part, photo.sha256) in seen:
            copies += 1
        else:
            seen.add((photo.part, photo.sha256))
            kept.append(photo)
    if torn:
        notes.append(f"Left out: {torn} files whose bytes lie in two classes, so that their class is unknown.")
    if leaked:
        notes.append(f"Left out of training: {leaked} files that are byte for byte in the test part as well.")
    if copies:
        notes.append(f"Left out: {copies} byte-identical copies of files of the same class and part.")
    return kept


def _split(photos: Sequence[Photo], classes: int, test_share: float) -> list[Photo]:
    """Give every file its side by its hash; a small class still gets both sides."""
    parted = []
    for label in range(classes):
        members = [photo for photo in photos if photo.label == label]
        by_hash = sorted(photo.sha256 for photo in members)
        below = sum(int(digest[:16], 16) < test_share * 2**64 for digest in by_hash)
        tested = set(by_hash[: max(MIN_TEST, min(below, len(by_hash) - MIN_TRAIN))])
        parted += [replace(photo, part="test" if photo.sha256 in tested else "train") for photo in members]
    return parted


def _check_counts(folder: Path, photos: Sequence[Photo], classes: Sequence[str]) -> None:
    short = []
    for label, name in enumerate(classes):
        train = sum(photo.label == label and photo.part == "train" for photo in photos)
        test = sum(photo.label == label and photo.part == "test" for photo in photos)
        if train < MIN_TRAIN or test < MIN_TEST:
            short.append(f"{name} ({train} to train on, {test} to test on)")
    if short:
        raise DataError(
            f"{shown(folder)} holds {len(photos)} usable images, too few of {some(short)}: each class needs "
            f"{MIN_TRAIN} different images to train on and {MIN_TEST} to test on. Add images, or delete the class."
        )


def _decoded(
    folder: Path, photos: Sequence[Photo], config: ClassFoldersConfig, cache: Path | None, progress: Progress
) -> tuple[Array, dict[str, Any], str]:
    """Pixels of all photos that can be used, in their order; facts: bad [[row, reason]], grey (how many)."""

    def make(allocate: Allocate) -> dict[str, Any]:
        images = allocate((len(photos), 3, config.size, config.size))
        bad, grey, row = [], 0, 0
        for place, answer in enumerate(_decode_all(photos, config.size, progress)):
            if isinstance(answer, DataError):
                bad.append([place, str(answer)])
                continue
            images[row], was_grey = answer
            grey, row = grey + was_grey, row + 1
        if not config.skip_bad:
            _refuse(folder, photos, bad)
        images[row:] = 0
        return {"bad": bad, "grey": grey}

    from PIL import __version__

    parts = [f"{DECODING} {__version__} {config.size}", *(f"{p.part} {p.label} {p.sha256}" for p in photos)]
    images, facts, note = kept_images(cache, f"folders-{combined_hash(parts)[:32]}", make)
    if not config.skip_bad:
        _refuse(folder, photos, facts["bad"])
    return images, facts, note


def _decode_all(photos: Sequence[Photo], size: int, progress: Progress) -> Iterator[tuple[Array, bool] | DataError]:
    def decode(photo: Photo) -> tuple[Array, bool] | DataError:
        try:
            return decode_photo(photo.path, size)
        except DataError as error:
            return error

    with warnings.catch_warnings(), _threads() as threads:
        # Pillow warns of big pictures and odd metadata; size is judged by our own limit.
        warnings.simplefilter("ignore")
        yield from track(threads.map(decode, photos), progress, "decoding photographs", len(photos))


def _refuse(folder: Path, photos: Sequence[Photo], bad: Sequence[tuple[int, str]] | list[list[Any]]) -> None:
    if bad:
        named = [f"{shown(photos[row].path.relative_to(folder))} ({reason})" for row, reason in bad]
        raise DataError(
            f"{shown(folder)}: {len(bad)} of {len(photos)} images can't be used: {some(named)}. Mend or delete them, "
            "or leave them out with skip_bad."
        )


def _remarks(listing: Listing, grey: int, count: int) -> list[str]:
    remarks = []
    if grey:
        remarks.append(f"{grey} of {count} images are grey; their value was repeated in three channels.")
    if listing.ignored:
        remarks.append(
            f"Left aside, since they aren't images: {len(listing.ignored)} ({some(sorted(set(listing.ignored)))})."
        )
    return remarks
