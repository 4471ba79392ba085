"""``/api/v1/look-ups``: searches for films' priors in the PACS, and those that were given up."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from hilum.records.access import Caller
from hilum.records.cursors import write_cursor
from hilum.records.look_ups import LOOK_UP_STATES
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.results import MOST_AGAIN, Requeue, Requeued
from hilum.service.rest.users import RESPONSES, Cursor

router = APIRouter(prefix="/api/v1/look-ups", tags=["priors"], responses=RESPONSES)
Manager = Annotated[Caller, needs("models:write")]


class LostOut(BaseModel):
    """A look-up that was given up."""

    film: str = Field(description="The film whose priors were looked for; its id asks anew.")
    attempts: int = Field(description="How often it was tried.")
    given_up_at: datetime = Field(description="When it was given up (UTC).")
    code: str = Field(description="Why, for a program.")
    reason: str = Field(description="Why, in one sentence.")


class PutOffOut(BaseModel):
    """A look-up that was tried and waits to be tried again."""

    film: str = Field(description="The film whose priors are looked for.")
    attempts: int = Field(description="How often it was tried.")
    due_at: datetime = Field(description="When it is tried next (UTC).")
    reason: str = Field(description="Why the last try failed, in one sentence.")


class LookUpsOut(BaseModel):
    """The queue of look-ups."""

    waiting: int = Field(description="To be made, now or after a pause.")
    looking: int = Field(description="Being made.")
    done: int = Field(description="Made, whether or not there was a prior.")
    dead: int = Field(description="Given up.")
    again: list[PutOffOut] = Field(description="Tried, and waiting for the next try, next due first; at most 100.")
    given_up: list[LostOut] = Field(description="The latest first.")
    next: str | None = Field(description="Cursor of further ones that were given up; null at the end.")


@router.get("", response_model=LookUpsOut, summary="Look at look-ups of priors")
def look_ups(
    request: Request,
    caller: Manager,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most given up of a page.")] = 100,
    cursor: Cursor = None,
) -> LookUpsOut:
    """Counts by state, and with reasons those that wait after a try or were given up; none without `HILUM_PACS`."""
    book = room_of(request).look_ups
    lost = book.lost(limit=limit + 1, cursor=cursor)
    last, counts = lost[limit - 1] if len(lost) > limit else None, book.counts()
    return LookUpsOut(
        **{state: counts.get(state, 0) for state in LOOK_UP_STATES},
        again=[
            PutOffOut(film=one.film_id, attempts=one.attempts, due_at=one.due_at, reason=one.reason)
            for one in book.put_off(limit=MOST_AGAIN)
        ],
        given_up=[
            LostOut(
                film=one.film_id, attempts=one.attempts, given_up_at=one.given_up_at, code=one.reason_code,
                reason=one.reason,
            )
            for one in lost[:limit]
        ],
        next=write_cursor(last.given_up_at, last.film_id) if last else None,
    )  # fmt: skip


@router.post("/requeue", response_model=Requeued, summary="Ask the PACS anew")
def requeue(request: Request, caller: Manager, body: Requeue | None = None) -> Requeued:
    """Look again, at once, for one film's priors, by its id, or (without a body) for those of all that failed."""
    room = room_of(request)
    number = room.look_ups.requeue(body.id if body else None, actor=caller.name)
    if room.looking_back is not None:
        room.looking_back.wake()
    return Requeued(requeued=number)
