"""Shapes made by procedure: signed distances, negative inside, in units of half an image side."""

# mypy: disable-error-code="no-any-return"
# NumPy's stubs type arithmetic on arrays of any dtype as Any.

from collections.abc import Callable

import numpy as np

from hilum.arrays import Array
from hilum.datasets.procedural_textures import grid


def _polygon(x: Array, y: Array, corners: Array) -> Array:
    """Distance to the lines of a convex polygon: the largest of the half-plane distances."""
    distance = np.full_like(x, -9)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        length = np.float32(max(np.hypot(bx - ax, by - ay), 1e-6))
        normal = np.float32(by - ay) / length, np.float32(ax - bx) / length
        distance = np.maximum(distance, (x - np.float32(ax)) * normal[0] + (y - np.float32(ay)) * normal[1])
    return distance


def _regular(count: int) -> Array:
    angles = np.arange(count) * (2 * np.pi / count)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def disc(rng: np.random.Generator, x: Array, y: Array) -> Array:
    """A disc of radius 1."""
    return np.sqrt(x * x + y * y) - 1


def ellipse(rng: np.random.Generator, x: Array, y: Array) -> Array:
    """An ellipse whose short axis is 0.35 … 0.6 of the long one."""
    short = np.float32(rng.uniform(0.35, 0.6))
    return (np.sqrt(x * x + (y / short) ** 2) - 1) * short


def polygon(rng: np.random.Generator, x: Array, y: Array) -> Array:
    """A regular polygon with three, five or six corners."""
    return _polygon(x, y, _regular(int(rng.choice((3, 5, 6)))))


def star(rng: np.random.Generator, x: Array, y: Array) -> Array:
    """A star of four to seven rays."""
    rays = int(rng.integers(4, 8))
    angle = np.arctan2(y, x) * np.float32(rays / (2 * np.pi))
    ramp = np.abs(angle - np.round(angle)) * 2
    return (np.sqrt(x * x + y * y) - (1 - np.float32(rng.uniform(0.45, 0.62)) * ramp)) * np.float32(0.7)


def ring(rng: np.random.Generator, x: Array, y: Array) -> Array:
    """A ring."""
    width = np.float32(rng.uniform(0.12, 0.25))
    return np.abs(np.sqrt(x * x + y * y) - (1 - width)) - width


def cross(rng: np.random.Generator, x: Array, y: Array) -> Array:
    """A plus sign."""
    width = np.float32(rng.uniform(0.16, 0.32))
    a, b = np.abs(x), np.abs(y)
    return np.minimum(np.maximum(a - 1, b - width), np.maximum(b - 1, a - width))


def crescent(rng: np.random.Generator, x: Array, y: Array) -> Array:
    """A disc with a bite taken by another."""
    shift, bite = np.float32(rng.uniform(0.4, 0.6)), np.float32(rng.uniform(0.75, 0.95))
    return np.maximum(np.sqrt(x * x + y * y) - 1, bite - np.sqrt((x - shift) ** 2 + y * y))


def square(rng: np.random.Generator, x: Array, y: Array) -> Array:
    """A square."""
    return np.maximum(np.abs(x), np.abs(y)) - np.float32(0.85)


def lines(rng: np.random.Generator, x: Array, y: Array) -> Array:
    """A bundle of two to four parallel bars."""
    count = int(rng.integers(2, 5))
    width = np.float32(0.42 / count)
    place = np.clip(np.round((y + 1) * np.float32(count / 2) - 0.5), 0, count - 1)
    centre = (place + np.float32(0.5)) * np.float32(2 / count) - 1
    return np.maximum(np.abs(y - centre) - width, np.abs(x) - 1)


Shape = Callable[[np.random.Generator, Array, Array], Array]

SHAPES: dict[str, Shape] = {
    "disc": disc,
    "ellipse": ellipse,
    "polygon": polygon,
    "star": star,
    "ring": ring,
    "cross": cross,
    "crescent": crescent,
    "square": square,
    "lines": lines,
}
"""The shapes in the order of their class numbers (class 0 is *no object*): (rng, x, y) → signed distance."""


def coverage(
    rng: np.random.Generator, name: str, size: int, centre: tuple[float, float], radius: float, softness: float
) -> Array:
    """How much of each pixel a shape covers.

    Args:
        rng: source of chance: rotation and the shape's own proportions.
        name: one of :data:`SHAPES`.
        size: pixels a side.
        centre: x and y in −1 … 1.
        radius: in units of half a side.
        softness: width of the edge in units of half a side; one pixel at least.

    Returns:
        float32 [size, size] in 0 … 1.
    """
    x, y = grid(size)
    turn = float(rng.uniform(0, 2 * np.pi))
    c, s = np.float32(np.cos(turn) / radius), np.float32(np.sin(turn) / radius)
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    distance = SHAPES[name](rng, c * dx + s * dy, c * dy - s * dx) * np.float32(radius)
    return np.clip(0.5 - distance / np.float32(max(softness, 2 / size)), 0, 1)
