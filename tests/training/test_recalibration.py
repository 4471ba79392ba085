"""Recalibrated batch normalisation: statistics of the images, and nothing else."""

import torch
from torch import nn

from hilum.training.recalibration import recalibrate_batch_norm


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5))


def test_statistics_are_the_average_over_the_batches() -> None:
    net = network()
    batches = [torch.rand((4, 1, 8, 8), generator=torch.Generator().manual_seed(i)) for i in range(3)]
    assert recalibrate_batch_norm(net, batches) == 1
    maps = [net[0](batch) for batch in batches]
    assert torch.allclose(net[1].running_mean, torch.stack([m.mean((0, 2, 3)) for m in maps]).mean(0), atol=1e-6)
    assert torch.allclose(net[1].running_var, torch.stack([m.var((0, 2, 3)) for m in maps]).mean(0), atol=1e-6)


def test_weights_momentum_and_mode_are_as_they_should_be() -> None:
    net = network()
    before = {name: value.clone() for name, value in net.named_parameters()}
    recalibrate_batch_norm(net, [torch.rand(2, 1, 8, 8)])
    assert all(torch.equal(before[name], value) for name, value in net.named_parameters())
    assert net[1].momentum == 0.1
    assert not any(module.training for module in net.modules())
    assert recalibrate_batch_norm(nn.Linear(2, 2), [torch.rand(2, 2)]) == 0
