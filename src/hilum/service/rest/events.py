"""``/api/v1/events``: what happens to films, as it happens."""

from collections.abc import AsyncIterator, Callable
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from hilum.records.access import Caller
from hilum.service.following import follow
from hilum.service.rest.access import caller_of, needs, room_of
from hilum.service.rest.users import PROBLEM, RESPONSES

router = APIRouter(prefix="/api/v1/events", tags=["events"], responses=RESPONSES)
SCOPE = "films:read"
FARTHEST = 2**53


class EventStream(StreamingResponse):
    """Server-sent events; whoever ends them, the place is given back."""

    media_type = "text/event-stream"

    def __init__(self, text: AsyncIterator[str], leave: Callable[[], None]) -> None:
        super().__init__(text, headers={"X-Accel-Buffering": "no"})
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the follower goes away or the text ends."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()


@router.get(
    "",
    response_class=EventStream,
    status_code=200,
    summary="Follow what happens to films",
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}, 429: PROBLEM, 503: PROBLEM},
)
async def events(
    request: Request,
    caller: Annotated[Caller, needs(SCOPE)],
    last_event_id: Annotated[
        int | None, Header(ge=0, le=FARTHEST, description="Go on behind this event; browsers send it by themselves.")
    ] = None,
    after: Annotated[
        int | None, Query(ge=0, le=FARTHEST, description="The same for a first connection; 0 for everything.")
    ] = None,
) -> EventStream:
    """An endless stream of server-sent events named `film`, from now on unless a place is given.

    Their data is `{"film": ID, "kind": KIND, "at": TIME}`; kinds are `received`, `requeued`, `answered`, `failed`,
    `quarantined` and `reviewed`. Ask for the film to learn more. Their ids survive restarts and are the same in every
    process on the same records, so nothing is missed. A heartbeat comes every 15 s. It ends when the service stops or
    the key is revoked; then connect again with `Last-Event-ID`.
    """
    room = room_of(request)
    place = last_event_id if last_event_id is not None else after
    if place is None:
        place = await run_in_threadpool(room.events.now)
    room.streams.enter()

    async def allowed() -> bool:
        still = await caller_of(request)
        return still is not None and SCOPE in still.scopes

    text = follow(room.events, place, ended=lambda: room.stopping, allowed=allowed)
    return EventStream(text, room.streams.leave)
