"""The pages: the worklist and a film. Rendered here, kept fresh by a small script."""

from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hilum.records.values import FilmRecord
from hilum.service.reading_room import ReadingRoom
from hilum.service.rest.schemas import NOTICE
from hilum.service.rest.studies import FILM_ID, room_of
from hilum.service.web.views import BAR_WIDTH, FilmView, film_view

ROWS = 200
TEMPLATES = Path(__file__).parent / "templates"

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@cache
def _environment() -> Environment:
    # Everything is escaped, whatever the file is called; an unknown name is an error, not an empty place.
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _page(request: Request, template: str, status: int = 200, **values: object) -> HTMLResponse:
    model = room_of(request).answering.model
    text = _environment().get_template(template).render(notice=NOTICE, model=model, bar_width=BAR_WIDTH, **values)
    return HTMLResponse(text, status_code=status)


@router.get("/")
def worklist(request: Request, part: str = "page") -> HTMLResponse:
    """The worklist; with ``part=rows`` its rows alone, for the script that keeps it fresh."""
    films = _worklist(room_of(request))
    template = "rows.html" if part == "rows" else "worklist.html"
    return _page(request, template, films=films, waiting=sum(film.waiting for film in films))


@router.get("/films/{film_id}")
def film(request: Request, film_id: str) -> HTMLResponse:
    """One film with its answer."""
    room = room_of(request)
    record = room.store.film(film_id) if FILM_ID.fullmatch(film_id) else None
    if record is None:
        return _page(request, "unknown.html", status=404)
    order = [other.film_id for other in _records(room)]
    place = order.index(film_id) if film_id in order else -1
    following = order[place + 1] if place + 1 < len(order) else None
    view = _views(room, [record])[0]
    return _page(request, "film.html", film=view, following=following, place=place + 1, total=len(order))


def _records(room: ReadingRoom) -> tuple[FilmRecord, ...]:
    return room.store.worklist(limit=ROWS, waiting_cap=timedelta(minutes=room.settings.waiting_cap_min))


def _worklist(room: ReadingRoom) -> list[FilmView]:
    return _views(room, _records(room))


def _views(room: ReadingRoom, records: tuple[FilmRecord, ...] | list[FilmRecord]) -> list[FilmView]:
    numbers = room.store.accession_numbers([record.film_id for record in records])
    now = datetime.now(UTC)
    return [film_view(record, now=now, accession=numbers.get(record.film_id, "")) for record in records]
