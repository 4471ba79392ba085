"""``/api/v1/reader-studies``: blinded sets that readers read with and without the model on the service's pages."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hilum.errors import UsageError
from hilum.records.access import Caller
from hilum.records.cursors import write_cursor
from hilum.records.study_values import Place, Protocol, Said, StudySlot, StudyState
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.reviews import WhatWasShown
from hilum.service.rest.users import PROBLEM, RESPONSES, Cursor, Kept, Limit, Once, once

router = APIRouter(prefix="/api/v1/reader-studies", tags=["reader studies"], responses=RESPONSES)
Manager = Annotated[Caller, needs("models:write")]
Reader = Annotated[Caller, needs("reviews:write")]
Word = Annotated[Kept, Field(min_length=1, max_length=64)]
MOST_FILMS, MOST_READERS = 5000, 100
Arm = Literal["without", "with"]
Stage = Literal["first", "final"]


class SlotIn(BaseModel):
    """One reading to be done."""

    model_config = ConfigDict(extra="forbid")

    film: str = Field(pattern="^([0-9a-f]{32}|[0-9a-f]{64})$", description="Id of the film, or SHA-256 of its file.")
    arm: Arm = Field(description="Without the model, or with it.")


class ProtocolIn(BaseModel):
    """How a study is read."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern="^[a-z0-9][a-z0-9-]{0,63}$", description="Its name; part of the address of its page.")
    plan_sha256: str = Field(pattern="^[0-9a-f]{64}$", description="Fingerprint of the plan, which holds the truth.")
    question: Word = Field(description="The finding that the confidence is about.")
    findings: list[Word] = Field(min_length=2, max_length=20, description="What readers may answer.")
    answer: Literal["start", "after"] = Field(
        description="With the model, the answer is shown from the start, or after the reader's first opinion."
    )
    priors: bool = Field(default=False, description="Whether a film's prior may be looked at.")
    washout_days: int = Field(ge=0, le=3650, description="Least days between a reader's two sessions.")


class NewStudy(ProtocolIn):
    """A study to be registered, as `hilum reader-study create --name` writes it to `study.json`."""

    readers: dict[str, list[Annotated[list[SlotIn], Field(max_length=MOST_FILMS)]]] = Field(
        min_length=1, max_length=MOST_READERS, description="By reader the sessions, each in the order of reading."
    )


class PlaceOut(BaseModel):
    """Where a reader is in a study."""

    done: list[int] = Field(description="By session, how many films are read.")
    films: list[int] = Field(description="By session, how many there are.")
    session: int = Field(description="Session of the next film; 0 when all are read.")
    position: int = Field(description="Its place in the session.")
    opens_at: datetime | None = Field(description="When the next session opens (UTC); null when it is open.")


class MyPlace(PlaceOut):
    """Where the caller is in a study, and what may be seen there."""

    study: ProtocolIn
    film: str | None = Field(description="The present film; null when all are read or the session has not opened.")
    arm: Arm | None = Field(description="How it is read.")
    stage: Stage | None = Field(description="Which opinion comes next: first, before the answer, or final.")
    answer_shown: bool = Field(description="Whether its answer may be seen now.")


class StudyOut(BaseModel):
    """A study and how far its readers are."""

    study: ProtocolIn
    created_at: datetime = Field(description="When it was registered (UTC).")
    closed_at: datetime | None = Field(description="When it was closed; null while it is read.")
    readers: dict[str, PlaceOut] = Field(description="By reader, how far they are.")


class StudiesOut(BaseModel):
    """Reader studies, newest first."""

    studies: list[StudyOut]
    next: str | None = Field(description="Cursor of the following page; null at the end.")


class OpinionIn(BaseModel):
    """A reader's opinion of the present film."""

    model_config = ConfigDict(extra="forbid")

    session: int = Field(ge=1, le=100, description="Session of the film.")
    position: int = Field(ge=1, le=MOST_FILMS, description="Its place in the session.")
    stage: Stage = Field(description="`first` before the answer is shown, `final` for what counts.")
    finding: Word = Field(description="One of the study's.")
    rating: int = Field(ge=0, le=100, description="That the film shows the question: 0 certainly not, 100 certainly.")
    seconds: float | None = Field(default=None, ge=0, le=86400, description="How long the film was looked at.")
    shown: WhatWasShown = Field(default={}, max_length=20, description="What was on the screen.")


