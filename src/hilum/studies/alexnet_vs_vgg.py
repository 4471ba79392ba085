"""AlexNet, VGG16 and VGG19 side by side: what they cost, and what each design choice buys on small images.

Question: what did VGG change after AlexNet, what does it cost in parameters, multiply-accumulates, memory and time, and
    what do ReLU, response normalisation, dropout, augmentation, stacks of 3×3, depth and BatchNorm buy?
Data: counts, memory and time need none. Trainings: CIFAR-10 at 32 px, a stated subset of it at quick budget; offline
    without it the procedural ten-class set, named as what it is. Transfer: flowers, or digits where these are embedded.
Command: hilum study run alexnet-vs-vgg --data-dir DIR
Hardware: two CPU cores; full: a GPU.
Cost: hilum study run alexnet-vs-vgg --data-dir ../shared/data: 288 s (Intel(R) Xeon(R) Processor, 2 CPUs, cpu); hilum
    study run alexnet-vs-vgg: 277 s (Intel(R) Xeon(R) Processor, 2 CPUs, cpu).
Seeds: --seed; trainings of one comparison are repeated with further seeds, and those of one seed begin with the same
    weights where their layers are the same, and see the same batches, so that they are compared in pairs.
Expected: parameters, AlexNet 2012 (two GPUs): 60,965,224; multiply-accumulates of one image, AlexNet 2012 (two GPUs):
    0.724 billion; share of parameters in the classifier, AlexNet 2012 (two GPUs): 96.2 % (hilum study run
    alexnet-vs-vgg --data-dir ../shared/data).

The trainings use AlexNet's and VGG's designs with an eighth of the channels, few images and few epochs: they show what
a choice does there, not what it did on ImageNet, whose published figures stand beside them. The learning rates of the
one recipe were chosen among three or four on held-out training images of CIFAR-10, one seed each; ReLU and tanh choose
theirs by how fast the training images are fitted, as in AlexNet's figure 1. Test images choose nothing.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from hilum.datasets.image_sets import ImageSet
from hilum.models.networks.vgg_small import STAGES
from hilum.studies.alexnet_vs_vgg_costs import LABELS, costs, input_sizes, kernel_dicts, label, latencies, neurons
from hilum.studies.alexnet_vs_vgg_fits import (
    Race,
    Trial,
    ablation_trials,
    counts_of,
    depth_trials,
    race,
    stack_trials,
    train,
)
from hilum.studies.alexnet_vs_vgg_published import published_dicts
from hilum.studies.alexnet_vs_vgg_report import outcome
from hilum.studies.alexnet_vs_vgg_transfer import (
    pixels,
    probe_record,
    published_features,
    published_sources,
    small_features,
    target_set,
    untrained,
)
from hilum.studies.bench import Bench
from hilum.studies.outcome import Outcome

QUICK_RACE = Race(
    epochs=12,
    relu_rates=(0.003, 0.01, 0.03),
    tanh_rates=(0.01, 0.03, 0.1),
    targets=(50.0, 25.0),
    seeds=2,
    width=0.25,
)
"""ReLU against tanh at quick budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is done."""

    compared: tuple[str, ...] = tuple(LABELS)
    """Networks whose costs are counted."""
    timed: tuple[str, ...] = tuple(LABELS)
    """Networks that are timed."""
    repeats: tuple[tuple[int, int], ...] = ((1, 7), (8, 3))
    """Sizes of batches, and how often each is timed."""
    size: int = 32
    """Pixels a side of the small images, 32 or 64."""
    train: int | None = 1500
    """Small images to train on; None: all."""
    test: int | None = 1000
    """Small images to test on; None: all."""
    width: float = 0.125
    """Factor of all published channels in the trainings."""
    probe: int = 400
    """Training images that are scored after each epoch."""
    race: Race = QUICK_RACE
    """ReLU against tanh."""
    ablation: tuple[int, int] = (6, 3)
    """Epochs and seeds of AlexNet's ablations."""
    depths: tuple[int, ...] = tuple(STAGES)
    """Layers of the VGGs that are trained."""
    depth: tuple[int, int] = (6, 1)
    """Epochs and seeds of VGG by depth."""
    small_start: tuple[int, ...] = (19,)
    """Depths that are also trained from one spread of initial weights for all layers."""
    stacks: tuple[int, int] = (6, 1)
    """Epochs and seeds of stacks against single kernels."""
    probed: tuple[str, ...] = ("alexnet", "vgg16", "vgg19")
    """Networks whose published weights are probed where they can be had."""
    probed_size: int = 128
    """Pixels a side of the photographs for these."""
    target: tuple[int, int] = (600, 600)
    """Images of another set to fit a linear probe on, and to test it on."""


SCALES: dict[str, Scale] = {
    "quick": Scale(),
    "standard": Scale(
        repeats=((1, 25), (8, 9)),
        train=10_000,
        test=10_000,
        probe=2000,
        race=Race(
            epochs=20,
            relu_rates=(0.001, 0.003, 0.01, 0.03),
            tanh_rates=(0.003, 0.01, 0.03, 0.1),
            targets=(50.0, 25.0),
            seeds=3,
            width=0.5,
        ),
        ablation=(15, 3),
        depth=(10, 2),
        small_start=(11, 13, 16, 19),
        stacks=(10, 2),
        target=(1500, 1500),
    ),
    "full": Scale(
        repeats=((1, 50), (8, 50), (32, 20)),
        train=None,
        test=None,
        width=0.5,
        probe=5000,
        race=Race(
            epochs=40,
            relu_rates=(0.001, 0.003, 0.01, 0.03),
            tanh_rates=(0.003, 0.01, 0.03, 0.1),
            targets=(50.0, 25.0, 10.0),
            seeds=5,
            width=1.0,
        ),
        ablation=(60, 5),
        depth=(60, 3),
        small_start=(11, 13, 16, 19),
        stacks=(60, 3),
        probed_size=224,
        target=(3000, 1300),
    ),
}


