"""The page of whoever keeps the service running: parts, storage, results on their way, those given up, and peers."""

import shutil
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from hilum.records.access import Caller
from hilum.records.cursors import write_cursor
from hilum.records.holdings import holdings, sent_again
from hilum.records.results_out import DELIVERY_STATES, left_behind_words
from hilum.records.values import STATES
from hilum.service.reading_room import ReadingRoom
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.users import Cursor
from hilum.service.web.monitoring import unacknowledged
from hilum.service.web.peers import FILMS_DAYS, REFUSED_HOURS, peers_of
from hilum.service.web.phrases import STATE_WORDS, size_words
from hilum.service.web.rendering import render

LINES = 50

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/operations")
def operations(
    request: Request,
    caller: Annotated[Caller, needs("models:write")],
    cursor: Cursor = None,
    done: Annotated[int | None, Query(ge=0, le=10**9)] = None,
) -> HTMLResponse:
    """The page; dead letters are paged by ``cursor``, and ``done`` says how many were put back just now."""
    room = room_of(request)
    dead = room.outbox.dead(limit=LINES + 1, cursor=cursor)
    last = dead[LINES - 1] if len(dead) > LINES else None
    shown: dict[str, Any] = {
        "health": room.health(),
        "destinations": _destinations(room),
        "left_behind": [left_behind_words(*one) for one in sorted(room.outbox.left_behind().items())],
        "again": sent_again(room.database, limit=LINES),
        "dead": dead[:LINES],
        "next": write_cursor(last.given_up_at, last.id) if last else None,
        "put_off": room.look_ups.put_off(limit=LINES),
        "lost": room.look_ups.lost(limit=LINES),
        "done": done,
        "alarm": unacknowledged(room),
        "peers": peers_of(room, datetime.now(UTC)),
        "films_days": FILMS_DAYS,
        "refused_hours": REFUSED_HOURS,
    }
    return render(request, "operations.html", caller=caller, **shown, **_storage(room))


def _destinations(room: ReadingRoom) -> list[tuple[str, list[int]]]:
    counted = sorted(room.outbox.counts().items())
    return [(name, [counts.get(state, 0) for state in DELIVERY_STATES]) for name, counts in counted]


def _storage(room: ReadingRoom) -> dict[str, Any]:
    disk, kept, counts = shutil.disk_usage(room.intake.files.films), holdings(room.database), room.store.counts()
    return {
        "films": kept.films,
        "kept": size_words(kept.size),
        "oldest": kept.oldest,
        "erased": kept.erased,
        "free": size_words(disk.free),
        "whole": size_words(disk.total),
        "least": size_words(room.intake.least_free_bytes),
        "states": [(state, STATE_WORDS[state], counts[state]) for state in STATES if counts.get(state)],
    }
