"""A session at the page: what puts its end off and what doesn't, its end, and where each role's login leads."""

from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest
from tests.service.conftest import let_in, settings_in
from tests.service.small import SmallDrawing, SmallModel

from hilum.records.audit import entries
from hilum.records.store import now
from hilum.service.app import Running, running
from hilum.service.rest.access import COOKIE

PAGE, SCRIPT = {"Accept": "text/html"}, {"Accept": "*/*"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = settings_in(tmp_path_factory.mktemp("sessions"), dicom_port=None, session_idle_min=10, session_hours=1)
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as started:
        yield started


@pytest.fixture
def passed(service: Running, monkeypatch: pytest.MonkeyPatch) -> list[timedelta]:
    """How far the sessions' clock goes ahead."""
    ahead = [timedelta()]
    monkeypatch.setattr(service.room.access, "_clock", lambda: now() + ahead[0])
    return ahead


def browser(service: Running, name: str, role: str = "reviewer") -> httpx.Client:
    access = service.room.access
    if name not in [user.name for user in access.users()]:
        access.add_user(name, (role,), password="open sesame, please", actor="test")
    cookies = {COOKIE: access.begin_session(name, how="test")}
    return httpx.Client(base_url=service.url, timeout=90, headers=SCRIPT, cookies=cookies)


def test_what_a_page_asks_by_itself_keeps_no_session_alive(service: Running, passed: list[timedelta]) -> None:
    with browser(service, "ada") as http:
        for minutes in (6, 9):
            passed[0] = timedelta(minutes=minutes)
            assert http.get("/?part=rows").status_code == 200
            assert http.get("/session").status_code == 200
        passed[0] = timedelta(minutes=11)
        gone = http.get("/", headers=PAGE)
        assert (gone.status_code, gone.headers["location"]) == (303, "/login?ended=1")
        assert http.get("/session").status_code == 401
        told = http.get("/login?ended=1").text
        assert "nobody did anything for 10&nbsp;min, or 1&nbsp;h had passed" in told
    with service.room.database.read() as session:
        ended = [row for row in entries(session) if row.act == "session.expired" and row.actor == "ada"]
    assert len(ended) == 1


def test_a_page_opened_and_a_person_who_acts_put_the_end_off(service: Running, passed: list[timedelta]) -> None:
    with browser(service, "bob") as http:
        passed[0] = timedelta(minutes=9)
        assert http.get("/", headers=PAGE).status_code == 200
        passed[0] = timedelta(minutes=18)
        said = http.get("/session").json()
        assert http.post("/session").status_code == 403, "another site can't keep it alive"
        stayed = http.post("/session", headers={"X-CSRF-Token": said["csrf"]}).json()
        assert said["left_s"] == pytest.approx(60, abs=20)
        assert stayed["left_s"] == pytest.approx(600, abs=1)
        assert stayed["at_most_s"] == pytest.approx(42 * 60, abs=20)
        for minutes in range(27, 60, 6):
            passed[0] = timedelta(minutes=minutes)
            assert http.get("/", headers=PAGE).status_code == 200
        passed[0] = timedelta(hours=1)
        assert http.get("/session").status_code == 401, "at last it ends whatever is done"


def test_a_key_has_no_session_and_no_end(service: Running) -> None:
    with httpx.Client(base_url=service.url, timeout=90, headers=let_in(service)) as http:
        for said in (http.get("/session").json(), http.post("/session").json()):
            assert said == {"user": "test-reviewer", "csrf": "", "left_s": None, "at_most_s": None}


@pytest.mark.parametrize(
    ("role", "home"),
    [
        ("reviewer", "/"),
        ("viewer", "/"),
        ("auditor", "/audit"),
        ("admin", "/operations"),
        ("model-manager", "/models"),
    ],
)
def test_each_roles_login_leads_to_a_page_for_it(service: Running, role: str, home: str) -> None:
    name = f"home-{role}"
    service.room.access.add_user(name, (role,), password=None, actor="test")
    with httpx.Client(base_url=service.url, timeout=90, headers=PAGE) as http:
        entered = http.get(f"/enter?token={service.room.links.make(name)}")
        assert (entered.status_code, entered.headers["location"]) == (303, home)
        assert http.get(home).status_code == 200
