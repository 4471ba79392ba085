"""`hilum_small`: the package's own small encoder, sized to travel with it and to run on one CPU core.

A dense residual design: 3×3 convolutions that narrow, 1×1 that widen again. Depthwise convolutions would save
multiply-accumulates and lose time, because an eager CPU runs them far below its dense speed. Stride 16, so that a film
of 224 × 224 gives a map of 14 × 14: fine enough to say which zone of a lung. 0.42 M parameters (1.7 MB), 131 million
multiply-accumulates at 224², about 5 ms a film on one core; the last block holds a quarter of the work, so that
fine-tuning it behind a cached prefix is cheap.
"""

from jaxtyping import Float
from torch import Tensor, nn

STEM = (16, 32)
"""Channels after the two strided convolutions of the stem."""

BLOCKS = ((32, 48, 80, 2), (80, 40, 80, 1), (80, 80, 176, 2), (176, 64, 176, 1), (176, 88, 176, 1))
"""Each residual block: channels in, channels of its 3×3 convolution, channels out, stride."""


def convolution(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """A convolution without bias that keeps the size (but for its stride), and its BatchNorm."""
    return [
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
    ]


class SmallBlock(nn.Module):
    """One residual block: 3×3 convolution (strided), ReLU, 1×1 convolution, sum with the shortcut, ReLU.

    A strided shortcut averages before its 1×1 convolution, so that no pixel is thrown away (He et al. 2019,
    arXiv:1812.01187, "ResNet-D"). The last BatchNorm starts at zero: a new block is the identity.

    Args:
        channels_in: channels of the input.
        narrow: channels of the 3×3 convolution.
        channels_out: channels of the output.
        stride: 1 or 2.
    """

    def __init__(self, channels_in: int, narrow: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *convolution(channels_in, narrow, 3, stride), nn.ReLU(inplace=True), *convolution(narrow, channels_out, 1)
        )
        shortcut: list[nn.Module] = []
        if stride == 2:
            shortcut.append(nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False))
        if stride == 2 or channels_in != channels_out:
            shortcut.extend(convolution(channels_in, channels_out, 1))
        self.shortcut = nn.Sequential(*shortcut)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d y x"]:
        """Maps [n, c, h, w] to [n, d, ⌈h/stride⌉, ⌈w/stride⌉], ≥ 0."""
        widened: Tensor = self.relu(self.branch(maps) + self.shortcut(maps))
        return widened

    def zero_last_norm(self) -> None:
        """Start as the identity: the branch adds nothing until it learns to."""
        last = self.branch[-1]
        if isinstance(last, nn.BatchNorm2d):
            nn.init.zeros_(last.weight)


class HilumSmall(nn.Module):
    """The small encoder with a linear classifier, which pretraining uses and the clinic's head replaces.

    Args:
        num_classes: outputs of the linear classifier.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *convolution(3, STEM[0], 3, 2),
            nn.ReLU(inplace=True),
            *convolution(STEM[0], STEM[1], 3, 2),
            nn.ReLU(inplace=True),
        )
        for i, (channels_in, narrow, channels_out, stride) in enumerate(BLOCKS, start=1):
            self.add_module(f"block{i}", SmallBlock(channels_in, narrow, channels_out, stride))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(BLOCKS[-1][2], num_classes)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        """Normalised images [n, 3, h, w] to logits [n, classes]."""
        maps = self.stem(images)
        for i in range(1, len(BLOCKS) + 1):
            maps = self.get_submodule(f"block{i}")(maps)
        logits: Tensor = self.fc(self.pool(maps).flatten(1))
        return logits
