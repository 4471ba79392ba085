"""``/api/v1/results``: results on their way to PACS and DICOMweb servers, and those that were given up."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from hilum.records.access import Caller
from hilum.records.cursors import write_cursor
from hilum.records.holdings import sent_again
from hilum.records.results_out import DELIVERY_STATES
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.users import RESPONSES, Cursor

router = APIRouter(prefix="/api/v1/results", tags=["results"], responses=RESPONSES)

MOST_AGAIN = 100


class DestinationOut(BaseModel):
    """How many results a destination has, and how many it still waits for."""

    name: str = Field(description="As the settings name it.")
    waiting: int = Field(description="To be sent, now or after a pause.")
    sending: int = Field(description="Being sent.")
    sent: int = Field(description="It has them.")
    dead: int = Field(description="Given up.")


class DeadLetterOut(BaseModel):
    """A result that was given up."""

    id: str = Field(description="By which it is requeued.")
    destination: str = Field(description="Where it should have gone.")
    film: str = Field(description="The film that was answered.")
    attempts: int = Field(description="How often it was tried.")
    given_up_at: datetime = Field(description="When it was given up (UTC).")
    code: str = Field(description="Why, for a program.", examples=["sop-class"])
    reason: str = Field(description="Why, in one sentence.")


class AgainOut(BaseModel):
    """A result that was tried and waits to be tried again."""

    destination: str = Field(description="Where it goes.")
    film: str = Field(description="The film that was answered.")
    attempts: int = Field(description="How often it was tried.")
    due_at: datetime = Field(description="When it is tried next (UTC).")
    reason: str = Field(description="Why the last try failed, in one sentence.")


class ResultsOut(BaseModel):
    """The queue of results."""

    destinations: list[DestinationOut] = Field(description="By name; also those that the settings name no more.")
    again: list[AgainOut] = Field(description="Tried, and waiting for the next try, next due first; at most 100.")
    dead: list[DeadLetterOut] = Field(description="The latest first.")
    next: str | None = Field(description="Cursor of further dead letters; null at the end.")


class Requeue(BaseModel):
    """Which of those given up are to be tried again."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = Field(default=None, description="One of them; null for all.", max_length=32)


class Requeued(BaseModel):
    """What was put back."""

    requeued: int = Field(description="How many are in the queue again.")


@router.get("", response_model=ResultsOut, summary="Look at results on their way")
def results(
    request: Request,
    caller: Annotated[Caller, needs("models:write")],
    limit: Annotated[int, Query(ge=1, le=1000, description="Most dead letters.")] = 100,
    cursor: Cursor = None,
) -> ResultsOut:
    """Counts by destination, and with their reasons what waits to be tried again, and the dead letters."""
    room = room_of(request)
    outbox, again = room.outbox, sent_again(room.database, limit=MOST_AGAIN)
    dead = outbox.dead(limit=limit + 1, cursor=cursor)
    last = dead[limit - 1] if len(dead) > limit else None
    return ResultsOut(
        destinations=[
            DestinationOut(name=name, **{state: counts.get(state, 0) for state in DELIVERY_STATES})
            for name, counts in sorted(outbox.counts().items())
        ],
        again=[
            AgainOut(
                destination=one.destination,
                film=one.film_id,
                attempts=one.attempts,
                due_at=one.due_at,
                reason=one.reason,
            )
            for one in again
        ],
        dead=[
            DeadLetterOut(
                id=one.id,
                destination=one.destination,
                film=one.film_id,
                attempts=one.attempts,
                given_up_at=one.given_up_at,
                code=one.reason_code,
                reason=one.reason,
            )
            for one in dead[:limit]
        ],
        next=write_cursor(last.given_up_at, last.id) if last else None,
    )


@router.post("/requeue", response_model=Requeued, summary="Try dead letters again")
def requeue(
    request: Request, caller: Annotated[Caller, needs("models:write")], body: Requeue | None = None
) -> Requeued:
    """Puts one dead letter, or (without a body) all of them and what waits for its next attempt, back, due at once."""
    room = room_of(request)
    number = room.outbox.requeue(body.id if body else None, actor=caller.name)
    if room.senders is not None:
        room.senders.wake()
    return Requeued(requeued=number)
