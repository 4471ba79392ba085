"""A reader in a real browser: logs in, opens a film, and overrides its answer by keyboard."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.errors import ServiceError

if TYPE_CHECKING:
    from playwright.sync_api import Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
WAIT_MS = 30_000


def browser_at() -> tuple[str | None, str]:
    """Path of a Chromium that Playwright can drive; else None, and what is missing."""
    if find_spec("playwright") is None:
        return None, "Playwright is not installed (pip install playwright)"
    found = next((at for name in NAMES if (at := shutil.which(name))), None)
    return found, "" if found else "Chromium is not installed (apt-get install chromium)"


@contextlib.contextmanager
def logged_in(at: str, url: str, name: str, password: str) -> Iterator["Page"]:
    """A page of a reader who logged in with name and password.

    Raises:
        ServiceError: the browser, or a page, did not do what a reader expects.
    """
    from playwright.sync_api import Error, sync_playwright

    # Chromium's own sandbox needs another user than root; software drawing does for machines without a GPU.
    switches = ["--enable-unsafe-swiftshader", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=at, args=switches)
            try:
                page = browser.new_page(viewport={"width": 1280, "height": 800}, base_url=url)
                page.set_default_timeout(WAIT_MS)
                page.goto("/login")
                page.locator("#name").fill(name)
                page.locator("#password").fill(password)
                page.keyboard.press("Enter")
                page.wait_for_url(f"{url}/")
                yield page
            finally:
                browser.close()
    except Error as error:
        raise ServiceError(f"The browser stopped: {error.message.splitlines()[0]}") from None


def override(page: "Page", film_id: str, finding: str, comment: str, picture: Path) -> float:
    """Override one film's answer as a reader does, and keep a picture of the page just before it is saved.

    Args:
        page: of a reader.
        film_id: opaque id.
        finding: what it is instead.
        comment: in the reader's words.
        picture: file of the picture, PNG.

    Returns:
        seconds from opening the film to the saved review.
    """
    started = time.monotonic()
    page.goto(f"/films/{film_id}")
    page.wait_for_selector('#film[data-ready="yes"]')
    page.wait_for_selector("#differ:not([disabled])")
    page.keyboard.press("d")
    page.locator("#instead").select_option(finding)
    page.locator("#comment").fill(comment)
    page.screenshot(path=str(picture))
    page.keyboard.press("Control+Enter")
    page.wait_for_url(lambda address: not address.endswith(film_id))
    return time.monotonic() - started
