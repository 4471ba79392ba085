"""LeNet-5 as published in 1998: connection table, trainable subsampling, scaled tanh, RBF outputs; 60,000 parameters.

LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document recognition", Proc. IEEE 86(11),
doi:10.1109/5.726791: section II.B and figure 2 (layers), Table I (what C3 sees), equations 4 to 7 (units), equations 8
and 9 (loss), figure 3 (codes of the outputs). :mod:`hilum.models.networks.lenet` is the same network as it is written
today.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d

C3_TABLE: tuple[tuple[int, ...], ...] = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)  # fmt: skip
"""Table I: which of the six maps of S2 each of the sixteen maps of C3 sees; 60 of 96 pairs."""

AMPLITUDE, SLOPE = 1.7159, 2 / 3
"""A and S of the squashing function f(a) = A·tanh(S·a), equation 6: then f(1) = 1 and f(−1) = −1."""

WHITE, BLACK = -0.1, 1.175
"""What the paper's inputs are for the background and for ink: mean about 0 and variance about 1 over an image."""

INPUT_MEAN, INPUT_STD = -WHITE / (BLACK - WHITE), 1 / (BLACK - WHITE)
"""The same as mean and spread of intensities 0 (background) … 1 (ink)."""

# Figure 3 draws the ten digits as 7 × 12 bitmaps with the two lowest rows kept for descenders. The paper gives them as
# a picture only; these are drawn anew for this package in that manner, pixel by pixel, and are not a copy of it.
_GLYPHS = """
..###..  ...#...  .#####.  .#####.  ....##.  #######  ..####.  #######  .#####.  .#####.
.##.##.  ..##...  ##...##  ##...##  ...###.  ##.....  .##....  ##...##  ##...##  ##...##
##...##  .###...  .....##  .....##  ..####.  ##.....  ##.....  .....##  ##...##  ##...##
##...##  ...#...  .....##  .....##  .##.##.  ##.....  ##.....  ....##.  ##...##  ##...##
##...##  ...#...  ....##.  ..####.  ##..##.  ######.  ######.  ...##..  .#####.  .######
##...##  ...#...  ...##..  .....##  #######  .....##  ##...##  ...##..  ##...##  .....##
##...##  ...#...  ..##...  .....##  ....##.  .....##  ##...##  ..##...  ##...##  .....##
##...##  ...#...  .##....  .....##  ....##.  .....##  ##...##  ..##...  ##...##  .....##
.##.##.  ...#...  ##.....  ##...##  ....##.  ##...##  ##...##  ..##...  ##...##  ....##.
..###..  .#####.  #######  .#####.  ....##.  .#####.  .#####.  ..##...  .#####.  .####..
.......  .......  .......  .......  .......  .......  .......  .......  .......  .......
.......  .......  .......  .......  .......  .......  .......  .......  .......  .......
"""
CODE_HEIGHT, CODE_WIDTH = 12, 7


def digit_codes() -> Float[Tensor, "10 84"]:
    """Parameter vectors of the ten RBF outputs: +1 where the digit's 7 × 12 bitmap has ink, −1 elsewhere, row by row.

    Stylised like the paper's figure 3, but drawn for this package: the paper prints them as a picture only.
    """
    rows = [line.split() for line in _GLYPHS.split("\n") if line]
    pixels = ["".join(row[digit] for row in rows) for digit in range(len(rows[0]))]
    return torch.tensor([[1.0 if ink == "#" else -1.0 for ink in digit] for digit in pixels])


def _fill(tensor: Tensor, fan_in: int, generator: Generator | None) -> None:
    """Uniform within ±2.4/F, F the number of inputs of a unit: the paper's initial weights."""
    nn.init.uniform_(tensor, -2.4 / fan_in, 2.4 / fan_in, generator=generator)


