"""What the study of filters looks at: a network with the weights that can be had, or trained here; and a picture."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from hilum.arrays import Array
from hilum.config import to_mapping
from hilum.datasets.image_resizing import channels_stack
from hilum.datasets.labelled_images import ImageSet
from hilum.datasets.photo_decoding import decode_photo
from hilum.datasets.procedural import ProceduralConfig, procedural_ten
from hilum.errors import DataError
from hilum.explanation.filters import analyse, conv_filters, kind_counts
from hilum.models.anatomy import network_table
from hilum.models.encoders import Encoder, build_encoder
from hilum.models.initialisation import generator_from, initialise
from hilum.models.weights.registry import IMAGENET_MEAN, IMAGENET_STD
from hilum.models.zoo import architecture
from hilum.randomness import seed_for
from hilum.studies.bench import Bench, DataUsed
from hilum.training.fitting import Examples, FitConfig, fit_network
from hilum.training.photo_augmentation import PhotoAugmentation

PICTURE = 77
"""Number of the procedural image that is explained when no picture is given; its seed is 0, whatever the study's."""

FIRST_STD = 0.002
"""Standard deviation of AlexNet's first weights before training. Its paper has 0.01, and 90 passes over 1.2 million
images in batches of 128, some 840,000 steps; in the few hundred here such noise stays, and hides what is learned."""

TRAINING = FitConfig(
    lr=1e-3,
    batch_size=16,
    optimiser="adamw",
    weight_decay=0.3,
    schedule="one-cycle",
    augmentation=PhotoAugmentation(
        flip=True, shift_pixels=8, rotation_degrees=10, zoom=0.2, brightness=0.2, contrast=0.2, saturation=0.2
    ),
    probe=256,
)
"""How a network is trained when no weights are to be had; the epochs come from the scale."""

ROW = ("epoch", "probe_loss", "probe_accuracy", "watch_loss", "watch_accuracy", "specific", "spread", "lr", "fit_s")
"""What is kept of an epoch of training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingScale:
    """How long a network is trained where there are no weights for it."""

    side: int
    """Pixels a side of the images to train on."""
    images: int | None
    """Images to train on; None: all."""
    seen: int
    """Images that AlexNet sees in all, each pass counted; other networks see fewer when each costs more."""
    test: int | None = None
    """Images to test on; None: all."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """The network that is looked at."""

    name: str
    """Its name in the zoo."""
    label: str
    """Its name for people."""
    origin: Literal["trained", "loaded", "random"]
    """Trained here, loaded, or random because that was asked for."""
    words: str
    """Where its weights came from, such as ``trained here for 300 steps on Flowers``."""
    encoder: Encoder
    """It, in evaluation mode."""
    before: Encoder
    """The same network before training; where weights were loaded or random ones asked for, another random draw."""
    mean: tuple[float, ...]
    """Mean that intensities in 0 … 1 are normalised with."""
    std: tuple[float, ...]
    """Standard deviation that they are normalised with."""
    notes: tuple[str, ...] = ()
    """What a reader should know of loaded weights."""
    fit: dict[str, Any] | None = None
    """Where it was trained: ``rows`` of the epochs, ``fit_s``, ``steps``, ``images``, ``side``."""

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return next(self.encoder.parameters()).device

    def inputs(self, images: UInt8[np.ndarray, "n c h w"]) -> Tensor:
        """Images as the network takes them: float32 [n, c, h, w], normalised, on its device."""
        mean, scale = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        batch = (torch.from_numpy(np.ascontiguousarray(images)).float() / 255 - mean) / scale
        return batch.to(self.device).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """The picture that is explained."""

    pixels: UInt8[np.ndarray, "c h w"]
    """As the network takes it, 0 … 255."""
    words: str
    """What it is, such as ``the middle square of cat.jpg at 224 px``."""
    used: DataUsed
    """What the report's first line says of it."""

    @property
    def shown(self) -> UInt8[np.ndarray, "h w 3"]:
        """As figures take it."""
        return np.ascontiguousarray(channels_stack(self.pixels[None], 3)[0].transpose(1, 2, 0))


