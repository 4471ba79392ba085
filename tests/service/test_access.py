"""Who may do what: every route and role, no default way in, cookies that other sites can't use."""

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from tests.service.conftest import let_in, settings_in
from tests.service.small import SmallDrawing, SmallModel, png

from hilum.data_keys import new_data_key
from hilum.errors import ConfigError, ServiceError
from hilum.records.audit import check, entries
from hilum.records.roles import ROLES
from hilum.service.app import Running, create_app, running
from hilum.service.doors import MOST_AT_DOOR, Throttle
from hilum.service.rest.access import declared

PASSWORD = "open sesame, please"
ID = "0" * 32

EVERYBODY = {"viewer", "reviewer", "model-manager", "admin", "auditor"}
READERS = {"viewer", "reviewer", "model-manager", "admin"}
SERIES = "/studies/{study}/series/{series}"
DICOMWEB = (
    "/studies",
    "/series",
    "/instances",
    "/studies/{study}",
    "/studies/{study}/series",
    "/studies/{study}/instances",
    "/studies/{study}/metadata",
    SERIES,
    f"{SERIES}/instances",
    f"{SERIES}/metadata",
    f"{SERIES}/instances/{{sop}}",
    f"{SERIES}/instances/{{sop}}/metadata",
    f"{SERIES}/instances/{{sop}}/frames/{{numbers}}",
    f"{SERIES}/instances/{{sop}}/bulkdata/{{tag}}",
)
ALLOWED: dict[tuple[str, str], set[str] | None] = {
    ("POST", "/api/v1/studies"): {"reviewer", "model-manager", "admin"},
    ("GET", "/api/v1/studies"): READERS,
    ("GET", "/api/v1/studies/{film_id}"): READERS,
    ("GET", "/api/v1/studies/{film_id}/film.png"): READERS,
    ("GET", "/api/v1/studies/{film_id}/pixels"): READERS,
    ("GET", "/api/v1/studies/{film_id}/heatmap/{finding}.png"): READERS,
    ("GET", "/api/v1/worklist"): READERS,
    ("POST", "/api/v1/studies/{film_id}/requeue"): {"model-manager", "admin"},
    ("GET", "/api/v1/studies/{film_id}/reviews"): READERS,
    ("GET", "/api/v1/studies/{film_id}/reviews/mine"): {"reviewer"},
    ("PUT", "/api/v1/studies/{film_id}/reviews/mine"): {"reviewer"},
    ("POST", "/api/v1/reader-studies"): {"model-manager", "admin"},
    ("GET", "/api/v1/reader-studies"): {"model-manager", "admin"},
    ("POST", "/api/v1/reader-studies/{name}/close"): {"model-manager", "admin"},
    ("GET", "/api/v1/reader-studies/mine"): {"reviewer"},
    ("POST", "/api/v1/reader-studies/{name}/opinions"): {"reviewer"},
    ("GET", "/reader-study"): {"reviewer"},
    ("GET", "/reader-studies"): {"model-manager", "admin"},
    ("GET", "/reader-study/{name}"): {"reviewer"},
    ("POST", "/api/v1/labelling/batches"): {"model-manager", "admin"},
    ("GET", "/api/v1/labelling/batches"): {"model-manager", "admin"},
    ("GET", "/api/v1/labelling/unsettled"): {"model-manager", "admin"},
    ("POST", "/api/v1/labelling/next"): {"reviewer"},
    ("POST", "/api/v1/labelling/{film_id}/labels"): {"reviewer"},
    ("POST", "/api/v1/labelling/{film_id}/hold"): {"reviewer"},
    ("DELETE", "/api/v1/labelling/{film_id}/hold"): {"reviewer"},
    ("POST", "/api/v1/labelling/{film_id}/readers"): {"model-manager", "admin"},
    ("GET", "/api/v1/results"): {"model-manager", "admin"},
    ("POST", "/api/v1/results/requeue"): {"model-manager", "admin"},
    ("GET", "/api/v1/look-ups"): {"model-manager", "admin"},
    ("POST", "/api/v1/look-ups/requeue"): {"model-manager", "admin"},
    ("GET", "/api/v1/alarms"): {"model-manager", "admin", "auditor"},
    ("POST", "/api/v1/alarms/{alarm_id}/acknowledge"): {"model-manager", "admin"},
    ("POST", "/api/v1/alarms/{alarm_id}/close"): {"model-manager", "admin"},
    ("GET", "/monitoring"): {"model-manager", "admin", "auditor"},
    ("POST", "/api/v1/privacy/erase"): {"admin"},
    ("POST", "/api/v1/models"): {"model-manager", "admin"},
    ("POST", "/api/v1/models/active/check"): {"model-manager", "admin"},
    ("POST", "/api/v1/models/active"): {"model-manager", "admin"},
    ("GET", "/api/v1/models/active"): {"viewer", "reviewer", "model-manager", "admin"},
    ("GET", "/metrics"): {"model-manager", "admin"},
    ("GET", "/"): READERS,
    ("GET", "/labelling"): {"reviewer"},
    ("GET", "/labelling/batches"): {"model-manager", "admin"},
    ("GET", "/upload"): {"reviewer", "model-manager", "admin"},
    ("GET", "/operations"): {"model-manager", "admin"},
    ("GET", "/users"): {"admin"},
    ("GET", "/models"): READERS,
    ("GET", "/audit"): {"auditor"},
    ("POST", "/audit/verify"): {"auditor"},
    ("POST", "/api/v1/studies/{film_id}/claim"): {"reviewer"},
    ("DELETE", "/api/v1/studies/{film_id}/claim"): {"reviewer"},
    ("GET", "/films/next"): READERS,
    ("GET", "/films/{film_id}"): READERS,
    ("GET", "/api/v1/users"): {"admin"},
    ("POST", "/api/v1/users"): {"admin"},
    ("POST", "/api/v1/users/{name}/disable"): {"admin"},
    ("POST", "/api/v1/users/{name}/password"): {"admin"},
    ("GET", "/api/v1/keys"): {"admin"},
    ("POST", "/api/v1/keys"): {"admin"},
    ("DELETE", "/api/v1/keys/{key_id}"): {"admin"},
    ("GET", "/api/v1/audit"): {"auditor"},
    ("GET", "/api/v1/events"): READERS,
    ("GET", "/api/v1/models"): READERS,
    ("POST", "/dicom-web/studies"): {"reviewer", "model-manager", "admin"},
    ("POST", "/dicom-web/studies/{study}"): {"reviewer", "model-manager", "admin"},
    **{("GET", f"/dicom-web{path}"): {"reviewer", "admin"} for path in DICOMWEB},
    ("POST", "/logout"): EVERYBODY,
    ("GET", "/session"): EVERYBODY,
    ("POST", "/session"): EVERYBODY,
    ("GET", "/health/live"): None,
    ("GET", "/health/ready"): None,
    ("GET", "/login"): None,
    ("POST", "/login"): None,
    ("POST", "/password"): None,
    ("GET", "/enter"): None,
    ("POST", "/enter"): None,
}
"""Written by hand beside the code: who may call what; None is anybody. A new route must be added here."""


