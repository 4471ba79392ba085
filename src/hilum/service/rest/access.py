"""What a route needs of its caller; every route says it, and an app with one that doesn't is not made."""

import secrets
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs, urlencode

from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from hilum.errors import ServiceError
from hilum.records.access import Caller, csrf_token
from hilum.records.roles import SCOPES
from hilum.service.reading_room import ReadingRoom

COOKIE = "hilum_session"
CSRF_HEADER, CSRF_FIELD = "x-csrf-token", "csrf"
SAFE = ("GET", "HEAD", "OPTIONS")
LARGEST_FORM = 64 * 1024
UNDECLARED = frozenset(("/openapi.json", "/static"))
"""What is no route of ours: the description of the interface, and the pages' scripts and styles. They hold no data."""


class LoginFirst(Exception):
    """A browser has no session: it is led to the login.

    Attributes:
        address: where it goes.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__("A session is needed.")


class NotForThem(Exception):
    """A person at a browser asked for a page that is not for them.

    Attributes:
        caller: who asked.
        sentence: which scope the page needs.
    """

    def __init__(self, caller: Caller, sentence: str) -> None:
        self.caller, self.sentence = caller, sentence
        super().__init__(sentence)


class Needs:
    """A dependency: the caller, who has the scope.

    Args:
        scope: one of :data:`hilum.records.roles.SCOPES`; None for any caller who is known.
    """

    def __init__(self, scope: str | None) -> None:
        if scope is not None and scope not in SCOPES:
            raise ServiceError(f"{scope!r} is no scope. Known: {', '.join(SCOPES)}.")
        self.scope = scope

    async def __call__(self, request: Request) -> Caller:
        """Who calls; raises HTTPException 401 or 403; for a browser :class:`LoginFirst` or :class:`NotForThem`."""
        caller = await caller_of(request)
        if caller is None:
            raise _unknown(request)
        if caller.session is not None and request.method not in SAFE:
            await _check_csrf(request, caller.session)
        if self.scope is not None and self.scope not in caller.scopes:
            sentence = f"This needs the scope {self.scope} ({SCOPES[self.scope]}), which {caller.name} doesn't have."
            if caller.session is not None and _is_page(request):
                raise NotForThem(caller, sentence)
            raise HTTPException(403, sentence)
        return caller


class Open:
    """A dependency of a route that anybody may call; it says so."""

    def __call__(self) -> None:
        """Let everybody in."""


def needs(scope: str | None) -> Any:
    """``caller: Annotated[Caller, needs("films:read")]``: the route's caller, who has the scope."""
    return Depends(Needs(scope))


open_to_all: Any = Depends(Open())
"""``dependencies=[open_to_all]``: anybody may call the route."""


def declared(app: FastAPI) -> dict[tuple[str, str], str | None]:
    """What each route needs, by method and path: a scope, ``any`` for any known caller, None for open to all.

    Raises:
        ServiceError: a route doesn't say.
    """
    found: dict[tuple[str, str], str | None] = {}
    for route in _routes(app.routes):
        path = str(getattr(route, "path", "?"))
        if path in UNDECLARED:
            continue
        gates = [d.call for d in route.dependant.dependencies] if isinstance(route, APIRoute) else []
        needed = [gate for gate in gates if isinstance(gate, Needs | Open)]
        if len(needed) != 1:
            raise ServiceError(f"The route {path} doesn't say whom it is for. Declare needs(scope) or open_to_all.")
        gate = needed[0]
        for method in getattr(route, "methods", None) or ():
            found[method, path] = (gate.scope or "any") if isinstance(gate, Needs) else None
    return found


def _routes(routes: Iterable[Any]) -> Iterable[Any]:
    for route in routes:
        included = getattr(route, "original_router", None)  # newer FastAPI keeps an included router as one entry
        if included is not None:
            yield from _routes(included.routes)
        else:
            yield route


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a posted form (``application/x-www-form-urlencoded``), each once; empty for any other body."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    length = request.headers.get("content-length", "")
    if kind != "application/x-www-form-urlencoded" or not length.isdigit() or int(length) > LARGEST_FORM:
        return {}
    text = (await request.body()).decode("utf-8", "replace")
    try:
        return {name: values[0] for name, values in parse_qs(text, keep_blank_values=True, max_num_fields=20).items()}
    except ValueError:
        return {}


def room_of(request: Request) -> ReadingRoom:
    """The reading room behind the app."""
    return request.app.state.room  # type: ignore[no-any-return]


async def caller_of(request: Request) -> Caller | None:
    """Whose key or session a request bears; None for nobody's."""
    access = room_of(request).access
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme:
        if scheme.lower() != "bearer":
            return None
        key = key.strip()
        return access.memory.find(key) or await run_in_threadpool(access.by_key, key)
    cookie = request.cookies.get(COOKIE)
    return await run_in_threadpool(access.by_session, cookie, active=by_hand(request)) if cookie else None


def _is_page(request: Request) -> bool:
    return request.method == "GET" and by_hand(request)


def by_hand(request: Request) -> bool:
    """Whether a person opens a page or sends a form; what a page's script asks for by itself accepts anything."""
    return "text/html" in request.headers.get("accept", "")


def takes_json(request: Request) -> bool:
    """Whether a program says that it takes JSON; a browser that opens a page or sends a form takes HTML beside it."""
    accepted = request.headers.get("accept", "")
    return "text/html" not in accepted and ("application/json" in accepted or "application/problem+json" in accepted)


def _unknown(request: Request) -> Exception:
    if _is_page(request):
        path = request.url.path
        onward = {"next": path} if path != "/" else {}  # the role's own page otherwise
        ended = {"ended": "1"} if COOKIE in request.cookies else {}
        return LoginFirst(f"/login?{urlencode(onward | ended, safe='/')}".rstrip("?"))
    return HTTPException(
        401,
        "The key that was sent is not known, was revoked, or has run out. hilum users list-keys says which count."
        if "authorization" in request.headers
        else "Nobody is logged in. Send a key as Authorization: Bearer KEY (hilum users add-key makes one), or log in "
        "at /login.",
        headers={"WWW-Authenticate": 'Bearer realm="hilum"'},
    )


async def _check_csrf(request: Request, session: str) -> None:
    given = request.headers.get(CSRF_HEADER) or (await form_of(request)).get(CSRF_FIELD, "")
    if not secrets.compare_digest(given.encode(), csrf_token(session).encode()):
        raise HTTPException(
            403, f"The request came without the page's own token ({CSRF_HEADER}). Load the page again, then try again."
        )
