"""Transfer learning of one member: its stages in order, each on cached or live inputs, resumable at any moment."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hilum.arrays import Indices, Scores
from hilum.config import fingerprint
from hilum.errors import ConfigError, TrainingError
from hilum.files import write_text
from hilum.models.classifier import Classifier
from hilum.progress import Progress, Silent
from hilum.provenance import sha256_bytes
from hilum.training.allocator import keep_freed_memory
from hilum.training.augmentation import Augmentation
from hilum.training.bf16 import Wanted, prefix_precision
from hilum.training.blocks import rate_shares
from hilum.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from hilum.training.diagnosing import Divergence
from hilum.training.engine import Inputs, Loop, run
from hilum.training.films import Films, Stack
from hilum.training.frozen import tensors_fingerprint
from hilum.training.history import History, StageSummary
from hilum.training.live import LiveInputs
from hilum.training.losses import LossConfig, build_loss
from hilum.training.lr_finder import Sweep, SweepConfig, SweepingOptimiser, sweep_rates
from hilum.training.optimisers import Optimiser
from hilum.training.position import Position, Tally
from hilum.training.precision import check_precision
from hilum.training.prefix_cache import PrefixCache
from hilum.training.ranks import ALONE, Ranks
from hilum.training.reproducible import reproducible
from hilum.training.sampling import RepeatedInputs, Sampling, balanced_order, oversampled
from hilum.training.stages import Stage, stage_cut
from hilum.training.trained_part import TrainedPart, copy_tensors, put_tensors, trained_names


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingData:
    """Films, their targets, and which are fitted and which are watched for early stopping.

    Attributes:
        tiles: uint8 [n, h, w] or [n, c, h, w], preprocessed; in memory, or streamed from a store of rows.
        film_ids: n names.
        targets: one-hot [n, k]; rows of NaN where the label is unknown (such films are left out).
        fit: rows to fit.
        watch: rows to watch; may be empty.

    Raises:
        TrainingError: lengths that disagree, rows both fitted and watched, or no film to fit whose label is known.
    """

    tiles: Stack
    film_ids: tuple[str, ...]
    targets: Scores
    fit: Indices
    watch: Indices

    def __post_init__(self) -> None:
        if len(self.targets) != len(self.tiles):
            raise TrainingError(f"{len(self.tiles)} films have {len(self.targets)} rows of targets. Give one a film.")
        both = np.intersect1d(self.fit, self.watch)
        if len(both):
            raise TrainingError(f"{len(both)} films are both fitted and watched (first: row {both[0]}). Split them.")
        if not len(self.known(self.fit)):
            raise TrainingError(f"None of the {len(self.fit)} films to fit has a known label. Add labelled films.")

    def known(self, rows: Indices) -> Indices:
        """Those of the rows whose label is known."""
        rows = np.asarray(rows, dtype=np.int64)
        known: Indices = rows[~np.isnan(self.targets[rows]).any(axis=1)]
        return known


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """What all stages of a training share."""

    loss: LossConfig = field(default_factory=LossConfig)
    """The loss and the class weights."""

    sampling: Sampling = "natural"
    """How films are drawn. Where it makes classes alike, watched films are weighed so that theirs are too."""

    augmentation: Augmentation = field(default_factory=Augmentation)
    """How far augmented views stray from the film."""

    frozen_precision: Wanted = "auto"
    """What layers before a stage's cut are computed in, cached or live (:mod:`hilum.training.bf16`)."""

    view_seed: int = 0
    """Seed of the views; folds that keep it share the prefix cache."""

    checkpoint_every_s: float = 10.0
    """Least seconds between checkpoints inside a stage; the most that a killed training repeats."""

    divergence: Divergence | None = field(default_factory=Divergence)
    """When a loss that is finite but explodes stops the training; None: never."""


