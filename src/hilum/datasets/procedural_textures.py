"""Textures made by procedure: one function a family, each a grey field in 0 … 1 on a square grid.

Smooth noise is drawn on a coarse lattice and brought to full size by two small matrix products, so a texture costs well
under a millisecond at 112 px.
"""

# mypy: disable-error-code="no-any-return"
# NumPy's stubs type arithmetic on arrays of any dtype as Any.

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from hilum.arrays import Array

CYCLES = ((2.0, 4.0), (6.0, 10.0), (14.0, 22.0))
"""Cycles across the image for the three frequency classes."""

FULL_CYCLES_SIZE = 96
"""Below this size, in pixels, cycles shrink with the image so that fine textures don't alias."""


@lru_cache(maxsize=16)
def grid(size: int) -> tuple[Array, Array]:
    """Coordinates x (rightwards) and y (downwards) of pixel centres in −1 … 1: two float32 [size, size], read-only."""
    axis = ((np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1).astype(np.float32)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)
    x.flags.writeable = y.flags.writeable = False
    return x, y


@lru_cache(maxsize=128)
def interpolation(size: int, cells: int) -> Array:
    """Matrix float32 [size, cells + 3] that draws a cubic B-spline through a lattice of control values.

    Rows sum to 1. Applied on both sides of a random lattice it gives smooth noise with ``cells`` bumps across.
    """
    position = (np.arange(size) + 0.5) / size * cells
    left = np.floor(position).astype(int)
    t = position - left
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    matrix = np.zeros((size, cells + 3), dtype=np.float32)
    for offset, weight in enumerate(weights):
        matrix[np.arange(size), left + offset] = weight / 6
    matrix.flags.writeable = False
    return matrix


@lru_cache(maxsize=64)
def blur_matrix(size: int, sigma_tenths: int) -> Array:
    """Matrix float32 [size, size] of a Gaussian blur along one axis; sigma in tenths of a pixel; rows sum to 1."""
    distance = np.arange(size)[:, None] - np.arange(size)[None, :]
    matrix = np.exp(-0.5 * (distance / (sigma_tenths / 10)) ** 2)
    matrix = (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32)
    matrix.flags.writeable = False
    return matrix


def smooth_noise(rng: np.random.Generator, size: int, cells: int) -> Array:
    """Smooth noise, float32 [size, size], about zero mean and unit deviation, with ``cells`` lattice steps across."""
    lattice = rng.standard_normal((cells + 3, cells + 3), dtype=np.float32)
    matrix = interpolation(size, cells)
    # A cubic B-spline averages its lattice: 0.479 is the mean over a cell of the squared weights, per axis.
    return (matrix @ lattice @ matrix.T) / np.float32(0.479)


def octaves(
    rng: np.random.Generator, size: int, cells: float, *, roughness: float = 0.5, ridged: bool = False
) -> Array:
    """A sum of smooth noises at doubling frequency (fractional Brownian motion), about unit deviation.

    Args:
        rng: source of chance.
        size: pixels a side.
        cells: lattice steps across of the coarsest octave.
        roughness: amplitude of each octave against the one before; 0.5 is a 1/f² power spectrum.
        ridged: take absolute values, which gives creases (turbulence).
    """
    total, weight, power = np.zeros((size, size), dtype=np.float32), 1.0, 0.0
    step = max(1, round(cells))
    while step <= size // 3 and weight > 0.05:
        layer = smooth_noise(rng, size, step)
        total += np.float32(weight) * ((0.8 - np.abs(layer)) * 1.66 if ridged else layer)
        power += weight**2
        weight, step = weight * roughness, step * 2
    return total / np.float32(max(power, 1e-6) ** 0.5)


def cycles(rng: np.random.Generator, size: int, frequency: int) -> float:
    """Cycles across the image, drawn within a frequency class."""
    low, high = CYCLES[frequency]
    return float(rng.uniform(low, high)) * min(1.0, size / FULL_CYCLES_SIZE)


def along(size: int, angle: float) -> Array:
    """The coordinate across stripes whose normal has this angle (radians, from x towards y)."""
    x, y = grid(size)
    return x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))


def _unit(field: Array, spread: float = 0.28) -> Array:
    return np.clip(0.5 + np.float32(spread) * field, 0, 1)


def noise(rng: np.random.Generator, size: int, frequency: int, angle: float) -> Array:
    """1/f noise whose coarsest bump follows the frequency class."""
    return _unit(octaves(rng, size, cycles(rng, size, frequency), roughness=float(rng.uniform(0.35, 0.7))))


def grating(rng: np.random.Generator, size: int, frequency: int, angle: float) -> Array:
    """A sinusoidal grating."""
    phase = np.float32(np.pi * cycles(rng, size, frequency)) * along(size, angle)
    return 0.5 + 0.5 * np.sin(phase + np.float32(rng.uniform(0, 6.28)))


def checker(rng: np.random.Generator, size: int, frequency: int, angle: float) -> Array:
    """A checkerboard, turned by any angle."""
    turn, rate = float(rng.uniform(0, np.pi)), np.float32(np.pi * cycles(rng, size, frequency) / 2)
    a = np.sin(rate * along(size, turn) + np.float32(rng.uniform(0, 6.28)))
    b = np.sin(rate * along(size, turn + np.pi / 2) + np.float32(rng.uniform(0, 6.28)))
    return np.clip(0.5 + a * b * np.float32(rng.uniform(2, 9)), 0, 1)


