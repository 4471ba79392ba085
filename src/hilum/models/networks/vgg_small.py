"""VGG for images of 32 or 64 px: the published depths with and without BatchNorm, and larger kernels in their place.

Simonyan, Zisserman 2015, "Very deep convolutional networks for large-scale image recognition", ICLR, arXiv:1409.1556,
table 1: configurations A (11 layers), B (13), D (16) and E (19); section 4.1 replaces each pair of 3×3 in B by one 5×5.
BatchNorm is of Ioffe, Szegedy 2015, arXiv:1502.03167; the paper's networks have none.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from hilum.errors import UsageError
from hilum.models.networks.alexnet import HIDDEN, scaled
from hilum.models.networks.gaussian_start import GaussianConv2d, GaussianLinear

CHANNELS = (64, 128, 256, 512, 512)
"""Maps of the five stages."""

STAGES: dict[int, tuple[int, ...]] = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""Convolutions of each stage, by the number of layers with weights: these and three dense ones (table 1)."""


class SmallVGG(nn.Module):
    """VGG's design with fewer channels; at 32 px the last pooling leaves one pixel, at 64 px four.

    Args:
        stages: convolutions of each of the five stages, such as ``STAGES[16]``.
        num_classes: outputs.
        size: pixels a side of the images, 32 or 64.
        width: factor of all channels and hidden units, in 32nds.
        kernel: side of the kernels, odd; the published is 3.
        norm: whether a BatchNorm follows each convolution.
        inner_relu: whether there is a ReLU behind every convolution, or only behind the last of each stage; without,
            the convolutions of a stage are together one linear map.
        dropout: share of the hidden units left out while it trains.
        spread: standard deviation of all initial weights; None for weights scaled to the size of each layer.

    Raises:
        UsageError: stages, a size, kernel or width that there is not.
    """

    def __init__(
        self,
        stages: Sequence[int],
        num_classes: int = 10,
        *,
        size: int = 32,
        width: float = 0.125,
        kernel: int = 3,
        norm: bool = False,
        inner_relu: bool = True,
        dropout: float = 0.5,
        spread: float | None = None,
    ) -> None:
        super().__init__()
        _check(stages, size, kernel)
        layers: list[nn.Module] = []
        before = 3
        for count, channels in zip(stages, (scaled(c, width) for c in CHANNELS), strict=True):
            for number in range(count):
                layers.append(_convolution(before, channels, kernel, spread))
                if norm:
                    layers.append(nn.BatchNorm2d(channels))
                if inner_relu or number == count - 1:
                    layers.append(nn.ReLU(inplace=True))
                before = channels
            layers.append(nn.MaxPool2d(2))
        hidden = scaled(HIDDEN, width)
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            *[_linear(before * (size // 32) ** 2, hidden, spread), nn.ReLU(inplace=True), nn.Dropout(dropout)],
            *[_linear(hidden, hidden, spread), nn.ReLU(inplace=True), nn.Dropout(dropout)],
            _linear(hidden, num_classes, spread),
        )

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        """Normalised images [n, 3, size, size] to logits [n, classes]."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits


def _convolution(before: int, channels: int, kernel: int, spread: float | None) -> nn.Module:
    if spread is None:
        return nn.Conv2d(before, channels, kernel, 1, kernel // 2)
    return GaussianConv2d(before, channels, kernel, padding=kernel // 2, spread=spread)


def _linear(before: int, after: int, spread: float | None) -> nn.Module:
    return nn.Linear(before, after) if spread is None else GaussianLinear(before, after, spread=spread)


def _check(stages: Sequence[int], size: int, kernel: int) -> None:
    if len(stages) != len(CHANNELS) or min(stages) < 1:
        raise UsageError(f"stages are {tuple(stages)}, but VGG has five, each of one convolution or more.")
    if size not in (32, 64):
        raise UsageError(f"size is {size} px, but the small VGG takes 32 or 64.")
    if kernel < 1 or kernel % 2 == 0:
        raise UsageError(f"kernel is {kernel}, but must be odd, such as 3, 5 or 7.")
