"""What the 1×1 reductions of inception blocks save, counted from a network: multiply-accumulates with and without.

Szegedy et al. 2015, doi:10.1109/CVPR.2015.7298594, figure 2: the naive block (a) lets its 3×3 and 5×5 kernels read all
channels and hands on the pooled input as it is; the block that is used (b) narrows the channels by 1×1 before the large
kernels and behind the pooling.
"""

from dataclasses import dataclass
from typing import Any

from hilum.models.anatomy import network_table
from hilum.models.zoo import published_network

BRANCHES = ("branch1", "branch2.1", "branch3.1", "branch4.1")
"""The last convolution of each branch: 1×1, 3×3, 5×5 (3×3 in torchvision's), and 1×1 behind the pooling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InceptionCost:
    """One inception block, for one image."""

    block: str
    """Its name, such as ``inception3a``."""
    channels_in: int
    """Channels that it reads."""
    side: int
    """Height and width of its maps."""
    channels_out: int
    """Channels that it gives."""
    macs: int
    """Multiply-accumulates."""
    channels_out_naive: int
    """Channels that the naive block would give: the pooled input is handed on whole."""
    macs_naive: int
    """Multiply-accumulates of the naive block on the same input."""


def inception_costs(name: str, *, size: int | None = None, **options: Any) -> tuple[InceptionCost, ...]:
    """Costs of all inception blocks of a network of the zoo, in order.

    Args:
        name: the network's name, such as ``googlenet_5x5``.
        size: height and width of the image; the published size when None.
        options: keywords for the network's constructor.
    """
    table = network_table(name, size=size, **options)
    weights = published_network(name, **options).state_dict()
    sides = {row.name: row.shape[-1] for row in table.rows}
    found = []
    for block in dict.fromkeys(row.name.split(".")[0] for row in table.rows if row.name.startswith("inception")):
        # Each weight is [channels out, channels in, kernel, kernel].
        first, three, five, pooled = (weights[f"{block}.{branch}.conv.weight"].shape for branch in BRANCHES)
        side, channels_in = sides[f"{block}.branch1.conv"], first[1]
        kernels = sum(shape[0] * shape[2] * shape[3] for shape in (first, three, five))
        found.append(
            InceptionCost(
                block=block,
                channels_in=channels_in,
                side=side,
                channels_out=first[0] + three[0] + five[0] + pooled[0],
                macs=table.part((block,))[1],
                channels_out_naive=first[0] + three[0] + five[0] + channels_in,
                macs_naive=side**2 * channels_in * kernels,
            )
        )
    return tuple(found)
