"""Where labels stand: near what they name, apart from one another, on nothing else."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""

PLACES = (
    (1, 0), (1, 1), (1, -1), (-1, 0), (-1, 1), (-1, -1), (0, 1), (0, -1), (1, 2), (1, -2), (-1, 2), (-1, -2),
    (2, 0), (-2, 0), (0, 2), (0, -2), (2, 3), (2, -3), (-2, 3), (-2, -3), (0, 3), (0, -3),
    (3, 4), (3, -4), (-3, 4), (-3, -4), (0, 5), (0, -5), (4, 5), (-4, 5), (4, -5), (-4, -5),
)  # fmt: skip
"""Steps right and up from a point at which its label may stand, the best first."""


def spread(places: Sequence[float], apart: float) -> list[float]:
    """Move places as little as need be, so that neighbours are ``apart``; their order stays.

    Args:
        places: wanted positions, in any order.
        apart: least distance between two.

    Returns:
        New positions, in the order given.
    """
    groups: list[tuple[float, list[int]]] = []
    for i in sorted(range(len(places)), key=lambda i: places[i]):
        group, middle = [i], places[i]
        # A group that touches the one below joins it, around the mean of what all of them want.
        while groups and groups[-1][0] + apart * len(groups[-1][1]) / 2 > middle - apart * len(group) / 2:
            group = groups.pop()[1] + group
            middle = sum(places[j] for j in group) / len(group)
        groups.append((middle, group))
    found = [0.0] * len(places)
    for middle, group in groups:
        for step, i in enumerate(group):
            found[i] = middle + apart * (step - (len(group) - 1) / 2)
    return found


def place_labels(
    points: Sequence[tuple[float, float]],
    radii: Sequence[float],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
    gap: float,
    taken: Sequence[Box] = (),
    dots: NDArray[np.float64] | None = None,
) -> list[tuple[float, float, bool]]:
    """Find a place for each point's label where it hides neither a point nor another label, as near as that goes.

    Args:
        points: x and y of each, in pixels.
        radii: of the markers, in pixels.
        sizes: width and height of the labels, in pixels; a label without width needs no place.
        frame: what the labels should stay inside.
        gap: space between marker and label, in pixels.
        taken: what else must not be hidden, such as whiskers.
        dots: places along lines [n, 2] that should not be hidden.

    Returns:
        For each point the label's left and bottom edge, and whether it stands so far away that a line must join them.
    """
    full = [*taken, *((x - r, y - r, x + r, y + r) for (x, y), r in zip(points, radii, strict=True))]
    found = [(x, y, False) for x, y in points]
    for i in sorted(range(len(points)), key=lambda i: (-points[i][1], points[i][0])):
        if sizes[i][0] > 0:
            boxes = [_at(step, points[i], radii[i], sizes[i], gap) for step in PLACES]
            rank = least_hidden(boxes, full, frame, dots)
            found[i] = (boxes[rank][0], boxes[rank][1], max(map(abs, PLACES[rank])) > 1)
            full.append(boxes[rank])
    return found


def _at(step: tuple[int, int], point: tuple[float, float], radius: float, size: tuple[float, float], gap: float) -> Box:
    (across, up), (x, y), (width, height) = step, point, size
    # Beside a marker the whole radius counts, at a corner about 0.7 of it.
    reach = radius * (1.0 if 0 in step else 0.71) + gap
    left = x - width / 2
    if across:
        away = reach + (abs(across) - 1) * height
        left = x + away if across > 0 else x - away - width
    bottom = y - height / 2
    if up:
        away = (reach if across == 0 else reach - gap) + (abs(up) - 1) * height
        bottom = y + away if up > 0 else y - away - height
    return (left, bottom, left + width, bottom + height)


def least_hidden(
    boxes: Sequence[Box], taken: Sequence[Box], frame: Box, dots: NDArray[np.float64] | None = None
) -> int:
    """Which of the places for a label hides least; the first of equals.

    Args:
        boxes: the places, best first.
        taken: what must not be hidden.
        frame: what the label should stay inside.
        dots: places along lines [n, 2] that should not be hidden.
    """
    return min(range(len(boxes)), key=lambda n: (_hidden(boxes[n], taken, frame, dots), n))


def _hidden(box: Box, taken: Sequence[Box], frame: Box, dots: NDArray[np.float64] | None) -> int:
    """How much a label hides: area on something else or outside of the frame, in steps that ignore a touch."""
    outside = (box[2] - box[0]) * (box[3] - box[1]) - _overlap(box, frame)
    area = sum(_overlap(box, other) for other in taken) + 2 * outside
    crossed = 0
    if dots is not None and len(dots):
        inside = (dots >= np.array(box[:2])) & (dots <= np.array(box[2:]))
        crossed = int(np.count_nonzero(inside.all(axis=1)))
    return round(area / 8) + 4 * crossed


def _overlap(one: Box, other: Box) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    up = min(one[3], other[3]) - max(one[1], other[1])
    return across * up if across > 0 and up > 0 else 0.0
