"""The page of models: which one answers, what it was tested on, and what answered when, by whom and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from hilum.bundle.card import ModelCard
from hilum.intervals import interval
from hilum.records.access import Caller
from hilum.records.agreement import InUse, in_use
from hilum.records.performance import Measured, Span, newest
from hilum.records.registry import Deployment, Registered, Registry, came_by
from hilum.records.reviews import REASONS
from hilum.service.bundled import not_validated_on, validated_on
from hilum.service.reading_room import ReadingRoom
from hilum.service.rest.access import needs, room_of
from hilum.service.web.model_figures import side_by_side
from hilum.service.web.monitoring import unacknowledged
from hilum.service.web.phrases import percent
from hilum.service.web.rendering import render

LINES = 50
COMPARED = 4
"""So many models at most stand side by side."""

IN_USE_DAYS = 90
"""Decisions of so many days count for how a model does in use."""

FIGURES = ("sensitivity", "specificity", "auroc", "calibration gap")
"""Figures of a measurement with labels, in the page's order."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnView:
    """One model among those that are compared."""

    name: str
    """Name and version."""
    sha256: str
    """Digest of its bundle."""
    card: ModelCard | None
    """Its card; None when its bundle has none or is not here."""
    tested: tuple[str, ...]
    """What it was tested on."""
    untested: tuple[str, ...]
    """What it is not for or was not tested on, and what its tests warn of."""
    calibration: str
    """How its probabilities were calibrated; empty when not stated."""


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
    history = registry.history()
    came = came_by(history)
    changes = [one for one in reversed(history) if before is None or one.seq < before]
    points = room.answering.model.thresholds
    columns = _columns(room, known)
    shown: dict[str, Any] = {
        "alarm": unacknowledged(room),
        "columns": columns,
        "lines": side_by_side([column.card for column in columns]),
        "used": _used(room),
        "used_days": IN_USE_DAYS,
        "measured": _measured(room),
        "figures": FIGURES,
        "names": names,
        "known": known,
        "past_plan": came if came is not None and came.act == "override" else None,
        "points": [(name, percent(points[name]) if name in points else "") for name in room.answering.model.findings],
        "changes": [_change(one, names) for one in changes[:LINES]],
        "older": changes[LINES - 1].seq if len(changes) > LINES else None,
    }
    return render(request, "models.html", caller=caller, **shown)


def _columns(room: ReadingRoom, known: Sequence[Registered]) -> list[ColumnView]:
    """The model that answers, then the others, the newest first."""
    model = room.answering.model
    others = [one for one in reversed(known) if one.sha256 != model.sha256][: COMPARED - 1]
    columns = [_column(f"{model.name} {model.version}", model.sha256, model.card)]
    for one in others:
        card = room.switch.card(one.sha256) if room.switch is not None else None
        columns.append(_column(f"{one.name} {one.version}", one.sha256, card))
    return columns


def _column(name: str, sha256: str, card: ModelCard | None) -> ColumnView:
    return ColumnView(
        name=name, sha256=sha256, card=card, tested=validated_on(card), untested=not_validated_on(card),
        calibration=(card.calibration or "") if card else "",
    )  # fmt: skip


def _used(room: ReadingRoom) -> list[tuple[InUse, str, str]]:
    """By model what readers decided of late, the share agreed in words, and the reasons of overrides."""
    with room.database.read() as session:
        found = in_use(session, since=datetime.now(UTC) - timedelta(days=IN_USE_DAYS))
    return [
        (
            one,
            f"{100 * one.share:.0f} % ({100 * one.low:.0f}–{100 * one.high:.0f} %)",
            "; ".join(f"{REASONS.get(code, code)}: {count}" for code, count in one.reasons),
        )
        for one in found.values()
    ]


def _measured(room: ReadingRoom) -> list[tuple[Measured, list[tuple[Span, list[str]]]]]:
    """The newest measurement of each finding, with the figures of its spans in words."""
    with room.database.read() as session:
        found = newest(session)
    return [(one, [(span, [_figure(span, name) for name in FIGURES]) for span in one.spans]) for one in found]


def _figure(span: Span, name: str) -> str:
    one = next((estimate for estimate in span.estimates if estimate.name == name), None)
    if one is None or one.value is None or one.low is None or one.high is None:
        return "–"
    return f"{one.value:.2f} ({interval(one.low, one.high, '.2f')})"


def _change(one: Deployment, names: dict[str, str]) -> ChangeView:
    candidate = ""
    if one.candidate:
        share = f", {one.share / 100:g} % of studies" if one.stage == "canary" else ""
        candidate = f"{names.get(one.candidate, one.candidate[:12])} ({one.stage}{share})"
    return ChangeView(change=one, production=names.get(one.production, one.production[:12]), candidate=candidate)
