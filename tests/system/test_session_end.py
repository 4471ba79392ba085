"""A session at the page in Chromium: a warning before its end, a hidden page at it, the work there after the login."""

from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from tests.service.conftest import let_in as key_of
from tests.system.browser import film, let_in, open_film, serving

from hilum.records.store import now
from hilum.service.app import Running

pytestmark = pytest.mark.system

PASSWORD = "open sesame, please"
KEPT = "Object.keys(sessionStorage).filter((key) => key.startsWith('hilum/')).sort()"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("session-end")) as started:
        for name in ("ada", "bob"):
            started.room.access.add_user(name, ("reviewer",), password=PASSWORD, actor="test")
        yield started


@pytest.fixture(scope="module")
def film_id(service: Running) -> str:
    with httpx.Client(base_url=service.url, timeout=90, headers=key_of(service)) as http:
        kind = {"Content-Type": "application/dicom"}
        return str(http.post("/api/v1/studies?wait=60", content=film(1), headers=kind).json()["id"])


@pytest.fixture
def ahead(service: Running, monkeypatch: pytest.MonkeyPatch) -> list[timedelta]:
    """How far the sessions' clock of the service goes ahead."""
    passed = [timedelta()]
    monkeypatch.setattr(service.room.access, "_clock", lambda: now() + passed[0])
    return passed


@pytest.fixture
def page(service: Running, browser: Browser) -> Iterator[Page]:
    context = let_in(service, browser, "ada")
    yield context.new_page()
    context.close()


def pass_time(page: Page, ahead: list[timedelta], minutes: float) -> None:
    ahead[0] += timedelta(minutes=minutes)
    page.clock.fast_forward(int(minutes * 60_000))


def write_something(page: Page, film_id: str) -> None:
    page.clock.install()
    open_film(page, film_id)
    expect(page.locator("#differ")).to_be_enabled()
    for key in ("i", "m", "o", "g", "d"):
        page.keyboard.press(key)
    page.locator("#instead").select_option("normal")
    page.locator("#comment").fill("seen twice")


def log_in(page: Page, name: str) -> None:
    page.locator("#name").fill(name)
    page.locator("#password").fill(PASSWORD)
    page.keyboard.press("Enter")


def test_a_warning_comes_before_the_end_and_staying_puts_it_off(
    page: Page, film_id: str, ahead: list[timedelta]
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    write_something(page, film_id)
    pass_time(page, ahead, 14.2)
    expect(page.locator("#ending")).to_be_visible()
    assert Axe().run(page).response["violations"] == []
    with page.expect_response(lambda reply: reply.request.method == "POST", timeout=240_000):  # before time passes
        page.keyboard.press("Enter")  # the button that stays has the focus
    expect(page.locator("#ending")).to_be_hidden()
    pass_time(page, ahead, 13)
    expect(page.locator("#ending")).to_be_hidden()
    expect(page.locator("#comment")).to_have_value("seen twice")


def test_at_the_end_the_film_is_hidden_and_after_the_login_all_is_there_again(
    service: Running, page: Page, film_id: str, ahead: list[timedelta]
) -> None:
    write_something(page, film_id)
    before = page.evaluate("JSON.stringify(hilum.viewer.state)")
    pass_time(page, ahead, 16)
    page.wait_for_url(f"**/login?next=/films/{film_id}&ended=1")
    expect(page.locator("form.login")).to_contain_text("Your session has ended")
    assert page.locator("canvas").count() == 0
    log_in(page, "ada")
    page.wait_for_url(f"**/films/{film_id}")
    page.wait_for_selector('#film[data-ready="yes"]')
    expect(page.locator("#comment")).to_have_value("seen twice")
    expect(page.locator("#instead")).to_have_value("normal")
    expect(page.locator("#regions")).to_have_text("1 drawn")
    expect(page.locator("#overlay")).to_have_attribute("aria-pressed", "false")
    assert page.evaluate("JSON.stringify(hilum.viewer.state)") == before
    kinds = page.evaluate("hilum.viewer.shapes.map((shape) => shape.kind).sort()")
    assert kinds == ["measure", "region"]


def test_what_one_reader_wrote_is_gone_for_another_and_after_a_logout(
    page: Page, film_id: str, ahead: list[timedelta]
) -> None:
    write_something(page, film_id)
    pass_time(page, ahead, 16)
    page.wait_for_url("**/login?**")
    log_in(page, "bob")
    page.wait_for_url(f"**/films/{film_id}")
    page.wait_for_selector('#film[data-ready="yes"]')
    expect(page.locator("#comment")).to_have_value("")
    assert [key for key in page.evaluate(KEPT) if "ada" in key] == []
    page.keyboard.press("d")
    page.locator("#comment").fill("bob's")
    assert page.evaluate(KEPT) != []
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login")
    assert page.evaluate(KEPT) == []


def test_another_persons_login_or_a_logout_elsewhere_hides_the_page(service: Running, page: Page, film_id: str) -> None:
    open_film(page, film_id)
    other = page.context.new_page()
    other.goto("/")
    other.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login")
    log_in(page, "ada")
    page.wait_for_url("**/")
    open_film(page, film_id)
    other.goto("/login")
    log_in(other, "bob")
    page.wait_for_url(f"**/login?next=/films/{film_id}&ended=1")


def test_a_session_that_ends_while_the_service_is_away_hides_the_page(
    page: Page, film_id: str, ahead: list[timedelta]
) -> None:
    page.clock.install()
    open_film(page, film_id)
    page.context.set_offline(True)
    pass_time(page, ahead, 16)
    expect(page.locator("#locked-lost")).to_be_visible()
    expect(page.locator("#stage")).to_be_hidden()
    assert page.locator("canvas").count() == 0
    page.context.set_offline(False)
    page.clock.fast_forward(3000)
    page.wait_for_url(f"**/login?next=/films/{film_id}&ended=1")


def test_a_filtered_worklist_is_the_same_after_the_login(page: Page, ahead: list[timedelta]) -> None:
    page.clock.install()
    page.goto("/?status=answered")
    pass_time(page, ahead, 16)
    page.wait_for_url("**/login?next=/&ended=1")
    log_in(page, "ada")
    page.wait_for_url("**/?status=answered")
