"""``/api/v1/audit``: who did and saw what. For auditors; reading it is written down as well."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from hilum.records.access import Caller
from hilum.records.audit import Act, append, entries
from hilum.records.store import now
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.users import RESPONSES

router = APIRouter(prefix="/api/v1/audit", tags=["audit"], responses=RESPONSES)


class EntryOut(BaseModel):
    """A row of the audit."""

    seq: int = Field(description="Its place: 1, 2, 3 …")
    at: str = Field(description="When (UTC).")
    actor: str = Field(description="Who: a user, or `service`, `dicom`, `console`.")
    act: str = Field(description="What.", examples=["film.viewed"])
    subject: str = Field(description="To what: a film's id, a user's name, a key's id.")
    body: str = Field(description="The canonical JSON that is hashed.")
    hash: str = Field(description="SHA-256 of the body.")


class EntryList(BaseModel):
    """Rows in their order."""

    entries: list[EntryOut]
    next: int | None = Field(description="Give it as `after` for the following rows; null at the end.")


@router.get("", response_model=EntryList, summary="Read the audit")
def audit(
    request: Request,
    caller: Annotated[Caller, needs("audit:read")],
    after: Annotated[int, Query(ge=0, le=2**53, description="Only rows behind this place.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most rows of a page.")] = 200,
    subject: Annotated[
        str | None, Query(max_length=96, pattern=r"^[^\x00]*$", description="Only rows about this.")
    ] = None,
) -> EntryList:
    """One page of the audit. `hilum audit verify` proves the whole of it offline."""
    with room_of(request).database.write() as session:
        rows = entries(session, after=after, limit=limit + 1, subject=subject)
        detail = {"after": after, "rows": min(limit, len(rows))}
        append(session, Act(actor=caller.name, act="audit.read", subject=subject or "", detail=detail), now())
    shown = [
        EntryOut(seq=r.seq, at=r.at, actor=r.actor, act=r.act, subject=r.subject, body=r.body, hash=r.hash)
        for r in rows[:limit]
    ]
    return EntryList(entries=shown, next=shown[-1].seq if len(rows) > limit else None)
