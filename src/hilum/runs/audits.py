"""The audits of a run: light models on the frozen layers of its own backbone, and its network under changed films.

No network is trained. What no stage of the recipe trained has learned nothing from these labels, so what a linear model
reads from it out of fold is in the films.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch

from hilum.arrays import Array, Indices, Scores, Tiles
from hilum.datasets.manifest import Manifest
from hilum.datasets.shared_films import shared_films
from hilum.datasets.split_report import NOTE, report_of
from hilum.evaluation import explanation_audits as explain
from hilum.evaluation.auditing import AuditedFilms, audit_films, audit_network, pixel_features, some_patients
from hilum.evaluation.audits import Audit, Audits, concluded
from hilum.evaluation.backing import write_backings
from hilum.evaluation.confounding import within_source
from hilum.evaluation.data_audits import duplicates_audit, label_noise
from hilum.evaluation.explanation_audits import on_tile
from hilum.evaluation.intervals import Method, Resampling
from hilum.evaluation.light_models import PERMUTATIONS
from hilum.evaluation.metrics import classes_of
from hilum.evaluation.source_audits import inside_audits
from hilum.explanation.sanity import shuffled
from hilum.files import write_json
from hilum.imaging.audit_views import lung_region
from hilum.imaging.lungs import lung_fields
from hilum.models.classifier import Classifier
from hilum.models.explained import Explained
from hilum.progress import Progress, Silent
from hilum.randomness import stream
from hilum.runs.answers import answer_films
from hilum.runs.evaluate import Evaluation
from hilum.runs.recipes import shared_cut
from hilum.runs.run import Run
from hilum.runs.tiles import load_tiles
from hilum.training.allocator import keep_freed_memory

MOST_ASKED = 400
"""Evaluated films that the network is asked about under change; more are drawn by lot."""

MOST_EXPLAINED, MOST_DELETED = 48, 12
"""Evaluated films whose heat maps are tested, and on which pixels are taken away step by step."""

MOST_COMPARED = 20_000
"""More films than this aren't compared by their look."""

BATCH = 16

TEXTS = ("manufacturer", "modality", "photometric", "licence")
NUMBERS = ("age_years", "width", "height", "bits_stored", "bytes")
"""Columns of a manifest that say something of a film without showing it, beside the groups."""


def audit_run(
    run: Run,
    shown: Evaluation,
    *,
    cache: Path | None = None,
    resamples: int = 1000,
    interval: Method = "percentile",
    permutations: int = PERMUTATIONS,
    quick: bool = False,
    progress: Progress | None = None,
) -> Audits:
    """Audit a run: its fit part by light models, its network on the evaluated films.

    Writes ``audits.json`` into the evaluation's folder, and ``audits.parquet``: the scores behind every row that
    ``predictions.parquet`` and the run's out-of-fold predictions don't hold.

    Args:
        run: a finished run.
        shown: the evaluation whose films the network is asked about.
        cache: folder of decoded films, shared between runs; None for ``.cache`` beside the run.
        resamples: of the intervals.
        interval: how bounds are read from the resamples.
        permutations: shuffles of each test against chance.
        quick: ask about the films alone; the network isn't asked about changed films, nor are its heat maps tested.
        progress: where progress goes.
    """
    keep_freed_memory()
    progress = progress or Silent()
    settings = Resampling(seed=run.config.seed, resamples=resamples, method=interval)
    fit = run.films.select(run.films.rows(part="fit"))
    some = fit.select(some_patients(fit.strings("patient_id"), seed=run.config.seed))
    tiles = load_tiles(some, run.recipe.preprocessing, cache or run.path.parent / ".cache", progress=progress)
    films = _audited(run, some, tiles)
    describe, features = _frozen(run)
    lungs = lung_region(tiles)
    rows = audit_films(films, describe, lungs=lungs, settings=settings, permutations=permutations, progress=progress)
    pairs = within_source(shown.predictions.labelled, settings)
    rows += inside_audits(shown.predictions, pairs, settings)
    if not quick:
        near = lungs if shown.openings else None  # the run's own locked share is of the same cohort
        answer = partial(_probabilities, run.explained())
        rows += audit_network(_asked(run, shown), answer, lungs=near, settings=settings, progress=progress)
        rows += _explanations(run, shown, settings, progress)
    rows.append(_duplicates(run, fit, shown, progress))
    noise, candidates = label_noise(run.out_of_fold())
    audits = Audits(
        rows=concluded([*rows, noise]),
        candidates=candidates,
        features=features,
        settings=settings,
        permutations=permutations,
    )
    write_backings(shown.folder / "audits.parquet", audits.backings)
    write_json(shown.folder / "audits.json", audits.to_json())
    return audits


def _audited(run: Run, manifest: Manifest, tiles: Tiles) -> AuditedFilms:
    groups: dict[str, Sequence[str]] = dict(manifest.groups())
    metadata: Mapping[str, Sequence[str] | Array] = {
        **{name: manifest.strings(name) for name in TEXTS},
        **{name: _known(manifest.column(name)) for name in NUMBERS},
    }
    return AuditedFilms(
        tiles=tiles,
        findings=run.findings,
        classes=classes_of(manifest.targets(run.findings), run.findings),
        film_ids=tuple(manifest.strings("film_id")),
        patient_ids=tuple(manifest.strings("patient_id")),
        groups=groups,
        metadata=metadata,
    )


