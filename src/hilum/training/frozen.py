"""Running frozen layers: no graph, fixed blocks, and a fingerprint of all that decides the result."""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hilum.models.classifier import Classifier
from hilum.provenance import combined_hash
from hilum.training.batch_size import memory_for
from hilum.training.bf16 import Precision
from hilum.training.trained_part import is_trained

BLOCK = 32
"""Films in one run, always: a last block is filled up, so that rounding never depends on its size."""

_FORMAT = 1


def frozen_outputs(
    classifier: Classifier, views: Tensor, cuts: Sequence[int], precision: Precision = "fp32"
) -> list[Tensor]:
    """Outputs of the layers before each cut, from one pass.

    Args:
        classifier: in evaluation mode before the last cut.
        views: greys in 0 … 1, [n, c, h, w].
        cuts: ascending numbers of layers; with all of them the feature maps are averaged over the film (what the head
            does first).
        precision: what products are computed in; normalisation, running statistics and averages stay in fp32.

    Returns:
        for each cut float32 maps [n, c, h, w] in channels_last, or vectors such as pooled features [n, c].
    """
    blocks = []
    with memory_for(
        f"on {views.device.type} in the frozen layers, with {BLOCK} films at once",
        "That number is fixed, so that stored outputs never depend on it: take smaller images or a smaller network, or "
        "free memory.",
    ):
        for block in torch.split(views, BLOCK):
            filled = block.new_zeros((BLOCK, *block.shape[1:]))
            filled[: len(block)] = block
            blocks.append([outputs[: len(block)] for outputs in _run(classifier, filled, cuts, precision)])
    return [torch.cat(parts) for parts in zip(*blocks, strict=True)]


def _run(classifier: Classifier, views: Tensor, cuts: Sequence[int], precision: Precision = "fp32") -> list[Tensor]:
    encoder, head = classifier.encoder, _any(classifier.head)
    outputs = []
    narrow = torch.autocast(views.device.type, torch.bfloat16, enabled=precision == "bf16")
    with torch.no_grad(), narrow:
        maps = classifier.normalise(views).contiguous(memory_format=torch.channels_last)
        for start, cut in itertools.pairwise([0, *cuts]):
            for name in encoder.layers[start:cut]:
                maps = encoder.get_submodule(name)(maps)
            if cut == len(encoder.layers):
                outputs.append(head.pool(maps.float()))
            else:
                # A copy: the next layer may work in place.
                layout = torch.channels_last if maps.ndim == 4 else torch.contiguous_format
                outputs.append(maps.to(torch.float32, memory_format=layout, copy=True))
    return outputs


def _any(value: Any) -> Any:
    return value


def output_shapes(classifier: Classifier, film: Sequence[int], cuts: Sequence[int]) -> list[torch.Size]:
    """Shape [1, c, h, w] or [1, c] of one film's outputs before each ascending cut; ``film`` is [c, h, w]."""
    black = torch.zeros((1, *film), device=next(classifier.parameters()).device)
    return [outputs.shape for outputs in _run(classifier.eval(), black, cuts)]


def prefix_fingerprint(classifier: Classifier, cut: int) -> str:
    """SHA-256 over all that decides the outputs before a cut: layers, weights, running statistics, normalisation."""
    layers = [f"{layer}: {classifier.encoder.get_submodule(layer)}" for layer in classifier.encoder.layers[:cut]]
    every = itertools.chain(classifier.named_parameters(), classifier.named_buffers())
    frozen = {name: value for name, value in every if not is_trained(name, classifier, cut)}
    return combined_hash([f"format {_FORMAT}", torch.__version__, *layers, tensors_fingerprint(frozen)])


def tensors_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, value in tensors.items():
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
