"""What a viewer gets: through the film's own window it is what the preprocessing library shows."""

from pathlib import Path

import numpy as np
import pytest
from tests.service.small import as_png, dataset

from hilum.imaging.reading import read_film
from hilum.imaging.viewing import ViewerFilm, read_for_viewing, through_window

RAMP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)


def film(tmp_path: Path, **changes: object) -> Path:
    values = {"Rows": 64, "Columns": 64, "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11}
    made = dataset(1, **{**values, "PixelData": RAMP.tobytes(), **changes})
    made.save_as(tmp_path / "film.dcm", enforce_file_format=True)
    return tmp_path / "film.dcm"


def both(path: Path) -> tuple[ViewerFilm, np.ndarray]:
    return read_for_viewing(path), read_film(path).pixels


@pytest.mark.parametrize(
    ("changes", "windowed"),
    [
        ({}, True),
        ({"WindowCenter": 2048, "WindowWidth": 1024}, False),
        ({"WindowCenter": 2048, "WindowWidth": 9000}, False),
        ({"WindowCenter": 1000, "WindowWidth": 1024, "PhotometricInterpretation": "MONOCHROME1"}, False),
        ({"WindowCenter": 2048, "WindowWidth": 1024, "VOILUTFunction": "LINEAR_EXACT"}, False),
        ({"WindowCenter": 2048, "WindowWidth": 1024, "VOILUTFunction": "SIGMOID"}, True),
        ({"WindowCenter": 2048, "WindowWidth": 30}, True),
        ({"WindowCenter": 2048, "WindowWidth": 1024, "PixelPaddingValue": 4095}, False),
        ({"WindowCenter": 2048, "WindowWidth": 9000, "PixelPaddingValue": 4095}, True),
        ({"WindowCenter": 0, "WindowWidth": 1500, "RescaleSlope": 2, "RescaleIntercept": -1024}, False),
    ],
)
def test_its_own_window_shows_the_presentation_values(
    tmp_path: Path, changes: dict[str, object], windowed: bool
) -> None:
    seen, shown = both(film(tmp_path, **changes))
    assert seen.windowed is windowed
    expected = (shown.astype(np.uint32) + 128) // 257
    assert int(np.abs(through_window(seen).astype(int) - expected.astype(int)).max()) <= 1


def test_what_lies_beyond_the_window_is_there(tmp_path: Path) -> None:
    seen, shown = both(film(tmp_path, WindowCenter=2048, WindowWidth=1024))
    beyond = (shown == 65535).sum()
    assert beyond > 1000
    assert len(np.unique(seen.pixels[shown == 65535])) == beyond  # every code of the ramp is still told apart


def test_polarity_is_applied(tmp_path: Path) -> None:
    seen, _ = both(film(tmp_path, WindowCenter=2048, WindowWidth=1024, PhotometricInterpretation="MONOCHROME1"))
    assert seen.pixels[0, 0] == 65535
    assert seen.pixels[-1, -1] == 0


def test_a_picture_without_a_header_is_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "film.png").write_bytes(as_png((RAMP // 16).astype(np.uint8)))
    seen, shown = both(tmp_path / "film.png")
    assert seen.windowed
    assert seen.spacing_mm is None
    assert np.array_equal(seen.pixels, shown)
