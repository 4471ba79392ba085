"""Every page of every role, with something on it, at four sizes: axe finds nothing, and nothing is cut off sideways."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from playwright.sync_api import Browser
from tests.system.browser import film, serving

pytestmark = pytest.mark.system
SOURCE = Path(__file__).parents[2] / "docs" / "every_page.py"


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("every_page", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["every_page"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


every_page = loaded()
VIEWS = {one.name: one for one in every_page.VIEWS + every_page.FIRST}
FIRST = {one.name for one in every_page.FIRST}

# What a page scrolls inside itself, wider than the screen: a table in its box can be scrolled by keyboard.
SIDEWAYS = """[...document.querySelectorAll("main *, header *")].filter((one) => {
  const box = one.getBoundingClientRect();
  return box.width && box.right > innerWidth + 1 && !one.closest(".table-box, .unseen, dialog");
}).map((one) => one.outerHTML.slice(0, 100))"""

# A table that is wider than its box hides its last columns, where the buttons are.
CUT = """[...document.querySelectorAll(".table-box")].filter((box) => box.scrollWidth > box.clientWidth + 1)
  .map((box) => [box.querySelector("caption").textContent, box.scrollWidth, box.clientWidth])"""


def films() -> list[bytes]:
    black = film(90, PatientID="P90", PixelData=bytes(2 * 64 * 80))
    drawn = [film(n, WindowCenter=400 + 150 * n, WindowWidth=900, PatientID=f"P{n // 2}") for n in range(1, 17)]
    return [*drawn, black]


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    with serving(tmp_path_factory.mktemp("every"), readings=2) as started:
        yield every_page.furnish(started, films())


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    with serving(tmp_path_factory.mktemp("first"), read_first=True) as started:
        yield every_page.furnish(started, films())


@pytest.mark.parametrize("name", VIEWS)
def test_axe_finds_nothing_and_nothing_is_cut_off(name: str, request: pytest.FixtureRequest, browser: Browser) -> None:
    from axe_playwright_python.sync_playwright import Axe

    there, view = request.getfixturevalue("first" if name in FIRST else "usual"), VIEWS[name]
    context = every_page.let_in(browser, there.running, view.user, every_page.SIZES["1280x720"])
    page, statuses = context.new_page(), []
    page.on("response", lambda reply: reply.request.is_navigation_request() and statuses.append(reply.status))
    view.show(page, there)
    assert statuses[-1] == view.status
    for size, (width, height) in every_page.SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(150)
        found = Axe().run(page).response["violations"]
        told = [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in found]
        assert not told, f"{name} at {size}: {json.dumps(told, indent=1)}"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (name, size)
        assert page.evaluate(SIDEWAYS) == [], (name, size)
        assert page.evaluate(CUT) == [], (name, size)
    context.close()
