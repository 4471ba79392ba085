"""Images made by procedure, with every factor known: what a small encoder learns from before it sees a photograph.

An image has a textured background, an object, a pair of dark fields or none, and soft translucent opacities; half of
the images are grey. The factors are integer classes for a multi-task classification. Learning from formulas instead of
photographs follows Kataoka et al. 2020 (*Pre-training without natural images*) and Baradad et al. 2021 (*Learning to
see by looking at noise*); known factors follow dSprites (Matthey et al. 2017) and 3D Shapes (Burgess & Kim 2018).

Each image depends on the seed and its own index alone.
"""

# mypy: disable-error-code="no-any-return"
# NumPy's stubs type arithmetic on arrays of any dtype as Any.

import colorsys
import contextlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer, UInt8

from hilum.arrays import Array, Indices
from hilum.datasets.procedural_shapes import SHAPES, coverage
from hilum.datasets.procedural_textures import ORIENTED, TEXTURES, blur_matrix, grid, octaves, smooth_noise
from hilum.errors import ConfigError, UsageError
from hilum.randomness import stream

HUES = 8
"""Hue classes; class 8 is grey."""

FACTORS: dict[str, int] = {
    "texture": len(TEXTURES),  # family of the background
    "frequency": 3,  # low, middle, high
    "orientation": 5,  # 0°, 45°, 90°, 135°, no direction
    "shape": 1 + len(SHAPES),  # none, disc …
    "edge": 3,  # no object, hard, soft
    "colour": HUES + 2,  # eight hues, grey, no object
    "size": 4,  # no object, small, middle, large
    "fields": 2,  # without, with a pair of dark fields
    "opacities": 3,  # none, one, two or more
    "side": 4,  # none, left, right, both
    "height": 4,  # none, upper, lower, both
    "zone": 3,  # none, central, peripheral
    "grain": 3,  # none, smooth, mottled
    "border": 3,  # none, fading, cut off along a line
}
"""Number of classes of each factor, in the order of the targets."""

TEN: tuple[tuple[str, tuple[str, ...], tuple[str, ...], float], ...] = (
    ("smooth disc", ("disc", "ellipse"), ("gradient", "noise"), 0.02),
    ("striped disc", ("disc", "ellipse"), ("stripes", "grating"), 0.12),
    ("spotted star", ("star",), ("blobs", "cells"), 0.22),
    ("veined star", ("star",), ("marble", "fractal"), 0.32),
    ("checked block", ("square", "polygon"), ("checker",), 0.42),
    ("rough block", ("square", "polygon"), ("fractal", "noise"), 0.52),
    ("smooth ring", ("ring", "crescent"), ("gradient", "noise"), 0.62),
    ("tiled ring", ("ring", "crescent"), ("cells", "checker"), 0.72),
    ("striped cross", ("cross", "lines"), ("stripes", "grating"), 0.82),
    ("spotted cross", ("cross", "lines"), ("blobs", "marble"), 0.92),
)
"""The ten-class set: name, shapes, surface textures, and the hue that half of the class's objects lean to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProceduralConfig:
    """Which images are made."""

    size: int = 112
    """Pixels a side, ≥ 16."""
    seed: int = 0
    """Seed of all chance; an image depends on it and on its index."""
    grey_share: float = 0.5
    """Share of images without colour, 0 … 1."""
    nuisance: float = 1.0
    """Strength of shading, contrast, blur and noise; 0 leaves them out."""

    def __post_init__(self) -> None:
        problems = []
        if self.size < 16:
            problems.append(f"size is {self.size}, but an image needs 16 pixels a side or more.")
        if not 0 <= self.grey_share <= 1:
            problems.append(f"grey_share is {self.grey_share}, but must be within 0 … 1.")
        if self.nuisance < 0:
            problems.append(f"nuisance is {self.nuisance}, but must be 0 or more.")
        if problems:
            raise ConfigError(problems)


def procedural_batch(
    config: ProceduralConfig, indices: Indices
) -> tuple[UInt8[np.ndarray, "n 3 size size"], dict[str, Integer[np.ndarray, " n"]]]:
    """Make images with all their factors.

    Args:
        config: which images.
        indices: n image numbers, ≥ 0; the same number gives the same image in any batch and any process.

    Returns:
        images uint8 [n, 3, size, size], and for each of :data:`FACTORS` its classes as int64 [n].

    Raises:
        UsageError: an index is negative.
    """
    numbers = _numbers(indices)
    images = np.empty((len(numbers), 3, config.size, config.size), dtype=np.uint8)
    targets = {name: np.zeros(len(numbers), dtype=np.int64) for name in FACTORS}
    for row, number in enumerate(numbers):
        images[row], factors = _scene(config, stream(config.seed, "procedural", number))
        for name, value in factors.items():
            targets[name][row] = value
    return images, targets


def procedural_ten(
    config: ProceduralConfig, indices: Indices
) -> tuple[UInt8[np.ndarray, "n 3 size size"], Integer[np.ndarray, " n"]]:
    """Make images of ten classes, a stand-in for small photographs: each is an object with a surface on a background.

    A class is a pair of a shape and a surface (:data:`TEN`); neither alone decides it, nor does colour. The classes are
    balanced: image ``i`` has class ``i mod 10``.

    Args:
        config: which images; ``grey_share`` applies as well, so set it to 0 for colour only.
        indices: n image numbers, ≥ 0.

    Returns:
        images uint8 [n, 3, size, size], and classes int64 [n] in 0 … 9.

    Raises:
        UsageError: an index is negative.
    """
    numbers = _numbers(indices)
    images = np.empty((len(numbers), 3, config.size, config.size), dtype=np.uint8)
    for row, number in enumerate(numbers):
        images[row] = _photograph(config, stream(config.seed, "procedural-ten", number), number % len(TEN))
    return images, np.array([number % len(TEN) for number in numbers], dtype=np.int64)


def one_thread() -> contextlib.AbstractContextManager[object]:
    """NumPy's matrix products on one thread: the number of threads changes their last bit, and these are small."""
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        return contextlib.nullcontext()
    return threadpool_limits(limits=1, user_api="blas")


