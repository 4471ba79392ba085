"""The page for sending films from this computer: dropped or chosen, each with its progress and its reason."""

from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from hilum.records.access import Caller
from hilum.service.rest.access import needs, room_of
from hilum.service.web.rendering import render

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/upload")
def upload(request: Request, caller: Annotated[Caller, needs("films:send")]) -> HTMLResponse:
    """The page; its script sends each film to ``POST /api/v1/studies``, which is the one door."""
    return render(request, "upload.html", caller=caller, largest=room_of(request).intake.largest_bytes)
