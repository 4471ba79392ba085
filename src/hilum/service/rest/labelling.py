"""``/api/v1/labelling``: batches that are drawn, and labels that readers give without the model's answer."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from hilum.errors import DataError, UsageError, nearest
from hilum.records.access import Caller
from hilum.records.cursors import write_cursor
from hilum.records.labelling import CANNOT_TELL, BlindLabel, TaskState
from hilum.records.labelling_batches import Batch
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.reviews import WhatWasShown
from hilum.service.rest.studies import known_film
from hilum.service.rest.users import PROBLEM, RESPONSES, Cursor, Kept, Limit, Once, once

router = APIRouter(prefix="/api/v1/labelling", tags=["labelling"], responses=RESPONSES)
Reader = Annotated[Caller, needs("reviews:write")]
Manager = Annotated[Caller, needs("models:write")]
CHANGES: dict[int | str, dict[str, Any]] = dict.fromkeys((404, 412), PROBLEM)


class NewBatch(BaseModel):
    """A batch to be drawn."""

    model_config = ConfigDict(extra="forbid")

    films: int = Field(ge=1, le=10_000, description="How many.")
    second_percent: int = Field(default=20, ge=0, le=100, description="Per cent that a second reader labels, too.")


class BatchOut(BaseModel):
    """A batch."""

    id: str = Field(description="Opaque id.")
    drawn_at: datetime = Field(description="When (UTC).")
    drawn_by: str = Field(description="Who.")
    films: int = Field(description="Films drawn.")
    pool: int = Field(description="Films that it chose from.")
    twice: int = Field(description="Films that two readers label.")
    states: dict[str, int] = Field(description="Films that are waiting, agreed, differ, undecided.")


class BatchList(BaseModel):
    """Batches, newest first."""

    batches: list[BatchOut]
    next: str | None = Field(description="Cursor of the following page; null at the end.")


class LabelIn(BaseModel):
    """What a reader says of a film."""

    model_config = ConfigDict(extra="forbid")

    finding: Kept | None = Field(default=None, max_length=64, description="What it is; null for who can't tell.")
    reason_code: Kept = Field(default="", max_length=32, description=f"Why not: {', '.join(CANNOT_TELL)}.")
    comment: Kept = Field(default="", max_length=4000, description="In the reader's own words.")
    over: int = Field(default=0, ge=0, le=10**6, description="The version that it replaces; 0 for the first.")
    seconds: float | None = Field(default=None, ge=0, le=86400, description="How long the film was looked at.")
    shown: WhatWasShown = Field(default={}, max_length=20, description="What was on the screen.")


class LabelOut(BaseModel):
    """A label as recorded."""

    study: str = Field(description="The film.")
    reader: str = Field(description="Whose.")
    version: int = Field(description="1 for the first, one more for each change.")
    finding: str | None = Field(description="What it is; null for who can't tell.")
    reason_code: str = Field(description="Why not.")
    comment: str = Field(description="In the reader's own words.")
    created_at: datetime = Field(description="When (UTC).")


class UnsettledOut(BaseModel):
    """A film without an agreement."""

    study: str = Field(description="The film.")
    state: TaskState = Field(description="`differ`, or `undecided` where nobody can tell.")
    labels: list[LabelOut] = Field(description="The newest of each reader.")


class UnsettledList(BaseModel):
    """Films without an agreement, in the order of their batches."""

    films: list[UnsettledOut]
    next: str | None = Field(description="Cursor of the following page; null at the end.")


class Task(BaseModel):
    """What a reader labels next."""

    study: str | None = Field(description="The film, which is held for the reader; null when there is none.")
    findings: list[str] = Field(description="What it may be.")
    waiting: int = Field(description="Films that this reader could label.")


class Held(BaseModel):
    """Whether a film is held."""

    mine: bool = Field(description="False where others took its place meanwhile.")


class Asked(BaseModel):
    """Readers of a film."""

    readings: int = Field(description="How many it needs now.")


@router.post(
    "/batches",
    status_code=201,
    response_model=BatchOut,
    summary="Draw films to be labelled",
    responses={409: PROBLEM},
)
def draw(request: Request, new: NewBatch, caller: Manager, idempotency_key: Once = None) -> BatchOut:
    """Draw from the newest films that nobody has read: 40 % of the mixture is chance, 30 % doubt, 20 % distance from
    what was read, 10 % disagreement of the members. Each film's probability is kept."""
    asked = once(caller, "batch", idempotency_key, new.model_dump())
    share = new.second_percent / 100
    try:
        return _batch(room_of(request).label_batches.draw(new.films, second=share, actor=caller.name, request=asked))
    except DataError as error:
        raise HTTPException(409, str(error)) from None


