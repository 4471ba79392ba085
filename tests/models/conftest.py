"""Small classifiers with random weights, and BatchNorm statistics that are not an identity."""

from collections.abc import Callable

import pytest
import torch
from tests.models.shipped import shipped_network
from torch import nn

from hilum.models.classifier import Classifier, ClassifierConfig, build_classifier
from hilum.models.explained import Explained

FINDINGS = ("normal", "pneumonia", "covid-19")


def unsettle(network: nn.Module, seed: int) -> None:
    """Weights and statistics as after some training: nothing is zero, one or an identity by chance."""
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0.0, 0.1, generator=generator)
            layer.running_var.uniform_(0.5, 1.5, generator=generator)
            nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)


@pytest.fixture
def make_classifier() -> Callable[..., Classifier]:
    def make(backbone: str = "hilum_small", seed: int = 0, **fields: object) -> Classifier:
        config = ClassifierConfig(backbone=backbone, findings=FINDINGS, **{"size": 64, "hidden": 32, **fields})
        classifier, _ = build_classifier(config, "none", seed)
        unsettle(classifier, seed)
        return classifier.eval()

    return make


@pytest.fixture
def films() -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (4, 1, 64, 64), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="session")
def shipped() -> tuple[Explained, bytes]:
    """One small network and its graph for all tests: an export takes seconds."""
    return shipped_network()
