"""Fine-tuning on a small set of photographs, in two stages: the new top, then the last convolution block.

Question: how far does a pretrained network with a new top get on a small photo set; what does each of two stages add
    and cost; what is augmentation worth; and how does the classic recipe do beside ours?
Data: any folder of class folders by ``--data``, in train/ and val/ or in one part that is split by hash; else flowers
    and ants_bees (real) from the data root; without a root the procedural set, named so.
Command: hilum study run vgg16-flowers --data-dir DIR [--data DIR|flowers|ants_bees] [--backbone NAME]
Hardware: two CPU cores.
Cost: hilum study run vgg16-flowers --data-dir ../shared/data: 116 s (Intel(R) Xeon(R) Processor, 2 CPUs, cpu); hilum
    study run vgg16-flowers: 37 s (Intel(R) Xeon(R) Processor, 2 CPUs, cpu).
Seeds: three for heads, orders and dropout; images, validation images and augmented views are the same for all.
Expected: test accuracy after stage 1: the head, ours: 45.4 % (44.7–47.0); test accuracy after stage 2: the last
    block, ours: 45.8 % (45.3–46.0); test accuracy after stage 1: the head, ours without augmentation: 45.4 %
    (44.3–46.0) (hilum study run vgg16-flowers --data-dir ../shared/data).

VGG16 is measured when its published weights can be had; other networks by ``--backbone``. A fifth of the training
images is watched: each stage keeps the weights with the lowest loss on them, in the classic recipe too. Frozen layers
are run once for each view of an image; large networks therefore get fewer photographs at the small budgets, and the
first line says how many. The classic recipe is the one of many tutorials: Flatten → 256 → Dropout 0.5; rotation 20°,
zoom 0.2 and mirror; the head for 5 epochs of Adam at 1e-4; the last four layers (VGG's last block) for 3 at 1e-5. Two
things differ from a tutorial's: what rotation uncovers is black, and of each image as many views are made as the head
has epochs, which the second stage sees again.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hilum.arrays import Array
from hilum.config import to_mapping
from hilum.datasets.image_sets import SETS
from hilum.datasets.labelled_images import ImageSet
from hilum.errors import WeightsError
from hilum.models.encoders import Encoder, build_encoder
from hilum.models.heads import FlatHead, Head, started
from hilum.models.weights.loading import load_weights
from hilum.models.zoo import ARCHITECTURES
from hilum.studies.bench import Bench
from hilum.studies.outcome import Outcome
from hilum.studies.transferring import DROPOUT, HIDDEN, NO_VIEWS, PHOTO_VIEWS, Phase, Start, Task, Trainee
from hilum.studies.vgg16_flowers_analysis import (
    CLASSIC,
    OURS,
    PLAIN,
    cached_saving,
    chosen_variant,
    mean,
    network_rows,
    phase_rows,
    pick,
    shape_rows,
)
from hilum.studies.vgg16_flowers_report import Shown, sections
from hilum.studies.vgg16_flowers_words import finding, numbers
from hilum.training.arithmetic import encoder_macs
from hilum.training.augmentation import Augmentation
from hilum.training.prefix_cache import PrefixCache
from hilum.training.stages import Stage

BACKBONE = "vgg16"
"""The network, where ``--backbone`` names no other."""

SECOND_SET = "ants_bees"
"""Measured as well, where ``--data`` names nothing and the data root has it."""

CLASSIC_VIEWS = replace(NO_VIEWS, rotation_degrees=20, scale=0.2, horizontal_flip=True)
"""Augmentation of the classic recipe."""

FEWEST_A_CLASS = 10
"""Photographs a class that no limit on arithmetic goes below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is done."""

    size: int
    """Pixels a side."""
    photos: int | None
    """Photographs to train on at most, validation included; None for all."""
    test: int | None
    """Photographs to test on at most; None for all."""
    gmacs: float
    """Most giga-MACs of the study's main trainings; a network that needs more gets fewer photographs."""
    seeds: int = 3
    """Trainings of each variant."""
    views: int = 2
    """Our augmented views beside the clean one."""
    head_epochs: int = 25
    """Most epochs of our first stage."""
    block_epochs: int = 10
    """Most epochs of our second stage."""


