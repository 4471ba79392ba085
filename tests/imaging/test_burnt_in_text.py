"""Burnt-in text is found and blackened, a marker and anatomy are not, and what isn't sure is left to a person."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.imaging.burnt_in_text import find_text
from hilum.imaging.deidentification import Policy, deidentify
from hilum.imaging.dicom_writing import FilmHeader, film_bytes
from hilum.imaging.reading import read_facts, read_film

KEY = bytes(range(32))


def background(rows: int = 512, columns: int = 512) -> np.ndarray:
    """A smooth film with ribs and noise, 12 bits."""
    y, x = np.mgrid[:rows, :columns] / rows
    grey = 1800 + 900 * np.sin(3 * x) * y + 250 * np.sin(2 * np.pi * (9 * y + 2 * x))
    return (grey + np.random.default_rng(0).normal(0, 25, grey.shape)).clip(0, 4095).astype(np.uint16)


def written(film: np.ndarray, text: str, at: tuple[int, int], *, ink: int = 4095, size: int = 16) -> np.ndarray:
    stencil = Image.new("L", film.shape[::-1])
    ImageDraw.Draw(stencil).text((at[1], at[0]), text, fill=255, font=ImageFont.load_default(size))
    share = np.asarray(stencil, np.float32) / 255
    return (film * (1 - share) + ink * share).astype(film.dtype)


def ink_of(text: str, at: tuple[int, int], size: int = 16) -> np.ndarray:
    return written(np.zeros((512, 512), np.uint16), text, at, size=size) > 2000


@pytest.mark.parametrize("ink", [4095, 0])
@pytest.mark.parametrize("at", [(10, 12), (480, 300), (250, 200)])
@pytest.mark.parametrize("text", ["MUSTER^ANNA", "01.02.1950", "ID 4711815"])
def test_a_line_is_found_whole(ink: int, at: tuple[int, int], text: str) -> None:
    lines = [one for one in find_text(written(background(), text, at, ink=ink)) if one.sure]
    hidden = np.zeros((512, 512), bool)
    for one in lines:
        hidden[one.top : one.top + one.height, one.left : one.left + one.width] = True
    assert (hidden & ink_of(text, at)).sum() == ink_of(text, at).sum()
    assert hidden.mean() < 0.06, "little else is covered"


def test_a_line_whose_end_lies_on_bright_ground_is_found_whole() -> None:
    text, at = "ID 471181593", (250, 180)
    ground = 1500 + (np.clip((np.arange(512) - 205) / 25, 0, 1) * (4095 * 0.9 - 1500)).astype(int)
    film = np.tile(ground, (512, 1)).astype(np.uint16)
    film[:60] = 0
    hidden = np.zeros((512, 512), bool)
    for one in find_text(written(film, text, at)):
        hidden[one.top : one.top + one.height, one.left : one.left + one.width] = True
    assert (hidden & ink_of(text, at)).sum() == ink_of(text, at).sum()
    assert hidden.mean() < 0.02


def blackened(film: np.ndarray) -> np.ndarray:
    hidden = np.zeros(film.shape, bool)
    for one in find_text(film):
        if one.sure:
            hidden[one.top : one.top + one.height, one.left : one.left + one.width] = True
    return hidden


@pytest.mark.parametrize(
    ("text", "size", "ink"),
    [
        ("MUSTER^ANNA", 16, 1950),  # little above its ground, but all of one grey
        ("ANNA 4711", 8, 4095),
        ("ANNA 4711", 60, 4095),
        ("MUSTER       47", 16, 4095),  # an end that is no line by itself
    ],
)
def test_a_faint_small_large_or_broken_line_is_found_whole(text: str, size: int, ink: int) -> None:
    at = (10, 12) if ink < 4095 else (200, 12)
    hidden, strokes = blackened(written(background(), text, at, ink=ink, size=size)), ink_of(text, at, size)
    assert (hidden & strokes).sum() == strokes.sum()
    assert hidden.mean() < 0.5 * (size / 60) ** 2 + 0.06


def grainy(contrast: float, seed: int = 0) -> np.ndarray:
    """A dark ground whose grain is cut off at the film's least value, with a bright rim."""
    rng = np.random.default_rng(seed)
    film = 4095 * (contrast + rng.normal(0, contrast / 3, (512, 512)))
    film[:, :40] = 4095
    return film.clip(0, 4095).astype(np.uint16)


