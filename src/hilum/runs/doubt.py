"""How much a run doubts the films that it did not fit, and the one policy that leaves doubtful films to a person.

Each film of the fit part is answered by the members that did not fit it, as in ``out_of_fold.parquet``: what the report
chooses its policy on, and what a bundle applies, is this and nothing else.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch

from hilum.arrays import Array, Indices, Scores, Vector
from hilum.bundle.distribution import OodReference
from hilum.bundle.schema import AbstentionPolicy as ShippedPolicy
from hilum.config import from_mapping, to_mapping
from hilum.evaluation.in_use import chosen_on
from hilum.evaluation.selective import (
    ENTROPY,
    FALLBACK,
    LEAST_PROBABLE,
    MC_STD,
    MUTUAL_INFORMATION,
    OOD_DISTANCE,
    SET_SIZE,
    AbstentionPolicy,
    AbstentionRules,
)
from hilum.files import write_json
from hilum.models.explained import Explained, Member, MemberAnswer
from hilum.predictions import Predictions
from hilum.progress import Progress, Silent
from hilum.runs.answers import BATCH, Answers
from hilum.runs.run import Run
from hilum.runs.tiles import open_tiles
from hilum.training.films import Stack


@dataclass(frozen=True, slots=True)
class Validation:
    """Out-of-fold predictions with every kind of doubt.

    Attributes:
        films: predictions with ``mutual_information``, ``mc_std`` and ``ood_distance``.
        usual: what features of fitted films look like to the whole network; its threshold is a quantile of the
            distances of films to members that did not fit them.
    """

    films: Predictions
    usual: OodReference


def validation_of(run: Run, *, cache: Path | None = None, progress: Progress | None = None) -> Validation:
    """Ask the members about the films that they did not fit; kept in ``validation.parquet`` and ``.json``.

    Args:
        run: a finished run.
        cache: folder shared between runs; None for ``.cache`` beside the run.
        progress: where progress goes.
    """
    table, about = run.folder.validation, run.folder.validation.with_suffix(".json")
    if table.exists() and about.exists():
        kept = run.folder.read(about)
        if kept["model"] == run.fingerprint:
            return Validation(Predictions.read(table), from_mapping(OodReference, kept["ood"], where=str(about)))
    made = _asked(run, cache or run.path.parent / ".cache", progress or Silent())
    made.films.write(table)
    write_json(about, {"model": run.fingerprint, "ood": to_mapping(made.usual)})
    return made


def held_films(run: Run) -> Indices:
    """Films of the fit part that a member watched and never fitted: with fewer members than folds not all."""
    folds = run.films.column("fold")[run.films.rows(part="fit")].astype(np.int64)
    return np.flatnonzero(folds < run.config.folds)


def _asked(run: Run, cache: Path, progress: Progress) -> Validation:
    films, out_of_fold = run.films.select(run.films.rows(part="fit")), run.out_of_fold()
    fold, folds = films.column("fold").astype(np.int64), run.config.folds
    held = held_films(run)
    with open_tiles(films, run.recipe.preprocessing, cache, progress=progress) as (tiles, _):
        found = _ask(run.explained(), tiles, fold, folds, progress)
    distance = np.empty(len(films))
    for number in range(folds):
        rows = np.flatnonzero(fold == number)
        distance[rows] = found.fitted[number].reference().distance(found.features[rows])
    likeliest = out_of_fold.probs.argmax(axis=1)
    told = {
        MUTUAL_INFORMATION: found.information[held],
        MC_STD: found.mc_std[held, likeliest],
        OOD_DISTANCE: distance[held],
    }
    threshold = max(float(np.quantile(distance[held], AbstentionRules().usual)), 1e-6)
    usual = replace(found.fitted[-1].reference(), threshold=threshold)
    return Validation(replace(out_of_fold, uncertainty=told), usual)


class _Moments:
    """Sums of features, from which mean and scale follow without keeping the features."""

    def __init__(self) -> None:
        self.films, self.total, self.squares = 0, np.zeros(1), np.zeros(1)

    def add(self, features: Array) -> None:
        self.films += len(features)
        self.total = self.total + features.sum(axis=0)
        self.squares = self.squares + (features * features).sum(axis=0)

    def reference(self) -> OodReference:
        """Mean and scale of each feature; a feature that never moved takes a tiny scale of its own."""
        mean = self.total / self.films
        scale = np.sqrt(np.maximum(self.squares / self.films - mean * mean, 0))
        largest = float(scale.max())
        scale = np.maximum(scale, 1e-6 * largest if largest > 0 else 1.0)
        return OodReference(mean=tuple(mean.tolist()), scale=tuple(scale.tolist()), threshold=1.0, films=self.films)


@dataclass(frozen=True, slots=True)
class _Found:
    """What the members say: of each film those that did not fit it; ``fitted`` for each fold, and for all at last."""

    information: Vector
    mc_std: Scores
    features: Array
    fitted: list[_Moments]


def _ask(network: Explained, tiles: Stack, fold: Indices, folds: int, progress: Progress) -> _Found:
    n, k = len(tiles), len(network.findings)
    width = cast(Member, network.members[0]).fc1.in_features
    found = _Found(np.empty(n), np.empty((n, k)), np.empty((n, width), np.float32), [])
    found.fitted.extend(_Moments() for _ in range(folds + 1))
    with progress.bar("Asking members about films they did not fit", n) as bar, torch.inference_mode():
        for start in range(0, n, BATCH):
            films = torch.from_numpy(np.ascontiguousarray(tiles[start : start + BATCH]))[:, None]
            answers, here = network.apart(films), fold[start : start + BATCH]
            found.fitted[-1].add(_features(answers))
            for number in range(folds):
                mine = answers[number::folds]
                features = _features(mine)
                found.fitted[number].add(features[here != number])
                rows = np.flatnonzero(here == number)
                if len(rows):
                    answer = network.together(list(_taken(mine, rows)))
                    found.information[start + rows] = answer.mutual_information.numpy()
                    found.mc_std[start + rows] = answer.mc_std.numpy()
                    found.features[start + rows] = features[rows]
            bar.advance(len(films))
    return found


def _features(answers: list[MemberAnswer]) -> Array:
    """Mean over members, as in the graph."""
    mean: Array = torch.stack([answer.features for answer in answers]).mean(0).numpy().astype(np.float64)
    return mean


def _taken(answers: list[MemberAnswer], rows: Indices) -> Iterator[MemberAnswer]:
    which = torch.from_numpy(rows)
    for answer in answers:
        yield MemberAnswer(*(values[which] for values in answer))


def doubts_of(answers: Answers, usual: OodReference | None) -> dict[str, Vector]:
    """The kinds of doubt in a network's answers, as :func:`validation_of` has them.

    Args:
        answers: for n films.
        usual: what usual features look like; None leaves their distance out.
    """
    likeliest = answers["probabilities"].argmax(axis=1)
    told: dict[str, Vector] = {
        MUTUAL_INFORMATION: answers["mutual_information"].astype(np.float64),
        MC_STD: answers["mc_std"][np.arange(len(likeliest)), likeliest].astype(np.float64),
    }
    if usual is not None:
        told[OOD_DISTANCE] = usual.distance(answers["features"].astype(np.float64))
    return told


def policy_of(validation: Validation) -> AbstentionPolicy:
    """The policy that the report of a run describes, chosen on its validation films."""
    return chosen_on(validation.films.labelled)[1]


def shipped_policy(policy: AbstentionPolicy) -> ShippedPolicy:
    """A policy as a bundle carries it; where none could be chosen, a probability below :data:`FALLBACK` gets no label.

    The distance beyond which no film gets a label is the bundle's ``ood.threshold``.
    """
    if policy.reason:
        return ShippedPolicy(least_probability=FALLBACK)
    limit = policy.limit
    return {
        LEAST_PROBABLE: lambda: ShippedPolicy(least_probability=1 - limit),
        ENTROPY: lambda: ShippedPolicy(entropy=limit),
        MUTUAL_INFORMATION: lambda: ShippedPolicy(mutual_information=limit),
        MC_STD: lambda: ShippedPolicy(mc_std=limit),
        OOD_DISTANCE: lambda: ShippedPolicy(ood_distance=limit),
        SET_SIZE: lambda: ShippedPolicy(set_size=int(limit), set_limits=dict(policy.set_limits)),
    }[policy.doubt]()
