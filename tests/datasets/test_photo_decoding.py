"""One photograph to a small square: upright, from its middle, in RGB; or a reason why not."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from hilum.arrays import Array
from hilum.datasets.photo_decoding import decode_photo
from hilum.errors import DataError


def corners(width: int = 48, height: int = 48) -> Array:
    """Red upper left, green upper right, blue lower left, grey lower right."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[: height // 2, : width // 2] = (255, 0, 0)
    image[: height // 2, width // 2 :] = (0, 255, 0)
    image[height // 2 :, : width // 2] = (0, 0, 255)
    image[height // 2 :, width // 2 :] = (128, 128, 128)
    return image


def at(image: Array, row: int, column: int) -> list[int]:
    return [int(value) for value in image[:, row, column]]


@pytest.mark.parametrize(("width", "height"), [(48, 48), (144, 48), (48, 144)])
def test_the_middle_square_is_taken_and_made_to_size(tmp_path: Path, width: int, height: int) -> None:
    image = np.full((height, width, 3), 77, dtype=np.uint8)
    top, left = (height - 48) // 2, (width - 48) // 2
    image[top : top + 48, left : left + 48] = corners()
    Image.fromarray(image).save(tmp_path / "a.png")
    decoded = decode_photo(tmp_path / "a.png", 16)
    square = decoded.pixels
    assert (square.shape, square.dtype, decoded.grey, decoded.enlarged) == ((3, 16, 16), np.uint8, False, False)
    assert (at(square, 2, 2), at(square, 2, 13)) == ([255, 0, 0], [0, 255, 0])
    assert (at(square, 13, 2), at(square, 13, 13)) == ([0, 0, 255], [128, 128, 128])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_camera_is_turned_back_as_pillow_does(tmp_path: Path, orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(corners(64, 48)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    square = decode_photo(tmp_path / "a.jpg", 48).pixels
    with Image.open(tmp_path / "a.jpg") as image:
        upright = np.asarray(ImageOps.fit(ImageOps.exif_transpose(image), (48, 48)))
    assert np.abs(square.astype(int) - upright.transpose(2, 0, 1).astype(int)).mean() < 3


def test_a_large_jpeg_decoded_small_is_nearly_the_same_picture(tmp_path: Path) -> None:
    y, x = np.mgrid[:600, :800]
    waves = np.stack([128 + 100 * np.sin(x / 90), 128 + 100 * np.sin(y / 70), 128 + 60 * np.sin((x + y) / 100)], axis=2)
    Image.fromarray(waves.astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        whole = np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR, box=(100, 0, 700, 600)))
    square = decode_photo(tmp_path / "a.jpg", 64).pixels
    assert np.abs(square.astype(int) - whole.transpose(2, 0, 1).astype(int)).max() < 10


@pytest.mark.parametrize(("mode", "suffix"), [("L", "jpg"), ("L", "png"), ("1", "png"), ("L", "bmp"), ("L", "pgm")])
def test_grey_becomes_three_equal_channels_and_is_told(tmp_path: Path, mode: str, suffix: str) -> None:
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(corners()[:, :, 0]).convert(mode).save(file)
    decoded = decode_photo(file, 16)
    square, grey = decoded.pixels, decoded.grey
    assert grey
    assert (square[0] == square[1]).all()
    assert (square[0] == square[2]).all()
    assert square[0, 2, 2] > 240


def test_sixteen_bits_are_cut_to_eight(tmp_path: Path) -> None:
    values = np.full((16, 16), 0x8123, dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    decoded = decode_photo(tmp_path / "a.png", 8)
    square, grey = decoded.pixels, decoded.grey
    assert (grey, square.min(), square.max()) == (True, 0x81, 0x81)


def test_what_is_transparent_becomes_white(tmp_path: Path) -> None:
    image = np.zeros((16, 16, 4), dtype=np.uint8)
    image[:, :8] = (10, 20, 30, 255)
    Image.fromarray(image).save(tmp_path / "a.png")
    decoded = decode_photo(tmp_path / "a.png", 16)
    square, grey = decoded.pixels, decoded.grey
    assert (at(square, 4, 2), at(square, 4, 13), grey) == ([10, 20, 30], [255, 255, 255], False)


@pytest.mark.parametrize(("mode", "suffix"), [("P", "png"), ("CMYK", "jpg"), ("RGB", "webp"), ("RGB", "tif")])
def test_other_kinds_of_colour_become_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(corners()).convert(mode).save(file)
    decoded = decode_photo(file, 16)
    square, grey = decoded.pixels, decoded.grey
    assert not grey
    assert np.abs(np.array(at(square, 2, 2)) - (255, 0, 0)).max() < 12


def test_an_image_smaller_than_asked_for_is_enlarged_and_told(tmp_path: Path) -> None:
    Image.fromarray(corners(30, 20)).save(tmp_path / "a.png")
    assert decode_photo(tmp_path / "a.png", 21).enlarged
    assert not decode_photo(tmp_path / "a.png", 20).enlarged


def test_one_pixel_is_too_small(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"it is 1 × 1 px, too small: the short side must have 8"):
        decode_photo(tmp_path / "a.png", 16)


def test_text_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("<html>not found</html>")
    with pytest.raises(DataError, match=r"it is no JPEG, PNG, BMP, PPM, TIFF, WEBP or GIF image"):
        decode_photo(tmp_path / "a.jpg", 16)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_truncated_image_is_damaged(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"it is damaged \(.*truncated"):
        decode_photo(file, 16)


def bomb(file: Path, side: int) -> None:
    """A PNG whose header announces far more pixels than it holds."""
    info = PngImagePlugin.PngInfo()
    Image.new("L", (8, 8)).save(file, pnginfo=info)
    content = bytearray(file.read_bytes())
    content[16:24] = side.to_bytes(4, "big") * 2
    import zlib

    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    file.write_bytes(content)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_that_announces_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    bomb(tmp_path / "a.png", 11_000)
    with pytest.raises(DataError, match=r"it has 11000 × 11000 px, more than the 100,000,000 allowed"):
        decode_photo(tmp_path / "a.png", 16)
    bomb(tmp_path / "b.png", 60_000)
    with pytest.raises(DataError, match=r"it has far more pixels than the 100,000,000 allowed"):
        decode_photo(tmp_path / "b.png", 16)


def test_fractions_and_negative_values_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((16, 16), dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="its pixels are 32-bit fractions, which photographs don't have"):
        decode_photo(tmp_path / "a.tif", 16)
    Image.fromarray(np.full((16, 16), -5, dtype=np.int32)).save(tmp_path / "b.tif")
    with pytest.raises(DataError, match=r"its values lie outside 0 … 65,535"):
        decode_photo(tmp_path / "b.tif", 16)
