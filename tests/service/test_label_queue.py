"""Labelling over REST and on its pages: drawn by a manager, labelled by readers, and never with the model's answer."""

import json
import re
from collections.abc import Iterator

import httpx
import pytest
from tests.service.conftest import let_in
from tests.service.small import png

from hilum.records.audit import entries
from hilum.records.labelling_sight import to_label
from hilum.records.unread import unread
from hilum.service.app import Running

KIND = {"Content-Type": "image/png"}
API = "/api/v1/labelling"
XSS = "<img src=x onerror=alert(1)>"


@pytest.fixture
def service(alone: Running) -> Running:
    """One for each test: what one draws, no other can draw."""
    return alone


@pytest.fixture
def manager(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=90, headers=let_in(service, "model-manager")) as client:
        yield client


def reader(service: Running, name: str) -> httpx.Client:
    access = service.room.access
    if name not in [user.name for user in access.users()]:
        access.add_user(name, ["reviewer"], password=None, actor="test")
    secret = access.add_key(name, actor="test")[1]
    return httpx.Client(base_url=service.url, timeout=90, headers={"Authorization": f"Bearer {secret}"})


@pytest.fixture
def films(manager: httpx.Client) -> list[str]:
    sent = [manager.post("/api/v1/studies?wait=60", content=png(60 + i, 40 + i), headers=KIND) for i in range(6)]
    return [str(one.json()["id"]) for one in sent]


def test_where_no_film_is_left_none_is_drawn_and_it_says_so(manager: httpx.Client) -> None:
    refused = manager.post(f"{API}/batches", json={"films": 1})
    assert (refused.status_code, "there is none to choose" in refused.json()["detail"]) == (409, True)


def test_a_manager_draws_and_the_same_request_draws_once(manager: httpx.Client, films: list[str]) -> None:
    key = {"Idempotency-Key": "spring"}
    new = {"films": 3, "second_percent": 34}
    first = manager.post(f"{API}/batches", json=new, headers=key)
    assert (first.status_code, first.json()["pool"], first.json()["twice"]) == (201, 6, 2)
    assert manager.post(f"{API}/batches", json=new, headers=key).json() == first.json()
    assert "another request" in manager.post(f"{API}/batches", json={"films": 1}, headers=key).json()["detail"]
    assert "between 1 and 3" in manager.post(f"{API}/batches", json={"films": 9}).json()["detail"]
    assert [one["id"] for one in manager.get(f"{API}/batches").json()["batches"]] == [first.json()["id"]]
    page = manager.get("/labelling/batches").text
    assert re.search(r"<td>3</td><td>6</td><td>2</td><td>3</td>", page)


def test_readers_label_without_the_answer_and_differ(service: Running, manager: httpx.Client, films: list[str]) -> None:
    manager.post(f"{API}/batches", json={"films": 3, "second_percent": 34})
    with reader(service, "ann") as ann, reader(service, "bob") as bob:
        page = ann.get("/labelling").text
        study = re.search(r'data-study="(\w+)"', page)
        assert study
        assert study[1] in films
        for told in ("±", "probability", "heatmap/", "positive"):
            assert told not in page.partition('id="film"')[2], told
        seen: dict[str, list[str]] = {}
        for client, finding in ((ann, "normal"), (bob, "pneumonia")):
            while (task := client.post(f"{API}/next").json())["study"]:
                label = {"finding": finding, "comment": XSS, "seconds": 3.5, "shown": {"zoom": 1.25}}
                made = client.post(f"{API}/{task['study']}/labels", json=label)
                assert (made.status_code, made.json()["version"]) == (201, 1)
                assert client.post(f"{API}/{task['study']}/labels", json=label).json() == made.json()
                seen.setdefault(task["study"], []).append(finding)
        twice = [film for film, said in seen.items() if len(said) == 2]
        assert (len(seen), len(twice)) == (3, 2)
        stale = ann.post(f"{API}/{twice[0]}/labels", json={"finding": "covid-19"})
        assert stale.status_code == 412
        assert (
            "Did you mean 'normal'" in ann.post(f"{API}/{twice[0]}/labels", json={"finding": "norml"}).json()["detail"]
        )
        assert "one of both" in ann.post(f"{API}/{twice[0]}/labels", json={"over": 1}).json()["detail"]
        assert "No film waits for your label" in ann.get("/labelling").text
        assert "You said: normal" in ann.get(f"/labelling?film={twice[0]}").text
    told = manager.get(f"{API}/unsettled").json()["films"]
    assert sorted(one["study"] for one in told) == sorted(twice)
    assert {label["finding"] for label in told[0]["labels"]} == {"normal", "pneumonia"}
    page = manager.get("/labelling/batches").text
    assert XSS not in page
    assert "&lt;img" in page
    assert manager.post(f"{API}/{twice[0]}/readers").json() == {"readings": 3}
    assert manager.post(f"{API}/{'0' * 32}/readers").status_code == 404
    with service.room.database.read() as session:
        rows = [(row.actor, row.act) for row in entries(session, subject=twice[0])]
        looked = [json.loads(row.body)["detail"]["films"] for row in entries(session) if row.act == "labels.viewed"]
    for one in (("ann", "labelling.viewed"), ("ann", "film.labelled"), ("bob", "film.labelled")):
        assert one in rows
    assert all(sorted(films) == sorted(twice) for films in looked)
    assert len(looked) == 2


