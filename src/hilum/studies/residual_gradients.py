"""Residual connections and vanishing gradients: what the gradient does in plain and residual nets.

Question: why do residual connections help deep networks to train: is it the gradient's size, and do more layers then
    never hurt?
Data: CIFAR-10 at 16 px (full: 32 px); offline without it the procedural ten-class set, named as what it is.
Command: hilum study run residual-gradients --data-dir DIR
Hardware: two CPU cores; full: a GPU.
Cost: hilum study run residual-gradients --data-dir ../shared/data: 254 s (Intel(R) Xeon(R) Processor, 2 CPUs, cpu);
    hilum study run residual-gradients: 286 s (Intel(R) Xeon(R) Processor, 2 CPUs, cpu).
Seeds: --seed; trainings are repeated with further seeds. Plain and residual nets of one seed begin with the same
    weights and see the same batches, so that they are compared in pairs.
Expected: growth of the gradient per layer at the start, plain, no BatchNorm, 56 layers: 0.923 (0.920–0.925); growth
    of the gradient per layer at the start, plain, BatchNorm, 56 layers: 1.174 (1.168–1.181); growth of the gradient
    per layer at the start, residual, no BatchNorm, 56 layers: 1.157 (1.153–1.161) (hilum study run residual-gradients
    --data-dir ../shared/data).

The nets are those of He et al. 2016, section 4.2 (6n + 2 layers), at half the width and without augmentation on a CPU.
Every training has the same steps, learning rate and schedule, fixed beforehand; the learning rates with and without
BatchNorm are chosen on training images that are not fitted. Test images choose nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hilum.arrays import Array, Indices
from hilum.datasets.labelled_images import ImageSet
from hilum.errors import TrainingError
from hilum.models.anatomy import LayerRow, layer_rows, network_table
from hilum.models.initialisation import generator_from, initialise
from hilum.models.networks.residual_small import PreActivationBlock, ResidualBlock, Shortcut, SmallResNet
from hilum.models.zoo import architecture
from hilum.randomness import seed_for
from hilum.studies.bench import Bench
from hilum.studies.outcome import Outcome
from hilum.studies.residual_gradients_report import outcome
from hilum.training.block_gradients import BlockWays, block_gradient, block_ways
from hilum.training.fitting import Examples, FitConfig, fit_network, predict_images
from hilum.training.gradient_norms import GradientLog, LayerGradients, gradient_norms, per_layer
from hilum.training.photo_augmentation import PhotoAugmentation


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is done."""

    size: int = 16
    """Pixels a side."""
    train: int | None = 2000
    """Training images; None: all."""
    test: int | None = 2000
    """Test images; None: all."""
    start_depths: tuple[int, ...] = (8, 20, 32, 56, 110)
    """Layers of the nets whose gradients are taken at the start, at the published width."""
    start_seeds: int = 3
    """Seeds of these."""
    start_batch: int = 64
    """Images of the fixed batch that gradients are taken on."""
    gains: tuple[float, ...] = (0.5, 0.71, 1.0, 1.41, 2.0, 2.83, 4.0)
    """Factors on the initial weights of the convolutions; 1 is He's."""
    gain_depth: int = 56
    """Layers of the nets that are scaled, and of those whose shortcuts are compared at the start."""
    depths: tuple[tuple[int, int], ...] = ((8, 2), (20, 2), (56, 2), (110, 1))
    """Layers of the nets that are trained, and how many seeds each."""
    width: float = 0.5
    """Width of the nets that are trained."""
    epochs: int = 4
    """Passes over the training images."""
    batch: int = 64
    """Images in a batch."""
    lr: float = 0.1
    """Highest learning rate of SGD with Nesterov momentum 0.9, weight decay 1e-4, one cycle."""
    augmented: bool = False
    """Whether training images are mirrored and shifted by up to 4 px, as in the paper."""
    side_depth: int = 20
    """Layers of the nets that compare shortcuts, and BatchNorm on and off."""
    side_seeds: int = 2
    """Seeds of the shortcuts."""
    rates: tuple[float, ...] = (0.1, 0.01)
    """Learning rates tried with and without BatchNorm."""
    families: tuple[str, ...] = (
        "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d",
        "densenet121", "densenet169", "densenet201",
    )  # fmt: skip
    """Networks of the table of families."""