def _known(values: Array) -> Array:
    """Numbers with NaN for what is not known: a manifest writes 0 where a count has no meaning."""
    numbers = values.astype(np.float64)
    return np.where(numbers == 0, np.nan, numbers)


def _frozen(run: Run) -> tuple[partial[Array], str]:
    """Films → pooled outputs of the layers that no stage trained, and what they are in words."""
    classifier = run.classifier(0)
    cut = shared_cut(run.recipe, classifier.encoder)
    if cut == 0:
        words = "grey values in the cells of a grid, since the recipe trains every layer of the backbone"
        return partial(pixel_features), words
    name = classifier.encoder.layers[cut - 1]
    words = f"mean and maximum of the output of {run.config.backbone}'s layers up to {name}, which no stage trained"
    return partial(_pooled, classifier, cut), words


def _pooled(classifier: Classifier, cut: int, tiles: Tiles) -> Array:
    parts = []
    with torch.inference_mode():
        for start in range(0, len(tiles), BATCH):
            maps = classifier.prefix(torch.from_numpy(np.ascontiguousarray(tiles[start : start + BATCH]))[:, None], cut)
            parts.append(torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1).double().numpy())
    return np.concatenate(parts)


def _probabilities(network: Explained, tiles: Tiles) -> Scores:
    probs = answer_films(network, tiles)["probabilities"].astype(np.float64)
    normalised: Scores = probs / probs.sum(axis=1, keepdims=True)
    return normalised


def _asked(run: Run, shown: Evaluation) -> AuditedFilms:
    rows = np.sort(stream(run.config.seed, "audited network").permutation(len(shown.films))[:MOST_ASKED])
    return _audited(run, shown.films.select(rows), np.asarray(shown.tiles[rows]))


def _explanations(run: Run, shown: Evaluation, settings: Resampling, progress: Progress) -> list[Audit]:
    """Whether the heat maps explain, on a few films; each map is of the answer."""
    scored = np.flatnonzero(np.isfinite(shown.predictions.probs).all(axis=1))
    rows = np.sort(stream(run.config.seed, "audited maps").permutation(scored)[:MOST_EXPLAINED])
    tiles, network = np.asarray(shown.tiles[rows]), run.explained()
    ids = [shown.predictions.patient_ids[i] for i in rows.tolist()]
    said = shown.predictions.probs[rows].argmax(axis=1)
    if len(rows) < 2:
        return []

    def maps(of: Explained, films: Tiles) -> list[Array]:
        cams = answer_films(of, films)["cam"]
        return [cams[i, column].astype(np.float64) for i, column in enumerate(said.tolist())]

    with progress.bar("Testing heat maps", 4) as bar:
        heat = maps(network, tiles)
        enlarged = [on_tile(one, tiles.shape[1:]) for one in heat]
        made = [explain.lung_audit(enlarged, [lung_fields(tile) for tile in tiles], ids, settings)]
        bar.advance(note="deletion and insertion")
        few = slice(0, MOST_DELETED)
        answer = partial(_probabilities, network)
        made.append(explain.faithfulness_audit(tiles[few], heat[few], said[few], answer, ids[few], settings))
        bar.advance(note="shuffled weights")
        others = maps(cast(Explained, shuffled(network, run.config.seed)), tiles)
        made.append(explain.similarity_audit(heat, others, ids, settings, kind="weights"))
        bar.advance(note="noise")
        noise = maps(network, explain.noisy(tiles, seed=run.config.seed))
        made.append(explain.similarity_audit(heat, noise, ids, settings, kind="noise"))
        bar.advance()
    return [_named(row, shown, rows[: MOST_DELETED if row.name == explain.DELETION else None]) for row in made]


def _named(row: Audit, shown: Evaluation, rows: Indices) -> Audit:
    """A row about heat maps whose scores say of which films they are."""
    if row.backing is None:
        return row
    films = shown.predictions
    truth = np.where(np.isnan(films.targets[rows]).any(axis=1), -1, films.targets[rows].argmax(axis=1))
    names = ["" if c < 0 else films.findings.name(c) for c in truth.tolist()]
    return replace(row, backing=row.backing.of_films([films.film_ids[i] for i in rows.tolist()], names, truth))


def _duplicates(run: Run, fit: Manifest, shown: Evaluation, progress: Progress) -> Audit:
    """Copies between the fit part and the evaluated films; for the run's own share, what its split counted."""
    tested = shown.films
    if shown.openings and NOTE in run.films.notes:
        split = report_of(run.films)
        return duplicates_audit(split.overlap.files + split.overlap.copies, len(tested), split.compared)
    if len(fit) + len(tested) > MOST_COMPARED:
        return duplicates_audit(0, len(tested), 0)
    found = shared_films(fit, tested, progress=progress)
    ids = [tested.strings("film_id")[i] for i in np.union1d(found.files, found.copies).astype(int).tolist()]
    return duplicates_audit(len(ids), len(tested), found.compared + len(found.files), ids)