def _numbers(indices: Indices) -> list[int]:
    numbers = [int(i) for i in np.asarray(indices).ravel()]
    if any(number < 0 for number in numbers):
        raise UsageError(f"Image number {min(numbers)} is negative. Number procedural images from 0.")
    return numbers


def _scene(config: ProceduralConfig, rng: np.random.Generator) -> tuple[Array, dict[str, int]]:
    size, grey = config.size, bool(rng.random() < config.grey_share)
    image, factors = _background(rng, size)
    if rng.random() < 0.8:
        factors |= _place_object(rng, image, grey)
    else:
        factors |= {"shape": 0, "edge": 0, "colour": HUES + 1, "size": 0}
    factors["fields"] = int(rng.random() < 0.4)
    if factors["fields"]:
        image *= _fields(rng, size)
    factors |= _add_opacities(rng, image)
    return _photographed(config, rng, image, grey), factors


def _background(rng: np.random.Generator, size: int) -> tuple[Array, dict[str, int]]:
    family = int(rng.integers(len(TEXTURES)))
    name = list(TEXTURES)[family]
    frequency = 0 if name == "gradient" else int(rng.integers(3))
    direction = int(rng.integers(4)) if name in ORIENTED else 4
    angle = np.pi / 4 * direction + float(rng.uniform(-0.2, 0.2))
    field = TEXTURES[name](rng, size, frequency, angle)
    image = _coloured(rng, field)
    return image, {"texture": family, "frequency": frequency, "orientation": direction}


def _coloured(rng: np.random.Generator, field: Array, lean: tuple[float, float, float] | None = None) -> Array:
    """Map a grey field to a palette of two colours whose brightness differs; float32 [3, size, size]."""
    dark, bright = rng.uniform(0.05, 0.4), rng.uniform(0.5, 0.95)
    colours = []
    for value in (dark, bright) if rng.random() < 0.5 else (bright, dark):
        hue, saturation = rng.random(), rng.uniform(0, 0.8)
        if lean is not None:
            hue, saturation = lean[0] + rng.normal(0, lean[1]), lean[2] * rng.uniform(0.6, 1)
        colours.append(colorsys.hsv_to_rgb(float(hue % 1), float(saturation), float(value)))
    low, high = np.asarray(colours, dtype=np.float32)
    return low[:, None, None] + (high - low)[:, None, None] * field


