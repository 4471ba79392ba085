"""GoogLeNet on CIFAR-10: does it over- or under-fit, from when, and for want of what?

Question: do the curves of GoogLeNet show over-fitting or under-fitting, from when, and for want of what; what do
    auxiliary classifiers, 5×5 kernels, regularisation and pretrained weights change?
Data: CIFAR-10 (as JPEG where that is what there is); offline without it ten classes of procedural images, which are
    named as what they are. Quick: a subset, stated in the report's first line.
Command: hilum study run googlenet-cifar10 --data-dir DIR
Hardware: two CPU cores; full: a GPU.
Cost: hilum study run googlenet-cifar10 --data-dir ../shared/data: 247 s (Intel(R) Xeon(R) Processor, 2 CPUs, cpu);
    hilum study run googlenet-cifar10: 240 s (Intel(R) Xeon(R) Processor, 2 CPUs, cpu).
Seeds: weights, order, dropout and augmentation come from --seed and the numbers after it; the split from --seed.
Expected: test accuracy, long training, weights of the lowest validation loss: 27.70 % (25.02–30.56); test accuracy,
    long training, last of 16 epochs: 27.70 % (25.02–30.56); gap between training and validation accuracy at its end:
    73.0 points (hilum study run googlenet-cifar10 --data-dir ../shared/data).

The network is GoogLeNet with a stem for 32 pixels and the paper's 5×5 kernels; on a CPU a fraction of its channels,
pooled early. Every variant differs from the base in one thing and starts, seed by seed, from the same weights, so
variants are compared in pairs. All choices were made on validation images, which are taken from the training images;
test images choose nothing. Training accuracy is that of training images as they are, in evaluation mode.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from hilum.arrays import Array
from hilum.config import to_mapping
from hilum.datasets.image_sets import ImageSet
from hilum.datasets.labelled_images import LabelledImages
from hilum.errors import UsageError
from hilum.evaluation.estimates import to_plain
from hilum.evaluation.fitting_curves import FitCurves
from hilum.evaluation.fitting_diagnosis import Diagnosis, diagnose
from hilum.evaluation.gap_rule import agreement, gap_rule
from hilum.evaluation.metrics import confusion_matrix
from hilum.evaluation.paired import paired_difference
from hilum.models.initialisation import generator_from, initialise
from hilum.models.networks.googlenet_small import build_googlenet
from hilum.randomness import seed_for, stream
from hilum.studies.bench import Bench
from hilum.studies.googlenet_cifar10_findings import finding, main_numbers, title
from hilum.studies.googlenet_cifar10_report import flat_tables, sections
from hilum.studies.googlenet_cifar10_transfer import compare_pretrained
from hilum.studies.outcome import Outcome
from hilum.training.fitting import Examples, FitConfig, Fitted, fit_network, predict_images
from hilum.training.losses import AuxiliaryLoss, LossConfig, build_loss
from hilum.training.photo_augmentation import PhotoAugmentation


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is done."""

    width: float = 0.25
    """Factor of all channels."""
    early_pools: int = 2
    """Poolings kept in the stem; each divides the work by four."""
    test: int | None = 1000
    """Test images; None: all."""
    validation: int = 400
    """Validation images, taken from the training images; two fifths of them at most."""
    train: int = 600
    """Training images of every variant."""
    epochs: int = 8
    """Passes of every variant."""
    seeds: int = 2
    """Trainings of every variant."""
    course_train: int | None = 600
    """Training images of the long training whose curves are diagnosed; None: all."""
    course_epochs: int = 16
    """Its passes."""
    sizes: tuple[float, ...] = (0.25,)
    """Shares of the training images for the learning curve, trained as many steps."""
    probe: int = 200
    """Training images that are scored after each epoch."""
    batch_size: int = 50
    """Images in a batch."""
    lr: float = 1e-3
    """Learning rate."""
    optimiser: Literal["adamw", "sgd"] = "adamw"
    """Optimiser."""
    weight_decay: float = 0.5
    """What the variant with weight decay has; large where steps are few."""
    transfer_size: int = 64
    """Pixels a side for pretrained networks, whose stems are made for large images."""
    aim_epochs: int = 0
    """Passes of a training that aims at the highest accuracy, on all images; 0 for none."""
    fast_epochs: int = 0
    """Passes of a short training that aims at :data:`TARGET` soon, on all images; 0 for none."""
    leave_out: tuple[str, ...] = ()
    """Names of variants that are not trained; the base, ``auxiliary``, ``3x3`` and one regulariser must stay."""


