"""The scale beside a heat map: the picture stays as it is, the bar runs from the top's colour down to none."""

import numpy as np
import pytest

from hilum.errors import UsageError
from hilum.imaging.colour_bar import with_colour_bar
from hilum.imaging.overlay import CONTOURS, colour_scale, contour_colour


@pytest.mark.parametrize("height", [64, 512])
def test_the_picture_is_untouched_and_the_bar_holds_the_scale_in_order(height):
    picture = np.full((height, 40, 3), 9, np.uint8)
    barred = with_colour_bar(picture, top=0.5, unit="logit")
    np.testing.assert_array_equal(barred[:, :40], picture)
    assert barred.shape[0] == height
    line = int(max(9, height // 36) * 1.3)
    coloured = barred[: height - 2 * line + 1, 40 + max(3, line // 3) + 2].astype(int)
    rows = np.flatnonzero(coloured.sum(axis=1))
    np.testing.assert_array_equal(coloured[rows[0]], colour_scale()[255])
    np.testing.assert_array_equal(coloured[rows[-1]], colour_scale()[0])
    assert np.all(np.diff(coloured[rows].sum(axis=1)) <= 3)


def test_contours_have_their_lines_in_the_bar():
    barred = with_colour_bar(np.zeros((400, 10, 3), np.uint8), top=2.0, unit="logit", style="contour")[:, 10:]
    colours = {tuple(int(value) for value in pixel) for pixel in barred.reshape(-1, 3)}
    assert {contour_colour(level) for level in CONTOURS} <= colours
    assert tuple(colour_scale()[255].tolist()) not in colours


def test_what_cannot_have_a_bar_is_refused():
    with pytest.raises(UsageError, match=r"top is 0.0, but a colour bar needs a heat above 0"):
        with_colour_bar(np.zeros((64, 64, 3), np.uint8), top=0.0, unit="logit")
    with pytest.raises(UsageError, match=r"A picture must be uint8 \[h, w, 3\], but is uint8 \[64, 64\]"):
        with_colour_bar(np.zeros((64, 64), np.uint8), top=1.0, unit="logit")
