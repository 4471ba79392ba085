"""Kinds of filters on synthetic ones whose answer is known, and on random ones, which must come out as nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from hilum.errors import UsageError
from hilum.explanation.filters import FilterTraits, analyse, conv_filters, kind_counts, power_spectrum

GREY, RED_GREEN, BLUE_YELLOW = (1.0, 1.0, 1.0), (1.0, -1.0, 0.0), (1.0, 1.0, -2.0)


def gabor(
    size: int, frequency: float, degrees: float, sigma: float, *, phase: float = 0.0, longer: float = 1.0
) -> NDArray[np.float64]:
    """Stripes in a direction, counter-clockwise from the horizontal, under a Gaussian; frequency 0 is a blob."""
    axis = np.arange(size) - (size - 1) / 2
    rows, columns = np.meshgrid(axis, axis, indexing="ij")
    angle = np.radians(degrees)
    along = np.cos(angle) * columns - np.sin(angle) * rows
    across = -np.sin(angle) * columns - np.cos(angle) * rows
    envelope = np.exp(-(across**2 + (along / longer) ** 2) / (2 * sigma**2))
    return envelope * np.cos(2 * np.pi * frequency * across + phase)


def traits_of(pattern: NDArray[np.float64], colour: tuple[float, ...] = GREY) -> FilterTraits:
    (traits,) = analyse(np.array(colour)[None, :, None, None] * pattern)
    return traits


@pytest.mark.parametrize("degrees", [0, 30, 90, 135])
@pytest.mark.parametrize(("size", "sigma"), [(11, 2.2), (7, 1.5)])
def test_a_gabor_is_an_edge_with_its_frequency_and_direction(degrees: float, size: int, sigma: float) -> None:
    traits = traits_of(gabor(size, 0.2, degrees, sigma))
    assert traits.kind == "edge"
    assert traits.frequency == pytest.approx(0.2, abs=1 / 64)
    assert (traits.orientation_deg - degrees + 90) % 180 - 90 == pytest.approx(0, abs=0.5)
    assert traits.chroma_share == pytest.approx(0, abs=1e-12)


def test_horizontal_stripes_have_direction_zero() -> None:
    """Independent of the formula: rows alternate, so that the stripes run from left to right."""
    rows = np.sin(np.arange(11) * 2 * np.pi / 5)[:, None] * np.hanning(13)[1:-1][:, None] * np.hanning(13)[None, 1:-1]
    assert min(traits_of(rows).orientation_deg, 180 - traits_of(rows).orientation_deg) < 1


def test_more_stripes_are_more_selective_and_narrower() -> None:
    few, many = traits_of(gabor(15, 0.1, 20, 1.5, phase=np.pi / 2)), traits_of(gabor(15, 0.25, 20, 3.5))
    assert few.selectivity < many.selectivity
    assert few.bandwidth_deg > many.bandwidth_deg


def test_derivatives_of_a_gaussian_have_the_selectivity_of_theory() -> None:
    """First derivative 1/2, second 2/3, a blob twice as long as wide 1/3: the limit of 0.42 lies between."""
    blob = gabor(25, 0, 0, 2.0)
    axis = np.arange(25) - 12
    assert traits_of(axis * blob).selectivity == pytest.approx(0.5, abs=0.01)
    assert traits_of((axis**2 / 4 - 1) * blob).selectivity == pytest.approx(2 / 3, abs=0.01)
    long_blob = traits_of(gabor(51, 0, 0, 2.0, longer=2.0))
    # The power of even areas has no direction and is left out, which in this window is a few hundredths.
    assert long_blob.selectivity == pytest.approx(1 / 3, abs=0.06)
    assert [traits_of(axis * blob).kind, long_blob.kind] == ["edge", "blob"]


@pytest.mark.parametrize("size", [3, 5, 7, 11])
def test_a_gaussian_is_a_blob_of_frequency_zero_and_without_direction(size: int) -> None:
    traits = traits_of(gabor(size, 0, 0, size / 4))
    assert (traits.kind, traits.frequency, traits.orientation_deg) == ("blob", 0.0, None)


def test_a_centre_with_its_surround_is_a_blob_of_its_frequency() -> None:
    traits = traits_of(gabor(11, 0, 0, 1.5) - 0.5 * gabor(11, 0, 0, 2.1213))
    assert traits.kind == "blob"
    assert 0.05 < traits.frequency < 0.25


@pytest.mark.parametrize("colour", [RED_GREEN, BLUE_YELLOW])
@pytest.mark.parametrize("frequency", [0.0, 0.15])
def test_opponent_colours_are_colour_whether_blob_or_edge(colour: tuple[float, ...], frequency: float) -> None:
    traits = traits_of(gabor(11, frequency, 45, 2.0), colour)
    assert traits.kind == "colour"
    assert traits.chroma_share == pytest.approx(1.0)
    assert (traits.orientation_deg is None) == (frequency == 0)


def test_a_single_colour_channel_is_two_thirds_colour() -> None:
    assert traits_of(gabor(11, 0, 0, 2.0), (1.0, 0.0, 0.0)).chroma_share == pytest.approx(2 / 3)


def test_a_grey_network_has_no_colour() -> None:
    traits = traits_of(gabor(11, 0.2, 30, 2.0), (1.0,))
    assert (traits.kind, traits.chroma_share) == ("edge", None)


@pytest.mark.parametrize("channels", [1, 3])
def test_sobels_filter_is_an_edge_even_in_a_small_window(channels: int) -> None:
    sobel = np.array([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
    traits = traits_of(sobel, (1.0,) * channels)
    assert (traits.kind, traits.orientation_deg) == ("edge", pytest.approx(90))


@pytest.mark.parametrize("shape", [(3, 11, 11), (3, 7, 7), (1, 5, 5), (3, 3, 3), (1, 3, 3), (12, 3, 3)])
@pytest.mark.parametrize("law", ["normal", "uniform"])
def test_random_filters_are_unspecific(shape: tuple[int, ...], law: str) -> None:
    """By the rule one in a hundred passes; torch draws its first weights from a uniform law."""
    generator = np.random.default_rng(11)
    drawn = generator.normal(size=(200, *shape)) if law == "normal" else generator.uniform(-1, 1, size=(200, *shape))
    assert kind_counts(analyse(drawn))["unspecific"] >= 0.96 * 200


def test_one_random_pattern_in_all_channels_is_unspecific_too() -> None:
    repeated = np.repeat(np.random.default_rng(12).normal(size=(200, 1, 11, 11)), 3, axis=1)
    assert kind_counts(analyse(repeated))["unspecific"] >= 0.96 * 200


def test_what_is_neither_oriented_nor_round_is_unspecific() -> None:
    chessboard = (-1.0) ** np.add(*np.indices((11, 11)))
    cross = gabor(11, 0.25, 0, 2.2) + gabor(11, 0.25, 90, 2.2)
    single_pixel = np.pad([[1.0]], 5)
    assert [traits_of(pattern).kind for pattern in (chessboard, cross, single_pixel)] == ["unspecific"] * 3


def test_a_zero_filter_and_a_very_weak_one_are_dead() -> None:
    live = np.repeat(gabor(7, 0.2, 30, 1.5)[None, None], 3, axis=0)
    traits = analyse(np.concatenate([live, 0 * live[:1], 0.04 * live[:1]]))
    assert [t.kind for t in traits] == ["edge"] * 3 + ["dead"] * 2
    assert traits[3].frequency is None
    assert kind_counts(traits) == {"edge": 3, "blob": 0, "colour": 0, "unspecific": 0, "dead": 2}
    assert [t.kind for t in analyse(np.zeros((2, 3, 5, 5)))] == ["dead", "dead"]


def test_strength_and_sign_change_nothing_but_the_norm() -> None:
    pattern = gabor(11, 0.2, 30, 2.2)
    one, other = traits_of(pattern), traits_of(-7 * pattern)
    assert (other.kind, other.frequency) == (one.kind, one.frequency)
    assert other.norm == pytest.approx(7 * one.norm)


def test_power_spectrum_is_the_squared_transform_of_the_padded_filter() -> None:
    """The way over the autocorrelation is the direct one, for a window that is not square too."""
    weights = np.random.default_rng(3).normal(size=(4, 5, 7))
    direct = (np.abs(np.fft.fft2(weights, (64, 64))) ** 2).sum(0)
    np.testing.assert_allclose(power_spectrum(weights), direct, atol=1e-9 * direct.max())


def test_spread_is_the_mean_power_squared_over_the_mean_squared_power() -> None:
    weights = np.random.default_rng(4).normal(size=(3, 11, 11))
    power = power_spectrum(weights)
    assert analyse(weights[None])[0].spread == pytest.approx(power.mean() ** 2 / (power**2).mean())


def test_filters_are_those_of_the_first_or_of_a_named_convolution() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.Conv2d(4, 2, (3, 1)))
    name, first = conv_filters(network)
    assert (name, first.shape, first.dtype) == ("0", (4, 3, 5, 5), np.float64)
    first[:] = 0
    assert network[0].weight.abs().min() > 0, "the filters are a copy"
    np.testing.assert_array_equal(conv_filters(network, "2")[1], network[2].weight.detach().double().numpy())


def test_refusals() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 5))
    with pytest.raises(UsageError, match="The network has no convolution 'conv1'. Known: 0"):
        conv_filters(network, "conv1")
    with pytest.raises(UsageError, match=r"The network has no convolution \(Conv2d\), so that it has no filters"):
        conv_filters(nn.Linear(2, 2))
    with pytest.raises(UsageError, match="Filters of 1 × 1 have no shape in space to analyse"):
        analyse(np.ones((2, 3, 1, 1)))
    with pytest.raises(UsageError, match="A filter's weight is not a finite number. Look at the training"):
        analyse(np.full((1, 3, 3, 3), np.nan))


def test_torchs_own_first_weights_of_alexnets_shape_are_unspecific() -> None:
    torch.manual_seed(0)
    counts = kind_counts(analyse(conv_filters(nn.Conv2d(3, 64, 11))[1]))
    assert counts["unspecific"] >= 62


def test_learned_filters_of_resnet_18_are_edges_and_colours(shared_data: Path) -> None:
    """ImageNet weights with folded BatchNorm, which has switched eight of the 64 filters off; looked at by eye too."""
    from safetensors.numpy import load_file

    weights = load_file(shared_data / "weights" / "resnet18_imagenet_bnfolded_conv1_to_layer3.safetensors")
    counts = kind_counts(analyse(weights["conv1.weight"].astype(float)))
    assert counts["dead"] == 8
    assert counts["edge"] >= 25
    assert counts["colour"] >= 12
    assert counts["unspecific"] <= 4
