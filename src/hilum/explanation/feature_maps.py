"""Feature maps: what each layer of a network makes of an image, and how much of it is silent.

Zeiler, Fergus 2014, "Visualizing and understanding convolutional networks", ECCV, doi:10.1007/978-3-319-10590-1_53;
dead ReLU units: Maas, Hannun, Ng 2013, "Rectifier nonlinearities improve neural network acoustic models", ICML.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from hilum.errors import UsageError
from hilum.explanation.watching import watched

SHOWN_KINDS: tuple[type[nn.Module], ...] = (
    nn.Conv2d,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.ReLU,
    nn.ReLU6,
    nn.SiLU,
    nn.GELU,
    nn.Tanh,
    nn.Sigmoid,
)
"""Layers whose outputs are taken when none is named: convolutions, pooling, activations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapStatistics:
    """How the maps of one layer behave over a batch of images."""

    layer: str
    """The layer's name."""
    units: int
    """Number of maps."""
    mean: tuple[float, ...]
    """Mean of each map over places and images."""
    std: tuple[float, ...]
    """Standard deviation of each map over places and images."""
    maximum: tuple[float, ...]
    """Largest value of each map."""
    silent: tuple[float, ...]
    """Share of places of each map, over all images, whose value is exactly 0."""
    sparsity: float
    """The same over all maps."""
    dead: tuple[int, ...]
    """Maps that have one value at all places of all images, and so tell nothing of them."""


def feature_maps(
    network: nn.Module, images: Shaped[Tensor, "n c h w"], layers: Sequence[str] | None = None
) -> dict[str, Float[Tensor, "n d y x"]]:
    """Outputs of a network's layers for one batch, in the order in which they run.

    The network answers in eval mode and without gradients, and is as before afterwards.

    Args:
        network: any.
        images: as the network takes them, on its device.
        layers: fully-qualified names; all convolutions, poolings and activations that give maps when None.

    Returns:
        copies of the maps by name. A layer that runs several times, as the ReLU of a residual block does, has its
        later maps under ``name:2``, ``name:3`` and so on.

    Raises:
        UsageError: there is no such layer, it never ran, or its output is no map.
    """
    kept: dict[str, Tensor] = {}
    runs: Counter[str] = Counter()

    def note(name: str, output: Tensor) -> None:
        if layers is None and (not isinstance(output, Tensor) or output.ndim != 4):
            return
        runs[name] += 1
        kept[name if runs[name] == 1 else f"{name}:{runs[name]}"] = output.detach().clone()

    shown = [name for name, module in network.named_modules() if isinstance(module, SHOWN_KINDS)]
    names = shown if layers is None else list(layers)
    with watched(network, names, note):
        network(images)
    for name in layers or ():
        _check(name, kept.get(name))
    return kept


def _check(name: str, maps: Tensor | None) -> None:
    if maps is None or maps.ndim != 4:
        found = "never ran" if maps is None else f"gives {list(maps.shape)}"
        raise UsageError(f"Layer {name!r} {found}, but feature maps are [n, maps, h, w]. Name another layer.")


def map_statistics(layer: str, maps: Float[Tensor, "n d y x"]) -> MapStatistics:
    """Statistics of one layer's maps over a batch.

    Args:
        layer: the layer's name.
        maps: its output, for several images; over a single one many maps are silent that others would wake.
    """
    units = maps.shape[1]
    flat = maps.detach().transpose(0, 1).reshape(units, -1).to(torch.float64)
    silent = (flat == 0).double().mean(1)
    highest, lowest = flat.amax(1), flat.amin(1)
    return MapStatistics(
        layer=layer,
        units=units,
        mean=tuple(flat.mean(1).tolist()),
        std=tuple(flat.std(1, correction=0).tolist()),
        maximum=tuple(highest.tolist()),
        silent=tuple(silent.tolist()),
        sparsity=float(silent.mean()),
        dead=tuple((highest == lowest).nonzero().flatten().tolist()),
    )
