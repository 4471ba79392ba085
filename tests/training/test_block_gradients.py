"""∂L/∂x = ∂L/∂y·(1 + ∂F/∂x): autograd, the formula and finite differences agree, and the last ReLU is a mask."""

import math

import pytest
import torch

from hilum.models.initialisation import generator_from, initialise
from hilum.models.networks.residual_small import PreActivationBlock, ResidualBlock, SmallResNet
from hilum.training.block_gradients import BlockGradient, block_gradient, block_ways


def measured(kind: type, shortcut: str, *, norm: bool = True, stride: int = 1) -> BlockGradient:
    generator = generator_from(7)
    block = kind(3, 3 * stride, stride, shortcut, norm=norm).double()
    initialise(block, generator)
    maps = torch.randn((2, 3, 4, 4), generator=generator, dtype=torch.float64)
    if kind is ResidualBlock:
        maps = maps.relu()  # what the block before it gives
    upstream = torch.randn(block(maps).shape, generator=generator, dtype=torch.float64)
    return block_gradient(block, maps, upstream)


@pytest.mark.parametrize("norm", [True, False])
def test_without_a_relu_after_the_addition_the_identity_holds(norm: bool) -> None:
    found = measured(PreActivationBlock, "A", norm=norm)
    assert found.size > 0.1
    assert found.formula < 1e-10
    assert found.unmasked < 1e-10
    assert found.differences < 1e-6
    assert found.identity == 0
    assert (found.open_share, found.without_branch) == (1, 1)


@pytest.mark.parametrize("norm", [True, False])
def test_the_relu_after_the_addition_masks_both_ways(norm: bool) -> None:
    found = measured(ResidualBlock, "A", norm=norm)
    assert found.formula < 1e-10
    assert found.unmasked > 0.1, "without the mask the formula is wrong"
    assert found.differences < 1e-6
    assert found.identity == 0
    assert 0.2 < found.open_share < 0.95
    assert found.without_branch < 1


def test_a_projection_takes_the_place_of_the_one() -> None:
    found = measured(ResidualBlock, "C")
    assert found.formula < 1e-10
    assert found.identity > 0.1


def test_a_plain_block_has_no_one() -> None:
    found = measured(ResidualBlock, "none")
    assert found.formula < 1e-10
    assert found.identity == 1
    assert found.without_branch == 0


def test_a_block_that_changes_the_shape_has_no_unit_matrix() -> None:
    found = measured(ResidualBlock, "A", stride=2)
    assert found.formula < 1e-10
    assert math.isnan(found.identity)


def test_both_ways_add_up_to_the_gradient_through_a_network() -> None:
    """With all branches at zero the shortcut carries everything, and what was open stays open."""
    network = SmallResNet(14, width=0.5)
    initialise(network, generator_from(0))
    images, labels = torch.randn((8, 3, 16, 16), generator=generator_from(1)), torch.arange(8)
    ways = block_ways(network, images, labels)
    assert [way.name for way in ways] == ["layer1.0", "layer1.1", "layer2.1", "layer3.1"]
    assert all(way.by_shortcut > 0 and way.by_branch > 0 for way in ways)
    assert ways[1].open_so_far < min(ways[0].open_share, ways[1].open_share)
    assert ways[2].open_so_far == ways[2].open_share, "a new stage starts anew"
    for name, parameter in network.named_parameters():
        if name.endswith("bn2.weight"):
            torch.nn.init.zeros_(parameter)
    still = block_ways(network, images, labels)
    assert all(way.by_branch == 0 for way in still)
    assert still[1].open_so_far == still[0].open_share


def test_following_the_gradient_leaves_no_trace() -> None:
    network = SmallResNet(8, width=0.5).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    block_ways(network, torch.rand(4, 3, 16, 16), torch.arange(4))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not network.training
