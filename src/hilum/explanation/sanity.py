"""Sanity of explanations: the same network with its weights shuffled, whose maps should look otherwise."""

import copy

import torch
from torch import nn


def shuffled(network: nn.Module, seed: int) -> nn.Module:
    """A copy of a network in which the values of every weight tensor have changed places.

    Each tensor keeps its distribution, so activations stay in their range, and nothing that was learned is left.
    Biases, BatchNorm and buffers stay as they are.

    Source: Adebayo et al. 2018, "Sanity checks for saliency maps", arXiv:1810.03292 (independent randomisation of all
    layers at once).
    """
    other = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in other.parameters():
            if weight.ndim >= 2:
                order = torch.randperm(weight.numel(), generator=generator)
                weight.copy_(weight.flatten()[order].view_as(weight))
    return other
