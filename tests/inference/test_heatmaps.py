"""Heat maps on films: the film's size, one scale for a bundle, a caption, and a picture without the film too."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.inference.films import SIDE, film

from hilum.imaging.preprocessing import Preprocessing, heatmap_on_film
from hilum.imaging.reading import read_film
from hilum.inference.assess import Assessor
from hilum.inference.heatmaps import Heatmap


@pytest.fixture
def heatmap() -> Heatmap:
    values = np.zeros((4, 4), np.float32)
    values[0, 0] = 2.0
    return Heatmap(
        finding="covid-19",
        values=values,
        spread=values / 10,
        top=2.0,
        tile=np.full((32, 32), 100, np.uint8),
        film_shape=(400, 300),
        preprocessing=Preprocessing(size=32),
    )


def coloured(picture: np.ndarray) -> np.ndarray:
    """Where a picture isn't grey."""
    spread = picture.max(axis=2).astype(int) - picture.min(axis=2)
    found: np.ndarray = spread > 20
    return found


def test_heat_lies_where_the_activation_is(heatmap: Heatmap) -> None:
    warm = coloured(heatmap.on_film(np.full((400, 300), 30000, np.uint16)))
    assert warm.shape == (400, 300)
    assert warm[:60, :40].mean() > 0.9
    assert not warm[200:380, 150:].any()


def test_a_smaller_top_makes_the_same_activation_hotter(heatmap: Heatmap) -> None:
    film_pixels = np.full((400, 300), 30000, np.uint16)
    cool = coloured(replace(heatmap, top=200.0).on_film(film_pixels))
    assert cool.sum() < 0.2 * coloured(heatmap.on_film(film_pixels)).sum()


def test_without_the_film_the_picture_has_its_proportions(heatmap: Heatmap) -> None:
    assert heatmap.on_film().shape == (224, 168, 3)
    assert replace(heatmap, film_shape=(2048, 1024)).on_film().shape == (224, 112, 3)
    large = replace(heatmap, film_shape=(2048, 1024), tile=np.zeros((300, 300), np.uint8))
    assert large.on_film().shape == (300, 150, 3), "never smaller than what the model saw"


def test_a_picture_as_large_as_the_tile_is_the_tile(heatmap: Heatmap) -> None:
    tile = np.random.default_rng(0).integers(0, 256, (224, 224)).astype(np.uint8)
    square = replace(heatmap, tile=tile, film_shape=(1000, 1000), preprocessing=Preprocessing())
    np.testing.assert_array_equal(square.picture(), tile)
    np.testing.assert_array_equal(heatmap_on_film(tile, (224, 224), Preprocessing()), tile)
    boxed = replace(square, film_shape=(1000, 900), preprocessing=Preprocessing(resize="letterbox"))
    assert boxed.picture().shape == (224, 202)


def test_a_film_at_hand_is_drawn_at_full_size(assessor: Assessor, tmp_path: Path) -> None:
    read = read_film(film())
    saved = assessor.assess(read).heatmap("covid-19").save(tmp_path / "overlay.png")
    with Image.open(saved) as picture:
        assert picture.size == (SIDE, SIDE)
        assert picture.mode == "RGB"


def test_a_film_given_later_is_drawn_on(assessor: Assessor) -> None:
    read = read_film(film())
    (answer,) = assessor.assess_prepared([assessor.prepare(film())])
    later = answer.heatmap("covid-19").png(read)
    assert later == assessor.assess(read).heatmap("covid-19").png()
    with Image.open(io.BytesIO(later)) as picture:
        assert picture.format == "PNG"


def test_contours_are_another_picture(heatmap: Heatmap) -> None:
    assert not np.array_equal(heatmap.on_film(style="contour"), heatmap.on_film())


def test_the_scale_is_the_bundles(assessor: Assessor) -> None:
    for number in (0, 1):
        assert assessor.assess(read_film(film(number))).heatmap("normal").top == assessor.info.heatmap_top


def test_a_colour_bar_stands_beside_the_same_picture(heatmap: Heatmap) -> None:
    plain, barred = heatmap.on_film(), heatmap.on_film(bar=True)
    assert barred.shape[1] > plain.shape[1]
    np.testing.assert_array_equal(barred[:, : plain.shape[1]], plain)
