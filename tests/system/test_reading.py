"""Readers in Chromium: by keyboard from film to film, own opinion first, two at once, and what breaks on the way."""

import json
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlalchemy import update
from tests.service.conftest import let_in as key_of
from tests.system.browser import film, let_in, open_film, serving, until

from hilum.records.schema import AnswerRow
from hilum.service.app import Running

pytestmark = pytest.mark.system

XSS = "<img src=x onerror=globalThis.hacked=1><script>globalThis.hacked=1</script>"


@pytest.fixture
def service(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("reading"), **getattr(request, "param", {})) as started:
        yield started


def send(service: Running, *bodies: bytes, state: str = "answered") -> list[str]:
    sent = []
    with httpx.Client(base_url=service.url, timeout=90, headers=key_of(service, "model-manager")) as http:
        for body in bodies:
            kind = {"Content-Type": "application/dicom"}
            reply = http.post("/api/v1/studies?wait=60", content=body, headers=kind).json()
            assert reply["state"] == state
            sent.append(reply["id"])
    return sent


def reader(service: Running, browser: Browser, name: str = "ada") -> tuple[BrowserContext, Page]:
    context = let_in(service, browser, name)
    return context, context.new_page()


def ready(page: Page) -> None:
    page.wait_for_selector('#film[data-ready="yes"]')
    expect(page.locator("#differ")).to_be_enabled()


def reviews(service: Running, film_id: str) -> list[tuple[str, str, str | None]]:
    return [(one.reader, one.decision, one.finding) for one in service.room.reviews.counting(film_id)]


def test_films_are_read_overridden_and_followed_by_keyboard_alone(service: Running, browser: Browser) -> None:
    ids = send(service, *(film(n, WindowCenter=500 + 300 * n, WindowWidth=900) for n in (1, 2, 3)))
    context, page = reader(service, browser)
    page.goto("/")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/films/*")
    ready(page)
    first = page.url.rpartition("/")[2]
    page.keyboard.press("a")
    page.wait_for_url(lambda url: not url.endswith(first))
    ready(page)
    second = page.url.rpartition("/")[2]
    page.keyboard.press("g")
    page.keyboard.press("d")
    page.keyboard.type("norm")
    page.keyboard.press("Tab")
    page.keyboard.type("the model saw")
    page.locator("#comment").focus()
    page.keyboard.type(XSS)
    page.keyboard.press("Control+Enter")
    page.wait_for_url(lambda url: not url.endswith(second))
    ready(page)
    assert reviews(service, first) == [("ada", "agree", None)]
    assert reviews(service, second) == [("ada", "override", "normal")]
    kept = service.room.reviews.by(second, "ada")
    assert kept is not None
    assert (kept.noted.reason_code, kept.comment, len(kept.noted.regions)) == ("overcalled", XSS, 1)
    assert kept.noted.seconds is not None
    assert kept.noted.shown["renderer"] in ("2d", "webgl2")
    page.keyboard.press("a")
    page.wait_for_url("**/?done=1")
    expect(page.locator("#undo")).to_contain_text("You agreed")
    assert {status for status, _ in (service.room.worklist.entry(one) for one in ids)} == {"read"}
    context.close()


def test_a_review_is_undone_from_the_next_page(service: Running, browser: Browser) -> None:
    ids = send(service, film(1), film(2, WindowCenter=900, WindowWidth=800))
    context, page = reader(service, browser)
    open_film(page, ids[0])
    ready(page)
    page.keyboard.press("a")
    page.wait_for_url(lambda url: not url.endswith(ids[0]))
    ready(page)
    page.keyboard.press("u")
    page.wait_for_url(f"**/films/{ids[0]}")
    assert reviews(service, ids[0]) == []
    assert service.room.reviews.by(ids[0], "ada").decision == "withdraw"  # type: ignore[union-attr]
    context.close()


@pytest.mark.parametrize("service", [{"read_first": True}], indirect=True)
def test_read_first_shows_nothing_before_and_everything_after(service: Running, browser: Browser) -> None:
    (film_id,) = send(service, film(1))
    context, page = reader(service, browser)
    fetched: list[str] = []
    page.on("request", lambda request: fetched.append(request.url))
    open_film(page, film_id)
    page.wait_for_load_state("networkidle")
    assert not [address for address in fetched if "heatmap" in address]
    assert "±" not in page.content()
    page.keyboard.press("o")
    page.keyboard.press("a")
    assert reviews(service, film_id) == []
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    page.wait_for_selector("#answer h2")
    expect(page.locator(".findings .number").first).to_contain_text("±")
    until(page, "hilum.viewer.heat !== null")
    assert reviews(service, film_id) == [("ada", "opinion", "pneumonia")]
    page.keyboard.press("a")
    page.wait_for_url("**/?done=1")
    assert reviews(service, film_id) == [("ada", "agree", None)]
    context.close()


