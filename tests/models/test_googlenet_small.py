"""GoogLeNet's variants: counts as published, the one difference named, and a stem that keeps 32 pixels."""

import pytest
import torch
from torch import nn

from hilum.errors import UsageError
from hilum.models.anatomy import network_table
from hilum.models.networks.googlenet_small import build_googlenet
from hilum.models.zoo import published_network


def parameters(network: nn.Module) -> int:
    return sum(value.numel() for value in network.parameters())


def meta(**options: object) -> nn.Module:
    with torch.device("meta"):
        return build_googlenet(**options)


def test_three_by_three_is_torchvisions_network_to_the_last_name_and_shape() -> None:
    """6,624,904 parameters without auxiliary classifiers, 13,004,888 with both."""
    ours, theirs = meta(kernel=3).state_dict(), published_network("googlenet").state_dict()
    assert {name: value.shape for name, value in ours.items()} == {name: v.shape for name, v in theirs.items()}
    assert parameters(meta(kernel=3)) == 6_624_904
    assert parameters(meta(kernel=3, auxiliary=True)) == 13_004_888


def test_five_by_five_differs_in_nine_layers_and_by_380928_parameters() -> None:
    """torchvision's third branch has 3×3 where the paper has 5×5: 16 more weights for each pair of channels there."""
    three, five = (published_network(name).state_dict() for name in ("googlenet", "googlenet_5x5"))
    assert parameters(published_network("googlenet_5x5")) == 7_005_832
    assert list(three) == list(five)
    other = {name for name in three if three[name].shape != five[name].shape}
    assert len(other) == 9
    assert all(name.endswith("branch3.1.conv.weight") for name in other)
    assert all(three[name].shape[2:] == (3, 3) and five[name].shape[2:] == (5, 5) for name in other)
    pairs = sum(five[name].shape[:2].numel() for name in other)
    assert 7_005_832 - 6_624_904 == 380_928 == (25 - 9) * pairs


def test_the_small_stem_differs_in_the_first_kernel_alone() -> None:
    small, large = meta(num_classes=10, stem="small").state_dict(), meta(num_classes=10).state_dict()
    assert {name for name in large if small[name].shape != large[name].shape} == {"conv1.conv.weight"}
    assert small["conv1.conv.weight"].shape == (64, 3, 3, 3)


@pytest.mark.parametrize(("pools", "side"), [(0, 32), (1, 16), (2, 8)])
def test_early_poolings_divide_what_the_inception_blocks_see(pools: int, side: int) -> None:
    rows = {row.name: row.shape for row in network_table("googlenet_small", early_pools=pools).rows}
    assert rows["inception3a.branch1.conv"] == (64, side, side)
    assert rows["inception5b.branch1.conv"] == (384, side // 4, side // 4)
    assert rows["fc"] == (10,)


def test_width_scales_every_channel_but_the_images() -> None:
    narrow, whole = (meta(width=width, auxiliary=True).state_dict() for width in (0.25, 1))
    for name, value in whole.items():
        sides = [side if i > 1 or side in (3, 1000) else side // 4 for i, side in enumerate(value.shape)]
        assert list(narrow[name].shape) == sides, name


def test_in_training_it_gives_three_sets_of_logits_and_one_afterwards() -> None:
    network = build_googlenet(10, stem="small", early_pools=2, width=0.125, auxiliary=True)
    images = torch.randn(2, 3, 32, 32)
    assert [tuple(logits.shape) for logits in network.train()(images)] == [(2, 10)] * 3
    assert network.eval()(images).shape == (2, 10)


def test_what_there_is_not_is_refused_with_its_value() -> None:
    with pytest.raises(UsageError, match=r"kernel is 7, but GoogLeNet's third branch has 3 \(torchvision\) or 5"):
        meta(kernel=7)
    with pytest.raises(UsageError, match=r"early_pools is 3, but the stem has two poolings: keep 0, 1 or 2\."):
        meta(early_pools=3)
    with pytest.raises(UsageError, match=r"width is 0\.3, but must be a multiple of 1/8, such as 0\.25"):
        meta(width=0.3)
