"""The viewer in Chromium: its canvas shows what the preprocessing library shows, and every key does its work."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect
from tests.service.conftest import let_in as key_of
from tests.service.small import png
from tests.system.browser import film, let_in, open_film, serving, until

from hilum.imaging.reading import read_film
from hilum.service.app import Running

pytestmark = pytest.mark.system

SAME = {"WindowCenter": 1500, "WindowWidth": 900, "PatientID": "SYNTHETIC-1", "SeriesInstanceUID": "1.2.3"}
WINDOWED = film(1, **SAME, ImagerPixelSpacing=[0.5, 0.25], StudyDate="20240229")
LATER = film(2, **SAME, PhotometricInterpretation="MONOCHROME1", StudyDate="20260331")
STATE = "JSON.parse(JSON.stringify(hilum.viewer.state))"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("viewer")) as started:
        yield started


@pytest.fixture(scope="module")
def films(service: Running) -> dict[str, str]:
    bodies = {"windowed": WINDOWED, "later": LATER, "picture": png(120, 80)}
    with httpx.Client(base_url=service.url, timeout=90, headers=key_of(service)) as http:
        sent = {}
        for name, body in bodies.items():
            kind = "image/png" if body.startswith(b"\x89") else "application/dicom"
            reply = http.post("/api/v1/studies?wait=60", content=body, headers={"Content-Type": kind})
            assert reply.json()["state"] == "answered"
            sent[name] = reply.json()["id"]
        return sent


@pytest.fixture
def page(service: Running, browser: Browser) -> Iterator[Page]:
    context = let_in(service, browser, "viewer-reader")
    opened, wrong = context.new_page(), []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    yield opened
    context.close()
    assert not wrong


def shown(page: Page) -> np.ndarray:
    """Greys of the canvas, one for each pixel of the film: the view is at one screen pixel for a film pixel."""
    told = page.evaluate("""() => {
      const { viewer } = hilum, { film, base, renderer } = viewer;
      viewer.paint();
      let data;
      if (renderer.kind === "2d") data = renderer.context.getImageData(0, 0, base.width, base.height).data;
      else {
        const { gl } = renderer;
        data = new Uint8Array(base.width * base.height * 4);
        gl.readPixels(0, 0, base.width, base.height, gl.RGBA, gl.UNSIGNED_BYTE, data);
      }
      const grey = []; for (let i = 0; i < data.length; i += 4) grey.push(data[i]);
      const { width, height } = base, { rows, columns } = film;
      return { grey, kind: renderer.kind, width, height, rows, columns };
    }""")
    canvas = np.array(told["grey"], np.uint8).reshape(told["height"], told["width"])
    canvas = canvas[::-1] if told["kind"] == "webgl2" else canvas
    top, left = (round((a - b) / 2) for a, b in ((told["height"], told["rows"]), (told["width"], told["columns"])))
    return canvas[top : top + told["rows"], left : left + told["columns"]]


@pytest.mark.parametrize("renderer", ["2d", "webgl2"])
@pytest.mark.parametrize("name", ["windowed", "later", "picture"])
def test_the_canvas_shows_the_greys_of_the_library(
    page: Page, films: dict[str, str], tmp_path: Path, renderer: str, name: str
) -> None:
    open_film(page, films[name], f"?renderer={renderer}")
    assert page.evaluate("hilum.viewer.renderer.kind") == renderer
    page.keyboard.press("0")
    body = {"windowed": WINDOWED, "later": LATER, "picture": png(120, 80)}[name]
    expected = read_film(body).pixels / 257
    assert np.abs(shown(page) - expected).max() <= 1.0
    page.keyboard.press("i")
    assert np.abs(shown(page) - (255 - expected)).max() <= 1.0


def test_frames_of_a_movement_are_smaller_where_a_card_is_imitated_and_then_the_film_is_whole(
    page: Page, films: dict[str, str]
) -> None:
    open_film(page, films["windowed"], "?renderer=webgl2")
    assert page.evaluate("hilum.viewer.renderer.imitated"), "Chromium here has no graphics card"
    page.keyboard.press("0")
    before = shown(page)
    sizes = "[hilum.viewer.base.width, hilum.viewer.base.height, hilum.viewer.size.width, hilum.viewer.size.height]"
    moving = page.evaluate(f"""() => {{
      const {{ viewer }} = hilum;
      viewer.pan(40, 20, {{ moving: true }});
      viewer.pan(-40, -20, {{ moving: true }});
      viewer.paint();
      return {sizes};
    }}""")
    assert moving[:2] == [-(-one // 2) for one in moving[2:]]
    until(page, "hilum.viewer.base.width === hilum.viewer.size.width")
    assert page.evaluate(sizes)[:2] == moving[2:]
    assert np.array_equal(shown(page), before)


def test_each_key_of_the_view_does_what_it_says(page: Page, films: dict[str, str]) -> None:
    open_film(page, films["later"])
    first = page.evaluate(STATE)

    def after(key: str) -> dict:
        page.keyboard.press(key)
        return page.evaluate(STATE)

    assert after("i")["inverted"] is True
    assert after("+")["view"]["zoom"] == pytest.approx(1.25)
    assert after("-")["view"]["zoom"] == pytest.approx(1.0)
    assert after("ArrowLeft")["view"]["x"] > 0.5
    assert after("r")["view"]["turns"] == 1
    assert after("f")["view"]["flip"] is True
    fitted = after("=")["view"]
    assert (fitted["zoom"], fitted["x"], fitted["turns"]) == (1, 0.5, 1)
    assert after("w")["window"] != first["window"]
    wide = after("Shift+ArrowRight")["window"]
    assert wide["high"] - wide["low"] > 0
    expect(page.locator("#overlay")).to_have_attribute("aria-pressed", "true")
    after("o")
    expect(page.locator("#overlay")).to_have_attribute("aria-pressed", "false")
    assert after("]")["opacity"] == pytest.approx(0.55)
    assert after("[")["opacity"] == pytest.approx(0.45)
    after("c")
    expect(page.locator("#style")).to_have_attribute("aria-pressed", "true")
    after("c")
    after("2")
    expect(page.locator('input[name="finding"]').nth(1)).to_be_checked()
    expect(page.locator("#overlay")).to_have_attribute("aria-pressed", "true")
    assert after(" ") == {**first, "opacity": 0.45}
    page.keyboard.press("b")
    page.wait_for_url("**/")


def test_dragging_sets_the_window_and_the_wheel_zooms(page: Page, films: dict[str, str]) -> None:
    open_film(page, films["windowed"])
    before = page.evaluate(STATE)
    page.mouse.move(300, 200)
    page.mouse.down()
    page.mouse.move(400, 260)
    page.mouse.up()
    after = page.evaluate(STATE)
    assert after["window"]["high"] - after["window"]["low"] > before["window"]["high"] - before["window"]["low"]
    page.mouse.wheel(0, -300)
    until(page, "hilum.viewer.state.view.zoom > 1.5")
    page.keyboard.down("Shift")
    page.mouse.down()
    page.mouse.move(450, 300)
    page.mouse.up()
    page.keyboard.up("Shift")
    assert page.evaluate(STATE)["view"]["x"] != 0.5


def test_a_measure_is_in_millimetres_where_spacing_is_known_and_else_says_so(page: Page, films: dict[str, str]) -> None:
    open_film(page, films["windowed"])
    page.keyboard.press("m")
    until(page, "document.getElementById('readout').textContent.endsWith('mm')")
    # A fifth of 80 columns, 0.25 mm apart.
    assert page.locator("#readout").text_content() == "4.0 mm"
    open_film(page, films["picture"])
    page.keyboard.press("m")
    assert page.locator("#readout").text_content() == "16 px (spacing not recorded)"


def test_a_shape_is_drawn_by_dragging_and_by_two_clicks(page: Page, films: dict[str, str]) -> None:
    open_film(page, films["windowed"])
    page.locator('[data-tool="region"]').click()
    for first, second in (((300, 200), (380, 260)), ((320, 220), (400, 300))):
        page.mouse.move(*first)
        page.mouse.down()
        if first == (320, 220):  # two clicks
            page.mouse.up()
            page.mouse.move(*second)
            page.mouse.down()
        page.mouse.move(*second)
        page.mouse.up()
        shape = page.evaluate("hilum.viewer.shapes.find((shape) => shape.kind === 'region')")
        assert shape["to"][0] > shape["from"][0]
        assert page.evaluate("hilum.pointer.shape") is None


def test_the_prior_film_of_the_patient_is_linked(page: Page, films: dict[str, str]) -> None:
    words = "Prior 2024-02-29, 2 years 1 month before"
    for _ in range(100):  # the header is read into the index a moment after the answer
        open_film(page, films["later"])
        if page.locator("#prior-stage").get_attribute("data-words") == words:
            break
        page.wait_for_timeout(200)
    page.keyboard.press("p")
    page.wait_for_selector("#prior-stage canvas.film-pixels")
    over = page.evaluate("getComputedStyle(document.getElementById('prior-stage'), '::after').content")
    assert over == f'"{words}"'
    expect(page.locator("#prior-stage")).to_have_attribute("aria-label", re.compile(words))
    page.keyboard.press("+")
    assert page.evaluate("hilum.viewer.state.view.zoom") == pytest.approx(1.25)
    expect(page.locator("#prior-stage")).to_be_visible()
    page.keyboard.press("p")
    expect(page.locator("#prior-stage")).to_be_hidden()
    open_film(page, films["windowed"])
    page.keyboard.press("p")
    expect(page.locator("#readout")).to_have_text("No prior film of this patient is recorded here.")


def test_a_prior_that_comes_later_is_there_without_loading_the_page_again(
    page: Page, films: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as not_fetched_yet:
        not_fetched_yet.setattr("hilum.service.web.pages.prior_beside", lambda *_: None)
        open_film(page, films["later"])
        page.keyboard.press("p")
        expect(page.locator("#readout")).to_have_text("No prior film of this patient is recorded here.")
        expect(page.locator("#prior")).to_be_hidden()
    page.keyboard.press("p")
    page.wait_for_selector("#prior-stage canvas.film-pixels")
    expect(page.locator("#prior")).to_have_attribute("aria-pressed", "true")


def test_keys_are_changed_kept_and_switched_off(page: Page, films: dict[str, str]) -> None:
    open_film(page, films["windowed"])
    page.keyboard.press("?")
    page.get_by_role("button", name="Invert: i. Press to change.").click()
    page.keyboard.press("o")
    expect(page.locator("#keys-told")).to_contain_text("is taken by")
    page.get_by_role("button", name="Invert: i. Press to change.").click()
    page.keyboard.press("x")
    page.get_by_role("button", name="Close").click()
    open_film(page, films["windowed"])
    page.keyboard.press("i")
    assert page.evaluate("hilum.viewer.state.inverted") is False
    page.keyboard.press("x")
    assert page.evaluate("hilum.viewer.state.inverted") is True
    assert json.loads(page.evaluate("localStorage.getItem('hilum.keys')"))["invert"] == "x"
    page.keyboard.press("?")
    page.locator("#keys-off").check()
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("x")
    assert page.evaluate("hilum.viewer.state.inverted") is True


def test_a_graphics_card_that_goes_away_leaves_the_film(page: Page, films: dict[str, str]) -> None:
    open_film(page, films["windowed"], "?renderer=webgl2")
    page.evaluate("hilum.viewer.renderer.gl.getExtension('WEBGL_lose_context').loseContext()")
    until(page, "hilum.viewer.renderer.kind === '2d'")
    page.keyboard.press("0")
    assert np.abs(shown(page) - read_film(WINDOWED).pixels / 257).max() <= 1.0
