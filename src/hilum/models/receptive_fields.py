"""Receptive fields: which pixels of the image an output depends on, followed through every function of a network.

Araujo, Norris, Sim 2019, "Computing receptive fields of convolutional neural networks", Distill,
doi:10.23915/distill.00021: a kernel of k with padding p and stride s makes start ← start − p·j, r ← r + (k − 1)·j,
j ← j·s. Where paths meet, the union counts. A function that is not known and changes the number of rows or columns is
taken to see the whole image, so that a field is never too small.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_WINDOWED = ("conv2d", "max_pool2d", "max_pool2d_with_indices", "avg_pool2d")
_ELEMENTWISE = ("batch_norm", "relu", "relu_", "relu6", "hardtanh", "silu", "sigmoid")
"""Their result is shaped like their input; torch's meta kernels take half of the time to find that out."""
_STATISTICS = ("group_norm", "instance_norm", "layer_norm")
"""They keep places, but divide by a spread that is taken over the whole image."""
_REORDERING = ("flip", "roll", "rot90", "transpose", "permute", "cumsum", "sort", "fft_fft2", "fft_ifft2")
"""They may keep the number of rows and columns, but not the places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Along one axis: output i depends on the pixels from start + i·jump, size of them; some may lie in the padding."""

    start: int = 0
    """First pixel of the first output; negative where there is padding."""
    size: int = 1
    """Number of pixels."""
    jump: int = 1
    """Distance in pixels between neighbouring outputs."""

    def through(self, kernel: int, stride: int, padding: int, dilation: int) -> "Span":
        """The span behind one more kernel."""
        return Span(
            start=self.start - padding * self.jump,
            size=self.size + (kernel - 1) * dilation * self.jump,
            jump=self.jump * stride,
        )

    def union(self, other: "Span") -> "Span | None":
        """The span that holds both; None when their outputs don't lie at the same distances."""
        if self.jump != other.jump:
            return None
        start = min(self.start, other.start)
        end = max(self.start + self.size, other.start + other.size)
        return Span(start=start, size=end - start, jump=self.jump)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Receptive field of a tensor's outputs."""

    spans: tuple[Span, Span] | None
    """Along rows and along columns; None for the whole image, or where outputs have no place in it."""
    also_whole: bool = False
    """The outputs are scaled by numbers of the whole image: squeeze-and-excitation, or a norm over the image."""
    depth: int = 0
    """Layers with weights on the longest way from the image."""

    @property
    def height(self) -> int | None:
        """Pixels from the first to the last row, borders and such scales aside; None for the whole image."""
        return self.spans[0].size if self.spans else None


WHOLE = Field(spans=None)


class FieldTracker(TorchFunctionMode):
    """While it is entered, follows the receptive field from an image through every function of torch.

    Weights have no field: what is computed from them alone isn't followed.

    Args:
        image: the input [n, c, h, w] of the network that will run.
    """

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self._fields = {id(image): Field(spans=(Span(), Span()))}
        self._alive = [image]  # so that no id is given twice

    def of(self, tensor: Tensor) -> Field:
        """The field of a tensor that was computed; the whole image when it wasn't computed from the image."""
        return self._fields.get(id(tensor), WHOLE)

    def deepen(self, tensor: Tensor) -> None:
        """Note that a tensor lies one layer with weights deeper than what it was computed from."""
        field = self.of(tensor)
        self._fields[id(tensor)] = replace(field, depth=field.depth + 1)
        self._alive.append(tensor)

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        # Before the call: a function that works in place would find its own result among its inputs.
        known = [(self._fields[id(t)], t.shape) for t in _tensors([*args, *kwargs.values()]) if id(t) in self._fields]
        name = getattr(function, "__name__", "")
        if name in _ELEMENTWISE and args and args[0].is_meta and not torch.is_grad_enabled():
            result: Any = args[0] if name == "relu_" or kwargs.get("inplace") else torch.empty_like(args[0])
        else:
            result = function(*args, **kwargs)
        if known:
            depth = max(field.depth for field, _ in known)
            for tensor in _tensors([result]):
                self._fields[id(tensor)] = replace(_after(name, known, args, kwargs, tensor), depth=depth)
                self._alive.append(tensor)
        return result


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    nested = [item for value in values if isinstance(value, list | tuple) for item in value]
    return [value for value in [*values, *nested] if isinstance(value, Tensor)]


