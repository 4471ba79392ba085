"""How large the gradient is at each layer of a network: on one fixed batch, at the start and while it is trained.

Two norms a layer. That of ∂L/∂x, x the layer's input, is the signal that comes down to it: where it shrinks or grows
from layer to layer, gradients vanish or explode. That of ∂L/∂W is what the optimiser sees; with BatchNorm behind the
layer it goes as one over the size of W, so it tells less about the depth.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hilum.errors import TrainingError
from hilum.training.reproducible import seed_masks

LAYERS = (nn.Conv2d, nn.Linear)
"""Kinds of layers whose gradients are taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerGradients:
    """L2 norms of the gradients at each layer, in the order in which the layers run; infinite where it overflowed."""

    names: tuple[str, ...]
    """Fully-qualified names of the layers."""
    inputs: tuple[float, ...]
    """‖∂L/∂x‖ of the layer's input for the whole batch, through every path from there on, shortcuts too."""
    weights: tuple[float, ...]
    """‖∂L/∂W‖ of the layer's weights."""
    loss: float
    """L: mean cross-entropy of the batch."""

    def without(self, part: str) -> "LayerGradients":
        """The same without the layers that have this word in their name, such as ``shortcut``."""
        kept = [i for i, name in enumerate(self.names) if part not in name]
        return LayerGradients(
            names=tuple(self.names[i] for i in kept),
            inputs=tuple(self.inputs[i] for i in kept),
            weights=tuple(self.weights[i] for i in kept),
            loss=self.loss,
        )


def gradient_norms(network: nn.Module, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"]) -> LayerGradients:
    """Norms of the gradients of the mean cross-entropy at every convolution and linear layer.

    The network runs in training mode, with the batch's own statistics in BatchNorm and the same dropout each time;
    weights, running statistics, modes, ``.grad`` and the global generator are afterwards as they were.

    Args:
        network: images → logits; one that changes an input of a layer in place after the layer ran can't be measured.
        images: normalised, on the network's device.
        labels: numbers of the classes.

    Raises:
        TrainingError: there is no such layer with weights that are trained.
    """
    layers = {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, LAYERS) and layer.weight.requires_grad
    }
    if not layers:
        raise TrainingError("The network has no convolution or linear layer that is trained. Give one that has.")
    with undisturbed(network), inputs_of(layers) as inputs, torch.enable_grad():
        loss = cross_entropy(network.train()(images.detach().requires_grad_()), labels)
        wanted = [*inputs.values(), *(layers[name].weight for name in inputs)]
        gradients = torch.autograd.grad(loss, wanted)
    norms = [_norm(gradient) for gradient in gradients]
    return LayerGradients(
        names=tuple(inputs),
        inputs=tuple(norms[: len(inputs)]),
        weights=tuple(norms[len(inputs) :]),
        loss=float(loss.detach()),
    )


@contextmanager
def inputs_of(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Inside, the input of each of these modules is noted by name when it first runs, in that order."""
    noted: dict[str, Tensor] = {}

    def noter(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            noted.setdefault(name, arguments[0])

        return hook

    with ExitStack() as hooks:
        for name, module in modules.items():
            hooks.callback(module.register_forward_pre_hook(noter(name)).remove)
        yield noted


def _norm(gradient: Tensor) -> float:
    # In double precision: a float32 overflows when numbers beyond 1e19 are squared.
    norm = float(gradient.double().norm())
    return norm if math.isfinite(norm) else math.inf


@contextmanager
def undisturbed(network: nn.Module) -> Iterator[None]:
    """Inside, a network may be run in any mode; its modes and buffers and the global generator are put back at the end.

    The generator, a GPU's too, starts at the same place each time, so that dropout is the same.
    """
    modes = [(module, module.training) for module in network.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    device = next((value.device for value in network.parameters()), torch.device("cpu"))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        seed_masks(0, device)
        yield
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    for module, mode in modes:
        module.training = mode


class GradientLog:
    """Gradient norms after chosen steps of a training; give it to ``fit_network`` as ``each_batch``.

    Args:
        images: the fixed batch, normalised, on the network's device.
        labels: its classes.
        steps: after which steps to measure, counted from 1.
    """

    def __init__(self, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"], steps: Collection[int]) -> None:
        self.images, self.labels, self.steps = images, labels, frozenset(steps)
        self.step = 0
        self.taken: dict[int, LayerGradients] = {}

    def __call__(self, network: nn.Module, epoch: int = 0, batch: int = 0) -> None:
        """Count one step, and measure if it is one of those chosen."""
        self.step += 1
        if self.step in self.steps:
            self.taken[self.step] = gradient_norms(network, self.images, self.labels)


def per_layer(gradients: LayerGradients, first: str, last: str) -> tuple[float, float]:
    """How the gradient changes on its way down from one layer's input to another's.

    Args:
        gradients: norms of the layers.
        first: name of the layer nearer to the image.
        last: name of the layer nearer to the loss.

    Returns:
        ratio ‖∂L/∂x_first‖ / ‖∂L/∂x_last‖, and its geometric mean over the layers from first to last; above 1 it grows
        towards the image, below 1 it fades.

    Raises:
        TrainingError: no such layer, or not in this order.
    """
    missing = [name for name in (first, last) if name not in gradients.names]
    if missing:
        raise TrainingError(f"There is no layer {missing[0]!r} among {', '.join(gradients.names[:4])} ….")
    low, high = gradients.names.index(first), gradients.names.index(last)
    if low >= high:
        raise TrainingError(f"Layer {first!r} does not run before {last!r}. Exchange them.")
    ratio = gradients.inputs[low] / gradients.inputs[high] if gradients.inputs[high] else math.inf
    return ratio, ratio ** (1 / (high - low))
