"""``/api/v1/users`` and ``/api/v1/keys``: who may do what. For admins."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from hilum.records.access import ApiKey, Caller, User
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


class NewUser(BaseModel):
    """A user to be made."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="1 to 64 lower-case letters, digits and . _ @ -.")
    roles: list[str] = Field(description="One or more roles.", max_length=8)
    password: SecretStr | None = Field(default=None, description="12 characters or more; null for keys only.")


class KeyOut(BaseModel):
    """A key, without its secret."""

    id: str = Field(description="Public part, by which it is revoked.")
    user: str = Field(description="Whose.")
    label: str = Field(description="What for.")
    scopes: list[str] = Field(description="What it may do.")
    created_at: datetime = Field(description="When it was made (UTC).")
    expires_at: datetime | None = Field(description="Until when it counts; null for no end.")
    revoked_at: datetime | None = Field(description="Since when it counts no more.")


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


@router.get("/users", response_model=list[UserOut], summary="List users")
def users(request: Request, caller: Admin) -> list[UserOut]:
    """All users by name."""
    return [_user(user) for user in room_of(request).access.users()]


@router.post("/users", status_code=201, response_model=UserOut, summary="Make a user")
def add_user(request: Request, new: NewUser, caller: Admin) -> UserOut:
    """Make a user; it stands in the audit as made by the caller."""
    password = new.password.get_secret_value() if new.password is not None else None
    return _user(room_of(request).access.add_user(new.name, new.roles, password=password, actor=caller.name))


@router.post("/users/{name}/disable", status_code=204, summary="Disable a user")
def disable_user(request: Request, name: str, caller: Admin) -> None:
    """The user may do nothing any more; what it did stays in the audit."""
    room_of(request).access.disable(name, actor=caller.name)


@router.get("/keys", response_model=list[KeyOut], summary="List keys")
def keys(request: Request, caller: Admin) -> list[KeyOut]:
    """All keys, oldest first, without their secrets."""
    return [KeyOut(**_key(key)) for key in room_of(request).access.list_keys()]


@router.post("/keys", status_code=201, response_model=KeyMade, summary="Make a key")
def add_key(request: Request, new: NewKey, caller: Admin) -> KeyMade:
    """Make a key for a program. It never does more than its user's roles allow."""
    key, secret = room_of(request).access.add_key(
        new.user, new.scopes, label=new.label, days=new.days, actor=caller.name
    )
    return KeyMade(**_key(key), secret=secret)


@router.delete("/keys/{key_id}", status_code=204, summary="Revoke a key")
def revoke_key(request: Request, key_id: str, caller: Admin) -> None:
    """The key counts no more, from now on."""
    room_of(request).access.revoke_key(key_id, actor=caller.name)


def _user(user: User) -> UserOut:
    return UserOut(
        name=user.name,
        roles=list(user.roles),
        created_at=user.created_at,
        disabled_at=user.disabled_at,
        has_password=user.has_password,
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
