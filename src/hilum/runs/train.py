"""Train: from a split manifest to members, out-of-fold predictions, a temperature and operating points."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hilum.arrays import Array, Indices, Scores
from hilum.config import fingerprint, to_mapping
from hilum.datasets.manifest import Manifest
from hilum.errors import DataError, UsageError
from hilum.evaluation.estimates import to_plain
from hilum.evaluation.shipped_calibration import ShippedCalibration
from hilum.evaluation.thresholds import OperatingRules, choose_operating_points
from hilum.files import write_json, write_text
from hilum.labels import CHEST, Findings
from hilum.models.classifier import Classifier, ClassifierConfig, build_classifier
from hilum.models.heads import started
from hilum.models.weights.registry import WeightsInfo
from hilum.predictions import Predictions
from hilum.progress import Progress, Silent
from hilum.provenance import environment, now_utc
from hilum.runs.curves import write_curves
from hilum.runs.layout import RunFolder
from hilum.runs.recipes import Recipe, changed, recipe, shared_cut
from hilum.runs.run import Run, save_member
from hilum.runs.tiles import open_tiles
from hilum.runs.watching import Watcher, tell, watching
from hilum.training.bf16 import prefix_precision
from hilum.training.data_path import Wanted, choose_data_path
from hilum.training.device import Where, choose_device, device_in_words, own_device
from hilum.training.films import Films, Stack, grey_counts, some_of
from hilum.training.history import History
from hilum.training.precision import check_precision
from hilum.training.prediction import predict_from_cache, predict_logits
from hilum.training.prefix_cache import PrefixCache
from hilum.training.ranks import ALONE, Ranks, joined
from hilum.training.stages import stage_cut
from hilum.training.transfer import TrainingConfig, TrainingData, train_member


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """All that decides a run's result, beside the films."""

    backbone: str = "mobilenet_v2"
    """Network of the zoo."""
    weights: str = "imagenet"
    """Where the encoder starts: ``imagenet``, ``hilum``, ``none``, or a .safetensors file."""
    recipe: Recipe = field(default_factory=Recipe)
    """How it is trained."""
    folds: int = 5
    """Members of each seed, each watching another fold; 1 is the quick form."""
    seeds: int = 1
    """How often every fold is trained, each time with another head, order and dropout; members are folds × seeds."""
    seed: int = 0
    """Seed of views, order, dropout and weights."""
    findings: tuple[str, ...] = CHEST.names
    """What is told apart, in the order of the outputs."""
    operating: OperatingRules = field(default_factory=OperatingRules)
    """How thresholds are chosen on the out-of-fold predictions."""

    @property
    def members(self) -> int:
        """Members of the ensemble: folds × seeds; those of one seed stand together, in the order of their folds."""
        return self.folds * self.seeds


