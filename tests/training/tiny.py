"""A real classifier, only small; and films (synthetic stripes) that it can tell apart in a second."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hilum.models.classifier import Classifier, ClassifierConfig
from hilum.models.encoders import Encoder
from hilum.models.heads import build_head
from hilum.models.zoo import Architecture
from hilum.training.films import Films
from hilum.training.stages import Stage
from hilum.training.transfer import TrainingConfig, TrainingData

FINDINGS = ("left", "middle", "right")
SIZE = 16
BLOCKS = (
    Stage(name="head", lr=1e-2, epochs=4, batch_size=8, views=2),
    Stage(name="block", trainable_from="last-block", lr=1e-3, epochs=3, batch_size=8, views=2, schedule="cosine"),
)


class TinyNet(nn.Module):
    """Three convolutions with batch normalisation and in-place activations."""

    def __init__(self) -> None:
        super().__init__()
        for i, (before, after) in enumerate(((3, 4), (4, 6), (6, 8)), start=1):
            self.add_module(f"conv{i}", nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(after))
            self.add_module(f"relu{i}", nn.ReLU(inplace=True))


LAYERS = tuple(f"{kind}{i}" for i in (1, 2, 3) for kind in ("conv", "bn", "relu"))


def classifier(seed: int = 0) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = TinyNet()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):  # as if it had been trained before
                nn.init.uniform_(module.running_mean, -0.1, 0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    row = Architecture(build=TinyNet, citation="tests", year=2026, layers=LAYERS, last_block="conv3", channels=8)
    config = ClassifierConfig(
        backbone="hilum_small", findings=FINDINGS, size=SIZE, hidden=16, dropout=0.2, mean=(0.5,), std=(0.25,)
    )
    return Classifier(config, Encoder("tiny", network, row), build_head(8, 16, 3, 0.2, seed))


def tiles(count: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise with one third brighter: films and which third."""
    chance = np.random.default_rng(seed)
    third = np.arange(count) % 3
    films = chance.integers(0, 120, (count, SIZE, SIZE), dtype=np.uint8)
    for film, which in zip(films, third, strict=True):
        film[:, which * 5 : which * 5 + 6] += 100
    return films, third


def films(count: int = 40) -> Films:
    return Films(tiles(count)[0], tuple(f"film-{i}" for i in range(count)))


def data(count: int = 40, watch: int = 12, **changes: object) -> TrainingData:
    stack, third = tiles(count)
    built = TrainingData(
        tiles=stack,
        film_ids=tuple(f"film-{i}" for i in range(count)),
        targets=np.eye(3)[third],
        fit=np.arange(watch, count),
        watch=np.arange(watch),
    )
    return replace(built, **changes)


def config(**changes: object) -> TrainingConfig:
    return replace(TrainingConfig(checkpoint_every_s=1e9), **changes)


def state(model: Classifier) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


HERE = Path(__file__).parent
