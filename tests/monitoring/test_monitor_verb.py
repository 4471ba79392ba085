"""``hilum monitor`` on records: a page, an alarm that is opened once, taken on and closed, and a webhook."""

import json
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.bundle.small import small_bundle
from tests.monitoring.filling import fill, said
from tests.monitoring.joining import together

from hilum.client.answers import ModelCheck
from hilum.client.api import Client
from hilum.errors import ConfigError, ServiceError, UsageError
from hilum.monitoring.labels import measured
from hilum.monitoring.plan import WatchPlan, read_watch_plan
from hilum.monitoring.report import gauges, monitor_page, seen, to_json
from hilum.monitoring.simulation import DAY_S, START, Site, drifted, simulate
from hilum.monitoring.webhook import tell
from hilum.records.audit import entries
from hilum.records.database import Database
from hilum.records.observations import Observations
from hilum.records.performance import newest
from hilum.reports.page import render_page


@pytest.fixture(scope="module")
def changed() -> Observations:
    chance = np.random.default_rng(0)
    days = (datetime.now(UTC).timestamp() - START) / DAY_S
    usual = simulate(Site(films_a_day=20), 60, chance, start=START + (days - 75) * DAY_S)
    new = simulate(drifted(Site(films_a_day=20), "new device"), 14, chance, start=START + (days - 15) * DAY_S)
    return together(usual, new)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, changed: Observations) -> Path:
    folder = tmp_path_factory.mktemp("monitor")
    database = Database(f"sqlite:///{folder / 'hilum.db'}")
    fill(database, changed, reviewed=300)
    database.close()
    (folder / "watch.toml").write_text('owner = "quality manager"\nsite = "St. Synthetic"\nreference_days = 60\n')
    return folder


def test_an_alarm_is_opened_once_taken_on_and_closed(data: Path) -> None:
    at = ("--data", data, "--plan", data / "watch.toml")
    first = said("monitor", "check", *at, code=1)
    assert first["opened_now"]
    again = said("monitor", "check", *at, code=1)
    assert (again["opened_now"], again["alarm"]) == (False, first["alarm"])
    said("monitor", "acknowledge", first["alarm"], "--by", "ada", "--data", data)
    closed = said("monitor", "close", first["alarm"], "--by", "ada", "--reason", "A new detector.", "--data", data)
    assert closed["state"] == "closed"
    listed = said("monitor", "alarms", "--data", data)["alarms"]
    assert [(one["state"], one["culprit"], one["owner"]) for one in listed] == [("closed", "device", "quality manager")]
    assert said("monitor", "check", *at)["alarm"] is None  # the same look doesn't open it again
    with pytest.raises(UsageError, match="There is no alarm 0123"):
        said("monitor", "close", "0123", "--by", "ada", "--reason", "x", "--data", data)
    assert said("audit", "verify", "--data", data)["whole"]


def test_the_report_shows_what_changed_and_what_labels_say(data: Path, tmp_path: Path) -> None:
    at = ("--data", data, "--plan", data / "watch.toml", "--out", tmp_path)
    made = said("monitor", "report", *at, "--finding", "pneumonia", "--threshold", 0.5)
    assert "device" in made["alarming"]
    page = (tmp_path / "monitor.html").read_text()
    for text in (
        "Something changed",
        "Device tells the new films",
        "quality manager",
        "St. Synthetic",
        "sex: F",
        "reader: ann",
    ):
        assert text in page, text
    assert json.loads((tmp_path / "monitor.json").read_text())["culprit"] == "device"
    assert "hilum_monitor_alarm 1" in (tmp_path / "monitor.prom").read_text()


def test_performance_is_measured_kept_and_the_newest_counts(data: Path, tmp_path: Path) -> None:
    data = shutil.copytree(data, tmp_path / "data")  # of which nothing was measured before
    asked = ("monitor", "performance", "--data", data, "--finding", "pneumonia", "--threshold")
    first = said(*asked, 0.4, "--by", "ada")["measured"]
    assert (first[0]["finding"], first[0]["labelled"]) == ("pneumonia", 300)
    said(*asked, 0.5)
    with Database(f"sqlite:///{data / 'hilum.db'}") as database, database.read() as session:
        (kept,) = newest(session)
        direct = measured(session, "pneumonia", 0.5)
        acts = [(row.actor, row.act) for row in entries(session) if row.act.startswith("performance.")]
    assert acts == [("ada", "performance.measured"), ("console", "performance.measured")]
    assert (kept.measured_by, kept.threshold) == ("console", 0.5)
    assert [(one.name, one.films, one.labelled) for one in kept.spans] == [
        (one.name, one.films, one.labelled) for one in direct if ": " not in one.name
    ]
    whole = {one.name: (one.value, one.low, one.high, one.naive) for one in kept.spans[0].estimates}
    assert whole == {one.name: (one.value, one.low, one.high, one.naive) for one in direct[0].figures}
    assert set(whole) == {"sensitivity", "specificity", "auroc", "calibration gap"}
    assert not [one for one in kept.spans if "reader" in one.name], "a group may name a reader"


