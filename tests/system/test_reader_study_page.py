"""A reader study in Chromium: two readers at once, each their own films, by keyboard, and nothing that tells."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select
from tests.service.conftest import let_in as key_of
from tests.system.browser import film, let_in, serving, until

from hilum.records.study_reading import ReaderStudies
from hilum.records.study_schema import StudyOpinionRow
from hilum.records.study_values import Protocol, StudySlot
from hilum.service.app import Running

pytestmark = pytest.mark.system
TELLS = ("pneumonia</h2>", "±", "SYN1", "SYN2", "accession", "Synthetic", "heatmap/")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("study")) as started:
        yield started


class Later:
    """A clock that can be put forward."""

    def __init__(self) -> None:
        self.by = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.by


def send(service: Running) -> list[str]:
    with httpx.Client(base_url=service.url, timeout=90, headers=key_of(service, "model-manager")) as http:
        kind = {"Content-Type": "application/dicom"}
        bodies = [film(n, WindowCenter=500 + 300 * n, WindowWidth=900) for n in (1, 2)]
        return [http.post("/api/v1/studies?wait=60", content=body, headers=kind).json()["id"] for body in bodies]


def register(service: Running, films: list[str]) -> None:
    one, other = films

    def both(first: str, second: str) -> list[list[StudySlot]]:
        return [
            [StudySlot(film=first, arm="without"), StudySlot(film=second, arm="with")],
            [StudySlot(film=first, arm="with"), StudySlot(film=second, arm="without")],
        ]

    protocol = Protocol(
        name="chest", plan_sha256="9" * 64, question="pneumonia", findings=("normal", "pneumonia"), answer="after",
        priors=False, washout_days=28,
    )  # fmt: skip
    sessions = {"ada": both(one, other), "bob": both(other, one)}
    service.room.studies.create(protocol, sessions, actor="test")


def say(page: Page, keys: str, rating: str) -> None:
    page.keyboard.press(keys)
    expect(page.locator("#rating")).to_be_focused()
    page.keyboard.type(rating)
    page.keyboard.press("Enter")


def ready(page: Page, words: str) -> None:
    expect(page.locator("nav.crumbs")).to_contain_text(words)
    page.wait_for_selector('#film[data-ready="yes"]')


def test_two_readers_read_their_own_lists_and_see_only_their_own_turn(service: Running, browser: Browser) -> None:
    from axe_playwright_python.sync_playwright import Axe

    clock = Later()
    service.room.studies = ReaderStudies(service.room.database, clock)
    ada = let_in(service, browser, "ada").new_page()
    bob = let_in(service, browser, "bob").new_page()
    films = send(service)
    register(service, films)
    fetched: list[str] = []
    ada.on("request", lambda request: fetched.append(request.url))
    for page in (ada, bob):
        page.goto("/")
        expect(page.locator("tr[data-place]")).to_have_count(0)
        page.get_by_role("link", name="Reader study").click()
        page.get_by_role("link", name="Begin with film 1 of session 1").click()
        ready(page, "session 1 of 2, film 1 of 2")
        assert not [words for words in TELLS if words in page.content()]
    assert (ada.locator("#film").get_attribute("data-study"), bob.locator("#film").get_attribute("data-study")) == (
        films[0], films[1],
    )  # fmt: skip
    # The slider stands nowhere before a confidence is chosen.
    slider = ada.locator("#slide")
    expect(slider).to_have_attribute("aria-valuetext", "not chosen yet")
    expect(slider).to_have_class("unset")
    slider.click()
    expect(ada.locator("#rating")).to_have_value("50")
    expect(slider).to_have_attribute("aria-valuetext", "50")
    ada.locator("#rating").fill("")
    expect(slider).to_have_attribute("aria-valuetext", "not chosen yet")
    ada.locator("#stage").focus()
    # A confidence is needed, and nothing is lost when it is missing or the page is loaded again.
    ada.keyboard.press("1")
    ada.keyboard.press("Enter")
    expect(ada.locator("#trouble")).to_contain_text("how sure")
    ada.reload()
    ready(ada, "film 1 of 2")
    assert ada.locator('input[value="normal"]').is_checked()
    options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
    assert Axe().run(ada, options=options).response["violations"] == []
    say(ada, "1", "15")
    ready(ada, "film 2 of 2")
    # The arm with the model: an opinion first, then the answer and its heat map, then the final one.
    assert not [address for address in fetched if "heatmap" in address]
    expect(ada.locator("#answer")).to_contain_text("You read first")
    say(ada, "1", "30")
    expect(ada.locator("#answer")).to_contain_text("±")
    until(ada, "hilum.viewer.heat !== null")
    expect(ada.locator("#heat-tools")).to_be_visible()
    say(ada, "2", "85")
    expect(ada.locator("main")).to_contain_text("28 days must lie between")
    # Back is nowhere: the address of a film shows what is next, and the film itself is closed elsewhere.
    ada.goto("/reader-study/chest")
    ada.wait_for_url("**/reader-study")
    ada.goto(f"/films/{films[0]}")
    expect(ada.locator("main")).to_contain_text("can’t be opened elsewhere")
    clock.by = timedelta(days=28, minutes=5)
    ada.goto("/reader-study/chest")
    ready(ada, "session 2 of 2, film 1 of 2")
    say(ada, "2", "60")
    expect(ada.locator("#answer")).to_contain_text("±")
    # What the screen shows of the arm is the server's say: another tab has gone on, and this one follows.
    other = ada.context.new_page()
    other.goto("/reader-study/chest")
    ready(other, "film 1 of 2")
    say(other, "2", "90")
    ready(other, "film 2 of 2")
    say(ada, "1", "10")
    ready(ada, "film 2 of 2")
    say(ada, "1", "20")
    expect(ada.locator("main")).to_contain_text("You have read the whole study")
    assert bob.locator("#film").get_attribute("data-study") == films[1]
    expect(bob.locator("#answer")).to_contain_text("Without the model")
    expect(bob.locator("#heat-tools")).to_be_hidden()


def test_opinions_are_kept_with_arm_setting_time_and_confidence(service: Running) -> None:
    with service.room.database.read() as session:
        rows = session.scalars(select(StudyOpinionRow).order_by(StudyOpinionRow.created_at)).all()
    said = [
        (row.session, row.position, row.stage, row.finding, row.rating, row.model_sha256 is not None) for row in rows
    ]
    assert said == [
        (1, 1, "final", "normal", 15, False),
        (1, 2, "first", "normal", 30, False),
        (1, 2, "final", "pneumonia", 85, True),
        (2, 1, "first", "pneumonia", 60, False),
        (2, 1, "final", "pneumonia", 90, True),
        (2, 2, "final", "normal", 20, False),
    ]
    assert all(row.seconds is not None and row.seconds > 0 for row in rows)
    assert json.loads(rows[0].shown)["heat_map"] == ""
    assert json.loads(rows[2].shown)["heat_map"] == "pneumonia"


def test_what_is_typed_outlives_a_lost_connection_and_the_end_of_the_session(
    service: Running, browser: Browser
) -> None:
    service.room.studies = ReaderStudies(service.room.database)
    service.room.access.add_user("eve", ("reviewer",), password="open sesame, please", actor="test")
    (film_id, other) = send(service)
    protocol = Protocol(
        name="kept", plan_sha256="8" * 64, question="pneumonia", findings=("normal", "pneumonia"), answer="after",
        priors=False, washout_days=1,
    )  # fmt: skip
    slots = [StudySlot(film=film_id, arm="without"), StudySlot(film=other, arm="without")]
    service.room.studies.create(protocol, {"eve": [slots]}, actor="test")
    context = let_in(service, browser, "eve")
    page = context.new_page()
    page.goto("/reader-study/kept")
    ready(page, "film 1 of 2")
    context.set_offline(True)
    say(page, "2", "64")
    expect(page.locator("#trouble")).to_contain_text("Connection lost. Your opinion is kept")
    context.set_offline(False)
    ready(page, "film 2 of 2")
    page.keyboard.press("1")
    page.keyboard.type("7")
    # Out of the field, the keys of the film count again.
    page.keyboard.press("Escape")
    page.keyboard.press("i")
    assert page.evaluate("hilum.viewer.state.inverted")
    context.clear_cookies()
    page.keyboard.press("Enter")
    page.wait_for_url("**/login?next=/reader-study/kept&ended=1")
    page.locator("#name").fill("eve")
    page.locator("#password").fill("open sesame, please")
    page.keyboard.press("Enter")
    page.wait_for_url("**/reader-study/kept")
    ready(page, "film 2 of 2")
    expect(page.locator("#rating")).to_have_value("7")
    expect(page.locator("#slide")).to_have_attribute("aria-valuetext", "7")
    assert page.locator('input[value="normal"]').is_checked()
    page.locator("#record").click()
    expect(page.locator("main")).to_contain_text("You have read the whole study")
    with service.room.database.read() as session:
        rows = session.scalars(select(StudyOpinionRow).where(StudyOpinionRow.study == "kept")).all()
    assert sorted((row.position, row.finding, row.rating) for row in rows) == [(1, "pneumonia", 64), (2, "normal", 7)]
    context.close()