SCALES = {
    "quick": Scale(size=96, photos=800, test=300, gmacs=9_000),
    "standard": Scale(size=128, photos=None, test=None, gmacs=80_000, views=4, head_epochs=40, block_epochs=20),
    "full": Scale(size=224, photos=None, test=None, gmacs=1e9, seeds=5, views=8, head_epochs=60, block_epochs=30),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to fine-tune."""

    name: str
    """What it is called."""
    flat: bool
    """Whether the head flattens the feature map, instead of averaging it."""
    augmentation: Augmentation
    """Of views beside the clean one."""
    views: int
    """How many of them."""
    head: Stage
    """First stage."""
    block: Stage
    """Second stage."""


def variants(scale: Scale) -> tuple[Variant, ...]:
    """Ours with augmentation and without, and the classic recipe."""
    head = Stage(name="head", lr=1e-3, epochs=scale.head_epochs, patience=4, views=scale.views)
    block = Stage(
        name="block",
        trainable_from="last-block",
        lr=3e-4,
        epochs=scale.block_epochs,
        patience=3,
        views=scale.views,
        schedule="cosine",
    )
    ours = Variant(name=OURS, flat=False, augmentation=PHOTO_VIEWS, views=scale.views, head=head, block=block)
    plain = replace(
        ours,
        name=PLAIN,
        augmentation=NO_VIEWS,
        views=0,
        head=replace(head, views=0),
        block=replace(block, views=0),
    )
    classic = Variant(
        name=CLASSIC,
        flat=True,
        augmentation=CLASSIC_VIEWS,
        views=4,
        head=Stage(name="head", lr=1e-4, epochs=5, patience=5, views=4),
        block=Stage(name="block", trainable_from="last-block", lr=1e-5, epochs=3, patience=3, views=4),
    )
    return ours, plain, classic


def run(bench: Bench, scale: Scale) -> Outcome:
    """Fine-tune by every variant; then by ours with what other networks and sets are at hand."""
    encoder, info = bench.encoder(BACKBONE)
    start = Start(encoder=encoder, info=info)
    images = _photos(bench, scale, encoder.name)
    rows = []
    for variant in variants(scale):
        rows += measured_rows(bench, scale, variant, start, images)
    best = chosen_variant(rows)
    others = [row for row in rows if row["variant"] == OURS]
    for other_start, other_images in _others(bench, scale, start, images):
        others += measured_rows(bench, scale, variants(scale)[0], other_start, other_images)
    answers = [row for row in rows if row["variant"] == best and row["phase"] == "block"]
    epochs = tuple(mean(pick(rows, OURS, phase), "epochs") for phase in ("head", "block"))
    measured = {
        "network": encoder.name,
        "wanted": bench.request.backbone or BACKBONE,
        "set": images.title,
        "kind": images.kind,
        "test": len(images.test),
        "labels": len(images.train),
        "best_by_validation": best,
        "phases": phase_rows(rows),
        "networks": network_rows(others),
        "shapes": shape_rows(encoder.name, scale.size, len(images.classes), HIDDEN),
        "cached_saving": cached_saving(encoder.name, scale.size, 1 + scale.views, (epochs[0], epochs[1])),
        "classes": list(images.classes),
        "confusion": _confusion(images, answers),
        "trainings": [_without_answers(row) for row in (*rows, *others[2 * scale.seeds :])],
    }
    return Outcome(
        numbers=numbers(measured),
        finding=finding(measured),
        sections=sections(measured, Shown(images=images, answers=answers[0])),
        measured=measured,
        title=f"Fine-tuning {encoder.name} on {images.title} in two stages",
        key_figure="phases",
    )


def _without_answers(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in ("answers", "sureness")}


def _confusion(images: ImageSet, rows: list[dict[str, Any]]) -> list[list[int]]:
    """Test images by class and answer, summed over seeds."""
    k = len(images.classes)
    counts: Array = np.zeros((k, k), dtype=np.int64)
    for row in rows:
        np.add.at(counts, (images.test.labels, np.array(row["answers"])), 1)
    table: list[list[int]] = counts.tolist()
    return table


def _photos(bench: Bench, scale: Scale, network: str, name: str | None = None) -> ImageSet:
    """Photographs, as many as the network's arithmetic allows."""
    chosen = bench.images("photographs", name, size=scale.size, train=scale.photos, test=scale.test)
    most = affordable(network, scale)
    least = FEWEST_A_CLASS * len(chosen.classes)
    if most >= len(chosen.train) or len(chosen.train) <= least:
        return chosen
    bench.sets.pop()
    fewer = max(most, least)
    return bench.images("photographs", name, size=scale.size, train=fewer, test=min(fewer, len(chosen.test)))


def affordable(network: str, scale: Scale) -> int:
    """Photographs to train on, within the scale's giga-MACs: frozen layers once a view, the last block by epochs."""
    layers, row = encoder_macs(network, scale.size), ARCHITECTURES[network]
    last = sum(layers[row.layers.index(row.last_block) :])
    each = sum(
        sum(layers) * (1 + variant.views) + 3 * last * variant.block.epochs * scale.seeds for variant in variants(scale)
    )
    return int(scale.gmacs * 1e9 / each)


def _others(bench: Bench, scale: Scale, start: Start, images: ImageSet) -> Iterator[tuple[Start, ImageSet]]:
    """The other weights in the data root on the same photographs, then all of them on the second set."""
    if bench.root is None or bench.request.backbone or bench.request.weights != "auto":
        return
    starts = [start, *weights_at_hand(bench, bench.root, start)]
    yield from ((other, images) for other in starts[1:])
    place = SETS[SECOND_SET].find
    if bench.request.data == "auto" and place is not None and place(bench.root) is not None:
        second = _photos(bench, scale, start.encoder.name, SECOND_SET)
        yield from ((other, second) for other in starts)


def weights_at_hand(bench: Bench, root: Path, start: Start) -> list[Start]:
    """A start for every other network whose weights lie in the data root and fit; what doesn't fit is told."""
    found = []
    for name in sorted(set(ARCHITECTURES) - {start.encoder.name}):
        for file in sorted((root / "weights").glob(f"{name}[_.-]*.safetensors"))[:1]:
            encoder = build_encoder(name, bench.seed)
            try:
                info = load_weights(encoder, file)
            except WeightsError as error:
                bench.notes.append(f"Left aside: {error}")
                continue
            bench.measure(f"{name} (weights: {info.name})")
            found.append(Start(encoder=encoder, info=info))
    return found


def measured_rows(bench: Bench, scale: Scale, variant: Variant, start: Start, images: ImageSet) -> list[dict[str, Any]]:
    """A variant's two phases for every seed: one row each."""
    settings = {
        "scale": to_mapping(scale),
        "variant": to_mapping(variant),
        "network": start.encoder.name,
        "weights": start.info.sha256,
        "data": images.fingerprint,
    }

    def compute() -> list[dict[str, Any]]:
        bench.parts.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=bench.parts) as folder:
            return _trainings(bench, scale, variant, start, images, Path(folder))

    rows: list[dict[str, Any]] = bench.once(f"{start.encoder.name} {images.name} {variant.name}", settings, compute)
    return rows


