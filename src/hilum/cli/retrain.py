"""``hilum retrain``: a candidate from labels that were let in, up to a signed proposal; it changes nothing in use."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hilum.cli.labels import LABELS, FolderOption
from hilum.cli.records import DataOption
from hilum.cli.terminal import PASSPHRASE, JsonOption, QuietOption, finish, progress, table
from hilum.cli.training_options import DeviceOption

if TYPE_CHECKING:
    from hilum.change.plan import Plan
    from hilum.change.triggers import Conditions
    from hilum.cli.retraining import Outcome

app = typer.Typer(name="retrain", help="A candidate from new labels, up to a signed proposal.", no_args_is_help=True)
HERE, ROUNDS = Path("hilum-data"), Path("retraining")
NOTHING_DUE = 3
"""Exit code when triggers were asked for and none holds."""

OutOption = Annotated[Path, typer.Option(help="Folder of the data's versions and the rounds of retraining.")]
PlanArgument = Annotated[Path, typer.Argument(metavar="PLAN", help="pccp.yaml.")]
KeyOption = Annotated[Path, typer.Option("--key", help="Private key of who proposes (hilum keys create).")]
KindOption = Annotated[
    Literal["retrained", "recalibrated", "thresholds"],
    typer.Option(help="New weights by the recorded recipe; a local temperature and thresholds; thresholds alone."),
]
RunOption = Annotated[
    Path | None, typer.Option(help="The current model's run.", show_default="of the round that made it")
]
CurrentOption = Annotated[Path | None, typer.Option(help="The current model's bundle.", show_default="in production")]
FirstOption = Annotated[
    Path | None, typer.Option(help="The first approved model's bundle.", show_default="from the records")
]
EveryOption = Annotated[
    float | None, typer.Option(help="The schedule: days between versions.", show_default="the plan's")
]
AlarmOption = Annotated[
    list[str] | None,
    typer.Option(help="What the alarm names, such as device, or any; repeatable.", show_default="the plan's"),
]
IfLabelsOption = Annotated[
    int | None, typer.Option(help="Only when so many labels are new; 0 for the plan's number.", min=0)
]
TrainedByOption = Annotated[
    str | None, typer.Option(help="Who answers for the training, and so can't approve.", show_default="--name")
]
UpdateOption = Annotated[
    int | None, typer.Option(help="Which update under the plan it is.", min=1, show_default="counted")
]
LeaveOutOption = Annotated[
    bool, typer.Option("--leave-out", help="List labelled films that can't be drawn, instead of refusing all.")
]
PseudonymOption = Annotated[
    Path | None, typer.Option(help="Key that the training films were de-identified with: new ones are, too.")
]
PlainOption = Annotated[
    bool, typer.Option("--plain", help="Let films that are encrypted in the service lie plain in the folder.")
]


@app.callback()
def retrain() -> None:
    """A candidate from new labels, up to a signed proposal; docs/change-control.md goes through it.

    Nothing in use is changed: what comes out goes the way of every change, through approvals, shadow and canary.
    """


@app.command()
def propose(
    plan: PlanArgument,
    key: KeyOption,
    name: Annotated[str, typer.Option("--name", help="Who proposes.")],
    kind: KindOption = "retrained",
    run: RunOption = None,
    current: CurrentOption = None,
    first: FirstOption = None,
    labels: FolderOption = LABELS,
    data: DataOption = HERE,
    out: OutOption = ROUNDS,
    if_due: Annotated[bool, typer.Option("--if-due", help="Only when the schedule says so.")] = False,
    every_days: EveryOption = None,
    if_alarm: Annotated[bool, typer.Option("--if-alarm", help="Only when an alarm is open.")] = False,
    alarm: AlarmOption = None,
    if_labels: IfLabelsOption = None,
    reason: Annotated[str, typer.Option(help="Why, in one sentence.", show_default="the trigger's")] = "",
    trained_by: TrainedByOption = None,
    version: Annotated[str, typer.Option(help="The candidate's version.", show_default="from its weights")] = "",
    update: UpdateOption = None,
    leave_out: LeaveOutOption = False,
    pseudonym_key: PseudonymOption = None,
    plain: PlainOption = False,
    source: Annotated[str, typer.Option(help="What the source of films without one is called.")] = "",
    stated: Annotated[Path | None, typer.Option(help="TOML of what people state, for the model card.")] = None,
    resamples: Annotated[int, typer.Option(min=100, help="Of the intervals in the scorecard.")] = 1000,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a candidate on what was trained on before and the labels accepted since, and propose it.

    Any of the triggers asked for is enough; none asked for means that a person has decided. Ends with 3 when nothing is
    due, with 1 when the gate refuses the candidate. Killed at any moment, the same command goes on.
    """
    from hilum.bundle.card import read_stated
    from hilum.change.plan import read_plan
    from hilum.cli.retraining import retrain as carry_out
    from hilum.cli.retraining_inputs import Site, Wish
    from hilum.keys import read_private_key

    rules = read_plan(plan)
    conditions = _conditions(rules, if_due, every_days, if_alarm, alarm, if_labels)
    _need_reason(conditions, reason)
    private = read_private_key(key, passphrase=os.environ.get(PASSPHRASE))
    wish = Wish(
        kind=kind,
        conditions=conditions,
        name=name,
        trained_by=trained_by or name,
        reason=reason,
        version=version,
        update=update,
        leave_out=leave_out,
        key=_secret(pseudonym_key),
        plain=plain,
        source=source,
        stated=None if stated is None else read_stated(stated),
        device=device,
        resamples=resamples,
    )
    site = Site(data=data, labels=labels, out=out, run=run, current=current, first=first)
    _told(carry_out(site, rules, wish, private, progress(quiet)), as_json)


