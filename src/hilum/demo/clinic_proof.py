"""The audit proves the story: the chain is whole, and every step left its rows; what signed files prove is followed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hilum.change.evidence import read_evidence
from hilum.change.feedback import read_labels
from hilum.change.plan import read_plan
from hilum.change.rollout import read_proposal
from hilum.demo.clinic_change import APPROVERS, Change, round_of
from hilum.demo.room import Room
from hilum.demo.telling import Step, Telling


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the audit holds of one act of one step."""

    step: str
    """Name of the step."""
    act: str
    """Such as ``model.promote``."""
    subjects: int
    """Films, alarms or models that must have a row of it."""
    found: int
    """Those that have."""
    rows: str
    """Places of the first and the last of these rows."""
    actors: str
    """Who acted."""


def told(room: Room, change: Change, telling: Telling) -> tuple[Found, ...]:
    """Verify the audit and look every step up in it."""
    with telling.step("Audit: the chain is whole and proves each step") as step:
        verdict = room.hilum(step, "audit", "verify", fails=True)
        step.check(verdict["whole"], f"{verdict['rows']} rows whole, against {verdict['heads']} signed heads")
        out = room.folder / "audit.jsonl"
        room.hilum(step, "audit", "export", out)
        rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
        found = tuple(_found(one, act, subjects, rows) for one in telling.steps for act, subjects in one.acts)
        for one in found:
            step.check(one.found == one.subjects, f"{one.act} of {one.subjects}: {one.found} found, {one.rows}")
        signed(step, room, change, rows)
    return found


def _found(step: Step, act: str, subjects: Sequence[str], rows: Sequence[dict[str, Any]]) -> Found:
    wanted = set(subjects)
    mine = [row for row in rows if row["act"] == act and row["subject"] in wanted]
    places = [row["seq"] for row in mine]
    return Found(
        step=step.name,
        act=act,
        subjects=len(wanted),
        found=len({row["subject"] for row in mine}),
        rows=("row " + " to ".join(str(place) for place in sorted({min(places), max(places)}))) if places else "no row",
        actors=", ".join(sorted({row["actor"] for row in mine})),
    )


def signed(step: Step, room: Room, change: Change, rows: Sequence[dict[str, Any]]) -> None:
    """What stands in files: the audit's row names the proposal, which is signed for plan and evidence."""
    plan, evidence = read_plan(change.plan), read_evidence(Path(round_of(change)["evidence"]))
    proposal = read_proposal(Path(round_of(change)["path"]), plan, evidence)
    (row,) = [row for row in rows if row["act"] == "model.registered" and row["subject"] == change.candidate]
    named = json.loads(row["body"])["detail"]["proposal"]
    step.check(
        named == proposal.sha256,
        f"row {row['seq']} names the proposal {proposal.sha256[:12]}… that plan and evidence were signed in",
    )
    names = sorted(one.name for one in proposal.approvals)
    step.check(names == sorted(APPROVERS), f"it carries the signatures of {proposal.proposer.name}, {', '.join(names)}")
    version = sorted((room.folder / "retraining" / "versions").glob("[0-9]*"))[-1] / "version.json"
    labels = json.loads(version.read_text("utf-8"))["labels_sha256"]
    step.check(
        labels == read_labels(room.folder / "labels").sha256,
        "the data's version names the labels by digest, whose chain is whole",
    )
