"""AlexNet of 2012: its published counts, its normalisation by the formula, its initial weights; and the small nets."""

import pytest
import torch
from torch import nn

from hilum.errors import UsageError
from hilum.models.anatomy import layer_rows, network_table
from hilum.models.initialisation import generator_from, initialise
from hilum.models.networks.alexnet import AlexNet2012, FourLayerNet, ResponseNorm, SmallAlexNet
from hilum.models.zoo import published_network


def parameters(network: nn.Module) -> int:
    return sum(value.numel() for value in network.parameters())


def meta(**options: object) -> nn.Module:
    with torch.device("meta"):
        return AlexNet2012(**options)


def convolutions(seed: int) -> nn.Module:
    """The convolutional part with weights; the classifier's 58 million are not needed."""
    features = meta().features.to_empty(device="cpu")
    initialise(features, generator_from(seed))
    return features


def test_two_gpu_net_has_its_published_parameters_and_one_gpu_more() -> None:
    """Without groups three convolutions see twice the maps: 256·48·25 + 384·192·9 + 256·192·9 weights more."""
    assert parameters(meta()) == 60_965_224
    assert parameters(meta(groups=1)) == 62_378_344 == 60_965_224 + 256 * 48 * 25 + 384 * 192 * 9 + 256 * 192 * 9


def test_layers_have_the_papers_sizes_at_227_pixels() -> None:
    rows = {row.name.removeprefix("features."): row for row in network_table("alexnet_2012").rows}
    assert [rows[f"conv{i}"].shape for i in range(1, 6)] == [
        (96, 55, 55), (256, 27, 27), (384, 13, 13), (384, 13, 13), (256, 13, 13),
    ]  # fmt: skip
    assert rows["pool5"].shape == (256, 6, 6)
    assert [rows[f"conv{i}"].receptive_field for i in range(1, 6)] == [11, 51, 99, 131, 163]
    assert rows["conv1"].parameters == 96 * (11 * 11 * 3) + 96
    assert rows["conv2"].macs == 27 * 27 * 256 * 48 * 25


def test_images_of_224_pixels_are_a_row_too_small() -> None:
    """(224 − 11)/4 + 1 is 54.25: maps of 54, 26, 12 and 5 px, and 6,400 features where 9,216 are taken."""
    with pytest.raises(UsageError, match=r"alexnet_2012 can't take images of 224 × 224 .*6400.*9216.* Try 227\."):
        network_table("alexnet_2012", size=224)


def test_response_norm_is_the_formula_by_hand() -> None:
    """Channel 0 of seven sees channels 0, 1 and 2; channel 3 sees 1 to 5."""
    values = torch.tensor([3.0, -40.0, 100.0, 7.0, 0.0, 20.0, 1.0])
    found = ResponseNorm()(values.view(1, 7, 1, 1)).flatten()
    first = 3.0 / (2 + 1e-4 * (9 + 1600 + 10_000)) ** 0.75
    middle = 7.0 / (2 + 1e-4 * (1600 + 10_000 + 49 + 0 + 400)) ** 0.75
    assert found[0].item() == pytest.approx(first, rel=1e-6)
    assert found[3].item() == pytest.approx(middle, rel=1e-6)


def test_response_norm_is_torchs_with_alpha_times_five() -> None:
    maps = 50 * torch.randn((2, 12, 5, 4), generator=torch.Generator().manual_seed(0))
    ours, theirs = ResponseNorm()(maps), nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)(maps)
    assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_normalisation_that_first_answered_can_be_trained_afterwards() -> None:
    """The band is kept: one that was made for inference would break the next backward pass in the same process."""
    maps = torch.ones(1, 11, 2, 2)  # as many channels as nothing else here has
    with torch.inference_mode():
        answered = ResponseNorm()(maps)
    traced = ResponseNorm()(maps.requires_grad_())
    traced.sum().backward()
    assert torch.equal(traced.detach(), answered.clone())
    assert maps.grad is not None


def test_halves_of_the_maps_don_t_see_each_other_in_grouped_layers() -> None:
    """What changes in the second GPU's half of conv4's input reaches the second half of its output alone."""
    conv4 = convolutions(0).conv4
    maps = torch.zeros((1, 384, 3, 3))
    changed = maps.clone()
    changed[:, 192:] = 1
    with torch.inference_mode():
        differs = (conv4(maps) != conv4(changed)).flatten(2).any(2)[0]
    assert not differs[:192].any()
    assert differs[192:].all()


def test_weights_begin_with_the_papers_spread_and_open_biases() -> None:
    features = convolutions(0)
    assert features.conv3.weight.std().item() == pytest.approx(0.01, rel=0.01)
    biases = {name: value.unique().tolist() for name, value in features.named_parameters() if name.endswith("bias")}
    assert biases == {f"conv{i}.bias": [float(i in (2, 4, 5))] for i in range(1, 6)}
    dense = meta().classifier
    assert [dense.get_submodule(name).bias_start for name in ("fc6", "fc7", "fc8")] == [1, 1, 0]
    assert torch.equal(features.conv1.weight, convolutions(0).conv1.weight)
    assert not torch.equal(features.conv1.weight, convolutions(1).conv1.weight)


def test_switches_take_the_parts_away() -> None:
    plain = meta(activation="tanh", response_norm=False, dropout=0.0)
    kinds = [type(layer).__name__ for layer in plain.modules()]
    assert "ReLU" not in kinds
    assert kinds.count("Tanh") == 7
    assert "ResponseNorm" not in kinds
    assert parameters(plain) == parameters(meta())


@pytest.mark.parametrize("size", [32, 64])
def test_small_alexnet_has_maps_of_16_8_4_and_2_pixels(size: int) -> None:
    with torch.device("meta"):
        rows = layer_rows(SmallAlexNet(size=size), (3, size, size))
    assert [row.shape[1] for row in rows if row.kind == "Conv2d"] == [16, 8, 4, 4, 4]
    assert [row.shape[1] for row in rows if row.kind == "MaxPool2d"] == [8, 4, 2]
    assert [row.shape for row in rows if row.kind == "Linear"] == [(512,), (512,), (10,)]


def test_small_nets_answer_and_learn_with_both_activations() -> None:
    images = torch.randn(2, 3, 32, 32)
    for build in (SmallAlexNet, FourLayerNet):
        for activation in ("relu", "tanh"):
            network = build(width=0.0625, activation=activation)
            network(images).sum().backward()
            assert all(value.grad is not None for value in network.parameters())


def test_what_there_is_not_is_refused_with_its_value() -> None:
    with pytest.raises(UsageError, match=r"activation is 'sigmoid', but must be 'relu' or 'tanh'\."):
        meta(activation="sigmoid")
    with pytest.raises(UsageError, match=r"size is 48 px, but the small AlexNet takes 32 or 64\."):
        SmallAlexNet(size=48)
    with pytest.raises(UsageError, match=r"width is 0\.1, but must be a multiple of 1/32 above 0"):
        SmallAlexNet(width=0.1)


def test_the_zoo_builds_the_two_gpu_net() -> None:
    assert published_network("alexnet_2012").features.conv2.groups == 2
