"""No route shows a film, a list, a picture or an object where the look can't be written into the audit."""

import io
import re
from pathlib import Path

import httpx
import pydicom
import pytest
from tests.records.test_seen import refusing_audit
from tests.service.conftest import let_in, settings_in
from tests.service.small import SmallDrawing, SmallModel, dicom

from hilum.records.audit import entries
from hilum.records.roles import ROLES
from hilum.service.app import Running, create_app, running
from hilum.service.rest.access import declared

SHOW = {
    "/", "/films/{film_id}", "/api/v1/studies", "/api/v1/studies/{film_id}", "/api/v1/studies/{film_id}/film.png",
    "/api/v1/studies/{film_id}/heatmap/{finding}.png", "/api/v1/studies/{film_id}/pixels",
    "/api/v1/studies/{film_id}/reviews", "/api/v1/worklist", "/dicom-web/studies", "/dicom-web/series",
    "/dicom-web/instances", "/dicom-web/studies/{study}", "/dicom-web/studies/{study}/series",
    "/dicom-web/studies/{study}/metadata", "/dicom-web/studies/{study}/instances",
    "/dicom-web/studies/{study}/series/{series}", "/dicom-web/studies/{study}/series/{series}/metadata",
    "/dicom-web/studies/{study}/series/{series}/instances",
    "/dicom-web/studies/{study}/series/{series}/instances/{sop}",
    "/dicom-web/studies/{study}/series/{series}/instances/{sop}/metadata",
    "/dicom-web/studies/{study}/series/{series}/instances/{sop}/frames/{numbers}",
    "/dicom-web/studies/{study}/series/{series}/instances/{sop}/bulkdata/{tag}",
}  # fmt: skip
"""What shows something of a film; each writes it down."""

PATIENT = "SEENCANARY"


def nothing_is_shown(service: Running) -> None:
    """Every route that writes a look down shows nothing where it can't; tried twice, so that pictures are kept."""
    film = dicom(4501, PatientID=PATIENT, SeriesInstanceUID="1.2.3.4501")
    headers = let_in(service, *ROLES)
    with httpx.Client(base_url=service.url, timeout=90, headers=headers) as http:
        kind = {"Content-Type": "application/dicom"}
        sent = http.post("/api/v1/studies?wait=60", content=film, headers=kind).json()
        service.room.dicomweb.indexer.now(sent["id"])
        wanted = addresses(service, sent["id"], film)
        looks = {route for route, at in wanted.items() if written_down(service, http, at)}
        assert looks >= SHOW
        with refusing_audit(service.room.database):
            for route in sorted(looks):
                refused = http.get(wanted[route])
                assert refused.status_code == 503, (route, refused.status_code)
                assert refused.headers["content-type"] == "application/problem+json", route
                assert "could not be read or written" in refused.json()["detail"], route
                assert PATIENT not in refused.text
        for route in looks:
            assert http.get(wanted[route]).status_code == 200, route


def addresses(service: Running, film_id: str, film: bytes) -> dict[str, str]:
    said = pydicom.dcmread(io.BytesIO(film))
    values = {
        "film_id": film_id, "finding": "pneumonia", "study": said.StudyInstanceUID, "series": said.SeriesInstanceUID,
        "sop": said.SOPInstanceUID, "numbers": "1", "tag": "7FE00010", "name": "none",
    }  # fmt: skip
    routes = [path for (method, path) in declared(create_app(service.room)) if method == "GET"]
    shown = [route for route in routes if route != "/api/v1/events"]
    return {route: re.sub(r"\{(\w+)[^}]*\}", lambda part: values[part[1]], route) for route in shown}


def written_down(service: Running, http: httpx.Client, address: str) -> bool:
    """Whether a look leaves a row."""

    def rows() -> int:
        with service.room.database.read() as session:
            return len(entries(session))

    before = rows()
    return http.get(address).status_code == 200 and rows() > before


@pytest.mark.system
def test_nothing_is_shown_that_can_not_be_written_down(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
        nothing_is_shown(service)
