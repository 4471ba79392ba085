"""Where the lungs are on a frontal film: by image processing alone, with nothing learned and nothing drawn by lot.

The outline of two lungs is slid and stretched over the film; the place where it is darkest inside against what lies
around it wins (matched filtering). From there each lung takes the dark pixels beside it, and keeps its core even where
disease has made it white: an opaque lung is a lung. After the rule-based segmentations that van Ginneken et al. 2006
("Segmentation of anatomical structures in chest radiographs", Med Image Anal 10:19) compare with learned ones.

``benchmarks/lung_fields.py`` measures it on phantoms, whose lungs are known. It serves audits, which ask what can be
read with the lungs taken away; it is no measurement of a lung.
"""

from functools import lru_cache
from itertools import product

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image, ImageDraw
from scipy import ndimage

from hilum.arrays import Array, Mask
from hilum.errors import UsageError
from hilum.imaging.preprocessing import area_average

GRID = 96
"""Rows and columns that the film is reduced to."""

# Outlines of a patient's right and left lung, (x, y) in the box around both: x from the picture's left, y from the
# apices (0) to the costophrenic angles (1). Drawn by eye after the anatomy of a frontal film.
RIGHT = (
    (0.27, 0.0), (0.34, 0.02), (0.39, 0.10), (0.41, 0.25), (0.42, 0.45), (0.40, 0.62), (0.37, 0.76), (0.34, 0.83),
    (0.25, 0.81), (0.15, 0.84), (0.07, 0.92), (0.02, 1.0), (0.0, 0.85), (0.02, 0.60), (0.06, 0.38), (0.11, 0.20),
    (0.18, 0.06),
)  # fmt: skip
LEFT = (
    (0.73, 0.0), (0.66, 0.02), (0.61, 0.10), (0.59, 0.22), (0.61, 0.33), (0.62, 0.45), (0.68, 0.57), (0.76, 0.68),
    (0.82, 0.80), (0.84, 0.87), (0.92, 0.92), (0.98, 1.0), (1.0, 0.85), (0.98, 0.60), (0.94, 0.38), (0.89, 0.20),
    (0.82, 0.06),
)  # fmt: skip

WIDTHS = (0.5, 0.58, 0.66, 0.74, 0.82, 0.9)
HEIGHTS = (0.4, 0.48, 0.56, 0.64, 0.72, 0.8)
CENTRES_X = (0.38, 0.42, 0.46, 0.5, 0.54, 0.58, 0.62)
CENTRES_Y = (0.34, 0.39, 0.44, 0.49, 0.54, 0.59)
"""Sizes and places of the box that are tried, as shares of the film."""

# Chosen on phantoms of seeds 0 and 1, and by looking at real films; the benchmark measures on other seeds.
AREA = 0.1
"""Power of the area by which a larger outline is preferred among equally contrasted ones."""
FLATTENING = 0.5
"""Share of the film's slow change of grey that is taken away."""
AIR_RANK = 0.65
"""Grey rank that air around the body is given."""
AIR_MARGIN, CORE_MARGIN, REACH, AROUND = 4, 4, 3, 5
"""Widths on the grid: of the body's rim that counts as air, by which the core is smaller, to which a lung may grow
beyond its outline, and of the surroundings it is compared with."""
CLOSING, OPENING = 6, 2
"""Widths on the grid of the notches that are filled and of the spikes that are cut off."""
FIT_GRID = 48
"""Rows and columns on which the fit to a frontal film is measured."""
FIT_WIDTHS, FIT_HEIGHTS = (0.5, 0.62, 0.74, 0.86), (0.42, 0.54, 0.66, 0.78)
FIT_X, FIT_Y = (0.42, 0.46, 0.5, 0.54, 0.58), (0.36, 0.42, 0.48, 0.54)
"""A coarser choice of sizes and places than for the outlines: whether lungs are there needs no exact border."""
LEVEL = 0.7
"""Where a pixel stops being lung, from the core's grey (0) to that of the surroundings (1)."""


def lung_fields(film: Shaped[np.ndarray, "h w"]) -> Mask:
    """The lungs of a frontal film, without heart and mediastinum, opaque parts included.

    Args:
        film: grey values of any number type, dark where there is air; a film or a tile.

    Returns:
        bool [h, w]; all false for a film of one grey value. Always two lungs otherwise: whether the film is a chest
        isn't asked.

    Raises:
        UsageError: the film is smaller than 16 pixels a side.
    """
    if film.ndim != 2 or min(film.shape) < 16:
        raise UsageError(f"A film of {film.shape} has no lungs to find; give grey values of 16 × 16 pixels or more.")
    small = _reduced(film)
    if small.max() <= small.min():
        return np.zeros(film.shape, dtype=bool)
    grey = _levelled(small)
    mask = _grown(grey, _best_outline(grey))
    enlarged = Image.fromarray((mask * 255).astype(np.uint8)).resize(film.shape[::-1], Image.Resampling.BILINEAR)
    fields: Mask = np.asarray(enlarged) > 127
    return fields


