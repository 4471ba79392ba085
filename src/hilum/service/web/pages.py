"""The pages: the worklist and a film. Rendered here, kept fresh by small scripts."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from hilum.records.access import Caller
from hilum.records.priors import prior_beside
from hilum.records.reviews import REASONS
from hilum.records.values import STATES, FilmRecord
from hilum.records.worklist import OPEN, Entry, Lines, Wanted
from hilum.service.reading_first import covered, hidden, labels, labels_now, reads_first, without_answers
from hilum.service.reading_room import ReadingRoom
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.pixels import draw_ahead
from hilum.service.rest.reviews import sees_others
from hilum.service.rest.studies import FILM_ID
from hilum.service.web.login import home_of
from hilum.service.web.phrases import COMES_WORDS, READING_WORDS, STATE_WORDS
from hilum.service.web.rendering import render
from hilum.service.web.views import FilmView, film_view, prior_words, review_view

ROWS, MOST_ROWS = 100, 200
STATUSES = ("open", *OPEN, "read", "settled", *STATES)

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
Filter = Annotated[str, Query(max_length=64, pattern=r"^[^\x00]*$")]


@router.get("/")
def worklist(
    request: Request,
    caller: Annotated[Caller, needs("films:read")],
    part: str = "page",
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = ROWS,
    status: Filter = "",
    finding: Filter = "",
    doubt: Filter = "",
    mine: bool = False,
    accession: Filter = "",
) -> HTMLResponse:
    """The worklist; with ``part=rows`` some of its rows alone, for the script that keeps it fresh."""
    room = room_of(request)
    first = reads_first(room, caller)
    # What a filter by the answer lets through says what the answer is, so a reader who goes first has none.
    wanted = Wanted(
        status=status if status in STATUSES else "",
        finding="" if first else finding,
        doubt="" if first else doubt,
        mine=mine,
        blind=labels(caller),
        accession=accession.strip(),
    )
    lines = room.worklist.lines(wanted, reader=caller.name, offset=offset, limit=limit)
    _note_seen(room, caller, lines, again=part == "rows")
    shown: dict[str, Any] = {
        "rows": _rows(room, caller, lines),
        "total": lines.total,
        "offset": offset,
        "wanted": wanted,
        "first": first,
        "filtered": wanted != Wanted(blind=wanted.blind),
    }
    if part == "rows":
        reply = render(request, "rows.html", caller=caller, **shown)
        reply.headers["Hilum-Total"] = str(lines.total)
        return reply
    choices: dict[str, Any] = {"statuses": _statuses(), "findings": room.answering.model.findings, "limit": limit}
    choices["cap_min"] = f"{room.settings.waiting_cap_min:g}"
    return render(request, "worklist.html", caller=caller, **shown, **choices)


@router.get("/films/next")
def next_film(request: Request, caller: Annotated[Caller, needs("films:read")], after: Filter = "") -> Response:
    """On to the next film that needs this reader and that nobody else holds; to the worklist when there is none."""
    known = after if FILM_ID.fullmatch(after) else None
    following = room_of(request).worklist.following(known, reader=caller.name)
    return RedirectResponse(f"/films/{following}" if following else "/?done=1", status_code=303)


@router.get("/films/{film_id}")
def film(
    request: Request,
    film_id: str,
    caller: Annotated[Caller, needs("films:read")],
    part: Literal["page", "answer", "prior"] = "page",
) -> Response:
    """One film with its answer; with ``part=answer`` the answer alone, once it may be seen; with ``part=prior`` the
    id of the patient's earlier film, which may have come since, and on a second line what is said of it."""
    room = room_of(request)
    if room.studies.under_study(film_id, caller.name):
        return RedirectResponse("/reader-study?blinded=1", status_code=303)
    if labels_now(room, caller, film_id):
        return RedirectResponse("/labelling?blinded=1", status_code=303)
    if part == "prior":
        prior = prior_beside(room.database, film_id) if FILM_ID.fullmatch(film_id) else None
        return PlainTextResponse(f"{prior.film_id}\n{prior_words(prior)}" if prior else "")
    record = room.store.film(film_id, viewer=caller.name) if FILM_ID.fullmatch(film_id) else None
    if record is None:
        return render(request, "unknown.html", status=404, caller=caller)
    if part == "page":
        draw_ahead(room, record)
    veil = hidden(room, caller, [film_id], to_label=frozenset())  # labels_now has asked
    numbers = room.store.accession_numbers([film_id])
    shown: dict[str, Any] = {
        "film": _view(room, without_answers([record], veil)[0], numbers.get(film_id, "")),
        "covered": bool(veil),
    }
    if part == "answer":
        return render(request, "answer.html", caller=caller, **shown)
    return render(request, "film.html", caller=caller, **shown, **_reading(room, caller, record))


