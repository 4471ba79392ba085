"""``/api/v1/studies``: send films, read answers."""

import asyncio
import functools
import hashlib
import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from hilum.records.access import Caller
from hilum.records.values import FINISHED, AnswerRecord, FilmRecord, HeatmapRecord, Receipt
from hilum.service.intake import Arrival
from hilum.service.lasting import begun, to_its_end
from hilum.service.logs import logger
from hilum.service.reading_first import FIRST, LABELLING, hidden, labels_now, tells, to_label, veiled
from hilum.service.reading_room import ReadingRoom
from hilum.service.refusals import Refused
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.problems import unknown_study
from hilum.service.rest.schemas import Problem, StateName, Study, StudyList, study_of

LONGEST_WAIT_S = 60.0
DECLARED = {"application/dicom": "dicom", "image/png": "png", "image/jpeg": "jpeg", "application/octet-stream": None}
FILM_ID = re.compile(r"[0-9a-f]{32}")

PROBLEM: dict[str, Any] = {"model": Problem, "content": {"application/problem+json": {}}}
BODY = {"schema": {"type": "string", "format": "binary"}}
PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}, 404: PROBLEM, 422: PROBLEM}

router = APIRouter(prefix="/api/v1/studies", tags=["studies"])


@router.post(
    "",
    status_code=201,
    response_model=Study,
    summary="Send one film",
    responses={
        200: {"model": Study, "description": "The same film was there already; its id and answer."},
        201: {"description": "The film and its record are durable."},
        **dict.fromkeys((408, 413, 415, 422, 503), PROBLEM),
    },
    openapi_extra={"requestBody": {"required": True, "content": dict.fromkeys(DECLARED, BODY)}},
)
async def send(
    request: Request,
    caller: Annotated[Caller, needs("films:send")],
    idempotency_key: Annotated[
        str | None, Header(min_length=1, max_length=200, description="A key of its own for each film; kept 7 days.")
    ] = None,
    wait: Annotated[
        float, Query(ge=0, le=LONGEST_WAIT_S, description="Wait so many seconds for the answer before replying.")
    ] = 0,
    priority: Annotated[Literal["routine", "stat"], Query(description="`stat` goes before routine films.")] = "routine",
) -> Response:
    """Send one film: the body is the file itself, a DICOM Part 10 file, a PNG or a JPEG.

    The reply says that the film is durable, never before it is. Sending the same film again is harmless: the same id,
    and no second answer. A key without `films:read` is not shown the answer.
    """
    room = room_of(request)
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared not in DECLARED:
        raise Refused(f"Content-Type must be one of {', '.join(DECLARED)}. Name the film's kind.", code="unsupported")
    reads, urgent = "films:read" in caller.scopes, priority == "stat"
    waits = wait > 0 and reads
    receipt = await _receive(request, room, caller, DECLARED[declared], idempotency_key, urgent, waits)
    logger().info("film received", origin="rest", film=receipt.film_id, new=receipt.new, state=receipt.state)
    new = receipt.new and receipt.state == "received"
    film, handed = await _answered(room, receipt.film_id, wait if waits else 0, caller if reads else None, new=new)
    veil = functools.partial(veiled, room, caller, [film], new=new and handed)
    unasked = not tells(film) or (new and handed and not room.settings.read_first)
    study = study_of((veil() if unasked else await run_in_threadpool(veil))[0])
    said = (study if reads else study.model_copy(update={"answer": None})).model_dump_json()
    headers = {"Location": f"/api/v1/studies/{film.film_id}"}
    return Response(said, 201 if receipt.new else 200, headers, "application/json")


