"""The trainings of the study: what is varied, how each network is trained, and what is kept of it."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from hilum.datasets.labelled_images import ImageSet
from hilum.errors import TrainingError
from hilum.models.anatomy import layer_rows
from hilum.models.initialisation import generator_from, initialise
from hilum.models.networks.alexnet import Activation, FourLayerNet, SmallAlexNet
from hilum.models.networks.vgg_small import STAGES, SmallVGG
from hilum.randomness import seed_for
from hilum.studies.bench import Bench
from hilum.training.fitting import Examples, FitConfig, Fitted, fit_network, predict_images
from hilum.training.photo_augmentation import PhotoAugmentation

ALEXNET_LR, VGG_LR, VGG_NORM_LR = 0.02, 0.03, 0.02
"""Highest learning rates of SGD with Nesterov momentum 0.9 and one cycle: AlexNet, VGG without and with BatchNorm.
Chosen among three or four on 500 held-out training images of CIFAR-10, one seed each."""

WEIGHT_DECAY = 5e-4
"""AlexNet's and VGG's own."""

BATCH, RACE_BATCH = 25, 50
"""Images in a batch, in all comparisons but the race and in the race."""

ACTIVATIONS: tuple[Activation, ...] = ("relu", "tanh")
"""What races."""

FAILED = 0.95
"""A network whose last epoch's loss is above this share of ln(classes), the loss of guessing, has not trained."""

