"""``hilum change``: change the model by a plan that was written before."""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hilum.cli.records import DataOption
from hilum.cli.terminal import PASSPHRASE, JsonOption, finish, table

if TYPE_CHECKING:
    from hilum.change.gate import GateVerdict
    from hilum.change.rollout import Note
    from hilum.records.registry import Deployment

app = typer.Typer(name="change", help="Change the model by a plan that was written before.", no_args_is_help=True)
HERE = Path("hilum-data")
PlanArgument = Annotated[Path, typer.Argument(metavar="PLAN", help="pccp.yaml.")]
EvidenceArgument = Annotated[Path, typer.Argument(metavar="EVIDENCE", help="Folder of hilum change evidence.")]
ProposalArgument = Annotated[Path, typer.Argument(metavar="PROPOSAL", help="File of hilum change propose.")]
KeyOption = Annotated[Path, typer.Option("--key", help="Private key of hilum keys create.")]
NameOption = Annotated[str, typer.Option("--name", help="Who signs, as in the plan.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, in one sentence; it is kept.")]
ActorOption = Annotated[str, typer.Option("--actor", help="Who does it, for the audit.")]


@app.callback()
def change() -> None:
    """Change the model by a plan that was written before; docs/change-control.md goes through it."""


@app.command("plan")
def check_plan(
    plan: PlanArgument,
    positives: Annotated[int, typer.Option(help="Films with the rarest finding in the locked test set.", min=1)] = 100,
    negatives: Annotated[int, typer.Option(help="Films without it.", min=1)] = 300,
    auroc: Annotated[float, typer.Option(help="AUROC of the current model.", min=0.5, max=0.999)] = 0.9,
    as_json: JsonOption = False,
) -> None:
    """Check a plan, and say whether a test set of this size can resolve its margin; ends with 1 when it can't."""
    from hilum.change.plan import read_plan
    from hilum.change.resolving import least_margin

    read = read_plan(plan)
    rule = read.non_inferiority
    least = least_margin(positives, negatives, auroc=auroc, alpha=rule.update_alpha, power=rule.power)
    lines = [f"{plan} is a plan: {read.name}, version {read.version} ({read.sha256[:12]}…)"]
    lines.append(
        f"With {positives} films of a finding and {negatives} others, the least margin is {least:.3f}; the plan's is "
        f"{rule.margin:.3f}{'.' if least <= rule.margin else _wanting((least / rule.margin) ** 2)}"
    )
    summary = {"plan_sha256": read.sha256, "least_margin": round(least, 6), "resolved": least <= rule.margin}
    finish(summary, as_json=as_json, lines=lines)
    if least > rule.margin:
        raise typer.Exit(1)


def _wanting(times: float) -> str:
    return f": about {times:.1f} times the films are needed."


@app.command("key")
def show_key(
    key: Annotated[Path, typer.Argument(help="Public key (.pub) of hilum keys create.")], as_json: JsonOption = False
) -> None:
    """Print a public key as a plan's approvers have it."""
    from hilum.keys import read_public_key

    raw = read_public_key(key).raw.hex()
    finish({"key": raw}, as_json=as_json, lines=[raw])


