"""AlexNet as published in 2012, for two GPUs and images of 227 px, and a small one for images of 32 or 64 px.

Krizhevsky, Sutskever, Hinton 2012, "ImageNet classification with deep convolutional neural networks", NIPS 25, pages
1097 to 1105 (reprinted 2017, doi:10.1145/3065386): section 3.1 (ReLU), 3.2 (two GPUs), 3.3 (response normalisation),
3.4 (overlapping pooling), 3.5 (layers), 4.2 (dropout), 5 (initial weights). torchvision's ``alexnet`` is another
network: the single tower of Krizhevsky 2014, arXiv:1404.5997, without response normalisation.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import cache, partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d

from hilum.errors import UsageError
from hilum.models.networks.gaussian_start import GaussianConv2d, GaussianLinear

Activation = Literal["relu", "tanh"]
"""What follows each layer: max(0, x), which doesn't saturate, or tanh x, which does."""

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": partial(nn.ReLU, inplace=True), "tanh": nn.Tanh}

CHANNELS = (96, 256, 384, 384, 256)
"""Maps of the five convolutions, on both GPUs together."""

HIDDEN = 4096
"""Units of the two fully connected hidden layers."""


class ResponseNorm(nn.Module):
    """Local response normalisation across channels: b_i = a_i / (k + α Σ_j a_j²)^¾, j over the five channels around i.

    Section 3.3, with the paper's n = 5, k = 2, α = 10⁻⁴, β = ¾. torch's ``LocalResponseNorm`` divides its α by n, so
    there the same is ``LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)``. The sum over neighbouring channels is a 1×1
    convolution with a band of ones, and a power of ¾ is two square roots: several times as fast on a CPU.
    """

    reach, offset, alpha = 2, 2.0, 1e-4

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Maps to maps of the same shape, each value made smaller by the squares of its neighbours in channel."""
        band = _band(maps.shape[1], self.reach).to(maps.device, maps.dtype)
        root = (self.offset + self.alpha * conv2d(maps * maps, band)).sqrt()
        return maps / (root * root.sqrt())


@cache
def _band(channels: int, reach: int) -> Tensor:
    """A 1×1 convolution's weights [channels, channels, 1, 1] that add up the channels around each."""
    near = np.tri(channels, k=reach, dtype=np.float32) - np.tri(channels, k=-reach - 1, dtype=np.float32)
    with torch.inference_mode(False):  # kept for trainings too, which can't use a tensor that was made for inference
        return torch.from_numpy(near[:, :, None, None])


class AlexNet2012(nn.Module):
    """AlexNet as published: 60,965,224 parameters with two groups, 62,378,344 with one.

    Convolutions two, four and five see only the half of the maps that lies on their own GPU, which is a convolution in
    two groups. Response normalisation follows the ReLU of the first two, then comes pooling of 3×3 at distance 2, whose
    windows overlap; dropout follows both hidden layers. Weights begin normal with a spread of 0.01, the biases of
    convolutions two, four and five and of the hidden layers at 1, so that ReLUs begin open. (Units of tanh begin at 0.)

    Args:
        num_classes: outputs.
        activation: what follows each layer.
        response_norm: whether there is response normalisation.
        dropout: share of the hidden units left out while it trains, 0 for none.
        groups: 2 as published, 1 for a network that fits one GPU.

    Raises:
        UsageError: an activation that there is not.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        activation: Activation = "relu",
        response_norm: bool = True,
        dropout: float = 0.5,
        groups: Literal[1, 2] = 2,
    ) -> None:
        super().__init__()
        active, open_bias = _activation(activation), float(activation == "relu")
        one, two, three, four, five = CHANNELS
        layers: list[tuple[str, nn.Module]] = [
            ("conv1", GaussianConv2d(3, one, 11, stride=4)),
            ("act1", active()),
            ("norm1", ResponseNorm()),
            ("pool1", nn.MaxPool2d(3, 2)),
            ("conv2", GaussianConv2d(one, two, 5, padding=2, groups=groups, bias_start=open_bias)),
            ("act2", active()),
            ("norm2", ResponseNorm()),
            ("pool2", nn.MaxPool2d(3, 2)),
            ("conv3", GaussianConv2d(two, three, 3, padding=1)),
            ("act3", active()),
            ("conv4", GaussianConv2d(three, four, 3, padding=1, groups=groups, bias_start=open_bias)),
            ("act4", active()),
            ("conv5", GaussianConv2d(four, five, 3, padding=1, groups=groups, bias_start=open_bias)),
            ("act5", active()),
            ("pool5", nn.MaxPool2d(3, 2)),
        ]
        kept = [(name, layer) for name, layer in layers if response_norm or not isinstance(layer, ResponseNorm)]
        self.features = nn.Sequential(OrderedDict(kept))
        self.classifier = nn.Sequential(
            OrderedDict(
                fc6=GaussianLinear(five * 6 * 6, HIDDEN, bias_start=open_bias),
                act6=active(),
                drop6=nn.Dropout(dropout),
                fc7=GaussianLinear(HIDDEN, HIDDEN, bias_start=open_bias),
                act7=active(),
                drop7=nn.Dropout(dropout),
                fc8=GaussianLinear(HIDDEN, num_classes),
            )
        )

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        """Images [n, 3, 227, 227] with the training images' mean taken away, to logits [n, classes]."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits


