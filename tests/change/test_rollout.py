"""From proposal to production: what was signed is what counts, and a worse model goes back by itself."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.change.made import NAMES, evidence, key, plan

from hilum.change.evidence import Evidence, read_evidence, write_evidence
from hilum.change.plan import RollbackBounds
from hilum.change.rollout import approve, broken_bounds, propose, read_proposal, roll_back_if_broken, to_shadow
from hilum.config import canonical_json
from hilum.errors import ConfigError, DataError, UsageError
from hilum.records.database import Database
from hilum.records.registry import Registered, Registry

CURRENT, CANDIDATE = "b" * 64, "c" * 64


@pytest.fixture(scope="module")
def equal() -> Evidence:
    return evidence(2500)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    database = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    made = Registry(database)
    made.register(Registered(sha256=CURRENT, name="chest", version="1", location="b.hilum"), actor="qm")
    yield made
    database.close()


@pytest.fixture
def approved(tmp_path: Path, equal: Evidence) -> Path:
    path = tmp_path / "proposal.json"
    propose(path, plan(), equal, name="data scientist", key=key(8))
    assert not approve(path, plan(), equal, name=NAMES[0], key=key(1)).passed
    assert approve(path, plan(), equal, name=NAMES[1], key=key(2)).passed
    return path


def test_an_approved_candidate_goes_to_shadow_and_keeps_its_proposal(
    registry: Registry, approved: Path, equal: Evidence
) -> None:
    registry.begin(CURRENT, actor="qm", reason="the first")
    done = to_shadow(registry, approved, plan(), equal, bundle_sha256=CANDIDATE, location="c.hilum", actor="qm")
    assert (done.stage, done.candidate, done.reason) == ("shadow", CANDIDATE, equal.facts.reason)
    assert registry.models()[-1].proposal_sha256 == read_proposal(approved, plan(), equal).sha256


def test_an_unapproved_or_other_bundle_is_not_let_in(
    registry: Registry, approved: Path, equal: Evidence, tmp_path: Path
) -> None:
    where = {"location": "c.hilum", "actor": "qm"}
    with pytest.raises(UsageError, match="compares with model bbbbbbbbbbbb, but no model is in production"):
        to_shadow(registry, approved, plan(), equal, bundle_sha256=CANDIDATE, **where)
    registry.begin(CURRENT, actor="qm", reason="the first")
    with pytest.raises(DataError, match="bundle's digest is dddddddddddd…, but the evidence is of cccccccccccc…"):
        to_shadow(registry, approved, plan(), equal, bundle_sha256="d" * 64, **where)
    alone = tmp_path / "alone.json"
    propose(alone, plan(), equal, name="data scientist", key=key(8))
    with pytest.raises(UsageError, match="gate doesn't pass: approvals: 0 of 2 approved"):
        to_shadow(registry, alone, plan(), equal, bundle_sha256=CANDIDATE, **where)
    assert len(registry.history()) == 1


def test_what_the_gate_refuses_is_not_proposed(equal: Evidence, tmp_path: Path) -> None:
    worse = evidence(2500, candidate=0.8)
    with pytest.raises(UsageError, match="gate refuses this change: non-inferiority"):
        propose(tmp_path / "p.json", plan(), worse, name="ds", key=key(8))
    propose(tmp_path / "p.json", plan(), equal, name="ds", key=key(8))
    with pytest.raises(UsageError, match="never overwritten"):
        propose(tmp_path / "p.json", plan(), equal, name="ds", key=key(8))


def test_approvals_that_would_not_count_are_refused_at_once(equal: Evidence, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    propose(path, plan(), equal, name=NAMES[0], key=key(1))
    with pytest.raises(UsageError, match="'quality manager' proposed the change"):
        approve(path, plan(), equal, name=NAMES[0], key=key(1))
    with pytest.raises(UsageError, match="none of the plan's"):
        approve(path, plan(), equal, name="stranger", key=key(9))
    approve(path, plan(), equal, name=NAMES[1], key=key(2))
    with pytest.raises(UsageError, match="has approved already"):
        approve(path, plan(), equal, name=NAMES[1], key=key(2))


def test_a_forged_signature_and_a_changed_plan_are_refused_by_name(approved: Path, equal: Evidence) -> None:
    with pytest.raises(DataError, match="plan_sha256, plan_version differ"):
        read_proposal(approved, plan(version="2"), equal)
    text = approved.read_text()
    approved.write_text(text.replace('"reason":"A new scanner came."', '"reason":"Because."'))
    with pytest.raises(DataError, match="signature of 'data scientist' doesn't fit the document"):
        read_proposal(approved, plan(), equal)
    approved.write_text("{}")
    with pytest.raises(DataError, match="is no signed document"):
        read_proposal(approved, plan(), equal)


def test_a_proposal_that_nobody_signed_is_refused(approved: Path, equal: Evidence) -> None:
    from hilum.change.gate import proposal_document
    from hilum.change.signing import write_signed

    write_signed(approved, proposal_document(plan(), equal), ())
    with pytest.raises(DataError, match="no signature of who proposes it"):
        read_proposal(approved, plan(), equal)


def test_evidence_is_read_back_and_a_changed_file_is_refused(tmp_path: Path) -> None:
    small = evidence(120)
    folder = tmp_path / "evidence"
    three = {role: getattr(small, role) for role in ("candidate", "current", "first")}
    write_evidence(folder, small.facts, three, {"patients": ["t1"], "films": ["e" * 64]})
    read = read_evidence(folder)
    assert read.training_patients == small.training_patients
    assert read.sha256 == read_evidence(folder).sha256
    (folder / "training.json").write_text('{"films":[],"patients":[]}')
    with pytest.raises(DataError, match="training.json has the digest .* it was changed"):
        read_evidence(folder)
    (folder / "training.json").unlink()
    with pytest.raises(DataError, match="training.json can't be read"):
        read_evidence(folder)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"files": {"candidate.parquet": "0"}}, "names no digest of current.parquet, first.parquet, training.json"),
        ({"models": {"candidate": "c"}}, "names no model as current, first"),
    ],
)
def test_evidence_that_lacks_something_says_what(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    small = evidence(120)
    names = ("candidate.parquet", "current.parquet", "first.parquet", "training.json")
    facts = replace(small.facts, **{"files": dict.fromkeys(names, "0" * 64)} | changes)
    (tmp_path / "evidence.json").write_text(canonical_json(facts))
    with pytest.raises(DataError, match=told):
        read_evidence(tmp_path)
    outside = replace(facts, files=dict.fromkeys((*names, "../x"), "0" * 64), models=small.facts.models)
    (tmp_path / "evidence.json").write_text(canonical_json(outside))
    with pytest.raises(DataError, match="lies outside its folder"):
        read_evidence(tmp_path)
    (tmp_path / "evidence.json").write_text("[]")
    with pytest.raises(DataError, match="holds list, not an object"):
        read_evidence(tmp_path)
    (tmp_path / "evidence.json").write_text('{"chnge": 1}')
    with pytest.raises(ConfigError, match="unknown key 'chnge'. Did you mean 'change'"):
        read_evidence(tmp_path)


def test_bounds_are_broken_only_beyond_doubt() -> None:
    bounds = RollbackBounds()
    assert broken_bounds(bounds, {"abstained": (13, 49), "overridden": (12, 50), "failed": (0, 500)}) == ()
    said = broken_bounds(bounds, {"overridden": (40, 100), "abstained": (10, 100)})
    assert len(said) == 1
    assert said[0].startswith("40 of 100 films overridden (40 %, at least 31 %)")
    with pytest.raises(UsageError, match="3 of 2 'failed' can't be judged"):
        broken_bounds(bounds, {"failed": (3, 2)})


def test_a_regression_goes_back_in_one_step_by_itself(registry: Registry) -> None:
    registry.register(Registered(sha256=CANDIDATE, name="chest", version="2", location="c.hilum"), actor="qm")
    registry.begin(CURRENT, actor="qm", reason="the first")
    registry.shadow(CANDIDATE, actor="qm", reason="x")
    registry.canary(CANDIDATE, 0.2, actor="qm", reason="x")
    assert roll_back_if_broken(registry, RollbackBounds(), {"overridden": (5, 100)}) is None
    registry.promote(CANDIDATE, actor="qm", reason="x")
    done = roll_back_if_broken(registry, RollbackBounds(), {"overridden": (45, 100)})
    assert done is not None
    assert (done.act, done.production, done.actor) == ("rollback", CURRENT, "bounds")
    assert "45 of 100 films overridden" in done.reason
