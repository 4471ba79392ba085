"""``/dicom-web``: STOW-RS, QIDO-RS and WADO-RS (PS3.18)."""

import functools
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from hilum.records.access import Caller
from hilum.records.dicom_index import FILM, DicomObject
from hilum.service.dicom.part10 import EXPLICIT_LITTLE_ENDIAN
from hilum.service.dicomweb import media, native
from hilum.service.dicomweb.attributes import value_of
from hilum.service.dicomweb.contents import is_pixels
from hilum.service.dicomweb.matching import read_query
from hilum.service.dicomweb.multipart import Malformed, last_line, parameters, part_header
from hilum.service.dicomweb.searching import MOST_RESULTS, TooBroad, attributes_of, search
from hilum.service.dicomweb.storing import Outcome, Storing, response_of, status_of
from hilum.service.logs import logger
from hilum.service.reading_first import LABELLING, to_label
from hilum.service.reading_room import ReadingRoom
from hilum.service.refusals import Refused
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.problems import RETRY_AFTER_S
from hilum.service.rest.uncovered import Uncovered
from hilum.service.rest.users import PROBLEM, RESPONSES
from hilum.service.settings import is_loopback

ROOT = "/dicom-web"
UID = r"^[0-9.]{1,64}$"
CHUNK = 1024 * 1024
SHORT_BODY = 64 * 1024
NO_FUZZY = "The fuzzymatching parameter is not supported. Only literal matching has been performed."

router = APIRouter(prefix=ROOT, tags=["dicomweb"], responses=RESPONSES)
Sender = Annotated[Caller, needs("films:send")]
Reader = Annotated[Caller, Depends(Uncovered("dicom:read"))]
StudyUID = Annotated[str, Path(pattern=UID, description="Study Instance UID.")]
SeriesUID = Annotated[str, Path(pattern=UID, description="Series Instance UID.")]
SopUID = Annotated[str, Path(pattern=UID, description="SOP Instance UID.")]

BINARY = {"schema": {"type": "string", "format": "binary"}}
STORE: dict[str, Any] = {
    "response_class": Response,
    "responses": {
        200: {"description": "All films are durable.", "content": {media.JSON: {}, media.XML: {}}},
        202: {"description": "Some are; the answer says which are not, and why."},
        409: {"description": "None is; the answer says why."},
        **dict.fromkeys((400, 406, 408, 413, 415, 429, 503), PROBLEM),
    },
    "openapi_extra": {"requestBody": {"required": True, "content": {media.RELATED: BINARY, media.DICOM: BINARY}}},
}
FOUND: dict[str, Any] = {
    "response_class": Response,
    "responses": {
        200: {"description": "What matches, newest study first.", "content": {media.JSON: {}}},
        204: {"description": "Nothing matches."},
        **dict.fromkeys((400, 406, 413), PROBLEM),
    },
}
FETCHED: dict[str, Any] = {
    "response_class": Response,
    "responses": {200: {"content": {media.RELATED: BINARY}}, **dict.fromkeys((404, 406), PROBLEM)},
}
TOLD: dict[str, Any] = {
    "response_class": Response,
    "responses": {200: {"content": {media.JSON: {}}}, **dict.fromkeys((404, 406), PROBLEM)},
}


@router.post("/studies", summary="Store films (STOW-RS)", **STORE)
async def store(request: Request, caller: Sender) -> Response:
    """`multipart/related; type="application/dicom"`, or one film as `application/dicom`. What is said to be stored is
    durable; the same film again is the same film."""
    return await _store(request, caller, None)


@router.post("/studies/{study}", summary="Store films of one study (STOW-RS)", **STORE)
async def store_study(request: Request, caller: Sender, study: StudyUID) -> Response:
    """The same; films of other studies are refused."""
    return await _store(request, caller, study)


@router.get("/studies", summary="Find studies (QIDO-RS)", **FOUND)
def find_studies(request: Request, caller: Reader) -> Response:
    """Attributes by keyword or tag as query parameters, `limit`, `offset`; docs/dicom.md says which."""
    return _find(request, caller, "study")


@router.get("/series", summary="Find series (QIDO-RS)", **FOUND)
def find_series(request: Request, caller: Reader) -> Response:
    """Series of all studies."""
    return _find(request, caller, "series")


@router.get("/instances", summary="Find instances (QIDO-RS)", **FOUND)
def find_instances(request: Request, caller: Reader) -> Response:
    """Instances of all studies: films, reports, heat maps."""
    return _find(request, caller, "instance")


