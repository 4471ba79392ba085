"""Anatomy: the layer table of a network, with shapes, parameters, multiply-accumulates and receptive fields.

A network runs once on torch's meta device: shapes flow through it, numbers don't, so that the table of a VGG costs
milliseconds. A multiply-accumulate (MAC) is one multiplication and one addition; floating-point operations would be
twice as many, and are never given. MACs are counted for convolutions, linear layers, and layers that count their own.
"""

import math
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from hilum.errors import UsageError
from hilum.models.encoders import Encoder
from hilum.models.memory import WORD, MemoryEstimate, OptimiserName, kept_for_backward, training_memory
from hilum.models.receptive_fields import Field, FieldTracker
from hilum.models.zoo import architecture, published_network


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One layer of a network, each time it runs."""

    name: str
    """Fully-qualified name of the module."""
    kind: str
    """Its class, such as ``Conv2d``."""
    shape: tuple[int, ...]
    """Shape of its output for one image, channels first; empty when it never runs."""
    parameters: int
    """Trainable numbers; 0 when the layer already ran in an earlier row."""
    macs: int
    """Multiply-accumulates for one image."""
    connections: int
    """Uses of a weight or a bias for one image, as LeCun et al. 1998 count them; 0 for layers without weights."""
    activation_bytes: int
    """Bytes of its output for one image in fp32."""
    receptive_field: int | None
    """Height in pixels of what one output depends on, borders aside; None for the whole image."""
    local_field: int | None
    """The same without squeeze-and-excitation, which sees the whole image to scale each map as one."""
    depth: int
    """Layers with weights, norms aside, on the longest way from the image to the output, this one included."""
    training_only: bool = False
    """It runs in training alone, as GoogLeNet's auxiliary classifiers do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTable:
    """The layer table of a network."""

    name: str
    """The network's name in the zoo."""
    input_shape: tuple[int, ...]
    """Shape of one image, channels first."""
    rows: tuple[LayerRow, ...]
    """The layers in the order in which they run; what runs in training alone comes last."""

    @property
    def parameters(self) -> int:
        """Trainable numbers of the network."""
        return sum(row.parameters for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image, auxiliary classifiers aside."""
        return sum(row.macs for row in self.rows if not row.training_only)

    @property
    def connections(self) -> int:
        """Uses of a weight or a bias for one image, auxiliary classifiers aside."""
        return sum(row.connections for row in self.rows if not row.training_only)

    @property
    def depth(self) -> int:
        """Layers with weights on the longest way through the network: the number in names such as ResNet-50."""
        return max((row.depth for row in self.rows if not row.training_only), default=0)

    @property
    def weighted_layers(self) -> int:
        """All layers with weights, norms aside: those on shortcuts and side branches too."""
        return len({row.name for row in self.rows if row.macs and not row.training_only})

    def part(self, layers: tuple[str, ...]) -> tuple[int, int]:
        """Parameters and multiply-accumulates of some layers with everything below them."""
        inside = [
            row for row in self.rows if any(row.name == name or row.name.startswith(name + ".") for name in layers)
        ]
        return sum(row.parameters for row in inside), sum(row.macs for row in inside)


def network_table(name: str, *, size: int | None = None, **options: Any) -> NetworkTable:
    """Layer table of a published network of the zoo, its classifier included.

    Args:
        name: the network's name in the zoo.
        size: height and width of the image in pixels; the published size when None.
        options: keywords for the network's constructor, such as ``num_classes=3`` or GoogLeNet's ``aux_logits=True``.

    Raises:
        UsageError: no such network, or it can't take that size.
    """
    row = architecture(name)
    shape = (row.in_channels, size or row.size, size or row.size)
    try:
        rows = layer_rows(published_network(name, **options), shape)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{name} can't take images of {shape[1]} × {shape[2]} ({reason}). Try {row.size}.") from error
    return NetworkTable(name=name, input_shape=shape, rows=rows)


def layer_rows(network: nn.Module, shape: tuple[int, ...]) -> tuple[LayerRow, ...]:
    """Rows of any network's layers, in the order in which they run.

    Args:
        network: on the meta device; it is left in eval mode.
        shape: of one image, channels first.
    """
    watch = _Watch()
    watch.run(network.eval(), torch.empty((1, *shape), device="meta"), training_only=False)
    resting = [name for name, layer in network.named_modules() if layer._parameters and name not in watch.seen]
    if resting:
        # Two images: BatchNorm in training mode refuses a single one where its maps are of one pixel.
        watch.run(network.train(), torch.empty((2, *shape), device="meta"), training_only=True)
        network.eval()
        for name in set(resting) - watch.seen:
            watch.note_unused(name, network.get_submodule(name))
    return tuple(watch.rows)


@dataclass(slots=True)
class _Watch:
    """Notes a row for each layer that runs."""

    rows: list[LayerRow] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    counted: set[int] = field(default_factory=set)

    def run(self, network: nn.Module, images: Tensor, *, training_only: bool) -> None:
        """Run the network once; in a second run only layers count that didn't run in the first."""
        tracker, before = FieldTracker(images), set(self.seen)
        with ExitStack() as stack:
            for name, layer in network.named_modules():
                if name not in before and (not list(layer.children()) or layer._parameters):
                    note = self._hook(name, tracker, training_only)
                    stack.callback(layer.register_forward_hook(note).remove)
            stack.enter_context(torch.no_grad())
            stack.enter_context(tracker)
            network(images)

    def note_unused(self, name: str, layer: nn.Module) -> None:
        """A layer that never runs still has its parameters."""
        self.rows.append(
            LayerRow(
                name=name,
                kind=type(layer).__name__,
                shape=(),
                parameters=self._parameters(layer),
                macs=0,
                connections=0,
                activation_bytes=0,
                receptive_field=None,
                local_field=None,
                depth=0,
                training_only=True,
            )
        )

    def _hook(self, name: str, tracker: FieldTracker, training_only: bool) -> Callable[[nn.Module, Any, Any], None]:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            parameters, macs = self._parameters(layer), _macs(layer, output)
            if macs:
                tracker.deepen(output)
            seen = tracker.of(output)
            self.seen.add(name)
            self.rows.append(
                LayerRow(
                    name=name,
                    kind=type(layer).__name__,
                    shape=tuple(output.shape[1:]),
                    parameters=parameters,
                    macs=macs,
                    connections=connections(layer, output),
                    activation_bytes=WORD * math.prod(output.shape[1:]),
                    receptive_field=None if seen.also_whole else seen.height,
                    local_field=seen.height,
                    depth=seen.depth,
                    training_only=training_only,
                )
            )

        return hook

    def _parameters(self, layer: nn.Module) -> int:
        """The layer's own parameters; what is shared with an earlier layer was counted there."""
        own = [p for p in layer.parameters(recurse=False) if id(p) not in self.counted]
        self.counted.update(id(p) for p in own)
        return sum(p.numel() for p in own)


@runtime_checkable
class CountsItself(Protocol):
    """A layer of a kind that is not known here, and which says itself what it costs."""

    def macs(self, output: Tensor) -> int:
        """Multiply-accumulates for one image, from the output of a batch."""

    def connections(self, output: Tensor) -> int:
        """Uses of a weight or a bias for one image, from the output of a batch."""


def _macs(layer: nn.Module, output: Tensor) -> int:
    if isinstance(layer, CountsItself):
        return layer.macs(output)
    if isinstance(layer, nn.Conv2d):
        return output[0].numel() * layer.weight[0].numel()
    if isinstance(layer, nn.Linear):
        return output[0].numel() * layer.in_features
    return 0


def connections(layer: nn.Module, output: Tensor) -> int:
    """Connections of a layer for one image: how often a weight or a bias is used, each output's bias included.

    LeCun et al. 1998, doi:10.1109/5.726791, section II.B, count so: C1 of LeNet-5 has 28 · 28 · 6 · (25 + 1) = 122,304
    connections and 156 parameters, because its weights are shared by all places.

    Args:
        layer: a convolution, a linear layer, or one that counts its own; all others have none (a max-pooling has no
            weights, and a BatchNorm is not part of the count).
        output: its output [n, ...] for a batch; only the shape counts.
    """
    if isinstance(layer, CountsItself):
        return layer.connections(output)
    if isinstance(layer, nn.Conv2d | nn.Linear):
        biases = 0 if layer.bias is None else output[0].numel()
        return _macs(layer, output) + biases
    return 0


def activation_bytes(table: NetworkTable) -> int:
    """Bytes of all layers' outputs for one image in fp32; what training keeps is counted in ``models.memory``."""
    return sum(row.activation_bytes for row in table.rows if not row.training_only)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRow:
    """What one network of a comparison is made of and what it costs."""

    name: str
    """Name in the zoo."""
    year: int
    """Year of the publication."""
    citation: str
    """Who published it, where."""
    input_shape: tuple[int, ...]
    """Shape of one image, channels first."""
    depth: int
    """Layers with weights on the longest way through it, norms aside."""
    weighted_layers: int
    """All layers with weights, norms aside."""
    parameters: int
    """Trainable numbers."""
    classifier_parameters: int
    """Those behind the encoder's last feature map."""
    classifier_share: float
    """Their share of all, 0 to 1."""
    macs: int
    """Multiply-accumulates for one image."""
    feature_map: tuple[int, ...]
    """Shape of the encoder's last feature map."""
    receptive_field: int | None
    """Height in pixels of what a place of that map depends on; None for the whole image."""
    local_field: int | None
    """The same without squeeze-and-excitation, which sees the whole image."""
    activation_bytes: int
    """Bytes of all layers' outputs for one image in fp32."""
    kept_bytes: int
    """Bytes that autograd keeps of one image for the backward pass in fp32."""
    training: tuple[MemoryEstimate, ...]
    """Estimated memory of training, for each size of batch."""


BATCHES = (1, 32)
"""Images in a batch for which the memory of training is estimated."""


def compare(
    names: Sequence[str],
    *,
    size: int | None = None,
    batches: Collection[int] = BATCHES,
    optimiser: OptimiserName = "momentum",
) -> tuple[ComparisonRow, ...]:
    """Networks of the zoo side by side.

    Args:
        names: names in the zoo; the rows come in their order.
        size: height and width of the image in pixels; each network's published size when None.
        batches: sizes of batches for the estimate of training memory.
        optimiser: what the estimate counts for the optimiser.

    Raises:
        UsageError: no such network, or one can't take that size.
    """
    for name in names:
        architecture(name)  # all names are right before any network is built
    return tuple(_comparison(name, size, batches, optimiser) for name in names)


def _comparison(name: str, size: int | None, batches: Collection[int], optimiser: OptimiserName) -> ComparisonRow:
    row, table = architecture(name), network_table(name, size=size)
    classifier = table.parameters - table.part(row.layers)[0]
    feature_map, seen = _feature_map(name, table.input_shape)
    kept = kept_for_backward(published_network(name), table.input_shape)
    return ComparisonRow(
        name=name,
        year=row.year,
        citation=row.citation,
        input_shape=table.input_shape,
        depth=table.depth,
        weighted_layers=table.weighted_layers,
        parameters=table.parameters,
        classifier_parameters=classifier,
        classifier_share=classifier / table.parameters,
        macs=table.macs,
        feature_map=feature_map,
        receptive_field=None if seen.also_whole else seen.height,
        local_field=seen.height,
        activation_bytes=activation_bytes(table),
        kept_bytes=kept,
        training=tuple(training_memory(table.parameters, kept, batch=batch, optimiser=optimiser) for batch in batches),
    )


def _feature_map(name: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], Field]:
    """Shape and receptive field of the encoder's last feature map."""
    images = torch.empty((1, *shape), device="meta")
    encoder = Encoder(name, published_network(name), architecture(name)).eval()
    with torch.no_grad(), FieldTracker(images) as tracker:
        maps = encoder(images)
    return tuple(maps.shape[1:]), tracker.of(maps)
