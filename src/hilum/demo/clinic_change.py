"""A change under its plan: labels, a candidate, the gate, two approvals, shadow, canary, promotion."""

import contextlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from hilum.change.feedback import LabelRules, decide, read_labels, read_versions, write_labels
from hilum.change.journal import label_rows
from hilum.client.answers import StudyAnswer
from hilum.demo.clinic_days import OWNER, answers_of
from hilum.demo.programs import until
from hilum.demo.room import AT_ONCE, Room
from hilum.demo.telling import Step, Telling
from hilum.errors import ServiceError, UsageError
from hilum.files import write_text
from hilum.records.database import Database
from hilum.records.proving import reading
from hilum.records.registry import assigned, rows_of
from hilum.records.schema import AnswerRow, ShadowRow
from hilum.records.store import now

if TYPE_CHECKING:
    from hilum.demo.clinic import Made

APPROVERS = ("lead radiologist", "medical physicist")
"""Who approve; the quality manager proposes, and so can't."""

READERS = ("ada", "bob", "dan")
SECOND = "cyd"
"""Who lets labels out of quarantine: none of the readers."""

UPDATES = 2
SHARE = 0.5
"""Of the studies in canary."""


@dataclass(slots=True, kw_only=True)
class Change:
    """A change on its way."""

    plan: Path
    """pccp.yaml."""
    first: str
    """Digest of the first model."""
    candidate: str = ""
    """Digest of the candidate."""
    round: dict[str, Any] | None = None
    """What ``hilum retrain propose`` said."""
    labels_sha256: str = ""
    """Digest of the version of the label set that was trained on."""
    answered: dict[str, str] | None = None
    """Some films' ids, and the model that answered them first."""


def write_plan(step: Step, made: "Made", room: Room) -> Path:
    """Three keys, and the plan, before anything changes."""
    keys = {}
    for name in (OWNER, *APPROVERS):
        path = key_of(room, name)
        room.hilum(step, "keys", "create", path)
        keys[name] = room.hilum(step, "change", "key", f"{path}.pub")["key"]
    test = made.development.select(made.development.rows(part="test"))
    locked = room.hilum(step, "retrain", "status", "--run", made.run.path, "--out", room.folder / "retraining")
    step.check(locked["locked_test"] == test.fingerprint, f"the plan names the locked test set of {len(test)} films")
    rare = min(test.strings("label").count(name) for name in made.run.findings.names)
    path = room.folder / "pccp.yaml"
    margin = 0.4
    write_text(path, _plan(made.run.findings.names, test.fingerprint, len(test), keys, margin))
    told = room.hilum(
        step, "change", "plan", path, "--positives", str(rare), "--negatives", str(len(test) - rare), fails=True
    )
    margin = min(0.45, math.ceil(1.5 * told["least_margin"] / 0.05) * 0.05)
    write_text(path, _plan(made.run.findings.names, test.fingerprint, len(test), keys, margin))
    step.measure(
        "margin of AUROC that so few films resolve, and the plan's", f"{told['least_margin']:.3f}, {margin:.2f}"
    )
    return path


def key_of(room: Room, name: str) -> Path:
    """Somebody's private key."""
    return room.folder / f"{name.replace(' ', '-')}.key"


