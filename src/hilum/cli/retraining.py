"""A round of retraining, from what is due to a signed proposal or the gate's refusal; only here all rooms meet."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hilum.cli.retraining_inputs import (
    Models,
    Site,
    Wish,
    adopted_at,
    labels_to_take,
    new_labels,
    open_alarms,
    open_models,
    released,
)

if TYPE_CHECKING:
    from hilum.change.evidence import Evidence, Facts
    from hilum.change.gate import GateVerdict
    from hilum.change.plan import Plan
    from hilum.change.triggers import Trigger
    from hilum.keys import PrivateKey
    from hilum.progress import Progress
    from hilum.runs.retrain import Made
    from hilum.runs.rounds import Round, RoundFolder, Rounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a call."""

    sentence: str
    """For a person."""
    folder: "RoundFolder | None" = None
    """Of the round; None when nothing was due."""
    round: "Round | None" = None
    """What it is of."""
    verdict: "GateVerdict | None" = None
    """Of the gate."""
    made: dict[str, Any] = field(default_factory=dict)
    """What was made, for ``--json``."""


def retrain(site: Site, plan: "Plan", wish: Wish, private: "PrivateKey", progress: "Progress") -> Outcome:
    """Begin a round, or go on with one, up to a signed proposal or the gate's refusal.

    Raises:
        HilumError: what is wrong, in one sentence; what was finished is kept.
    """
    import os

    from hilum.cli.forgetting import forget_erased
    from hilum.cli.records import records_there
    from hilum.runs.rounds import Rounds

    rounds = Rounds(site.out)
    held = rounds.lock()
    try:
        if records_there(site.data):
            forget_erased(site.out, site.data)
        if (folder := rounds.open_round()) is None:
            models = open_models(site, rounds)
            folder, said = _next_round(site, rounds, plan, wish, models, progress)
            if folder is None:
                return Outcome(sentence=said)
        else:
            models = open_models(site, rounds)
        _not_retired(folder)
        _check_inputs(folder, _about(plan, wish, models, "", "", 1, ""))
        return _carried(folder, site, plan, wish, models, private, progress)
    finally:
        os.close(held)


def _next_round(
    site: Site, rounds: "Rounds", plan: "Plan", wish: Wish, models: Models, progress: "Progress"
) -> "tuple[RoundFolder | None, str]":
    """The folder of a round that was begun now, or of the last one when nothing has come since; None when not due."""
    from hilum.change.feedback import read_labels, read_versions
    from hilum.change.journal import label_rows
    from hilum.change.triggers import Occasion, due
    from hilum.cli.records import records_if_any
    from hilum.errors import DataError
    from hilum.provenance import now_utc
    from hilum.records.store import now as instant
    from hilum.runs.retrain import adopt, begin

    known = read_labels(site.labels)
    with records_if_any(site.data) as session:
        if session is not None:
            label_rows(session, read_versions(site.labels), instant())
    fresh = new_labels(known, rounds, wish.kind)
    before = [(one, about) for one, about in rounds.rounds() if about.kind == wish.kind]
    last = datetime.fromisoformat(before[-1][0].at) if before else adopted_at(rounds)
    answered = frozenset(about.alarm for _, about in before if about.alarm)
    at = datetime.now(UTC).replace(microsecond=0)
    told: Trigger | None = None
    if wish.conditions.asked or last is not None:
        alarms = open_alarms(site.data) if wish.conditions.alarms is not None else ()
        told, said = due(
            wish.conditions, Occasion(now=at, last=last, labels=len(fresh), alarms=alarms, answered=answered)
        )
        if wish.conditions.asked and told is None:
            return None, said
    if not fresh and before and rounds.folder(before[-1][0].number).proposal.exists():
        return rounds.folder(before[-1][0].number), ""
    if not fresh:
        since = f" since version {before[-1][0].number}" if before else ""
        raise DataError(
            f"No label was accepted{since}, so there is nothing new to learn from: hilum labels collect, then accept. "
            f"The set in {site.labels} has {len(known.labels)} labels, {len(known.accepted)} of them accepted."
        )
    adopt(rounds, models.run, at=now_utc())
    about = _about(
        plan,
        wish,
        models,
        told.sentence if told else "",
        told.alarm if told else "",
        _update(rounds, plan, wish),
        at.isoformat(),
    )
    taken = labels_to_take(known, rounds, wish.kind, models.run)
    labelled = released(site, taken, known, wish, progress)
    return begin(rounds, models.run, labelled, about, leave_out=wish.leave_out, progress=progress), ""


def _update(rounds: "Rounds", plan: "Plan", wish: Wish) -> int:
    """Which update it is: each candidate that answered the locked test under this plan has spent its part of alpha."""
    from hilum.errors import UsageError

    told = [(one, about) for one, about in rounds.rounds() if about.plan_sha256 == plan.sha256]
    spent = [about.update for one, about in told if rounds.folder(one.number).answers("candidate").exists()]
    least = 1 + max(spent, default=0)
    if wish.update is not None and wish.update < least:
        raise UsageError(
            f"--update is {wish.update}, but {least - 1} updates were evaluated under this plan. Give {least} or more."
        )
    return least if wish.update is None else wish.update


