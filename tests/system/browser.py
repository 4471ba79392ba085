"""A real service with real drawing, and Chromium at its pages."""

import contextlib
import io
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from tests.service.conftest import settings_in
from tests.service.small import SmallModel, dataset

from hilum.config import to_mapping
from hilum.imaging.preprocessing import Preprocessing
from hilum.imaging.reading import read_film
from hilum.imaging.viewing import ViewerFilm
from hilum.records.values import HeatmapRecord, Identity, NewAnswer
from hilum.service.answering import Ready
from hilum.service.app import Running, running
from hilum.service.drawing import draw_film, draw_heatmap, read_pixels
from hilum.service.film_files import StoredFilm
from hilum.service.rest.access import COOKIE

CHROMIUM = shutil.which("chromium")


class WithMaps(SmallModel):
    """The small model on any film, with what drawing a heat map needs."""

    def prepare(self, path: StoredFilm) -> Ready:
        film = read_film(path.read_bytes())
        identity = Identity(
            sop_instance_uid=film.facts.sop_instance_uid,
            study_instance_uid=film.facts.study_instance_uid,
            patient_id=film.facts.patient_id or "",
            accession_number=film.facts.accession_number or "",
        )
        return Ready(identity=identity, prepared=(film.sha256, float(film.pixels.mean()) / 257))

    def _answer(self, digest: str, mean: float) -> NewAnswer:
        answer = super()._answer(digest, mean)
        more = {"preprocessing": to_mapping(Preprocessing()), "heatmap_top": 1.0}
        values = {name: getattr(answer, name) for name in NewAnswer.__slots__}
        return NewAnswer(**{**values, "assessment": {**answer.assessment, **more}})


class RealDrawing:
    """Draws as the service does, without the sandbox."""

    def film(self, path: StoredFilm) -> bytes:
        return draw_film(path.read_bytes())

    def pixels(self, path: StoredFilm) -> ViewerFilm:
        return read_pixels(path.read_bytes())

    def heatmap(
        self,
        path: StoredFilm,
        heatmap: HeatmapRecord,
        *,
        assessment: Mapping[str, Any],
        layer: bool,
        style: str = "heat",
    ) -> bytes:
        values = np.frombuffer(heatmap.values, "<f4").reshape(heatmap.rows, heatmap.columns)
        preprocessing, top = assessment["preprocessing"], float(assessment["heatmap_top"])
        return draw_heatmap(path.read_bytes(), values, preprocessing, top, layer, style)


@contextlib.contextmanager
def serving(folder: Path, **settings: object) -> Iterator[Running]:
    """A service that answers with the small model."""
    given = settings_in(folder, dicom_port=None, **settings)
    with running(given, answering=WithMaps(), drawing=RealDrawing()) as service:
        yield service


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--enable-unsafe-swiftshader"]
        )
        yield browser
        browser.close()


def let_in(service: Running, browser: Browser, name: str, *roles: str, **options: Any) -> BrowserContext:
    """A browser in which somebody is logged in."""
    if name not in [user.name for user in service.room.access.users()]:
        service.room.access.add_user(name, roles or ("reviewer",), password=None, actor="test")
    context = browser.new_context(viewport={"width": 1280, "height": 720}, base_url=service.url, **options)
    token = service.room.access.begin_session(name, how="test")
    context.add_cookies([{"name": COOKIE, "value": token, "url": service.url}])
    context.set_default_timeout(60_000)
    return context


def film(number: int, level: int = 120, *, size: int = 64, **changes: object) -> bytes:
    """A synthetic film with a ramp of 12-bit values around a level."""
    rows, columns = size, size + 16
    grey = (np.arange(rows * columns) % 4096).astype("<u2")
    base = {"Rows": rows, "Columns": columns, "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11}
    made = dataset(number, **{**base, "PixelData": grey.tobytes(), "AccessionNumber": f"SYN{number}", **changes})
    out = io.BytesIO()
    made.preamble = bytes(128)
    made.save_as(out, enforce_file_format=True)
    return out.getvalue()


def open_film(page: Page, film_id: str, query: str = "") -> None:
    """Open a film's page and wait for its first picture."""
    page.goto(f"/films/{film_id}{query}")
    page.wait_for_selector('#film[data-ready="yes"]')


def until(page: Page, true: str, *, seconds: float = 60) -> None:
    """Wait for an expression; Playwright's own wait evaluates a text in the page, which its policy forbids."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(true):
        assert time.monotonic() < deadline, f"not true within {seconds} s: {true}"
        time.sleep(0.05)