def test_what_is_to_be_measured_is_named_once(data: Path, tmp_path: Path) -> None:
    at = ("monitor", "performance", "--data", data)
    with pytest.raises(UsageError, match="Say what is measured, and where: --bundle, or --finding with --threshold"):
        said(*at, "--finding", "pneumonia")
    with pytest.raises(UsageError, match="--bundle names findings and operating points"):
        said(*at, "--bundle", tmp_path / "x.hilum", "--threshold", 0.5)
    bundle = small_bundle(tmp_path / "small.hilum")
    both = said(*at, "--bundle", bundle)["measured"]
    assert sorted(one["finding"] for one in both) == ["covid-19", "pneumonia"]
    bare = small_bundle(tmp_path / "bare.hilum", thresholds={})
    with pytest.raises(UsageError, match="has no operating points"):
        said(*at, "--bundle", bare)


def test_what_is_asked_for_wrongly_is_said(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs somebody who answers for it"):
        said("monitor", "report", "--data", data)
    with pytest.raises(UsageError, match="--finding and --threshold go together"):
        said("monitor", "report", "--data", data, "--owner", "qm", "--finding", "pneumonia")
    with pytest.raises(UsageError, match="Did you mean 'pneumonia'"):
        said("monitor", "report", "--data", data, "--owner", "qm", "--finding", "pneumona", "--threshold", 0.5)
    (tmp_path / "bad.toml").write_text('ownr = "x"\n')
    with pytest.raises(ConfigError, match="unknown key 'ownr'. Did you mean 'owner'"):
        read_watch_plan(tmp_path / "bad.toml")
    with pytest.raises(ConfigError, match="can't be read as TOML"):
        read_watch_plan(tmp_path / "absent.toml")


def test_the_self_test_runs_on_the_records(data: Path) -> None:
    tested = said("monitor", "selftest", "--data", data, "--plan", data / "watch.toml")
    assert tested["passed"]
    assert len(tested["drifts"]) == 7
    assert tested["drifts"][0] == {"drift": "nothing changed", "found": False, "named": "", "passed": True}


def test_the_self_test_asks_the_running_model_where_there_is_one(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def check(client: Client, *, accept: str) -> ModelCheck:
        asked.append(accept)
        return ModelCheck(passed=False, sentence="Said so.", films=6, recorded=0)

    monkeypatch.setattr(Client, "check_model", check)
    at = ("--data", data, "--plan", data / "watch.toml", "--url", "http://127.0.0.1:9", "--accept", "tested")
    for name in ("HILUM_API_KEY", "HILUM_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="Put one with models:write into HILUM_API_KEY"):
        said("monitor", "selftest", *at, code=1)
    monkeypatch.setenv("HILUM_API_KEY", "k")
    told = said("monitor", "selftest", *at, code=1)
    assert told["model"] == {"passed": False, "films": 6, "recorded": 0}
    assert asked == ["tested"]


def test_a_quiet_and_a_young_site_say_so() -> None:
    films = simulate(Site(), 40 + 15, np.random.default_rng(1))
    plan = WatchPlan(owner="qm", reference_days=40)
    at = datetime.fromtimestamp(START + 56 * DAY_S, UTC)
    quiet = seen(films, plan, at, synthetic=True)
    page = render_page(monitor_page(quiet))
    assert "No change was found" in page
    assert "Synthetic records" in page
    assert "hilum_monitor_alarm 0" in gauges(quiet)
    assert to_json(quiet)["alarming"] == []
    young = seen(films.select(films.at < START + 30 * DAY_S), plan, at)
    assert "Not enough was seen yet" in render_page(monitor_page(young))


class Hook:
    """A webhook on a free port that answers with the given states, one a call."""

    def __init__(self, *states: int) -> None:
        self.got: list[dict[str, Any]] = []
        left = list(states)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(left.pop(0))
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hook(request: pytest.FixtureRequest) -> Iterator[Hook]:
    made = Hook(*request.param)
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.parametrize("hook", [(503, 500, 204)], indirect=True)
def test_a_webhook_is_told_again_until_it_takes_it(hook: Hook) -> None:
    waits: list[float] = []
    assert tell(hook.url, {"alarm": "1"}, pause=waits.append, allow_http=True) == 3
    assert (hook.got[-1], waits) == ({"alarm": "1"}, [1.0, 2.0])


@pytest.mark.parametrize("hook", [(404,)], indirect=True)
def test_a_webhook_that_refuses_is_named_at_once(hook: Hook) -> None:
    with pytest.raises(UsageError, match="refused the alarm with status 404"):
        tell(hook.url, {}, allow_http=True)
    with pytest.raises(UsageError, match="must be an https:// address"):
        tell(hook.url, {})


@pytest.mark.parametrize("hook", [()], indirect=True)
def test_a_webhook_that_is_away_is_told_of(hook: Hook) -> None:
    hook.server.shutdown()
    hook.server.server_close()
    with pytest.raises(ServiceError, match="didn't take the alarm in 4 tries"):
        tell(hook.url, {}, pause=lambda _: None, allow_http=True)
