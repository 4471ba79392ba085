"""Transfer learning against training from scratch: what it saves, in labels, seconds and multiply-accumulates.

Question: what does transfer learning save? Accuracy, wall time and MACs against labels per class for a network trained
    from scratch, feature extraction, fine-tuning of the last block, and fine-tuning of everything; the gap between
    training and test; epochs and seconds to the accuracy that scratch reaches; and all of it on chest films too.
Data: flowers (real) with ImageNet weights of MobileNetV2 from the data root; normal and pneumonia films of
    NIH ChestX-ray14. Without a data root the procedural set with the shipped encoder, and phantom films, named so.
Command: hilum study run transfer-vs-scratch --data-dir DIR
Hardware: two CPU cores.
Cost: hilum study run transfer-vs-scratch --data-dir ../shared/data: 239 s (Intel(R) Xeon(R) Processor, 2 CPUs, cpu);
    hilum study run transfer-vs-scratch: 84 s (Intel(R) Xeon(R) Processor, 2 CPUs, cpu).
Seeds: three draws of labels, heads, orders and views, the same for every method; the test images are always the same.
Expected: test accuracy, all labels, scratch: 27.7 % (26.8–28.8); test accuracy, all labels, feature extraction:
    53.7 % (51.6–57.6); test accuracy, all labels, last block: 54.9 % (52.8–57.6) (hilum study run transfer-vs-scratch
    --data-dir ../shared/data).

All methods see the same labels, the same augmentation, and the same batch size. Learning rates and lengths are usual
values, fixed beforehand and tuned for no method. Weights whose batch normalisation was folded into the convolutions
keep it in evaluation mode: then full fine-tuning trains a network without normalisation, whose learning rate must be
low; the others keep their running statistics too, as is usual for small batches. Scratch trains with batch
normalisation on.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hilum.arrays import Indices
from hilum.config import to_mapping
from hilum.models.heads import build_head
from hilum.studies.bench import Bench
from hilum.studies.outcome import Outcome
from hilum.studies.transfer_vs_scratch_analysis import (
    BLOCK,
    FULL,
    HEAD,
    METHODS,
    SCRATCH,
    film_summary,
    summary,
    targets,
)
from hilum.studies.transfer_vs_scratch_report import sections
from hilum.studies.transfer_vs_scratch_words import finding, numbers
from hilum.studies.transferring import DROPOUT, HIDDEN, PHOTO_VIEWS, Phase, Start, Task, Trainee
from hilum.studies.xray_films import CLASSES, open_xray_films
from hilum.training.arithmetic import part_macs
from hilum.training.augmentation import Augmentation
from hilum.training.prefix_cache import PrefixCache
from hilum.training.stages import Stage, cut_of

BACKBONE = "mobilenet_v2"
"""The network, where ``--backbone`` names no other."""

FILM_VIEWS = Augmentation()
"""Augmentation of films: no mirror, the heart is on the left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """How long a stage trains: about so many images seen, so that few labels get more epochs than many."""

    images: int
    """Images × epochs, where the bounds allow."""
    least: int
    """Fewest epochs."""
    most: int
    """Most epochs."""

    def epochs(self, labels: int) -> int:
        """Epochs for so many labels."""
        return max(self.least, min(self.most, round(self.images / labels)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is done."""

    size: int
    """Pixels a side of photographs and films."""
    photos: int | None
    """Photographs to train on at most; None for all."""
    test: int | None
    """Photographs to test on at most; None for all."""
    films: int
    """Chest films in all, about."""
    labels: tuple[int, ...] = (5, 10, 20, 50)
    """Labels per class, beside all of them."""
    film_labels: tuple[int, ...] = ()
    """The same for chest films."""
    seeds: int = 3
    """Draws of labels, heads, orders and views."""
    views: int = 2
    """Augmented views beside the clean one that are cached for frozen layers."""
    scratch: Length = Length(images=1000, least=6, most=12)
    """Training from random weights."""
    head: Length = Length(images=6000, least=12, most=60)
    """The head on frozen features: feature extraction, and the first stage of both kinds of fine-tuning."""
    block: Length = Length(images=1200, least=3, most=16)
    """The last block, after the head."""
    full: Length = Length(images=500, least=2, most=8)
    """Everything, after the head."""
    resamples: int = 1000
    """Bootstrap resamples for intervals of AUROC."""


SCALES = {
    "quick": Scale(
        size=64,
        photos=300,
        test=250,
        films=240,
        scratch=Length(images=600, least=4, most=8),
        full=Length(images=400, least=2, most=6),
    ),
    "standard": Scale(
        size=96,
        photos=1500,
        test=None,
        films=10_000,
        film_labels=(20,),
        scratch=Length(images=4000, least=12, most=60),
        block=Length(images=3600, least=6, most=30),
        full=Length(images=2000, least=5, most=20),
        resamples=2000,
    ),
    "full": Scale(
        size=224,
        photos=None,
        test=None,
        films=10_000,
        film_labels=(20, 50),
        seeds=5,
        views=4,
        scratch=Length(images=200_000, least=60, most=300),
        head=Length(images=20_000, least=20, most=100),
        block=Length(images=20_000, least=15, most=60),
        full=Length(images=20_000, least=15, most=60),
        resamples=2000,
    ),
}


def run(bench: Bench, scale: Scale) -> Outcome:
    """Train every method on every number of labels, on photographs and on films, and compare what each cost."""
    photos = bench.images("photographs", size=scale.size, train=scale.photos, test=scale.test)
    films = open_xray_films(bench, size=scale.size, films=scale.films)
    encoder, info = bench.encoder(BACKBONE)
    start = Start(encoder=encoder, info=info)
    bench.measure(f"{encoder.name} (random weights)")
    tasks = {
        "photos": Task.of(
            (photos.train.images, photos.train.labels),
            (photos.test.images, photos.test.labels),
            photos.classes,
            PHOTO_VIEWS,
        ),
        "films": Task.of(films.train, films.test, CLASSES, FILM_VIEWS),
    }
    prints = {"photos": photos.fingerprint, "films": bench.sets[-1].fingerprint}
    rows = {
        name: trained(bench, scale, name, task, start, prints[name], _counts(scale, name, task))
        for name, task in tasks.items()
    }
    measured = {
        "network": encoder.name,
        "batch_norm_folded": info.batch_norm_folded,
        "test": len(photos.test),
        "accuracy": summary(rows["photos"]),
        "targets_s": targets(rows["photos"]),
        "films": film_summary(rows["films"], films, scale.resamples, bench.seed),
        "films_synthetic": films.synthetic,
        "parts": parts(tasks["photos"], start),
        "trainings": _without_scores(rows["photos"]),
        "film_trainings": _without_scores(rows["films"]),
    }
    return Outcome(
        numbers=numbers(measured),
        finding=finding(measured),
        sections=sections(measured),
        measured=measured,
        title=f"Transfer learning against training from scratch: {encoder.name} on {photos.title}",
        key_figure="accuracy_by_labels",
    )


def _without_scores(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "scores"} for row in rows]


def parts(task: Task, start: Start) -> list[dict[str, Any]]:
    """What each method freezes and trains: MACs of one image, and trained parameters."""
    encoder = start.encoder
    head = build_head(encoder.channels, HIDDEN, len(task.classes), DROPOUT, 0)
    froms = {SCRATCH: "all", HEAD: "head", BLOCK: "last-block", FULL: "all"}
    records = []
    for method in METHODS:
        cut = cut_of(froms[method], encoder.layers, encoder.last_block)
        macs = part_macs(encoder.name, task.size, cut, head)
        trained = [head, *encoder.modules_from(cut)]
        records.append(
            {
                "method": method,
                "frozen_mmacs": macs.frozen / 1e6,
                "trained_mmacs": macs.trained / 1e6,
                "trained_parameters": sum(p.numel() for module in trained for p in module.parameters()),
            }
        )
    return records


def _counts(scale: Scale, name: str, task: Task) -> list[int | None]:
    """Labels per class that there are enough images for, and all."""
    wanted = scale.labels if name == "photos" else scale.film_labels
    return [*(count for count in wanted if count < task.smallest_class), None]


def trained(
    bench: Bench,
    scale: Scale,
    name: str,
    task: Task,
    start: Start,
    fingerprint: str,
    counts: Sequence[int | None],
) -> list[dict[str, Any]]:
    """Every method on every number of labels and every seed: one row each."""
    rows: list[dict[str, Any]] = []
    tested = PrefixCache(bench.parts / "tested")
    with bench.progress.bar(f"trainings on {name}", len(counts) * scale.seeds * len(METHODS)) as bar:
        for count in counts:
            for number in range(scale.seeds):
                settings = {
                    "scale": to_mapping(scale),
                    "task": name,
                    "count": count,
                    "seed": number,
                    "data": fingerprint,
                    "weights": start.info.sha256,
                }
                cell = Cell(bench, scale, task, start, tested, count, bench.seed + number)
                rows += bench.once(f"{name} {count or 'all'} {number}", settings, cell.run)
                bar.advance(len(METHODS))
    return rows


@dataclass(frozen=True, slots=True)
class Cell:
    """All methods on one draw of labels."""

    bench: Bench
    scale: Scale
    task: Task
    start: Start
    tested: PrefixCache
    per_class: int | None
    seed: int

    def run(self) -> list[dict[str, Any]]:
        """Train scratch; then the head; then, from that head on, the last block, and everything."""
        fit, watch = self.task.choose(self.per_class, self.seed, watched=self.per_class is None)
        self.bench.parts.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.bench.parts) as folder:
            return [*self._scratch(fit, watch, f"{folder}/scratch"), *self._transferred(fit, watch, f"{folder}/pre")]

    def _trainee(self, start: Start, fit: Indices, watch: Indices, folder: str) -> Trainee:
        return Trainee(
            self.task,
            start.classifier(self.task, self.seed),
            fit,
            watch,
            seed=self.seed,
            folder=Path(folder),
            device=self.bench.device,
            progress=None,
        )

    def _scratch(self, fit: Indices, watch: Indices, folder: str) -> list[dict[str, Any]]:
        stage = Stage(
            name="all",
            trainable_from="all",
            lr=2e-3,
            epochs=self.scale.scratch.epochs(len(fit)),
            patience=1000,
            batch_size=16,
            batch_norm="train",
            views=None,
            schedule="one-cycle",
        )
        trainee = self._trainee(Start.random(self.start.encoder.name, self.seed), fit, watch, folder)
        return [self._row(SCRATCH, trainee, stage, [trainee.train(stage)])]

    def _transferred(self, fit: Indices, watch: Indices, folder: str) -> list[dict[str, Any]]:
        head, block, full = self._stages(len(fit))
        trainee = self._trainee(self.start, fit, watch, folder)
        trainee.prepare(self.scale.views, [trainee.cut(block)])
        phases = [trainee.train(head)]
        rows = [self._row(HEAD, trainee, head, phases)]
        after_head = trainee.weights()
        for method, stage in ((BLOCK, block), (FULL, full)):
            trainee.restore(after_head)
            rows.append(self._row(method, trainee, stage, [*phases, trainee.train(stage)]))
        return rows

    def _stages(self, labels: int) -> tuple[Stage, Stage, Stage]:
        common: dict[str, Any] = {"patience": 1000, "batch_size": 16}
        scale = self.scale
        return (
            Stage(name="head", lr=1e-3, epochs=scale.head.epochs(labels), views=scale.views, **common),
            Stage(
                name="block",
                trainable_from="last-block",
                lr=3e-4,
                epochs=scale.block.epochs(labels),
                views=scale.views,
                schedule="cosine",
                **common,
            ),
            Stage(
                name="all",
                trainable_from="all",
                lr=1e-4,
                epochs=scale.full.epochs(labels),
                views=None,
                schedule="cosine",
                **common,
            ),
        )

    def _row(self, method: str, trainee: Trainee, stage: Stage, phases: Sequence[Phase]) -> dict[str, Any]:
        task, frozen = self.task, trainee.cut(stage) > 0
        test = trainee.logits(task.test, stage, self.tested if frozen else None)
        training_s = sum(phase.training_s for phase in phases)
        return {
            "method": method,
            "labels_per_class": self.per_class or "all",
            "labels": len(trainee.fit) + len(trainee.watch),
            "fitted": len(trainee.fit),
            "seed": self.seed,
            "test_accuracy": 100 * task.right(task.test, test),
            "train_accuracy": 100 * task.right(trainee.fit, trainee.logits(trainee.fit, stage)),
            "epochs": sum(len(phase.rows) for phase in phases),
            "macs": trainee.prefix_macs + sum(phase.macs for phase in phases),
            "prefix_s": trainee.prefix_s,
            "training_s": training_s,
            "whole_s": trainee.prefix_s + training_s,
            "curve": _curve(trainee.prefix_s, phases) if len(trainee.watch) else [],
            "scores": np.round(test[:, 1] - test[:, 0], 5).tolist() if len(task.classes) == 2 else [],
        }


def _curve(prefix_s: float, phases: Sequence[Phase]) -> list[dict[str, Any]]:
    """Watched accuracy after each epoch, and the seconds until then."""
    points, elapsed = [], prefix_s
    for phase in phases:
        for row in phase.rows:
            elapsed += row["seconds"]
            points.append({"stage": phase.name, "watch_accuracy": 100 * row["watch_accuracy"], "elapsed_s": elapsed})
    return points