def _plan(findings: Sequence[str], locked: str, films: int, keys: dict[str, str], margin: float) -> str:
    """Written as YAML's subset JSON, value by value."""
    values = {
        "schema": 1,
        "name": "synthetic clinic",
        "version": "1",
        "intended_use": "A story on synthetic phantom films; for nobody's films.",
        "scope": {"findings": list(findings), "changes": ["retrained"]},
        "test_set": {"fingerprint": locked, "least_patients": max(10, films // 2)},
        "non_inferiority": {"margin": round(margin, 2), "updates": UPDATES},
        "calibration": {"largest_gap": 0.2, "largest_ece": 0.3},
        "approvals": {"approvers": [{"name": name, "key": key} for name, key in keys.items()]},
        "rollback": {"least_films": 12, "abstained_above": 0.9, "overridden_above": 0.3, "disagreed_above": 0.9},
    }
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in values.items())


def told(made: "Made", room: Room, plan: Path, drifted: Sequence[str], telling: Telling) -> Change:
    """Tell the change, up to the shadow."""
    (begun,) = _history(room)
    change = Change(plan=plan, first=begun["production"])
    with telling.step(f"Labels: {len(READERS)} readers read the new scanner's films, another lets labels in") as step:
        labels(step, room, change, drifted)
    with telling.step("Candidate: the alarm sets a retraining off") as step:
        candidate(step, made, room, change)
    with telling.step("Gate: the plan judges the candidate") as step:
        judged(step, room, change)
    with telling.step("Approvals: by two people, who neither trained nor proposed") as step:
        approvals(step, room, change)
    with telling.step("Shadow: the candidate answers unseen") as step:
        shadow(step, made, room, change)
    return change


def rolled_out(made: "Made", room: Room, change: Change, telling: Telling) -> None:
    """Tell how it came into production."""
    with telling.step(f"Canary: the candidate answers {100 * SHARE:.0f} % of the studies") as step:
        canary(step, made, room, change)
    with telling.step("Promotion: the candidate answers all") as step:
        promotion(step, made, room, change)


def read_films(room: Room, answers: dict[str, StudyAnswer]) -> tuple[int, int]:
    """Readers in turn agree or override, as the films were drawn; returns (overridden, read)."""
    overridden = 0
    for reader, some in ((name, list(answers.items())[i :: len(READERS)]) for i, name in enumerate(READERS)):
        with room.client(reader) as client:
            for uid, answer in some:
                truth = room.truth[uid]
                # A film that was left to a person is read as well.
                if answer.label == truth:
                    client.review(answer.id, "agree")
                else:
                    client.review(answer.id, "override", finding=truth, comment="Synthetic film, read by its label.")
                    overridden += 1
    return overridden, len(answers)


def labels(step: Step, room: Room, change: Change, drifted: Sequence[str]) -> None:
    """Overrides become labels: quarantined, let out by another person."""
    folder = room.folder / "labels"
    overridden, read = read_films(room, answers_of(room, list(drifted)))
    step.measure("overridden, of the films read", f"{overridden} of {read}")
    quarantined = room.hilum(step, "labels", "collect", "--labels", folder)["states"]
    step.check(
        set(quarantined) <= {"quarantined", "outlier"}, f"all new labels are in quarantine: {_counts(quarantined)}"
    )
    known, refused = read_labels(folder), 0
    own = next(one for one in known.labels if one.source == READERS[0])
    mine = ("labels", "accept", own.film_id, "--labels", folder, "--by", own.source)
    step.refused(lambda: room.hilum(step, *mine), "Another person must", "who gave a label can't let it in")
    room.hilum(step, "labels", "accept", own.film_id, "--by", SECOND, "--labels", folder)
    known = read_labels(folder)
    for one in known.labels:
        if one.state in ("quarantined", "outlier"):
            try:
                known = decide(known, one.film_id, accept=True, by=SECOND, rules=LabelRules())
                write_labels(folder, known)
            except UsageError:
                refused += 1  # its source has given too many
    with contextlib.closing(Database(room.database_url)) as database, database.write() as session:
        label_rows(session, read_versions(folder), now())
    step.left("label.accepted", *(one.film_id for one in known.accepted))
    step.measure(
        "let in the same way, each a version of its own",
        f"{len(known.accepted)} labels, {refused} too many of one reader",
    )
    step.check(read_labels(folder).sha256 == known.sha256, f"version {known.version} follows every version before it")
    change.labels_sha256 = known.sha256


def _counts(states: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))


def candidate(step: Step, made: "Made", room: Room, change: Change) -> None:
    """A retraining that the alarm sets off."""
    words: list[str | Path] = ["retrain", "propose", change.plan, "--key", key_of(room, OWNER), "--name", OWNER]
    words += ["--run", made.run.path, "--labels", room.folder / "labels", "--out", room.folder / "retraining"]
    words += ["--if-alarm", "--alarm", "device", "--source", "room-2", "--leave-out", "--resamples", "100", "--quiet"]
    done = room.hilum(step, *words, fails=True)
    change.round = done
    step.check(done["due"], f"due: {done.get('trigger') or done.get('reason')}")
    if not step.check(bool(done.get("proposed")), "the gate lets the candidate be proposed"):
        raise ServiceError("The candidate can't be proposed, so the story ends here.")
    rows = room.hilum(None, "retrain", "status", "--out", room.folder / "retraining")["versions"]
    step.measure(
        "films of the next version of the data, new labels, left out",
        f"{rows[-1]['films']}, {rows[-1]['labels']}, {rows[-1]['left_out']}",
    )
    step.check(rows[-1]["locked_test"] == rows[0]["locked_test"], "the locked test set stayed what it was")


def round_of(change: Change) -> dict[str, Any]:
    """What the retraining said; raises ServiceError when there was none."""
    if change.round is None:
        raise ServiceError("There is no candidate, so there is nothing to judge.")
    return change.round


def judged(step: Step, room: Room, change: Change) -> None:
    """The gate, twice: the same verdict, byte for byte, and only approvals are missing."""
    words = ("change", "gate", change.plan, round_of(change)["evidence"], "--proposal", round_of(change)["path"])
    first, second = (room.hilum(one, *words, fails=True) for one in (step, None))
    step.check(
        first["verdict_sha256"] == second["verdict_sha256"], f"the same verdict twice: {first['verdict_sha256'][:12]}…"
    )
    step.left("change.judged", round_of(change)["candidate"])
    wrong = [one["name"] for one in first["checks"] if one["outcome"] != "passed"]
    step.check(wrong == ["approvals"], f"{len(first['checks']) - len(wrong)} checks pass; missing: {', '.join(wrong)}")
    for one in first["checks"]:
        if one["name"].startswith("non-inferiority") and "current" in one["name"]:
            step.measure(one["name"], one["sentence"])


