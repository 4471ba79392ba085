"""What is in production, what was when, and why.

Each change is one row, and the last row is what holds: production, a candidate beside it, its stage and its share. So a
promotion or a rollback is one insert: it happens whole or not at all, and nobody can see half of it. Rows are never
changed; an answer keeps the version that gave it.

Which model answers is a pure function of the last row and the study (:func:`assigned`), so that all films of a study
go to one model, on every worker and after every restart.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hilum.errors import ServiceError, UsageError
from hilum.records.audit import Act, append, append_all
from hilum.records.database import Database
from hilum.records.schema import DeploymentRow, ModelRow
from hilum.records.store import now

Stage = Literal["full", "shadow", "canary"]
"""``full``: production alone answers; ``shadow``: the candidate answers too, and nobody is shown it; ``canary``: the
candidate answers a share of the studies, and is shown."""

Step = Literal["begin", "activate", "override", "shadow", "canary", "promote", "withdraw", "rollback"]
"""``override``: put into production at once past the plan that is in force; ``activate``: where none is."""

PLAN_IN_FORCE = (
    "A change control plan is in force here, so a model comes into production by its way: hilum change, approved, in "
    "shadow, in canary, promoted. Whoever must put it there past the plan says so (past_plan, --past-plan) with the "
    "reason; the registry, the audit and /models show it as an override."
)

WHOLE = 10_000
"""A share of 1, in ten-thousandths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A model that may go into production."""

    sha256: str
    """Digest of its bundle: its version in every record."""
    name: str
    """Its name."""
    version: str
    """Its version, for people."""
    location: str
    """Where the service finds the bundle."""
    proposal_sha256: str = ""
    """Digest of the approved proposal; empty for the first model, which no plan could compare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What holds from one instant to the next change."""

    seq: int
    """Its place: 1, 2, 3 …"""
    at: datetime
    """Since when (UTC)."""
    act: Step
    """The step that led here."""
    production: str
    """Digest of the model in production."""
    candidate: str | None
    """Digest of the model on trial; None when there is none."""
    stage: Stage
    """What the candidate does."""
    share: int
    """Share of studies that a canary answers, in ten-thousandths; 0 otherwise."""
    actor: str
    """Who did it."""
    reason: str
    """Why, in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Which model does what with one study."""

    answers: str
    """Digest of the model whose answer is shown."""
    shadow: str | None
    """Digest of a model that answers unseen, for comparison; None for none."""


class PlanInForce(UsageError):
    """A model was to go past the change control plan, and nobody said that it shall."""


def assigned(now_holds: Deployment, study: str) -> Assignment:
    """Which models answer a study. Pure: the same row and study always give the same.

    Args:
        now_holds: the last row of the registry.
        study: the study's UID, or for a film without one its content's digest.
    """
    candidate = now_holds.candidate
    if candidate is None or now_holds.stage == "full":
        return Assignment(answers=now_holds.production, shadow=None)
    if now_holds.stage == "shadow":
        return Assignment(answers=now_holds.production, shadow=candidate)
    # The candidate is part of what is hashed: the next candidate meets other studies.
    place = int.from_bytes(hashlib.sha256(f"{candidate}\x1f{study}".encode()).digest()[:8], "big") % WHOLE
    return Assignment(answers=candidate if place < now_holds.share else now_holds.production, shadow=None)


class Registry:
    """The acts on the registry, each one transaction with its row in the audit.

    Args:
        database: where it is kept.
        clock: gives the instant; tests give their own.
        plan_in_force: whether the site says that a plan is, before a first change went its way.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime] = now, *, plan_in_force: bool = False) -> None:
        self._database, self._clock, self._plan_in_force = database, clock, plan_in_force

    @property
    def plan_in_force(self) -> bool:
        """Whether changes go by a plan: the site says so, or a model was registered with an approved proposal."""
        with self._database.read() as session:
            approved = select(ModelRow.sha256).where(ModelRow.proposal_sha256 != "").limit(1)
            return self._plan_in_force or session.scalar(approved) is not None

    def register(self, model: Registered, *, actor: str) -> None:
        """Make a model known; the same again changes nothing.

        Raises:
            UsageError: it is known with another name, version or proposal.
        """
        with self._database.write() as session:
            row = session.get(ModelRow, model.sha256)
            if row is not None:
                _same(row, model)
                row.location = model.location
                return
            facts = {name: getattr(model, name) for name in ("sha256", "name", "version", "location")}
            at = self._clock()
            row = ModelRow(**facts, proposal_sha256=model.proposal_sha256, registered_at=at, registered_by=actor)
            session.add(row)
            detail = {"name": model.name, "version": model.version, "proposal": model.proposal_sha256}
            append(session, Act(actor=actor, act="model.registered", subject=model.sha256, detail=detail), at)

    def models(self) -> tuple[Registered, ...]:
        """All models, in the order in which they came."""
        with self._database.read() as session:
            return tuple(_model(row) for row in session.scalars(select(ModelRow).order_by(ModelRow.registered_at)))

    def current(self) -> Deployment | None:
        """What holds now; None before the first model."""
        with self._database.read() as session:
            return _last(session)

    def history(self) -> tuple[Deployment, ...]:
        """Every change, oldest first."""
        with self._database.read() as session:
            return rows_of(session)

    def begin(self, sha256: str, *, actor: str, reason: str) -> Deployment:
        """Put the first model into production.

        Raises:
            UsageError: there is one already.
        """
        with self._database.read() as session:
            last = _last(session)
        if last is not None:
            raise UsageError(f"Model {last.production[:12]} is in production already. Propose a change instead.")
        return self._append("begin", sha256, None, "full", 0, actor, reason, after=None)

    def activate(self, sha256: str, *, actor: str, reason: str, past_plan: bool = False) -> Deployment:
        """Put another model into production at once, without a trial.

        Args:
            sha256: the model.
            actor: who.
            reason: why.
            past_plan: also where a plan is in force, as an ``override``.

        Raises:
            PlanInForce: one is, and the model shall not go past it.
            UsageError: it is there already, or a candidate is on trial.
        """
        last = self._holding()
        _not_production(last, sha256)
        governed = self.plan_in_force
        if governed and not past_plan:
            raise PlanInForce(PLAN_IN_FORCE)
        if last.candidate is not None:
            raise UsageError(f"Model {last.candidate[:12]} is on trial. Promote it or take it back first.")
        step: Step = "override" if governed else "activate"
        return self._append(step, sha256, None, "full", 0, actor, reason, after=last)

    def shadow(self, sha256: str, *, actor: str, reason: str, led_by: Sequence[Act] = ()) -> Deployment:
        """Let a candidate answer unseen beside production.

        Args:
            sha256: the candidate.
            actor: who.
            reason: why.
            led_by: what this rests on, such as a verdict: in the audit with it, or not at all.
        """
        last = self._holding()
        _not_production(last, sha256)
        return self._append("shadow", last.production, sha256, "shadow", 0, actor, reason, after=last, led_by=led_by)

    def canary(self, sha256: str, share: float, *, actor: str, reason: str) -> Deployment:
        """Let a candidate answer a share of the studies.

        Args:
            sha256: the candidate, which must have been in shadow or canary.
            share: 0 … 1, without the ends.
            actor: who.
            reason: why.

        Raises:
            UsageError: another share, or the candidate was not in shadow.
        """
        parts = round(share * WHOLE)
        if not 0 < parts < WHOLE:
            raise UsageError(
                f"A canary's share is {share}. Give one above 0 and below 1; promote gives it all studies."
            )
        last = self._holding()
        _on_trial(last, sha256, "canary")
        return self._append("canary", last.production, sha256, "canary", parts, actor, reason, after=last)

    def promote(self, sha256: str, *, actor: str, reason: str) -> Deployment:
        """Make a candidate the model in production.

        Raises:
            UsageError: it was not in canary before.
        """
        last = self._holding()
        if last.candidate != sha256 or last.stage != "canary":
            raise UsageError(f"Model {sha256[:12]} is not in canary. Let it answer a share of the studies first.")
        return self._append("promote", sha256, None, "full", 0, actor, reason, after=last)

    def rollback(self, *, actor: str, reason: str) -> Deployment:
        """Take the candidate away, or without one put the model before back into production. One row, one step.

        Raises:
            UsageError: there is nothing to go back to.
        """
        rows = self.history()
        if not rows:
            raise UsageError("No model is in production, so there is nothing to roll back.")
        last = rows[-1]
        if last.candidate is not None:
            return self._append("withdraw", last.production, None, "full", 0, actor, reason, after=last)
        before = _before(rows)
        if before is None:
            raise UsageError(f"Model {last.production[:12]} is the only one that was ever in production.")
        return self._append("rollback", before, None, "full", 0, actor, reason, after=last)

    def _holding(self) -> Deployment:
        last = self.current()
        if last is None:
            raise UsageError("No model is in production yet. Begin with the first one.")
        return last

    def _append(
        self,
        act: Step,
        production: str,
        candidate: str | None,
        stage: Stage,
        share: int,
        actor: str,
        reason: str,
        *,
        after: Deployment | None,
        led_by: Sequence[Act] = (),
    ) -> Deployment:
        if not reason.strip():
            raise UsageError("A change of what is in production needs a reason. Say why, in one sentence.")
        seq = 1 if after is None else after.seq + 1
        try:
            with self._database.write() as session:
                _known(session, [one for one in (production, candidate) if one is not None])
                row = DeploymentRow(
                    seq=seq,
                    at=self._clock(),
                    act=act,
                    production=production,
                    candidate=candidate,
                    stage=stage,
                    share=share,
                    actor=actor,
                    reason=reason,
                )
                session.add(row)
                session.flush()
                detail = {"production": production, "candidate": candidate, "share": share, "reason": reason}
                done = Act(actor=actor, act=f"model.{act}", subject=candidate or production, detail=detail)
                append_all(session, [*led_by, done], row.at)
                return _deployment(row)
        except IntegrityError:
            raise ServiceError(
                "What is in production was changed at the same moment. Look at hilum change history, then decide."
            ) from None


