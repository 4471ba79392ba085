"""The small VGG: published depths, kernels that see as far, and stacks that are one linear map without their ReLUs."""

import pytest
import torch
from torch import nn

from hilum.errors import UsageError
from hilum.models.anatomy import layer_rows
from hilum.models.initialisation import generator_from, initialise
from hilum.models.networks.vgg_small import STAGES, SmallVGG
from hilum.models.zoo import published_network


def meta(**options: object) -> nn.Module:
    with torch.device("meta"):
        return SmallVGG(**options)


@pytest.mark.parametrize("depth", STAGES)
@pytest.mark.parametrize("norm", [False, True])
def test_convolutions_are_torchvisions_at_full_width(depth: int, norm: bool) -> None:
    ours = meta(stages=STAGES[depth], width=1, norm=norm).features.state_dict()
    theirs = published_network(f"vgg{depth}" + "_bn" * norm).features.state_dict()
    assert {name: value.shape for name, value in ours.items()} == {name: v.shape for name, v in theirs.items()}


@pytest.mark.parametrize("depth", STAGES)
def test_depth_counts_convolutions_and_three_dense_layers(depth: int) -> None:
    rows = layer_rows(meta(stages=STAGES[depth]), (3, 32, 32))
    assert sum(row.kind in ("Conv2d", "Linear") for row in rows) == depth
    assert [row.shape for row in rows if row.kind == "MaxPool2d"][-1] == (64, 1, 1)


@pytest.mark.parametrize(("small", "large"), [((2, 3), (1, 5)), ((3, 3), (1, 7))])
def test_stack_of_3x3_sees_as_far_as_the_kernel_that_it_replaces(
    small: tuple[int, int], large: tuple[int, int]
) -> None:
    """Two of 3×3 see what one of 5×5 sees, three what one of 7×7 sees, in every stage."""
    fields = []
    for count, kernel in (small, large):
        rows = layer_rows(meta(stages=(count,) * 5, kernel=kernel), (3, 32, 32))
        fields.append([row.receptive_field for row in rows if row.kind == "MaxPool2d"])
    assert fields[0] == fields[1]


def test_stage_without_inner_relu_is_one_linear_map() -> None:
    """A stack of linear layers is linear: f(x + y) = f(x) + f(y) − f(0); with ReLUs inside it is not."""
    for inner, linear in ((False, True), (True, False)):
        network = SmallVGG((3, 1, 1, 1, 1), width=0.0625, inner_relu=inner)
        initialise(network, generator_from(0))
        stack = network.features[: 5 if inner else 3]
        x, y = torch.randn((2, 1, 3, 8, 8), generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            off = stack(x + y) - (stack(x) + stack(y) - stack(torch.zeros_like(x)))
        assert (off.abs().max() < 1e-4) == linear


def test_fixed_spread_reaches_every_layer() -> None:
    network = SmallVGG(STAGES[11], spread=0.02)
    initialise(network, generator_from(0))
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(layers) == 11
    assert all(layer.weight.std().item() == pytest.approx(0.02, rel=0.2) for layer in layers)
    assert all(layer.bias.abs().max().item() == 0 for layer in layers)


def test_images_of_64_pixels_leave_four() -> None:
    assert SmallVGG(STAGES[11], size=64, width=0.0625)(torch.randn(2, 3, 64, 64)).shape == (2, 10)


def test_what_there_is_not_is_refused_with_its_value() -> None:
    with pytest.raises(UsageError, match=r"stages are \(1, 2\), but VGG has five, each of one convolution or more\."):
        SmallVGG((1, 2))
    with pytest.raises(UsageError, match=r"size is 28 px, but the small VGG takes 32 or 64\."):
        SmallVGG(STAGES[11], size=28)
    with pytest.raises(UsageError, match=r"kernel is 4, but must be odd, such as 3, 5 or 7\."):
        SmallVGG(STAGES[11], kernel=4)
