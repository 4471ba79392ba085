"""Pictures of the reading room's pages for docs/reading.md: synthetic phantoms, answered by a bundle, in Chromium.

    python docs/make_screens.py --bundle demo/chest.hilum --films demo/films

The bundle and the films are what `hilum demo` leaves; the pages are the service's own. Needs playwright and chromium.
With --every, every page of every role at four sizes as PNG instead, into a folder of yours, to look at:

    python docs/make_screens.py --bundle demo/chest.hilum --films demo/films --every --out screens

--only and --size make some of them.
"""

import argparse
import contextlib
import io
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pydicom
from every_page import FIRST, SIZES, VIEWS, furnish, let_in
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from pydicom.uid import generate_uid

from hilum.records.study_values import Arm, Protocol, StudySlot
from hilum.service.app import Running, running
from hilum.service.settings import read_settings

IMAGES = Path(__file__).parent / "img"
PAGE = SIZES["1280x720"]


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


def page_of(browser: Browser, started: Running) -> Page:
    """A page at which the reader is logged in."""
    return let_in(browser, started, "reader", PAGE).new_page()


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
    page = page_of(browser, started)
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


def lateral(film: Path) -> bytes:
    """The film as if it were taken from the side, which is outside the intended use."""
    read, out = pydicom.dcmread(film), io.BytesIO()
    read.ViewPosition, read.SOPInstanceUID, read.PatientID = "LL", generate_uid(), "PH-LATERAL"
    read.file_meta.MediaStorageSOPInstanceUID = read.SOPInstanceUID
    read.save_as(out)
    return out.getvalue()


def every(browser: Browser, chosen: argparse.Namespace, films: list[Path]) -> None:
    """A picture of every page at every size."""
    bodies = [film.read_bytes() for film in films] + [lateral(films[0])]
    chosen.out.mkdir(parents=True, exist_ok=True)
    for views, settings in ((VIEWS, {"readings": 2}), (FIRST, {"read_first": True})):
        wanted = [one for one in views if re.match(chosen.only, one.name)]
        if not wanted:
            continue
        with service(chosen.bundle, **settings) as started:
            there = furnish(started, bodies)
            for view in wanted:
                for size in [chosen.size] if chosen.size else SIZES:
                    context = let_in(browser, started, view.user, SIZES[size])
                    page = context.new_page()
                    view.show(page, there)
                    page.wait_for_timeout(300)
                    # The notice stays in sight at the bottom; in the middle of a long picture it would cover a line.
                    page.evaluate("document.querySelector('.notice').style.position = 'static'")
                    page.screenshot(path=chosen.out / f"{view.name}-{size}.png", full_page=True)
                    context.close()


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=IMAGES)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--every", action="store_true", help="every page at four sizes, as PNG")
    parser.add_argument("--only", default="", help="with --every: pages whose name matches this pattern from its start")
    parser.add_argument("--size", choices=SIZES, help="with --every: one size alone")
    chosen = parser.parse_args()
    films = sorted(chosen.films.rglob("*.dcm"))[: chosen.count]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        if chosen.every:
            every(browser, chosen, films)
            browser.close()
            return
        with service(chosen.bundle) as started:
            ids = send(started, films)
            page = page_of(browser, started)
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
            page = page_of(browser, started)
            film(page, ids[0])
            page.keyboard.press("m")
            keep(page, chosen.out, "film-read-first")
        with service(chosen.bundle) as started:
            study(browser, started, send(started, films[:6]), chosen.out)
        browser.close()


if __name__ == "__main__":
    main()