class SmallAlexNet(nn.Module):
    """AlexNet's design for images of 32 or 64 px: five convolutions, three overlapping poolings, three dense layers.

    The first kernel is 5×5 at distance 2 for 32 px, 11×11 at distance 4 for 64 px; then maps have 16, 8, 4 and 2 px a
    side (poolings are padded, so that small maps are not used up). All channels and hidden units are the published ones
    times the width; there are no groups.

    Args:
        num_classes: outputs.
        size: pixels a side of the images, 32 or 64.
        width: factor of all channels and hidden units, in 32nds.
        activation: what follows each layer.
        response_norm: whether there is response normalisation.
        dropout: share of the hidden units left out while it trains, 0 for none.

    Raises:
        UsageError: a size, width or activation that there is not.
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        size: int = 32,
        width: float = 0.125,
        activation: Activation = "relu",
        response_norm: bool = True,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        active = _activation(activation)
        kernel, stride = _first_kernel(size)
        one, two, three, four, five = (scaled(count, width) for count in CHANNELS)
        hidden = scaled(HIDDEN, width)

        def normed() -> list[nn.Module]:
            return [ResponseNorm()] if response_norm else []

        self.features = nn.Sequential(
            *[nn.Conv2d(3, one, kernel, stride, kernel // 2), active(), *normed(), nn.MaxPool2d(3, 2, 1)],
            *[nn.Conv2d(one, two, 5, 1, 2), active(), *normed(), nn.MaxPool2d(3, 2, 1)],
            *[nn.Conv2d(two, three, 3, 1, 1), active()],
            *[nn.Conv2d(three, four, 3, 1, 1), active()],
            *[nn.Conv2d(four, five, 3, 1, 1), active(), nn.MaxPool2d(3, 2, 1)],
        )
        self.classifier = nn.Sequential(
            *[nn.Linear(five * 2 * 2, hidden), active(), nn.Dropout(dropout)],
            *[nn.Linear(hidden, hidden), active(), nn.Dropout(dropout)],
            nn.Linear(hidden, num_classes),
        )

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        """Normalised images [n, 3, size, size] to logits [n, classes]."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits


class FourLayerNet(nn.Module):
    """Three convolutions of 5×5, each with a pooling, and one linear layer: the kind of net that figure 1 trains.

    The paper names only "a four-layer convolutional neural network" on CIFAR-10; its authors' cuda-convnet had such
    nets with 32, 32 and 64 maps. No dropout and no normalisation: the figure is about how fast a net fits.

    Args:
        num_classes: outputs.
        width: factor of the 32, 32 and 64 maps, in 32nds.
        activation: what follows each convolution.

    Raises:
        UsageError: a width or activation that there is not.
    """

    def __init__(self, num_classes: int = 10, *, width: float = 0.5, activation: Activation = "relu") -> None:
        super().__init__()
        active = _activation(activation)
        layers: list[nn.Module] = []
        before = 3
        for channels in (scaled(count, width) for count in (32, 32, 64)):
            layers += [nn.Conv2d(before, channels, 5, 1, 2), active(), nn.MaxPool2d(3, 2, 1)]
            before = channels
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(before * 4 * 4, num_classes)

    def forward(self, images: Float[Tensor, "n 3 32 32"]) -> Float[Tensor, "n classes"]:
        """Normalised images [n, 3, 32, 32] to logits [n, classes]."""
        logits: Tensor = self.fc(self.features(images).flatten(1))
        return logits


def scaled(count: int, width: float) -> int:
    """A published number of channels times a width.

    Raises:
        UsageError: a width that is not a multiple of 1/32 above 0.
    """
    if width <= 0 or (32 * width) % 1:
        raise UsageError(f"width is {width:g}, but must be a multiple of 1/32 above 0, such as 0.125, 0.5 or 1.")
    return int(count * width)


def _activation(name: str) -> Callable[[], nn.Module]:
    if name not in ACTIVATIONS:
        raise UsageError(f"activation is {name!r}, but must be {' or '.join(map(repr, ACTIVATIONS))}.")
    return ACTIVATIONS[name]


def _first_kernel(size: int) -> tuple[int, int]:
    kernels = {32: (5, 2), 64: (11, 4)}
    if size not in kernels:
        raise UsageError(f"size is {size} px, but the small AlexNet takes 32 or 64.")
    return kernels[size]
