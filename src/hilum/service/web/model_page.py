"""The page of models: which one answers, what it was tested on, and what answered when, by whom and why."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from hilum.records.access import Caller
from hilum.records.registry import Deployment, Registry
from hilum.service.rest.access import needs, room_of
from hilum.service.web.phrases import percent
from hilum.service.web.rendering import render

LINES = 50

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeView:
    """One change, as the page shows it."""

    change: Deployment
    """What held from then on."""
    production: str
    """Name and version of the model in production."""
    candidate: str
    """Name, version and share of the one on trial; empty when there was none."""


@router.get("/models")
def models(
    request: Request,
    caller: Annotated[Caller, needs("films:read")],
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> HTMLResponse:
    """The page; changes are paged by ``before``, the newest first."""
    room = room_of(request)
    registry = Registry(room.database)
    known = registry.models()
    names = {one.sha256: f"{one.name} {one.version}" for one in known}
    changes = [one for one in reversed(registry.history()) if before is None or one.seq < before]
    points = room.answering.model.thresholds
    shown: dict[str, Any] = {
        "known": known,
        "points": [(name, percent(points[name]) if name in points else "") for name in room.answering.model.findings],
        "changes": [_change(one, names) for one in changes[:LINES]],
        "older": changes[LINES - 1].seq if len(changes) > LINES else None,
    }
    return render(request, "models.html", caller=caller, **shown)


def _change(one: Deployment, names: dict[str, str]) -> ChangeView:
    candidate = ""
    if one.candidate:
        share = f", {one.share / 100:g} % of studies" if one.stage == "canary" else ""
        candidate = f"{names.get(one.candidate, one.candidate[:12])} ({one.stage}{share})"
    return ChangeView(change=one, production=names.get(one.production, one.production[:12]), candidate=candidate)
