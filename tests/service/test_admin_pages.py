"""The pages of whoever keeps the service running: operations, users and keys."""

import re
from collections.abc import Iterator

import httpx
import pytest
from tests.service.conftest import let_in
from tests.service.small import png
from tests.service.test_results_rest import given_up

from hilum.records.access import Access
from hilum.records.erasure import Eraser
from hilum.records.results_out import Outbox
from hilum.records.store import now
from hilum.service.app import Running
from hilum.service.web.phrases import size_words

XSS = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def admin(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=90, headers=let_in(service, "admin")) as http:
        yield http


def test_operations_shows_parts_storage_and_no_results_yet(alone: Running) -> None:
    with httpx.Client(base_url=alone.url, timeout=90, headers=let_in(alone, "admin")) as http:
        http.post("/api/v1/studies?wait=60", content=png(44), headers={"Content-Type": "image/png"})
        text = http.get("/operations").text
    for words in ("Films are accepted and answered.", "records: ok", "1, ", "as they came", "HILUM_RESULTS_TO"):
        assert words in text
    assert re.search(r"answered</a></dt><dd>1<", text)


def test_a_dead_letter_and_what_waits_are_shown_with_their_reasons_escaped(
    service: Running, admin: httpx.Client
) -> None:
    given_up(service.room.database, 911)
    outbox = Outbox(service.room.database, now)
    outbox.register(["pacs"])
    outbox.requeue()
    delivery = outbox.claim("pacs", "me", lease_s=10)
    assert delivery is not None
    outbox.failed(delivery.id, "me", code="away", reason=f"It said {XSS}.", retry_after_s=600)
    given_up(service.room.database, 912)
    text = admin.get("/operations").text
    assert "PACS does not take it." in text
    assert "It said &lt;img" in text
    assert XSS not in text
    # One button for what one request does: it puts back what waits and what was given up.
    assert len(re.findall(r'data-post="/api/v1/results/requeue" data-then', text)) == 1
    assert re.search(r"<td>1</td><td>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC</td>", text), "a date without its year"
    (letter,) = re.findall(r'data-id="([0-9a-f]+)"', text)
    assert admin.post("/api/v1/results/requeue", json={"id": letter}).json() == {"requeued": 1}
    again = admin.get("/operations", params={"done": 1}).text
    assert "1 is in the queue again." in again
    assert "data-id=" not in again


def test_users_and_keys_are_shown_and_only_what_counts_can_be_ended(service: Running, admin: httpx.Client) -> None:
    access = service.room.access
    access.add_user("gone", ["viewer"], password=None, actor="test")
    access.disable("gone", actor="test")
    access.add_user("ct-1", ["reviewer"], password=None, actor="test")
    key, secret = access.add_key("ct-1", ["films:send"], label=XSS, actor="test")
    old, _ = access.add_key("ct-1", ["films:send"], actor="test")
    access.revoke_key(old.id, actor="test")
    past, _ = Access(service.room.database, lambda: key.created_at.replace(year=2001)).add_key(
        "ct-1", days=1, actor="test"
    )
    text = admin.get("/users").text
    assert 'data-post="/api/v1/users/ct-1/disable"' in text
    assert "/api/v1/users/gone/disable" not in text
    assert "/api/v1/users/test-admin/disable" not in text, "nobody shuts out themselves"
    assert f"/api/v1/keys/{key.id}" in text
    assert f"/api/v1/keys/{old.id}" not in text
    assert f"/api/v1/keys/{past.id}" not in text
    assert "expired" in text
    assert XSS not in text
    assert secret not in text


def test_pages_of_users_lead_on(service: Running, admin: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hilum.service.web.people.LINES", 1)
    names, address = [], "/users"
    while address:
        text = admin.get(address).text
        names += re.findall(r"<tr><td>([a-z0-9-]+)</td>", text)
        onward = re.search(r'href="(/users\?after=[^"]+)"', text)
        address = onward[1] if onward else ""
    assert names == [user.name for user in service.room.access.users()]


def test_nothing_is_inline(admin: httpx.Client) -> None:
    for path in ("/operations", "/users", "/upload"):
        text = admin.get(path).text
        assert not re.search(r'<style|\sstyle=|\son\w+="|<script(?![^>]*src=)', text)
        for address in set(re.findall(r'"(/static/[^"#]+)', text)):
            assert admin.get(address).status_code == 200


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (2**50, "1024.0 TiB")]
)
def test_a_size_in_words(size: int, words: str) -> None:
    assert size_words(size) == words


def test_a_film_whose_pixels_retention_erased_is_not_among_those_that_are_kept(
    service: Running, admin: httpx.Client
) -> None:
    film = admin.post("/api/v1/studies?wait=60", content=png(45), headers={"Content-Type": "image/png"}).json()
    assert "the answers alone" not in admin.get("/operations").text
    Eraser(service.room.database, now).erase_pixels([film["id"]], actor="test")
    assert "as they came; of 1 more the answers alone, as the site’s retention says" in admin.get("/operations").text