@pytest.fixture(scope="module")
def keys(service: Running) -> dict[str, dict[str, str]]:
    return {role: let_in(service, role) for role in ROLES}


@pytest.fixture
def anonymous(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=90) as client:
        yield client


def test_every_route_says_whom_it_is_for(service: Running) -> None:
    assert set(declared(create_app(service.room))) == set(ALLOWED)


def test_an_undeclared_route_is_not_served(service: Running) -> None:
    app = create_app(service.room)

    @app.get("/forgotten")
    def forgotten() -> str:
        return "everything"

    with pytest.raises(ServiceError, match="/forgotten doesn't say whom it is for"):
        declared(app)
    plain = FastAPI()
    plain.add_route("/plain", lambda _: None)
    with pytest.raises(ServiceError, match="doesn't say"):
        declared(plain)


@pytest.mark.parametrize(("route", "allowed"), ALLOWED.items(), ids=lambda v: " ".join(v) if type(v) is tuple else "")
def test_each_role_reaches_what_it_may_and_nothing_else(
    anonymous: httpx.Client, keys: dict[str, dict[str, str]], route: tuple[str, str], allowed: set[str] | None
) -> None:
    method, path = route
    path = re.sub(r"\{(\w+)\}", lambda m: {"film_id": ID, "finding": "normal"}.get(m[1], "nobody"), path)
    for role in ROLES:
        with anonymous.stream(method, path, headers=keys[role]) as reply:  # the events have no end
            status = reply.status_code
        assert (status == 403) is (allowed is not None and role not in allowed), (role, status)
        assert status != 401
    unknown = anonymous.request(method, path)
    if allowed is None:
        assert unknown.status_code not in (401, 403)
    else:
        assert unknown.status_code == 401
        assert unknown.headers["www-authenticate"].startswith("Bearer")
        assert unknown.headers["content-type"] == "application/problem+json"


