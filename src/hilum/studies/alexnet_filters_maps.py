"""What the study of filters draws of answers: feature maps of the picture, receptive fields, and patches."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from hilum.arrays import Array
from hilum.explanation.filters import KINDS
from hilum.reports.canvas import Figure
from hilum.reports.page import Figures, Paragraph, Section
from hilum.reports.pictures import Box, Tile, boxes_figure, pictures_figure
from hilum.reports.tables import Column, Table, number, table
from hilum.studies.alexnet_filters_layers import AnswerLayer, FilterLayer, Searched
from hilum.studies.alexnet_filters_report import as_tile, spaced
from hilum.studies.alexnet_filters_subject import Picture, Subject


def maps_section(
    subject: Subject,
    picture: Picture,
    first: FilterLayer,
    raw: Float[np.ndarray, "d y x"],
    looked: Sequence[AnswerLayer],
    measured: Mapping[str, Any],
) -> Section:
    """What the layers make of the picture, and which of its pixels they see."""
    return Section(
        title="Feature maps and receptive fields",
        name="maps",
        blocks=(
            Paragraph(f"The picture is {picture.words}."),
            Figures((_first_maps_figure(picture, first, raw),)),
            Figures((_maps_figure(picture, looked),)),
            Figures((_fields_figure(subject, picture, looked),)),
            _answers_table(measured),
        ),
    )


def _first_maps_figure(picture: Picture, first: FilterLayer, raw: Array, across: int = 8) -> Figure:
    """A filter of each kind in turn above what it makes of the picture."""
    by_kind = [sorted((t for t in first.traits if t.kind == kind), key=lambda t: -t.norm) for kind in KINDS[:4]]
    turns = [of_kind[turn] for turn in range(across) for of_kind in by_kind if turn < len(of_kind)]
    chosen = sorted(turns[:across], key=lambda trait: (KINDS.index(trait.kind), trait.unit))
    above = [as_tile(first.filters[trait.unit], caption=f"{trait.kind} {trait.unit}") for trait in chosen]
    below = [Tile(pixels=raw[trait.unit].astype(np.float64)) for trait in chosen]
    return pictures_figure(
        [[Tile(pixels=None), *above], [Tile(pixels=picture.shown, caption="picture"), *below]],
        name="first-maps",
        title="First-layer filters and what each makes of the picture",
        caption=f"The strongest filters of each kind, and their maps of {picture.words} before the activation. Purple: "
        "the picture fits the filter there; orange: it fits the opposite.",
        row_titles=["filter", "map"],
        scale="each",
        signed=True,
        value_label="weight; value",
        tile_inches=0.95,
        what="filters and maps",
    )


def _maps_figure(picture: Picture, looked: Sequence[AnswerLayer], across: int = 10) -> Figure:
    """Of each layer the maps that vary most over the picture."""
    rows = []
    for layer in looked:
        order = np.argsort(-layer.maps.reshape(len(layer.maps), -1).std(1), kind="stable")[:across]
        rows.append([Tile(pixels=layer.maps[unit].astype(np.float64), caption=str(unit)) for unit in order])
    return pictures_figure(
        rows,
        name="maps",
        title="The picture in the maps of each layer",
        caption=f"{picture.words[:1].upper()}{picture.words[1:]}. Of each layer the maps that vary most, with their "
        "numbers; each map has its own scale from its least (black) to its largest value (white).",
        row_titles=[f"{layer.label}\n{layer.maps.shape[1]} × {layer.maps.shape[2]}" for layer in looked],
        scale="each",
        value_label="answer",
        tile_inches=0.78,
        what="feature maps",
    )


def _fields_figure(subject: Subject, picture: Picture, looked: Sequence[AnswerLayer], most: int = 7) -> Figure:
    """The receptive field of the middle answer of each layer, on the picture."""
    local = [layer for layer in looked if layer.field.spans]
    local = local if len(local) <= most else [local[i] for i in sorted({0, *spaced(len(local), most - 1)})]
    boxes = []
    for layer in local:
        if layer.field.spans is None:
            continue
        rows, columns = layer.field.spans
        at = layer.maps.shape[1] // 2, layer.maps.shape[2] // 2
        boxes.append(
            Box(
                label=layer.label,
                left=columns.start + at[1] * columns.jump,
                top=rows.start + at[0] * rows.jump,
                width=columns.size,
                height=rows.size,
            )
        )
    scaled = any(layer.field.also_whole for layer in local)
    return boxes_figure(
        picture.shown,
        boxes,
        name="fields",
        title=f"Receptive fields of {subject.label} on the picture",
        caption=f"Which pixels of {picture.words} the middle answer of each layer depends on, exactly."
        + (
            " Squeeze-and-excitation, which scales each map by numbers of the whole image, is left aside."
            if scaled
            else ""
        ),
    )


def _answers_table(measured: Mapping[str, Any]) -> Table:
    columns = [
        Column(title="layer"),
        Column(title="maps", number=True),
        Column(title="size", unit="px", number=True),
        Column(title="receptive field", unit="px", number=True),
        Column(title="one every", unit="px", number=True),
        Column(title="exactly 0", unit="%", number=True),
        Column(title="maps that never change", number=True),
    ]
    cells = [
        [
            row["layer"], str(row["maps"]), str(row["map_px"]), _whole(row["field_px"]), _whole(row["every_px"]),
            number(row["silent_%"], 1), str(row["dead_maps"]),
        ]
        for row in measured["answer_layers"]
    ]  # fmt: skip
    return table(
        f"Layers' answers. Sizes for the picture; zeros and unchanging maps over {measured['watched']} test images of "
        f"{measured['images_px']} px.",
        columns,
        cells,
    )


def _whole(value: int | None) -> str:
    return "whole image" if value is None else f"{value:,}"


def patches_section(subject: Subject, searched: Sequence[Searched]) -> Section:
    """What makes units answer most."""
    return Section(
        title="Top-activating patches",
        name="patches",
        blocks=(
            Paragraph(
                "Of each layer evenly spaced units among those that answer. A patch is cut to the unit's exact "
                "receptive field, as far as it lies inside the image; at most one comes from an image."
            ),
            *(Figures((_patches_figure(subject, one),)) for one in searched),
        ),
    )


def _patches_figure(subject: Subject, searched: Searched, units: int = 3) -> Figure:
    rows, titles = [], []
    side = searched.images.shape[-1]
    for label, top in searched.found:
        count = max((len(patches) for patches in top.patches), default=0)
        awake = [place for place, patches in enumerate(top.patches) if len(patches) == count > 0]
        chosen = [
            awake[i] for i in np.unique(np.linspace(0, len(awake) - 1, min(units, len(awake))).round().astype(int))
        ]
        row: list[Tile] = []
        for place in chosen:
            row += [Tile(pixels=None)] if row else []
            for rank, patch in enumerate(top.patches[place]):
                pixels = searched.images[patch.image][
                    :, patch.box.top : patch.box.bottom, patch.box.left : patch.box.right
                ]
                shown = pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0]
                row.append(Tile(pixels=np.ascontiguousarray(shown), caption="" if rank else f"unit {top.units[place]}"))
        rows.append(row or [Tile(pixels=None, caption="silent")])
        height = top.field.height
        titles.append(f"{label}\n{'whole image' if height is None or height >= 2 * side else f'{height} px'}")
    return pictures_figure(
        rows,
        name=searched.name,
        title=f"What makes units of {subject.label} answer most, among {searched.words}",
        caption=f"Strongest first. Beside the layer the size of its receptive field; the images have {side} px, and at "
        "their edges patches end. Small patches are enlarged.",
        row_titles=titles,
        tile_inches=0.66,
        what="patches",
    )
