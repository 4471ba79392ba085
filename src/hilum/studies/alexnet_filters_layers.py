"""What is measured on each layer for the study of filters: its filters, its answers, and the patches it answers to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import nn

from hilum.arrays import Array
from hilum.explanation.feature_maps import MapStatistics, feature_maps, map_statistics
from hilum.explanation.filters import FilterTraits, analyse, conv_filters, kind_counts
from hilum.explanation.patches import TopPatches, receptive_field_of, top_patches
from hilum.models.encoders import Encoder
from hilum.models.receptive_fields import Field, Span
from hilum.studies.alexnet_filters_subject import Subject

SPECIFIC = ("edge", "blob", "colour")
"""Kinds of filters that look for something."""

PLAIN = (nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.BatchNorm2d)
"""Layers of a network that is one chain, and whose layers are then called conv1, relu1, pool1 …"""

BATCH = 32
"""Images that are looked at together."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FilterLayer:
    """The filters of one convolution, before and after."""

    name: str
    """Its name in the network."""
    label: str
    """Its name for people."""
    filters: Float[np.ndarray, "o i y x"]
    """All of them."""
    before: Float[np.ndarray, "o i y x"]
    """The same before training, or another random draw."""
    units: tuple[int, ...]
    """Those that were analysed."""
    traits: tuple[FilterTraits, ...]
    """What each of these is."""
    traits_before: tuple[FilterTraits, ...]
    """What each of these was before."""

    @property
    def distance(self) -> float:
        """Length of the change over the length of what was before: about √2 for two independent draws."""
        return float(np.linalg.norm(self.filters - self.before) / np.linalg.norm(self.before))

    @property
    def leftover(self) -> float:
        """Share of the filters' energy that lies along what each was before, 0 to 1."""
        after, before = (w.reshape(len(w), -1) for w in (self.filters, self.before))
        along = (after * before).sum(1) ** 2 / np.maximum((before**2).sum(1), np.finfo(float).tiny)
        return float(along.sum() / max((after**2).sum(), np.finfo(float).tiny))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnswerLayer:
    """What one layer answers to the picture, and to some images."""

    name: str
    """Its name in the network."""
    label: str
    """Its name for people."""
    maps: Float[np.ndarray, "d y x"]
    """Its maps of the picture."""
    field: Field
    """Receptive field of its outputs."""
    statistics: MapStatistics
    """Of its maps over the images."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Searched:
    """Images that were searched for what makes units answer most."""

    name: str
    """File name of the figure."""
    words: str
    """What the images are."""
    images: UInt8[np.ndarray, "n c h w"]
    """They."""
    found: tuple[tuple[str, TopPatches], ...]
    """Each layer's name for people, and its patches."""


def labels_of(encoder: Encoder) -> dict[str, str]:
    """Names of layers for people: conv1, relu1, pool1 … where the encoder is one chain; else their own names.

    A ReLU and a BatchNorm are called after the convolution before them; poolings are counted.
    """
    modules = {name: encoder.get_submodule(name) for name in encoder.layers}
    if not all(isinstance(module, PLAIN) for module in modules.values()):
        return {name: name for name, _ in encoder.named_modules() if name}
    found: dict[str, str] = {}
    convolved, pools = 0, 0
    for name, module in modules.items():
        convolved += isinstance(module, nn.Conv2d)
        pools += isinstance(module, nn.MaxPool2d)
        word = {nn.Conv2d: "conv", nn.ReLU: "relu", nn.BatchNorm2d: "norm"}.get(type(module), "")
        found[name] = f"{word}{convolved}" if word else f"pool{pools}"
    return found


def convolutions(encoder: Encoder, most: int) -> tuple[str, ...]:
    """Names of the convolutions with a window; evenly thinned out to ``most``, the first and the last among them."""
    names = [
        name
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Conv2d) and module.weight.shape[-1] * module.weight.shape[-2] > 1
    ]
    return thinned(names, most)


def answering(encoder: Encoder, most: int, *, pools: bool = True) -> tuple[str, ...]:
    """Names of the encoder's layers whose maps are looked at: activations, poolings and blocks.

    Args:
        encoder: any.
        most: evenly thinned out to so many, the first and the last among them.
        pools: with poolings.
    """
    bare: tuple[type[nn.Module], ...] = (nn.Conv2d, nn.BatchNorm2d)
    bare = bare if pools else (*bare, nn.MaxPool2d)
    return thinned([name for name in encoder.layers if not isinstance(encoder.get_submodule(name), bare)], most)


def thinned(names: Sequence[str], most: int) -> tuple[str, ...]:
    """At most so many of some names, evenly spaced, the first and the last among them."""
    if len(names) <= most:
        return tuple(names)
    places = np.unique(np.linspace(0, len(names) - 1, max(2, most)).round().astype(int))
    return tuple(names[place] for place in places)


