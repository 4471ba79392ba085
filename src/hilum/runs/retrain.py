"""Retrain: the next version of the data, a candidate by the recorded recipe, and what three models say of the test.

Each step looks first for what an earlier call left, so a round that was killed goes on and ends in the same candidate:
training resumes to the same bits on a CPU, and answers, times and the bundle are written once.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hilum.arrays import Array
from hilum.bundle.card import Stated
from hilum.bundle.reading import Bundle, read_bundle
from hilum.config import fingerprint
from hilum.datasets.manifest import Manifest
from hilum.datasets.next_version import LeftOut, Sides, check_names, next_version, refuse, sides_of
from hilum.errors import BundleError, DataError, RunError
from hilum.inference.assess import MAX_BATCH, Assessor, open_bundle
from hilum.labels import Findings
from hilum.predictions import Predictions
from hilum.progress import Progress, Silent
from hilum.provenance import processor
from hilum.runs.evaluate import evaluate
from hilum.runs.package import package
from hilum.runs.recalibrate import check_findings, recalibrate, unseen
from hilum.runs.rounds import ROLES, Round, RoundFolder, Rounds, once
from hilum.runs.run import Run
from hilum.runs.tiles import open_tiles
from hilum.runs.train import predictions_of, train_config
from hilum.training.device import Where

TIMED = 50
"""Films that the time for one film is measured on."""

WARM = 2
"""Films before them, whose time isn't counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """Films whose labels were let out of quarantine."""

    films: Manifest
    """With labels and patients, as imported."""
    names: tuple[str, ...]
    """Opaque id of each."""
    labels_sha256: str
    """Digest of the version of the label set."""
    left_out: tuple[LeftOut, ...] = ()
    """Films that could not be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a round has made."""

    run: Run
    """The candidate's run."""
    bundle: Bundle
    """The candidate's bundle, verified."""
    answers: Mapping[str, Predictions]
    """Of the locked test, by role."""
    test_fingerprint: str
    """Fingerprint of the locked test."""
    latency_p95_ms: float
    """95th percentile of the time for one film, from file to answer."""
    machine: str
    """What that was measured on."""
    trained_on: Manifest
    """Every film that the candidate was trained or calibrated on."""


def check_run(run: Run, current: Bundle) -> None:
    """Hold a run against its own records and against the bundle that is in production.

    Raises:
        RunError: films, config or weights of the run are not those that it recorded, or not the bundle's.
    """
    said = (
        ("split.parquet", run.films.fingerprint, run.result["films"]),
        ("config.json", fingerprint(run.config), run.result["config_fingerprint"]),
    )
    for name, there, recorded in said:
        if there != recorded:
            raise RunError(
                f"{run.path / name} has the fingerprint {there[:12]}…, but the run recorded {recorded[:12]}…: it was "
                "changed. Restore it from a backup."
            )
    weights = current.info.fingerprints.get("weights", "")
    if weights != run.fingerprint:
        raise RunError(
            f"The run {run.path} has the weights {run.fingerprint[:12]}…, but the current model's bundle was made of "
            f"{weights[:12] or 'unnamed ones'}…. Give the run that the bundle was packaged from."
        )


def adopt(rounds: Rounds, run: Run, *, at: str) -> None:
    """Take a run's split into the versions, unless it is there.

    Raises:
        DataError: its locked test holds patients who were trained on in an earlier version, or its fit part patients
            of a locked test.
    """
    films = run.films
    if all(one.films != films.fingerprint for one in rounds.versions()):
        rounds.add(films, kind="adopted", at=at)


def begin(
    rounds: Rounds,
    run: Run,
    fresh: Labelled,
    about: Round,
    *,
    leave_out: bool = False,
    progress: Progress | None = None,
) -> RoundFolder:
    """Add the version of a round; all or nothing.

    Args:
        rounds: the site's.
        run: the current model's.
        fresh: labelled films.
        about: what the round is of.
        leave_out: list films that can't be drawn, instead of refusing all.
        progress: where progress goes.

    Raises:
        DataError: there is no film to add, or films that can't be drawn, which are named by their opaque ids; or their
            patients are named in another way than before.
    """
    refuse(fresh.left_out, leave_out=leave_out, of=len(fresh.films) + len(fresh.left_out))
    versions = rounds.versions()
    ledger, names = versions[-1].sides, list(fresh.names)
    check_names(ledger, fresh.films)
    if about.kind == "retrained":
        parent = next(one for one in reversed(versions) if one.kind in ("adopted", "retrained"))
        films, left_out = next_version(
            rounds.usable(parent),
            fresh.films,
            names,
            findings=run.findings.names,
            ledger=ledger,
            leave_out=leave_out,
            progress=progress,
        )
        sides = sides_of(films)
        if len(films.select(films.rows(part="fit")).labels) < 2:
            raise DataError("The next version shows one finding alone, so nothing can be told apart. Label more films.")
    else:
        films, left_out = _to_calibrate_on(run, fresh.films, names, ledger, leave_out)
        sides = Sides(locked=ledger.locked, trained=frozenset(films.strings("patient_id")))
    gone = {one.film for one in left_out}
    made = rounds.add(
        films,
        kind=about.kind,
        at=about.at,
        sides=sides,
        labels=tuple(sorted(name for name in names if name not in gone)),
        labels_sha256=fresh.labels_sha256,
        left_out=(*fresh.left_out, *left_out),
        about=about,
    )
    return rounds.folder(made.number)


def _to_calibrate_on(
    run: Run, fresh: Manifest, names: list[str], ledger: Sides, leave_out: bool
) -> tuple[Manifest, tuple[LeftOut, ...]]:
    why = unseen(run, fresh, names, ledger)
    refuse(tuple(why.values()), leave_out=leave_out, of=len(fresh))
    films = fresh.select([row for row in range(len(fresh)) if row not in why])
    check_findings(run, films)
    return films, tuple(why.values())


