"""From a proposal to production: proposed, approved by two, in shadow, in canary, promoted; and back in one step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hilum.change import journal
from hilum.change.evidence import Evidence
from hilum.change.gate import GateVerdict, gate, proposal_document
from hilum.change.plan import Plan, RollbackBounds
from hilum.change.signing import Signature, read_signed, sign, write_signed
from hilum.config import fingerprint
from hilum.errors import DataError, UsageError
from hilum.evaluation.intervals import wilson_interval
from hilum.keys import PrivateKey
from hilum.records.audit import Act
from hilum.records.registry import Deployment, Registered, Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A proposal as read: the proposer's signature comes first."""

    sha256: str
    """Digest of the document."""
    proposer: Signature
    """Who proposed."""
    approvals: tuple[Signature, ...]
    """Who approved."""


Note = Callable[[Act], object]
"""Takes the act down before its file is written; see :mod:`hilum.change.journal`."""


def nowhere(_: Act) -> None:
    """Takes nothing down: there is no audit where this is done."""


def propose(
    path: Path, plan: Plan, evidence: Evidence, *, name: str, key: PrivateKey, note: Note = nowhere
) -> GateVerdict:
    """Write a signed proposal; a change that the gate refuses can't be proposed.

    Args:
        path: file to write.
        plan: written before.
        evidence: of the change.
        name: who proposes.
        key: whose signature it gets.
        note: takes the act down.

    Raises:
        UsageError: the gate refuses it for more than missing approvals, or the file is there.
    """
    verdict = gate(plan, evidence)
    if not verdict.ready_for_approval:
        raise UsageError(f"The gate refuses this change: {_first_failure(verdict)} Run hilum change gate to see all.")
    if path.exists():
        raise UsageError(f"{path} is there already, and a proposal is never overwritten. Choose another name.")
    document = proposal_document(plan, evidence)
    note(journal.proposed(verdict, evidence, proposal_sha256=fingerprint(document), proposer=name))
    write_signed(path, document, (sign(document, name=name, key=key),))
    return verdict


def read_proposal(path: Path, plan: Plan, evidence: Evidence) -> Proposal:
    """Read a proposal and hold it against the plan and the evidence that it was made from.

    Raises:
        DataError: a forged signature, or plan or evidence differ from what was signed.
    """
    document, signatures = read_signed(path)
    expected = proposal_document(plan, evidence)
    if document != expected:
        different = sorted(name for name in {*document, *expected} if document.get(name) != expected.get(name))
        raise DataError(
            f"{path} was signed for other things than plan and evidence say now: {', '.join(different)} differ. "
            "Give the plan and the evidence that it was made from, or propose anew."
        )
    if not signatures:
        raise DataError(f"{path} has no signature of who proposes it.")
    return Proposal(sha256=fingerprint(document), proposer=signatures[0], approvals=signatures[1:])


def approve(
    path: Path, plan: Plan, evidence: Evidence, *, name: str, key: PrivateKey, note: Note = nowhere
) -> GateVerdict:
    """Add an approval.

    Args:
        path: file of the proposal.
        plan: that it was made under.
        evidence: that it was made from.
        name: who approves, as in the plan.
        key: theirs.
        note: takes the act down.

    Returns:
        the gate's verdict with it.

    Raises:
        UsageError: this approval wouldn't count.
    """
    proposal = read_proposal(path, plan, evidence)
    document = proposal_document(plan, evidence)
    mine = sign(document, name=name, key=key)
    if any(one.key == mine.key for one in proposal.approvals):
        raise UsageError(f"{name!r} has approved already; another one must.")
    alone = gate(plan, evidence, (mine,), proposer=proposal.proposer.key)
    told = next(check.sentence for check in alone.checks if check.name == "approvals")
    if not told.startswith("1 of"):
        raise UsageError(f"This approval wouldn't count. {told.split('approved. ', 1)[-1]}")
    signatures = (proposal.proposer, *proposal.approvals, mine)
    verdict = gate(plan, evidence, signatures[1:], proposer=proposal.proposer.key)
    note(journal.approved(verdict, evidence, proposal_sha256=proposal.sha256, approval=mine))
    write_signed(path, document, signatures)
    return verdict


