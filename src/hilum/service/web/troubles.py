"""What goes wrong at a page is told as a page: a person who opens a wrong address is not shown JSON."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from hilum.errors import ServiceError, UsageError
from hilum.records.access import Caller
from hilum.records.reviews import Conflict
from hilum.service.rest.access import by_hand, caller_of
from hilum.service.web.login import home_of
from hilum.service.web.rendering import render

TOLD = (HTTPException, RequestValidationError, ServiceError, UsageError, Conflict)
PROGRAMS = ("/api/", "/dicom-web/")
"""Addresses that answer programs, whoever opens them."""

NO_PAGE = "No page has this address. It may be mistyped, or come from another version."

Problem = Callable[[Request, Any], Any]


def install(app: FastAPI) -> None:
    """Tell these errors as a page where a person asked for one; ``problems.install`` comes before."""
    for kind in TOLD:
        app.add_exception_handler(kind, _for_people(app.exception_handlers[kind]))


def _for_people(as_problem: Problem) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def told(request: Request, error: Exception) -> Response:
        reply: Response = as_problem(request, error)
        if not by_hand(request) or request.url.path.startswith(PROGRAMS):
            return reply
        said = json.loads(bytes(reply.body))
        missing = reply.status_code == 404 and isinstance(error, HTTPException) and error.detail == "Not Found"
        caller = await _caller(request)
        page = render(
            request,
            "trouble.html",
            status=reply.status_code,
            caller=caller,
            title="There is no such page" if missing else said["title"],
            sentence=NO_PAGE if missing else said["detail"],
            home=home_of(caller) if caller else "/login",
        )
        if "retry-after" in reply.headers:
            page.headers["Retry-After"] = reply.headers["retry-after"]
        return page

    return told


async def _caller(request: Request) -> Caller | None:
    """Who looks; nobody while the records are away."""
    try:
        return await caller_of(request)
    except (SQLAlchemyError, ServiceError):
        return None
