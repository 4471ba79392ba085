"""Feature maps are what the layers gave, and the network is as before."""

import pytest
import torch
from torch import nn

from hilum.errors import UsageError
from hilum.explanation.feature_maps import feature_maps, map_statistics
from hilum.models.zoo import ARCHITECTURES


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 3 * 3, 2), nn.ReLU())


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn((5, 1, 8, 8), generator=torch.Generator().manual_seed(1))


def test_maps_are_the_layers_outputs_before_a_layer_in_place_changes_them(
    network: nn.Sequential, images: torch.Tensor
) -> None:
    maps = feature_maps(network, images)
    assert list(maps) == ["0", "2", "3"]
    network.eval()
    with torch.no_grad():
        convolved = network[0](images)
        assert torch.equal(maps["0"], convolved)
        assert torch.equal(maps["2"], network[2](network[1](convolved)))
    assert maps["3"].shape == (5, 4, 3, 3)
    assert not any(layer.requires_grad for layer in maps.values())


def test_named_layers_may_be_of_any_kind(network: nn.Sequential, images: torch.Tensor) -> None:
    assert list(feature_maps(network, images, ["4", "1"])) == ["1", "4"]


def test_a_layer_that_runs_again_has_its_later_maps_numbered() -> None:
    block = ARCHITECTURES["plain18"].build().get_submodule("layer1")[0]
    maps = feature_maps(block, torch.randn((1, 64, 4, 4)), ["relu"])
    assert list(maps) == ["relu", "relu:2"]
    assert maps["relu"].shape == maps["relu:2"].shape == (1, 64, 4, 4)
    assert not torch.equal(maps["relu"], maps["relu:2"])


def test_the_network_is_as_before(network: nn.Sequential, images: torch.Tensor) -> None:
    network.train()
    network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state()
    feature_maps(network, images)
    assert [module.training for module in network] == [True, False, *[True] * 6]
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert not any(module._forward_hooks for module in network.modules())
    assert torch.is_grad_enabled()


def test_the_network_is_as_before_after_an_error_too(network: nn.Sequential) -> None:
    with pytest.raises(RuntimeError):
        feature_maps(network.train(), torch.zeros((1, 3, 8, 8)))
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())


def test_all_convolutions_poolings_and_activations_have_maps_and_hidden_vectors_have_none() -> None:
    """LeNet-5's two last ReLUs give vectors."""
    maps = feature_maps(ARCHITECTURES["lenet5"].build(), torch.zeros((2, 1, 32, 32)))
    assert {name: tuple(value.shape) for name, value in maps.items()} == {
        "c1": (2, 6, 28, 28),
        "relu1": (2, 6, 28, 28),
        "s2": (2, 6, 14, 14),
        "c3": (2, 16, 10, 10),
        "relu3": (2, 16, 10, 10),
        "s4": (2, 16, 5, 5),
    }


def test_statistics_by_hand() -> None:
    maps = torch.tensor([[[[0.0, 2.0]], [[0.0, 0.0]], [[3.0, 3.0]]], [[[0.0, 4.0]], [[0.0, 0.0]], [[3.0, 3.0]]]])
    statistics = map_statistics("relu", maps)
    assert (statistics.layer, statistics.units) == ("relu", 3)
    assert statistics.mean == (1.5, 0.0, 3.0)
    assert statistics.std == pytest.approx((2.75**0.5, 0.0, 0.0))
    assert statistics.maximum == (4.0, 0.0, 3.0)
    assert statistics.silent == (0.5, 1.0, 0.0)
    assert statistics.sparsity == 0.5
    assert statistics.dead == (1, 2)


def test_a_unit_with_a_very_negative_bias_is_dead_behind_its_relu(network: nn.Sequential, images: torch.Tensor) -> None:
    with torch.no_grad():
        network[1].bias[2] = -1e6
    statistics = map_statistics("2", feature_maps(network, images, ["2"])["2"])
    assert statistics.dead == (2,)
    assert statistics.silent[2] == 1.0
    assert 0 < statistics.silent[0] < 1


def test_refusals(network: nn.Sequential, images: torch.Tensor) -> None:
    with pytest.raises(UsageError, match="The network has no layer '9'. Known: 0, 1, 2"):
        feature_maps(network, images, ["9"])
    with pytest.raises(UsageError, match=r"Layer '6' gives \[5, 2\], but feature maps are \[n, maps, h, w\]"):
        feature_maps(network, images, ["6"])
    network[0].spare = nn.ReLU()
    with pytest.raises(UsageError, match="Layer '0.spare' never ran, but feature maps are"):
        feature_maps(network, images, ["0.spare"])