def rows_of(session: Session) -> tuple[Deployment, ...]:
    """Every change, oldest first, in a transaction that is open already."""
    return tuple(_deployment(row) for row in session.scalars(select(DeploymentRow).order_by(DeploymentRow.seq)))


def in_production_at(history: Sequence[Deployment], when: datetime) -> str | None:
    """Digest of the model that was in production at an instant; None before the first."""
    held = [row.production for row in history if row.at <= when]
    return held[-1] if held else None


def came_by(history: Sequence[Deployment]) -> Deployment | None:
    """The change by which the present model came into production, before what was rolled back; None before the first.

    Args:
        history: every change, oldest first.
    """
    stack = _stack(history)
    return stack[-1] if stack else None


def _before(rows: Sequence[Deployment]) -> str | None:
    """The model to go back to: what production was when the present one was promoted."""
    stack = _stack(rows)
    return stack[-2].production if len(stack) > 1 else None


def _stack(rows: Sequence[Deployment]) -> list[Deployment]:
    """Changes of production that hold, one on the other.

    A rollback takes its promotion away, so that a second one goes one further back and not to the model just left.
    """
    stack: list[Deployment] = []
    for row in rows:
        if row.act in ("begin", "activate", "override", "promote"):
            stack.append(row)
        elif row.act == "rollback":
            stack.pop()
    return stack


