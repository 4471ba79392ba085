"""What the two studies of transfer learning share: a task, where its networks start, and a training that keeps books.

Every training runs through :func:`hilum.training.transfer.train_member`. Its frozen layers are run once in
:meth:`Trainee.prepare`, into a cache of its own, so that each training pays in full for what it uses; what it then
costs is read off: seconds of the wall clock, and multiply-accumulates by :mod:`hilum.training.arithmetic`.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hilum.arrays import Array, Indices, Scores
from hilum.models.classifier import NEUTRAL_MEAN, NEUTRAL_STD, Classifier, ClassifierConfig
from hilum.models.encoders import Encoder, build_encoder
from hilum.models.heads import Head, build_head
from hilum.models.weights.registry import WeightsInfo
from hilum.progress import Progress, Silent
from hilum.randomness import stream
from hilum.training.arithmetic import part_macs
from hilum.training.augmentation import Augmentation
from hilum.training.films import Films
from hilum.training.losses import LossConfig
from hilum.training.prediction import predict_from_cache, predict_logits
from hilum.training.prefix_cache import PrefixCache
from hilum.training.stages import Stage, cut_of
from hilum.training.transfer import TrainingConfig, TrainingData, train_member

WATCHED_SHARE = 0.2
"""Share of the labels of each class that are watched instead of fitted, where a training is watched."""

HIDDEN, DROPOUT = 256, 0.5
"""The head's hidden layer, in every training of both studies."""

PHOTO_VIEWS = Augmentation(
    rotation_degrees=15,
    shift=0.08,
    scale=0.15,
    elastic=0,
    contrast=0.2,
    brightness=0.1,
    gamma=0,
    noise=0,
    horizontal_flip=True,
)
"""Our augmentation of photographs."""

