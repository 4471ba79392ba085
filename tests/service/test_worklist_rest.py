"""The worklist for programs: the page's films in the page's order, page by page, written down as seen."""

import re

import httpx
import pytest
from tests.service.conftest import let_in
from tests.service.small import dicom, png

from hilum.client.api import Client
from hilum.errors import ServiceError
from hilum.records.audit import entries
from hilum.service.app import Running


def send(http: httpx.Client, body: bytes) -> str:
    kind = "image/png" if body.startswith(b"\x89") else "application/dicom"
    reply = http.post("/api/v1/studies?wait=60", content=body, headers={"Content-Type": kind})
    return str(reply.json()["id"])


def test_it_is_the_page_without_its_paper(alone: Running) -> None:
    """Order, filters and what is told of each film, once for all who read and once for programs."""
    headers = let_in(alone)
    with (
        httpx.Client(base_url=alone.url, timeout=90, headers=headers) as http,
        Client(alone.url, key=headers["Authorization"].split()[1]) as client,
    ):
        ids = {level: send(http, png(level)) for level in (61, 0, 151, 241, 242)}
        ids[100] = send(http, dicom(700, 100, AccessionNumber="SYN700", PatientName="Canary^Worklist"))
        review = f"/api/v1/studies/{ids[241]}/reviews/mine"
        assert http.put(review, json={"decision": "agree"}, headers={"If-None-Match": "*"}).status_code == 200
        http.post(f"/api/v1/studies/{ids[151]}/claim")
        for wanted in (
            {},
            {"status": "open"},
            {"status": "read"},
            {"status": "not-analysed"},
            {"finding": "pneumonia"},
            {"doubt": "unsure"},
            {"mine": True},
            {"accession": "SYN700"},
            {"accession": "SYN"},
        ):
            page = http.get("/", params=wanted).text
            listed = list(client.worklist(page_size=2, **wanted))  # type: ignore[arg-type]
            assert [line.study.id for line in listed] == re.findall(r'href="/films/([0-9a-f]{32})"', page), wanted
        lines = {line.study.id: line for line in client.worklist()}
        assert next(iter(lines)) == ids[242]
        assert (lines[ids[241]].reading, lines[ids[242]].reading) == ("read", "unread")
        assert (lines[ids[151]].held_by, lines[ids[242]].held_by) == ("test-reviewer", None)
        assert lines[ids[242]].study == client.study(ids[242])
        assert (lines[ids[242]].comes_first, lines[ids[0]].study.state) == (None, "not-analysed")
        told = http.get("/api/v1/worklist").text
        assert not [word for word in ("SYN700", "Canary") if word in told], "ids are opaque"
        with pytest.raises(ServiceError, match=r"\(422\).*query.status"):
            next(client.worklist(status="lost"))


def test_who_sees_it_is_written_down_with_each_page(alone: Running) -> None:
    with httpx.Client(base_url=alone.url, timeout=90, headers=let_in(alone, "viewer")) as http:
        with httpx.Client(base_url=alone.url, timeout=90, headers=let_in(alone)) as sender:
            ids = {level: send(sender, png(level)) for level in (60, 150, 240)}
        first = http.get("/api/v1/worklist", params={"limit": 2}).json()
        http.get("/api/v1/worklist", params={"limit": 2, "cursor": first["next"]})
    with alone.room.database.read() as session:
        rows = [row for row in entries(session) if row.act == "worklist.viewed"]
    assert [row.actor for row in rows] == ["test-viewer"] * 2
    assert [[one in row.body for one in ids.values()] for row in rows] == [[False, True, True], [True, False, False]]


@pytest.mark.parametrize("query", ["cursor=x", "limit=0", "limit=201", "status=lost", "doubt=some", "finding=%00"])
def test_what_it_does_not_know_is_refused(http: httpx.Client, query: str) -> None:
    reply = http.get(f"/api/v1/worklist?{query}")
    assert (reply.status_code, reply.headers["content-type"]) == (422, "application/problem+json")


def test_it_is_typed_in_the_description(http: httpx.Client) -> None:
    spec = http.get("/openapi.json").json()
    route = spec["paths"]["/api/v1/worklist"]["get"]
    assert {one["name"] for one in route["parameters"]} == {
        "limit", "cursor", "status", "finding", "doubt", "mine", "accession"
    }  # fmt: skip
    line = spec["components"]["schemas"]["LineOut"]["properties"]
    assert line["study"] == {"$ref": "#/components/schemas/Study"}
    assert line["reading"]["enum"] == ["unread", "once", "disagreement", "read", "settled"]
