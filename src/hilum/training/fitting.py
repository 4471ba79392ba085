"""Fit a whole network to images in memory: the engine's loop for the lab's studies, with nothing frozen or cached.

Images stay uint8 on the device; a batch is an index, augmentation is one tensor operation, and the order, the dropout
masks and the augmentation of a batch are functions of (seed, epoch, batch). So the same seed gives the same numbers on
the CPU.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor, nn

from hilum.arrays import Array, Indices
from hilum.errors import TrainingError
from hilum.progress import Progress, Silent
from hilum.randomness import seed_for, stream
from hilum.training.allocator import keep_freed_memory
from hilum.training.engine import Answer, Cost, Loop, run, score
from hilum.training.losses import LossConfig, build_loss
from hilum.training.optimisers import Optimiser
from hilum.training.photo_augmentation import PhotoAugmentation, augment
from hilum.training.position import Position
from hilum.training.precision import Precision, check_precision
from hilum.training.reproducible import reproducible
from hilum.training.stages import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """How a network is fitted; a :class:`Stage` without a frozen part, and what the images go through."""

    epochs: int = 5
    """Passes over the images."""
    lr: float = 1e-3
    """Highest learning rate."""
    batch_size: int = 64
    """Most images in a batch."""
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    """SGD has Nesterov momentum 0.9."""
    weight_decay: float = 0.0
    """L2 penalty (decoupled for ``adamw``)."""
    schedule: Literal["constant", "cosine", "one-cycle", "plateau"] = "constant"
    """See :class:`Stage`."""
    warmup_share: float = 0.0
    """Share of the steps in which the rate first rises in a straight line; see :class:`Stage`."""
    clip_norm: float | None = None
    """Largest norm of all gradients together; None: as they are."""
    precision: Precision = "fp32"
    """What products are computed in; see :class:`Stage`."""
    label_smoothing: float = 0.0
    """Share of the target spread evenly over the classes."""
    augmentation: PhotoAugmentation | None = None
    """Fresh changes of every batch from the second epoch on (an epoch's view 0 is the clean image); None for none."""
    mean: tuple[float, ...] | None = None
    """Mean of each channel that intensities in 0 … 1 are normalised with; None: that of the fitted images."""
    std: tuple[float, ...] | None = None
    """Standard deviation of each channel; None: that of the fitted images."""
    keep: Literal["best", "last"] = "last"
    """Which weights stay: the last, or those with the lowest loss on the watched images."""
    patience: int | None = None
    """Epochs without a lower watched loss before it stops; None: all epochs are run."""
    probe: int = 0
    """Fitted images that are scored as they are after each epoch, for an honest training accuracy."""

    def stage(self) -> Stage:
        """The same as a stage of the engine, which checks the values.

        Raises:
            ConfigError: values out of range.
        """
        return Stage(
            name="fit",
            trainable_from="all",
            lr=self.lr,
            epochs=self.epochs,
            patience=self.patience or max(1, self.epochs),
            batch_size=self.batch_size,
            batch_norm="train",
            views=None,
            optimiser=self.optimiser,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            warmup_share=self.warmup_share,
            clip_norm=self.clip_norm,
            precision=self.precision,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Examples:
    """Images and labels, and which of them are fitted and which watched.

    Attributes:
        images: uint8 [n, c, h, w].
        labels: int64 [n], 0 … classes − 1.
        fit: rows to fit.
        watch: rows to score after each epoch; may be empty.
        classes: number of classes.

    Raises:
        TrainingError: lengths that disagree, labels out of range, or no row to fit.
    """

    images: Array
    labels: Array
    fit: Indices
    watch: Indices
    classes: int

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise TrainingError(
                f"Images to fit must be uint8 [n, c, h, w], but are {self.images.dtype} {list(self.images.shape)}."
            )
        if len(self.labels) != len(self.images):
            raise TrainingError(f"{len(self.images)} images have {len(self.labels)} labels. Give one an image.")
        if not len(self.fit):
            raise TrainingError("There is no image to fit. Give some.")
        if self.labels.min() < 0 or self.labels.max() >= self.classes:
            raise TrainingError(
                f"Labels are {self.labels.min()} … {self.labels.max()}, but {self.classes} classes are 0 … "
                f"{self.classes - 1}."
            )

    @classmethod
    def of(
        cls,
        train: tuple[UInt8[np.ndarray, "n c h w"], Integer[np.ndarray, " n"]],
        watch: tuple[UInt8[np.ndarray, "m c h w"], Integer[np.ndarray, " m"]] | None = None,
        *,
        classes: int,
    ) -> "Examples":
        """Examples from a training and a watched set, each as (images, labels)."""
        parts = [train] if watch is None else [train, watch]
        count = len(train[0])
        images = np.concatenate([part[0] for part in parts])
        labels = np.concatenate([np.asarray(part[1], dtype=np.int64) for part in parts])
        return cls(
            images=images, labels=labels, fit=np.arange(count), watch=np.arange(count, len(images)), classes=classes
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What a fit left behind, beside the network's weights."""

    rows: tuple[dict[str, Any], ...]
    """One row an epoch: loss, accuracy (running, as augmented), watch_loss, watch_accuracy, probe_loss, probe_accuracy
    (None without), lr, fit_s, seconds."""
    mean: tuple[float, ...]
    """Mean that the images were normalised with."""
    std: tuple[float, ...]
    """Standard deviation that they were normalised with."""
    fit_s: float
    """Seconds of forward, backward and step passes, scoring aside."""


class WholeNetwork(nn.Module):
    """A whole network as what the engine trains.

    Args:
        network: images → logits [n, k]; one that gives a tuple in training mode has ``combine``, or a cost that knows
            the tuple.
        frozen: names of submodules that stay as they are, in evaluation mode.
        combine: turns what the network gives in training mode into logits, such as GoogLeNet's three outputs.
    """

    def __init__(
        self, network: nn.Module, frozen: Collection[str] = (), combine: Callable[[Any], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.network, self.combine = network, combine
        self.frozen = tuple(network.get_submodule(name) for name in frozen)
        for module in self.frozen:
            module.requires_grad_(False)

    def forward(self, inputs: Tensor) -> Answer:
        """Logits [n, k]; without ``combine`` whatever the network gives."""
        out = self.network(inputs)
        logits: Answer = self.combine(out) if self.combine is not None and not isinstance(out, Tensor) else out
        return logits

    def train(self, mode: bool = True) -> "WholeNetwork":
        """Training mode for all but the frozen modules."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def trained_parameters(self) -> dict[str, Tensor]:
        """Parameters that are trained, by name."""
        return {name: value for name, value in self.network.named_parameters() if value.requires_grad}

    def copy(self) -> dict[str, Tensor]:
        """Copies of all parameters and buffers."""
        return {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def put(self, tensors: dict[str, Tensor]) -> None:
        """Overwrite parameters and buffers."""
        self.network.load_state_dict(tensors)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageInputs:
    """Batches from images that lie on the device.

    Attributes:
        images: uint8 [n, c, h, w].
        mean: [1, c, 1, 1] of intensities in 0 … 1.
        scale: [1, c, 1, 1], one over the standard deviation.
        augmentation: of views beside 0.
        seed: of the augmentation.
    """

    images: Tensor
    mean: Tensor
    scale: Tensor
    augmentation: PhotoAugmentation | None
    seed: int
    _first: dict[int, tuple[Tensor, int]] = field(default_factory=dict, init=False, repr=False)

    def expect(self, batches: Sequence[Tensor], view: int) -> None:
        """Say which rows will be asked for: their first ones, by which views are drawn, then come in one transfer."""
        self._first.clear()
        if view and self.augmentation is not None and batches:
            firsts = torch.stack([rows[0] for rows in batches]).tolist()
            self._first.update({id(rows): (rows, first) for rows, first in zip(batches, firsts, strict=True)})

    def __call__(self, rows: Tensor, view: int) -> Tensor:
        """Normalised float images of these rows, changed for the view; view 0 is clean."""
        batch = self.images.index_select(0, rows).float().div_(255)
        if view and self.augmentation is not None:
            first = self._first[id(rows)][1] if id(rows) in self._first else int(rows[0])
            generator = torch.Generator().manual_seed(seed_for(self.seed, "augment", view, first))
            batch = augment(batch, self.augmentation, generator)
        batch = batch.sub_(self.mean).mul_(self.scale)
        return batch.contiguous(memory_format=torch.channels_last) if batch.shape[1] > 1 else batch


def fit_network(
    network: nn.Module,
    examples: Examples,
    config: FitConfig,
    *,
    seed: int,
    loss: Cost | None = None,
    frozen: Collection[str] = (),
    combine: Callable[[Any], Tensor] | None = None,
    device: torch.device | None = None,
    progress: Progress | None = None,
    name: str = "fit",
    each_epoch: Callable[[nn.Module, dict[str, Any]], None] | None = None,
    each_batch: Callable[[nn.Module, int, int], None] | None = None,
) -> Fitted:
    """Train a network in place; afterwards it is in evaluation mode, on the device.

    Args:
        network: normalised images [n, c, h, w] → logits [n, classes].
        examples: images, labels, and which are fitted and watched.
        config: how.
        seed: of order, dropout and augmentation (the network's weights are the caller's).
        loss: what is minimised; cross-entropy with the config's label smoothing when None. It is given what the
            network gives: logits, or in training mode its tuple, such as :class:`AuxiliaryLoss` takes.
        frozen: names of submodules that are not trained.
        combine: see :class:`WholeNetwork`.
        device: where it is computed; the CPU when None.
        progress: one bar.
        name: what the bar is called.
        each_epoch: called after each epoch with the network and the epoch's row, to which it may add.
        each_batch: called after each step with network, epoch and batch (from 0); gradients are still there.

    Raises:
        ConfigError: values out of range.
        UsageError: a precision that the device lacks.
        TrainingError: a loss that is not finite.
    """
    device = device or torch.device("cpu")
    keep_freed_memory()
    computed = check_precision(config.precision, device)
    # Grey images too: in torch's own order the first convolution's backward pass takes several times as long.
    network.to(device).to(memory_format=torch.channels_last)
    statistics = _statistics(examples, config)
    part = WholeNetwork(network, frozen, combine)
    loop = Loop(
        stage=config.stage(),
        part=part,
        inputs=_inputs(examples.images, *statistics, device, config.augmentation, seed),
        targets=_one_hot(examples).to(device),
        fit=examples.fit,
        watch=examples.watch,
        loss=loss or _cross_entropy(examples, config, device),
        optimiser=Optimiser(config.stage(), part.trained_parameters()),
        seed=seed,
        keep=config.keep,
        watch_batch=_scored_at_once(examples.images, device),
    )
    at, probe = Position(), _probe_rows(examples, config, seed)

    def report(row: dict[str, Any]) -> None:
        row["probe_loss"], row["probe_accuracy"] = score(replace(loop, watch=probe))
        if each_epoch is not None:
            each_epoch(network, row)

    def between() -> None:
        if each_batch is not None and at.batch:
            each_batch(network, at.epoch, at.batch - 1)

    with (
        reproducible(device),
        (progress or Silent()).bar(f"{name}{computed and f' ({computed})'}", config.epochs) as bar,
    ):
        run(loop, at, between=between, report=report, bar=bar)
    network.requires_grad_(True)
    mean, std = statistics
    return Fitted(rows=tuple(at.rows), mean=mean, std=std, fit_s=sum(row["fit_s"] for row in at.rows))


def _inputs(
    images: Array,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    device: torch.device,
    augmentation: PhotoAugmentation | None = None,
    seed: int = 0,
) -> ImageInputs:
    return ImageInputs(
        images=torch.from_numpy(images).to(device),
        mean=torch.tensor(mean, device=device).view(1, -1, 1, 1),
        scale=1 / torch.tensor(std, device=device).view(1, -1, 1, 1),
        augmentation=augmentation,
        seed=seed,
    )


def _scored_at_once(images: Array, device: torch.device) -> int:
    """Images that are scored at once: 256; on a GPU, which would wait between small batches, 2²⁰ pixels of them."""
    return max(256, 2**20 // (images.shape[2] * images.shape[3])) if device.type == "cuda" else 256


def _one_hot(examples: Examples) -> Tensor:
    return torch.eye(examples.classes)[torch.from_numpy(examples.labels)]


def _cross_entropy(examples: Examples, config: FitConfig, device: torch.device) -> Cost:
    settings = LossConfig(class_weights="none", label_smoothing=config.label_smoothing)
    return build_loss(settings, np.eye(examples.classes)[examples.labels[examples.fit]]).to(device)


def _statistics(examples: Examples, config: FitConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and spread of each channel: the config's, or those of (at most 5,000 of) the fitted images."""
    if config.mean is not None and config.std is not None:
        return config.mean, config.std
    some: Array = examples.images[examples.fit[:: max(1, len(examples.fit) // 5000)]].astype(np.float32) / 255
    mean, std = some.mean(axis=(0, 2, 3)), some.std(axis=(0, 2, 3)).clip(1e-3)
    return tuple(mean.tolist()), tuple(std.tolist())


def _probe_rows(examples: Examples, config: FitConfig, seed: int) -> Indices:
    count = min(config.probe, len(examples.fit))
    picked: Indices = np.sort(stream(seed, "probe").choice(examples.fit, count, replace=False))
    return picked


def predict_images(
    network: nn.Module,
    images: UInt8[np.ndarray, "n c h w"],
    fitted: Fitted,
    *,
    batch_size: int = 256,
) -> Float[np.ndarray, "n k"]:
    """Logits of images as they are, in evaluation mode, with the normalisation of the fit.

    Returns:
        float32 [n, k].
    """
    inputs = _inputs(images, fitted.mean, fitted.std, next(network.parameters()).device)
    # As in the fit: weights read back from a file answer to the last bit as those that stayed in memory.
    network.eval().to(memory_format=torch.channels_last)
    with torch.inference_mode():
        batches = torch.split(torch.arange(len(images), device=inputs.images.device), batch_size)
        parts = [network(inputs(rows, 0)).float().cpu() for rows in batches]
    logits: Array = torch.cat(parts).numpy()
    return logits


def seconds_of(call: Callable[[], object], *, repeats: int = 5, warm_up: int = 1) -> tuple[float, ...]:
    """Wall-clock seconds of each of several calls, after some that are not counted."""
    for _ in range(warm_up):
        call()
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return tuple(found)
