"""Nets of 6n + 2 layers for small images, residual or plain, as the residual papers study them on CIFAR-10.

He, Zhang, Ren, Sun 2016, "Deep residual learning for image recognition", CVPR, doi:10.1109/CVPR.2016.90, section 4.2: a
3×3 convolution, three stages of 2n layers with 16, 32 and 64 channels, global average pooling, one linear layer. And
the same authors 2016, "Identity mappings in deep residual networks", ECCV, doi:10.1007/978-3-319-46493-0_38, where
BatchNorm and ReLU go before each convolution, so that nothing follows the addition.
"""

from collections import OrderedDict
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from hilum.errors import UsageError

STAGE_CHANNELS = (16, 32, 64)
"""Channels of the three stages at width 1."""

Shortcut = Literal["none", "A", "B", "C"]
"""What goes around two convolutions, with the letters of section 4.1. ``none``: nothing, a plain net. ``A``: the
identity; where the shape changes, every second pixel with channels of zeros behind it, free of parameters. ``B``: a
1×1 projection where the shape changes, else the identity. ``C``: a projection around every block."""


class Subsampling(nn.Module):
    """The shortcut of option A: every ``stride``-th pixel, and channels of zeros behind those that are there.

    With 0 channels to add it only drops pixels.

    Args:
        channels: channels to add.
        stride: distance of the pixels kept.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d y x"]:
        """Maps [n, c, h, w] to [n, c + channels, ⌈h/stride⌉, ⌈w/stride⌉]."""
        return pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.channels))


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions F with a way around them: y = relu(F(x) + shortcut(x)).

    Without BatchNorm the convolutions have biases. No step works in place, so that every tensor keeps its gradient.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        stride: stride of the first convolution, 1 or 2.
        shortcut: see :data:`Shortcut`.
        norm: whether each convolution has a BatchNorm.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int, shortcut: Shortcut, *, norm: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=not norm)
        self.bn1 = _norm(channels_out, norm)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=not norm)
        self.bn2 = _norm(channels_out, norm)
        self.shortcut = _shortcut(channels_in, channels_out, stride, shortcut, norm=norm)
        self.relu2 = nn.ReLU()

    def branch(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d y x"]:
        """F(x): what the block adds to its shortcut, before the last ReLU."""
        added: Tensor = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(maps)))))
        return added

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d y x"]:
        """Maps [n, c, h, w] to [n, d, ⌈h/stride⌉, ⌈w/stride⌉], ≥ 0."""
        added = self.branch(maps)
        if self.shortcut is not None:
            added = added + self.shortcut(maps)
        out: Tensor = self.relu2(added)
        return out


class PreActivationBlock(nn.Module):
    """The block of 2016's second paper: y = F(x) + shortcut(x), with BatchNorm and ReLU before each convolution.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        stride: stride of the first convolution, 1 or 2.
        shortcut: see :data:`Shortcut`.
        norm: whether each convolution has a BatchNorm.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int, shortcut: Shortcut, *, norm: bool) -> None:
        super().__init__()
        self.bn1 = _norm(channels_in, norm)
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=not norm)
        self.bn2 = _norm(channels_out, norm)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=not norm)
        self.shortcut = _shortcut(channels_in, channels_out, stride, shortcut, norm=norm)

    def branch(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d y x"]:
        """F(x): what the block adds to its shortcut."""
        added: Tensor = self.conv2(self.relu2(self.bn2(self.conv1(self.relu(self.bn1(maps))))))
        return added

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d y x"]:
        """Maps [n, c, h, w] to [n, d, ⌈h/stride⌉, ⌈w/stride⌉], of both signs."""
        added = self.branch(maps)
        return added if self.shortcut is None else added + self.shortcut(maps)


class SmallResNet(nn.Module):
    """A net of 6n + 2 layers; layers are named as torchvision's ResNet names them.

    Args:
        depth: layers with weights, projections aside: 8, 14, 20, 32, 44, 56, 110 …
        shortcut: see :data:`Shortcut`; ``none`` is the plain net.
        norm: whether there is BatchNorm; without, convolutions have biases.
        pre_activation: whether blocks are of :class:`PreActivationBlock`.
        width: factor on the channels, a multiple of 0.5.
        num_classes: outputs.

    Raises:
        UsageError: no such depth, width or shortcut.
    """

    def __init__(
        self,
        depth: int = 20,
        *,
        shortcut: Shortcut = "A",
        norm: bool = True,
        pre_activation: bool = False,
        width: float = 1.0,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        _check(depth, shortcut, width)
        block = PreActivationBlock if pre_activation else ResidualBlock
        before = round(width * STAGE_CHANNELS[0])
        self.pre_activation = pre_activation
        self.conv1 = nn.Conv2d(3, before, 3, 1, 1, bias=not norm)
        if not pre_activation:
            self.bn1, self.relu = _norm(before, norm), nn.ReLU()
        for stage, channels in enumerate((round(width * c) for c in STAGE_CHANNELS), start=1):
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            for i in range((depth - 2) // 6):
                stride = 2 if stage > 1 and i == 0 else 1
                blocks[str(i)] = block(before, channels, stride, shortcut, norm=norm)
                before = channels
            self.add_module(f"layer{stage}", nn.Sequential(blocks))
        if pre_activation:
            self.bn1, self.relu = _norm(before, norm), nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(before, num_classes)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        """Normalised images [n, 3, h, w] to logits [n, classes]."""
        maps = self.conv1(images)
        if not self.pre_activation:
            maps = self.relu(self.bn1(maps))
        for stage in range(1, len(STAGE_CHANNELS) + 1):
            maps = self.get_submodule(f"layer{stage}")(maps)
        if self.pre_activation:
            maps = self.relu(self.bn1(maps))
        logits: Tensor = self.fc(self.avgpool(maps).flatten(1))
        return logits


def _norm(channels: int, norm: bool) -> nn.Module:
    return nn.BatchNorm2d(channels) if norm else nn.Identity()


def _shortcut(channels_in: int, channels_out: int, stride: int, shortcut: Shortcut, *, norm: bool) -> nn.Module | None:
    changes = stride != 1 or channels_in != channels_out
    if shortcut == "none":
        return None
    if shortcut == "C" or (shortcut == "B" and changes):
        # Pixels are dropped first and projected then: the same as a strided convolution, without oneDNN's strided
        # 1×1 kernel, which can corrupt memory in its backward pass (see _check).
        projection = nn.Conv2d(channels_in, channels_out, 1, bias=not norm)
        return nn.Sequential(Subsampling(0, stride), projection, _norm(channels_out, norm))
    return Subsampling(channels_out - channels_in, stride) if changes else nn.Identity()


def _check(depth: int, shortcut: str, width: float) -> None:
    if depth < 8 or depth % 6 != 2:
        lower = max(8, depth - (depth - 2) % 6)
        raise UsageError(f"depth is {depth}, but these nets have 6n + 2 layers. Take {lower} or {lower + 6}.")
    if shortcut not in ("none", "A", "B", "C"):
        raise UsageError(f"shortcut is {shortcut!r}, but must be 'none', 'A', 'B' or 'C'.")
    # Multiples of 8 channels, because oneDNN's kernels for others corrupt memory on CPUs with AVX2 alone (torch 2.15).
    if width < 0.5 or not float(2 * width).is_integer():
        raise UsageError(f"width is {width:g}, but channels must be multiples of 8. Take 0.5, 1, 1.5, 2 or more.")
