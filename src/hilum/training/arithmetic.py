"""What a training costs in multiply-accumulates, counted from the network's layers before anything is run.

A forward pass through a part of a network costs that part's MACs. A backward pass through it costs twice as many: one
product for the gradient by the weights, one for the gradient by the inputs. (The very first trained layer needs no
gradient by its inputs; that is not subtracted.) Frozen layers are run forward only, and once for each view of an image
where their outputs are cached::

    MACs = frozen · frozen_runs + 3 · trained · passes

Scoring, batch normalisation, activations, pooling and the optimiser's own steps are not counted.
"""

from dataclasses import dataclass
from functools import lru_cache

from hilum.errors import UsageError
from hilum.models.anatomy import layer_rows
from hilum.models.encoders import Encoder
from hilum.models.heads import Head
from hilum.models.zoo import architecture, published_network

BACKWARD = 2
"""MACs of a backward pass through trained layers, in forward passes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartMacs:
    """One image's forward pass, in multiply-accumulates."""

    frozen: int
    """Through the layers before the cut."""
    trained: int
    """Through the layers from the cut on, and the head."""

    def training(self, passes: int, frozen_runs: int) -> int:
        """MACs of a training.

        Args:
            passes: images × epochs.
            frozen_runs: how often an image went through the frozen layers: images × views with a cache, else as often
                as ``passes``.
        """
        return self.frozen * frozen_runs + (1 + BACKWARD) * self.trained * passes


@lru_cache(maxsize=64)
def encoder_macs(name: str, size: int) -> tuple[int, ...]:
    """Multiply-accumulates of one image in each layer of an encoder, in order.

    Args:
        name: the network's name in the zoo.
        size: height and width of the image in pixels.

    Raises:
        UsageError: no such network, or it can't take that size.
    """
    row = architecture(name)
    try:
        rows = layer_rows(Encoder(name, published_network(name), row), (row.in_channels, size, size))
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{name} can't take images of {size} × {size} ({reason}). Try {row.size}.") from error
    return tuple(
        sum(part.macs for part in rows if part.name == layer or part.name.startswith(f"{layer}."))
        for layer in row.layers
    )


def head_macs(head: Head) -> int:
    """Multiply-accumulates of one image in a head's two linear layers."""
    return sum(layer.in_features * layer.out_features for layer in (head.fc1, head.fc2))


def part_macs(name: str, size: int, cut: int, head: Head) -> PartMacs:
    """A network's MACs before and behind a cut.

    Args:
        name: the network's name in the zoo.
        size: height and width of the image in pixels.
        cut: number of frozen layers.
        head: behind the encoder; always trained.

    Raises:
        UsageError: no such network, or it can't take that size.
    """
    layers = encoder_macs(name, size)
    return PartMacs(frozen=sum(layers[:cut]), trained=sum(layers[cut:]) + head_macs(head))
