"""Plain nets: ResNet-18 and ResNet-34 with every shortcut taken away, which is what the residual paper compares with.

He, Zhang, Ren, Sun 2016, "Deep residual learning for image recognition", CVPR, doi:10.1109/CVPR.2016.90, section 3.3
("plain network") and figure 3, middle.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

STAGE_CHANNELS = (64, 128, 256, 512)


class PlainBlock(nn.Module):
    """Two 3×3 convolutions, each with BatchNorm and ReLU, and nothing around them.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        stride: stride of the first convolution, 1 or 2.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d y x"]:
        """Maps [n, c, h, w] to [n, d, ⌈h/stride⌉, ⌈w/stride⌉], ≥ 0."""
        out: Tensor = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(maps))))))
        return out


class PlainNet(nn.Module):
    """The ResNet of basic blocks without its shortcuts; layers are named as torchvision's ResNet names them.

    Args:
        blocks: blocks in each of the four stages; (2, 2, 2, 2) has 18 layers, (3, 4, 6, 3) has 34.
        num_classes: outputs.
    """

    def __init__(self, blocks: Sequence[int], num_classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        before = 64
        for stage, (count, channels) in enumerate(zip(blocks, STAGE_CHANNELS, strict=True), start=1):
            first = PlainBlock(before, channels, 1 if stage == 1 else 2)
            rest = [PlainBlock(channels, channels, 1) for _ in range(count - 1)]
            self.add_module(f"layer{stage}", nn.Sequential(first, *rest))
            before = channels
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(before, num_classes)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        """Normalised images [n, 3, h, w] to logits [n, classes]."""
        maps = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for stage in range(1, 5):
            maps = self.get_submodule(f"layer{stage}")(maps)
        logits: Tensor = self.fc(self.avgpool(maps).flatten(1))
        return logits
