"""``hilum change`` from a plan to a rollback, as a quality manager types it."""

import json
from dataclasses import replace
from datetime import UTC, datetime
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
from hilum.records.database import Database
from hilum.records.registry import Registered, Registry
from hilum.records.schema import AnswerRow, FilmRow, ReviewRow
from hilum.records.shadows import keep_shadow
from hilum.records.values import NewAnswer, ShadowAnswer

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
    at = ("--data", data)
    away = said("change", "gate", plan, folder, *at, code=1)
    assert not away["audited"]  # there are no records yet
    said("change", "begin", place / "one.hilum", "--reason", "the first", *at)
    first = said("change", "gate", plan, folder, "--out", place / "verdict.json", "--actor", "qm", *at, code=1)
    assert first["verdict_sha256"] == away["verdict_sha256"]
    assert [check["name"] for check in first["checks"] if check["outcome"] != "passed"] == ["approvals"]
    again = said("change", "gate", plan, folder, *at, code=1)
    assert first["verdict_sha256"] == again["verdict_sha256"]
    assert json.loads((place / "verdict.json").read_text())["passed"] is False

    who = ("--key", place / "physicist.key", "--name", "physicist")
    said("change", "propose", plan, folder, *who, "--out", proposal, *at)
    for name in NAMES[:2]:
        key = ("--key", place / f"{name.split()[0]}.key", "--name", name)
        approved = said("change", "approve", proposal, plan, folder, *key, *at)
    assert approved["passed"]
    assert said("change", "gate", plan, folder, "--proposal", proposal, *at)["passed"]

    with pytest.raises(UsageError, match="There is no candidate"):
        said("change", "canary", 0.1, "--reason", "x", *at)
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
    audited(data, read_bundle(place / "two.hilum").sha256, first["verdict_sha256"])


def audited(data: Path, candidate: str, verdict: str) -> None:
    """Each act about the candidate is in the audit, with who did it and what it rests on."""
    at = ("--data", data)
    assert said("audit", "verify", *at)["whole"]
    rows = said("audit", "search", "--act", "change.", *at)["rows"]
    assert {row["subject"] for row in rows} == {candidate}
    signed = [{"name": name} for name in NAMES[:2]]
    assert [(row["act"], row["actor"]) for row in reversed(rows)] == [
        ("change.judged", "qm"),
        ("change.judged", "console"),
        ("change.proposed", "physicist"),
        ("change.approved", NAMES[0]),
        ("change.approved", NAMES[1]),
        ("change.judged", "console"),
        ("change.judged", "console"),  # in the transaction of the shadow, with the approvals that it rests on
    ]
    told = [row["detail"] for row in reversed(rows)]
    assert (told[0]["verdict"], told[0]["passed"]) == (verdict, False)
    assert [one["passed"] for one in told if "passed" in one] == [False, False, False, True, True, True]
    assert [{"name": one["name"]} for one in told[-1]["approvals"]] == signed
    assert len({one["proposal"] for one in told[2:]}) == 1
    places = {row["act"]: row["seq"] for row in said("audit", "search", "--subject", candidate, *at)["rows"][::-1]}
    assert places["model.shadow"] == rows[0]["seq"] + 1


def test_the_registry_is_changed_beside_who_owns_the_records(place: Path, tmp_path: Path) -> None:
    """As with a service on SQLite, which finds the row within a second and exchanges the model."""
    owner = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    done = said("change", "begin", place / "one.hilum", "--reason", "the first", "--data", tmp_path)
    holds = Registry(owner).current()
    assert holds is not None
    assert (holds.production, holds.actor) == (done["production"], "console")
    assert said("audit", "verify", "--data", tmp_path)["whole"]
    owner.close()


def test_bounds_are_judged_on_what_happened_since_the_last_change(place: Path, tmp_path: Path) -> None:
    """Overrides of the new model break the bound: the verb goes back in one step, and says why."""
    plan, at = place / "pccp.yaml", ("--data", tmp_path)
    Database(f"sqlite:///{tmp_path / 'hilum.db'}").close()
    with pytest.raises(UsageError, match="nothing to hold against bounds"):
        said("change", "bounds", plan, *at)
    said("change", "begin", place / "one.hilum", "--reason", "the first", *at)
    old, new = read_bundle(place / "one.hilum").sha256, read_bundle(place / "two.hilum").sha256
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    registry = Registry(database)
    registry.register(Registered(sha256=new, name="small", version="2", location="two.hilum"), actor="qm")
    registry.shadow(new, actor="qm", reason="x")
    answered(database, 60, model=old, shadow=new, differing=5)
    database.close()
    assert said("change", "bounds", plan, *at)["counts"]["disagreed"] == [5, 60]
    said("change", "canary", 0.5, "--reason", "x", *at)
    said("change", "promote", "--reason", "x", *at)
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    answered(database, 60, model=new, first=100, overridden=40)
    database.close()
    dry = said("change", "bounds", plan, "--dry-run", *at, code=1)
    assert dry["rolled_back"] is None
    assert dry["broken"][0].startswith("40 of 60 films overridden")
    done = said("change", "bounds", plan, *at, code=1)
    assert done["rolled_back"] == 5
    last = said("change", "history", *at)["history"][-1]
    assert (last["production"], last["actor"]) == (old, "bounds")


def answered(
    database: Database,
    count: int,
    *,
    model: str,
    first: int = 0,
    shadow: str | None = None,
    differing: int = 0,
    overridden: int = 0,
) -> None:
    """Films answered now, some beside a candidate in shadow that differs, some overridden by a reader."""
    now = datetime.now(UTC)
    with database.write() as session:
        for i in range(first, first + count):
            key = f"{i:032x}"
            film = FilmRow(id=key, received_at=now, origin="rest", format="dicom", content_sha256=f"{i:064x}")
            film.file_sha256, film.size, film.state, film.attempts = f"{i:064x}", 1, "answered", 1
            session.add(film)
            session.flush()
            answer = AnswerRow(id=key, film_id=key, model_sha256=model, created_at=now, label="normal", abstained=False)
            answer.risk, answer.assessment = 0.1, "{}"
            session.add(answer)
            if shadow is not None:
                label = "covid-19" if i - first < differing else "normal"
                said_so = ShadowAnswer(model_sha256=shadow, label=label, abstained=False, risk=0.2)
                keep_shadow(session, key, new_answer(model, said_so), now)
            decision = "override" if i - first < overridden else "agree"
            review = ReviewRow(id=key, film_id=key, model_sha256=model, reader="ann", version=1, decision=decision)
            review.finding, review.created_at = ("covid-19" if decision == "override" else None), now
            session.add(review)


def new_answer(model: str, shadow: ShadowAnswer) -> NewAnswer:
    return NewAnswer(
        model_sha256=model, analysed=True, label="normal", abstained=False, risk=0.1, assessment={}, shadow=shadow
    )


def test_facts_that_are_no_json_are_refused(place: Path) -> None:
    bad = place / "bad.json"
    bad.write_text("{")
    roles = [word for role in ("candidate", "current", "first") for word in (f"--{role}", place / f"{role}.parquet")]
    with pytest.raises(UsageError, match="can't be read as JSON"):
        said("change", "evidence", bad, *roles, "--training", place / "training.parquet")