@router.post("", status_code=201, response_model=StudyOut, summary="Register a reader study")
def create(request: Request, new: NewStudy, caller: Manager, idempotency_key: Once = None) -> StudyOut:
    """Register a study: its films are covered to its readers from now on, until they have read it. The truth stays out.

    Its films must have been sent and answered, and its readers must be users who may review.
    """
    asked = once(caller, "reader-study", idempotency_key, new.model_dump())
    return _study(room_of(request).studies.create(*asked_for(new), actor=caller.name, request=asked))


@router.get("", response_model=StudiesOut, summary="List reader studies")
def studies(request: Request, caller: Manager, limit: Limit = 50, cursor: Cursor = None) -> StudiesOut:
    """One page of studies, newest first, with how far each reader is. What they said is scored from the records."""
    found = room_of(request).studies.all(limit=limit + 1, cursor=cursor)
    last = found[limit - 1] if len(found) > limit else None
    following = write_cursor(last.created_at, last.protocol.name) if last else None
    return StudiesOut(studies=[_study(one) for one in found[:limit]], next=following)


@router.post("/{name}/close", status_code=204, summary="Close a reader study")
def close(request: Request, name: Kept, caller: Manager) -> None:
    """End a study: no opinion is taken any more, and its films are uncovered. This can't be taken back."""
    room_of(request).studies.close(name, actor=caller.name)


@router.get("/mine", response_model=list[MyPlace], summary="One's own reader studies")
def mine(request: Request, caller: Reader) -> list[MyPlace]:
    """Where the caller is in each open study: all of them, for few are open at once."""
    return [_mine(place) for place in room_of(request).studies.of(caller.name)]


@router.post("/{name}/opinions", status_code=201, response_model=MyPlace, summary="Say what the present film shows",
             responses={412: PROBLEM})  # fmt: skip
def say(request: Request, name: Kept, said: OpinionIn, caller: Reader) -> MyPlace:
    """Record an opinion of the present film; it is final. The reply says what comes next."""
    values: dict[str, Any] = said.model_dump()
    return _mine(room_of(request).studies.say(name, caller.name, Said(**values)))


def asked_for(new: NewStudy) -> tuple[Protocol, dict[str, list[list[StudySlot]]]]:
    """The protocol and the sessions of a request."""
    values = new.model_dump(exclude={"readers"})
    sessions = {
        reader: [[StudySlot(film=slot.film, arm=slot.arm) for slot in one] for one in both]
        for reader, both in new.readers.items()
    }
    return Protocol(**{**values, "findings": tuple(new.findings)}), sessions


def read_request(path: Path) -> NewStudy:
    """A request that ``hilum reader-study create --name`` wrote.

    Raises:
        UsageError: the file can't be read, or is none.
    """
    try:
        return NewStudy.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        first = error.strerror if isinstance(error, OSError) else error.errors()[0]["msg"]
        raise UsageError(
            f"{path} is no reader study to be registered ({first}). Make one with hilum reader-study create --name."
        ) from None


def _place(place: Place) -> dict[str, Any]:
    return {
        "done": list(place.done),
        "films": list(place.films),
        "session": place.session,
        "position": place.position,
        "opens_at": place.opens_at,
    }


def _protocol(protocol: Protocol) -> ProtocolIn:
    return ProtocolIn(
        name=protocol.name,
        plan_sha256=protocol.plan_sha256,
        question=protocol.question,
        findings=list(protocol.findings),
        answer=protocol.answer,
        priors=protocol.priors,
        washout_days=protocol.washout_days,
    )


def _mine(place: Place) -> MyPlace:
    there = bool(place.film_id)
    return MyPlace(
        **_place(place),
        study=_protocol(place.protocol),
        film=place.film_id or None,
        arm=place.arm if there else None,
        stage=place.stage if there else None,
        answer_shown=place.reveals,
    )


def _study(state: StudyState) -> StudyOut:
    return StudyOut(
        study=_protocol(state.protocol),
        created_at=state.created_at,
        closed_at=state.closed_at,
        readers={reader: PlaceOut(**_place(place)) for reader, place in state.readers.items()},
    )