@router.get("/studies/{study}/series", summary="Find a study's series (QIDO-RS)", **FOUND)
def find_study_series(request: Request, caller: Reader, study: StudyUID) -> Response:
    """Series of one study."""
    return _find(request, caller, "series", StudyInstanceUID=study)


@router.get("/studies/{study}/instances", summary="Find a study's instances (QIDO-RS)", **FOUND)
def find_study_instances(request: Request, caller: Reader, study: StudyUID) -> Response:
    """Instances of one study."""
    return _find(request, caller, "instance", StudyInstanceUID=study)


@router.get("/studies/{study}/series/{series}/instances", summary="Find a series' instances (QIDO-RS)", **FOUND)
def find_series_instances(request: Request, caller: Reader, study: StudyUID, series: SeriesUID) -> Response:
    """Instances of one series."""
    return _find(request, caller, "instance", StudyInstanceUID=study, SeriesInstanceUID=series)


@router.get("/studies/{study}/metadata", summary="A study's attributes (WADO-RS)", **TOLD)
def study_metadata(request: Request, caller: Reader, study: StudyUID) -> Response:
    """DICOM JSON of everything in a study."""
    return _metadata(request, caller, study)


@router.get("/studies/{study}/series/{series}/metadata", summary="A series' attributes (WADO-RS)", **TOLD)
def series_metadata(request: Request, caller: Reader, study: StudyUID, series: SeriesUID) -> Response:
    """DICOM JSON of everything in a series."""
    return _metadata(request, caller, study, series)


@router.get(
    "/studies/{study}/series/{series}/instances/{sop}/metadata", summary="An instance's attributes (WADO-RS)", **TOLD
)
def instance_metadata(request: Request, caller: Reader, study: StudyUID, series: SeriesUID, sop: SopUID) -> Response:
    """DICOM JSON of one instance; pixels and long binary values as BulkDataURI."""
    return _metadata(request, caller, study, series, sop)


@router.get("/studies/{study}", summary="Fetch a study (WADO-RS)", **FETCHED)
def fetch_study(request: Request, caller: Reader, study: StudyUID) -> Response:
    """Everything in a study as it is stored; reports and heat maps as they are sent."""
    return _fetch(request, caller, study)


@router.get("/studies/{study}/series/{series}", summary="Fetch a series (WADO-RS)", **FETCHED)
def fetch_series(request: Request, caller: Reader, study: StudyUID, series: SeriesUID) -> Response:
    """Everything in a series."""
    return _fetch(request, caller, study, series)


@router.get("/studies/{study}/series/{series}/instances/{sop}", summary="Fetch an instance (WADO-RS)", **FETCHED)
def fetch_instance(request: Request, caller: Reader, study: StudyUID, series: SeriesUID, sop: SopUID) -> Response:
    """One instance, in one part or, where `application/dicom` is asked for, as the file itself."""
    return _fetch(request, caller, study, series, sop)


@router.get(
    "/studies/{study}/series/{series}/instances/{sop}/frames/{numbers}",
    summary="Fetch frames as they are stored (WADO-RS)",
    **FETCHED,
)
def fetch_frames(
    request: Request,
    caller: Reader,
    study: StudyUID,
    series: SeriesUID,
    sop: SopUID,
    numbers: Annotated[str, Path(pattern=r"^\d{1,6}(,\d{1,6}){0,99}$", description="From 1, commas between them.")],
) -> Response:
    """Compressed frames in their own media type, others as little endian bytes."""
    (one,) = _objects(request, caller, study, series, sop)
    wanted = tuple(int(number) for number in numbers.split(","))
    return _frames(request, caller, one, wanted, "/frames/")


@router.get(
    "/studies/{study}/series/{series}/instances/{sop}/bulkdata/{tag}",
    summary="Fetch a binary attribute (WADO-RS)",
    **FETCHED,
)
def fetch_bulkdata(
    request: Request,
    caller: Reader,
    study: StudyUID,
    series: SeriesUID,
    sop: SopUID,
    tag: Annotated[str, Path(pattern=r"^[0-9A-Fa-f]{8}$", description="As in the BulkDataURI.")],
) -> Response:
    """What a BulkDataURI of the metadata leads to; pixels as frames, one a part."""
    (one,) = _objects(request, caller, study, series, sop)
    number = int(tag, 16)
    if is_pixels(number):
        return _frames(request, caller, one, (), "/frames/")
    content = _there(lambda: _web(request).maker.bulkdata(one, number))
    url = f"{_url(request, one)}/bulkdata/{tag}"
    return _parts(request, caller, [one], media.OCTETS, None, iter([(url, content)]))


