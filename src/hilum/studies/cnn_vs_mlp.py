"""What a CNN buys over a fully connected network on images, at equal size and at equal arithmetic.

Question: what does a CNN buy over a fully connected network (MLP) on images: in accuracy, parameters and time, when
    images are shifted, when their pixels are put in another order, and when there are fewer of them to learn from?
Data: MNIST (28 px); offline without it scikit-learn's digits (8 px, enlarged to 28 px), named as what they are.
Command: hilum study run cnn-vs-mlp --data-dir DIR
Hardware: two CPU cores; full: a GPU.
Cost: hilum study run cnn-vs-mlp --data-dir ../shared/data: 170 s (Intel(R) Xeon(R) Processor, 2 CPUs, cpu); hilum
    study run cnn-vs-mlp: 176 s (AMD EPYC, 2 CPUs, cpu).
Seeds: --seed and the ones after it; networks of one seed share training images, order of batches and permutation, so
    that differences are paired.
Expected: test accuracy, CNN: 98.65 % (98.60–98.68); test accuracy, MLP of equal parameters: 95.79 % (95.69–95.86);
    test accuracy, MLP of equal MACs: 96.62 % (96.60–96.64) (hilum study run cnn-vs-mlp --data-dir ../shared/data).

The CNN is LeNet-5's modern form; one MLP with two hidden layers of equal width has as many parameters, another as many
multiply-accumulates, each within two per cent, counted by anatomy. A fourth network shows where tolerance to shifts
comes from: the same convolutions with a head that averages over all places; it is matched to nothing. Learning rates
were chosen for each network among 1e-3, 3e-3 and 8e-3 (the averaging one: 1e-3 and 3e-3), fitting 10,000 of MNIST's
training images for 5 epochs with two seeds, by accuracy on 5,000 others of them; test images choose nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from hilum.arrays import Array
from hilum.datasets.image_sets import ImageSet
from hilum.evaluation.paired import Difference, paired_difference
from hilum.models.anatomy import layer_rows
from hilum.models.initialisation import generator_from, initialise
from hilum.models.networks.lenet import LeNet5, PooledLeNet5
from hilum.models.networks.perceptron import Perceptron
from hilum.randomness import seed_for, stream
from hilum.studies.bench import Bench
from hilum.studies.cnn_vs_mlp_report import finding, sections
from hilum.studies.digit_images import digits_in
from hilum.studies.outcome import Number, Outcome, over_seeds
from hilum.training.fitting import Examples, FitConfig, Fitted, fit_network, predict_images, seconds_of

SIDE = 28
"""Pixels a side of the images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is done."""

    seeds: int = 3
    """Seeds."""
    train: int | None = None
    """Training images at most; None: all."""
    sizes: tuple[int, ...] = (100, 300, 1000, 3000)
    """Smaller training sets, balanced by class, beside all."""
    epochs: int = 5
    """Passes over all training images."""
    least_steps: int = 300
    """On small sets more passes are made, until at least so many steps are done."""
    test: int | None = None
    """Test images; None: all."""
    shifted: int = 2000
    """Test images that are shifted, at most."""
    shifts: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
    """Distances in pixels."""


SCALES: dict[str, Scale] = {
    "quick": Scale(train=10_000),
    "standard": Scale(sizes=(100, 300, 1000, 3000, 10_000), shifted=10_000),
    "full": Scale(seeds=10, sizes=(100, 300, 1000, 3000, 10_000, 30_000), shifted=10_000, epochs=10),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of network."""

    name: str
    """Short name."""
    label: str
    """In words."""
    build: Callable[[], nn.Module]
    """Makes it."""
    lr: float
    """Highest learning rate, chosen on held-out training images."""
    matched: bool = True
    """Whether it is one of those that are compared; the others explain."""

    def counts(self) -> tuple[int, int]:
        """Parameters, and multiply-accumulates for one image."""
        with torch.device("meta"):
            network = self.build()
        rows = layer_rows(network, (1, SIDE, SIDE))
        return sum(row.parameters for row in rows), sum(row.macs for row in rows)


