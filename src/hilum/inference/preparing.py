"""From a file to a tile: what runs in a sandboxed child. Imports no runtime, so that a child starts fast and small."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from hilum.arrays import Tile
from hilum.imaging.beside import beside
from hilum.imaging.intended_use import Gate, GatePolicy, check_intended_use
from hilum.imaging.limits import Limits
from hilum.imaging.preprocessing import Preprocessing, preprocess
from hilum.imaging.quality import Quality, measure_quality
from hilum.imaging.radiograph import Described, FilmFacts, Radiograph
from hilum.imaging.reading import HASHED_BESIDE, content_past_cache, file_content, film_of
from hilum.imaging.reduced_quality import reduced_quality
from hilum.imaging.reduced_reading import reduced_tile, reducible
from hilum.shared_memory import Lent


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """A film ready for the graph, small enough to cross between processes."""

    tile: Tile
    """uint8 [size, size]."""
    gate: Gate
    """Whether the film may be analysed, and why not."""
    quality: Quality
    """What was measured of the pixels, or of a reduced film's."""
    facts: FilmFacts
    """What the file says; holds identifiers, so it goes to the patient's records and nowhere else."""
    sha256: str
    """Digest of the file's bytes."""
    shape: tuple[int, int]
    """Height and width of the film."""
    flags: tuple[str, ...] = ()
    """Oddities that the reader worked around."""


def prepare_film(
    source: Path | bytes | Lent,
    preprocessing: Preprocessing,
    policy: GatePolicy,
    limits: Limits | None = None,
    sha256: str | None = None,
    past_cache: bool = False,
) -> Prepared:
    """Read, measure, gate and preprocess one film.

    A film is decoded at reduced size alone where the preprocessing asks for it, the policy asks for no second decoder,
    damage would be found (`hilum.imaging.reduced_reading`) and its measures leave the gate in no doubt
    (`hilum.imaging.reduced_quality`); else whole.

    Args:
        source: a file, or its bytes, or where they lie.
        preprocessing: what the model wants.
        policy: what may be analysed.
        limits: what the film may cost.
        sha256: digest of the bytes, where it is known; None to compute it.
        past_cache: the file is read past the disk's cache: nobody reads it again soon.

    Raises:
        FilmError: it can't be read; the code says why.
    """
    limits = limits or Limits()
    if isinstance(source, Lent):
        limits.check_file(source.size)
        return _of_content(source.content(), preprocessing, policy, limits, sha256)
    if past_cache and isinstance(source, Path):
        with content_past_cache(source, limits) as content:
            return _of_content(content, preprocessing, policy, limits, sha256)
    return _of_content(file_content(source, limits), preprocessing, policy, limits, sha256)


def _of_content(
    content: bytes | memoryview, preprocessing: Preprocessing, policy: GatePolicy, limits: Limits, sha256: str | None
) -> Prepared:
    """The film of these bytes; what is given holds none of them."""
    reduced = None
    decode = reducible(content, preprocessing, limits) if preprocessing.decoding == "reduced" else None
    if decode is not None:
        # The decoder works on one processor, and the digest of a full-size film takes a tenth of its time.
        reduced, digest = beside(
            decode,
            lambda: sha256 or hashlib.sha256(content).hexdigest(),
            worth_it=sha256 is None and len(content) >= HASHED_BESIDE,
        )
        if reduced is not None and reduced.checked and not policy.second_decoder:
            quality = reduced_quality(reduced, policy)
            if quality is not None:
                tile = reduced_tile(reduced, preprocessing)
                return _prepared(reduced, reduced.shape, digest, quality, tile, policy)
        sha256 = digest
    film = film_of(content, limits, second_decoder=policy.second_decoder, sha256=sha256)
    # One after the other: both are hundreds of short calls, whose threads would mostly wait for each other.
    quality = measure_quality(film.pixels)
    tile = preprocess(film.pixels, preprocessing) if reduced is None else reduced_tile(reduced, preprocessing)
    return _prepared(film, film.shape, film.sha256, quality, tile, policy)


def prepare_radiograph(film: Radiograph, preprocessing: Preprocessing, policy: GatePolicy) -> Prepared:
    """The same for a film that has been read already: its tile is made of all its pixels."""
    tile = preprocess(film.pixels, preprocessing)
    return _prepared(film, film.shape, film.sha256, measure_quality(film.pixels), tile, policy)


def _prepared(
    film: Described, shape: tuple[int, int], sha256: str, quality: Quality, tile: Tile, policy: GatePolicy
) -> Prepared:
    return Prepared(
        tile=tile,
        gate=check_intended_use(film, quality, policy),
        quality=quality,
        facts=film.facts,
        sha256=sha256,
        shape=shape,
        flags=film.flags,
    )