def _place_object(rng: np.random.Generator, image: Array, grey: bool) -> dict[str, int]:
    size = image.shape[1]
    kind, scale, soft = int(rng.integers(len(SHAPES))), int(rng.integers(3)), int(rng.integers(2))
    radius = float(rng.uniform(*((0.14, 0.22), (0.27, 0.38), (0.45, 0.62))[scale]))
    softness = radius * float(rng.uniform(0.35, 0.6)) if soft else 0.0
    centre = (float(rng.uniform(-0.65, 0.65)), float(rng.uniform(-0.65, 0.65)))
    cover = coverage(rng, list(SHAPES)[kind], size, centre, radius, softness)
    hue = HUES if rng.random() < 0.12 else int(rng.integers(HUES))
    saturation = 0.0 if hue == HUES else float(rng.uniform(0.55, 1))
    # A grey film keeps only brightness, so the object must differ from what lies beneath it in brightness too.
    beneath = float((image.mean(axis=0) * cover).sum() / max(float(cover.sum()), 1e-6))
    value = float(rng.uniform(0.75, 1.0) if beneath < 0.5 else rng.uniform(0.3, 0.5))
    if hue == HUES:
        value = value if beneath < 0.5 else value * 0.5
    red_green_blue = colorsys.hsv_to_rgb((hue + float(rng.uniform(-0.3, 0.3))) / HUES % 1, saturation, value)
    colour = np.array(red_green_blue, dtype=np.float32)[:, None, None]
    surface = 1.0 + float(rng.uniform(0, 0.35)) * np.clip(smooth_noise(rng, size, int(rng.integers(3, 16))), -1, 1)
    cover *= np.float32(rng.uniform(0.75, 1.0))
    image *= 1 - cover
    image += colour * (cover * surface)
    return {"shape": 1 + kind, "edge": 1 + soft, "colour": HUES if grey else hue, "size": 1 + scale}


def _fields(rng: np.random.Generator, size: int) -> Array:
    """Two dark soft fields side by side, as lungs are on a film: a factor in 0.3 … 1."""
    cover = np.zeros((size, size), dtype=np.float32)
    x, y = grid(size)
    for side in (-1, 1):
        cx, cy = side * rng.uniform(0.36, 0.5), rng.uniform(-0.15, 0.15)
        rx, ry = rng.uniform(0.26, 0.42), rng.uniform(0.5, 0.8)
        distance = np.sqrt(((x - np.float32(cx)) / np.float32(rx)) ** 2 + ((y - np.float32(cy)) / np.float32(ry)) ** 2)
        cover = np.maximum(cover, np.clip((1 - distance) * np.float32(rng.uniform(3, 12)), 0, 1))
    return 1 - np.float32(rng.uniform(0.35, 0.7)) * cover


def _add_opacities(rng: np.random.Generator, image: Array) -> dict[str, int]:
    group = int(rng.integers(3))
    names = ("side", "height", "zone", "grain", "border")
    if group == 0:
        return {"opacities": 0} | dict.fromkeys(names, 0)
    count = 1 if group == 1 else int(rng.integers(2, 5))
    choice = {name: 1 + int(rng.integers(2 if count == 1 or name not in ("side", "height") else 3)) for name in names}
    veil = np.zeros(image.shape[1:], dtype=np.float32)
    sides, heights = _spread(rng, choice["side"], count), _spread(rng, choice["height"], count)
    for side, height in zip(sides, heights, strict=True):
        far = rng.uniform(0.56, 0.8) if choice["zone"] == 2 else rng.uniform(0.14, 0.36)
        centre = (float(side * far), float(height * rng.uniform(0.22, 0.7)))
        veil = np.maximum(veil, _opacity(rng, image.shape[1], centre, choice["grain"] == 2, choice["border"] == 2))
    tint = rng.uniform(0.85, 1.0, size=(3, 1, 1)).astype(np.float32)
    image += veil * (tint - image)
    return {"opacities": group, **choice}


