"""LeNet-5 on digits, as published in 1998 and as it is written today.

Question: how well does LeNet-5 read digits, as published in 1998 and as it is written today; what does each layer cost,
    what does it mistake, what does it learn, and what did later networks take from it?
Data: MNIST (60,000 + 10,000 digits of 28 px in a black field of 32 px); offline without it scikit-learn's digits
    (1,437 + 360 of 8 px, enlarged to 20 px in a field of 32 px), which are named as what they are.
Command: hilum study run lenet5 --data-dir DIR
Hardware: two CPU cores; full: a GPU.
Cost: hilum study run lenet5 --data-dir ../shared/data: 148 s (Intel(R) Xeon(R) Processor, 2 CPUs, cpu); hilum study
    run lenet5: 176 s (AMD EPYC, 2 CPUs, cpu).
Seeds: weights, order of images and the sample of scored training images come from --seed; further seeds count on.
Expected: test accuracy, modern form, 5 epochs: 99.28 % (99.09–99.43); test accuracy, original of 1998, 8 epochs:
    99.01 % (98.80–99.19); training error, modern form: 0.20 % (hilum study run lenet5 --data-dir ../shared/data).

Both are trained on all training images. For the original, four pairs of learning rate and constant j (3e-3 and 10, 8e-3
and 10, 5e-3 and 1, 5e-3 and 50) were fitted to 20,000 of MNIST's training images for 6 epochs and read on 5,000 others:
97.92, 97.94, 97.94 and 97.74 %. The rate in their middle and j = 10 were taken; no longer search was made. The modern
form's rate was given beforehand. Test images choose nothing: the last epoch's weights count. The paper's own training
(stochastic diagonal Levenberg-Marquardt, one digit a step) is replaced by Adam in batches, which also scales every
weight's step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from hilum.config import to_mapping
from hilum.datasets.image_sets import ImageSet
from hilum.evaluation.intervals import wilson_interval
from hilum.evaluation.paired import sign_test
from hilum.intervals import numeral
from hilum.models.anatomy import network_table
from hilum.models.initialisation import generator_from, initialise
from hilum.models.networks.lenet import LeNet5
from hilum.models.networks.lenet_original import INPUT_MEAN, INPUT_STD, LeNet5Original
from hilum.randomness import seed_for
from hilum.studies.bench import Bench
from hilum.studies.digit_images import digits_in
from hilum.studies.lenet5_report import (
    Trained,
    architecture_section,
    confused_pairs,
    confusion,
    features_section,
    layer_dicts,
    legacy_dicts,
    legacy_section,
    mistakes_section,
    states_of,
    training_section,
)
from hilum.studies.outcome import Number, Outcome, over_seeds, share
from hilum.training.engine import Cost
from hilum.training.fitting import Examples, FitConfig, Fitted, fit_network, predict_images
from hilum.training.map_criterion import MapCriterion

PAPER = "LeCun et al. 1998, Proc. IEEE 86(11), doi:10.1109/5.726791"
PUBLISHED = {"accuracy": 99.05, "training error": 0.35}
"""Per cent on MNIST: section III.B and figure 5, 20 passes over 60,000 digits without distortions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is done."""

    modern_epochs: int = 5
    """Passes of the modern form."""
    modern_seeds: int = 1
    """Seeds of the modern form."""
    original_epochs: int = 20
    """Passes of the original form; the paper's 20."""
    original_seeds: int = 1
    """Seeds of the original form."""
    least_steps: int = 1200
    """On a small set more passes are made, until at least so many steps are done."""
    train: int | None = None
    """Training images; None: all."""
    test: int | None = None
    """Test images; None: all."""