def _conditions(
    plan: "Plan",
    if_due: bool,
    every_days: float | None,
    if_alarm: bool,
    alarm: list[str] | None,
    if_labels: int | None,
) -> "Conditions":
    from hilum.change.triggers import ANY, Conditions
    from hilum.errors import UsageError, nearest
    from hilum.monitoring.culprits import ORDER

    said = plan.retraining
    days = every_days if every_days is not None else said.every_days
    kinds = tuple(alarm or said.alarms)
    labels = if_labels or said.labels
    for asked, there, option in (
        (if_due, days, "--if-due needs a schedule: give --every-days N"),
        (if_alarm, kinds, "--if-alarm needs kinds of alarm: give --alarm KIND"),
        (if_labels == 0, labels, "--if-labels 0 needs a number: give --if-labels N"),
    ):
        if asked and not there:
            raise UsageError(f"{option}, or let the plan say it under retraining.")
    for one in kinds:
        if one not in (*ORDER, ANY):
            raise UsageError(f"There is no alarm of the kind {one!r}. {nearest(one, (*ORDER, ANY))}")
    return Conditions(
        every_days=days if if_due else None,
        alarms=kinds if if_alarm else None,
        labels=labels if if_labels is not None else None,
    )


def _need_reason(conditions: "Conditions", reason: str) -> None:
    from hilum.errors import UsageError

    if not conditions.asked and not reason.strip():
        raise UsageError("Without a trigger a person has decided: say why, with --reason, in one sentence.")


def _secret(path: Path | None) -> bytes | None:
    from hilum.cli.deidentify import read_secret

    return None if path is None else read_secret(path)


def _told(done: "Outcome", as_json: bool) -> None:
    if done.folder is None or done.round is None or done.verdict is None:
        finish({"due": False, "reason": done.sentence}, as_json=as_json, lines=[done.sentence])
        raise typer.Exit(NOTHING_DUE)
    proposed = done.folder.proposal.exists()
    checks = [[check.outcome, f"{check.name}: {check.sentence}"] for check in done.verdict.checks]
    lines = table(["outcome", "check"], checks) if not proposed else []
    lines += [done.round.trigger] if done.round.trigger else []
    lines += [done.sentence, f"candidate: {done.folder.bundle}", f"evidence: {done.folder.evidence}"]
    lines += [f"next: hilum change approve {done.folder.proposal} PLAN {done.folder.evidence}"] if proposed else []
    summary: dict[str, Any] = {
        "due": True,
        "path": str(done.folder.proposal) if proposed else None,
        "proposed": proposed,
        "round": int(done.folder.root.name),
        "kind": done.round.kind,
        "update": done.round.update,
        "trigger": done.round.trigger,
        "bundle": str(done.folder.bundle),
        "evidence": str(done.folder.evidence),
        "verdict_sha256": done.verdict.sha256,
        **done.made,
    }
    finish(summary, as_json=as_json, lines=lines)
    if not proposed:
        raise typer.Exit(1)


