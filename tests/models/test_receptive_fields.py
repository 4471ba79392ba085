"""Receptive fields: exact pixels against what autograd says, and caution where a function is not known."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.models.receptive_fields import Field, FieldTracker, Span


def field_after(function: Callable[[Tensor], Tensor], channels: int = 1, size: int = 40) -> Field:
    image = torch.rand((1, channels, size, size))
    with torch.no_grad(), FieldTracker(image) as tracker:
        return tracker.of(function(image))


def reached(function: Callable[[Tensor], Tensor], row: int, column: int, size: int = 40) -> tuple[int, int, int, int]:
    """First and last row and column of the pixels with a gradient; all weights must be positive."""
    image = torch.rand((1, 1, size, size), requires_grad=True)
    (gradient,) = torch.autograd.grad(function(image)[0, :, row, column].sum(), image)
    rows, columns = (gradient[0, 0].abs().sum(axis).nonzero().flatten().tolist() for axis in (1, 0))
    return rows[0], rows[-1], columns[0], columns[-1]


def positive(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) + 0.1


CASES: dict[str, Callable[[Tensor], Tensor]] = {
    "uneven kernels": lambda x: F.conv2d(x, positive(2, 1, 3, 5), stride=(1, 2), padding=(1, 0)),
    "dilated": lambda x: F.avg_pool2d(F.conv2d(x, positive(2, 1, 3, 3), dilation=2, padding=2), 3, 2, 1),
    "same padding of an even kernel": lambda x: F.conv2d(x, positive(1, 1, 4, 4), padding="same"),
    "padded at one side": lambda x: F.conv2d(F.pad(x, (3, 0, 1, 0)), positive(1, 1, 3, 3), stride=2),
    "sliced": lambda x: F.conv2d(x, positive(1, 1, 3, 3))[:, :, 1::2, ::2],
    "branches": lambda x: torch.cat(
        [F.conv2d(x, positive(1, 1, 1, 1)), F.conv2d(x, positive(1, 1, 5, 5), padding=2)], 1
    ),
    "residual": lambda x: F.relu(F.conv2d(x, positive(1, 1, 3, 3), stride=2, padding=1)) + x[:, :, ::2, ::2],
    "in place": lambda x: F.relu(F.conv2d(x, positive(1, 1, 3, 3)).add_(1.0), inplace=True),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # it is slow, and here that is all right
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("row", "column"), [(7, 9), (8, 6)])
def test_an_output_depends_on_the_pixels_of_its_span(case: str, row: int, column: int) -> None:
    field = field_after(CASES[case])
    assert field.spans is not None
    rows, columns = (
        (span.start + i * span.jump, span.start + i * span.jump + span.size - 1)
        for span, i in zip(field.spans, (row, column), strict=True)
    )
    assert (*rows, *columns) == reached(CASES[case], row, column)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.max_pool2d(x, 3, 2, 1),
        lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True)[0],
        lambda x: F.max_pool2d(x, kernel_size=3, stride=2, padding=1),
    ],
)
def test_maximum_pooling_reaches_its_window(function: Callable[[Tensor], Tensor]) -> None:
    """A gradient reaches the largest pixel alone, so this one is by hand."""
    assert field_after(function).spans == (Span(start=-1, size=3, jump=2),) * 2


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.adaptive_avg_pool2d(x, 1),
        lambda x: F.interpolate(x, scale_factor=2),
        lambda x: F.conv_transpose2d(x, positive(1, 1, 2, 2), stride=2),
        lambda x: x.flip(2),
        lambda x: x.mean((2, 3)),
        lambda x: x.flatten(1),
        lambda x: x[:, :, [3, 1]],
        lambda x: F.conv2d(x, positive(1, 1, 1, 1), stride=2) + F.conv2d(x, positive(1, 1, 21, 21)),
        lambda x: x + F.pad(F.adaptive_avg_pool2d(x, 20), (10, 10, 10, 10)),
        lambda x: torch.zeros(1, 1, 3, 3),
    ],
)
def test_what_is_not_known_is_taken_to_see_the_whole_image(function: Callable[[Tensor], Tensor]) -> None:
    field = field_after(function)
    assert field.spans is None
    assert field.height is None


def test_squeeze_and_excitation_leaves_the_place_and_is_noted() -> None:
    def squeeze_and_excitation(x: Tensor) -> Tensor:
        maps = F.conv2d(x, positive(2, 1, 3, 3))
        return maps * F.conv2d(F.adaptive_avg_pool2d(maps, 1), positive(2, 2, 1, 1)).sigmoid()

    field = field_after(squeeze_and_excitation)
    assert (field.height, field.also_whole) == (3, True)


@pytest.mark.parametrize("norm", [nn.GroupNorm(1, 4), nn.InstanceNorm2d(4), nn.LayerNorm((40, 40))])
def test_a_norm_over_the_image_leaves_the_place_and_is_noted(norm: nn.Module) -> None:
    assert field_after(norm, channels=4) == Field(spans=(Span(), Span()), also_whole=True)


def test_channels_can_be_split_and_shuffled() -> None:
    def shuffle(x: Tensor) -> Tensor:
        first, second = x.chunk(2, 1)
        return torch.stack([second, F.conv2d(first, positive(2, 2, 3, 3), padding=1)], 2).flatten(1, 2)

    assert field_after(shuffle, channels=4).height == 3


def test_depth_grows_along_the_longest_way_only() -> None:
    image = torch.rand((1, 1, 8, 8))
    with torch.no_grad(), FieldTracker(image) as tracker:
        deep = F.conv2d(image, positive(1, 1, 1, 1))
        tracker.deepen(deep)
        deeper = F.conv2d(deep, positive(1, 1, 1, 1))
        tracker.deepen(deeper)
        assert tracker.of(deeper + deep + image).depth == 2


def test_shapes_on_the_meta_device_are_those_of_real_tensors() -> None:
    """What the tracker answers by itself there is what torch would say, in place too."""
    layers = [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(inplace=True), nn.ReLU6(), nn.SiLU(), nn.Sigmoid()]
    network = nn.Sequential(*layers).eval().to("meta")
    image = torch.empty((1, 1, 9, 9), device="meta")
    with torch.no_grad(), FieldTracker(image) as tracker:
        maps = network[1](network[0](image))
        activated = network[2](maps)
        out = network[3:](activated)
        assert activated is maps
        assert out.shape == (1, 2, 7, 7)
        assert tracker.of(out).height == 3
