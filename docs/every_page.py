"""Every page of the reading room with something on it, for pictures (make_screens.py) and for the tests.

:func:`furnish` fills a running service with what a busy week leaves: readings that differ, results that were given up,
a labelling batch, a reader study, users and keys. :data:`VIEWS` are the pages as somebody sees them, each with who
looks and what is pressed. Films and names are made up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
from playwright.sync_api import Browser, BrowserContext, Page, Route

from hilum.records.alarms import Alarm, detail_of
from hilum.records.alarms import keep as keep_alarm
from hilum.records.audit import Act, append
from hilum.records.labelling import newest_labels
from hilum.records.performance import Estimate, Measured, Span, keep
from hilum.records.priors import prior_of
from hilum.records.registry import Registered, Registry
from hilum.records.reviews import Conflict, Noted
from hilum.records.schema import AlarmRow, FilmRow, LookUpRow
from hilum.records.study_values import Arm, Protocol, StudySlot
from hilum.service.app import Running
from hilum.service.doors import FIRST_ADMIN
from hilum.service.rest.access import COOKIE

SIZES = {"1280x720": (1280, 720), "1920x1080": (1920, 1080), "3840x2160": (3840, 2160), "1080x1920": (1080, 1920)}
PEOPLE = {
    "ada": ("reviewer",), "bob": ("reviewer",), "cyd": ("reviewer",), "eve": ("reviewer",), "lara": ("reviewer",),
    "nora": ("reviewer",), "viv": ("viewer",), "mel": ("model-manager",), "adm": ("admin",), "otto": ("auditor",),
    "first": ("reviewer",),
}  # fmt: skip
PASSWORD = "a longer phrase, please"


@dataclass(frozen=True, slots=True, kw_only=True)
class Furnished:
    """What the views need to know of a furnished service."""

    running: Running
    """The service."""
    films: tuple[str, ...]
    """Its answered films, the riskiest first."""
    prior: str
    """One with an earlier film of the same patient; empty when none has."""
    differ: str
    """One that two readers read differently."""
    not_analysed: str
    """One that the gate refused; empty when there is none."""
    temporary: str
    """Temporary password of ``tess``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A page as somebody sees it."""

    name: str
    """Of its picture."""
    user: str
    """Who looks; empty before the login."""
    show: Callable[[Page, Furnished], None]
    """Goes there and presses what is to be pressed."""
    status: int = 200
    """HTTP status of the page."""


def furnish(started: Running, films: Sequence[bytes]) -> Furnished:
    """Fill a service.

    Args:
        started: a service without users and films.
        films: bytes of at least twelve films; two of one patient among them show a prior.
    """
    room = started.room
    for name, roles in PEOPLE.items():
        room.access.add_user(name, roles, password=PASSWORD if name == "lara" else None, actor="console")
    room.access.add_user("tess", ("reviewer",), password=PASSWORD, actor="console")
    room.access.add_user("gone", ("viewer",), password=None, actor="console")
    room.access.disable("gone", actor="adm")
    for user, label in (("mel", "CT room"), ("adm", "nightly export of everything that was answered"), ("viv", "")):
        room.access.add_key(user, label=label, actor="adm")
    room.access.revoke_key(room.access.add_key("viv", label="lost laptop", actor="adm")[0].id, actor="adm")
    room.outbox.register(["pacs", "archive"])
    ids = _send(started, films)
    _give_up(room.outbox.claim, room.outbox.failed)
    _models(started)
    _measured(started)
    _label(started)
    differ = _review(started, ids)
    _study(started, ids[:4])
    _look_up(started, ids[-1])
    _peers(started, ids)
    _alarms(started)
    _earlier(started, ids)
    priors = [one for one in ids if prior_of(room.database, one)]
    refused = [one.film_id for one in room.store.films(limit=200).films if one.state == "not-analysed"]
    return Furnished(
        running=started, films=ids, prior=priors[0] if priors else "", differ=differ,
        not_analysed=refused[0] if refused else "",
        temporary=room.access.set_temporary_password("tess", actor="adm"),
    )  # fmt: skip


def _send(started: Running, films: Sequence[bytes]) -> tuple[str, ...]:
    key = started.room.access.add_key("mel", actor="console")[1]
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/dicom"}
    with httpx.Client(base_url=started.url, timeout=120, headers=headers) as http:
        for film in films:
            http.post("/api/v1/studies?wait=60", content=film).raise_for_status()
    found = [one for one in started.room.store.films(limit=200).films if one.state == "answered"]
    return tuple(one.film_id for one in sorted(found, key=lambda one: -((one.answer and one.answer.risk) or 0)))


def _earlier(started: Running, ids: Sequence[str]) -> None:
    """Films that came almost an hour and two days ago, whose lines say so."""
    with started.room.database.write() as session:
        for film_id, passed in ((ids[0], timedelta(minutes=58)), (ids[-1], timedelta(days=2))):
            session.get_one(FilmRow, film_id).received_at = datetime.now(UTC) - passed


def _give_up(claim: Callable[..., object], failed: Callable[..., bool]) -> None:
    reasons = (
        ("sop-class", "PACS does not take Comprehensive 3D SR Storage.", None),
        ("status", "PACS answered 0xA700: out of resources, although it took the heat map before.", None),
        ("away", "PACS does not answer at 192.0.2.7:104.", 60.0),
    )
    for code, reason, again in reasons:
        delivery = claim("pacs", "console", lease_s=10)
        failed(delivery.id, "console", code=code, reason=reason, retry_after_s=again)  # type: ignore[attr-defined]


def _models(started: Running) -> None:
    registry, model = Registry(started.room.database), started.room.answering.model
    known = {one.sha256 for one in registry.models()}
    for sha256, name, version in ((model.sha256, model.name, model.version), ("c" * 64, model.name, "next")):
        if sha256 not in known:
            made = Registered(sha256=sha256, name=name, version=version, location=f"{version}.hilum")
            registry.register(made, actor="mel")
    if registry.current() is None:
        registry.begin(model.sha256, actor="mel", reason="The first of this site, after its acceptance test.")


def _measured(started: Running) -> None:
    """Made-up figures, so that the page of models has some to show."""
    made = {
        "sensitivity": (0.88, 0.74, 0.95, 0.94),
        "specificity": (0.91, 0.87, 0.94, 0.82),
        "auroc": (0.94, 0.9, 0.97, 0.9),
    }
    estimates = tuple(
        Estimate(name=name, value=value, low=low, high=high, naive=naive)
        for name, (value, low, high, naive) in made.items()
    )
    few = "3 labelled films with the finding and 12 without it; 10 of each are needed."
    spans = (
        Span(
            name="all", films=812, labelled=203, estimates=estimates, why_not="7 films are like none that was labelled."
        ),
        Span(name="2026-11", films=96, labelled=15, estimates=(), why_not=few),
    )
    finding = started.room.answering.model.findings[1]
    with started.room.database.write() as session:
        keep(
            session,
            Measured(measured_at=datetime.now(UTC), measured_by="mel", finding=finding, threshold=0.3, spans=spans),
        )


def _label(started: Running) -> None:
    """A batch that two readers have begun, and on one film of which they differ."""
    queue, findings = started.room.labelling, started.room.answering.model.findings
    started.room.label_batches.draw(6, second=0.5, actor="mel")
    for reader, finding in (("nora", findings[0]), ("eve", findings[1])):
        for _ in range(3):
            film_id = queue.following(reader)
            if film_id is None:
                break
            try:
                queue.put(film_id, reader, finding=finding, comment="faint, left lower zone")
            except Conflict:
                queue.release(film_id, reader, passed=True)


def _review(started: Running, ids: Sequence[str]) -> str:
    """Readings, some of which differ, of films that no batch holds."""
    room, findings = started.room, started.room.answering.model.findings
    said = {one: room.store.film(one) for one in ids if not _drawn(started, one)}
    free = [one for one, film in said.items() if film and film.answer and film.answer.label]
    noted = Noted(reason_code="missed")
    for number, film_id in enumerate(free[:3]):
        room.reviews.put(film_id, "ada", decision="agree", finding=None, comment="", over=0)
        if number != 1:
            room.reviews.put(
                film_id, "bob", decision="override", finding=findings[0], over=0, noted=noted,
                comment="Rotated; the shadow is the breast. " * 3,
            )  # fmt: skip
    return free[0]


def _drawn(started: Running, film_id: str) -> bool:
    with started.room.database.read() as session:
        return bool(newest_labels(session, film_id))


def _study(started: Running, ids: Sequence[str]) -> None:
    arms: tuple[Arm, ...] = ("without", "with")
    sessions = [[StudySlot(film=one, arm=arms[(i + n) % 2]) for i, one in enumerate(ids)] for n in (0, 1)]
    findings = started.room.answering.model.findings
    protocol = Protocol(
        name="chest-1", plan_sha256="0" * 64, question=findings[1], findings=findings, answer="after", priors=False,
        washout_days=28,
    )  # fmt: skip
    started.room.studies.create(protocol, {"cyd": sessions}, actor="mel")


def _look_up(started: Running, film_id: str) -> None:
    at = datetime.now(UTC)
    with started.room.database.write() as session:
        session.add(
            LookUpRow(film_id=film_id, state="dead", attempts=7, created_at=at, due_at=at, finished_at=at,
                      reason_code="away", reason="The PACS does not answer.")
        )  # fmt: skip


def _alarms(started: Running) -> None:
    """An open alarm, and one that somebody closed."""
    at = datetime.now(UTC)
    device = "device changed in two looks in a row. The new films differ most in device: CR-ROOM-3 instead of others."
    made = (
        Alarm(id="5e" * 8, state="open", owner="quality manager", opened_at=at - timedelta(days=2), culprit="device",
              streams=("device", "mean", "features"), sentence=device),
        Alarm(id="a1" * 8, state="closed", owner="quality manager", opened_at=at - timedelta(days=90), culprit="age",
              streams=("age_band",), sentence="age_band changed in two looks in a row.", acknowledged_by="mel",
              acknowledged_at=at - timedelta(days=89), closed_by="mel", closed_at=at - timedelta(days=80),
              reason="A school's screening; its films are answered by the paediatric service from now on."),
    )  # fmt: skip
    with started.room.database.write() as session:
        for one in made:
            row = AlarmRow(
                id=one.id, owner=one.owner, opened_at=one.opened_at, culprit=one.culprit, detail=detail_of(one, 0)
            )
            session.add(row)
            keep_alarm(session, row, one, Act(actor="monitor", act=f"alarm.{one.state}", subject=one.id), at)


class _Listener:
    """Stands for a DICOM listener that is well."""

    port, trouble = 11112, None


def _peers(started: Running, ids: Sequence[str]) -> None:
    """A site's peers, as settings would name them, films that came from one, and some that were turned away."""
    room = started.room
    room.listener = _Listener()  # type: ignore[assignment]
    room.settings = room.settings.model_copy(
        update={
            "dicom_port": 11112,
            "allowed_ae_titles": ("CR-ROOM-1", "CR-ROOM-2", "PACS"),
            "dicom_sender_certificates": ("CR-ROOM-2=cn:cr-room-2.hospital.example",),
            "dicom_tls": "required",
            "pacs": "pacs=dicoms://PACS@192.0.2.7:104",
            "results_to": ("pacs=dicoms://PACS@192.0.2.7:104", "archive=https://archive.example/dicom-web"),
        }
    )
    refused = (
        {"code": "title", "times": 4},
        {"code": "certificate", "times": 2, "calling_ae": "CR-ROOM-2", "certificate": "5e" * 32},
        {"code": "too-slow", "times": 1},
    )
    with room.database.write() as session:
        for film_id in ids[:5]:
            row = session.get_one(FilmRow, film_id)
            row.origin, row.calling_ae = "dicom", "CR-ROOM-1"
        for detail in refused:
            append(session, Act(actor="dicom", act="association.refused", detail=detail), datetime.now(UTC))
    for _ in range(4):
        room.strangers.note("CR_ROOM_3", "192.0.2.33")


