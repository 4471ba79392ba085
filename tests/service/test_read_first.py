"""Read first: before the reader's own opinion the answer is in no page, no picture and no reply."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.service.conftest import let_in, settings_in
from tests.service.small import SmallDrawing, SmallModel, png

from hilum.service.app import Running, running

KIND = {"Content-Type": "image/png"}
TOLD = ("pneumonia</h2>", "covid-19</strong>", "pneumonia</strong>", "± 3 %", "heatmap/", "consistent with", "probable")


@pytest.fixture
def first(tmp_path: Path) -> Iterator[Running]:
    settings = settings_in(tmp_path / "first", dicom_port=None, read_first=True, readings=2)
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as started:
        yield started


def client(service: Running, *roles: str) -> httpx.Client:
    return httpx.Client(base_url=service.url, timeout=90, headers=let_in(service, *roles))


def test_the_answer_comes_after_the_opinion_and_not_before(first: Running) -> None:
    with client(first, "reviewer") as http, client(first, "viewer") as other:
        sent = http.post("/api/v1/studies?wait=60", content=png(204), headers=KIND).json()
        film, mine = f"/api/v1/studies/{sent['id']}", f"/api/v1/studies/{sent['id']}/reviews/mine"
        assert (sent["state"], sent["answer"]) == ("answered", None)
        listed = http.get("/api/v1/studies").json()["studies"]
        assert [one["answer"] for one in listed] == [None]
        assert http.get(f"{film}?wait=1").json()["answer"] is None
        refused = http.get(f"{film}/heatmap/pneumonia.png")
        assert (refused.status_code, "your own opinion" in refused.json()["detail"]) == (403, True)
        pages = [
            http.get(address).text for address in ("/", f"/films/{sent['id']}", f"/films/{sent['id']}?part=answer")
        ]
        assert not [words for words in TOLD for page in pages if words in page]
        assert "after your own reading" in pages[0]
        (line,) = http.get("/api/v1/worklist").json()["lines"]
        assert (line["study"]["answer"], line["study"]["reason"], line["comes_first"]) == (None, None, "reading")
        # Filters by the answer would tell it.
        for wanted in ({"finding": "normal"}, {"doubt": "abstained"}):
            refused = http.get("/api/v1/worklist", params=wanted)
            assert (refused.status_code, "not filtered by answers" in refused.json()["detail"]) == (403, True)
        assert sent["id"] in http.get("/", params={"finding": "normal", "doubt": "abstained"}).text
        assert http.put(mine, json={"decision": "agree"}, headers={"If-None-Match": "*"}).status_code == 422
        # Who doesn't read sees it.
        assert other.get(film).json()["answer"]["label"] == "pneumonia"
        opinion = {"decision": "opinion", "finding": "normal"}
        tag = http.put(mine, json=opinion, headers={"If-None-Match": "*"}).headers["etag"]
        assert http.get(film).json()["answer"]["label"] == "pneumonia"
        assert http.get(f"{film}/heatmap/pneumonia.png").status_code == 200
        assert "pneumonia</h2>" in http.get(f"/films/{sent['id']}").text
        assert http.put(mine, json={"decision": "agree"}, headers={"If-Match": tag}).status_code == 200


def test_a_second_reader_does_not_see_what_the_first_one_said(first: Running) -> None:
    with client(first, "reviewer") as ada, client(first, "reviewer", "viewer") as bob, client(first, "viewer") as cyd:
        film = ada.post("/api/v1/studies?wait=60", content=png(205), headers=KIND).json()["id"]
        reviews = f"/api/v1/studies/{film}/reviews"

        def put(who: httpx.Client, over: int, **body: object) -> None:
            given = {"If-Match": f'"v{over}"'} if over else {"If-None-Match": "*"}
            assert who.put(f"{reviews}/mine", json=body, headers=given).status_code == 200

        put(ada, 0, decision="opinion", finding="pneumonia")
        put(ada, 1, decision="override", finding="normal", comment="said by the first")
        assert bob.get(reviews).json() == []
        assert "said by the first" not in bob.get(f"/films/{film}").text
        assert "read once" in bob.get("/").text
        put(bob, 0, decision="opinion", finding="pneumonia")
        assert bob.get(reviews).json()[0]["decision"] == "opinion"
        put(bob, 1, decision="agree")
        assert len(bob.get(reviews).json()) == 2
        page = bob.get(f"/films/{film}").text
        assert "said by the first" in page
        assert "readers differ" in page
        assert len(cyd.get(reviews).json()) == 2


def test_a_claim_is_seen_by_others(first: Running) -> None:
    with client(first, "reviewer") as ada, client(first, "reviewer", "viewer") as bob:
        film = ada.post("/api/v1/studies?wait=60", content=png(206), headers=KIND).json()["id"]
        claim = f"/api/v1/studies/{film}/claim"
        assert ada.post(claim).json() == {"held_by": "test-reviewer", "mine": True}
        assert bob.post(claim).json() == {"held_by": "test-reviewer", "mine": False}
        assert "test-reviewer reads this film now" in bob.get(f"/films/{film}").text
        assert bob.delete(claim).status_code == 204
        assert ada.delete(claim).status_code == 204
        assert bob.post(claim).json()["mine"] is True


@pytest.mark.parametrize(
    "wrong",
    [
        {"regions": [[0, 0, 1]]},
        {"regions": [[-1, 0, 1, 1]]},
        {"seconds": -1},
        {"shown": {"x": "y" * 2001}},
        {"shown": {"x": "\0"}},
        {"reason_code": "because"},
    ],
)
def test_what_goes_with_a_review_is_bounded(first: Running, wrong: dict[str, object]) -> None:
    with client(first, "reviewer") as http:
        film = http.post("/api/v1/studies?wait=60", content=png(207), headers=KIND).json()["id"]
        body = {"decision": "opinion", "finding": "normal", **wrong}
        address = f"/api/v1/studies/{film}/reviews/mine"
        assert http.put(address, json=body, headers={"If-None-Match": "*"}).status_code == 422


def test_settings_of_reading_are_checked(tmp_path: Path) -> None:
    from hilum.errors import ConfigError

    with pytest.raises(ConfigError, match="readings"):
        settings_in(tmp_path, readings=3)


def test_dicomweb_has_answers_beside_films_so_a_reader_who_goes_first_does_not_use_it(first: Running) -> None:
    with client(first, "reviewer") as http, client(first, "admin") as other:
        for address in ("/dicom-web/studies", "/dicom-web/instances"):
            refused = http.get(address)
            assert (refused.status_code, "their own opinion" in refused.json()["detail"]) == (403, True)
            assert other.get(address).status_code in (200, 204)
