"""``/api/v1/models``: bundles for the service, and which one is in production."""

import asyncio
import math
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from hilum.errors import BundleError
from hilum.records.access import Caller
from hilum.records.registry import Deployment, PlanInForce, Registered
from hilum.service.refusals import Refused
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.problems import problem
from hilum.service.rest.users import RESPONSES
from hilum.service.switching import Switch

LARGEST_BUNDLE_BYTES = 2**30
BODY = {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}

router = APIRouter(prefix="/api/v1/models", tags=["models"], responses=RESPONSES)


class ModelOut(BaseModel):
    """A model that may go into production."""

    sha256: str = Field(description="Digest of its bundle: its version in every record.")
    name: str = Field(description="Its name.")
    version: str = Field(description="Its version, for people.")


class Activate(BaseModel):
    """What is to be in production, and why."""

    model_config = ConfigDict(extra="forbid")

    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="Digest of a bundle that was sent before.")
    reason: str = Field(min_length=1, max_length=400, description="Why, in one sentence; it stands in the audit.")
    past_plan: bool = Field(
        default=False,
        description="Put it there past the change control plan that is in force; it is recorded and shown as that.",
    )


class Active(BaseModel):
    """What is in production."""

    sha256: str = Field(description="Digest of the bundle.")
    name: str = Field(description="Its name.")
    version: str = Field(description="Its version, for people.")
    since: datetime = Field(description="Since when (UTC).")
    actor: str = Field(description="Who put it there.")
    reason: str = Field(description="Why.")


@router.post(
    "",
    status_code=201,
    response_model=ModelOut,
    summary="Send a bundle",
    openapi_extra={"requestBody": BODY},
)
async def send(request: Request, caller: Annotated[Caller, needs("models:write")]) -> Response | ModelOut:
    """Send a bundle (a `.hilum` file). It is verified and kept; nothing changes until it is put into production.

    The same bundle again is harmless.
    """
    switch = _switch(request)
    with switch.arriving() as copy:
        try:
            async with asyncio.timeout(room_of(request).settings.upload_deadline_s):
                await _write(request, str(copy))
        except TimeoutError:
            raise Refused("The upload was not complete in time. Send it over a faster line.", code="too-slow") from None
        except ClientDisconnect:
            raise Refused("The upload broke off. Send the bundle again.", code="too-slow") from None
        except OSError:
            raise Refused("The bundle can't be kept. Free some disk, then send it again.", code="no-space") from None
        try:
            kept = await run_in_threadpool(switch.register, copy, actor=caller.name)
        except BundleError as error:
            return problem(422, "bundle-refused", "The bundle is refused", str(error))
    return _out(kept)


@router.post("/active", response_model=Active, summary="Put a model into production")
def activate(request: Request, body: Activate, caller: Annotated[Caller, needs("models:write")]) -> Response | Active:
    """Put a bundle that was sent before into production.

    It is verified, loaded and tested beside the present model; films go on being answered meanwhile. When it fails, the
    reply names it, and what was in production stays there. A candidate on trial must be promoted or taken back first.
    Where a change control plan is in force it is refused (409), unless `past_plan` says that it shall go past it.
    """
    switch = _switch(request)
    try:
        return _active(
            switch, switch.activate(body.sha256, actor=caller.name, reason=body.reason, past_plan=body.past_plan)
        )
    except PlanInForce as error:
        return problem(409, "plan-in-force", "A change control plan is in force", str(error))
    except BundleError as error:
        return problem(422, "bundle-refused", "The bundle is refused", str(error))


@router.get("/active", response_model=Active, summary="What is in production")
def active(request: Request, caller: Annotated[Caller, needs("films:read")]) -> Active:
    """The model that answers films now."""
    switch = _switch(request)
    return _active(switch, switch.holds)


class Check(BaseModel):
    """How to check."""

    model_config = ConfigDict(extra="forbid")

    accept: str = Field(
        default="",
        max_length=400,
        pattern=r"^[^\x00]*$",
        description="Why the present answers count from now on; it stands in the audit. Empty to compare.",
    )


class Checked(BaseModel):
    """How the running model answered its fixed phantom films."""

    passed: bool = Field(description="Whether it answered as it did at first, near by the bit.")
    sentence: str = Field(description="The same for a person.")
    model_sha256: str = Field(description="The model that answered.")
    films: int = Field(description="Films that were compared.")
    recorded: int = Field(description="Films that were answered for the first time.")
    differences: dict[str, float | None] = Field(description="Largest difference by part; null where it is infinite.")


@router.post("/active/check", response_model=Checked, summary="Check the running model")
def check(request: Request, caller: Annotated[Caller, needs("models:write")], body: Check | None = None) -> Checked:
    """Have the running model answer fixed synthetic films, the way of every film, and compare with what this model
    version said of them at first. What fails was changed beneath the model: a runtime, a decoder, a driver."""
    done = room_of(request).anchors.check(actor=caller.name, accept=body.accept if body else "")
    differences = {name: value if math.isfinite(value) else None for name, value in done.differences.items()}
    return Checked(
        passed=done.passed,
        sentence=done.sentence,
        model_sha256=done.model_sha256,
        films=done.films,
        recorded=done.recorded,
        differences=differences,
    )


async def _write(request: Request, path: str) -> None:
    size = 0
    with open(path, "xb") as copy:
        async for chunk in request.stream():
            size += len(chunk)
            if size > LARGEST_BUNDLE_BYTES:
                raise Refused("The bundle is larger than the 1 GiB accepted.", code="too-large")
            copy.write(chunk)


def _switch(request: Request) -> Switch:
    switch = room_of(request).switch
    if switch is None:
        raise HTTPException(409, "This service was started with a fixed model, which can't be exchanged.")
    return switch


def _out(model: Registered) -> ModelOut:
    return ModelOut(sha256=model.sha256, name=model.name, version=model.version)


def _active(switch: Switch, holds: Deployment) -> Active:
    (model,) = [one for one in switch.models() if one.sha256 == holds.production]
    return Active(**_out(model).model_dump(), since=holds.at, actor=holds.actor, reason=holds.reason)
