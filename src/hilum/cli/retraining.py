"""What ``hilum retrain`` is put together from: the records, labels, models and rounds of a site."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hilum.cli.records import keyring_given, url_of

if TYPE_CHECKING:
    from hilum.bundle.card import Stated
    from hilum.bundle.reading import Bundle
    from hilum.change.evidence import Facts
    from hilum.change.feedback import Label, LabelSet
    from hilum.change.gate import GateVerdict
    from hilum.change.plan import Plan
    from hilum.change.triggers import Conditions, OpenAlarm, Trigger
    from hilum.keys import PrivateKey
    from hilum.progress import Progress
    from hilum.runs.retrain import Labelled, Made
    from hilum.runs.rounds import Round, RoundFolder, Rounds, VersionKind
    from hilum.runs.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where things lie, and who acts."""

    data: Path
    """Folder of films and records."""
    labels: Path
    """Folder of the label set's versions."""
    out: Path
    """Folder of versions and rounds."""
    run: Path | None
    """The current model's run; None to take the one that an earlier round made."""
    current: Path | None
    """The current model's bundle; None to ask the records."""
    first: Path | None
    """The first approved model's; None to ask the records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for."""

    kind: "VersionKind"
    """Kind of change."""
    conditions: "Conditions"
    """Triggers; none when a person decided."""
    name: str
    """Who signs."""
    trained_by: str
    """Who answers for the training."""
    reason: str
    """Why; empty for the trigger's sentence."""
    version: str
    """Of the candidate; empty for one from its weights."""
    update: int | None
    """Which update under the plan; None to count."""
    leave_out: bool
    """List films that can't be drawn, instead of refusing."""
    key: bytes | None
    """Of pseudonyms."""
    plain: bool
    """Whether films may lie there plain."""
    source: str
    """What the films' source is called."""
    stated: "Stated | None"
    """What people state of the candidate."""
    device: Any
    """Where it is trained."""
    resamples: int
    """Of the scorecard's intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """What is in production, what was first, and the run of what is in production."""

    paths: dict[str, Path]
    """Bundles of ``current`` and ``first``."""
    current: "Bundle"
    """Verified."""
    first: "Bundle"
    """Verified."""
    run: "Run"
    """Held against the current bundle."""


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
    last = datetime.fromisoformat(before[-1][0].at) if before else _adopted(rounds)
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


def _adopted(rounds: "Rounds") -> datetime | None:
    versions = rounds.versions()
    return datetime.fromisoformat(versions[-1].at) if versions else None


def new_labels(known: "LabelSet", rounds: "Rounds", kind: "VersionKind") -> "list[Label]":
    """Accepted labels that no round of this kind has taken, or left out, before.

    Raises:
        DataError: a film has two labels.
    """
    from collections import Counter

    from hilum.errors import DataError

    twice = [film for film, count in Counter(one.film_id for one in known.labels).items() if count > 1]
    if twice:
        raise DataError(f"The label set has two labels of film {twice[0]}. Take its versions from a backup.")
    done: set[str] = set()
    for one in rounds.versions():
        if one.kind == kind:
            done |= {*one.labels, *(left.film for left in one.left_out)}
    return [one for one in known.accepted if one.film_id not in done]


def labels_to_take(known: "LabelSet", rounds: "Rounds", kind: "VersionKind", run: "Run") -> "list[Label]":
    """What a round takes: new labels to train on; to calibrate on, all that the current model was not trained on."""
    if kind == "retrained":
        return new_labels(known, rounds, kind)
    versions = rounds.versions()
    mine = next(one.number for one in versions if one.films == run.films.fingerprint)
    trained = {film for one in versions[:mine] if one.kind == "retrained" for film in one.labels}
    return [one for one in known.accepted if one.film_id not in trained]


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
    from functools import partial

    from hilum.change import journal
    from hilum.change.evidence import EVIDENCE, read_evidence, write_evidence
    from hilum.change.gate import gate
    from hilum.change.rollout import nowhere, propose, read_proposal
    from hilum.cli.records import records_if_any
    from hilum.files import write_bytes
    from hilum.records.store import now
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
    verdict = gate(plan, evidence)
    told = {"candidate": made.bundle.sha256, "weights": made.run.fingerprint, "evidence_sha256": evidence.sha256}
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
    said = f"{folder.proposal}: proposed by {about.proposer}" if folder.proposal.exists() else "the gate refuses it"
    return Outcome(sentence=said, folder=folder, round=about, verdict=verdict, made=told)


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


def released(site: Site, labels: "Sequence[Label]", known: "LabelSet", wish: Wish, progress: "Progress") -> "Labelled":
    """The labels' films, taken out of the service's folder and imported."""
    from hilum.datasets.importing import ImportConfig, import_csv
    from hilum.datasets.manifest import Manifest
    from hilum.datasets.next_version import LeftOut
    from hilum.records.proving import reading
    from hilum.runs.forgetting import FACTS
    from hilum.runs.retrain import Labelled
    from hilum.runs.rounds import Rounds
    from hilum.service.film_files import FilmFiles
    from hilum.service.releasing import OPAQUE_ID, release

    files = FilmFiles(site.data, keyring_given(), sole=False)
    findings = {one.film_id: one.finding for one in labels}
    with reading(url_of(site.data)) as session:
        table, missing = release(session, files, findings, Rounds(site.out).released, key=wish.key, plain=wish.plain)
    left_out = [LeftOut(film=film, reason=reason) for film, reason in sorted(missing.items())]
    films = Manifest.from_columns({"path": [], OPAQUE_ID: []}, folder=table.parent)
    if len(missing) < len(findings):
        rules = ImportConfig(labels="any", skip_bad_rows=wish.leave_out, source=wish.source, keep=(OPAQUE_ID,))
        films, bad = import_csv(table, rules, cache=site.out / FACTS, progress=progress)
        there = {*films.strings(OPAQUE_ID), *missing}
        gone = sorted(set(findings) - there) if bad else ()
        left_out += [LeftOut(film=film, reason="can't be read as a film") for film in gone]
    return Labelled(
        films=films, names=tuple(films.strings(OPAQUE_ID)), labels_sha256=known.sha256, left_out=tuple(left_out)
    )


def open_models(site: Site, rounds: "Rounds") -> Models:
    """The models, held against the records, and the current one's run.

    Raises:
        UsageError: a model can't be told, or is another one than the records say.
        RunError: the run is not the current model's.
    """
    from hilum.bundle.reading import read_bundle
    from hilum.runs.retrain import check_run
    from hilum.runs.run import Run

    paths = {"current": site.current, "first": site.first}
    recorded = _recorded(site.data) if (site.data / "hilum.db").exists() or None in paths.values() else {}
    bundles = {role: _bundle(role, path, recorded) for role, path in paths.items()}
    opened = {role: read_bundle(path) for role, path in bundles.items()}
    for role, (digest, _) in recorded.items():
        _same_model(role, bundles[role], opened[role].sha256, digest)
    run = Run.open(site.run or _run_of(rounds, opened["current"].sha256))
    check_run(run, opened["current"])
    return Models(paths=bundles, current=opened["current"], first=opened["first"], run=run)


def _recorded(data: Path) -> dict[str, tuple[str, str]]:
    """Digest and place of what is in production, and of what was first, as the records say; empty before a model."""
    from hilum.records.proving import reading
    from hilum.records.registry import rows_of
    from hilum.records.schema import ModelRow

    with reading(url_of(data)) as session:
        history = rows_of(session)
        if not history:
            return {}
        digests = {"current": history[-1].production, "first": history[0].production}
        return {role: (digest, session.get_one(ModelRow, digest).location) for role, digest in digests.items()}


def _bundle(role: str, given: Path | None, recorded: dict[str, tuple[str, str]]) -> Path:
    from hilum.errors import UsageError

    if given is not None:
        return given
    if role not in recorded:
        raise UsageError(f"No model is in production in the records. Name the {role} model: --{role} BUNDLE.")
    return Path(recorded[role][1])


def _same_model(role: str, path: Path, there: str, recorded: str) -> None:
    from hilum.errors import UsageError

    if there != recorded:
        what = "in production" if role == "current" else "the first that was approved"
        raise UsageError(
            f"The bundle {path} has the digest {there[:12]}…, but the records say that {recorded[:12]}… is {what}. "
            f"Give that one with --{role}."
        )


def _run_of(rounds: "Rounds", digest: str) -> Path:
    """The run that an earlier round made the bundle from."""
    from hilum.bundle.reading import read_bundle
    from hilum.errors import UsageError

    for version, _ in reversed(rounds.rounds()):
        folder = rounds.folder(version.number)
        if folder.bundle.exists() and read_bundle(folder.bundle).sha256 == digest:
            return folder.run
    raise UsageError(f"No round made the model {digest[:12]}…. Give the run that it was packaged from: --run RUN.")


def open_alarms(data: Path) -> "tuple[OpenAlarm, ...]":
    """Alarms that are not closed."""
    from hilum.change.triggers import OpenAlarm
    from hilum.monitoring.alarm_book import newest_first, to_alarm
    from hilum.records.proving import reading

    with reading(url_of(data)) as session:
        found = [to_alarm(row) for row in session.scalars(newest_first())]
    return tuple(
        OpenAlarm(id=one.id, culprit=one.culprit, opened_at=one.opened_at) for one in found if one.state != "closed"
    )
