"""Affine registration of many small image pairs at once, so that a crop or a slight rotation can't hide a copy.

Inverse compositional Gauss-Newton (Baker & Matthews, "Lucas-Kanade 20 years on", IJCV 2004, §3.2): gradients and the
6 × 6 Hessian are computed once for the fixed image, each step is one bilinear resampling of the other and one small
solve. Images have coordinates −1 … 1 across and down, so warps carry over between resolutions.
"""

from dataclasses import dataclass

import numpy as np

from hilum.arrays import Array, Vector

DAMPING = 1e-3 / 6
"""Levenberg damping as a share of the Hessian's trace: keeps images without texture solvable."""

LONGEST_STEP = 0.05
"""No parameter moves further in one step: a Gauss-Newton step beyond the linear range only does harm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """How m moving images lie on m fixed ones.

    Attributes:
        warps: float32 [m, 2, 3], fixed coordinates (x, y, 1) → moving coordinates.
        similarity: normalised cross-correlation over the overlap, −1 … 1 [m].
        overlap: share of the fixed image that the moving one covers, 0 … 1 [m].
    """

    warps: Array
    similarity: Vector
    overlap: Vector

    @property
    def distortion(self) -> Vector:
        """The largest departure of a warp from the identity: 0.06 is a 3 % crop on each of two opposite sides."""
        return np.asarray(np.abs(self.warps - np.eye(2, 3, dtype=np.float32)).max(axis=(1, 2)))


def register(fixed: Array, moving: Array, *, steps: int, start: Array | None = None) -> Registration:
    """Register each moving image to its fixed one.

    Args:
        fixed: float32 [m, s, s].
        moving: float32 [m, s, s], of the same polarity.
        steps: Gauss-Newton steps.
        start: warps to start from, [m, 2, 3]; the identity when None.

    Returns:
        the warps reached and how well the images agree under them.
    """
    m, side, _ = fixed.shape
    grid = _grid(side)
    descent = _steepest_descent(fixed, grid)
    hessian = _damped(np.matmul(descent, descent.transpose(0, 2, 1)))
    warps = np.tile(np.eye(2, 3, dtype=np.float32), (m, 1, 1)) if start is None else start
    flat = fixed.reshape(m, -1)
    for _ in range(steps):
        sampled, inside = _sample(moving, warps @ grid, side)
        difference = _residual(flat, sampled, inside)
        step = np.linalg.solve(hessian, np.matmul(descent, difference[:, :, None]))[:, :, 0]
        warps = _compose(warps, np.clip(step, -LONGEST_STEP, LONGEST_STEP).reshape(m, 2, 3))
    sampled, inside = _sample(moving, warps @ grid, side)
    return Registration(
        warps=warps, similarity=_correlation(flat, sampled, inside), overlap=np.asarray(inside.mean(axis=1))
    )


def _grid(side: int) -> Array:
    along = (np.arange(side, dtype=np.float32) - (side - 1) / 2) / (side / 2)
    x, y = np.meshgrid(along, along)
    return np.stack([x.ravel(), y.ravel(), np.ones(side * side, np.float32)]).astype(np.float32)


def _steepest_descent(fixed: Array, grid: Array) -> Array:
    """How the fixed image changes with each of the six parameters, [m, 6, s·s]."""
    m, side, _ = fixed.shape
    down, across = np.gradient(fixed, axis=(1, 2))
    scale = np.float32(side / 2)
    parts = [(change.reshape(m, 1, -1) * scale) * grid for change in (across, down)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _damped(hessian: Array) -> Array:
    trace = np.trace(hessian, axis1=1, axis2=2)[:, None, None]
    return np.asarray(hessian + (DAMPING * trace + 1e-6) * np.eye(6, dtype=np.float32))


def _sample(moving: Array, at: Array, side: int) -> tuple[Array, Array]:
    """Bilinear samples [m, s·s] at coordinates [m, 2, s·s], and where those lie inside the image."""
    u, v = (at[:, axis] * (side / 2) + (side - 1) / 2 for axis in (0, 1))
    inside = (u >= 0) & (u <= side - 1) & (v >= 0) & (v <= side - 1)
    u, v = (np.clip(axis, 0, side - 1.001) for axis in (u, v))
    left, top = u.astype(np.int32), v.astype(np.int32)
    right_share, low_share = u - left, v - top
    first = (np.arange(len(moving), dtype=np.int32) * side * side)[:, None] + top * side + left
    flat = moving.reshape(-1)
    upper = flat[first] * (1 - right_share) + flat[first + 1] * right_share
    lower = flat[first + side] * (1 - right_share) + flat[first + side + 1] * right_share
    return upper * (1 - low_share) + lower * low_share, inside.astype(np.float32)


def _centred(values: Array, inside: Array) -> Array:
    mean = (values * inside).sum(axis=1) / (inside.sum(axis=1) + 1e-6)
    return np.asarray((values - mean[:, None]) * inside)


def _residual(fixed: Array, sampled: Array, inside: Array) -> Array:
    """Sampled minus fixed over the overlap, with the sampled contrast brought to the fixed one's."""
    a, b = _centred(fixed, inside), _centred(sampled, inside)
    gain = np.linalg.norm(a, axis=1) / (np.linalg.norm(b, axis=1) + 1e-6)
    return np.asarray(b * gain[:, None] - a)


def _correlation(fixed: Array, sampled: Array, inside: Array) -> Vector:
    a, b = _centred(fixed, inside), _centred(sampled, inside)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / (lengths + 1e-6))


def _compose(warps: Array, step: Array) -> Array:
    """The warp after the inverse of a step."""
    square = np.tile(np.eye(3, dtype=np.float32), (2, len(warps), 1, 1))
    square[0, :, :2], square[1, :, :2] = warps, square[1, :, :2] + step
    return np.asarray(np.matmul(square[0], np.linalg.inv(square[1]))[:, :2])
