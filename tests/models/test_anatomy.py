"""Layer tables: multiply-accumulates as published, receptive fields as computed by hand and in the literature."""

from collections.abc import Iterable
from functools import cache

import pytest
import torch
from _pytest.mark import ParameterSet
from torch import nn

from hilum.errors import UsageError
from hilum.models.anatomy import activation_bytes, compare, connections, layer_rows, network_table
from hilum.models.weights.registry import NAMED_WEIGHTS
from hilum.models.zoo import published_network

PUBLISHED_GMACS = {
    "alexnet": 0.714,
    "vgg16": 15.470,
    "vgg19": 19.632,
    "googlenet": 1.50,
    "resnet18": 1.814,
    "resnet34": 3.664,
    "resnet50": 4.089,
    "resnet101": 7.801,
    "resnet152": 11.514,
    "densenet121": 2.834,
    "efficientnet_b0": 0.386,
}

DEPTHS = {
    "lenet5": 5,
    "alexnet": 8,
    "vgg11": 11,
    "vgg13": 13,
    "vgg16": 16,
    "vgg19": 19,
    "googlenet": 22,
    "resnet18": 18,
    "resnet34": 34,
    "resnet50": 50,
    "resnet101": 101,
    "resnet152": 152,
    "densenet121": 121,
    "densenet169": 169,
    "densenet201": 201,
    "plain18": 18,
    "plain34": 34,
}

# Built of the same blocks as their siblings, and a second each to lay out: their turn comes with the long tests.
SLOW = ("densenet169", "densenet201", "resnext101_32x8d")

table_of = cache(network_table)


def each(names: Iterable[str]) -> list[ParameterSet]:
    return [pytest.param(name, marks=[pytest.mark.long] * (name in SLOW)) for name in names]


@pytest.mark.parametrize("name", PUBLISHED_GMACS)
def test_multiply_accumulates_at_224_are_as_published(name: str) -> None:
    assert table_of(name).macs / 1e9 == pytest.approx(PUBLISHED_GMACS[name], abs=0.005 if name == "googlenet" else 6e-4)


@pytest.mark.parametrize("name", each(DEPTHS))
def test_depth_is_the_number_in_the_networks_name(name: str) -> None:
    """Projections on shortcuts and side branches of an Inception lie beside the longest way and are not counted."""
    assert table_of(name).depth == DEPTHS[name]


@pytest.mark.parametrize("name", each(name for source, name in NAMED_WEIGHTS if source == "imagenet"))
def test_counts_are_those_that_torchvision_publishes_with_its_weights(name: str) -> None:
    """An independent count: torchvision measured its networks with another tool and states parameters and MACs."""
    from torchvision import models

    published = models.get_weight(NAMED_WEIGHTS["imagenet", name].entry).meta
    assert table_of(name).parameters == published["num_params"]
    assert table_of(name).macs / 1e9 == pytest.approx(published["_ops"], abs=6e-4)


def test_lenet_table_by_hand() -> None:
    """Maps, weights and receptive fields of LeCun et al. 1998, figure 2, in the modern form."""
    table = table_of("lenet5")
    rows = {row.name: row for row in table.rows}
    assert table.parameters == 61_706
    assert (rows["c1"].shape, rows["c1"].parameters, rows["c1"].macs) == ((6, 28, 28), 156, 28 * 28 * 6 * 25)
    assert (rows["c3"].shape, rows["c3"].parameters) == ((16, 10, 10), 2416)
    assert (rows["f6"].shape, rows["f6"].macs) == ((84,), 120 * 84)
    fields = [rows[name].receptive_field for name in ("c1", "s2", "c3", "s4", "c5")]
    assert fields == [5, 6, 14, 16, None]


@pytest.mark.parametrize(
    ("name", "layer", "pixels"),
    # AlexNet and VGG: Araujo et al. 2019, doi:10.23915/distill.00021, table of common networks. ResNet-18 by hand:
    # 7, 11 (pool), +4·8, +8+3·16, +16+3·32, +32+3·64.
    [("alexnet", "features.12", 195), ("vgg16", "features.30", 212), ("resnet18", "layer4.1.relu", 435)],
)
def test_receptive_fields_are_those_of_the_literature(name: str, layer: str, pixels: int) -> None:
    assert {row.name: row for row in table_of(name).rows}[layer].receptive_field == pixels


