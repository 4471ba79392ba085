"""Pretrained weights against random ones: one network, the same images, the same recipe, pair by pair."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from hilum.datasets.image_resizing import resized_stack
from hilum.datasets.labelled_images import LabelledImages
from hilum.evaluation.estimates import to_plain
from hilum.evaluation.paired import paired_difference
from hilum.models.encoders import Encoder, build_encoder
from hilum.models.initialisation import generator_from, initialise
from hilum.randomness import seed_for
from hilum.studies.bench import Bench
from hilum.training.fitting import Examples, FitConfig, fit_network, predict_images

LR = 1e-3
"""Highest learning rate of both, with AdamW and a cosine to 0."""


def compare_pretrained(
    bench: Bench,
    parts: Mapping[str, LabelledImages],
    *,
    classes: int,
    size: int,
    epochs: int,
    seeds: int,
    batch_size: int,
    fingerprint: str,
) -> dict[str, Any]:
    """Fine-tune a pretrained network whole, and train the same network from random weights.

    The network is GoogLeNet where its published weights can be had, else what the bench finds in its place, which is
    named.

    Args:
        bench: finds the weights.
        parts: ``train``, ``validation`` and ``test``.
        classes: number of classes.
        size: pixels a side that images are enlarged to.
        epochs: passes over the training images, of both.
        seeds: pairs.
        batch_size: images in a batch.
        fingerprint: of the images, so that a part that is done is known again.

    Returns:
        name, weights, accuracies 0 … 1 on the test images and rows of each training; ``skipped`` says why when there
        are no weights to compare.
    """
    encoder, info = bench.encoder("googlenet")
    if info.name == "none":
        return {"skipped": "Random weights were asked for (--weights none), so there is nothing to compare."}
    bench.measure(f"{encoder.name} (random weights)")
    enlarged = {
        name: LabelledImages(images=resized_stack(part.images, size), labels=part.labels)
        for name, part in parts.items()
    }
    runs: dict[str, list[dict[str, Any]]] = {"pretrained": [], "random": []}
    config = FitConfig(
        epochs=epochs,
        lr=LR,
        batch_size=batch_size,
        optimiser="adamw",
        schedule="cosine",
        mean=info.mean,
        std=info.std,
    )
    for number in range(seeds):
        seed = bench.seed + number
        for name, found in runs.items():
            begun = bench.encoder("googlenet")[0] if name == "pretrained" else build_encoder(encoder.name, seed)
            frozen = _folded_norms(begun) if name == "pretrained" and info.batch_norm_folded else []
            train = partial(_trained, bench, classifier(begun, classes, seed), enlarged, config, seed, frozen, classes)
            settings = {
                "begun": name,
                "number": number,
                "config": config,
                "size": size,
                "weights": info.sha256,
                "images": [fingerprint, *map(len, parts.values())],
            }
            found.append(bench.once("transfer", settings, train))
    accuracies = {name: [done["accuracy"] for done in found] for name, found in runs.items()}
    return {
        "network": encoder.name,
        "weights": info.name,
        "pretrained_on": list(info.pretrained_on),
        "size": size,
        "epochs": epochs,
        "images": len(parts["train"]),
        "difference": to_plain(paired_difference(accuracies["pretrained"], accuracies["random"])),
        **runs,
    }


def classifier(encoder: Encoder, classes: int, seed: int) -> nn.Sequential:
    """The encoder with a new linear classifier behind global average pooling."""
    linear = nn.Linear(encoder.channels, classes)
    initialise(linear, generator_from(seed_for(seed, "transfer", "classifier")))
    return nn.Sequential(encoder, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)


def _folded_norms(encoder: Encoder) -> list[str]:
    """BatchNorm layers that were folded into their neighbours: identities that must stay so."""
    return [f"0.{name}" for name, layer in encoder.named_modules() if isinstance(layer, _BatchNorm)]


def _trained(
    bench: Bench,
    network: nn.Module,
    parts: Mapping[str, LabelledImages],
    config: FitConfig,
    seed: int,
    frozen: list[str],
    classes: int,
) -> dict[str, Any]:
    """Train one network, and score it on the test images."""
    train, validation, test = (parts[name] for name in ("train", "validation", "test"))
    fitted = fit_network(
        network,
        Examples.of((train.images, train.labels), (validation.images, validation.labels), classes=classes),
        config,
        seed=seed,
        frozen=frozen,
        device=bench.device,
        progress=bench.progress,
        name=f"transfer, seed {seed}",
    )
    answers = predict_images(network, test.images, fitted).argmax(1)
    return {
        "accuracy": float((answers == test.labels).mean()),
        "watch_accuracy": [row["watch_accuracy"] for row in fitted.rows],
        "watch_loss": [row["watch_loss"] for row in fitted.rows],
        "fit_s": fitted.fit_s,
    }
