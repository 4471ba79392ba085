"""What a reader waits for at the page, measured in Chromium: the first picture, frames, a review, a long worklist.

There is no graphics card here, so both ways of drawing are done by the processor: the viewer's own (the canvas in
2D), and WebGL 2 imitated by SwiftShader, which the viewer would not choose by itself. Films are synthetic, and their
heat map is shown, as it is when a film is opened.
"""

import argparse
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from _section import Save, head, main, spread, table, verdict
from playwright.sync_api import Browser, Page, sync_playwright

from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.writing import generate
from hilum.records.database import Database
from hilum.records.schema import AnswerRow, FilmRow
from hilum.service.app import Running, running
from hilum.service.rest.access import COOKIE
from hilum.service.settings import read_settings

RENDERERS = {"2d": "canvas in 2D", "webgl2": "WebGL 2 by SwiftShader"}
MOVES = ("window", "pan")
MOST_PASSED = 40
"""Films without a finding that are passed over for one to agree with."""
LOOKS_S = 1.5
"""How long the reader looks before a review; the next film is fetched ahead meanwhile."""

SETTLES_S = 5
"""What the service still has to do with the films that were sent, before the first is opened."""

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
"""Frames a second while the hand moves; the browser draws 60 at most."""

SCROLL = """async (count) => {
  const box = document.getElementById("scroll"), times = [];
  for (let i = 0; i < count; i++) {
    box.scrollTop += 400;
    await new Promise((done) => requestAnimationFrame(done));
    times.push(performance.now());
  }
  const took = times.slice(1).map((at, i) => at - times[i]).sort((a, b) => a - b);
  return [took[Math.floor(took.length / 2)], took.at(-1)];
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


def open_film(page: Page, film_id: str, query: str = "") -> float:
    """Milliseconds from the start of the navigation to the first picture."""
    page.goto(f"/films/{film_id}{query}")
    page.wait_for_selector('#film[data-ready="yes"]')
    return float(page.evaluate("performance.getEntriesByName('hilum-first-picture')[0].startTime"))


def agree(page: Page) -> None:
    page.keyboard.press("a")


def override(page: Page) -> None:
    """Another finding with a reason and a region, all by keys and without a pause."""
    for key in ("g", "ArrowLeft", "d"):
        page.keyboard.press(key)
    page.keyboard.type("norm")
    page.keyboard.press("Tab")
    page.keyboard.type("the model saw")
    page.keyboard.press("Control+Enter")


def reviews(page: Page, number: int, act: Callable[[Page], None]) -> list[float]:
    """Seconds from the first key of a review to the next film's first picture."""
    took: list[float] = []
    passed = 0
    for _ in range(number):
        page.wait_for_selector("#differ:not([disabled])")
        page.wait_for_timeout(1000 * LOOKS_S)
        while act is agree and page.locator("[data-no-finding]").count():  # nothing to agree with: on to another film
            passed += 1
            if passed > MOST_PASSED:
                sys.exit(
                    f"the model gave no finding for {passed} films in turn: give a bundle that abstains less often"
                )
            leave = page.url
            page.keyboard.press("n")
            page.wait_for_url(lambda url, leave=leave: url != leave)
            page.wait_for_selector("#differ:not([disabled])")
            page.wait_for_timeout(1000 * LOOKS_S)
        before, started = page.url, time.perf_counter()
        act(page)
        page.wait_for_url(lambda url, before=before: url != before)
        page.wait_for_selector('#film[data-ready="yes"]')
        took.append(time.perf_counter() - started)
    return took


def let_in(started: Running, browser: Browser, name: str) -> Page:
    access = started.room.access
    if name not in [user.name for user in access.users()]:
        access.add_user(name, ("reviewer",), password=None, actor="console")
    context = browser.new_context(viewport={"width": 1920, "height": 1080}, base_url=started.url)
    cookie = {"name": COOKIE, "value": access.begin_session(name, how="bench"), "url": started.url}
    context.add_cookies([cookie])  # type: ignore[list-item]
    return context.new_page()


def send(started: Running, films: Path) -> list[str]:
    started.room.access.add_user("sender", ("model-manager",), password=None, actor="console")
    key = started.room.access.add_key("sender", actor="console")[1]
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/dicom"}
    with httpx.Client(base_url=started.url, headers=headers, timeout=120) as http:
        paths = sorted(films.glob("*/*.dcm"))
        return [http.post("/api/v1/studies?wait=60", content=path.read_bytes()).json()["id"] for path in paths]


