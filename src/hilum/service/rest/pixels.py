"""``/api/v1/studies/{id}/pixels``: a film's own grey values, for a viewer that sets its window itself."""

import contextlib
import gzip
import json
import threading
import zlib
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from hilum.errors import HilumError
from hilum.imaging.viewing import ViewerFilm
from hilum.records.access import Caller
from hilum.records.values import FilmRecord
from hilum.service.reading_room import ReadingRoom
from hilum.service.rest.access import needs, room_of
from hilum.service.rest.studies import PROBLEM, known_film

FORM = 1
"""Raised when the same film would give other bytes: it is part of the ETag."""

HEADER = "Hilum-Film"
WORTH, SAMPLE = 0.5, 256 * 1024
"""Pixels are compressed where a sample of so many bytes shrinks to this share: otherwise the processor takes longer
than a hospital's network."""

KEPT = "private, no-cache"
"""A browser keeps the pixels and asks each time whether it may show them, so that each look is written down."""

_ahead = threading.BoundedSemaphore(4)
"""Films that may be drawn before their pixels are asked for, at once."""

REPLIES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {}}, "description": "uint16, little endian, row by row."},
    304: {"description": "The browser has them already."},
    404: PROBLEM,
    422: PROBLEM,
}
router = APIRouter(prefix="/api/v1/studies", tags=["studies"])


@router.get("/{film_id}/pixels", response_class=Response, summary="The film's grey values", responses=REPLIES)
def pixels(
    request: Request,
    film_id: str,
    caller: Annotated[Caller, needs("films:read")],
    if_none_match: Annotated[str | None, Header(max_length=500)] = None,
    accept_encoding: Annotated[str, Header(max_length=500)] = "",
    hilum_ahead: Annotated[bool, Header(description="Fetched ahead of its turn; written down as that.")] = False,
) -> Response:
    """The film as uint16 values, 0 black to 65535 white, little endian, row by row.

    Modality LUT and polarity are applied. The header `Hilum-Film` holds JSON: `rows`, `columns`, `low` and `high` (the
    film's own window in these values), `windowed` (true when nothing lies beyond the window) and `spacing_mm` (down and
    across; null when not recorded). For looking at, not for measuring exposure.
    """
    room = room_of(request)
    film = known_film(room, film_id)
    tag = f'W/"{film.file_sha256[:32]}-{FORM}"'
    what = "pixels fetched ahead" if hilum_ahead else "pixels"
    if if_none_match is not None and tag in (one.strip() for one in if_none_match.split(",")):
        room.store.picture_viewed(film_id, what, viewer=caller.name)
        return Response(status_code=304, headers={"ETag": tag, "Cache-Control": KEPT})
    head, encoding, body = _unpack(_drawn(room, film))
    room.store.picture_viewed(film_id, what, viewer=caller.name)
    headers = {"ETag": tag, "Cache-Control": KEPT, "Vary": "Accept-Encoding", HEADER: head}
    if encoding and "gzip" in accept_encoding:
        headers["Content-Encoding"] = encoding
    elif encoding:
        body = gzip.decompress(body)
    return Response(body, media_type="application/octet-stream", headers=headers)


def draw_ahead(room: ReadingRoom, film: FilmRecord) -> None:
    """Begin with the pixels of a film whose page is asked for, while the page is put together: they take longer.

    Nothing is begun while several are drawn already. What goes wrong is said when the pixels are asked for.
    """

    def draw() -> None:
        try:
            with contextlib.suppress(HilumError):
                _drawn(room, film)
        finally:
            _ahead.release()

    if _ahead.acquire(blocking=False):
        threading.Thread(target=draw, name="hilum-draw-ahead", daemon=True).start()


def _drawn(room: ReadingRoom, film: FilmRecord) -> bytes:
    return room.pictures.get((film.film_id, film.file_sha256, "pixels"), lambda: _make(room, film))


def _make(room: ReadingRoom, film: FilmRecord) -> bytes:
    """Head, encoding and body as one value of the picture cache."""
    seen = room.drawing.pixels(room.intake.files.film(film.file_sha256))
    raw = seen.pixels.astype("<u2", copy=False).tobytes()
    middle = max(0, len(raw) // 2 - SAMPLE // 2)
    sample = raw[middle : middle + SAMPLE]
    pays = len(zlib.compress(sample, 1)) < WORTH * len(sample)
    body = gzip.compress(raw, 1, mtime=0) if pays else raw
    return b"\n".join([_head(seen).encode(), b"gzip" if pays else b"", body])


def _unpack(kept: bytes) -> tuple[str, str, bytes]:
    head, encoding, body = kept.split(b"\n", 2)
    return head.decode(), encoding.decode(), body


def _head(film: ViewerFilm) -> str:
    rows, columns = film.pixels.shape
    return json.dumps(
        {
            "rows": int(rows),
            "columns": int(columns),
            "low": round(film.low, 3),
            "high": round(film.high, 3),
            "windowed": film.windowed,
            "spacing_mm": film.spacing_mm,
        }
    )
