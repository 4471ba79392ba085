"""AlexNet's filters and feature maps: what each layer looks for, measured, before and after it has learned.

Question: what do the layers of AlexNet look for in an image; which filters are detectors of edges, blobs and colours,
    how many of them are learned, and which pixels does each layer see?
Data: the root's ``flowers/`` (photographs), else procedural images; the picture that is explained is procedural unless
    ``--image`` names one.
Command: hilum study run alexnet-filters --data-dir DIR [--image FILE] [--backbone NAME] [--weights imagenet|FILE]
Hardware: two CPU cores; full: a GPU.
Cost: hilum study run alexnet-filters --data-dir ../shared/data: 98 s (Intel(R) Xeon(R) Processor, 2 CPUs, cpu); hilum
    study run alexnet-filters: 93 s (Intel(R) Xeon(R) Processor, 2 CPUs, cpu).
Seeds: weights, order and augmentation come from --seed.
Expected: first-layer filters that measure as edges: 1.6 %; first-layer filters that measure as blobs: 25.0 %;
    first-layer filters that measure as colours: 73.4 % (hilum study run alexnet-filters --data-dir ../shared/data).

Published weights are used where they can be had. Where they can't, the network is trained here, so that the filters
shown are learned: its convolutions as published, and a small head in place of the classifier, whose 58.6 million
parameters would take most of the time. Such a training is short, and the report says what it taught and what not. All
kinds of filters are named by the rule of ``explanation.filters``, the same for both; nothing is sorted by eye.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import nn

from hilum.config import to_mapping
from hilum.datasets.labelled_images import ImageSet
from hilum.datasets.procedural_sets import ProceduralSetConfig, procedural_set
from hilum.errors import UsageError
from hilum.explanation.filters import KINDS, kind_counts
from hilum.models.zoo import architecture, published_network
from hilum.studies.alexnet_filters_finding import finding, main_numbers
from hilum.studies.alexnet_filters_layers import (
    SPECIFIC,
    AnswerLayer,
    FilterLayer,
    Searched,
    answer_layer,
    answering,
    answers_facts,
    convolutions,
    filter_layer,
    filters_facts,
    labels_of,
    raw_maps,
    search,
)
from hilum.studies.alexnet_filters_maps import maps_section, patches_section
from hilum.studies.alexnet_filters_report import first_section, layers_section, training_section
from hilum.studies.alexnet_filters_subject import Picture, Subject, TrainingScale, picture_of, relative_cost, subject_of
from hilum.studies.bench import Bench
from hilum.studies.outcome import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is done."""

    training: TrainingScale
    """How long a network without weights is trained."""
    convolutions: int = 12
    """Convolutions whose filters are analysed, at most; evenly spaced, the first among them."""
    filters: int | None = 64
    """Filters of each that are analysed, at most; of the first all; None: of each all."""
    layers: int = 8
    """Layers whose maps are shown, at most."""
    searched: int = 400
    """Test images that are searched for top-activating patches."""
    drawn: int = 200
    """Procedural images that are searched as well."""
    watched: int = 48
    """Test images over which silence is counted."""
    patches: int = 4
    """Patches that are shown of each unit."""


