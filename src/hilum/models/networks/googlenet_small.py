"""GoogLeNet with what torchvision's can't choose: the paper's 5×5 kernels, a stem for 32 × 32 pixels, and a width.

Szegedy et al. 2015, "Going deeper with convolutions", CVPR, doi:10.1109/CVPR.2015.7298594, table 1 and figure 3. The
blocks and all names are torchvision's, and the weights keep its keys. Its third branch (``branch3``) has 3×3 kernels
where the paper has 5×5: the model was ported from TensorFlow, which has 3×3 there, and can't be changed without new
weights (github.com/pytorch/vision/issues/906). Its BatchNorm is of Ioffe, Szegedy 2015, arXiv:1502.03167; the paper's
network has none.
"""

from functools import partial
from typing import Any, Literal

from torch import nn

from hilum.errors import UsageError

EIGHTHS = 8
"""All channel counts of the paper are multiples of 8, so every width in eighths keeps their proportions exactly."""


def build_googlenet(
    num_classes: int = 1000,
    *,
    kernel: Literal[3, 5] = 5,
    auxiliary: bool = False,
    stem: Literal["large", "small"] = "large",
    early_pools: int = 0,
    width: float = 1.0,
    dropout: float = 0.2,
    auxiliary_dropout: float = 0.7,
) -> nn.Module:
    """A GoogLeNet with torchvision's names; weights are as torch's layers make them, or none on the meta device.

    Args:
        num_classes: outputs.
        kernel: of the third branch: 5 as published, 3 as torchvision has it.
        auxiliary: two auxiliary classifiers, behind 4a and 4d; in training mode the network then gives a tuple of its
            logits and theirs.
        stem: ``large`` for 224 pixels (7×7 with stride 2, two poolings); ``small`` for 32 (3×3 with stride 1).
        early_pools: how many of the two poolings the small stem keeps, 0, 1 or 2: what the inception blocks see of 32
            pixels begins with 32, 16 or 8. Each divides their work by four.
        width: factor of all channels but the image's, in eighths.
        dropout: before the classifier; the paper's 40 % is 0.4, torchvision's default 0.2.
        auxiliary_dropout: in the auxiliary classifiers; the paper's 70 %.

    Raises:
        UsageError: a width, kernel or number of poolings that there is not.
    """
    from torchvision.models.googlenet import GoogLeNet  # about a second: only when a network is built

    _check(kernel, early_pools, width)
    scaled = partial(_scaled, width=width)
    convolution = partial(_convolution, width=width)
    network: nn.Module = GoogLeNet(
        num_classes=num_classes,
        aux_logits=auxiliary,
        transform_input=False,
        init_weights=False,
        blocks=[
            convolution,
            partial(_inception, kernel=kernel, width=width),
            partial(_auxiliary, width=width),
        ],
        dropout=dropout,
        dropout_aux=auxiliary_dropout,
    )
    network.fc = nn.Linear(scaled(1024), num_classes)
    if stem == "small":
        network.conv1 = convolution(3, 64, kernel_size=3, padding=1)
        for number in (1, 2):
            if number > early_pools:
                setattr(network, f"maxpool{number}", nn.Identity())
    return network


def _check(kernel: int, early_pools: int, width: float) -> None:
    if kernel not in (3, 5):
        raise UsageError(f"kernel is {kernel}, but GoogLeNet's third branch has 3 (torchvision) or 5 (the paper).")
    if early_pools not in (0, 1, 2):
        raise UsageError(f"early_pools is {early_pools}, but the stem has two poolings: keep 0, 1 or 2.")
    if width <= 0 or (EIGHTHS * width) % 1:
        raise UsageError(f"width is {width:g}, but must be a multiple of 1/{EIGHTHS}, such as 0.25, 0.5 or 1.")


def _scaled(channels: int, width: float) -> int:
    return int(channels * width)


def _convolution(channels_in: int, channels_out: int, *, width: float, **options: Any) -> nn.Module:
    """A convolution with BatchNorm and ReLU; an image's three channels stay three."""
    from torchvision.models.googlenet import BasicConv2d

    before = channels_in if channels_in == 3 else _scaled(channels_in, width)
    block: nn.Module = BasicConv2d(before, _scaled(channels_out, width), **options)
    return block


def _inception(channels_in: int, *channels: int, kernel: int, width: float) -> nn.Module:
    """An inception block whose third branch has the kernel asked for."""
    from torchvision.models.googlenet import BasicConv2d, Inception

    block: Any = Inception(_scaled(channels_in, width), *(_scaled(count, width) for count in channels))
    if kernel == 5:
        reduced, wide = (_scaled(count, width) for count in channels[3:5])
        block.branch3[1] = BasicConv2d(reduced, wide, kernel_size=5, padding=2)
    whole: nn.Module = block
    return whole


def _auxiliary(channels_in: int, num_classes: int, *, dropout: float, width: float) -> nn.Module:
    """An auxiliary classifier: pooling to 4 × 4, 1×1 convolution to 128, 1,024 hidden units."""
    from torchvision.models.googlenet import BasicConv2d, InceptionAux

    narrow, hidden = _scaled(128, width), _scaled(1024, width)

    def convolution(before: int, after: int, **options: Any) -> nn.Module:
        block: nn.Module = BasicConv2d(before, narrow, **options)
        return block

    head: Any = InceptionAux(_scaled(channels_in, width), num_classes, conv_block=convolution, dropout=dropout)
    head.fc1, head.fc2 = nn.Linear(4 * 4 * narrow, hidden), nn.Linear(hidden, num_classes)
    whole: nn.Module = head
    return whole
