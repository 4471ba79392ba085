"""Lists that grow have pages; the others are named here, with what bounds them."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import httpx
import pytest
from tests.records.test_alarms import opened
from tests.service.conftest import let_in
from tests.service.small import png
from tests.service.test_problems import walked
from tests.service.test_results_rest import not_looked_up

from hilum.records.audit import entries
from hilum.records.cursors import write_cursor
from hilum.records.labelling_schema import LabelBatchRow, LabelTaskRow
from hilum.records.store import now
from hilum.records.study_schema import ReaderStudyRow
from hilum.service.app import Running

BOUNDED = {
    "/api/v1/studies/{film_id}/reviews": "the newest of each reader",
    "/api/v1/reader-studies/mine": "those that are open",
}
PAGED_OTHERWISE = {"/api/v1/audit": "after", "/api/v1/models": "before"}


@pytest.fixture
def manager(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=90, headers=let_in(service, "model-manager")) as client:
        yield client


def test_every_list_has_pages_or_is_bounded_by_its_nature(http: httpx.Client) -> None:
    """By the interface's own description, so a new list can't be forgotten."""
    spec = http.get("/openapi.json").json()
    bare, paged = set(), {}
    for path, methods in spec["paths"].items():
        content = methods.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema", {})
        if schema.get("type") == "array":
            bare.add(path)
        named = spec["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], {}).get("properties", {})
        of_objects = [one for one in named.values() if "$ref" in one.get("items", {})]
        if path.startswith("/api/") and of_objects:
            paged[path] = ("next" in named, {one["name"] for one in methods["get"]["parameters"]})
    assert bare == set(BOUNDED)
    assert len(paged) >= 11
    for path, (goes_on, parameters) in paged.items():
        assert goes_on, path
        assert {"limit", PAGED_OTHERWISE.get(path, "cursor")} <= parameters, path


def test_alarms_come_in_pages(service: Running, manager: httpx.Client) -> None:
    for number in range(5):
        opened(service.room.database, f"paged{number}")
    ids = [one["id"] for one in walked(manager, "/api/v1/alarms", "alarms")]
    assert ids == [one.id for one in service.room.alarms.newest(limit=99)]
    assert len(ids) >= 5


def test_look_ups_that_were_given_up_come_in_pages(service: Running, manager: httpx.Client) -> None:
    for number in range(5):
        not_looked_up(service.room.database, 7100 + number)
    ids = [one["film"] for one in walked(manager, "/api/v1/look-ups", "given_up")]
    assert ids == [one.film_id for one in service.room.look_ups.lost()]
    assert len(ids) >= 5


def test_label_batches_and_films_without_an_agreement_come_in_pages(
    service: Running, http: httpx.Client, manager: httpx.Client
) -> None:
    kind, at = {"Content-Type": "image/png"}, now()
    films = [http.post("/api/v1/studies", content=png(70 + i, 30 + i), headers=kind).json()["id"] for i in range(7)]
    with service.room.database.write() as session:
        for number in range(5):  # two of one instant among them
            drawn = {"id": f"batch{number}", "drawn_at": at + timedelta(minutes=number // 2), "drawn_by": "mel"}
            session.add(LabelBatchRow(films=1, pool=9, twice=0, how="{}", **drawn))
        session.flush()
        for number, film in enumerate(films):
            task = {"film_id": film, "batch_id": f"batch{number % 3}", "place": number, "probability": 0.5}
            session.add(LabelTaskRow(readings=1, state="differ" if number else "agreed", **task))
    ids = [one["id"] for one in walked(manager, "/api/v1/labelling/batches", "batches")]
    assert ids == [one.id for one in service.room.label_batches.all()]
    assert {f"batch{number}" for number in range(5)} <= set(ids)
    unsettled = [one["study"] for one in walked(manager, "/api/v1/labelling/unsettled", "films")]
    assert unsettled == [films[place] for place in (1, 3, 4, 6, 2, 5)], "by batch and place"
    assert unsettled == [one.film_id for one in service.room.labelling.unsettled(viewer="test")]
    with service.room.database.read() as session:
        looks = [row.body for row in entries(session) if row.act == "labels.viewed" and row.actor != "test"]
    assert [sum(film in body for film in films) for body in looks] == [2, 2, 2], "each page, and nothing beyond it"


def test_reader_studies_come_in_pages(service: Running, manager: httpx.Client) -> None:
    at = now()
    with service.room.database.write() as session:
        for number in range(5):
            made = {"name": f"paged-{number}", "created_at": at + timedelta(minutes=number // 2), "created_by": "mel"}
            asked = {"question": "pneumonia", "findings": '["normal", "pneumonia"]', "answer": "after"}
            session.add(ReaderStudyRow(plan_sha256="9" * 64, priors=False, washout_days=0, **made, **asked))
    names = [one["study"]["name"] for one in walked(manager, "/api/v1/reader-studies", "studies")]
    assert names == [one.protocol.name for one in service.room.studies.all()]
    assert names[:5] == ["paged-4", "paged-2", "paged-3", "paged-0", "paged-1"]


@pytest.mark.parametrize("path", ["alarms", "look-ups", "labelling/batches", "labelling/unsettled", "reader-studies"])
@pytest.mark.parametrize("cursor", ["x", write_cursor(datetime(1, 11, 28), "a")], ids=["none", "the year 1"])
def test_a_cursor_that_is_none_is_refused(manager: httpx.Client, path: str, cursor: str) -> None:
    reply = manager.get(f"/api/v1/{path}", params={"cursor": cursor})
    assert (reply.status_code, reply.headers["content-type"]) == (422, "application/problem+json")


def test_a_cursor_of_another_list_is_refused_where_it_can_not_be_read(manager: httpx.Client) -> None:
    reply = manager.get("/api/v1/labelling/unsettled", params={"cursor": write_cursor(now(), "a")})
    assert (reply.status_code, "for this list" in reply.json()["detail"]) == (422, True)
