"""One film of a manifest as a tile: what a decoding process does, and nothing that it need not import."""

import hashlib
from pathlib import Path

from hilum.arrays import Tile
from hilum.errors import FilmError
from hilum.imaging.limits import Limits
from hilum.imaging.preprocessing import Preprocessing, preprocess
from hilum.imaging.reading import file_content, read_film
from hilum.imaging.reduced_reading import read_reduced, reduced_tile


def read_tile(path: Path, film_id: str, preprocessing: Preprocessing) -> Tile:
    """Decode and preprocess a film, when it still is the one that was imported.

    Args:
        path: the film's file.
        film_id: SHA-256 of the file at its import, 64 hex digits.
        preprocessing: how a film becomes a tile.

    Returns:
        uint8 [size, size].

    Raises:
        FilmError: the film can't be read, or is another one (code "changed").
    """
    content = file_content(path, Limits())
    if hashlib.sha256(content).hexdigest() != film_id:
        raise FilmError("The file changed since the import (its SHA-256 differs).", code="changed")
    return film_tile(content, preprocessing)


def film_tile(
    content: bytes,
    preprocessing: Preprocessing,
    limits: Limits = Limits(),  # noqa: B008 - a frozen value
) -> Tile:
    """The tile of a film, decoded as `Preprocessing.decoding` says: the one that the reading room makes.

    Args:
        content: the film's file.
        preprocessing: how a film becomes a tile.
        limits: what the film may cost.

    Returns:
        uint8 [size, size].

    Raises:
        FilmError: the film can't be read.
    """
    reduced = read_reduced(content, preprocessing, limits) if preprocessing.decoding == "reduced" else None
    if reduced is not None:
        return reduced_tile(reduced, preprocessing)
    return preprocess(read_film(content, limits=limits).pixels, preprocessing)