async def _receive(
    request: Request,
    room: ReadingRoom,
    caller: Caller,
    expected: str | None,
    key: str | None,
    urgent: bool,
    waits: bool,
) -> Receipt:
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > room.intake.largest_bytes:
        raise Refused(
            f"The film has {length} bytes, more than the {room.intake.largest_bytes} accepted.", code="too-large"
        )
    deadline = room.settings.upload_deadline_s
    begin = room.intake.begin
    with begin() if room.intake.begins_at_once() else await begun(begin) as arrival:
        try:
            async with asyncio.timeout(deadline):
                await _read(request, arrival)
        except TimeoutError:
            raise Refused(
                f"The upload was not complete after {deadline:g} s. Send it over a faster line.", code="too-slow"
            ) from None
        except ClientDisconnect:
            raise Refused("The upload broke off. Send the film again.", code="too-slow") from None
        own = None if key is None else hashlib.sha256(f"{caller.name}\0{key}".encode()).hexdigest()
        return await to_its_end(
            arrival.finish,
            origin="rest",
            actor=caller.name,
            request_key=own,
            expected=expected,
            urgent=urgent,
            patient=waits and not urgent,
        )


async def _read(request: Request, arrival: Arrival) -> None:
    async for chunk in request.stream():
        if arrival.waits(len(chunk)):
            await to_its_end(arrival.write, chunk)
        else:
            arrival.write(chunk)


async def _answered(
    room: ReadingRoom, film_id: str, wait_s: float, caller: Caller | None, *, new: bool = False
) -> tuple[FilmRecord, bool]:
    """The film, once it is finished or the time is over, and whether it was recorded for this caller just now.

    Who sees an answer is written down.
    """
    viewer = caller.name if caller is not None and wait_s > 0 else None
    async with room.announcements.listen(film_id, new=new, viewer=viewer) as announced:
        unfinished = new and wait_s > 0  # what was received just now can't be finished unannounced
        film = None if unfinished else await run_in_threadpool(room.store.film, film_id)
        if wait_s > 0 and (unfinished or (film is not None and film.state not in FINISHED)):
            try:
                async with asyncio.timeout(wait_s):
                    await announced.wait()
            except TimeoutError:
                pass
            if announced.film is not None:  # it was recorded for this viewer, as seen
                return announced.film, True
            if announced.is_set() and caller is not None:  # it has an answer or a reason: read it once, as seen
                return await _seen(room, film_id, caller), False
            film = await run_in_threadpool(room.store.film, film_id)
    if film is not None and film.answer is not None and caller is not None:
        return await _seen(room, film_id, caller), False
    if film is None:
        raise unknown_study()
    return film, False


async def _seen(room: ReadingRoom, film_id: str, caller: Caller) -> FilmRecord:
    # Who labels it just now is not shown its answer, so it is not written down as seen.
    viewer = None if await run_in_threadpool(labels_now, room, caller, film_id) else caller.name
    film = await run_in_threadpool(functools.partial(room.store.film, film_id, viewer=viewer))
    if film is None:
        raise unknown_study()
    return film


@router.get("", response_model=StudyList, summary="List films, newest first", responses={422: PROBLEM})
def studies(
    request: Request,
    caller: Annotated[Caller, needs("films:read")],
    limit: Annotated[int, Query(ge=1, le=200, description="Most films of a page.")] = 50,
    cursor: Annotated[str | None, Query(max_length=200, description="`next` of the page before.")] = None,
    state: Annotated[list[StateName] | None, Query(description="Only films in these states.")] = None,
) -> StudyList:
    """One page of films. Follow `next` until it is null; films that arrive meanwhile don't shift the pages."""
    room = room_of(request)
    page = room.store.films(limit=limit, cursor=cursor, states=state or (), viewer=caller.name)
    return StudyList(
        studies=[study_of(film) for film in veiled(room, caller, page.films, opened=False)], next=page.next_cursor
    )


