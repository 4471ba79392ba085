"""deploy/ agrees with the code: settings that exist, versions that were tested, metrics that are counted; no torch."""

import re
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