NO_VIEWS = Augmentation(rotation_degrees=0, shift=0, scale=0, elastic=0, contrast=0, brightness=0, gamma=0, noise=0)
"""No augmentation at all."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """Images to tell apart, those to train on first.

    Attributes:
        films: all images, with names.
        labels: int64 [n].
        classes: names, in the order of their numbers.
        train: how many of the first are there to train on; the others are the test.
        augmentation: of views beside the clean image.
    """

    films: Films
    labels: Indices
    classes: tuple[str, ...]
    train: int
    augmentation: Augmentation

    @classmethod
    def of(
        cls,
        train: tuple[Array, Indices],
        test: tuple[Array, Indices],
        classes: tuple[str, ...],
        augmentation: Augmentation,
    ) -> "Task":
        """A task from two parts, each images uint8 [n, c, h, w] and labels."""
        images = np.concatenate([np.asarray(train[0]), np.asarray(test[0])])
        names = tuple(f"image-{i}" for i in range(len(images)))
        labels = np.concatenate([train[1], test[1]]).astype(np.int64)
        return cls(
            films=Films(images, names), labels=labels, classes=classes, train=len(train[1]), augmentation=augmentation
        )

    @property
    def channels(self) -> int:
        """1 grey, 3 colour."""
        return self.films.shape[0]

    @property
    def size(self) -> int:
        """Pixels a side."""
        return self.films.shape[1]

    @property
    def test(self) -> Indices:
        """Rows of the test images."""
        return np.arange(self.train, len(self.labels))

    @property
    def smallest_class(self) -> int:
        """Images to train on of the class that has fewest."""
        return int(np.bincount(self.labels[: self.train], minlength=len(self.classes)).min())

    def with_augmentation(self, augmentation: Augmentation) -> "Task":
        """The same images with other views."""
        return replace(self, augmentation=augmentation)

    def choose(self, per_class: int | None, seed: int, *, watched: bool) -> tuple[Indices, Indices]:
        """Labels for one training, drawn by lot; fewer a class lie inside more of the same seed.

        Args:
            per_class: labels of each class, or all of them for None.
            seed: of the choice.
            watched: whether a share of them is watched instead of fitted.

        Returns:
            rows to fit, and rows to watch (empty when not watched).
        """
        fit, watch = [], []
        for number in range(len(self.classes)):
            members = np.flatnonzero(self.labels[: self.train] == number)
            rows = stream(seed, "labels", number).permutation(members)[:per_class]
            held = max(1, round(WATCHED_SHARE * len(rows))) if watched else 0
            watch.append(rows[:held])
            fit.append(rows[held:])
        return np.sort(np.concatenate(fit)), np.sort(np.concatenate(watch))

    def right(self, rows: Indices, logits: Scores) -> float:
        """Share of rows whose largest logit is that of their class."""
        return float((logits.argmax(1) == self.labels[rows]).mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where trainings start: an encoder that each of them gets a copy of.

    Attributes:
        encoder: with its starting weights.
        info: where they came from.
    """

    encoder: Encoder
    info: WeightsInfo

    @classmethod
    def random(cls, name: str, seed: int) -> "Start":
        """A network of the zoo with random weights."""
        return cls(encoder=build_encoder(name, seed), info=WeightsInfo(name="none", backbone=name))

    def classifier(self, task: Task, seed: int, head: Head | None = None) -> Classifier:
        """A copy of the encoder behind a new head with random weights.

        Args:
            task: what it tells apart.
            seed: of the head's weights.
            head: the head; our usual one when None.

        Raises:
            ConfigError: the network doesn't take such images.
        """
        config = ClassifierConfig(
            backbone=self.encoder.name,
            findings=task.classes,
            image_channels=task.channels,
            size=task.size,
            hidden=HIDDEN,
            dropout=DROPOUT,
            mean=self.info.mean or (NEUTRAL_MEAN,),
            std=self.info.std or (NEUTRAL_STD,),
        )
        head = head or build_head(self.encoder.channels, HIDDEN, len(task.classes), DROPOUT, seed)
        return Classifier(config, copy.deepcopy(self.encoder), head)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What one stage of a training did."""

    name: str
    """Name of the stage."""
    rows: tuple[dict[str, Any], ...]
    """One row an epoch, as the engine gives them."""
    training_s: float
    """Seconds in epochs, scoring of watched images included."""
    macs: int
    """Multiply-accumulates of its training passes."""
    best_epoch: int | None
    """The epoch, from 1, whose weights were kept; None for the last."""


class Trainee:
    """One classifier on one choice of labels: its frozen layers are run once, then it is trained stage by stage.

    Args:
        task: images and labels.
        classifier: trained in place.
        fit: rows to fit.
        watch: rows to watch; may be empty, and then the last weights of a stage stay.
        seed: of order and dropout, and of views.
        folder: of its own, for the cache and checkpoints.
        cache: outputs of frozen layers, when several trainings share them; one of its own when None.
        view_seed: seed of views, when it is another.
        device: where it is computed.
        progress: where progress goes.
    """

    def __init__(
        self,
        task: Task,
        classifier: Classifier,
        fit: Indices,
        watch: Indices,
        *,
        seed: int,
        folder: Path,
        cache: PrefixCache | None = None,
        view_seed: int | None = None,
        device: torch.device | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.task, self.fit, self.watch, self.seed, self.folder = task, fit, watch, seed, folder
        self.classifier = classifier.to(device or torch.device("cpu"))
        self.cache = cache or PrefixCache(folder / "prefix")
        self.view_seed = seed if view_seed is None else view_seed
        self.progress = progress or Silent()
        self.prefix_s, self.prefix_macs, self.trainings = 0.0, 0, 0

    def prepare(self, views: int, cuts: Sequence[int] = (), *, standardise: bool = True) -> None:
        """Run the frozen layers once on every view of every image, and standardise the features that the head takes.

        Args:
            views: augmented views beside the clean one.
            cuts: numbers of layers that later stages freeze, beside all of them.
            standardise: whether the head's features come to mean 0 and spread 1.
        """
        started = time.perf_counter()
        layers = len(self.classifier.encoder.layers)
        wanted = {0: np.concatenate([self.fit, self.watch])} | dict.fromkeys(range(1, views + 1), self.fit)
        with self.cache.open(
            self.classifier,
            layers,
            self.task.films,
            wanted,
            also=[cut for cut in cuts if 0 < cut < layers],
            augmentation=self.task.augmentation,
            seed=self.view_seed,
            progress=self.progress,
        ) as outputs:
            pooled = outputs(torch.from_numpy(self.fit).to(next(self.classifier.parameters()).device), 0).double()
        if standardise:
            self.classifier.head.standardise(pooled.mean(0).float(), pooled.std(0, correction=0).float())
        frozen = part_macs(self.classifier.config.backbone, self.task.size, layers, self.classifier.head).frozen
        self.prefix_s = time.perf_counter() - started
        self.prefix_macs = frozen * len(self.fit) * (1 + views)

    def cut(self, stage: Stage) -> int:
        """Number of layers that a stage freezes."""
        encoder = self.classifier.encoder
        return cut_of(stage.trainable_from, encoder.layers, encoder.last_block)

    def train(self, stage: Stage) -> Phase:
        """Train through one stage; what it freezes comes from the cache when :meth:`prepare` was told of it."""
        self.trainings += 1
        data = TrainingData(
            tiles=self.task.films.tiles,
            film_ids=self.task.films.film_ids,
            targets=np.eye(len(self.task.classes))[self.task.labels],
            fit=self.fit,
            watch=self.watch,
        )
        config = TrainingConfig(
            loss=LossConfig(), augmentation=self.task.augmentation, view_seed=self.view_seed, checkpoint_every_s=1e9
        )
        history = train_member(
            self.classifier,
            data,
            (stage,),
            config,
            folder=self.folder / f"{self.trainings}",
            cache=self.cache,
            seed=self.seed,
            progress=self.progress,
        )
        summary = history.stages[0]
        parts = part_macs(self.classifier.config.backbone, self.task.size, self.cut(stage), self.classifier.head)
        passes = len(self.fit) * summary.epochs
        return Phase(
            name=stage.name,
            rows=tuple(dict(row) for row in history.rows),
            training_s=summary.training_s,
            macs=parts.training(passes, 0 if summary.cached else passes),
            best_epoch=summary.best_epoch,
        )

    def logits(self, rows: Indices, stage: Stage, cache: PrefixCache | None = None) -> Scores:
        """Logits of clean images, from the cached outputs of the layers that a stage leaves frozen.

        Args:
            rows: the images.
            stage: the last stage that was trained.
            cache: where outputs of frozen layers are kept; this training's own when None.
        """
        cut = self.cut(stage)
        if not cut:
            return predict_logits(self.classifier, self.task.films.tiles[rows], batch_size=64, progress=self.progress)
        return predict_from_cache(self.classifier, self.task.films, rows, cut=cut, cache=cache or self.cache)

    def weights(self) -> dict[str, torch.Tensor]:
        """Copies of all weights, to come back to."""
        return {name: value.detach().clone() for name, value in self.classifier.state_dict().items()}

    def restore(self, weights: dict[str, torch.Tensor]) -> None:
        """Go back to the copied weights."""
        self.classifier.load_state_dict(weights)