def test_ink_of_a_films_own_end_is_found_on_noise_that_is_nearly_as_strong() -> None:
    text, at = "MUSTER^ANNA", (200, 120)
    hidden, strokes = blackened(written(grainy(0.1), text, at, ink=0)), ink_of(text, at)
    assert (hidden & strokes).sum() == strokes.sum()
    assert hidden.mean() < 0.06


@pytest.mark.parametrize("contrast", [0.03, 0.1, 0.2])
def test_grain_that_is_cut_off_at_a_films_own_end_is_no_text(contrast: float) -> None:
    for seed in range(3):
        assert find_text(grainy(contrast, seed)) == ()
        assert find_text(4095 - grainy(contrast, seed)) == ()


def test_noise_that_is_strong_in_one_part_of_a_film_is_no_text() -> None:
    rng = np.random.default_rng(0)
    grain = rng.normal(0, 1, (512, 512))
    grain = (grain + np.roll(grain, 1, 0) + np.roll(grain, 1, 1) + np.roll(grain, 1, (0, 1))) / 2
    film = 2000 + grain * np.where(np.arange(512)[:, None] < 232, 150, 2)
    film[0, :8], film[8, ::64] = 0, 4095
    assert find_text(film.clip(0, 4095).astype(np.uint16)) == ()


def test_anatomy_noise_and_a_marker_are_no_text() -> None:
    assert find_text(background()) == ()
    assert find_text(written(background(), "L", (20, 460), size=40)) == ()
    assert find_text(np.full((300, 300), 7, np.uint16)) == ()
    assert find_text(np.random.default_rng(1).integers(0, 4096, (256, 256), np.uint16)) == ()


def test_a_large_film_is_looked_at_reduced_and_answers_in_its_own_pixels() -> None:
    film = np.kron(written(background(), "MUSTER^ANNA", (10, 12)), np.ones((4, 4), np.uint16))
    (line,) = find_text(film)
    assert (line.top, line.left) < (60, 60)
    assert line.width > 300


def film(pixels: np.ndarray, **header: object) -> bytes:
    return film_bytes(pixels, FilmHeader(patient_id="4711", bits_stored=12, **header))[0]  # type: ignore[arg-type]


def test_what_is_sure_is_blackened_and_told() -> None:
    text, at = "MUSTER^ANNA", (10, 12)
    content = film(written(background(), text, at), burned_in="YES")
    done = deidentify(content, KEY, Policy(find_text=True))
    assert [line.sure for line in done.text] == [True]
    pixels = read_film(done.content).pixels
    assert np.ptp(pixels[ink_of(text, at)]) == 0, "one black where the strokes were"
    assert find_text(pixels) == ()
    assert read_facts(done.content).burned_in == "NO"


def test_films_that_a_person_should_look_at_lie_apart(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    faint = written(background(), "ABC", (10, 12), ink=2200)  # three faint characters are too few to be sure of
    films = {
        "clear": film(background(), study_date="20260101"),
        "text": film(written(background(), "MUSTER^ANNA", (10, 12)), study_date="20260102"),
        "faint": film(faint, study_date="20260103"),
        "says": film(background() // 2, burned_in="YES", study_date="20260104"),
    }
    for name, content in films.items():
        (tmp_path / "in" / f"{name}.dcm").write_bytes(content)
    key, out = tmp_path / "key", tmp_path / "out"
    key.write_bytes(KEY)
    key.chmod(0o600)
    words = ["data", "deidentify", str(tmp_path / "in"), str(out), "--key", str(key), "--find-text", "--quiet"]
    done = CliRunner().invoke(app, words)
    assert "doubtful, a person must look at them: 2 films" in done.output, done.output
    assert (len(list(out.glob("films/*/*.dcm"))), len(list(out.glob("doubtful/*/*.dcm")))) == (2, 2)
    with open(out / "text.csv") as table:
        rows = list(csv.DictReader(table))
    assert sorted(row["fate"] for row in rows) == ["blackened", "look at it"]
    report = json.loads((out / "report.json").read_text())
    assert (report["doubtful"], report["text_lines"]) == (2, {"blackened": 1, "look at it": 1})
