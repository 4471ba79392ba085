"""Top-activating patches: where in a set of images each unit of a layer answers most, and exactly which pixels it saw.

Zeiler, Fergus 2014, "Visualizing and understanding convolutional networks", ECCV, doi:10.1007/978-3-319-10590-1_53;
Girshick et al. 2014, "Rich feature hierarchies", CVPR, doi:10.1109/CVPR.2014.81, section 3.1 (top regions of a unit).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped
from torch import Tensor, nn

from hilum.arrays import Array
from hilum.errors import UsageError
from hilum.explanation.watching import watched
from hilum.models.receptive_fields import Field, FieldTracker


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle of pixels."""

    top: int
    """First row."""
    left: int
    """First column."""
    bottom: int
    """Row behind the last."""
    right: int
    """Column behind the last."""

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    def of(self, image: Shaped[Tensor, "c h w"]) -> Shaped[Tensor, "c y x"]:
        """The pixels of an image inside the box."""
        return image[:, self.top : self.bottom, self.left : self.right]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """One place of one image at which a unit answers strongly."""

    image: int
    """Number of the image, counted through all batches."""
    row: int
    """Row in the unit's map."""
    column: int
    """Column in the unit's map."""
    activation: float
    """What the unit gives there."""
    box: Box
    """The pixels that it depends on, clipped to the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopPatches:
    """The patches of a layer's units."""

    layer: str
    """The layer's name."""
    field: Field
    """Receptive field of its outputs; when ``also_whole``, the boxes leave squeeze-and-excitation aside."""
    images: int
    """Number of images that were searched."""
    units: tuple[int, ...]
    """Numbers of the units."""
    patches: tuple[tuple[Patch, ...], ...]
    """For each of them its patches, strongest first, at most one an image; fewer where it answers less often."""


def box_of(field: Field, row: int, column: int, height: int, width: int) -> Box:
    """Pixels that an output depends on, clipped to the image.

    No pixel outside matters. At the image's border the box may hold some that don't matter either, where the tap of a
    dilated or strided kernel that would reach them lies in the padding of a later layer.

    Args:
        field: of the layer; see :func:`receptive_field_of`.
        row: of the output in its map.
        column: of the output in its map.
        height: of the image in pixels.
        width: of the image in pixels.
    """
    if field.spans is None:
        return Box(top=0, left=0, bottom=height, right=width)
    (top, bottom), (left, right) = (
        (span.start + place * span.jump, span.start + place * span.jump + span.size)
        for span, place in zip(field.spans, (row, column), strict=True)
    )
    return Box(
        top=min(max(top, 0), height),
        left=min(max(left, 0), width),
        bottom=max(min(bottom, height), 0),
        right=max(min(right, width), 0),
    )


def receptive_field_of(network: nn.Module, layer: str, images: Shaped[Tensor, "n c h w"]) -> Field:
    """Receptive field of a layer's outputs: exact for chains of convolutions and pooling, the union where paths meet.

    Args:
        network: any; it runs once and is as before afterwards.
        layer: fully-qualified name; of a module that runs several times the last output counts.
        images: as the network takes them; one is enough.

    Raises:
        UsageError: there is no such layer, or it never ran.
    """
    fields: list[Field] = []
    tracker = FieldTracker(images)
    with watched(network, [layer], lambda name, output: fields.append(tracker.of(output))), tracker:
        network(images)
    _check_ran(layer, len(fields))
    return fields[-1]


def top_patches(
    network: nn.Module,
    layer: str,
    batches: Iterable[Shaped[Tensor, "n c h w"]],
    *,
    count: int = 9,
    units: Sequence[int] | None = None,
) -> TopPatches:
    """For each unit of a layer the places, over a set of images, at which it answers most.

    Args:
        network: any; it answers in eval mode and is as before afterwards.
        layer: fully-qualified name; of a module that runs several times the last output counts.
        batches: the images, as the network takes them, all of one size; read once.
        count: patches for each unit.
        units: numbers of the units; all when None.

    Raises:
        UsageError: there is no such layer or unit, it never ran, there are no images, or they differ in size.
    """
    found: list[tuple[Array, Array, Array, int]] = []
    field, size = Field(spans=None), (0, 0)
    for images in batches:
        if not found:
            field, size = receptive_field_of(network, layer, images[:1]), _size(images)
        elif _size(images) != size:
            raise UsageError(f"Images of {_size(images)} pixels follow images of {size}. Make them of one size.")
        found.append(_strongest(network, layer, images))
    if not found:
        raise UsageError("There are no images to look for patches in. Give at least one batch.")
    values, places, lowest = (np.concatenate(parts) for parts in zip(*(part[:3] for part in found), strict=True))
    chosen = range(values.shape[1]) if units is None else units
    wrong = [unit for unit in chosen if not 0 <= unit < values.shape[1]]
    if wrong:
        raise UsageError(f"Layer {layer!r} has no unit {wrong[0]}. Units are 0 … {values.shape[1] - 1}.")
    columns = found[0][3]
    patches = tuple(
        _patches(values[:, unit], places[:, unit], lowest[:, unit].min(), columns, count, field, size)
        for unit in chosen
    )
    return TopPatches(layer=layer, field=field, images=len(values), units=tuple(chosen), patches=patches)


def _strongest(network: nn.Module, layer: str, images: Tensor) -> tuple[Array, Array, Array, int]:
    """For each image and unit the largest value, its place in the flat map, and the least value; columns of a map."""
    outputs: list[Tensor] = []

    def note(name: str, output: Tensor) -> None:
        # A copy at once: the next layer may work in place. A vector is a map of one place.
        outputs[:] = [(output if output.ndim == 4 else output.flatten(1)[:, :, None, None]).detach().clone()]

    with watched(network, [layer], note):
        network(images)
    _check_ran(layer, len(outputs))
    flat = outputs[0].flatten(2)
    values, places = flat.max(2)
    return values.cpu().numpy(), places.cpu().numpy(), flat.amin(2).cpu().numpy(), outputs[0].shape[3]


def _patches(
    values: Array, places: Array, lowest: float, columns: int, count: int, field: Field, size: tuple[int, int]
) -> tuple[Patch, ...]:
    """A value that is the unit's lowest is no answer: behind a ReLU it is the silence."""
    order = [image for image in np.argsort(-values, kind="stable")[:count].tolist() if values[image] > lowest]
    patches = []
    for image in order:
        row, column = divmod(int(places[image]), columns)
        box = box_of(field, row, column, *size)
        patches.append(Patch(image=image, row=row, column=column, activation=float(values[image]), box=box))
    return tuple(patches)


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[-2], images.shape[-1]


def _check_ran(layer: str, outputs: int) -> None:
    if not outputs:
        raise UsageError(f"Layer {layer!r} never ran, so that it has no outputs. Name another layer.")
