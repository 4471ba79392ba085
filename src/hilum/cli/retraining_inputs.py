"""What a round of retraining is given: the site, what is asked for, labels and their films, models and alarms."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hilum.cli.records import keyring_given, url_of

if TYPE_CHECKING:
    from hilum.bundle.card import Stated
    from hilum.bundle.reading import Bundle
    from hilum.change.feedback import Label, LabelSet
    from hilum.change.triggers import Conditions, OpenAlarm
    from hilum.progress import Progress
    from hilum.runs.retrain import Labelled
    from hilum.runs.rounds import Rounds, VersionKind
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


def adopted_at(rounds: "Rounds") -> datetime | None:
    """When the newest version was made; None before there is one."""
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
    from hilum.records.alarms import newest_first, to_alarm
    from hilum.records.proving import reading

    with reading(url_of(data)) as session:
        found = [to_alarm(row) for row in session.scalars(newest_first())]
    return tuple(
        OpenAlarm(id=one.id, culprit=one.culprit, opened_at=one.opened_at) for one in found if one.state != "closed"
    )
