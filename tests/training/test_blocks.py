"""Blocks of the zoo's networks, and the rates that they are trained with."""

from types import ModuleType

import pytest
import torch

from hilum.models.encoders import Encoder
from hilum.models.zoo import architecture, published_network
from hilum.training.blocks import block_starts, rate_shares


def encoder(name: str) -> Encoder:
    with torch.device("meta"):
        return Encoder(name, published_network(name), architecture(name))


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("densenet121", "features.denseblock1 features.denseblock2 features.denseblock3 features.denseblock4"),
        ("vgg16", "features.17 features.19 features.21 features.24"),
        ("resnet18", "layer3.0 layer3.1 layer4.0"),
        ("mobilenet_v2", "features.15 features.16 features.17"),
        ("hilum_small", "stem block1 block2 block3 block4 block5"),
    ],
)
def test_last_blocks_of_the_zoo(name: str, last: str) -> None:
    """Transitions and poolings close a block; the last block is the zoo's."""
    wanted = tuple(last.split())
    assert block_starts(encoder(name))[-len(wanted) :] == wanted


def test_the_first_block_begins_with_the_first_layer() -> None:
    for name in ("resnet18", "mlp", "lenet5"):
        assert block_starts(encoder(name))[0] == architecture(name).layers[0]


def test_rates_fall_block_by_block_from_the_head_down(tiny: ModuleType) -> None:
    """Normalisation has the rate of the convolution before it."""
    model = tiny.classifier()
    shares = rate_shares(model.encoder, [name for name, _ in model.named_parameters()], 0.5)
    assert {name: share for name, share in shares.items() if name.endswith("weight")} == {
        "encoder.conv1.weight": 0.125,
        "encoder.bn1.weight": 0.125,
        "encoder.conv2.weight": 0.25,
        "encoder.bn2.weight": 0.25,
        "encoder.conv3.weight": 0.5,
        "encoder.bn3.weight": 0.5,
        "head.fc1.weight": 1.0,
        "head.fc2.weight": 1.0,
    }