def approvals(step: Step, room: Room, change: Change) -> None:
    """Two approve; who proposed can't."""
    where = (round_of(change)["path"], change.plan, round_of(change)["evidence"])
    proposer = ("change", "approve", *where, "--key", key_of(room, OWNER), "--name", OWNER)
    step.refused(lambda: room.hilum(step, *proposer), "wouldn't count", "who proposed can't approve")
    for name in APPROVERS:
        found = room.hilum(step, "change", "approve", *where, "--key", key_of(room, name), "--name", name)
    step.check(found["passed"], "with both the gate passes")
    step.left("change.approved", round_of(change)["candidate"])


def shadow(step: Step, made: "Made", room: Room, change: Change) -> None:
    """The candidate answers beside production; nobody is shown it."""
    where = (round_of(change)["path"], change.plan, round_of(change)["evidence"])
    done = room.hilum(step, "change", "shadow", *where, "--bundle", round_of(change)["bundle"], "--actor", OWNER)
    change.candidate = done["candidate"]
    step.left("model.registered", change.candidate)
    step.left("model.shadow", change.candidate)
    waited = 0
    while True:  # it is loaded and tested beside production; films are answered meanwhile
        uids = room.scan("ROOM2", made.take("room-2", AT_ONCE))
        if (unseen := _shadowed(room, change, uids)) == len(uids):
            break
        waited += len(uids) - unseen
        if waited > 4 * AT_ONCE:
            raise ServiceError(f"After {waited} films the candidate still doesn't answer in shadow. See hilum.log.")
    uids += room.scan("ROOM1", made.take("room-1", AT_ONCE))
    step.check(
        _shadowed(room, change, uids) == len(uids), f"it answered {len(uids)} of {len(uids)} films beside production"
    )
    step.check(set(models_of(room, uids).values()) == {change.first}, "and the first model's answers were shown")
    bounds = room.hilum(step, "change", "bounds", change.plan, "--dry-run", fails=True)
    differ, of = bounds["counts"]["disagreed"]
    step.measure("labelled otherwise than production", f"{differ} of {of} films")
    step.check(not bounds["broken"], "no bound of the plan is broken")
    change.answered = models_of(room, uids)


def _shadowed(room: Room, change: Change, uids: Sequence[str]) -> int:
    films = list(room.answered(uids).values())
    query = select(func.count()).where(ShadowRow.film_id.in_(films), ShadowRow.model_sha256 == change.candidate)
    with reading(room.database_url) as session:
        return session.scalar(query) or 0


def models_of(room: Room, uids: Sequence[str]) -> dict[str, str]:
    """Which model answered each film, by opaque id."""
    return models_of_films(room, list(room.answered(uids).values()))


def canary(step: Step, made: "Made", room: Room, change: Change) -> None:
    """The candidate answers a share of the studies, those that a pure function says."""
    reason = "Its shadow answers were looked at."
    room.hilum(step, "change", "canary", str(SHARE), "--reason", reason, "--actor", OWNER)
    step.left("model.canary", change.candidate)
    until(lambda: room.active()["reason"] == reason, "the service follows", within_s=60)
    uids = room.scan("ROOM2", made.take("room-2", 2 * AT_ONCE)) + room.scan("ROOM1", made.take("room-1", AT_ONCE))
    with reading(room.database_url) as session:
        holds = rows_of(session)[-1]
    found, ids = models_of(room, uids), room.answered(uids)
    wanted = {ids[uid]: assigned(holds, room.study_of(uid)).answers for uid in uids}
    mine = sum(model == change.candidate for model in found.values())
    step.check(0 < mine < len(uids), f"it answered {mine} of {len(uids)} studies, production the others")
    step.check(found == wanted, "each study went where the registry's rule sends it")
    step.check(
        not room.hilum(step, "change", "bounds", change.plan, "--dry-run", fails=True)["broken"], "no bound is broken"
    )


def promotion(step: Step, made: "Made", room: Room, change: Change) -> None:
    """The candidate becomes production; old answers keep their version."""
    reason = "The canary went well."
    room.hilum(step, "change", "promote", "--reason", reason, "--actor", OWNER)
    step.left("model.promote", change.candidate)
    until(lambda: room.active()["sha256"] == change.candidate, "the service follows", within_s=60)
    uids = room.scan("ROOM2", made.take("room-2", AT_ONCE))
    step.check(
        set(models_of(room, uids).values()) == {change.candidate}, f"it answered {len(uids)} of {len(uids)} films"
    )
    before = change.answered or {}
    step.check(
        models_of_films(room, list(before)) == before, f"{len(before)} old answers keep the version that gave them"
    )


def models_of_films(room: Room, films: Sequence[str]) -> dict[str, str]:
    """Which model answered each of these films."""
    query = select(AnswerRow.film_id, AnswerRow.model_sha256).where(AnswerRow.film_id.in_(list(films)))
    with reading(room.database_url) as session:
        return dict(session.execute(query).tuples().all())


def _history(room: Room) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = room.hilum(None, "change", "history")["history"]
    return rows