def _known(session: Session, digests: Sequence[str]) -> None:
    for sha256 in digests:
        if session.get(ModelRow, sha256) is None:
            raise UsageError(f"Model {sha256[:12]} is not registered. Approve its proposal first.")


def _not_production(last: Deployment, sha256: str) -> None:
    if sha256 == last.production:
        raise UsageError(f"Model {sha256[:12]} is in production already; it can't be its own candidate.")


def _on_trial(last: Deployment, sha256: str, step: str) -> None:
    _not_production(last, sha256)
    if last.candidate != sha256:
        raise UsageError(f"Model {sha256[:12]} is not in shadow, so it can't go to {step}. Let it answer unseen first.")


def _same(row: ModelRow, model: Registered) -> None:
    for name in ("name", "version", "proposal_sha256"):
        there, given = getattr(row, name), getattr(model, name)
        if there != given:
            raise UsageError(
                f"Model {model.sha256[:12]} is registered with {name} {there!r}, not {given!r}. "
                "A model is registered once."
            )


def _last(session: Session) -> Deployment | None:
    row = session.scalar(select(DeploymentRow).order_by(DeploymentRow.seq.desc()).limit(1))
    return None if row is None else _deployment(row)


def _model(row: ModelRow) -> Registered:
    return Registered(
        sha256=row.sha256,
        name=row.name,
        version=row.version,
        location=row.location,
        proposal_sha256=row.proposal_sha256,
    )


def _deployment(row: DeploymentRow) -> Deployment:
    return Deployment(
        seq=row.seq,
        at=row.at,
        act=row.act,  # type: ignore[arg-type]  # only _append writes them
        production=row.production,
        candidate=row.candidate,
        stage=row.stage,  # type: ignore[arg-type]
        share=row.share,
        actor=row.actor,
        reason=row.reason,
    )
