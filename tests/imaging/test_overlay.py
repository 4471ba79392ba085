"""Heat maps are drawn over films, honestly: nothing where there is no heat, lightness in the order of heat."""

import io

import numpy as np
import pytest
from PIL import Image

from hilum.errors import UsageError
from hilum.imaging.overlay import CAPTION, cielab, colour_scale, grey_png, jpeg, overlay, png, shrink


def lightness(rgb):
    """CIE L* of sRGB colours."""
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    y = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(y > 216 / 24389, 116 * np.cbrt(y) - 16, y * 24389 / 27)


def test_lightness_rises_all_the_way():
    """Each step of the scale is lighter than the last, from dark to nearly white."""
    steps = lightness(colour_scale().astype(float))
    assert np.all(np.diff(steps) > -0.2)
    assert np.all(steps[8:] > steps[:-8])
    assert steps[0] < 15
    assert steps[-1] > 95


@pytest.mark.parametrize("style", ["heat", "contour"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_no_heat_leaves_the_film_as_it_is(style, kind):
    """Three equal channels with the film's own values."""
    film = np.linspace(0, np.iinfo(kind).max, 64 * 64).reshape(64, 64).astype(kind)
    drawn = overlay(film, np.zeros((64, 64)), style=style)
    expected = film if kind == np.uint8 else np.rint(film / 257).astype(np.uint8)
    for channel in range(3):
        np.testing.assert_array_equal(drawn[..., channel], expected)


def test_blend_by_hand():
    """At the top with opacity 1 the colour is the scale's last; at half opacity it is mixed with the film."""
    film = np.full((4, 4), 100, np.uint8)
    assert overlay(film, np.ones((4, 4)), opacity=1.0)[0, 0].tolist() == [255, 250, 180]
    mixed = overlay(film, np.ones((4, 4)), opacity=0.5)[0, 0]
    np.testing.assert_allclose(mixed, [177.5, 175, 140], atol=0.51)


def test_opacity_zero_hides_the_map():
    """Nothing is drawn."""
    film = np.full((4, 4), 77, np.uint8)
    assert np.all(overlay(film, np.ones((4, 4)), opacity=0.0) == 77)


def test_top_makes_films_comparable():
    """With a given top, half the heat gives the colour of a half; beyond it nothing gets hotter."""
    film = np.zeros((1, 3), np.uint8)
    drawn = overlay(film, np.array([[1.0, 2.0, 9.0]]), top=2.0, opacity=1.0)
    np.testing.assert_array_equal(drawn[0, 1], drawn[0, 2])
    np.testing.assert_array_equal(drawn[0, 0], colour_scale()[128])


def test_values_that_are_not_numbers_are_cold():
    """NaN draws nothing, and doesn't spoil the rest."""
    film = np.full((1, 2), 50, np.uint8)
    assert overlay(film, np.array([[np.nan, 1.0]]))[0, 0].tolist() == [50, 50, 50]


def test_coarse_map_is_stretched_over_the_film():
    """A 2 × 2 map heats its corner of the film."""
    drawn = overlay(np.zeros((40, 40), np.uint8), np.array([[0.0, 0.0], [0.0, 1.0]])).astype(int).sum(axis=2)
    assert drawn[0, 0] == 0
    assert drawn[39, 39] == drawn.max()


def test_contours_lie_where_the_heat_crosses():
    """Lines stand at a quarter, a half and three quarters of a ramp; between them the film is untouched."""
    ramp = np.tile(np.linspace(0, 1, 101), (20, 1))
    drawn = overlay(np.zeros((20, 101), np.uint8), ramp, style="contour")
    columns = np.flatnonzero(drawn[10].any(axis=1))
    assert {round(column / 100, 1) for column in columns} <= {0.2, 0.3, 0.5, 0.7, 0.8}
    assert 3 <= len(columns) <= 6


@pytest.mark.parametrize("size", [(60, 60), (512, 512), (40, 900), (2000, 300)])
def test_caption_is_burned_in(size):
    """The bottom left corner changes and nothing above its box does."""
    film = np.full(size, 128, np.uint8)
    plain, captioned = (overlay(film, np.zeros(size), caption=text) for text in ("", CAPTION))
    assert captioned.shape == plain.shape
    changed = np.argwhere((plain != captioned).any(axis=2))
    assert len(changed) > 50
    assert changed[:, 0].max() >= size[0] * 0.8
    assert captioned.max() > 200


@pytest.mark.parametrize(
    ("film", "options", "match"),
    [
        (np.zeros((4, 4), np.float32), {}, r"must be uint8 or uint16 \[h, w\], but is float32"),
        (np.zeros((4, 4, 3), np.uint8), {}, r"but is uint8 \[4, 4, 3\]"),
        (np.zeros((4, 4), np.uint8), {"opacity": 1.5}, "opacity is 1.5, but must be from 0 to 1"),
        (np.zeros((4, 4), np.uint8), {"style": "rainbow"}, "style is 'rainbow'. Known: heat, contour"),
    ],
)
def test_wrong_arguments(film, options, match):
    """Each is named with its value."""
    with pytest.raises(UsageError, match=match):
        overlay(film, np.zeros((4, 4)), **options)


def opened(content):
    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (64, 33)])