def test_a_refusal_names_the_scope_and_comes_before_the_arguments(
    anonymous: httpx.Client, keys: dict[str, dict[str, str]]
) -> None:
    reply = anonymous.get("/api/v1/audit?limit=0", headers=keys["admin"])
    assert (reply.status_code, "audit:read" in reply.json()["detail"]) == (403, True)
    assert anonymous.get("/api/v1/audit?limit=0").status_code == 401
    assert anonymous.get("/api/v1/audit?limit=0", headers=keys["auditor"]).status_code == 422


@pytest.mark.parametrize("header", ["Bearer x", "Basic YWRtaW46YWRtaW4=", "Bearer hilum_00_11", "Bearer", "hilum_1_2"])
def test_what_is_no_key_opens_nothing(anonymous: httpx.Client, header: str) -> None:
    refused = anonymous.get("/api/v1/studies", headers={"Authorization": header})
    assert refused.status_code == 401
    assert "is not known, was revoked, or has run out" in refused.json()["detail"]
    assert "Nobody is logged in" in anonymous.get("/api/v1/studies").json()["detail"]


def browser(service: Running) -> httpx.Client:
    return httpx.Client(base_url=service.url, timeout=90, headers={"Accept": "text/html", "Sec-Fetch-Site": "none"})


def test_from_the_first_link_to_a_logout(alone: Running) -> None:
    """One story: no way in but the console's link; an admin is made once; sessions, forms and their end."""
    with browser(alone) as http:
        assert http.get("/").headers["location"] == "/login"
        assert http.get("/upload").headers["location"] == "/login?next=/upload"
        wrong = {"name": "admin", "password": "admin", "next": "/"}
        refused = http.post("/login", data=wrong | {"name": 'Admin"<b>'})
        assert refused.status_code == 401
        assert 'value="admin&#34;&lt;b&gt;"' in refused.text, "the name need not be typed again"
        assert http.get("/enter?token=x").status_code == 410
        assert "no default password" in http.get("/login").text
        alone.room.throttle._failed["late"] = [time.monotonic() - 260] * 5
        late = http.post("/login", data={"name": "late", "password": "x"})
        assert (late.status_code, "Wait 1 min" in late.text) == (429, True), "less than a minute is not no wait"
        assert late.headers["content-type"].startswith("text/html")
        link = alone.first_admin or ""
        assert "The first admin" in http.get(link).text
        form = {"token": link.partition("token=")[2], "name": "ada", "password": "short"}
        assert "has 5 characters" in http.post("/enter", data=form).text
        made = http.post("/enter", data={**form, "password": PASSWORD})
        assert (made.status_code, made.headers["location"]) == (303, "/")
        cookie = made.headers["set-cookie"]
        assert all(word in cookie for word in ("hilum_session=", "HttpOnly", "SameSite=strict", "Path=/"))
        assert http.get("/").status_code == 200
    with browser(alone) as http:
        again = http.post("/enter", data={**form, "name": "eve", "password": PASSWORD})
        assert (again.status_code, "used already" in again.text) == (410, True)
        login = {"name": "Ada ", "password": PASSWORD, "next": "//evil.example/"}
        assert http.post("/login", data=login, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        inside = http.post("/login", data=login)
        assert (inside.status_code, inside.headers["location"]) == (303, "/"), "a login leads to no other site"
        page = http.get("/").text
        csrf = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
        assert csrf
        body, kind = png(12), {"Content-Type": "image/png"}
        assert http.post("/api/v1/studies", content=body, headers=kind).status_code == 403, "the cookie alone"
        token = {"X-CSRF-Token": csrf[1]}
        assert http.post("/api/v1/studies", content=body, headers=kind | token).status_code == 201
        assert http.post("/api/v1/users", json={"name": "bob", "roles": ["auditor"]}, headers=token).status_code == 201
        audits = {"name": "otto", "roles": ["auditor"], "password": PASSWORD}
        assert http.post("/api/v1/users", json=audits, headers=token).status_code == 201
        key = http.post("/api/v1/keys", json={"user": "bob", "days": 3}, headers=token).json()
        assert http.post("/logout", data={"csrf": "0" * 64}).status_code == 403
        assert http.post("/logout", data={"csrf": csrf[1]}).headers["location"] == "/login"
        assert http.get("/").status_code == 303
    with browser(alone) as http:
        assert http.post("/login", data={"name": "otto", "password": PASSWORD}).headers["location"] == "/audit"
        assert http.get("/").headers["location"] == "/audit", "each role has a page of its own"
        refused = http.get("/films/next")
        assert (refused.status_code, "films:read" in refused.text) == (403, True)
        assert 'action="/logout"' in refused.text, "a page with a way out"
        program = http.get("/films/next", headers={"Accept": "application/json"})
        assert (program.status_code, program.headers["content-type"]) == (403, "application/problem+json")
    with httpx.Client(base_url=alone.url, headers={"Authorization": f"Bearer {key['secret']}"}) as http:
        acts = [row["act"] for row in http.get("/api/v1/audit").json()["entries"]]
        again = http.get("/api/v1/audit", params={"limit": 1}).json()
        assert (len(again["entries"]), again["next"]) == (1, 1)
    assert acts[:3] == ["login.failed", "user.added", "login.succeeded"]
    assert {"worklist.viewed", "film.received", "key.added", "logout"} <= set(acts)
    with alone.room.database.read() as session:
        rows = entries(session)
    assert check(rows).whole
    assert rows[-1].act == "audit.read", "reading it is written down as well"
    assert PASSWORD not in "".join(row.body for row in rows)


def test_a_password_that_an_admin_set_is_good_for_one_login_and_then_for_nothing(alone: Running) -> None:
    access = alone.room.access
    for name, role in (("root", "admin"), ("rex", "viewer")):
        access.add_user(name, [role], password=None, actor="test")
    headers = {"Authorization": f"Bearer {access.add_key('root', actor='test')[1]}"}
    with httpx.Client(base_url=alone.url, timeout=90, headers=headers) as admin:
        given = admin.post("/api/v1/users/rex/password").json()
        assert (given["user"], given["hours"], len(given["temporary_password"])) == ("rex", 72, 16)
        own = admin.post("/api/v1/users/root/password")
        assert (own.status_code, "lock you out" in own.json()["detail"]) == (422, True)
        shown = admin.get("/users").text
        assert "temporary password until" in shown
        assert given["temporary_password"] not in shown
    with browser(alone) as http:
        login = {"name": "rex", "password": given["temporary_password"], "next": "/models"}
        page = http.post("/login", data=login)
        assert (page.status_code, "Your own password" in page.text, "set-cookie" in page.headers) == (200, True, False)
        token = re.search(r'name="token" value="([^"]+)"', page.text)
        assert token
        assert http.get(f"/enter?token={token[1]}").status_code == 410, "it opens nothing but the choice"
        for password, again, words in (
            ("short", "short", "has 5 characters"),
            (PASSWORD, PASSWORD + "!", "differ"),
            (given["temporary_password"],) * 2 + ("another password than the temporary one",),
        ):
            form = {"token": token[1], "password": password, "again": again, "next": "/models"}
            refused = http.post("/password", data=form)
            assert (refused.status_code, words in refused.text) == (422, True)
        form = {"token": token[1], "password": PASSWORD, "again": PASSWORD, "next": "/models"}
        assert http.post("/password", data=form, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 410
        inside = http.post("/password", data=form)
        assert (inside.status_code, inside.headers["location"]) == (303, "/models")
        assert http.get("/models").status_code == 200
    with browser(alone) as http:
        assert http.post("/password", data=form).status_code == 410
        assert http.post("/login", data=login).status_code == 401, "the temporary one is good for nothing now"
        assert http.post("/login", data=login | {"password": PASSWORD}).status_code == 303
    with alone.room.database.read() as session:
        rows = [row for row in entries(session, subject="rex") if row.act == "user.password"]
    assert [(row.actor, '"temporary":true' in row.body) for row in rows] == [("root", True), ("rex", False)]
    assert given["temporary_password"] not in "".join(row.body for row in rows)


def test_who_sees_a_film_is_written_down(service: Running) -> None:
    headers = let_in(service)
    with httpx.Client(base_url=service.url, timeout=90, headers=headers) as http:
        study = http.post("/api/v1/studies?wait=60", content=png(201, 24), headers={"Content-Type": "image/png"}).json()
        for path in (f"/films/{study['id']}", study["film"], study["answer"]["heatmaps"]["pneumonia"]):
            assert http.get(path).status_code == 200
        for _ in range(3):
            http.get("/?part=rows")
    with service.room.database.read() as session:
        told = [(row.actor, row.act) for row in entries(session, subject=study["id"])]
        lists = [row for row in entries(session) if row.act == "worklist.viewed" and study["id"] in row.body]
    name = "test-reviewer"
    assert sorted(told) == sorted(
        [
            (name, "film.received"),
            ("service", "film.answered"),
            (name, "film.viewed"),
            (name, "film.viewed"),
            (name, "picture.viewed"),
            (name, "picture.viewed"),
        ]
    )
    assert len(lists) == 1, "a page that asks every two seconds is one look until it shows something new"


def test_a_key_that_only_sends_is_shown_no_answer(service: Running, http: httpx.Client) -> None:
    access = service.room.access
    secret = access.add_key("test-reviewer", ["films:send"], actor="test")[1]
    headers = {"Content-Type": "image/png", "Authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=service.url, timeout=90, headers=headers) as sender:
        film_id = sender.post("/api/v1/studies?wait=60", content=png(202, 25)).json()["id"]
        assert http.get(f"/api/v1/studies/{film_id}?wait=60").json()["answer"]["label"] == "pneumonia"
        again = sender.post("/api/v1/studies?wait=60", content=png(202, 25))
        assert (again.status_code, again.json()["state"], again.json()["answer"]) == (200, "answered", None)
        assert sender.get(f"/api/v1/studies/{film_id}").status_code == 403
    with service.room.database.read() as session:
        assert [row.act for row in entries(session, subject=film_id)].count("film.viewed") == 1


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key."""
    import ipaddress
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(forms.Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption()))
    return paths


def test_with_tls_the_cookie_is_secure_and_plain_http_is_not_spoken(tmp_path: Path) -> None:
    import ssl

    certificate, key = self_signed(tmp_path)
    settings = settings_in(tmp_path, tls_certificate=certificate, tls_key=key)
    trusting = ssl.create_default_context(cafile=str(certificate))
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
        assert service.url.startswith("https://")
        service.room.access.add_user("ada", ["viewer"], password=None, actor="test")
        link = f"/enter?token={service.room.links.make('ada')}"
        with httpx.Client(base_url=service.url, verify=trusting, timeout=90) as http:
            assert "Secure" in http.get(link).headers["set-cookie"]
            assert http.get("/").status_code == 200
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{service.url.replace('https', 'http')}/health/live")


def test_guessing_is_slowed_down() -> None:
    now = [0.0]
    throttle = Throttle(lambda: now[0])
    for _ in range(5):
        assert throttle.attempt("ada") == 0
        now[0] += 1
    assert [throttle.attempt("ada") for _ in range(3)] == [295] * 3
    assert throttle.attempt("bob") == 0
    throttle.succeeded("bob")
    assert "bob" not in throttle._failed
    now[0] = 301
    assert throttle.attempt("ada") == 0


def tried(service: Running, name: str, times: int) -> Counter[int]:
    """Statuses of so many logins at once, with a wrong password."""

    def one(number: int) -> int:
        form = {"name": name.format(number), "password": "not the password"}
        return httpx.post(f"{service.url}/login", data=form, timeout=120).status_code

    with ThreadPoolExecutor(times) as many:
        return Counter(many.map(one, range(times)))


def test_a_program_that_takes_json_is_told_in_a_problem_document_why_it_does_not_come_in(alone: Running) -> None:
    """A browser's form has text/html in what it accepts, and is told on the page."""
    with httpx.Client(base_url=alone.url, timeout=90, headers={"Accept": "application/json"}) as http:
        told = [http.post("/login", data={"name": "ada", "password": "x"}) for _ in range(6)]
        told += [http.post("/login"), http.get("/enter?token=x"), http.post("/password", data={"token": "x"})]
        told.append(http.post("/login", headers={"Sec-Fetch-Site": "cross-site"}))
        for reply in told:
            said = reply.json()
            assert reply.headers["content-type"] == "application/problem+json"
            assert (said["status"], said["detail"][-1]) == (reply.status_code, ".")
        assert [reply.status_code for reply in told] == [401] * 5 + [429, 422, 410, 410, 403]
        late = told[5]
        assert late.json()["type"] == "urn:hilum:problem:too-many-requests"
        assert re.search("Wait [1-5] min", late.json()["detail"])
        assert 0 < int(late.headers["retry-after"]) <= 301
        link = alone.first_admin or ""
        form = {"token": link.partition("token=")[2], "name": "ada", "password": "short"}
        short = http.post("/enter", data=form)
        assert (short.status_code, "has 5 characters" in short.json()["detail"]) == (422, True)
        for accept in ("*/*", "text/html,application/json", ""):
            page = http.post("/login", data={"name": "ada", "password": "x"}, headers={"Accept": accept})
            assert (page.status_code, page.headers["content-type"].partition(";")[0]) == (429, "text/html"), accept


def test_guesses_at_once_are_no_more_than_one_after_another(alone: Running) -> None:
    assert tried(alone, "ada", 15) == {401: 5, 429: 10}


def test_who_knocks_takes_no_threads_of_others(alone: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    knocked, opened = threading.Semaphore(0), threading.Event()

    def slow(*_: object) -> None:
        knocked.release()
        assert opened.wait(120)

    monkeypatch.setattr(alone.room.access, "log_in", slow)
    with ThreadPoolExecutor(1) as others, httpx.Client(base_url=alone.url, timeout=120) as http:
        statuses = others.submit(tried, alone, "nobody{}", 60)
        try:
            assert knocked.acquire(timeout=120)
            headers = let_in(alone)
            while alone.room.door.waiting < MOST_AT_DOOR:
                assert http.get("/api/v1/studies", headers=headers).status_code == 200
            assert http.get("/api/v1/studies", headers=headers).status_code == 200
            while alone.room.door.turned_away < 60 - MOST_AT_DOOR:
                assert http.get("/api/v1/studies", headers=headers).status_code == 200
        finally:
            opened.set()
        assert statuses.result() == {401: MOST_AT_DOOR, 503: 60 - MOST_AT_DOOR}


def test_a_network_address_needs_an_admin_first(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="would pass in the clear"):
        settings_in(tmp_path, host="0.0.0.0")
    settings = settings_in(
        tmp_path, host="0.0.0.0", allowed_ae_titles="CR1", unprotected_network=True, data_key=new_data_key().text
    )
    with (
        pytest.raises(ServiceError, match="hilum users add NAME --role admin"),
        running(settings, answering=SmallModel(), drawing=SmallDrawing()),
    ):
        pass
