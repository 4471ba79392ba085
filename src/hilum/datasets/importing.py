"""From films to a manifest: rows of a table or of a folder, what the films' headers say, and what their pixels are.

Every film is read once, in a sandboxed process. Headers fill what the table leaves blank; where the two contradict each
other the row is bad. All bad rows are reported at once, each with where it is listed, what is wrong and the mend.

A table that already knows the films' SHA-256 may be taken at its word (``read_films=False``): a million rows then are
a matter of seconds, and films are opened when they are decoded, where the SHA-256 is checked.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hilum.datasets.fields import PARSERS, read_text
from hilum.datasets.film_facts import FilmRecord, header_values, read_records
from hilum.datasets.listings import Listing, list_folder, list_table
from hilum.datasets.manifest import Manifest
from hilum.errors import DataError, ManifestError
from hilum.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportConfig:
    """How films become a manifest."""

    labels: Literal["chest", "any"] = "chest"
    """"chest" maps synonyms to the chest findings and refuses other labels; "any" takes labels as they are."""
    skip_bad_rows: bool = False
    """Leave bad rows out and go on with the rest, instead of refusing all."""
    source: str = ""
    """Source of the films for which neither table nor header names one."""
    keep: tuple[str, ...] = ()
    """Headings of further columns to keep, as text; others than the known ones are left out."""
    read_films: bool = True
    """Off: films are neither opened nor looked for. The table must have their SHA-256 (``film_id``, ``sha256``); sizes
    and headers stay unknown, and copies are found by SHA-256 alone."""


def import_csv(
    table: str | Path,
    config: ImportConfig = ImportConfig(),
    *,
    cache: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[Manifest, list[str]]:
    """Import the films that a CSV table lists.

    Args:
        table: CSV with a heading line; paths are relative to its folder. See ``fields.HEADINGS`` for the columns.
        config: how to read it.
        cache: file to keep what was learned of each film, so that a second import is quick; None keeps nothing.
        workers: processes; None for one a CPU, 0 to read in this process, where a damaged film isn't contained.
        progress: where progress goes.

    Returns:
        (the manifest, one sentence for each row left out).

    Raises:
        ManifestError: rows are bad and ``skip_bad_rows`` is off, or no row is good; one sentence for each row.
    """
    return _import(list_table(Path(table), config.keep), config, cache, workers, progress)


def import_folder(
    folder: str | Path,
    config: ImportConfig = ImportConfig(),
    *,
    cache: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[Manifest, list[str]]:
    """Import the films below a folder: by its ``labels.csv`` (or ``manifest.csv``) where it has one, else by looking.

    Args and Returns are those of :func:`import_csv`. Without a table, folders named as findings give labels; tables in
    folders below are passed over, and ``notes["import"]["tables_passed_over"]`` names them.

    Raises:
        ManifestError: as for :func:`import_csv`.
    """
    listing = list_folder(Path(folder), config.keep, any_label=config.labels == "any")
    return _import(listing, config, cache, workers, progress)


Problems = defaultdict[int, list[str]]
"""Position of a row → clauses that say what is wrong with it."""


def _import(
    listing: Listing, config: ImportConfig, cache: Path | None, workers: int | None, progress: Progress | None
) -> tuple[Manifest, list[str]]:
    problems: Problems = defaultdict(list)
    for position, problem in listing.problems.items():
        problems[position].append(problem)
    values = _parse(listing, config, problems)
    _check_paths(listing, values, problems)
    records: dict[int, FilmRecord] = {}
    if config.read_films:
        _check_files(listing, values, problems)
        records = _read(listing, values, problems, cache, workers, progress)
    else:
        _need_hashes(listing, values, problems)
    merged = _merge(values, records, config, problems)
    sentences = [f"{listing.rows[position]}: {' '.join(problems[position])}" for position in sorted(problems)]
    good = [position for position in range(len(listing.rows)) if position not in problems]
    if sentences and not (config.skip_bad_rows and good):
        raise ManifestError(sentences)
    columns: dict[str, Any] = merged
    if sentences:
        columns = {name: [column[position] for position in good] for name, column in merged.items()}
    if config.read_films:
        columns["thumb"] = np.stack([records[position].thumb for position in good])
    about = {"from": listing.name, "left_out": len(sentences), "columns_left_out": list(listing.left_out)}
    notes = {"import": about | {"tables_passed_over": list(listing.passed_over)}}
    return Manifest.from_columns(columns, folder=listing.base, notes=notes), sentences


def _parse(listing: Listing, config: ImportConfig, problems: Problems) -> dict[str, list[Any]]:
    """Read every value; each distinct text of a column is read once."""
    values: dict[str, list[Any]] = {}
    for name, texts in listing.values.items():
        parser = read_text if name == "label" and config.labels == "any" else PARSERS.get(name, read_text)
        known: dict[str, Any] = {}
        for text in set(texts):
            try:
                known[text] = parser(text)
            except ValueError as error:
                known[text] = error
        values[name] = [known[text] for text in texts]
        if any(isinstance(value, ValueError) for value in known.values()):
            for position, value in enumerate(values[name]):
                if isinstance(value, ValueError):
                    problems[position].append(str(value))
    return values


def _check_paths(listing: Listing, values: Mapping[str, Sequence[Any]], problems: Problems) -> None:
    """Every row must name a film, and no film twice."""
    first: dict[str, int] = {}
    for position, path in enumerate(values["path"]):
        if not path:
            problems[position].append("path is empty. Name the film's file, or delete the row.")
        elif path in first:
            problems[position].append(f"{path} is listed before, at {listing.rows[first[path]]}. Delete one.")
        else:
            first[path] = position


def _check_files(listing: Listing, values: Mapping[str, Sequence[Any]], problems: Problems) -> None:
    """Films and masks must be there."""
    seen: set[str] = set()
    for position, path in enumerate(values["path"]):
        if path and path not in seen and not (listing.base / path).is_file():
            problems[position].append(f"{path} is not a file. Correct the path, or delete the row.")
        seen.add(path)
    for position, mask in enumerate(values.get("mask", ())):
        if mask and not (listing.base / mask).is_file():
            problems[position].append(f"mask {mask} is not a file. Correct the path, or leave it blank.")


def _need_hashes(listing: Listing, values: Mapping[str, Sequence[Any]], problems: Problems) -> None:
    """Films that are not opened are known by the table's SHA-256 alone.

    Raises:
        ManifestError: the table has no column of them.
    """
    if "film_id" not in values:
        raise ManifestError(
            [f"{listing.name} has no column 'film_id' or 'sha256', so films must be read. Add it, or read them."]
        )
    for position, film_id in enumerate(values["film_id"]):
        if film_id == "":
            problems[position].append("film_id is empty, and films are not read. Fill it, or read them.")


def _read(
    listing: Listing,
    values: Mapping[str, Sequence[Any]],
    problems: Problems,
    cache: Path | None,
    workers: int | None,
    progress: Progress | None,
) -> dict[int, FilmRecord]:
    """Read the films that are there, also those of rows that are bad already: all reasons are reported at once."""
    seen: set[str] = set()
    there = []
    for position, path in enumerate(values["path"]):
        if path and path not in seen and (listing.base / path).is_file():
            there.append(position)
        seen.add(path)
    paths = [listing.base / values["path"][position] for position in there]
    records = {}
    answers = read_records(paths, cache=cache, workers=workers, progress=progress)
    for position, answer in zip(there, answers, strict=True):
        if isinstance(answer, DataError):
            path = values["path"][position]
            where = "" if listing.rows[position] == path else f"{path}: "
            problems[position].append(f"{where}{answer}")
        else:
            records[position] = answer
    return records


def _merge(
    values: Mapping[str, Sequence[Any]], records: Mapping[int, FilmRecord], config: ImportConfig, problems: Problems
) -> dict[str, list[Any]]:
    """The table's values, filled from headers, and what was measured."""
    n = len(values["path"])
    merged: dict[str, list[Any]] = {name: list(column) for name, column in values.items()}
    for position, record in records.items():
        if merged.get("film_id", {position: ""})[position] not in (None, "", record.sha256):
            problems[position].append("film_id is not the SHA-256 of the file. Correct the table, or leave it blank.")
        measured = {"film_id": record.sha256, "bytes": record.size, "width": record.width, "height": record.height}
        measured["bits_stored"] = record.facts.bits_stored or 0
        for name, value in measured.items():
            merged.setdefault(name, [None] * n)[position] = value
        for name, value in header_values(record).items():
            column = merged.setdefault(name, [None] * n)
            given = column[position]
            if _blank(given):
                column[position] = value
            elif not isinstance(given, ValueError) and not _blank(value) and not _agree(name, given, value):
                problems[position].append(_contradiction(name, given, value))
    if config.source:
        column = merged.setdefault("source", [None] * n)
        merged["source"] = [config.source if _blank(value) else value for value in column]
    return merged


def _blank(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _agree(name: str, given: Any, header: Any) -> bool:
    """Whether a table's value and a header's can both be true."""
    if name == "age_years":
        # A table may round, and a birthday may lie between two of a study's dates.
        return abs(float(given) - float(header)) <= 1
    if name == "acquired":
        return str(given).startswith(header) or str(header).startswith(given)
    if name == "source":
        # A table calls hospitals what it likes.
        return True
    return str(given).strip().casefold() == str(header).strip().casefold()


def _contradiction(name: str, given: Any, header: Any) -> str:
    if name == "patient_id":
        # No patient identifier in a message.
        return "patient_id differs from the one in the film's header. Correct the table, or leave it blank there."
    return f"{name} is {given!r}, but the film's header says {header!r}. Correct the table, or leave it blank there."
