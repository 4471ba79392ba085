"""Class folders on disk: which parts, which classes, which files, and what was left aside."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hilum.datasets.photo_decoding import EXTENSIONS
from hilum.errors import DataError

TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "val", "valid", "validation")
"""Names of folders that hold a part, in any case; of the test names the first that is there is taken."""

SHOWN = 20
"""Names that a message lists at most."""


@dataclass(slots=True, kw_only=True)
class Listing:
    """What a folder holds. Files are sorted by their path within the class folder."""

    parts: dict[str, dict[str, list[Path]]]
    """``{"train": {class: files}, "test": …}``, or ``{"": …}`` when there is one part only."""
    ignored: list[str] = field(default_factory=list)
    """Names of files and folders that were left aside."""
    notes: list[str] = field(default_factory=list)
    """How the layout was understood."""


def shown(path: Path | str) -> str:
    """A path as text that can always be printed, even when its bytes are no UTF-8."""
    return os.fsencode(path).decode(errors="backslashreplace")


def some(names: list[str]) -> str:
    """Names for a message: all, or the first and how many more."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def list_classes(folder: Path) -> Listing:
    """List a folder of class folders, which may be divided into train/ and val/ (or test/, valid/).

    Links to folders are followed, each folder once. Hidden files and what has no image's extension is left aside.

    Raises:
        DataError: the folder is missing, a file, or unreadable; it has fewer than two classes, an empty class, or
            other classes in one part than in the other.
    """
    if not folder.exists():
        raise DataError(f"Folder {shown(folder)} does not exist. Name a folder that holds one folder for each class.")
    if not folder.is_dir():
        raise DataError(f"{shown(folder)} is a file, but an image set is a folder of class folders. Name the folder.")
    listing = Listing(parts={})
    folders, loose = _children(folder, listing)
    listing.ignored += loose
    for part, place in _parts(folder, folders, listing).items():
        listing.parts[part] = _classes(place, listing)
    if len(listing.parts) == 2:
        _check_same(folder, listing.parts)
    return listing


def _parts(folder: Path, folders: Mapping[str, Path], listing: Listing) -> dict[str, Path]:
    lower = {name.casefold(): path for name, path in folders.items()}
    train = next((lower[name] for name in TRAIN_NAMES if name in lower), None)
    tests = [lower[name] for name in TEST_NAMES if name in lower]
    if train is not None and tests:
        used = {train.name, tests[0].name}
        rest = sorted(name for name in folders if name not in used)
        if rest:
            listing.notes.append(f"Trained on {train.name}/, tested on {tests[0].name}/; left aside: {some(rest)}.")
        return {"train": train, "test": tests[0]}
    if train is not None and len(folders) == 1:
        listing.notes.append(f"There is only {train.name}/, so it was split.")
        return {"": train}
    return {"": folder}


def _classes(place: Path, listing: Listing) -> dict[str, list[Path]]:
    folders, loose = _children(place, listing)
    if len(folders) < 2:
        has = f"one class folder ({', '.join(folders)})" if folders else "no class folders"
        images = sum(Path(name).suffix.lower() in EXTENSIONS for name in loose)
        also = f" and {images} loose images" if images else ""
        raise DataError(
            f"{shown(place)} has {has}{also}, but a classification needs two classes or more. Put the images of each "
            "class into a folder of its own, or name the folder that holds the class folders."
        )
    classes = {name: _files(path, listing) for name, path in folders.items()}
    empty = [name for name, files in classes.items() if not files]
    if empty:
        raise DataError(
            f"{shown(place)}: no image in class {some(empty)}. Add images ({', '.join(EXTENSIONS)}), or delete the "
            "folder."
        )
    return classes


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise DataError(f"Folder {shown(folder)} can't be read ({error.strerror}). Make it readable.") from error


def _children(folder: Path, listing: Listing) -> tuple[dict[str, Path], list[str]]:
    """Folders by name, and names of files; what is hidden is left aside."""
    folders, files = {}, []
    for entry in _scan(folder):
        name = shown(entry.name)
        if entry.name.startswith((".", "__MACOSX")):
            listing.ignored.append(name)
        elif _is_folder(entry):
            folders[name] = Path(entry.path)
        else:
            files.append(name)
    return folders, files


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _is_image(entry: os.DirEntry[str]) -> bool:
    """An image by its name; also a dangling link, which is reported when it is read. Pipes and devices are none."""
    try:
        if Path(entry.name).suffix.lower() not in EXTENSIONS:
            return False
        return entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())
    except OSError:
        return True


def _files(folder: Path, listing: Listing) -> list[Path]:
    """Images in a class folder and below, by path; every folder is entered once, so a loop of links ends."""
    found, waiting, seen = list[Path](), [folder], set[tuple[int, int]]()
    while waiting:
        here = waiting.pop()
        status = here.stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in _scan(here):
            if entry.name.startswith((".", "__MACOSX")):
                listing.ignored.append(shown(entry.name))
            elif _is_folder(entry):
                waiting.append(Path(entry.path))
            elif _is_image(entry):
                found.append(Path(entry.path))
            else:
                listing.ignored.append(shown(entry.name))
    return sorted(found, key=lambda path: os.fsencode(path.relative_to(folder)))


def _check_same(folder: Path, parts: Mapping[str, Mapping[str, object]]) -> None:
    train, test = set(parts["train"]), set(parts["test"])
    if train == test:
        return
    clauses = []
    if train - test:
        clauses.append(f"only the training part has {some(sorted(train - test))}")
    if test - train:
        clauses.append(f"only the test part has {some(sorted(test - train))}")
    raise DataError(
        f"{shown(folder)}: the two parts have different classes: {'; '.join(clauses)}. Name the class folders alike in "
        "both, or delete what has no counterpart."
    )