def frontal_fit(film: Shaped[np.ndarray, "h w"]) -> float:
    """How well a picture fits two dark lungs beside each other: the upright chest of a frontal film.

    The outline of two lungs that lies darkest against its surroundings is compared with the picture: the correlation of
    "lung or beside it" with grey, over both. ``benchmarks/frontal_fit.py`` measures what it tells apart; it knows
    nothing of films that look alike by other causes, and opaque lungs lower it.

    Args:
        film: grey values of any number type, dark where there is air.

    Returns:
        −1 … 1; 0 for a film of one grey value or below 16 pixels a side.
    """
    if film.ndim != 2 or min(film.shape) < 16:
        return 0.0
    small = _reduced(film, FIT_GRID)
    if small.max() <= small.min():
        return 0.0
    grey = _levelled(small).ravel()
    inside, ring, kernels, preference = _fit_outlines()
    best = int(np.argmax(kernels @ grey.astype(np.float32) * preference))
    near = inside[best] | ring[best]
    lung, greys = inside[best][near], grey[near]
    spread = float(lung.std() * greys.std())
    return 0.0 if spread == 0 else -float(np.mean((lung - lung.mean()) * (greys - greys.mean()))) / spread


@lru_cache(maxsize=1)
def _fit_outlines() -> tuple[Array, Array, Array, Array]:
    """Every outline of the fit.

    Returns:
        Lungs and their surroundings, bool [m, FIT_GRID²]; kernels float32 [m, FIT_GRID²] that weigh one against the
        other; and by how much the area of each is preferred, [m].
    """
    lungs, rings = [], []
    for width, height, x, y in product(FIT_WIDTHS, FIT_HEIGHTS, FIT_X, FIT_Y):
        box = _box(width, height, x, y)
        if box is not None:
            inside, ring = _lungs_and_ring(box, FIT_GRID)
            lungs.append(inside.ravel())
            rings.append(ring.ravel())
    inside, ring = np.stack(lungs), np.stack(rings)
    kernels = ring / ring.sum(axis=1, keepdims=True) - inside / inside.sum(axis=1, keepdims=True)
    return inside, ring, kernels.astype(np.float32), inside.mean(axis=1) ** AREA


def _reduced(film: Array, grid: int = GRID) -> Float[np.ndarray, "h w"]:
    """The film on the grid: averaged when it is larger, interpolated when it is smaller."""
    if min(film.shape) >= grid and np.issubdtype(film.dtype, np.unsignedinteger):
        values = area_average(film, grid, grid).astype(np.float64)
    else:
        picture = Image.fromarray(film.astype(np.float32)).resize((grid, grid), Image.Resampling.BOX)
        values = np.asarray(picture, dtype=np.float64)
    # One grey value is left as it is: rounding must not make a picture of it.
    return values if values.max() <= values.min() else _blurred(values, grid / GRID, "reflect")


def _blurred(values: Array, sigma: float, mode: str) -> Float[np.ndarray, "n n"]:
    """What `scipy.ndimage.gaussian_filter` gives, to the last digits: two products of small matrices."""
    weights = _blur(len(values), sigma, mode)
    blurred: Array = weights @ values @ weights.T
    return blurred


@lru_cache(maxsize=8)
def _blur(length: int, sigma: float, mode: str) -> Array:
    """Weights of each value in each blurred one, float64 [length, length]: what the filter makes of single ones."""
    weights: Array = ndimage.gaussian_filter1d(np.eye(length), sigma, axis=0, mode=mode)
    weights.setflags(write=False)
    return weights


def _levelled(values: Array) -> Array:
    """Grey values as their rank in the body, 0 … 1, with the air around the body taken for tissue."""
    outside = _wider(_air_around(values), AIR_MARGIN * len(values) / GRID)
    # Put in order once; looked up in order, neighbours are found where the last one was.
    order = np.argsort(values, axis=None)
    rising = values.ravel()[order]
    inside = rising[~outside.ravel()[order]]
    ranks: Array = np.empty(values.shape)
    ranks.ravel()[order] = np.searchsorted(inside, rising) / max(1, len(inside))
    ranks[outside] = AIR_RANK
    slow = _blurred(ranks, len(values) / 4, "nearest")
    levelled: Array = ranks - FLATTENING * (slow - ranks.mean())
    return levelled


