"""The classifier interface: films → logits, feature maps; cut anywhere between."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from hilum.errors import ConfigError
from hilum.models.encoders import Cut, Encoder, build_encoder
from hilum.models.heads import Head, build_head
from hilum.models.weights.loading import load_weights
from hilum.models.weights.registry import WeightsInfo
from hilum.models.zoo import architecture

NEUTRAL_MEAN, NEUTRAL_STD = 0.5, 0.25
"""Normalisation where the weights expect none: about zero mean and unit spread for a film after preprocessing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierConfig:
    """What a classifier is made of."""

    backbone: str
    """Name of the encoder in the zoo."""
    findings: tuple[str, ...]
    """Ordered names of the outputs."""
    image_channels: int = 1
    """Channels of a film: 1 (grey) or 3."""
    size: int = 224
    """Height and width of a film in pixels."""
    hidden: int = 256
    """Units of the head's hidden layer."""
    dropout: float = 0.5
    """Dropout probability in the head, 0 ≤ p < 1."""
    mean: tuple[float, ...] | None = None
    """Mean of each input channel, of intensities in [0, 1]; None takes what the weights were trained with."""
    std: tuple[float, ...] | None = None
    """Standard deviation of each input channel; None takes what the weights were trained with."""

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: one sentence for each wrong field.
            UsageError: the backbone is not in the zoo.
        """
        row = architecture(self.backbone)
        problems = []
        if len(self.findings) < 2:
            problems.append(f"findings are {list(self.findings)}, but a classifier tells at least two apart.")
        if self.image_channels not in (1, 3) or self.image_channels > row.in_channels:
            allowed = "1" if row.in_channels == 1 else "1 or 3"
            problems.append(f"image_channels is {self.image_channels}, but {self.backbone} takes {allowed}.")
        if self.size < 1 or (row.fixed_size and self.size != row.size):
            problems.append(f"size is {self.size}, but {self.backbone} takes {row.size if row.fixed_size else '≥ 1'}.")
        if self.hidden < 1:
            problems.append(f"hidden is {self.hidden}, but the head needs at least one hidden unit.")
        if not 0 <= self.dropout < 1:
            problems.append(f"dropout is {self.dropout}, but must be at least 0 and below 1.")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) not in (1, row.in_channels):
                problems.append(f"{name} has {len(values)} values, but {self.backbone} takes 1 or {row.in_channels}.")
        if self.std is not None and min(self.std, default=1) <= 0:
            problems.append(f"std is {list(self.std)}, but must be above 0.")
        if problems:
            raise ConfigError(problems)


class Normalise(nn.Module):
    """Films [n, 1 or 3, h, w], uint8 or float in [0, 1] → normalised float [n, channels, h, w].

    A grey film is repeated where the encoder takes three channels. Mean and spread are no part of the state dict: they
    belong to the config.

    Args:
        mean: mean of each channel.
        std: standard deviation of each channel.
        channels: channels that the encoder takes.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], channels: int) -> None:
        super().__init__()
        shape = (1, channels, 1, 1)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1).expand(shape).clone(), persistent=False)
        self.register_buffer("scale", 1 / torch.tensor(std).view(1, -1, 1, 1).expand(shape), persistent=False)

    def forward(self, films: Shaped[Tensor, "n f h w"]) -> Float[Tensor, "n c h w"]:
        """Normalise a batch."""
        intensities = films.to(self.mean.dtype) / 255 if films.dtype == torch.uint8 else films
        return (intensities - self.mean) * self.scale


class Classifier(nn.Module):
    """Films → logits, as ``head(encoder(normalise(films)))``.

    Args:
        config: what it is made of; mean and std are given.
        encoder: the backbone.
        head: GAP → Linear → ReLU → Dropout → Linear.
    """

    def __init__(self, config: ClassifierConfig, encoder: Encoder, head: Head) -> None:
        super().__init__()
        if config.mean is None or config.std is None:
            raise ConfigError(["mean and std of a classifier are None; take them from its weights or give them."])
        self.config = config
        self.normalise = Normalise(config.mean, config.std, encoder.in_channels)
        self.encoder = encoder
        self.head = head

    def forward(self, films: Shaped[Tensor, "n f h w"]) -> Float[Tensor, "n k"]:
        """Films [n, 1 or 3, h, w], uint8 or float in [0, 1], to logits."""
        logits: Tensor = self.head(self.features(films))
        return logits

    def features(self, films: Shaped[Tensor, "n f h w"]) -> Float[Tensor, "n c y x"]:
        """Films to the feature map after the last activation."""
        maps: Tensor = self.encoder(self.normalise(films))
        return maps

    def prefix(self, films: Shaped[Tensor, "n f h w"], cut: Cut) -> Float[Tensor, "n c y x"]:
        """Run everything before a cut, normalisation included."""
        return self.encoder.prefix(self.normalise(films), cut)

    def suffix(self, maps: Float[Tensor, "n c y x"], cut: Cut) -> Float[Tensor, "n k"]:
        """Run everything from a cut on, the head included."""
        logits: Tensor = self.head(self.encoder.suffix(maps, cut))
        return logits


def build_classifier(
    config: ClassifierConfig, weights: str | Path, seed: int, *, cache: Path | None = None
) -> tuple[Classifier, WeightsInfo]:
    """A classifier whose encoder starts from given weights and whose head starts at random.

    Args:
        config: what it is made of; where mean or std is None the classifier's own config holds what was taken.
        weights: ``imagenet``, ``hilum``, ``none`` or a .safetensors file; see :func:`load_weights`.
        seed: the run's seed; encoder and head have their own streams.
        cache: folder in which downloaded weights are kept.

    Returns:
        the classifier, in training mode, and where its weights came from.

    Raises:
        WeightsError: the weights can't be had or don't fit.
    """
    encoder = build_encoder(config.backbone, seed)
    info = load_weights(encoder, weights, cache=cache)
    mean = config.mean or info.mean or (NEUTRAL_MEAN,)
    std = config.std or info.std or (NEUTRAL_STD,)
    head = build_head(encoder.channels, config.hidden, len(config.findings), config.dropout, seed)
    return Classifier(replace(config, mean=mean, std=std), encoder, head), info