@pytest.mark.parametrize("service", [{"readings": 2}], indirect=True)
def test_two_readers_at_once_and_a_third_who_settles(service: Running, browser: Browser) -> None:
    (film_id,) = send(service, film(1))
    ada, first = reader(service, browser)
    bob, second = reader(service, browser, "bob")
    open_film(first, film_id)
    ready(first)
    open_film(second, film_id)
    expect(second.locator("#held")).to_contain_text("ada reads this film now")
    expect(second.locator("#agree")).to_be_disabled()
    asked: list[str] = []
    second.on("request", lambda request: asked.append(request.method))
    second.keyboard.press("a")
    expect(second.locator("#trouble")).to_contain_text("ada reads this film now")
    first.keyboard.press("a")
    first.wait_for_url("**/?done=1")
    assert "PUT" not in asked, "a key sends no more than the button does"
    assert reviews(service, film_id) == [("ada", "agree", None)]
    open_film(second, film_id)
    ready(second)
    second.keyboard.press("d")
    second.locator("#instead").select_option("covid-19")
    second.keyboard.press("Control+Enter")
    second.wait_for_url("**/?done=1")
    assert service.room.worklist.entry(film_id)[0] == "disagreement"
    cyd, third = reader(service, browser, "cyd")
    open_film(third, film_id)
    expect(third.locator("#differ")).to_be_enabled()
    expect(third.locator("#review")).to_contain_text("bob overrode: covid-19")
    third.keyboard.press("a")
    expect(third.locator("#readout")).to_contain_text("Settle it with your own finding")
    third.keyboard.press("d")
    third.locator("#instead").select_option("covid-19")
    third.keyboard.press("Control+Enter")
    third.wait_for_url("**/?done=1")
    assert service.room.worklist.entry(film_id)[0] == "settled"
    for context in (ada, bob, cyd):
        context.close()


def test_a_lost_connection_keeps_the_review_and_sends_it_once(service: Running, browser: Browser) -> None:
    (film_id,) = send(service, film(1))
    context, page = reader(service, browser)
    open_film(page, film_id)
    ready(page)
    context.set_offline(True)
    page.keyboard.press("a")
    expect(page.locator("#trouble")).to_contain_text("Connection lost")
    assert reviews(service, film_id) == []
    context.set_offline(False)
    page.wait_for_url("**/?done=1")
    assert service.room.reviews.by(film_id, "ada").version == 1  # type: ignore[union-attr]
    context.close()


def test_a_film_on_the_screen_outlives_a_lost_connection(service: Running, browser: Browser) -> None:
    same = {"PatientID": "SYNTHETIC-1"}
    later = send(service, film(1, **same), film(2, WindowCenter=900, WindowWidth=800, **same))[1]
    context, page = reader(service, browser)
    open_film(page, later)
    ready(page)
    context.set_offline(True)
    page.keyboard.press("i")
    assert page.evaluate("hilum.viewer.state.inverted") is True
    page.keyboard.press("p")
    expect(page.locator("#readout")).to_have_text("The service can't be reached.")
    context.set_offline(False)
    page.keyboard.press("p")
    page.keyboard.press("p")
    page.wait_for_selector("#prior-stage canvas.film-pixels")
    context.close()


def test_a_worklist_says_that_the_connection_is_lost_and_comes_back(service: Running, browser: Browser) -> None:
    context, page = reader(service, browser)
    page.goto("/")
    expect(page.locator("#live")).to_have_text("0 films")
    context.set_offline(True)
    expect(page.locator("#live")).to_have_text("Connection lost; trying again.")
    send(service, film(1))
    context.set_offline(False)
    expect(page.locator("#live")).to_have_text("1 film")
    expect(page.locator("tr[data-place]")).to_have_count(1)
    context.close()


def test_an_expired_session_keeps_what_was_written(service: Running, browser: Browser) -> None:
    (film_id,) = send(service, film(1))
    service.room.access.add_user("eve", ("reviewer",), password="open sesame, please", actor="test")
    context, page = reader(service, browser, "eve")
    open_film(page, film_id)
    ready(page)
    page.keyboard.press("d")
    page.locator("#instead").select_option("normal")
    page.locator("#comment").fill("kept through the login")
    context.clear_cookies()
    page.keyboard.press("Control+Enter")
    page.wait_for_url("**/login?next=/films/*")
    page.locator("#name").fill("eve")
    page.locator("#password").fill("open sesame, please")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/films/{film_id}")
    ready(page)
    expect(page.locator("#comment")).to_have_value("kept through the login")
    page.locator("#save").click()
    page.wait_for_url("**/?done=1")
    assert reviews(service, film_id) == [("eve", "override", "normal")]
    context.close()