def _after(
    function: str, known: list[tuple[Field, Any]], args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Tensor
) -> Field:
    """The field behind one function, whose arguments are as torch defines them."""
    field, shape = known[0]
    if function == "linear" or function.startswith("adaptive_") or function in _REORDERING:
        return WHOLE
    if function in _WINDOWED and field.spans:
        steps = _window(function, args, kwargs)
        spans = (field.spans[0].through(*steps[0]), field.spans[1].through(*steps[1]))
        return replace(field, spans=spans)
    if function == "pad":
        return _padded(field, _argument(args, kwargs, 1, "pad", ()))
    if function == "__getitem__" and len(shape) == 4:
        return _sliced(field, shape, args[1])
    if function in _STATISTICS:
        return replace(field, also_whole=True)
    return _merged(known, result)


def _window(function: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[tuple[int, int, int, int]]:
    """Kernel, stride, padding and dilation along rows and along columns."""
    if function == "conv2d":
        kernel: Any = tuple(args[1].shape[-2:])
        stride = _argument(args, kwargs, 3, "stride", 1)
        padding = _argument(args, kwargs, 4, "padding", 0)
        dilation = _argument(args, kwargs, 5, "dilation", 1)
    else:
        kernel = _argument(args, kwargs, 1, "kernel_size", 1)
        stride = _argument(args, kwargs, 2, "stride", None) or kernel
        padding = _argument(args, kwargs, 3, "padding", 0)
        dilation = 1 if function == "avg_pool2d" else _argument(args, kwargs, 4, "dilation", 1)
    kernels, dilations = _pair(kernel), _pair(dilation)
    if isinstance(padding, str):  # "same" puts the odd pixel behind
        padding = [(k - 1) * d // 2 if padding == "same" else 0 for k, d in zip(kernels, dilations, strict=True)]
    return list(zip(kernels, _pair(stride), _pair(padding), dilations, strict=True))


def _padded(field: Field, amounts: Sequence[int]) -> Field:
    """Padding at the left and the top moves where outputs lie; amounts run from the last axis to the first."""
    if field.spans is None:
        return field
    left, top = (amounts[i] if len(amounts) > i else 0 for i in (0, 2))
    rows, columns = (span.through(1, 1, moved, 1) for span, moved in zip(field.spans, (top, left), strict=True))
    return replace(field, spans=(rows, columns))


def _sliced(field: Field, shape: Sequence[int], index: Any) -> Field:
    """A slice of rows or columns leaves out outputs: it has a stride."""
    items = list(index) if isinstance(index, tuple) else [index]
    if field.spans is None or not all(isinstance(item, slice) for item in items):
        return WHOLE
    items += [slice(None)] * (len(shape) - len(items))
    spans = []
    for span, item, length in zip(field.spans, items[-2:], shape[-2:], strict=True):
        first, _, step = item.indices(length)
        spans.append(span.through(1, step, -first, 1))
    return replace(field, spans=(spans[0], spans[1]))


def _merged(known: list[tuple[Field, Any]], result: Tensor) -> Field:
    """Paths meet, or places stay: the union of what has a place; what has none and is broadcast is a scale."""
    local = [(field, shape) for field, shape in known if field.spans]
    if not local or any(tuple(shape[-2:]) != tuple(result.shape[-2:]) for _, shape in local):
        return WHOLE
    scales = [shape for field, shape in known if not field.spans]
    if any(tuple(shape[-2:]) != (1, 1) for shape in scales):
        return WHOLE
    rows, columns = local[0][0].spans or (None, None)
    for field, _ in local[1:]:
        if field.spans and rows and columns:
            rows, columns = rows.union(field.spans[0]), columns.union(field.spans[1])
    if rows is None or columns is None:
        return WHOLE
    return Field(spans=(rows, columns), also_whole=bool(scales) or any(field.also_whole for field, _ in local))


def _argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], position: int, name: str, default: Any) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)


def _pair(value: Any) -> tuple[int, int]:
    first, *rest = value if isinstance(value, list | tuple) else (value,)
    return int(first), int(rest[0] if rest else first)
