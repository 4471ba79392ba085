"""Batch normalisation over several processes' shares of a batch, as one process normalises the whole batch.

Each layer's sums go over all processes, forward and backward, so that outputs, gradients and running statistics are
those of one process up to the rounding of sums. It works on a CPU as on GPUs; torch's ``SyncBatchNorm`` needs GPUs.

Source: Ioffe, Szegedy 2015, Batch normalization, arXiv:1502.03167, algorithm 1.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hilum.training.ranks import Ranks

Sum = Callable[[Tensor], Tensor]
"""The sum of a tensor over all processes; gradients go through it."""


@contextlib.contextmanager
def batch_norm_together(part: object, ranks: Ranks) -> Iterator[None]:
    """A block in which a part's batch normalisation, where it trains, takes the films of all processes.

    Args:
        part: what is trained; all processes must run it at the same time.
        ranks: the processes.
    """
    norms = [module for module in _modules(part) if isinstance(module, _BatchNorm)] if ranks.world > 1 else []
    over_all = partial(_OverAll.apply, ranks)
    for norm in norms:
        norm.__dict__["forward"] = partial(_forward, norm, over_all)
    try:
        yield
    finally:
        for norm in norms:
            norm.__dict__.pop("forward", None)


@contextlib.contextmanager
def batch_norm_apart(part: object) -> Iterator[None]:
    """A block in which this process runs the part alone, whatever the others do."""
    taken = [(module, module.__dict__.pop("forward")) for module in _modules(part) if "forward" in module.__dict__]
    try:
        yield
    finally:
        for module, forward in taken:
            module.__dict__["forward"] = forward


def _modules(part: object) -> list[nn.Module]:
    return list(part.modules()) if isinstance(part, nn.Module) else []


def _forward(norm: _BatchNorm, over_all: Sum, inputs: Tensor) -> Tensor:
    return normalised(norm, inputs, over_all) if norm.training else type(norm).forward(norm, inputs)


def normalised(norm: _BatchNorm, inputs: Tensor, over_all: Sum) -> Tensor:
    """What a layer in training mode gives for this process's share; its running statistics move as for the whole batch.

    Args:
        norm: the layer.
        inputs: [n, c, …], this process's share.
        over_all: sums over all processes.

    Returns:
        the share normalised with mean and variance of the whole batch, in the type of the inputs.
    """
    axes = [axis for axis in range(inputs.ndim) if axis != 1]
    shape = [1, -1, *[1] * (inputs.ndim - 2)]
    wide = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
    own = wide.new_tensor([inputs.numel() / inputs.shape[1]])
    sums = over_all(torch.cat([wide.sum(axes), own]))
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centred = wide - mean.view(shape)
    variance = over_all(centred.square().sum(axes)) / count
    _move_statistics(norm, mean.detach(), variance.detach() * count / (count - 1))
    scale = torch.rsqrt(variance + norm.eps)
    if not norm.affine:
        return (centred * scale.view(shape)).to(inputs.dtype)
    return (centred * (scale * norm.weight).view(shape) + norm.bias.view(shape)).to(inputs.dtype)


def _move_statistics(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Running statistics as torch moves them: the variance without bias; a plain average where there is no momentum."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        share = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
        norm.running_var.lerp_(variance.to(norm.running_var.dtype), share)


class _OverAll(torch.autograd.Function):
    """A sum over all processes. As every process's loss depends on it, so does the gradient's sum over them."""

    @staticmethod
    def forward(ctx: Any, ranks: Ranks, own: Tensor) -> Tensor:
        """The sum."""
        ctx.ranks = ranks
        return ranks.summed(own)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        """Nothing for the ranks; the sum of all gradients."""
        return None, ctx.ranks.summed(gradient)