def test_a_hold_is_kept_let_go_and_passed_over(service: Running, manager: httpx.Client, films: list[str]) -> None:
    manager.post(f"{API}/batches", json={"films": 2, "second_percent": 0})
    with reader(service, "cyd") as cyd, reader(service, "dan") as dan:
        first = cyd.post(f"{API}/next").json()["study"]
        assert cyd.post(f"{API}/{first}/hold").json() == {"mine": True}
        assert cyd.delete(f"{API}/{first}/hold", params={"passed": True}).status_code == 204
        assert cyd.post(f"{API}/next").json()["study"] != first
        assert service.room.labelling.hold(first, "dan")
        assert cyd.post(f"{API}/{first}/hold").json() == {"mine": False} or service.room.labelling.waiting("dan")
        assert dan.delete(f"{API}/{first}/hold").status_code == 204
        dan.get(f"/films/{first}")
        refused = dan.post(f"{API}/{first}/labels", json={"finding": "normal"})
        assert (refused.status_code, "lean on it" in refused.json()["detail"]) == (422, True)


def test_no_answer_is_seen_of_what_a_reader_is_to_label_unless_its_page_is_opened(
    service: Running, manager: httpx.Client
) -> None:
    sent = [manager.post("/api/v1/studies?wait=60", content=png(90 + i, 90 + i), headers=KIND) for i in range(2)]
    assert {one.json()["state"] for one in sent} == {"answered"}
    with service.room.database.read() as session:
        free = len(unread(session).film_ids)
    assert manager.post(f"{API}/batches", json={"films": free, "second_percent": 0}).status_code == 201
    with reader(service, "kim") as kim:
        held = kim.post(f"{API}/next").json()["study"]
        with service.room.database.read() as session:
            mine = set(session.scalars(to_label("kim")))
        assert {str(one.json()["id"]) for one in sent} | {held} <= mine
        (other, *_) = mine - {held}

        def listed() -> dict[str, bool]:
            there = kim.get("/api/v1/studies", params={"limit": 200}).json()["studies"]
            return {one["id"]: one["answer"] is not None for one in there if one["id"] in mine}

        assert kim.get("/", params={"part": "rows"}).text.count("after your label") == len(mine)
        assert listed() == dict.fromkeys(mine, False)
        for finding in ("normal", "pneumonia", "covid-19"):
            rows = kim.get("/", params={"part": "rows", "finding": finding}).text
            assert not [one for one in mine if one in rows], "what a filter lets through says the answer"
            picture = kim.get(f"/api/v1/studies/{other}/heatmap/{finding}.png")
            assert (picture.status_code, "drawn for labelling" in picture.json()["detail"]) == (403, True)
        assert "after your label" not in manager.get("/", params={"part": "rows"}).text
        # In front of the reader: neither page nor reply has the answer, and looking costs no label.
        page = kim.get(f"/films/{held}")
        assert (page.status_code, page.headers["location"]) == (303, "/labelling?blinded=1")
        assert "its answer is covered" in kim.get("/labelling?blinded=1").text
        assert kim.get(f"/api/v1/studies/{held}").json()["answer"] is None
        assert kim.post(f"{API}/{held}/labels", json={"finding": "normal"}).status_code == 201
        assert kim.get(f"/api/v1/studies/{held}").json()["answer"] is not None
        # Not in front: who opens a film to read it sees its answer, and no longer labels it.
        kim.delete(f"{API}/{other}/hold")
        assert "probability" in kim.get(f"/films/{other}").text
        assert kim.get(f"/api/v1/studies/{other}/heatmap/pneumonia.png").status_code == 200
        assert "lean on it" in kim.post(f"{API}/{other}/labels", json={"finding": "normal"}).json()["detail"]


def test_a_page_asks_the_queue_once(service: Running, films: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    queue, asked = type(service.room.labelling), []
    sight = queue.sight

    def counted(self: object, film_ids: list[str], who: str) -> object:
        asked.append(film_ids)
        return sight(self, film_ids, who)  # type: ignore[arg-type]

    monkeypatch.setattr(queue, "sight", counted)
    with reader(service, "zoe") as zoe:
        for path in (f"/films/{films[0]}", f"/films/{films[0]}?part=answer", "/?part=rows"):
            asked.clear()
            assert zoe.get(path).status_code == 200
            assert len(asked) == 1, path