def _about(plan: "Plan", wish: Wish, models: Models, trigger: str, alarm: str, update: int, at: str) -> "Round":
    from hilum.config import fingerprint
    from hilum.runs.rounds import Round

    run, info = models.run, models.current.info
    return Round(
        kind=wish.kind,
        trigger=trigger,
        alarm=alarm,
        run=str(run.path.absolute()),
        run_fingerprint=run.fingerprint,
        recipe=fingerprint(run.config),
        current=models.current.sha256,
        first=models.first.sha256,
        plan_sha256=plan.sha256,
        update=update,
        name=info.name,
        version=wish.version,
        trained_by=wish.trained_by,
        proposer=wish.name,
        reason=wish.reason or trigger,
        at=at,
    )


def _not_retired(folder: "RoundFolder") -> None:
    from hilum.errors import UsageError

    if folder.retired.exists() and not folder.ended:
        raise UsageError(
            f"Films of the version in {folder.root} were erased since, so no candidate is made of it. Give the round "
            "up, hilum retrain abandon, and propose anew: the next version is made without them."
        )


def _check_inputs(folder: "RoundFolder", asked: "Round") -> None:
    from hilum.errors import UsageError

    if different := folder.read_round().same_inputs(asked):
        raise UsageError(
            f"The round in {folder.root} was begun with another {', '.join(different)}. Finish it with the command "
            "that began it, or give it up: hilum retrain abandon."
        )


def _carried(
    folder: "RoundFolder",
    site: Site,
    plan: "Plan",
    wish: Wish,
    models: Models,
    private: "PrivateKey",
    progress: "Progress",
) -> Outcome:
    """Make the candidate and the evidence, or take what an earlier call made, and let the gate judge."""
    from hilum.change.evidence import EVIDENCE, read_evidence, write_evidence
    from hilum.runs.retrain import carry_out

    about = folder.read_round()
    made = carry_out(
        folder,
        models.run,
        models.paths,
        stated=wish.stated,
        device=wish.device,
        resamples=wish.resamples,
        progress=progress,
    )
    if not (folder.evidence / EVIDENCE).exists():
        films = made.trained_on
        listing = {"patients": films.strings("patient_id"), "films": films.strings("film_id")}
        write_evidence(folder.evidence, _facts(about, made, models), dict(made.answers), listing)
    evidence = read_evidence(folder.evidence)
    verdict = _judged(folder, site, about, plan, evidence, private)
    told = {"candidate": made.bundle.sha256, "weights": made.run.fingerprint, "evidence_sha256": evidence.sha256}
    said = f"{folder.proposal}: proposed by {about.proposer}" if folder.proposal.exists() else "the gate refuses it"
    return Outcome(sentence=said, folder=folder, round=about, verdict=verdict, made=told)


def _judged(
    folder: "RoundFolder", site: Site, about: "Round", plan: "Plan", evidence: "Evidence", private: "PrivateKey"
) -> "GateVerdict":
    """The gate's verdict, with the proposal that it lets through or why there is none; in the audit, each once."""
    from functools import partial

    from hilum.change import journal
    from hilum.change.gate import gate
    from hilum.change.rollout import nowhere, propose, read_proposal
    from hilum.cli.records import records_if_any
    from hilum.files import write_bytes
    from hilum.records.store import now

    verdict = gate(plan, evidence)
    with records_if_any(site.data) as session:
        note = nowhere if session is None else partial(journal.note_once, session, at=now())
        note(journal.judged(verdict, evidence, actor=about.proposer))
        if folder.proposal.exists():
            signed = read_proposal(folder.proposal, plan, evidence)
            note(journal.proposed(verdict, evidence, proposal_sha256=signed.sha256, proposer=about.proposer))
        elif verdict.ready_for_approval:
            propose(folder.proposal, plan, evidence, name=about.proposer, key=private, note=note)
        else:
            write_bytes(folder.refused, verdict.to_canonical_json().encode())
    return verdict


def _facts(about: "Round", made: "Made", models: Models) -> "Facts":
    from hilum.change.evidence import Facts

    if about.kind == "adopted":  # no round is
        raise ValueError("an adopted version has no candidate")
    return Facts(
        change=about.kind,
        update=about.update,
        models={"candidate": made.bundle.sha256, "current": about.current, "first": about.first},
        name=about.name,
        version=made.bundle.info.version,
        architecture=made.run.config.backbone,
        current_architecture=models.run.config.backbone,
        test_fingerprint=made.test_fingerprint,
        latency_p95_ms=made.latency_p95_ms,
        machine=made.machine,
        trained_by=about.trained_by,
        reason=about.reason,
        trigger=about.trigger,
        recipe=about.recipe,
        training_fingerprint=made.trained_on.fingerprint,
    )