SCALES: dict[str, Scale] = {
    "quick": Scale(original_epochs=8),
    "standard": Scale(modern_seeds=3),
    "full": Scale(modern_seeds=5, original_seeds=5),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One form of the network, and how it is trained."""

    name: str
    """Short name."""
    label: str
    """In words."""
    row: str
    """Its name in the zoo."""
    build: Callable[[], nn.Module]
    """Makes it."""
    config: FitConfig
    """How it is trained; the epochs come from the scale."""
    loss: Cost | None = None
    """What is minimised; None for cross-entropy."""


MODERN = Form(
    name="modern",
    label="modern form",
    row="lenet5",
    build=LeNet5,
    config=FitConfig(lr=3e-3, batch_size=64, optimiser="adam", schedule="one-cycle"),
)
ORIGINAL = Form(
    name="original",
    label="original of 1998",
    row="lenet5_original",
    build=LeNet5Original,
    config=FitConfig(
        lr=5e-3, batch_size=64, optimiser="adam", schedule="one-cycle", mean=(INPUT_MEAN,), std=(INPUT_STD,)
    ),
    loss=MapCriterion(j=10.0),
)
ROW = ("epoch", "loss", "probe_loss", "probe_accuracy", "watch_loss", "watch_accuracy", "lr", "fit_s")
"""What is kept of an epoch; watched images are the test images."""

PROBE = 5000
"""Training images that are scored after each epoch."""


def run(bench: Bench, scale: Scale) -> Outcome:
    """Train both forms and compare them with the paper and with each other."""
    images = digits_in(bench.images("digits", train=scale.train, test=scale.test), 32)
    bench.measure("LeNet-5, modern form (random weights)")
    bench.measure("LeNet-5 of 1998 (random weights as in the paper)")
    original = LeNet5Original()
    forms = (
        train(bench, scale, MODERN, images, LeNet5()),
        train(bench, scale, ORIGINAL, images, original),
    )
    mnist = images.name == "mnist"
    measured = all_measured(forms, images)
    return Outcome(
        title=f"LeNet-5 on {images.title}, the original and the modern form",
        numbers=main_numbers(forms, measured, mnist=mnist),
        finding=finding(measured, images.title, mnist=mnist),
        sections=(
            architecture_section(),
            training_section(forms, 100 - PUBLISHED["accuracy"] if mnist else None),
            mistakes_section(forms, images),
            features_section(
                forms,
                images.test.images[0] / np.float32(255),
                images.test.labels,
                states_of(original, forms[1], images.test.images),
            ),
            legacy_section(),
        ),
        measured=measured,
        key_figure="filters",
    )


def epochs_for(images: int, epochs: int, scale: Scale, batch_size: int) -> int:
    """Passes over the training images: those of the scale, and more on a set so small that steps would be few."""
    steps = -(-images // batch_size)
    return max(epochs, -(-scale.least_steps // steps))


def train(bench: Bench, scale: Scale, form: Form, images: ImageSet, network: nn.Module) -> Trained:
    """Train one form with each of its seeds; ``network`` ends as the first seed's.

    Args:
        bench: gives seed and device, and remembers what is done.
        scale: how long and how often.
        form: what is trained.
        images: of 32 × 32 px.
        network: of that form.
    """
    epochs, seeds = (
        (scale.modern_epochs, scale.modern_seeds)
        if form.name == "modern"
        else (scale.original_epochs, scale.original_seeds)
    )
    config = replace(
        form.config,
        epochs=epochs_for(len(images.train), epochs, scale, form.config.batch_size),
        probe=min(PROBE, len(images.train)),
    )
    fits: list[dict[str, Any]] = []
    logits = []
    begun = np.empty(0)
    for number in range(seeds):
        net = network if number == 0 else form.build()
        initialise(net, generator_from(seed_for(bench.seed + number, "weights", form.name)))
        if number == 0:
            begun = net.get_parameter("c1.weight").detach().numpy()[:, 0].copy()
        fits.append(_fit(bench, form, config, images, net, number))
        logits.append(predict_images(net, images.test.images, _fitted(fits[-1])))
    return Trained(
        name=form.name,
        label=form.label,
        row=form.row,
        network=network,
        begun=begun,
        rows=tuple(fits[0]["rows"]),
        mean=fits[0]["mean"][0],
        std=fits[0]["std"][0],
        logits=logits[0],
        accuracies=tuple(float((read.argmax(1) == images.test.labels).mean()) for read in logits),
        seconds=tuple(fit["fit_s"] for fit in fits),
    )


def _fit(
    bench: Bench, form: Form, config: FitConfig, images: ImageSet, network: nn.Module, number: int
) -> dict[str, Any]:
    """Train one network with one seed, once."""
    examples = Examples.of(
        (images.train.images, images.train.labels), (images.test.images, images.test.labels), classes=10
    )

    def compute() -> dict[str, Any]:
        fitted = fit_network(
            network,
            examples,
            config,
            seed=bench.seed + number,
            loss=form.loss,
            device=bench.device,
            progress=bench.progress,
            name=f"{form.label}, seed {bench.seed + number}",
        )
        plain: dict[str, Any] = to_mapping(fitted)
        return plain

    settings = {"config": config, "images": images.fingerprint, "number": number, "loss": repr(form.loss)}
    done: dict[str, Any] = bench.once(form.name, settings, compute, network=network)
    network.to(bench.device).eval()
    return done


def _fitted(fit: dict[str, Any]) -> Fitted:
    return Fitted(rows=(), mean=tuple(fit["mean"]), std=tuple(fit["std"]), fit_s=fit["fit_s"])


def main_numbers(forms: Sequence[Trained], measured: dict[str, Any], *, mnist: bool) -> tuple[Number, ...]:
    """The main numbers, beside the paper's where the images are MNIST's."""
    found: list[Number] = []
    for form in forms:
        paper: dict[str, Any] = {}
        if mnist and form.name == "original":
            paper = {
                "published": "99.05 % after 20 passes, no distortions",
                "source": f"{PAPER}, section III.B, as quoted widely",
            }
        name = f"test accuracy, {form.label}, {form.epochs} epochs"
        facts = measured["forms"][form.name]
        if len(form.accuracies) > 1:
            found.append(over_seeds(name, [100 * a for a in form.accuracies], unit="%", **paper))
        else:
            found.append(share(name, facts["right"], measured["test"], **paper))
    for form in forms:
        facts = measured["forms"][form.name]
        paper = {}
        if mnist and form.name == "original":
            paper = {"published": "0.35 % after 19 passes", "source": f"{PAPER}, section III.B; not checked here"}
        found.append(
            Number(
                name=f"training error, {form.label}",
                value=100 - facts["training_accuracy"],
                spread=f"{facts['probe']:,} training images",
                unit="%",
                **paper,
            )
        )
    for form in forms:
        name = f"training time, {form.label}"
        found.append(over_seeds(name, form.seconds, unit="s", digits=1, timing=True))
    found += [
        Number(name="trainable parameters, original", value=measured["parameters"]["original"], digits=0,
               published="60,000", source=f"{PAPER}, section II.B"),
        Number(name="connections, original", value=measured["connections"]["original"], digits=0,
               published="340,908", source=f"{PAPER}, section II.B"),
        Number(name="trainable parameters, modern form", value=measured["parameters"]["modern"], digits=0,
               published="61,706", source="commonly quoted; follows from the layer table"),
    ]  # fmt: skip
    return tuple(found)


def all_measured(forms: Sequence[Trained], images: ImageSet) -> dict[str, Any]:
    """Everything measured, as plain values."""
    truths = images.test.labels
    tables = {form.name: network_table(form.row) for form in forms}
    right = {form.name: form.answers == truths for form in forms}
    modern, original = (right[form.name] for form in forms)
    alone = int((modern & ~original).sum()), int((original & ~modern).sum())
    return {
        "images": images.name,
        "train": len(images.train),
        "test": len(images.test),
        "parameters": {name: table.parameters for name, table in tables.items()},
        "connections": {name: table.connections for name, table in tables.items()},
        "macs": {name: table.macs for name, table in tables.items()},
        "layers_original": layer_dicts("lenet5_original"),
        "layers_modern": layer_dicts("lenet5"),
        "forms": {form.name: _form_measured(form, images) for form in forms},
        "digits": [
            {"digit": digit, "test_images": int((truths == digit).sum())}
            | {f"misread_{form.name}": int(((truths == digit) & ~right[form.name]).sum()) for form in forms}
            for digit in range(10)
        ],
        "only_modern_right": alone[0],
        "only_original_right": alone[1],
        "both_wrong": int((~modern & ~original).sum()),
        "sign_test_p": sign_test(*alone),
        "legacy": legacy_dicts(),
    }


def _form_measured(form: Trained, images: ImageSet) -> dict[str, Any]:
    truths = images.test.labels
    right = int((form.answers == truths).sum())
    counts = confusion(truths, form.answers)
    low, high = wilson_interval(right / len(truths), len(truths))
    return {
        "label": form.label,
        "epochs": form.epochs,
        "right": right,
        "wrong": len(truths) - right,
        "accuracy": 100 * right / len(truths),
        "accuracy_low": 100 * low,
        "accuracy_high": 100 * high,
        "accuracies": [100 * accuracy for accuracy in form.accuracies],
        "training_accuracy": 100 * form.rows[-1]["probe_accuracy"],
        "probe": min(PROBE, len(images.train)),
        "training_s": list(form.seconds),
        "epoch_s": form.seconds[0] / form.epochs,
        "rows": [{key: row[key] for key in ROW} for row in form.rows],
        "confusion": counts.tolist(),
        "confused_pairs": confused_pairs(counts),
    }


def finding(measured: dict[str, Any], title: str, *, mnist: bool) -> str:
    """What was found, in words that follow from the numbers."""
    modern, original = (measured["forms"][name] for name in ("modern", "original"))
    sentences = [
        f"On {title} ({measured['test']:,} test images) the modern form reads {_accuracy(modern)} after "
        f"{modern['epochs']} epochs, the original of 1998 {_accuracy(original)} after {original['epochs']}."
    ]
    if mnist:
        sentences.append(_against_paper(original))
    sentences.append(_against_each_other(measured))
    for form in (modern, original):
        sentences.append(_mistakes(form))
    gaps = [form["training_accuracy"] - form["accuracy"] for form in (modern, original)]
    sentences.append(
        f"Accuracy on training minus test images: {numeral(gaps[0], '+.1f')} points (modern), "
        f"{numeral(gaps[1], '+.1f')} points (original)."
    )
    fewer = measured["connections"]["original"] / measured["parameters"]["original"]
    sentences.append(
        f"Sharing lets {measured['parameters']['original']:,} parameters serve {measured['connections']['original']:,} "
        f"connections in the original, {fewer:.1f} uses each."
    )
    return " ".join(sentences)


def _accuracy(form: dict[str, Any]) -> str:
    if len(form["accuracies"]) > 1:
        mean, low, high = (f(form["accuracies"]) for f in (np.mean, min, max))
        return f"{mean:.2f} % ({low:.2f}–{high:.2f} over {len(form['accuracies'])} seeds)"
    return f"{form['accuracy']:.2f} % ({form['accuracy_low']:.2f}–{form['accuracy_high']:.2f})"


def _against_paper(original: dict[str, Any]) -> str:
    paper = PUBLISHED["accuracy"]
    if original["accuracy_low"] <= paper <= original["accuracy_high"]:
        side = "inside the interval of"
    else:
        side = "above" if paper > original["accuracy"] else "below"
    return f"The paper's {paper} % after 20 passes lies {side} what the original reaches here."


def _against_each_other(measured: dict[str, Any]) -> str:
    one, other, p = measured["only_modern_right"], measured["only_original_right"], measured["sign_test_p"]
    told = (
        f"Only the modern form reads {one} of the images right, only the original {other}, neither "
        f"{measured['both_wrong']}"
    )
    if p >= 0.05:
        return f"{told}: these images don't tell the two trained networks apart (exact sign test, p = {p:.2f})."
    better = "modern form" if one > other else "original"
    shown = f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
    return f"{told}: of these two trained networks the {better} is the better one (exact sign test, {shown})."


def _mistakes(form: dict[str, Any]) -> str:
    if not form["confused_pairs"]:
        return f"The {form['label']} misreads no test image."
    pair = form["confused_pairs"][0]
    times = pair["read_as_second"] + pair["read_as_first"]
    return (
        f"The {form['label']} misreads {form['wrong']} images, most often {pair['first']} and {pair['second']} for "
        f"each other ({times} times)."
    )
