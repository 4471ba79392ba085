"""Every error as a problem document (RFC 9457).

Of what the caller sent it quotes names of fields, users, studies and findings, never a value of a film or a patient.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException

from hilum.errors import DataError, FilmError, HilumError, ServiceError, UsageError
from hilum.records.creations import MadeBefore
from hilum.records.reviews import Conflict
from hilum.service.refusals import Refused
from hilum.service.rest.access import LoginFirst

REFUSALS = {
    "too-large": (413, "The film is too large"),
    "unsupported": (415, "The body is of a kind that is not accepted"),
    "empty": (422, "The film is empty"),
    "cut-off": (400, "The body is cut off"),
    "too-slow": (408, "The upload took too long"),
    "no-space": (503, "No film can be kept now"),
    "storage-failed": (503, "The storage has failed"),
    "records-away": (503, "The records can't be written now"),
    "stopping": (503, "The service is stopping"),
    "busy": (429, "Too many films wait already"),
    "too-many": (429, "Too many connections"),
}
RETRY_AFTER_S = "10"


def problem(
    status: int,
    code: str,
    title: str,
    detail: str,
    headers: dict[str, str] | None = None,
    *,
    more: Mapping[str, Any] | None = None,
) -> JSONResponse:
    """A problem document; ``more`` are members of its own kind."""
    body = {"type": f"urn:hilum:problem:{code}", "title": title, "status": status, "detail": detail}
    return JSONResponse(
        body | dict(more or {}), status_code=status, media_type="application/problem+json", headers=headers
    )


def unknown_study() -> HTTPException:
    """No film has this id."""
    return HTTPException(404, "No film has this id. Ids are given when a film is sent; GET /api/v1/studies lists them.")


def install(app: FastAPI) -> None:
    """Answer every error of the app with a problem document."""
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(UsageError, _usage)
    app.add_exception_handler(DataError, _data)
    app.add_exception_handler(FilmError, _film)
    app.add_exception_handler(Conflict, _conflict)
    app.add_exception_handler(MadeBefore, _made_before)
    app.add_exception_handler(ServiceError, _service)
    app.add_exception_handler(HilumError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(LoginFirst, _login_first)


def _refused(_: Request, error: Any) -> JSONResponse:
    status, title = REFUSALS[error.code]
    headers = {"Retry-After": RETRY_AFTER_S} if status in (429, 503) else {}
    if status in (408, 413):
        headers["Connection"] = "close"  # the rest of the body is not read
    return problem(status, error.code, title, str(error), headers)


def _usage(_: Request, error: Exception) -> JSONResponse:
    return problem(422, "wrong-argument", "An argument is wrong", str(error))


def _data(_: Request, error: Exception) -> JSONResponse:
    return problem(422, "unusable-data", "The data can't be used", str(error))


def _film(_: Request, error: Any) -> JSONResponse:
    return problem(422, error.code, "The film can't be drawn", str(error))


def _service(_: Request, error: Exception) -> JSONResponse:
    return problem(503, "unavailable", "The service can't answer now", str(error), {"Retry-After": RETRY_AFTER_S})


def _ours(_: Request, error: Exception) -> JSONResponse:
    return problem(422, "refused", "It can't be done as things are", str(error))


def _conflict(_: Request, error: Exception) -> JSONResponse:
    return problem(412, "changed-meanwhile", "It was changed meanwhile", str(error))


def _made_before(_: Request, error: Exception) -> JSONResponse:
    return problem(409, "made-before", "It was made before", str(error))


def _invalid(request: Request, error: Any) -> JSONResponse:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if any(item["loc"][:1] == ("body",) for item in error.errors()) and kind and kind != "application/json":
        said = "The body must be JSON. Send it with Content-Type: application/json."
        return problem(415, "unsupported", "The body is of a kind that is not accepted", said)
    wrong = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
    return problem(422, "wrong-argument", "An argument is wrong", "; ".join(wrong) + ".")


def _login_first(_: Request, error: Any) -> RedirectResponse:
    return RedirectResponse(error.address, status_code=303)


def _http(_: Request, error: Any) -> JSONResponse:
    phrase = HTTPStatus(error.status_code).phrase
    detail = error.detail if error.detail != phrase else f"{phrase}. See /openapi.json for what there is."
    return problem(error.status_code, phrase.lower().replace(" ", "-"), phrase, detail, dict(error.headers or {}))
