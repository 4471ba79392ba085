"""Batch normalisation recalibrated: running statistics of a network as its images really give them."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def recalibrate_batch_norm(network: nn.Module, batches: Iterable[Float[Tensor, "n c h w"]]) -> int:
    """Replace running means and variances by their averages over some batches; nothing else changes.

    A network with random weights needs it before it can be run in evaluation mode: its statistics are those of no
    image (mean 0, variance 1), so activations grow from layer to layer.

    Args:
        network: left in evaluation mode; one without batch normalisation stays as it is.
        batches: what the network takes, two images or more in each.

    Returns:
        how many layers were recalibrated.
    """
    norms = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    before = [layer.momentum for layer in norms]
    network.eval()
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # a plain average over batches
        layer.train()
    with torch.no_grad():
        for batch in batches:
            network(batch)
    for layer, momentum in zip(norms, before, strict=True):
        layer.momentum = momentum
    network.eval()
    return len(norms)