def test_a_quickly_made_png_is_one(shape):
    """Another decoder gives the same pixels back, checksums and all; neighbouring rows may differ by anything."""
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    with Image.open(io.BytesIO(png(rgb))) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        np.testing.assert_array_equal(np.asarray(image), rgb)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(rgb[:, ::-1])))), rgb[:, ::-1])


def test_png_round_trips():
    """A picture and films of 8 and 16 bits come back as they were."""
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    film = np.random.default_rng(1).integers(0, 65536, (5, 7)).astype(np.uint16)
    np.testing.assert_array_equal(opened(png(rgb)), rgb)
    np.testing.assert_array_equal(opened(grey_png(film, bits=16)), film)
    np.testing.assert_array_equal(opened(grey_png(film)), np.rint(film / 257))


def test_jpeg_is_the_picture_to_the_eye():
    """A film with a map and words: a grey value moves by less than one on average, colours don't run."""
    y, x = np.mgrid[0:224, 0:224]
    film = (80 + 0.4 * x + np.random.default_rng(0).normal(0, 1.5, x.shape)).clip(0, 255).astype(np.uint8)
    heat = np.exp(-((x - 150.0) ** 2 + (y - 90.0) ** 2) / 800)
    rgb = overlay(film, heat, caption=CAPTION)
    apart = np.abs(opened(jpeg(rgb)).astype(int) - rgb)
    assert apart.mean() < 1
    assert apart.max() <= 24
    assert len(jpeg(rgb)) < len(png(rgb)) / 2
    with pytest.raises(UsageError, match=r"A picture must be uint8 \[h, w, 3\]"):
        jpeg(np.zeros((4, 4), np.uint8))


def test_wrong_pictures():
    """What is no picture is refused."""
    with pytest.raises(UsageError, match=r"A picture must be uint8 \[h, w, 3\]"):
        png(np.zeros((4, 4), np.uint8))
    with pytest.raises(UsageError, match="bits is 12"):
        grey_png(np.zeros((4, 4), np.uint16), bits=12)
    with pytest.raises(UsageError, match="bits is 16 and pixels are uint8"):
        grey_png(np.zeros((4, 4), np.uint8), bits=16)
    with pytest.raises(UsageError, match=r"A film must be uint8 or uint16 \[h, w\]"):
        grey_png(np.zeros((4, 4, 3), np.uint8))


def test_shrink_keeps_proportions_and_means():
    """A large film fits, a small one is returned as it is."""
    film = np.random.default_rng(2).integers(0, 65536, (1000, 500)).astype(np.uint16)
    small = shrink(film, 100)
    assert small.shape == (100, 50)
    assert abs(float(small.mean()) - float(film.mean())) < 1
    assert shrink(small, 100) is small


def test_every_step_of_the_scale_looks_equally_large():
    """Distances in CIELAB over five steps each: rounding to bytes is all that makes them differ."""
    steps = np.linalg.norm(np.diff(cielab(colour_scale()[::5]), axis=0), axis=1)
    assert steps.min() > 3
    assert steps.max() / steps.min() < 1.3


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [((255, 255, 255), (100, 0, 0)), ((0, 0, 0), (0, 0, 0)), ((255, 0, 0), (53.24, 80.09, 67.20))],
)
def test_cielab_of_known_colours(rgb, expected):
    """Published values of white, black and red under D65."""
    np.testing.assert_allclose(cielab(np.array([rgb]))[0], expected, atol=0.02)


def test_the_scale_cannot_be_changed_by_who_uses_it():
    with pytest.raises(ValueError, match="read-only"):
        colour_scale()[0] = 0
