"""Chest-film backbones under one protocol, with what augmentation and answers to class imbalance are worth.

Question: which backbone, augmentation and answer to class imbalance serve a small set of labelled chest films best?
Data: the root's ``chest/`` (1,205 public frontal films, NIH ChestX-ray14 and the set of Cohen et al.), else phantoms:
    synthetic films of ``datasets.phantom`` from two hospitals, whose second is the external test.
Command: ``hilum study run chest-xray [--data-dir ROOT]``
Hardware: two CPU cores.
Cost: hilum study run chest-xray --data-dir ../shared/data: 164 s (Intel(R) Xeon(R) Processor, 2 CPUs, cpu); hilum
    study run chest-xray: 151 s (Intel(R) Xeon(R) Processor, 2 CPUs, cpu).
Seeds: one split and one seed; intervals are 95 %, by patient bootstrap on the test share.
Expected: macro AUROC inside, mobilenet_v2 (weights from a file): 0.872 (0.811–0.923); macro AUROC inside, densenet121
    (random weights, frozen): 0.813 (0.726–0.890); macro AUROC inside, efficientnet_b0 (random weights, frozen): 0.619
    (0.533–0.721) (hilum study run chest-xray --data-dir ../shared/data).

Everything is what ``hilum train`` and ``hilum evaluate`` do: split by patient, two stages on frozen features, a
calibration from out-of-fold predictions, a test share that each model sees once. Variants are compared by their
out-of-fold predictions (that is where a choice may be made) and by the test share (which says what the choice was
worth). Where a backbone's published weights can't be had, its encoder is random and stays frozen: such a row says what
an untrained network of that shape gives, and is no verdict on the architecture.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from hilum.datasets.importing import import_csv, import_folder
from hilum.datasets.manifest import Manifest
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.writing import generate
from hilum.datasets.splits import SplitConfig, split
from hilum.errors import DataError
from hilum.evaluation.estimates import Estimate
from hilum.evaluation.scorecard import Scorecard, score
from hilum.files import replacing
from hilum.imaging.preprocessing import Preprocessing
from hilum.models.anatomy import network_table
from hilum.models.classifier import NEUTRAL_MEAN, NEUTRAL_STD
from hilum.models.encoders import build_encoder
from hilum.randomness import stream
from hilum.reports.page import DISCLAIMER
from hilum.runs.evaluate import evaluate
from hilum.runs.recipes import Recipe
from hilum.runs.tiles import load_tiles
from hilum.runs.train import TrainConfig, train_config
from hilum.studies.bench import STAND_IN, Bench, DataUsed
from hilum.studies.chest_xray_report import finding, numbers, sections
from hilum.studies.outcome import Outcome
from hilum.training.augmentation import Augmentation
from hilum.training.imbalance import Imbalance
from hilum.training.recalibration import recalibrate_batch_norm
from hilum.training.stages import Stage

BACKBONES = ("mobilenet_v2", "densenet121", "efficientnet_b0", "resnet50")
"""What the study compares, beside the shipped encoder."""

UNTRAINED = "random weights, frozen"
"""How a backbone is named whose published weights can't be had."""

CALIBRATION_FILMS = 96
"""Films that the batch normalisation of a random encoder is recalibrated on."""

