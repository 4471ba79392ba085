"""Nets of 6n + 2 layers: sizes as published, shortcuts by hand, and plain nets that differ by nothing else."""

import pytest
import torch

from hilum.errors import UsageError
from hilum.models.anatomy import layer_rows
from hilum.models.initialisation import generator_from, initialise
from hilum.models.networks.residual_small import PreActivationBlock, ResidualBlock, SmallResNet, Subsampling

# He et al. 2016, doi:10.1109/CVPR.2016.90, table 6, give them in millions: 0.27, 0.46, 0.66, 0.85, 1.7 and 19.4.
PUBLISHED = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962, 1202: 19_421_274}
MILLIONS = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7, 1202: 19.4}


def parameters(depth: int, **options: object) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in SmallResNet(depth, **options).parameters())  # type: ignore[arg-type]


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110, pytest.param(1202, marks=pytest.mark.long)])
def test_sizes_are_those_of_the_paper(depth: int) -> None:
    count = parameters(depth)
    assert count == PUBLISHED[depth]
    assert round(count / 1e6, 2 if count < 1e6 else 1) == MILLIONS[depth]


def test_option_a_and_the_plain_net_need_no_parameters_for_shortcuts() -> None:
    assert parameters(56, shortcut="none") == parameters(56, shortcut="A") == PUBLISHED[56]
    # Two projections, 16·32 and 32·64 weights, each with a BatchNorm of 2·32 and 2·64 numbers.
    assert parameters(56, shortcut="B") - PUBLISHED[56] == 16 * 32 + 32 * 64 + 2 * (32 + 64)
    # And one around each of the other 25 blocks.
    rest = 9 * (16 * 16 + 2 * 16) + 8 * (32 * 32 + 2 * 32) + 8 * (64 * 64 + 2 * 64)
    assert parameters(56, shortcut="C") - parameters(56, shortcut="B") == rest


def test_without_batch_norm_convolutions_have_biases_instead_of_scale_and_shift() -> None:
    assert parameters(20) - parameters(20, norm=False) == 7 * 16 + 6 * 32 + 6 * 64


@pytest.mark.parametrize("shortcut", ["none", "A", "B", "C"])
def test_depth_counts_the_layers_with_weights(shortcut: str) -> None:
    with torch.device("meta"):
        network = SmallResNet(20, shortcut=shortcut, width=0.5)  # type: ignore[arg-type]
    rows = [row for row in layer_rows(network, (3, 32, 32)) if row.kind in ("Conv2d", "Linear")]
    assert len([row for row in rows if "shortcut" not in row.name]) == 20
    shapes = {row.name: row.shape for row in rows}
    assert (shapes["conv1"], shapes["layer2.0.conv2"], shapes["layer3.2.conv2"]) == (
        (8, 32, 32),
        (16, 16, 16),
        (32, 8, 8),
    )


def test_multiply_accumulates_by_hand() -> None:
    """Every stage has six convolutions of equal cost, but the first of a stage that narrows costs half."""
    with torch.device("meta"):
        rows = layer_rows(SmallResNet(20), (3, 32, 32))
    full = 32 * 32 * 16 * 16 * 9
    assert sum(row.macs for row in rows) == 32 * 32 * 3 * 16 * 9 + (6 + 5 + 5) * full + 2 * full // 2 + 640


def test_option_a_takes_every_second_pixel_and_adds_channels_of_zeros() -> None:
    maps = torch.arange(32.0).reshape(1, 2, 4, 4)
    out = Subsampling(2, 2)(maps)
    assert out.shape == (1, 4, 2, 2)
    assert out[0, 0].tolist() == [[0, 2], [8, 10]]
    assert torch.equal(out[:, 2:], torch.zeros(1, 2, 2, 2))


def test_a_projection_is_a_strided_one_by_one_convolution() -> None:
    block = ResidualBlock(2, 4, 2, "B", norm=False)
    assert isinstance(block.shortcut, torch.nn.Sequential)
    convolution = block.shortcut[1]
    maps = torch.randn((2, 2, 6, 6), generator=generator_from(0))
    expected = torch.nn.functional.conv2d(maps, convolution.weight, convolution.bias, stride=2)
    assert torch.allclose(block.shortcut(maps), expected)


@pytest.mark.parametrize("kind", [ResidualBlock, PreActivationBlock])
def test_a_block_whose_branch_gives_nothing_passes_its_input_on(kind: type) -> None:
    block = kind(4, 4, 1, "A", norm=False)
    for convolution in (block.conv1, block.conv2):
        torch.nn.init.zeros_(convolution.weight)
        torch.nn.init.zeros_(convolution.bias)
    maps = torch.randn((2, 4, 5, 5), generator=generator_from(0))
    assert torch.equal(block(maps), maps.relu() if kind is ResidualBlock else maps)


def test_plain_and_residual_nets_of_one_seed_begin_with_the_same_weights() -> None:
    plain, residual = SmallResNet(8, shortcut="none"), SmallResNet(8, shortcut="A")
    for network in (plain, residual):
        initialise(network, generator_from(3))
    pairs = zip(plain.named_parameters(), residual.named_parameters(), strict=True)
    assert all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in pairs)
    images = torch.randn((2, 3, 16, 16), generator=generator_from(1))
    assert not torch.equal(plain(images), residual(images))


def test_a_pre_activation_net_ends_its_stages_with_batch_norm_and_relu() -> None:
    network = SmallResNet(8, pre_activation=True, width=0.5)
    assert [name for name, _ in network.named_children()][-4:] == ["bn1", "relu", "avgpool", "fc"]
    assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 10)


def test_wrong_depths_widths_and_shortcuts_are_refused() -> None:
    with pytest.raises(UsageError, match=r"depth is 18, but these nets have 6n \+ 2 layers\. Take 14 or 20\."):
        SmallResNet(18)
    with pytest.raises(UsageError, match=r"depth is 2, but .* Take 8 or 14\."):
        SmallResNet(2)
    with pytest.raises(UsageError, match="shortcut is 'D', but must be 'none', 'A', 'B' or 'C'"):
        SmallResNet(8, shortcut="D")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"width is 0\.3, but channels must be multiples of 8"):
        SmallResNet(8, width=0.3)
