"""Streams of what happens to films, for pages and programs that would otherwise ask again and again."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi.concurrency import run_in_threadpool

from hilum.errors import ServiceError
from hilum.records.events import Events, FilmEvent
from hilum.service.logs import logger
from hilum.service.refusals import Refused

POLL_S, HEARTBEAT_S = 0.5, 15.0
RECONNECT_MS = 2000


class Streams:
    """How many follow at once.

    Args:
        most: further ones are refused.
    """

    def __init__(self, most: int) -> None:
        self._most, self._lock, self._open = most, threading.Lock(), 0

    def enter(self) -> None:
        """Take a place.

        Raises:
            Refused: ``too-many``.
        """
        with self._lock:
            if self._open >= self._most:
                raise Refused(
                    f"{self._most} follow the events already. Close one of them, or raise HILUM_EVENT_STREAMS.",
                    code="too-many",
                )
            self._open += 1

    def leave(self) -> None:
        """Give the place back."""
        with self._lock:
            self._open -= 1


async def follow(
    events: Events,
    place: int,
    *,
    ended: Callable[[], bool],
    allowed: Callable[[], Awaitable[bool]],
    poll_s: float = POLL_S,
    heartbeat_s: float = HEARTBEAT_S,
) -> AsyncIterator[str]:
    """The text of an event stream (WHATWG HTML, 9.2 "Server-sent events").

    An event's id is its place. A heartbeat is an id without data: it keeps the line open through proxies, tells the
    follower how far it is, and nothing is dispatched.

    Args:
        events: where they are read.
        place: go on behind it.
        ended: the service stops.
        allowed: whether the follower still may, asked at each heartbeat: a revoked key ends its streams.
        poll_s: wait between two looks at the records.
        heartbeat_s: seconds between heartbeats.
    """
    yield f"retry: {RECONNECT_MS}\nid: {place}\n\n"
    quiet = 0.0
    while not ended():
        try:
            stretch = await run_in_threadpool(events.behind, place)
        except ServiceError as error:
            logger().warning("event stream ended", reason=str(error))
            return  # the follower connects again and goes on where it was
        place = stretch.place
        for event in stretch.events:
            yield written(event)
        if stretch.more:
            continue
        quiet += poll_s
        if quiet >= heartbeat_s:
            if not await allowed():
                return
            quiet = 0.0
            yield f"id: {place}\n\n"
        await asyncio.sleep(poll_s)


def written(event: FilmEvent) -> str:
    """One event as it stands in the stream."""
    data = json.dumps({"film": event.film_id, "kind": event.kind, "at": event.at}, separators=(",", ":"))
    return f"id: {event.place}\nevent: film\ndata: {data}\n\n"
