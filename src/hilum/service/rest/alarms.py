"""``/api/v1/alarms``: alarms of the monitor; taking one on, and closing it."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from hilum.records.access import Caller
from hilum.records.alarms import Alarm, AlarmMovedOn, NoSuchAlarm
from hilum.records.cursors import write_cursor
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.users import PROBLEM, RESPONSES, Cursor, Kept

router = APIRouter(prefix="/api/v1/alarms", tags=["alarms"], responses=RESPONSES)
Manager = Annotated[Caller, needs("models:write")]
MOVED: dict[int | str, dict[str, object]] = {404: PROBLEM, 409: PROBLEM}
LONGEST_REASON = 500


class AlarmOut(BaseModel):
    """An alarm and where its owner is with it."""

    id: str = Field(description="Opaque id.")
    state: Literal["open", "acknowledged", "closed"] = Field(description="open until somebody takes it on.")
    owner: str = Field(description="Who answers for it, by the watch plan.")
    opened_at: datetime = Field(description="When (UTC).")
    streams: list[str] = Field(description="What changed in two looks in a row, then or since.")
    culprit: str = Field(description="The attribute that tells new films from the reference; empty when none does.")
    sentence: str = Field(description="The same for a person.")
    acknowledged_by: str = Field(description="Who took it on; empty until then.")
    acknowledged_at: datetime | None = Field(description="When (UTC).")
    closed_by: str = Field(description="Who closed it, quiet for one that closed by itself; empty until then.")
    closed_at: datetime | None = Field(description="When (UTC).")
    reason: str = Field(description="Why it was closed.")


class AlarmList(BaseModel):
    """Alarms, newest first."""

    alarms: list[AlarmOut]
    next: str | None = Field(description="Cursor of the following page; null at the end.")


class CloseAlarm(BaseModel):
    """Why an alarm is closed."""

    model_config = ConfigDict(extra="forbid")

    reason: Kept = Field(
        min_length=1, max_length=LONGEST_REASON, description="What was found, in one sentence; no patient's name."
    )


@router.get("", response_model=AlarmList, summary="List alarms of the monitor")
def alarms(
    request: Request,
    caller: Annotated[Caller, needs("alarms:read")],
    limit: Annotated[int, Query(ge=1, le=1000, description="Most alarms of a page.")] = 100,
    cursor: Cursor = None,
) -> AlarmList:
    """One page of what `hilum monitor check` opened, newest first, and where their owners are with them."""
    found = room_of(request).alarms.newest(limit=limit + 1, cursor=cursor)
    last = found[limit - 1] if len(found) > limit else None
    return AlarmList(
        alarms=[_out(one) for one in found[:limit]], next=write_cursor(last.opened_at, last.id) if last else None
    )


@router.post("/{alarm_id}/acknowledge", response_model=AlarmOut, summary="Take an alarm on", responses=MOVED)
def acknowledge(request: Request, caller: Manager, alarm_id: str) -> AlarmOut:
    """409 when it is not open any more: somebody has it, or it is closed."""
    try:
        return _out(room_of(request).alarms.acknowledge(alarm_id, by=caller.name))
    except NoSuchAlarm:
        raise _unknown() from None
    except AlarmMovedOn as error:
        raise HTTPException(409, str(error)) from None


@router.post("/{alarm_id}/close", response_model=AlarmOut, summary="Close an alarm", responses=MOVED)
def close(request: Request, caller: Manager, alarm_id: str, body: CloseAlarm) -> AlarmOut:
    """With the reason, which stays in the records and the audit. 409 when it is closed already."""
    try:
        return _out(room_of(request).alarms.close(alarm_id, by=caller.name, reason=body.reason))
    except NoSuchAlarm:
        raise _unknown() from None
    except AlarmMovedOn as error:
        raise HTTPException(409, str(error)) from None


def _unknown() -> HTTPException:
    return HTTPException(404, "No alarm has this id. GET /api/v1/alarms lists them.")


def _out(one: Alarm) -> AlarmOut:
    return AlarmOut(
        id=one.id, state=one.state, owner=one.owner, opened_at=one.opened_at, streams=list(one.streams),
        culprit=one.culprit, sentence=one.sentence, acknowledged_by=one.acknowledged_by,
        acknowledged_at=one.acknowledged_at, closed_by=one.closed_by, closed_at=one.closed_at, reason=one.reason,
    )  # fmt: skip