def carry_out(
    folder: RoundFolder,
    run: Run,
    bundles: Mapping[str, Path],
    *,
    stated: Stated | None = None,
    cache: Path | None = None,
    device: Where = "cpu",
    resamples: int = 1000,
    progress: Progress | None = None,
) -> Made:
    """Make the candidate of a round and ask three models about the locked test; goes on where it was stopped.

    Args:
        folder: of the round.
        run: the current model's, whose recipe the candidate is trained by.
        bundles: paths of ``current`` and ``first``.
        stated: what people state of the candidate, for its model card.
        cache: folder shared between runs; None for ``.cache`` beside the current run.
        device: where the candidate is trained.
        resamples: of the intervals in its scorecard.
        progress: where progress goes.

    Raises:
        RunError: the run is not the one that the round was begun with.
        BundleError: a bundle is not the one that the round was begun with.
    """
    progress, about = progress or Silent(), folder.read_round()
    cache = cache or run.path.parent / ".cache"
    if run.fingerprint != about.run_fingerprint:
        raise RunError(
            f"The round in {folder.root} was begun with the weights {about.run_fingerprint[:12]}…, but {run.path} has "
            f"{run.fingerprint[:12]}…. Give the run that it was begun with."
        )
    version = Manifest.read(folder.films)
    candidate = _candidate(folder, run, about, version, cache, device, progress)
    if not (candidate.folder.evaluation("internal") / "scorecard.json").exists():
        evaluate(candidate, cache=cache, resamples=resamples, progress=progress)
    current = read_bundle(bundles["current"])
    if not folder.bundle.exists():
        package(
            candidate,
            folder.bundle,
            name=about.name,
            version=about.version or None,
            gate=current.info.gate,
            stated=stated,
            cache=cache,
            progress=progress,
        )
    test = candidate.films.select(candidate.films.rows(part="test"))
    bundle = read_bundle(folder.bundle)
    paths = {"candidate": folder.bundle, **bundles}
    digests = {"candidate": bundle.sha256, "current": about.current, "first": about.first}
    answers = {role: _answers(folder, role, paths[role], digests[role], test, cache, progress) for role in ROLES}
    measured = once(folder.measured, lambda: _measured(folder.bundle, test))
    return Made(
        run=candidate,
        bundle=bundle,
        answers=answers,
        test_fingerprint=test.fingerprint,
        latency_p95_ms=float(measured["latency_p95_ms"]),
        machine=str(measured["machine"]),
        trained_on=_trained_on(candidate, version, about),
    )


def _candidate(
    folder: RoundFolder,
    run: Run,
    about: Round,
    version: Manifest,
    cache: Path,
    device: Where,
    progress: Progress,
) -> Run:
    if about.kind == "retrained":
        return train_config(version, run.config, folder.run, cache=cache, device=device, progress=progress)
    return recalibrate(run, version, folder.run, kind=about.kind, cache=cache, progress=progress)


def _trained_on(candidate: Run, version: Manifest, about: Round) -> Manifest:
    """The fit part, and for a recalibration the films of the version too."""
    fit = candidate.films.select(candidate.films.rows(part="fit"))
    if about.kind == "retrained":
        return fit
    columns = {name: [*fit.strings(name), *version.strings(name)] for name in ("path", "film_id", "patient_id")}
    return Manifest.from_columns(columns, folder=fit.folder)


def _answers(
    folder: RoundFolder, role: str, path: Path, digest: str, test: Manifest, cache: Path, progress: Progress
) -> Predictions:
    kept = folder.answers(role)
    if not kept.exists():
        with open_bundle(path) as model:
            if model.sha256 != digest:
                raise BundleError(
                    f"The {role} model's bundle {path} has the digest {model.sha256[:12]}…, but the round was begun "
                    f"with {digest[:12]}…. Give the bundle that it was begun with."
                )
            bundle_predictions(model, test, cache, progress).write(kept)
    return Predictions.read(kept)


def bundle_predictions(model: Assessor, films: Manifest, cache: Path, progress: Progress | None = None) -> Predictions:
    """What a bundle says of films, by the runtime that serves it; whatever its gate would refuse is answered too.

    Raises:
        LabelError: a label is none of the bundle's findings.
    """
    findings = Findings(model.info.findings)
    targets = films.targets(findings)
    logits: list[Array] = []
    probs: list[Array] = []
    with open_tiles(films, model.info.preprocessing, cache, progress=progress) as (tiles, _):
        for start in range(0, len(films), MAX_BATCH):
            batch = np.ascontiguousarray(tiles[start : start + MAX_BATCH])
            answer = model.runtime.run(batch[:, None])
            logits.append(answer.logits.astype(np.float64))
            probs.append(answer.probabilities.astype(np.float64))
    shares = np.concatenate(probs)
    return predictions_of(films, findings, np.concatenate(logits), shares / shares.sum(axis=1, keepdims=True), targets)


def _measured(bundle: Path, test: Manifest) -> dict[str, Any]:
    """Time for one film after another, from the file to the answer."""
    paths: Sequence[Path] = test.film_paths()[: TIMED + WARM]
    seconds = []
    with open_bundle(bundle) as model:
        for path in (*paths[:WARM], *paths):
            started = time.perf_counter()
            model.runtime.run(model.prepare(path).tile[None, None])
            seconds.append(time.perf_counter() - started)
    p95 = float(np.quantile(seconds[WARM:], 0.95)) * 1000
    return {"latency_p95_ms": round(p95, 3), "machine": processor(), "films": len(paths)}
