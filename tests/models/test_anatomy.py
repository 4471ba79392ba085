"""Layer tables: multiply-accumulates as published, receptive fields as computed by hand and in the literature."""

import pytest
import torch
from torch import nn

from hilum.errors import UsageError
from hilum.models.anatomy import activation_bytes, layer_rows, network_table

PUBLISHED_GMACS = {
    "alexnet": 0.714,
    "vgg16": 15.470,
    "vgg19": 19.632,
    "googlenet": 1.50,
    "resnet18": 1.814,
    "resnet34": 3.664,
    "resnet50": 4.089,
    "densenet121": 2.834,
    "efficientnet_b0": 0.386,
}


@pytest.mark.parametrize("name", PUBLISHED_GMACS)
def test_multiply_accumulates_at_224_are_as_published(name: str) -> None:
    assert network_table(name).macs / 1e9 == pytest.approx(
        PUBLISHED_GMACS[name], abs=0.005 if name == "googlenet" else 6e-4
    )


def test_lenet_table_by_hand() -> None:
    """Maps, weights and receptive fields of LeCun et al. 1998, figure 2, in the modern form."""
    table = network_table("lenet5")
    rows = {row.name: row for row in table.rows}
    assert table.parameters == 61_706
    assert (rows["c1"].shape, rows["c1"].parameters, rows["c1"].macs) == ((6, 28, 28), 156, 28 * 28 * 6 * 25)
    assert (rows["c3"].shape, rows["c3"].parameters) == ((16, 10, 10), 2416)
    assert (rows["f6"].shape, rows["f6"].macs) == ((84,), 120 * 84)
    fields = [rows[name].receptive_field for name in ("c1", "s2", "c3", "s4", "c5")]
    assert fields == [5, 6, 14, 16, None]


@pytest.mark.parametrize(
    ("name", "layer", "pixels"),
    # Araujo et al. 2019, doi:10.23915/distill.00021, table of common networks.
    [("alexnet", "features.12", 195), ("vgg16", "features.30", 212), ("resnet18", "layer4.1.relu", 435)],
)
def test_receptive_fields_are_those_of_the_literature(name: str, layer: str, pixels: int) -> None:
    assert {row.name: row for row in network_table(name).rows}[layer].receptive_field == pixels


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
    table = network_table("densenet121")
    whole = table.part(("features",))[1]
    last = table.part(("features.denseblock4", "features.norm5"))[1]
    assert (whole + 2 * last) / (3 * last) == pytest.approx(9.7, abs=0.1)


def test_activation_memory_counts_every_output_once_in_fp32() -> None:
    table = network_table("mlp")
    assert activation_bytes(table) == 4 * (784 + 5 * 256 + 10)


def test_an_image_too_small_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="alexnet can't take images of 20 × 20 .* Try 224"):
        network_table("alexnet", size=20)
