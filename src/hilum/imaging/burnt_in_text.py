"""Text that is burnt into a film's pixels: found by its shape, so that it can be blackened.

Characters are small, thin, high in contrast and stand in a row, and their ink is one grey; anatomy is none of it at
once. A film is looked at as it lies, at about a thousand rows and at half of it: what is thinner than a stroke's width
is separated by a top-hat (bright text) and a bottom-hat (dark text), and falls apart into connected pieces at several
contrasts, each well above the noise around it; what has the film's brightest or darkest value needs less, for ink is
flat and noise is not. Pieces of a character's size that stand side by side are a row. How even it is - base, top, ink -
and how many pieces it has say what it is worth: a faint row must be longer and more even than a plain one. Fewer than
three side by side are taken for a lead marker (L, R), which names nobody.

It is a tool that lessens work, no proof: handwriting, text of another size, text in a busy place is missed. How often
is in docs/dicom.md, by ``benchmarks/burnt_in_text.py``.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import ndimage

from hilum.arrays import Array

Box = tuple[int, int, int, int]
"""First row, first column, row and column behind the last."""

ROWS = 1024
"""A film is looked at with about so many rows at least, and with half of them for what is large or bold."""

STROKE = 9
"""Widest stroke, pixels of the reduced film."""

CONTRASTS = (0.55, 0.30, 0.14, 0.07, 0.03)
"""Contrasts with the surroundings, as shares of the film's own range, at which it is cut into pieces: text over a busy
place, or whose characters touch, falls apart at a high one, text on a ground like its ink shows only at a low one."""

PLAIN, NOISE, BLOCK = 0.14, (3.0, 4.0), 32
"""A piece's least contrast as a multiple of the noise around: from a plain contrast on, and below it; and the side of
the blocks (pixels) whose median contrast is the noise."""

FLAT = 0.01
"""How near to the film's brightest or darkest value, as a share of its range, ink lies that is burnt in at its end."""

HEIGHTS, WIDEST = (5, 64), 80
"""A character's height and width, pixels of the reduced film."""

SHORTEST_LINE = 3
"""Characters side by side that make a line; fewer are a marker."""

REACH = 3
"""How far behind a line's end, in heights, a character still belongs to it."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a row has at least to be believed."""

    contrast: float
    """Least contrast at which it was cut out."""
    characters: int
    """Pieces side by side."""
    even: float
    """Share of them that stand on one base and end at one height."""
    ink: float
    """Greatest median deviation of their greys, as a share of their contrast."""
    above: float = 0
    """Least contrast as a multiple of the noise around, the median of the pieces."""


SURE = (Demand(0.30, 3, 0.6, 0.2), Demand(0.14, 4, 0.75, 0.1), Demand(0.07, 5, 0.75, 0.05))
"""A row that answers to one of these is text."""

WEAK = (Demand(0.14, 3, 0.6, 0.2), Demand(0.07, 4, 0.75, 0.1), Demand(0.03, 6, 0.85, 0.05))
"""A row that answers to one of these may be text. Any other only makes a line longer that it lies over: a line's end
may stand on ground that is more like its ink."""

FLAT_SURE = (Demand(0.03, 5, 0.75, 0.05, 2.1),)
FLAT_WEAK = (Demand(0.03, 4, 0.75, 0.05, 1.9),)
"""The same of rows that were cut out as what has the film's brightest or darkest value: ink is told by that from noise
that is nearly as strong as its contrast."""