def _reading(room: ReadingRoom, caller: Caller, record: FilmRecord) -> dict[str, Any]:
    """What the page needs to let somebody read: earlier and next film, who reads it, what was decided."""
    film_id, reader = record.film_id, "reviews:write" in caller.scopes
    status, held_by = room.worklist.entry(film_id)
    newest = room.reviews.by(film_id, caller.name) if reader else None
    counting = room.reviews.counting(film_id)
    others = not reader or sees_others(room, film_id, caller.name)
    seen = [review_view(one) for one in counting if others or one.reader == caller.name]
    prior = prior_beside(room.database, film_id)
    return {
        "prior": prior.film_id if prior else None,
        "prior_words": prior_words(prior),
        "looks_back": True,
        "following": room.worklist.following(film_id, reader=caller.name),
        "reader": reader and record.answer is not None,
        "reading": READING_WORDS[status],
        "disagreement": status == "disagreement",
        "held_by": held_by if held_by != caller.name else "",
        "version": newest.version if newest else 0,
        "decided": any(one.reader == caller.name and one.decision != "opinion" for one in counting),
        "reviews": seen,
        "findings": room.answering.model.findings,
        "reasons": REASONS,
    }


async def not_for_them(request: Request, error: Any) -> Response:
    """What a person sees whose roles don't reach the page: why, and the way out; from ``/`` on to the role's own."""
    home = home_of(error.caller)
    if request.url.path == "/" and home != "/":
        return RedirectResponse(home, status_code=303)
    return render(request, "not_for_them.html", status=403, caller=error.caller, sentence=error.sentence, home=home)


def _statuses() -> list[tuple[str, str]]:
    readings = [(name, READING_WORDS[name]) for name in (*OPEN, "read", "settled")]
    return [("", "all films"), ("open", "to be read"), *readings, *((name, STATE_WORDS[name]) for name in STATES)]


def _note_seen(room: ReadingRoom, caller: Caller, lines: Lines, *, again: bool) -> None:
    """Write the lines down as seen; when they are asked for again, only if they show something new."""
    films = [entry.film for entry in lines.entries]
    shown = hash(tuple((film.film_id, film.state, film.answer and film.answer.created_at) for film in films))
    if again and room.last_seen.get(caller.name) == shown:
        return
    room.worklist.seen([film.film_id for film in films], viewer=caller.name)
    room.last_seen[caller.name] = shown


def _rows(room: ReadingRoom, caller: Caller, lines: Lines) -> list[tuple[FilmView, Entry, str]]:
    """Each line with its film as the page shows it, and when its answer is shown; empty where it is."""
    films = [entry.film for entry in lines.entries]
    first = covered(room, caller, [film.film_id for film in films])
    return [
        (_view(room, film, entry.accession), entry, COMES_WORDS[first[film.film_id]] if film.film_id in first else "")
        for film, entry in zip(without_answers(films, first), lines.entries, strict=True)
    ]


def _view(room: ReadingRoom, record: FilmRecord, accession: str) -> FilmView:
    points = room.answering.model.thresholds
    return film_view(record, now=datetime.now(UTC), accession=accession, thresholds=points)
