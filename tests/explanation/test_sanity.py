"""Shuffled weights: the same numbers in other places, in a copy."""

import torch
from torch import nn

from hilum.explanation.sanity import shuffled


def test_weights_change_places_in_a_copy_and_nothing_else_changes() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    other = shuffled(network, 3)
    for name, value in other.state_dict().items():
        assert torch.equal(network.state_dict()[name], before[name])
        if name in ("0.weight", "2.weight"):
            assert not torch.equal(value, before[name])
            assert torch.equal(value.flatten().sort().values, before[name].flatten().sort().values)
        else:
            assert torch.equal(value, before[name])
    assert torch.equal(shuffled(network, 3)[0].weight, other[0].weight)  # type: ignore[index]
    assert not torch.equal(shuffled(network, 4)[0].weight, other[0].weight)  # type: ignore[index]
