"""Results on their way, over REST and at the console."""

import html
import io
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from tests.records.test_results_out import answered
from tests.service.conftest import let_in, settings_in
from tests.service.small import SmallDrawing, SmallModel
from tests.service.test_privacy import log  # noqa: F401  # a fixture
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.records.database import Database
from hilum.records.results_out import Outbox
from hilum.records.schema import DeliveryRow, LookUpRow
from hilum.records.store import now
from hilum.service.app import Running, running


def given_up(database: Database, number: int) -> None:
    outbox = Outbox(database, now)
    outbox.register(["pacs"])
    answered(database, now, number)
    delivery = outbox.claim("pacs", "me", lease_s=10)
    assert delivery is not None
    outbox.failed(delivery.id, "me", code="sop-class", reason="PACS does not take it.", retry_after_s=None)


def not_looked_up(database: Database, number: int) -> None:
    """A film whose look-up of earlier films was given up."""
    at = now()
    answered(database, now, number)
    with database.write() as session:
        session.add(
            LookUpRow(film_id=f"film{number}", state="dead", attempts=7, created_at=at, due_at=at, finished_at=at,
                      reason_code="away", reason="The PACS does not answer.")
        )  # fmt: skip


def test_look_ups_that_were_given_up_are_made_again_one_and_all(service: Running) -> None:
    for number in (951, 952, 953):
        not_looked_up(service.room.database, number)
    with httpx.Client(base_url=service.url, headers=let_in(service, "admin"), timeout=20) as http:
        wrong = http.post("/api/v1/look-ups/requeue", json={"id": "nothing"})
        assert (wrong.status_code, "No finished look-up is of a film" in wrong.json()["detail"]) == (422, True)
        assert http.post("/api/v1/look-ups/requeue", json={"id": "film951"}).json() == {"requeued": 1}
        assert [one.film_id for one in service.room.look_ups.lost()] == ["film953", "film952"]
        assert http.post("/api/v1/look-ups/requeue").json() == {"requeued": 2}
        assert service.room.look_ups.lost() == ()


def test_dead_letters_are_shown_and_requeued(service: Running) -> None:
    given_up(service.room.database, 901)
    with httpx.Client(base_url=service.url, headers=let_in(service, "admin"), timeout=20) as http:
        shown = http.get("/api/v1/results").json()
        assert shown["destinations"] == [{"name": "pacs", "waiting": 0, "sending": 0, "sent": 0, "dead": 1}]
        assert 'hilum_results{destination="pacs",state="dead"} 1.0' in http.get("/metrics").text
        (letter,) = shown["dead"]
        assert (letter["film"], letter["attempts"], letter["code"]) == ("film901", 1, "sop-class")
        assert letter["reason"] == "PACS does not take it."
        wrong = http.post("/api/v1/results/requeue", json={"id": "nothing"})
        assert wrong.status_code == 422
        assert "No dead letter has the id" in wrong.json()["detail"]
        assert http.post("/api/v1/results/requeue", json={"id": letter["id"]}).json() == {"requeued": 1}
        assert http.post("/api/v1/results/requeue", json={}).json() == {"requeued": 0}
        given_up(service.room.database, 902)
        assert http.post("/api/v1/results/requeue").json() == {"requeued": 1}, "no body, as the page says: all of them"
        assert http.get("/api/v1/results").json()["dead"] == []


def test_what_waits_for_its_next_attempt_says_why(alone: Running) -> None:
    given_up(alone.room.database, 911)
    with alone.room.database.write() as session:
        row = session.query(DeliveryRow).one()
        row.state, row.attempts, row.reason, row.due_at = "waiting", 2, "Nobody listens.", now() + timedelta(hours=1)
        session.add(
            LookUpRow(
                film_id="film911", state="waiting", attempts=1, created_at=now(), due_at=row.due_at,
                reason_code="away", reason="The PACS could not be reached.",
            )
        )  # fmt: skip
    with httpx.Client(base_url=alone.url, headers=let_in(alone, "admin"), timeout=20) as http:
        (one,) = http.get("/api/v1/results").json()["again"]
        assert (one["destination"], one["film"], one["attempts"]) == ("pacs", "film911", 2)
        assert (one["reason"], datetime.fromisoformat(one["due_at"])) == ("Nobody listens.", row.due_at)
        (one,) = http.get("/api/v1/look-ups").json()["again"]
        assert (one["film"], one["attempts"]) == ("film911", 1)
        assert (one["reason"], datetime.fromisoformat(one["due_at"])) == ("The PACS could not be reached.", row.due_at)


def test_results_for_a_destination_that_is_gone_are_told(tmp_path: Path, log: io.StringIO) -> None:  # noqa: F811
    settings = settings_in(tmp_path)
    settings.data.mkdir(parents=True, exist_ok=True)
    database = Database(f"sqlite:///{settings.data / 'hilum.db'}")
    given_up(database, 1)
    Outbox(database, now).requeue()
    database.close()
    with running(settings, answering=SmallModel(), drawing=SmallDrawing()) as service:
        with httpx.Client(base_url=service.url, headers=let_in(service, "admin"), timeout=20) as http:
            page = html.unescape(http.get("/operations").text)
        shown = hilum("list", "--data", settings.data)
    told = "pacs is none of the destinations that the service was started with, so nobody sends what waits for it (1)."
    assert told in page
    assert told in shown.output
    assert json.loads(shown.stdout.splitlines()[-1])["left_behind"] == {"pacs": 1}
    assert '"results wait for a destination that is not named"' in log.getvalue()


def hilum(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["results", *map(str, arguments), "--json"])


def test_the_console_shows_and_requeues_them_too(tmp_path: Path) -> None:
    Database(f"sqlite:///{tmp_path / 'hilum.db'}").close()
    assert json.loads(hilum("list", "--data", tmp_path).stdout.splitlines()[-1]) == {
        "destinations": {},
        "left_behind": {},
        "again": [],
        "dead": [],
    }
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    given_up(database, 1)
    database.close()
    shown = hilum("list", "--data", tmp_path)
    assert "1 attempt: PACS does not take it." in shown.output
    said = json.loads(shown.stdout.splitlines()[-1])
    assert said["destinations"] == {"pacs": {"dead": 1}}
    done = hilum("requeue", said["dead"][0]["id"], "--data", tmp_path)
    assert json.loads(done.stdout.splitlines()[-1]) == {"requeued": 1}
    assert "No dead letter has the id" in str(hilum("requeue", "nothing", "--data", tmp_path).exception)
