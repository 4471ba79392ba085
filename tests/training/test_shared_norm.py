"""Batch normalisation over shares: torch's own where one process has the whole batch. Two processes: test_ranks."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from hilum.training.ranks import ALONE, Ranks
from hilum.training.shared_norm import batch_norm_apart, batch_norm_together, normalised


def alone(value: torch.Tensor) -> torch.Tensor:
    """The sum over one process."""
    return value


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(3), nn.BatchNorm2d(3, momentum=None), nn.BatchNorm2d(3, affine=False)])
def test_one_process_gets_what_torch_computes(norm: nn.BatchNorm2d) -> None:
    """Outputs, all gradients and running statistics, over two steps in double precision."""
    ours, torchs = norm.double(), deepcopy(norm).double()
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        given = torch.randn(5, 3, 4, 2, generator=generator, dtype=torch.float64)
        results = []
        for layer, answer in ((ours, lambda x: normalised(ours, x, alone)), (torchs, torchs)):
            inputs = given.clone().requires_grad_()
            out = answer(inputs)
            (out * given).square().sum().backward()
            results.append([out, inputs.grad, *(value.grad for value in layer.parameters()), *layer.buffers()])
        for one, other in zip(*results, strict=True):
            np.testing.assert_allclose(one.detach().numpy(), other.detach().numpy(), rtol=1e-9, atol=1e-12)


def test_outputs_keep_type_and_layout() -> None:
    inputs = torch.randn(4, 3, 5, 5, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    out = normalised(nn.BatchNorm2d(3), inputs, alone)
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_layers_are_themselves_again_behind_the_block_and_when_run_apart() -> None:
    part = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    with batch_norm_together(part, ALONE):
        assert "forward" not in part[1].__dict__
    with batch_norm_together(part, Ranks(world=2)):
        assert "forward" in part[1].__dict__
        part[1].eval()
        part(torch.zeros(4, 2))  # in evaluation mode nothing is summed
        part[1].train()
        with batch_norm_apart(part):
            part(torch.randn(4, 2))  # there is no other process to hear
        assert "forward" in part[1].__dict__
    assert "forward" not in part[1].__dict__