async def _store(request: Request, caller: Caller, study: str | None) -> Response:
    room = room_of(request)
    write = _written(request)
    boundary = _boundary(request)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused("The body is compressed. Send it as it is.", code="unsupported")
    storing = Storing(room.intake, actor=caller.name, study_uid=study, part_s=room.settings.upload_deadline_s)
    try:
        outcomes = await storing.take(_chunks(request), boundary)
    except Malformed as error:
        raise HTTPException(400, str(error), headers=_ending(request)) from None
    if not outcomes:
        raise HTTPException(400, "The body holds no film. Send at least one part.")
    outcomes = await run_in_threadpool(_indexed, room, outcomes)
    failures = sum(bool(one.failure) for one in outcomes)
    logger().info("films received", origin="dicomweb", films=len(outcomes), failures=failures)
    status = status_of(outcomes)
    content, kind = write(response_of(outcomes, _base(request)))
    headers = {"Retry-After": RETRY_AFTER_S} if status == 503 else {}
    return Response(content, status_code=status, media_type=kind, headers=headers)


def _ending(request: Request) -> dict[str, str]:
    """End the connection rather than read the rest of a long body; where it is short, who sends it must not be cut off
    before they have read why."""
    length = request.headers.get("content-length", "")
    short = length.isdigit() and len(length) < 9 and int(length) <= SHORT_BODY
    return {} if short else {"Connection": "close"}