def _trainings(
    bench: Bench, scale: Scale, variant: Variant, start: Start, images: ImageSet, folder: Path
) -> list[dict[str, Any]]:
    task = Task.of(
        (images.train.images, images.train.labels),
        (images.test.images, images.test.labels),
        images.classes,
        variant.augmentation,
    )
    fit, watch = task.choose(None, bench.seed, watched=True)
    shared, tested = PrefixCache(folder / "shared"), PrefixCache(bench.parts / "tested")
    rows: list[dict[str, Any]] = []
    first: Trainee | None = None
    for number in range(scale.seeds):
        seed = bench.seed + number
        trainee = Trainee(
            task,
            start.classifier(task, seed, _head(variant, start.encoder, task, seed)),
            fit,
            watch,
            seed=seed,
            folder=folder / str(number),
            cache=shared,
            view_seed=bench.seed,
            device=bench.device,
            progress=bench.progress,
        )
        trainee.prepare(variant.views, [trainee.cut(variant.block)], standardise=not variant.flat)
        first = first or trainee  # it alone found the cache empty, and what it took is charged to all
        for stage in (variant.head, variant.block):
            row = _row(trainee, trainee.train(stage), stage, tested)
            rows.append(
                {
                    "network": start.encoder.name,
                    "weights": start.info.name,
                    "set": images.title,
                    "labels": task.train,
                    "variant": variant.name,
                    "seed": seed,
                    **row,
                    "prefix_s": first.prefix_s,
                    "prefix_macs": first.prefix_macs,
                }
            )
    return rows


def _head(variant: Variant, encoder: Encoder, task: Task, seed: int) -> Head | None:
    """The classic recipe's head, or None for our usual one."""
    if not variant.flat:
        return None
    with torch.no_grad():
        maps = encoder.eval()(torch.zeros((1, encoder.in_channels, task.size, task.size)))
    pooled = encoder.name.startswith(("vgg", "alexnet"))
    shape = (int(maps.shape[1]), int(maps.shape[2]), int(maps.shape[3]))
    return started(FlatHead(shape, HIDDEN, len(task.classes), DROPOUT, max_pool=pooled), seed)


def _row(trainee: Trainee, phase: Phase, stage: Stage, tested: PrefixCache) -> dict[str, Any]:
    task = trainee.task
    logits = trainee.logits(task.test, stage, tested)
    probs = np.exp(logits - logits.max(1, keepdims=True))
    sureness = (probs / probs.sum(1, keepdims=True)).max(1)
    return {
        "phase": phase.name,
        "test_accuracy": 100 * task.right(task.test, logits),
        "train_accuracy": 100 * task.right(trainee.fit, trainee.logits(trainee.fit, stage)),
        "validation_accuracy": 100 * task.right(trainee.watch, trainee.logits(trainee.watch, stage)),
        "fitted": len(trainee.fit),
        "epochs": len(phase.rows),
        "best_epoch": phase.best_epoch,
        "macs": phase.macs,
        "phase_s": phase.training_s,
        "curve": [
            {key: row[key] for key in ("loss", "accuracy", "watch_loss", "watch_accuracy")} for row in phase.rows
        ],
        "answers": logits.argmax(1).tolist(),
        "sureness": np.round(sureness, 4).tolist(),
    }
