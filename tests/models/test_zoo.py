"""The zoo: published sizes and names, encoders that cut anywhere."""

import pytest
import torch

from hilum.errors import UsageError
from hilum.models.encoders import Encoder, build_encoder
from hilum.models.zoo import ARCHITECTURES, architecture, published_network

PUBLISHED_PARAMETERS = {
    "alexnet_2012": 60_965_224,
    "alexnet": 61_100_840,
    "vgg11": 132_863_336,
    "vgg11_bn": 132_868_840,
    "vgg13": 133_047_848,
    "vgg13_bn": 133_053_736,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "vgg19_bn": 143_678_248,
    "googlenet": 6_624_904,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "densenet121": 7_978_856,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "efficientnet_b0": 5_288_548,
    "mobilenet_v2": 3_504_872,
    "squeezenet1_0": 1_248_424,
    "squeezenet1_1": 1_235_496,
    "resnet20": 269_722,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "lenet5": 61_706,
}


@pytest.mark.parametrize("name", PUBLISHED_PARAMETERS)
def test_published_network_has_the_published_number_of_parameters(name: str) -> None:
    assert sum(p.numel() for p in published_network(name).parameters()) == PUBLISHED_PARAMETERS[name]


def test_googlenet_with_auxiliary_classifiers_has_its_published_number() -> None:
    network = published_network("googlenet", aux_logits=True)
    assert sum(p.numel() for p in network.parameters()) == 13_004_888


def test_plain_net_is_the_resnet_without_projections() -> None:
    """ResNet-18 has three 1×1 projections with BatchNorm: 64·128 + 128·256 + 256·512 weights and 2·896 numbers."""
    plain, residual = (sum(p.numel() for p in published_network(n).parameters()) for n in ("plain18", "resnet18"))
    assert residual - plain == 64 * 128 + 128 * 256 + 256 * 512 + 2 * (128 + 256 + 512)


# The deepest nets are built of the same blocks as their small siblings; their turn comes with the long tests.
DEEP = ("resnet101", "resnet152", "resnext101_32x8d", "densenet169", "densenet201", "vgg16_bn", "vgg19", "vgg19_bn")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.long] * (n in DEEP)) for n in ARCHITECTURES])
def test_encoder_runs_in_two_parts_as_in_one(name: str) -> None:
    row = architecture(name)
    encoder = build_encoder(name, seed=0).eval()
    size = row.size if row.size < 64 else 64
    images = torch.randn((1, row.in_channels, size, size), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole = encoder(images)
        parts = encoder.suffix(encoder.prefix(images, row.last_block), row.last_block)
    assert whole.shape[:2] == (1, row.channels)
    assert torch.equal(whole, parts)
    assert whole.abs().max() > 1e-6, "the maps fade to nothing"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_encoder_keeps_the_published_keys(name: str) -> None:
    row = architecture(name)
    published = published_network(name).state_dict()
    with torch.device("meta"):
        encoder = Encoder(name, row.build(), row)
    tops = {layer.split(".")[0] for layer in row.layers}
    assert list(encoder.state_dict()) == [key for key in published if key.split(".")[0] in tops]


@pytest.mark.parametrize("name", ["hilum_small", "alexnet"])
def test_every_cut_gives_the_same_answer_and_leaves_the_maps_as_they_were(name: str) -> None:
    """AlexNet's ReLUs work in place: a cut before one must not change what a cache holds."""
    encoder = build_encoder(name, seed=0).eval()
    images = torch.randn((2, 3, 64, 64), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole = encoder(images)
        for cut in range(len(encoder.layers) + 1):
            maps = encoder.prefix(images, cut)
            before = maps.clone()
            assert torch.equal(encoder.suffix(maps, cut), whole)
            assert torch.equal(maps, before)


@pytest.mark.parametrize("name", ["hilum_small", "resnet18", "vgg16", "alexnet", "googlenet", "squeezenet1_0"])
def test_feature_map_is_taken_after_a_relu(name: str) -> None:
    encoder = build_encoder(name, seed=0).eval()
    with torch.inference_mode():
        maps = encoder(torch.randn((1, 3, 64, 64)))
    assert maps.min() >= 0


def test_densenet_applies_its_final_relu_as_a_layer() -> None:
    encoder = build_encoder("densenet121", seed=0)
    assert encoder.layers[-1] == "features.relu5"
    assert isinstance(encoder.layer("features.relu5"), torch.nn.ReLU)


def test_modules_before_and_from_a_cut_are_all_layers_once() -> None:
    encoder = build_encoder("hilum_small", seed=0)
    before, after = encoder.modules_before("block5"), encoder.modules_from("block5")
    assert [*before, *after] == [encoder.layer(name) for name in encoder.layers]
    assert len(after) == 1


def test_same_seed_gives_the_same_weights_whatever_torch_has_drawn() -> None:
    torch.manual_seed(1)
    first = build_encoder("hilum_small", seed=3).state_dict()
    torch.rand(7)
    second, other = build_encoder("hilum_small", seed=3).state_dict(), build_encoder("hilum_small", seed=4).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["stem.0.weight"], other["stem.0.weight"])


def test_small_encoder_fits_in_four_megabytes_and_gives_14_by_14_maps() -> None:
    encoder = build_encoder("hilum_small", seed=0).eval()
    assert sum(value.numel() * value.element_size() for value in encoder.state_dict().values()) < 4e6
    with torch.inference_mode():
        assert encoder(torch.zeros((1, 3, 224, 224))).shape == (1, 176, 14, 14)


def test_a_new_small_block_is_the_identity_on_what_is_not_negative() -> None:
    encoder = build_encoder("hilum_small", seed=0).eval()
    maps = torch.rand((1, 176, 3, 3))
    with torch.inference_mode():
        assert torch.equal(encoder.layer("block5")(maps), maps)


@pytest.mark.parametrize(("name", "shape"), [("lenet5", (2, 1, 32, 32)), ("mlp", (2, 1, 28, 28))])
def test_own_networks_answer_as_their_encoder_and_classifier_do(name: str, shape: tuple[int, ...]) -> None:
    assert architecture(name).build()(torch.zeros(shape)).shape == (2, 10)


def test_own_networks_forward_equals_their_layers_in_order() -> None:
    for name, rest in (("hilum_small", ("pool", "fc")), ("plain18", ("avgpool", "fc"))):
        network = architecture(name).build().eval()
        images = torch.randn((1, 3, 64, 64))
        with torch.inference_mode():
            maps = images
            for layer in architecture(name).layers:
                maps = network.get_submodule(layer)(maps)
            expected = network.get_submodule(rest[1])(network.get_submodule(rest[0])(maps).flatten(1))
            assert torch.equal(network(images), expected)


def test_an_unknown_network_lists_the_nearest() -> None:
    with pytest.raises(UsageError, match="Network 'resnet19' is not in the zoo. Did you mean 'resnet18'"):
        architecture("resnet19")


def test_an_unknown_cut_lists_the_nearest() -> None:
    encoder = build_encoder("hilum_small", seed=0)
    with pytest.raises(UsageError, match="Layer 'block6' is not in the encoder of hilum_small. Did you mean 'block5'"):
        encoder.position("block6")
    with pytest.raises(UsageError, match="Cut 7 is outside hilum_small, which has cuts 0 … 6"):
        encoder.position(7)