def let_in(browser: Browser, started: Running, user: str, size: tuple[int, int]) -> BrowserContext:
    """A browser in which somebody is logged in; nobody where ``user`` is empty."""
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, base_url=started.url)
    if user:
        token = started.room.access.begin_session(user, how="screens")
        context.add_cookies([{"name": COOKIE, "value": token, "url": started.url}])
    return context


def goes(path: str) -> Callable[[Page, Furnished], None]:
    """A page that is opened, and no more; ``{differ}`` and the like stand for films."""

    def show(page: Page, there: Furnished) -> None:
        names = {name: getattr(there, name) for name in ("prior", "differ", "not_analysed")}
        page.goto(path.format(**names, first=there.films[0], last=there.films[-1]))

    return show


def film(which: str, *keys: str) -> Callable[[Page, Furnished], None]:
    """A film's page with its picture, and keys that are pressed there."""

    def show(page: Page, there: Furnished) -> None:
        goes(f"/films/{{{which}}}")(page, there)
        _drawn_film(page)
        for key in keys:
            page.keyboard.press(key)

    return show


def _drawn_film(page: Page) -> None:
    page.wait_for_selector("#film[data-ready]")
    page.wait_for_timeout(700)


def _log_in(page: Page, there: Furnished, name: str, password: str) -> None:
    page.goto("/login")
    page.fill("#name", name)
    page.fill("#password", password)
    with page.expect_navigation():
        page.keyboard.press("Enter")


