"""The registry: what is in production changes in one step, is known for every instant, and sends a study one way."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from hilum.errors import ServiceError, UsageError
from hilum.records.audit import entries
from hilum.records.database import Database
from hilum.records.registry import (
    Deployment,
    PlanInForce,
    Registered,
    Registry,
    assigned,
    came_by,
    in_production_at,
)
from hilum.records.schema import AuditRow

START = datetime(2026, 11, 1, tzinfo=UTC)
FIRST, SECOND, THIRD = ("a" * 64, "b" * 64, "c" * 64)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(hours=1)
        return self.now


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'hilum.db'}")
    yield opened
    opened.close()


@pytest.fixture
def registry(database: Database) -> Registry:
    made = Registry(database, Clock())
    for sha256 in (FIRST, SECOND, THIRD):
        made.register(
            Registered(sha256=sha256, name="chest", version=sha256[0], location=f"{sha256[0]}.hilum"), actor="qm"
        )
    return made


def promoted(registry: Registry, sha256: str) -> Deployment:
    registry.shadow(sha256, actor="qm", reason="better outside")
    registry.canary(sha256, 0.1, actor="qm", reason="shadow agreed")
    return registry.promote(sha256, actor="qm", reason="canary held")


def test_the_way_of_a_candidate_is_kept_step_by_step(registry: Registry, database: Database) -> None:
    registry.begin(FIRST, actor="qm", reason="the first")
    promoted(registry, SECOND)
    assert [(row.act, row.production[0], row.stage) for row in registry.history()] == [
        ("begin", "a", "full"),
        ("shadow", "a", "shadow"),
        ("canary", "a", "canary"),
        ("promote", "b", "full"),
    ]
    with database.read() as session:
        acts = list(session.scalars(select(AuditRow.act).order_by(AuditRow.seq)))
    assert acts[3:] == ["model.begin", "model.shadow", "model.canary", "model.promote"]


def test_what_was_in_production_is_known_for_every_instant(registry: Registry) -> None:
    begun = registry.begin(FIRST, actor="qm", reason="the first")
    changed = promoted(registry, SECOND)
    history = registry.history()
    assert in_production_at(history, begun.at - timedelta(seconds=1)) is None
    assert in_production_at(history, changed.at - timedelta(seconds=1)) == FIRST
    assert in_production_at(history, changed.at) == SECOND


def test_rollback_withdraws_a_candidate_first_and_then_goes_one_model_back_each_time(registry: Registry) -> None:
    registry.begin(FIRST, actor="qm", reason="the first")
    promoted(registry, SECOND)
    promoted(registry, THIRD)
    registry.shadow(FIRST, actor="qm", reason="try the first again")
    withdrawn = registry.rollback(actor="qm", reason="no need")
    assert (withdrawn.act, withdrawn.production, withdrawn.candidate) == ("withdraw", THIRD, None)
    assert registry.rollback(actor="bounds", reason="overrides doubled").production == SECOND
    assert registry.rollback(actor="bounds", reason="still").production == FIRST
    with pytest.raises(UsageError, match="the only one that was ever in production"):
        registry.rollback(actor="bounds", reason="still")


def holding(stage: str, share: int = 0) -> Deployment:
    return Deployment(
        seq=1, at=START, act="canary", production=FIRST, candidate=SECOND, stage=stage, share=share, actor="", reason=""
    )  # type: ignore[arg-type]


def test_past_a_plan_in_force_only_who_says_so(registry: Registry, database: Database) -> None:
    """A plan is in force once a model was approved under one, or where the site says so."""
    registry.begin("a" * 64, actor="qm", reason="the first")
    assert not registry.plan_in_force
    assert Registry(database, plan_in_force=True).plan_in_force
    assert registry.activate("b" * 64, actor="qm", reason="no plan yet", past_plan=True).act == "activate"
    approved = Registered(sha256="9" * 64, name="chest", version="9", location="9.hilum", proposal_sha256="8" * 64)
    registry.register(approved, actor="qm")
    assert registry.plan_in_force
    with pytest.raises(PlanInForce, match="A change control plan is in force here"):
        registry.activate("a" * 64, actor="qm", reason="x")
    with pytest.raises(UsageError, match="needs a reason"):
        registry.activate("a" * 64, actor="qm", reason=" ", past_plan=True)
    done = registry.activate("a" * 64, actor="qm", reason="the other one fails", past_plan=True)
    assert (done.act, done.production) == ("override", "a" * 64)
    assert came_by(registry.history()) == done
    assert registry.rollback(actor="qm", reason="mended").production == "b" * 64
    by = came_by(registry.history())
    assert by is not None
    assert by.act == "activate"
    with database.read() as session:
        assert [row.act for row in entries(session) if row.act == "model.override"] == ["model.override"]


def test_a_canary_answers_its_share_of_the_studies_and_a_study_always_alike() -> None:
    held = holding("canary", 1000)
    studies = [f"1.2.{i}" for i in range(20_000)]
    taken = sum(assigned(held, study).answers == SECOND for study in studies) / len(studies)
    assert taken == pytest.approx(0.1, abs=0.01)
    assert all(assigned(held, study) == assigned(held, study) for study in studies[:50])
    more = holding("canary", 2000)
    assert all(assigned(more, s).answers == SECOND for s in studies if assigned(held, s).answers == SECOND)


def test_a_shadow_answers_beside_production_and_is_never_shown() -> None:
    found = assigned(holding("shadow"), "1.2.3")
    assert (found.answers, found.shadow) == (FIRST, SECOND)
    assert assigned(holding("full"), "1.2.3").shadow is None


def test_steps_can_not_be_skipped(registry: Registry) -> None:
    with pytest.raises(UsageError, match="No model is in production yet"):
        registry.shadow(SECOND, actor="qm", reason="x")
    with pytest.raises(UsageError, match="nothing to roll back"):
        registry.rollback(actor="qm", reason="x")
    registry.begin(FIRST, actor="qm", reason="the first")
    with pytest.raises(UsageError, match="in production already. Propose a change"):
        registry.begin(SECOND, actor="qm", reason="x")
    with pytest.raises(UsageError, match="not in shadow, so it can't go to canary"):
        registry.canary(SECOND, 0.1, actor="qm", reason="x")
    with pytest.raises(UsageError, match="can't be its own candidate"):
        registry.shadow(FIRST, actor="qm", reason="x")
    registry.shadow(SECOND, actor="qm", reason="x")
    with pytest.raises(UsageError, match="not in canary"):
        registry.promote(SECOND, actor="qm", reason="x")
    with pytest.raises(UsageError, match="share is 1.5"):
        registry.canary(SECOND, 1.5, actor="qm", reason="x")
    with pytest.raises(UsageError, match="needs a reason"):
        registry.canary(SECOND, 0.5, actor="qm", reason=" ")


def test_only_registered_models_are_let_in_and_each_is_registered_once(registry: Registry) -> None:
    registry.begin(FIRST, actor="qm", reason="the first")
    with pytest.raises(UsageError, match="is not registered"):
        registry.shadow("d" * 64, actor="qm", reason="x")
    with pytest.raises(UsageError, match="registered with version 'a', not 'z'"):
        registry.register(Registered(sha256=FIRST, name="chest", version="z", location="x"), actor="qm")


def test_two_changes_at_once_leave_one(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = registry.begin(FIRST, actor="qm", reason="the first")
    registry.shadow(SECOND, actor="qm", reason="x")
    monkeypatch.setattr(registry, "current", lambda: begun)  # what the other process had read before
    with pytest.raises(ServiceError, match="changed at the same moment"):
        registry.shadow(THIRD, actor="other", reason="y")
    assert len(registry.history()) == 2
