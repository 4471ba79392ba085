"""``hilum change`` from a plan to a rollback, as a quality manager types it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.bundle.small import small_bundle
from tests.change.made import FACTS, NAMES, TEST, evidence
from typer.testing import CliRunner

from hilum.bundle.reading import read_bundle
from hilum.cli.verbs import app
from hilum.config import canonical_json
from hilum.datasets.manifest import Manifest
from hilum.errors import UsageError

PLAN = """schema: 1
name: chest classifier
version: "1"
intended_use: Assists the reading of adult frontal chest films.
scope: {{findings: [normal, pneumonia, covid-19]}}
test_set: {{fingerprint: "{test}"}}
non_inferiority: {{margin: 0.03}}
calibration: {{largest_gap: 0.5, largest_ece: 1.0}}
approvals:
  approvers:
{approvers}
"""


def said(*words: object, code: int = 0) -> dict[str, Any]:
    done = CliRunner().invoke(app, [str(word) for word in words] + ["--json"], catch_exceptions=False)
    assert done.exit_code == code, done.output
    last = json.loads(done.stdout.strip().splitlines()[-1])
    assert isinstance(last, dict)
    return last


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan, its approvers' keys, two bundles, and what the evidence is made of."""
    folder = tmp_path_factory.mktemp("change")
    lines = []
    for name in NAMES:
        path = folder / f"{name.split()[0]}.key"
        said("keys", "create", path)
        key = said("change", "key", f"{path}.pub")["key"]
        lines.append(f"    - {{name: {name}, key: {key}}}")
    (folder / "pccp.yaml").write_text(PLAN.format(test=TEST, approvers="\n".join(lines)))
    one = small_bundle(folder / "one.hilum")
    two = small_bundle(folder / "two.hilum", version="2")
    films = evidence(2500)
    for role in ("candidate", "current", "first"):
        getattr(films, role).write(folder / f"{role}.parquet")
    digests = {
        "candidate": read_bundle(two).sha256,
        "current": read_bundle(one).sha256,
        "first": read_bundle(one).sha256,
    }
    (folder / "facts.json").write_text(canonical_json(replace(FACTS, models=digests)))
    columns = {"path": ["a.dcm"], "film_id": ["e" * 64], "patient_id": ["t1"]}
    Manifest.from_columns(columns, folder=folder).write(folder / "training.parquet")
    return folder


def test_a_plan_says_what_its_test_set_can_resolve(place: Path) -> None:
    assert not said("change", "plan", place / "pccp.yaml", "--positives", 100, code=1)["resolved"]
    assert said("change", "plan", place / "pccp.yaml", "--positives", 3000, "--negatives", 9000)["resolved"]


def test_the_whole_way_of_a_change(place: Path) -> None:
    plan, folder, proposal, data = place / "pccp.yaml", place / "evidence", place / "proposal.json", place / "data"
    roles = [word for role in ("candidate", "current", "first") for word in (f"--{role}", place / f"{role}.parquet")]
    training = ("--training", place / "training.parquet", "--out", folder)
    said("change", "evidence", place / "facts.json", *roles, *training)
    first = said("change", "gate", plan, folder, "--out", place / "verdict.json", code=1)
    assert [check["name"] for check in first["checks"] if check["outcome"] != "passed"] == ["approvals"]
    again = said("change", "gate", plan, folder, code=1)
    assert first["verdict_sha256"] == again["verdict_sha256"]
    assert json.loads((place / "verdict.json").read_text())["passed"] is False

    who = ("--key", place / "physicist.key", "--name", "physicist")
    said("change", "propose", plan, folder, *who, "--out", proposal)
    for name in NAMES[:2]:
        key = ("--key", place / f"{name.split()[0]}.key", "--name", name)
        approved = said("change", "approve", proposal, plan, folder, *key)
    assert approved["passed"]
    assert said("change", "gate", plan, folder, "--proposal", proposal)["passed"]

    at = ("--data", data)
    with pytest.raises(UsageError, match="There is no candidate"):
        said("change", "canary", 0.1, "--reason", "x", *at)
    said("change", "begin", place / "one.hilum", "--reason", "the first", *at)
    said("change", "shadow", proposal, plan, folder, "--bundle", place / "two.hilum", *at)
    assert said("change", "canary", 0.1, "--reason", "shadow agreed", *at)["share"] == 1000
    assert (
        said("change", "promote", "--reason", "canary held", *at)["production"]
        == read_bundle(place / "two.hilum").sha256
    )
    back = said("change", "rollback", "--reason", "overrides doubled", *at)
    assert (back["act"], back["production"]) == ("rollback", read_bundle(place / "one.hilum").sha256)
    acts = [one["act"] for one in said("change", "history", *at)["history"]]
    assert acts == ["begin", "shadow", "canary", "promote", "rollback"]
    assert said("audit", "verify", *at)["whole"]


def test_facts_that_are_no_json_are_refused(place: Path) -> None:
    bad = place / "bad.json"
    bad.write_text("{")
    roles = [word for role in ("candidate", "current", "first") for word in (f"--{role}", place / f"{role}.parquet")]
    with pytest.raises(UsageError, match="can't be read as JSON"):
        said("change", "evidence", bad, *roles, "--training", place / "training.parquet")