def _own_password(page: Page, there: Furnished) -> None:
    _log_in(page, there, "tess", there.temporary)
    page.wait_for_selector("#again")


def _first_admin(page: Page, there: Furnished) -> None:
    page.goto(f"/enter?token={there.running.room.links.make(FIRST_ADMIN)}")


def _override(page: Page, there: Furnished) -> None:
    film("last", "g", "d")(page, there)
    page.locator("#instead").select_option(index=1)


def _study_film(page: Page, there: Furnished) -> None:
    page.goto("/reader-study/chest-1")
    _drawn_film(page)


def _study_answer(page: Page, there: Furnished) -> None:
    """On to the first film whose answer may be seen. What is said stays said, so this view comes last of its reader."""
    for _ in range(4):
        _study_film(page, there)
        if page.locator("#answer fieldset").count():  # it is there already, at another size
            return
        page.keyboard.press("1")
        page.keyboard.type("30")
        page.keyboard.press("Enter")
        page.wait_for_timeout(1500)
        if page.locator("#answer fieldset").count():
            return


def _labels(page: Page, there: Furnished) -> None:
    page.goto("/labelling")
    _drawn_film(page)


def _cannot_tell(page: Page, there: Furnished) -> None:
    _labels(page, there)
    page.keyboard.press("t")


