"""The example that draws a contact sheet of phantom films."""

import runpy
from pathlib import Path

from PIL import Image

GALLERY = Path(__file__).parents[2] / "examples" / "phantom_gallery.py"


def test_the_gallery_shows_each_finding_plain_and_outlined(tmp_path):
    runpy.run_path(str(GALLERY))["main"](tmp_path / "sheet.png", columns=1, pixels=64)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (64, 3 * 2 * 64)
