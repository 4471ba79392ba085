"""One film of a manifest as a tile: what a decoding process does, and nothing that it need not import."""

from pathlib import Path

from hilum.arrays import Tile
from hilum.errors import FilmError
from hilum.imaging.preprocessing import Preprocessing, preprocess
from hilum.imaging.reading import read_film


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
    film = read_film(path)
    if film.sha256 != film_id:
        raise FilmError("The file changed since the import (its SHA-256 differs).", code="changed")
    return preprocess(film.pixels, preprocessing)