def test_what_a_film_or_a_reader_writes_never_runs(service: Running, browser: Browser) -> None:
    evil = {
        "PatientName": "<script>globalThis.hacked</script>",
        "PatientID": XSS[:60],
        "AccessionNumber": "<img src=x>",
        "PatientComments": XSS,
    }
    (film_id,) = send(service, film(1, **evil))
    service.room.reviews.put(film_id, "mal", decision="override", finding="normal", comment=XSS, over=0)
    context = let_in(service, browser, "viv", "viewer")
    page, violations = context.new_page(), []
    page.on("console", lambda said: violations.append(said.text) if said.type == "error" else None)
    for address in ("/", f"/films/{film_id}"):
        page.goto(address)
        page.wait_for_load_state("load")
        assert page.evaluate("globalThis.hacked") is None
        assert page.locator("main img").count() == 0
    assert not violations
    # What slips through is stopped by the policy: nothing inline runs.
    page.evaluate("document.body.insertAdjacentHTML('beforeend', `<img src=x onerror='globalThis.hacked=1'>`)")
    page.wait_for_timeout(300)
    assert page.evaluate("globalThis.hacked") is None
    assert any("Content Security Policy" in text for text in violations)
    context.close()


def test_the_worklist_is_live_and_searched_and_walked(service: Running, browser: Browser) -> None:
    send(service, *(film(n, WindowCenter=600 + 300 * n, WindowWidth=900) for n in (1, 2, 3)))
    context, page = reader(service, browser)
    page.goto("/")
    rows = page.locator("tr[data-place]")
    expect(rows).to_have_count(3)
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator("tr.active")).to_have_attribute("data-place", "1")
    page.keyboard.press("k")
    expect(page.locator("tr.active")).to_have_attribute("data-place", "0")
    send(service, film(9, WindowCenter=2500, WindowWidth=900))
    expect(rows).to_have_count(4)
    page.keyboard.press("/")
    page.keyboard.type("SYN9")
    page.keyboard.press("Enter")
    page.wait_for_url("**accession=SYN9**")
    expect(rows).to_have_count(1)
    context.close()


def test_a_region_that_is_drawn_last_goes_with_the_override_without_a_way_back_into_the_form(
    service: Running, browser: Browser
) -> None:
    (film_id,) = send(service, film(1))
    context, page = reader(service, browser)
    open_film(page, film_id)
    ready(page)
    page.keyboard.press("d")
    page.keyboard.type("norm")
    page.locator("#draw").focus()
    page.keyboard.press("Enter")
    before = page.evaluate("hilum.viewer.shapes[0].from")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("hilum.viewer.shapes[0].from")[0] < before[0]
    page.locator("#stage").focus()
    page.keyboard.press("Control+Enter")
    page.wait_for_url("**/?done=1")
    kept = service.room.reviews.by(film_id, "ada")
    assert kept is not None
    assert (kept.finding, len(kept.noted.regions)) == ("normal", 1)
    context.close()


def test_where_the_model_abstained_a_reader_gives_a_finding_and_does_not_agree_with_nothing(
    service: Running, browser: Browser
) -> None:
    (film_id,) = send(service, film(1))
    with service.room.database.write() as session:
        session.execute(update(AnswerRow).where(AnswerRow.film_id == film_id).values(abstained=True, label=None))
    context, page = reader(service, browser)
    open_film(page, film_id)
    ready(page)
    expect(page.locator("#agree")).to_be_hidden()
    page.keyboard.press("a")
    expect(page.locator("#readout")).to_contain_text("nothing to agree with")
    page.keyboard.press("d")
    page.keyboard.type("norm")
    page.keyboard.press("Control+Enter")
    page.wait_for_url("**/?done=1")
    assert reviews(service, film_id) == [("ada", "override", "normal")]
    context.close()


def test_a_film_that_was_not_analysed_asks_for_a_finding_and_not_for_agreement(
    service: Running, browser: Browser
) -> None:
    (film_id,) = send(service, film(1, PixelData=bytes(2 * 64 * 80)), state="not-analysed")
    context, page = reader(service, browser)
    open_film(page, film_id)
    ready(page)
    expect(page.locator("#agree")).to_be_hidden()
    expect(page.get_by_role("button", name="Give your finding")).to_be_visible()
    page.keyboard.press("a")
    expect(page.locator("#readout")).to_contain_text("nothing to agree with")
    context.close()


def test_axe_finds_nothing(service: Running, browser: Browser) -> None:
    from axe_playwright_python.sync_playwright import Axe

    (film_id,) = send(service, film(1))
    context, page = reader(service, browser)
    for address in ("/", f"/films/{film_id}", "/login"):
        page.goto(address)
        page.wait_for_load_state("networkidle") if address == "/login" else page.wait_for_timeout(500)
        if "films" in address:
            ready(page)
            page.keyboard.press("d")
        options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
        for width, height in ((1280, 720), (3840, 2160), (1200, 1920), (800, 1280)):
            page.set_viewport_size({"width": width, "height": height})
            found = Axe().run(page, options=options).response["violations"]
            told = [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in found]
            assert not told, f"{width} × {height}: {json.dumps(told, indent=1)}"
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (address, width)
    context.close()
