"""The one preprocessing function is exact, deterministic, quick, and its geometry can be undone."""

import hashlib
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest

from hilum.config import fingerprint, from_mapping, to_mapping
from hilum.errors import ConfigError, UsageError
from hilum.imaging import preprocessing
from hilum.imaging.dicom_writing import FilmHeader, film_bytes
from hilum.imaging.preprocessing import Preprocessing, area_average, geometry, heatmap_on_film, preprocess
from hilum.imaging.reading import read_film


def averaged_by_hand(pixels, height, width):
    """Area average in exact fractions, pixel by pixel."""
    rows, columns = pixels.shape

    def overlap(i, cells, j, count):
        low, high = Fraction(i * count, cells), Fraction((i + 1) * count, cells)
        return max(Fraction(0), min(high, Fraction(j + 1)) - max(low, Fraction(j)))

    area = Fraction(rows * columns, height * width)
    return [
        [
            sum(
                overlap(i, height, r, rows) * overlap(k, width, c, columns) * int(pixels[r, c])
                for r in range(rows)
                for c in range(columns)
            )
            / area
            for k in range(width)
        ]
        for i in range(height)
    ]


@pytest.mark.parametrize(
    ("shape", "grid"),
    [((7, 5), (3, 2)), ((6, 4), (3, 2)), ((3, 2), (5, 4)), ((5, 5), (5, 5)), ((1, 1), (3, 2)), ((9, 4), (2, 7))],
)
def test_area_average_is_exact(shape, grid):
    """Against fractions, to the last bit of float64."""
    pixels = np.random.default_rng(0).integers(0, 65536, shape, dtype=np.uint16)
    expected = [[float(value) for value in row] for row in averaged_by_hand(pixels, *grid)]
    np.testing.assert_allclose(area_average(pixels, *grid), expected, rtol=1e-15)


@pytest.mark.parametrize("white", [False, True])
@pytest.mark.parametrize("columns", [64, 1024, 3072])
def test_columns_are_summed_to_the_same_bits_by_weights(columns, white, monkeypatch):
    """Where edges lie alike in many parts of a row a product sums columns; it gives what whole numbers give."""
    pixels = np.random.default_rng(2).integers(0, 65536, (50, columns), dtype=np.uint16)
    if white:
        pixels[:] = 65535
    cells = columns * 7 // 32
    preprocessing._weights.cache_clear()
    products = area_average(pixels, 16, cells)
    assert preprocessing._weights.cache_info().misses == 1, "it went this way"
    monkeypatch.setattr(preprocessing, "FEW", 0)
    np.testing.assert_array_equal(area_average(pixels, 16, cells), products)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("shape", "grid"), [((64, 96), (16, 32)), ((48, 30), (3, 30)), ((9, 8), (9, 1)), ((7, 5), (7, 5))]
)
def test_whole_cells_are_summed_to_the_same_bits(shape, grid, kind):
    """Where no edge cuts a pixel a shorter way is taken; it gives what the weighted sums give, to the last bit."""
    pixels = np.random.default_rng(1).integers(0, np.iinfo(kind).max + 1, shape).astype(kind)
    weighted = preprocessing._sum_columns(preprocessing._sum_rows(pixels, grid[0]), grid[1], 65535 * shape[0])
    np.testing.assert_array_equal(area_average(pixels, *grid), weighted / (float(shape[0]) * float(shape[1])))


def test_area_average_keeps_the_mean():
    """The mean of the averages is the mean of the film."""
    pixels = np.random.default_rng(1).integers(0, 65536, (1000, 777), dtype=np.uint16)
    assert area_average(pixels, 224, 224).mean() == pytest.approx(pixels.mean(dtype=np.float64), rel=1e-12)


def test_area_average_does_not_overflow():
    """A white film of more rows than 16 bits count stays white."""
    white = np.full((70_000, 3), 65535, np.uint16)
    assert np.all(area_average(white, 8, 2) == 65535)
    assert np.all(area_average(np.full((65_536, 2), 65535, np.uint16), 4096, 1) == 65535)


