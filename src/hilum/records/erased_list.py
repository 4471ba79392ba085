"""Which films were erased, outside the database: so that an older backup that comes back can have them erased again.

One JSON object a line: the film's opaque id, which no backup gives to another film, and when. Nothing tells whose film
it was. A line is durable before the erasure is committed, so none is forgotten; the file only grows. Copy it to where
the signed heads are copied.
"""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from hilum.errors import DataError, UsageError
from hilum.files import append_durably, drop_broken_line

NAME = "erasures.jsonl"
"""Its name in the service's folder."""

FILM = re.compile(r"[0-9a-f]{32}")


def note_erased(path: Path, film_ids: Sequence[str], at: datetime) -> None:
    """Write films into the list, durably.

    Raises:
        OSError: the file can't be written.
    """
    if film_ids:
        drop_broken_line(path)
        stamp = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        append_durably(path, "".join(json.dumps({"at": stamp, "film": one}) + "\n" for one in film_ids).encode())


def read_erased(path: Path) -> tuple[str, ...]:
    """Ids of the films in a list, each once, in their order; what a crash broke off is no line yet.

    Raises:
        UsageError: the file can't be read.
        DataError: a line is none.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        raise UsageError(
            f"There is no list of erasures at {path}. Check the path; where nothing was ever erased there is none, and "
            "none is needed."
        ) from None
    except OSError as error:
        raise UsageError(
            f"The list of erasures {path.name} can't be read ({error.strerror}). Check the path."
        ) from None
    found = {}
    for number, line in enumerate(lines, 1):
        if line.endswith(b"\n"):
            found[_film(line, f"{path.name}, line {number}")] = True
    return tuple(found)


def _film(line: bytes, where: str) -> str:
    try:
        film = json.loads(line)["film"]
        known = bool(FILM.fullmatch(film))
    except (ValueError, KeyError, TypeError, RecursionError):
        known = False
    if not known:
        raise DataError(f"{where} names no erased film. The file was damaged or changed; use an earlier copy of it.")
    return str(film)
