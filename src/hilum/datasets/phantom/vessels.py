"""Vessels that branch from the hila, and the airways."""

# mypy: disable-error-code="no-any-return"
# NumPy's stubs type arithmetic on arrays of any dtype as Any.

import numpy as np

from hilum.arrays import Array
from hilum.datasets.phantom.anatomy import SIDES, Body
from hilum.datasets.phantom.bones import Sheet
from hilum.datasets.phantom.frame import Frame

HILUM_V = -0.1
"""Height of the hila in patient units; the left one lies a little higher."""


def draw_vessels(body: Body, frame: Frame, rng: np.random.Generator) -> Array:
    """Density of the lungs' vessels, float32 [h, w] at half resolution, about 0 … 1."""
    sheet = Sheet(frame)
    roots = np.array([(side * 0.15 + body.rotated * 0.5, HILUM_V - (0.04 if side > 0 else 0.0)) for side in SIDES])
    lines, calibres = _trees(roots, rng)
    # Thin ones first, so that thick ones lie over them.
    order = np.argsort(calibres, kind="stable")
    widths, tones = np.maximum(calibres - 0.001, 0.002), np.clip(0.22 + calibres * 30, 0, 1)
    sheet.lines(lines[order], widths[order], tones[order])
    for side, root in zip(SIDES, roots, strict=True):
        _hilum(sheet, root, side, rng)
    return sheet.field()


def _trees(roots: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Vessels of both lungs, all branches of a generation at once: each tapers, bends and forks.

    Returns:
        lines [n, 4, 2] of patient coordinates and their calibres [n].
    """
    directions = np.tile(np.linspace(-1.3, 1.45, 9), 2)
    side = np.repeat(np.array(SIDES, dtype=float), 9)
    heading = directions + rng.normal(0, 0.12, size=18)
    calibre = 0.023 * (0.75 + 0.4 * (directions > 0.2)) * rng.uniform(0.7, 1.1, size=18)
    point = np.repeat(roots, 9, axis=0) + rng.normal(0, 0.025, size=(18, 2))
    lines, calibres = [], []
    while len(point):
        steps = [point]
        length = (0.06 + 1.7 * calibre) * rng.uniform(0.7, 1.2, size=len(point))
        for _ in range(3):
            heading = heading + rng.normal(0, 0.14, size=len(point))
            forward = np.stack([side * np.cos(heading), np.sin(heading)], axis=1)
            steps.append(steps[-1] + (length / 2.4)[:, None] * forward)
        lines.append(np.stack(steps, axis=1))
        calibres.append(calibre)
        fork, lean = rng.uniform(0.3, 0.75, size=len(point)), rng.uniform(0.3, 0.7, size=len(point))
        point, side = np.tile(steps[-1], (2, 1)), np.tile(side, 2)
        heading = np.concatenate([heading - fork * (1 - lean), heading + fork * lean])
        calibre = np.concatenate([calibre * (0.56 + 0.3 * lean), calibre * (0.86 - 0.3 * lean)])
        keep = (calibre > 0.0042) & (np.abs(point[:, 0]) < 0.8)
        point, side, heading, calibre = point[keep], side[keep], heading[keep], calibre[keep]
    return np.concatenate(lines), np.concatenate(calibres)


def _hilum(sheet: Sheet, root: Array, side: int, rng: np.random.Generator) -> None:
    """The knot of vessels at the root, and one or two vessels or bronchi seen end on."""
    lower = root + np.array([side * 0.03, 0.15])
    sheet.line(np.array([root - (0, 0.06), root, lower]), 0.05, 0.85)
    for _ in range(int(rng.integers(1, 4))):
        spot = root + np.array([side * float(rng.uniform(0.03, 0.14)), float(rng.normal(0, 0.09))])
        radius = float(rng.uniform(0.009, 0.015))
        sheet.disc((float(spot[0]), float(spot[1])), radius, 0.95)
        if rng.random() < 0.4:
            sheet.disc((float(spot[0]), float(spot[1])), radius * 0.5, 0.1)


def draw_airways(body: Body, frame: Frame) -> Array:
    """Air in the trachea and the main bronchi, float32 [h, w] at a quarter resolution, 0 … 1."""
    sheet = Sheet(frame, 4)
    x = 0.4 * body.rotated
    fork = np.array([x + 0.012, -0.235])
    sheet.line(np.array([(x, -1.1), (x, -0.5), (x + 0.018, -0.235)]), 0.078, 1.0)
    sheet.line(fork + np.array([(0, 0), (-0.075, 0.10), (-0.13, 0.16)]), 0.05, 0.8)
    sheet.line(fork + np.array([(0, 0), (0.09, 0.09), (0.17, 0.12)]), 0.042, 0.75)
    return sheet.field(0.012)


def draw_bronchogram(frame: Frame, start: Array, end: Array, rng: np.random.Generator) -> Array:
    """Air-filled bronchi that run from near the hilum into a consolidation; float32 [h, w] at half resolution."""
    sheet = Sheet(frame)
    across = end - start
    length = float(np.hypot(*across))
    heading = float(np.arctan2(across[1], across[0]))
    for spread in np.linspace(-0.4, 0.4, int(rng.integers(3, 6))):
        points, angle = [start + 0.15 * across], heading + float(spread + rng.normal(0, 0.08))
        for _ in range(5):
            angle += float(rng.normal(0, 0.12))
            points.append(points[-1] + 0.22 * length * np.array([np.cos(angle), np.sin(angle)]))
        sheet.line(np.array(points[:3]), 0.017, 1.0)
        sheet.line(np.array(points[2:]), 0.011, 0.8)
        fork = points[3] + 0.3 * length * np.array([np.cos(angle + 0.6), np.sin(angle + 0.6)])
        sheet.line(np.array([points[3], fork]), 0.009, 0.7)
    return sheet.field()
