"""Heat maps as layers of their own: colours or lines, transparent where there is nothing to show."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from tests.service.small import as_png

from hilum.config import to_mapping
from hilum.imaging.preprocessing import Preprocessing
from hilum.service.drawing import draw_heatmap

HEAT = np.linspace(0, 1, 49, dtype=np.float32).reshape(7, 7)


def layer(tmp_path: Path, style: str) -> np.ndarray:
    (tmp_path / "film.png").write_bytes(as_png(np.full((120, 90), 99, np.uint8)))
    drawn = draw_heatmap(tmp_path / "film.png", HEAT, to_mapping(Preprocessing()), 1.0, True, style)
    return np.asarray(Image.open(io.BytesIO(drawn)))


def test_lines_run_between_low_and_high_and_leave_the_rest_open(tmp_path: Path) -> None:
    lines, areas = layer(tmp_path, "contour"), layer(tmp_path, "heat")
    assert lines.shape == areas.shape == (120, 90, 4)
    drawn = lines[..., 3] > 0
    assert 0.005 < drawn.mean() < 0.1
    assert not drawn[:10].any()  # the heat begins at zero
    assert (areas[..., 3] > 0).mean() > 0.9


def test_pictures_are_of_the_whole_film_however_the_model_read_it(tmp_path: Path) -> None:
    """A bundle that decodes films at reduced size changes nothing of what people are shown."""
    grain = np.random.default_rng(0).integers(60, 190, (1040, 1100), dtype=np.uint8)
    Image.fromarray(grain).save(tmp_path / "film.jpg", quality=95)
    whole, reduced = (
        draw_heatmap(tmp_path / "film.jpg", HEAT, to_mapping(Preprocessing(size=64, decoding=one)), 1.0, False, "heat")
        for one in ("full", "reduced")
    )
    assert whole == reduced