NO_AUGMENTATION = Augmentation(
    rotation_degrees=0, shift=0, scale=0, elastic=0, contrast=0, brightness=0, gamma=0, noise=0
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is done."""

    patients: int
    """Patients of the public set, or phantom patients, at most."""
    size: int
    """Pixels a side of the preprocessed films."""
    folds: int
    """Members of each ensemble."""
    head_epochs: int
    """Most epochs of the first stage."""
    block_epochs: int
    """Most epochs of the second stage."""
    views: int = 1
    """Augmented views of each film beside the clean one."""
    phantom_rows: int = 256
    """Rows of a phantom film."""
    resamples: int = 500
    """Bootstrap resamples."""


SCALES = {
    "quick": Scale(patients=320, size=128, folds=3, head_epochs=25, block_epochs=6),
    "standard": Scale(
        patients=10_000, size=224, folds=5, head_epochs=30, block_epochs=15, views=2, phantom_rows=1024, resamples=1000
    ),
    "full": Scale(
        patients=10_000, size=224, folds=5, head_epochs=30, block_epochs=15, views=4, phantom_rows=1024, resamples=2000
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One row of the study."""

    group: str
    """``backbone``, ``imbalance`` or ``augmentation``."""
    name: str
    """What the row is called."""
    backbone: str
    """Network of the zoo."""
    weights: str
    """Where its encoder starts."""
    recipe: Recipe
    """How it is trained."""


def run(bench: Bench, scale: Scale) -> Outcome:
    """Train and test every variant on one split, and say what differs beyond the intervals."""
    development, external = films(bench, scale)
    base = recipe_of(scale)
    variants = backbones(bench, base, development)
    rows = [measure(bench, scale, variant, development, external) for variant in variants]
    best = best_of(rows)
    backbone, weights = next((v.backbone, v.weights) for v in variants if v.name == best["name"])
    for variant in (*imbalances(backbone, weights, base), *augmentations(backbone, weights, base)):
        rows.append(measure(bench, scale, variant, development, external))
    measured = {
        "rows": rows,
        "best_backbone": best["name"],
        "label_by_source": label_by_source(development, external),
        "films": len(development),
        "patients": len(set(development.strings("patient_id"))),
        "external_films": 0 if external is None else len(external),
    }
    return Outcome(
        numbers=numbers(measured),
        finding=finding(measured),
        sections=sections(measured),
        measured=measured,
        key_figure="backbones",
        disclaimer=DISCLAIMER,
    )


def recipe_of(scale: Scale) -> Recipe:
    """The protocol: head on frozen features, then the last block, both with early stopping."""
    return Recipe(
        preprocessing=Preprocessing(size=scale.size),
        stages=(
            Stage(name="head", lr=1e-3, epochs=scale.head_epochs, patience=5, views=scale.views),
            Stage(
                name="last-block",
                trainable_from="last-block",
                lr=1e-4,
                epochs=scale.block_epochs,
                patience=3,
                views=scale.views,
            ),
        ),
    )


def films(bench: Bench, scale: Scale) -> tuple[Manifest, Manifest | None]:
    """The split films, and the films of another hospital where there is one.

    Raises:
        DataError: the data root's chest set can't be used.
    """
    table = bench.root / "chest" / "manifest.csv" if bench.root else None
    if table is not None and table.is_file() and bench.request.data in ("auto", "chest"):
        return _public(bench, scale, table), None
    if bench.request.data not in ("auto", "phantom"):
        raise DataError(
            f"chest-xray measures chest films, and {bench.request.data!r} is none of its sets. Give --data-dir with a "
            "folder chest/ that holds manifest.csv, or --data phantom."
        )
    return _phantoms(bench, scale, missing=table)


def _public(bench: Bench, scale: Scale, table: Path) -> Manifest:
    manifest, left_out = import_csv(table, cache=_folder(bench) / "public.cache", progress=bench.progress)
    some = _some_patients(manifest, scale.patients, bench.seed)
    chosen = split(some, _split_config(bench, scale), progress=bench.progress)
    part = (
        "" if len(some) == len(manifest) else f"Subset: {len(some):,} films of {scale.patients} patients drawn by lot. "
    )
    _use(
        bench,
        chosen,
        name="chest",
        title="public chest films (NIH ChestX-ray14; Cohen et al.)",
        kind="real",
        description=f"{len(manifest):,} public frontal chest films. {part}Split by patient: "
        f"{len(chosen.rows(part='fit')):,} to fit, {len(chosen.rows(part='test')):,} locked away to test.",
        source="NIH ChestX-ray14: Wang et al. 2017, doi:10.1109/CVPR.2017.369; covid-chestxray-dataset: Cohen et al. "
        "2020, arXiv:2006.11988, licence by film.",
        notes=tuple(left_out),
    )
    return chosen


def _phantoms(bench: Bench, scale: Scale, missing: Path | None) -> tuple[Manifest, Manifest]:
    config = PhantomConfig(patients=min(scale.patients, 400), size=scale.phantom_rows, seed=bench.seed)
    folder = _folder(bench) / f"phantom-{config.patients}-{config.size}-{config.seed}"
    generate(config, folder, progress=bench.progress)
    manifest, _ = import_folder(folder, cache=folder.with_suffix(".cache"), progress=bench.progress)
    source = manifest.column("source")
    first, second = config.hospitals[:2]
    here = manifest.select(np.flatnonzero(source == first))
    external = manifest.select(np.flatnonzero(source == second))
    chosen = split(here, _split_config(bench, scale), progress=bench.progress)
    why = f"there is no {missing.parent.name}/{missing.name} below --data-dir" if missing else "no --data-dir was given"
    _use(
        bench,
        chosen,
        name="phantom",
        title="phantom chest films (synthetic)",
        kind="embedded",
        description=f"{len(manifest):,} synthetic chest films drawn by procedure ({why}): they say that the way works, "
        f"and nothing about patients. {len(chosen.rows(part='fit')):,} films of hospital-a to fit, "
        f"{len(chosen.rows(part='test')):,} locked away to test, {len(external):,} of hospital-b as external test.",
        source="hilum.datasets.phantom, this package.",
    )
    return chosen, external


def _use(bench: Bench, chosen: Manifest, **fields: Any) -> None:
    fit, test = len(chosen.rows(part="fit")), len(chosen.rows(part="test"))
    bench.use(DataUsed(**fields, train=fit, test=test, fingerprint=chosen.fingerprint))


def _folder(bench: Bench) -> Path:
    folder = bench.cache / "chest"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _split_config(bench: Bench, scale: Scale) -> SplitConfig:
    return SplitConfig(test_share=0.3, folds=max(2, scale.folds), seed=bench.seed)


def _some_patients(manifest: Manifest, count: int, seed: int) -> Manifest:
    """All films of so many patients, drawn by lot."""
    patients = np.array(manifest.strings("patient_id"))
    known = np.unique(patients)
    if count >= len(known):
        return manifest
    kept = stream(seed, "patients").choice(known, count, replace=False)
    return manifest.select(np.flatnonzero(np.isin(patients, kept)))


def backbones(bench: Bench, base: Recipe, development: Manifest) -> list[Variant]:
    """The four backbones and the shipped encoder; without weights a frozen random encoder, named so."""
    wanted = (bench.request.backbone,) if bench.request.backbone else BACKBONES
    variants = []
    for name in wanted:
        before = len(bench.networks)
        found, source = bench.pretrained(name)
        recipe = base
        if found != name:
            del bench.networks[before:]
            bench.measure(f"{name} ({UNTRAINED})")
            source, recipe = untrained(bench, name, base, development), replace(base, stages=base.stages[:1])
        told = UNTRAINED if found != name else _weights_in_words(source)
        label = f"{name} ({told})"
        variants.append(Variant(group="backbone", name=label, backbone=name, weights=str(source), recipe=recipe))
    if STAND_IN not in wanted:
        label = f"{STAND_IN} (weights: hilum)"
        bench.measure(label)
        variants.append(Variant(group="backbone", name=label, backbone=STAND_IN, weights="hilum", recipe=base))
    bench.notes[:] = _without_stand_ins(bench)
    return variants


def _weights_in_words(source: str | Path) -> str:
    return f"weights: {source}" if str(source) in ("imagenet", "hilum", "none") else "weights from a file"


def untrained(bench: Bench, name: str, base: Recipe, development: Manifest) -> Path:
    """A file with random weights whose batch normalisation knows the films, so that its features stay finite."""
    file = bench.parts / f"{name}-untrained.safetensors"
    if not file.exists():
        encoder = build_encoder(name, bench.seed)
        fit = development.select(development.rows(part="fit")[:CALIBRATION_FILMS])
        tiles = load_tiles(fit, base.preprocessing, bench.parts / "runs" / "cache", progress=bench.progress)
        images = torch.from_numpy(tiles).float().div(255).sub(NEUTRAL_MEAN).div(NEUTRAL_STD)[:, None]
        wide = images.expand(-1, encoder.in_channels, -1, -1).contiguous(memory_format=torch.channels_last)
        recalibrate_batch_norm(encoder, torch.split(wide, 32))
        with replacing(file) as temporary:
            state = {key: value.contiguous() for key, value in encoder.state_dict().items()}
            save_file(state, temporary, metadata={"mean": f"{NEUTRAL_MEAN}", "std": f"{NEUTRAL_STD}"})
    return file


def _without_stand_ins(bench: Bench) -> list[str]:
    """Notes on backbones without weights in this study's own words: nothing stood in, an untrained encoder is a row."""
    missing = [name for name in BACKBONES if f"{name} ({UNTRAINED})" in bench.networks]
    kept = [note for note in bench.notes if not note.startswith("The published weights of")]
    if missing:
        kept.append(
            f"The published weights of {', '.join(missing)} can't be had here: their encoders are random and frozen, "
            "which says nothing about the architectures."
        )
    return kept


def imbalances(backbone: str, weights: str, base: Recipe) -> list[Variant]:
    """Answers to class imbalance: none, weights (the base), and focal loss with and without them."""
    choices = {
        "cross-entropy": Imbalance(strategy="none"),
        "class-weighted cross-entropy (base)": base.imbalance,
        "focal loss, γ = 2": Imbalance(strategy="focal"),
        "class-weighted focal loss, γ = 2": Imbalance(strategy="weighted-focal"),
    }
    return [
        Variant(
            group="imbalance", name=name, backbone=backbone, weights=weights, recipe=replace(base, imbalance=answer)
        )
        for name, answer in choices.items()
    ]


def augmentations(backbone: str, weights: str, base: Recipe) -> list[Variant]:
    """How far views stray: not at all, as the base does, twice as far, and with a mirror (the heart changes sides)."""
    own = base.augmentation
    far = Augmentation(rotation_degrees=20, shift=0.1, scale=0.2, elastic=0.02, contrast=0.4, brightness=0.2, gamma=0.4)
    choices = {
        "none": NO_AUGMENTATION,
        "base": own,
        "twice as far": far,
        "base and horizontal flip": replace(own, horizontal_flip=True),
    }
    return [
        Variant(
            group="augmentation",
            name=name,
            backbone=backbone,
            weights=weights,
            recipe=replace(base, augmentation=choice),
        )
        for name, choice in choices.items()
    ]


def measure(
    bench: Bench, scale: Scale, variant: Variant, development: Manifest, external: Manifest | None
) -> dict[str, Any]:
    """Train a variant and test it: one row of plain values."""
    config = TrainConfig(
        backbone=variant.backbone,
        weights=variant.weights,
        recipe=variant.recipe,
        folds=scale.folds,
        seed=bench.seed,
    )

    def compute() -> dict[str, Any]:
        runs = bench.parts / "runs"
        run_ = train_config(development, config, runs / _slug(variant), cache=runs / "cache", progress=bench.progress)
        answered = partial(
            evaluate, run_, cache=runs / "cache", resamples=scale.resamples, doubt=False, progress=bench.progress
        )
        inside = answered().scorecard
        out_of_fold = score(run_.out_of_fold(), name="out of fold", seed=bench.seed, resamples=scale.resamples)
        outside = None
        if external is not None:
            manifest = runs / "external.parquet"
            external.write(manifest)
            outside = answered(
                on=manifest,
                external=True,
                pretrained_on=("imagenet-1k",),  # of weights from a file that doesn't say; random ones saw nothing
            ).scorecard
        cards = {"out_of_fold": out_of_fold, "test": inside, "external": outside}
        table = network_table(variant.backbone, size=scale.size)
        result = {
            "group": variant.group,
            "name": variant.name,
            "backbone": variant.backbone,
            "parameters": table.parameters,
            "macs": table.macs,
            "prefix_s": run_.result["seconds"]["prefix"],
            "training_s": run_.result["seconds"]["training"],
            "verdict": inside.verdict.colour,
            "headline": inside.verdict.headline,
            "flags": [flag.sentence for flag in inside.confounding.flags if flag.severity == "red"],
            "within_source": _within_source(inside),
            **{name: _figures(card) for name, card in cards.items() if card is not None},
        }
        return result

    # A file of random weights lies in a folder of its own each time; its name says what it is.
    told = replace(config, weights=Path(variant.weights).name)
    settings = {"config": told, "films": development.fingerprint, "scale": scale}
    row: dict[str, Any] = bench.once(f"{variant.group}: {variant.name}", settings, compute)
    return {**row, "group": variant.group, "name": variant.name}


def _slug(variant: Variant) -> str:
    plain = "".join(c if c.isalnum() else "-" for c in f"{variant.group}-{variant.name}".lower())
    return "-".join(part for part in plain.split("-") if part)[:80]


def _figures(card: Scorecard) -> dict[str, Any]:
    """The figures of a scorecard that variants are compared by."""
    return {
        "films": card.films,
        "macro_auroc": _plain(card.macro_auroc),
        "auroc": {name: _plain(value) for name, value in card.auroc.items()},
        "sensitivity": {name: _plain(value) for name, value in card.sensitivity.items()},
        "balanced_accuracy": _plain(card.balanced_accuracy),
        "accuracy": _plain(card.accuracy),
        "ece": _plain(card.calibration_after.ece),
        "confusion": [list(row) for row in card.confusion],
        "findings": list(card.findings),
    }


def _plain(estimate: Estimate) -> dict[str, float | None]:
    values = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {key: None if np.isnan(value) else round(float(value), 4) for key, value in values.items()}


def _within_source(card: Scorecard) -> list[dict[str, Any]]:
    """AUROC of each pair of findings inside one source: what is left when the source can't help."""
    return [
        {"source": row.source, "pair": f"{row.first} against {row.second}", **_plain(row.auroc)}
        for row in card.confounding.within_source
    ]


def label_by_source(development: Manifest, external: Manifest | None) -> list[dict[str, Any]]:
    """Films of each label and source: whether one tells the other."""
    counts: dict[tuple[str, str], int] = {}
    for manifest in (development, external):
        if manifest is not None:
            for pair in zip(manifest.groups()["source"], manifest.strings("label"), strict=True):
                counts[pair] = counts.get(pair, 0) + 1
    labels = sorted({label for _, label in counts})
    sources = sorted({source for source, _ in counts})
    return [{"source": s, **{label: counts.get((s, label), 0) for label in labels}} for s in sources]


def best_of(rows: list[dict[str, Any]]) -> Mapping[str, Any]:
    """The backbone with the highest out-of-fold macro AUROC: a choice that the test share has no part in."""
    return max(rows, key=lambda row: row["out_of_fold"]["macro_auroc"]["value"] or 0.0)
