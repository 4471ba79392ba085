"""LeNet-5 of 1998: the counts of the paper, its units by hand, its codes and its initial weights."""

import math

import pytest
import torch
from torch.nn.functional import conv2d

from hilum.models.anatomy import network_table
from hilum.models.initialisation import generator_from, initialise
from hilum.models.networks.lenet_original import (
    BLACK,
    C3_TABLE,
    INPUT_MEAN,
    INPUT_STD,
    WHITE,
    LeNet5Original,
    RadialBasis,
    ScaledTanh,
    Subsampling,
    TableConv2d,
    digit_codes,
)

PUBLISHED = {
    # Section II.B: maps, trainable parameters, connections.
    "c1": ((6, 28, 28), 156, 122_304),
    "s2": ((6, 14, 14), 12, 5_880),
    "c3": ((16, 10, 10), 1_516, 151_600),
    "s4": ((16, 5, 5), 32, 2_000),
    "c5": ((120, 1, 1), 48_120, 48_120),
    "f6": ((84,), 10_164, 10_164),
}


def test_layers_have_the_paper_s_maps_parameters_and_connections() -> None:
    rows = {row.name: row for row in network_table("lenet5_original").rows}
    assert {name: (rows[name].shape, rows[name].parameters, rows[name].connections) for name in PUBLISHED} == PUBLISHED
    assert (rows["output"].parameters, rows["output"].connections) == (0, 84 * 10)


def test_sums_are_the_paper_s_340_908_connections_and_60_000_parameters() -> None:
    table = network_table("lenet5_original")
    assert (table.connections, table.parameters) == (340_908, 60_000)
    assert sum(p.numel() for p in LeNet5Original().parameters()) == 60_000, "the codes are not trained"


def test_modern_form_has_61_706_parameters() -> None:
    """The table of C3 saves 900 weights, the outputs cost 850, subsampling 44: 60,000 + 900 + 850 − 44."""
    assert network_table("lenet5").parameters == 61_706


def test_receptive_fields_grow_to_the_whole_field() -> None:
    rows = {row.name: row.receptive_field for row in network_table("lenet5_original").rows}
    assert [rows[name] for name in ("c1", "s2", "c3", "s4", "c5")] == [5, 6, 14, 16, 32]


def test_table_has_sixty_links_as_table_one_draws_them() -> None:
    """Six maps see three neighbours, six see four, three see two pairs, one sees all; each map of S2 is seen by ten."""
    assert [len(seen) for seen in C3_TABLE] == [3] * 6 + [4] * 9 + [6]
    assert len(set(C3_TABLE)) == 16
    assert [sum(below in seen for seen in C3_TABLE) for below in range(6)] == [10] * 6


def test_table_convolution_is_the_dense_one_with_zeros() -> None:
    layer = TableConv2d(3, ((0,), (0, 2), (0, 1, 2)), 2)
    dense = torch.zeros(3, 3, 2, 2)
    for link, (map_, below) in enumerate([(0, 0), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)]):
        dense[map_, below] = layer.weight[link].detach()
    maps = torch.randn(2, 3, 4, 4)
    assert torch.equal(layer.dense_weight(), dense)
    assert torch.allclose(layer(maps), conv2d(maps, dense, layer.bias), atol=1e-6)
    layer(maps).sum().backward()
    assert layer.weight.grad is not None
    assert torch.count_nonzero(layer.weight.grad) == layer.weight.numel(), "every link learns"


def test_subsampling_by_hand() -> None:
    """Four inputs are added, times the coefficient, plus the bias."""
    layer = Subsampling(2)
    with torch.no_grad():
        layer.coefficient.copy_(torch.tensor([0.5, 2.0]))
        layer.bias.copy_(torch.tensor([1.0, -1.0]))
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[1.0, 0.0], [0.0, 0.0]]]])
    assert layer(maps).flatten().tolist() == [0.5 * 10 + 1, 2.0 * 1 - 1]


def test_squashing_is_one_at_one() -> None:
    """Section II.B: f(1) = 1 and f(−1) = −1; it saturates at 1.7159."""
    states = ScaledTanh()(torch.tensor([1.0, -1.0, 0.0, 50.0]))
    assert states.tolist() == pytest.approx([1.0, -1.0, 0.0, 1.7159], abs=1e-4)


def test_inputs_are_as_the_paper_normalises_them() -> None:
    assert [(x - INPUT_MEAN) / INPUT_STD for x in (0.0, 1.0)] == pytest.approx([WHITE, BLACK])


def test_radial_basis_by_hand_and_its_answer_is_the_nearest_code() -> None:
    layer = RadialBasis(torch.tensor([[1.0, -1.0], [1.0, 1.0]]))
    assert layer(torch.tensor([[1.0, 0.5]])).tolist() == [[-(1.5**2), -(0.5**2)]]
    codes = digit_codes()
    logits = RadialBasis(codes)(codes)
    assert torch.equal(logits.argmax(1), torch.arange(10))
    assert logits.diagonal().tolist() == [0.0] * 10


def test_codes_are_ten_bitmaps_of_84_that_differ_as_digits_do() -> None:
    """±1 each; the two lowest of twelve rows are empty; 3 and 9 lie nearer to 8 than 1 does."""
    codes = digit_codes()
    assert codes.shape == (10, 84)
    assert set(codes.flatten().tolist()) == {-1.0, 1.0}
    assert codes.view(10, 12, 7)[:, -2:].max() == -1
    apart = (codes[:, None] != codes[None]).sum(2)
    assert apart[~torch.eye(10, dtype=torch.bool)].min() >= 5
    assert max(apart[8, 3], apart[8, 9]) < apart[8, 1]


def test_weights_begin_within_the_paper_s_bounds() -> None:
    """Uniform within ±2.4/F, F the inputs of a unit: 25 in C1, 75, 100 and 150 in C3, 400 in C5, 120 in F6."""
    network = LeNet5Original()
    initialise(network, generator_from(0))
    windows = torch.split(network.c3.weight, [len(seen) for seen in C3_TABLE])
    spans = {
        network.c1.weight: 25,
        network.c5.weight: 400,
        network.f6.weight: 120,
        windows[0]: 75,
        windows[6]: 100,
        windows[15]: 150,
    }
    for weight, fan_in in spans.items():
        most = weight.abs().max().item()
        assert 0.9 * 2.4 / fan_in < most <= 2.4 / fan_in
    assert network.s2.coefficient.abs().max() <= 0.6


def test_same_seed_same_weights_and_codes_come_back_after_storage_is_replaced() -> None:
    """A network laid out without storage is filled whole: the codes too, which nothing trains."""
    first = LeNet5Original()
    with torch.device("meta"):
        second = LeNet5Original()
    second.to_empty(device="cpu")
    initialise(first, generator_from(3))
    torch.rand(5)
    initialise(second, generator_from(3))
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    assert torch.equal(second.output.codes, digit_codes())


def test_logits_are_minus_the_distances_of_f6_to_the_codes() -> None:
    network = LeNet5Original()
    images = torch.randn(2, 1, 32, 32)
    states = network.codes_of(images)
    assert states.shape == (2, 84)
    assert states.abs().max() <= 1.7159
    expected = [-(math.dist(state, code) ** 2) for state in states.tolist() for code in digit_codes().tolist()]
    assert network(images).flatten().tolist() == pytest.approx(expected, rel=1e-4)
