"""Layers whose weights begin normal with one fixed spread, as AlexNet's and VGG's did, whatever the layer's size."""

from torch import Generator, nn


class GaussianConv2d(nn.Conv2d):
    """A convolution whose weights begin normal with a given spread.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        kernel: its side.
        stride: distance of the outputs.
        padding: pixels added at each border.
        groups: parts of the channels that don't see each other.
        spread: standard deviation of the initial weights.
        bias_start: initial value of every bias.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        spread: float = 0.01,
        bias_start: float = 0.0,
    ) -> None:
        self.spread, self.bias_start = spread, bias_start
        super().__init__(channels_in, channels_out, kernel, stride, padding, groups=groups)

    def initialise(self, generator: Generator | None = None) -> None:
        """Fresh weights with the spread, and the biases' value."""
        _fill(self, self.spread, self.bias_start, generator)


class GaussianLinear(nn.Linear):
    """A linear layer whose weights begin normal with a given spread.

    Args:
        features_in: inputs.
        features_out: outputs.
        spread: standard deviation of the initial weights.
        bias_start: initial value of every bias.
    """

    def __init__(self, features_in: int, features_out: int, *, spread: float = 0.01, bias_start: float = 0.0) -> None:
        self.spread, self.bias_start = spread, bias_start
        super().__init__(features_in, features_out)

    def initialise(self, generator: Generator | None = None) -> None:
        """Fresh weights with the spread, and the biases' value."""
        _fill(self, self.spread, self.bias_start, generator)


def _fill(layer: nn.Conv2d | nn.Linear, spread: float, bias_start: float, generator: Generator | None) -> None:
    nn.init.normal_(layer.weight, 0.0, spread, generator=generator)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, bias_start)
