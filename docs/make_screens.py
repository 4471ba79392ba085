"""Pictures of the reading room's pages for docs/reading.md: synthetic phantoms, answered by a bundle, in Chromium.

    python docs/make_screens.py --bundle demo/chest.hilum --films demo/films

The bundle and the films are what `hilum demo` leaves; the pages are the service's own. Needs playwright and chromium.
"""

import argparse
import contextlib
import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from hilum.records.study_values import Arm, Protocol, StudySlot
from hilum.service.app import Running, running
from hilum.service.rest.access import COOKIE
from hilum.service.settings import read_settings

IMAGES = Path(__file__).parent / "img"
SIZES = {"1280x720": (1280, 720)}


@contextlib.contextmanager
def service(bundle: Path, **settings: object) -> Iterator[Running]:
    """A service on a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        given = {"bundle": bundle, "data": Path(folder) / "data", "port": 0, **settings}
        with running(read_settings(without_dicom=True, **given)) as started:
            started.room.access.add_user("reader", ("reviewer",), password=None, actor="console")
            yield started


def send(started: Running, films: list[Path]) -> list[str]:
    """Send films; gives their ids, riskiest first."""
    key = started.room.access.add_key("reader", actor="console")[1]
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/dicom"}
    with httpx.Client(base_url=started.url, timeout=120, headers=headers) as http:
        for film in films:
            http.post("/api/v1/studies?wait=60", content=film.read_bytes()).raise_for_status()
    found = started.room.store.films(limit=200).films
    return [one.film_id for one in sorted(found, key=lambda one: -((one.answer and one.answer.risk) or 0))]


def page_of(browser: Browser, started: Running, size: str) -> Page:
    """A page at which the reader is logged in."""
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, base_url=started.url)
    token = started.room.access.begin_session("reader", how="screens")
    context.add_cookies([{"name": COOKIE, "value": token, "url": started.url}])
    return context.new_page()


def keep(page: Page, out: Path, name: str) -> None:
    """Keep a picture, small."""
    page.wait_for_timeout(500)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.save(out / f"{name}.webp", "WEBP", quality=72, method=6)


def film(page: Page, film_id: str) -> None:
    """Open a film and wait for its picture."""
    page.goto(f"/films/{film_id}")
    page.wait_for_selector('#film[data-ready="yes"]')
    page.wait_for_timeout(800)


def study(browser: Browser, started: Running, ids: list[str], out: Path) -> None:
    """Pictures of a reader study: a film without the model, and one with it after the reader's own opinion."""
    arms: tuple[Arm, ...] = ("without", "with")
    sessions = [[StudySlot(film=film_id, arm=arms[(i + n) % 2]) for i, film_id in enumerate(ids)] for n in (0, 1)]
    findings = started.room.answering.model.findings
    protocol = Protocol(
        name="chest-1", plan_sha256="0" * 64, question="pneumonia", findings=findings, answer="after", priors=False,
        washout_days=28,
    )  # fmt: skip
    started.room.studies.create(protocol, {"reader": sessions}, actor="console")
    page = page_of(browser, started, "1280x720")
    for number, rating in ((1, "20"), (2, "40")):
        page.goto("/reader-study/chest-1")
        page.wait_for_selector('#film[data-ready="yes"]')
        page.keyboard.press("1")
        page.keyboard.type(rating)
        if number == 1:
            keep(page, out, "study-without")
        page.keyboard.press("Enter")
        page.wait_for_timeout(2500)
    keep(page, out, "study-with")


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=IMAGES)
    parser.add_argument("--count", type=int, default=24)
    chosen = parser.parse_args()
    films = sorted(chosen.films.rglob("*.dcm"))[: chosen.count]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with service(chosen.bundle) as started:
            ids = send(started, films)
            page = page_of(browser, started, "1280x720")
            page.goto("/")
            page.keyboard.press("j")
            keep(page, chosen.out, "worklist")
            film(page, ids[0])
            keep(page, chosen.out, "film")
            for key in ("g", "d"):
                page.keyboard.press(key)
            page.locator("#instead").select_option(index=1)
            keep(page, chosen.out, "film-override")
        with service(chosen.bundle, read_first=True) as started:
            ids = send(started, films[:4])
            page = page_of(browser, started, "1280x720")
            film(page, ids[0])
            page.keyboard.press("m")
            keep(page, chosen.out, "film-read-first")
        with service(chosen.bundle) as started:
            study(browser, started, send(started, films[:6]), chosen.out)
        browser.close()


if __name__ == "__main__":
    main()
