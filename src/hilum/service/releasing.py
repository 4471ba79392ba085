"""Films whose labels were let out of quarantine, taken out of the service's folder to be trained on.

Beside a running service and without it: the records are only read. Where films are encrypted they are only given out
without names, under the key that the films before were de-identified with, unless the site says that plain ones may lie
there.
"""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy.orm import Session

from hilum.errors import DataError, FilmError, UsageError
from hilum.files import write_bytes, write_text
from hilum.imaging.deidentification import Policy, deidentify
from hilum.records.schema import FilmRow
from hilum.service.film_files import FilmFiles

SUFFIX = {"dicom": ".dcm", "png": ".png", "jpeg": ".jpg"}
TABLE = "labels.csv"
OPAQUE_ID = "opaque_id"
"""Heading of the column of the films' opaque ids."""

KEPT = Policy(keep_patient=True, keep_manufacturer=True, find_text=True)
"""What a film without names keeps: what subgroups are made of."""


def release(
    session: Session,
    files: FilmFiles,
    labels: Mapping[str, str],
    out: Path,
    *,
    key: bytes | None = None,
    plain: bool = False,
) -> tuple[Path, dict[str, str]]:
    """Write films and a table of their labels; films that lie there already are left as they are.

    Args:
        session: on the records.
        files: of the service's folder.
        labels: finding by the film's opaque id.
        out: folder to write to, for its owner alone.
        key: of pseudonyms; None leaves the films as they came.
        plain: whether films that are encrypted here may lie there plain, with names.

    Returns:
        (the table, as ``hilum data import`` reads it; why films could not be had, by opaque id).

    Raises:
        UsageError: films are encrypted, and there is neither a key nor leave to write them plain.
    """
    if files.keys and key is None and not plain:
        raise UsageError(
            "Films are encrypted here, and those that are trained on would lie open. Give the key that the training "
            "films were de-identified with (--pseudonym-key FILE), or accept it with --plain."
        )
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    missing, table = {}, io.StringIO()
    lines = csv.writer(table)
    lines.writerow(["path", "label", OPAQUE_ID])
    for film, finding in sorted(labels.items()):
        try:
            path = _written(files, out, session.get(FilmRow, film), film, key)
        except FilmError as error:
            missing[film] = f"can't be had ({error})"
            continue
        lines.writerow([path.name, finding, film])
    write_text(out / TABLE, table.getvalue())
    return out / TABLE, missing


def _written(files: FilmFiles, out: Path, row: FilmRow | None, film: str, key: bytes | None) -> Path:
    if row is None:
        raise FilmError("The records don't know it: it was erased, or is of another service.", code="unknown")
    path = out / f"{film}{SUFFIX.get(row.format, '')}"
    if path.exists():
        return path
    try:
        content = files.film(row.file_sha256).read_bytes()
    except DataError as error:
        raise FilmError(str(error), code="unreadable") from None
    write_bytes(path, content if key is None else deidentify(content, key, KEPT).content)
    path.chmod(0o600)
    return path
