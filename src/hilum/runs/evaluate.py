"""Evaluate: a run's one-pass network on the locked test share, or on another manifest."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from hilum.arrays import Array, Mask
from hilum.datasets.manifest import Manifest
from hilum.errors import DataError, UsageError
from hilum.evaluation.backing import write_backings
from hilum.evaluation.estimates import from_plain
from hilum.evaluation.externality import refuse
from hilum.evaluation.intervals import Method, Resampling
from hilum.evaluation.localisation import Localisation, localise
from hilum.evaluation.scorecard import Scorecard, Settings, score
from hilum.evaluation.thresholds import OperatingPoint
from hilum.files import write_json, write_text
from hilum.imaging.preprocessing import Preprocessing, heatmap_on_film
from hilum.predictions import Predictions
from hilum.progress import Progress, Silent
from hilum.provenance import now_utc
from hilum.runs.answers import Answers, answer_films
from hilum.runs.doubt import doubts_of, validation_of
from hilum.runs.external import development, why_shared
from hilum.runs.run import Run
from hilum.runs.tiles import open_tiles
from hilum.runs.train import predictions_of
from hilum.training.films import Stack

MASK_SIDE = 256
"""Grid, in points a side, on which heat maps are held against lesion masks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One evaluation, with what its report shows.

    Attributes:
        scorecard: everything measured.
        predictions: one row a film.
        answers: every output of the network.
        films: the films' manifest.
        tiles: the preprocessed films, in memory or read from disk as they are asked for.
        folder: where it was written.
        openings: how often this model version has looked at the locked test share, this time included; 0 elsewhere.
        model: fingerprint of the weights, which is the model version.
    """

    scorecard: Scorecard
    predictions: Predictions
    answers: Answers
    films: Manifest
    tiles: Stack
    folder: Path
    openings: int
    model: str

    @property
    def opening(self) -> str:
        """Which look at the locked test films this was, in a sentence; empty for other films."""
        if not self.openings:
            return ""
        said = f"Locked test films: look {self.openings} at model version {self.model[:12]}"
        if self.openings == 1:
            return f"{said}, its first."
        return f"{said}. Choices made since the first look tune it to them, so the figures flatter it."


def evaluate(
    run: Run,
    *,
    on: Path | None = None,
    external: bool = False,
    pretrained_on: Sequence[str] = (),
    cache: Path | None = None,
    resamples: int = 1000,
    interval: Method = "percentile",
    doubt: bool = True,
    progress: Progress | None = None,
) -> Evaluation:
    """Answer the films, measure, and write ``predictions.parquet``, ``scorecard.json`` and, behind what the
    predictions don't hold (features asked for the source, heat maps), ``scorecard.parquet``.

    Args:
        run: a finished run.
        on: another manifest; None for the run's own locked test share, whose opening is logged.
        external: claim that the films are external; refused where something speaks against it.
        pretrained_on: what the weights were made from, where their file doesn't say.
        cache: folder shared between runs; None for ``.cache`` beside the run.
        resamples: of the intervals.
        interval: how bounds are read from the resamples.
        doubt: choose what is left to a person by every kind of doubt, which asks the members once about the films of
            the fit part; False goes by probabilities alone.
        progress: where progress goes.

    Raises:
        DataError: no film to evaluate, a label that the run doesn't know, or films that aren't external.
        UsageError: ``external`` without another manifest.
    """
    progress = progress or Silent()
    films = _films(run, on, external=external)
    if external:
        refuse(why_shared(run, films, pretrained_on, progress=progress), films=str(on), model=str(run.path))
    name = "external" if external else (on.stem if on else "internal")
    openings = 0 if on else _log_opening(run)
    targets = films.targets(run.findings)
    recipe = run.recipe
    cache = cache or run.path.parent / ".cache"
    with open_tiles(films, recipe.preprocessing, cache, progress=progress) as (tiles, _):
        answers = answer_films(run.explained(), tiles, progress=progress)
    validation = validation_of(run, cache=cache, progress=progress) if doubt else None
    predictions = predictions_of(
        films,
        run.findings,
        answers["logits"],
        answers["probabilities"].astype(np.float64) / answers["probabilities"].sum(axis=1, keepdims=True),
        targets,
        doubts_of(answers, validation.usual if validation else None),
    )
    settings = Settings(resampling=Resampling(seed=run.config.seed, resamples=resamples, method=interval))
    scorecard = score(
        predictions,
        name=f"{name} test",
        role="external" if external else "internal",
        settings=settings,
        operating_points=operating_points(run),
        features=answers["features"].astype(np.float64),
        localisation=measure_localisation(run, films, targets, answers, settings.resampling),
        seen=development(run, pretrained_on),
        calibration_optimistic=bool(run.result["calibration_optimistic"]),
        validation=validation.films if validation else run.out_of_fold(),
        progress=progress,
    )
    folder = run.folder.evaluation(name)
    predictions.write(folder / "predictions.parquet")
    write_json(folder / "scorecard.json", scorecard.to_json())
    write_backings(folder / "scorecard.parquet", scorecard.backings)
    return Evaluation(
        scorecard=scorecard,
        predictions=predictions,
        answers=answers,
        films=films,
        tiles=tiles,
        folder=folder,
        openings=openings,
        model=run.fingerprint,
    )


def _films(run: Run, on: Path | None, *, external: bool) -> Manifest:
    if external and on is None:
        raise UsageError("--external is said of other films: name their manifest with --on MANIFEST.")
    films = Manifest.read(on) if on else run.films.select(run.films.rows(part="test"))
    if not len(films):
        where = on or run.folder.manifest
        raise DataError(f"{where} has no film to evaluate. Split with a test share above 0, or give --on MANIFEST.")
    return films


def operating_points(run: Run) -> dict[str, OperatingPoint]:
    """The run's operating points, chosen on out-of-fold predictions; those that could not be chosen are left out."""
    points = run.result["operating_points"]
    return {
        name: from_plain(OperatingPoint, value, where=f"{run.folder.result}: operating point {name}")
        for name, value in points.items()
        if value["threshold"] is not None
    }