def label_of(name: str) -> str:
    """A network's name for people."""
    return {"alexnet": "AlexNet", "lenet5": "LeNet-5", "googlenet": "GoogLeNet"}.get(name, name)


def relative_cost(name: str, side: int) -> float:
    """Multiply-accumulates of AlexNet's convolutions over those of a network, at most 1: the share of images it gets.

    Args:
        name: in the zoo.
        side: pixels a side.
    """
    macs = [network_table(one, size=side).part(architecture(one).layers)[1] for one in ("alexnet", name)]
    return min(1.0, macs[0] / max(1, macs[1]))


def picture_of(bench: Bench, size: int, channels: int) -> Picture:
    """The picture that was given, or a procedural one.

    Args:
        bench: knows what was given.
        size: pixels a side: the short side is brought to it, and the middle square is cut out.
        channels: 1 or 3.

    Raises:
        DataError: the picture isn't there, is no image, is damaged, or is too small or too large.
    """
    if not bench.request.image:
        pixels = procedural_ten(ProceduralConfig(size=size, grey_share=0), np.array([PICTURE]))[0][0]
        words = f"procedural image {PICTURE} of {size} px"
        used = DataUsed(
            name="picture",
            title="The picture",
            kind="embedded",
            description=f"The picture that is explained is {words}, drawn by hilum; not a photograph.",
            source="hilum.datasets.procedural, seed 0; made by this package, under its licence.",
        )
    else:
        pixels, words = _decoded(Path(bench.request.image), size)
        used = DataUsed(
            name="picture",
            title="The picture",
            kind="real",
            description=f"The picture that is explained is {words}.",
            source="the file given with --image; hilum doesn't know its licence.",
        )
    used = replace(used, fingerprint=hashlib.sha256(pixels.tobytes()).hexdigest())
    return Picture(pixels=channels_stack(pixels[None], channels)[0], words=words, used=used)


def _decoded(file: Path, size: int) -> tuple[Array, str]:
    if not file.is_file():
        raise DataError(f"Picture {file} is not there, or is no file. Give a JPEG, PNG or the like with --image.")
    try:
        decoded = decode_photo(file, size)
    except DataError as error:
        raise DataError(f"Picture {file.name} can't be explained: {error}. Give another with --image.") from error
    how = ", enlarged" if decoded.enlarged else ""
    grey = " (grey)" if decoded.grey else ""
    return decoded.pixels, f"the middle square of {file.name}{grey} at {size} px{how}"


def subject_of(bench: Bench, scale: TrainingScale, held: int) -> tuple[Subject, ImageSet]:
    """The network that is looked at, and images at the size at which it is looked at.

    Weights are loaded where they were named or can be had; with ``--weights auto`` and nothing to be had the network
    is trained here, on the photographs at hand.

    Args:
        bench: gives request, images, weights and device.
        scale: of a training.
        held: test images that are opened where nothing is trained.

    Raises:
        UsageError: no such network.
        WeightsError: the weights that were named can't be had.
    """
    name = bench.request.backbone or "alexnet"
    row = architecture(name)
    if bench.request.weights == "auto" and bench.own_weights(name)[0] is None:
        return _trained(bench, scale, name)
    encoder, info = bench.encoder(name)
    random = info.name == "none"
    images = bench.images("photographs", size=row.size, train=_FEW, test=held).with_channels(row.in_channels)
    return (
        Subject(
            name=name,
            label=label_of(name),
            origin="random" if random else "loaded",
            words="with random weights" if random else f"with the weights {info.name}",
            encoder=encoder.to(bench.device).eval(),
            before=build_encoder(name, bench.seed + 1),
            mean=_filled(info.mean, IMAGENET_MEAN, row.in_channels),
            std=_filled(info.std, IMAGENET_STD, row.in_channels),
            notes=info.notes,
        ),
        images,
    )


_FEW = 100
"""Training images that are opened, and not used, where nothing is trained; each class needs one."""


