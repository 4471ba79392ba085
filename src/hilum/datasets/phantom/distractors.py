"""Harmless things that any film may show, whatever its label: 'something is there' must not tell the classes apart."""

# mypy: disable-error-code="no-any-return"
# NumPy's stubs type arithmetic on arrays of any dtype as Any.

from collections.abc import Callable

import numpy as np

from hilum.arrays import Array
from hilum.datasets.phantom.anatomy import SIDES, Body
from hilum.datasets.phantom.bones import Sheet
from hilum.datasets.phantom.frame import Frame


def draw_distractors(body: Body, frame: Frame, rng: np.random.Generator, *, portable: bool) -> tuple[Array, Array]:
    """Density added by benign findings and by what lies on the patient.

    Returns:
        soft shadows, float32 at a quarter resolution, and sharp ones, at half resolution.
    """
    soft, hard = Sheet(frame, 4), Sheet(frame)
    for probability, on_portable, draw in _TABLE:
        if rng.random() < (on_portable if portable else probability):
            draw(soft, hard, body, rng)
    return 0.09 * soft.field(0.014), 0.2 * hard.field()


def _nipples(soft: Sheet, hard: Sheet, body: Body, rng: np.random.Generator) -> None:
    level = float(rng.uniform(0.2, 0.36))
    for side in SIDES if rng.random() < 0.6 else (int(rng.choice(SIDES)),):
        soft.disc((side * float(rng.uniform(0.36, 0.48)), level + float(rng.normal(0, 0.02))), 0.02, 0.8)


def _granuloma(soft: Sheet, hard: Sheet, body: Body, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 4))):
        place = (int(rng.choice(SIDES)) * float(rng.uniform(0.22, 0.55)), float(rng.uniform(-0.5, 0.3)))
        hard.disc(place, float(rng.uniform(0.006, 0.014)), float(rng.uniform(0.5, 0.9)))


def _azygos(soft: Sheet, hard: Sheet, body: Body, rng: np.random.Generator) -> None:
    r = np.linspace(0, 1, 14)
    curve = np.stack([-0.38 + 0.28 * r**1.6, body.apex + 0.08 + 0.36 * r], axis=1)
    hard.line(curve, 0.006, 0.25)
    soft.disc((-0.1, body.apex + 0.46), 0.03, 0.8)


def _minor_fissure(soft: Sheet, hard: Sheet, body: Body, rng: np.random.Generator) -> None:
    level = float(rng.uniform(-0.12, -0.02))
    curve = np.array([(-0.2, level + 0.02), (-0.4, level), (-0.66, level + 0.05)])
    hard.line(curve, 0.004, 0.2)


def _callus(soft: Sheet, hard: Sheet, body: Body, rng: np.random.Generator) -> None:
    place = (int(rng.choice(SIDES)) * float(rng.uniform(0.5, 0.66)), float(rng.uniform(-0.3, 0.3)))
    soft.disc(place, float(rng.uniform(0.03, 0.045)), 0.75)


def _cardiac_fat(soft: Sheet, hard: Sheet, body: Body, rng: np.random.Generator) -> None:
    side = int(rng.choice(SIDES))
    edge = side * (0.36 if side > 0 else 0.17)
    floor = max(body.dome)
    soft.area(
        np.array([(edge, floor - 0.15), (edge + side * 0.14, floor + 0.04), (edge - side * 0.1, floor + 0.04)]), 0.7
    )


def _leads(soft: Sheet, hard: Sheet, body: Body, rng: np.random.Generator) -> None:
    for side in rng.permutation([-1, 1, 1])[: int(rng.integers(2, 4))].tolist():
        spot = np.array([side * float(rng.uniform(0.3, 0.66)), float(rng.uniform(-0.5, 0.4))])
        way = np.array([spot, spot + rng.normal(0, 0.12, 2), spot + np.array([-side * 0.1, 0.5]), (side * 0.2, 1.3)])
        hard.line(_smooth(way), 0.006, 0.55)
        hard.disc((float(spot[0]), float(spot[1])), 0.026, 0.5)
        hard.disc((float(spot[0]), float(spot[1])), 0.012, 0.95)


def _central_line(soft: Sheet, hard: Sheet, body: Body, rng: np.random.Generator) -> None:
    x = -0.09 + body.rotated
    way = np.array([(-0.3, -1.1), (-0.16, -0.85), (x, -0.55), (x, float(rng.uniform(-0.2, 0.02)))])
    hard.line(_smooth(way), 0.009, 0.5)


def _skin_fold(soft: Sheet, hard: Sheet, body: Body, rng: np.random.Generator) -> None:
    side = int(rng.choice(SIDES))
    top = np.array([side * float(rng.uniform(0.4, 0.6)), -0.35])
    hard.line(_smooth(top + np.array([(0, 0), (side * 0.08, 0.3), (side * 0.05, 0.7)])), 0.01, 0.2)


def _zip(soft: Sheet, hard: Sheet, body: Body, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 4))):
        hard.disc((float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.8, 0.8))), 0.018, 0.8)


def _smooth(points: Array) -> Array:
    """A Catmull-Rom curve through the points, eight steps a piece."""
    padded = np.concatenate([points[:1], points, points[-1:]])
    t = np.linspace(0, 1, 8, endpoint=False)[:, None]
    pieces = []
    for i in range(len(points) - 1):
        p0, p1, p2, p3 = padded[i : i + 4]
        pieces.append(
            0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * (p1 - p2) + p3 - p0) * t**3)
        )
    return np.concatenate([*pieces, points[-1:]])


_TABLE: tuple[tuple[float, float, Callable[[Sheet, Sheet, Body, np.random.Generator], None]], ...] = (
    # probability in PA films, in AP films, what
    (0.25, 0.20, _nipples),
    (0.15, 0.15, _granuloma),
    (0.04, 0.04, _azygos),
    (0.45, 0.35, _minor_fissure),
    (0.08, 0.08, _callus),
    (0.30, 0.30, _cardiac_fat),
    (0.05, 0.45, _leads),
    (0.01, 0.15, _central_line),
    (0.02, 0.12, _skin_fold),
    (0.06, 0.06, _zip),
)
