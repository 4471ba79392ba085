"""Films that were erased in the service, after retraining took them out: their copies go, and versions are retired.

A version of the data is a link of a chain by digest, and what a model was trained on must stay known; so a version that
holds an erased film is not changed. A file beside it says that it is retired and which films are gone: it is trained on
no more, and the next version is made of it without them.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from hilum.config import canonical_json
from hilum.files import write_bytes
from hilum.runs.rounds import Rounds

FACTS = "facts.sqlite"
"""What was learned of released films at their import; made again when it is wanted."""


def held(rounds: Rounds, erased: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Erased films that lie in the folder, or that a version is not retired for yet.

    Args:
        rounds: the site's.
        erased: opaque ids.

    Returns:
        by film, numbers of the versions that hold it.

    Raises:
        DataError: a version is damaged or was changed.
    """
    gone = set(erased)
    found: dict[str, tuple[int, ...]] = {path.stem: () for path in released(rounds) if path.stem in gone}
    for one in rounds.versions():
        known = rounds.retired(one.number)
        mine = {path.stem for path in rounds.films(one).film_paths() if path.parent.name == rounds.released.name}
        for film in sorted(mine & gone):
            if film in found or film not in known:
                found[film] = (*found.get(film, ()), one.number)
    return found


def forget(rounds: Rounds, films: Mapping[str, tuple[int, ...]], *, at: str) -> int:
    """Retire versions, then remove copies; killed at any moment, the same call goes on.

    Args:
        rounds: the site's.
        films: of :func:`held`.
        at: the instant.

    Returns:
        files removed.
    """
    for number in sorted({number for numbers in films.values() for number in numbers}):
        mine = {film for film, numbers in films.items() if number in numbers} | set(rounds.retired(number))
        told = {"films": sorted(mine), "at": at}
        write_bytes(rounds.folder(number).retired, canonical_json(told).encode() + b"\n")
    copies = [path for path in released(rounds) if path.stem in films]
    if copies:
        _leave_out(rounds.released / "labels.csv", {path.name for path in copies})
        (rounds.root / FACTS).unlink(missing_ok=True)
    for path in copies:
        path.unlink()
    return len(copies)


def caches(rounds: Rounds) -> tuple[Path, ...]:
    """Folders in which runs keep films at model resolution, and what was computed of them."""
    found = {Path(about.run).parent / ".cache" for _, about in rounds.rounds()}
    return tuple(sorted(path for path in found if path.exists()))


def released(rounds: Rounds) -> list[Path]:
    """Files of the films that were taken out of the service."""
    return sorted(path for path in rounds.released.glob("*") if path.name != "labels.csv")


def _leave_out(table: Path, names: Collection[str]) -> None:
    if table.exists():
        lines = table.read_text("utf-8").splitlines(keepends=True)
        write_bytes(table, "".join(one for one in lines if one.split(",", 1)[0] not in names).encode())