def cells(rng: np.random.Generator, size: int, frequency: int, angle: float) -> Array:
    """Voronoi cells: flat tiles, walls, or domes (Worley 1996), on a jittered lattice."""
    count = max(2, round(cycles(rng, size, frequency)))
    x, y = grid(size)
    u, v = (x + 1) * np.float32(count / 2) + 1, (y + 1) * np.float32(count / 2) + 1
    column, row = u.astype(np.int32), v.astype(np.int32)
    points = rng.random((2, count + 2, count + 2), dtype=np.float32)
    points += np.indices((count + 2, count + 2), dtype=np.float32)[::-1]
    shade = rng.random((count + 2, count + 2), dtype=np.float32)
    first = np.full((size, size), 9, dtype=np.float32)
    second, tone = first.copy(), np.zeros_like(first)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            r, c = np.clip(row + dy, 0, count + 1), np.clip(column + dx, 0, count + 1)
            distance = (points[0][r, c] - u) ** 2 + (points[1][r, c] - v) ** 2
            nearer = distance < first
            second = np.where(nearer, first, np.minimum(second, distance))
            tone = np.where(nearer, shade[r, c], tone)
            first = np.minimum(first, distance)
    style = int(rng.integers(3))
    if style == 0:
        return tone
    gap = np.sqrt(second) - np.sqrt(first)
    return np.clip(gap * 4, 0, 1) * (0.5 + 0.5 * tone) if style == 1 else np.clip(1 - np.sqrt(first), 0, 1)


def stripes(rng: np.random.Generator, size: int, frequency: int, angle: float) -> Array:
    """Hard stripes of uneven width, slightly bent."""
    bend = smooth_noise(rng, size, 2) * np.float32(rng.uniform(0, 0.08))
    phase = np.float32(np.pi * cycles(rng, size, frequency)) * (along(size, angle) + bend)
    wave = np.sin(phase + np.float32(rng.uniform(0, 6.28))) + np.float32(rng.uniform(-0.5, 0.5))
    return np.clip(0.5 + 6 * wave, 0, 1)


def fractal(rng: np.random.Generator, size: int, frequency: int, angle: float) -> Array:
    """Ridged turbulence: creased like rock or like crumpled paper (Musgrave 1993)."""
    return _unit(octaves(rng, size, cycles(rng, size, frequency), roughness=0.6, ridged=True), 0.3)


def gradient(rng: np.random.Generator, size: int, frequency: int, angle: float) -> Array:
    """A ramp from one side to the other, straight or bowed; it has no frequency of its own."""
    ramp = along(size, angle)
    bow = np.float32(rng.uniform(-0.6, 0.6)) * along(size, angle + np.pi / 2) ** 2
    return np.clip(0.5 + np.float32(rng.uniform(0.35, 0.6)) * (ramp + bow), 0, 1)


def ribs(rng: np.random.Generator, size: int, frequency: int, angle: float) -> Array:
    """Paired curved bands that meet in the middle, each with a bright lower rim."""
    x, y = grid(size)
    middle = np.float32(rng.uniform(-0.15, 0.15))
    reach = np.abs(x - middle)
    sag = np.float32(rng.uniform(-0.5, 0.9)) * reach + np.float32(rng.uniform(0.1, 0.9)) * reach**2
    phase = np.float32(np.pi * cycles(rng, size, frequency)) * (y - sag) + np.float32(rng.uniform(0, 6.28))
    band = np.clip(0.5 + np.float32(rng.uniform(1.2, 4)) * (np.sin(phase) - 0.1), 0, 1)
    return np.clip(0.75 * band * (1 + 0.3 * np.cos(phase)) + 0.1, 0, 1)


def marble(rng: np.random.Generator, size: int, frequency: int, angle: float) -> Array:
    """A grating folded by turbulence, like marble or wood (Perlin 1985)."""
    fold = octaves(rng, size, 2, roughness=0.55)
    phase = np.float32(np.pi * cycles(rng, size, frequency)) * along(size, angle)
    return 0.5 + 0.5 * np.sin(phase + np.float32(rng.uniform(0.8, 2.2)) * fold)


def blobs(rng: np.random.Generator, size: int, frequency: int, angle: float) -> Array:
    """Spots: band-limited noise pressed through a threshold."""
    field = smooth_noise(rng, size, max(2, round(1.6 * cycles(rng, size, frequency))))
    return np.clip(0.5 + np.float32(rng.uniform(1, 5)) * (field - np.float32(rng.uniform(-0.3, 0.6))), 0, 1)


Texture = Callable[[np.random.Generator, int, int, float], Array]

TEXTURES: dict[str, Texture] = {
    "noise": noise,
    "grating": grating,
    "checker": checker,
    "cells": cells,
    "stripes": stripes,
    "fractal": fractal,
    "gradient": gradient,
    "ribs": ribs,
    "marble": marble,
    "blobs": blobs,
}
"""The families in the order of their class numbers: (rng, size, frequency class, angle) → float32 [size, size]."""

ORIENTED = ("grating", "stripes", "gradient", "marble")
"""Families with a direction; the others belong to the class *no direction*."""
