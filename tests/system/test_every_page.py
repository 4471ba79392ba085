"""Every page of every role, with something on it, at four sizes: axe finds nothing, and nothing is cut off sideways."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

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
    drawn = [
        # As long as DICOM lets an accession number be: the worklist's columns must fit beside it.
        film(n, WindowCenter=400 + 150 * n, WindowWidth=900, PatientID=f"P{n // 2}", AccessionNumber=f"RAD2026{n:09d}")
        for n in range(1, 17)
    ]
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
    # 1280 pixels at 400 %, as WCAG's reflow asks: tables scroll in their boxes, nothing else goes sideways.
    page.set_viewport_size({"width": 320, "height": 640})
    page.wait_for_timeout(150)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    assert page.evaluate(SIDEWAYS) == [], name
    context.close()


# What has the focus: how it is told, how large it is to press, and whether something else lies over it.
FOCUSED = """() => {
  const one = document.activeElement;
  if (!one || one === document.body) return null;
  const box = one.getBoundingClientRect(), pressed = (one.matches("input") && one.closest("label")) || one;
  const over = document.elementFromPoint(
    Math.min(Math.max(box.left + Math.min(box.width, 20) / 2, 0), innerWidth - 1), box.top + box.height / 2);
  return {
    what: one.outerHTML.slice(0, 100), outline: getComputedStyle(one).outlineStyle,
    height: one.matches("button, summary, select, input") ? pressed.getBoundingClientRect().height : 99,
    seen: Boolean(over) && (one.contains(over) || over.contains(one)),
  };
}"""


@pytest.mark.parametrize("user", ["viv", "ada", "mel", "adm", "otto"])
def test_the_keyboard_alone_reaches_every_control_and_shows_where_it_is(
    user: str, usual: object, browser: Browser
) -> None:
    there: Any = usual
    context = every_page.let_in(browser, there.running, user, every_page.SIZES["1280x720"])
    page = context.new_page()
    page.goto("/")
    paths = page.eval_on_selector_all(".main-nav a", "all => all.map((one) => one.getAttribute('href'))")
    if user in ("viv", "ada"):
        paths.append(f"/films/{there.films[-1]}")
    for path in paths:
        page.goto(path)
        if page.locator("#film").count():
            page.wait_for_selector("#film[data-ready]")
        told: list[dict[str, object]] = []
        while len(told) < 130:
            page.keyboard.press("Tab")
            focused = page.evaluate(FOCUSED)
            if focused is None:
                break
            told.append(focused)
        buttons = page.locator("main button:visible:enabled").count()
        assert len([one for one in told if "<button" in str(one["what"])]) >= min(buttons, 60), path
        assert [one for one in told if one["outline"] == "none" or not one["seen"]] == [], path
        assert [one for one in told if float(str(one["height"])) < 24] == [], path
    context.close()
