"""The blocks of an encoder, from its first layer to its last: what a stage can count, and what has a rate of its own.

The last block is the one that the zoo names. Before it, a block begins at each layer that has weights of two axes or
more (a convolution, a residual block, an inverted residual, an inception module, a dense block); what has none, such as
normalisation, activations and pooling, belongs to the block before it, and so does a layer that ends in a pooling, such
as DenseNet's transitions. Layers before the first such layer belong to the first block.
"""

from collections.abc import Iterable, Mapping

from torch import nn

from hilum.models.encoders import Encoder

_POOLING = (nn.MaxPool2d, nn.AvgPool2d)


def block_starts(encoder: Encoder) -> tuple[str, ...]:
    """Name of each block's first layer, in order; the last is the zoo's last block."""
    last = encoder.layers.index(encoder.last_block)
    begin = [name for name in encoder.layers[:last] if _begins(encoder.get_submodule(name))]
    return (*([encoder.layers[0], *begin[1:]] if last else []), encoder.last_block)


def _begins(layer: nn.Module) -> bool:
    weighty = any(parameter.ndim > 1 for parameter in layer.parameters())
    return weighty and not isinstance(list(layer.modules())[-1], _POOLING)


def rate_shares(encoder: Encoder, names: Iterable[str], decay: float) -> Mapping[str, float]:
    """Share of a stage's learning rate that each parameter of a classifier is trained with.

    Args:
        encoder: the classifier's.
        names: of parameters, such as ``head.fc1.weight`` and ``encoder.layer4.0.conv1.weight``.
        decay: share that one block has of the rate above it, from the head down; 1 for all alike.

    Returns:
        name → 1 for the head, decay for the last block, decay² for the one before, and so on.

    Source: discriminative fine-tuning, Howard, Ruder 2018, arXiv:1801.06146, section 3.2.
    """
    starts, below, depth = block_starts(encoder), {}, 0
    for layer in reversed(encoder.layers):
        below[layer] = depth + 1
        depth += layer in starts
    shares = dict.fromkeys(names, 1.0)
    for name in shares:
        home = next((layer for layer in below if name.startswith(f"encoder.{layer}.")), None)
        if home is not None:
            shares[name] = decay ** below[home]
    return shares