def at_films(started: Running, browser: Browser, films: Path, runs: int, count: int, times: int) -> dict[str, Any]:
    """First pictures, frames and reviews; each film is opened first by a browser that has nothing of it."""
    sent = send(started, films)
    page, found = let_in(started, browser, "bench"), {}
    page.wait_for_timeout(1000 * SETTLES_S)
    found["first"] = [open_film(page, film_id) for film_id in sent[:runs]]
    found["chosen"] = page.evaluate("hilum.viewer.renderer.kind")
    found["frames"] = {}
    for kind in RENDERERS:
        open_film(page, sent[0], f"?renderer={kind}")
        page.wait_for_timeout(500)
        frames = {what: [page.evaluate(FRAMES, [what, count]) for _ in range(times)] for what in MOVES}
        found["frames"][page.evaluate("hilum.viewer.renderer.kind")] = frames
    for name, act in (("agree", agree), ("override", override)):
        page.goto("/")  # lets the film go that it held
        page = let_in(started, browser, f"bench-{name}")
        open_film(page, sent[0])
        found[name] = reviews(page, min(runs, len(sent) // 2 - 1), act)
    return found


def at_worklist(started: Running, browser: Browser, count: int, times: int) -> dict[str, Any]:
    page = let_in(started, browser, "bench")
    begun = time.perf_counter()
    page.goto("/")
    worklist = [time.perf_counter() - begun]
    scrolled = [page.evaluate(SCROLL, count) for _ in range(times)]
    usual, longest = zip(*scrolled, strict=True)
    return {"worklist": worklist, "scroll_usual": usual, "scroll_longest": longest}


def measure(options: argparse.Namespace, save: Save) -> dict[str, Any]:
    runs, size, long = (3, 256, 500) if options.smoke else (options.runs, 2000, 10_000)
    count, times = (12, 1) if options.smoke else (120, 3)
    found: dict[str, Any] = {"size": size, "long": long}
    arguments = ["--no-sandbox", "--enable-unsafe-swiftshader"]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        films, data, more = (Path(folder) / name for name in ("films", "data", "more"))
        generate(PhantomConfig(patients=2 * runs + 2, size=size, second_film_share=0), films)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        found["browser"] = browser.version
        given = {"bundle": options.bundle, "port": 0, "readings": 2}
        with running(read_settings(without_dicom=True, data=data, **given)) as started:
            found |= at_films(started, browser, films, runs, count, times)
        more.mkdir()
        fill(more, long)
        with running(read_settings(without_dicom=True, data=more, **given)) as started:
            found |= at_worklist(started, browser, count, times)
        browser.close()
    return found


def write(measured: dict[str, Any]) -> str:
    size = f"{measured['size']:,}²"

    def line(what: str, values: list[float], bar: float, shown: str, *, least: bool = False) -> list[str]:
        return [what, spread(values, shown), verdict(statistics.median(values), bar, ".0f", least=least)]

    frames = [
        line(f"{what}, {RENDERERS[kind]}, frames a second", taken[what], 50, ".0f", least=True)
        for kind, taken in measured["frames"].items()
        for what in MOVES
    ]
    rows = [
        line("first picture of a film that was never opened, ms", measured["first"], 300, ".0f"),
        *frames,
        line("from agreeing to the next film, s", measured["agree"], 5, ".2f"),
        line("override with finding, reason and region, to the next film, s", measured["override"], 5, ".2f"),
        [f"worklist of {measured['long']:,} films, s", spread(measured["worklist"], ".2f"), "–"],
        ["frame while it is scrolled, ms", spread(measured["scroll_usual"], ".0f"), "–"],
        ["the longest of them, ms", spread(measured["scroll_longest"], ".0f"), "–"],
    ]
    return (
        head(measured)
        + f"\nFilms of {size} with their heat maps, page of 1920 × 1080 in Chromium {measured['browser']} without a "
        "graphics card: the canvas in 2D, which the viewer chose, and WebGL 2 imitated by the processor "
        "(SwiftShader). The browser draws 60 frames a second at most. Reviews are typed without a pause, after "
        f"{LOOKS_S:g} s of looking that don’t count.\n\n" + table(["what", "measured", "bar"], rows)
    )


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", type=Path, default=Path("demo/chest.hilum"))
    parser.add_argument("--runs", type=int, default=7)


if __name__ == "__main__":
    main(__doc__ or "", measure, write, add)