def _upload(page: Page, there: Furnished) -> None:
    page.goto("/upload")
    files = [
        {"name": "chest.png", "mimeType": "image/png", "buffer": b"not a picture"},
        {
            "name": "a name that is longer than anybody would give to a film " * 2 + ".dcm",
            "mimeType": "",
            "buffer": b"D",
        },
    ]
    page.set_input_files("#pick-files", files)  # type: ignore[arg-type]
    page.wait_for_timeout(1500)


def _opened(path: str) -> Callable[[Page, Furnished], None]:
    def show(page: Page, there: Furnished) -> None:
        page.goto(path)
        for closed in page.locator("main summary").all():
            closed.click()

    return show


def _verified(page: Page, there: Furnished) -> None:
    page.goto("/audit")
    page.get_by_role("button", name="Verify the whole audit").click()
    page.wait_for_selector(".verdict")


def _ending(page: Page, there: Furnished) -> None:
    """Shortly before a session's end: the page's clock is put on, and the service says what it would say then."""

    def late(route: Route) -> None:
        reply = route.fetch()
        route.fulfill(response=reply, json=reply.json() | {"left_s": 55})

    page.clock.install()
    page.route("**/session", late)
    page.goto("/")
    page.clock.fast_forward(int(1000 * (float(page.locator("body").get_attribute("data-idle") or 0) - 55)))
    page.wait_for_selector("#ending[open]")


