"""The page of alarms: what changed, since when, who answers for it, who took it on and closed it."""

from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from hilum.records.access import Caller
from hilum.records.alarms import Alarm
from hilum.service.reading_room import ReadingRoom
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.alarms import LONGEST_REASON
from hilum.service.web.rendering import render

CLOSED = 50
"""So many of the newest are shown."""

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/monitoring")
def monitoring(request: Request, caller: Annotated[Caller, needs("alarms:read")]) -> HTMLResponse:
    """The page; who may not act on alarms only reads it."""
    book = room_of(request).alarms
    unsettled = book.unsettled()
    return render(
        request, "monitoring.html", caller=caller, unsettled=unsettled, longest_reason=LONGEST_REASON,
        closed=[one for one in book.newest(limit=CLOSED) if one.state == "closed"],
        acts="models:write" in caller.scopes,
    )  # fmt: skip


def unacknowledged(room: ReadingRoom) -> Alarm | None:
    """The newest alarm that nobody has taken on; None for none."""
    return next((one for one in room.alarms.unsettled() if one.state == "open"), None)
