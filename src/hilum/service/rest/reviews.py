"""``/api/v1/studies/{id}/reviews``: what readers decided, with ETag and If-Match against lost changes."""

import json
import re
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from hilum.records.access import Caller
from hilum.records.reviews import FINAL, REASONS, Noted, Review
from hilum.service.reading_first import BLINDED
from hilum.service.reading_room import ReadingRoom
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.studies import known_film
from hilum.service.rest.users import PROBLEM, RESPONSES, Kept

TAG = re.compile(r'"v(\d{1,9})"')

router = APIRouter(prefix="/api/v1/studies/{film_id}/reviews", tags=["reviews"], responses=RESPONSES)
CHANGES: dict[int | str, dict[str, Any]] = dict.fromkeys((404, 409, 412, 428), PROBLEM)


Decided = Literal["opinion", "agree", "override", "withdraw", "adjudicate"]
Corner = Annotated[float, Field(ge=0, le=100_000)]


def _small(value: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(value)
    if len(text) > 2000 or "\\u0000" in text:
        raise ValueError("what was shown takes at most 2,000 characters and no zero character")
    return value


WhatWasShown = Annotated[dict[Kept, Any], AfterValidator(_small)]
"""What was on a reader's screen, as the page wrote it down."""


class ReviewIn(BaseModel):
    """A reader's opinion."""

    model_config = ConfigDict(extra="forbid")

    decision: Decided = Field(
        description="`agree` with the model's answer or `override` it; `opinion` before it is seen; `withdraw` the "
        "version before, within a minute; `adjudicate` where two readers differ."
    )
    finding: Kept | None = Field(
        default=None, max_length=64, description="What it is; needed for an opinion, an override and a settlement."
    )
    comment: Kept = Field(default="", max_length=4000, description="In the reader's own words.")
    reason_code: Kept = Field(default="", max_length=32, description=f"Why: {', '.join(REASONS)}.")
    regions: list[tuple[Corner, Corner, Corner, Corner]] = Field(
        default=[], max_length=20, description="Rectangles on the film, in its pixels: left, top, right, bottom."
    )
    seconds: float | None = Field(default=None, ge=0, le=86400, description="How long the film was looked at.")
    shown: WhatWasShown = Field(default={}, max_length=20, description="What was on the screen.")


class ReviewOut(ReviewIn):
    """A reader's opinion as recorded."""

    reader: str = Field(description="Whose.")
    version: int = Field(description="1 for the first, one more for each change; the ETag is made of it.")
    model_sha256: str | None = Field(description="The version of the model that was judged.")
    created_at: datetime = Field(description="When (UTC).")


@router.get("", response_model=list[ReviewOut], summary="Read a film's reviews", responses={404: PROBLEM})
def reviews(request: Request, film_id: str, caller: Annotated[Caller, needs("films:read")]) -> list[ReviewOut]:
    """The newest opinion of each reader, all at once. Who has not decided sees nobody else's, until readers differ."""
    room = room_of(request)
    known_film(room, film_id)
    found = room.reviews.of(film_id, viewer=caller.name)
    reads = "reviews:write" in caller.scopes or room.studies.under_study(film_id, caller.name)
    if reads and not sees_others(room, film_id, caller.name):
        found = tuple(review for review in found if review.reader == caller.name)
    return [_out(review) for review in found]


@router.get("/mine", response_model=ReviewOut, summary="Read one's own review", responses={404: PROBLEM})
def my_review(
    request: Request, response: Response, film_id: str, caller: Annotated[Caller, needs("reviews:write")]
) -> ReviewOut:
    """The caller's own opinion, with its ETag."""
    room = room_of(request)
    known_film(room, film_id)
    review = room.reviews.by(film_id, caller.name)
    if review is None:
        raise HTTPException(404, "You have not reviewed this film yet. PUT with If-None-Match: * makes the first one.")
    response.headers["ETag"] = _tag(review)
    return _out(review)


@router.put("/mine", response_model=ReviewOut, summary="Agree or override", responses=CHANGES)
def put_review(
    request: Request,
    response: Response,
    film_id: str,
    new: ReviewIn,
    caller: Annotated[Caller, needs("reviews:write")],
    if_match: Annotated[str | None, Header(description="ETag of the version that is replaced.")] = None,
    if_none_match: Annotated[str | None, Header(description="`*` for the first one.")] = None,
) -> ReviewOut:
    """Record the caller's opinion. If-Match names the version that it replaces, so that no change is lost unseen."""
    room = room_of(request)
    known_film(room, film_id)
    over = _over(if_match, if_none_match)
    if room.studies.under_study(film_id, caller.name):
        raise HTTPException(409, BLINDED)
    review = room.reviews.put(
        film_id,
        caller.name,
        decision=new.decision,
        finding=new.finding,
        comment=new.comment,
        over=over,
        noted=Noted(
            reason_code=new.reason_code, regions=tuple(new.regions), seconds=new.seconds, shown=dict(new.shown)
        ),
        read_first=room.settings.read_first,
    )
    if room.senders is not None:
        room.senders.wake()
    response.headers["ETag"] = _tag(review)
    return _out(review)


def sees_others(room: ReadingRoom, film_id: str, reader: str) -> bool:
    """Whether a reader may see what others decided: after deciding alone, or where they differ; never in a study."""
    if room.studies.under_study(film_id, reader):
        return False
    if room.worklist.entry(film_id)[0] in ("disagreement", "settled"):
        return True
    return any(one.reader == reader and one.decision in FINAL for one in room.reviews.counting(film_id))


def _over(if_match: str | None, if_none_match: str | None) -> int:
    if if_none_match is not None and if_none_match.strip() == "*" and if_match is None:
        return 0
    found = TAG.fullmatch(if_match.strip()) if if_match is not None else None
    if found is None:
        raise HTTPException(
            428, 'Say which version this replaces: If-Match: "v1" with the ETag, or If-None-Match: * for the first one.'
        )
    return int(found[1])


def _tag(review: Review) -> str:
    return f'"v{review.version}"'


def _out(review: Review) -> ReviewOut:
    return ReviewOut(
        reader=review.reader,
        version=review.version,
        decision=review.decision,
        finding=review.finding,
        comment=review.comment,
        model_sha256=review.model_sha256,
        created_at=review.created_at,
        reason_code=review.noted.reason_code,
        regions=list(review.noted.regions),
        seconds=review.noted.seconds,
        shown=dict(review.noted.shown),
    )