def _spread(rng: np.random.Generator, choice: int, count: int) -> list[int]:
    """−1 (left or upper) and 1 (right or lower) for each of count opacities; choice 3 has both."""
    if choice < 3:
        return [2 * choice - 3] * count
    signs = [-1, 1, *(int(rng.choice((-1, 1))) for _ in range(count - 2))]
    return [signs[i] for i in rng.permutation(count)]


def _opacity(rng: np.random.Generator, size: int, centre: tuple[float, float], mottled: bool, cut: bool) -> Array:
    """One translucent patch: float32 [size, size], 0 … its strength."""
    x, y = grid(size)
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    rx, ry = np.float32(rng.uniform(0.15, 0.4)), np.float32(rng.uniform(0.15, 0.4))
    distance = np.sqrt((dx / rx) ** 2 + (dy / ry) ** 2) + np.float32(0.16) * smooth_noise(rng, size, 5)
    if cut:
        turn, place = rng.uniform(0, 2 * np.pi), rng.uniform(-0.1, 0.4)
        beyond = (dx / rx) * np.float32(np.cos(turn)) + (dy / ry) * np.float32(np.sin(turn)) - np.float32(place)
        veil = np.clip(2.2 * (1.1 - distance), 0, 1) * np.clip(0.5 - 9 * beyond, 0, 1)
    else:
        veil = np.clip(1.3 * (1.15 - distance), 0, 1)
        veil = veil * veil * (3 - 2 * veil)
    if mottled:
        veil = veil * np.clip(0.55 + 0.55 * octaves(rng, size, rng.uniform(9, 16)), 0, 1.4)
    return np.clip(veil * np.float32(rng.uniform(0.22, 0.6)), 0, 0.9)


def _photographed(config: ProceduralConfig, rng: np.random.Generator, image: Array, grey: bool) -> Array:
    """Shade, turn grey, blur, stretch, add noise, and quantise to uint8 [3, size, size]."""
    size, strength = config.size, config.nuisance
    channels = image
    if grey:
        weights = np.float32(rng.dirichlet((6, 9, 4)))
        channels = np.tensordot(weights, image, axes=1)[None]
    shade = 1 + np.float32(0.14 * strength) * smooth_noise(rng, size, 1)
    channels = channels * shade
    if strength and rng.random() < 0.4:
        matrix = blur_matrix(size, max(1, round(strength * float(rng.uniform(4, 14)))))
        channels = matrix @ channels @ matrix.T
    gain = 1 + strength * float(rng.uniform(-0.5, 0.25))
    offset = strength * float(rng.uniform(-0.18, 0.18))
    channels = (channels - 0.5) * np.float32(gain) + np.float32(0.5 + offset)
    sigma = strength * 0.06 * float(rng.random()) ** 2
    channels = channels + np.float32(sigma) * rng.standard_normal(channels.shape, dtype=np.float32)
    stored = (np.clip(channels, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return np.broadcast_to(stored, (3, size, size))


def _photograph(config: ProceduralConfig, rng: np.random.Generator, number: int) -> Array:
    """One image of the ten-class set, uint8 [3, size, size]."""
    size, grey = config.size, bool(rng.random() < config.grey_share)
    image, _ = _background(rng, size)
    image = 0.5 + (image - 0.5) * np.float32(rng.uniform(0.3, 0.9))
    _, shapes, surfaces, hue = TEN[number]
    radius = float(rng.uniform(0.42, 0.8))
    centre = (float(rng.uniform(-0.3, 0.3)), float(rng.uniform(-0.3, 0.3)))
    cover = coverage(rng, shapes[int(rng.integers(len(shapes)))], size, centre, radius, float(rng.uniform(0, 0.12)))
    name = surfaces[int(rng.integers(len(surfaces)))]
    frequency = 0 if name == "gradient" else int(rng.integers(1, 3))
    field = TEXTURES[name](rng, size, frequency, float(rng.uniform(0, np.pi)))
    lean = (hue, 0.1, 0.9) if rng.random() < 0.5 else (float(rng.random()), 0.1, 0.9)
    image = image + cover * (_coloured(rng, field, lean) - image)
    return _photographed(config, rng, image, grey)
