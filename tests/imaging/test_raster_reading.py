"""PNG, JPEG and TIFF films are read; bombs, photographs and damage are told apart by name."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from hilum.errors import FilmError
from hilum.imaging.dicom_writing import FilmHeader, film_dataset
from hilum.imaging.limits import Limits
from hilum.imaging.reading import read_facts, read_film
from hilum.imaging.sandbox import Sandbox


def encoded(picture, kind, **options):
    buffer = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def grey(shape=(20, 30)):
    return np.arange(shape[0] * shape[1]).reshape(shape).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_8_bit_grey_is_taken_as_it_is(kind):
    """Each value times 257: white stays white, and a dark picture is not stretched."""
    film = read_film(encoded(grey(), kind))
    np.testing.assert_array_equal(film.pixels, grey().astype(np.uint16) * 257)
    assert (film.facts.format, film.facts.bits_stored, film.facts.colour) == (kind.lower(), 8, False)
    assert film.flags == ()


def test_jpeg_is_close_and_lossy():
    """A smooth JPEG comes back within a few grey values."""
    smooth = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    film = read_film(encoded(smooth, "JPEG", quality=95))
    assert np.abs(film.pixels / 257 - smooth).max() < 4
    assert film.facts.lossy is True


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_stretched_over_the_range_in_use(kind):
    """Exports keep 12 bits in 16: 0 … 4095 becomes black to white, and the film says so."""
    values = np.linspace(0, 4095, 600).astype(np.uint16).reshape(20, 30)
    film = read_film(encoded(values, kind))
    expected = np.floor(values / 4095 * 65535 + 0.5)
    np.testing.assert_array_equal(film.pixels, expected)
    assert (film.flags, film.facts.bits_stored) == (("no-voi",), 16)


def test_16_bit_tiff_whose_white_is_zero_is_inverted():
    """Pillow inverts such TIFFs of 8 bits and not those of 16."""
    values = np.array([[0, 100], [60000, 65535]], np.uint16)
    plain = read_film(encoded(values, "TIFF"))
    film = read_film(encoded(values, "TIFF", tiffinfo={262: 0}))
    np.testing.assert_array_equal(film.pixels, 65535 - plain.pixels)


def test_equal_channels_are_grey():
    """An RGB file without colours keeps its grey values exactly."""
    film = read_film(encoded(np.repeat(grey()[..., None], 3, axis=2), "PNG"))
    np.testing.assert_array_equal(film.pixels, grey().astype(np.uint16) * 257)
    assert film.facts.colour is False


def test_photograph_is_in_colour():
    """A picture full of colours is named as one; its grey values are luma."""
    picture = np.zeros((10, 10, 3), np.uint8)
    picture[..., 0] = 200
    film = read_film(encoded(picture, "PNG"))
    assert film.facts.colour is True
    assert film.pixels[0, 0] == round(0.299 * 200) * 257


def test_small_coloured_mark_does_not_make_a_colour_picture():
    """An annotation in colour on a grey film is flagged, and the film stays grey."""
    picture = np.repeat(grey((100, 100))[..., None], 3, axis=2)
    picture[0, :20] = (255, 0, 0)
    film = read_film(encoded(picture, "PNG"))
    assert film.facts.colour is False
    assert film.flags == ("some-colour",)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "CMYK"])
def test_other_modes_are_read(mode):
    """Alpha is dropped, palettes and bitmaps are resolved."""
    kind = "TIFF" if mode == "CMYK" else "PNG"
    film = read_film(encoded(Image.fromarray(grey()).convert("RGB").convert(mode), kind))
    assert film.shape == (20, 30)
    assert film.facts.photometric == mode


def test_floating_point_tiff_is_refused():
    """Values without a scale mean nothing."""
    with pytest.raises(FilmError, match="Pictures of mode F can't be read"):
        read_film(encoded(np.zeros((4, 4), np.float32), "TIFF"))


def test_32_bit_values_beyond_16_bits_are_refused():
    """Whole numbers beyond 65,535 have no place on the scale."""
    with pytest.raises(FilmError, match="outside 0 … 65535"):
        read_film(encoded(np.full((4, 4), 70_000, np.int32), "TIFF"))


def test_exif_orientation_is_applied():
    """A film lying on its side is turned, and the facts give its upright size."""
    image = Image.fromarray(grey())
    exif = image.getexif()
    exif[0x0112] = 6
    content = encoded(image, "JPEG", exif=exif.tobytes())
    film = read_film(content)
    assert film.shape == (30, 20)
    assert (read_facts(content).rows, read_facts(content).columns) == (30, 20)


def test_facts_from_the_header_alone(tmp_path):
    """Size and depth are known without decoding; whether RGB holds colour is not."""
    (tmp_path / "film.png").write_bytes(encoded(np.zeros((5, 7, 3), np.uint8), "PNG"))
    facts = read_facts(tmp_path / "film.png")
    assert (facts.rows, facts.columns, facts.colour, facts.format) == (5, 7, None, "png")


def chunk(name, content):
    return struct.pack(">L", len(content)) + name + content + struct.pack(">L", zlib.crc32(name + content))


def png_header(width, height):
    head = chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "code", "match"),
    [
        (png_header(60_000, 60_000), "too-large", "far more pixels than any film"),
        (png_header(9_000, 9_000), "too-large", r"9000 × 9000 × 1 = 81,000,000 pixels"),
        (png_header(100, 100), "truncated", "PNG is truncated"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "unreadable", "PNG header is damaged"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 50, "unreadable", "JPEG header is damaged"),
        (b"II*\0" + b"\xff" * 50, "unreadable", "TIFF header is damaged"),
        (b"\xff\xd8\xff" + b"\xff\xda" * 300, "too-large", "more than 200 scans"),
        (b"GIF89a" + b"\0" * 50, "not-an-image", "neither DICOM"),
        (b"%PDF-1.7", "not-an-image", "neither DICOM"),
    ],
    ids=["bomb", "big", "short", "no PNG", "no JPEG", "no TIFF", "scans", "GIF", "PDF"],
)
def test_refusals(content, code, match):
    """Each is refused by name, before it costs memory."""
    with pytest.raises(FilmError, match=match) as caught:
        read_film(content)
    assert caught.value.code == code


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_cut_files_are_refused(kind):
    """Half a file is truncated or damaged, never half a picture."""
    rng = np.random.default_rng(0)
    content = encoded(rng.integers(0, 256, (64, 64)).astype(np.uint8), kind)
    with pytest.raises(FilmError, match="truncated|damaged"):
        read_film(content[: len(content) // 2])


def test_several_pages_are_refused():
    """A TIFF of two films is no film."""
    pages = [Image.fromarray(grey()), Image.fromarray(grey())]
    content = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    with pytest.raises(FilmError, match="TIFF holds 2 pictures") as caught:
        read_film(content)
    assert caught.value.code == "not-an-image"


def test_limits_count_for_pictures_too():
    """Pixels are limited as for DICOM."""
    with pytest.raises(FilmError, match="more than the 100 pixels"):
        read_film(encoded(grey(), "PNG"), limits=Limits(max_pixels=100))


def test_real_chest_films_are_grey(shared_data):
    """Fifty real films of the chest set are read and none counts as a colour picture."""
    films = [read_film(path) for path in sorted((shared_data / "chest/images").glob("*.jpg"))[::25][:50]]
    assert films
    assert not any(film.facts.colour for film in films)


def test_real_photographs_are_in_colour(shared_data):
    """At least nine of ten photographs of flowers count as colour pictures."""
    paths = sorted((shared_data / "flowers").rglob("*.jpg"))[::90]
    assert np.mean([bool(read_film(path).facts.colour) for path in paths]) >= 0.9


def progressive(side, **options):
    """A grey picture in three channels of full size: libjpeg keeps 6 bytes a pixel of it."""
    slope = np.add.outer(np.arange(side), np.arange(side)).astype(np.uint8)
    return encoded(np.repeat(slope[..., None], 3, axis=2), "JPEG", progressive=True, subsampling=0, **options)


@pytest.fixture(scope="module")
def narrow():
    preload = ("hilum.imaging.reading", "pydicom.pixels", "PIL.JpegImagePlugin", "PIL.PngImagePlugin")
    with Sandbox(1, memory_mb=64, wall_s=60, preload=preload) as sandbox:
        yield sandbox


def end_of(sandbox, content):
    try:
        sandbox.run(read_film, content)
        return "film"
    except FilmError as error:
        return error.code


@pytest.mark.parametrize("side", [2600, 3000])
def test_a_picture_that_finds_no_memory_is_not_called_damaged(narrow, side, as_bytes):
    """libjpeg says the same of both. The sizes fail within libjpeg, beside a picture that has its memory already."""
    picture = progressive(side)
    assert end_of(narrow, picture) == "out-of-memory"
    stored = np.zeros((side, side), np.uint8)
    dataset = film_dataset(stored, FilmHeader(bits_stored=8))
    dataset.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.50")
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "YBR_FULL_422", 0
    dataset.add_new(0x7FE00010, "OB", encapsulate([picture]))
    dataset["PixelData"].is_undefined_length = True
    assert end_of(narrow, as_bytes(dataset)) == "out-of-memory"


def test_a_damaged_progressive_picture_is_called_damaged(narrow):
    """Where there is memory for it, whatever its header says of sampling."""
    whole = progressive(600)
    assert end_of(narrow, whole) == "film"
    at = whole.index(b"\xff\xc2")
    for changed, value in ((4, 12), (9, 2), (9, 200), (11, 0), (11, 0xFF)):
        content = bytearray(whole)
        content[at + changed] = value
        assert end_of(narrow, bytes(content)) in {"unreadable", "truncated"}
    assert end_of(narrow, whole[: len(whole) // 2]) == "truncated"
