"""Anatomy: the layer table of a network, with shapes, parameters, multiply-accumulates and receptive fields.

A network runs once on torch's meta device: shapes flow through it, numbers don't, so that the table of a VGG costs
milliseconds. A multiply-accumulate (MAC) is one multiplication and one addition; floating-point operations would be
twice as many, and are never given. MACs are counted for convolutions and linear layers.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hilum.errors import UsageError
from hilum.models.zoo import architecture, published_network


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One layer of a network, each time it runs."""

    name: str
    """Fully-qualified name of the module."""
    kind: str
    """Its class, such as ``Conv2d``."""
    shape: tuple[int, ...]
    """Shape of its output for one image, channels first."""
    parameters: int
    """Trainable numbers; 0 when the layer already ran in an earlier row."""
    macs: int
    """Multiply-accumulates for one image."""
    receptive_field: int | None
    """Height in pixels of what one output depends on, borders aside; None for the whole image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTable:
    """The layer table of a network."""

    name: str
    """The network's name in the zoo."""
    input_shape: tuple[int, ...]
    """Shape of one image, channels first."""
    rows: tuple[LayerRow, ...]
    """The layers in the order in which they run."""

    @property
    def parameters(self) -> int:
        """Trainable numbers of the network."""
        return sum(row.parameters for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(row.macs for row in self.rows)

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
        options: keywords for the network's constructor, such as ``num_classes=3``.

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
    rows: list[LayerRow] = []
    counted: set[int] = set()
    fields = _ReceptiveFields()

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            # Some modules hold weights of their own and still call other modules; a parent's own weights count here.
            parameters = sum(p.numel() for p in layer.parameters(recurse=False) if id(p) not in counted)
            counted.update(id(p) for p in layer.parameters(recurse=False))
            rows.append(
                LayerRow(
                    name=name,
                    kind=type(layer).__name__,
                    shape=tuple(output.shape[1:]),
                    parameters=parameters,
                    macs=_macs(layer, output),
                    receptive_field=fields.of(output)[0],
                )
            )

        return hook

    with ExitStack() as stack:
        for name, layer in network.named_modules():
            if not list(layer.children()):
                stack.callback(layer.register_forward_hook(note(name)).remove)
        stack.enter_context(torch.no_grad())
        stack.enter_context(fields)
        network.eval()(torch.zeros((1, *shape), device="meta"))
    return tuple(rows)


def _macs(layer: nn.Module, output: Tensor) -> int:
    if isinstance(layer, nn.Conv2d):
        return output[0].numel() * layer.weight[0].numel()
    if isinstance(layer, nn.Linear):
        return output[0].numel() * layer.in_features
    return 0


_Field = tuple[int | None, int]
"""Receptive field (None for the whole image), and the distance in pixels between neighbouring outputs."""


class _ReceptiveFields(TorchFunctionMode):
    """Follows the receptive field through every function: where paths meet, the widest counts.

    Araujo, Norris, Sim 2019, "Computing receptive fields of convolutional neural networks", Distill,
    doi:10.23915/distill.00021: r ← r + (k − 1)·j, j ← j·s.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[int, _Field] = {}
        self.alive: list[Tensor] = []  # so that no id is given twice

    def of(self, tensor: Tensor) -> _Field:
        return self.fields.get(id(tensor), (1, 1))

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        # Before the call: a function that works in place would find its own result among its inputs.
        known = [self.fields[id(t)] for t in _tensors([*args, *kwargs.values()]) if id(t) in self.fields]
        result = function(*args, **kwargs)
        if isinstance(result, Tensor):
            field = (_widest(known), max((jump for _, jump in known), default=1))
            self.fields[id(result)] = _step(getattr(function, "__name__", ""), field, args, kwargs)
            self.alive.append(result)
        return result


def _tensors(values: list[Any]) -> list[Tensor]:
    nested = [item for value in values if isinstance(value, list | tuple) for item in value]
    return [value for value in [*values, *nested] if isinstance(value, Tensor)]


def _widest(known: list[_Field]) -> int | None:
    widths = [width for width, _ in known]
    return None if None in widths else max((width for width in widths if width), default=1)


def _step(function: str, field: _Field, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Field:
    """The field after one function, whose arguments are as torch defines them."""
    width, jump = field
    if function == "linear" or function.startswith("adaptive_"):
        return None, jump
    if function == "conv2d":
        kernel, stride = args[1].shape[-2], _first(_argument(args, kwargs, 3, "stride", 1))
        reach = (kernel - 1) * _first(_argument(args, kwargs, 5, "dilation", 1))
    elif function in ("max_pool2d", "avg_pool2d"):
        kernel = _first(_argument(args, kwargs, 1, "kernel_size", 1))
        stride = _first(_argument(args, kwargs, 2, "stride", None) or kernel)
        reach = kernel - 1
    else:
        return field
    return (None if width is None else width + reach * jump), jump * stride


def _argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], position: int, name: str, default: Any) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, list | tuple) else value)


def activation_bytes(table: NetworkTable) -> int:
    """Bytes of all layers' outputs for one image in fp32: what training keeps for the backward pass, roughly."""
    return 4 * sum(math.prod(row.shape) for row in table.rows)
