"""Grids of pictures and boxes: pixels as given, one scale or many, small files, wrong arrays refused."""

import base64
import io
import re
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hilum.errors import DataError
from hilum.reports.canvas import Figure
from hilum.reports.pictures import EDGES, MOST_TILES, Box, Tile, boxes_figure, pictures_figure

pytest.importorskip("matplotlib")

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)
COLOUR = np.stack([GREY] * 3, axis=-1)
MAP = np.linspace(-2, 1, 64).reshape(8, 8)


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@cache
def grid() -> Figure:
    rows = [[Tile(pixels=GREY, caption="truth cat\nanswer dog", tone="red"), COLOUR], [MAP, None]]
    return pictures_figure(
        rows, name="p", title="Tiles", row_titles=["a", "b"], column_titles=["c", "d"], value_label="activation"
    )


@cache
def boxes() -> Figure:
    return boxes_figure(
        GREY,
        [Box(label="conv1", left=2, top=2, width=3, height=3), Box(label="fc6", left=-4, top=-4, width=16, height=16)],
        name="x",
        title="Fields",
    )


def pixels(figure: Figure) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(figure.png)) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize("draw", [grid, boxes])
def test_pictures_are_the_same_every_time(draw: Callable[[], Figure]) -> None:
    assert draw() == draw.__wrapped__()  # type: ignore[attr-defined]


def test_pictures_say_what_they_are() -> None:
    assert grid().alt == (
        "Tiles: 3 pictures in 2 rows; rows: a, b; columns: c, d; truth cat, answer dog; "
        "one scale, activation between −2 and 1."
    )
    assert boxes().alt == "Fields: on an image of 8 × 8 px, conv1 3 × 3 px; fc6 16 × 16 px."
    assert boxes_figure(GREY, [], name="x", title="T").alt == "T: on an image of 8 × 8 px, no boxes."


def test_small_pictures_are_enlarged_by_whole_pixels_without_mixing() -> None:
    spots = np.zeros((2, 2, 3), dtype=np.uint8)
    spots[0, 0], spots[1, 1] = (255, 0, 0), (0, 0, 255)
    shown = pixels(pictures_figure([[spots]], name="p", title="T", tile_inches=0.5))
    for colour in ((255, 0, 0), (0, 0, 255)):
        found = np.argwhere((shown == colour).all(axis=-1))
        # All of 36 × 36 pixels but those under the edge.
        assert 34 * 34 <= len(found) <= 36 * 36


def test_signed_colours_lie_around_grey_and_scales_are_common_or_own() -> None:
    weights = np.zeros((2, 2, 3))
    weights[0, 0] = 1.0
    small = 0.1 * weights
    shown = {
        scale: pixels(pictures_figure([[weights, small]], name="p", title="T", signed=True, scale=scale))  # type: ignore[arg-type]
        for scale in ("common", "each")
    }
    white = {scale: int((picture[:150, 165:] == 255).all(axis=-1).sum()) for scale, picture in shown.items()}
    assert (shown["common"] == 128).all(axis=-1).sum() > 20_000
    assert white["each"] > white["common"] + 4000


def test_what_is_not_a_number_is_white_and_an_even_map_is_grey() -> None:
    gap = np.full((4, 4), 3.0)
    gap[0, 0] = np.nan
    made = pictures_figure([[gap]], name="p", title="T")
    assert "values between 3 and 3" in made.alt
    assert (pixels(made)[40:60, 100:120] == 128).all()


def test_large_photographs_are_reduced_and_stored_small() -> None:
    made = pictures_figure([[noise(400, 300)] * 6] * 3, name="p", title="T", tile_inches=1.5)
    kinds = re.findall(rb"data:image/(\w+);base64", made.svg)
    assert kinds == [b"jpeg"]
    assert len(made.svg) < 1_600_000
    assert len(made.png) < 1_600_000
    plain = pictures_figure([[GREY]], name="p", title="T")
    (png,) = re.findall(rb'data:image/png;base64,\s*([^"]+)', plain.svg)
    assert base64.b64decode(png).startswith(b"\x89PNG")


def test_a_grid_never_grows_beyond_a_page() -> None:
    made = pictures_figure([[GREY] * 20] * 2, name="p", title="T", tile_inches=3)
    tall = pictures_figure([[GREY]] * 12, name="p", title="T", tile_inches=3)
    width, height = (int.from_bytes(made.png[i : i + 4]) / 144 for i in (16, 20))
    assert width < 10.3
    assert height < 1.5
    assert int.from_bytes(tall.png[20:24]) / 144 < 14.3


@pytest.mark.parametrize(
    ("rows", "more", "message"),
    [
        ([], {}, f"Figure 'p' has 0 tiles: give between 1 and {MOST_TILES}"),
        ([[GREY] * 401], {}, "Figure 'p' has 401 tiles"),
        ([[GREY]], {"scale": "rows"}, "'rows' is not a scale of pictures_figure. Did you mean 'row'"),
        ([[GREY]], {"row_titles": ["a", "b"]}, "Figure 'p' has 1 rows, but 2 titles of rows"),
        ([[GREY]], {"column_titles": ["a", "b"]}, "Figure 'p' has 1 columns, but 2 titles of columns"),
        (
            [[GREY.astype(np.int64)]],
            {},
            "Tile 0 of row 0 of figure 'p' must be an array of uint8 or floats, but is int64",
        ),
        ([["x"]], {}, "must be an array of uint8 or floats, but is str"),
        ([[COLOUR[..., :2]]], {}, r"must be \[h, w\] or \[h, w, 3\] and not empty, but is \[8, 8, 2\]"),
    ],
)
def test_wrong_grids_are_refused(rows: list[list[object]], more: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        pictures_figure(rows, name="p", title="T", **more)  # type: ignore[arg-type]


def test_boxes_need_an_image_of_bytes() -> None:
    with pytest.raises(DataError, match="The image of figure 'x' must be uint8, but is float64"):
        boxes_figure(MAP, [], name="x", title="T")
    with pytest.raises(DataError, match=r"The image of figure 'x' must be \[h, w\]"):
        boxes_figure(GREY[0], [], name="x", title="T")


def test_red_and_green_edges_differ_in_more_than_colour() -> None:
    assert "red" in EDGES
    assert "green" not in EDGES
