"""deploy/ agrees with the code: settings that exist, versions that were tested, metrics that are counted; no torch."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from hilum.service.metrics import Metrics
from hilum.service.settings import OTHERS, Settings

DEPLOY = Path(__file__).parents[2] / "deploy"


def versions(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9.\-]+)==([^ ]+)", lock.read_text(), re.M))


def compose(name: str) -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / name).read_text())["services"]


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-gpu.lock", "build.lock"])
def test_an_image_has_the_versions_that_were_tested(name: str) -> None:
    tested, shipped = versions(DEPLOY.parent / "requirements.lock"), versions(DEPLOY / name)
    common = tested.keys() & shipped.keys()
    assert len(common) >= 3
    assert {key: shipped[key] for key in common} == {key: tested[key] for key in common}
    assert not shipped.keys() & {"torch", "torchvision", "matplotlib"}


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-gpu.lock"])
def test_an_image_has_all_that_the_package_needs(name: str) -> None:
    """The package itself is put in without its dependencies, so nothing else would bring one."""
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[\[<>=~! ]", one)[0] for one in project["dependencies"]}
    assert len(needed) >= 20
    assert needed - versions(DEPLOY / name).keys() == set()


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_settings_of_the_containers_exist(name: str) -> None:
    given = compose(name)["hilum"]["environment"]
    assert given
    assert {key.removeprefix("HILUM_").lower() for key in given if key not in OTHERS} <= set(Settings.model_fields)


def test_the_image_can_dump_the_database_beside_it() -> None:
    (client,) = re.findall(r"postgresql-client-(\d+)", (DEPLOY / "Containerfile").read_text())
    assert int(compose("compose.yaml")["postgres"]["image"].removeprefix("postgres:")) <= int(client)


def test_the_reading_room_runs_without_rights_on_a_root_that_cannot_be_written() -> None:
    ours = compose("compose.yaml")["hilum"]
    assert ours["read_only"]
    assert ours["cap_drop"] == ["ALL"]
    assert ours["security_opt"] == ["no-new-privileges"]
    assert f"USER {ours['user']}" in (DEPLOY / "Containerfile").read_text()
    published = [port for service in compose("compose.yaml").values() for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_alerts_speak_of_metrics_that_are_counted() -> None:
    rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"][0]["rules"]
    named = {name for rule in rules for name in re.findall(r"\bhilum_\w+", rule["expr"])}
    source = Path(Metrics.__module__.replace(".", "/")).with_suffix(".py")
    text = (DEPLOY.parent / "src" / source).read_text()
    assert len(named) >= 5
    assert {name for name in named if f'"{name.removesuffix("_total")}"' not in text} == set()


ERROR, REFUSED = (f'hilum_http_requests_total{{status="{status}",job="hilum"}}' for status in (500, 503))
FIRST = {"ServerErrors": [{"status": "500", "job": "hilum"}], "PartNotWell": [{"part": "model"}]}
CASES = (
    ({ERROR: "_x4 1x30"}, "8m", {"ServerErrors": FIRST["ServerErrors"]}),
    ({ERROR: "_x4 1x30"}, "20m", {"ServerErrors": []}),
    ({ERROR: "1x30 2x30"}, "35m", {"ServerErrors": FIRST["ServerErrors"]}),
    ({ERROR: "1x60"}, "30m", {"ServerErrors": []}),
    ({REFUSED: "_x4 1+5x30"}, "8m", {"ServerErrors": []}),
    ({'hilum_ready{part="model"}': "1x4 0x30"}, "9m", {"PartNotWell": FIRST["PartNotWell"]}),
    ({'hilum_ready{part="model"}': "1 0 1 1 1 1 1 1"}, "5m", {"PartNotWell": []}),
    ({"hilum_model_restarts_total": "0x4 2 4 6x30"}, "9m", {"ModelRestarts": [{}]}),
)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, of Debian's prometheus, is not installed")
@pytest.mark.parametrize(("series", "at", "alerts"), CASES)
def test_alerts_tell_the_first_error_and_what_is_not_well(
    series: dict[str, str], at: str, alerts: dict[str, list[dict[str, str]]], tmp_path: Path
) -> None:
    """By Prometheus's own arithmetic, for which a count that begins with 1 has not increased."""
    rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text())
    for rule in rules["groups"][0]["rules"]:
        rule["annotations"] = {}
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(rules))
    expected = [
        {"eval_time": at, "alertname": name, "exp_alerts": [{"exp_labels": labels} for labels in told]}
        for name, told in alerts.items()
    ]
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    test = {"interval": "1m", "input_series": inputs, "alert_rule_test": expected}
    (tmp_path / "test.yml").write_text(
        yaml.safe_dump({"rule_files": ["alerts.yml"], "evaluation_interval": "1m", "tests": [test]})
    )
    done = subprocess.run(
        ["promtool", "test", "rules", "test.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_unit_of_systemd_gives_the_service_time_and_nothing_else() -> None:
    lines = (DEPLOY / "hilum.service").read_text().splitlines()
    unit = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    assert unit["ExecStart"] == "/opt/hilum/bin/hilum serve /etc/hilum/chest.hilum"
    assert unit["Environment"].startswith("HILUM_DATA=/var/lib/hilum/")
    assert int(unit["TimeoutStopSec"]) > Settings.model_fields["drain_s"].default + 10
    assert unit["KillMode"] == "mixed", "SIGTERM goes to the service alone: its children finish what is in work"
    assert (unit["CapabilityBoundingSet"], unit["ProtectSystem"], unit["UMask"]) == ("", "strict", "0077")