def test_strides_do_not_matter():
    """A view into a larger film gives what a copy of it gives."""
    film = np.random.default_rng(2).integers(0, 65536, (300, 400), dtype=np.uint16)
    view = film[10:290:2, ::-1]
    config = Preprocessing(size=32)
    np.testing.assert_array_equal(preprocess(view, config), preprocess(np.ascontiguousarray(view), config))


def test_golden_tile():
    """Four averages of 0, 20000, 40000, 60000, stretched from the smallest to the largest, by hand."""
    film = np.repeat(np.repeat(np.array([[0, 20000], [40000, 60000]], np.uint16), 20, axis=0), 30, axis=1)
    tile = preprocess(film, Preprocessing(size=8, intensity="minmax"))
    assert tile.dtype == np.uint8
    assert np.unique(tile).tolist() == [0, 85, 170, 255]
    assert (tile[0, 0], tile[0, 7], tile[7, 0], tile[7, 7]) == (0, 85, 170, 255)


def test_intensity_none_keeps_the_grey_values():
    """65535 / 257 is 255."""
    film = np.full((10, 10), 32896, np.uint16)
    assert np.all(preprocess(film, Preprocessing(size=8, intensity="none")) == 128)


def test_percentiles_leave_a_hot_pixel_out():
    """One white marker pixel in a dark film doesn't darken all the rest."""
    film = np.tile(np.linspace(10000, 20000, 64).astype(np.uint16), (64, 1))
    film[0, 0] = 65535
    tile = preprocess(film, Preprocessing(size=64))
    assert tile[32].max() == 255
    assert preprocess(film, Preprocessing(size=64, intensity="minmax"))[32].max() < 60


@pytest.mark.parametrize("intensity", ["percentile", "minmax", "none"])
def test_film_of_one_value_keeps_it(intensity):
    """Nothing is divided by zero."""
    tile = preprocess(np.full((9, 9), 65535, np.uint16), Preprocessing(size=8, intensity=intensity))
    assert np.all(tile == 255)


def test_stretch_is_monotone_and_unchanged_by_brightness():
    """A film and a darker copy of it give the same tile: the stretch undoes scale and offset."""
    film = np.random.default_rng(3).integers(0, 30000, (224, 224), dtype=np.uint16)
    config = Preprocessing()
    np.testing.assert_array_equal(preprocess(film * 2, config), preprocess(film, config))


def test_letterbox_adds_black_and_ignores_it():
    """A film twice as high as wide fills the middle half; its borders don't enter the percentiles."""
    film = np.full((200, 100), 20000, np.uint16)
    film[:100] = 40000
    tile = preprocess(film, Preprocessing(size=64, resize="letterbox"))
    assert np.all(tile[:, :16] == 0)
    assert np.all(tile[:, 48:] == 0)
    assert np.all(tile[:32, 16:48] == 255)


def test_crop_takes_the_middle():
    """Of a wide film the outer columns are not seen."""
    film = np.zeros((50, 150), np.uint16)
    film[:, 50:100] = 65535
    assert np.all(preprocess(film, Preprocessing(size=8, resize="crop", intensity="none")) == 255)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"size": 4}, "size is 4, but must be from 8 to 4096"),
        ({"resize": "squash"}, "resize is 'squash'. Known: stretch, crop, letterbox"),
        ({"intensity": "gamma"}, "intensity is 'gamma'. Known: percentile, minmax, none"),
        ({"low_percent": 99.9}, "low_percent and high_percent are 99.9 and 99.5"),
        ({"version": 2}, "version is 2, but this package has version 1"),
    ],
)
def test_wrong_configs(changes, match):
    """Each wrong field is named with its value and what would be right."""
    with pytest.raises(ConfigError, match=match):
        Preprocessing(**changes)


def test_config_travels_as_data():
    """Mapping and back, with the same fingerprint."""
    config = Preprocessing(size=320, resize="crop")
    back = from_mapping(Preprocessing, to_mapping(config))
    assert back == config
    assert fingerprint(back) == fingerprint(config) != fingerprint(Preprocessing())


