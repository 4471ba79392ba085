"""The auditor's page: rows are found page by page, escaped, and the chain is verified."""

import html
import re
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import update
from tests.service.conftest import let_in
from tests.service.small import png

from hilum.records.audit import Act, append, entries
from hilum.records.peers import REFUSED, TITLES
from hilum.records.schema import AuditRow
from hilum.records.store import now
from hilum.service.app import Running
from hilum.service.dicom.hearing import CODES

XSS = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def auditor(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=90, headers=let_in(service, "auditor")) as http:
        yield http


def places(text: str) -> list[int]:
    return [int(place) for place in re.findall(r"<tr><td>(\d+)</td>", text)]


def test_the_verified_audit_is_still_the_page_of_the_audit(auditor: httpx.Client) -> None:
    with auditor.stream("GET", "/audit") as reply:
        token = re.search(r'name="csrf" content="([^"]*)"', reply.read().decode())
    assert token is not None
    text = auditor.post("/audit/verify", data={"csrf": token[1]}).text
    assert re.findall(r'href="([^"]+)" aria-current="true"', text) == ["/audit"]


def test_a_film_is_followed_and_what_was_typed_is_not_kept(
    service: Running, auditor: httpx.Client, http: httpx.Client
) -> None:
    film = http.post("/api/v1/studies?wait=60", content=png(71), headers={"Content-Type": "image/png"}).json()["id"]
    text = auditor.get("/audit", params={"subject": film, "act": "film."}).text
    assert "film.received" in text
    assert "film.answered" in text
    assert "key.added" not in text.partition("<tbody>")[2]
    assert "No row fits." in auditor.get("/audit", params={"subject": "Canary^Name", "actor": "Canary^Name"}).text
    with service.room.database.read() as session:
        last = entries(session)[-1]
    assert (last.act, last.subject, "Canary" in last.body) == ("audit.read", "", False)
    assert '"by":["subject","actor"]' in last.body


def test_each_kind_of_refusal_is_told_in_words_beside_its_code(service: Running, auditor: httpx.Client) -> None:
    with service.room.database.write() as session:
        for code in (*sorted(CODES), "other"):
            append(session, Act(actor="dicom", act=REFUSED, detail={"code": code, "times": 1}), now())
    text = html.unescape(auditor.get("/audit", params={"act": REFUSED}).text)
    for code in CODES:
        assert f'{TITLES[code]} {{"code": "{code}"' in text
    assert 'a reason that the log names {"code": "other"' in text


def test_older_rows_follow_without_a_gap(
    service: Running, auditor: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hilum.service.web.auditing.LINES", 2)
    address, seen = "/audit?act=user.added", []
    for number in range(5):
        service.room.access.add_user(f"paged-{number}", ["viewer"], password=None, actor="test")
    while address:
        text = auditor.get(address).text
        seen += places(text)
        onward = re.search(r'href="(/audit\?[^"]*before=\d+)"', text)
        address = onward[1].replace("&amp;", "&") if onward else ""
    with service.room.database.read() as session:
        assert seen == [row.seq for row in reversed(entries(session)) if row.act == "user.added"]


def test_a_day_that_is_none_is_refused_in_words(auditor: httpx.Client) -> None:
    reply = auditor.get("/audit", params={"first": "2026-02-30"})
    assert (reply.status_code, "A day is not one." in reply.text) == (422, True)


def test_rows_are_escaped_and_nothing_is_inline(service: Running, auditor: httpx.Client) -> None:
    with service.room.database.write() as session:
        append(session, Act(actor=XSS, act="test.act", subject=XSS, detail={"said": XSS}), now())
    text = auditor.get("/audit").text
    assert XSS not in text
    assert "&lt;img" in text
    assert "<script" not in text
    assert not re.search(r'\sstyle=|\son\w+="', text)


def test_the_whole_is_verified_and_a_changed_row_is_named(service: Running, auditor: httpx.Client) -> None:
    service.room.witness.sign()  # type: ignore[union-attr]
    said = auditor.post("/audit/verify").text
    assert "The audit is whole." in said
    assert re.search(r"compared with (1 signed head|(?!1 )\d+ signed heads), ", said)
    with service.room.database.read() as session:
        last = entries(session)[-2]
    assert (last.act, '"whole":true' in last.body) == ("audit.verified", True)
    with service.room.database.write() as session:
        row = session.get_one(AuditRow, 2)
        actor = row.actor
        session.execute(update(AuditRow).where(AuditRow.seq == 2).values(actor="mallory"))
    assert "Changed at row 2." in auditor.post("/audit/verify").text
    with service.room.database.write() as session:
        session.execute(update(AuditRow).where(AuditRow.seq == 2).values(actor=actor))
    heads = service.room.settings.audit_heads_path
    kept = heads.read_bytes()
    try:
        heads.write_bytes(b"{}\n")
        damaged = auditor.post("/audit/verify")
    finally:
        heads.write_bytes(kept)
    assert (damaged.status_code, "is no signed head" in damaged.text) == (422, True)
    bad = heads.with_name("audit-0.pub")
    bad.write_text("no key")
    try:
        unusable = auditor.post("/audit/verify")
    finally:
        bad.unlink()
    assert (unusable.status_code, "audit-0.pub holds no" in unusable.text) == (422, True)
    for page in (damaged, unusable):
        assert str(heads.parent) not in page.text, "where the service keeps its files is nobody's business"
