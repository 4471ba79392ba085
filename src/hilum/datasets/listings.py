"""What an import is asked to read: rows of a CSV table, or the films below a folder."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hilum.datasets.chest_labels import is_known
from hilum.datasets.fields import HEADINGS, heading
from hilum.errors import ManifestError, nearest
from hilum.labels import CHEST

SUFFIXES = (".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Files that a folder's films are looked for among; a file without suffix counts when it begins as DICOM."""

TABLES = ("labels.csv", "manifest.csv", "metadata.csv")
"""Tables that describe a folder's films; the first one present is used."""

MASK_FOLDERS = ("masks", "mask")
"""Folders that hold no films."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Films to read and what is said of them.

    Attributes:
        name: of the table or the folder, for messages.
        base: folder that paths are relative to.
        rows: for each film where it is listed, for messages: ``labels.csv, row 7``, or its path.
        values: column → one text a film; ``path`` is always there.
        left_out: headings of the table that were not taken.
        passed_over: tables in folders below one that was listed by looking; nothing was taken from them.
        problems: sentences about films that can't be listed, by their position.
    """

    name: str
    base: Path
    rows: Sequence[str]
    values: Mapping[str, Sequence[str]]
    left_out: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    problems: Mapping[int, str] = field(default_factory=dict)


def list_table(path: Path, keep: Sequence[str] = ()) -> Listing:
    """Read a CSV table (comma, semicolon or tab; UTF-8) with a heading line.

    Args:
        path: the table; its films' paths are relative to its folder.
        keep: headings beyond :data:`~hilum.datasets.fields.HEADINGS` to keep as text columns.

    Raises:
        ManifestError: the table can't be read, is a film or empty, or has no column of paths.
    """
    if path.is_file() and (path.suffix.lower() in SUFFIXES or _begins_as_dicom(path)):
        raise ManifestError([f"{path} is a film, not a table. Give the folder that it lies in, or a CSV of films."])
    numbers, lines = _csv_lines(path)
    headings = [text.strip() for text in lines[0]]
    columns = _columns(headings, keep)
    missing = [name for name in keep if name not in headings]
    if "path" not in columns or missing:
        wanted = missing[0] if missing else "path"
        other = "" if missing else f" (or {', '.join(HEADINGS['path'][1:])})"
        raise ManifestError(
            [f"{path.name} has no column {wanted!r}{other}. {nearest(wanted, headings)} Add it, or rename one."]
        )
    problems = {}
    rows = lines[1:]
    for position, row in enumerate(rows):
        if len(row) != len(headings):
            problems[position] = f"the row has {len(row)} values, but the heading {len(headings)}. Correct it."
            rows[position] = (row + [""] * len(headings))[: len(headings)]
    return Listing(
        name=path.name,
        base=path.absolute().parent,
        rows=[f"{path.name}, row {number}" for number in numbers[1:]],
        values={name: [row[at] for row in rows] for name, at in columns.items()},
        left_out=tuple(text for at, text in enumerate(headings) if at not in columns.values()),
        problems=problems,
    )


def _csv_lines(path: Path) -> tuple[list[int], list[list[str]]]:
    """Numbers, as a spreadsheet counts them, and values of the rows that hold anything."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        first = text.split("\n", 1)[0]
        delimiter = max(",;\t", key=first.count)
        every = enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), start=1)
        lines = [(number, row) for number, row in every if any(row)]
    except OSError as error:
        raise ManifestError([f"{path} can't be opened ({error.strerror}). Give a CSV table or a folder."]) from None
    except UnicodeDecodeError as error:
        raise ManifestError([f"{path} is not UTF-8 (byte {error.start}). Save it as CSV in UTF-8."]) from None
    except csv.Error as error:
        raise ManifestError([f"{path} can't be read as CSV ({error}). Save it as CSV in UTF-8."]) from None
    if len(lines) < 2:
        raise ManifestError([f"{path} lists no film. It needs a heading line and a row for each film."])
    return [number for number, _ in lines], [row for _, row in lines]


def _columns(headings: Sequence[str], keep: Sequence[str]) -> dict[str, int]:
    """Column → its position; of several headings that mean the same column the first is taken."""
    found: dict[str, int] = {}
    for at, text in enumerate(headings):
        column = text if text in keep else heading(text)
        if column is not None and column not in found:
            found[column] = at
    return found


def list_folder(folder: Path, keep: Sequence[str] = (), *, any_label: bool = False) -> Listing:
    """List the films below a folder: by its own table where it has one, else by looking.

    Without a table, a film's label is the nearest folder above it whose name is a finding. Where some folders are
    findings and others beside them are not, the others are problems: a misspelt class must not become "unknown".

    Args:
        folder: where to look; hidden folders and folders of masks are passed over.
        keep: as for :func:`list_table`.
        any_label: take the name of the folder directly above as the label, whatever it is.

    Raises:
        ManifestError: the folder is missing or holds no film.
    """
    if not folder.is_dir():
        raise ManifestError([f"{folder} is not a folder. Give a folder of films or a CSV table."])
    for name in TABLES:
        if (folder / name).is_file():
            return list_table(folder / name, keep)
    paths, tables = _films(folder)
    if not paths:
        raise ManifestError([f"{folder} holds no film ({', '.join(SUFFIXES)}, or DICOM without suffix)."])
    labels = [_label(path, any_label) for path in paths]
    return Listing(
        name=folder.name,
        base=folder.absolute(),
        rows=paths,
        values={"path": paths, "label": labels},
        passed_over=tuple(tables),
        problems={} if any_label else _misspelt(paths, labels),
    )


def _films(folder: Path) -> tuple[list[str], list[str]]:
    """Films, and tables beside them: paths relative to the folder, in alphabetical order."""
    found, tables = [], []
    for root, names, files in os.walk(folder):
        names[:] = [name for name in names if not name.startswith(".") and name.lower() not in MASK_FOLDERS]
        inside = Path(root)
        for name in files:
            if not name.startswith(".") and _is_film(inside / name):
                found.append((inside / name).relative_to(folder).as_posix())
            elif name in TABLES:
                tables.append((inside / name).relative_to(folder).as_posix())
    return sorted(found), sorted(tables)


def _is_film(path: Path) -> bool:
    if path.suffix:
        # DICOM files are often named by UID, whose last number looks like a suffix.
        return path.suffix.lower() in SUFFIXES or (path.suffix[1:].isdigit() and _begins_as_dicom(path))
    return _begins_as_dicom(path)


def _begins_as_dicom(path: Path) -> bool:
    try:
        with open(path, "rb") as handle:
            return handle.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _label(path: str, any_label: bool) -> str:
    folders = path.split("/")[:-1]
    if any_label:
        return folders[-1] if folders else ""
    return next((name for name in reversed(folders) if is_known(name)), "")


def _misspelt(paths: Sequence[str], labels: Sequence[str]) -> dict[int, str]:
    """Films without a label in a folder beside one that is a finding."""
    beside = set()
    for path, label in zip(paths, labels, strict=True):
        if label:
            folders = path.split("/")[:-1]
            beside.add(tuple(folders[: len(folders) - 1 - folders[::-1].index(label)]))
    problems = {}
    for position, (path, label) in enumerate(zip(paths, labels, strict=True)):
        folders = path.split("/")[:-1]
        depth = next((d for d in range(len(folders)) if tuple(folders[:d]) in beside), None)
        if not label and depth is not None:
            problems[position] = (
                f"folder {folders[depth]!r} is not a finding, though folders beside it are. "
                f"{nearest(folders[depth].lower(), CHEST.names)} Rename it, or move it away."
            )
    return problems
