"""Labelling in Chromium: drawn by a manager, labelled by keyboard alone without the answer, two readers at once."""

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, expect
from tests.service.conftest import let_in as key_of
from tests.system.browser import film, let_in, serving, until

from hilum.records.labelling import Unsettled, newest_labels
from hilum.service.app import Running

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("labelling")) as started:
        with httpx.Client(base_url=started.url, timeout=90, headers=key_of(started, "model-manager")) as http:
            for n in (1, 2, 3):
                body = film(n, WindowCenter=500 + 300 * n, WindowWidth=900)
                http.post("/api/v1/studies?wait=60", content=body, headers={"Content-Type": "application/dicom"})
        yield started


def unsettled(service: Running) -> tuple[Unsettled, ...]:
    return service.room.labelling.unsettled(viewer="test")


def test_films_are_drawn_and_labelled_by_keyboard_and_what_differs_gets_a_third_reader(
    service: Running, browser: Browser
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    manages = let_in(service, browser, "mel", "model-manager").new_page()
    manages.goto("/labelling/batches")
    manages.fill("#films", "2")
    manages.fill("#second", "50")
    manages.get_by_role("button", name="Draw").click()
    expect(manages.locator("td", has_text=re.compile("^mel$"))).to_be_visible()

    reads = let_in(service, browser, "ada")
    page, fetched = reads.new_page(), []
    page.on("request", lambda request: fetched.append(request.url))
    page.goto("/labelling")
    page.wait_for_selector('#film[data-ready="yes"]')
    first = page.locator("#film").get_attribute("data-study")
    assert Axe().run(page).response["violations"] == []
    page.keyboard.press("n")
    page.wait_for_selector(f'#film[data-ready="yes"]:not([data-study="{first}"])')
    second = page.locator("#film").get_attribute("data-study")
    page.keyboard.press("Enter")
    expect(page.locator("#trouble")).to_contain_text("Choose a finding first")
    page.keyboard.press("t")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#trouble")).to_contain_text("Say why you can’t tell")
    page.keyboard.press("Escape")
    page.locator("#stage").focus()
    page.keyboard.press("+")
    page.keyboard.press("2")
    page.locator("#comment").fill("a shadow left")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(f'#film[data-ready="yes"][data-study="{first}"]')
    expect(page.locator("#last")).to_contain_text("pneumonia")
    reads.set_offline(True)
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.locator("#trouble")).to_contain_text("Connection lost")
    reads.set_offline(False)
    expect(page.locator("main")).to_contain_text("No film waits for your label")
    assert not [one for one in fetched if "heatmap" in one or "/films/" in one]
    with service.room.database.read() as session:
        kept = {one: newest_labels(session, str(one))[0] for one in (first, second)}
    assert (kept[second].finding, kept[second].comment) == ("pneumonia", "a shadow left")
    assert (kept[first].finding, kept[first].version) == ("normal", 1)
    assert kept[second].seconds is not None
    assert '"heat_map": ""' in kept[second].shown

    other = let_in(service, browser, "bob").new_page()
    other.goto("/labelling")
    other.wait_for_selector('#film[data-ready="yes"]')
    other.keyboard.press("3")
    other.keyboard.press("Enter")
    expect(other.locator("main")).to_contain_text("No film waits for your label")
    (open_one,) = unsettled(service)
    assert open_one.state == "differ"
    manages.goto("/labelling/batches")
    assert Axe().run(manages).response["violations"] == []
    manages.get_by_role("button", name=re.compile("Ask for one more reader")).click()
    expect(manages.locator("tr.empty")).to_be_visible()
    assert unsettled(service) == ()


def test_a_label_survives_the_end_of_the_session_and_an_answer_that_was_opened_ends_it(
    service: Running, browser: Browser
) -> None:
    service.room.label_batches.draw(1, second=0, actor="mel")
    service.room.access.add_user("eve", ("reviewer",), password="open sesame, please", actor="test")
    context = let_in(service, browser, "eve")
    page = context.new_page()
    page.goto("/labelling")
    page.wait_for_selector('#film[data-ready="yes"]')
    study = page.locator("#film").get_attribute("data-study")
    page.keyboard.press("2")
    page.locator("#comment").fill("kept through the login")
    context.clear_cookies()
    page.keyboard.press("Control+Enter")
    page.wait_for_url("**/login?next=/labelling&ended=1")
    page.locator("#name").fill("eve")
    page.locator("#password").fill("open sesame, please")
    page.keyboard.press("Enter")
    page.wait_for_selector("#film")
    expect(page.locator("#comment")).to_have_value("kept through the login")
    until(page, "document.querySelector('input[name=label]:checked')?.value === 'pneumonia'")
    service.room.store.film(str(study), viewer="eve")
    page.wait_for_selector('#film[data-ready="yes"]')
    page.locator("#save").click()
    expect(page.locator("#trouble")).to_contain_text("your label would lean on it")
    context.close()
