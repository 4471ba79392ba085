"""How much memory a network takes in training: an estimate in fp32 whose every part is counted.

What the backward pass needs is not guessed from the layers' outputs: the network runs in training mode on torch's meta
device, and autograd says which tensors it keeps. A ReLU that works in place adds nothing, a max-pooling adds its
indices, an addition keeps nothing.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

WORD = 4
"""Bytes of a number in fp32."""

OptimiserName = Literal["sgd", "momentum", "adam"]

STATES: dict[OptimiserName, int] = {"sgd": 0, "momentum": 1, "adam": 2}
"""Numbers that an optimiser keeps for each parameter."""

FORMULA = (
    "4 B × parameters × (1 weight + 1 gradient + {states} of the optimiser) + batch × what autograd keeps of an image; "
    "fp32, everything trained; workspace, framework and buffers come on top"
)
"""How the estimate is made, to be shown beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Bytes that training takes, estimated; ``FORMULA`` says how."""

    batch: int
    """Images in a batch."""
    weights: int
    """Of the parameters."""
    gradients: int
    """Of their gradients."""
    optimiser: int
    """Of the optimiser's states."""
    activations: int
    """Of what autograd keeps for the backward pass, the images included."""
    total: int
    """All of them together."""


def formula(optimiser: OptimiserName) -> str:
    """The estimate's formula with the number of states that an optimiser keeps."""
    return FORMULA.format(states=STATES[optimiser])


def training_memory(parameters: int, kept: int, *, batch: int, optimiser: OptimiserName) -> MemoryEstimate:
    """Estimate of the memory that training takes.

    Args:
        parameters: trained numbers.
        kept: bytes that autograd keeps for one image; see :func:`kept_for_backward`.
        batch: images in a batch.
        optimiser: ``sgd`` without momentum, ``momentum`` (SGD with it) or ``adam`` (AdamW too).
    """
    weights = WORD * parameters
    states, activations = STATES[optimiser] * weights, batch * kept
    return MemoryEstimate(
        batch=batch,
        weights=weights,
        gradients=weights,
        optimiser=states,
        activations=activations,
        total=2 * weights + states + activations,
    )


def kept_for_backward(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Bytes that autograd keeps for each image of a batch, with all parameters trained.

    What doesn't grow with the batch, such as the mean and variance of BatchNorm, is left out: it is less than a
    thousandth.

    Args:
        network: on the meta device; it is left in eval mode.
        shape: of one image, channels first.
    """
    network.train()
    two, three = (_kept(network, torch.empty((batch, *shape), device="meta")) for batch in (2, 3))
    network.eval()
    return three - two


def _kept(network: nn.Module, images: Tensor) -> int:
    own = {_storage(parameter) for parameter in network.parameters()}
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no storage's number is given twice

    def pack(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in own:
            kept[_storage(tensor)] = tensor.untyped_storage().nbytes()
            alive.append(tensor)
        return tensor

    # Inputs to a first layer with weights are kept as well: its weights' gradient needs them.
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(images)
    return sum(kept.values())


def _storage(tensor: Tensor) -> int:
    """Number of a tensor's storage: views and in-place results share it."""
    number: int = tensor.untyped_storage()._cdata
    return number