def measure_localisation(
    run: Run, films: Manifest, targets: Array, answers: Answers, settings: Resampling
) -> tuple[Localisation, ...]:
    """Heat maps of the true finding against the lesion masks, on the films that have one."""
    masks = films.mask_paths()
    rows = [row for row, mask in enumerate(masks) if mask is not None and not np.isnan(targets[row]).any()]
    if not rows:
        return ()
    column = targets[rows].argmax(axis=1)
    shown = [read_mask(mask) for row in rows if (mask := masks[row]) is not None]
    heat = [on_mask_grid(answers["cam"][row, k], run.recipe.preprocessing) for row, k in zip(rows, column, strict=True)]
    patients, ids = films.strings("patient_id"), films.strings("film_id")
    kept = [i for i, mask in enumerate(shown) if mask.any()]
    return localise(
        [heat[i] for i in kept],
        [shown[i] for i in kept],
        [run.findings.name(int(column[i])) for i in kept],
        [patients[rows[i]] for i in kept],
        settings,
        film_ids=[ids[rows[i]] for i in kept],
    )


def read_mask(path: Path) -> Mask:
    """A lesion mask on a square grid of :data:`MASK_SIDE` points.

    Raises:
        DataError: the file is no picture.
    """
    try:
        with Image.open(path) as picture:
            reduced = picture.convert("L").resize((MASK_SIDE, MASK_SIDE), Image.Resampling.NEAREST)
    except OSError as error:
        raise DataError(f"Lesion mask {path} can't be read ({error}). Restore it, or clear its cell.") from None
    mask: Mask = np.asarray(reduced) > 127
    return mask


def on_mask_grid(heatmap: Array, preprocessing: Preprocessing) -> Array:
    """A heat map on the grid of :func:`read_mask`."""
    return np.maximum(heatmap_on_film(heatmap, (MASK_SIDE, MASK_SIDE), preprocessing), 0)


def _log_opening(run: Run) -> int:
    """Write down that the locked test share is looked at; how often this model version has, with this time."""
    path = run.folder.openings
    lines = path.read_text().splitlines() if path.exists() else []
    model = run.fingerprint
    lines.append(json.dumps({"time": now_utc(), "model": model}))
    write_text(path, "\n".join(lines) + "\n")
    return sum(json.loads(line)["model"] == model for line in lines)


def history_rows(run: Run) -> Sequence[dict[str, object]]:
    """Metrics of every epoch, from ``metrics.jsonl``."""
    return [json.loads(line) for line in run.folder.metrics.read_text().splitlines()]