def to_shadow(
    registry: Registry, path: Path, plan: Plan, evidence: Evidence, *, bundle_sha256: str, location: str, actor: str
) -> Deployment:
    """Register an approved candidate and let it answer unseen.

    Raises:
        UsageError: the gate doesn't pass, or another model is in production than the evidence compared with.
        DataError: the bundle is not the one of the evidence.
    """
    proposal = read_proposal(path, plan, evidence)
    verdict = gate(plan, evidence, proposal.approvals, proposer=proposal.proposer.key)
    if not verdict.passed:
        raise UsageError(f"The gate doesn't pass: {_first_failure(verdict)} Nothing was changed.")
    facts = evidence.facts
    if bundle_sha256 != facts.models["candidate"]:
        raise DataError(
            f"The bundle's digest is {bundle_sha256[:12]}…, but the evidence is of {facts.models['candidate'][:12]}…. "
            "Give the bundle that was evaluated."
        )
    holds = registry.current()
    if holds is None or holds.production != facts.models["current"]:
        there = "no model" if holds is None else f"model {holds.production[:12]}"
        raise UsageError(
            f"The evidence compares with model {facts.models['current'][:12]}, but {there} is in production. Evaluate "
            "against what is in production now."
        )
    model = Registered(
        sha256=bundle_sha256,
        name=facts.name,
        version=facts.version,
        location=location,
        proposal_sha256=proposal.sha256,
    )
    registry.register(model, actor=actor)
    passed = journal.judged(verdict, evidence, actor=actor, proposal=proposal.sha256, approvals=proposal.approvals)
    return registry.shadow(bundle_sha256, actor=actor, reason=facts.reason, led_by=(passed,))


def _first_failure(verdict: GateVerdict) -> str:
    wrong = [check for check in verdict.checks if check.outcome != "passed"]
    more = f" ({len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return f"{wrong[0].name}: {wrong[0].sentence}{more}"


MEASURES = {
    "abstained": "abstained_above",
    "overridden": "overridden_above",
    "failed": "failed_above",
    "disagreed": "disagreed_above",
}
"""What automatic rollback looks at, and the bound of the plan."""


def broken_bounds(bounds: RollbackBounds, counts: Mapping[str, tuple[int, int]]) -> tuple[str, ...]:
    """Why to go back by itself: measures whose lower 95 % bound lies above what the plan lets pass.

    Args:
        bounds: of the plan.
        counts: by a key of :data:`MEASURES`, (hits, of so many) since the last change.

    Returns:
        one sentence a broken bound; empty when none is, or films are too few to tell.

    Raises:
        UsageError: an unknown measure, or more hits than films.
    """
    said = []
    for name, (hits, n) in counts.items():
        if name not in MEASURES or not 0 <= hits <= n:
            raise UsageError(f"{hits} of {n} {name!r} can't be judged. Known are {', '.join(MEASURES)}.")
        most = getattr(bounds, MEASURES[name])
        if n < bounds.least_films:
            continue
        low = wilson_interval(hits / n, n)[0]
        if low > most:
            said.append(
                f"{hits} of {n} films {name} ({100 * hits / n:.0f} %, at least {100 * low:.0f} %), where "
                f"{100 * most:.0f} % are let pass."
            )
    return tuple(said)


def roll_back_if_broken(
    registry: Registry, bounds: RollbackBounds, counts: Mapping[str, tuple[int, int]]
) -> Deployment | None:
    """Go back in one step when a bound is broken; None when none is."""
    said = broken_bounds(bounds, counts)
    return registry.rollback(actor="bounds", reason=" ".join(said)) if said else None
