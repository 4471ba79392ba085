"""Logging in and out, how long a session lasts, and the page where the first admin is made."""

import math
import re
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from hilum.errors import ServiceError, UsageError
from hilum.records.access import Caller, OwnPasswordFirst, csrf_token
from hilum.service.doors import FIRST_ADMIN
from hilum.service.rest.access import COOKIE, form_of, needs, open_to_all, room_of, takes_json
from hilum.service.rest.problems import RETRY_AFTER_S
from hilum.service.web.rendering import render

HOMES = (
    ("reviews:write", "/"),
    ("users:write", "/operations"),
    ("models:write", "/models"),
    ("films:read", "/"),
    ("audit:read", "/audit"),
)
"""Where a login leads that was for no page in particular: the first whose scope the user has."""

INSIDE = re.compile(
    r"/(films/[0-9a-f]{32}|reader-study(/[a-z0-9-]{1,64})?|reader-studies|labelling(/batches)?|upload|operations|users|"
    r"audit|models|monitoring)?"
)
"""Where a login may lead: never to another site."""

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/login", dependencies=[open_to_all])
def login_page(request: Request, next: str = "", ended: bool = False) -> HTMLResponse:
    """The form; ``ended`` says that a session was there."""
    return _login(request, next, ended=ended)


@router.post("/login", dependencies=[open_to_all])
async def log_in(request: Request) -> Response:
    """Begin a session by name and password."""
    form, room = await form_of(request), room_of(request)
    name, onward = form.get("name", "").strip().lower(), form.get("next", "")
    if not _same_site(request):
        return _login(request, onward, "The form came from another site. Log in here.", 403)
    if not name or not form.get("password"):
        return _login(request, onward, "Give a name and a password.", 422, name=name)
    wait = room.throttle.attempt(name)
    if wait > 0:
        sorry = f"Too many failures for this name. Wait {math.ceil(wait / 60)} min."
        return _login(request, onward, sorry, 429, name=name, retry_after_s=str(int(wait) + 1))
    try:
        token = await room.door.check(room.access.log_in, name, form["password"])
    except OwnPasswordFirst:
        room.throttle.succeeded(name)
        return _own_password(request, room.own_passwords.make(name), onward)
    except ServiceError as error:
        room.throttle.succeeded(name)
        return _login(request, onward, str(error), 503, name=name, retry_after_s=RETRY_AFTER_S)
    if token is None:
        return _login(request, onward, "Name and password don't fit, or the user is disabled.", 401, name=name)
    room.throttle.succeeded(name)
    return await run_in_threadpool(_enter, request, token, onward)


@router.get("/session", response_class=JSONResponse)
def session(caller: Annotated[Caller, needs(None)]) -> JSONResponse:
    """Whose session this is and how long it lasts; asking doesn't put its end off."""
    return _session(caller)


@router.post("/session", response_class=JSONResponse)
def stay(request: Request, caller: Annotated[Caller, needs(None)]) -> JSONResponse:
    """A person does something at a page: the end is put off."""
    token = request.cookies.get(COOKIE, "")
    return _session((caller.session and room_of(request).access.by_session(token, active=True)) or caller)


@router.post("/password", dependencies=[open_to_all])
async def choose_password(request: Request) -> Response:
    """Choose one's own password in place of a temporary one, which was given just before; then come in."""
    form, room = await form_of(request), room_of(request)
    token, password, onward = form.get("token", ""), form.get("password", ""), form.get("next", "")
    name = room.own_passwords.leads_to(token)
    if name is None or not _same_site(request):
        return _login(request, onward, "Log in with the temporary password again, then choose your own.", 410)
    if password != form.get("again"):
        return _own_password(request, token, onward, "The two passwords differ.", 422)
    try:
        await run_in_threadpool(room.access.choose_password, name, password)
        session = await run_in_threadpool(room.access.begin_session, name, how="new password")
    except UsageError as error:
        return _own_password(request, token, onward, str(error), 422)
    room.own_passwords.use(token)
    return await run_in_threadpool(_enter, request, session, onward)


