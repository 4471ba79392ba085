"""The pages of labelling: a reader's next film without the model's answer, and a model manager's batches."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from hilum.errors import HilumError
from hilum.records.access import Caller
from hilum.records.labelling import CANNOT_TELL, MOST_READINGS
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.studies import FILM_ID
from hilum.service.web.rendering import render

LINES = 50

BLINDED = "You label that film now, so its answer is covered until you have. Label it, or pass it over."

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/labelling")
def labelling(
    request: Request,
    caller: Annotated[Caller, needs("reviews:write")],
    film: Annotated[str, Query(max_length=32, pattern=r"^[^\x00]*$")] = "",
    blinded: bool = False,
) -> HTMLResponse:
    """The reader's next film, which is held; with ``film`` one that the reader has labelled, to label it otherwise."""
    room = room_of(request)
    mine, sorry = None, ""
    if FILM_ID.fullmatch(film):
        try:
            mine = room.labelling.again(film, caller.name)
        except HilumError as error:
            sorry = str(error)
    study = mine.film_id if mine else room.labelling.following(caller.name)
    shown: dict[str, Any] = {
        "study": study,
        "mine": mine,
        "sorry": sorry or (BLINDED if blinded and study else ""),
        "waiting": room.labelling.waiting(caller.name),
        "findings": room.answering.model.findings,
        "reasons": CANNOT_TELL,
    }
    return render(request, "labelling.html", caller=caller, **shown)


@router.get("/labelling/batches")
def batches(request: Request, caller: Annotated[Caller, needs("models:write")]) -> HTMLResponse:
    """What was drawn, how far it is, and where readers differ."""
    room = room_of(request)
    shown: dict[str, Any] = {
        "batches": room.label_batches.all(limit=LINES),
        "unsettled": room.labelling.unsettled(viewer=caller.name, limit=LINES),
        "reasons": CANNOT_TELL,
        "most": MOST_READINGS,
    }
    return render(request, "label_batches.html", caller=caller, **shown)
