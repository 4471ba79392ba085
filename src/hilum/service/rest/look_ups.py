"""``/api/v1/look-ups``: look again for the earlier films of films whose look-up at the PACS was given up."""

from typing import Annotated

from fastapi import APIRouter, Request

from hilum.records.access import Caller
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.results import Requeue, Requeued
from hilum.service.rest.users import RESPONSES

router = APIRouter(prefix="/api/v1/look-ups", tags=["look-ups"], responses=RESPONSES)


@router.post("/requeue", response_model=Requeued, summary="Look again for earlier films")
def requeue(
    request: Request, caller: Annotated[Caller, needs("models:write")], body: Requeue | None = None
) -> Requeued:
    """Puts the look-up of one film, by its id, or (without a body) all that were given up, back into the queue."""
    room = room_of(request)
    number = room.look_ups.requeue(body.id if body else None, actor=caller.name)
    if room.looking_back is not None:
        room.looking_back.wake()
    return Requeued(requeued=number)
