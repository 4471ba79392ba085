"""The zoo: one literal table of the networks that hilum knows.

Each row says where the network comes from and how it is cut: the ordered, fully-qualified names of the layers that
make its encoder (everything before pooling and classifier), and the first layer of its last block. The names are
torchvision's, so that state-dict keys equal torchvision's and published weights load as they are.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from hilum.errors import UsageError, nearest
from hilum.models.networks.alexnet import AlexNet2012
from hilum.models.networks.googlenet_small import build_googlenet
from hilum.models.networks.lenet import LeNet5
from hilum.models.networks.lenet_original import LeNet5Original
from hilum.models.networks.perceptron import Perceptron
from hilum.models.networks.plain import PlainNet
from hilum.models.networks.residual_small import SmallResNet
from hilum.models.networks.small import HilumSmall


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One network of the zoo."""

    build: Callable[..., nn.Module]
    """Makes the published network with its classifier and with random weights; keywords go to its constructor."""
    citation: str
    """Who published it, where, with DOI or arXiv number."""
    year: int
    """Year of the publication."""
    layers: tuple[str, ...]
    """Ordered names of the encoder's layers; running them one after the other is the encoder's forward pass."""
    last_block: str
    """Name of the first layer of the last block, which fine-tuning begins with."""
    channels: int
    """Channels of the final feature map."""
    in_channels: int = 3
    """Channels of the input; a grey image is repeated for three."""
    size: int = 224
    """Height and width in pixels that the network was published for."""
    fixed_size: bool = False
    """The network takes that size and no other."""
    appended_relu: str = ""
    """A layer added to the published network's modules, because it applies its final ReLU as a bare function."""


def _torchvision(name: str, **options: Any) -> nn.Module:
    from torchvision import models  # about a second: only when a network is built

    network: nn.Module = models.get_model(name, weights=None, **options)
    return network


def _numbered(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}.{i}" for i in range(count))


def _residual(*blocks: int) -> tuple[str, ...]:
    """Layers of a ResNet with so many blocks in each stage; those of three stages have no max-pooling."""
    stages = [name for stage, count in enumerate(blocks, start=1) for name in _numbered(f"layer{stage}", count)]
    return ("conv1", "bn1", "relu", *(("maxpool",) if len(blocks) == 4 else ()), *stages)


_ALEXNET_2012 = (
    "Krizhevsky, Sutskever, Hinton 2012, ImageNet classification with deep CNNs, NIPS 25, doi:10.1145/3065386"
)
_ALEXNET = "Krizhevsky 2014, One weird trick for parallelizing convolutional neural networks, arXiv:1404.5997"
_VGG = "Simonyan, Zisserman 2015, Very deep convolutional networks, ICLR, arXiv:1409.1556"
_GOOGLENET = "Szegedy et al. 2015, Going deeper with convolutions, CVPR, doi:10.1109/CVPR.2015.7298594"
_RESNET = "He, Zhang, Ren, Sun 2016, Deep residual learning for image recognition, CVPR, doi:10.1109/CVPR.2016.90"
_RESNEXT = "Xie et al. 2017, Aggregated residual transformations, CVPR, doi:10.1109/CVPR.2017.634"
_DENSENET = "Huang et al. 2017, Densely connected convolutional networks, CVPR, doi:10.1109/CVPR.2017.243"
_EFFICIENTNET = "Tan, Le 2019, EfficientNet, ICML, arXiv:1905.11946"
_MOBILENET = "Sandler et al. 2018, MobileNetV2, CVPR, doi:10.1109/CVPR.2018.00474"
_SQUEEZENET = "Iandola et al. 2016, SqueezeNet, arXiv:1602.07360"
_LENET = "LeCun et al. 1998, Gradient-based learning, Proc. IEEE 86(11), doi:10.1109/5.726791"
_PERCEPTRON = "Rumelhart, Hinton, Williams 1986, Back-propagating errors, Nature 323, doi:10.1038/323533a0"

_ALEXNET_2012_LAYERS = "conv1 act1 norm1 pool1 conv2 act2 norm2 pool2 conv3 act3 conv4 act4 conv5 act5"
_GOOGLENET_LAYERS = (
    "conv1 maxpool1 conv2 conv3 maxpool2 inception3a inception3b maxpool3 inception4a inception4b inception4c "
    "inception4d inception4e maxpool4 inception5a inception5b"
)
_DENSENET_LAYERS = (
    "features.conv0 features.norm0 features.relu0 features.pool0 features.denseblock1 features.transition1 "
    "features.denseblock2 features.transition2 features.denseblock3 features.transition3 features.denseblock4 "
    "features.norm5 features.relu5"
)

