"""Tiles from films decoded at reduced size differ from the exact ones by little, or are not made."""

import dataclasses
import functools
import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from hilum.errors import ConfigError, FilmError
from hilum.imaging import tile_reading
from hilum.imaging.dicom_writing import FilmHeader, film_bytes
from hilum.imaging.intended_use import GatePolicy
from hilum.imaging.limits import Limits
from hilum.imaging.preprocessing import Preprocessing, geometry, preprocess
from hilum.imaging.radiograph import FilmFacts
from hilum.imaging.reading import read_film
from hilum.imaging.reduced_reading import OVERSAMPLING, ReducedFilm, read_reduced, reduced_tile
from hilum.imaging.tile_reading import film_tile, read_tile
from hilum.inference.preparing import prepare_film

MEAN, MOST = 0.5, 12
"""Tolerance of a tile: mean and largest difference, in grey levels of 255."""

REDUCED = Preprocessing(size=112, decoding="reduced")


@functools.cache
def like_a_film(chest_like, shape, bits):
    """A chest-like picture with noise, a white marker with sharp edges and a black rim: synthetic."""
    film = chest_like(shape, bits).astype(float) / ((1 << bits) - 1)
    film += np.random.default_rng(0).normal(0, 0.004, shape)
    film[40:100, 60:84] = 0.97
    film[:, -17:] = 0.01
    return np.rint(film.clip(0, 1) * ((1 << bits) - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def jpeg(picture, **options):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", **{"quality": 90, **options})
    return buffer.getvalue()


def dicom(stored, syntax, **header):
    bits = header.get("bits_stored", 8 if stored.itemsize == 1 else 12)
    middle = 0 if header.get("signed") else 1 << (bits - 1)
    given = {"bits_stored": bits, "window": (middle, 1 << bits), **header}
    return film_bytes(stored, FilmHeader(**given), transfer_syntax=syntax)[0]


def difference(content, config):
    """Mean and largest difference to the exact tile, and by how much the film was reduced."""
    film = read_reduced(content, config, Limits())
    exact = preprocess(read_film(content).pixels, config).astype(int)
    found = np.abs(reduced_tile(film, config) - exact)
    return found.mean(), found.max(), film.scale


@pytest.mark.parametrize(
    ("resize", "size", "scale"),
    [("stretch", 112, 2), ("stretch", 64, 4), ("stretch", 32, 8), ("crop", 64, 4), ("letterbox", 112, 2)],
)
def test_jpeg_within_tolerance(chest_like, resize, size, scale):
    """Sides that no reduction divides, each reduction, each way of fitting."""
    config = Preprocessing(size=size, resize=resize, decoding="reduced")
    mean, most, reduced = difference(jpeg(like_a_film(chest_like, (1103, 901), 8)), config)
    assert (mean <= MEAN, most <= MOST, reduced) == (True, True, scale), (mean, most, reduced)


@pytest.mark.parametrize(
    ("syntax", "header", "size", "scale"),
    [
        ("jpeg", {}, 112, 2),
        ("jpeg2000-lossless", {"signed": True}, 64, 4),
        ("jpeg2000", {"photometric": "MONOCHROME1"}, 64, 4),
    ],
)
def test_dicom_within_tolerance(chest_like, syntax, header, size, scale):
    """12 bits, signed, inverted; the half pixel by which wavelets shift is accounted for."""
    stored = like_a_film(chest_like, (1103, 1031), 8 if syntax == "jpeg" else 12)
    if header.get("signed"):
        stored = (stored.astype(int) - 2048).astype(np.int16)
    config = dataclasses.replace(REDUCED, size=size)
    mean, most, reduced = difference(dicom(stored, syntax, **header), config)
    assert (mean <= MEAN, most <= MOST, reduced) == (True, True, scale), (mean, most, reduced)


@pytest.mark.long
@pytest.mark.parametrize("syntax", ["jpeg", "jpeg2000-lossless", "jpeg2000"])
def test_full_size_within_tolerance(chest_like, syntax):
    """3,000 × 3,000 to 224 × 224, a quarter of the size."""
    content = dicom(like_a_film(chest_like, (3000, 3000), 8 if syntax == "jpeg" else 12), syntax)
    mean, most, reduced = difference(content, Preprocessing(decoding="reduced"))
    assert (mean <= MEAN, most <= MOST, reduced) == (True, True, 4), (mean, most, reduced)


def test_real_films_within_tolerance(shared_data):
    """Twenty real films of 448 pixels, to tiles of 56."""
    paths = sorted((shared_data / "chest/images").glob("*.jpg"))[::60][:20]
    config = Preprocessing(size=56, decoding="reduced")
    contents = [path.read_bytes() for path in paths]
    found = [difference(one, config) for one in contents if read_reduced(one, config, Limits())]
    assert len(found) > 10
    assert max(mean for mean, _, _ in found) <= MEAN
    assert max(most for _, most, _ in found) <= MOST


def test_pixels_by_hand():
    """A film of 4 × 6, reduced by two: averages over cells, and the half pixel that JPEG 2000's samples are early."""
    pixels = np.array([[10, 20, 30], [50, 60, 70]], np.uint16) * 256
    config = Preprocessing(size=8, intensity="none")
    tile = reduced_tile(
        ReducedFilm(pixels=pixels, shape=(4, 6), scale=2, shift=0, checked=True, facts=FilmFacts(format="jpeg")), config
    )
    assert tile[0].tolist() == [10, 10, 13, 20, 20, 27, 30, 30]
    early = reduced_tile(
        ReducedFilm(pixels=pixels, shape=(4, 6), scale=2, shift=1, checked=True, facts=FilmFacts(format="jpeg")), config
    )
    # Each pixel now lies half a film's pixel earlier, and the last goes on to the border.
    assert early[0].tolist() == [10, 10, 20, 20, 23, 30, 30, 30]
    assert early[:, 0].tolist() == [10, 10, 10, 50, 50, 50, 50, 50]


def test_nothing_is_reduced_below_the_oversampling():
    """Three pixels each way are left for each pixel of the tile."""
    picture = np.zeros((OVERSAMPLING * 2 * 16, OVERSAMPLING * 2 * 16), np.uint8)
    assert read_reduced(jpeg(picture), Preprocessing(size=16), Limits()).scale == 2
    assert read_reduced(jpeg(picture[:-1]), Preprocessing(size=16), Limits()) is None
    assert geometry(picture.shape, Preprocessing(size=16)).height == 96


@pytest.fixture(scope="module")
def film(chest_like):
    return like_a_film(chest_like, (1056, 1056), 8)


def another_size(film):
    """A header that says 1057 rows over a codestream of 1056."""
    rows = b"\x28\x00\x10\x00US\x02\x00"
    return dicom(film, "jpeg").replace(rows + b"\x20\x04", rows + b"\x21\x04")


@pytest.mark.parametrize(
    "write",
    [
        lambda film: dicom(film, "explicit-le"),
        lambda film: dicom(film, "jpeg", padding=0),
        lambda film: dicom(film, "jpeg", voi_function="SIGMOID"),
        lambda film: dicom(film, "jpeg", window=(100, 40)),
        lambda film: dicom((film * np.uint16(16)), "jpeg2000-lossless", window=None),
        lambda film: dicom(film[:700, :700], "jpeg2000-lossless"),
        lambda film: jpeg(np.repeat(film[..., None], 3, axis=2)),
        lambda film: jpeg(film, progressive=True),
        lambda film: b"\x89PNG\r\n\x1a\n",
    ],
    ids=["native", "padding", "sigmoid", "beyond the window", "stretched", "small JPEG 2000", "colour", "progressive",
         "PNG"],
)  # fmt: skip
def test_what_is_decoded_whole(film, write):
    """Where greys don't commute with averaging, or nothing is to be had, the film is not reduced."""
    assert read_reduced(write(film), REDUCED, Limits()) is None


def test_8_bit_film_without_window_is_reduced(film):
    """Its values are presentation values already."""
    assert read_reduced(dicom(film, "jpeg", window=None), REDUCED, Limits()).scale == 2


@pytest.mark.parametrize("syntax", ["jpeg", "jpeg2000-lossless"])
def test_damaged_films_are_refused_as_ever(film, syntax):
    """A codestream cut short gives no tile, reduced or not."""
    content = dicom(film, syntax)
    at = content.index(b"\xff\x4f\xff\x51" if syntax != "jpeg" else b"\xff\xd8\xff")
    # The bytes stay as many, so that only the decoder can see it.
    damaged = content[: at + (len(content) - at) // 2] + b"\0" * (len(content) - at - (len(content) - at) // 2)
    for decoding in ("full", "reduced"):
        with pytest.raises(FilmError):
            film_tile(damaged, dataclasses.replace(REDUCED, decoding=decoding))


def test_another_size_than_the_header_says_is_refused(film):
    """As it is when the film is decoded whole."""
    for decoding in ("full", "reduced"):
        with pytest.raises(FilmError, match="is 1056 × 1056 with 1 samples, but the header says 1057 × 1056"):
            film_tile(another_size(film), dataclasses.replace(REDUCED, decoding=decoding))


def test_limits_come_first(film):
    """A picture beyond the limits is refused before it is decoded."""
    with pytest.raises(FilmError, match="more than the 1,000 pixels"):
        read_reduced(jpeg(film), REDUCED, Limits(max_pixels=1000))


def test_read_tile_reduces_only_when_asked(film, tmp_path, monkeypatch):
    """Decoding is whole unless the preprocessing says otherwise, and the file has to be the one imported."""
    content = jpeg(film)
    path = tmp_path / "film.jpg"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    np.testing.assert_array_equal(read_tile(path, digest, REDUCED), film_tile(content, REDUCED))
    whole = dataclasses.replace(REDUCED, decoding="full")
    assert not np.array_equal(read_tile(path, digest, whole), read_tile(path, digest, REDUCED))
    with pytest.raises(FilmError, match="changed since the import"):
        read_tile(path, "0" * 64, REDUCED)
    monkeypatch.setattr(tile_reading, "read_reduced", None)  # calling it would fail
    np.testing.assert_array_equal(read_tile(path, digest, whole), preprocess(read_film(content).pixels, whole))


def test_service_and_training_make_the_same_tile(film):
    """The reading room prepares what `read_tile` gives, however it is decoded; quality is that of all pixels."""
    content = jpeg(film)
    for decoding in ("full", "reduced"):
        config = dataclasses.replace(REDUCED, decoding=decoding)
        prepared = prepare_film(content, config, GatePolicy())
        np.testing.assert_array_equal(prepared.tile, film_tile(content, config))
        assert (prepared.quality.height, prepared.shape) == (1056, (1056, 1056))


def test_unknown_decoding():
    """The known ways are listed."""
    with pytest.raises(ConfigError, match="decoding is 'half'. Known: full, reduced"):
        Preprocessing(decoding="half")