def train_member(
    classifier: Classifier,
    data: TrainingData,
    stages: Sequence[Stage],
    config: TrainingConfig,
    *,
    folder: Path,
    cache: PrefixCache | None,
    seed: int,
    progress: Progress | None = None,
    called: str = "",
    watch: Callable[[Mapping[str, Any]], None] | None = None,
    ranks: Ranks = ALONE,
) -> History:
    """Train a classifier through its stages; afterwards it holds the weights with the lowest watched loss.

    A stage runs on the prefix cache when it freezes layers and its views are fixed; else live. ``folder`` gets
    ``metrics.jsonl`` and ``checkpoint.safetensors``; the same call on the same folder goes on from there and ends, on
    the CPU, in the same bits as if it had never stopped. A finished training is not repeated.

    Args:
        classifier: with its starting weights; trained in place, left in evaluation mode.
        data: films, targets, and which are fitted and watched.
        stages: one or more, with distinct names.
        config: what they share.
        folder: of this member.
        cache: of frozen outputs; None runs every stage live.
        seed: of order and dropout.
        progress: one bar a stage.
        called: what the bars begin with, such as ``member 2 of 5``.
        watch: called with each epoch's row of metrics, in the first process.
        ranks: which share of the work is this process's, when several train together on one folder.

    Raises:
        ConfigError: no stage, or two of one name.
        UsageError: a stage's layer that the network lacks, or a precision that the device lacks.
        TrainingError: a class without a film, a loss that is not finite or diverges, no room for the cache or in
            memory, another process that is gone.
        RunError: the folder's checkpoint is damaged or belongs to another training.
    """
    names = [stage.name for stage in stages]
    if not names or len(set(names)) != len(names):
        raise ConfigError([f"Stages must have distinct names and there must be one at least, but they are {names}."])
    with reproducible(next(classifier.parameters()).device):
        member = _Member(classifier, data, stages, config, Path(folder), cache, seed, watch, ranks, called)
        for stage in stages:
            ranks.check(stage, len(member.fit))
        member.resume()
        while member.stage < len(stages):
            member.train_stage(progress or Silent())
    classifier.eval()
    return History(rows=tuple(member.rows), stages=tuple(member.summaries))


def sweep_stage(
    classifier: Classifier,
    data: TrainingData,
    stage: Stage,
    config: TrainingConfig,
    sweep: SweepConfig,
    *,
    cache: PrefixCache | None,
    seed: int,
    progress: Progress | None = None,
) -> Sweep:
    """Try learning rates for a stage from the classifier's weights on; afterwards they are as they were.

    Args:
        classifier: with the weights that the stage would start from.
        data: films, targets, and which are fitted; none is watched.
        stage: its own learning rate is not used.
        config: what stages share.
        sweep: which rates.
        cache: of frozen outputs; None runs the stage live.
        seed: of order and dropout.
        progress: one bar.

    Raises:
        UsageError: a layer that the network lacks, or a precision that the device lacks.
        TrainingError: a class without a film, a loss that is not finite from the start, no room for the cache.
    """
    with reproducible(next(classifier.parameters()).device):
        member = _Member(classifier, data, (stage,), config, Path(), cache, seed)
        return member.sweep(sweep, progress or Silent())


