"""A reader study over REST and on its pages: which answers are shown when, what is refused elsewhere, the audit."""

import re
from collections.abc import Iterator

import httpx
import pytest
from tests.service.conftest import settings_in
from tests.service.small import SmallDrawing, SmallModel, dicom

from hilum.records.audit import entries
from hilum.service.app import Running, running

KIND = {"Content-Type": "application/dicom"}
TOLD = ("pneumonia</h2>", "± 3 %", "/heatmap/", "A1", "SYN", "Synthetic")
STUDIES = "/api/v1/reader-studies"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = settings_in(tmp_path_factory.mktemp("study"), dicom_port=None, read_first=True)
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as started:
        yield started


class People:
    """Two readers, a model manager and a viewer, each at a client; and two films."""

    def __init__(self, room: Running) -> None:
        access = room.room.access
        self.ada, self.bob, self.mel, self.viv = (
            self._client(room, name, role)
            for name, role in (("ada", "reviewer"), ("bob", "reviewer"), ("mel", "model-manager"), ("viv", "viewer"))
            if access.add_user(name, [role], password=None, actor="test")
        )
        self.films = [
            self.mel.post("/api/v1/studies?wait=60", content=dicom(n, 200 + n), headers=KIND).json()["id"]
            for n in (1, 2)
        ]

    def _client(self, room: Running, name: str, role: str) -> httpx.Client:
        secret = room.room.access.add_key(name, actor="test")[1]
        return httpx.Client(base_url=room.url, timeout=90, headers={"Authorization": f"Bearer {secret}"})


@pytest.fixture(scope="module")
def people(room: Running) -> Iterator[People]:
    made = People(room)
    yield made
    for one in (made.ada, made.bob, made.mel, made.viv):
        one.close()


def study(people: People, called: str, **changes: object) -> dict[str, object]:
    first, second = people.films

    def both(one: str, other: str) -> list[list[dict[str, str]]]:
        arms = (("without", "with"), ("with", "without"))
        return [[{"film": film, "arm": arm} for film, arm in zip((one, other), both, strict=True)] for both in arms]

    values: dict[str, object] = {
        "name": called, "plan_sha256": "9" * 64, "question": "pneumonia", "findings": ["normal", "pneumonia"],
        "answer": "after", "priors": False, "washout_days": 0,
        "readers": {"ada": both(first, second), "bob": both(second, first)},
    }  # fmt: skip
    return values | changes


