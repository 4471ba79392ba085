"""What people decide in files (labels, verdicts, signatures) as rows of the service's audit.

The label set, the evidence and a proposal are files, and whoever signs may do it where no service's records are. So
each file is written within the transaction of its row, last before the commit: no row is kept of an act that failed.
What a kill between file and commit leaves out, or what was done elsewhere, is written down by the next act, and said
to be late: versions of the label set by :func:`label_rows`, signatures when the candidate goes into shadow
(:func:`hilum.change.rollout.to_shadow`).
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hilum.change.evidence import Evidence
from hilum.change.feedback import EMPTY, LabelSet
from hilum.change.gate import GateVerdict
from hilum.change.signing import Signature
from hilum.errors import DataError
from hilum.records.audit import Act, append, append_all
from hilum.records.schema import AuditRow

ACCEPTED, REJECTED, COLLECTED = "label.accepted", "label.rejected", "labels.collected"
JUDGED, PROPOSED, APPROVED, ABANDONED = "change.judged", "change.proposed", "change.approved", "change.abandoned"
LONGEST_ACTOR = 96
"""Characters that the audit keeps of a name."""


def label_rows(
    session: Session, versions: Iterable[LabelSet], at: datetime, *, made: int = 0, actor: str = "console"
) -> int:
    """Write down what versions of the label set say that the audit doesn't know yet.

    Args:
        session: of a writing transaction.
        versions: all of them, the first one first.
        at: when.
        made: the version that is made now; rows of earlier ones are said to be late.
        actor: who collects; who decides stands in the labels.

    Returns:
        how many rows.

    Raises:
        DataError: the audit knows a version with another digest, or one that is not there.
    """
    told: Mapping[str, Any] | None = None
    acts: list[Act] = []
    first, before = "", EMPTY
    for version in versions:
        if not first:
            first = version.sha256
            told = _last_known(session, first)
        known = int(told["version"]) if told else 0
        if told and version.version == known:
            _same(known, told["sha256"], version.sha256)
        if version.version > known:
            acts += _acts(before, version, first, actor, late=version.version != made)
        before = version
    if told and int(told["version"]) > before.version:
        _same(int(told["version"]), told["sha256"], "")
    append_all(session, acts, at)
    return len(acts)


def _last_known(session: Session, first_sha256: str) -> Mapping[str, Any] | None:
    """What the newest row about the set that began with this digest says; None when there is none."""
    acts = (ACCEPTED, REJECTED, COLLECTED)
    query = select(AuditRow.body).where(AuditRow.act.in_(acts)).order_by(AuditRow.seq.desc())
    details = (json.loads(body)["detail"] for body in session.scalars(query.execution_options(yield_per=100)))
    return next((one for one in details if one["set"] == first_sha256), None)


def _same(number: int, recorded: str, there: str) -> None:
    if recorded != there:
        raise DataError(
            f"The audit knows version {number} of this label set as {recorded[:12]}…, but the folder has "
            f"{there[:12] + '… in its place' if there else 'fewer versions'}: the set was changed, or is an older copy."
            " Take its versions from a backup."
        )


def _acts(before: LabelSet, version: LabelSet, first: str, actor: str, *, late: bool) -> Iterator[Act]:
    known = {one.film_id: one for one in before.labels}
    of: dict[str, Any] = {"set": first, "version": version.version, "sha256": version.sha256, "late": late}
    new = [one for one in version.labels if one.film_id not in known]
    if new:
        told = of | {"films": [one.film_id for one in new], "sources": sorted({one.source for one in new})}
        yield Act(actor=actor, act=COLLECTED, detail=told)
    for one in version.labels:
        was = known.get(one.film_id, one)
        if one.state in ("accepted", "rejected") and (was is one or was.state != one.state):
            told = of | {"finding": one.finding, "source": one.source, "was": was.state}
            act = ACCEPTED if one.state == "accepted" else REJECTED
            yield Act(actor=one.decided_by[:LONGEST_ACTOR], act=act, subject=one.film_id, detail=told)


def judged(
    verdict: GateVerdict, evidence: Evidence, *, actor: str, proposal: str = "", approvals: Sequence[Signature] = ()
) -> Act:
    """The gate's verdict; the candidate is what it is about.

    Args:
        verdict: what the gate says.
        evidence: of what.
        actor: who asked it.
        proposal: digest of the signed proposal; empty before there is one.
        approvals: its signatures.
    """
    missed = [f"{check.name}: {check.outcome}" for check in verdict.checks if check.outcome != "passed"]
    signed = [{"name": one.name, "key": one.key} for one in approvals]
    told = {"passed": verdict.passed, "not_passed": missed, "proposal": proposal, "approvals": signed}
    return _about(verdict, evidence, JUDGED, actor, told | {"update": evidence.facts.update})


def proposed(verdict: GateVerdict, evidence: Evidence, *, proposal_sha256: str, proposer: str) -> Act:
    """A proposal that was signed."""
    told = {"proposal": proposal_sha256, "change": evidence.facts.change, "reason": evidence.facts.reason}
    return _about(verdict, evidence, PROPOSED, proposer, told)


def approved(verdict: GateVerdict, evidence: Evidence, *, proposal_sha256: str, approval: Signature) -> Act:
    """An approval that was signed, and the gate's verdict with it."""
    told = {"proposal": proposal_sha256, "key": approval.key, "passed": verdict.passed}
    return _about(verdict, evidence, APPROVED, approval.name, told)


def abandoned(*, version_sha256: str, reason: str, actor: str) -> Act:
    """A round of retraining that was given up; the version of the data is what it is about."""
    return Act(actor=actor[:LONGEST_ACTOR], act=ABANDONED, subject=version_sha256, detail={"reason": reason})


def _about(verdict: GateVerdict, evidence: Evidence, act: str, actor: str, told: Mapping[str, Any]) -> Act:
    digests = {"plan": verdict.plan_sha256, "evidence": verdict.evidence_sha256, "verdict": verdict.sha256}
    candidate = evidence.facts.models["candidate"]
    return Act(actor=actor[:LONGEST_ACTOR], act=act, subject=candidate, detail={**digests, **told})


def note_once(session: Session, act: Act, at: datetime) -> None:
    """Write an act down that the audit doesn't hold yet: of a verb that is called again after a kill."""
    if not _there(session, act):
        append(session, act, at)


def _there(session: Session, act: Act) -> bool:
    same = (AuditRow.subject == act.subject, AuditRow.act == act.act, AuditRow.actor == act.actor)
    bodies = session.scalars(select(AuditRow.body).where(*same))
    return any(json.loads(body)["detail"] == act.detail for body in bodies)