CNN = Kind(name="cnn", label="CNN", build=partial(LeNet5, padding=2), lr=8e-3)
KINDS = (
    CNN,
    Kind(name="mlp_parameters", label="MLP of equal parameters", build=partial(Perceptron, hidden=71), lr=8e-3),
    Kind(name="mlp_macs", label="MLP of equal MACs", build=partial(Perceptron, hidden=360), lr=3e-3),
    Kind(
        name="cnn_pooled",
        label="CNN with averaging head",
        build=partial(PooledLeNet5, padding=2),
        lr=3e-3,
        matched=False,
    ),
)
"""The kinds in the order of all figures. MLP widths are those that match best."""

PERMUTED = -1
"""Stands for the condition under which all pixels have another order."""

BATCH = 64
DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0))


def shifted(images: UInt8[np.ndarray, "n 1 h w"], down: int, right: int) -> UInt8[np.ndarray, "n 1 h w"]:
    """Images moved by whole pixels; black comes in, and what leaves is lost."""
    height, width = images.shape[2:]
    moved = np.zeros_like(images)
    rows, columns = slice(max(0, down), height + min(0, down)), slice(max(0, right), width + min(0, right))
    old_rows, old_columns = slice(max(0, -down), height - max(0, down)), slice(max(0, -right), width - max(0, right))
    moved[:, :, rows, columns] = images[:, :, old_rows, old_columns]
    return moved


def permuted(images: UInt8[np.ndarray, "n 1 h w"], order: Array) -> UInt8[np.ndarray, "n 1 h w"]:
    """Images whose pixels are put in another order, the same for all."""
    return np.ascontiguousarray(images.reshape(len(images), -1)[:, order].reshape(images.shape))


def run(bench: Bench, scale: Scale) -> Outcome:
    """Fit every network under every condition with every seed, and compare them in pairs."""
    images = digits_in(bench.images("digits", train=scale.train, test=scale.test), SIDE)
    for kind in KINDS:
        parameters, macs = kind.counts()
        bench.measure(f"{kind.label} ({parameters:,} parameters, {macs:,} MACs, random weights)")
    sizes = (*sorted(size for size in scale.sizes if size < len(images.train)), len(images.train))
    fits = Fits()
    for number in range(scale.seeds):
        for kind in KINDS:
            for size in sizes if kind.matched else sizes[-1:]:
                fits.add(kind, size, fit(bench, scale, kind, images, number, size=size))
            if kind.matched:
                fits.add(kind, PERMUTED, fit(bench, scale, kind, images, number, size=sizes[-1], permute=True))
    measured = all_measured(fits, scale, images, sizes)
    shown = {kind.name: fits.networks[kind.name] for kind in KINDS}
    return Outcome(
        title=f"A CNN against a fully connected network on {images.title}",
        numbers=main_numbers(measured, mnist=images.name == "mnist"),
        finding=finding(measured, images.title),
        sections=sections(measured, images, shown, order_of(bench.seed)),
        measured=measured,
        key_figure="shifts",
    )


def order_of(seed: int) -> Array:
    """The fixed order in which a seed's permuted images have their pixels."""
    order: Array = stream(seed, "pixel order").permutation(SIDE * SIDE)
    return order


@dataclass(slots=True)
class Fits:
    """What was measured of each kind of network under each condition, one value a seed; and the first seed's nets."""

    found: dict[tuple[str, int], list[dict[str, Any]]] = field(default_factory=dict)
    networks: dict[str, nn.Module] = field(default_factory=dict)

    def add(self, kind: Kind, condition: int, fitted: tuple[dict[str, Any], nn.Module]) -> None:
        """Keep a fit; the condition is the number of training images, or :data:`PERMUTED`."""
        values, network = fitted
        if len(self.found.get((kind.name, condition), ())) == 0 and condition != PERMUTED:
            self.networks[kind.name] = network  # in the end the first seed's, fitted to all images
        self.found.setdefault((kind.name, condition), []).append(values)

    def of(self, kind: str, condition: int, key: str) -> list[float]:
        """A measurement of a kind under a condition, one value a seed."""
        return [values[key] for values in self.found[(kind, condition)]]


