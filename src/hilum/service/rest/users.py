"""``/api/v1/users`` and ``/api/v1/keys``: who may do what. For admins."""

import hashlib
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from hilum.config import canonical_json
from hilum.records import creations
from hilum.records.access import TEMPORARY_HOURS, ApiKey, Caller, User
from hilum.records.cursors import write_cursor
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.schemas import Problem

PROBLEM: dict[str, Any] = {"model": Problem, "content": {"application/problem+json": {}}}
Kept = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
"""Text that every database can keep: PostgreSQL knows no zero character."""

RESPONSES: dict[int | str, dict[str, Any]] = dict.fromkeys((401, 403, 422), PROBLEM)

router = APIRouter(prefix="/api/v1", tags=["users"], responses=RESPONSES)
Admin = Annotated[Caller, needs("users:write")]


class UserOut(BaseModel):
    """A user."""

    name: str = Field(description="Its name, as it stands in the audit.")
    roles: list[str] = Field(description="viewer, reviewer, model-manager, admin, auditor.")
    created_at: datetime = Field(description="When it was made (UTC).")
    disabled_at: datetime | None = Field(description="Since when it may do nothing; null while it may.")
    has_password: bool = Field(description="False for one that comes by keys only.")
    temporary_until: datetime | None = Field(description="Until when an admin's password is good; null for their own.")


class UserList(BaseModel):
    """Users by name."""

    users: list[UserOut]
    next: str | None = Field(description="Cursor of the following page; null at the end.")


class NewUser(BaseModel):
    """A user to be made."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="1 to 64 lower-case letters, digits and . _ @ -.")
    roles: list[str] = Field(description="One or more roles.", max_length=8)
    password: SecretStr | None = Field(default=None, description="12 characters or more; null for keys only.")


class TemporaryPassword(BaseModel):
    """A password that an admin set."""

    user: str = Field(description="Whose.")
    temporary_password: str = Field(description="Good for one login. Shown this once; only its hash is kept.")
    hours: int = Field(description="How long it can be used.")


class KeyOut(BaseModel):
    """A key, without its secret."""

    id: str = Field(description="Public part, by which it is revoked.")
    user: str = Field(description="Whose.")
    label: str = Field(description="What for.")
    scopes: list[str] = Field(description="What it may do.")
    created_at: datetime = Field(description="When it was made (UTC).")
    expires_at: datetime | None = Field(description="Until when it counts; null for no end.")
    revoked_at: datetime | None = Field(description="Since when it counts no more.")


class KeyList(BaseModel):
    """Keys, oldest first, without their secrets."""

    keys: list[KeyOut]
    next: str | None = Field(description="Cursor of the following page; null at the end.")


class NewKey(BaseModel):
    """A key to be made."""

    model_config = ConfigDict(extra="forbid")

    user: str = Field(description="Whose.")
    scopes: list[str] = Field(default=[], description="What it may do; empty for all that its user may.", max_length=20)
    label: Kept = Field(default="", description="What for.", max_length=64)
    days: int | None = Field(default=None, description="Until when it counts; null for no end.", ge=1, le=3650)


class KeyMade(KeyOut):
    """A key as it was made."""

    secret: str = Field(description="What the program sends. Shown this once; only its digest is kept.")


Limit = Annotated[int, Query(ge=1, le=200, description="Most of a page.")]
Cursor = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$", description="`next` of the page before.")]
Once = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="A key of its own for each request: sent again within 7 days, nothing is made twice.",
    ),
]


@router.get("/users", response_model=UserList, summary="List users")
def users(request: Request, caller: Admin, limit: Limit = 50, cursor: Cursor = None) -> UserList:
    """One page of users by name."""
    found = room_of(request).access.users(after=cursor or "", limit=limit + 1)
    shown = [_user(user) for user in found[:limit]]
    return UserList(users=shown, next=shown[-1].name if len(found) > limit else None)


@router.post("/users", status_code=201, response_model=UserOut, summary="Make a user")
def add_user(request: Request, new: NewUser, caller: Admin, idempotency_key: Once = None) -> UserOut:
    """Make a user; it stands in the audit as made by the caller."""
    password = new.password.get_secret_value() if new.password is not None else None
    asked = once(
        caller, "user", idempotency_key, new.model_dump(exclude={"password"}) | {"password": password is not None}
    )
    access = room_of(request).access
    return _user(access.add_user(new.name, new.roles, password=password, actor=caller.name, request=asked))


@router.post("/users/{name}/disable", status_code=204, summary="Disable a user")
def disable_user(request: Request, name: str, caller: Admin) -> None:
    """The user may do nothing any more; what it did stays in the audit."""
    room_of(request).access.disable(name, actor=caller.name)


@router.post("/users/{name}/password", response_model=TemporaryPassword, summary="Set another user's password")
def reset_password(request: Request, name: str, caller: Admin) -> TemporaryPassword:
    """Give another user a temporary password: at the next login they must choose their own. Their sessions end.

    Asked again, it gives another one and the one before is good for nothing.
    """
    password = room_of(request).access.set_temporary_password(name, actor=caller.name)
    return TemporaryPassword(user=name, temporary_password=password, hours=TEMPORARY_HOURS)


@router.get("/keys", response_model=KeyList, summary="List keys")
def keys(request: Request, caller: Admin, limit: Limit = 50, cursor: Cursor = None) -> KeyList:
    """One page of keys, oldest first, without their secrets."""
    found = room_of(request).access.list_keys(cursor=cursor, limit=limit + 1)
    last = found[limit - 1] if len(found) > limit else None
    following = write_cursor(last.created_at, last.id) if last else None
    return KeyList(keys=[KeyOut(**_key(key)) for key in found[:limit]], next=following)


@router.post("/keys", status_code=201, response_model=KeyMade, summary="Make a key", responses={409: PROBLEM})
def add_key(request: Request, new: NewKey, caller: Admin, idempotency_key: Once = None) -> KeyMade:
    """Make a key for a program. It never does more than its user's roles allow. The same request again makes no second
    key, and can't tell the first one's secret (409)."""
    asked = once(caller, "key", idempotency_key, new.model_dump())
    key, secret = room_of(request).access.add_key(
        new.user, new.scopes, label=new.label, days=new.days, actor=caller.name, request=asked
    )
    return KeyMade(**_key(key), secret=secret)


@router.delete("/keys/{key_id}", status_code=204, summary="Revoke a key")
def revoke_key(request: Request, key_id: str, caller: Admin) -> None:
    """The key counts no more, from now on."""
    room_of(request).access.revoke_key(key_id, actor=caller.name)


def once(caller: Caller, kind: str, key: str | None, asked: dict[str, Any]) -> creations.Request | None:
    """A caller's request to make something of a kind, as its key names it; None without a key."""
    if key is None:
        return None
    own = hashlib.sha256(f"{caller.name}\0{kind}\0{key}".encode()).hexdigest()
    said = canonical_json(asked).encode("utf-8", "surrogatepass")  # what is asked for is judged later
    return creations.Request(key_sha256=own, request_sha256=hashlib.sha256(said).hexdigest())


def _user(user: User) -> UserOut:
    return UserOut(
        name=user.name,
        roles=list(user.roles),
        created_at=user.created_at,
        disabled_at=user.disabled_at,
        has_password=user.has_password,
        temporary_until=user.temporary_until,
    )


def _key(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "user": key.user,
        "label": key.label,
        "scopes": list(key.scopes),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }
