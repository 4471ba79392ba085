"""From a file to a tile: what runs in a sandboxed child. Imports no runtime, so that a child starts fast and small."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hilum.arrays import Tile
from hilum.imaging.intended_use import Gate, GatePolicy, check_intended_use
from hilum.imaging.limits import Limits
from hilum.imaging.preprocessing import Preprocessing, preprocess
from hilum.imaging.quality import Quality, measure_quality
from hilum.imaging.radiograph import FilmFacts, Radiograph
from hilum.imaging.reading import file_content, read_film
from hilum.imaging.tile_reading import film_tile


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """A film ready for the graph, small enough to cross between processes."""

    tile: Tile
    """uint8 [size, size]."""
    gate: Gate
    """Whether the film may be analysed, and why not."""
    quality: Quality
    """What was measured of the pixels."""
    facts: FilmFacts
    """What the file says; holds identifiers, so it goes to the patient's records and nowhere else."""
    sha256: str
    """Digest of the file's bytes."""
    shape: tuple[int, int]
    """Height and width of the film."""
    flags: tuple[str, ...] = ()
    """Oddities that the reader worked around."""


def prepare_film(
    source: Path | bytes,
    preprocessing: Preprocessing,
    policy: GatePolicy,
    limits: Limits | None = None,
    sha256: str | None = None,
) -> Prepared:
    """Read, measure, gate and preprocess one film.

    Args:
        source: a file, or its bytes.
        preprocessing: what the model wants.
        policy: what may be analysed.
        limits: what the film may cost.
        sha256: digest of the bytes, where it is known; None to compute it.

    Raises:
        FilmError: it can't be read; the code says why.
    """
    limits = limits or Limits()
    content = file_content(source, limits)
    film = read_film(content, limits=limits, second_decoder=policy.second_decoder, sha256=sha256)
    return _prepared(film, lambda: film_tile(content, preprocessing, film, limits), policy)


def prepare_radiograph(film: Radiograph, preprocessing: Preprocessing, policy: GatePolicy) -> Prepared:
    """The same for a film that has been read already: its tile is made of all its pixels."""
    return _prepared(film, lambda: preprocess(film.pixels, preprocessing), policy)


def _prepared(film: Radiograph, make_tile: Callable[[], Tile], policy: GatePolicy) -> Prepared:
    # One after the other: both are hundreds of short calls, whose threads would mostly wait for each other.
    quality, tile = measure_quality(film.pixels), make_tile()
    return Prepared(
        tile=tile,
        gate=check_intended_use(film, quality, policy),
        quality=quality,
        facts=film.facts,
        sha256=film.sha256,
        shape=film.shape,
        flags=film.flags,
    )