def filter_layer(subject: Subject, name: str, label: str, most: int | None) -> FilterLayer:
    """Analyse the filters of a convolution before and after.

    Args:
        subject: the network.
        name: of the convolution.
        label: its name for people.
        most: filters to analyse, evenly spaced; None: all.
    """
    filters, before = (conv_filters(encoder, name)[1] for encoder in (subject.encoder, subject.before))
    count = len(filters) if most is None else min(most, len(filters))
    units = tuple(int(unit) for unit in np.linspace(0, len(filters) - 1, count).round())
    return FilterLayer(
        name=name,
        label=label,
        filters=filters,
        before=before,
        units=units,
        traits=analyse(filters[list(units)]),
        traits_before=analyse(before[list(units)]),
    )


def answer_layer(
    subject: Subject,
    name: str,
    label: str,
    picture: UInt8[np.ndarray, "c h w"],
    images: UInt8[np.ndarray, "n c h w"],
) -> AnswerLayer:
    """Maps of a layer for the picture, their receptive field, and how they behave over some images."""
    inputs = subject.inputs(picture[None])
    maps = feature_maps(subject.encoder, inputs, [name])[name]
    batches = [
        feature_maps(subject.encoder, subject.inputs(images[start : start + BATCH]), [name])[name].cpu()
        for start in range(0, len(images), BATCH)
    ]
    return AnswerLayer(
        name=name,
        label=label,
        maps=maps[0].float().cpu().numpy(),
        field=receptive_field_of(subject.encoder, name, inputs),
        statistics=map_statistics(label, torch.cat(batches)),
    )


def raw_maps(subject: Subject, name: str, picture: UInt8[np.ndarray, "c h w"]) -> Float[np.ndarray, "d y x"]:
    """Maps of a layer for the picture, as the layer itself gives them."""
    maps: Array = feature_maps(subject.encoder, subject.inputs(picture[None]), [name])[name][0].float().cpu().numpy()
    return maps


def search(
    subject: Subject,
    layers: Sequence[tuple[str, str]],
    images: UInt8[np.ndarray, "n c h w"],
    *,
    name: str,
    words: str,
    count: int,
) -> Searched:
    """Search images for the patches that make each unit of some layers answer most.

    Args:
        subject: the network.
        layers: their names in the network and for people.
        images: to search.
        name: of the figure.
        words: what the images are.
        count: patches for each unit.
    """
    found = [
        (
            label,
            top_patches(
                subject.encoder,
                layer,
                (subject.inputs(images[start : start + BATCH]) for start in range(0, len(images), BATCH)),
                count=count,
            ),
        )
        for layer, label in layers
    ]
    return Searched(name=name, words=words, images=images, found=tuple(found))


def filters_facts(layer: FilterLayer) -> dict[str, Any]:
    """A layer's filters as one flat record."""
    after, before = kind_counts(layer.traits), kind_counts(layer.traits_before)
    many, seen, rows, columns = layer.filters.shape
    return {
        "layer": layer.label,
        "filters": many,
        "window": f"{seen} × {rows} × {columns}",
        "analysed": len(layer.units),
        **after,
        **{f"{kind}_before": before[kind] for kind in before},
        "specific_%": specific_share(layer.traits),
        "specific_before_%": specific_share(layer.traits_before),
        "spread": mean_spread(layer.traits),
        "spread_before": mean_spread(layer.traits_before),
        "distance": layer.distance,
        "leftover_%": 100 * layer.leftover,
    }


def answers_facts(layer: AnswerLayer) -> dict[str, Any]:
    """A layer's answers as one flat record; None for a receptive field that is the whole image."""
    span = _rows(layer.field)
    return {
        "layer": layer.label,
        "maps": layer.statistics.units,
        "map_px": layer.maps.shape[1],
        "field_px": span.size if span else None,
        "every_px": span.jump if span else None,
        "also_whole": layer.field.also_whole,
        "silent_%": 100 * layer.statistics.sparsity,
        "dead_maps": len(layer.statistics.dead),
    }


def _rows(field: Field) -> Span | None:
    return field.spans[0] if field.spans else None


def specific_share(traits: Sequence[FilterTraits]) -> float:
    """Per cent of filters that look for something: edges, blobs or colours."""
    return 100 * sum(trait.kind in SPECIFIC for trait in traits) / len(traits)


def mean_spread(traits: Sequence[FilterTraits]) -> float:
    """Mean share of the frequency plane that a filter occupies, dead ones aside; NaN where all are dead."""
    spreads = [trait.spread for trait in traits if trait.spread is not None]
    return float(np.mean(spreads)) if spreads else float("nan")
