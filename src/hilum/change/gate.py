"""The gate: a pure function from plan, evidence and approvals to a verdict, the same byte for byte."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hilum.change.comparing import (
    GateCheck,
    calibration,
    critical_cases,
    non_inferiority,
    subgroups,
    superiority,
)
from hilum.change.evidence import Evidence
from hilum.change.plan import Plan
from hilum.change.signing import Signature, verifies
from hilum.config import canonical_json
from hilum.errors import nearest

SCHEMA = 1
APPROVALS = "approvals"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateVerdict:
    """What the gate says."""

    plan_sha256: str
    """Digest of the plan."""
    evidence_sha256: str
    """Digest of the evidence."""
    checks: tuple[GateCheck, ...]
    """Every check, in a fixed order."""

    @property
    def passed(self) -> bool:
        """True when every check passed; ``insufficient`` is no pass."""
        return all(check.outcome == "passed" for check in self.checks)

    @property
    def ready_for_approval(self) -> bool:
        """True when nothing but approvals is wanting."""
        return all(check.outcome == "passed" for check in self.checks if check.name != APPROVALS)

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "schema": SCHEMA,
            "passed": self.passed,
            "plan_sha256": self.plan_sha256,
            "evidence_sha256": self.evidence_sha256,
            "checks": [{"name": c.name, "outcome": c.outcome, "sentence": c.sentence} for c in self.checks],
        }

    def to_canonical_json(self) -> str:
        """The one text of the verdict."""
        return canonical_json(self.to_json())

    @property
    def sha256(self) -> str:
        """Digest of that text."""
        return hashlib.sha256(self.to_canonical_json().encode()).hexdigest()


def proposal_document(plan: Plan, evidence: Evidence) -> dict[str, Any]:
    """What proposer and approvers sign: the change, bound to plan and evidence by their digests. No clock."""
    facts = evidence.facts
    return {
        "schema": SCHEMA,
        "plan": plan.name,
        "plan_version": plan.version,
        "plan_sha256": plan.sha256,
        "evidence_sha256": evidence.sha256,
        "change": facts.change,
        "update": facts.update,
        "candidate": facts.models["candidate"],
        "current": facts.models["current"],
        "first": facts.models["first"],
        "name": facts.name,
        "version": facts.version,
        "trained_by": facts.trained_by,
        "reason": facts.reason,
        "trigger": facts.trigger,
    }


def gate(plan: Plan, evidence: Evidence, approvals: Sequence[Signature] = (), *, proposer: str = "") -> GateVerdict:
    """Judge a change.

    Args:
        plan: written before.
        evidence: of the change.
        approvals: signatures of :func:`proposal_document`.
        proposer: public key (hex) of who proposed it, whose approval doesn't count.
    """
    checks = [
        *_scope(plan, evidence),
        *_data(plan, evidence),
        *_compared(plan, evidence),
        _latency(plan, evidence),
        _approved(plan, evidence, approvals, proposer),
    ]
    return GateVerdict(plan_sha256=plan.sha256, evidence_sha256=evidence.sha256, checks=tuple(checks))


def _compared(plan: Plan, evidence: Evidence) -> Iterator[GateCheck]:
    if tuple(evidence.candidate.findings.names) != plan.scope.findings:
        return  # the scope has failed, and other findings can't be compared by this plan
    for part in (non_inferiority, superiority, subgroups, calibration, critical_cases):
        yield from part(evidence, plan)


def _check(name: str, passed: bool, good: str, bad: str) -> GateCheck:
    return GateCheck(name=name, outcome="passed" if passed else "failed", sentence=good if passed else bad)


def _scope(plan: Plan, evidence: Evidence) -> Iterator[GateCheck]:
    facts, scope = evidence.facts, plan.scope
    findings = tuple(evidence.candidate.findings.names)
    yield _check(
        "scope: findings",
        findings == scope.findings,
        "The candidate tells the same findings apart.",
        f"The candidate tells {', '.join(findings)} apart; the plan is for {', '.join(scope.findings)}.",
    )
    yield _check(
        "scope: change",
        facts.change in scope.changes,
        f"A change of the kind {facts.change} is in the plan.",
        f"A change of the kind {facts.change!r} is not in the plan. {nearest(facts.change, scope.changes)}",
    )
    allowed = scope.architectures or (facts.current_architecture,)
    yield _check(
        "scope: architecture",
        facts.architecture in allowed,
        f"The architecture {facts.architecture} is in the plan.",
        f"The architecture {facts.architecture!r} is not in the plan. {nearest(facts.architecture, allowed)}",
    )
    updates = plan.non_inferiority.updates
    yield _check(
        "scope: updates",
        1 <= facts.update <= updates,
        f"This is update {facts.update} of {updates}.",
        f"This is update {facts.update}, but the plan's alpha is spent after {updates}. Write a new plan.",
    )


def _data(plan: Plan, evidence: Evidence) -> Iterator[GateCheck]:
    facts, films = evidence.facts, evidence.candidate
    yield _check(
        "data: locked test set",
        facts.test_fingerprint == plan.test_set.fingerprint,
        "The models answered the plan's locked test set.",
        f"The models answered the films {facts.test_fingerprint[:12]}…, not the locked test set "
        f"{plan.test_set.fingerprint[:12]}….",
    )
    patients = set(films.patient_ids)
    enough = len(patients) >= plan.test_set.least_patients
    yield GateCheck(
        name="data: patients",
        outcome="passed" if enough else "insufficient",
        sentence=f"The test set has {len(patients)} patients; {plan.test_set.least_patients} are needed.",
    )
    both, same = len(patients & evidence.training_patients), len(set(films.film_ids) & evidence.training_films)
    yield _check(
        "data: disjoint",
        not both and not same and bool(evidence.training_films),
        "No patient and no film of the test set was trained on.",
        f"{both} patients and {same} films of the test set were trained on."
        if both or same
        else "The evidence doesn't list the films that were trained on.",
    )


def _latency(plan: Plan, evidence: Evidence) -> GateCheck:
    found, most = evidence.facts.latency_p95_ms, plan.largest_latency_ms
    return _check(
        "latency",
        0 < found <= most,
        f"95 % of films take at most {found:.0f} ms; {most:.0f} ms are accepted.",
        f"95 % of films take at most {found:.0f} ms, but {most:.0f} ms are accepted.",
    )


def _approved(plan: Plan, evidence: Evidence, approvals: Sequence[Signature], proposer: str) -> GateCheck:
    document, known = proposal_document(plan, evidence), {one.key: one.name for one in plan.approvals.approvers}
    counted: set[str] = set()
    problems: list[str] = []
    for one in approvals:
        if reason := _why_not(one, document, known, evidence.facts.trained_by, proposer):
            problems.append(reason)
        else:
            counted.add(one.key)
    names = sorted(known[key] for key in counted)
    need = plan.approvals.least
    # A signature that doesn't fit is no missing one: somebody tried.
    passed = len(counted) >= need and not problems
    sentence = f"{len(counted)} of {need} approved" + (f" ({', '.join(names)})" if names else "") + "."
    return GateCheck(name=APPROVALS, outcome="passed" if passed else "failed", sentence=" ".join([sentence, *problems]))


def _why_not(one: Signature, document: dict[str, Any], known: dict[str, str], trained_by: str, proposer: str) -> str:
    """Why an approval doesn't count; empty when it does."""
    if one.key not in known:
        return f"The key of {one.name!r} is none of the plan's."
    if known[one.key] != one.name:
        return f"The key that signed as {one.name!r} is {known[one.key]!r}'s."
    if not verifies(document, one):
        return f"The signature of {one.name!r} doesn't fit this proposal: it was forged, or is for another one."
    if one.name == trained_by:
        return f"{one.name!r} trained the candidate, and can't approve it."
    if one.key == proposer:
        return f"{one.name!r} proposed the change, and can't approve it."
    return ""