def train(
    films: Manifest,
    *,
    out: str | Path,
    backbone: str = "mobilenet_v2",
    weights: str | Path = "imagenet",
    recipe_name: str = "starter",
    imbalance: str | None = None,
    label_smoothing: float | None = None,
    precision: str | None = None,
    folds: int | None = None,
    seeds: int = 1,
    seed: int = 0,
    cache: Path | None = None,
    data_path: Wanted = "auto",
    device: Where = "auto",
    operating: OperatingRules | None = None,
    progress: Progress | None = None,
    watch: Sequence[str] = (),
) -> Run:
    """Train a classifier on the fit part of a split manifest; goes on where an earlier call was stopped.

    Args:
        films: a manifest that was split (``hilum data split``).
        out: the run's folder.
        backbone: network of the zoo.
        weights: ``imagenet``, ``hilum``, ``none`` or a .safetensors file.
        recipe_name: name in :data:`hilum.runs.recipes.RECIPES`, or a file that ends in ``.toml`` or ``.json``.
        imbalance: answer to classes of unequal size, a name in :data:`hilum.training.imbalance.STRATEGIES`; None for
            the recipe's.
        label_smoothing: share of the target spread evenly over the findings; None for the recipe's.
        precision: of all stages, ``fp32``, ``bf16`` or ``fp16``; None for the recipe's.
        folds: members of each seed; as many as the split has folds (None), or 1.
        seeds: how often every fold is trained; the ensemble has folds × seeds members.
        seed: of all chance.
        cache: folder shared between runs; None for ``.cache`` beside the run.
        data_path: whether films are ``resident`` in memory or ``streaming`` from disk, which decides nothing but time
            and memory; ``auto`` goes by size.
        device: where it is computed: ``cpu``, ``cuda``, or ``auto``, which takes a GPU where there is one.
        operating: how thresholds are chosen; a floor of sensitivity for every finding but normal when None.
        progress: where progress goes.
        watch: names of watchers that are told every epoch (:data:`hilum.runs.watching.WATCHERS`).

    Returns:
        the finished run.

    Raises:
        UsageError: a name that is not known, a value out of range, or what the device lacks.
        DataError: the manifest was not split, has fewer folds, or films that can't be read.
        RunError: the folder holds a run of another config.
        WeightsError: the weights can't be had or don't fit.
    """
    config = TrainConfig(
        backbone=backbone,
        weights=str(weights),
        recipe=changed(recipe(recipe_name), imbalance=imbalance, label_smoothing=label_smoothing, precision=precision),
        folds=folds_of(films) if folds is None else folds,
        seeds=seeds,
        seed=seed,
        findings=findings_of(films),
        operating=operating or OperatingRules(),
    )
    return train_config(
        films, config, Path(out), cache=cache, data_path=data_path, device=device, progress=progress, watch=watch
    )


def train_config(
    films: Manifest,
    config: TrainConfig,
    out: Path,
    *,
    cache: Path | None = None,
    data_path: Wanted = "auto",
    device: Where = "cpu",
    progress: Progress | None = None,
    watch: Sequence[str] = (),
) -> Run:
    """As :func:`train`, from a whole config, and on the CPU unless something else is asked for."""
    progress, chosen = progress or Silent(), choose_device(device)
    check_split(films, config)
    folder = RunFolder(out)
    cache = cache or out.parent / ".cache"
    check_start(config, cache, chosen)
    choose_data_path(0, 0, data_path)  # a wrong wish is refused before the folder is taken
    told = {"config": to_mapping(config), "films": films.fingerprint}
    with joined(cuda=chosen.type == "cuda") as ranks, watching(watch if ranks.first else (), out) as watchers:
        own = own_device(chosen, ranks)
        finished = folder.claim(told)
        ranks.agree("run", f"{told} {finished}")
        if not finished:
            if ranks.first:
                films.write(folder.manifest)
                about = {"seed": config.seed, "films": films.fingerprint, "device": device_in_words(own)}
                write_json(folder.environment, {**environment(), **about})
                progress.say(f"Computed on {device_in_words(own)}.")
            Training(films, config, folder, cache, progress, watchers, ranks, own).run(data_path)
            ranks.agree("end", "reached")
    return Run.open(out)


def folds_of(films: Manifest) -> int:
    """Number of folds of a split's fit part; 1 where it was not split into any."""
    return max(1, len(set(films.column("fold")[films.rows(part="fit")].tolist())))


def findings_of(films: Manifest) -> tuple[str, ...]:
    """The chest findings where all labels are among them, else the labels in alphabetical order.

    Raises:
        DataError: fewer than two labels.
    """
    labels = films.labels
    if len(labels) < 2:
        raise DataError(
            f"The films have {len(labels)} distinct labels ({', '.join(labels) or 'none'}), but training "
            "needs two or more. Label more films."
        )
    return CHEST.names if set(labels) <= set(CHEST.names) and len(labels) == len(CHEST) else tuple(labels)