@pytest.mark.parametrize(("name", "pixels"), [("resnet50", 483), ("resnet101", 1027)])
def test_receptive_fields_of_deep_resnets_are_those_of_the_literature(name: str, pixels: int) -> None:
    """Araujo et al. 2019 measured TF-slim's variant, which has the strides in the last block of stages 1 to 3."""
    network = published_network(name)
    for stage in range(1, 4):
        first, last = getattr(network, f"layer{stage + 1}")[0], getattr(network, f"layer{stage}")[-1]
        first.conv2.stride = first.downsample[0].stride = (1, 1)
        last.conv2.stride, last.downsample = (2, 2), nn.MaxPool2d(1, 2)
    rows = {row.name: row for row in layer_rows(network, (3, 224, 224))}
    assert rows["layer4.2.relu"].receptive_field == pixels


def test_receptive_field_is_what_a_gradient_reaches() -> None:
    """The pixels that one output depends on, counted by autograd in a net with padding, dilation and stride."""
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(1, 2, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(2, 2, 3, dilation=2),
        nn.AvgPool2d(3, 1),
        nn.MaxPool2d(1),
    ]
    rows = layer_rows(nn.Sequential(*layers).to("meta"), (1, 41, 41))
    image = torch.rand((1, 1, 41, 41), requires_grad=True)
    net = nn.Sequential(*[nn.Identity() if isinstance(layer, nn.ReLU) else layer for layer in layers]).to_empty(
        device="cpu"
    )
    for parameter in net.parameters():
        nn.init.uniform_(parameter, 0.1, 1.0)
    out = net(image)
    (gradient,) = torch.autograd.grad(out[0, 0, out.shape[2] // 2, out.shape[3] // 2], image)
    reached = (gradient[0, 0].abs().sum(1) > 0).nonzero().flatten()
    assert rows[-1].receptive_field == int(reached.max() - reached.min()) + 1


def test_layer_that_runs_twice_has_its_parameters_counted_once() -> None:
    shared = nn.Conv2d(2, 2, 1, bias=False)
    rows = layer_rows(nn.Sequential(shared, nn.ReLU(), shared).to("meta"), (2, 4, 4))
    assert [row.parameters for row in rows] == [4, 0, 0]
    assert [row.macs for row in rows] == [64, 0, 64]


def test_macs_of_a_grouped_convolution_by_hand() -> None:
    rows = layer_rows(nn.Conv2d(4, 8, 3, padding=1, groups=2).to("meta"), (4, 5, 5))
    assert rows[0].macs == 5 * 5 * 8 * (4 // 2) * 9


def test_last_block_of_densenet_is_a_tenth_of_the_work_of_fine_tuning() -> None:
    """With a cached prefix a step costs three passes of the last block, without it one whole pass and two of it."""
    table = table_of("densenet121")
    whole = table.part(("features",))[1]
    last = table.part(("features.denseblock4", "features.norm5"))[1]
    assert (whole + 2 * last) / (3 * last) == pytest.approx(9.7, abs=0.1)


def test_connections_are_counted_as_lecun_counts_them() -> None:
    """LeCun et al. 1998, section II.B: C1 122,304, C5 48,120, F6 10,164; C3 here sees all maps: 100·16·(150 + 1)."""
    rows = {row.name: row for row in table_of("lenet5").rows}
    assert [rows[name].connections for name in ("c1", "s2", "c3", "c5", "f6", "output")] == [
        *(122_304, 0, 241_600, 48_120, 10_164, 850)
    ]
    assert table_of("lenet5").connections == 423_038


def test_connections_without_a_bias_are_the_multiply_accumulates() -> None:
    layer = nn.Conv2d(4, 8, 3, groups=2, bias=False)
    assert connections(layer, torch.empty((5, 8, 2, 2), device="meta")) == 2 * 2 * 8 * 2 * 9


def test_a_layer_that_counts_itself_is_asked() -> None:
    class Doubling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            return maps * self.weight

        def macs(self, output: torch.Tensor) -> int:
            return output[0].numel()

        def connections(self, output: torch.Tensor) -> int:
            return 3 * output[0].numel()

    (row,) = layer_rows(Doubling().to("meta"), (1, 4, 4))
    assert (row.macs, row.connections, row.depth, row.receptive_field) == (16, 48, 1, 1)


def test_googlenets_auxiliary_classifiers_count_as_parameters_and_not_as_work() -> None:
    """13,004,888 parameters are published with them, 6,624,904 without; answering an image never runs them."""
    plain, with_auxiliaries = table_of("googlenet"), network_table("googlenet", aux_logits=True)
    assert (plain.parameters, with_auxiliaries.parameters) == (6_624_904, 13_004_888)
    assert with_auxiliaries.macs == plain.macs
    assert with_auxiliaries.depth == plain.depth
    extra = [row for row in with_auxiliaries.rows if row.training_only]
    assert {row.name.split(".")[0] for row in extra} == {"aux1", "aux2"}
    assert {row.name: row.shape for row in extra}["aux1.fc2"] == (1000,)


def test_a_layer_that_never_runs_keeps_its_parameters_in_the_table() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1))
    network[0].spare = nn.Linear(2, 3)
    rows = layer_rows(network.to("meta"), (1, 4, 4))
    assert [(row.name, row.parameters, row.shape, row.macs) for row in rows] == [
        ("0", 2, (1, 4, 4), 16),
        ("0.spare", 9, (), 0),
    ]
    assert not network.training


def test_layers_with_weights_count_side_branches_and_projections() -> None:
    """ResNet-18 has three 1×1 projections beside its 18 layers; GoogLeNet has 57 convolutions and a classifier."""
    assert [table_of(name).weighted_layers for name in ("vgg16", "resnet18", "googlenet")] == [16, 21, 58]


def test_squeeze_and_excitation_sees_the_whole_image_and_the_rest_keeps_its_field() -> None:
    rows = {row.name: row for row in table_of("efficientnet_b0").rows}
    assert (rows["features.1.0.block.0.0"].receptive_field, rows["features.1.0.block.0.0"].local_field) == (7, 7)
    assert (rows["features.2.0.block.0.0"].receptive_field, rows["features.2.0.block.0.0"].local_field) == (None, 7)
    assert rows["features.8.0"].local_field == 851


def test_comparison_says_what_each_network_is_made_of() -> None:
    alexnet, vgg16, googlenet = compare(["alexnet", "vgg16", "googlenet"])
    assert (alexnet.parameters, alexnet.classifier_parameters) == (61_100_840, 37_752_832 + 16_781_312 + 4_097_000)
    assert alexnet.classifier_share == pytest.approx(0.9596, abs=1e-4)
    assert (vgg16.depth, vgg16.feature_map, vgg16.receptive_field) == (16, (512, 14, 14), 196)
    assert (googlenet.feature_map, googlenet.receptive_field, googlenet.weighted_layers) == ((1024, 7, 7), 379, 58)
    assert vgg16.training[0].weights == 553_430_176
    one, many = vgg16.training
    assert many.total - one.total == 31 * vgg16.kept_bytes


def test_comparison_at_another_size_changes_the_work_and_not_the_parameters() -> None:
    (small,), (large,) = compare(["resnet18"], size=64), compare(["resnet18"])
    assert small.parameters == large.parameters
    assert small.input_shape == (3, 64, 64)
    assert small.macs < large.macs / 10
    assert small.kept_bytes < large.kept_bytes / 10


def test_alexnets_first_maps_are_of_55_pixels_at_224_with_padding_and_at_227_without() -> None:
    """(224 + 2·2 − 11)/4 + 1 and (227 − 11)/4 + 1; 224 without padding, as the paper prints it, gives 54."""
    assert table_of("alexnet").rows[0].shape == (64, 55, 55)
    unpadded = nn.Conv2d(3, 64, 11, 4).to("meta")
    assert [layer_rows(unpadded, (3, size, size))[0].shape[1] for size in (227, 224)] == [55, 54]


def test_comparison_refuses_an_unknown_name_before_it_counts_anything() -> None:
    with pytest.raises(UsageError, match="Network 'vgg17' is not in the zoo. Did you mean 'vgg1"):
        compare(["lenet5", "vgg17"])


def test_activation_memory_counts_every_output_once_in_fp32() -> None:
    table = table_of("mlp")
    assert activation_bytes(table) == 4 * (784 + 5 * 256 + 10)


def test_an_image_too_small_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="alexnet can't take images of 20 × 20 .* Try 224"):
        network_table("alexnet", size=20)
