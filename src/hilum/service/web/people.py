"""The admin's page: users and keys, made, disabled and revoked over ``/api/v1/users`` and ``/api/v1/keys``."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from hilum.records.access import ApiKey, Caller
from hilum.records.cursors import write_cursor
from hilum.records.roles import ROLES, SCOPES
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.users import Cursor
from hilum.service.web.rendering import render

LINES = 50

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/users")
def users(
    request: Request,
    caller: Annotated[Caller, needs("users:write")],
    after: Annotated[str, Query(max_length=64, pattern=r"^[^\x00]*$")] = "",
    cursor: Cursor = None,
) -> HTMLResponse:
    """The page; users are paged by ``after``, keys by ``cursor``."""
    access = room_of(request).access
    people, keys = access.users(after=after, limit=LINES + 1), access.list_keys(cursor=cursor, limit=LINES + 1)
    last = keys[LINES - 1] if len(keys) > LINES else None
    now = datetime.now(UTC)
    return render(
        request,
        "users.html",
        caller=caller,
        people=people[:LINES],
        next_user=people[LINES - 1].name if len(people) > LINES else None,
        keys=[(key, _counts(key, now)) for key in keys[:LINES]],
        next_key=write_cursor(last.created_at, last.id) if last else None,
        roles=[(name, ", ".join(scope for scope in SCOPES if scope in scopes)) for name, scopes in ROLES.items()],
        scopes=list(SCOPES.items()),
    )


def _counts(key: ApiKey, now: datetime) -> str:
    """Whether a key counts: ``active``, ``revoked`` or ``expired``."""
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "active"