@app.command()
def status(
    out: OutOption = ROUNDS,
    run: Annotated[
        Path | None, typer.Option(help="Before there is a version: the run whose locked test the plan is to name.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the versions of the data, what became of each round, and the fingerprint of the locked test."""
    from hilum.datasets.manifest import Manifest
    from hilum.runs.layout import RunFolder
    from hilum.runs.rounds import Rounds

    rounds = Rounds(out)
    rows: list[dict[str, Any]] = []
    for one in rounds.versions():
        films, folder = rounds.films(one), rounds.folder(one.number)
        test = films.select(films.rows(part="test"))
        state = "adopted" if not folder.about.exists() else "proposed" if folder.proposal.exists() else "under way"
        rows.append(
            {
                "version": one.number,
                "kind": one.kind,
                "state": "refused" if folder.refused.exists() else state,
                "at": one.at,
                "films": len(films),
                "labels": len(one.labels),
                "left_out": len(one.left_out),
                "erased": len(rounds.retired(one.number)),
                "locked_test": test.fingerprint if len(test) else None,
            }
        )
    lines = [
        "{version}  {at}  {kind}, {state}: {films} films, {labels} new labels, {left_out} left out".format(**row)
        + (f"; RETIRED, {row['erased']} of its films were erased" if row["erased"] else "")
        for row in rows
    ]
    tests = [row["locked_test"] for row in rows if row["locked_test"]]
    if run is not None:
        films = Manifest.read(RunFolder(run).manifest)
        tests.append(films.select(films.rows(part="test")).fingerprint)
    lines += [f"locked test: {tests[-1]}"] if tests else ["there is no version yet"]
    finish({"versions": rows, "locked_test": tests[-1] if tests else None}, as_json=as_json, lines=lines)


@app.command()
def abandon(
    reason: Annotated[str, typer.Option("--reason", help="Why, in one sentence; it is kept.")],
    by: Annotated[str, typer.Option("--by", help="Who gives it up.")],
    out: OutOption = ROUNDS,
    data: DataOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Give up the round that is under way; its version of the data stays, and so does who was trained on."""
    from hilum.change.journal import abandoned
    from hilum.cli.records import records_if_any, unaudited
    from hilum.config import canonical_json
    from hilum.errors import UsageError
    from hilum.files import write_bytes
    from hilum.provenance import now_utc
    from hilum.records.audit import append
    from hilum.records.store import now
    from hilum.runs.rounds import Rounds

    rounds = Rounds(out)
    held = rounds.lock()
    try:
        if (folder := rounds.open_round()) is None:
            raise UsageError(f"No round is under way in {out}.")
        told = {"abandoned_by": by, "reason": reason, "at": now_utc()}
        version = rounds.versions()[-1].sha256
        with records_if_any(data) as session:
            if session is not None:
                append(session, abandoned(version_sha256=version, reason=reason, actor=by), now())
            write_bytes(folder.refused, canonical_json(told).encode())
    finally:
        os.close(held)
    lines = [f"given up: {folder.root}", *([unaudited(data)] if session is None else [])]
    finish({"path": str(folder.refused), "audited": session is not None}, as_json=as_json, lines=lines)


@app.command()
def forget(out: OutOption = ROUNDS, data: DataOption = HERE, as_json: JsonOption = False) -> None:
    """Remove copies of films that were erased in the service, and retire the versions of the data that hold them.

    hilum privacy erase and hilum retrain propose do it, too; run it after an erasure over REST. The audit says so.
    """
    from dataclasses import asdict

    from hilum.cli.forgetting import forget_erased

    done = forget_erased(out, data)
    finish(asdict(done), as_json=as_json, lines=done.lines)