@dataclass(frozen=True, slots=True)
class _Row:
    """Pieces side by side."""

    boxes: list[Box]
    contrast: float
    even: float
    ink: float
    above: float

    def meets(self, demands: tuple[Demand, ...]) -> bool:
        return any(
            self.contrast >= one.contrast
            and len(self.boxes) >= one.characters
            and self.even >= one.even
            and self.ink <= one.ink
            and self.above >= one.above
            for one in demands
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLine:
    """One line of what looks like text."""

    top: int
    """First row."""
    left: int
    """First column."""
    height: int
    """Rows."""
    width: int
    """Columns."""
    characters: int
    """Pieces that stand side by side."""
    sure: bool
    """False where a person should look: weak in contrast."""


def find_text(codes: Array) -> tuple[TextLine, ...]:
    """Lines of text in a film, from the top; with a margin, so that nothing of a character stands out.

    Args:
        codes: [h, w], stored or presented values, of any type and polarity.
    """
    step = max(1, round(min(codes.shape) / ROWS))
    low, high = np.quantile(codes[::8, ::8], (0.002, 0.998)).tolist()
    if high <= low:
        low, high = float(codes.min()), float(codes.max())
    if high <= low:
        return ()
    grey = np.clip((codes.astype(np.float32) - low) / (high - low), -0.25, 1.25)
    bright, dark = _reduced(grey, step, np.maximum), _reduced(grey, step, np.minimum)
    found: list[TextLine] = []
    for half in (1, 2):
        if half == 2:
            bright, dark = _reduced(bright, 2, np.maximum), _reduced(dark, 2, np.minimum)
        opened = _extreme(_extreme(bright, np.minimum), np.maximum)
        closed = _extreme(_extreme(dark, np.maximum), np.minimum)
        found += _lines(bright, bright - opened, bright >= bright.max() - FLAT, step * half)
        found += _lines(dark, closed - dark, dark <= dark.min() + FLAT, step * half)
    return tuple(sorted(_joined(found), key=lambda one: (one.top, one.left)))


def _reduced(grey: Array, step: int, kept: np.ufunc) -> Array:
    """Blocks of ``step`` pixels as their greatest or least value, so that strokes of one pixel survive."""
    height, width = (side // step * step for side in grey.shape)
    reduced: Array = grey[:height:step, :width:step]
    for down, right in product(range(step), repeat=2):
        reduced = kept(reduced, grey[down:height:step, right:width:step])
    return reduced


def _extreme(grey: Array, kept: np.ufunc) -> Array:
    """Greatest or least value of the square of a stroke's width around each pixel, with the film mirrored at its edge.

    By doubling: as SciPy's filter, in half its time.
    """
    for axis in (0, 1):
        around: list[tuple[int, int]] = [(0, 0), (0, 0)]
        around[axis] = (STROKE // 2, STROKE // 2)
        line = np.moveaxis(np.pad(grey, around, mode="symmetric"), axis, 0)
        wide = 1
        while wide < STROKE:
            by = min(wide, STROKE - wide)
            line = kept(line[:-by], line[by:])
            wide += by
        grey = np.moveaxis(line, 0, axis)
    return grey


def _lines(ink: Array, hat: Array, flat: Array, step: int) -> list[TextLine]:
    """Lines of one polarity at one size; those that are neither sure nor weak only where they lie over one that is."""
    noise = _noise(hat)
    plain, faint = (np.where(hat > times * noise, hat, 0) for times in NOISE)
    lines: list[TextLine] = []
    rest: list[TextLine] = []
    for contrast in CONTRASTS:
        for row in _rows(ink, plain if contrast >= PLAIN else faint, noise, contrast):
            sure = row.meets(SURE)
            line = _line(row.boxes, step, sure=sure, shape=hat.shape)
            (lines if sure or row.meets(WEAK) else rest).append(line)
    for row in _rows(ink, np.where(flat, hat, 0), noise, CONTRASTS[-1]):
        if row.meets(FLAT_WEAK):
            lines.append(_line(row.boxes, step, sure=row.meets(FLAT_SURE), shape=hat.shape))
    return lines + [one for one in rest if any(_overlap(one, line) for line in lines)]


def _noise(hat: Array) -> Array:
    """What contrast is usual around each pixel. A line of text fills less than half of a block; where a quiet block
    and a noisy one meet, the noisy one counts."""
    height, width = hat.shape
    padded = np.pad(hat, ((0, -height % BLOCK), (0, -width % BLOCK)), mode="symmetric")
    rows, columns = (side // BLOCK for side in padded.shape)
    medians = np.median(padded.reshape(rows, BLOCK, columns, BLOCK)[:, ::2, :, ::2], axis=(1, 3))
    around: Array = ndimage.maximum_filter(medians, 3)
    return np.repeat(np.repeat(around, BLOCK, 0), BLOCK, 1)[:height, :width]


def _rows(ink: Array, hat: Array, noise: Array, contrast: float) -> list[_Row]:
    """Rows of pieces that stand out by a contrast."""
    labels, _ = ndimage.label(hat > contrast, np.ones((3, 3)))
    pieces = {
        (rows.start, columns.start, rows.stop, columns.stop): label
        for label, (rows, columns) in enumerate(ndimage.find_objects(labels), 1)
        if _like_a_character(labels[rows, columns], label)
    }
    rows = []
    for group in _side_by_side(list(pieces)):
        greys, contrasts, above = [], [], []
        for top, left, bottom, right in group:
            inside = labels[top:bottom, left:right] == pieces[top, left, bottom, right]
            greys.append(np.median(ink[top:bottom, left:right][inside]))
            contrasts.append(np.median(hat[top:bottom, left:right][inside]))
            above.append(contrasts[-1] / max(1e-4, float(np.median(noise[top:bottom, left:right]))))
        spread = float(np.median(np.abs(greys - np.median(greys))) / np.mean(contrasts))
        rows.append(_Row(_longer(group, list(pieces)), contrast, _even(group), spread, float(np.median(above))))
    return rows


def _like_a_character(piece: Array, label: int) -> bool:
    height, width = piece.shape
    if not (HEIGHTS[0] <= height <= HEIGHTS[1] and width <= min(WIDEST, 2 * height)):
        return False
    return bool(np.count_nonzero(piece == label) >= 0.12 * height * width)


def _side_by_side(boxes: list[Box]) -> list[list[Box]]:
    """Groups of boxes that stand in a row: alike in height, level, and no further apart than a character is high."""
    groups: list[list[Box]] = []
    for box in sorted(boxes, key=lambda one: one[1]):
        for group in groups:
            last = group[-1]
            tall, other = box[2] - box[0], last[2] - last[0]
            level = min(box[2], last[2]) - max(box[0], last[0]) >= 0.5 * min(tall, other)
            alike = max(tall, other) <= 2 * min(tall, other)
            if level and alike and box[1] - last[3] <= 1.2 * max(tall, other):
                group.append(box)
                break
        else:
            groups.append([box])
    return [group for group in groups if len(group) >= SHORTEST_LINE]


def _longer(group: list[Box], pieces: list[Box]) -> list[Box]:
    """A row with the pieces of its own base and height that stand near its ends, behind what hid a few characters."""
    boxes = np.array(group)
    top, bottom = float(np.median(boxes[:, 0])), float(np.median(boxes[:, 2]))
    tall = bottom - top
    left, right = int(boxes[:, 1].min()), int(boxes[:, 3].max())
    alike = [one for one in pieces if abs(one[0] - top) <= 0.2 * tall and abs(one[2] - bottom) <= 0.2 * tall]
    longer = list(group)
    for one in sorted(alike, key=lambda piece: max(left - piece[3], piece[1] - right)):
        if 0 <= max(left - one[3], one[1] - right) <= REACH * tall:
            longer.append(one)
            left, right = min(left, one[1]), max(right, one[3])
    return longer


def _even(group: list[Box]) -> float:
    """Share of a row's pieces that stand on one base, end at one height and are as high; ribs and noise are not."""
    boxes = np.array(group)
    sides = boxes[:, 0], boxes[:, 2], boxes[:, 2] - boxes[:, 0]
    slack = 0.15 * float(np.median(sides[2])) + 1
    return float(min(np.mean(np.abs(side - np.median(side)) <= slack) for side in sides))


def _line(group: list[Box], step: int, *, sure: bool, shape: tuple[int, ...]) -> TextLine:
    boxes = np.array(group)
    top, left = boxes[:, 0].min(), boxes[:, 1].min()
    bottom, right = boxes[:, 2].max(), boxes[:, 3].max()
    margin = max(2, int(0.35 * (bottom - top)))
    beside = int(1.5 * (bottom - top))  # a first or last character that was not seen for one
    top, left = max(0, top - margin), max(0, left - beside)
    bottom, right = min(shape[0], bottom + margin), min(shape[1], right + beside)
    return TextLine(
        top=int(top * step),
        left=int(left * step),
        height=int((bottom - top) * step),
        width=int((right - left) * step),
        characters=len(group),
        sure=sure,
    )


def _joined(lines: list[TextLine]) -> list[TextLine]:
    """Lines that lie over each other as one: a sure one takes in what of it is weak."""
    joined: list[TextLine] = []
    for line in sorted(lines, key=lambda one: not one.sure):
        touching = [one for one in joined if _overlap(one, line) and 0.4 < one.height / line.height < 2.5]
        for one in touching:
            joined.remove(one)
            line = _union(one, line)
        joined.append(line)
    return joined


def _overlap(one: TextLine, other: TextLine) -> bool:
    return (
        one.top < other.top + other.height
        and other.top < one.top + one.height
        and one.left < other.left + other.width
        and other.left < one.left + one.width
    )


def _union(one: TextLine, other: TextLine) -> TextLine:
    top, left = min(one.top, other.top), min(one.left, other.left)
    return TextLine(
        top=top,
        left=left,
        height=max(one.top + one.height, other.top + other.height) - top,
        width=max(one.left + one.width, other.left + other.width) - left,
        characters=max(one.characters, other.characters),
        sure=one.sure or other.sure,
    )