def _labelled_all(page: Page, there: Furnished) -> None:
    """Nothing to label for who has opened every film."""
    for film_id in there.films:
        page.request.get(f"/films/{film_id}")
    page.goto("/labelling")


def _acknowledged(page: Page, there: Furnished) -> None:
    """An alarm that somebody has. It stays so, so this view comes after those in which nobody has it."""
    page.goto("/monitoring")
    if page.locator("main .verdict.failed").count():
        page.get_by_role("button", name="Acknowledge").click()
    page.wait_for_selector("main .verdict:not(.failed)")


def _closed(page: Page, there: Furnished) -> None:
    """No alarm is open, for good."""
    page.goto("/monitoring")
    if page.locator("main .verdict").count():
        page.get_by_text("Close it").click()
        page.get_by_label("What was found").fill("CR-ROOM-3 is a new detector; its films are read twice for a month.")
        page.get_by_role("button", name="Close the alarm").click()
    page.wait_for_selector("text=No alarm is open")


VIEWS = (
    View(name="login", user="", show=goes("/login")),
    View(name="login-ended", user="", show=goes("/login?next=/&ended=1")),
    View(name="login-refused", user="", show=lambda p, t: _log_in(p, t, "lara", "wrong"), status=401),
    View(name="own-password", user="", show=_own_password),
    View(name="first-admin", user="", show=_first_admin),
    View(name="worklist", user="ada", show=goes("/")),
    View(name="worklist-nothing-fits", user="ada", show=goes("/?accession=nothing")),
    View(name="worklist-viewer", user="viv", show=goes("/")),
    View(name="film", user="ada", show=film("last")),
    View(name="film-prior", user="ada", show=film("prior", "p")),
    View(name="film-override", user="ada", show=_override),
    View(name="film-differ", user="eve", show=film("differ")),
    View(name="film-settle", user="eve", show=film("differ", "d")),
    View(name="film-not-analysed", user="ada", show=film("not_analysed")),
    View(name="film-viewer", user="viv", show=film("differ")),
    View(name="film-keys", user="ada", show=film("last", "?")),
    View(name="session-ends", user="ada", show=_ending),
    View(name="labelling", user="lara", show=_labels),
    View(name="labelling-cannot-tell", user="lara", show=_cannot_tell),
    View(name="labelling-nothing", user="bob", show=_labelled_all),
    View(name="label-batches", user="mel", show=_opened("/labelling/batches")),
    View(name="reader-study", user="cyd", show=goes("/reader-study")),
    View(name="reader-study-none", user="ada", show=goes("/reader-study")),
    View(name="reader-study-film", user="cyd", show=_study_film),
    View(name="reader-studies", user="mel", show=goes("/reader-studies")),
    View(name="upload", user="mel", show=goes("/upload")),
    View(name="upload-refused", user="mel", show=_upload),
    View(name="models", user="mel", show=_opened("/models")),
    View(name="monitoring", user="mel", show=_opened("/monitoring")),
    View(name="monitoring-auditor", user="otto", show=goes("/monitoring")),
    View(name="operations", user="adm", show=goes("/operations")),
    View(name="operations-peers", user="adm", show=goes("/operations#peers")),
    View(name="users", user="adm", show=goes("/users")),
    View(name="users-make", user="adm", show=_opened("/users")),
    View(name="audit", user="otto", show=goes("/audit")),
    View(name="audit-verified", user="otto", show=_verified),
    View(name="audit-nothing-fits", user="otto", show=goes("/audit?subject=nothing")),
    View(name="not-for-them", user="viv", show=goes("/users"), status=403),
    View(name="no-such-film", user="ada", show=goes("/films/" + "0" * 32), status=404),
    View(name="no-such-page", user="ada", show=goes("/wherever"), status=404),
    View(name="monitoring-acknowledged", user="mel", show=_acknowledged),
    View(name="monitoring-closed", user="mel", show=_closed),
    View(name="reader-study-answer", user="cyd", show=_study_answer),
)

FIRST = (
    View(name="first-worklist", user="first", show=goes("/")),
    View(name="first-film", user="first", show=film("last")),
)
"""Of a service where readers go first (``HILUM_READ_FIRST=1``)."""