def test_a_study_is_read_by_two_readers_each_in_their_own_order(room: Running, people: People) -> None:
    ada, bob, mel, viv, (first, second) = people.ada, people.bob, people.mel, people.viv, people.films
    once = {"Idempotency-Key": "k1"}
    assert [mel.post(STUDIES, json=study(people, "chest"), headers=once).status_code for _ in range(2)] == [201, 201]
    assert [one["film"] for who in (ada, bob) for one in who.get(f"{STUDIES}/mine").json()] == [first, second]
    # Elsewhere its films are covered, unlisted and can't be reviewed; who doesn't read in it sees them.
    for film in people.films:
        assert ada.get(f"/api/v1/studies/{film}").json()["answer"] is None
        assert ada.get(f"/api/v1/studies/{film}/heatmap/pneumonia.png").status_code == 403
        page = ada.get(f"/films/{film}")
        assert (page.status_code, page.headers["location"]) == (303, "/reader-study?blinded=1")
        agree = {"decision": "opinion", "finding": "normal"}
        refused = ada.put(f"/api/v1/studies/{film}/reviews/mine", json=agree, headers={"If-None-Match": "*"})
        assert (refused.status_code, "reader study" in refused.json()["detail"]) == (409, True)
        assert viv.get(f"/api/v1/studies/{film}").json()["answer"]["label"] == "pneumonia"
    assert first not in ada.get("/").text
    secret = room.room.access.add_key("ada", ["dicom:read"], actor="test")[1]
    refused = ada.get("/dicom-web/studies", headers={"Authorization": f"Bearer {secret}"})
    assert (refused.status_code, "You read in a reader study" in refused.json()["detail"]) == (403, True)
    assert "can’t be opened elsewhere" in ada.get("/reader-study?blinded=1").text

    def say(who: httpx.Client, session: int, position: int, stage: str = "final", **more: object) -> httpx.Response:
        said = {"session": session, "position": position, "stage": stage, "finding": "pneumonia", "rating": 70, **more}
        return who.post(f"{STUDIES}/chest/opinions", json=said)

    page = ada.get("/reader-study/chest").text
    assert not [words for words in TOLD if words in page]
    assert "Without the model" in page
    assert say(ada, 1, 1, shown={"zoom": 1}, seconds=3).json()["film"] == second
    assert say(ada, 1, 1).status_code == 412
    page = ada.get("/reader-study/chest").text
    assert not [words for words in TOLD if words in page]
    assert "shown after your own opinion" in page
    assert ada.get(f"/api/v1/studies/{second}/heatmap/pneumonia.png").status_code == 403
    first_said = say(ada, 1, 2, "first", finding="normal", rating=20).json()
    assert (first_said["answer_shown"], first_said["stage"]) == (True, "final")
    assert "pneumonia</h2>" in ada.get("/reader-study/chest?part=answer").text
    assert ada.get(f"/api/v1/studies/{second}/heatmap/pneumonia.png").status_code == 200
    assert bob.get(f"/api/v1/studies/{second}/heatmap/pneumonia.png").status_code == 403, "it is another reader's film"
    assert say(ada, 1, 2).json()["session"] == 2
    progress = mel.get(STUDIES).json()["studies"][0]["readers"]
    assert (progress["ada"]["done"], progress["bob"]["done"]) == ([2, 0], [0, 0])
    page = mel.get("/reader-studies").text
    assert "<td>ada</td><td>2 of 2, 0 of 2</td>" in page
    assert 'data-post="/api/v1/reader-studies/chest/close"' in page
    for position, stage in ((1, "first"), (1, "final"), (2, "final")):
        said = say(ada, 2, position, stage)
        assert said.status_code == 201
    assert (said.json()["film"], said.json()["session"]) == (None, 0)
    assert "You have read the whole study" in ada.get("/reader-study").text
    assert ada.get("/reader-study/chest").headers["location"] == "/reader-study"
    assert ada.get(f"/films/{first}").status_code == 200
    assert bob.get(f"/films/{first}").status_code == 303
    assert mel.post(f"{STUDIES}/chest/close").status_code == 204
    assert bob.get(f"/films/{first}").status_code == 200
    assert "/close" not in mel.get("/reader-studies").text
    assert "no open reader study" in say(bob, 1, 1).json()["detail"]
    with room.room.database.read() as session:
        acts = [(row.actor, row.act) for row in entries(session) if row.act.startswith("reader-study.")]
    assert acts[0] == ("mel", "reader-study.created")
    assert acts[-1] == ("mel", "reader-study.closed")
    assert acts.count(("ada", "reader-study.read")) == 6
    assert ("ada", "reader-study.opened") in acts


def test_a_session_opens_after_the_wash_out_and_says_when(people: People) -> None:
    people.mel.post(STUDIES, json=study(people, "slow", washout_days=28, answer="start"))
    for position in (1, 2):
        said = {"session": 1, "position": position, "stage": "final", "finding": "normal", "rating": 0}
        told = people.bob.post(f"{STUDIES}/slow/opinions", json=said).json()
    assert told["opens_at"] is not None
    assert re.search(r"Session 2 opens on \d{4}-\d\d-\d\d \d\d:\d\d UTC", people.bob.get("/reader-study").text)
    assert people.bob.get("/reader-study/slow").status_code == 303
    refused = people.bob.post(f"{STUDIES}/slow/opinions", json=said | {"session": 2, "position": 1})
    assert (refused.status_code, "28 days must lie between" in refused.json()["detail"]) == (422, True)
    people.mel.post(f"{STUDIES}/slow/close")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"question": "mass"}, "'mass' is none of the findings"),
        ({"readers": {"viv": [[]]}}, "'viv' is no user who may review"),
        ({"readers": {"ada": [[{"film": "0" * 32, "arm": "with"}]]}}, "not in the records"),
        ({"readers": {"ada": [[{"film": "x", "arm": "with"}]]}}, "film"),
        ({"name": "../x"}, "name"),
    ],
)
def test_a_wrong_study_is_refused_whole(people: People, wrong: dict[str, object], words: str) -> None:
    before = len(people.mel.get(STUDIES).json()["studies"])
    refused = people.mel.post(STUDIES, json=study(people, "wrong", **wrong))
    assert (refused.status_code, words in refused.json()["detail"]) == (422, True)
    assert len(people.mel.get(STUDIES).json()["studies"]) == before