def _indexed(room: ReadingRoom, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Who stores and then searches finds it; the thread that follows the events would be a moment late."""

    def listed(one: Outcome) -> bool:
        return one.receipt is None or one.failure > 0 or room.dicomweb.indexer.now(one.receipt.film_id).film is not None

    return [replace(one, listed=listed(one)) for one in outcomes]


def _written(request: Request) -> Callable[[Any], tuple[str, str]]:
    for one in media.accepted(request.headers.get("accept")):
        if one.kind in (media.JSON, "application/json"):
            return lambda attributes: (native.as_json(attributes), media.JSON)
        if one.kind in (media.XML, "application/xml", "text/xml", "application/*", "*/*"):
            return lambda attributes: (native.as_xml(attributes), media.XML)
    raise media.refused(media.JSON, media.XML)


def _boundary(request: Request) -> str | None:
    kind, given = parameters(request.headers.get("content-type", ""))
    if kind == media.DICOM:
        return None
    if kind == media.RELATED and given.get("type", media.DICOM).lower() == media.DICOM:
        return given.get("boundary", "")
    raise Refused(
        f'Content-Type must be {media.RELATED}; type="{media.DICOM}"; boundary=…, or {media.DICOM} for one film.',
        code="unsupported",
    )


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if chunk:
            yield chunk


def _find(request: Request, caller: Caller, level: str, **given: str) -> Response:
    kind = media.json_or_refuse(request.headers.get("accept"))
    query = read_query(level, request.query_params.multi_items(), given)
    index = _web(request).index
    try:
        hits = search(index, query, _base(request))
    except TooBroad as error:
        raise HTTPException(413, str(error)) from None
    index.looked(caller.name, "dicom.found", [o for hit in hits.hits for o in hit.objects], level=level)
    headers = {}
    notes = [NO_FUZZY] if query.fuzzy else []
    if hits.more and (query.limit is None or query.limit > MOST_RESULTS):
        notes.append("There are additional results that can be requested.")
    if notes:
        headers["Warning"] = ", ".join(f'299 hilum "{note}"' for note in notes)
    if not hits.hits:
        return Response(status_code=204, headers=headers)
    content = "[" + ",".join(native.as_json(hit.attributes) for hit in hits.hits) + "]"
    return Response(content, media_type=kind, headers=headers)


def _metadata(request: Request, caller: Caller, *uids: str) -> Response:
    kind = media.json_or_refuse(request.headers.get("accept"))
    objects, web = _objects(request, caller, *uids), _web(request)
    web.index.looked(caller.name, "dicom.fetched", objects, what="metadata")
    texts = [_there(functools.partial(web.maker.metadata, one, _url(request, one))) for one in objects]
    return Response(f"[{','.join(texts)}]", media_type=kind)


def _fetch(request: Request, caller: Caller, *uids: str) -> Response:
    objects, web = _objects(request, caller, *uids), _web(request)
    for wanted in media.accepted(request.headers.get("accept")):
        if all(media.takes_multipart(wanted, media.DICOM, _syntax(one)) for one in objects):
            pieces = ((_url(request, one), web.maker.content(one)) for one in objects)
            return _parts(request, caller, objects, media.DICOM, [_syntax(one) for one in objects], pieces)
        single = len(uids) == 3 and wanted.kind in (media.DICOM, "application/*")
        if single and wanted.syntax in ("", media.ANY_SYNTAX, _syntax(objects[0])):
            content = _there(lambda: web.maker.content(objects[0]))
            web.index.looked(caller.name, "dicom.fetched", objects, what="object")
            return Response(content, media_type=f"{media.DICOM}; transfer-syntax={_syntax(objects[0])}")
    there = sorted({_syntax(one) for one in objects})
    raise media.refused(*(f'{media.RELATED}; type="{media.DICOM}"; transfer-syntax={syntax}' for syntax in there))


def _frames(request: Request, caller: Caller, one: DicomObject, numbers: tuple[int, ...], where: str) -> Response:
    kind, syntax, frames = _there(lambda: _web(request).maker.frames(one, numbers))
    if not any(media.takes_multipart(w, kind, syntax) for w in media.accepted(request.headers.get("accept"))):
        raise media.refused(f'{media.RELATED}; type="{kind}"; transfer-syntax={syntax}')
    url = f"{_url(request, one)}{where}"
    told = numbers or range(1, len(frames) + 1)
    pieces = ((f"{url}{number}", frame) for number, frame in zip(told, frames, strict=True))
    return _parts(request, caller, [one], kind, [syntax] * len(frames), pieces)


def _parts(
    request: Request,
    caller: Caller,
    objects: Sequence[DicomObject],
    kind: str,
    syntaxes: Sequence[str] | None,
    pieces: Iterator[tuple[str, bytes]],
) -> Response:
    """A multipart reply; its first part is made before anything is said, so that a failure can still be told."""
    first = _there(lambda: next(pieces))
    what = "object" if kind == media.DICOM else "frames"
    _web(request).index.looked(caller.name, "dicom.fetched", objects, what=what)
    boundary = secrets.token_hex(16)

    def body() -> Iterator[bytes]:
        number, piece = 0, first
        while True:
            syntax = f"; transfer-syntax={syntaxes[number]}" if syntaxes else ""
            yield part_header(boundary, f"{kind}{syntax}", piece[0])
            for at in range(0, len(piece[1]), CHUNK):
                yield piece[1][at : at + CHUNK]
            yield b"\r\n"
            number += 1
            following = next(pieces, None)
            if following is None:
                break
            piece = following
        yield last_line(boundary)

    return StreamingResponse(body(), media_type=f'{media.RELATED}; type="{kind}"; boundary={boundary}')


def _there(make: Callable[[], Any]) -> Any:
    """What is made; HTTPException 404 where the object has none of it."""
    from hilum.errors import FilmError

    try:
        return make()
    except FilmError as error:
        if error.code in ("no-frame", "no-bulkdata", "gone", "erased"):
            raise HTTPException(404, str(error)) from None
        raise


def _objects(
    request: Request, caller: Caller, study: str, series: str | None = None, sop: str | None = None
) -> list[DicomObject]:
    found = [
        one
        for one in _web(request).index.objects([study])[study]
        if series in (None, one.series_instance_uid) and sop in (None, one.sop_instance_uid)
    ]
    if not found:
        raise HTTPException(404, "There is nothing under these UIDs. GET /dicom-web/studies finds what there is.")
    covered = to_label(room_of(request), caller, sorted({one.film_id for one in found}))
    shown = [one for one in found if one.kind == FILM or one.film_id not in covered]
    if not shown:
        raise HTTPException(403, LABELLING)
    return shown


def _syntax(one: DicomObject) -> str:
    return value_of(attributes_of(one), "AvailableTransferSyntaxUID") or EXPLICIT_LITTLE_ENDIAN


def _web(request: Request) -> Any:
    return room_of(request).dicomweb


def _base(request: Request) -> str:
    """Our address as the client has it. dicomweb-client leaves the port out of its Host header: where it names this
    machine itself, no proxy stands between and the port is ours."""
    url, server = request.base_url, request.scope.get("server")
    if server and url.port is None and (url.hostname == server[0] or is_loopback(url.hostname or "")):
        url = url.replace(port=server[1])
    return f"{str(url).rstrip('/')}{ROOT}"


def _url(request: Request, one: DicomObject) -> str:
    return (
        f"{_base(request)}/studies/{one.study_instance_uid}/series/{one.series_instance_uid}"
        f"/instances/{one.sop_instance_uid}"
    )