SCALES: dict[str, Scale] = {
    "quick": Scale(validation=300, probe=150),
    "standard": Scale(
        test=None, validation=2000, train=2500, course_train=None, course_epochs=8, sizes=(0.25, 0.5), probe=1000,
        weight_decay=0.2,
    ),
    "full": Scale(
        width=1.0, early_pools=0, test=None, validation=5000, train=45_000, epochs=30, seeds=3, course_train=None,
        course_epochs=100, sizes=(0.125, 0.25, 0.5), probe=5000, batch_size=128, lr=0.1, optimiser="sgd",
        weight_decay=5e-4, aim_epochs=200, fast_epochs=24,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One change to the base."""

    name: str
    """Short name."""
    label: str
    """In words, as figures show it."""
    kind: Literal["base", "structure", "regularisation"]
    """What is changed."""
    fit: Mapping[str, Any] = field(default_factory=dict)
    """Fields of :class:`FitConfig` that differ."""
    network: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of :func:`build_googlenet` that differ."""
    decayed: bool = False
    """Whether weights decay, as much as the scale says."""


SHIFTS = PhotoAugmentation(flip=True, shift_pixels=4)
VARIANTS: tuple[Variant, ...] = (
    Variant(name="base", label="base", kind="base"),
    Variant(name="auxiliary", label="auxiliary classifiers", kind="structure", network={"auxiliary": True}),
    Variant(name="3x3", label="3×3 for 5×5", kind="structure", network={"kernel": 3}),
    Variant(name="augmentation", label="flip and shift", kind="regularisation", fit={"augmentation": SHIFTS}),
    Variant(name="dropout", label="dropout 0.4", kind="regularisation", network={"dropout": 0.4}),
    Variant(name="decay", label="weight decay", kind="regularisation", decayed=True),
    Variant(name="smoothing", label="label smoothing 0.1", kind="regularisation", fit={"label_smoothing": 0.1}),
    Variant(name="plateau", label="plateau schedule", kind="regularisation", fit={"schedule": "plateau"}),
    Variant(
        name="all", label="all five", kind="regularisation", network={"dropout": 0.4}, decayed=True,
        fit={"augmentation": SHIFTS, "label_smoothing": 0.1, "schedule": "plateau"},
    ),
)  # fmt: skip
"""What is compared. The base has none of it: no augmentation, dropout, weight decay, label smoothing or schedule."""

AIM = replace(
    VARIANTS[-1],
    name="aim",
    label="aim",
    fit={
        "augmentation": replace(SHIFTS, cutout_pixels=8),
        "label_smoothing": 0.1,
        "schedule": "one-cycle",
    },
)
"""The training that aims high: all that regularises, with cutout and one cycle of the learning rate."""

TARGET = 0.94
"""Share of validation images right whose time is told."""

AUXILIARY_SHARE = 0.3
"""Weight of each auxiliary loss; section 5 of the paper."""

ROW = ("epoch", "loss", "accuracy", "probe_loss", "probe_accuracy", "watch_loss", "watch_accuracy", "best", "lr",
       "fit_s", "seconds")  # fmt: skip
"""What is kept of an epoch."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """The images in their parts; the variants' training images lie inside the long training's."""

    images: ImageSet
    """The set."""
    validation: LabelledImages
    """Watched."""
    course: LabelledImages
    """Fitted in the long training."""
    train: LabelledImages
    """Fitted by the variants."""

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.images.classes)


def run(bench: Bench, scale: Scale) -> Outcome:
    """Train the base for long and diagnose it, then every variant, then pretrained weights against random ones."""
    parts = divide(bench, scale)
    count = sum(value.numel() for value in network_of(VARIANTS[0], scale, parts.classes, 0).parameters())
    bench.measure(
        f"GoogLeNet with a 32-pixel stem and 5×5 kernels, {scale.width:g} × its channels, {scale.early_pools} early "
        f"poolings, {count:,} parameters (random weights)"
    )
    variants = [variant for variant in VARIANTS if variant.name not in scale.leave_out]
    runs = {
        variant.name: [trained(bench, scale, parts, variant, number) for number in range(scale.seeds)]
        for variant in variants
    }
    curve = learning_curve(bench, scale, parts, runs["base"])
    course = long_training(bench, scale, parts)
    measured: dict[str, Any] = {
        "data": {
            "name": parts.images.name,
            "title": parts.images.title,
            "classes": list(parts.images.classes),
            "train": len(parts.train),
            "course_train": len(parts.course),
            "validation": len(parts.validation),
            "test": len(parts.images.test),
        },
        "scale": to_mapping(scale),
        "parameters": count,
        "course": {**course, **read(course["rows"], curve)},
        "learning_curve": [{"training_images": n, "validation_accuracy": 100 * a} for n, a in curve],
        "variants": [summary(variant, runs) for variant in variants],
        "comparisons": len(variants) - 1,
        "trainings": [
            {"variant": variant.name, "seed": bench.seed + i, **done, **read(done["rows"])}
            for variant in variants
            for i, done in enumerate(runs[variant.name])
        ],
        "transfer": compare_pretrained(
            bench,
            {"train": parts.train, "validation": parts.validation, "test": parts.images.test},
            classes=parts.classes,
            size=scale.transfer_size,
            epochs=scale.epochs,
            seeds=scale.seeds,
            batch_size=scale.batch_size,
            fingerprint=parts.images.fingerprint,
        ),
        "aim": aim(bench, scale, parts, scale.aim_epochs) if scale.aim_epochs else None,
        "fast": aim(bench, scale, parts, scale.fast_epochs) if scale.fast_epochs else None,
    }
    measured |= flat_tables(measured)
    return Outcome(
        title=title(measured),
        numbers=main_numbers(measured),
        finding=finding(measured),
        sections=sections(measured),
        measured=measured,
        key_figure="course",
    )


def divide(bench: Bench, scale: Scale) -> Parts:
    """Open the images and divide the training images: validation first, then what is fitted.

    Raises:
        UsageError: so few images that no validation image is left for each class.
    """
    wanted = None if scale.course_train is None else max(scale.course_train, scale.train) + scale.validation
    images = bench.images("small-images", size=32, train=wanted, test=scale.test).with_channels(3)
    rows = stream(bench.seed, "validation").permutation(len(images.train))
    validation = min(scale.validation, 2 * len(rows) // 5)
    if validation < len(images.classes):
        raise UsageError(
            f"{images.title} has {len(rows)} training images in {len(images.classes)} classes: too few to keep two "
            f"fifths of them for validation. Give {-(-5 * len(images.classes) // 2)} or more."
        )
    fitted = rows[validation:]
    return Parts(
        images=images,
        validation=images.train.take(rows[:validation]),
        course=images.train.take(fitted[: scale.course_train]),
        train=images.train.take(fitted[: scale.train]),
    )


def network_of(variant: Variant, scale: Scale, classes: int, seed: int) -> nn.Module:
    """A variant's network; weights of one name and shape are the same in every variant of a seed."""
    options: dict[str, Any] = {"kernel": 5, "dropout": 0.0, **variant.network}
    network = build_googlenet(classes, stem="small", early_pools=scale.early_pools, width=scale.width, **options)
    for name, layer in network.named_modules():
        if not list(layer.children()):
            initialise(layer, generator_from(seed_for(seed, "googlenet", name)))
    return network


def config_of(variant: Variant, scale: Scale, epochs: int) -> FitConfig:
    """How a variant is trained."""
    base = FitConfig(
        epochs=epochs,
        lr=scale.lr,
        batch_size=scale.batch_size,
        optimiser=scale.optimiser,
        weight_decay=scale.weight_decay if variant.decayed else 0.0,
        probe=scale.probe,
    )
    return replace(base, **variant.fit)


def fit(
    bench: Bench,
    network: nn.Module,
    examples: Examples,
    config: FitConfig,
    name: str,
    *,
    seed: int,
    best: dict[str, Tensor] | None = None,
) -> Fitted:
    """Train a network; with auxiliary classifiers on the weighted sum of the three losses.

    Args:
        bench: gives device and progress.
        network: trained in place.
        examples: what is fitted and watched.
        config: how.
        name: for the progress bar.
        seed: of order, dropout and augmentation.
        best: filled with the weights of the lowest validation loss.
    """

    def keep(trained: nn.Module, row: dict[str, Any]) -> None:
        if best is not None and row["best"]:
            best.update({key: value.detach().clone() for key, value in trained.state_dict().items()})

    settings = LossConfig(class_weights="none", label_smoothing=config.label_smoothing)
    main = build_loss(settings, np.eye(examples.classes)).to(bench.device)
    return fit_network(
        network,
        examples,
        config,
        seed=seed,
        loss=AuxiliaryLoss(main=main, share=AUXILIARY_SHARE),
        device=bench.device,
        progress=bench.progress,
        name=name,
        each_epoch=keep,
    )


def trained(bench: Bench, scale: Scale, parts: Parts, variant: Variant, number: int) -> dict[str, Any]:
    """Train one variant with one seed, once: its rows, and how it does on the test images."""
    seed, config = bench.seed + number, config_of(variant, scale, scale.epochs)

    def compute() -> dict[str, Any]:
        network = network_of(variant, scale, parts.classes, seed)
        examples = Examples.of(_pair(parts.train), _pair(parts.validation), classes=parts.classes)
        fitted = fit(bench, network, examples, config, f"{variant.label}, seed {seed}", seed=seed)
        return {**slim(fitted), **scored(network, parts.images.test, fitted)}

    settings = {"variant": variant, "number": number, "scale": scale, "images": parts.images.fingerprint}
    done: dict[str, Any] = bench.once("variant", settings, compute)
    return done


def learning_curve(
    bench: Bench, scale: Scale, parts: Parts, base: Sequence[Mapping[str, Any]]
) -> list[tuple[int, float]]:
    """(Training images, validation accuracy 0 … 1) of the base, mean over the seeds; each size gets as many steps."""
    points = []
    for share in scale.sizes:
        count = max(parts.classes, round(share * len(parts.train)))
        config = replace(config_of(VARIANTS[0], scale, max(1, round(scale.epochs * len(parts.train) / count))), probe=0)
        accuracies = [_small_training(bench, scale, parts, config, count, number) for number in range(scale.seeds)]
        points.append((count, float(np.mean(accuracies))))
    last = [done["rows"][-1]["watch_accuracy"] for done in base]
    points.append((len(parts.train), float(np.mean(last))))
    return points if len({size for size, _ in points}) == len(points) else []


def _small_training(bench: Bench, scale: Scale, parts: Parts, config: FitConfig, count: int, number: int) -> float:
    """Validation accuracy of the base after training on the first images alone."""
    seed, some = bench.seed + number, parts.train.take(np.arange(count))

    def compute() -> float:
        network = network_of(VARIANTS[0], scale, parts.classes, seed)
        examples = Examples.of(_pair(some), classes=parts.classes)
        fitted = fit(bench, network, examples, config, f"{count} images, seed {seed}", seed=seed)
        accuracy: float = scored(network, parts.validation, fitted)["accuracy"]
        return accuracy

    settings = {"count": count, "number": number, "scale": scale, "images": parts.images.fingerprint}
    done: float = bench.once("learning curve", settings, compute)
    return done


def long_training(bench: Bench, scale: Scale, parts: Parts) -> dict[str, Any]:
    """The base for many epochs: its rows, and the test images with its last and with its best weights."""

    def compute() -> dict[str, Any]:
        network, best = network_of(VARIANTS[0], scale, parts.classes, bench.seed), dict[str, Tensor]()
        examples = Examples.of(_pair(parts.course), _pair(parts.validation), classes=parts.classes)
        config = config_of(VARIANTS[0], scale, scale.course_epochs)
        fitted = fit(bench, network, examples, config, "long training", seed=bench.seed, best=best)
        last = scored(network, parts.images.test, fitted)
        network.load_state_dict(best)
        return {**slim(fitted), "last": last, "best": scored(network, parts.images.test, fitted)}

    done: dict[str, Any] = bench.once("long", {"scale": scale, "images": parts.images.fingerprint}, compute)
    return done


def aim(bench: Bench, scale: Scale, parts: Parts, epochs: int) -> dict[str, Any]:
    """The training that aims high: its rows, test images, and seconds until the target on validation images."""

    def compute() -> dict[str, Any]:
        network = network_of(AIM, scale, parts.classes, bench.seed)
        examples = Examples.of(_pair(parts.course), _pair(parts.validation), classes=parts.classes)
        fitted = fit(bench, network, examples, config_of(AIM, scale, epochs), "aim", seed=bench.seed)
        return {**slim(fitted), **scored(network, parts.images.test, fitted)}

    settings = {"scale": scale, "epochs": epochs, "images": parts.images.fingerprint}
    done: dict[str, Any] = bench.once("aim", settings, compute)
    return {**done, "target": TARGET, "until_target_s": seconds_until(done["rows"], TARGET)}


def seconds_until(rows: Sequence[Mapping[str, Any]], accuracy: float) -> float | None:
    """Seconds of training, scoring included, until so many validation images are right; None when they never are."""
    passed: float = 0.0
    for row in rows:
        passed += float(row["seconds"])
        if row["watch_accuracy"] >= accuracy:
            return passed
    return None


def _pair(part: LabelledImages) -> tuple[Array, Array]:
    return part.images, part.labels


def slim(fitted: Fitted) -> dict[str, Any]:
    """What is kept of a training, as plain values."""
    return {"rows": [{key: row[key] for key in ROW} for row in fitted.rows], "fit_s": fitted.fit_s}


def scored(network: nn.Module, part: LabelledImages, fitted: Fitted) -> dict[str, Any]:
    """Accuracy 0 … 1, plain cross-entropy, and images by class (rows) and answer (columns)."""
    logits = torch.from_numpy(predict_images(network, part.images, fitted))
    truths = torch.from_numpy(np.ascontiguousarray(part.labels))
    answers = logits.argmax(1)
    return {
        "accuracy": float((answers == truths).double().mean()),
        "loss": float(nn.functional.cross_entropy(logits, truths)),
        "confusion": confusion_matrix(truths.numpy(), answers.numpy(), logits.shape[1]).tolist(),
    }


def read(rows: Sequence[Mapping[str, Any]], curve: Sequence[tuple[int, float]] = ()) -> dict[str, Any]:
    """The diagnosis of a training, and the rule of thumb beside it."""
    found: Diagnosis = diagnose(FitCurves.of_rows(rows), learning_curve=curve)
    rule = gap_rule(found.facts.train_accuracy, found.facts.validation_accuracy)
    said, why = agreement(found, rule)
    plain = to_plain(found)
    return {
        "diagnosis": {**{key: value for key, value in plain.items() if key != "facts"}, **plain["facts"]},
        "rule": rule.word,
        "agreement": said,
        "why": why,
    }


def summary(variant: Variant, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """A variant over its seeds, beside the base; accuracies in per cent, gaps and differences in points.

    A difference is told apart from none at the level that holds for all comparisons together (Bonferroni).
    """
    done, base = runs[variant.name], runs["base"]
    tests, others = ([100 * run["accuracy"] for run in some] for some in (done, base))
    gaps, wider = ([100 * _gap(run) for run in some] for some in (done, base))
    level = 1 - 0.05 / max(1, len(runs) - 1)
    diagnoses = [read(run["rows"])["diagnosis"] for run in done]
    return {
        "variant": variant.name,
        "label": variant.label,
        "kind": variant.kind,
        "test_accuracies": tests,
        "training_accuracies": [100 * found["train_accuracy"] for found in diagnoses],
        "gaps": gaps,
        "difference": to_plain(paired_difference(tests, others)),
        "difference_told": paired_difference(tests, others, level).sign,
        "gap_difference": to_plain(paired_difference(gaps, wider)),
        "gap_told": paired_difference(gaps, wider, level).sign,
        "verdicts": [found["verdict"] for found in diagnoses],
        "fit_s": [run["fit_s"] for run in done],
    }


def _gap(run: Mapping[str, Any]) -> float:
    gap: float = read(run["rows"])["diagnosis"]["gap"]
    return gap