@router.get("/batches", response_model=BatchList, summary="List batches")
def batches(request: Request, caller: Manager, limit: Limit = 50, cursor: Cursor = None) -> BatchList:
    """One page of batches, the newest first."""
    found = room_of(request).label_batches.all(limit=limit + 1, cursor=cursor)
    last = found[limit - 1] if len(found) > limit else None
    return BatchList(
        batches=[_batch(one) for one in found[:limit]], next=write_cursor(last.drawn_at, last.id) if last else None
    )


@router.get("/unsettled", response_model=UnsettledList, summary="Films without an agreement")
def unsettled(request: Request, caller: Manager, limit: Limit = 100, cursor: Cursor = None) -> UnsettledList:
    """One page of films whose readers differ, or that none of them can tell; that it was looked at is written down."""
    page = room_of(request).labelling.unsettled_page(viewer=caller.name, limit=limit, cursor=cursor)
    films = [
        UnsettledOut(study=one.film_id, state=one.state, labels=[_label(label) for label in one.labels])
        for one in page.films
    ]
    return UnsettledList(films=films, next=page.next_cursor)


@router.post("/next", response_model=Task, summary="Take the next film")
def next_film(request: Request, caller: Reader) -> Task:
    """The film that this reader labels next, held for some minutes; not one whose answer the reader has opened."""
    room = room_of(request)
    study = room.labelling.following(caller.name)
    waiting = room.labelling.waiting(caller.name)
    return Task(study=study, findings=list(room.answering.model.findings), waiting=waiting)


@router.post("/{film_id}/labels", status_code=201, response_model=LabelOut, summary="Label a film", responses=CHANGES)
def label(request: Request, film_id: str, new: LabelIn, caller: Reader) -> LabelOut:
    """Record a label as an event; the same again, after a reply that was lost, makes none twice."""
    room = room_of(request)
    known_film(room, film_id)
    findings = room.answering.model.findings
    if new.finding is not None and new.finding not in findings:
        raise UsageError(f"{new.finding!r} is no finding. {nearest(new.finding, findings)}")
    return _label(room.labelling.put(film_id, caller.name, **new.model_dump()))


@router.post("/{film_id}/hold", response_model=Held, summary="Hold a film longer", responses={404: PROBLEM})
def hold(request: Request, film_id: str, caller: Reader) -> Held:
    """Hold a film for some minutes more."""
    room = room_of(request)
    known_film(room, film_id)
    return Held(mine=room.labelling.hold(film_id, caller.name))


@router.delete("/{film_id}/hold", status_code=204, summary="Let a film go", responses={404: PROBLEM})
def release(request: Request, film_id: str, caller: Reader, passed: bool = False) -> Response:
    """Let a film go; with `passed=true` it comes last for this reader."""
    room = room_of(request)
    known_film(room, film_id)
    room.labelling.release(film_id, caller.name, passed=passed)
    return Response(status_code=204)


@router.post("/{film_id}/readers", response_model=Asked, summary="Ask for one more reader", responses={404: PROBLEM})
def ask_another(request: Request, film_id: str, caller: Manager) -> Asked:
    """One more reader for a film on which there is no agreement."""
    room = room_of(request)
    known_film(room, film_id)
    return Asked(readings=room.labelling.ask_another(film_id, actor=caller.name))


def _batch(one: Batch) -> BatchOut:
    return BatchOut(
        id=one.id,
        drawn_at=one.drawn_at,
        drawn_by=one.drawn_by,
        films=one.films,
        pool=one.pool,
        twice=one.twice,
        states=dict(one.states),
    )


def _label(one: BlindLabel) -> LabelOut:
    return LabelOut(
        study=one.film_id,
        reader=one.reader,
        version=one.version,
        finding=one.finding,
        reason_code=one.reason_code,
        comment=one.comment,
        created_at=one.created_at,
    )