def _air_around(values: Array) -> Mask:
    """Dark pixels that hang together with the film's border and aren't lung: above the shoulders, beside the body."""
    span = values.max() - values.min()
    dark = values < values.min() + 0.12 * span
    labels, number = ndimage.label(dark)
    touching = np.zeros(number + 1, bool)
    for rim in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        touching[rim] = True
    touching[0] = False
    around: Mask = touching[labels]
    return around


@lru_cache(maxsize=1)
def _outlines() -> tuple[Array, Array, Array]:
    """Every outline that is tried: kernels [m, GRID²] of surroundings minus lungs, lungs [m, GRID²], sizes [m]."""
    lungs, kernels = [], []
    for width, height, x, y in product(WIDTHS, HEIGHTS, CENTRES_X, CENTRES_Y):
        box = _box(width, height, x, y)
        if box is not None:
            lung, ring = _lungs_and_ring(box, GRID)
            lungs.append(lung.ravel())
            kernels.append((ring / ring.sum() - lung / lung.sum()).ravel().astype(np.float32))
    inside = np.stack(lungs)
    return np.stack(kernels), inside, (inside.sum(axis=1) / inside.shape[1]) ** AREA


Box = tuple[float, float, float, float]


def _box(width: float, height: float, x: float, y: float) -> Box | None:
    """Left, top, width and height of a box around both lungs; ``None`` where no film has it."""
    box = (x - width / 2, y - height / 2, width, height)
    if not 0.65 <= height / width <= 1.25:
        return None
    if box[0] < -0.06 or box[0] + width > 1.06 or box[1] < -0.04 or box[1] + height > 1.02:
        return None
    return box


def _lungs_and_ring(box: Box, grid: int) -> tuple[Mask, Mask]:
    """The lungs in a box, and what lies around and between them."""
    inside = _drawn(RIGHT, box, grid) | _drawn(LEFT, box, grid)
    near = ndimage.maximum_filter(inside, 2 * (AROUND * grid // GRID) + 1)
    hull = _drawn(((0.27, 0.0), (0.73, 0.0), (1.0, 0.95), (0.0, 0.95)), box, grid)
    return inside, (near | hull) & ~inside


def _drawn(outline: tuple[tuple[float, float], ...], box: Box, grid: int) -> Mask:
    left, top, width, height = box
    picture = Image.new("L", (grid, grid))
    points = [((left + x * width) * grid, (top + y * height) * grid) for x, y in outline]
    ImageDraw.Draw(picture).polygon(points, fill=1)
    drawn: Mask = np.asarray(picture) > 0
    return drawn


def _wider(mask: Mask, by: float) -> Mask:
    """Dilated by a disc."""
    if not mask.any():
        return mask
    wider: Mask = ndimage.distance_transform_edt(~mask) <= by
    return wider


def _narrower(mask: Mask, by: float) -> Mask:
    """Eroded by a disc; beyond the film's border the mask goes on."""
    narrower: Mask = ndimage.distance_transform_edt(mask) > by
    return narrower


def _best_outline(grey: Array) -> Mask:
    kernels, lungs, sizes = _outlines()
    contrast = kernels @ grey.ravel().astype(np.float32)
    best: Mask = lungs[int(np.argmax(contrast * sizes))].reshape(GRID, GRID)
    return best


def _grown(grey: Array, outline: Mask) -> Mask:
    """Each lung from the outline's core, with the dark pixels beside it."""
    grown = np.zeros_like(outline)
    middle = np.nonzero(outline)[1].mean()
    for side in (np.arange(GRID) < middle, np.arange(GRID) >= middle):
        lung = outline & side
        core = _narrower(lung, CORE_MARGIN)
        around = _wider(lung, AROUND) & ~outline
        own = np.median(grey[core])
        level = own + LEVEL * (np.median(grey[around]) - own)
        reach = _wider(lung, REACH)
        dark = (grey < level) & reach
        labels, _ = ndimage.label(dark | core)
        kept = np.isin(labels, np.unique(labels[core])) & (dark | core)
        closed = _narrower(_wider(np.pad(kept, 8), CLOSING), CLOSING)[8:-8, 8:-8]
        grown |= _wider(_narrower(ndimage.binary_fill_holes(closed), OPENING), OPENING)
    return grown
