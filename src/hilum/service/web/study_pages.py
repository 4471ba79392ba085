"""A reader's own studies, and the film that is to be read now: no name, no number, and an answer only in its turn."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from hilum.records.access import Caller
from hilum.records.priors import prior_beside
from hilum.records.study_values import Place, washout_sentence
from hilum.records.values import FilmRecord
from hilum.service.reading_first import hidden, veiled
from hilum.service.reading_room import ReadingRoom
from hilum.service.rest.access import needs, room_of
from hilum.service.web.rendering import render
from hilum.service.web.views import film_view, prior_words

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
Reader = Annotated[Caller, needs("reviews:write")]
MINE = "/reader-study"


@router.get(MINE)
def studies(request: Request, caller: Reader, blinded: bool = False) -> HTMLResponse:
    """The reader's open studies, and how far they are."""
    places = room_of(request).studies.of(caller.name)
    return render(request, "study.html", caller=caller, places=places, blinded=blinded, waits=washout_sentence)


@router.get("/reader-studies")
def progress(request: Request, caller: Annotated[Caller, needs("models:write")]) -> HTMLResponse:
    """How far the readers of each study are, for whoever runs it; nothing of what they said."""
    return render(request, "studies.html", caller=caller, studies=room_of(request).studies.all())


@router.get("/reader-study/{name}")
def present_film(request: Request, name: str, caller: Reader, part: Literal["page", "answer"] = "page") -> Response:
    """The film that is to be read now: no address leads back to one before. ``part=answer`` gives the answer alone."""
    room = room_of(request)
    place = room.studies.at(name, caller.name)
    if place is None or not place.film_id:
        return RedirectResponse(MINE, status_code=303)
    record = room.store.film(place.film_id)
    if record is None:  # erased just now, and the slot with it
        return RedirectResponse(MINE, status_code=303)
    shown = _shown(room, caller, place, record)
    room.studies.opened(place, caller.name)
    if part == "answer":
        return render(request, "answer.html", caller=caller, **shown)
    return render(request, "study_film.html", caller=caller, **shown)


def _shown(room: ReadingRoom, caller: Caller, place: Place, record: FilmRecord) -> dict[str, Any]:
    points = room.answering.model.thresholds
    prior = prior_beside(room.database, place.film_id) if place.protocol.priors else None
    return {
        "place": place,
        "number": place.done[place.session - 1] + 1,
        "total": place.films[place.session - 1],
        "film": film_view(veiled(room, caller, [record])[0], now=datetime.now(UTC), thresholds=points),
        "covered": bool(hidden(room, caller, [place.film_id])),
        "prior": prior.film_id if prior else None,
        "prior_words": prior_words(prior, blinded=True),
        "following": None,
        "reader": True,
    }