def check_split(films: Manifest, config: TrainConfig) -> None:
    """Refuse films that a config can't be trained on.

    Raises:
        DataError: the manifest has no fit part, or other folds.
        UsageError: numbers of folds or seeds below 1, a floor for a finding that isn't one.
    """
    there = sorted(set(films.column("fold")[films.rows(part="fit")].tolist()))
    if not len(films.rows(part="fit")):
        raise DataError("The manifest has no fit part. Split it first: hilum data split MANIFEST --out SPLIT.")
    if unknown := sorted(set(config.operating.floors) - set(config.findings)):
        raise UsageError(
            f"A floor is given for {', '.join(unknown)}, but the findings are {', '.join(config.findings)}. Name these."
        )
    if config.folds < 1:
        raise UsageError(f"--folds is {config.folds}, but must be 1 or more.")
    if config.seeds < 1:
        raise UsageError(f"--seeds is {config.seeds}, but must be 1 or more.")
    if config.folds > 1 and config.folds != len(there):
        raise DataError(
            f"The split has {len(there)} folds, but --folds is {config.folds}. "
            f"Give --folds {len(there)} or 1, or split again with --folds {config.folds}."
        )


def check_start(config: TrainConfig, cache: Path, device: torch.device) -> None:
    """Build the network and load its weights once, so that what is wrong fails before films are decoded.

    Raises:
        UsageError: a name that is not known, a layer that the network lacks, or a precision that the device lacks.
        WeightsError: the weights can't be had or don't fit.
    """
    for stage in config.recipe.stages:
        check_precision(stage.precision, device)
    classifier, _ = build_classifier(
        ClassifierConfig(
            backbone=config.backbone,
            findings=config.findings,
            size=config.recipe.preprocessing.size,
            hidden=config.recipe.hidden,
            dropout=config.recipe.dropout,
        ),
        config.weights,
        config.seed,
        cache=cache / "weights",
    )
    shared_cut(config.recipe, classifier.encoder)


