"""Random weights from a generator: the same on every machine, whatever else has drawn random numbers before."""

import math
from typing import Protocol, runtime_checkable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from hilum.models.networks.small import SmallBlock


@runtime_checkable
class InitialisesItself(Protocol):
    """A layer whose publication says how its weights begin."""

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Give every parameter and buffer of its own a fresh value, in place."""


def generator_from(seed: int) -> torch.Generator:
    """A CPU generator that starts at a seed (0 … 2⁶³ − 1)."""
    return torch.Generator().manual_seed(seed)


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Give every parameter and buffer below a module a fresh value, in place.

    Convolutions: normal with variance 2 / fan-out (He et al. 2015, doi:10.1109/ICCV.2015.123). Linear layers: uniform
    within ±1/√fan-in, torch's own choice. BatchNorm: scale 1, shift 0, statistics reset. Biases: 0, or as for the
    linear weights. A layer that has ``initialise`` does it itself.

    Args:
        module: on the CPU, with storage.
        generator: where the numbers come from.
    """
    for layer in module.modules():
        if isinstance(layer, InitialisesItself):
            layer.initialise(generator)
        elif isinstance(layer, nn.Conv2d):
            # A group's own fan-out: torch's count would make depthwise convolutions fade to nothing.
            fan_out = layer.weight[0, 0].numel() * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2 / fan_out), generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            bound = 1 / math.sqrt(layer.in_features)
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            if layer.bias is not None:
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
        elif isinstance(layer, _BatchNorm):
            layer.reset_parameters()
    for layer in module.modules():
        if isinstance(layer, SmallBlock):
            layer.zero_last_norm()