def fit(
    bench: Bench, scale: Scale, kind: Kind, images: ImageSet, number: int, *, size: int, permute: bool = False
) -> tuple[dict[str, Any], nn.Module]:
    """Fit one network with one seed; what is measured of it, and the network."""
    seed = bench.seed + number
    part = images.subset(size, None, seed) if size < len(images.train) else images
    steps = -(-len(part.train) // BATCH)
    config = FitConfig(
        epochs=max(scale.epochs, -(-scale.least_steps // steps)),
        lr=kind.lr,
        batch_size=BATCH,
        optimiser="adam",
        schedule="one-cycle",
    )
    network = kind.build()
    initialise(network, generator_from(seed_for(seed, "weights", kind.name)))

    def look(pixels: Array) -> Array:
        return permuted(pixels, order_of(seed)) if permute else pixels

    def compute() -> dict[str, Any]:
        fitted = fit_network(
            network,
            Examples.of((look(part.train.images), part.train.labels), classes=10),
            config,
            seed=seed,
            device=bench.device,
            progress=bench.progress,
            name=f"{kind.label}, {size:,} images{', permuted' if permute else ''}, seed {seed}",
        )
        return measure(network, fitted, part, look, () if permute or size < len(images.train) else scale.shifts, scale)

    settings = {"kind": kind.name, "config": config, "number": number, "images": part.fingerprint, "permute": permute}
    pictured = number == 0 and not permute and size == len(images.train)
    values: dict[str, Any] = bench.once("fit", settings, compute, network=network if pictured else None)
    network.to(bench.device).eval()
    return values, network


def measure(
    network: nn.Module,
    fitted: Fitted,
    images: ImageSet,
    look: Callable[[Array], Array],
    shifts: Sequence[int],
    scale: Scale,
) -> dict[str, Any]:
    """Accuracies (per cent) and times of a fitted network.

    Args:
        network: fitted.
        fitted: how; its normalisation is used.
        images: fitted and test images.
        look: puts pixels in the order that was fitted.
        shifts: distances in pixels.
        scale: how many images are shifted.
    """

    def accuracy(pixels: Array, labels: Array) -> float:
        return 100 * float((predict_images(network, look(pixels), fitted).argmax(1) == labels).mean())

    some = slice(0, scale.shifted)
    pixels, labels = images.test.images[some], images.test.labels[some]
    moved = {
        str(shift): float(
            np.mean([accuracy(shifted(pixels, shift * down, shift * right), labels) for down, right in DIRECTIONS])
            if shift
            else accuracy(pixels, labels)
        )
        for shift in shifts
    }
    batch = look(images.test.images[:256])
    return {
        "accuracy": accuracy(images.test.images, images.test.labels),
        "training_accuracy": accuracy(images.train.images[:2000], images.train.labels[:2000]),
        "shifts": moved,
        "epochs": len(fitted.rows),
        "epoch_s": fitted.fit_s / len(fitted.rows),
        "image_ms": 1000 * min(seconds_of(lambda: predict_images(network, batch, fitted))) / len(batch),
        "mean": fitted.mean[0],
        "std": fitted.std[0],
    }


def all_measured(fits: Fits, scale: Scale, images: ImageSet, sizes: Sequence[int]) -> dict[str, Any]:
    """Everything measured, as plain values; accuracies in per cent of the test images."""
    every = sizes[-1]
    kinds: dict[str, dict[str, Any]] = {}
    for kind in KINDS:
        parameters, macs = kind.counts()
        at_sizes = sizes if kind.matched else [every]
        kinds[kind.name] = {
            "label": kind.label,
            "parameters": parameters,
            "macs": macs,
            "plain": fits.of(kind.name, every, "accuracy"),
            "permuted": fits.of(kind.name, PERMUTED, "accuracy") if kind.matched else [],
            "training_accuracy": fits.of(kind.name, every, "training_accuracy"),
            "by_size": {str(size): fits.of(kind.name, size, "accuracy") for size in at_sizes},
            "by_shift": {
                str(shift): [values[str(shift)] for values in fits.of(kind.name, every, "shifts")]  # type: ignore[index]
                for shift in scale.shifts
            },
            "epoch_s": fits.of(kind.name, every, "epoch_s"),
            "image_ms": fits.of(kind.name, every, "image_ms"),
            "normalisation": [fits.of(kind.name, every, key)[0] for key in ("mean", "std")],
        }
    return {
        "images": images.name,
        "train": every,
        "test": len(images.test),
        "shifted": min(scale.shifted, len(images.test)),
        "seeds": scale.seeds,
        "kinds": kinds,
        "comparisons": _comparisons(kinds, scale),
        "networks": [_network_row(kinds[kind.name], scale) for kind in KINDS],
        "as_good_at": {
            other.name: enough(kinds["cnn"], kinds[other.name]) for other in KINDS if other.matched and other != CNN
        },
    }


def _comparisons(kinds: dict[str, dict[str, Any]], scale: Scale) -> dict[str, dict[str, Any]]:
    """Paired differences: the CNN against each other kind, and each kind against itself on changed images."""
    last = str(scale.shifts[-1])
    found = {}
    for name, values in kinds.items():
        label, plain = values["label"], values["plain"]
        if name != "cnn":
            difference = paired_difference(kinds["cnn"]["plain"], plain)
            found[f"against {name}"] = _difference_values(f"CNN minus {label}", difference)
        moved = paired_difference(values["by_shift"]["0"], values["by_shift"][last])
        found[f"moved {name}"] = _difference_values(f"{label}: lost when moved by {last} px", moved)
        if values["permuted"]:
            reordered = paired_difference(plain, values["permuted"])
            found[f"permuted {name}"] = _difference_values(f"{label}: lost when pixels are reordered", reordered)
    return found


def _difference_values(words: str, found: Difference) -> dict[str, Any]:
    bounded = found.pairs > 1
    return {
        "words": words,
        "mean": found.mean,
        "low": found.low if bounded else None,
        "high": found.high if bounded else None,
        "sign": found.sign,
    }


def _network_row(values: dict[str, Any], scale: Scale) -> dict[str, Any]:
    """One row of the table of networks."""
    middle, last = scale.shifts[len(scale.shifts) // 2], scale.shifts[-1]
    return {
        "network": values["label"],
        "parameters": values["parameters"],
        "MACs": values["macs"],
        "accuracy_%": _with_range(values["plain"]),
        f"moved_by_{middle}_px_%": _with_range(values["by_shift"][str(middle)]),
        f"moved_by_{last}_px_%": _with_range(values["by_shift"][str(last)]),
        "pixels_reordered_%": _with_range(values["permuted"]),
        "training_accuracy_%": _with_range(values["training_accuracy"]),
        "epoch_s": f"{float(np.median(values['epoch_s'])):.2f}",
        "image_ms": f"{min(values['image_ms']):.3f}",
    }


def _with_range(values: Sequence[float]) -> str:
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{np.mean(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def enough(cnn: dict[str, Any], other: dict[str, Any]) -> float | None:
    """Training images with which the CNN is as accurate as another network is with all of them.

    Between the sizes that were measured, accuracy is taken to grow in a straight line over the logarithm of the size.

    Returns:
        None where the CNN never gets there, or where its smallest training set is more than enough.
    """
    sizes = [int(size) for size in cnn["by_size"]]
    means = [float(np.mean(values)) for values in cnn["by_size"].values()]
    wanted = float(np.mean(other["plain"]))
    for i in range(1, len(sizes)):
        if means[i - 1] < wanted <= means[i]:
            part = (wanted - means[i - 1]) / (means[i] - means[i - 1])
            return float(np.exp(np.log(sizes[i - 1]) + part * (np.log(sizes[i]) - np.log(sizes[i - 1]))))
    return None


BEFORE_CNNS = {
    "published": "97.05 % (784–500–150–10, all 60,000)",
    "source": "LeCun et al. 1998, Proc. IEEE 86(11), doi:10.1109/5.726791, figure 9; not checked here",
}


def main_numbers(measured: dict[str, Any], *, mnist: bool) -> tuple[Number, ...]:
    """The main numbers."""
    kinds = measured["kinds"]
    found = [
        over_seeds(
            f"test accuracy, {values['label']}",
            values["plain"],
            unit="%",
            **(BEFORE_CNNS if mnist and name == "mlp_macs" else {}),
        )
        for name, values in kinds.items()
    ]
    spread = f"95 % Student, {measured['seeds']} paired seeds" if measured["seeds"] > 1 else "one seed"
    ranked = sorted(measured["comparisons"], key=lambda key: ("against", "permuted", "moved").index(key.split()[0]))
    for key in ranked:
        values = measured["comparisons"][key]
        bounds = {"low": values["low"], "high": values["high"], "spread": spread}
        found.append(Number(name=values["words"], value=values["mean"], unit="points", **bounds))
    found += [
        over_seeds(f"training, {values['label']}", values["epoch_s"], unit="s an epoch", timing=True)
        for values in kinds.values()
    ]
    return tuple(found)
