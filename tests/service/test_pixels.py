"""A film's grey values over REST: the bytes, what is kept where, and who looked."""

import json
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.service.small import as_png, dicom, png

from hilum.errors import FilmError
from hilum.records.audit import entries
from hilum.service.app import Running
from hilum.service.web import pages


def send(http: httpx.Client, body: bytes) -> str:
    kind = "image/png" if body.startswith(b"\x89") else "application/dicom"
    reply = http.post("/api/v1/studies", content=body, headers={"Content-Type": kind}, params={"wait": 60})
    return str(reply.json()["id"])


def looks(service: Running, film_id: str) -> list[str]:
    with service.room.database.read() as session:
        rows = entries(session, subject=film_id)
    return [json.loads(row.body)["detail"].get("picture") for row in rows if row.act == "picture.viewed"]


def test_the_pixels_are_the_film(http: httpx.Client, service: Running) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (24, 40), np.uint8)
    film_id = send(http, as_png(grey))
    reply = http.get(f"/api/v1/studies/{film_id}/pixels")
    head = json.loads(reply.headers["hilum-film"])
    assert (head["rows"], head["columns"], head["low"], head["high"], head["spacing_mm"]) == (24, 40, 0, 65535, None)
    assert np.array_equal(np.frombuffer(reply.content, "<u2").reshape(24, 40), grey.astype(int) * 257)
    assert reply.headers["cache-control"] == "private, no-cache"
    assert looks(service, film_id) == ["pixels"]


def test_a_look_at_kept_pixels_is_written_down_as_well(http: httpx.Client, service: Running) -> None:
    address = f"/api/v1/studies/{send(http, png(70, 50))}/pixels"
    tag = http.get(address, headers={"Hilum-Ahead": "true"}).headers["etag"]
    again = http.get(address, headers={"If-None-Match": f'"other", {tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert looks(service, address.split("/")[4]) == ["pixels fetched ahead", "pixels"]
    assert http.get(address, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize(("accepts", "encoding"), [("gzip, br", "gzip"), ("identity", None)])
def test_what_shrinks_is_sent_small_where_the_browser_takes_it(
    http: httpx.Client, accepts: str, encoding: str | None
) -> None:
    reply = http.get(f"/api/v1/studies/{send(http, png(71, 60))}/pixels", headers={"Accept-Encoding": accepts})
    assert reply.headers.get("content-encoding") == encoding
    assert np.array_equal(np.frombuffer(reply.content, "<u2"), np.full(3600, 71 * 257))


def test_a_film_is_drawn_while_its_page_is_put_together(
    http: httpx.Client, service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is nobody's look. A film that can't be drawn keeps no place, and its page comes all the same."""
    begun, drawn = threading.Event(), list[str]()
    draw, put_together = service.room.drawing.pixels, pages._reading

    def watched(film: Path) -> object:
        drawn.append(str(film))
        begun.set()
        if len(drawn) > 1:
            raise FilmError("No.", code="unreadable")
        return draw(film)

    def waiting(*given: Any) -> dict[str, Any]:
        assert begun.wait(120)
        return put_together(*given)

    monkeypatch.setattr(service.room.drawing, "pixels", watched)
    monkeypatch.setattr(pages, "_reading", waiting)
    ids = [send(http, png(80 + number, 50)) for number in range(6)]
    for film_id in ids:
        begun.clear()
        assert http.get(f"/films/{film_id}").status_code == 200
    assert len(set(drawn)) == 6
    assert looks(service, ids[0]) == []


def test_spacing_is_told_where_it_is_recorded(http: httpx.Client) -> None:
    film_id = send(http, dicom(701, 90, ImagerPixelSpacing=[0.2, 0.3]))
    head = json.loads(http.get(f"/api/v1/studies/{film_id}/pixels").headers["hilum-film"])
    assert head["spacing_mm"] == [0.2, 0.3]


def test_an_unreadable_film_has_no_pixels(http: httpx.Client) -> None:
    film_id = send(http, png(72)[:40])
    reply = http.get(f"/api/v1/studies/{film_id}/pixels")
    assert (reply.status_code, reply.headers["content-type"]) == (422, "application/problem+json")


def test_lines_instead_of_areas(http: httpx.Client) -> None:
    address = f"/api/v1/studies/{send(http, png(140))}/heatmap/normal.png"
    assert http.get(address, params={"style": "contour", "layer": True}).status_code == 200
    assert http.get(address, params={"style": "dots"}).status_code == 422
