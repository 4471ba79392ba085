"""How well AlexNet's and VGG's features transfer: linear probes on frozen features.

With published weights at hand, theirs are probed at full width on photographs. Without, the networks of this study are
probed that were trained on its small images, on another set; what was measured instead, and why, is said in the report.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hilum.arrays import Array
from hilum.datasets.image_sets import ImageSet
from hilum.errors import WeightsError
from hilum.evaluation.intervals import wilson_interval
from hilum.evaluation.linear_probe import linear_probe
from hilum.models.classifier import Normalise
from hilum.models.encoders import build_encoder
from hilum.models.initialisation import generator_from, initialise
from hilum.models.weights.loading import load_weights
from hilum.randomness import seed_for
from hilum.studies.bench import Bench

Features = Callable[[Array], Array]
"""Images uint8 [n, 3, h, w] to features [n, d]."""


def published_sources(bench: Bench, names: Sequence[str]) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Where each network's own published weights are, and of which they can't be had.

    Args:
        bench: with ``--weights auto`` it looks for files and published weights; any other choice must be had.
        names: in the zoo.

    Returns:
        source by name, and a record with the reason for each network that has none.

    Raises:
        WeightsError: ``--weights`` names weights that can't be had.
    """
    found: dict[str, Any] = {}
    missing = []
    for name in names:
        if bench.request.weights == "none":
            missing.append({"network": name, "reason": "--weights none asks for no published weights."})
            continue
        if bench.request.weights != "auto":
            found[name] = bench.pretrained(name)[1]
            continue
        source, _ = bench.own_weights(name)
        if source is not None:
            found[name] = source
        else:
            reason = "Its published weights can't be had here; --weights imagenet says where they are."
            missing.append({"network": name, "reason": reason})
    return found, missing


def target_set(bench: Bench, images: ImageSet, train: int, test: int) -> ImageSet:
    """Another set than the small images, of their size and in three channels: photographs, or digits where the small
    images are embedded or photographs themselves."""
    purpose = "photographs" if images.kind == "real" and images.name != "flowers" else "digits"
    return bench.images(purpose, "auto", size=images.size, train=train, test=test).with_channels(3)


def probe_record(name: str, weights: str, features: Features, target: ImageSet, seed: int) -> dict[str, Any]:
    """A linear probe on what a network makes of a set.

    Args:
        name: of the network.
        weights: where its weights came from.
        features: runs it.
        target: images to fit the probe on, and to test it on.
        seed: of the probe.
    """
    parts = [(features(part.images), part.labels) for part in (target.train, target.test)]
    probe = linear_probe(parts[0], parts[1], seed=seed)
    low, high = wilson_interval(probe.right / probe.n, probe.n)
    return {
        "network": name,
        "weights": weights,
        "target": target.title,
        "features": probe.features,
        "right": probe.right,
        "test_images": probe.n,
        "accuracy": 100 * probe.right / probe.n,
        "low": 100 * low,
        "high": 100 * high,
    }


def small_features(network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> Features:
    """The last hidden layer's activations of a small AlexNet or VGG, what a linear layer then reads."""
    body = nn.Sequential(network.get_submodule("features"), nn.Flatten(), _hidden_part(network)).eval()
    return _runner(body, tuple(mean), tuple(std))


def _hidden_part(network: nn.Module) -> nn.Sequential:
    classifier = network.get_submodule("classifier")
    return nn.Sequential(*list(classifier.children())[:-1])


def published_features(bench: Bench, name: str, source: Any) -> tuple[Features, str]:
    """The mean over all places of a published encoder's last feature map, and where its weights came from."""
    encoder = build_encoder(name, bench.seed)
    info = load_weights(encoder, source, cache=bench.cache / "weights", may_download=bench.download)
    if info.mean is None or info.std is None:
        raise WeightsError(f"The weights of {name} from {source} don't say how images are normalised. Name others.")
    body = nn.Sequential(encoder, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval().to(bench.device)
    return _runner(body, info.mean, info.std), info.name


def _runner(body: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> Features:
    def run(images: Array) -> Array:
        device = next(body.parameters()).device
        normalise = Normalise(mean, std, 3).to(device)
        batches = torch.split(torch.from_numpy(np.ascontiguousarray(images)), 64)

        def one(batch: Tensor) -> Tensor:
            features: Tensor = body(normalise(batch.to(device)).contiguous(memory_format=torch.channels_last))
            return features.float().cpu()

        with torch.inference_mode():
            found: Array = torch.cat([one(batch) for batch in batches]).numpy()
        return found

    return run


def untrained(network: nn.Module, seed: int, name: str) -> nn.Module:
    """A network of the same make with fresh random weights, in place."""
    initialise(network, generator_from(seed_for(seed, "untrained", name)))
    return network.eval()


def pixels(images: Array) -> Array:
    """The intensities themselves."""
    flat: Array = images.reshape(len(images), -1).astype(np.float64) / 255
    return flat
