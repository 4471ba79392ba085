"""Nested cross-validation of a recipe: what it gives on patients that neither trained, stopped nor calibrated anything.

The films of the fit part are divided by patient into outer folds. For each, a whole run is trained on the others, with
inner folds of its own for early stopping, calibration and operating points, and answers the outer fold's films. The
locked test share is not touched. Source: Varma and Simon 2006, BMC Bioinformatics 7:91, doi:10.1186/1471-2105-7-91.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hilum.arrays import Array, Indices
from hilum.datasets.manifest import Manifest
from hilum.errors import UsageError
from hilum.evaluation.cross_validation import Fold, across_folds, nested
from hilum.evaluation.estimates import to_plain
from hilum.evaluation.intervals import Resampling
from hilum.evaluation.metrics import classes_of
from hilum.evaluation.scorecard import Scorecard, Settings, score
from hilum.files import write_json
from hilum.labels import Findings
from hilum.predictions import Predictions
from hilum.progress import Progress, Silent
from hilum.provenance import now_utc
from hilum.runs.answers import answer_films
from hilum.runs.run import Run
from hilum.runs.tiles import open_tiles
from hilum.runs.train import TrainConfig, predictions_of, train_config
from hilum.training.device import Where


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """What a nested cross-validation measured.

    Attributes:
        cards: for each repetition, the scorecard of its films, each answered by the run that never saw its patient;
            intervals by patient: they speak of new patients and of these fitted runs.
        measured: what ``cross-validation.json`` holds.
        path: that file.
    """

    cards: tuple[Scorecard, ...]
    measured: dict[str, Any]
    path: Path


def cross_validate(
    films: Manifest,
    config: TrainConfig,
    out: Path,
    *,
    outer: int = 5,
    repeats: int = 1,
    cache: Path | None = None,
    device: Where = "cpu",
    resamples: int = 1000,
    progress: Progress | None = None,
) -> CrossValidated:
    """Train ``outer × repeats`` runs, and write ``cross-validation.json`` and the predictions of each repetition.

    The runs lie in ``out/repeatR/foldN`` and share the prefix cache. The same call goes on where it was stopped.

    Args:
        films: a manifest that was split; the films of its fit part are used.
        config: of every run; its ``folds`` are the inner ones.
        out: folder of all of it.
        outer: outer folds, 2 or more.
        repeats: divisions into outer folds, each another draw.
        cache: folder shared between runs; None for ``.cache`` in ``out``.
        device: where runs are computed.
        resamples: of the intervals by patient.
        progress: where progress goes.

    Raises:
        UsageError: fewer than two outer or inner folds, or no repetition.
        DataError: too few patients, or films that can't be read.
        RunError: a folder holds a run of another config.
    """
    if outer < 2 or config.folds < 2 or repeats < 1:
        raise UsageError(
            f"{outer} outer and {config.folds} inner folds, {repeats} times, are no nested cross-validation. Take 2 or "
            "more of each, and once or more."
        )
    progress, cache = progress or Silent(), cache or out / ".cache"
    films, findings = films.select(films.rows(part="fit")), Findings(config.findings)
    classes = classes_of(films.targets(findings), findings)
    shape = (repeats, len(films), len(findings))
    logits, probs, number = np.empty(shape), np.empty(shape), np.empty(shape[:2], np.int64)
    patients = films.strings("patient_id")
    for fold, inner in nested(patients, classes, outer=outer, inner=config.folds, repeats=repeats, seed=config.seed):
        progress.say(f"Repetition {fold.repeat + 1} of {repeats}, outer fold {fold.number + 1} of {outer}.")
        folder = out / f"repeat{fold.repeat + 1}" / f"fold{fold.number + 1}"
        run = train_config(_divided(films, fold, inner), config, folder, cache=cache, device=device, progress=progress)
        at = fold.repeat, fold.test
        logits[at], probs[at] = _answers(run, films, fold.test, cache, progress)
        number[at] = fold.number
    settings = Settings(resampling=Resampling(seed=config.seed, resamples=resamples))
    cards, rows = [], []
    for repeat in range(repeats):
        said = predictions_of(films, findings, logits[repeat], probs[repeat], films.targets(findings))
        said.write(out / f"predictions{repeat + 1}.parquet")
        name = f"outer folds, repetition {repeat + 1}"
        cards.append(score(said, name=name, settings=settings, progress=progress))
        rows.append({"scorecard": cards[-1].to_json(), "mean_over_folds": _over_folds(said, number[repeat])})
    measured = {
        "schema": 1,
        "created": now_utc(),
        "outer": outer,
        "inner": config.folds,
        "films": len(films),
        "patients": len(set(patients)),
        "repetitions": rows,
    }
    write_json(out / "cross-validation.json", measured)
    return CrossValidated(cards=tuple(cards), measured=measured, path=out / "cross-validation.json")


def _divided(films: Manifest, fold: Fold, inner: tuple[Fold, ...]) -> Manifest:
    """The films with an outer fold as test part, and inner folds in the fit part."""
    part, number = np.full(len(films), "fit", dtype=object), np.zeros(len(films), np.int64)
    part[fold.test] = "test"
    for one in inner:
        number[one.test] = one.number
    return films.with_columns(part=part.tolist(), fold=number)


def _answers(run: Run, films: Manifest, rows: Indices, cache: Path, progress: Progress) -> tuple[Array, Array]:
    """Logits and probabilities [n, k] of films that the run never saw."""
    with open_tiles(films.select(rows), run.recipe.preprocessing, cache, progress=progress) as (tiles, _):
        found = answer_films(run.explained(), tiles, progress=progress)
    probs = found["probabilities"].astype(np.float64)
    return found["logits"], probs / probs.sum(axis=1, keepdims=True)


def _over_folds(said: Predictions, number: Indices) -> dict[str, Any]:
    """Mean AUROC over outer folds with the interval of what the recipe would give when trained anew."""
    labelled = ~np.isnan(said.targets).any(axis=1)
    known = said.labelled
    return {name: to_plain(across_folds(known, number[labelled], name)) for name in known.findings.names}