@app.command()
def evidence(
    facts: Annotated[Path, typer.Argument(help="JSON: change, update, models, name, version, …; docs list the keys.")],
    candidate: Annotated[Path, typer.Option(help="The candidate's predictions of the locked test set (Parquet).")],
    current: Annotated[Path, typer.Option(help="The current model's.")],
    first: Annotated[Path, typer.Option(help="The first approved model's.")],
    training: Annotated[Path, typer.Option(help="Manifest of what the candidate was trained on.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("evidence"),
    as_json: JsonOption = False,
) -> None:
    """Put predictions of three models and the training's films together as evidence, named by digests."""
    from hilum.change.evidence import Facts, read_evidence, write_evidence
    from hilum.config import from_mapping
    from hilum.datasets.manifest import Manifest
    from hilum.errors import UsageError
    from hilum.predictions import Predictions

    try:
        values = json.loads(facts.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{facts} can't be read as JSON ({type(error).__name__}).") from None
    said = from_mapping(Facts, values, where=facts.name)
    films = Manifest.read(training)
    predictions = {
        role: Predictions.read(path)
        for role, path in (("candidate", candidate), ("current", current), ("first", first))
    }
    listing = {"patients": films.strings("patient_id"), "films": films.strings("film_id")}
    write_evidence(out, said, predictions, listing)
    made = read_evidence(out)
    finish({"path": str(out), "evidence_sha256": made.sha256, "films": len(made.candidate)}, as_json=as_json)


@app.command()
def gate(
    plan: PlanArgument,
    evidence: EvidenceArgument,
    proposal: Annotated[Path | None, typer.Option(help="Signed proposal, whose approvals then count.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the verdict, as canonical JSON, to this file.")] = None,
    data: DataOption = HERE,
    actor: ActorOption = "console",
    as_json: JsonOption = False,
) -> None:
    """Judge a change: the same inputs give the same verdict, byte for byte; ends with 1 when it doesn't pass.

    Where the service's records are, its audit holds each verdict.
    """
    from hilum.change import journal
    from hilum.change.evidence import read_evidence
    from hilum.change.gate import gate as judge
    from hilum.change.plan import read_plan
    from hilum.change.rollout import read_proposal
    from hilum.cli.records import unaudited
    from hilum.files import write_bytes

    rules, found = read_plan(plan), read_evidence(evidence)
    signed = read_proposal(proposal, rules, found) if proposal else None
    approvals, digest = (signed.approvals, signed.sha256) if signed else ((), "")
    verdict = judge(rules, found, approvals, proposer=signed.proposer.key if signed else "")
    with _noting(data) as note:
        note(journal.judged(verdict, found, actor=actor, proposal=digest, approvals=approvals))
        if out is not None:
            write_bytes(out, verdict.to_canonical_json().encode())
    _told(verdict, as_json, [] if _audited(note) else [unaudited(data)])
    if not verdict.passed:
        raise typer.Exit(1)


@contextlib.contextmanager
def _noting(data: Path) -> "Iterator[Note]":
    """Takes acts down in the records' audit, in one transaction; where there are none, nowhere."""
    from functools import partial

    from hilum.change.rollout import nowhere
    from hilum.cli.records import records_if_any
    from hilum.records.audit import append
    from hilum.records.store import now

    with records_if_any(data) as session:
        yield nowhere if session is None else partial(append, session, at=now())


def _audited(note: "Note") -> bool:
    from hilum.change.rollout import nowhere

    return note is not nowhere


def _told(verdict: "GateVerdict", as_json: bool, more: Sequence[str]) -> None:
    lines = table(
        ["outcome", "check"], [[check.outcome, f"{check.name}: {check.sentence}"] for check in verdict.checks]
    )
    lines.append("the change passes" if verdict.passed else "the change does not pass")
    summary = verdict.to_json() | {"verdict_sha256": verdict.sha256, "audited": not more}
    finish(summary, as_json=as_json, lines=[*lines, *more])


@app.command()
def propose(
    plan: PlanArgument,
    evidence: EvidenceArgument,
    key: KeyOption,
    name: NameOption,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("proposal.json"),
    data: DataOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Sign a change that the gate lets through but for approvals; the audit of the records, if any, says so."""
    from hilum.change.evidence import read_evidence
    from hilum.change.plan import read_plan
    from hilum.change.rollout import propose as write
    from hilum.cli.records import unaudited
    from hilum.keys import read_private_key

    private = read_private_key(key, passphrase=os.environ.get(PASSPHRASE))
    rules, found = read_plan(plan), read_evidence(evidence)
    with _noting(data) as note:
        verdict = write(out, rules, found, name=name, key=private, note=note)
    summary = {"path": str(out), "verdict_sha256": verdict.sha256, "audited": _audited(note)}
    lines = [f"{out}: proposed by {name}", *([] if _audited(note) else [unaudited(data)])]
    finish(summary, as_json=as_json, lines=lines)


@app.command()
def approve(
    proposal: ProposalArgument,
    plan: PlanArgument,
    evidence: EvidenceArgument,
    key: KeyOption,
    name: NameOption,
    data: DataOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Approve a proposal: sign it with a key of the plan; where the service's records are, its audit says so."""
    from hilum.change.evidence import read_evidence
    from hilum.change.plan import read_plan
    from hilum.change.rollout import approve as add
    from hilum.cli.records import unaudited
    from hilum.keys import read_private_key

    private = read_private_key(key, passphrase=os.environ.get(PASSPHRASE))
    rules, found = read_plan(plan), read_evidence(evidence)
    with _noting(data) as note:
        verdict = add(proposal, rules, found, name=name, key=private, note=note)
    told = next(check.sentence for check in verdict.checks if check.name == "approvals")
    summary = {"path": str(proposal), "passed": verdict.passed, "audited": _audited(note)}
    finish(summary, as_json=as_json, lines=[told, *([] if _audited(note) else [unaudited(data)])])


@app.command()
def begin(
    bundle: Annotated[Path, typer.Argument(help="The first model: a .hilum file or a bundle's folder.")],
    reason: ReasonOption,
    data: DataOption = HERE,
    actor: ActorOption = "console",
    as_json: JsonOption = False,
) -> None:
    """Put the first model into production."""
    from hilum.bundle.reading import read_bundle
    from hilum.cli.records import open_records
    from hilum.records.registry import Registered, Registry

    read = read_bundle(bundle)
    with open_records(data, make=True) as database:
        registry = Registry(database)
        info = read.info
        model = Registered(sha256=read.sha256, name=info.name, version=info.version, location=str(bundle.resolve()))
        registry.register(model, actor=actor)
        done = registry.begin(read.sha256, actor=actor, reason=reason)
    _changed(done, as_json)


@app.command()
def shadow(
    proposal: ProposalArgument,
    plan: PlanArgument,
    evidence: EvidenceArgument,
    bundle: Annotated[Path, typer.Option(help="The candidate: the bundle that was evaluated.")],
    data: DataOption = HERE,
    actor: ActorOption = "console",
    as_json: JsonOption = False,
) -> None:
    """Register an approved candidate and let it answer unseen beside production."""
    from hilum.bundle.reading import read_bundle
    from hilum.change.evidence import read_evidence
    from hilum.change.plan import read_plan
    from hilum.change.rollout import to_shadow
    from hilum.cli.records import open_records
    from hilum.records.registry import Registry

    rules, found, digest = read_plan(plan), read_evidence(evidence), read_bundle(bundle).sha256
    with open_records(data) as database:
        where = str(bundle.resolve())
        done = to_shadow(Registry(database), proposal, rules, found, bundle_sha256=digest, location=where, actor=actor)
    _changed(done, as_json)


@app.command()
def canary(
    share: Annotated[float, typer.Argument(help="Share of the studies, above 0 and below 1.")],
    reason: ReasonOption,
    data: DataOption = HERE,
    actor: ActorOption = "console",
    as_json: JsonOption = False,
) -> None:
    """Let the candidate answer a share of the studies, whole studies at a time."""
    _step("canary", data, as_json, share=share, actor=actor, reason=reason)


@app.command()
def promote(
    reason: ReasonOption, data: DataOption = HERE, actor: ActorOption = "console", as_json: JsonOption = False
) -> None:
    """Make the candidate the model in production."""
    _step("promote", data, as_json, actor=actor, reason=reason)


def _step(step: str, data: Path, as_json: bool, **arguments: Any) -> None:
    from hilum.cli.records import open_records
    from hilum.errors import UsageError
    from hilum.records.registry import Registry

    with open_records(data) as database:
        registry = Registry(database)
        holds = registry.current()
        if holds is None or holds.candidate is None:
            raise UsageError("There is no candidate. Let one answer unseen first: hilum change shadow.")
        done = getattr(registry, step)(holds.candidate, **arguments)
    _changed(done, as_json)


@app.command()
def bounds(
    plan: PlanArgument,
    data: DataOption = HERE,
    dry: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Hold what happened since the last change against the plan's bounds, and go back by itself when one is broken.

    Run it by a timer. Ends with 1 when a bound is broken.
    """
    from hilum.change.plan import read_plan
    from hilum.change.rollout import broken_bounds, roll_back_if_broken
    from hilum.cli.records import open_records
    from hilum.errors import UsageError
    from hilum.records.registry import Registry
    from hilum.records.shadows import trial_counts

    rules = read_plan(plan).rollback
    with open_records(data) as database:
        registry = Registry(database)
        holds = registry.current()
        if holds is None:
            raise UsageError("No model is in production yet, so there is nothing to hold against bounds.")
        with database.read() as session:
            counts = trial_counts(session, holds)
        broken = broken_bounds(rules, counts)
        done = None if dry else roll_back_if_broken(registry, rules, counts)
    lines = [*(broken or ("no bound is broken",)), *([_words(done)] if done else [])]
    summary = {"counts": counts, "broken": list(broken), "rolled_back": done.seq if done else None}
    finish(summary, as_json=as_json, lines=lines)
    if broken:
        raise typer.Exit(1)


@app.command()
def rollback(
    reason: ReasonOption, data: DataOption = HERE, actor: ActorOption = "console", as_json: JsonOption = False
) -> None:
    """Take the candidate away, or put the model before back into production, in one step."""
    from hilum.cli.records import open_records
    from hilum.records.registry import Registry

    with open_records(data) as database:
        done = Registry(database).rollback(actor=actor, reason=reason)
    _changed(done, as_json)


def _changed(done: "Deployment", as_json: bool) -> None:
    finish(_row(done), as_json=as_json, lines=[_words(done)])


def _row(one: "Deployment") -> dict[str, Any]:
    names = ("seq", "act", "production", "candidate", "stage", "share", "actor", "reason")
    return {name: getattr(one, name) for name in names} | {"at": one.at.isoformat()}


def _words(one: "Deployment") -> str:
    beside = ""
    if one.candidate is not None:
        share = f" with {one.share / 100:g} % of the studies" if one.stage == "canary" else ""
        beside = f", {one.candidate[:12]} in {one.stage}{share}"
    holds = f"{one.act}: {one.production[:12]} in production{beside}"
    return f"{one.seq}  {one.at:%Y-%m-%d %H:%M:%S}  {holds} ({one.actor}: {one.reason})"


@app.command()
def history(data: DataOption = HERE, as_json: JsonOption = False) -> None:
    """Say what is and was in production, since when, by whom and why."""
    from hilum.cli.records import open_records
    from hilum.records.registry import Registry

    with open_records(data) as database:
        rows = Registry(database).history()
    finish(
        {"history": [_row(one) for one in rows]},
        as_json=as_json,
        lines=[_words(one) for one in rows] or ["no model is in production yet"],
    )