SCALES: dict[str, Scale] = {
    "quick": Scale(train=1600),
    "standard": Scale(
        train=10_000, test=10_000, epochs=6, rates=(0.1, 0.03, 0.01),
        depths=((8, 2), (20, 2), (32, 2), (56, 2), (110, 1)),
    ),
    "full": Scale(
        size=32, train=None, test=None, width=1.0, epochs=80, batch=128, augmented=True, side_seeds=3,
        depths=((8, 3), (20, 3), (32, 3), (44, 3), (56, 3), (110, 3)), rates=(0.1, 0.03, 0.01, 0.003), start_seeds=5,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of net, whatever its depth."""

    name: str
    """What it is called in all tables and figures."""
    shortcut: Shortcut = "A"
    """What goes around two convolutions."""
    norm: bool = True
    """Whether it has BatchNorm."""
    pre_activation: bool = False
    """Whether BatchNorm and ReLU go before the convolutions."""

    def build(self, depth: int, width: float, seed: int, repeat: int) -> SmallResNet:
        """A net with fresh weights; those of plain and residual nets of one depth and repeat are the same."""
        network = SmallResNet(
            depth, shortcut=self.shortcut, norm=self.norm, pre_activation=self.pre_activation, width=width
        )
        initialise(network, generator_from(seed_for(seed, "residual gradients", depth, repeat)))
        return network


PLAIN = Kind(name="plain", shortcut="none")
RESIDUAL = Kind(name="residual")
BARE_PLAIN = Kind(name="plain, no BatchNorm", shortcut="none", norm=False)
BARE_RESIDUAL = Kind(name="residual, no BatchNorm", norm=False)
PROJECTED = Kind(name="residual, projection where the shape changes (B)", shortcut="B")
PROJECTED_ALL = Kind(name="residual, projection everywhere (C)", shortcut="C")
PRE_ACTIVATION = Kind(name="residual, pre-activation", pre_activation=True)

FOUR = (BARE_PLAIN, PLAIN, BARE_RESIDUAL, RESIDUAL)
"""Both questions crossed: shortcuts or none, BatchNorm or none."""
SHORTCUTS = (PLAIN, RESIDUAL, PROJECTED, PROJECTED_ALL, PRE_ACTIVATION)
"""What can go around two convolutions."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Material:
    """The images, and the batch on which all gradients are taken."""

    images: ImageSet
    mean: tuple[float, ...]
    std: tuple[float, ...]
    batch: Tensor
    labels: Tensor

    @classmethod
    def of(cls, images: ImageSet, count: int, device: torch.device) -> "Material":
        """Normalised with the training images' mean and spread of each channel."""
        pixels = images.train.images[:: max(1, len(images.train) // 5000)].astype(np.float32) / 255
        mean, std = pixels.mean(axis=(0, 2, 3)), pixels.std(axis=(0, 2, 3)).clip(1e-3)
        batch = (images.train.images[:count].astype(np.float32) / 255 - mean[:, None, None]) / std[:, None, None]
        return cls(
            images=images,
            mean=tuple(mean.tolist()),
            std=tuple(std.tolist()),
            batch=torch.from_numpy(batch).to(device),
            labels=torch.from_numpy(images.train.labels[:count]).to(device),
        )


def run(bench: Bench, scale: Scale) -> Outcome:
    """Take gradients at the start, check the identity on a block, train, and take gradients again."""
    images = bench.images("small-images", size=scale.size, train=scale.train, test=scale.test)
    depths = ", ".join(str(depth) for depth, _ in scale.depths)
    bench.measure(f"plain and residual nets of {depths} layers, width factor {scale.width:g} (random weights)")
    material = Material.of(images, scale.start_batch, bench.device)
    measured = {
        "settings": _settings(scale, images),
        **before_training(bench, scale, material),
        **trainings(bench, scale, material),
        "families": [_family(name) for name in scale.families],
        "designs": _designs(),
    }
    return outcome(measured)


def before_training(bench: Bench, scale: Scale, material: Material) -> dict[str, list[dict[str, Any]]]:
    """All that is measured on nets with random weights."""
    return {
        "start": _start(bench, scale, material),
        "gains": _gains(bench, scale, material),
        "blocks": _block_checks(bench.seed),
        "shortcuts_start": _growths(bench, scale, material, SHORTCUTS),
        "wrapped_start": _growths(bench, scale, material, (BARE_PLAIN,), wrapped=True),
    }


def trainings(bench: Bench, scale: Scale, material: Material) -> dict[str, list[dict[str, Any]]]:
    """All trainings: by depth, by shortcut, and by learning rate with BatchNorm on and off."""
    depth = scale.side_depth
    return {
        "degradation": [
            _fit(bench, scale, material, kind, depth, repeat)
            for depth, seeds in scale.depths
            for kind in (PLAIN, RESIDUAL)
            for repeat in range(seeds)
        ],
        "shortcuts": [
            _fit(bench, scale, material, kind, depth, repeat)
            for kind in SHORTCUTS
            for repeat in range(scale.side_seeds)
        ],
        "rates": [_fit(bench, scale, material, kind, depth, 0, rate) for kind in FOUR for rate in scale.rates],
    }


def _settings(scale: Scale, images: ImageSet) -> dict[str, Any]:
    steps = scale.epochs * math.ceil(len(images.train) / scale.batch)
    return {
        "data": images.title,
        "size": scale.size,
        "train": len(images.train),
        "test": len(images.test),
        "classes": len(images.classes),
        "width": scale.width,
        "epochs": scale.epochs,
        "batch": scale.batch,
        "steps": steps,
        "lr": scale.lr,
        "start_batch": scale.start_batch,
        "start_seeds": scale.start_seeds,
        "start_depths": list(scale.start_depths),
        "gain_depth": scale.gain_depth,
        "side_depth": scale.side_depth,
    }


def _profile(gradients: LayerGradients, depth: int) -> dict[str, Any]:
    """Norms layer by layer without the projections, and how the gradient grows from the last block to the first."""
    own = gradients.without("shortcut")
    ratio, each = per_layer(own, "layer1.0.conv1", f"layer3.{(depth - 2) // 6 - 1}.conv2")
    return {
        "inputs": _finite(own.inputs),
        "weights": _finite(own.weights),
        "loss": _finite([own.loss])[0],
        "grown": _finite([ratio])[0],
        "per_layer": _finite([each])[0],
    }


def _finite(values: Sequence[float]) -> list[float | None]:
    """JSON knows no infinity: None stands for what overflowed."""
    return [value if math.isfinite(value) else None for value in values]


def _start(bench: Bench, scale: Scale, material: Material) -> list[dict[str, Any]]:
    """Gradient norms before any step, for both questions crossed, by depth and seed."""

    def compute() -> list[dict[str, Any]]:
        found = []
        with bench.progress.bar("gradients at the start", len(scale.start_depths) * scale.start_seeds) as bar:
            for depth in scale.start_depths:
                for repeat in range(scale.start_seeds):
                    for kind in FOUR:
                        network = kind.build(depth, 1.0, bench.seed, repeat).to(bench.device)
                        profile = _profile(gradient_norms(network, material.batch, material.labels), depth)
                        found.append({"kind": kind.name, "depth": depth, "seed": repeat, **profile})
                    bar.advance(1)
        return found

    settings = [scale.start_depths, scale.start_seeds, scale.start_batch, material.images.fingerprint]
    values: list[dict[str, Any]] = bench.once("start", settings, compute)
    return values


def _growths(
    bench: Bench, scale: Scale, material: Material, kinds: Sequence[Kind], *, wrapped: bool = False
) -> list[dict[str, Any]]:
    """How the gradient grows before any step; ``wrapped``: convolutions wrap around, with no zeros at borders."""
    found = []
    for kind in kinds:
        for repeat in range(scale.start_seeds):
            network = kind.build(scale.gain_depth, 1.0, bench.seed, repeat).to(bench.device)
            for layer in network.modules():
                if wrapped and isinstance(layer, nn.Conv2d):
                    layer.padding_mode = "circular"
            profile = _profile(gradient_norms(network, material.batch, material.labels), scale.gain_depth)
            row = {"kind": kind.name, "depth": scale.gain_depth, "seed": repeat}
            found.append({**row, "grown": profile["grown"], "per_layer": profile["per_layer"]})
    return found


def _gains(bench: Bench, scale: Scale, material: Material) -> list[dict[str, Any]]:
    """Gradient norms before any step when all convolutions begin too small or too large."""
    found = []
    for gain in scale.gains:
        for kind in FOUR:
            network = kind.build(scale.gain_depth, 1.0, bench.seed, 0)
            with torch.no_grad():
                for layer in network.modules():
                    if isinstance(layer, nn.Conv2d):
                        layer.weight.mul_(gain)
            network.to(bench.device)
            profile = _profile(gradient_norms(network, material.batch, material.labels), scale.gain_depth)
            found.append(
                {
                    "kind": kind.name,
                    "gain": gain,
                    "first_weights": profile["weights"][0],
                    "grown": profile["grown"],
                    "loss": profile["loss"],
                }
            )
    return found


def _fit(
    bench: Bench, scale: Scale, material: Material, kind: Kind, depth: int, repeat: int, lr: float | None = None
) -> dict[str, Any]:
    """Train one net; with a learning rate given, a fifth of the training images is watched instead of fitted."""

    def compute() -> dict[str, Any]:
        return _trained(bench, scale, material, kind, depth, repeat, lr)

    settings = [
        kind, depth, repeat, lr or scale.lr, lr is None, material.images.fingerprint,
        scale.width, scale.epochs, scale.batch, scale.augmented, scale.start_batch,
    ]  # fmt: skip
    values: dict[str, Any] = bench.once("fit", settings, compute)
    return values


def _trained(
    bench: Bench, scale: Scale, material: Material, kind: Kind, depth: int, repeat: int, lr: float | None
) -> dict[str, Any]:
    network = kind.build(depth, scale.width, bench.seed, repeat).to(bench.device)
    train, test = material.images.train, material.images.test
    fit, watch = _parts(len(train), held_out=lr is not None)
    log = GradientLog(material.batch, material.labels, _noted_steps(scale.epochs * math.ceil(len(fit) / scale.batch)))
    start = gradient_norms(network, material.batch, material.labels)
    ways = block_ways(network, material.batch, material.labels) if kind == RESIDUAL else ()
    config = FitConfig(
        epochs=scale.epochs,
        lr=lr or scale.lr,
        batch_size=scale.batch,
        optimiser="sgd",
        weight_decay=1e-4,
        schedule="one-cycle",
        augmentation=PhotoAugmentation(flip=True, shift_pixels=4) if scale.augmented else None,
        mean=material.mean,
        std=material.std,
    )
    told = {"kind": kind.name, "depth": depth, "seed": repeat, "lr": config.lr, "diverged": ""}
    told |= {"parameters": sum(p.numel() for p in network.parameters()), "start": _profile(start, depth)}
    try:
        fitted = fit_network(
            network,
            Examples(
                images=train.images, labels=train.labels, fit=fit, watch=watch, classes=len(material.images.classes)
            ),
            config,
            seed=seed_for(bench.seed, "fit", repeat),
            device=bench.device,
            progress=bench.progress,
            name=f"{kind.name}, {depth} layers, seed {repeat}",
            each_batch=log if lr is None and repeat == 0 else None,
        )
    except TrainingError as error:
        return {**told, "diverged": str(error)}
    answers = {
        part: predict_images(network, images.images, fitted).argmax(1) == images.labels
        for part, images in (("train", train), ("test", test))
    }
    return {
        **told,
        "train_error": _error(answers["train"][fit]),
        "test_error": _error(answers["test"]),
        "watch_error": _error(answers["train"][watch]),
        "right": answers["test"].astype(int).tolist(),
        "loss": [row["loss"] for row in fitted.rows],
        "fit_s": fitted.fit_s,
        "during": {str(step): _profile(taken, depth) for step, taken in log.taken.items()},
        "ways_start": [_way(way) for way in ways],
        "ways_end": [_way(way) for way in block_ways(network, material.batch, material.labels)] if ways else [],
    }


def _parts(count: int, *, held_out: bool) -> tuple[Indices, Indices]:
    """Rows to fit and rows to watch; the last fifth is held out or nothing is."""
    at = count - count // 5 if held_out else count
    return np.arange(at), np.arange(at, count)


def _noted_steps(steps: int) -> tuple[int, ...]:
    """After the first step, and after about a tenth, a third and all of them."""
    return tuple(sorted({1, max(1, round(steps / 10)), max(1, round(steps / 3)), steps}))


def _error(right: Array) -> float | None:
    return 100 * (1 - float(right.mean())) if len(right) else None


def _way(way: BlockWays) -> dict[str, Any]:
    return {
        "block": way.name,
        "by_shortcut": way.by_shortcut,
        "by_branch": way.by_branch,
        "open": way.open_share,
        "open_so_far": way.open_so_far,
    }


def _block_checks(seed: int) -> list[dict[str, Any]]:
    """∂L/∂x of single blocks in float64: autograd, the formula, and finite differences."""
    cases: tuple[tuple[str, Any, Shortcut, bool], ...] = (
        ("x + F(x), no ReLU behind it (pre-activation)", PreActivationBlock, "A", True),
        ("the same without BatchNorm", PreActivationBlock, "A", False),
        ("relu(x + F(x)), the block of 2015", ResidualBlock, "A", True),
        ("the same without BatchNorm", ResidualBlock, "A", False),
        ("relu(Wx + F(x)), projection (C)", ResidualBlock, "C", True),
        ("relu(F(x)), plain", ResidualBlock, "none", True),
    )
    rows = []
    for number, (words, kind, shortcut, norm) in enumerate(cases):
        generator = generator_from(seed_for(seed, "block", number))
        block = kind(4, 4, 1, shortcut, norm=norm).double()
        initialise(block, generator)
        maps, upstream = (torch.randn((2, 4, 5, 5), generator=generator, dtype=torch.float64) for _ in range(2))
        found = block_gradient(block, maps if kind is PreActivationBlock else maps.relu(), upstream)
        rows.append(
            {
                "block": words,
                "largest_entry": found.size,
                "formula_off_by": found.formula,
                "differences_off_by": found.differences,
                "without_mask_off_by": found.unmasked,
                "shortcut_from_identity": found.identity,
                "open_share": found.open_share,
                "left_without_branch": found.without_branch,
            }
        )
    return rows


def _family(name: str) -> dict[str, Any]:
    """One row of the table of families, from the layer table of the network."""
    table = network_table(name)
    layers = [row for row in table.rows if row.kind in ("Conv2d", "Linear") and "downsample" not in row.name]
    return {
        "network": name,
        "layers": len(layers),
        "parameters": table.parameters,
        "macs": table.macs,
        "year": architecture(name).year,
    }


def _designs() -> list[dict[str, Any]]:
    """Parameters and multiply-accumulates of one block of each design at 56 × 56 pixels, from torchvision's modules."""
    from torchvision.models import densenet, resnet

    with torch.device("meta"):
        dense = densenet._DenseLayer(256, growth_rate=32, bn_size=4, drop_rate=0.0)
        blocks: tuple[tuple[str, int, nn.Module], ...] = (
            ("basic: 3×3, 3×3 (ResNet-18, -34)", 64, resnet.BasicBlock(64, 64)),
            ("basic at the bottleneck's width", 256, resnet.BasicBlock(256, 256)),
            ("bottleneck: 1×1 to 64, 3×3, 1×1 to 256 (ResNet-50 …)", 256, resnet.Bottleneck(256, 64)),
            ("grouped: 1×1 to 128, 3×3 in 32 groups, 1×1 to 256 (ResNeXt)", 256,
             resnet.Bottleneck(256, 64, groups=32, base_width=4)),
            ("dense: 1×1 to 128, 3×3 to 32 more channels (DenseNet)", 256, dense),
        )  # fmt: skip
    return [
        {"design": words, "channels_in": channels, **_counts(layer_rows(block, (channels, 56, 56)))}
        for words, channels, block in blocks
    ]


def _counts(rows: Sequence[LayerRow]) -> dict[str, int]:
    return {"parameters": sum(row.parameters for row in rows), "macs": sum(row.macs for row in rows)}
