"""``GET /api/v1/models``: which model answers, which did, and why."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from hilum.records.access import Caller
from hilum.records.registry import Deployment, Registered, Registry
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.users import RESPONSES

router = APIRouter(prefix="/api/v1/models", tags=["models"], responses=RESPONSES)


class ServingOut(BaseModel):
    """The model that this process answers with."""

    sha256: str = Field(description="Digest of its bundle: its version in every answer.")
    name: str = Field(description="Its name.")
    version: str = Field(description="Its version, for people.")
    findings: list[str] = Field(description="What it tells apart.")


class KnownOut(BaseModel):
    """A model that may go into production."""

    sha256: str = Field(description="Digest of its bundle.")
    name: str = Field(description="Its name.")
    version: str = Field(description="Its version, for people.")
    proposal_sha256: str | None = Field(description="Digest of the approved proposal; null for the first model.")


class ChangeOut(BaseModel):
    """What held from one instant to the next change."""

    seq: int = Field(description="Its place: 1, 2, 3 …")
    at: datetime = Field(description="Since when (UTC).")
    act: str = Field(description="begin, shadow, canary, promote, withdraw or rollback.")
    production: str = Field(description="Digest of the model in production.")
    candidate: str | None = Field(description="Digest of the model on trial; null when there is none.")
    stage: str = Field(description="full, shadow or canary.")
    share: float = Field(description="Share of studies that a canary answers, 0 to 1.")
    actor: str = Field(description="Who did it.")
    reason: str = Field(description="Why.")


class ModelsOut(BaseModel):
    """Models and their changes."""

    serving: ServingOut = Field(description="What this process answers with, whatever the registry says.")
    models: list[KnownOut] = Field(description="All that were registered, oldest first; empty without change control.")
    changes: list[ChangeOut] = Field(description="One page, newest first.")
    next: int | None = Field(description="Give it as `before` for older changes; null at the end.")


@router.get("", response_model=ModelsOut, summary="Which model answers, and which did")
def models(
    request: Request,
    caller: Annotated[Caller, needs("films:read")],
    limit: Annotated[int, Query(ge=1, le=200, description="Most changes of a page.")] = 50,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Only changes before this place.")] = None,
) -> ModelsOut:
    """The model in service, those that were registered, and what was in production when. `hilum change` changes it."""
    room = room_of(request)
    registry, model = Registry(room.database), room.answering.model
    changes = [one for one in reversed(registry.history()) if before is None or one.seq < before]
    return ModelsOut(
        serving=ServingOut(sha256=model.sha256, name=model.name, version=model.version, findings=list(model.findings)),
        models=[_model(one) for one in registry.models()],
        changes=[_change(one) for one in changes[:limit]],
        next=changes[limit - 1].seq if len(changes) > limit else None,
    )


def _model(one: Registered) -> KnownOut:
    return KnownOut(sha256=one.sha256, name=one.name, version=one.version, proposal_sha256=one.proposal_sha256 or None)


def _change(one: Deployment) -> ChangeOut:
    return ChangeOut(
        seq=one.seq,
        at=one.at,
        act=one.act,
        production=one.production,
        candidate=one.candidate,
        stage=one.stage,
        share=one.share / 10_000,
        actor=one.actor,
        reason=one.reason,
    )