@pytest.mark.parametrize("film", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.uint16), np.zeros(4, np.uint16)])
def test_wrong_pixels(film):
    """Only presentation values of one film are taken."""
    with pytest.raises(UsageError, match=r"Pixels must be uint16 \[h, w\]"):
        preprocess(film, Preprocessing())


def test_empty_film():
    """A film without pixels has no tile."""
    with pytest.raises(UsageError, match="0 × 5 pixels can't be preprocessed"):
        preprocess(np.zeros((0, 5), np.uint16), Preprocessing())


@pytest.mark.parametrize("resize", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (257, 257)])
def test_heat_map_lands_where_the_tile_looked(resize, shape):
    """A tile laid back on its own film as a heat map shows the film again, wherever the tile looked."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    film = (20000 + 30000 * (y / shape[0]) * (x / shape[1])).astype(np.uint16)
    config = Preprocessing(size=64, resize=resize, intensity="none")
    back = heatmap_on_film(preprocess(film, config).astype(np.float32), shape, config)
    assert back.dtype == np.float32
    assert back.shape == shape
    where = geometry(shape, config)
    inside = np.zeros(shape, bool)
    inside[where.top : where.top + where.height, where.left : where.left + where.width] = True
    assert np.all(back[~inside] == 0)
    core = inside.copy()
    core[:8] = core[-8:] = False
    core[:, :8] = core[:, -8:] = False
    if resize == "letterbox":  # the film's long borders touch the tile's black ones
        core &= np.abs(x / shape[1] - 0.5) < 0.45
        core &= np.abs(y / shape[0] - 0.5) < 0.45
    assert np.abs(back - film / 257)[core].max() < 3


def test_heat_map_by_hand():
    """Two cells on four columns: centres at 1 and 3, linear between, constant beyond."""
    film = heatmap_on_film(np.array([[0.0, 4.0]]), (1, 4), Preprocessing())
    np.testing.assert_allclose(film, [[0.0, 1.0, 3.0, 4.0]])


def golden_film():
    """A film from whole numbers alone, so that it is the same everywhere."""
    y, x = np.mgrid[0:1311, 0:1047].astype(np.uint64)
    return ((y * y * 31 + x * x * 17 + x * y * 7) // 64 % 65536).astype(np.uint16)


@pytest.mark.parametrize(
    ("resize", "intensity", "digest"),
    [
        ("stretch", "percentile", "a1b50a91b125f0fa"),
        ("crop", "minmax", "223b61264713325c"),
        ("letterbox", "none", "b831b1c3affa54f2"),
    ],
)
def test_golden_digest(resize, intensity, digest):
    """Tiles never change under one version number: whoever changes a digest here raises VERSION."""
    tile = preprocess(golden_film(), Preprocessing(resize=resize, intensity=intensity))
    assert hashlib.sha256(tile.tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("bits", [12, 16])
def test_film_is_never_copied_as_floats(bits):
    """Reading and preprocessing 1,600 × 1,600 takes the codes and the pixels, 2 bytes each, and little beside."""
    side = 1600
    codes = np.add.outer(np.arange(side), np.arange(side)).astype(np.uint16) & ((1 << bits) - 1)
    content, _ = film_bytes(codes, FilmHeader(bits_stored=bits, window=(1 << (bits - 1), 1 << bits)))
    config = Preprocessing()
    preprocess(read_film(content).pixels, config)  # imports and caches are not the film's
    tracemalloc.start()
    try:
        preprocess(read_film(content).pixels, config)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # 9 MB for the strips that are looked up at a time; a float32 copy alone would be 4 bytes a pixel more.
    assert peak < side * side * (2 + 2) + (9 << 20)
    assert side * side * 4 > 9 << 20


def test_halves_of_a_large_film_are_summed_to_the_same_bits(monkeypatch):
    """Rows of a large film are summed by two threads where edges lie alike in its parts."""
    film = np.random.default_rng(4).integers(0, 65536, (1024, 96), dtype=np.uint16)
    alone = area_average(film, 224, 64)
    monkeypatch.setattr(preprocessing, "LARGE", 1)
    monkeypatch.setattr(preprocessing, "LONG_CALL", 1)
    np.testing.assert_array_equal(area_average(film, 224, 64), alone)
