"""Where the patient lies in the film: coordinates, resampling, and tiles of noise shared by all films.

Patient coordinates: u runs to the right of the picture, which is the patient's left, v runs down; the chest fills about
−1 … 1. Smooth things are computed at a quarter of the film's resolution, edges at half, noise at full.
"""

# mypy: disable-error-code="no-any-return"
# NumPy's stubs type arithmetic on arrays of any dtype as Any.

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hilum.arrays import Array
from hilum.datasets.procedural_textures import octaves
from hilum.randomness import stream

TILE = 1024
"""Pixels a side of a noise tile; tiles wrap around."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A film's geometry: a similarity between the patient's coordinates and its pixels."""

    rows: int
    """Height of the film in pixels."""
    columns: int
    """Width of the film in pixels."""
    zoom: float
    """Film half-heights per unit of the patient."""
    turn: float
    """In-plane rotation in radians."""
    shift: tuple[float, float]
    """Where the patient's origin lies, in film half-heights from the centre."""

    def shape(self, scale: int) -> tuple[int, int]:
        """Rows and columns at 1/scale of the film's resolution."""
        return self.rows // scale, self.columns // scale

    def coordinates(self, scale: int) -> tuple[Array, Array]:
        """u and v of the pixel centres at 1/scale of the resolution: float32 [h, w] each."""
        h, w = self.shape(scale)
        y = ((np.arange(h, dtype=np.float32) + 0.5) * (2 / h) - 1 - self.shift[1])[:, None]
        x = (((np.arange(w, dtype=np.float32) + 0.5) * (2 / w) - 1) * (self.columns / self.rows) - self.shift[0])[None]
        c, s = np.float32(np.cos(self.turn) / self.zoom), np.float32(np.sin(self.turn) / self.zoom)
        return (c * x + s * y).astype(np.float32), (c * y - s * x).astype(np.float32)

    def pixels(self, points: Array, scale: int) -> list[tuple[float, float]]:
        """Points [n, 2] of (u, v) as (column, row) at 1/scale of the resolution, for drawing."""
        h, _ = self.shape(scale)
        c, s = np.cos(self.turn) * self.zoom, np.sin(self.turn) * self.zoom
        x = c * points[:, 0] - s * points[:, 1] + self.shift[0] + self.columns / self.rows
        y = s * points[:, 0] + c * points[:, 1] + self.shift[1] + 1
        return list(zip((x * (h / 2)).tolist(), (y * (h / 2)).tolist(), strict=True))

    def length(self, units: float, scale: int) -> float:
        """A length in the patient, as pixels at 1/scale of the resolution."""
        return units * self.zoom * self.shape(scale)[0] / 2


def double(field: Array) -> Array:
    """Resample a float32 field [h, w] to [2h, 2w], linear between pixel centres, level beyond the outermost."""
    near, far = np.float32(0.75), np.float32(0.25)
    h, w = field.shape
    wide = np.empty((h, 2 * w), dtype=np.float32)
    inner, quarter = near * field, far * field
    wide[:, 2::2], wide[:, 1:-1:2] = inner[:, 1:] + quarter[:, :-1], inner[:, :-1] + quarter[:, 1:]
    wide[:, 0], wide[:, -1] = field[:, 0], field[:, -1]
    out = np.empty((2 * h, 2 * w), dtype=np.float32)
    inner, quarter = near * wide, far * wide
    np.add(inner[1:], quarter[:-1], out=out[2::2])
    np.add(inner[:-1], quarter[1:], out=out[1:-1:2])
    out[0], out[-1] = wide[0], wide[-1]
    return out


def step(distance: Array, width: float) -> Array:
    """0 outside, 1 inside, linear over an edge of this width centred on distance 0."""
    return np.clip(distance * np.float32(1 / width) + np.float32(0.5), 0, 1)


@lru_cache(maxsize=4)
def _tile(kind: str) -> Array:
    # A fixed tile, not the cohort's seed: it is made once a process, and films differ by where they cut it.
    rng = stream(0, "phantom", "tile", kind)
    if kind == "white":
        tile = rng.standard_normal((TILE, TILE), dtype=np.float32)
    elif kind == "grain":
        white = rng.standard_normal((TILE, TILE), dtype=np.float32)
        tile = white + np.roll(white, 1, 0) + np.roll(white, 1, 1) + np.roll(white, (1, 1), (0, 1))
    else:
        tile = octaves(rng, TILE, 48, roughness=0.75)
    tile = (tile / tile.std()).astype(np.float32)
    return np.tile(tile, (2, 2))


def noise(kind: str, rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """A random window on a tile of noise with unit deviation: read-only float32 [h, w].

    Args:
        kind: ``white``, ``grain`` (white noise over 2 × 2 pixels) or ``tissue`` (1/f, as fine lung markings).
        rng: where to cut, and whether mirrored.
        shape: at most :data:`TILE` a side are independent; larger windows repeat.
    """
    tile = _tile(kind)
    top, left = (int(i) for i in rng.integers(0, TILE, size=2))
    upside_down = rng.random() < 0.5
    if max(shape) > TILE:
        tile = np.tile(tile[:TILE, :TILE], (2 + shape[0] // TILE, 2 + shape[1] // TILE))
    window = tile[top : top + shape[0], left : left + shape[1]]
    return window[::-1] if upside_down else window
