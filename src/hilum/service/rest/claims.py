"""``/api/v1/studies/{id}/claim``: who holds a film, so that two readers don't read the same one."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from hilum.records.access import Caller
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.studies import known_film
from hilum.service.rest.users import PROBLEM, RESPONSES

router = APIRouter(prefix="/api/v1/studies/{film_id}/claim", tags=["reviews"], responses=RESPONSES)


class ClaimOut(BaseModel):
    """Who holds a film."""

    held_by: str = Field(description="A reader's name.")
    mine: bool = Field(description="True when it is the caller.")


@router.post("", response_model=ClaimOut, summary="Hold a film", responses={404: PROBLEM})
def claim(request: Request, film_id: str, caller: Annotated[Caller, needs("reviews:write")]) -> ClaimOut:
    """Hold a film for some minutes, or hold it longer. Where another reader was first, its name is the answer."""
    room = room_of(request)
    known_film(room, film_id)
    holder = room.worklist.claim(film_id, caller.name)
    return ClaimOut(held_by=holder, mine=holder == caller.name)


@router.delete("", status_code=204, summary="Let a film go", responses={404: PROBLEM})
def release(request: Request, film_id: str, caller: Annotated[Caller, needs("reviews:write")]) -> Response:
    """Let a film go; nothing happens when the caller doesn't hold it."""
    room = room_of(request)
    known_film(room, film_id)
    room.worklist.release(film_id, caller.name)
    return Response(status_code=204)
