"""Recalibrate: a run's own weights with a site's temperature and operating points, as a run of its own.

No weight changes. The temperature comes on top of the run's calibration and is fitted, like the thresholds, on films
that no member has seen; so the ranking of films hardly moves, and what changes is how probable "probable" is here.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from hilum.arrays import Array
from hilum.datasets.manifest import Manifest
from hilum.datasets.next_version import LeftOut, Sides
from hilum.errors import DataError
from hilum.evaluation.estimates import to_plain
from hilum.evaluation.shipped_calibration import ShippedCalibration
from hilum.evaluation.thresholds import choose_operating_points
from hilum.files import replacing_directory, write_json
from hilum.progress import Progress
from hilum.provenance import now_utc
from hilum.runs.layout import RunFolder
from hilum.runs.rounds import VersionKind
from hilum.runs.run import Run
from hilum.runs.tiles import open_tiles
from hilum.runs.train import predictions_of
from hilum.training.prediction import predict_logits


def unseen(run: Run, fresh: Manifest, names: list[str], ledger: Sides) -> dict[int, LeftOut]:
    """Films that a run can't be calibrated on, by row: it has seen them, or their patients are locked away."""
    mine = run.films
    seen = {mine.strings("film_id")[row] for row in mine.rows(part="fit")}
    owners = {mine.strings("patient_id")[row] for row in mine.rows(part="fit")}
    films, patients, labels = (fresh.strings(name) for name in ("film_id", "patient_id", "label"))
    found = {}
    for row, name in enumerate(names):
        reasons = {
            "has no patient, so nobody can say that the locked test stays apart": not patients[row],
            "is of a patient of the locked test, who is never drawn": patients[row] in ledger.locked,
            "is labelled twice": films.count(films[row]) > 1,
            f"is labelled {labels[row]!r}, which is none of {', '.join(run.findings.names)}": labels[row]
            not in run.findings.names,
            "was trained on, or its patient was": films[row] in seen or patients[row] in owners,
        }
        if told := next((reason for reason, holds in reasons.items() if holds), ""):
            found[row] = LeftOut(film=name, reason=told)
    return found


def check_findings(run: Run, films: Manifest) -> None:
    """Refuse films that lack a finding: neither a temperature nor a threshold can be told from the others.

    Raises:
        DataError: a finding has no film; the message names it.
    """
    there = films.labels
    if missing := [name for name in run.findings.names if name not in there]:
        raise DataError(
            f"The {len(films)} labelled films show {', '.join(there) or 'nothing'}, and none shows "
            f"{', '.join(missing)}; a calibration needs films of every finding. Label some of these."
        )


def recalibrate(
    run: Run,
    films: Manifest,
    out: Path,
    *,
    kind: VersionKind = "recalibrated",
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Run:
    """Make a run with the same weights, and a calibration and operating points of the given films.

    Args:
        run: whose weights are kept.
        films: labelled films that no member has seen.
        out: folder of the new run; one that is there already is opened.
        kind: ``recalibrated`` for temperature and operating points, ``thresholds`` for operating points alone.
        cache: folder shared between runs; None for ``.cache`` beside the run.
        progress: where progress goes.

    Raises:
        DataError: a finding has no film, or no threshold can be chosen for one.
    """
    if RunFolder(out).result.exists():
        return Run.open(out)
    check_findings(run, films)
    logits = member_logits(run, films, cache or run.path.parent / ".cache", progress)
    targets = films.targets(run.findings)
    value = 1.0 if kind == "thresholds" else run.calibration.local_temperature(logits, targets)
    calibration = run.calibration if kind == "thresholds" else run.calibration.at_temperature(value)
    answers = predictions_of(films, run.findings, logits.mean(axis=0), calibration.probs(logits), targets)
    points = choose_operating_points(answers, run.config.operating)
    result = run.result | {
        "created": now_utc(),
        "calibration": calibration.to_json(),
        "calibration_optimistic": False,
        "operating_points": {name: to_plain(point) for name, point in points.items()},
        "recalibrated": {
            "kind": kind,
            "local_temperature": value,
            "films": films.fingerprint,
            "count": len(films),
            "patients": len(set(films.strings("patient_id"))),
            "of": run.fingerprint,
        },
    }
    _write(run, out, calibration, result)
    return Run.open(out)


def member_logits(run: Run, films: Manifest, cache: Path, progress: Progress | None) -> Array:
    """Logits [m, n, k] of every member for films that none has seen."""
    with open_tiles(films, run.recipe.preprocessing, cache, progress=progress) as (tiles, _):
        members = [predict_logits(run.classifier(number), tiles) for number in range(run.config.members)]
    return np.stack(members)


def _write(run: Run, out: Path, calibration: ShippedCalibration, result: dict[str, object]) -> None:
    with replacing_directory(out) as temporary:
        folder = RunFolder(temporary)
        for name in (run.folder.config, run.folder.manifest, run.folder.environment, run.folder.metrics):
            shutil.copyfile(name, temporary / name.name)
        if run.folder.openings.exists():  # the weights are the same, so its looks at the locked test are too
            shutil.copyfile(run.folder.openings, folder.openings)
        for number in range(run.config.members):
            folder.weights(number).parent.mkdir(parents=True)
            shutil.copyfile(run.folder.weights(number), folder.weights(number))
        before = run.out_of_fold()
        replace(before, probs=calibration.probs(before.logits[None])).write(folder.out_of_fold)
        write_json(folder.result, result)