class Training:
    """One run under way; what does not train a whole run, such as :mod:`hilum.runs.lr_find`, takes its beginning.

    Args:
        films: a manifest that was split.
        config: all that decides the result.
        folder: of the run.
        cache: folder shared between runs.
        progress: where progress goes.
        watchers: told each epoch's row.
        ranks: which share of the work is this process's.
        device: where it is computed.
    """

    def __init__(
        self,
        films: Manifest,
        config: TrainConfig,
        folder: RunFolder,
        cache: Path,
        progress: Progress,
        watchers: Sequence[Watcher] = (),
        ranks: Ranks = ALONE,
        device: torch.device | None = None,
    ) -> None:
        self.watchers, self.ranks, self.device = list(watchers), ranks, device or torch.device("cpu")
        self.films, self.config, self.folder, self.progress = films, config, folder, progress
        self.findings = Findings(config.findings)
        self.weights_cache = cache / "weights"
        self.prefixes = PrefixCache(cache / "prefix")
        self.tiles_cache = cache

    def run(self, data_path: Wanted) -> None:
        """Decode the films once, then train on them."""
        films = self.films.select(self.films.rows(part="fit"))
        with open_tiles(
            films, self.config.recipe.preprocessing, self.tiles_cache, wanted=data_path, progress=self.progress
        ) as (tiles, path):
            self.data_path = path
            self._train(films, tiles)

    def _train(self, films: Manifest, tiles: Stack) -> None:
        """Train every member, then calibrate on what each said of the fold it never fitted."""
        targets = films.targets(self.findings)
        fold_of = films.column("fold")
        spread = self._feature_spread(films, tiles)
        logits = np.full((self.config.seeds, *targets.shape), np.nan)
        histories: list[History] = []
        info: WeightsInfo | None = None
        for number in range(self.config.members):
            again, fold = divmod(number, self.config.folds)
            watch = np.flatnonzero(fold_of == fold)
            classifier, info = self._start(tiles, again)
            if spread is not None:
                classifier.head.standardise(*spread)
            history = self._member(number, classifier, films, tiles, targets, watch)
            logits[again, watch] = self._watched(classifier, films, tiles, watch)
            histories.append(history)
        if self.ranks.first:
            self._close(films, targets, logits, histories, info)

    def begin(self, films: Manifest, tiles: Stack, fold: int) -> tuple[Classifier, TrainingData]:
        """The classifier that a fold's first member starts from, and its data.

        Args:
            films: of the fit part.
            tiles: theirs.
            fold: that is watched.
        """
        classifier, _ = self._start(tiles)
        spread = self._feature_spread(films, tiles)
        if spread is not None:
            classifier.head.standardise(*spread)
        watch = np.flatnonzero(films.column("fold") == fold)
        return classifier, self._data(films, tiles, films.targets(self.findings), watch)

    def settings(self) -> TrainingConfig:
        """What all stages of all members share."""
        recipe = self.config.recipe
        return TrainingConfig(
            loss=recipe.imbalance.loss(recipe.label_smoothing),
            sampling=recipe.imbalance.sampling,
            augmentation=recipe.augmentation,
            view_seed=self.config.seed,
        )

    def _data(self, films: Manifest, tiles: Stack, targets: Scores, watch: Indices) -> TrainingData:
        fitted = np.setdiff1d(np.arange(len(films)), watch)
        return TrainingData(
            tiles=tiles, film_ids=tuple(films.strings("film_id")), targets=targets, fit=fitted, watch=watch
        )

    def _start(self, tiles: Stack, again: int = 0) -> tuple[Classifier, WeightsInfo]:
        """The classifier that the members of a seed start from: what all freeze is the same, and computed once.

        Args:
            tiles: of the fit part.
            again: 0 for the first of the seeds; each further one has another head, and where nothing is frozen other
                random weights everywhere.
        """
        classifier, info = self._built(tiles, self.config.seed)
        if again and not shared_cut(self.config.recipe, classifier.encoder):
            return self._built(tiles, self.config.seed + again)
        if again:
            started(classifier.head, self.config.seed + again)
        return classifier, info

    def _built(self, tiles: Stack, seed: int) -> tuple[Classifier, WeightsInfo]:
        recipe = self.config.recipe
        mean, std = _normalisation(recipe, tiles)
        classifier, info = build_classifier(
            ClassifierConfig(
                backbone=self.config.backbone,
                findings=self.config.findings,
                size=recipe.preprocessing.size,
                hidden=recipe.hidden,
                dropout=recipe.dropout,
                mean=mean,
                std=std,
            ),
            self.config.weights,
            seed,
            cache=self.weights_cache,
        )
        return classifier.to(self.device), info

    def _feature_spread(self, films: Manifest, tiles: Stack) -> tuple[Tensor, Tensor] | None:
        """Mean and spread of each pooled feature over the fit part, when a stage trains the head alone.

        All folds take the same, as they share the encoder that the features come from; no label enters.
        """
        classifier, _ = self._start(tiles)
        layers = len(classifier.encoder.layers)
        cuts = {stage_cut(stage, classifier.encoder) for stage in self.config.recipe.stages}
        if layers not in cuts:
            return None
        rows = np.arange(len(films))
        held = Films(tiles, tuple(films.strings("film_id")))
        also = sorted(cuts - {0, layers})
        with self.prefixes.open(classifier, layers, held, {0: rows}, also=also, progress=self.progress) as outputs:
            pooled = outputs(torch.from_numpy(rows), 0).double()
        return pooled.mean(0).float(), pooled.std(0).float()

    def _member(
        self, number: int, classifier: Classifier, films: Manifest, tiles: Stack, targets: Scores, watch: Indices
    ) -> History:
        history = train_member(
            classifier,
            self._data(films, tiles, targets, watch),
            self.config.recipe.stages,
            self.settings(),
            folder=self.folder.member(number),
            cache=self.prefixes,
            seed=self.config.seed + number,
            progress=self.progress,
            called=f"member {number + 1} of {self.config.members}",
            watch=partial(self._tell, number),
            ranks=self.ranks,
        )
        if self.ranks.first:
            save_member(classifier, self.folder.weights(number))
            write_curves(self.folder, number, history.rows)
        return history

    def _tell(self, number: int, row: Mapping[str, Any]) -> None:
        tell(self.watchers, number, row, self.progress)

    def _watched(self, classifier: Classifier, films: Manifest, tiles: Stack, watch: Indices) -> Scores:
        """Logits of the films that a member did not fit; from the cache where its last stage froze something."""
        cut = shared_cut(self.config.recipe, classifier.encoder)
        if not cut:
            return predict_logits(classifier, some_of(tiles, watch))
        held = Films(tiles, tuple(films.strings("film_id")))
        return predict_from_cache(classifier, held, watch, cut=cut, cache=self.prefixes)

    def _close(
        self, films: Manifest, targets: Scores, logits: Scores, histories: list[History], info: WeightsInfo | None
    ) -> None:
        held = np.flatnonzero(~np.isnan(logits).any(axis=(0, 2)))
        logits, truth = logits[:, held], targets[held]  # of the seeds' members that did not fit the film
        owners = tuple(films.strings("patient_id")[row] for row in held)
        calibration = ShippedCalibration.fitted(logits, truth, owners, seed=self.config.seed)
        probs = calibration.probs(logits)
        out_of_fold = predictions_of(films.select(held), self.findings, logits.mean(axis=0), probs, truth)
        out_of_fold.write(self.folder.out_of_fold)
        points = choose_operating_points(out_of_fold, self.config.operating)
        lines = [
            {"member": number, **row} for number, history in enumerate(histories) for row in to_mapping(history.rows)
        ]
        _write_lines(self.folder.metrics, lines)
        write_json(
            self.folder.result,
            {
                "created": now_utc(),
                "config_fingerprint": fingerprint(self.config),
                "films": self.films.fingerprint,
                "weights": to_mapping(info),
                "calibration": calibration.to_json(),
                "calibration_optimistic": self.config.folds == 1,
                "operating_points": {name: to_plain(point) for name, point in points.items()},
                "stages": [to_mapping(history.stages) for history in histories],
                "seconds": {
                    "prefix": round(sum(history.prefix_s for history in histories), 2),
                    "training": round(sum(history.training_s for history in histories), 2),
                },
                "films_fitted": len(films),
                "data_path": to_mapping(self.data_path),
                "device": device_in_words(self.device),
                "frozen_outputs": self.prefixes.kept_in(prefix_precision(self.device)),
                "environment": environment(),
            },
        )


def predictions_of(
    films: Manifest,
    findings: Findings,
    logits: Scores,
    probs: Scores,
    targets: Scores,
    uncertainty: Mapping[str, Array] | None = None,
) -> Predictions:
    """Predictions for the films of a manifest, in its order."""
    return Predictions(
        findings=findings,
        film_ids=tuple(films.strings("film_id")),
        patient_ids=tuple(films.strings("patient_id")),
        logits=np.asarray(logits, dtype=np.float64),
        probs=np.asarray(probs, dtype=np.float64),
        targets=targets,
        groups=films.groups(),
        uncertainty={name: np.asarray(values, dtype=np.float64) for name, values in (uncertainty or {}).items()},
    )


def _normalisation(recipe: Recipe, tiles: Stack) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Mean and standard deviation of the fit part's tiles, or None for what the weights expect.

    All folds share one normalisation, since they share the layers behind it; no label enters it.
    """
    if recipe.normalisation == "weights":
        return None, None
    counts = grey_counts(tiles)
    histogram = counts / counts.sum()
    grey = np.arange(256) / 255
    mean = float(histogram @ grey)
    return (mean,), (float(np.sqrt(histogram @ (grey - mean) ** 2)),)


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))