@router.post("/logout")
async def log_out(request: Request, caller: Annotated[Caller, needs(None)]) -> Response:
    """End the session."""
    if caller.session is not None:
        await run_in_threadpool(room_of(request).access.log_out, caller)
    reply = RedirectResponse("/login", status_code=303)
    reply.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return reply


@router.get("/enter", dependencies=[open_to_all])
def enter(request: Request, token: str = "") -> Response:
    """Use a one-time link: as its user, or on to the page where the first admin is made."""
    room = room_of(request)
    if room.links.leads_to(token) == FIRST_ADMIN:
        return render(request, "first.html", token=token, sorry="", name="")
    user = room.links.use(token)
    if not user:
        return _login(request, "", "This link was used already, or the service was started again since.", 410)
    return _enter(request, room.access.begin_session(user, how="link"), "")


@router.post("/enter", dependencies=[open_to_all])
async def make_first_admin(request: Request) -> Response:
    """Make the first admin, who then makes the others; the link counts once."""
    form, room = await form_of(request), room_of(request)
    token, name = form.get("token", ""), form.get("name", "").strip().lower()
    if room.links.leads_to(token) != FIRST_ADMIN:
        return _login(request, "", "This link was used already, or the service was started again since.", 410)
    roles = ("reviewer", "model-manager", "admin")
    try:
        await run_in_threadpool(room.access.add_first_admin, name, roles, form.get("password", ""))
    except UsageError as error:
        _tell_programs(request, 422, str(error))
        return render(request, "first.html", status=422, token=token, sorry=str(error), name=name)
    room.links.use(token)
    token = await run_in_threadpool(room.access.begin_session, name, how="first")
    return await run_in_threadpool(_enter, request, token, "")


def home_of(caller: Caller) -> str:
    """The page that a person's roles are for."""
    return next((path for scope, path in HOMES if scope in caller.scopes), "/")


def _login(
    request: Request,
    onward: str,
    sorry: str = "",
    status: int = 200,
    *,
    ended: bool = False,
    name: str = "",
    retry_after_s: str = "",
) -> HTMLResponse:
    headers = {"Retry-After": retry_after_s} if retry_after_s else {}
    _tell_programs(request, status, sorry, headers)
    settings = room_of(request).settings
    times: dict[str, Any] = {"idle_min": f"{settings.session_idle_min:g}", "whole_h": f"{settings.session_hours:g}"}
    page = render(
        request, "login.html", status=status, onward=_inside(onward), sorry=sorry, ended=ended, name=name, **times
    )
    page.headers.update(headers)
    return page


def _tell_programs(request: Request, status: int, sorry: str, headers: dict[str, str] | None = None) -> None:
    """Say what is wrong as a problem document to a program that takes JSON; a person gets the form again."""
    if sorry and takes_json(request):
        raise HTTPException(status, sorry, headers=headers)


def _session(caller: Caller) -> JSONResponse:
    csrf = csrf_token(caller.session) if caller.session else ""
    left = {"left_s": caller.left_s, "at_most_s": caller.at_most_s}
    return JSONResponse({"user": caller.name, "csrf": csrf, **left})


def _own_password(request: Request, token: str, onward: str, sorry: str = "", status: int = 200) -> HTMLResponse:
    _tell_programs(request, status, sorry)
    return render(request, "own_password.html", status=status, token=token, onward=_inside(onward), sorry=sorry)


def _enter(request: Request, token: str, onward: str) -> Response:
    room = room_of(request)
    caller = room.access.by_session(token)
    home = home_of(caller) if caller is not None else "/"
    reply = RedirectResponse(_inside(onward) or home, status_code=303)
    reply.set_cookie(
        COOKIE,
        token,
        max_age=math.ceil(room.settings.session_hours * 3600),
        path="/",
        secure=room.settings.tls,
        httponly=True,
        samesite="strict",
    )
    return reply


def _inside(onward: str) -> str:
    """Where to go on; empty for the role's own page."""
    return onward if INSIDE.fullmatch(onward) else ""


def _same_site(request: Request) -> bool:
    """Whether a browser says that the form was one of ours; a program says nothing."""
    return request.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