def run(bench: Bench, scale: Scale) -> Outcome:
    """Count and time the published networks, train the small ones, and probe what was learned."""
    measured: dict[str, Any] = {
        **costs(scale.compared),
        "input_sizes": input_sizes(),
        "neurons": neurons(),
        "kernels": kernel_dicts(),
        "published": published_dicts(),
        "latency": _latency(bench, scale),
    }
    images = bench.images("small-images", size=scale.size, train=scale.train, test=scale.test)
    share = f"1/{1 / scale.width:g} of the channels" if scale.width < 1 else "all channels"
    bench.measure(f"AlexNet and VGG-11 to -19 for {scale.size} px with {share} (random weights, trained here)")
    measured["settings"] = _settings(scale, images)
    measured["race"] = race(bench, images, scale.race, scale.probe)
    fits, kept = _fits(bench, scale, images)
    measured |= fits
    measured["transfer"], measured["not_probed"] = _transfer(bench, scale, images, kept)
    return outcome(measured)


def _latency(bench: Bench, scale: Scale) -> list[dict[str, Any]]:
    for name in scale.timed:
        bench.measure(f"{label(name)} (random weights, timed)")

    def compute() -> list[dict[str, Any]]:
        with bench.progress.bar("time of a forward pass", len(scale.timed) * len(scale.repeats)) as bar:
            return latencies(
                scale.timed, scale.repeats, seed=bench.seed, device=bench.device, advance=lambda: bar.advance(1)
            )

    rows: list[dict[str, Any]] = bench.once("latency", [scale.timed, scale.repeats], compute)
    return rows


def _settings(scale: Scale, images: ImageSet) -> dict[str, Any]:
    return {
        "data": images.title,
        "kind": images.kind,
        "size": scale.size,
        "train": len(images.train),
        "test": len(images.test),
        "classes": len(images.classes),
        "width": scale.width,
        "probe": min(scale.probe, len(images.train)),
        "race_epochs": scale.race.epochs,
        "race_width": scale.race.width,
        "ablation_epochs": scale.ablation[0],
        "ablation_seeds": scale.ablation[1],
        "depth_epochs": scale.depth[0],
        "depth_seeds": scale.depth[1],
        "stack_epochs": scale.stacks[0],
        "stack_seeds": scale.stacks[1],
    }


Kept = dict[str, tuple[dict[str, Any], nn.Module]]
"""Networks whose features are probed: by name, what is known of the training, and the network."""


def _fits(bench: Bench, scale: Scale, images: ImageSet) -> tuple[dict[str, Any], Kept]:
    """All trainings but the race, as flat records; and the networks that are needed afterwards."""
    kept: Kept = {}
    counted: dict[str, dict[str, int]] = {}

    def fit(trial: Trial, short: str, **more: Any) -> dict[str, Any]:
        values, network = train(bench, images, trial, scale.probe)
        if trial.keep and values["trained"]:
            kept[short] = (values, network)
        if repr(network) not in counted:
            counted[repr(network)] = counts_of(trial.build, scale.size, len(images.classes))
        return {**values, **more, **counted[repr(network)]}

    found = {
        "ablation": [
            fit(trial, "AlexNet") for trial in ablation_trials(*scale.ablation, width=scale.width, size=scale.size)
        ],
        "depth": [
            fit(trial, f"VGG{depth} with BatchNorm", depth=depth, kind=kind)
            for depth, kind, trial in depth_trials(
                scale.depths, *scale.depth, width=scale.width, size=scale.size, small_start=scale.small_start
            )
        ],
        "stacks": [fit(trial, "") for trial in stack_trials(*scale.stacks, width=scale.width, size=scale.size)],
    }
    return found, kept


def _transfer(
    bench: Bench, scale: Scale, images: ImageSet, kept: Kept
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Linear probes on published weights where they can be had, and on what was trained here."""
    names = (bench.request.backbone,) if bench.request.backbone else scale.probed
    sources, missing = published_sources(bench, names)
    if missing:
        without = ", ".join(row["network"] for row in missing)
        bench.notes.append(
            f"Without published weights of {without}, transfer was measured on the small networks trained here."
        )
    rows = []
    if sources:
        photos = bench.images(
            "photographs", "auto", size=scale.probed_size, train=scale.target[0], test=scale.target[1]
        ).with_channels(3)
        for name, source in sources.items():
            features, weights = published_features(bench, name, source)
            rows.append(probe_record(label(name), f"published: {weights}", features, photos, bench.seed))
    target = target_set(bench, images, *scale.target)
    for name, (values, network) in kept.items():
        trained = small_features(network, values["mean"], values["std"])
        rows.append(probe_record(f"small {name}", f"trained here on {images.title}", trained, target, bench.seed))
        fresh = small_features(untrained(network, bench.seed, name), values["mean"], values["std"])
        rows.append(probe_record(f"small {name}", "random", fresh, target, bench.seed))
    rows.append(probe_record("none: the pixels themselves", "none", pixels, target, bench.seed))
    return rows, missing
