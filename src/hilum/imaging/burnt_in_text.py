"""Text that is burnt into a film's pixels: found by its shape, so that it can be blackened.

Characters are small, thin, high in contrast and stand in a row; anatomy is none of it at once. A film is looked at as
it lies, at about a thousand rows: what is thinner than a stroke's width is separated by a top-hat (bright text) and a
bottom-hat (dark text), falls apart into connected pieces, and pieces of a character's size that stand side by side are
a line. Fewer than three side by side are taken for a lead marker (L, R), which names nobody.

It is a tool that lessens work, no proof: handwriting, text of another size, text in a busy place is missed. How often
is in docs/dicom.md, by ``benchmarks/burnt_in_text.py``.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from hilum.arrays import Array

ROWS = 1024
"""A film is looked at with about so many rows at least."""

STROKE = 9
"""Widest stroke, pixels of the reduced film."""

SURE, WEAK = 0.30, 0.14
"""Contrast with the surroundings, as a share of the film's own range, of what is text, and of what may be."""

FAINT = 0.08
"""Contrast of what belongs to a line that was found, and makes none by itself: its end may lie on brighter ground."""

HEIGHTS, WIDEST = (7, 64), 80
"""A character's height and width, pixels of the reduced film."""

SHORTEST_LINE = 3
"""Characters side by side that make a line; fewer are a marker."""


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
    found: list[TextLine] = []
    for hat in _hats(grey, step):
        lines = _lines(hat, step, SURE, sure=True) + _lines(hat, step, WEAK, sure=False)
        faint = _lines(hat, step, FAINT, sure=False) if lines else []
        found += lines + [one for one in faint if any(_overlap(one, line) for line in lines)]
    return tuple(sorted(_joined(found), key=lambda one: (one.top, one.left)))


def _hats(grey: Array, step: int) -> tuple[Array, Array]:
    """What is brighter, and what is darker, than its surroundings of a stroke's width, at the reduced size."""
    height, width = (side // step * step for side in grey.shape)
    blocks = grey[:height, :width].reshape(height // step, step, width // step, step)
    size = (STROKE, STROKE)
    bright, dark = blocks.max((1, 3)), blocks.min((1, 3))  # strokes of one pixel survive the reduction
    return bright - ndimage.grey_opening(bright, size), ndimage.grey_closing(dark, size) - dark


def _lines(hat: Array, step: int, contrast: float, *, sure: bool) -> list[TextLine]:
    labels, number = ndimage.label(hat > contrast, np.ones((3, 3)))
    if not number:
        return []
    sizes = ndimage.sum_labels(np.ones_like(labels), labels, np.arange(1, number + 1))
    boxes = [
        (rows.start, columns.start, rows.stop, columns.stop)
        for (rows, columns), size in zip(ndimage.find_objects(labels), sizes, strict=True)
        if _like_a_character(rows.stop - rows.start, columns.stop - columns.start, float(size))
    ]
    return [_line(group, step, sure=sure, shape=hat.shape) for group in _side_by_side(boxes) if _even(group)]


def _like_a_character(height: int, width: int, area: float) -> bool:
    return HEIGHTS[0] <= height <= HEIGHTS[1] and width <= min(WIDEST, 2 * height) and area >= 0.12 * height * width


def _side_by_side(boxes: list[tuple[int, int, int, int]]) -> list[list[tuple[int, int, int, int]]]:
    """Groups of boxes that stand in a row: alike in height, level, and no further apart than a character is high."""
    groups: list[list[tuple[int, int, int, int]]] = []
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


def _even(group: list[tuple[int, int, int, int]]) -> bool:
    """Characters of a line stand on one base and are of one height, but for a few; ribs and noise are not."""
    bottoms, heights = np.array([box[2] for box in group]), np.array([box[2] - box[0] for box in group])
    tall = float(np.median(heights))
    return bool(np.mean(np.abs(bottoms - np.median(bottoms)) <= 0.3 * tall + 1) >= 0.6)


def _line(group: list[tuple[int, int, int, int]], step: int, *, sure: bool, shape: tuple[int, ...]) -> TextLine:
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
