"""The auditor's page: search the audit, and verify the whole of it. Both are written down themselves."""

import json
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from hilum.errors import HilumError, ServiceError
from hilum.records.access import Caller
from hilum.records.audit import Act, Entry, append
from hilum.records.audit_search import Sought, search
from hilum.records.heads import public_keys
from hilum.records.peers import title_of
from hilum.records.proving import Proof, prove
from hilum.records.store import now
from hilum.service.reading_room import ReadingRoom
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.studies import FILM_ID
from hilum.service.settings import Settings
from hilum.service.web.rendering import render

LINES = 100

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
Auditor = Annotated[Caller, needs("audit:read")]
Text = Annotated[str, Query(max_length=96, pattern=r"^[^\x00]*$")]
Day = Annotated[str, Query(max_length=10)]


@router.get("/audit")
def audit(
    request: Request,
    caller: Auditor,
    subject: Text = "",
    actor: Text = "",
    act: Text = "",
    first: Day = "",
    last: Day = "",
    before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
) -> HTMLResponse:
    """The page: rows that fit, the newest first; ``before`` leads to older ones."""
    days, sorry = _days(first, last)
    sought = Sought(subject=subject.strip(), actor=actor.strip(), act=act.strip(), first=days[0], last=days[1])
    rows = _read(room_of(request), caller, sought, before)
    return _page(request, caller, sought, rows, sorry=sorry)


@router.post("/audit/verify")
def verify(request: Request, caller: Auditor) -> HTMLResponse:
    """The page with the verdict on the whole chain, as ``hilum audit verify`` gives it."""
    room = room_of(request)
    proof, sorry = None, ""
    try:
        proof = _prove(room.settings)
    except HilumError as error:
        # Where the database is, and who asks it, is nobody's business here.
        away = "The records can't be read now. Try again, and look into the service's log."
        sorry = away if isinstance(error, ServiceError) else str(error).replace(f"{room.settings.data}/", "")
    whole = proof is not None and proof.verdict.whole
    with room.database.write() as session:
        rows = proof.verdict.rows if proof else 0
        append(session, Act(actor=caller.name, act="audit.verified", detail={"whole": whole, "rows": rows}), now())
    return _page(request, caller, Sought(), _read(room, caller, Sought(), None), sorry=sorry, proof=proof)


def _read(room: ReadingRoom, caller: Caller, sought: Sought, before: int | None) -> list[Entry]:
    """One row more than a page has, if there is one; that they were read is written down."""
    with room.database.write() as session:
        rows = search(session, sought, before=before, limit=LINES + 1)
        subject = sought.subject if FILM_ID.fullmatch(sought.subject) else ""
        detail = {"by": sought.used, "before": before, "rows": min(LINES, len(rows))}
        append(session, Act(actor=caller.name, act="audit.read", subject=subject, detail=detail), now())
    return rows


def _page(
    request: Request, caller: Caller, sought: Sought, rows: list[Entry], *, sorry: str, proof: Proof | None = None
) -> HTMLResponse:
    shown: dict[str, Any] = {
        "sought": sought,
        "rows": [(row, _detail(row)) for row in rows[:LINES]],
        "older": rows[LINES - 1].seq if len(rows) > LINES else None,
        "proof": proof,
        "sorry": sorry,
    }
    return render(request, "audit.html", status=422 if sorry else 200, caller=caller, **shown)


def _detail(row: Entry) -> str:
    """What a row says beside its columns; a row that was tampered with may say anything."""
    try:
        said = json.loads(row.body)
    except (ValueError, RecursionError):
        return "not readable"
    detail = said.get("detail") if isinstance(said, dict) else None
    title = title_of(row.act, detail) if isinstance(detail, dict) else ""
    return f"{title} {json.dumps(detail, ensure_ascii=False)}".lstrip() if detail else ""


def _days(*texts: str) -> tuple[list[date | None], str]:
    """Days as typed, and what is wrong with them; empty when nothing is."""
    days: list[date | None] = []
    for text in texts:
        try:
            days.append(date.fromisoformat(text) if text else None)
        except ValueError:
            return [None, None], "A day is not one. Give it as year-month-day, such as 2026-03-31."
    return days, ""


def _prove(settings: Settings) -> Proof:
    """Raises DataError when a head is damaged or forged, ServiceError when the records are away."""
    keys = public_keys(settings.data, settings.audit_key_path)
    return prove(url=settings.url, export=None, heads=settings.audit_heads_path, heads_given=False, keys=keys)
