"""An admin in Chromium: users and keys from making to ending, dead letters tried again."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from sqlalchemy import update
from tests.service.test_results_rest import given_up, not_looked_up
from tests.system.browser import let_in, serving

from hilum.records.alarms import Alarm, detail_of
from hilum.records.schema import AlarmRow, AuditRow
from hilum.records.store import now
from hilum.service.app import Running

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("administering")) as started:
        yield started


def test_a_user_and_a_key_are_made_and_ended(service: Running, browser: Browser) -> None:
    page = let_in(service, browser, "ada", "admin").new_page()
    page.on("dialog", lambda asked: asked.accept())
    page.goto("/users")
    page.get_by_text("Make a user").click()
    page.fill("#name", "bob")
    page.get_by_role("button", name="Make the user").click()
    expect(page.locator("#trouble")).to_contain_text("No role is given.")
    page.check('input[value="viewer"]')
    page.get_by_role("button", name="Make the user").click()
    expect(page.get_by_role("button", name="Disable bob")).to_be_visible()
    page.get_by_text("Make a key").click()
    page.fill("#user", "bob")
    page.fill("#label", "CT room <b>")
    page.get_by_role("button", name="Make the key").click()
    expect(page.locator("#secret")).to_be_visible()
    secret = page.locator("#secret code").inner_text()
    assert service.room.access.by_key(secret) is not None
    page.goto("/users")
    assert secret not in page.content()
    page.get_by_role("button", name="Revoke").click()
    expect(page.locator("td", has_text="revoked")).to_be_visible()
    assert service.room.access.by_key(secret) is None
    page.get_by_role("button", name="Set the password of bob").click()
    expect(page.locator("#secret")).to_contain_text("temporary password of bob")
    expect(page.locator("#secret")).to_be_focused()  # it stands far from the button, above the list
    temporary = page.locator("#secret code").inner_text()
    page.goto("/users")
    assert temporary not in page.content()
    page.get_by_role("button", name="Disable bob").click()
    expect(page.locator("td", has_text="disabled")).to_be_visible()


def test_dead_letters_are_tried_again_one_and_all(service: Running, browser: Browser) -> None:
    for number in (921, 922, 923):
        given_up(service.room.database, number)
    page = let_in(service, browser, "mel", "model-manager").new_page()
    page.goto("/operations")
    page.get_by_role("button", name="Try the result of film film922 for pacs again").click()
    expect(page.locator(".toast")).to_have_text("1 is in the queue again.")
    page.get_by_role("button", name="Try all again now").click()
    expect(page.locator(".toast")).to_have_text("2 are in the queue again.")
    assert service.room.outbox.dead() == ()


def test_look_ups_that_were_given_up_are_made_again(service: Running, browser: Browser) -> None:
    for number in (941, 942, 943):
        not_looked_up(service.room.database, number)
    page = let_in(service, browser, "mel", "model-manager").new_page()
    page.goto("/operations")
    page.get_by_role("button", name="Look again for earlier films of film film942").click()
    expect(page.locator(".toast")).to_have_text("1 is in the queue again.")
    page.get_by_role("button", name="Look again for all").click()
    expect(page.locator(".toast")).to_have_text("2 are in the queue again.")
    assert service.room.look_ups.lost() == ()


def test_an_auditor_searches_pages_on_verifies_and_is_shown_what_was_tampered_with(
    service: Running, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hilum.service.web.auditing.LINES", 5)
    access = service.room.access
    access.add_user("otto", ("auditor",), password="open sesame, please", actor="test")
    for number in range(7):
        access.add_user(f"walked-{number}", ("viewer",), password=None, actor="test")
    page = browser.new_context(base_url=service.url).new_page()
    page.goto("/")
    page.locator("#name").fill("otto")
    page.locator("#password").fill("open sesame, please")
    page.keyboard.press("Enter")
    page.wait_for_url("**/audit")
    page.get_by_label("Act").fill("user.added")
    page.get_by_label("By").fill("test")
    page.keyboard.press("Enter")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(5)
    expect(rows.first).to_contain_text("walked-6")
    page.get_by_role("link", name="Older rows").click()
    expect(rows.first).to_contain_text("walked-1")
    page.get_by_role("link", name="walked-0").click()
    expect(rows).to_have_count(1)
    service.room.witness.sign()  # type: ignore[union-attr]
    page.get_by_role("button", name="Verify the whole audit").click()
    expect(page.get_by_role("status", name="Verdict")).to_contain_text("The audit is whole.")
    with service.room.database.write() as session:
        session.execute(update(AuditRow).where(AuditRow.seq == 3).values(actor="mallory"))
    page.get_by_role("button", name="Verify the whole audit").click()
    expect(page.get_by_role("status", name="Verdict")).to_contain_text("Changed at row 3.")
    page.context.close()


def test_axe_finds_nothing_on_the_pages_of_each_role(service: Running, browser: Browser) -> None:
    from axe_playwright_python.sync_playwright import Axe

    given_up(service.room.database, 931)
    for name, role, paths in (
        ("ada", "admin", ("/upload", "/operations", "/users", "/models", "/reader-studies")),
        ("olga", "auditor", ("/audit",)),
    ):
        context = let_in(service, browser, name, role)
        page = context.new_page()
        for path in paths:
            page.goto(path)
            for closed in page.locator("summary").all():
                closed.click()
            found = Axe().run(page).response["violations"]
            assert [(path, one["id"], one["nodes"][0]["html"]) for one in found] == []
        context.close()


def test_an_alarm_is_acknowledged_then_closed_with_a_reason(service: Running, browser: Browser) -> None:
    made = Alarm(
        id="cd" * 8, state="open", owner="qm", opened_at=now(), streams=("device",), culprit="device",
        sentence="device changed in two looks in a row.",
    )  # fmt: skip
    row = AlarmRow(id=made.id, state="open", owner="qm", opened_at=made.opened_at, culprit="device")
    row.detail = detail_of(made, 1.0)
    with service.room.database.write() as session:
        session.add(row)
    page = let_in(service, browser, "mel", "model-manager").new_page()
    page.goto("/models")
    line = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 700, "downloadThroughput": -1, "uploadThroughput": -1}
    line.send("Network.emulateNetworkConditions", slow)  # the page comes well before its script
    page.get_by_role("link", name="device").click()
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.get_by_text("acknowledged by mel")).to_be_visible()
    line.send("Network.emulateNetworkConditions", slow | {"latency": 0})
    page.get_by_text("Close it").click()
    page.get_by_label("What was found").fill("A new detector.")
    page.get_by_role("button", name="Close the alarm").click()
    expect(page.get_by_text("No alarm is open.")).to_be_visible()
    expect(page.get_by_text("A new detector.")).to_be_visible()
    (closed,) = service.room.alarms.newest(limit=5)
    assert (closed.state, closed.acknowledged_by, closed.closed_by) == ("closed", "mel", "mel")
