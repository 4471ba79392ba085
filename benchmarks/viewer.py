"""What a reader waits for at the page, measured in Chromium: the first picture, frames, a review, a long worklist.

Without a graphics card the viewer draws with the processor, which is the slower of its two ways. Films are synthetic.
"""

import argparse
import secrets
import shutil
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from _section import Save, head, main, spread, table, verdict
from playwright.sync_api import Page, sync_playwright

from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.writing import generate
from hilum.records.database import Database
from hilum.records.schema import AnswerRow, FilmRow
from hilum.service.app import Running, running
from hilum.service.rest.access import COOKIE
from hilum.service.settings import read_settings

FRAMES = """async ([move, count]) => {
  const { viewer } = hilum, times = [];
  const step = (i) => move === "window"
    ? viewer.window(i % 2 ? 3 : -3, i % 2 ? 2 : -2, { moving: true })
    : viewer.pan(i % 40 < 20 ? 4 : -4, i % 40 < 20 ? 3 : -3, { moving: true });
  for (let i = 0; i < count; i++) {
    step(i);
    await new Promise((done) => requestAnimationFrame(done));
    times.push(performance.now());
  }
  const from = Math.floor(count / 6);
  return 1000 * (times.length - from - 1) / (times.at(-1) - times[from]);
}"""
SCROLL = """async (count) => {
  const box = document.getElementById("scroll"), times = [];
  for (let i = 0; i < count; i++) {
    box.scrollTop += 400;
    await new Promise((done) => requestAnimationFrame(done));
    times.push(performance.now());
  }
  return Math.max(...times.slice(1).map((at, i) => at - times[i]));
}"""


def fill(data: Path, films: int) -> None:
    """Films without bytes in the records: a worklist reads no film."""
    start = datetime.now(UTC) - timedelta(minutes=30)
    database = Database(f"sqlite:///{data / 'hilum.db'}")
    with database.write() as session:
        for i in range(films):
            name, digest = f"{i:032x}", secrets.token_hex(32)
            session.add(
                FilmRow(id=name, received_at=start, origin="rest", format="png", content_sha256=digest,
                        file_sha256=digest, size=1, state="answered")
            )  # fmt: skip
        session.flush()
        for i in range(films):
            session.add(
                AnswerRow(id=f"{i:032x}", film_id=f"{i:032x}", model_sha256="0" * 64, created_at=start, label="normal",
                          abstained=False, risk=(i * 7919 % 10_000) / 10_000, assessment='{"probs":{"normal":0.5}}')
            )  # fmt: skip
    database.close()


def open_film(page: Page, film_id: str) -> float:
    """Milliseconds from the start of the navigation to the first picture."""
    page.goto(f"/films/{film_id}")
    page.wait_for_selector('#film[data-ready="yes"]')
    return float(page.evaluate("performance.getEntriesByName('hilum-first-picture')[0].startTime"))


def reviews(page: Page, number: int) -> list[float]:
    """Seconds from the key that agrees to the next film's first picture."""
    took = []
    for _ in range(number):
        page.wait_for_timeout(1500)  # the reader looks; the next film is fetched ahead
        before, started = page.url, time.perf_counter()
        page.keyboard.press("a")
        page.wait_for_url(lambda url, before=before: url != before)
        page.wait_for_selector('#film[data-ready="yes"]')
        took.append(time.perf_counter() - started)
    return took


def let_in(started: Running, page_of: Any) -> Page:
    access = started.room.access
    if "bench" not in [user.name for user in access.users()]:
        access.add_user("bench", ("reviewer",), password=None, actor="console")
    context = page_of(viewport={"width": 1920, "height": 1080}, base_url=started.url)
    cookie = {"name": COOKIE, "value": access.begin_session("bench", how="bench"), "url": started.url}
    context.add_cookies([cookie])
    return context.new_page()


def measure(options: argparse.Namespace, save: Save) -> dict[str, Any]:
    runs, size, long = (3, 256, 500) if options.smoke else (options.runs, 2000, 10_000)
    count, times = (12, 1) if options.smoke else (120, 3)
    found: dict[str, Any] = {"size": size, "long": long}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        films, data = Path(folder) / "films", Path(folder) / "data"
        generate(PhantomConfig(patients=runs + 2, size=size, second_film_share=0), films)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        given = {"bundle": options.bundle, "port": 0}
        with running(read_settings(without_dicom=True, data=data, **given)) as started:
            page = let_in(started, browser.new_context)
            key = started.room.access.add_key("bench", actor="console")[1]
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/dicom"}
            with httpx.Client(base_url=started.url, headers=headers, timeout=120) as http:
                sent = [http.post("/api/v1/studies?wait=60", content=path.read_bytes()).json()["id"]
                        for path in sorted(films.glob("*/*.dcm"))]  # fmt: skip
            found["first"] = [open_film(page, film_id) for film_id in sent[:runs]]
            found["renderer"] = page.evaluate("hilum.viewer.renderer.kind")
            found["frames"] = {
                what: [page.evaluate(FRAMES, [what, count]) for _ in range(times)] for what in ("window", "pan")
            }
            open_film(page, sent[0])
            found["review"] = reviews(page, min(runs, len(sent) - 1))
        more = Path(folder) / "more"
        more.mkdir()
        fill(more, long)
        with running(read_settings(without_dicom=True, data=more, **given)) as started:
            page = let_in(started, browser.new_context)
            begun = time.perf_counter()
            page.goto("/")
            found["worklist"] = [time.perf_counter() - begun]
            found["scroll"] = [page.evaluate(SCROLL, count) for _ in range(times)]
        browser.close()
    return found


def write(measured: dict[str, Any]) -> str:
    size, frames = f"{measured['size']:,}²", measured["frames"]

    def line(what: str, values: list[float], bar: float, shown: str, *, least: bool = False) -> list[str]:
        return [what, spread(values, shown), verdict(statistics.median(values), bar, ".0f", least=least)]

    rows = [
        line("first picture, ms", measured["first"], 300, ".0f"),
        *(line(f"{what}, frames a second", frames[what], 50, ".0f", least=True) for what in ("window", "pan")),
        line("from agreeing to the next film, s", measured["review"], 5, ".2f"),
        [f"worklist of {measured['long']:,} films, s", spread(measured["worklist"], ".2f"), "–"],
        ["longest frame while it is scrolled, ms", spread(measured["scroll"], ".0f"), "–"],
    ]
    return (
        head(measured)
        + f"\nFilms of {size}, page of 1920 × 1080 in Chromium, drawn by {measured['renderer']}.\n\n"
        + table(["what", "measured", "bar"], rows)
    )


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", type=Path, default=Path("demo/chest.hilum"))
    parser.add_argument("--runs", type=int, default=7)


if __name__ == "__main__":
    main(__doc__ or "", measure, write, add)