class ScaledTanh(nn.Module):
    """The squashing function of every layer up to F6: f(a) = 1.7159·tanh(2a/3), equation 6."""

    def forward(self, sums: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Weighted sums to states, within ±1.7159."""
        return AMPLITUDE * torch.tanh(SLOPE * sums)


class FanInConv2d(nn.Conv2d):
    """A convolution that sees every map below, with the paper's initial weights."""

    def initialise(self, generator: Generator | None = None) -> None:
        """Fresh weights and biases within ±2.4/F, F the number of a unit's inputs."""
        fan_in = self.weight[0].numel()
        _fill(self.weight, fan_in, generator)
        if self.bias is not None:
            _fill(self.bias, fan_in, generator)

    def reset_parameters(self) -> None:
        """What torch calls at the end of the constructor."""
        self.initialise()


class FanInLinear(nn.Linear):
    """A fully connected layer with the paper's initial weights."""

    def initialise(self, generator: Generator | None = None) -> None:
        """Fresh weights and biases within ±2.4/F, F the number of a unit's inputs."""
        _fill(self.weight, self.in_features, generator)
        _fill(self.bias, self.in_features, generator)

    def reset_parameters(self) -> None:
        """What torch calls at the end of the constructor."""
        self.initialise()


class TableConv2d(nn.Module):
    """A convolution in which each map sees only those maps below that a table names, as C3 does.

    It holds weights for the links of the table alone; for the convolution they are laid into a dense array with zeros.

    Args:
        channels_in: maps below.
        table: for each map the numbers of the maps below that it sees, ascending.
        kernel: height and width of its window.
    """

    def __init__(self, channels_in: int, table: Sequence[Sequence[int]], kernel: int) -> None:
        super().__init__()
        self.channels_in, self.table = channels_in, tuple(tuple(seen) for seen in table)
        self.links = tuple(map_ * channels_in + below for map_, seen in enumerate(self.table) for below in seen)
        self.weight = nn.Parameter(torch.empty(len(self.links), kernel, kernel))
        self.bias = nn.Parameter(torch.empty(len(self.table)))
        self.initialise()

    def initialise(self, generator: Generator | None = None) -> None:
        """Fresh weights within ±2.4/F; F differs from map to map, because they see three, four or six maps."""
        with torch.no_grad():
            windows = torch.split(self.weight, [len(seen) for seen in self.table])
            for window, bias in zip(windows, torch.split(self.bias, 1), strict=True):
                _fill(window, window.numel(), generator)
                _fill(bias, window.numel(), generator)

    def dense_weight(self) -> Float[Tensor, "maps below k k"]:
        """The weights with zeros for the pairs of maps that are not linked."""
        maps, kernel = len(self.table), self.weight.shape[1:]
        dense = self.weight.new_zeros((maps * self.channels_in, *kernel))
        dense = dense.index_copy(0, torch.tensor(self.links, device=self.weight.device), self.weight)
        return dense.view(maps, self.channels_in, *kernel)

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d y x"]:
        """Maps below [n, c, h, w] to [n, d, h − k + 1, w − k + 1]."""
        return conv2d(maps, self.dense_weight(), self.bias)

    def macs(self, output: Tensor) -> int:
        """Multiply-accumulates for one image: those of the links, not of the zeros between them."""
        return self.weight.numel() * output[0, 0].numel()

    def connections(self, output: Tensor) -> int:
        """Links into all units, each unit's bias included."""
        return (self.weight.numel() + self.bias.numel()) * output[0, 0].numel()


class Subsampling(nn.Module):
    """Trainable subsampling: each unit adds its 2 × 2 inputs, times the map's coefficient, plus the map's bias.

    Args:
        maps: number of maps, each with one coefficient and one bias.
    """

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.empty(maps))
        self.bias = nn.Parameter(torch.empty(maps))
        self.initialise()

    def initialise(self, generator: Generator | None = None) -> None:
        """Fresh values within ±2.4/4: a unit has four inputs."""
        _fill(self.coefficient, 4, generator)
        _fill(self.bias, 4, generator)

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c y x"]:
        """Maps [n, c, h, w] to [n, c, h/2, w/2]."""
        return avg_pool2d(maps, 2) * (4 * self.coefficient[:, None, None]) + self.bias[:, None, None]

    def macs(self, output: Tensor) -> int:
        """One multiplication and addition a unit; the three further additions are not counted."""
        return output[0].numel()

    def connections(self, output: Tensor) -> int:
        """Four inputs and a bias a unit."""
        return 5 * output[0].numel()


class RadialBasis(nn.Module):
    """Euclidean RBF outputs with fixed codes: y_i = Σ_j (x_j − w_ij)², equation 7. It answers with −y as logits.

    Args:
        codes: the w_ij, ±1.
    """

    def __init__(self, codes: Float[Tensor, "k j"]) -> None:
        super().__init__()
        self.register_buffer("codes", codes)
        self.codes: Tensor

    def initialise(self, generator: Generator | None = None) -> None:
        """Put the codes back; nothing here is random."""
        self.codes.copy_(digit_codes())

    def forward(self, states: Float[Tensor, "n j"]) -> Float[Tensor, "n k"]:
        """States of F6 [n, 84] to logits [n, 10]: minus the squared distance to each code, ≤ 0."""
        return -(states[:, None] - self.codes).square().sum(2)

    def macs(self, output: Tensor) -> int:
        """One squared difference, added up, for each component of each code."""
        return self.codes.numel()

    def connections(self, output: Tensor) -> int:
        """One for each component of each code; there is no bias."""
        return self.codes.numel()


class LeNet5Original(nn.Module):
    """LeNet-5 of 1998: 340,908 connections, 60,000 trainable parameters, ten outputs with fixed codes."""

    def __init__(self) -> None:
        super().__init__()
        self.c1 = FanInConv2d(1, 6, 5)
        self.squash1 = ScaledTanh()
        self.s2 = Subsampling(6)
        self.squash2 = ScaledTanh()
        self.c3 = TableConv2d(6, C3_TABLE, 5)
        self.squash3 = ScaledTanh()
        self.s4 = Subsampling(16)
        self.squash4 = ScaledTanh()
        self.c5 = FanInConv2d(16, 120, 5)
        self.squash5 = ScaledTanh()
        self.f6 = FanInLinear(120, CODE_HEIGHT * CODE_WIDTH)
        self.squash6 = ScaledTanh()
        self.output = RadialBasis(digit_codes())

    def forward(self, images: Float[Tensor, "n 1 32 32"]) -> Float[Tensor, "n 10"]:
        """Images [n, 1, 32, 32], background −0.1 and ink 1.175, to logits [n, 10]: minus the RBF penalties y."""
        logits: Tensor = self.output(self.codes_of(images))
        return logits

    def codes_of(self, images: Float[Tensor, "n 1 32 32"]) -> Float[Tensor, "n 84"]:
        """The states of F6, which training draws towards the digit's bitmap."""
        maps = self.squash2(self.s2(self.squash1(self.c1(images))))
        maps = self.squash4(self.s4(self.squash3(self.c3(maps))))
        states: Tensor = self.squash6(self.f6(self.squash5(self.c5(maps)).flatten(1)))
        return states