@router.get("/{film_id}", response_model=Study, summary="Read one film's answer", responses={404: PROBLEM})
async def study(
    request: Request,
    film_id: str,
    caller: Annotated[Caller, needs("films:read")],
    wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT_S, description="Wait so many seconds for the answer.")] = 0,
) -> Study:
    """A film, its state and, once it is answered, the answer with its uncertainty, gate verdict and provenance."""
    room = room_of(request)
    film, _ = await _answered(room, _known(film_id), wait, caller)
    return study_of((await run_in_threadpool(veiled, room, caller, [film]))[0])


@router.post(
    "/{film_id}/requeue",
    response_model=Study,
    summary="Try a failed film again",
    responses={404: PROBLEM, 422: PROBLEM},
)
def requeue(request: Request, film_id: str, caller: Annotated[Caller, needs("models:write")]) -> Study:
    """Put a film that failed back into the queue. Failed films are listed by `GET /api/v1/studies?state=failed`."""
    room = room_of(request)
    if room.store.requeue(_known(film_id), actor=caller.name) is None:
        raise unknown_study()
    room.workflow.wake()
    return study_of(known_film(room, film_id))


@router.get("/{film_id}/film.png", response_class=Response, summary="The film as a picture", responses=PNG)
def film_picture(request: Request, film_id: str, caller: Annotated[Caller, needs("films:read")]) -> Response:
    """The film as a grey PNG: polarity and window applied, reduced to at most 1,024 pixels. Not for reading."""
    room = room_of(request)
    film = known_film(room, film_id)
    stored = room.intake.files.film(film.file_sha256)
    picture = room.pictures.get((film_id, film.file_sha256), lambda: room.drawing.film(stored))
    room.store.picture_viewed(film_id, "film", viewer=caller.name)
    return _png(picture)


@router.get("/{film_id}/heatmap/{finding}.png", response_class=Response, summary="A finding's heat map", responses=PNG)
def heatmap_picture(
    request: Request,
    film_id: str,
    finding: str,
    caller: Annotated[Caller, needs("films:read")],
    layer: Annotated[bool, Query(description="The heat map alone, transparent where it is zero.")] = False,
    style: Annotated[Literal["heat", "contour"], Query(description="Coloured areas, or lines.")] = "heat",
) -> Response:
    """Where on the film the model saw evidence for a finding: a class activation map over the film."""
    room = room_of(request)
    film = known_film(room, film_id)
    if film_id in to_label(room, caller, [film_id]):
        raise HTTPException(403, LABELLING)
    if hidden(room, caller, [film_id]):
        raise HTTPException(403, FIRST)
    heatmap, answer = _heatmap(room, film, finding)
    stored = room.intake.files.film(film.file_sha256)
    key = (film_id, film.file_sha256, answer.model_sha256, finding, "layer" if layer else "overlay", style)
    said = answer.assessment
    draw = functools.partial(room.drawing.heatmap, stored, heatmap, assessment=said, layer=layer, style=style)
    picture = room.pictures.get(key, draw)
    room.store.picture_viewed(film_id, finding, viewer=caller.name)
    return _png(picture)


def _known(film_id: str) -> str:
    if not FILM_ID.fullmatch(film_id):
        raise unknown_study()
    return film_id


def known_film(room: ReadingRoom, film_id: str) -> FilmRecord:
    """A film by an id from an address; raises HTTPException 404."""
    film = room.store.film(_known(film_id))
    if film is None:
        raise unknown_study()
    return film


def _heatmap(room: ReadingRoom, film: FilmRecord, finding: str) -> tuple[HeatmapRecord, AnswerRecord]:
    there = film.answer.findings if film.answer else ()
    heatmap = room.store.heatmap(film.film_id, finding) if finding in there else None
    if heatmap is None or film.answer is None:
        known = f"It has: {', '.join(there)}." if there else "It has none yet; see its state."
        raise HTTPException(404, f"The film has no heat map of this finding. {known}")
    return heatmap, film.answer


def _png(picture: bytes) -> Response:
    return Response(picture, media_type="image/png", headers={"Content-Disposition": "inline"})