def _filled(values: tuple[float, ...] | None, usual: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Normalisation of the weights; the usual one where nothing is known."""
    return tuple(values or usual)[:channels]


def _trained(bench: Bench, scale: TrainingScale, name: str) -> tuple[Subject, ImageSet]:
    row = architecture(name)
    side = min(scale.side, row.size)
    images = bench.images("photographs", size=side, train=scale.images, test=scale.test).with_channels(row.in_channels)
    seen = max(len(images.classes) * 4, round(scale.seen * relative_cost(name, side)))
    fitted = images if seen >= 2 * len(images.train) else images.subset(max(len(images.classes), seen // 2), None, 0)
    config = replace(TRAINING, epochs=max(1, round(seen / len(fitted.train))))
    encoder, before = starting_encoder(name, bench.seed), starting_encoder(name, bench.seed)
    fit = _fit(bench, encoder, fitted, config)
    words = f"trained here for {fit['steps']:,} steps on {images.title.lower()}"
    bench.measure(f"{label_of(name)}: its convolutions as published, a small head, {words}")
    bench.notes.append(
        f"No weights of {label_of(name)} can be had here, so the network measured was {words}; it has not seen "
        "ImageNet (--weights imagenet says where its weights are)."
    )
    return (
        Subject(
            name=name,
            label=label_of(name),
            origin="trained",
            words=words,
            encoder=encoder.to(bench.device).eval(),
            before=before,
            mean=tuple(fit["mean"]),
            std=tuple(fit["std"]),
            fit=fit,
        ),
        images,
    )


def starting_encoder(name: str, seed: int) -> Encoder:
    """An encoder as it is before training: random, AlexNet's first layer small, so that what is learned shows."""
    encoder = build_encoder(name, seed)
    if name == "alexnet":
        first = encoder.get_parameter("features.0.weight")
        with torch.no_grad():
            first.mul_(FIRST_STD / first.std())
    return encoder


def small_head(channels: int, classes: int, seed: int) -> nn.Module:
    """Feature maps [n, channels, h, w] of any size → logits [n, classes]: mean over places, BatchNorm, a linear layer.

    The means of a random network may differ by hundredths between images. Without BatchNorm training then begins with a
    plateau that is longer than the few minutes that there are; its eps is below what means of small numbers vary.
    """
    layers = (
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.BatchNorm1d(channels, eps=1e-8),
        nn.Dropout(0.2),
        nn.Linear(channels, classes),
    )
    head = nn.Sequential(*layers)
    initialise(head, generator_from(seed_for(seed, "head")))
    return head


def _fit(bench: Bench, encoder: Encoder, images: ImageSet, config: FitConfig) -> dict[str, Any]:
    """Train an encoder with a small head in place, once."""
    network = nn.Sequential(
        OrderedDict(encoder=encoder, head=small_head(encoder.channels, len(images.classes), bench.seed))
    )
    train, test = images.train, images.test

    def note(trained: nn.Module, row: dict[str, Any]) -> None:
        traits = analyse(conv_filters(encoder)[1])
        counts = kind_counts(traits)
        row["specific"] = sum(counts[kind] for kind in ("edge", "blob", "colour"))
        row["spread"] = float(np.mean([trait.spread for trait in traits if trait.spread is not None]))

    def compute() -> dict[str, Any]:
        examples = Examples.of((train.images, train.labels), (test.images, test.labels), classes=len(images.classes))
        fitted = fit_network(
            network,
            examples,
            config,
            seed=bench.seed,
            device=bench.device,
            progress=bench.progress,
            name=f"training {encoder.name}",
            each_epoch=note,
        )
        plain: dict[str, Any] = to_mapping(fitted)
        rows = [{key: row[key] for key in ROW} for row in plain["rows"]]
        steps = config.epochs * -(-len(train) // config.batch_size)
        return {**plain, "rows": rows, "steps": steps, "images": len(train), "side": images.size}

    settings = {"config": config, "images": images.fingerprint, "network": encoder.name, "std": FIRST_STD}
    done: dict[str, Any] = bench.once("training", settings, compute, network=network)
    return done
