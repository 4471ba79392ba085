"""Anchors: fixed films are answered as they were, what changes beneath the model is found and placed, and proved."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from tests.service.conftest import let_in

from hilum.client.api import Client
from hilum.errors import DataError, ServiceError
from hilum.imaging.reading import read_film
from hilum.records.audit import entries
from hilum.records.database import Database
from hilum.records.values import HeatmapRecord, Identity, NewAnswer, NewObservation
from hilum.service import anchors
from hilum.service.anchors import Anchors
from hilum.service.answering import Ready
from hilum.service.app import Running
from hilum.service.film_files import StoredFilm


@dataclass
class Beneath:
    """A model whose reading and answering can be changed beneath it."""

    sha256: str = "a" * 64
    read: float = 0.0
    answered: float = 0.0

    def prepare(self, film: StoredFilm) -> Ready:
        pixels = read_film(film.path.read_bytes()).pixels
        return Ready(identity=Identity(), prepared=float(pixels.mean()) / 65535 + self.read)

    def answer(self, film: Ready) -> NewAnswer:
        mean = film.prepared
        risk = mean + self.answered
        seen = NewObservation(
            outcome="answered",
            device="",
            view_position="",
            sex="",
            age_band="",
            size_class="",
            statistics=np.full(8, mean, "<f4").tobytes(),
        )
        heat = HeatmapRecord(finding="pneumonia", rows=1, columns=2, values=np.array([0, risk], "<f4").tobytes())
        probs = {"normal": 1 - risk, "pneumonia": risk}
        return NewAnswer(
            model_sha256=self.sha256,
            analysed=True,
            label=max(probs, key=lambda name: probs[name]),
            abstained=False,
            risk=risk,
            assessment={"probs": probs},
            heatmaps=(heat,),
            observation=seen,
        )


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    yield database
    database.close()


@pytest.fixture(autouse=True)
def small_films(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchors, "ROWS", 64)


def made(tmp_path: Path, database: Database, model: Beneath) -> Anchors:
    return Anchors(tmp_path / "anchors", database, model.prepare, model.answer)


def test_the_same_films_are_answered_as_they_were_and_a_change_is_placed(tmp_path: Path, database: Database) -> None:
    model = Beneath()
    check = made(tmp_path, database, model).check
    first = check(actor="mel")
    assert (first.passed, first.films, first.recorded) == (True, 0, 6)
    again = check(actor="mel")
    assert (again.passed, again.films, again.recorded) == (True, 6, 0)
    assert again.differences == {"pixels": 0, "probabilities": 0, "heat maps": 0}
    model.answered = 1e-4
    told = check(actor="mel")
    assert not told.passed
    assert "probabilities differ by up to 0.0001" in told.sentence
    model.read = 1e-3
    assert "pixels differ by up to 0.001" in check(actor="mel").sentence
    model.read, model.answered = 0.0, 0.6
    assert check(actor="mel").differences["probabilities"] == float("inf"), "another label"
    model.sha256 = "b" * 64
    assert (check(actor="mel").recorded, check(actor="mel").passed) == (6, True)
    with database.read() as session:
        rows = [json.loads(row.body) for row in entries(session, subject="a" * 64)]
    assert [row["detail"]["passed"] for row in rows] == [True, True, False, False, False]
    assert len({row["detail"]["answers"] for row in rows}) == 1


def test_recorded_answers_that_were_changed_or_lost_are_refused(tmp_path: Path, database: Database) -> None:
    check = made(tmp_path, database, Beneath()).check
    check(actor="mel")
    kept = tmp_path / "anchors" / f"{'a' * 64}.json"
    text = kept.read_text()
    kept.write_text(text.replace("true", "false"))
    with pytest.raises(DataError, match="not those that the audit names"):
        check(actor="mel")
    kept.unlink()
    with pytest.raises(DataError, match="missing or were changed"):
        check(actor="mel")
    assert check(actor="mel", accept="The disk was exchanged.").recorded == 6
    assert check(actor="mel").films == 6
    kept.write_text(text + " ")
    with pytest.raises(DataError, match="missing or were changed"):
        check(actor="mel")


def test_the_running_service_is_asked_and_nothing_is_recorded_as_a_patients(
    service: Running, tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Beneath()
    room = service.room
    ready = Ready(identity=Identity(), prepared=("0" * 64, 100.0))
    assert room.workflow.ask(ready).label is not None
    with pytest.raises(ServiceError, match="didn't answer within 0 s"):
        room.workflow.ask(ready, within_s=0)
    monkeypatch.setattr(room, "anchors", made(tmp_path, room.database, model))
    before = room.store.counts()
    key = let_in(service, "model-manager")["Authorization"].removeprefix("Bearer ")
    with Client(service.url, key=key) as client:
        assert client.check_model().recorded == 6
        assert client.check_model().passed
        model.answered = 0.6
        told = client.check_model()
        assert client.check_model(accept="A new runtime, tested.").recorded == 6
        model.answered = 0.0
    assert (told.passed, "answered otherwise than they were" in told.sentence) == (False, True)
    assert room.store.counts() == before
    with httpx.Client(base_url=service.url, headers=let_in(service, "model-manager")) as http:
        assert http.post("/api/v1/models/active/check").json()["differences"]["probabilities"] is None
