"""Top-activating patches: found by hand, and their boxes proved by changing pixels inside and outside."""

import pytest
import torch
from torch import Tensor, nn

from hilum.errors import UsageError
from hilum.explanation.feature_maps import feature_maps
from hilum.explanation.patches import Box, box_of, receptive_field_of, top_patches
from hilum.models.receptive_fields import Field, Span
from hilum.models.zoo import ARCHITECTURES


class Branches(nn.Module):
    """An Inception-like block between convolutions, with a concatenation and a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 5, 2, 1)
        self.narrow, self.wide = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 5, padding=2)
        self.pool = nn.AvgPool2d(3, 1, 1)
        self.join = nn.Conv2d(12, 4, 3, 2, 1)
        self.last = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        maps = torch.relu(self.stem(images))
        maps = torch.relu(self.join(torch.cat([self.narrow(maps), self.wide(maps), self.pool(maps)], 1)))
        return self.last(maps) + maps


def chain() -> nn.Module:
    """AlexNet in little: a wide strided kernel, overlapping maximum pooling, uneven kernels, a dilation."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 7, 3, 2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(6, 6, (3, 1), padding=(1, 0)),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 4, 3, padding=2, dilation=2),
    )


def small() -> nn.Module:
    """The package's own residual network; made by its constructor, its blocks are no identities yet."""
    return ARCHITECTURES["hilum_small"].build()


NETWORKS = {"chain": (chain, "5"), "branches": (Branches, "last"), "residual": (small, "block4")}


def network_of(name: str) -> tuple[nn.Module, str]:
    """In double precision: quick convolutions in single precision mix pixels by rounding (Winograd's tiles)."""
    torch.manual_seed(3)
    build, layer = NETWORKS[name]
    return build().double().eval(), layer


def changed(network: nn.Module, layer: str, image: Tensor, noise: Tensor, row: int, column: int) -> bool:
    """Whether any unit of the layer answers otherwise at a place when noise is added to the image."""
    before, after = (feature_maps(network, x, [layer])[layer][0, :, row, column] for x in (image, image + noise))
    return not torch.equal(before, after)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("place", [(2, 2), (0, 3), (4, 4)])
def test_outside_the_box_nothing_matters_and_each_of_its_sides_does(name: str, place: tuple[int, int]) -> None:
    network, layer = network_of(name)
    generator = torch.Generator().manual_seed(5)
    image, noise = (torch.randn((1, 3, 83, 77), dtype=torch.float64, generator=generator) for _ in range(2))
    box = box_of(receptive_field_of(network, layer, image), *place, 83, 77)
    outside = noise.clone()
    outside[:, :, box.top : box.bottom, box.left : box.right] = 0
    assert not changed(network, layer, image, 1e3 * outside, *place)
    for side in (
        (slice(box.top, box.top + 1), slice(box.left, box.right)),
        (slice(box.bottom - 1, box.bottom), slice(box.left, box.right)),
        (slice(box.top, box.bottom), slice(box.left, box.left + 1)),
        (slice(box.top, box.bottom), slice(box.right - 1, box.right)),
    ):
        inside = torch.zeros_like(noise)
        inside[:, :, side[0], side[1]] = noise[:, :, side[0], side[1]]
        assert changed(network, layer, image, 1e3 * inside, *place), side


def test_alexnets_first_boxes_by_hand() -> None:
    """11 × 11 with stride 4 and padding 2: place (0, 0) sees rows −2 to 8, place (5, 54) of them rows 18 to 28."""
    field = receptive_field_of(nn.Conv2d(3, 1, 11, 4, 2), "", torch.zeros((1, 3, 224, 224)))
    assert field.spans == (Span(start=-2, size=11, jump=4),) * 2
    assert box_of(field, 0, 0, 224, 224) == Box(top=0, left=0, bottom=9, right=9)
    assert box_of(field, 5, 54, 224, 224) == Box(top=18, left=214, bottom=29, right=224)


def test_a_box_without_a_place_is_the_whole_image_and_one_in_the_padding_is_empty() -> None:
    assert box_of(Field(spans=None), 0, 0, 20, 30) == Box(top=0, left=0, bottom=20, right=30)
    padded = Field(spans=(Span(start=-8, size=3, jump=2), Span(start=0, size=3, jump=2)))
    assert box_of(padded, 0, 0, 20, 30).height == 0


def test_patches_are_the_strongest_places_of_different_images_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(inplace=True))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
    images = torch.zeros((4, 1, 3, 3))
    images[0, 0, 1, 2], images[0, 0, 0, 0] = 5.0, 4.0
    images[1, 0, 2, 0] = 7.0
    images[3, 0, 0, 1] = -2.0
    found = top_patches(network, "1", images.split(2), count=3)
    assert (found.images, found.units) == (4, (0, 1))
    bright = [(patch.image, patch.row, patch.column, patch.activation) for patch in found.patches[0]]
    assert bright == [(1, 2, 0, 7.0), (0, 1, 2, 5.0)], "an image in which the unit is silent gives no patch"
    (dark,) = found.patches[1]
    assert (dark.image, dark.box) == (3, Box(top=0, left=1, bottom=1, right=2))
    assert dark.box.of(images[3]).tolist() == [[[-2.0]]]
    assert (dark.box.height, dark.box.width) == (1, 1)


def test_equal_answers_come_in_the_order_of_the_images_however_they_are_batched() -> None:
    images = torch.ones((5, 1, 2, 2))
    images[:, :, 1, 1] = 2.0
    network = nn.Sequential(nn.MaxPool2d(1))
    whole, parts = (top_patches(network, "0", images.split(size), count=4) for size in (5, 2))
    assert [patch.image for patch in whole.patches[0]] == [0, 1, 2, 3]
    assert whole == parts


def test_a_unit_of_a_linear_layer_sees_the_whole_image() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    found = top_patches(network, "1", [torch.rand((3, 1, 3, 4))], count=1, units=[1])
    assert found.units == (1,)
    assert found.patches[0][0].box == Box(top=0, left=0, bottom=3, right=4)


def test_a_dead_unit_has_no_patches() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU())
    nn.init.constant_(network[0].bias, -1e6)
    assert top_patches(network, "1", [torch.rand((2, 1, 3, 3))]).patches == ((),)


def test_the_network_is_as_before() -> None:
    network = chain().train()
    top_patches(network, "5", [torch.rand((2, 3, 40, 40))])
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())


def test_refusals() -> None:
    network = chain()
    with pytest.raises(UsageError, match="The network has no layer '6'. Known: 0, 1"):
        top_patches(network, "6", [torch.zeros((1, 3, 40, 40))])
    with pytest.raises(UsageError, match="There are no images to look for patches in"):
        top_patches(network, "5", [])
    with pytest.raises(UsageError, match=r"Images of \(30, 30\) pixels follow images of \(40, 40\). Make them of one"):
        top_patches(network, "5", [torch.zeros((1, 3, 40, 40)), torch.zeros((1, 3, 30, 30))])
    with pytest.raises(UsageError, match=r"Layer '0' has no unit 6. Units are 0 … 5"):
        top_patches(network, "0", [torch.zeros((1, 3, 40, 40))], units=[6])
    network[0].spare = nn.ReLU()
    with pytest.raises(UsageError, match=r"Layer '0.spare' never ran, so that it has no outputs"):
        top_patches(network, "0.spare", [torch.zeros((1, 3, 40, 40))])
