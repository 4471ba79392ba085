"""``/api/v1/worklist``: which films are to be read, in which order; the worklist's page for programs."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from hilum.records.access import Caller
from hilum.records.worklist import Reading, Wanted
from hilum.service.reading_first import Comes, covered, labels, reads_first, without_answers
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.schemas import NOTICE, StateName, Study, study_of
from hilum.service.rest.users import RESPONSES, Cursor, Limit

router = APIRouter(prefix="/api/v1/worklist", tags=["worklist"], responses=RESPONSES)

Status = Literal["open"] | Reading | StateName
Word = Annotated[str | None, Query(max_length=64, pattern=r"^[^\x00]*$")]
BY_ANSWER = (
    "Readers here give their own opinion before they see an answer, so their worklist is not filtered by answers. "
    "Leave finding and doubt out."
)


class LineOut(BaseModel):
    """A line of the worklist."""

    study: Study
    reading: Reading = Field(
        description="`unread`, `once` (by one of two readers), `disagreement`, `read`, or `settled` by a third reader."
    )
    held_by: str | None = Field(description="Who reads it now; null when nobody does.")
    comes_first: Comes | None = Field(
        description="Why its answer is not shown: the caller's own `reading` or `label` comes first. Null where it is."
    )


class WorklistOut(BaseModel):
    """Lines of the worklist in its order."""

    lines: list[LineOut]
    next: str | None = Field(description="Cursor of the following page; null at the end.")
    notice: str = NOTICE


@router.get("", response_model=WorklistOut, summary="Films to be read, the riskiest first")
def worklist(
    request: Request,
    caller: Annotated[Caller, needs("films:read")],
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Annotated[
        Status | None, Query(description="`open` for films that need a reader; or how far the reading is, or a state.")
    ] = None,
    finding: Annotated[Word, Query(description="Only films with this label.")] = None,
    doubt: Annotated[
        Literal["abstained", "unsure"] | None,
        Query(description="`unsure`: neither the risk nor its opposite reaches 75 %."),
    ] = None,
    mine: Annotated[bool, Query(description="Only films that the caller holds or has reviewed.")] = False,
    accession: Annotated[Word, Query(description="Only films with this accession number, whole.")] = None,
) -> WorklistOut:
    """One page of the worklist, written down as seen. Follow `next` until it is null.

    Films that need a reader come first; among them those that have waited for longer than `HILUM_WAITING_CAP_MIN` when
    the first page was asked for, then by risk. A film that changes its place meanwhile may come twice or not at all:
    ask for the first page again to see it where it is. No accession number is told, only searched.
    """
    room = room_of(request)
    if (finding or doubt) and reads_first(room, caller):
        raise HTTPException(403, BY_ANSWER)
    wanted = Wanted(
        status=status or "",
        finding=finding or "",
        doubt=doubt or "",
        mine=mine,
        blind=labels(caller),
        accession=(accession or "").strip(),
    )
    page = room.worklist.page(wanted, viewer=caller.name, cursor=cursor, limit=limit)
    films = [entry.film for entry in page.entries]
    first = covered(room, caller, [film.film_id for film in films])
    lines = [
        LineOut(
            study=study_of(film),
            reading=entry.reading,
            held_by=entry.held_by or None,
            comes_first=first.get(film.film_id),
        )
        for film, entry in zip(without_answers(films, first), page.entries, strict=True)
    ]
    return WorklistOut(lines=lines, next=page.next_cursor)