SCALES: dict[str, Scale] = {
    "quick": Scale(training=TrainingScale(side=96, images=1600, seen=12_800)),
    "standard": Scale(training=TrainingScale(side=128, images=None, seen=80_000), filters=None, searched=2000),
    "full": Scale(
        training=TrainingScale(side=128, images=None, seen=600_000), filters=None, searched=10_000, watched=256
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """All that was looked at."""

    subject: Subject
    """The network."""
    picture: Picture
    """What is explained."""
    layers: tuple[FilterLayer, ...]
    """Convolutions, the first one first."""
    raw: Float[np.ndarray, "d y x"]
    """Maps of the first convolution for the picture, before its activation."""
    looked: tuple[AnswerLayer, ...]
    """Layers whose answers are shown."""
    searched: tuple[Searched, ...]
    """Images that were searched for patches."""
    measured: dict[str, Any]
    """Everything measured, as plain values."""


def run(bench: Bench, scale: Scale) -> Outcome:
    """Look at the network, and draw what was seen."""
    seen = look(bench, scale)
    subject, measured = seen.subject, seen.measured
    return Outcome(
        title=f"Filters and feature maps of {subject.label} {subject.words}",
        numbers=main_numbers(measured),
        finding=finding(measured),
        sections=(
            first_section(subject, seen.layers[0]),
            *((training_section(subject, measured),) if subject.fit else ()),
            layers_section(subject, seen.layers, measured),
            maps_section(subject, seen.picture, seen.layers[0], seen.raw, seen.looked, measured),
            patches_section(subject, seen.searched),
        ),
        measured=measured,
        key_figure="filters",
    )


def look(bench: Bench, scale: Scale) -> Seen:
    """Get the network, and measure its filters and its answers.

    Raises:
        UsageError: no such network, or one without convolutions.
        DataError: the picture can't be used.
        WeightsError: the weights that were named can't be had.
    """
    name = bench.request.backbone or "alexnet"
    row = architecture(name)
    if not any(isinstance(module, nn.Conv2d) for module in published_network(name).modules()):
        raise UsageError(f"Network {name} has no convolution, hence no filters. Name another with --backbone.")
    picture = picture_of(bench, row.size, row.in_channels)
    subject, images = subject_of(bench, scale.training, max(scale.searched, scale.watched))
    bench.use(picture.used)
    labels = labels_of(subject.encoder)
    layers = tuple(
        filter_layer(subject, layer, labels[layer], scale.filters if number else None)
        for number, layer in enumerate(convolutions(subject.encoder, scale.convolutions))
    )
    some = images.test.images[: _few(scale.watched, subject, images)]
    looked = tuple(
        answer_layer(subject, layer, labels[layer], picture.pixels, some)
        for layer in answering(subject.encoder, scale.layers)
    )
    searched = _searches(bench, subject, images, scale, labels)
    return Seen(
        subject=subject,
        picture=picture,
        layers=layers,
        raw=raw_maps(subject, layers[0].name, picture.pixels),
        looked=looked,
        searched=searched,
        measured=all_measured(subject, images, layers, looked, searched, len(some)),
    )


def _few(count: int, subject: Subject, images: ImageSet) -> int:
    """How many images are looked at: fewer where each costs more than with AlexNet, ten at least."""
    return max(10, round(count * relative_cost(subject.name, images.size)))


def _searches(
    bench: Bench, subject: Subject, images: ImageSet, scale: Scale, labels: dict[str, str]
) -> tuple[Searched, ...]:
    """Top-activating patches among the test images, and where these are photographs among procedural images too."""
    layers = [(name, labels[name]) for name in answering(subject.encoder, 5, pools=False)]
    held = images.test.images[: _few(scale.searched, subject, images)]
    embedded = images.kind == "embedded"
    found = [
        search(
            subject,
            layers,
            held,
            name="patches-procedural" if embedded else "patches",
            words=f"{len(held):,} test images of {images.title.lower()}",
            count=scale.patches,
        )
    ]
    if not embedded:
        config = ProceduralSetConfig(size=images.size, train=10, test=max(10, _few(scale.drawn, subject, images)))
        drawn = procedural_set(config, cache=bench.cache / "data", progress=bench.progress).with_channels(
            images.channels
        )
        found.append(
            search(
                subject,
                layers,
                drawn.test.images,
                name="patches-procedural",
                words=f"{len(drawn.test):,} procedural images drawn by hilum",
                count=scale.patches,
            )
        )
    return tuple(found)


def all_measured(
    subject: Subject,
    images: ImageSet,
    layers: Sequence[FilterLayer],
    looked: Sequence[AnswerLayer],
    searched: Sequence[Searched],
    watched: int,
) -> dict[str, Any]:
    """Everything measured, as plain values."""
    first = layers[0]
    after, before, count = kind_counts(first.traits), kind_counts(first.traits_before), len(first.traits)
    return {
        "network": subject.name,
        "label": subject.label,
        "origin": subject.origin,
        "weights": subject.words,
        "images": images.name,
        "images_px": images.size,
        "watched": watched,
        "searched": {one.name: len(one.images) for one in searched},
        "first_layer": first.label,
        "first_layer_window": list(first.filters.shape),
        "kinds": [
            {
                "kind": kind,
                "filters": after[kind],
                "share_%": 100 * after[kind] / count,
                "before": before[kind],
                "share_before_%": 100 * before[kind] / count,
            }
            for kind in KINDS
        ],
        "edges": edge_facts(first),
        "median_frequency": {kind: _median_frequency(first, kind) for kind in SPECIFIC},
        "filter_layers": [filters_facts(layer) for layer in layers],
        "answer_layers": [answers_facts(layer) for layer in looked],
        "first_layer_filters": [to_mapping(trait) for trait in first.traits],
        "first_layer_before": [to_mapping(trait) for trait in first.traits_before],
        "training": training_facts(subject, images) if subject.fit else None,
    }


def edge_facts(layer: FilterLayer) -> dict[str, int]:
    """How many filters are edges, and how many of these lie within 22.5° of horizontal or vertical; half by chance."""
    angles = [t.orientation_deg for t in layer.traits if t.kind == "edge" and t.orientation_deg is not None]
    return {"edges": len(angles), "along_axes": sum(abs((angle + 45) % 90 - 45) <= 22.5 for angle in angles)}


def _median_frequency(layer: FilterLayer, kind: str) -> float | None:
    """Median of the frequency at which filters of a kind pass most, in cycles a pixel."""
    found = [t.frequency for t in layer.traits if t.kind == kind and t.frequency is not None]
    return float(np.median(found)) if found else None


def training_facts(subject: Subject, images: ImageSet) -> dict[str, Any]:
    """What a training here was, and how well the network then tells test images apart."""
    fit = subject.fit or {}
    test = images.test
    return {
        "steps": fit["steps"],
        "images": fit["images"],
        "side_px": fit["side"],
        "epochs": len(fit["rows"]),
        "classes": len(images.classes),
        "test": len(test),
        "right": round(fit["rows"][-1]["watch_accuracy"] * len(test)),
        "chance_%": 100 * float(test.counts(len(images.classes)).max()) / len(test),
        "training_s": fit["fit_s"],
        "rows": fit["rows"],
    }