# AlexNet and VGG leave out their last max-pooling: the feature map is taken after the final ReLU, at twice the detail.
ARCHITECTURES: dict[str, Architecture] = {
    "alexnet_2012": Architecture(
        build=AlexNet2012,
        citation=_ALEXNET_2012,
        year=2012,
        layers=tuple(f"features.{name}" for name in _ALEXNET_2012_LAYERS.split()),
        last_block="features.conv5",
        channels=256,
        size=227,
    ),
    "alexnet": Architecture(
        build=partial(_torchvision, "alexnet"),
        citation=_ALEXNET,
        year=2014,
        layers=_numbered("features", 12),
        last_block="features.10",
        channels=256,
    ),
    "vgg11": Architecture(
        build=partial(_torchvision, "vgg11", init_weights=False),
        citation=_VGG,
        year=2014,
        layers=_numbered("features", 20),
        last_block="features.16",
        channels=512,
    ),
    "vgg11_bn": Architecture(
        build=partial(_torchvision, "vgg11_bn", init_weights=False),
        citation=_VGG,
        year=2014,
        layers=_numbered("features", 28),
        last_block="features.22",
        channels=512,
    ),
    "vgg13": Architecture(
        build=partial(_torchvision, "vgg13", init_weights=False),
        citation=_VGG,
        year=2014,
        layers=_numbered("features", 24),
        last_block="features.20",
        channels=512,
    ),
    "vgg13_bn": Architecture(
        build=partial(_torchvision, "vgg13_bn", init_weights=False),
        citation=_VGG,
        year=2014,
        layers=_numbered("features", 34),
        last_block="features.28",
        channels=512,
    ),
    "vgg16": Architecture(
        build=partial(_torchvision, "vgg16", init_weights=False),
        citation=_VGG,
        year=2014,
        layers=_numbered("features", 30),
        last_block="features.24",
        channels=512,
    ),
    "vgg16_bn": Architecture(
        build=partial(_torchvision, "vgg16_bn", init_weights=False),
        citation=_VGG,
        year=2014,
        layers=_numbered("features", 43),
        last_block="features.34",
        channels=512,
    ),
    "vgg19": Architecture(
        build=partial(_torchvision, "vgg19", init_weights=False),
        citation=_VGG,
        year=2014,
        layers=_numbered("features", 36),
        last_block="features.28",
        channels=512,
    ),
    "vgg19_bn": Architecture(
        build=partial(_torchvision, "vgg19_bn", init_weights=False),
        citation=_VGG,
        year=2014,
        layers=_numbered("features", 52),
        last_block="features.40",
        channels=512,
    ),
    "googlenet": Architecture(
        build=partial(_torchvision, "googlenet", aux_logits=False, init_weights=False, transform_input=False),
        citation=_GOOGLENET,
        year=2015,
        layers=tuple(_GOOGLENET_LAYERS.split()),
        last_block="inception5a",
        channels=1024,
    ),
    "googlenet_5x5": Architecture(
        build=build_googlenet,
        citation=_GOOGLENET,
        year=2015,
        layers=tuple(_GOOGLENET_LAYERS.split()),
        last_block="inception5a",
        channels=1024,
    ),
    "googlenet_small": Architecture(
        build=partial(build_googlenet, num_classes=10, stem="small"),
        citation=_GOOGLENET,
        year=2015,
        layers=tuple(_GOOGLENET_LAYERS.split()),
        last_block="inception5a",
        channels=1024,
        size=32,
    ),
    "resnet18": Architecture(
        build=partial(_torchvision, "resnet18"),
        citation=_RESNET,
        year=2016,
        layers=_residual(2, 2, 2, 2),
        last_block="layer4.0",
        channels=512,
    ),
    "resnet34": Architecture(
        build=partial(_torchvision, "resnet34"),
        citation=_RESNET,
        year=2016,
        layers=_residual(3, 4, 6, 3),
        last_block="layer4.0",
        channels=512,
    ),
    "resnet50": Architecture(
        build=partial(_torchvision, "resnet50"),
        citation=_RESNET,
        year=2016,
        layers=_residual(3, 4, 6, 3),
        last_block="layer4.0",
        channels=2048,
    ),
    "resnet101": Architecture(
        build=partial(_torchvision, "resnet101"),
        citation=_RESNET,
        year=2016,
        layers=_residual(3, 4, 23, 3),
        last_block="layer4.0",
        channels=2048,
    ),
    "resnet152": Architecture(
        build=partial(_torchvision, "resnet152"),
        citation=_RESNET,
        year=2016,
        layers=_residual(3, 8, 36, 3),
        last_block="layer4.0",
        channels=2048,
    ),
    "resnext50_32x4d": Architecture(
        build=partial(_torchvision, "resnext50_32x4d"),
        citation=_RESNEXT,
        year=2017,
        layers=_residual(3, 4, 6, 3),
        last_block="layer4.0",
        channels=2048,
    ),
    "resnext101_32x8d": Architecture(
        build=partial(_torchvision, "resnext101_32x8d"),
        citation=_RESNEXT,
        year=2017,
        layers=_residual(3, 4, 23, 3),
        last_block="layer4.0",
        channels=2048,
    ),
    "densenet121": Architecture(
        build=partial(_torchvision, "densenet121"),
        citation=_DENSENET,
        year=2017,
        layers=tuple(_DENSENET_LAYERS.split()),
        last_block="features.denseblock4",
        channels=1024,
        appended_relu="features.relu5",
    ),
    "densenet169": Architecture(
        build=partial(_torchvision, "densenet169"),
        citation=_DENSENET,
        year=2017,
        layers=tuple(_DENSENET_LAYERS.split()),
        last_block="features.denseblock4",
        channels=1664,
        appended_relu="features.relu5",
    ),
    "densenet201": Architecture(
        build=partial(_torchvision, "densenet201"),
        citation=_DENSENET,
        year=2017,
        layers=tuple(_DENSENET_LAYERS.split()),
        last_block="features.denseblock4",
        channels=1920,
        appended_relu="features.relu5",
    ),
    "efficientnet_b0": Architecture(
        build=partial(_torchvision, "efficientnet_b0"),
        citation=_EFFICIENTNET,
        year=2019,
        layers=_numbered("features", 9),
        last_block="features.7",
        channels=1280,
    ),
    "mobilenet_v2": Architecture(
        build=partial(_torchvision, "mobilenet_v2"),
        citation=_MOBILENET,
        year=2018,
        layers=_numbered("features", 19),
        last_block="features.17",
        channels=1280,
    ),
    "squeezenet1_0": Architecture(
        build=partial(_torchvision, "squeezenet1_0"),
        citation=_SQUEEZENET,
        year=2016,
        layers=_numbered("features", 13),
        last_block="features.12",
        channels=512,
    ),
    "squeezenet1_1": Architecture(
        build=partial(_torchvision, "squeezenet1_1"),
        citation=_SQUEEZENET,
        year=2016,
        layers=_numbered("features", 13),
        last_block="features.12",
        channels=512,
    ),
    "plain18": Architecture(
        build=partial(PlainNet, (2, 2, 2, 2)),
        citation=_RESNET,
        year=2016,
        layers=_residual(2, 2, 2, 2),
        last_block="layer4.0",
        channels=512,
    ),
    "plain34": Architecture(
        build=partial(PlainNet, (3, 4, 6, 3)),
        citation=_RESNET,
        year=2016,
        layers=_residual(3, 4, 6, 3),
        last_block="layer4.0",
        channels=512,
    ),
    "resnet20": Architecture(
        build=partial(SmallResNet, 20),
        citation=_RESNET,
        year=2016,
        layers=_residual(3, 3, 3),
        last_block="layer3.0",
        channels=64,
        size=32,
    ),
    "resnet56": Architecture(
        build=partial(SmallResNet, 56),
        citation=_RESNET,
        year=2016,
        layers=_residual(9, 9, 9),
        last_block="layer3.0",
        channels=64,
        size=32,
    ),
    "resnet110": Architecture(
        build=partial(SmallResNet, 110),
        citation=_RESNET,
        year=2016,
        layers=_residual(18, 18, 18),
        last_block="layer3.0",
        channels=64,
        size=32,
    ),
    "lenet5": Architecture(
        build=LeNet5,
        citation=_LENET,
        year=1998,
        layers=("c1", "relu1", "s2", "c3", "relu3"),
        last_block="c3",
        channels=16,
        in_channels=1,
        size=32,
    ),
    "lenet5_original": Architecture(
        build=LeNet5Original,
        citation=_LENET,
        year=1998,
        layers=("c1", "squash1", "s2", "squash2", "c3", "squash3"),
        last_block="c3",
        channels=16,
        in_channels=1,
        size=32,
    ),
    "mlp": Architecture(
        build=Perceptron,
        citation=_PERCEPTRON,
        year=1986,
        layers=("flatten", "fc1", "relu1", "fc2", "relu2", "map"),
        last_block="fc2",
        channels=256,
        in_channels=1,
        size=28,
        fixed_size=True,
    ),
    "hilum_small": Architecture(
        build=HilumSmall,
        citation="this package; residual blocks of He et al. 2016, doi:10.1109/CVPR.2016.90",
        year=2026,
        layers=("stem", "block1", "block2", "block3", "block4", "block5"),
        last_block="block5",
        channels=176,
    ),
}


def names() -> tuple[str, ...]:
    """All networks, by name; numbers in a name by their size, so ``resnet18`` before ``resnet101``."""

    def key(name: str) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]

    return tuple(sorted(ARCHITECTURES, key=key))


def architecture(name: str) -> Architecture:
    """The zoo's row of a name.

    Raises:
        UsageError: no such network; the message has the nearest name and the command that lists all.
    """
    if name not in ARCHITECTURES:
        raise UsageError(f"Network {name!r} is not in the zoo. {nearest(name, names(), listed_by='hilum models list')}")
    return ARCHITECTURES[name]


def published_network(name: str, **options: Any) -> nn.Module:
    """The whole published network with its classifier, without storage (on torch's meta device).

    It costs milliseconds and no memory, and serves to count and to compare names; it can't compute.

    Args:
        name: a name of the zoo.
        options: keywords for its constructor, such as ``aux_logits=True`` for GoogLeNet.
    """
    row = architecture(name)
    with torch.device("meta"):
        return row.build(**options)