FLIP = PhotoAugmentation(flip=True)
CROP = PhotoAugmentation(shift_pixels=4)
COLOUR = PhotoAugmentation(brightness=0.3, contrast=0.3, saturation=0.3)
EVERY = PhotoAugmentation(flip=True, shift_pixels=4, brightness=0.3, contrast=0.3, saturation=0.3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One training."""

    family: str
    """Which comparison it belongs to; trials of one family and seed begin with the same weights where they can."""
    name: str
    """What is varied, in words."""
    build: Callable[..., nn.Module]
    """Makes the network; takes ``num_classes``."""
    config: FitConfig
    """How it is trained."""
    repeat: int = 0
    """Number of its seed, from 0."""
    keep: bool = False
    """Whether its weights are needed afterwards."""


def config_of(lr: float, epochs: int, augmentation: PhotoAugmentation | None = None) -> FitConfig:
    """The one recipe of all comparisons but the race of ReLU and tanh."""
    return FitConfig(
        epochs=epochs,
        lr=lr,
        batch_size=BATCH,
        optimiser="sgd",
        weight_decay=WEIGHT_DECAY,
        schedule="one-cycle",
        augmentation=augmentation,
    )


def ablation_trials(epochs: int, seeds: int, width: float, size: int) -> list[Trial]:
    """AlexNet with one thing taken away or added at a time; the first is what the others are compared with."""
    plain = partial(SmallAlexNet, width=width, size=size)
    variants: tuple[tuple[str, Callable[..., nn.Module], PhotoAugmentation | None], ...] = (
        (BASE, plain, None),
        ("without response normalisation", partial(plain, response_norm=False), None),
        ("without dropout", partial(plain, dropout=0.0), None),
        ("with mirroring", plain, FLIP),
        ("with random crops (±4 px)", plain, CROP),
        ("with colour jitter (±30 %)", plain, COLOUR),
        ("with all three augmentations", plain, EVERY),
    )
    return [
        Trial(
            family="ablation",
            name=name,
            build=build,
            config=config_of(ALEXNET_LR, epochs, augmentation),
            repeat=repeat,
            keep=name == BASE and repeat == 0,
        )
        for repeat in range(seeds)
        for name, build, augmentation in variants
    ]


BASE = "ReLU, response normalisation, dropout, no augmentation"

PLAIN, NORMED, SMALL_START = "no BatchNorm", "BatchNorm", "no BatchNorm, one spread for all layers"


def depth_trials(
    depths: Sequence[int], epochs: int, seeds: int, *, width: float, size: int, small_start: Sequence[int]
) -> list[tuple[int, str, Trial]]:
    """VGG by depth, with and without BatchNorm, and some with one spread of initial weights for all layers.

    The spread is the 0.01 of AlexNet, over √width, so that a layer of few channels passes on as much as a full one.
    """
    spread = 0.01 / math.sqrt(width)
    found = []
    for repeat in range(seeds):
        for depth in depths:
            kinds: list[tuple[str, dict[str, Any], float]] = [
                (PLAIN, {}, VGG_LR),
                (NORMED, {"norm": True}, VGG_NORM_LR),
            ]
            if depth in small_start:
                kinds.append((SMALL_START, {"spread": spread}, VGG_LR))
            for kind, options, lr in kinds:
                trial = Trial(
                    family=f"vgg{depth}",
                    name=f"VGG{depth}, {kind}",
                    build=partial(SmallVGG, STAGES[depth], width=width, size=size, **options),
                    config=config_of(lr, epochs),
                    repeat=repeat,
                    keep=kind == NORMED and repeat == 0,
                )
                found.append((depth, kind, trial))
    return found


STACKS: tuple[tuple[str, int, int, bool], ...] = (
    ("two 3×3", 2, 3, True),
    ("one 5×5", 1, 5, True),
    ("two 3×3, no ReLU between", 2, 3, False),
    ("three 3×3", 3, 3, True),
    ("one 7×7", 1, 7, True),
)
"""What each of the five stages holds: words, convolutions, kernel, whether there is a ReLU behind each."""


def stack_trials(epochs: int, seeds: int, width: float, size: int) -> list[Trial]:
    """Stages of 3×3 stacks and of the single kernels that see as far, all with BatchNorm so that all of them train."""
    return [
        Trial(
            family="stacks",
            name=name,
            build=partial(
                SmallVGG, (count,) * 5, width=width, size=size, kernel=kernel, norm=True, inner_relu=inner_relu
            ),
            config=config_of(VGG_NORM_LR, epochs),
            repeat=repeat,
        )
        for repeat in range(seeds)
        for name, count, kernel, inner_relu in STACKS
    ]


def counts_of(build: Callable[..., nn.Module], size: int, classes: int) -> dict[str, int]:
    """Parameters and multiply-accumulates of a small network."""
    with torch.device("meta"):
        rows = layer_rows(build(num_classes=classes), (3, size, size))
    return {"parameters": sum(row.parameters for row in rows), "macs": sum(row.macs for row in rows)}


def train(bench: Bench, images: ImageSet, trial: Trial, probe: int) -> tuple[dict[str, Any], nn.Module]:
    """Train one network once, and score it on the test images.

    Args:
        bench: gives seed and device, and remembers what is done.
        images: training and test images.
        trial: what is trained and how.
        probe: training images that are scored after each epoch, as they are.

    Returns:
        what is kept of it (errors in per cent; None for one that diverged), and the network.
    """
    classes = len(images.classes)
    network = trial.build(num_classes=classes)
    initialise(network, generator_from(seed_for(bench.seed, "alexnet-vs-vgg", trial.family, trial.repeat)))
    config = replace(trial.config, probe=min(probe, len(images.train)))

    def compute() -> dict[str, Any]:
        examples = Examples.of((images.train.images, images.train.labels), classes=classes)
        try:
            fitted = fit_network(
                network,
                examples,
                config,
                seed=seed_for(bench.seed, "fit", trial.repeat),
                device=bench.device,
                progress=bench.progress,
                name=f"{trial.name}, seed {trial.repeat}",
            )
        except TrainingError as error:
            return _diverged(trial, str(error))
        return _kept(trial, network, images, fitted)

    settings = [trial.family, trial.name, trial.repeat, config, repr(network), images.fingerprint]
    values: dict[str, Any] = bench.once("fit", settings, compute, network=network if trial.keep else None)
    network.to(bench.device).eval()
    return values, network


def _kept(trial: Trial, network: nn.Module, images: ImageSet, fitted: Fitted) -> dict[str, Any]:
    right = int((predict_images(network, images.test.images, fitted).argmax(1) == images.test.labels).sum())
    losses = [row["loss"] for row in fitted.rows]
    return {
        "name": trial.name,
        "repeat": trial.repeat,
        "lr": trial.config.lr,
        "right": right,
        "test_error": 100 * (1 - right / len(images.test)),
        "train_errors": [100 * (1 - row["probe_accuracy"]) for row in fitted.rows],
        "losses": losses,
        "trained": losses[-1] < FAILED * math.log(len(images.classes)),
        "diverged": "",
        "mean": list(fitted.mean),
        "std": list(fitted.std),
        "fit_s": fitted.fit_s,
        "train_image_ms": 1000 * fitted.fit_s / (len(fitted.rows) * len(images.train)),
    }


def _diverged(trial: Trial, message: str) -> dict[str, Any]:
    return {
        "name": trial.name,
        "repeat": trial.repeat,
        "lr": trial.config.lr,
        "right": 0,
        "test_error": None,
        "train_errors": [],
        "losses": [],
        "trained": False,
        "diverged": message,
        "mean": [],
        "std": [],
        "fit_s": 0.0,
        "train_image_ms": 0.0,
    }


def epochs_to(errors: Sequence[float], target: float, start: float) -> float | None:
    """After how many epochs an error first falls to a target, between epochs on a straight line; None: never.

    Args:
        errors: per cent, after each epoch.
        target: per cent.
        start: per cent before the first epoch.
    """
    known = [start, *errors]
    for epoch, (before, after) in enumerate(itertools.pairwise(known)):
        if after <= target:
            return epoch + (before - target) / (before - after) if before > target else float(epoch)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """How ReLU and tanh race."""

    epochs: int
    """Most passes over the training images."""
    relu_rates: tuple[float, ...]
    """Learning rates that ReLU may choose from; constant while it trains."""
    tanh_rates: tuple[float, ...]
    """The same for tanh."""
    targets: tuple[float, ...]
    """Training errors in per cent, falling; the paper's is 25."""
    seeds: int
    """Seeds at the chosen rate; the first is the one that it was chosen with."""
    width: float
    """Of the four-layer net."""


def race(bench: Bench, images: ImageSet, settings: Race, probe: int) -> dict[str, Any]:
    """Epochs to a training error with ReLU and with tanh, each at its own best rate, nothing regularised (figure 1)."""
    start = 100 * (1 - 1 / len(images.classes))
    runs: list[dict[str, Any]] = []
    chosen: dict[str, float] = {}
    for activation in ACTIVATIONS:
        rates = settings.relu_rates if activation == "relu" else settings.tanh_rates
        tried = [_racer(bench, images, settings, activation, lr, 0, probe) for lr in rates]
        chosen[activation] = min(tried, key=lambda run: _rank(run, settings.targets, start))["lr"]
        more = range(1, settings.seeds)
        runs += tried + [
            _racer(bench, images, settings, activation, chosen[activation], repeat, probe) for repeat in more
        ]
    for run in runs:
        run["epochs_to"] = {str(t): epochs_to(run["train_errors"], t, start) for t in settings.targets}
    grids = {"relu": settings.relu_rates, "tanh": settings.tanh_rates}
    at_edge = [name for name, grid in grids.items() if len(grid) > 1 and chosen[name] in (min(grid), max(grid))]
    return {
        "runs": runs,
        "chosen": chosen,
        "rates": {name: list(grid) for name, grid in grids.items()},
        "chosen_at_edge": at_edge,
        "summary": _summary(runs, chosen, settings),
    }


def _racer(
    bench: Bench, images: ImageSet, settings: Race, activation: Activation, lr: float, repeat: int, probe: int
) -> dict[str, Any]:
    config = FitConfig(epochs=settings.epochs, lr=lr, batch_size=RACE_BATCH, optimiser="sgd", schedule="constant")
    trial = Trial(
        family="race",
        name=f"{activation}, rate {lr:g}",
        build=partial(FourLayerNet, width=settings.width, activation=activation),
        config=config,
        repeat=repeat,
    )
    return {**train(bench, images, trial, probe)[0], "activation": activation}


def _rank(run: dict[str, Any], targets: Sequence[float], start: float) -> tuple[float, ...]:
    """Fewest epochs to the hardest target, then to the easier ones, then the lowest error at the end."""
    reached = [epochs_to(run["train_errors"], target, start) for target in reversed(targets)]
    last = run["train_errors"][-1] if run["train_errors"] else math.inf
    return (*(math.inf if value is None else value for value in reached), last)


def _summary(runs: Sequence[dict[str, Any]], chosen: dict[str, float], settings: Race) -> list[dict[str, Any]]:
    """Each target with both activations' epochs at their own rates, and how many times longer tanh took."""
    rows = []
    for target in settings.targets:
        found = {
            activation: [
                run["epochs_to"][str(target)]
                for run in runs
                if run["activation"] == activation and run["lr"] == chosen[activation]
            ]
            for activation in ACTIVATIONS
        }
        pairs = [(r, t) for r, t in zip(found["relu"], found["tanh"], strict=True) if r and t]
        row: dict[str, Any] = {"training_error": target, "seeds": settings.seeds, "both_reached": len(pairs)}
        for activation, epochs in found.items():
            known = [value for value in epochs if value is not None]
            row[f"{activation}_rate"] = chosen[activation]
            row[f"{activation}_reached"] = len(known)
            row[f"{activation}_epochs"] = float(np.mean(known)) if known else None
        ratios = [t / r for r, t in pairs]
        row["tanh_over_relu"] = float(np.mean(ratios)) if ratios else None
        row["ratio_low"] = min(ratios) if ratios else None
        row["ratio_high"] = max(ratios) if ratios else None
        rows.append(row)
    return rows