class _Member:
    """A training under way: what it was given, and how far it is."""

    def __init__(
        self,
        classifier: Classifier,
        data: TrainingData,
        stages: Sequence[Stage],
        config: TrainingConfig,
        folder: Path,
        cache: PrefixCache | None,
        seed: int,
        watcher: Callable[[Mapping[str, Any]], None] | None = None,
        ranks: Ranks = ALONE,
        called: str = "",
    ) -> None:
        keep_freed_memory()
        encoder = classifier.encoder
        self.classifier, self.stages, self.config = classifier, tuple(stages), config
        self.folder, self.cache, self.seed = folder, cache, seed
        self.watcher, self.ranks, self.called = watcher, ranks, called
        self.cuts = [stage_cut(stage, encoder) for stage in stages]
        self.films = Films(data.tiles, data.film_ids)
        self.fit, self.watch = data.known(data.fit), data.known(data.watch)
        self.device = next(classifier.parameters()).device
        self.frozen = prefix_precision(self.device, config.frozen_precision)
        self.computed = [check_precision(stage.precision, self.device) for stage in stages]
        self.targets = torch.tensor(np.ascontiguousarray(data.targets), dtype=torch.float32, device=self.device)
        self.classes = data.targets[self.fit].argmax(axis=1)
        self.loss = build_loss(config.loss, data.targets[self.fit], classifier.config.findings).to(self.device)
        alike = replace(config.loss, class_weights="balanced")
        self.watch_loss = (
            None
            if config.sampling == "natural"
            else build_loss(alike, data.targets[self.fit], classifier.config.findings).to(self.device)
        )
        self.fingerprint = self._fingerprint(data)
        self.stage = 0
        self.position = Position()
        self.rows: list[Mapping[str, Any]] = []
        self.summaries: list[StageSummary] = []
        self.optimiser_state: Mapping[str, torch.Tensor] = {}
        self.prefix_s = 0.0
        self.saved_at = time.monotonic()

    def _fingerprint(self, data: TrainingData) -> str:
        """Of all that decides the result; how often checkpoints are written does not."""
        return fingerprint(
            {
                "stages": self.stages,
                "loss": self.config.loss,
                "sampling": self.config.sampling,
                "augmentation": self.config.augmentation,
                "view_seed": self.config.view_seed,
                "seed": self.seed,
                "store": self.cache.kept_in(self.frozen) if self.cache else f"live, {self.frozen}",
                "weights": tensors_fingerprint(self.classifier.state_dict()),
                "fit": self.films.summary(self.fit),
                "watch": self.films.summary(self.watch),
                "targets": sha256_bytes(np.ascontiguousarray(data.targets, dtype=np.float64).tobytes()),
            }
        )

    def resume(self) -> None:
        """Go to where the folder's checkpoint is, if there is one; metrics start with the rows it knows."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.ranks.first:
            for unfinished in self.folder.glob(".*.part*"):  # of a process that was killed while writing
                unfinished.unlink()
        saved = load_checkpoint(self._checkpoint, self.fingerprint)
        if saved:
            self._restore(saved)
        # Behind this line the first process may write a new checkpoint.
        self.ranks.agree("films, weights and checkpoint", f"{self.fingerprint} {saved and saved.facts}")
        if not self.ranks.first:
            return
        known = [*self.rows, *self.position.rows]
        write_text(self._metrics, "".join(json.dumps(row, allow_nan=False) + "\n" for row in known))

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    @property
    def _metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    def train_stage(self, progress: Progress) -> None:
        """Train the current stage from its position to its end."""
        stage, cut = self.stages[self.stage], self.cuts[self.stage]
        with self._inputs(stage, cut, progress) as inputs:
            part = TrainedPart(self.classifier, cut, batch_norm_trains=stage.batch_norm == "train")
            try:
                self._run(stage, part, inputs, progress)
            finally:
                part.release()
        self._close_stage(stage, cut)

    def sweep(self, config: SweepConfig, progress: Progress) -> Sweep:
        """Try learning rates for the current stage; weights stay as they are."""
        stage, cut = self.stages[self.stage], self.cuts[self.stage]
        with self._inputs(stage, cut, progress) as inputs:
            part = TrainedPart(self.classifier, cut, batch_norm_trains=stage.batch_norm == "train")
            trained = part.trained_parameters()
            try:
                shares = rate_shares(self.classifier.encoder, trained, stage.layer_decay)
                optimiser = SweepingOptimiser(stage, trained, shares, rates=config.rates())
                return sweep_rates(self._loop(stage, part, inputs, optimiser), optimiser, progress)
            finally:
                part.release()

    def _run(self, stage: Stage, part: TrainedPart, inputs: Inputs, progress: Progress) -> None:
        trained = part.trained_parameters()
        optimiser = Optimiser(stage, trained, rate_shares(self.classifier.encoder, trained, stage.layer_decay))
        if self.optimiser_state:
            optimiser.restore(self.optimiser_state)
        loop = self._loop(stage, part, inputs, optimiser)

        def between() -> None:
            if time.monotonic() - self.saved_at >= self.config.checkpoint_every_s:
                self._save(optimiser.tensors())

        computed = self.computed[self.stage]
        what = f"{self.called}{self.called and ', '}stage {stage.name}{computed and f' ({computed})'}"
        with progress.bar(what, stage.epochs) as bar:
            bar.advance(self.position.epoch)
            run(loop, self.position, between=between, report=self._report, bar=bar)

    def _loop(self, stage: Stage, part: TrainedPart, inputs: Inputs, optimiser: Optimiser) -> Loop:
        """The stage's loop, with films drawn as the config says."""
        loop = Loop(
            stage=stage,
            part=part,
            inputs=inputs,
            targets=self.targets,
            fit=self.fit,
            watch=self.watch,
            loss=self.loss,
            watch_loss=self.watch_loss,
            optimiser=optimiser,
            seed=self.seed,
            divergence=self.config.divergence,
            ranks=self.ranks,
        )
        if self.config.sampling == "balanced":
            return replace(loop, draw=partial(balanced_order, self.fit, self.classes))
        if self.config.sampling == "oversampled":
            films = len(self.films)
            rows = oversampled(self.fit, self.classes, films)
            repeats = int(rows.max()) // films + 1
            inputs = RepeatedInputs(inputs=inputs, stage=stage, films=films)
            return replace(loop, fit=rows, inputs=inputs, targets=self.targets.repeat(repeats, 1))
        return loop

    @contextlib.contextmanager
    def _inputs(self, stage: Stage, cut: int, progress: Progress) -> Iterator[Inputs]:
        """Cached when the stage allows it, else live."""
        augmentation, seed = self.config.augmentation, self.config.view_seed
        started = time.perf_counter()
        if not self._cached(stage, cut) or self.cache is None or stage.views is None:
            self.classifier.eval()
            live = LiveInputs(
                classifier=self.classifier,
                cut=cut,
                films=self.films,
                augmentation=augmentation,
                seed=seed,
                precision=self.frozen,
            )
            with contextlib.closing(live):
                yield live
            return
        wanted = {0: np.concatenate([self.fit, self.watch])} | dict.fromkeys(range(1, stage.views + 1), self.fit)
        with self.cache.open(
            self.classifier,
            cut,
            self.films,
            wanted,
            also=self._later_cuts(cut),
            augmentation=augmentation,
            seed=seed,
            precision=self.frozen,
            progress=progress,
        ) as outputs:
            self.prefix_s += time.perf_counter() - started
            yield outputs

    def _later_cuts(self, cut: int) -> list[int]:
        """Cuts of later stages that lie before this one: what is before them stays frozen until then."""
        later = []
        for stage, other in list(zip(self.stages, self.cuts, strict=True))[self.stage + 1 :]:
            cut = min(cut, other)
            if other == cut and self._cached(stage, other):
                later.append(other)
        return later

    def _cached(self, stage: Stage, cut: int) -> bool:
        return self.cache is not None and cut > 0 and stage.views is not None

    def _report(self, row: Mapping[str, Any]) -> None:
        if not self.ranks.first:
            return
        with open(self._metrics, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(row, allow_nan=False) + "\n")
        if self.watcher is not None:
            self.watcher({**row, "step": len(self.rows) + len(self.position.rows)})

    def _close_stage(self, stage: Stage, cut: int) -> None:
        at = self.position
        self.summaries.append(
            StageSummary(
                name=stage.name,
                frozen_layers=cut,
                cached=self._cached(stage, cut),
                epochs=at.epoch,
                best_epoch=None if at.best_epoch is None else at.best_epoch + 1,
                best_loss=at.best_loss,
                prefix_s=self.prefix_s,
                training_s=sum(row["seconds"] for row in at.rows),
            )
        )
        self.rows += at.rows
        self.stage, self.position, self.prefix_s, self.optimiser_state = self.stage + 1, Position(), 0.0, {}
        self._save({})

    def _save(self, optimiser_state: Mapping[str, torch.Tensor]) -> None:
        """Write a checkpoint of this very moment, in the first process."""
        if not self.ranks.first:
            return
        reached = trained_names(self.classifier, min(self.cuts[: self.stage + 1]))
        groups = {
            "model": copy_tensors(self.classifier, reached),
            "best": self.position.best,
            "optimiser": optimiser_state,
        }
        facts = {
            "fingerprint": self.fingerprint,
            "stage": self.stage,
            "position": {key: value for key, value in asdict(self.position).items() if key != "best"},
            "rows": self.rows,
            "summaries": [asdict(summary) for summary in self.summaries],
            "prefix_s": self.prefix_s,
        }
        save_checkpoint(self._checkpoint, groups, facts)
        self.saved_at = time.monotonic()

    def _restore(self, saved: Checkpoint) -> None:
        facts, position = saved.facts, saved.facts["position"]
        put_tensors(self.classifier, saved.group("model"))
        self.stage, self.rows, self.prefix_s = facts["stage"], list(facts["rows"]), facts["prefix_s"]
        self.summaries = [StageSummary(**summary) for summary in facts["summaries"]]
        self.position = Position(**{**position, "fitted": Tally(**position["fitted"])}, best=saved.group("best"))
        self.optimiser_state = saved.group("optimiser")
