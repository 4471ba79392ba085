"""Encoders: a network of the zoo without its classifier, as an ordered list of named layers, to be cut anywhere."""

from jaxtyping import Float
from torch import Tensor, nn

from hilum.errors import UsageError, nearest
from hilum.models.initialisation import generator_from, initialise
from hilum.models.zoo import Architecture, architecture, published_network
from hilum.randomness import seed_for

Cut = str | int
"""Where a network is cut: the name of the first layer behind the cut, or its position (0 … number of layers)."""


class Encoder(nn.Module):
    """Normalised images [n, c, h, w] → feature map [n, channels, y, x].

    The modules keep the published network's names, so that state-dict keys equal torchvision's. For every cut,
    ``suffix(prefix(x, cut), cut)`` equals ``forward(x)``.

    Args:
        name: the network's name in the zoo.
        network: the published network; its modules are taken over, the classifier is left behind.
        row: the network's row in the zoo.
    """

    def __init__(self, name: str, network: nn.Module, row: Architecture) -> None:
        super().__init__()
        self.name = name
        self.layers = row.layers
        self.channels = row.channels
        self.in_channels = row.in_channels
        self.last_block = row.last_block
        if row.appended_relu:
            parent, _, child = row.appended_relu.rpartition(".")
            network.get_submodule(parent).add_module(child, nn.ReLU(inplace=True))
        for top in dict.fromkeys(layer.split(".")[0] for layer in row.layers):
            self.add_module(top, network.get_submodule(top))

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d y x"]:
        """The whole encoder.

        Args:
            images: normalised, ``in_channels`` channels.

        Returns:
            the feature map after the last activation.
        """
        return self.suffix(images, 0)

    def prefix(self, images: Float[Tensor, "n c h w"], cut: Cut) -> Float[Tensor, "n d y x"]:
        """Run the layers before a cut."""
        return self._run(images, self.layers[: self.position(cut)])

    def suffix(self, maps: Float[Tensor, "n c h w"], cut: Cut) -> Float[Tensor, "n d y x"]:
        """Run the layers from a cut to the end, on what the prefix gave."""
        return self._run(maps, self.layers[self.position(cut) :])

    def layer(self, name: str) -> nn.Module:
        """The module of a layer.

        Raises:
            UsageError: no such layer.
        """
        return self.get_submodule(self.layers[self.position(name)])

    def position(self, cut: Cut) -> int:
        """Position of a cut: 0 is before the first layer, ``len(layers)`` behind the last.

        Raises:
            UsageError: no such layer or position.
        """
        if isinstance(cut, int):
            if not 0 <= cut <= len(self.layers):
                raise UsageError(f"Cut {cut} is outside {self.name}, which has cuts 0 … {len(self.layers)}.")
            return cut
        if cut not in self.layers:
            raise UsageError(f"Layer {cut!r} is not in the encoder of {self.name}. {nearest(cut, self.layers)}")
        return self.layers.index(cut)

    def modules_before(self, cut: Cut) -> list[nn.Module]:
        """The layers before a cut: what a stage that trains from the cut on keeps frozen."""
        return [self.get_submodule(name) for name in self.layers[: self.position(cut)]]

    def modules_from(self, cut: Cut) -> list[nn.Module]:
        """The layers from a cut on: what a stage trains."""
        return [self.get_submodule(name) for name in self.layers[self.position(cut) :]]

    def _run(self, maps: Tensor, names: tuple[str, ...]) -> Tensor:
        if names and getattr(self.get_submodule(names[0]), "inplace", False):
            maps = maps.clone()  # a cut before an in-place ReLU must not change what the caller holds
        for name in names:
            maps = self.get_submodule(name)(maps)
        return maps


def build_encoder(name: str, seed: int) -> Encoder:
    """An encoder with random weights.

    The published network is laid out without storage first, so that a classifier of a hundred million parameters
    (VGG) is never filled only to be thrown away.

    Args:
        name: the network's name in the zoo.
        seed: the run's seed; the weights have their own stream.

    Raises:
        UsageError: no such network.
    """
    row = architecture(name)
    encoder = Encoder(name, published_network(name), row)
    encoder.to_empty(device="cpu")
    initialise(encoder, generator_from(seed_for(seed, "encoder", name)))
    return encoder
