"""The pages: the worklist and a film. Rendered here, kept fresh by a small script."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from hilum.records.access import Caller
from hilum.records.priors import prior_of
from hilum.records.values import FilmRecord
from hilum.service.reading_room import ReadingRoom
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.studies import FILM_ID
from hilum.service.web.rendering import render
from hilum.service.web.views import FilmView, film_view

ROWS = 200

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/")
def worklist(request: Request, caller: Annotated[Caller, needs("films:read")], part: str = "page") -> HTMLResponse:
    """The worklist; with ``part=rows`` its rows alone, for the script that keeps it fresh."""
    room = room_of(request)
    films = _views(room, _seen(room, caller, again=part == "rows"))
    template = "rows.html" if part == "rows" else "worklist.html"
    return render(request, template, caller=caller, films=films, waiting=sum(film.waiting for film in films))


@router.get("/films/{film_id}")
def film(request: Request, film_id: str, caller: Annotated[Caller, needs("films:read")]) -> HTMLResponse:
    """One film with its answer."""
    room = room_of(request)
    record = room.store.film(film_id, viewer=caller.name) if FILM_ID.fullmatch(film_id) else None
    if record is None:
        return render(request, "unknown.html", status=404, caller=caller)
    order = [other.film_id for other in _records(room)]
    place = order.index(film_id) if film_id in order else -1
    following = order[place + 1] if place + 1 < len(order) else None
    shown: dict[str, Any] = {
        "film": _views(room, [record])[0],
        "following": following,
        "place": place + 1,
        "total": len(order),
        "prior": prior_of(room.database, film_id),
    }
    return render(request, "film.html", caller=caller, **shown)


async def not_for_them(request: Request, error: Any) -> HTMLResponse:
    """What a person sees whose roles don't reach the page: why, and the way out."""
    return render(request, "not_for_them.html", status=403, caller=error.caller, sentence=error.sentence)


def _records(room: ReadingRoom, viewer: str | None = None) -> tuple[FilmRecord, ...]:
    cap = timedelta(minutes=room.settings.waiting_cap_min)
    return room.store.worklist(limit=ROWS, waiting_cap=cap, viewer=viewer)


def _seen(room: ReadingRoom, caller: Caller, *, again: bool) -> tuple[FilmRecord, ...]:
    """The worklist, written down as seen; when it is asked for again, only if it shows something new."""
    if again:
        records = _records(room)
        if room.last_seen.get(caller.name) == _shown(records):
            return records
    records = _records(room, caller.name)
    room.last_seen[caller.name] = _shown(records)
    return records


def _shown(records: tuple[FilmRecord, ...]) -> int:
    return hash(tuple((record.film_id, record.state, record.answer and record.answer.created_at) for record in records))


def _views(room: ReadingRoom, records: tuple[FilmRecord, ...] | list[FilmRecord]) -> list[FilmView]:
    numbers = room.store.accession_numbers([record.film_id for record in records])
    now = datetime.now(UTC)
    points = room.answering.model.thresholds
    return [
        film_view(record, now=now, accession=numbers.get(record.film_id, ""), thresholds=points) for record in records
    ]
